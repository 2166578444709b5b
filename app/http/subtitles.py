"""`GET /subtitles/<secret>.vtt` and `.srt`: subtitles for a video player, which cannot send a token.

The secret in the address is valid for a few minutes. The route reads the transcript with the access rights of the
person who requested the link, and only while the session of that person lasts.
"""

from dataclasses import replace
from functools import partial
from typing import Final
from uuid import UUID, uuid4

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from app.concurrency import network_of
from app.errors import NotFound
from app.http.client_address import find_client_address
from app.http.error_responses import request_id
from app.http.language import pick_language
from app.http.rejection_counts import Rejections
from app.postgres.database import Asker
from app.settings import Network
from app.texts import Language, redisclosure_notice, role_name, subtitle_text
from app.transcripts.model import Speaker, Turn
from app.transcripts.service import TranscriptHistory, Transcripts
from app.transcripts.subtitles import srt, webvtt
from graphql_schema.context import OperationLimits

_FORMS: Final = {"vtt": "text/vtt", "srt": "application/x-subrip"}
LINK_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Disposition": "inline",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""The headers of each answer to a link that contains a secret."""


class Subtitles:
    """The HTTP route that serves the subtitles of a transcript."""

    def __init__(
        self,
        transcripts: Transcripts,
        limits: OperationLimits,
        rejections: Rejections,
        trusted_proxies: tuple[Network, ...],
    ) -> None:
        self._transcripts = transcripts
        self._limits = limits
        self._rejections = rejections
        self._trusted_proxies = trusted_proxies

    async def __call__(self, request: Request) -> Response:
        """Answer 200 with the subtitles, or 404 for a link that is not valid. The labels of the speakers are in the
        request's language.

        The subtitle route answers 401 if the session of the person who requested the link has ended, and 429 or 503
        if too many operations run at once.
        """
        read, has_notice = await self._read(request)
        form = request.path_params["form"]
        language = pick_language(request.headers.get("accept-language", ""))
        labels: dict[Speaker, str] = {
            speaker: role_name(speaker.lower(), language).capitalize()
            for speaker in Speaker
            if speaker is not Speaker.UNKNOWN
        }
        turns = [_marked(turn, language) for turn in read.transcript.in_order]
        notice = redisclosure_notice(language) if has_notice else None
        write = partial(webvtt, notice=notice) if form == "vtt" else srt
        written = await anyio.to_thread.run_sync(write, turns, labels)
        return Response(written, media_type=_FORMS[form], headers=LINK_HEADERS)

    async def _read(self, request: Request) -> tuple[TranscriptHistory, bool]:
        address = find_client_address(request.scope, self._trusted_proxies)
        secret = request.path_params["secret"] if request.path_params["form"] in _FORMS else ""
        try:
            async with self._limits.guests.slot(network_of(address)):
                claims, recording_id, has_notice = await self._transcripts.find_subtitle_link(secret)
        except NotFound:
            self._rejections.count("request.reject", address)
            raise
        asker = Asker(claims, UUID(request_id(request.scope) or str(uuid4())), address)
        reader = (
            "subtitles",
            asker.person,
        )  # separate slots, so that a leaked link does not use up the person's own
        async with self._limits.people.slot(reader):
            return await self._transcripts.read(asker, recording_id), has_notice


def _marked(turn: Turn, language: Language) -> Turn:
    """Return a turn of the transcript in the form in which the subtitles show it. In the subtitles, a placeholder
    replaces the text of an unintelligible turn, and a mark such as `[uncertain]` precedes a text that is uncertain.
    """
    if turn.is_unintelligible:
        return replace(turn, text=subtitle_text("unintelligible", language))
    if turn.is_uncertain:
        return replace(turn, text=f"{subtitle_text('uncertain', language)} {turn.text}")
    return turn
