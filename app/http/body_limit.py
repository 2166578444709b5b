"""No request body grows past the limit, whatever its Content-Length says, or if it has none.

It holds nothing back itself: what is within the limit goes on chunk by chunk, the chunk that passes it does not.
Whoever sends too much is answered at once; what is on its way already is read and thrown away for a moment, since a
connection that is closed over it is reset, and the answer with it.
"""

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.refusals import RefusedError, refusal

_THROWN_AWAY_BYTES = 16 * 1024 * 1024
_THROWN_AWAY_SECONDS = 2


class _TooLargeError(Exception):
    """Carries the news out of whatever was reading the body."""


class BodyLimit:
    """ASGI middleware: answers 413 to bodies of more than `limit_bytes`, and closes the connection."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _declared_bytes(scope) > self._limit_bytes:
            await self._refuse(scope, receive, send)
            return
        received_bytes = 0
        is_answered = False

        async def counted() -> Message:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > self._limit_bytes:
                raise _TooLargeError
            return message

        async def watched(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except _TooLargeError:
            if is_answered:
                raise
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"The request body has more than {self._limit_bytes} bytes."
        refused = RefusedError(413, "PAYLOAD_TOO_LARGE", message, {"Connection": "close"})

        async def answered(message: Message) -> None:
            is_whole = message["type"] == "http.response.body"
            await send({**message, "more_body": True} if is_whole else message)
            if is_whole:
                await _throw_away(receive)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await refusal(scope, refused)(scope, receive, answered)


async def _throw_away(receive: Receive) -> None:
    left = _THROWN_AWAY_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_THROWN_AWAY_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _declared_bytes(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    if not (declared.isascii() and declared.isdigit()):
        return 0
    return int(declared[:20])
