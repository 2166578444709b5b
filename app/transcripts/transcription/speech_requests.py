"""Sends the pieces of one recording to a speech service, a few at once, and stores each answer when it arrives.

Some failures concern one piece alone (nonsense, a timeout, refused sound). After its last attempt such a piece is
stored as unintelligible, and the others continue. Any other failure, or `MOST_SPOILT` such pieces in one run, ends
the run: nothing more is sent, and running requests are awaited and stored, because they are paid for. The run also
ends if transcription is switched off, if the recording is destroyed, or if another worker has taken over. In memory
are only the pieces that are being sent, and one more.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import anyio.to_thread

from app.errors import AppError
from app.integrations.speech.client import Heard, Speech
from app.keys.keyring import FieldKey
from app.media.sound import Cut
from app.postgres.database import Database
from app.transcripts import encryption
from app.transcripts.transcript_format import piece_bytes
from app.transcripts.transcription import store
from app.transcripts.transcription.assembly import Piece, assembled, without_words
from app.transcripts.transcription.chunk_plans import PlannedPiece
from app.transcripts.transcription.segment_times import anchored

REASON: Final = "transcribe"
AT_ONCE: Final = {Cut.TURNS: 4, Cut.WINDOWS: 1}
"""How many pieces are sent at once. A turn has at most 1 MB, and a window up to 25 MB."""

MOST_SPOILT: Final = 5
"""The maximum number of attempts for a piece, because the same sound usually gets the same answer. The piece is
then unintelligible.
"""

OF_ONE_PIECE: Final = frozenset(("speech_nonsense", "speech_timeout", "speech_refused"))
"""The failures that may concern one piece alone."""


@dataclass
class Hearing:
    """One run for one recording. `is_any_chunk_transcribed`: the service has transcribed a chunk of it before."""

    database: Database
    speech: Speech
    recording_id: UUID
    run: int
    key: FieldKey = field(repr=False)
    language: str | None
    is_any_chunk_transcribed: bool = False
    _failure: AppError | None = field(default=None, init=False)
    _spoilt: list[AppError] = field(default_factory=list, init=False)
    _refused: list[AppError] = field(default_factory=list, init=False)
    _is_wanted: bool = field(default=True, init=False)
    _under_way: int = field(default=0, init=False)
    _answered: asyncio.Condition = field(default_factory=asyncio.Condition, init=False)

    async def hear(self, pieces: AsyncIterator[tuple[int, PlannedPiece, bytes]]) -> bool:
        """Send all pieces. Return False if they are no longer wanted. Raises the first failure.

        `pieces` are planned pieces that were cut, each with its number and its sound as FLAC. Besides the speech
        client's errors it raises Conflict (transcription_overtaken).
        """
        slots = asyncio.Semaphore(AT_ONCE[self.speech.cut])
        async with asyncio.TaskGroup() as asked:
            try:
                async for number, planned, flac in pieces:
                    await slots.acquire()
                    if not self._goes_on:
                        break
                    asked.create_task(self._take_turn(slots, number, planned, flac))
            except AppError as error:
                self._fail(error)
        if self._failure is not None:
            raise self._failure
        if self._spoilt:
            raise self._spoilt[0]
        return self._is_wanted

    @property
    def _goes_on(self) -> bool:
        return self._is_wanted and self._failure is None

    def _fail(self, error: AppError) -> None:
        self._failure = self._failure or error

    async def _take_turn(
        self, slots: asyncio.Semaphore, number: int, planned: PlannedPiece, flac: bytes
    ) -> None:
        try:
            if await self._is_to_be_asked(number):
                await self._ask_and_keep(number, planned, flac)
        except AppError as error:
            self._fail(error)
        finally:
            slots.release()

    async def _is_to_be_asked(self, number: int) -> bool:
        async with self.database.as_service(REASON) as tx:
            wanted = await store.is_chunk_wanted(tx, self.recording_id, self.run, number)
        self._is_wanted = self._is_wanted and wanted is not None
        return bool(wanted) and self._goes_on

    async def _ask_and_keep(self, number: int, planned: PlannedPiece, flac: bytes) -> None:
        try:
            piece = await self._ask(planned, flac)
        except AppError as error:
            if error.reason not in OF_ONE_PIECE:
                raise
            if await self._is_to_be_tried_again(number, error):
                return
        else:
            await self._keep(number, piece)
            return
        await self._keep(number, _piece(planned, without_words(planned.span)), gives_up=True)

    async def _ask(self, planned: PlannedPiece, flac: bytes) -> Piece:
        self._under_way += 1
        try:
            heard = await self.speech.transcribe(flac, language=self.language)
            piece = _sane(
                _piece(planned, await anyio.to_thread.run_sync(anchored, heard, planned.span.speech))
            )
            self.is_any_chunk_transcribed = True
            return piece
        finally:
            self._under_way -= 1
            async with self._answered:
                self._answered.notify_all()

    async def _is_none_heard(self) -> bool:
        """Whether the service has transcribed nothing, when what is under way has been answered."""
        async with self._answered:
            await self._answered.wait_for(lambda: self.is_any_chunk_transcribed or not self._under_way)
        return not self.is_any_chunk_transcribed

    async def _is_to_be_tried_again(self, number: int, error: AppError) -> bool:
        """Whether the piece gets another try. Raises the error if it is no longer one piece's alone.

        The same sound is refused again, so that a refused piece has one try. If `MOST_SPOILT` pieces are refused and
        none was heard, the service refuses all.
        """
        if error.reason == "speech_refused":
            self._refused.append(error)
            if len(self._refused) >= MOST_SPOILT and await self._is_none_heard():
                raise error
            return False
        if await self._times_spoilt(number) >= MOST_SPOILT:
            return False
        self._spoilt.append(error)
        if len(self._spoilt) >= MOST_SPOILT:
            self._fail(error)
        return True

    async def _times_spoilt(self, number: int) -> int:
        async with self.database.as_service(REASON) as tx:
            return await store.count_failed_request(tx, self.recording_id, number)

    async def _keep(self, number: int, piece: Piece, *, gives_up: bool = False) -> None:
        sealed = self.key.encrypt(encryption.chunk_field(self.recording_id, number), piece_bytes(piece))
        async with self.database.as_service(REASON) as tx:
            await store.store_answer(tx, self.recording_id, number, sealed, gives_up=gives_up)


def _piece(planned: PlannedPiece, heard: Heard) -> Piece:
    return Piece(planned.span, heard, planned.voice, planned.late_ms)


def _sane(piece: Piece) -> Piece:
    """Return the piece. Raises UpstreamFailed (speech_nonsense) if no transcript could be made of it."""
    assembled([piece])
    return piece
