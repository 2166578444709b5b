"""Tests that a query that finds nothing writes an audit row with the reason, and counts against the caller's quota."""

import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.postgres import composer
from app.postgres.audited import AuditedList, AuditedRead
from app.postgres.composer import EntityList, EntityRead
from devstack.object_store import ObjectStore
from graphql_schema.root_fields import permission_of
from tests.api import assessing, documents, requesting, sharing
from tests.api.accounting import ACCOUNTING_REQUESTS
from tests.api.amending import AMENDMENTS
from tests.api.deleting import destroy_recording
from tests.api.disclosing import DISCLOSURES, RELEASED_COPIES, SUSPENSIONS
from tests.api.exporting import AUDIT_EXPORTS
from tests.api.harness import Answer, ApiHarness, Case, Person, consent_input, opened
from tests.api.holding import LEGAL_HOLDS, on_patient
from tests.api.importing import COMPLETE_IMPORT
from tests.api.retaining import (
    APPROVE_POLICY,
    POLICIES,
    PREVIEW,
    REJECT_POLICY,
    STORAGE_REPORT,
    delete_policies_afterwards,
)
from tests.api.reviewing import (
    APPROVE_RULES,
    ASSIGN_REVIEW_CASE,
    RECORD_DISPOSITION,
    REJECT_RULES,
    REVIEW_CASE,
    REVIEW_CASES,
    REVIEW_RULES,
)
from tests.api.socket_client import open_socket
from tests.api.speaking import store_transcript
from tests.api.test_authorization import FIELDS, good_document
from tests.databases import Cluster

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def empty(
    anyio_backend: str, cluster: Cluster, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiHarness]:
    """Return an API with a new database that contains no data."""
    with cluster.clone("newer") as database:
        async with opened(database, object_store, tmp_path_factory.mktemp("empty")) as harness:
            yield harness


@dataclass(frozen=True)
class Look:
    """A GraphQL query, and the expected content of its audit row if the query finds nothing. The audit row of a
    query that returns a list has the `outcome` ALLOWED.
    """

    document: str
    variables: dict[str, Any] = field(default_factory=dict)
    outcome: str = "ALLOWED"
    meter: str = "pages"


