"""Tests that the API writes the audit row of a refusal even while another database session locks the table that
caused the refusal.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from tests.api import documents, requesting
from tests.api.harness import Answer, ApiHarness, Case, Person, consent_input
from tests.api.holding import RELEASE_HOLD
from tests.api.importing import COMPLETE_IMPORT
from tests.api.retaining import APPROVE_POLICY
from tests.databases import Database

pytestmark = pytest.mark.anyio

DOORS = {
    "resguardo.recordings": ("clinician", documents.RECORDING, "id"),
    "resguardo.consultations": ("clinician", documents.CONSULTATION_BY_EXTERNAL_ID, "externalId"),
    "resguardo.participants": ("clinician", documents.RECORD_CONSENT, "consent"),
    "resguardo.recording_imports": ("clinician", COMPLETE_IMPORT, "importId"),
    "resguardo.deletions": ("clinician", documents.DELETIONS, "first"),
    "resguardo.certificates": ("compliance", documents.DELETION_CERTIFICATES, "recordingId"),
    "resguardo.transcripts": ("clinician", documents.RETRY_TRANSCRIPTION, "id"),
    "resguardo.legal_holds": ("compliance", RELEASE_HOLD, "holdId"),
    "resguardo.access_requests": ("compliance", requesting.APPROVE_REQUEST, "requestId"),
    "resguardo.retention_policies": ("compliance", APPROVE_POLICY, "policyId"),
    "private.staff_invitations": ("compliance", documents.STAFF_INVITATIONS, ""),
    "private.recording_secrets": ("clinician", documents.ISSUE_URL, "recordingId"),
    "private.usage": ("clinician", documents.CONSULTATIONS, "first"),
}
"""For each table, a field that needs the table, a role that may use the field, and the variable that takes the id."""


@asynccontextmanager
async def _locked(
    database: Database, *tables: str, mode: LiteralString = "access exclusive"
) -> AsyncIterator[None]:
    """Lock the tables in a transaction of another database session."""
    async with await psycopg.AsyncConnection.connect(database.superuser_url) as holder:
        for table in tables:
            name = sql.Identifier(*table.split("."))
            await holder.execute(sql.SQL("lock table {} in {} mode").format(name, sql.SQL(mode)))
        yield
        await holder.rollback()


def _variables(name: str, case: Case, recording: UUID) -> dict[str, object]:
    values: dict[str, object] = {
        "externalId": case.consultation["externalId"],
        "consent": consent_input(case.participant("DOCTOR")),
        "first": 1,
        "policyId": 1,
        "purposeOfUse": "TREATMENT",
    }
    given = {name: values.get(name, str(recording))} if name else {}
    return given | ({"purposeOfUse": "TREATMENT"} if name == "recordingId" else {})


async def _one_row(harness: ApiHarness, answer: Answer, person: Person) -> None:
    assert answer.error.code == "CONFLICT", answer.body
    rows = await harness.audit(answer.request_id)
    assert [(row["outcome"], row["reason"], row["actor_id"]) for row in rows] == [
        ("FAILED", "concurrent_change", person.user_id)
    ]


async def test_every_entry_point_audits_a_refusal_while_its_table_is_locked(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    people = {"clinician": case.doctor, "compliance": await harness.staff("compliance")}
    async with _locked(harness.database, *DOORS):
        answers = await asyncio.gather(
            *(
                people[role].send(document, **_variables(name, case, recording))
                for role, document, name in DOORS.values()
            )
        )
        for (role, _, _), answer in zip(DOORS.values(), answers, strict=True):
            await _one_row(harness, answer, people[role])


@pytest.mark.parametrize("table", ["resguardo.staff", "resguardo.patients"])
async def test_refusal_is_audited_while_the_tables_of_people_are_locked(
    harness: ApiHarness, case: Case, table: str
) -> None:
    patient, officer = case.patient, await harness.staff("compliance")
    async with _locked(harness.database, table):
        asked = [patient.send(requesting.REQUEST_ACCESS, request={})]
        if table == "resguardo.staff":
            asked.append(officer.send(documents.SUSPEND, userId=str(case.doctor.user_id)))
        answers = await asyncio.gather(*asked)
        for person, answer in zip((patient, officer), answers, strict=False):
            await _one_row(harness, answer, person)


async def test_every_concurrent_conflict_at_a_locked_table_writes_an_audit_row(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    doctors = [await harness.clinician() for _ in range(12)]
    async with _locked(harness.database, "resguardo.recordings"):
        answers = await asyncio.gather(
            *(doctor.send(documents.STOP, recordingId=str(recording)) for doctor in doctors)
        )
        for doctor, answer in zip(doctors, answers, strict=True):
            await _one_row(harness, answer, doctor)


async def test_audit_row_of_a_refusal_names_the_patient_while_another_table_is_locked(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    weak = await harness.with_session(case.doctor, aal="aal1")
    async with _locked(harness.database, "resguardo.legal_holds", "resguardo.consultations"):
        answer = await weak.send(documents.STOP, recordingId=str(recording))
        assert answer.error.code == "FORBIDDEN"
        (row,) = await harness.audit(answer.request_id)
    assert row["patient_ids"] == [UUID(case.patient_id)]
    assert row["entities"] == [{"type": "recording", "ids": [str(recording)]}]


async def test_row_locks_do_not_delay_a_refusal(harness: ApiHarness, case: Case) -> None:
    recording, other = await harness.recording(case), await harness.clinician()
    async with await psycopg.AsyncConnection.connect(harness.database.superuser_url) as holder:
        for table in ("recordings", "consultations", "staff", "patients"):
            await holder.execute(sql.SQL("select from resguardo.{} for update").format(sql.Identifier(table)))
        answer = await other.send(documents.STOP, recordingId=str(recording))
        await holder.rollback()
    assert answer.error.code == "NOT_FOUND"
    (row,) = await harness.audit(answer.request_id)
    assert (row["outcome"], row["patient_ids"]) == ("DENIED", [UUID(case.patient_id)])


async def test_audit_row_of_a_refusal_names_an_unknown_id(harness: ApiHarness, case: Case) -> None:
    unknown = uuid4()
    weak = await harness.with_session(case.doctor, aal="aal1")
    answer = await weak.send(documents.STOP, recordingId=str(unknown))
    (row,) = await harness.audit(answer.request_id)
    assert (row["outcome"], row["patient_ids"]) == ("DENIED", [])
    assert row["entities"] == [{"type": "recording", "ids": [str(unknown)]}]
