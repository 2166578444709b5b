"""Transcribes a recording, as the worker: plans the pieces, sends them, and assembles the answers.

Each answer is stored encrypted when it arrives, so after a crash no stored piece is sent again. Text is only in
memory, and in no log and no error. If transcription is switched off meanwhile, it ends before the next piece is
sent.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Literal
from uuid import UUID

import anyio.to_thread

from app.consents.texts import ABOUT_TRANSCRIPTION
from app.errors import AppError, Conflict, NotFound, UpstreamFailed
from app.integrations.speech.client import Speech
from app.integrations.storage.client import Storage
from app.keys.keyring import FieldKey, Keyring
from app.media import sound
from app.media.child_process import ReadRange
from app.postgres.database import Database, Transaction
from app.transcripts import encryption
from app.transcripts.corrections import Correction, Rewording, corrected
from app.transcripts.model import Transcript
from app.transcripts.search.word_index import IndexKey, blind_transcript
from app.transcripts.transcript_format import correction_of, piece_of, transcript_bytes, transcript_of
from app.transcripts.transcription import store
from app.transcripts.transcription.assembly import Piece, assembled, retried, turn_of_piece
from app.transcripts.transcription.chunk_plans import PlannedPiece, Sound, plan_pieces
from app.transcripts.transcription.speech_requests import OF_ONE_PIECE, REASON, Hearing

OVERTAKEN: Final = "transcription_overtaken"
AHEAD_SECONDS: Final = 600
"""How long a worker that was overtaken waits before it tries again, because an earlier attempt would overtake the
other worker.
"""


@dataclass(frozen=True)
class _Work:
    """A recording that is being transcribed."""

    recording_id: UUID
    begun: store.Begun
    key: FieldKey = field(repr=False)


class Transcriber:
    """The job, which is safe to repeat. Of two workers, the later one continues, and the other sends nothing more."""

    def __init__(self, database: Database, storage: Storage, speech: Speech | None, keyring: Keyring) -> None:
        self._database = database
        self._storage = storage
        self._speech = speech
        self._keyring = keyring

    async def transcribe(self, recording_id: UUID) -> None:
        """Transcribe as far as possible. Temporary errors are raised, so that the job retries; permanent errors end
        it visibly.

        Raises UpstreamFailed, Timeout, RateLimited, NotFound (storage_object_missing), Conflict
        (transcription_overtaken, concurrent_change).
        """
        try:
            await self._transcribe(recording_id)
        except AppError as error:
            if error.reason == OVERTAKEN:
                raise Conflict(OVERTAKEN, retry_after_seconds=AHEAD_SECONDS) from None
            if _may_pass(error):
                raise
            await self._end(recording_id, "FAILED", error.reason)

    async def give_up(self, recording_id: UUID, reason: str) -> None:
        """Mark the transcription FAILED with a reason for the doctor.

        A worker that was overtaken marks nothing, because another worker continues. The last attempt of a job also
        marks nothing if pieces have attempts left, because `resume` queues another job for them.
        """
        if reason != OVERTAKEN and reason not in OF_ONE_PIECE - {"speech_refused"}:
            await self._end(recording_id, "FAILED", reason)

    async def resume(self) -> None:
        """Queue a job for each running transcription that has none."""
        async with self._database.as_service("resume_transcriptions") as tx:
            await store.resume(tx)

    async def _end(self, recording_id: UUID, status: Literal["FAILED", "OFF"], reason: str) -> None:
        async with self._database.as_service(REASON) as tx:
            await store.give_up(tx, recording_id, status, reason)

    async def _transcribe(self, recording_id: UUID) -> None:
        if self._speech is None:
            await self._end(recording_id, "OFF", "speech_not_configured")
            return
        async with self._database.as_service(REASON) as tx:
            begun = await store.begin(tx, recording_id, ABOUT_TRANSCRIPTION)
        if begun is None:
            return
        key = self._keyring.unwrap(begun.wrapped, begun.root_key_id)
        work = _Work(recording_id, begun, key)
        if not begun.is_planned:
            await self._plan(work, self._speech)
        if await self._hear(work, self._speech):
            await self._assemble(work)

    async def _plan(self, work: _Work, speech: Speech) -> None:
        async def listen(one: Sound) -> sound.SoundFrames:
            return await sound.listen(self._reading(one), one.size_bytes, one.container)

        plan = await plan_pieces(work.begun.sounds, listen, speech.cut)
        async with self._database.as_service(REASON) as tx:
            await store.store_chunks(tx, work.recording_id, plan)

    async def _hear(self, work: _Work, speech: Speech) -> bool:
        """Send every remaining piece. Return False if the transcription is no longer wanted."""
        async with self._database.as_service(REASON) as tx:
            left = await store.list_unanswered_chunks(tx, work.recording_id)
            is_any_chunk_transcribed = await store.is_any_chunk_transcribed(tx, work.recording_id)
        hearing = Hearing(
            self._database,
            speech,
            work.recording_id,
            work.begun.run,
            work.key,
            work.begun.language,
            is_any_chunk_transcribed,
        )
        async with aclosing(self._cut(work, left)) as pieces:
            return await hearing.hear(pieces)

    async def _cut(
        self, work: _Work, left: Mapping[int, PlannedPiece]
    ) -> AsyncGenerator[tuple[int, PlannedPiece, bytes]]:
        """Yield each piece with its number and its sound as FLAC, one file after the other."""
        for one in work.begun.sounds:
            numbers = {piece.span: number for number, piece in left.items() if piece.sound == one.id}
            cut = sound.pieces(self._reading(one), one.size_bytes, one.container, list(numbers))
            async with aclosing(cut) as pieces:
                async for span, flac in pieces:
                    number = numbers[span]
                    yield number, replace(left[number], span=span), flac

    async def _assemble(self, work: _Work) -> None:
        async with self._database.as_service(REASON) as tx:
            heard = await store.read_answers(tx, work.recording_id)
            if heard is None:
                return
            before = await store.read_retried_transcript(tx, work.recording_id)
            index_key = await self._index_key(tx)
        finished = await anyio.to_thread.run_sync(_finished, work, heard, before, index_key)
        async with self._database.as_service(REASON) as tx:
            await store.finish(tx, work.recording_id, finished)

    async def _index_key(self, tx: Transaction) -> IndexKey:
        offered = self._keyring.new_data_key()
        wrapped, root_key_id = await store.word_index_key(tx, offered)
        return IndexKey(self._keyring.unwrap_secret(wrapped, root_key_id))

    def _reading(self, one: Sound) -> ReadRange:
        return partial(self._storage.read_range, one.object_key)


def _may_pass(error: AppError) -> bool:
    """Return whether the error is temporary: an object that is being moved under keep/, or a conflicting
    transaction.
    """
    return error.retryable or isinstance(error, NotFound) or error.reason == "concurrent_change"


def _finished(
    work: _Work, heard: Mapping[int, store.HeardPiece], before: store.Retried | None, index_key: IndexKey
) -> store.Finished:
    """Assemble the transcript in a thread: about 50 ms for half an hour of speech. Raises Conflict for an error
    that a retry cannot change.
    """
    pieces = {
        number: piece_of(work.key.decrypt(encryption.chunk_field(work.recording_id, number), one.sealed))
        for number, one in heard.items()
    }
    try:
        if before is not None:
            return _retried(work, heard, pieces, before, index_key)
        transcript = assembled(list(pieces.values()))
    except UpstreamFailed as error:
        raise Conflict(error.reason) from None
    turns: dict[int, int] = {}
    for number, one in heard.items():
        if one.is_unintelligible:
            turns[number] = turn_of_piece(transcript, pieces[number], taken=turns.values())
    return _sealed(work, transcript, (), turns, index_key)


def _retried(
    work: _Work,
    heard: Mapping[int, store.HeardPiece],
    pieces: Mapping[int, Piece],
    before: store.Retried,
    index_key: IndexKey,
) -> store.Finished:
    corrections = [
        correction_of(work.key.decrypt(encryption.correction_field(work.recording_id, number), sealed))
        for number, sealed in enumerate(before.corrections, start=1)
    ]
    replaced = {
        one.turn: pieces[number]
        for number, one in heard.items()
        if one.turn is not None and not one.is_unintelligible
    }
    old = transcript_of(work.key.decrypt(encryption.transcript_field(work.recording_id), before.words))
    reworded = {one.turn_number for one in corrections if isinstance(one, Rewording)}
    turns = {
        number: one.turn for number, one in heard.items() if one.turn is not None and one.is_unintelligible
    }
    return _sealed(work, retried(old, replaced, reworded), corrections, turns, index_key)


def _sealed(
    work: _Work,
    transcript: Transcript,
    corrections: Sequence[Correction],
    unheard: Mapping[int, int],
    index_key: IndexKey,
) -> store.Finished:
    shown = corrected(transcript, corrections)
    words = work.key.encrypt(encryption.transcript_field(work.recording_id), transcript_bytes(transcript))
    return store.Finished(
        language=transcript.language,
        words=words if transcript.turns else None,
        terms=sorted(blind_transcript(index_key, shown)),
        corrections=len(corrections),
        without_words=sum(turn.is_unintelligible for turn in transcript.turns),
        unheard=unheard,
    )
