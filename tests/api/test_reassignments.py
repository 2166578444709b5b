"""Tests of reassignments: the consultations of a doctor who left get another doctor."""

import json
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest

from app.session_notes.model import NoteKind
from tests.api import documents
from tests.api.assessing import insert_breach
from tests.api.harness import ApiHarness, Case, Person
from tests.api.noting import store_note
from tests.api.signing import sign
from tests.api.speaking import store_transcript

pytestmark = pytest.mark.anyio
DOCTOR_COLUMNS: LiteralString = """
select n.nspname || '.' || c.relname as name
from pg_attribute as a
join pg_class as c on c.oid = a.attrelid
join pg_namespace as n on n.oid = c.relnamespace
where n.nspname = 'resguardo' and c.relkind = 'r' and a.attname = 'doctor_id'
    and exists (select from pg_attribute as b where b.attrelid = c.oid and b.attname = 'consultation_id')
"""


async def _propose(officer: Person, from_doctor: Person | UUID, to_doctor: Person | UUID) -> Any:
    ids = [str(one.user_id if isinstance(one, Person) else one) for one in (from_doctor, to_doctor)]
    return await officer.send(documents.REASSIGN_CONSULTATIONS, fromDoctorId=ids[0], toDoctorId=ids[1])


async def _reassign(harness: ApiHarness, officer: Person, from_doctor: Person, to_doctor: Person) -> Any:
    """Suspend a doctor, let two officers reassign the doctor's consultations, and return the proposal."""
    await officer.ask(documents.SUSPEND, userId=str(from_doctor.user_id))
    proposed = (await _propose(officer, from_doctor, to_doctor)).value
    second = await harness.staff("compliance")
    await second.ask(documents.APPROVE_PROPOSAL, id=proposed["id"])
    await harness.work()
    return await _read(officer, proposed["id"])


async def _read(officer: Person, proposal_id: str) -> Any:
    page = await officer.ask(documents.OFFICER_PROPOSALS, first=100)
    (found,) = [edge["node"] for edge in page["edges"] if edge["node"]["id"] == proposal_id]
    return found


async def _consent_to_sharing(harness: ApiHarness, case: Case) -> None:
    await harness.rows("set session_replication_role = replica")
    await harness.rows(
        "update resguardo.consents set text_version = '2027-02' where consultation_id = %s", UUID(case.id)
    )
    await harness.rows("set session_replication_role = origin")


async def test_consultations_of_a_doctor_who_left_get_another_doctor(
    harness: ApiHarness, case: Case, other_doctor: Person, officer: Person
) -> None:
    """The new doctor reads the recording, the transcript, the session notes and the signed note. The past signature
    names the doctor who signed.
    """
    await case.consent()
    recording = await harness.recording(case)
    await store_transcript(harness, recording)
    await store_note(harness, recording)
    await sign(harness, case.doctor, recording)
    await _consent_to_sharing(harness, case)
    before = await harness.rows(
        "select sha256, signed_at from resguardo.signed_note_versions where consultation_id = %s",
        UUID(case.id),
    )
    assert await other_doctor.refused(documents.CONSULTATION, id=case.id) == (
        "NOT_FOUND",
        "consultation_not_found",
    )

    done = await _reassign(harness, officer, case.doctor, other_doctor)

    assert (done["status"], done["kind"], done["problem"]) == ("DONE", "REASSIGN_CONSULTATIONS", None)
    assert done["reassignment"] == {"movedCount": 1, "keptForConsentCount": 0, "keptAsSensitiveCount": 0}
    assert done["recipient"]["id"] == str(other_doctor.user_id)
    seen = await other_doctor.ask(documents.CONSULTATION, id=case.id)
    assert (seen["doctor"]["id"], seen["conductedBy"]["id"]) == (
        str(other_doctor.user_id),
        str(case.doctor.user_id),
    )
    assert (await other_doctor.ask(documents.RECORDING, id=str(recording)))["id"] == str(recording)
    assert (await other_doctor.ask(documents.TRANSCRIPT, id=str(recording)))["turns"]
    await other_doctor.ask(documents.ISSUE_URL, recordingId=str(recording), purposeOfUse="TREATMENT")
    page = await other_doctor.ask(documents.SIGNED_NOTES)
    (version,) = page["edges"][0]["node"]["versions"]
    assert version["problem"] is None
    assert str(case.doctor.user_id) in json.dumps(version["json"])
    assert str(other_doctor.user_id) not in json.dumps(version["json"])
    assert before == await harness.rows(
        "select sha256, signed_at from resguardo.signed_note_versions where consultation_id = %s",
        UUID(case.id),
    )
    (event,) = await harness.rows(
        "select * from audit.events where action = 'consultation.reassign' and %s = any(consultation_ids)",
        UUID(case.id),
    )
    assert (event["outcome"], event["patient_ids"]) == ("ALLOWED", [UUID(case.patient_id)])
    assert (await case.patient.ask(documents.CONSULTATION, id=case.id))["doctor"]["id"] == str(
        other_doctor.user_id
    )


