"""Test helpers that store insights with lines for a note, and read signed notes."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from app.insights.drafts import Insights, NoteDraft
from app.insights.encryption import insights_field
from app.insights.flags.checker import Checker
from app.insights.insights_format import StoredInsights, format_insights
from app.insights.model import Citation, Line
from app.insights.numbered import number_lines
from app.insights.writing.coverage import measure_coverage
from app.notes.note_format import SignedNote, parse_note
from app.notes.signed_store import version_field
from app.transcripts.model import Transcript
from tests.api.harness import ApiHarness

SUGGESTED = NoteDraft(
    subjective=(
        Line("Headaches for two weeks.", (Citation(1, "For two weeks, and the pills do nothing."),)),
    ),
    plan=(
        Line("Ibuprofen 600 mg twice a day.", (Citation(2, "Take ibuprofen, 400 mg, twice a day."),)),
        Line("Take ibuprofen.", (Citation(2, "Take ibuprofen, 400 mg"),)),
    ),
)
"""Lines about `speaking.SAID`. The second has a wrong dose."""


async def store_suggestions(
    harness: ApiHarness,
    recording: UUID,
    transcript: Transcript,
    note: NoteDraft = SUGGESTED,
    *,
    generation: int = 1,
    status: str = "READY",
) -> None:
    """Store insights with these lines for a note, in the same way as the worker."""
    insights = number_lines(Insights(note=note), transcript.turns, Checker(transcript.turns).flag)
    coverage = measure_coverage(
        transcript.turns, duration_ms=None, is_truncated=False, is_interrupted=False, unused_track_count=0
    )
    keyring = harness.worker_settings.keyring
    (key,) = await harness.rows(
        "select wrapped_key, root_key_id from private.recording_keys where recording_id = %s", recording
    )
    ciphertext = keyring.unwrap(key["wrapped_key"], key["root_key_id"]).encrypt(
        insights_field(recording, generation), format_insights(StoredInsights(insights, coverage))
    )
    harness.practice.insights(recording, status)
    await harness.rows(
        "update resguardo.insights set generation = %s, vendor = 'resguardo', model = 'resguardo-extract'"
        " where recording_id = %s",
        generation,
        recording,
    )
    await harness.rows(
        "insert into private.insight_texts (recording_id, generation, ciphertext) values (%s, %s, %s)"
        " on conflict (recording_id) do update set generation = excluded.generation, ciphertext = excluded.ciphertext",
        recording,
        generation,
        ciphertext,
    )


async def read_signed(harness: ApiHarness, recording: UUID) -> list[tuple[SignedNote, str]]:
    """Return the signed versions of the note on a recording, and the SHA-256 that the database has of each."""
    rows = await harness.rows(
        "select n.id, n.patient_id, v.version, v.sha256, t.ciphertext, k.wrapped_key, k.root_key_id"
        " from resguardo.signed_notes as n join resguardo.signed_note_versions as v on v.note_id = n.id"
        " join private.signed_note_texts as t on t.note_id = v.note_id and t.version = v.version"
        " join private.patient_keys as k on k.patient_id = n.patient_id"
        " where n.recording_id = %s order by v.version",
        recording,
    )
    found = []
    for row in rows:
        key = harness.worker_settings.keyring.unwrap(row["wrapped_key"], row["root_key_id"])
        place = version_field(row["id"], row["version"], row["patient_id"])
        found.append((parse_note(key.decrypt(place, row["ciphertext"])), row["sha256"]))
    return found


def texts_of(draft: Mapping[str, object]) -> dict[str, Sequence[str]]:
    """Return the texts of the lines of each section that has any."""
    sections = draft["sections"]
    assert isinstance(sections, list)
    return {one["section"]: [line["text"] for line in one["lines"]] for one in sections if one["lines"]}
