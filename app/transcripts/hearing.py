"""Asks a speech service for the pieces of one recording, a few at once, and keeps each answer as it comes.

The first failure ends it: nothing more is asked, and what is under way is waited for and kept, since it is paid for.
So does a switch that is off, a destruction, and a worker that has begun since. It holds no more sound than what is
asked for at once, and one piece.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from app.db import Database
from app.errors import AppError, Conflict, Timeout
from app.integrations.speech import Speech
from app.keyring import FieldKey
from app.media.sound import Cut, Span
from app.transcripts import places
from app.transcripts import transcription_store as store
from app.transcripts.assembling import Piece, assembled
from app.transcripts.stored import piece_bytes

REASON: Final = "transcribe"
AT_ONCE: Final = {Cut.TURNS: 4, Cut.WINDOWS: 1}
"""How many pieces are asked for at once: turns have 1 MB at most, windows up to 25."""

MOST_SPOILT: Final = 5
"""So often a piece is paid for in vain, and no more: the same answer would come again."""


@dataclass
class Hearing:
    """One go at one recording."""

    database: Database
    speech: Speech
    recording_id: UUID
    run: int
    key: FieldKey = field(repr=False)
    _failure: AppError | None = field(default=None, init=False)
    _is_wanted: bool = field(default=True, init=False)

    async def hear(self, pieces: AsyncIterator[tuple[Span, bytes]], numbers: Mapping[Span, int]) -> bool:
        """Asks for all of them; False where they are not wanted any more. Raises what failed first.

        Beside the speech service's: Conflict (transcription_overtaken).
        """
        slots = asyncio.Semaphore(AT_ONCE[self.speech.cut])
        async with asyncio.TaskGroup() as asked:
            try:
                async for span, flac in pieces:
                    await slots.acquire()
                    if not self._goes_on:
                        break
                    asked.create_task(self._take_turn(slots, numbers[span], span, flac))
            except AppError as error:
                self._fail(error)
        if self._failure is not None:
            raise self._failure
        return self._is_wanted

    @property
    def _goes_on(self) -> bool:
        return self._is_wanted and self._failure is None

    def _fail(self, error: AppError) -> None:
        self._failure = self._failure or error

    async def _take_turn(self, slots: asyncio.Semaphore, number: int, span: Span, flac: bytes) -> None:
        try:
            if await self._is_to_be_asked(number):
                await self._keep(number, await self._ask(number, span, flac))
        except AppError as error:
            self._fail(error)
        finally:
            slots.release()

    async def _is_to_be_asked(self, number: int) -> bool:
        async with self.database.as_service(REASON) as tx:
            wanted = await store.wants_piece(tx, self.recording_id, self.run, number)
        self._is_wanted = self._is_wanted and wanted is not None
        return bool(wanted) and self._goes_on

    async def _ask(self, number: int, span: Span, flac: bytes) -> Piece:
        try:
            return _sane(Piece(span, await self.speech.transcribe(flac, language=None)))
        except AppError as error:
            if not (isinstance(error, Timeout) or error.reason == "speech_nonsense"):
                raise
            if await self._times_spoilt(number) < MOST_SPOILT:
                raise
            reason = error.reason
        raise Conflict(reason)

    async def _times_spoilt(self, number: int) -> int:
        async with self.database.as_service(REASON) as tx:
            return await store.keep_spoilt(tx, self.recording_id, number)

    async def _keep(self, number: int, piece: Piece) -> None:
        sealed = self.key.encrypt(places.of_piece(self.recording_id, number), piece_bytes(piece))
        async with self.database.as_service(REASON) as tx:
            await store.keep_heard(tx, self.recording_id, number, sealed)


def _sane(piece: Piece) -> Piece:
    """Itself. Raises UpstreamFailed (speech_nonsense) where no transcript could be made of it."""
    assembled([piece])
    return piece
