"""`GET /health/live`, `GET /health/ready`, `GET /metrics`: is it alive, has it a database, and a leader?"""

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.db import Database
from app.errors import AppError
from app.jobs.watch import LeaderWatch

_METRICS = """\
# HELP resguardo_leader_present Whether a worker leads the rounds.
# TYPE resguardo_leader_present gauge
resguardo_leader_present {present}
# HELP resguardo_unled_seconds Seconds since a worker last led the rounds, by the database's clock.
# TYPE resguardo_unled_seconds gauge
resguardo_unled_seconds {seconds}
"""


async def live(_: Request) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


class Ready:
    """The route."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self, _: Request) -> Response:
        """200, or 503 with the reason's code."""
        try:
            async with self._database.as_service("health") as tx:
                await tx.value("select 1")
        except AppError as error:
            return JSONResponse({"status": "unavailable", "reason": error.reason}, status_code=503)
        return JSONResponse({"status": "ok"})


class Metrics:
    """The route, in the text format of Prometheus."""

    def __init__(self, watch: LeaderWatch) -> None:
        self._watch = watch

    async def __call__(self, _: Request) -> Response:
        """200, or 503 with the reason's code; `NaN` before any worker led."""
        try:
            found = await self._watch.read()
        except AppError as error:
            return JSONResponse({"status": "unavailable", "reason": error.reason}, status_code=503)
        seconds = "NaN" if found.seconds is None else f"{found.seconds:.3f}"
        text = _METRICS.format(present=int(found.seconds == 0), seconds=seconds)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
