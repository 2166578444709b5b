"""The route `POST /webhooks/livekit`. The webhook route receives raw bytes, commits one transaction, and answers
within milliseconds.

LiveKit repeats a webhook after a 5xx, and treats a 4xx as delivered (checked 2026-11-21, livekit/protocol
webhook/). Because LiveKit repeats a webhook after a 5xx, the route answers 5xx only if it could not store the
event.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.errors import AppError, InvalidInput, Unauthenticated
from app.http.client_address import find_client_address
from app.http.rejection_counts import Rejections
from app.recordings.service import Recordings
from app.settings import Network


class LiveKitWebhook:
    """The HTTP route that receives LiveKit's webhooks."""

    def __init__(
        self, recordings: Recordings, rejections: Rejections, trusted_proxies: tuple[Network, ...]
    ) -> None:
        self._recordings = recordings
        self._rejections = rejections
        self._trusted_proxies = trusted_proxies

    async def __call__(self, request: Request) -> Response:
        """Answer 200 if LiveKit's event is stored in the inbox, whether it is new or repeated. The webhook route
        answers 401 for a bad signature, 400 for a bad body, and 503 for every other error.
        """
        try:
            is_new = await self._recordings.receive_webhook(
                await request.body(), request.headers.get("Authorization")
            )
        except Unauthenticated:
            self._rejections.count(
                "webhook.reject", find_client_address(request.scope, self._trusted_proxies)
            )
            raise
        except InvalidInput:
            raise
        except AppError as error:
            return JSONResponse({"reason": error.reason}, status_code=503)
        return JSONResponse({"duplicate": not is_new})
