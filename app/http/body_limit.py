"""Limits the size of a request body and the time of its transfer. The limit applies to the actual size of the body,
even if the header Content-Length states a smaller size.

The middleware does not buffer the body: it passes on each chunk within the limit, and stops at the chunk that
exceeds it. The middleware immediately answers a client that exceeds a limit, and then reads and discards the rest
of the body for a moment. If the middleware closed the connection without reading the rest of the body, the
connection would be reset, and the client would not receive the answer.
"""

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.error_responses import RefusedError, render_refusal

_THROWN_AWAY_BYTES = 16 * 1024 * 1024
_THROWN_AWAY_SECONDS = 2
BODY_SECONDS = 20


class _RefusedBodyError(Exception):
    """Carries the refusal of a request body from the code that reads the body to the middleware."""

    def __init__(self, refused: RefusedError) -> None:
        super().__init__()
        self.refused = refused


class BodyLimit:
    """ASGI middleware: answers 413 to a body larger than `limit_bytes`, and 408 to a body that takes longer than
    `seconds`.

    After the answer 413 or 408, the server closes the connection.
    """

    def __init__(self, app: ASGIApp, limit_bytes: int, seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _declared_bytes(scope) > self._limit_bytes:
            await _refuse(self._too_large(), scope, receive, send)
            return
        is_answered = False

        async def watched(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self._app(scope, self._limited(receive), watched)
        except _RefusedBodyError as error:
            if is_answered:
                raise
            await _refuse(error.refused, scope, receive, send)

    def _limited(self, receive: Receive) -> Receive:
        deadline = asyncio.get_running_loop().time() + self._seconds
        received_bytes = 0
        is_whole = False

        async def limited() -> Message:
            nonlocal received_bytes, is_whole
            if is_whole:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise _RefusedBodyError(self._too_slow()) from None
            received_bytes += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if received_bytes > self._limit_bytes:
                raise _RefusedBodyError(self._too_large())
            return message

        return limited

    def _too_large(self) -> RefusedError:
        message = f"The request body has more than {self._limit_bytes} bytes."
        return RefusedError(413, "PAYLOAD_TOO_LARGE", message, {"Connection": "close"})

    def _too_slow(self) -> RefusedError:
        message = f"The request body took more than {self._seconds:g} seconds. Please send it again."
        return RefusedError(408, "REQUEST_TIMEOUT", message, {"Connection": "close"})


async def _refuse(refused: RefusedError, scope: Scope, receive: Receive, send: Send) -> None:
    async def answered(message: Message) -> None:
        is_whole = message["type"] == "http.response.body"
        await send({**message, "more_body": True} if is_whole else message)
        if is_whole:
            await _throw_away(receive)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    await render_refusal(scope, refused)(scope, receive, answered)


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
