"""Sends the chunks of one recording to a speech service, a few at a time, and stores each answer when it arrives.

Some failures concern only one chunk: the service answers with nonsense, does not answer in time, or refuses the
chunk's sound. If the last attempt for a chunk also fails, the module stores the chunk as unintelligible and
continues with the other chunks. A failure that concerns more than one chunk ends the sending of all chunks. The
sending also ends after `MAX_FAILED_REQUESTS` failed chunks. When the sending ends, the module sends no new request,
but awaits the running requests and stores their answers, because the service charges for them. The sending of the
chunks also ends if transcription is switched off, if the recording is destroyed, or if another worker has taken
over. In memory, the module holds only the chunks that are being sent and the next chunk.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import anyio.to_thread

from app.errors import AppError
from app.integrations.speech.client import Speech, SpeechAnswer
from app.keys.keyring import FieldKey
from app.media.sound_plans import Cut
from app.postgres.database import Database
from app.transcripts import encryption
from app.transcripts.transcript_format import format_chunk
from app.transcripts.transcription import store
from app.transcripts.transcription.assembly import (
    TranscribedChunk,
    assemble_transcript,
    unintelligible_answer,
)
from app.transcripts.transcription.chunk_plans import PlannedChunk
from app.transcripts.transcription.segment_times import correct_times

REASON: Final = "transcribe"
MAX_CONCURRENT_REQUESTS: Final = {Cut.TURNS: 4, Cut.WINDOWS: 1}
"""The number of chunks that are sent at the same time. A turn has at most 1 MB, and a window at most 25 MB."""

MAX_FAILED_REQUESTS: Final = 5
"""The maximum number of failed requests for a chunk, because the same sound usually gets the same answer. After them,
the chunk is unintelligible. Also the maximum number of chunks with a failed request in one run.
"""

CHUNK_FAILURES: Final = frozenset(("speech_nonsense", "speech_timeout", "speech_refused"))
"""The failures that may concern one chunk alone."""


@dataclass
class ChunkSender:
    """Sends the chunks of one recording during one attempt of a worker's job. `is_any_chunk_transcribed` is true if
    the speech service has transcribed a chunk of the recording before this run.
    """

    database: Database
    speech: Speech
    recording_id: UUID
    run: int
    key: FieldKey = field(repr=False)
    language: str | None
    is_any_chunk_transcribed: bool = False
    _failure: AppError | None = field(default=None, init=False)
    _failed: list[AppError] = field(default_factory=list, init=False)
    _refused: list[AppError] = field(default_factory=list, init=False)
    _is_wanted: bool = field(default=True, init=False)
    _under_way: int = field(default=0, init=False)
    _answered: asyncio.Condition = field(default_factory=asyncio.Condition, init=False)

    async def send_all(self, chunks: AsyncIterator[tuple[int, PlannedChunk, bytes]]) -> bool:
        """Send all chunks. Return False if the recording is no longer to be transcribed. Raises the first failure.

        `chunks` yields the planned chunks, each with its number and its sound as FLAC. Besides the speech client's
        errors, the method raises Conflict (transcription_overtaken).
        """
        slots = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS[self.speech.cut])
        async with asyncio.TaskGroup() as tasks:
            try:
                async for number, planned, flac in chunks:
                    await slots.acquire()
                    if not self._may_continue:
                        break
                    tasks.create_task(self._send_if_wanted(slots, number, planned, flac))
            except AppError as error:
                self._fail(error)
        if self._failure is not None:
            raise self._failure
        if self._failed:
            raise self._failed[0]
        return self._is_wanted

    @property
    def _may_continue(self) -> bool:
        return self._is_wanted and self._failure is None

    def _fail(self, error: AppError) -> None:
        self._failure = self._failure or error

    async def _send_if_wanted(
        self, slots: asyncio.Semaphore, number: int, planned: PlannedChunk, flac: bytes
    ) -> None:
        try:
            if await self._is_wanted_now(number):
                await self._send_and_store(number, planned, flac)
        except AppError as error:
            self._fail(error)
        finally:
            slots.release()

    async def _is_wanted_now(self, number: int) -> bool:
        async with self.database.as_service(REASON) as tx:
            wanted = await store.is_chunk_wanted(tx, self.recording_id, self.run, number)
        self._is_wanted = self._is_wanted and wanted is not None
        return bool(wanted) and self._may_continue

    async def _send_and_store(self, number: int, planned: PlannedChunk, flac: bytes) -> None:
        try:
            chunk = await self._send(planned, flac)
        except AppError as error:
            if error.reason not in CHUNK_FAILURES:
                raise
            if await self._is_to_be_retried(number, error):
                return
        else:
            await self._store(number, chunk)
            return
        await self._store(number, _transcribed(planned, unintelligible_answer(planned.span)), gives_up=True)

    async def _send(self, planned: PlannedChunk, flac: bytes) -> TranscribedChunk:
        self._under_way += 1
        try:
            answer = await self.speech.transcribe(flac, language=self.language)
            chunk = _require_plausible(
                _transcribed(
                    planned, await anyio.to_thread.run_sync(correct_times, answer, planned.span.speech)
                )
            )
            self.is_any_chunk_transcribed = True
            return chunk
        finally:
            self._under_way -= 1
            async with self._answered:
                self._answered.notify_all()

    async def _is_none_transcribed(self) -> bool:
        """Wait until all running requests have ended, and return whether the speech service has transcribed no
        chunk of the recording.
        """
        async with self._answered:
            await self._answered.wait_for(lambda: self.is_any_chunk_transcribed or not self._under_way)
        return not self.is_any_chunk_transcribed

    async def _is_to_be_retried(self, number: int, error: AppError) -> bool:
        """Return whether a chunk whose request failed must be sent again later. If the failure does not concern
        this chunk alone, raise its error.

        A refused chunk is not sent again, because the service would refuse the same sound again. If the speech
        service refuses `MAX_FAILED_REQUESTS` chunks and has transcribed none, the method assumes that the service
        refuses every chunk.
        """
        if error.reason == "speech_refused":
            self._refused.append(error)
            if len(self._refused) >= MAX_FAILED_REQUESTS and await self._is_none_transcribed():
                raise error
            return False
        if await self._count_failed_request(number) >= MAX_FAILED_REQUESTS:
            return False
        self._failed.append(error)
        if len(self._failed) >= MAX_FAILED_REQUESTS:
            self._fail(error)
        return True

    async def _count_failed_request(self, number: int) -> int:
        async with self.database.as_service(REASON) as tx:
            return await store.count_failed_request(tx, self.recording_id, number)

    async def _store(self, number: int, chunk: TranscribedChunk, *, gives_up: bool = False) -> None:
        ciphertext = self.key.encrypt(encryption.chunk_field(self.recording_id, number), format_chunk(chunk))
        async with self.database.as_service(REASON) as tx:
            await store.store_answer(tx, self.recording_id, number, ciphertext, gives_up=gives_up)
            if not gives_up:
                await store.count_transcribed_sound(
                    tx,
                    self.recording_id,
                    vendor=self.speech.vendor,
                    model=self.speech.model,
                    duration_ms=chunk.span.end_ms - chunk.span.start_ms,
                )


def _transcribed(planned: PlannedChunk, answer: SpeechAnswer) -> TranscribedChunk:
    return TranscribedChunk(planned.span, answer, planned.voice, planned.late_ms)


def _require_plausible(chunk: TranscribedChunk) -> TranscribedChunk:
    """Return the chunk. Raises UpstreamFailed (speech_nonsense) if no transcript can be assembled from the answer
    for the chunk.
    """
    assemble_transcript([chunk])
    return chunk
