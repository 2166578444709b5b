"""A test helper that stores insights into recordings in the same way as the worker."""

from typing import Final
from uuid import UUID

from app.insights import encryption, store
from app.insights.drafts import (
    ActionItem,
    Chapter,
    Highlight,
    HighlightReason,
    Insights,
    NoteDraft,
    Responsible,
    Topic,
)
from app.insights.flags.checker import Checker
from app.insights.insights_format import StoredInsights, format_insights
from app.insights.model import Citation, Line
from app.insights.numbered import number_lines
from app.insights.topics import encrypt_topics
from app.insights.writing.coverage import UncitedKind, UncitedTurn, measure_coverage
from app.transcripts.model import Transcript
from tests.api.harness import ApiHarness

VENDOR: Final = "language.test"
MODEL: Final = "gpt-test"

HEADACHES: Final = Line("Headaches for two weeks.", (Citation(1, "For two weeks"),))
DOSE: Final = Line("Ibuprofen 400 mg twice a day.", (Citation(2, "Take ibuprofen, 400 mg, twice a day"),))
WRONG_DOSE: Final = Line(
    "Ibuprofen 600 mg twice a day.", (Citation(2, "Take ibuprofen, 400 mg, twice a day"),)
)
OF_SAID: Final = Insights(
    summary=(HEADACHES,),
    key_points=(HEADACHES, WRONG_DOSE),
    action_items=(ActionItem(DOSE, Responsible.PATIENT, "twice a day"),),
    topics=(
        Topic("headaches", Citation(0, "had the headaches")),
        Topic("ibuprofen", Citation(2, "Take ibuprofen, 400 mg")),
    ),
    chapters=(Chapter("Headaches", 0, Citation(0, "had the headaches")),),
    highlights=(Highlight(10_000, 14_000, HighlightReason.MEDICATION, DOSE),),
    note=NoteDraft(subjective=(HEADACHES,), plan=(DOSE,)),
)
"""Insights into `speaking.SAID`. Their lines have the numbers 1 to 10."""


async def store_insights(
    harness: ApiHarness, recording: UUID, transcript: Transcript, insights: Insights = OF_SAID
) -> None:
    """Store insights into a recording with this transcript. Everybody must have consented."""
    keyring = harness.worker_settings.keyring
    coverage = measure_coverage(
        transcript.turns, duration_ms=None, is_truncated=False, is_interrupted=False, unused_track_count=0
    )
    numbered = number_lines(insights, transcript.turns, Checker(transcript.turns).flag)
    uncited = UncitedTurn(1, frozenset({UncitedKind.MEDICATION}), ("the pills do nothing",))
    async with harness.services.database.as_service("write_insights") as tx:
        begun = await store.begin(tx, recording, is_charged=False)
        assert begun is not None, "the insights may not be written"
        await store.store_part_count(tx, recording, begun.run, 1)
        key = keyring.unwrap(begun.wrapped, begun.root_key_id)
        place = encryption.insights_field(recording, begun.generation)
        finished = store.FinishedInsights(
            ciphertext=key.encrypt(place, format_insights(StoredInsights(numbered, coverage, (uncited,)))),
            topics=encrypt_topics(key, recording, begun.generation, numbered.topics),
            language="en",
            vendor=VENDOR,
            model=MODEL,
            dropped_count=2,
        )
        await store.finish(tx, recording, begun, finished)
