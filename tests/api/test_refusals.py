"""Tests that the audit row of a refused request contains as much as the audit row of an allowed request."""

import asyncio
from uuid import UUID

import pytest

from tests.api import documents
from tests.api.harness import PATIENCE_SECONDS, ApiHarness, Case, Person

pytestmark = pytest.mark.anyio


async def rows_of(harness: ApiHarness, request_id: str, expected: int) -> list[dict[str, object]]:
    """Return the audit rows of the request with the given request id. The function waits until the audit rows
    exist, because a root field can still run after the API has sent its answer.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(rows := await harness.audit(request_id)) < expected:  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(0.01)
    return rows


async def test_ten_refused_fields_of_one_operation_write_ten_audit_rows(
    harness: ApiHarness, case: Case, other_doctor: Person
) -> None:
    recording = await harness.recording(case)
    fields = " ".join(f'p{number}: recording(by: {{id: "{recording}"}}) {{ id }}' for number in range(10))
    answer = await other_doctor.send(f"{{ {fields} }}")
    rows = await rows_of(harness, answer.request_id, 10)
    assert [(row["action"], row["outcome"]) for row in rows] == [("recording.read", "DENIED")] * 10


async def test_audit_row_of_a_refusal_names_role_patient_and_consultation(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    weak = await harness.with_session(case.doctor, aal="aal1")
    answer = await weak.send(documents.RECORDING, id=str(recording))
    (row,) = await harness.audit(answer.request_id)
    assert (row["outcome"], row["reason"], row["basis"]) == ("DENIED", "second_factor_needed", "refused")
    assert (row["actor_id"], row["actor_role"], row["purpose"]) == (weak.user_id, "clinician", "TREATMENT")
    assert (row["patient_ids"], row["consultation_ids"]) == ([UUID(case.patient_id)], [UUID(case.id)])
    assert row["entities"] == [{"type": "recording", "ids": [str(recording)]}]


async def test_audit_row_of_a_conflict_is_failed_and_names_the_entity(
    harness: ApiHarness, case: Case, other_doctor: Person
) -> None:
    answer = await other_doctor.send(documents.REGISTER, consultation=dict(case.registration))
    assert answer.error.code == "CONFLICT"
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("consultation.register", "FAILED")


async def test_audit_row_of_a_list_names_only_the_returned_patients(harness: ApiHarness) -> None:
    doctor = await harness.clinician()
    cases = [await harness.case(doctor) for _ in range(3)]
    answer = await doctor.send("{ consultations(first: 2) { edges { node { id } } } }")
    shown = [edge["node"]["id"] for edge in answer.data["consultations"]["edges"]]
    (row,) = await harness.audit(answer.request_id)
    (named,) = row["entities"]
    assert (named["type"], sorted(named["ids"])) == ("consultation", sorted(shown))
    assert row["row_count"] == len(shown) == 2
    assert len(cases) == 3


async def test_suspended_doctors_recording_is_stopped(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    await case.consent()
    recording = await harness.recording(case, "RECORDING")
    await officer.ask(documents.SUSPEND, userId=str(case.doctor.user_id))
    (row,) = await harness.rows("select status, error from resguardo.recordings where id = %s", recording)
    assert (row["status"], row["error"]) == ("STOPPING", "staff_suspended")
    (job,) = await harness.rows(
        "select task_name from jobs.procrastinate_jobs where args ->> 'id' = %s", str(recording)
    )
    assert job["task_name"] == "stop_recording"
