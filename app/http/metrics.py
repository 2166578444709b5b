"""The metrics of the API process in the text format of Prometheus, on a separate listener.

The listener has its own port, because a proxy that forwards the API's port would otherwise publish the metrics. Only
one database query runs at a time, and all callers that wait for it get the same answer.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.alerts.model import AlertKind, OpenAlerts
from app.alerts.service import count_open
from app.errors import AppError, Conflict
from app.http.health import SharedQuery
from app.jobs.leader_watch import LastLed, LeaderWatch
from app.postgres.database import Database

MEDIA_TYPE: Final = "text/plain; version=0.0.4"
CONNECTIONS: Final = 32
"""The maximum number of connections to the listener."""

STARTED_SECONDS: Final = 0.01
_TEXT: Final = """\
# HELP resguardo_leader_present Whether a worker leads, which means that it runs the periodic tasks.
# TYPE resguardo_leader_present gauge
resguardo_leader_present {present}
# HELP resguardo_unled_seconds Seconds since a worker last led, by the database's clock.
# TYPE resguardo_unled_seconds gauge
resguardo_unled_seconds {seconds}
# HELP resguardo_open_alerts The number of open alerts of each kind.
# TYPE resguardo_open_alerts gauge
{alerts}
"""


class Metrics:
    """The route `GET /metrics`."""

    def __init__(self, watch: LeaderWatch, database: Database) -> None:
        self._watch = watch
        self._database = database
        self._text = SharedQuery(self._read)

    async def __call__(self, _: Request) -> Response:
        """Answer 200, or 503 with the code of the reason."""
        try:
            text = await self._text.answer()
        except AppError as error:
            return JSONResponse({"status": "unavailable", "reason": error.reason}, status_code=503)
        return PlainTextResponse(text, media_type=MEDIA_TYPE)

    async def _read(self) -> str:
        return format_metrics(await self._watch.read(), await count_open(self._database))


def format_metrics(led: LastLed, counted: Sequence[OpenAlerts]) -> str:
    """Return the metrics as text. `resguardo_unled_seconds` is NaN if no worker has ever been the leader. A kind
    without an open alert has the value 0.
    """
    counts = {kind.value: 0 for kind in AlertKind} | {one.kind: one.open_count for one in counted}
    return _TEXT.format(
        present=int(led.seconds == 0),
        seconds="NaN" if led.seconds is None else f"{led.seconds:.3f}",
        alerts="\n".join(
            f'resguardo_open_alerts{{kind="{kind}"}} {count}' for kind, count in sorted(counts.items())
        ),
    )


def open_listener(host: str, port: int) -> socket.socket:
    """Return a listening socket for the metrics. Raises Conflict (metrics_port_taken)."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise Conflict(
            "metrics_port_taken", what=f"METRICS_HOST and METRICS_PORT: {error.strerror}"
        ) from error


@asynccontextmanager
async def serve_metrics(
    watch: LeaderWatch, database: Database, listener: socket.socket
) -> AsyncIterator[None]:
    """Serve the metrics at the listener inside the block."""
    app = Starlette(routes=[Route("/metrics", Metrics(watch, database).__call__, methods=["GET"])])
    server = _Server(
        uvicorn.Config(
            app,
            access_log=False,
            lifespan="off",
            limit_concurrency=CONNECTIONS,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event to wait for
        await asyncio.sleep(STARTED_SECONDS)
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait((serving,))


class _Server(uvicorn.Server):
    """A server that leaves the signals of the process to the API's own server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals."""
        yield
