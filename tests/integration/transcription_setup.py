"""Provides READY recordings that are not transcribed yet, and a transcription worker that a test can let die at any
step.

A script replaces the speech service and the division of sound into chunks. The script sets the number of turns, and
an answer, an error or a pause for each turn. The database is real.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import LiteralString
from uuid import UUID

import pytest

from app.identity import permissions
from app.integrations.speech.client import Speech, SpeechAnswer, SpeechSegment
from app.keys.keyring import Keyring
from app.media import sound, sound_plans
from app.media.child_process import Container, ReadRange
from app.media.sound_plans import Cut, Plan, SoundFrames, Span
from app.media.turns import FRAME_MS
from app.postgres.database import Database as Pool
from app.postgres.database import Transaction
from app.transcripts import encryption, store
from app.transcripts.model import Transcript
from app.transcripts.transcript_format import parse_transcript
from app.transcripts.transcription.service import Transcriber
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.recording_harness import asker
from tests.integration.retention_harness import KEYRING, RetentionHarness, opened

TURN_MS = 1000
SAID = "cefaléa{number} tinnitüs{number}"


class Killed(BaseException):
    """An exception with which a test simulates the death of the worker's process."""


@dataclass
class Life:
    """Counts the steps of one run of the transcription worker. `ends_at`: the step at which the worker dies, or
    None if the worker survives.
    """

    ends_at: int | None = None
    steps: int = 0
    is_over: bool = False

    def step(self) -> None:
        """Count one step of the worker's run. Raises Killed if the worker dies at this step or is already dead."""
        self.steps += 1
        if self.is_over or self.steps == self.ends_at:
            self.is_over = True
            raise Killed


class MortalDoors(Pool):
    """A connection pool in which a worker can die before a transaction, before its commit, and after its commit."""

    def __init__(self, database: Pool, life: Life) -> None:
        self._through, self._life = database, life

    @asynccontextmanager
    async def as_service(self, reason: LiteralString) -> AsyncIterator[Transaction]:
        self._life.step()
        async with self._through.as_service(reason) as tx:
            yield tx
            self._life.step()
        self._life.step()


@dataclass
class ScriptedSpeech(Speech):
    """A scripted speech service. For each request, the service calls `script` with the chunk's number and the
    number of earlier requests for the same chunk.
    """

    script: Callable[[int, int], Awaitable[None]] | None = None
    life: Life = field(default_factory=Life)
    how: Cut = Cut.TURNS
    asked: list[int] = field(default_factory=list)
    now: int = 0
    most_at_once: int = 0
    languages: set[str | None] = field(default_factory=set)

    @property
    def cut(self) -> Cut:
        return self.how

    @property
    def vendor(self) -> str:
        return "speech.example"

    @property
    def model(self) -> str:
        return "scripted"

    async def transcribe(self, flac: bytes, *, language: str | None) -> SpeechAnswer:
        number = int(flac)
        self.life.step()
        before = self.asked.count(number)
        self.asked.append(number)
        self.languages.add(language)
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        try:
            await asyncio.sleep(0)
            if self.script is not None:
                await self.script(number, before)
        finally:
            self.now -= 1
        self.life.step()
        return SpeechAnswer((SpeechSegment(0, TURN_MS - 100, SAID.format(number=number)),), "en")

    @property
    def times(self) -> Counter[int]:
        """Return how many requests the speech service has received for each chunk."""
        return Counter(self.asked)


