"""Tests of deletions on request: the grace period, legal holds, and the certificate."""

import base64
import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.certificates.pdf import read_attachment
from app.certificates.signing import CertificateSigner, check
from tests.api import documents
from tests.api.deleting import destroy_recording, request_deletion
from tests.api.harness import ApiHarness, Case, Person, ids_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def recording(harness: ApiHarness, case: Case) -> UUID:
    """Return a READY recording of the consultation."""
    return await harness.recording(case)


async def delete(person: Person, recording: UUID, reason: str = "RECORDED_IN_ERROR") -> Any:
    """Request the deletion of the recording. Return the answer."""
    return await person.ask(documents.DELETE_RECORDING, id=str(recording), reason=reason)


async def status_of(harness: ApiHarness, recording: UUID) -> str:
    (row,) = await harness.rows("select status from resguardo.recordings where id = %s", recording)
    return str(row["status"])


async def test_deletion_by_the_doctor_starts_the_grace_period(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    asked = await delete(doctor, recording)
    assert (asked["status"], asked["ground"], asked["reason"]) == (
        "REQUESTED",
        "REQUEST",
        "RECORDED_IN_ERROR",
    )
    grace = datetime.fromisoformat(asked["undoUntil"]) - datetime.fromisoformat(asked["requestedAt"])
    assert timedelta(days=6.9) < grace < timedelta(days=7.1)
    await harness.services.destroyer.run_once()
    assert await status_of(harness, recording) == "READY"


_PARTS = """
  fragment Parts on Recording {
    id status isHeld retentionEndsAt updatedAt
    deletion { id status reason requestedAt undoUntil finishedAt requestedBy { id } }
    consultation { id externalId patient { id externalId } }
  }
"""
PAGE = f"query ($id: ID!) {{ recording(by: {{id: $id}}) {{ __typename ...Parts }} }} {_PARTS}"
CHANGES = {
    "deleteRecording": f"""
      mutation ($id: ID!) {{
        deleteRecording(input: {{recordingId: $id, reason: PATIENT_ASKED}}) {{
          deletion {{ id status recording {{ id status }} }} recording {{ ...Parts }}
        }}
      }} {_PARTS}
    """,
    "undoDeletion": f"""
      mutation ($id: ID!) {{
        undoDeletion(input: {{recordingId: $id}}) {{
          deletion {{ id status recording {{ id status }} }} recording {{ ...Parts }}
        }}
      }} {_PARTS}
    """,
}
"""The mutations with everything that a page of a recording shows and a deletion may change."""


@pytest.mark.parametrize("is_doctor", [True, False])
async def test_payload_shows_the_recording_as_a_page_of_it_does(
    doctor: Person, officer: Person, recording: UUID, *, is_doctor: bool
) -> None:
    """A normalised cache therefore needs no further read: it merges the payload under the id of the recording."""
    person = doctor if is_doctor else officer
    before = await person.ask(PAGE, id=str(recording))
    assert before["deletion"] is None
    for mutation, status in (("deleteRecording", "REQUESTED"), ("undoDeletion", "UNDONE")):
        payload = await person.ask(CHANGES[mutation], id=str(recording))
        assert before | payload["recording"] == await person.ask(PAGE, id=str(recording))
        assert payload["deletion"] == {
            "id": payload["recording"]["deletion"]["id"],
            "status": status,
            "recording": {"id": str(recording), "status": "READY"},
        }
        assert payload["recording"]["deletion"]["status"] == status


async def test_payload_shows_a_hold_and_a_retention_end_that_changed_meanwhile(
    harness: ApiHarness, case: Case, doctor: Person, officer: Person, recording: UUID
) -> None:
    asked = (await doctor.ask(CHANGES["deleteRecording"], id=str(recording)))["recording"]
    assert (asked["isHeld"], asked["retentionEndsAt"]) == (False, None)
    harness.practice.hold(officer.user_id, consultation_id=UUID(case.id))
    await harness.rows(
        "update resguardo.recordings set due_at = '2040-02-29T00:00:00Z' where id = %s returning id",
        recording,
    )
    undone = (await doctor.ask(CHANGES["undoDeletion"], id=str(recording)))["recording"]
    assert (undone["isHeld"], undone["retentionEndsAt"]) == (True, "2040-02-29T00:00:00+00:00")
    assert undone == {
        name: value
        for name, value in (await doctor.ask(PAGE, id=str(recording))).items()
        if name != "__typename"
    }


async def test_law_1_change_and_its_answer_have_one_audit_row(
    harness: ApiHarness, case: Case, doctor: Person, recording: UUID
) -> None:
    (kept,) = await harness.rows("select size_bytes from resguardo.recordings where id = %s", recording)
    for mutation, action, reason, size in (
        ("deleteRecording", "recording.delete", "patient_asked", kept["size_bytes"]),
        ("undoDeletion", "recording.undo_delete", None, None),
    ):
        answer = await doctor.send(CHANGES[mutation], id=str(recording))
        (row,) = await harness.audit(answer.request_id)
        assert (row["action"], row["outcome"], row["reason"]) == (action, "ALLOWED", reason)
        assert (row["byte_count"], row["row_count"]) == (size, 1)
        assert {one["type"]: one["ids"] for one in row["entities"]} == {
            "deletion": [answer.data[mutation]["deletion"]["id"]],
            "recording": [str(recording)],
            "consultation": [case.id],
            "patient": [case.patient_id],
        }
        assert row["patient_ids"] == [UUID(case.patient_id)]
        assert {"status", "recording.status", "recording.consultation.patient.externalId"} <= set(
            row["fields"]
        )
        assert "unregistered" not in row["fields"]


async def test_change_without_its_recording_names_the_recording_all_the_same(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    document = "mutation ($id: ID!) { undoDeletion(input: {recordingId: $id}) { __typename } }"
    await delete(doctor, recording)
    answer = await doctor.send(document, id=str(recording))
    (row,) = await harness.audit(answer.request_id)
    assert [one["type"] for one in row["entities"]] == ["deletion", "recording"]
    assert row["entities"][1]["ids"] == [str(recording)]
    assert row["fields"] == []


async def test_list_of_deletions_shows_what_the_caller_may_read_of_each_recording(
    harness: ApiHarness, case: Case, doctor: Person, officer: Person, recording: UUID
) -> None:
    document = """
      query ($id: ID!) { deletions(filter: {recordingId: $id}) { edges { node {
        id recording { id status consultation { id patient { id externalId } } deletion { id status } }
      } } } }
    """
    asked = await delete(doctor, recording)
    for person in (doctor, officer):
        answer = await person.send(document, id=str(recording))
        (edge,) = answer.data["deletions"]["edges"]
        found = edge["node"]["recording"]
        assert (found["id"], found["status"]) == (str(recording), "READY")
        assert found["consultation"]["patient"]["externalId"] == case.registration["patientExternalId"]
        assert found["deletion"] == {"id": asked["id"], "status": "REQUESTED"}
        (row,) = await harness.audit(answer.request_id)
        assert {one["type"]: one["ids"] for one in row["entities"]} == {
            "deletion": [asked["id"]],
            "recording": [str(recording)],
            "consultation": [case.id],
            "patient": [case.patient_id],
        }


async def test_deletion_of_a_destroyed_recording_still_shows_it(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    await destroy_recording(harness, recording)
    found = await doctor.ask(documents.DELETIONS, filter={"statuses": ["DELETED"]})
    (edge,) = found["edges"]
    assert edge["node"]["recording"] == {"id": str(recording), "status": "DELETED"}


async def test_repeated_deletion_returns_the_same_deletion(doctor: Person, recording: UUID) -> None:
    first = await delete(doctor, recording)
    assert await delete(doctor, recording, "OTHER") == first


async def test_deletion_can_be_undone_and_requested_again(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    await delete(doctor, recording)
    for _ in range(2):
        undone = await doctor.ask(documents.UNDO_DELETION, recordingId=str(recording))
        assert undone["status"] == "UNDONE"
    assert (await doctor.ask(documents.ISSUE_URL, recordingId=str(recording), purposeOfUse="TREATMENT"))[
        "url"
    ]
    assert (await delete(doctor, recording))["status"] == "REQUESTED"


async def test_recording_with_a_requested_deletion_has_no_download(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    await delete(doctor, recording)
    refused = await doctor.send(documents.ISSUE_URL, recordingId=str(recording), purposeOfUse="TREATMENT")
    assert (refused.error.code, refused.error.reason) == ("CONFLICT", "recording_being_deleted")
    (row,) = await harness.audit(refused.request_id)
    assert (row["outcome"], row["reason"]) == ("FAILED", "recording_being_deleted")


async def test_deletion_cannot_be_undone_after_the_grace_period(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    await destroy_recording(harness, recording)
    assert await status_of(harness, recording) == "DELETED"
    assert await doctor.refused(documents.UNDO_DELETION, recordingId=str(recording)) == (
        "CONFLICT",
        "deletion_not_undoable",
    )
    assert await doctor.refused(documents.DELETE_RECORDING, id=str(recording), reason="OTHER") == (
        "CONFLICT",
        "recording_deleted",
    )
    found = await doctor.ask(documents.RECORDING, id=str(recording))
    assert found["status"] == "DELETED"
    assert await doctor.refused(
        documents.ISSUE_URL, recordingId=str(recording), purposeOfUse="TREATMENT"
    ) == ("CONFLICT", "recording_deleted")


async def test_compliance_deletes_any_recording_and_undoes_the_deletion(
    harness: ApiHarness, officer: Person, recording: UUID
) -> None:
    assert (await delete(officer, recording))["requestedBy"] == {"id": str(officer.user_id)}
    assert (await officer.ask(documents.UNDO_DELETION, recordingId=str(recording)))["status"] == "UNDONE"


async def test_other_callers_cannot_delete_and_get_the_answer_for_an_absent_recording(
    harness: ApiHarness, other_doctor: Person, recording: UUID
) -> None:
    for document in (documents.DELETE_RECORDING, documents.UNDO_DELETION):
        answers = []
        for wanted, outcome in ((recording, "DENIED"), (uuid4(), "ABSENT")):
            answer = await other_doctor.send(
                document, id=str(wanted), recordingId=str(wanted), reason="OTHER"
            )
            (row,) = await harness.audit(answer.request_id)
            assert (row["outcome"], ids_of(row)) == (outcome, [wanted])
            answers.append((answer.error.code, answer.error.reason, answer.error.message))
        assert answers[0] == answers[1]
        assert answers[0][:2] == ("NOT_FOUND", "recording_not_found")


@pytest.mark.parametrize("status", ["RECORDING", "VERIFYING"])
async def test_unfinished_recording_is_not_deleted(
    harness: ApiHarness, case: Case, doctor: Person, status: str
) -> None:
    await case.consent()
    recording = await harness.recording(case, status)
    assert await doctor.refused(documents.DELETE_RECORDING, id=str(recording), reason="OTHER") == (
        "CONFLICT",
        "recording_not_finished",
    )


async def test_law_7_held_recording_is_not_deleted(
    harness: ApiHarness, case: Case, doctor: Person, officer: Person, recording: UUID
) -> None:
    await request_deletion(harness, recording, grace="-1 minute")
    harness.practice.hold(officer.user_id, consultation_id=UUID(case.id))
    await harness.services.destroyer.run_once()
    assert await status_of(harness, recording) == "READY"
    for person in (doctor, officer):
        assert await person.refused(documents.DELETE_RECORDING, id=str(recording), reason="OTHER") == (
            "CONFLICT",
            "recording_held",
        )
    assert (await doctor.ask(documents.UNDO_DELETION, recordingId=str(recording)))["status"] == "UNDONE"


async def test_doctor_and_compliance_read_a_certificate_that_verifies(
    harness: ApiHarness, doctor: Person, other_doctor: Person, officer: Person, recording: UUID
) -> None:
    await destroy_recording(harness, recording)
    key = CertificateSigner.from_seed(_seed(harness)).public_key
    for person in (doctor, officer):
        answer = await person.send(documents.DELETION_CERTIFICATES, recordingId=str(recording))
        (edge,) = answer.data["deletionCertificates"]["edges"]
        found = edge["node"]
        assert check(found["json"].encode(), key).recording_id == recording
        assert read_attachment(base64.b64decode(found["pdfBase64"])) == found["json"].encode()
        (row,) = await harness.audit(answer.request_id)
        assert (row["action"], row["outcome"], ids_of(row)) == (
            "certificate.read",
            "ALLOWED",
            [recording],
        )
        assert row["fields"] == ["json", "number", "pdfBase64", "sha256"]
    denied = await other_doctor.send(documents.DELETION_CERTIFICATES, recordingId=str(recording))
    assert (denied.error.code, denied.error.reason) == ("NOT_FOUND", "certificate_not_found")
    (row,) = await harness.audit(denied.request_id)
    assert row["outcome"] == "DENIED"


async def test_certificates_are_read_page_by_page_in_the_order_of_their_numbers(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    await destroy_recording(harness, recording)
    await harness.rows(
        "insert into resguardo.certificates select (jsonb_populate_record(c, jsonb_build_object('number', n))).*"
        " from resguardo.certificates as c, generate_series(2, 3) as n where c.recording_id = %s",
        recording,
    )
    numbers, after = [], None
    for has_next in (True, False):
        answer = await doctor.send(
            documents.DELETION_CERTIFICATES, recordingId=str(recording), first=2, after=after
        )
        page = answer.data["deletionCertificates"]
        numbers += [edge["node"]["number"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        assert page["pageInfo"]["hasNextPage"] is has_next
        (row,) = await harness.audit(answer.request_id)
        assert row["row_count"] == len(page["edges"])
    assert numbers == [1, 2, 3]


def _seed(harness: ApiHarness) -> str:
    return harness.worker_settings.certificate_signing_key.get_secret_value()


async def test_doctor_lists_their_own_deletions_and_compliance_lists_all(
    harness: ApiHarness, doctor: Person, other_doctor: Person, officer: Person, recording: UUID
) -> None:
    asked = await delete(doctor, recording)
    for person, expected in ((doctor, [asked]), (other_doctor, []), (officer, [asked])):
        found = await person.ask(documents.DELETIONS, filter={"recordingId": str(recording)})
        assert [edge["node"] for edge in found["edges"]] == expected
    found = await doctor.ask(documents.DELETIONS, filter={"statuses": ["DELETED", "UNDONE"]})
    assert found["edges"] == []


async def test_failing_deletion_is_shown_with_its_reason(
    harness: ApiHarness, doctor: Person, recording: UUID
) -> None:
    await request_deletion(harness, recording, grace="-1 minute")
    await harness.bucket.put_new(f"ledger/{recording}/1.json", b"{}", "application/json")
    await harness.services.destroyer.run_once()
    found = await doctor.ask(documents.DELETIONS, filter={"isFailing": True})
    (failing,) = [edge["node"] for edge in found["edges"]]
    assert (failing["status"], failing["attemptCount"]) == ("DELETING", 1)
    assert failing["problem"]["code"] == "LEDGER_ENTRY_FOREIGN"


async def test_pages_of_deletions_are_consecutive(harness: ApiHarness, case: Case, doctor: Person) -> None:
    asked = [(await delete(doctor, await harness.recording(case)))["id"] for _ in range(5)]
    seen: list[str] = []
    after = None
    while True:
        page = await doctor.ask(documents.DELETIONS, first=2, after=after)
        seen += [edge["node"]["id"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == asked[::-1]


async def test_unknown_deletion_reason_is_refused(doctor: Person, recording: UUID) -> None:
    answer = await doctor.send(documents.DELETE_RECORDING, id=str(recording), reason="Paula asked me")
    assert answer.error.code == "INVALID_INPUT"
    assert "Paula" not in json.dumps(answer.body)
