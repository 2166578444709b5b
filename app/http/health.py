"""`GET /health/live`, `GET /health/ready`, `GET /metrics`: is it alive, has it a database, and a leader?

Anybody may ask, so the database is asked by one caller at a time, and all who ask meanwhile get the same answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.db import Database
from app.errors import AppError
from app.jobs.watch import LeaderWatch

READY_SECONDS = 1.2
"""Leaves time to cancel the question: whoever asks waits two seconds."""

_METRICS = """\
# HELP resguardo_leader_present Whether a worker leads the rounds.
# TYPE resguardo_leader_present gauge
resguardo_leader_present {present}
# HELP resguardo_unled_seconds Seconds since a worker last led the rounds, by the database's clock.
# TYPE resguardo_unled_seconds gauge
resguardo_unled_seconds {seconds}
"""


_Answer = TypeVar("_Answer")


class _Shared(Generic[_Answer]):
    """A question that is asked once for all who want its answer at the same time."""

    def __init__(self, ask: Callable[[], Awaitable[_Answer]]) -> None:
        self._ask = ask
        self._asking: asyncio.Future[_Answer] | None = None

    async def answer(self) -> _Answer:
        """The answer; it is found to its end, whoever of those that wait for it goes away."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
            self._asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        return await asyncio.shield(self._asking)


async def live(_: Request) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


class Ready:
    """The route."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reason = _Shared(self._find_reason)

    async def __call__(self, _: Request) -> Response:
        """200, or 503 with the reason's code, within two seconds."""
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
    """The route, in the text format of Prometheus."""

    def __init__(self, watch: LeaderWatch) -> None:
        self._found = _Shared(watch.read)

    async def __call__(self, _: Request) -> Response:
        """200, or 503 with the reason's code; `NaN` before any worker led."""
        try:
            found = await self._found.answer()
        except AppError as error:
            return JSONResponse({"status": "unavailable", "reason": error.reason}, status_code=503)
        seconds = "NaN" if found.seconds is None else f"{found.seconds:.3f}"
        text = _METRICS.format(present=int(found.seconds == 0), seconds=seconds)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