async def test_reassignment_changes_the_doctor_in_every_table(
    harness: ApiHarness, case: Case, other_doctor: Person, officer: Person
) -> None:
    await case.consent()
    recording = await harness.recording(case)
    await store_transcript(harness, recording)
    await sign(harness, case.doctor, recording)
    await _consent_to_sharing(harness, case)
    await _reassign(harness, officer, case.doctor, other_doctor)
    tables = [row["name"] for row in await harness.rows(DOCTOR_COLUMNS)]
    assert len(tables) > 8
    for table in tables:
        rows = await harness.rows(
            f"select doctor_id from {table} where consultation_id = %s",  # noqa: S608
            UUID(case.id),
        )
        assert {row["doctor_id"] for row in rows} <= {other_doctor.user_id}, table


def test_every_foreign_key_that_names_the_doctor_follows_a_reassignment(harness: ApiHarness) -> None:
    with harness.practice.connection.cursor() as cursor:
        cursor.execute(
            "select c.conname from pg_constraint as c where c.contype = 'f' and c.confupdtype <> 'c' and exists ("
            " select from unnest(c.conkey) as k (number) join pg_attribute as a"
            " on a.attrelid = c.conrelid and a.attnum = k.number where a.attname = 'doctor_id')"
            " and cardinality(c.conkey) > 1"
        )
        assert cursor.fetchall() == []


async def test_consultations_under_an_older_consent_and_sensitive_ones_stay(
    harness: ApiHarness, case: Case, other_doctor: Person, officer: Person
) -> None:
    doctor = case.doctor
    await case.consent()
    await harness.recording(case)
    await harness.rows("set session_replication_role = replica")
    await harness.rows(
        "update resguardo.consents set text_version = '2026-12' where consultation_id = %s returning id",
        UUID(case.id),
    )
    await harness.rows("set session_replication_role = origin")
    sensitive = harness.practice.consultation(doctor.user_id, sensitivity="SUBSTANCE_USE")
    harness.practice.recording(sensitive, "READY")
    without_recording = harness.practice.consultation(doctor.user_id, sensitivity="PSYCHOTHERAPY")
    done = await _reassign(harness, officer, doctor, other_doctor)
    assert done["status"] == "DONE"
    assert done["reassignment"] == {"movedCount": 1, "keptForConsentCount": 1, "keptAsSensitiveCount": 1}
    owners = await harness.rows(
        "select id, doctor_id, conducted_by from resguardo.consultations where id = any(%s)",
        [UUID(case.id), sensitive, without_recording],
    )
    assert {row["id"]: (row["doctor_id"], row["conducted_by"]) for row in owners} == {
        UUID(case.id): (doctor.user_id, None),
        sensitive: (doctor.user_id, None),
        without_recording: (other_doctor.user_id, None),
    }


async def test_psychotherapy_notes_keep_a_consultation_with_its_doctor(
    harness: ApiHarness, case: Case, other_doctor: Person, officer: Person
) -> None:
    await case.consent()
    recording = await harness.recording(case)
    await store_note(harness, recording, kind=NoteKind.PSYCHOTHERAPY)
    await _consent_to_sharing(harness, case)
    done = await _reassign(harness, officer, case.doctor, other_doctor)
    assert done["reassignment"]["keptAsSensitiveCount"] == 1


async def test_reassignment_waits_for_a_recording_that_is_not_finished(
    harness: ApiHarness, case: Case, other_doctor: Person, officer: Person
) -> None:
    await case.consent()
    recording = await harness.recording(case, "VERIFYING")
    await officer.ask(documents.SUSPEND, userId=str(case.doctor.user_id))
    proposed = (await _propose(officer, case.doctor, other_doctor)).value
    await (await harness.staff("compliance")).ask(documents.APPROVE_PROPOSAL, id=proposed["id"])
    step = "select private.reassign_consultations(%s) as step"
    steps = [(await harness.rows(step, UUID(proposed["id"])))[0]["step"] for _ in range(2)]
    assert steps == ["MORE", "WAITING"]
    await harness.rows(
        "update resguardo.recordings set status = 'FAILED', error = 'media_unreadable', ended_at = now()"
        " where id = %s returning id",
        recording,
    )
    await harness.work()
    assert (await _read(officer, proposed["id"]))["reassignment"]["movedCount"] == 1


async def test_forty_consultations_are_moved_in_batches_that_continue_after_a_crash(
    harness: ApiHarness, other_doctor: Person, officer: Person
) -> None:
    doctor = await harness.clinician()
    for _ in range(120):
        harness.practice.consultation(doctor.user_id)
    await officer.ask(documents.SUSPEND, userId=str(doctor.user_id))
    proposed = (await _propose(officer, doctor, other_doctor)).value
    await (await harness.staff("compliance")).ask(documents.APPROVE_PROPOSAL, id=proposed["id"])
    step = "select private.reassign_consultations(%s) as step"
    assert (await harness.rows(step, UUID(proposed["id"])))[0]["step"] == "MORE"
    assert (await _read(officer, proposed["id"]))["reassignment"]["movedCount"] == 50
    await harness.work()
    done = await _read(officer, proposed["id"])
    assert (done["status"], done["reassignment"]["movedCount"]) == ("DONE", 120)
    assert (await harness.rows(step, UUID(proposed["id"])))[0]["step"] == "ENDED"


