"""No request body grows past the limit, whatever its Content-Length says, or if it has none.

It holds nothing back itself: what is within the limit goes on chunk by chunk, the chunk that passes it does not.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.refusals import RefusedError, refusal


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
        await refusal(scope, refused)(scope, receive, send)


def _declared_bytes(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    if not (declared.isascii() and declared.isdigit()):
        return 0
    return int(declared[:20])
