"""The routes `GET /health/live` and `GET /health/ready`, which report on the process and its database.

Everyone may call the health routes without a token. Only one database query runs at a time, and all
callers that wait for it get the same answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.errors import AppError
from app.postgres.database import Database

READY_SECONDS = 1.2
"""The time limit of the database query. A health check waits two seconds, and cancelling the query needs the
difference.
"""

_Answer = TypeVar("_Answer")


class SharedQuery(Generic[_Answer]):
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
        self._reason = SharedQuery(self._find_reason)

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