NOWHERE = str(uuid4())
QUERIES = {
    "consultation": Look(documents.CONSULTATION, {"id": NOWHERE}, "ABSENT"),
    "consultations": Look(documents.CONSULTATIONS),
    "recording": Look(documents.RECORDING, {"id": NOWHERE}, "ABSENT"),
    "recordings": Look(documents.RECORDINGS),
    "storedObject": Look(documents.STORED_OBJECT, {"id": NOWHERE}, "ABSENT", meter="urls"),
    "transcript": Look(documents.TRANSCRIPT, {"id": NOWHERE}, "ABSENT"),
    "signedNotes": Look(documents.SIGNED_NOTES),
    "noteDraft": Look(documents.NOTE_DRAFT, {"id": NOWHERE}, "ABSENT"),
    "insights": Look(documents.INSIGHTS, {"id": NOWHERE}, "ABSENT"),
    "transcriptSearch": Look(documents.TRANSCRIPT_SEARCH, {"query": "headache"}),
    "sessionNotes": Look(documents.SESSION_NOTES, {"id": NOWHERE}, "ABSENT"),
    "psychotherapyNotes": Look(documents.PSYCHOTHERAPY_NOTES, {"id": NOWHERE}, "ABSENT"),
    "activeRooms": Look(documents.ACTIVE_ROOMS),
    "accessEntries": Look(documents.ACCESS_ENTRIES, {"requestId": NOWHERE}, "ABSENT"),
    "recordingSummaries": Look(documents.RECORDING_SUMMARIES, {"requestId": NOWHERE}, "ABSENT"),
    "auditEvents": Look(documents.AUDIT_EVENTS, {"filter": {"action": "nobody.did"}}),
    "auditSummary": Look(documents.AUDIT_SUMMARY),
    "auditExports": Look(AUDIT_EXPORTS),
    "vendorAgreements": Look(documents.VENDOR_AGREEMENTS, {"filter": {"services": ["LANGUAGE"]}}),
    "webhookDeliveries": Look(documents.WEBHOOK_DELIVERIES, {"filter": {"statuses": ["FAILED"]}}),
    "objectFetches": Look(documents.FETCH_REPORT),
    "alerts": Look(documents.ALERTS, {"filter": {"kinds": ["AUDIT_LOG_DIFFERS"]}}),
    "disclosures": Look(DISCLOSURES),
    "releasedCopies": Look(RELEASED_COPIES),
    "accountingRequests": Look(ACCOUNTING_REQUESTS),
    "amendments": Look(AMENDMENTS),
    "disclosureSuspensions": Look(SUSPENSIONS),
    "reviewCases": Look(REVIEW_CASES, {"filter": {"rules": ["SURNAME"]}}),
    "reviewRules": Look(REVIEW_RULES),
    "reviewCase": Look(REVIEW_CASE, {"caseId": NOWHERE}, "ABSENT"),
    "breachAssessments": Look(assessing.BREACH_ASSESSMENTS, {"filter": {"statuses": []}}),
    "sanctions": Look(assessing.SANCTIONS),
    "attestations": Look(assessing.ATTESTATIONS),
    "deletions": Look(documents.DELETIONS),
    "deletionCertificates": Look(documents.DELETION_CERTIFICATES, {"recordingId": NOWHERE}, "ABSENT"),
    "signedNoteCertificates": Look(documents.SIGNED_NOTE_CERTIFICATES, {"recordingId": NOWHERE}, "ABSENT"),
    "staffInvitations": Look(documents.STAFF_INVITATIONS),
    "staff": Look(documents.STAFF, {"filter": {"statuses": ["SUSPENDED"]}}),
    "staffAccessReviews": Look(documents.STAFF_ACCESS_REVIEWS),
    "staffAccessReviewEntries": Look(documents.STAFF_ACCESS_ENTRIES, {"reviewId": NOWHERE}),
    "officerProposals": Look(documents.OFFICER_PROPOSALS, {"filter": {"statuses": ["FAILED"]}}),
    "accessRequests": Look(requesting.ACCESS_REQUESTS),
    "emergencyAccesses": Look(sharing.EMERGENCY_ACCESSES),
    "legalHolds": Look(LEGAL_HOLDS),
    "retentionPolicies": Look(POLICIES),
    "retentionPreview": Look(PREVIEW, {"policyId": 999}, "ABSENT"),
    "storageReport": Look(STORAGE_REPORT),
    "costReport": Look(documents.COST_REPORT),
    "costEstimate": Look(documents.COST_ESTIMATE),
}
WITHOUT_A_QUOTA = {"viewer", "consentText"}
"""Fields without a quota: the caller's own name, and a text that everybody may read."""


def test_every_query_is_tested() -> None:
    assert QUERIES.keys() == {name for name, (kind, _) in FIELDS.items() if kind == "query"} - WITHOUT_A_QUOTA


async def _used(harness: ApiHarness, person: Person, meter: str = "pages") -> int:
    (row,) = await harness.rows(
        "select coalesce(sum(used), 0) as used from private.usage where person_id = %s and meter = %s",
        person.user_id,
        meter,
    )
    return int(row["used"])


async def _person(harness: ApiHarness, role: str) -> Person:
    return (await harness.case()).patient if role == "patient" else await harness.staff(role)


def _roles(names: set[str]) -> list[tuple[str, str]]:
    permissions = {name: permission_of(FIELDS[name][1]) for name in names}
    return sorted((name, role) for name, one in permissions.items() if one is not None for role in one.roles)


@pytest.mark.parametrize(("name", "role"), _roles(set(QUERIES) - {"consultations"}))
async def test_law_1_query_that_finds_nothing_writes_an_audit_row_and_uses_the_quota(
    empty: ApiHarness, name: str, role: str
) -> None:
    look, person, permission = QUERIES[name], await _person(empty, role), permission_of(FIELDS[name][1])
    assert permission is not None
    async with delete_policies_afterwards(empty):
        await empty.rows("delete from resguardo.retention_policies returning id")
        answer = await person.send(look.document, **look.variables)
    assert ("errors" in answer.body) == (look.outcome == "ABSENT"), answer.body
    (row,) = await empty.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["actor_role"]) == (permission.action, look.outcome, role)
    assert row["row_count"] == (1 if name == "storageReport" else 0)
    assert await _used(empty, person, look.meter) == 1


