"""Transcribes a recording in the worker: plans the chunks of sound, sends them to the speech service, and assembles
the answers.

The worker stores each answer of the speech service, encrypted, when it arrives. After a crash, the worker therefore
does not send a chunk again if the chunk's answer is stored. The module keeps the transcribed text only in memory,
and writes it to no log and no error. If transcription is switched off during the work, the transcription ends
before the next chunk is sent.
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
from app.media.sound_plans import SoundFrames
from app.postgres.database import Database, Transaction
from app.transcripts import encryption
from app.transcripts.corrections import Correction, Rewording, apply_corrections
from app.transcripts.model import Transcript
from app.transcripts.search.word_index import IndexKey, hash_transcript
from app.transcripts.transcript_format import (
    format_transcript,
    parse_chunk,
    parse_correction,
    parse_transcript,
)
from app.transcripts.transcription import store
from app.transcripts.transcription.assembly import (
    TranscribedChunk,
    assemble_transcript,
    find_turn_of_chunk,
    replace_retried_turns,
)
from app.transcripts.transcription.chunk_plans import PlannedChunk, Sound, plan_chunks
from app.transcripts.transcription.speech_requests import CHUNK_FAILURES, REASON, ChunkSender

OVERTAKEN: Final = "transcription_overtaken"
OVERTAKEN_PAUSE_SECONDS: Final = 600
"""The pause of a worker that was overtaken before its next attempt, because an earlier attempt would overtake the
other worker.
"""


@dataclass(frozen=True)
class _Work:
    """The work on one recording that is being transcribed."""

    recording_id: UUID
    begun: store.BegunTranscription
    key: FieldKey = field(repr=False)


class Transcriber:
    """The service that transcribes a recording for a worker's job; the job is safe to repeat. If two workers
    transcribe the same recording, the one that began later continues, and the one that began earlier sends no more
    chunks.
    """

    def __init__(self, database: Database, storage: Storage, speech: Speech | None, keyring: Keyring) -> None:
        self._database = database
        self._storage = storage
        self._speech = speech
        self._keyring = keyring

    async def transcribe(self, recording_id: UUID) -> None:
        """Transcribe the recording, or as much of it as the speech service transcribes now. If the error is
        temporary, the method raises it, so that the job queue retries the job. A permanent error ends the
        transcription with a reason that the doctor sees.

        Raises UpstreamFailed, Timeout, RateLimited, NotFound (storage_object_missing), Conflict
        (transcription_overtaken, concurrent_change).
        """
        try:
            await self._transcribe(recording_id)
        except AppError as error:
            if error.reason == OVERTAKEN:
                raise Conflict(OVERTAKEN, retry_after_seconds=OVERTAKEN_PAUSE_SECONDS) from None
            if _is_temporary(error):
                raise
            await self._end(recording_id, "FAILED", error.reason)

    async def give_up(self, recording_id: UUID, reason: str) -> None:
        """Set the transcription to FAILED, with a reason that the doctor sees.

        If another worker has taken over the transcription, the method changes nothing, because that worker
        continues. If some chunks may still be sent, the last attempt of a job does not set the transcription to
        FAILED either, because `resume` queues a new job for these chunks.
        """
        if reason != OVERTAKEN and reason not in CHUNK_FAILURES - {"speech_refused"}:
            await self._end(recording_id, "FAILED", reason)

    async def resume(self) -> None:
        """Queue a job for each running transcription that has no job."""
        async with self._database.as_service("resume_transcriptions") as tx:
            await store.queue_unfinished(tx)

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
        if await self._send(work, self._speech):
            await self._assemble(work)

    async def _plan(self, work: _Work, speech: Speech) -> None:
        async def measure(one: Sound) -> SoundFrames:
            return await sound.measure_sound(self._reading(one), one.size_bytes, one.container)

        plan = await plan_chunks(work.begun.sounds, measure, speech.cut)
        async with self._database.as_service(REASON) as tx:
            await store.store_chunks(tx, work.recording_id, plan)

    async def _send(self, work: _Work, speech: Speech) -> bool:
        """Send every remaining chunk. Return False if the recording is no longer to be transcribed."""
        async with self._database.as_service(REASON) as tx:
            left = await store.list_unanswered_chunks(tx, work.recording_id)
            is_any_chunk_transcribed = await store.is_any_chunk_transcribed(tx, work.recording_id)
        sender = ChunkSender(
            self._database,
            speech,
            work.recording_id,
            work.begun.run,
            work.key,
            work.begun.language,
            is_any_chunk_transcribed,
        )
        async with aclosing(self._cut(work, left)) as chunks:
            return await sender.send_all(chunks)

    async def _cut(
        self, work: _Work, left: Mapping[int, PlannedChunk]
    ) -> AsyncGenerator[tuple[int, PlannedChunk, bytes]]:
        """Yield each chunk with its number and its sound as FLAC. The method reads one sound file after the other."""
        for one in work.begun.sounds:
            numbers = {chunk.span: number for number, chunk in left.items() if chunk.sound == one.id}
            cut = sound.cut_chunks(self._reading(one), one.size_bytes, one.container, list(numbers))
            async with aclosing(cut) as chunks:
                async for span, flac in chunks:
                    number = numbers[span]
                    yield number, replace(left[number], span=span), flac

    async def _assemble(self, work: _Work) -> None:
        async with self._database.as_service(REASON) as tx:
            answers = await store.read_answers(tx, work.recording_id)
            if answers is None:
                return
            before = await store.read_retried_transcript(tx, work.recording_id)
            index_key = await self._index_key(tx)
        finished = await anyio.to_thread.run_sync(_assemble, work, answers, before, index_key)
        async with self._database.as_service(REASON) as tx:
            await store.finish(tx, work.recording_id, finished)

    async def _index_key(self, tx: Transaction) -> IndexKey:
        offered = self._keyring.new_data_key()
        wrapped, root_key_id = await store.store_word_index_key(tx, offered)
        return IndexKey(self._keyring.unwrap_secret(wrapped, root_key_id))

    def _reading(self, one: Sound) -> ReadRange:
        return partial(self._storage.read_range, one.object_key)


def _is_temporary(error: AppError) -> bool:
    """Return whether the error is temporary, because the worker is just moving the object to a key under keep/, or
    because two transactions conflicted.
    """
    return error.retryable or isinstance(error, NotFound) or error.reason == "concurrent_change"


def _assemble(
    work: _Work,
    answers: Mapping[int, store.EncryptedAnswer],
    before: store.RetriedTranscript | None,
    index_key: IndexKey,
) -> store.FinishedTranscript:
    """Assemble the transcript in a thread, because half an hour of speech takes about 50 ms. Raises Conflict for an
    error that would also occur in a retry.
    """
    chunks = {
        number: parse_chunk(
            work.key.decrypt(encryption.chunk_field(work.recording_id, number), one.ciphertext)
        )
        for number, one in answers.items()
    }
    try:
        if before is not None:
            return _assemble_retry(work, answers, chunks, before, index_key)
        transcript = assemble_transcript(list(chunks.values()))
    except UpstreamFailed as error:
        raise Conflict(error.reason) from None
    turns: dict[int, int] = {}
    for number, one in answers.items():
        if one.is_unintelligible:
            turns[number] = find_turn_of_chunk(transcript, chunks[number], taken=turns.values())
    return _encrypt(work, transcript, (), turns, index_key)


def _assemble_retry(
    work: _Work,
    answers: Mapping[int, store.EncryptedAnswer],
    chunks: Mapping[int, TranscribedChunk],
    before: store.RetriedTranscript,
    index_key: IndexKey,
) -> store.FinishedTranscript:
    corrections = [
        parse_correction(work.key.decrypt(encryption.correction_field(work.recording_id, number), ciphertext))
        for number, ciphertext in enumerate(before.corrections, start=1)
    ]
    replaced = {
        one.turn: chunks[number]
        for number, one in answers.items()
        if one.turn is not None and not one.is_unintelligible
    }
    old = parse_transcript(
        work.key.decrypt(encryption.transcript_field(work.recording_id), before.ciphertext)
    )
    reworded = {one.turn_number for one in corrections if isinstance(one, Rewording)}
    turns = {
        number: one.turn for number, one in answers.items() if one.turn is not None and one.is_unintelligible
    }
    return _encrypt(work, replace_retried_turns(old, replaced, reworded), corrections, turns, index_key)


def _encrypt(
    work: _Work,
    transcript: Transcript,
    corrections: Sequence[Correction],
    turns_of_chunks: Mapping[int, int],
    index_key: IndexKey,
) -> store.FinishedTranscript:
    shown = apply_corrections(transcript, corrections)
    ciphertext = work.key.encrypt(
        encryption.transcript_field(work.recording_id), format_transcript(transcript)
    )
    return store.FinishedTranscript(
        language=transcript.language,
        ciphertext=ciphertext if transcript.turns else None,
        terms=sorted(hash_transcript(index_key, shown)),
        corrections=len(corrections),
        unintelligible_count=sum(turn.is_unintelligible for turn in transcript.turns),
        turns_of_chunks=turns_of_chunks,
    )
