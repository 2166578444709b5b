"""Provides READY transcripts, and a worker that writes insights and that a test can let die at any step.

A script replaces the language service. Without an order of the script, the service answers as the extractive writer
does, but as a vendor that charges. The database is real.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import pytest

from app.insights import encryption
from app.insights.insights_format import StoredInsights, parse_insights
from app.insights.service import InsightsReads
from app.insights.writer import InsightsWriter
from app.insights.writing import requests
from app.insights.writing.extractive import answer_request
from app.insights.writing.tasks import read_task
from app.integrations.language.port import Language, LanguageAnswer, LanguageRequest, LanguageUsage
from app.keys.keyring import FieldKey
from app.postgres.database import Asker
from app.postgres.database import Database as Pool
from app.transcripts.corrections import Rewording
from app.transcripts.encryption import correction_field, transcript_field
from app.transcripts.model import Transcript, Turn
from app.transcripts.transcript_format import format_correction, format_transcript
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.recording_harness import asker
from tests.integration.retention_harness import KEYRING, RetentionHarness, opened
from tests.integration.transcription_setup import Life, MortalDoors, register_keys
from tests.unit.dialogues import dialogue

VENDOR: Final = "llm.example.com"
MODEL: Final = "test-model-1"
TOKENS: Final = (1000, 400, 50)
"""The input tokens, the cached ones among them, and the output tokens of each answer."""
SAID: Final = (
    "D: What brings you in today?",
    "P: I have had a headache for three days, mostly on the left side.",
    "D: Do you have any allergies?",
    "P: Yes, I am allergic to penicillin.",
    "D: Do you take any medication?",
    "P: I take metformin 500 milligrams twice a day.",
    "D: Your blood pressure is 142 over 90 today.",
    "P: My mother had high blood pressure too.",
    "D: I think this is a tension headache.",
    "P: Should I be worried about it?",
    "D: Please take ibuprofen 400 milligrams and come back in two weeks.",
    "P: Thank you, I will do that.",
)
PARTS: Final = 3
"""The number of parts into which a practice with `part_turns=4` divides what is said."""
Script = Callable[[int, bool], Awaitable[str | None]]


@dataclass
class ScriptedLanguage:
    """A scripted language service. For each request, it calls `script` with the number of the part, counted from 0,
    and whether the request is a repair. The script returns the text of the answer, or None for a good answer.
    """

    script: Script | None = None
    life: Life = field(default_factory=Life)
    vendor: str = VENDOR
    model: str = MODEL
    asked: list[tuple[int, bool]] = field(default_factory=list)

    async def write(self, request: LanguageRequest) -> LanguageAnswer:
        self.life.step()
        task = read_task(request.task)
        asked = (task.part - 1, "was rejected" in request.task)
        self.asked.append(asked)
        text = await self.script(*asked) if self.script is not None else None
        self.life.step()
        usage = LanguageUsage(self.vendor, self.model, *TOKENS)
        return LanguageAnswer(answer_request(request) if text is None else text, usage)

    @property
    def parts(self) -> list[int]:
        """Return the part of each request, in order."""
        return [part for part, _ in self.asked]


@dataclass
class InsightsPractice:
    """A practice with READY transcripts, and the scripted language service."""

    harness: RetentionHarness
    language: ScriptedLanguage

    async def transcribed(
        self, *said: str, consultation: UUID | None = None, turns: Sequence[Turn] | None = None
    ) -> UUID:
        """Insert a READY recording whose transcript has just become READY. Return the recording's id."""
        video = await self.harness.recording(consultation)
        await self.store_transcript(video, turns if turns is not None else dialogue(*(said or SAID)))
        return video

    async def store_transcript(self, video: UUID, turns: Sequence[Turn]) -> None:
        """Store a transcript in the same way as the worker that transcribes."""
        text = (await self._key(video)).encrypt(
            transcript_field(video), format_transcript(Transcript(tuple(turns), "en"))
        )
        await self.harness.rows(
            "insert into private.transcript_texts (recording_id, ciphertext, terms) values (%s, %s, '{}')"
            " on conflict (recording_id) do update set ciphertext = excluded.ciphertext",
            video,
            text,
        )
        await self.harness.rows(
            "update resguardo.transcripts set status = 'READY', error = null, language = 'en'"
            " where recording_id = %s",
            video,
        )

    async def correct(self, video: UUID, turn_number: int, text: str) -> None:
        """Add a correction to the transcript, as its doctor would."""
        count = await self.harness.value(
            "select count(*) from private.transcript_corrections where recording_id = %s", video
        )
        key = await self._key(video)
        correction = format_correction(Rewording(turn_number, 1, text))
        await self.harness.rows(
            "insert into private.transcript_corrections (recording_id, number, ciphertext, corrected_by)"
            " values (%s, %s, %s, %s)",
            video,
            count + 1,
            key.encrypt(correction_field(video, count + 1), correction),
            self.harness.doctor,
        )

    def writer(self, life: Life | None = None, language: Language | None = None) -> InsightsWriter:
        """Return a writer for a new run of the worker."""
        self.language.life = life or Life()
        doors = MortalDoors(self.harness.worker, self.language.life)
        return InsightsWriter(doors, language or self.language, KEYRING)

    async def write(self, video: UUID) -> None:
        """Run the worker's job."""
        await self.writer().write(video)

    async def state_of(self, video: UUID) -> tuple[str, str | None]:
        """Return the status and the error of the insights."""
        rows = await self.harness.rows(
            "select status, error from resguardo.insights where recording_id = %s", video
        )
        return tuple(rows[0].values())

    async def progress_of(self, video: UUID) -> tuple[int, int | None]:
        """Return how many parts are done, and how many there are."""
        rows = await self.harness.rows(
            "select parts_done, part_count from resguardo.insights where recording_id = %s", video
        )
        return tuple(rows[0].values())

    async def answered(self, video: UUID) -> list[int]:
        """Return the parts whose first answer is stored."""
        rows = await self.harness.rows(
            "select part from private.insight_answers where recording_id = %s and round = 0"
            " and ciphertext is not null order by part",
            video,
        )
        return [row["part"] for row in rows]

    async def insights_of(self, video: UUID) -> StoredInsights:
        """Read the encrypted insights of this recording, and return them decrypted."""
        rows = await self.harness.rows(
            "select generation, ciphertext from private.insight_texts where recording_id = %s", video
        )
        generation, ciphertext = rows[0].values()
        place = encryption.insights_field(video, generation)
        return parse_insights((await self._key(video)).decrypt(place, ciphertext))

    async def tokens(self) -> tuple[int, int, int]:
        """Return the input, cached and output tokens in the cost ledger."""
        rows = await self.harness.rows(
            "select unit, sum(quantity)::bigint as used from private.cost_entries where kind = 'LANGUAGE' group by 1"
        )
        used = {row["unit"]: row["used"] for row in rows}
        units = ("INPUT_TOKENS", "CACHED_TOKENS", "OUTPUT_TOKENS")
        return tuple(used.get(unit, 0) for unit in units)

    @asynccontextmanager
    async def as_doctor(self) -> AsyncIterator[tuple[InsightsReads, Asker]]:
        """Yield the service with which the recordings' doctor reads insights, and the doctor."""
        doctor, practice = self.harness.doctor, self.harness.practice
        if not await self.harness.rows("select id from auth.users where id = %s", doctor):
            practice.session(practice.user(doctor), doctor)
        pool = Pool(self.harness.database.api_url, application="test", max_size=1)
        await pool.open()
        try:
            yield InsightsReads(pool, KEYRING), asker(doctor)
        finally:
            await pool.close()

    async def _key(self, video: UUID) -> FieldKey:
        rows = await self.harness.rows(
            "select wrapped_key, root_key_id from private.recording_keys where recording_id = %s", video
        )
        return KEYRING.unwrap(*rows[0].values())


@asynccontextmanager
async def open_insights_practice(
    database: Database, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, part_turns: int
) -> AsyncIterator[InsightsPractice]:
    """Yield a practice in whose database the root keys are registered, and a scripted language service. A request has
    at most `part_turns` turns.
    """
    monkeypatch.setattr(requests, "MAX_PART_TURNS", part_turns)
    async with opened(database, store) as harness:
        await register_keys(harness)
        await harness.rows(
            "insert into private.language_budget (tokens_per_day) values (1000000)"
            " on conflict (singleton) do update set tokens_per_day = excluded.tokens_per_day"
        )
        yield InsightsPractice(harness, ScriptedLanguage())