@pytest.mark.parametrize("role", ["clinician", "patient"])
async def test_law_1_empty_list_of_consultations_writes_an_audit_row_and_uses_the_quota(
    empty: ApiHarness, role: str
) -> None:
    person = await empty.staff("clinician")
    if role == "patient":
        person = await empty.user(aal="aal1")
        await empty.rows(
            "insert into resguardo.patients (external_id, user_id) values (%s, %s)",
            str(person.user_id),
            person.user_id,
        )
    answer = await person.send(documents.CONSULTATIONS)
    assert answer.data["consultations"]["edges"] == []
    (row,) = await empty.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["row_count"]) == ("consultation.list", "ALLOWED", 0)
    assert await _used(empty, person) == 1


async def test_law_1_subscription_to_an_unknown_consultation_writes_an_audit_row_and_uses_the_quota(
    empty: ApiHarness,
) -> None:
    doctor = await empty.clinician()
    async with open_socket(empty.api_url, origin=None) as client:
        await client.init(doctor)
        await client.subscribe(documents.RECORDING_CHANGED, consultationId=NOWHERE)
        assert (await client.error())["extensions"]["code"] == "NOT_FOUND"
        (row,) = await empty.audit(client.request_id)
    assert (row["action"], row["outcome"]) == ("recording.watch", "ABSENT")
    assert await _used(empty, doctor) == 1


CREATE = {
    "requestAccounting",
    "attestReview",
    "registerConsultation",
    "inviteStaff",
    "processLivekitWebhook",
    "recordVendorAgreement",
    "startStaffAccessReview",
}
"""Mutations that look up no id."""
GIVEN: dict[str, tuple[str, dict[str, Any]]] = {
    "requestAmendment": (
        """
          mutation ($id: ID!) {
            requestAmendment(input: {consultation: {id: $id}, part: RECORD, text: "a"}) { __typename }
          }
        """,
        {"id": NOWHERE},
    ),
    "recordAmendmentRequest": (
        """
          mutation ($id: ID!) {
            recordAmendmentRequest(
              input: {consultation: {id: $id}, part: RECORD, text: "a", receivedOn: "2026-11-21"}
            ) { __typename }
          }
        """,
        {"id": NOWHERE},
    ),
    "openBreachAssessment": (
        """
          mutation ($id: ID!) {
            openBreachAssessment(
              input: {
                filter: {recordedDuring: {from: "2026-11-01T00:00:00Z", until: "2026-11-02T00:00:00Z"}}
                discoveredOn: "2026-11-20", subjectId: $id
              }
            ) { __typename }
          }
        """,
        {"id": NOWHERE},
    ),
    "recordBreachNotice": (
        """
          mutation ($id: ID!) {
            recordBreachNotice(
              input: {breachAssessmentId: $id, kind: SECRETARY, method: HHS_PORTAL, sentOn: "2026-11-21"}
            ) { __typename }
          }
        """,
        {"id": NOWHERE},
    ),
    "recordConsent": (documents.RECORD_CONSENT, {"consent": consent_input(NOWHERE)}),
    "joinConsultation": (documents.JOIN, {"consultationId": NOWHERE}),
    "completeImport": (COMPLETE_IMPORT, {"importId": NOWHERE}),
    "approveRetentionPolicy": (APPROVE_POLICY, {"policyId": 999}),
    "rejectRetentionPolicy": (REJECT_POLICY, {"policyId": 999}),
    "importRecording": (
        """
          mutation ($id: ID!) {
            importRecording(input: {consultationId: $id, sizeBytes: 10}) { recordingImport { id } }
          }
        """,
        {"id": NOWHERE},
    ),
    "requestAccess": (requesting.REQUEST_ACCESS, {"request": {"consultation": {"id": NOWHERE}}}),
    "placeLegalHold": (
        "mutation ($hold: PlaceLegalHoldInput!) { placeLegalHold(input: $hold) { coveredRecordingCount } }",
        {"hold": on_patient(NOWHERE)},
    ),
    "shareConsultation": (
        sharing.SHARE_CONSULTATION,
        {
            "share": {
                "consultationId": NOWHERE,
                "colleagueId": NOWHERE,
                "purpose": "COVERAGE",
                "endsAt": sharing.tomorrow(),
            }
        },
    ),
    "endShare": (sharing.END_SHARE, {"shareId": NOWHERE}),
    "recordSharingAuthorization": (
        sharing.RECORD_AUTHORIZATION,
        {"paper": {"consultationId": NOWHERE, "signedOn": "2026-11-01", "expiresAt": sharing.tomorrow()}},
    ),
    "withdrawSharingAuthorization": (sharing.WITHDRAW_AUTHORIZATION, {"paperId": NOWHERE}),
    "breakGlass": (
        sharing.BREAK_GLASS,
        {"glass": {"patientExternalId": "nobody at all", "reason": "DISASTER"}},
    ),
    "createClip": (
        documents.CREATE_CLIP,
        {"recordingId": NOWHERE, "start": 0, "end": 1, "purposeOfUse": "TREATMENT"},
    ),
    "exportAuditEvents": (
        "mutation ($id: ID!) { exportAuditEvents(input: {filter: {patient: {id: $id}}}) { __typename } }",
        {"id": NOWHERE},
    ),
    "approveReviewPolicy": (APPROVE_RULES, {"policyId": 999}),
    "rejectReviewPolicy": (REJECT_RULES, {"policyId": 999}),
    "recordDisposition": (RECORD_DISPOSITION, {"caseId": NOWHERE}),
    "assignReviewCase": (ASSIGN_REVIEW_CASE, {"caseId": NOWHERE}),
    "reinstateStaff": (documents.REINSTATE_STAFF, {"userId": NOWHERE}),
    "reassignConsultations": (
        documents.REASSIGN_CONSULTATIONS,
        {"fromDoctorId": NOWHERE, "toDoctorId": str(uuid4())},
    ),
    "addAddendum": (documents.ADD_ADDENDUM, {"id": NOWHERE, "lines": ["No fever."]}),
    "denyAccessRequest": (
        "mutation ($id: ID!) { denyAccessRequest(input: {accessRequestId: $id, ground: EXCEPTED}) { __typename } }",
        {"id": NOWHERE},
    ),
}


