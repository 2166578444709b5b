"""The routes `GET /health/live`, `GET /health/ready` and `GET /metrics`, which report on the process, its database,
and the leading worker.

Everyone may call the health and metrics routes without a token. Only one database query runs at a time, and all
callers that wait for it get the same answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.errors import AppError
from app.jobs.leader_watch import LeaderWatch
from app.postgres.database import Database

READY_SECONDS = 1.2
"""The time limit of the database query. A health check waits two seconds, and cancelling the query needs the
difference.
"""

_METRICS = """\
# HELP resguardo_leader_present Whether a worker leads, which means that it runs the periodic tasks.
# TYPE resguardo_leader_present gauge
resguardo_leader_present {present}
# HELP resguardo_unled_seconds Seconds since a worker last led, by the database's clock.
# TYPE resguardo_unled_seconds gauge
resguardo_unled_seconds {seconds}
"""


_Answer = TypeVar("_Answer")


class _Shared(Generic[_Answer]):
    """Runs a query once for all callers that wait for its answer at the same time."""

    def __init__(self, ask: Callable[[], Awaitable[_Answer]]) -> None:
        self._ask = ask
        self._asking: asyncio.Future[_Answer] | None = None

    async def answer(self) -> _Answer:
        """Return the answer. The database query runs to its end even if a waiting caller disconnects."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
            self._asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        return await asyncio.shield(self._asking)


async def live(_: Request) -> Response:
    """Answer 200, which shows that the API process runs."""
    return JSONResponse({"status": "ok"})


class Ready:
    """The route `GET /health/ready`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reason = _Shared(self._find_reason)

    async def __call__(self, _: Request) -> Response:
        """Answer 200 if the database is ready, or 503 with the code of the reason, within two seconds."""
        reason = await self._reason.answer()
        if reason is not None:
            return JSONResponse({"status": "unavailable", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ok"})

    async def _find_reason(self) -> str | None:
        try:
            await self._database.require_ready(READY_SECONDS)
        except AppError as error:
            return error.reason
        return None


class Metrics:
    """The route `GET /metrics`, which answers in the text format of Prometheus."""

    def __init__(self, watch: LeaderWatch) -> None:
        self._found = _Shared(watch.read)

    async def __call__(self, _: Request) -> Response:
        """Answer 200, or 503 with the code of the reason. The metric `resguardo_unled_seconds` is `NaN` if no
        worker has ever been the leader.
        """
        try:
            found = await self._found.answer()
        except AppError as error:
            return JSONResponse({"status": "unavailable", "reason": error.reason}, status_code=503)
        seconds = "NaN" if found.seconds is None else f"{found.seconds:.3f}"
        text = _METRICS.format(present=int(found.seconds == 0), seconds=seconds)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
