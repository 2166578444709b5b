"""Tests of the metadata below a transcript and below the hits of a search: one statement reads it, and one audit row
names all of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.postgres.database import Transaction
from app.transcripts.model import Speaker
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person
from tests.api.shown import named_in, shown_in
from tests.api.speaking import store_transcript

pytestmark = pytest.mark.anyio

DEEP = """
  id languageCode
  recording {
    id status isHeld retentionEndsAt transcription { status } deletion { id } mediaFiles { id participant { id } }
    consultation {
      id externalId scheduledAt patient { id externalId } consents { id participant { id } } participants { id }
      recordings(first: 2) { edges { node { id status } } pageInfo { hasNextPage } }
    }
  }
  turns { number text participant { id kind guestRole mustConsent hasConsented joinedAt } }
"""
TRANSCRIPT = f"query ($id: ID!) {{ transcript(recordingId: $id) {{ {DEEP} }} }}"
CORRECT = f"""
mutation ($id: ID!, $text: String!) {{
  correctTranscript(input: {{recordingId: $id, turnNumber: 0, text: $text}}) {{ transcript {{ {DEEP} }} }}
}}
"""
SEARCH = """
query ($query: String!, $first: Int! = 20, $filter: TranscriptFilter) {
  transcriptSearch(query: $query, first: $first, filter: $filter) {
    hits {
      turnNumber participant { id kind hasConsented }
      recording {
        id status mediaFiles { id }
        consultation {
          id externalId patient { id externalId } participants { id }
          recordings(first: 1) { edges { node { id } } pageInfo { hasNextPage } }
        }
      }
      snippet { text isMatch }
    }
  }
}
"""
ONLY_TEXT = (
    "query ($query: String!) { transcriptSearch(query: $query) { hits { turnNumber snippet { text } } } }"
)


@contextmanager
def _counted_statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    statements: list[str] = []
    for name in ("_execute", "all_in_binary"):
        through = getattr(Transaction, name)

        async def counted(self: Transaction, sql: str, *given: Any, through: Any = through) -> Any:
            statements.append(sql)
            return await through(self, sql, *given)

        monkeypatch.setattr(Transaction, name, counted)
    yield statements
    monkeypatch.undo()


async def _spoken(harness: ApiHarness, case: Case, *said: str) -> UUID:
    """Return a new recording with these turns, which the doctor and the patient speak by turns."""
    recording = await harness.recording(case)
    people = [UUID(case.participant(kind)) for kind in ("DOCTOR", "PATIENT")]
    await store_transcript(
        harness,
        recording,
        tuple(
            (Speaker.DOCTOR if number % 2 == 0 else Speaker.PATIENT, text) for number, text in enumerate(said)
        ),
        microphones=[people[number % 2] for number in range(len(said))],
    )
    return recording


@pytest.mark.parametrize("field", ["transcript", "correctTranscript"])
async def test_one_audit_row_names_the_transcript_and_all_metadata_below_it(
    harness: ApiHarness, case: Case, field: str
) -> None:
    await case.consent()
    await harness.recording(case, "FAILED")
    await harness.recording(case, "FAILED")
    recording = await _spoken(harness, case, "Hello.", "Hello, doctor.")
    if field == "transcript":
        answer = await case.doctor.send(TRANSCRIPT, id=str(recording))
    else:
        answer = await case.doctor.send(CORRECT, id=str(recording), text="Good evening.")
    read = answer.value
    assert read["recording"]["consultation"]["externalId"] == case.consultation["externalId"]
    assert read["recording"]["consultation"]["recordings"]["pageInfo"] == {"hasNextPage": True}
    assert [turn["participant"]["kind"] for turn in read["turns"]] == ["DOCTOR", "PATIENT"]
    assert [turn["participant"]["hasConsented"] for turn in read["turns"]] == [True, True]
    (row,) = await harness.audit(answer.request_id)
    assert row["action"] == ("transcript.read" if field == "transcript" else "transcript.correct")
    assert named_in(row) == shown_in(answer)
    assert {"turns.participant.mustConsent", "recording.consultation.patient.externalId"} <= set(
        row["fields"]
    )
    assert "unregistered" not in row["fields"]
    assert row["patient_ids"] == [UUID(case.patient_id)]


async def test_number_of_statements_does_not_depend_on_the_number_of_turns_or_hits(
    harness: ApiHarness, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = await _spoken(harness, case, "An osteotomy.")
    long = await _spoken(harness, case, *("An osteotomy.", "Yes.") * 150)
    counts = []
    for recording in (short, long):
        within = {"filter": {"recordingId": str(recording)}, "first": 50}
        for document, given in (
            (TRANSCRIPT, {"id": str(recording)}),
            (SEARCH, {"query": "osteotomy", **within}),
        ):
            with _counted_statements(monkeypatch) as statements:
                assert (await case.doctor.send(document, **given)).data
            counts.append(len(statements))
    assert counts == [1, 3, 1, 3]


async def test_search_reads_and_names_the_metadata_of_its_hits_only(harness: ApiHarness) -> None:
    doctor = await harness.clinician()
    cases = [await harness.case(doctor) for _ in range(3)]
    recordings = [str(await _spoken(harness, case, "Stenosis.", "Fine.")) for case in cases]
    answer = await doctor.send(SEARCH, query="stenosis", first=1)
    (hit,) = answer.value["hits"]
    (shown,) = [case for case in cases if case.id == hit["recording"]["consultation"]["id"]]
    assert hit["recording"]["consultation"]["externalId"] == shown.consultation["externalId"]
    assert hit["participant"]["id"] == shown.participant("DOCTOR")
    (row,) = await harness.audit(answer.request_id)
    assert named_in(row) == shown_in(answer) | {"recording": set(recordings)}
    assert named_in(row)["patient"] == {shown.patient_id}
    assert set(row["patient_ids"]) == {UUID(case.patient_id) for case in cases}  # whose text was decrypted
    assert "recording.consultation.recordings.edges.node.id" in row["fields"]


async def test_search_without_metadata_names_only_the_decrypted_recordings(
    harness: ApiHarness, case: Case
) -> None:
    recording = await _spoken(harness, case, "A bursitis.")
    answer = await case.doctor.send(ONLY_TEXT, query="bursitis")
    (row,) = await harness.audit(answer.request_id)
    assert (named_in(row), row["fields"]) == (
        {"recording": {str(recording)}},
        ["snippet.text", "turnNumber"],
    )


async def test_transcript_without_participants_names_none(harness: ApiHarness, case: Case) -> None:
    recording = await _spoken(harness, case, "Hello.")
    document = "query ($id: ID!) { transcript(recordingId: $id) { id turns { text } } }"
    answer = await case.doctor.send(document, id=str(recording))
    (row,) = await harness.audit(answer.request_id)
    assert (named_in(row), row["fields"]) == (
        {"recording": {str(recording)}, "transcript": {answer.value["id"]}},
        ["id", "turns.text"],
    )


async def test_participants_of_two_aliases_are_both_shown(harness: ApiHarness, case: Case) -> None:
    recording = await _spoken(harness, case, "Hello.")
    document = """
    query ($id: ID!) {
      transcript(recordingId: $id) {
        a: turns { participant { id } } b: turns { who: participant { kind } text }
        r: recording { id } s: recording { consultation { id } }
      }
    }
    """
    read = await case.doctor.ask(document, id=str(recording))
    assert read == {
        "a": [{"participant": {"id": case.participant("DOCTOR")}}],
        "b": [{"who": {"kind": "DOCTOR"}, "text": "Hello."}],
        "r": {"id": str(recording)},
        "s": {"consultation": {"id": case.id}},
    }


@pytest.mark.parametrize("document", [TRANSCRIPT, CORRECT])
async def test_refused_transcript_shows_and_names_no_metadata(
    harness: ApiHarness, case: Case, document: str
) -> None:
    recording = await _spoken(harness, case, "Hello.")
    other = await harness.clinician()
    given = {"text": "No."} if document == CORRECT else {}
    bodies = []
    for wanted, outcome in ((str(recording), "DENIED"), (str(uuid4()), "ABSENT")):
        answer = await other.send(document, id=wanted, **given)
        bodies.append(answer.response.text.replace(answer.error.extensions["requestId"], ""))
        (row,) = await harness.audit(answer.request_id)
        assert (row["outcome"], named_in(row), row["row_count"]) == (outcome, {"recording": {wanted}}, 0)
    assert bodies[0] == bodies[1]


async def test_transcript_that_is_not_ready_shows_no_metadata(harness: ApiHarness, case: Case) -> None:
    recording = harness.practice.transcript(await harness.recording(case), "PENDING")
    answer = await case.doctor.send(TRANSCRIPT, id=str(recording))
    assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "transcript_not_found")
    (row,) = await harness.audit(answer.request_id)
    assert (row["outcome"], named_in(row), row["row_count"]) == (
        "ALLOWED",
        {"recording": {str(recording)}},
        0,
    )


@pytest.mark.parametrize("role", ["patient", "compliance"])
async def test_other_roles_read_no_transcript_and_no_metadata_below_it(
    harness: ApiHarness, case: Case, role: str
) -> None:
    recording = await _spoken(harness, case, "Hello.")
    person = case.patient if role == "patient" else await harness.staff("compliance")
    for document, given in ((TRANSCRIPT, {"id": str(recording)}), (SEARCH, {"query": "hello"})):
        answer = await person.send(document, **given)
        assert (answer.error.code, answer.error.reason) == ("FORBIDDEN", "wrong_role")
        (row,) = await harness.audit(answer.request_id)
        assert (row["outcome"], row["row_count"]) == ("DENIED", 0)


@pytest.mark.parametrize(
    ("page", "reason"), [("first: 26", "bad_page_size"), ('first: 1, after: "x"', "bad_cursor")]
)
async def test_invalid_page_below_hits_or_transcripts_is_refused_even_if_nothing_is_found(
    harness: ApiHarness, case: Case, page: str, reason: str
) -> None:
    recording = await _spoken(harness, case, "A hallux.")
    searching, reading = (
        one.replace("first: 1", page).replace("first: 2", page) for one in (SEARCH, TRANSCRIPT)
    )
    for query in ("hallux", "nobody-said-this"):
        assert await case.doctor.refused(searching, query=query) == ("INVALID_INPUT", reason)
    for wanted in (recording, uuid4()):
        assert await case.doctor.refused(reading, id=str(wanted)) == ("INVALID_INPUT", reason)


async def test_search_is_not_answered_if_the_commit_cannot_write_its_audit_row(
    harness: ApiHarness, case: Case
) -> None:
    await _spoken(harness, case, "A torticollis.")
    await harness.rows(
        "create function audit.fail_search() returns trigger language plpgsql as"
        " $$ begin raise exception 'full' using errcode = '53100'; end $$"
    )
    await harness.rows(
        "create trigger fail_search before insert on audit.events for each row"
        " when (new.action = 'transcript.search' and new.outcome = 'ALLOWED') execute function audit.fail_search()"
    )
    await harness.rows("alter table audit.events enable always trigger fail_search")
    try:
        answer = await case.doctor.send(SEARCH, query="torticollis")
    finally:
        await harness.rows("drop function audit.fail_search() cascade")
    assert answer.error.code == "UPSTREAM_FAILED"
    assert "orticollis" not in answer.response.text
    assert await harness.rows("select from private.searches") == []
    assert (await case.doctor.ask(SEARCH, query="torticollis"))["hits"]


async def _refused_change(
    harness: ApiHarness, person: Person, document: str, **given: object
) -> tuple[str | None, str, dict[str, set[str]], int]:
    answer = await person.send(document, **given)
    (row,) = await harness.audit(answer.request_id)
    return answer.error.reason, row["outcome"], named_in(row), row["row_count"]


async def test_refused_retry_and_switch_write_one_audit_row(harness: ApiHarness, case: Case) -> None:
    recording, other = await _spoken(harness, case, "Hello."), await harness.clinician()
    without, unknown = str(await harness.recording(case)), str(uuid4())
    retry = documents.RETRY_TRANSCRIPTION
    for person, wanted, outcome in (
        (other, str(recording), "DENIED"),
        (other, unknown, "ABSENT"),
        (case.doctor, without, "ALLOWED"),
    ):
        told = await _refused_change(harness, person, retry, id=wanted)
        assert told == ("transcript_not_found", outcome, {"recording": {wanted}}, 0)
    told = await _refused_change(harness, case.doctor, retry, id=str(recording))
    assert told == ("transcription_not_failed", "FAILED", {"recording": {str(recording)}}, 0)
    for wanted, outcome in ((case.id, "DENIED"), (unknown, "ABSENT")):
        told = await _refused_change(
            harness, other, documents.SWITCH_TRANSCRIPTION, consultationId=wanted, isTranscribed=False
        )
        assert told == ("consultation_not_found", outcome, {"consultation": {wanted}}, 0)
    assert (await case.doctor.ask(documents.CONSULTATION, id=case.id))["isTranscribed"]
