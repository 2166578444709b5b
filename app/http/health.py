"""`GET /health/live` and `GET /health/ready`: whether the process runs, and whether it reaches its database."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.db import Database
from app.errors import AppError


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
