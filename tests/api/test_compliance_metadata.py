"""Tests that compliance officers read the metadata of consultations and recordings, and never their content."""

from dataclasses import replace
from uuid import UUID

import pytest

from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person
from tests.api.shown import named_in, shown_in

pytestmark = pytest.mark.anyio

BASIS = ("compliance", "compliance_review", "OPERATIONS", "ALLOWED")


async def _basis(harness: ApiHarness, request_id: str) -> tuple[str, ...]:
    (row,) = await harness.audit(request_id)
    return row["actor_role"], row["basis"], row["purpose"], row["outcome"]


@pytest.mark.parametrize("key", ["id", "externalId"])
async def test_officer_reads_a_consultation_with_its_participants_and_consents(
    harness: ApiHarness, case: Case, officer: Person, key: str
) -> None:
    await case.consent()
    answer = await officer.send(documents.CONSULTATION_BY[key], **{key: case.consultation[key]})
    found = answer.data["consultation"]
    assert found["id"] == case.id
    assert {one["hasConsented"] for one in found["participants"]} == {True}
    assert len(found["consents"]) == 2
    assert await _basis(harness, answer.request_id) == BASIS
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["patient_ids"], row["consultation_ids"]) == (
        "consultation.read",
        [UUID(case.patient_id)],
        [UUID(case.id)],
    )


async def test_officer_lists_the_consultations_of_all_doctors(harness: ApiHarness, officer: Person) -> None:
    first = await harness.case(scheduledAt="2199-01-01T10:00:00Z")
    second = await harness.case(scheduledAt="2199-01-02T10:00:00Z")
    answer = await officer.send(documents.CONSULTATIONS, first=2)
    edges = answer.data["consultations"]["edges"]
    assert [edge["node"]["id"] for edge in edges] == [second.id, first.id]
    assert await _basis(harness, answer.request_id) == BASIS
    (row,) = await harness.audit(answer.request_id)
    assert set(row["consultation_ids"]) == {UUID(first.id), UUID(second.id)}


async def test_officer_reads_the_state_of_a_recording_and_of_its_transcription(
    harness: ApiHarness, case: Case, officer: Person, recording: UUID
) -> None:
    answer = await officer.send(documents.RECORDING, id=str(recording))
    found = answer.data["recording"]
    assert (found["status"], found["transcription"]["status"]) == ("READY", "READY")
    assert await _basis(harness, answer.request_id) == BASIS
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], named_in(row), row["patient_ids"]) == (
        "recording.read",
        shown_in(answer),
        [UUID(case.patient_id)],
    )


@pytest.mark.parametrize(
    ("document", "key"),
    [
        (documents.TRANSCRIPT, "id"),
        (documents.STORED_OBJECT, "id"),
        (documents.ISSUE_SUBTITLE_URLS, "id"),
        (documents.ISSUE_URL, "recordingId"),
        (documents.ISSUE_PLAYBACK_URL, "recordingId"),
        (documents.CREATE_CLIP, "recordingId"),
        (documents.ISSUE_THUMBNAIL_URL, "id"),
        (documents.TRANSCRIPT_SEARCH, "query"),
        (documents.RECORDINGS, "after"),
    ],
)
async def test_officer_gets_no_content(
    harness: ApiHarness, officer: Person, recording: UUID, document: str, key: str
) -> None:
    given = {"query": "headache", "after": None}.get(key, str(recording))
    variables: dict[str, object] = {key: given}
    if "$purposeOfUse" in document:
        variables["purposeOfUse"] = "OPERATIONS"
    if "$start" in document:
        variables |= {"start": 0, "end": 1}
    answer = await officer.send(document, **variables)
    assert answer.error.code == "FORBIDDEN", answer.body
    assert answer.error.reason == "wrong_role"
    rows = await harness.audit(answer.request_id)
    assert rows[-1]["outcome"] == "DENIED"


@pytest.mark.parametrize("why", ["second_factor_needed", "session_over", "staff_suspended"])
async def test_officer_without_a_valid_session_reads_no_metadata(
    harness: ApiHarness, case: Case, officer: Person, recording: UUID, why: str
) -> None:
    if why == "second_factor_needed":
        officer = await harness.with_session(officer, aal="aal1")
    elif why == "session_over":
        await harness.end_session(officer)
    else:
        await harness.rows(
            "update resguardo.staff set status = 'suspended', suspended_at = now() where user_id = %s",
            officer.user_id,
        )
    for document, variables in (
        (documents.CONSULTATION, {"id": case.id}),
        (documents.CONSULTATIONS, {}),
        (documents.RECORDING, {"id": str(recording)}),
    ):
        answer = await officer.send(document, **variables)
        assert answer.error.reason == why
        (row,) = await harness.audit(answer.request_id)
        assert (row["actor_role"], row["basis"], row["outcome"], row["reason"]) == (
            "compliance",
            "refused",
            "DENIED",
            why,
        )


async def test_absent_consultation_is_absent_for_an_officer(harness: ApiHarness, officer: Person) -> None:
    answer = await officer.send(documents.CONSULTATION_BY_EXTERNAL_ID, externalId="no-such-visit")
    assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "consultation_not_found")
    (row,) = await harness.audit(answer.request_id)
    assert row["outcome"] == "ABSENT"


async def test_officer_without_a_token_reads_nothing(case: Case, officer: Person) -> None:
    stranger = replace(officer, token=None)
    assert (await stranger.refused(documents.CONSULTATION, id=case.id))[0] == "UNAUTHENTICATED"