@pytest.mark.parametrize(
    ("name", "role"),
    _roles({name for name, (kind, _) in FIELDS.items() if kind == "mutation"} - CREATE),
)
async def test_law_1_mutation_of_an_unknown_id_writes_one_audit_row(
    empty: ApiHarness, name: str, role: str
) -> None:
    person, permission = await _person(empty, role), permission_of(FIELDS[name][1])
    assert permission is not None
    document, variables = GIVEN.get(name, (good_document(name, "__typename"), {}))
    if name == "recordAccessRequest":
        (row,) = await empty.rows("select private.today() as today")
        document = document.replace("2026-11-21", str(row["today"]))
    answer = await person.send(document, **variables)
    assert answer.error.code == "NOT_FOUND", answer.body
    (row,) = await empty.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["row_count"]) == (permission.action, "ABSENT", 0)


async def _rows(harness: ApiHarness, answer: Answer) -> tuple[str, int, list[UUID], list[str]]:
    """Return four values of the one audit row that the answer wrote: the outcome, the number of rows, the patient
    ids and the entity ids.
    """
    (row,) = await harness.audit(answer.request_id)
    return (
        row["outcome"],
        row["row_count"],
        row["patient_ids"],
        [one for named in row["entities"] for one in named["ids"]],
    )


@dataclass(frozen=True)
class Filtered:
    """A GraphQL query, with the variable by which it filters its result by an id. `variables` is the name of the
    GraphQL variable that takes the id, and `key` says which id.
    """

    document: str
    variables: str
    of: str
    is_list: bool = True
    key: str = "id"

    def given(self, entity: object) -> dict[str, Any]:
        """Return the variables with which the GraphQL query asks for the given id."""
        if not self.is_list or self.variables in ("recordingId", "id", "externalId"):
            return {self.variables: str(entity)}
        filter_by = {"filter": {self.variables: {self.key: str(entity)}}}
        return filter_by | ({"query": "headache"} if "$query" in self.document else {})


_CERTIFICATES = Filtered(documents.DELETION_CERTIFICATES, "recordingId", "recording")
FILTERS = {
    "signed notes of a patient": Filtered(documents.SIGNED_NOTES, "patient", "patient"),
    "certificates": _CERTIFICATES,
    "certificates of notes": Filtered(documents.SIGNED_NOTE_CERTIFICATES, "recordingId", "recording"),
    "transcript": Filtered(documents.TRANSCRIPT, "id", "recording", is_list=False),
    "recordings of a consultation": Filtered(documents.RECORDINGS, "consultation", "consultation"),
    "recordings of a consultation by external id": Filtered(
        documents.RECORDINGS, "consultation", "consultation", key="externalId"
    ),
    "search in a consultation": Filtered(documents.TRANSCRIPT_SEARCH, "consultation", "consultation"),
    "search in a patient's": Filtered(documents.TRANSCRIPT_SEARCH, "patient", "patient"),
    "search in a consultation by external id": Filtered(
        documents.TRANSCRIPT_SEARCH, "consultation", "consultation", key="externalId"
    ),
    "search in a patient's by external id": Filtered(
        documents.TRANSCRIPT_SEARCH, "patient", "patient", key="externalId"
    ),
}


