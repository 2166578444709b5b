"""`GET /subtitles/<secret>.vtt` and `.srt`: for a player, which can send no token.

The secret is short-lived, and read as whoever asked for it: it ends with that session.
"""

from uuid import UUID, uuid4

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from app.errors import AppError, NotFound
from app.http.client_address import client_address
from app.http.language import pick_language
from app.http.refusals import app_error_refusal, request_id
from app.settings import Network
from app.texts import role_name
from app.transcripts.model import Speaker
from app.transcripts.service import Transcripts
from app.transcripts.subtitles import srt, webvtt

_FORMS = {"vtt": (webvtt, "text/vtt"), "srt": (srt, "application/x-subrip")}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Disposition": "inline",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Subtitles:
    """The route."""

    def __init__(self, transcripts: Transcripts, trusted_proxies: tuple[Network, ...]) -> None:
        self._transcripts = transcripts
        self._trusted_proxies = trusted_proxies

    async def __call__(self, request: Request) -> Response:
        """200 with the subtitles, whose labels are in the request's language; 404 for a link that reads nothing.

        401 where the session of whoever asked for it is over.
        """
        write, media_type = _FORMS.get(request.path_params["form"], (None, ""))
        try:
            if write is None:
                raise NotFound("transcript_not_found")
            read = await self._transcripts.subtitled(
                request.path_params["secret"],
                UUID(request_id(request.scope) or str(uuid4())),
                client_address(request.scope, self._trusted_proxies),
            )
        except AppError as error:
            return app_error_refusal(request.scope, error)
        language = pick_language(request.headers.get("accept-language", ""))
        labels: dict[Speaker, str] = {
            speaker: role_name(speaker.lower(), language).capitalize()
            for speaker in Speaker
            if speaker is not Speaker.UNKNOWN
        }
        written = await anyio.to_thread.run_sync(write, read.transcript.turns, labels)
        return Response(written, media_type=media_type, headers=_HEADERS)
