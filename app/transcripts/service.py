"""Services with which the API reads and corrects the transcript of one recording, retries a transcription, and
switches transcription on or off.

The API decrypts a transcript in its memory only after the database has stored who requested it.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, LiteralString
from uuid import UUID

import anyio.to_thread

from app.consultations import service as consultations
from app.errors import NotFound
from app.idempotency.service import RepeatableCall
from app.identity import permissions
from app.keys.keyring import Keyring
from app.postgres.composer import Row
from app.postgres.database import Asker, Database, Transaction
from app.postgres.selection import Selection
from app.recordings import service as recordings
from app.transcripts import encryption, store
from app.transcripts.corrections import Correction, check_text, make_attribution, make_rewording
from app.transcripts.encryption import CorrectedTranscript
from app.transcripts.model import Speaker, Transcript
from app.transcripts.store import OpenedTranscript as OpenedTranscript

SUBTITLE_FIELDS: Final = Selection.of("turns.endSeconds", "turns.speaker", "turns.startSeconds", "turns.text")
"""What subtitles show of a transcript."""
_SECRET_BYTES: Final = 32

_MakeCorrection = Callable[[Transcript, Sequence[Correction]], Correction | None]


@dataclass(frozen=True)
class AuthoredCorrection:
    """A correction of a transcript, with its author and its time."""

    correction: Correction
    corrected_by: UUID
    corrected_at: datetime


@dataclass(frozen=True)
class TranscriptHistory:
    """The history of a transcript: the transcript's id, the text with corrections, the originally transcribed text,
    and all corrections in order. `metadata` has the selected `recording`, and the `participants` of the consultation
    if a turn's participant is selected.
    """

    id: UUID
    metadata: Row
    transcript: Transcript
    original: Transcript
    corrections: tuple[AuthoredCorrection, ...]


@dataclass(frozen=True)
class SubtitleLink:
    """The secret of a subtitle link, and its expiry. `has_notice` says whether the notice against redisclosure
    accompanies the subtitles.
    """

    secret: str = field(repr=False)
    expires_at: datetime
    expires_in_seconds: int
    has_notice: bool


class Transcripts:
    """The service that reads, corrects and retries transcripts for the API."""

    def __init__(self, database: Database, keyring: Keyring, *, url_lifetime_seconds: int) -> None:
        self._database = database
        self._lifetime_seconds = url_lifetime_seconds
        self._keyring = keyring

    async def read(
        self, asker: Asker, recording_id: UUID, selection: Selection = SUBTITLE_FIELDS
    ) -> TranscriptHistory:
        """Return the transcript of a recording with its corrections applied. Raises NotFound
        (transcript_not_found), Conflict (recording_being_deleted), RateLimited (quota_pages).
        """
        access = permissions.READ_TRANSCRIPT.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            opened = await store.open_transcript(tx, access.action, recording_id, selection)
        if opened is None:
            raise NotFound("transcript_not_found")
        read = await anyio.to_thread.run_sync(encryption.read_transcript, self._keyring, opened.encrypted)
        return _add_authors(opened, read, zip(opened.corrected_by, opened.corrected_at, strict=True))

    async def reword(
        self,
        asker: Asker,
        recording_id: UUID,
        turn_number: int,
        text: str,
        selection: Selection,
        *,
        expected_text: str | None = None,
        idempotency_key: str | None = None,
    ) -> TranscriptHistory:
        """Replace the text of a turn, and keep the earlier text in the history. `expected_text` is the text that the
        caller saw before the correction; None means that the caller accepts any.

        If the turn already has the given text, the call changes nothing. A repeated call with the same
        `idempotency_key` changes nothing either.

        If the new text or the key is invalid, the method raises InvalidInput (correction_..., bad_idempotency_key)
        before it reads anything. Raises NotFound (transcript_not_found, turn_unknown), Conflict (turn_changed,
        transcript_changed, recording_being_deleted, idempotency_key_reused), RateLimited (quota_pages).
        """
        words = check_text(text)
        call = RepeatableCall(
            "correctTranscript", idempotency_key, recording_id, turn_number, words, expected_text
        )
        return await self._correct(
            asker,
            recording_id,
            selection,
            call,
            lambda original, before: make_rewording(
                original, before, turn_number, words, expected_text=expected_text
            ),
        )

    async def attribute(
        self,
        asker: Asker,
        recording_id: UUID,
        turn_number: int,
        speaker: Speaker,
        selection: Selection,
        *,
        only_this_turn: bool,
        idempotency_key: str | None = None,
    ) -> TranscriptHistory:
        """Name the speaker of a turn, or of all turns of its voice, and keep the earlier speaker in the history. If
        the turns already have the named speaker, the call changes nothing. A repeated call with the same
        `idempotency_key` changes nothing either.

        Raises the errors of `reword` except those of its texts.
        """
        call = RepeatableCall(
            "attributeTurn", idempotency_key, recording_id, turn_number, speaker, only_this_turn
        )
        return await self._correct(
            asker,
            recording_id,
            selection,
            call,
            lambda original, before: make_attribution(
                original, before, turn_number, speaker, only_this_turn=only_this_turn
            ),
        )

    async def _correct(
        self,
        asker: Asker,
        recording_id: UUID,
        selection: Selection,
        call: RepeatableCall,
        make: _MakeCorrection,
    ) -> TranscriptHistory:
        access = permissions.CORRECT_TRANSCRIPT.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            opened = await store.open_transcript(tx, access.action, recording_id, selection)
            if opened is None:
                raise NotFound("transcript_not_found")
            if await call.claim(tx) is not None:
                make = _make_no_correction
            index_key = await store.read_index_key(tx, self._keyring)
            assert index_key is not None  # noqa: S101 - the key exists since the first transcript
            now, made = await anyio.to_thread.run_sync(
                encryption.add_correction, self._keyring, index_key, opened.encrypted, make
            )
            corrected = list(zip(opened.corrected_by, opened.corrected_at, strict=True))
            if made is not None:
                corrected.append(
                    await store.store_correction(tx, recording_id, made.number, made.ciphertext, made.terms)
                )
            await call.settle(tx, opened.id)
        return _add_authors(opened, now, corrected)

    async def issue_subtitle_link(self, asker: Asker, recording_id: UUID) -> SubtitleLink:
        """Create a link with which a player reads the subtitles with the caller's rights, and return the secret of
        the link. A subtitle link is valid for a few minutes, and only while the caller's session lasts.

        Raises NotFound (transcript_not_found), Conflict (recording_being_deleted), RateLimited (quota_subtitles).
        """
        access = permissions.ISSUE_SUBTITLE_URLS.on(recording_id)
        secret = secrets.token_bytes(_SECRET_BYTES)
        async with self._database.as_user(asker, access) as tx:
            stored = await store.store_subtitle_link(
                tx,
                recording_id,
                secret,
                lifetime_seconds=self._lifetime_seconds,
            )
            if stored is None:
                raise NotFound("transcript_not_found")
        return SubtitleLink(secret.hex(), *stored)

    async def find_subtitle_link(self, secret: str) -> tuple[dict[str, object], UUID, bool]:
        """Return the claims of the person who created a subtitle link, the recording whose subtitles the link reads,
        and whether the notice against redisclosure accompanies the subtitles. Raises NotFound (transcript_not_found).
        """
        if len(secret) != 2 * _SECRET_BYTES or not set(secret) <= set("0123456789abcdef"):
            raise NotFound("transcript_not_found")
        async with self._database.as_service("subtitles") as tx:
            link = await store.read_subtitle_link(tx, bytes.fromhex(secret))
        if link is None:
            raise NotFound("transcript_not_found")
        return link

    async def retry(self, asker: Asker, recording_id: UUID, selection: Selection) -> Row:
        """Retry a transcription, and return its recording. A FAILED transcription begins again. An OFF transcription
        also begins again if neither a setting nor a missing consent forbids it any more. If the transcript is READY,
        only its unintelligible turns are transcribed again.

        Raises NotFound (transcript_not_found), Conflict (transcription_not_failed, transcription_switched_off,
        transcription_consent_withdrawn, recording_being_deleted).
        """
        access = permissions.RETRY_TRANSCRIPTION.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            if not await store.retry(tx, recording_id):
                raise NotFound("transcript_not_found")
            return await recordings.show_recording(tx, recording_id, selection, access.action)

    async def switch(self, asker: Asker, consultation_id: UUID, selection: Selection, *, is_on: bool) -> Row:
        """Switch transcription of the consultation's recordings on or off, from now on, and return the
        consultation. Raises NotFound (consultation_not_found).
        """
        access = permissions.SWITCH_TRANSCRIPTION.on(consultation_id)
        async with self._database.as_user(asker, access) as tx:
            await store.switch(tx, consultation_id, is_on=is_on)
            return await consultations.show_consultation(tx, consultation_id, selection, access.action)


async def open_transcript(
    tx: Transaction, action: LiteralString, recording_id: UUID, selection: Selection
) -> OpenedTranscript | None:
    """Write the audit row of another feature's action and return the encrypted transcript, in the transaction of that
    feature. Return None if the person may not read the transcript, or if it does not exist or is not READY.

    Raises Conflict (recording_being_deleted, recording_deleted), RateLimited.
    """
    return await store.open_transcript(tx, action, recording_id, selection)


def _make_no_correction(_: Transcript, __: Sequence[Correction]) -> None:
    """Change nothing, because an earlier call with the same idempotency key has made the correction."""


def _add_authors(
    opened: OpenedTranscript, read: CorrectedTranscript, authors: Iterable[tuple[UUID, datetime]]
) -> TranscriptHistory:
    """Return the transcript with the author and time of each correction."""
    made = zip(read.corrections, authors, strict=True)
    return TranscriptHistory(
        opened.id,
        opened.metadata,
        read.transcript,
        read.original,
        tuple(AuthoredCorrection(one, *by) for one, by in made),
    )