def _entity(case: Case, of: str, recording: UUID) -> str:
    return {"consultation": case.id, "patient": case.patient_id, "recording": str(recording)}[of]


@pytest.mark.parametrize("look", FILTERS.values(), ids=FILTERS)
async def test_empty_result_is_allowed_denied_or_absent_by_the_owner_of_the_id(
    harness: ApiHarness, look: Filtered
) -> None:
    case = await harness.case()
    recording = await harness.recording(case, "FAILED")
    if look.document == documents.RECORDINGS:
        case = await harness.case()
    entity = _entity(case, look.of, recording)
    registered = {
        "consultation": case.registration["externalId"],
        "patient": case.registration["patientExternalId"],
    }
    wanted = look.given(registered[look.of] if look.key == "externalId" else entity)
    own = await case.doctor.send(look.document, **wanted)
    outcome, rows, patients, entities = await _rows(harness, own)
    assert (outcome, rows) == ("ALLOWED", 0)
    named = ([UUID(case.patient_id)], [entity]) if look.of == "recording" else ([], [])
    assert (patients, entities) == named, "a list that shows nobody names nobody"
    other = await harness.clinician()
    hidden = await other.send(look.document, **wanted)
    outcome, rows, patients, entities = await _rows(harness, hidden)
    assert (outcome, rows, patients, entities) == ("DENIED", 0, [UUID(case.patient_id)], [entity])
    absent = await other.send(look.document, **look.given(uuid4()))
    outcome, rows, patients, _ = await _rows(harness, absent)
    assert (outcome, rows, patients) == ("ABSENT", 0, [])
    told = [{key: answer.body.get(key) for key in ("data",)} for answer in (hidden, absent)]
    assert told[0] == told[1]
    assert ("errors" in hidden.body) == ("errors" in absent.body)


