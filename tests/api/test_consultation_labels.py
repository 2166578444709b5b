"""Tests of the labels of consultations: who reads them, how they are stored, and when they are destroyed."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api import documents
from tests.api.deleting import destroy_recording
from tests.api.disclosing import DISCLOSURES, RECORD_DISCLOSURE, disclosure_input
from tests.api.harness import ApiHarness, Case, consultation_input

pytestmark = pytest.mark.anyio

LABEL = "Knee, second visit"
READ = """
query ($id: ID!) {
  consultation(by: {id: $id}) { label patientExternalId recordings { edges { node { consultation { label } } } } }
}
"""
LIST = "{ consultations { edges { node { id label patientExternalId } } } }"


async def _set(case: Case, label: str | None) -> Any:
    return await case.doctor.ask(documents.SET_LABEL, consultationId=case.id, label=label)


async def _keys(harness: ApiHarness, case: Case) -> int:
    return len(
        await harness.rows("select 1 from private.patient_keys where patient_id = %s", UUID(case.patient_id))
    )


async def test_doctor_sets_changes_and_removes_a_label(harness: ApiHarness, case: Case) -> None:
    for _ in range(2):
        assert (await _set(case, LABEL))["label"] == LABEL
    assert (await _set(case, "  Knee   (left) "))["label"] == "Knee (left)"
    (node,) = (edge["node"] for edge in (await case.doctor.ask(LIST))["edges"])
    assert (node["label"], node["patientExternalId"]) == (
        "Knee (left)",
        case.registration["patientExternalId"],
    )
    assert (await _set(case, None))["label"] is None
    assert (
        await harness.rows(
            "select 1 from private.consultation_labels where consultation_id = %s", UUID(case.id)
        )
        == []
    )


async def test_label_is_set_at_the_registration_and_a_repeated_one_leaves_it(harness: ApiHarness) -> None:
    doctor = await harness.clinician()
    given = consultation_input(label=LABEL)
    registered = await doctor.ask(documents.REGISTER, consultation=given)
    assert registered["label"] == LABEL
    again = await doctor.ask(documents.REGISTER, consultation={**given, "label": "Another"})
    assert (again["id"], again["label"]) == (registered["id"], LABEL)


async def test_only_the_doctor_and_the_patient_read_the_label(harness: ApiHarness, case: Case) -> None:
    await _set(case, LABEL)
    await harness.recording(case, "READY")
    read = await case.doctor.ask(READ, id=case.id)
    assert read["label"] == LABEL
    assert [edge["node"]["consultation"]["label"] for edge in read["recordings"]["edges"]] == [LABEL]
    assert (await case.patient.ask(READ, id=case.id))["label"] == LABEL
    officer = await harness.staff("compliance")
    read = await officer.ask(READ, id=case.id)
    assert (read["label"], read["patientExternalId"]) == (None, case.registration["patientExternalId"])
    stranger = await harness.clinician()
    assert (await stranger.refused(READ, id=case.id))[0] == "NOT_FOUND"
    answer = await stranger.send(documents.SET_LABEL, consultationId=case.id, label="Mine")
    assert answer.error.code == "NOT_FOUND"
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("consultation.set_label", "DENIED")
    assert (await case.doctor.ask(READ, id=case.id))["label"] == LABEL


async def test_law_1_a_list_with_labels_has_one_audit_row_and_the_change_has_one(
    harness: ApiHarness, case: Case
) -> None:
    answer = await case.doctor.send(documents.SET_LABEL, consultationId=case.id, label=LABEL)
    rows = {row["action"]: row for row in await harness.audit(answer.request_id)}
    assert rows.keys() == {"consultation.set_label", "patient.make_key"}
    assert "label" in rows["consultation.set_label"]["fields"]
    answer = await case.doctor.send(LIST)
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], "label" in row["fields"]) == ("consultation.list", True)


async def test_stored_label_has_no_words_and_belongs_to_its_consultation(
    harness: ApiHarness, case: Case
) -> None:
    other = await harness.case(case.doctor)
    await _set(case, LABEL)
    await _set(other, "Shoulder")
    (row,) = await harness.rows(
        "select ciphertext from private.consultation_labels where consultation_id = %s", UUID(case.id)
    )
    assert b"Knee" not in bytes(row["ciphertext"])
    await harness.rows(
        "update private.consultation_labels set ciphertext = %s where consultation_id = %s returning 1",
        row["ciphertext"],
        UUID(other.id),
    )
    answer = await other.doctor.send(READ, id=other.id)
    assert answer.error.reason == "field_unreadable"


@pytest.mark.parametrize("label", ["", "   ", "x" * 101, "two\nlines", "\u202eabc", "\u200b"])
async def test_label_must_be_one_line_of_visible_characters(
    harness: ApiHarness, case: Case, label: str
) -> None:
    assert await case.doctor.refused(documents.SET_LABEL, consultationId=case.id, label=label) == (
        "INVALID_INPUT",
        "bad_label",
    )
    registration = consultation_input(label=label)
    assert await case.doctor.refused(documents.REGISTER, consultation=registration) == (
        "INVALID_INPUT",
        "bad_label",
    )


async def test_label_is_deleted_with_the_key_of_the_patient(harness: ApiHarness, case: Case) -> None:
    await _set(case, LABEL)
    await harness.rows(
        "delete from private.patient_keys where patient_id = %s returning 1", UUID(case.patient_id)
    )
    assert (await case.doctor.ask(READ, id=case.id))["label"] is None
    assert (await _set(case, LABEL))["label"] == LABEL, "a new label makes a new key"


async def test_last_recording_takes_the_label_and_the_unused_key_with_it(
    harness: ApiHarness, case: Case
) -> None:
    first, second = [await harness.recording(case, "READY") for _ in range(2)]
    await _set(case, LABEL)
    await destroy_recording(harness, first)
    assert (await case.doctor.ask(READ, id=case.id))["label"] == LABEL
    assert await _keys(harness, case) == 1
    await destroy_recording(harness, second)
    assert (await case.doctor.ask(READ, id=case.id))["label"] is None
    assert await _keys(harness, case) == 0
    (row,) = await harness.rows(
        "select row_count from audit.events where action = 'patient.destroy_key' and patient_ids = %s",
        [UUID(case.patient_id)],
    )
    assert row["row_count"] == 1
    assert await case.doctor.refused(documents.SET_LABEL, consultationId=case.id, label=LABEL) == (
        "CONFLICT",
        "recording_deleted",
    )
    assert (await _set(case, None))["label"] is None


async def test_key_stays_while_it_encrypts_a_disclosure(harness: ApiHarness, case: Case) -> None:
    """45 CFR 164.528 requires the accounting of six years, also after the recordings are destroyed."""
    recording = await harness.recording(case, "READY")
    await _set(case, LABEL)
    officer = await harness.staff("compliance")
    await officer.ask(RECORD_DISCLOSURE, disclosure=disclosure_input(case.patient_id))
    await destroy_recording(harness, recording)
    assert (await case.doctor.ask(READ, id=case.id))["label"] is None
    assert await _keys(harness, case) == 1
    page = await officer.ask(DISCLOSURES, filter={"patient": {"id": case.patient_id}})
    assert [edge["node"]["description"] for edge in page["edges"]] == ["Report of one case"]


async def test_label_of_an_unknown_consultation_is_not_found(harness: ApiHarness) -> None:
    doctor = await harness.clinician()
    answer = await doctor.send(documents.SET_LABEL, consultationId=str(uuid4()), label=LABEL)
    assert answer.error.reason == "consultation_not_found"
    (row,) = await harness.audit(answer.request_id)
    assert row["outcome"] == "ABSENT"