def script_sound(monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    """Replace the analysis of sound files by one that always finds `turns` turns of one second, alternately on two
    channels. The replaced functions read one byte of a file to measure its sound, and one byte for each chunk that
    they cut. The file of a microphone recording has one channel.
    """

    async def measure_sound(read_range: ReadRange, size_bytes: int, container: Container) -> SoundFrames:
        await read_range(0, 1)
        frames = bytes(turns * TURN_MS // FRAME_MS + 1)
        return SoundFrames(turns * TURN_MS, (frames, frames))

    def plan_file(listened: SoundFrames, cut: Cut) -> Plan:
        spans = (Span(number % 2, *times, number % 2) for number, times in enumerate(_times(turns)))
        return Plan(turns * TURN_MS, 2, tuple(spans))

    def plan_microphone(listened: SoundFrames, others: bytes) -> Plan:
        return Plan(turns * TURN_MS, 1, tuple(Span(None, *times) for times in _times(turns)))

    async def cut_chunks(
        read_range: ReadRange, size_bytes: int, container: Container, plan_spans: list[Span]
    ) -> AsyncGenerator[tuple[Span, bytes]]:
        for span in plan_spans:
            await read_range(0, 1)
            yield span, str(span.start_ms // TURN_MS).encode()

    for scripted in (measure_sound, cut_chunks):
        monkeypatch.setattr(sound, scripted.__name__, scripted)
    for planned in (plan_file, plan_microphone):
        monkeypatch.setattr(sound_plans, planned.__name__, planned)


def _times(turns: int) -> list[tuple[int, int]]:
    return [(number * TURN_MS, (number + 1) * TURN_MS - 100) for number in range(turns)]


@dataclass
class TranscriptionPractice:
    """A practice with recordings, and the scripted speech service that transcribes them."""

    harness: RetentionHarness
    speech: ScriptedSpeech

    async def recorded(self) -> UUID:
        """Insert a READY video recording without any separate sound recording. Return the recording's id."""
        return await self.harness.recording()

    def transcriber(self, life: Life | None = None, keyring: Keyring = KEYRING) -> Transcriber:
        """Return a transcriber for a new run of the worker."""
        self.speech.life = life or Life()
        doors = MortalDoors(self.harness.worker, self.speech.life)
        return Transcriber(doors, self.harness.storage, self.speech, keyring)

    async def state_of(self, video: UUID) -> tuple[str, str | None, int, int | None]:
        """Return the transcription's status, its error, the number of transcribed chunks, and the number of all
        chunks.
        """
        rows = await self.harness.rows(
            "select status, error, chunks_done, chunks_total from resguardo.transcripts where recording_id = %s",
            video,
        )
        return tuple(rows[0].values())

    async def left(self, video: UUID) -> list[int]:
        """Return the numbers of the planned chunks that have no stored transcription yet."""
        rows = await self.harness.rows(
            "select number from private.transcript_chunks where recording_id = %s and answer is null order by 1",
            video,
        )
        return [row["number"] for row in rows]

    async def transcript_of(self, video: UUID, keyring: Keyring = KEYRING) -> Transcript:
        """Read the encrypted transcript of this recording, and return it decrypted."""
        rows = await self.harness.rows(
            "select w.ciphertext, k.wrapped_key, k.root_key_id from private.transcript_texts as w"
            " inner join private.recording_keys as k on k.recording_id = w.recording_id where w.recording_id = %s",
            video,
        )
        sealed, wrapped, root_key_id = rows[0].values()
        return parse_transcript(
            keyring.unwrap(wrapped, root_key_id).decrypt(encryption.transcript_field(video), sealed)
        )


async def register_keys(harness: RetentionHarness, keyring: Keyring = KEYRING) -> None:
    """Insert the check values of the root keys, as the worker does when it starts."""
    for key_id, value in keyring.check_values().items():
        await harness.rows(
            "insert into private.root_keys (id, check_value) values (%s, %s) on conflict do nothing",
            key_id,
            value,
        )


@asynccontextmanager
async def open_transcription_practice(
    database: Database, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, turns: int
) -> AsyncIterator[TranscriptionPractice]:
    """Yield a practice in whose database the root keys are registered, and a scripted speech service. Every
    recording of this test practice contains `turns` speaker turns.
    """
    script_sound(monkeypatch, turns)
    async with opened(database, store) as harness:
        await register_keys(harness)
        yield TranscriptionPractice(harness, ScriptedSpeech())


async def consents(
    words: TranscriptionPractice,
    consultation: UUID,
    kind: str,
    *decisions: tuple[str, str],
    guest_role: str | None = None,
    has_joined: bool = False,
) -> UUID:
    """Insert a participant with these consent decisions. Each consent decision includes the version of the consent
    text.
    """
    practice = words.harness.practice
    joined_at = practice.now() if has_joined else None
    participant = practice.participant(consultation, kind, guest_role=guest_role, joined_at=joined_at)
    for decision, version in decisions:
        await decide(words, participant, decision, version)
    return participant


async def decide(
    words: TranscriptionPractice, participant: UUID, decision: str, version: str = "2026-12"
) -> None:
    """Insert a new consent decision of this participant."""
    words.harness.practice.consent(participant, decision, text_version=version)


async def retry(words: TranscriptionPractice, video: UUID) -> None:
    """As the recording's doctor, request that the recording is transcribed again. Raises Conflict if Resguardo
    allows no retry.
    """
    doctor, practice = words.harness.doctor, words.harness.practice
    if not await words.harness.rows("select id from auth.users where id = %s", doctor):
        practice.session(practice.user(doctor), doctor)
    pool = Pool(words.harness.database.api_url, application="test", max_size=1)
    await pool.open()
    try:
        async with pool.as_user(asker(doctor), permissions.RETRY_TRANSCRIPTION.on(video)) as tx:
            assert await store.retry(tx, video)
    finally:
        await pool.close()