async def test_own_recording_that_exists_has_no_certificates(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    for person in (case.doctor, await harness.staff("compliance")):
        answer = await person.send(documents.DELETION_CERTIFICATES, recordingId=str(recording))
        assert answer.data["deletionCertificates"]["edges"] == []
        assert await _rows(harness, answer) == ("ALLOWED", 0, [UUID(case.patient_id)], [str(recording)])
    officer = await harness.staff("compliance")
    nothing = await officer.send(documents.DELETION_CERTIFICATES, recordingId=NOWHERE)
    assert (nothing.error.code, nothing.error.reason) == ("NOT_FOUND", "certificate_not_found")
    assert (await _rows(harness, nothing))[0] == "ABSENT"


async def test_audit_row_of_deletions_tells_a_hidden_from_an_absent_recording(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    other, officer = await harness.clinician(), await harness.staff("compliance")
    for person, entity, expected in (
        (case.doctor, recording, "ALLOWED"),
        (officer, recording, "ALLOWED"),
        (other, recording, "DENIED"),
        (case.doctor, uuid4(), "ABSENT"),
        (officer, uuid4(), "ABSENT"),
    ):
        answer = await person.send(documents.DELETIONS, filter={"recordingId": str(entity)})
        assert answer.data["deletions"]["edges"] == []
        assert (await _rows(harness, answer))[:2] == (expected, 0)


async def test_deletions_of_a_deleted_recording_are_allowed_and_counted(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    await destroy_recording(harness, recording)
    answer = await case.doctor.send(documents.DELETIONS, filter={"recordingId": str(recording)})
    assert (await _rows(harness, answer))[:2] == ("ALLOWED", 1)
    certified = await case.doctor.send(documents.DELETION_CERTIFICATES, recordingId=str(recording))
    assert await _rows(harness, certified) == ("ALLOWED", 1, [UUID(case.patient_id)], [str(recording)])


async def test_search_with_an_own_and_a_hidden_id_is_denied(harness: ApiHarness, case: Case) -> None:
    recording, other = await harness.recording(case), await harness.case()
    answer = await case.doctor.send(
        documents.TRANSCRIPT_SEARCH,
        query="headache",
        filter={
            "recordingId": str(recording),
            "consultation": {"id": other.id},
            "patient": {"id": case.patient_id},
        },
    )
    assert await _rows(harness, answer) == ("DENIED", 0, [UUID(other.patient_id)], [other.id])


@pytest.mark.parametrize("key", ["id", "externalId"])
async def test_audit_row_of_a_consultation_tells_a_hidden_from_an_absent_one(
    harness: ApiHarness, case: Case, key: str
) -> None:
    entity = case.id if key == "id" else str(case.consultation["externalId"])
    other = await harness.clinician()
    for person, wanted, expected in (
        (case.doctor, entity, "ALLOWED"),
        (case.patient, entity, "ALLOWED"),
        (other, entity, "DENIED"),
        (other, str(uuid4()), "ABSENT"),
    ):
        answer = await person.send(documents.CONSULTATION_BY[key], **{key: wanted})
        assert (await _rows(harness, answer))[0] == expected


@pytest.mark.parametrize("key", ["id", "externalId"])
@pytest.mark.parametrize("kind", ["patient", "consultation"])
async def test_audit_events_of_an_unknown_patient_or_consultation_are_absent(
    harness: ApiHarness, case: Case, officer: Person, kind: str, key: str
) -> None:
    named = {
        ("patient", "id"): case.patient_id,
        ("patient", "externalId"): case.registration["patientExternalId"],
        ("consultation", "id"): case.id,
        ("consultation", "externalId"): case.registration["externalId"],
    }[kind, key]
    found = await officer.send(documents.AUDIT_EVENTS, filter={kind: {key: named}})
    assert found.data["auditEvents"]["edges"]
    assert (await _rows(harness, found))[0] == "ALLOWED"
    nothing = await officer.send(
        documents.AUDIT_EVENTS, filter={kind: {key: named}, "action": "transcript.search"}
    )
    assert (await _rows(harness, nothing))[:2] == ("ALLOWED", 0)
    unknown = await officer.send(documents.AUDIT_EVENTS, filter={kind: {key: str(uuid4())}})
    assert unknown.data["auditEvents"]["edges"] == []
    assert (await _rows(harness, unknown))[:2] == ("ABSENT", 0)


async def test_transcript_that_is_not_ready_is_not_audited_as_denied(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case)
    await store_transcript(harness, recording)
    await harness.rows(
        "update resguardo.transcripts set status = 'RUNNING' where recording_id = %s", recording
    )
    answer = await case.doctor.send(documents.TRANSCRIPT, id=str(recording))
    assert answer.error.code == "NOT_FOUND"
    assert (await _rows(harness, answer))[:2] == ("ALLOWED", 0)


def _audited() -> Iterator[tuple[str, str]]:
    """Yield every SQL statement that reads or lists audited data, with the names of its module and its variable."""
    for module in list(sys.modules.values()):
        for name, value in vars(module).items() if module.__name__.startswith("app.") else ():
            if isinstance(value, AuditedRead):
                yield f"{module.__name__}.{name}", value.statement(value.details)
            elif isinstance(value, AuditedList):
                yield f"{module.__name__}.{name}", value.statement()
                filters = (*value.conditions, *value.values)
                yield f"{module.__name__}.{name}", value.statement(filters, value.details, is_later=True)
            elif isinstance(value, (EntityRead, EntityList)):
                yield f"{module.__name__}.{name}", composer._STATEMENT


def test_every_audited_statement_uses_its_audit_row() -> None:
    """Postgres does not call the audit function if the statement does not use the result of the function."""
    statements = list(_audited())
    assert len(statements) > 15
    for name, statement in statements:
        assert "private.record_lookup(" in statement, name
        assert "(select s.recorded from seen as s) as recorded" in statement.rpartition("\n)\n")[2], name


def test_only_audited_statements_write_the_audit_row_of_a_read() -> None:
    for path in Path("app").rglob("*.sql"):
        for statement in path.read_text(encoding="utf-8").split("-- name: ")[1:]:
            assert "private.record_lookup(" not in statement, statement.splitlines()[0]
            if not statement.startswith("record_access"):
                assert "private.record_access(" not in statement, statement.splitlines()[0]