async def test_reassignment_is_refused_from_an_active_doctor_and_to_nobody_who_can_work(
    harness: ApiHarness, case: Case, other_doctor: Person, officer: Person
) -> None:
    doctor = case.doctor
    answer = await _propose(officer, doctor, other_doctor)
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "reassignment_doctor_active")
    await officer.ask(documents.SUSPEND, userId=str(doctor.user_id))
    suspended, colleague = await harness.clinician(), await harness.staff("compliance")
    await officer.ask(documents.SUSPEND, userId=str(suspended.user_id))
    for recipient in (doctor, suspended, colleague):
        answer = await _propose(officer, doctor, recipient)
        assert (answer.error.code, answer.error.reason) == ("CONFLICT", "reassignment_recipient")
    for pair in ((doctor, uuid4()), (uuid4(), other_doctor), (case.patient, other_doctor)):
        answer = await _propose(officer, *pair)
        assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "staff_not_found")
    await harness.work()


async def _open_case(harness: ApiHarness, person: Person) -> UUID:
    (row,) = await harness.rows(
        "select private.open_case('self', %s, '{}', '{}', '{}', %s) as id", person.user_id, str(uuid4())
    )
    return UUID(str(row["id"]))


async def test_reassignment_from_or_to_a_doctor_under_investigation_is_refused(
    harness: ApiHarness, case: Case, other_doctor: Person, officer: Person
) -> None:
    await officer.ask(documents.SUSPEND, userId=str(case.doctor.user_id))
    for subject in (case.doctor, other_doctor):
        opened = await _open_case(harness, subject)
        answer = await _propose(officer, case.doctor, other_doctor)
        assert (answer.error.code, answer.error.reason) == ("CONFLICT", "reassignment_under_investigation")
        await harness.rows(
            "update resguardo.review_cases set subject_id = null where id = %s returning id", opened
        )
    await harness.work()


async def test_possible_breach_of_a_doctor_is_an_investigation_until_its_decision(
    harness: ApiHarness, case: Case, other_doctor: Person, officer: Person
) -> None:
    """The disposition closes the case and opens the assessment, so the assessment must stop the reassignment."""
    await officer.ask(documents.SUSPEND, userId=str(case.doctor.user_id))
    for subject in (case.doctor, other_doctor):
        breach = await insert_breach(harness, officer, subject=subject.user_id)
        answer = await _propose(officer, case.doctor, other_doctor)
        assert (answer.error.code, answer.error.reason) == ("CONFLICT", "reassignment_under_investigation")
        await harness.rows("delete from resguardo.breach_assessments where id = %s returning id", breach)
    await insert_breach(harness, officer, subject=case.doctor.user_id, decided="BREACH")
    assert (await _propose(officer, case.doctor, other_doctor)).value["status"] == "PROPOSED"


async def test_case_that_opens_after_the_proposal_stops_the_approval_and_the_batches(
    harness: ApiHarness, case: Case, other_doctor: Person, officer: Person
) -> None:
    second = await harness.staff("compliance")
    await officer.ask(documents.SUSPEND, userId=str(case.doctor.user_id))
    proposed = (await _propose(officer, case.doctor, other_doctor)).value
    opened = await _open_case(harness, case.doctor)
    refusal = await second.refused(documents.APPROVE_PROPOSAL, id=proposed["id"])
    assert refusal == ("CONFLICT", "reassignment_under_investigation")
    await harness.rows(
        "update resguardo.review_cases set subject_id = null where id = %s returning id", opened
    )
    await second.ask(documents.APPROVE_PROPOSAL, id=proposed["id"])
    await _open_case(harness, case.doctor)
    await harness.work()
    found = await _read(officer, proposed["id"])
    assert (found["status"], found["problem"]["code"]) == ("FAILED", "REASSIGNMENT_UNDER_INVESTIGATION")
    (row,) = await harness.rows("select doctor_id from resguardo.consultations where id = %s", UUID(case.id))
    assert row["doctor_id"] == case.doctor.user_id


async def test_doctor_who_is_reinstated_keeps_what_is_not_moved_yet(
    harness: ApiHarness, case: Case, other_doctor: Person, officer: Person
) -> None:
    await officer.ask(documents.SUSPEND, userId=str(case.doctor.user_id))
    proposed = (await _propose(officer, case.doctor, other_doctor)).value
    await (await harness.staff("compliance")).ask(documents.APPROVE_PROPOSAL, id=proposed["id"])
    await harness.rows(
        "update resguardo.staff set status = 'active', suspended_at = null, suspended_by = null"
        " where user_id = %s returning 1",
        case.doctor.user_id,
    )
    await harness.work()
    found = await _read(officer, proposed["id"])
    assert (found["status"], found["problem"]["code"]) == ("FAILED", "REASSIGNMENT_DOCTOR_ACTIVE")
