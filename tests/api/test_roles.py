"""Tests of every root field of the schema with every kind of caller.

A test fails if a root field has no entry in this file, so every new root field needs an entry with its expected
permissions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, LiteralString
from uuid import UUID

import pytest
from graphql import GraphQLSchema, build_schema
from websockets.exceptions import ConnectionClosed

from app.session_notes.model import NoteKind
from devstack.livekit.webhooks import sign
from graphql_schema.schema import make_schema
from tests.api import accounting, amending, assessing, disclosing, documents, requesting, sharing
from tests.api.deleting import destroy_recording, request_deletion
from tests.api.delivering import AGREEMENT, insert_delivery
from tests.api.drafting import store_suggestions
from tests.api.exporting import (
    AUDIT_EXPORTS,
    EXPORT_AUDIT_EVENTS,
    ISSUE_AUDIT_EXPORT_URL,
    REVEAL_AUDIT_EXPORT_SECRET,
    insert_audit_export,
)
from tests.api.harness import (
    LIVEKIT_KEY,
    LIVEKIT_SECRET,
    ApiHarness,
    Case,
    Person,
    consent_input,
    consultation_input,
)
from tests.api.holding import LEGAL_HOLDS, PLACE_HOLD, RELEASE_HOLD, on_patient, place_hold
from tests.api.importing import COMPLETE_IMPORT, IMPORT, arrange_import, import_input
from tests.api.noting import store_note
from tests.api.picturing import store_thumbnail
from tests.api.retaining import (
    APPROVE_POLICY,
    POLICIES,
    PREVIEW,
    REJECT_POLICY,
    STORAGE_REPORT,
    propose_policy,
)
from tests.api.reviewing import (
    APPROVE_RULES,
    ASSIGN_REVIEW_CASE,
    RECORD_DISPOSITION,
    REJECT_RULES,
    REVIEW_CASE,
    REVIEW_CASES,
    REVIEW_RULES,
    open_case,
    propose_rules,
)
from tests.api.socket_client import Socket, open_socket
from tests.api.speaking import store_transcript
from tests.api.writing_insights import store_insights

pytestmark = pytest.mark.anyio

Who = Literal[
    "clinician",
    "compliance",
    "patient",
    "unregistered",
    "no token",
    "aal1 clinician",
    "signed out",
    "suspended",
    "delegated clinician",
    "delegated patient",
]
WHO: tuple[Who, ...] = Who.__args__  # type: ignore[attr-defined]
OK = "OK"
OF_NOTES = ("writeSessionNote", "writePsychotherapyNote")
OF_A_NOTE = ("editSessionNote", "deleteSessionNote", "editPsychotherapyNote", "deletePsychotherapyNote")
OF_INSIGHTS = ("insights", "retryInsights", "refreshInsights", "dismissInsight")
OF_DRAFTS = ("noteDraft", "editNote", "keepNoteFlag", "regenerateSection", "signNote", "addAddendum")
OF_CASES = ("reviewCase", "recordDisposition", "assignReviewCase")
OF_WORDS = (
    "transcript",
    "askTranscript",
    "correctTranscript",
    "attributeTurn",
    "retryTranscription",
    "issueSubtitleUrls",
)
STATES: dict[str, LiteralString] = {
    "retryInsights": (
        "update resguardo.insights set status = 'FAILED', error = 'insights_unusable' where recording_id = %s"
    ),
    "refreshInsights": "update resguardo.insights set status = 'STALE' where recording_id = %s",
}
"""The statements that bring insights into the states in which these mutations are possible."""

_SESSION: dict[Who, str] = {
    "unregistered": "FORBIDDEN",
    "no token": "UNAUTHENTICATED",
    "aal1 clinician": "FORBIDDEN",
    "signed out": "UNAUTHENTICATED",
    "suspended": "UNAUTHENTICATED",
}
"""The codes for callers that are refused by every field that requires a person."""


def _row(clinician: str, compliance: str, patient: str) -> dict[Who, str]:
    return {
        **_SESSION,
        "clinician": clinician,
        "compliance": compliance,
        "patient": patient,
        "delegated clinician": "UNAUTHENTICATED" if clinician == OK else clinician,
        "delegated patient": "UNAUTHENTICATED" if patient == OK else patient,
    }


CLINICIAN = _row(OK, "FORBIDDEN", "FORBIDDEN")
COMPLIANCE = {**_row("FORBIDDEN", OK, "FORBIDDEN"), "signed out": "FORBIDDEN", "suspended": "FORBIDDEN"}
"""The callers with an ended session are clinicians, and the role check comes before the session check."""
BOTH_SIDES = _row(OK, "FORBIDDEN", OK)
STAFF = _row(OK, OK, "FORBIDDEN")
STAFF_AND_PATIENTS = _row(OK, OK, OK)
PATIENT = COMPLIANCE | {"compliance": "FORBIDDEN", "patient": OK, "delegated patient": "UNAUTHENTICATED"}
COMPLIANCE_AND_PATIENT = COMPLIANCE | {"patient": OK, "delegated patient": "UNAUTHENTICATED"}
ANYBODY: dict[Who, str] = dict.fromkeys(WHO, OK)


@dataclass(frozen=True)
class Field:
    """A root field of the schema, with the operation to send and the expected result for each kind of caller."""

    document: str
    expected: Mapping[Who, str]


FIELDS = {
    "viewer": Field(documents.VIEWER, STAFF_AND_PATIENTS),
    "consentText": Field(documents.CONSENT_TEXT, ANYBODY),
    "consultation": Field(documents.CONSULTATION, STAFF_AND_PATIENTS),
    "consultations": Field(documents.CONSULTATIONS, STAFF_AND_PATIENTS),
    "recording": Field(documents.RECORDING, STAFF),
    "recordings": Field(documents.RECORDINGS, CLINICIAN),
    "storedObject": Field(documents.STORED_OBJECT, CLINICIAN),
    "activeRooms": Field(documents.ACTIVE_ROOMS, CLINICIAN),
    "auditEvents": Field(documents.AUDIT_EVENTS, COMPLIANCE),
    "auditSummary": Field(documents.AUDIT_SUMMARY, COMPLIANCE),
    "registerConsultation": Field(documents.REGISTER, CLINICIAN),
    "recordConsent": Field(documents.RECORD_CONSENT, BOTH_SIDES),
    "withdrawConsent": Field(documents.WITHDRAW_CONSENT, BOTH_SIDES),
    "inviteGuest": Field(documents.INVITE, CLINICIAN),
    "joinConsultation": Field(documents.JOIN, BOTH_SIDES),
    "joinAsGuest": Field(documents.JOIN_AS_GUEST, ANYBODY),
    "startRecording": Field(documents.START, CLINICIAN),
    "stopRecording": Field(documents.STOP, CLINICIAN),
    "importRecording": Field(IMPORT, CLINICIAN),
    "completeImport": Field(COMPLETE_IMPORT, CLINICIAN),
    "transcript": Field(documents.TRANSCRIPT, CLINICIAN),
    "signedNotes": Field(documents.SIGNED_NOTES, CLINICIAN),
    "transcriptSearch": Field(documents.TRANSCRIPT_SEARCH, CLINICIAN),
    "sessionNotes": Field(documents.SESSION_NOTES, CLINICIAN),
    "writeSessionNote": Field(documents.WRITE_SESSION_NOTE, CLINICIAN),
    "editSessionNote": Field(documents.EDIT_SESSION_NOTE, CLINICIAN),
    "deleteSessionNote": Field(documents.DELETE_SESSION_NOTE, CLINICIAN),
    "psychotherapyNotes": Field(documents.PSYCHOTHERAPY_NOTES, CLINICIAN),
    "writePsychotherapyNote": Field(documents.WRITE_PSYCHOTHERAPY_NOTE, CLINICIAN),
    "editPsychotherapyNote": Field(documents.EDIT_PSYCHOTHERAPY_NOTE, CLINICIAN),
    "deletePsychotherapyNote": Field(documents.DELETE_PSYCHOTHERAPY_NOTE, CLINICIAN),
    "correctTranscript": Field(documents.CORRECT_TRANSCRIPT, CLINICIAN),
    "attributeTurn": Field(documents.ATTRIBUTE_TURN, CLINICIAN),
    "noteDraft": Field(documents.NOTE_DRAFT, CLINICIAN),
    "editNote": Field(documents.EDIT_NOTE, CLINICIAN),
    "keepNoteFlag": Field(documents.KEEP_NOTE_FLAG, CLINICIAN),
    "regenerateSection": Field(documents.REGENERATE_SECTION, CLINICIAN),
    "signNote": Field(documents.SIGN_NOTE, CLINICIAN),
    "addAddendum": Field(documents.ADD_ADDENDUM, CLINICIAN),
    "retryTranscription": Field(documents.RETRY_TRANSCRIPTION, CLINICIAN),
    "insights": Field(documents.INSIGHTS, CLINICIAN),
    "retryInsights": Field(documents.RETRY_INSIGHTS, CLINICIAN),
    "refreshInsights": Field(documents.REFRESH_INSIGHTS, CLINICIAN),
    "dismissInsight": Field(documents.DISMISS_INSIGHT, CLINICIAN),
    "askTranscript": Field(documents.ASK_TRANSCRIPT, CLINICIAN),
    "editConsultationLabel": Field(documents.SET_LABEL, CLINICIAN),
    "switchTranscription": Field(documents.SWITCH_TRANSCRIPTION, CLINICIAN),
    "issueSubtitleUrls": Field(documents.ISSUE_SUBTITLE_URLS, CLINICIAN),
    "issueDownloadUrl": Field(documents.ISSUE_URL, CLINICIAN),
    "issuePlaybackUrl": Field(documents.ISSUE_PLAYBACK_URL, CLINICIAN),
    "issueThumbnailUrl": Field(documents.ISSUE_THUMBNAIL_URL, CLINICIAN),
    "createClip": Field(documents.CREATE_CLIP, CLINICIAN),
    "processLivekitWebhook": Field(documents.WEBHOOK, ANYBODY),
    "shareConsultation": Field(sharing.SHARE_CONSULTATION, CLINICIAN),
    "endShare": Field(sharing.END_SHARE, CLINICIAN),
    "recordSharingAuthorization": Field(sharing.RECORD_AUTHORIZATION, CLINICIAN),
    "withdrawSharingAuthorization": Field(sharing.WITHDRAW_AUTHORIZATION, CLINICIAN),
    "breakGlass": Field(sharing.BREAK_GLASS, CLINICIAN),
    "emergencyAccesses": Field(sharing.EMERGENCY_ACCESSES, COMPLIANCE),
    "publishStaffName": Field(documents.PUBLISH_STAFF_NAME, COMPLIANCE),
    "staffAccessReviews": Field(documents.STAFF_ACCESS_REVIEWS, COMPLIANCE),
    "staffAccessReviewEntries": Field(documents.STAFF_ACCESS_ENTRIES, COMPLIANCE),
    "startStaffAccessReview": Field(documents.START_ACCESS_REVIEW, COMPLIANCE),
    "decideStaffAccess": Field(documents.DECIDE_STAFF_ACCESS, COMPLIANCE),
    "approveStaffAccessReview": Field(documents.APPROVE_ACCESS_REVIEW, COMPLIANCE),
    "rejectStaffAccessReview": Field(documents.REJECT_ACCESS_REVIEW, COMPLIANCE),
    "officerProposals": Field(documents.OFFICER_PROPOSALS, COMPLIANCE),
    "resetSecondFactor": Field(documents.RESET_SECOND_FACTOR, COMPLIANCE),
    "reinstateStaff": Field(documents.REINSTATE_STAFF, COMPLIANCE),
    "reassignConsultations": Field(documents.REASSIGN_CONSULTATIONS, COMPLIANCE),
    "approveOfficerProposal": Field(documents.APPROVE_PROPOSAL, COMPLIANCE),
    "rejectOfficerProposal": Field(documents.REJECT_PROPOSAL, COMPLIANCE),
    "suspendStaff": Field(documents.SUSPEND, COMPLIANCE),
    "inviteStaff": Field(documents.INVITE_STAFF, COMPLIANCE),
    "staffInvitations": Field(documents.STAFF_INVITATIONS, COMPLIANCE),
    "staff": Field(documents.STAFF, COMPLIANCE),
    "placeLegalHold": Field(PLACE_HOLD, COMPLIANCE),
    "releaseLegalHold": Field(RELEASE_HOLD, COMPLIANCE),
    "legalHolds": Field(LEGAL_HOLDS, COMPLIANCE),
    "retentionPolicies": Field(POLICIES, COMPLIANCE),
    "retentionPreview": Field(PREVIEW, COMPLIANCE),
    "approveRetentionPolicy": Field(APPROVE_POLICY, COMPLIANCE),
    "rejectRetentionPolicy": Field(REJECT_POLICY, COMPLIANCE),
    "storageReport": Field(STORAGE_REPORT, COMPLIANCE),
    "costReport": Field(documents.COST_REPORT, COMPLIANCE),
    "costEstimate": Field(documents.COST_ESTIMATE, STAFF),
    "liftLanguageBudget": Field(documents.LIFT_BUDGET, COMPLIANCE),
    "deleteRecording": Field(documents.DELETE_RECORDING, STAFF),
    "undoDeletion": Field(documents.UNDO_DELETION, STAFF),
    "deletions": Field(documents.DELETIONS, STAFF),
    "deletionCertificates": Field(documents.DELETION_CERTIFICATES, STAFF),
    "signedNoteCertificates": Field(documents.SIGNED_NOTE_CERTIFICATES, STAFF),
    "accessRequests": Field(requesting.ACCESS_REQUESTS, COMPLIANCE_AND_PATIENT),
    "breachAssessments": Field(assessing.BREACH_ASSESSMENTS, COMPLIANCE),
    "sanctions": Field(assessing.SANCTIONS, COMPLIANCE),
    "attestations": Field(assessing.ATTESTATIONS, COMPLIANCE),
    **{name: Field(document, COMPLIANCE) for name, document in assessing.MUTATIONS.items()},
    "accessEntries": Field(documents.ACCESS_ENTRIES, COMPLIANCE_AND_PATIENT),
    "recordingSummaries": Field(documents.RECORDING_SUMMARIES, COMPLIANCE_AND_PATIENT),
    "auditExports": Field(AUDIT_EXPORTS, COMPLIANCE),
    "alerts": Field(documents.ALERTS, COMPLIANCE),
    "accountingRequests": Field(accounting.ACCOUNTING_REQUESTS, COMPLIANCE_AND_PATIENT),
    "amendments": Field(amending.AMENDMENTS, STAFF_AND_PATIENTS),
    "requestAmendment": Field(amending.REQUEST_AMENDMENT, PATIENT),
    "recordAmendmentRequest": Field(amending.RECORD_AMENDMENT, COMPLIANCE),
    "extendAmendment": Field(amending.EXTEND_AMENDMENT, COMPLIANCE),
    "acceptAmendment": Field(amending.ACCEPT_AMENDMENT, COMPLIANCE),
    "denyAmendment": Field(amending.DENY_AMENDMENT, COMPLIANCE),
    "disputeAmendment": Field(amending.DISPUTE_AMENDMENT, COMPLIANCE_AND_PATIENT),
    "rebutAmendment": Field(amending.REBUT_AMENDMENT, COMPLIANCE),
    "includeAmendment": Field(amending.INCLUDE_AMENDMENT, COMPLIANCE_AND_PATIENT),
    "requestAccounting": Field(accounting.REQUEST_ACCOUNTING, PATIENT),
    "recordAccountingRequest": Field(accounting.RECORD_ACCOUNTING, COMPLIANCE),
    "withdrawAccountingRequest": Field(accounting.WITHDRAW_ACCOUNTING, COMPLIANCE_AND_PATIENT),
    "extendAccountingRequest": Field(accounting.EXTEND_ACCOUNTING, COMPLIANCE),
    "fulfillAccountingRequest": Field(accounting.ISSUE_ACCOUNTING, COMPLIANCE),
    "objectFetches": Field(documents.FETCH_REPORT, COMPLIANCE),
    "releasedCopies": Field(disclosing.RELEASED_COPIES, COMPLIANCE),
    "disclosures": Field(disclosing.DISCLOSURES, COMPLIANCE),
    "disclosureSuspensions": Field(disclosing.SUSPENSIONS, COMPLIANCE),
    "recordDisclosure": Field(disclosing.RECORD_DISCLOSURE, COMPLIANCE),
    "suspendDisclosures": Field(disclosing.SUSPEND_DISCLOSURES, COMPLIANCE),
    "liftDisclosureSuspension": Field(disclosing.LIFT_SUSPENSION, COMPLIANCE),
    "webhookDeliveries": Field(documents.WEBHOOK_DELIVERIES, COMPLIANCE),
    "vendorAgreements": Field(documents.VENDOR_AGREEMENTS, COMPLIANCE),
    "recordVendorAgreement": Field(documents.RECORD_VENDOR_AGREEMENT, COMPLIANCE),
    "redeliverWebhook": Field(documents.REDELIVER_WEBHOOK, COMPLIANCE),
    "exportAuditEvents": Field(EXPORT_AUDIT_EVENTS, COMPLIANCE),
    "issueAuditExportUrl": Field(ISSUE_AUDIT_EXPORT_URL, COMPLIANCE),
    "revealAuditExportSecret": Field(REVEAL_AUDIT_EXPORT_SECRET, COMPLIANCE),
    "reviewRules": Field(REVIEW_RULES, COMPLIANCE),
    "approveReviewPolicy": Field(APPROVE_RULES, COMPLIANCE),
    "rejectReviewPolicy": Field(REJECT_RULES, COMPLIANCE),
    "reviewCases": Field(REVIEW_CASES, COMPLIANCE),
    "reviewCase": Field(REVIEW_CASE, COMPLIANCE),
    "recordDisposition": Field(RECORD_DISPOSITION, COMPLIANCE),
    "assignReviewCase": Field(ASSIGN_REVIEW_CASE, COMPLIANCE),
    "requestAccess": Field(requesting.REQUEST_ACCESS, PATIENT),
    "recordAccessRequest": Field(requesting.RECORD_REQUEST, COMPLIANCE),
    "withdrawAccessRequest": Field(requesting.WITHDRAW_REQUEST, COMPLIANCE_AND_PATIENT),
    "approveAccessRequest": Field(requesting.APPROVE_REQUEST, COMPLIANCE),
    "denyAccessRequest": Field(requesting.DENY_REQUEST, COMPLIANCE),
    "extendAccessRequest": Field(requesting.EXTEND_REQUEST, COMPLIANCE),
    "askAccessReview": Field(requesting.ASK_REVIEW, COMPLIANCE_AND_PATIENT),
    "recordAccessReview": Field(requesting.RECORD_REVIEW, COMPLIANCE),
    "issueAccessExportUrl": Field(requesting.ISSUE_EXPORT_URL, PATIENT),
    "revealAccessExportSecret": Field(requesting.REVEAL_SECRET, COMPLIANCE),
    "consultationChanged": Field(
        documents.CONSULTATION_CHANGED,
        CLINICIAN
        | {"delegated patient": "UNAUTHENTICATED"},  # The connection checks the session before the role
    ),
    "recordingsChanged": Field(
        documents.RECORDINGS_CHANGED,
        CLINICIAN
        | {"delegated patient": "UNAUTHENTICATED"},  # The connection checks the session before the role
    ),
    "sessionNotesChanged": Field(
        documents.SESSION_NOTES_CHANGED,
        CLINICIAN
        | {"delegated patient": "UNAUTHENTICATED"},  # The connection checks the session before the role
    ),
    "recordingChanged": Field(
        documents.RECORDING_CHANGED,
        CLINICIAN
        | {"delegated patient": "UNAUTHENTICATED"},  # The connection checks the session before the role
    ),
}


def _schema() -> GraphQLSchema:
    return build_schema(make_schema(is_production=False).as_str())


def test_every_root_field_has_an_entry() -> None:
    schema = _schema()
    assert schema.query_type is not None
    assert schema.mutation_type is not None
    assert schema.subscription_type is not None
    roots = (schema.query_type, schema.mutation_type, schema.subscription_type)
    assert {name for root in roots for name in root.fields} == FIELDS.keys()
    assert all(field.expected.keys() == set(WHO) for field in FIELDS.values())


async def _proposed(harness: ApiHarness, field: str) -> str | None:
    if field.endswith("ReviewPolicy"):
        return await propose_rules(harness)
    return await propose_policy(harness) if "etentionP" in field else None


async def _who(harness: ApiHarness, who: Who, case: Case) -> Person:
    doctor = case.doctor
    if who == "aal1 clinician":
        return await harness.with_session(doctor, aal="aal1")
    if who == "signed out":
        person = await harness.with_session(doctor)
        await harness.end_session(person)
        return person
    if who in ("delegated clinician", "delegated patient"):
        return await harness.delegated(doctor if who == "delegated clinician" else case.patient)
    if who == "suspended":
        await harness.rows(
            "update resguardo.staff set status = 'suspended', suspended_at = now() where user_id = %s",
            doctor.user_id,
        )
    people = {
        "clinician": doctor,
        "suspended": doctor,
        "patient": case.patient,
        "no token": harness.stranger(),
    }
    if who in people:
        return people[who]
    return await (harness.staff("compliance") if who == "compliance" else harness.user())


async def _variables(harness: ApiHarness, field: str, who: Who, case: Case) -> dict[str, object]:
    recording = str(await harness.recording(case))
    has_import = field in ("importRecording", "completeImport")
    kind = "PATIENT" if who == "patient" else "DOCTOR"
    body = (
        f'{{"event":"room_started","id":"EV_{recording[:8]}","createdAt":"1795251600","room":{{"name":"r"}}}}'
    )
    given: dict[str, object] = {
        "consultation": consultation_input(),
        "consent": consent_input(case.participant(kind)),
        "participantId": case.participant(kind),
        "consultationId": case.id,
        "recordingId": recording,
        "import": import_input(case),
        "importId": await arrange_import(harness, case) if has_import else None,
        "invitation": await _invitation(case) if field == "joinAsGuest" else None,
        "policyId": await _proposed(harness, field),
        "request": {},
        "written": {
            "patient": {"id": case.patient_id},
            "receivedOn": str((await harness.rows("select private.today() as today"))[0]["today"]),
        },
        "ground": "EXCEPTED",
        "extension": "VOLUME",
        "reviewerId": str((await harness.clinician()).user_id),
        "outcome": "UPHELD",
        "hold": on_patient(case.patient_id),
        "wanted": {"format": "CSV"},
        "wish": {},
        "amendment": amending.amendment_input(case),
        "letter": amending.amendment_input(
            case, receivedOn=str((await harness.rows("select private.today() as today"))[0]["today"])
        ),
        "disclosure": disclosing.disclosure_input(case.patient_id),
        "suspension": disclosing.suspension_input(harness, case.patient_id),
        "caseId": await open_case(harness, case.doctor) if field in OF_CASES else None,
        "holdId": str(await place_hold(harness, case)) if field == "releaseLegalHold" else None,
        "id": recording
        if field
        in (
            "recording",
            "storedObject",
            "deleteRecording",
            "issueThumbnailUrl",
            *OF_WORDS,
            *OF_INSIGHTS,
            *OF_DRAFTS,
        )
        else case.id,
        "line": 1,
        "question": "Which pills?",
        "query": "headache",
        "first": 20,
        "turn": 0,
        "text": "Something else was said.",
        "isTranscribed": True,
        "label": "Knee, second visit",
        "role": "INTERPRETER",
        "email": f"{recording}@example.org",
        "staffRole": "CLINICIAN",
        "reason": "OTHER",
        "purposeOfUse": "TREATMENT",
        "start": 0,
        "end": 1,
        "language": "EN",
        "userId": str((await harness.clinician()).user_id),
        "fromDoctorId": str((await harness.clinician()).user_id),
        "toDoctorId": str(case.doctor.user_id),
        "body": body,
        "authorization": sign(body.encode(), LIVEKIT_KEY, LIVEKIT_SECRET)["authorization"],
    }
    given |= await _of_shares(harness, field, case)
    if field in OF_A_NOTE:
        kind_of_note = NoteKind.SESSION if "Session" in field else NoteKind.PSYCHOTHERAPY
        given["id"] = str(await store_note(harness, UUID(recording), kind=kind_of_note))
    given |= await _store_texts(harness, case, field, UUID(recording))
    given["agreement"] = AGREEMENT
    given["deliveryId"] = str(insert_delivery(harness)) if field == "redeliverWebhook" else ""
    given |= await assessing.breach_variables(harness, field, case)
    if field == "issueThumbnailUrl":
        await store_thumbnail(harness, UUID(recording))
    if field == "retryTranscription":
        await harness.rows(
            "update resguardo.transcripts set status = 'FAILED', error = 'speech_busy' where recording_id = %s",
            UUID(recording),
        )
    if field == "undoDeletion":
        await request_deletion(harness, UUID(recording))
    if field == "deletionCertificates":
        await destroy_recording(harness, UUID(recording))
    given |= await _insert_rows_of_compliance(harness, field, case)
    if "$requestId" in FIELDS[field].document:
        stage = requesting.STAGES.get(field, "OPEN")
        given["requestId"] = str(await requesting.insert_access_request(harness, case, stage, "WRITTEN"))
    await _arrange_staff(harness, field, given)
    names = {definition.split(":")[0] for definition in FIELDS[field].document.split("$")[1:]}
    return {name: value for name, value in given.items() if name in names}


async def _insert_rows_of_compliance(harness: ApiHarness, field: str, case: Case) -> dict[str, object]:
    """Insert the row of an officer that a call of the field names, and return the variable with its id."""
    if "$exportId" in FIELDS[field].document:
        return {"exportId": str(await insert_audit_export(harness, await harness.staff("compliance")))}
    if "$amendmentId" in FIELDS[field].document:
        stage = amending.STAGES.get(field, "OPEN")
        return {"amendmentId": await amending.insert_amendment(harness, case, stage)}
    if "$accountingId" in FIELDS[field].document:
        return {"accountingId": str(await accounting.insert_accounting_request(harness, case))}
    if "$suspensionId" in FIELDS[field].document:
        officer = await harness.staff("compliance")
        return {"suspensionId": str(await disclosing.insert_suspension(harness, case.patient_id, officer))}
    return {}


async def _arrange_staff(harness: ApiHarness, field: str, given: dict[str, object]) -> None:
    """Add to the variables a suspended doctor, or the proposal of another officer, if the field needs one."""
    if field in ("reinstateStaff", "reassignConsultations"):
        left = await harness.clinician()
        await harness.rows(
            "update resguardo.staff set status = 'suspended', suspended_at = now(), suspended_by = gen_random_uuid()"
            " where user_id = %s returning 1",
            left.user_id,
        )
        given["userId"] = given["fromDoctorId"] = str(left.user_id)
    if "$reviewId" in FIELDS[field].document:
        await harness.rows(
            "update resguardo.access_reviews set status = 'REJECTED', decided_by = started_by,"
            " decided_at = now() where status = 'OPEN' returning id"
        )
        starter = await harness.staff("compliance")
        given["reviewId"] = (await starter.ask(documents.START_ACCESS_REVIEW))["id"]
    if field.endswith("OfficerProposal"):
        proposer = await harness.staff("compliance")
        made = await proposer.ask(documents.RESET_SECOND_FACTOR, userId=given["userId"])
        given["id"] = made["id"]


async def _of_shares(harness: ApiHarness, field: str, case: Case) -> dict[str, object]:
    """Return the variables of the mutations about shares and emergency access, after making their rows."""
    colleague = (await harness.clinician()).user_id
    if field == "recordSharingAuthorization":
        await sharing.make_sensitive(harness, case)
    return {
        "share": sharing.share_input(case, colleague),
        "paper": sharing.paper_input(case),
        "shareId": await sharing.insert_share(harness, case, colleague) if field == "endShare" else None,
        "paperId": await sharing.insert_paper(harness, case)
        if field == "withdrawSharingAuthorization"
        else None,
        "glass": {
            "patientExternalId": await sharing.external_id_of(harness, await harness.case())
            if field == "breakGlass"
            else "nobody",
            "reason": "DISASTER",
        },
    }


async def _give_export(harness: ApiHarness, variables: Mapping[str, object], person: Person) -> None:
    """Make the person the owner of the export in the variables, if the person is a member of staff."""
    await harness.rows(
        "update resguardo.audit_exports as e set requested_by = s.user_id from resguardo.staff as s"
        " where e.id = %s::uuid and s.user_id = %s returning e.id",
        variables.get("exportId"),
        person.user_id,
    )


async def _store_texts(harness: ApiHarness, case: Case, field: str, recording: UUID) -> dict[str, object]:
    """Store the texts that a call of the field needs, and return the variables that depend on them."""
    if field not in (*OF_WORDS, *OF_INSIGHTS, *OF_DRAFTS):
        return {}
    transcript = await store_transcript(harness, recording)
    if field in OF_INSIGHTS:
        await store_insights(harness, recording, transcript)
        if field in STATES:
            await harness.rows(STATES[field], recording)
        return {}
    if field == "keepNoteFlag":
        await store_suggestions(harness, recording, transcript)
        return {"line": 2, "version": 1}
    if field in OF_DRAFTS:
        lines = [{"text": "Rest."}]
        await case.doctor.ask(documents.EDIT_NOTE, id=str(recording), lines=lines, version=0)
    if field == "addAddendum":
        await case.doctor.ask(documents.SIGN_NOTE, id=str(recording), version=1)
        return {"lines": ["No fever."]}
    return {"lines": [{"text": "Sleep."}], "version": 1}


async def _invitation(case: Case) -> str:
    """Return the secret of a new guest's invitation."""
    guest = await case.doctor.ask(documents.INVITE, consultationId=case.id, role="STUDENT")
    return str(guest["invitation"]["secret"])


SUBSCRIPTIONS = {"consultationChanged", "recordingChanged", "recordingsChanged", "sessionNotesChanged"}


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("field", [name for name in FIELDS if name not in SUBSCRIPTIONS])
async def test_field_answers_only_permitted_callers(harness: ApiHarness, field: str, who: Who) -> None:
    case = await harness.case()
    await case.consent()
    variables = await _variables(harness, field, who, case)
    person = await _who(harness, who, case)
    await _give_export(harness, variables, person)
    answer = await person.send(FIELDS[field].document, **variables)
    got = OK if "errors" not in answer.body else answer.error.code
    assert got == FIELDS[field].expected[who], answer.body
    if got != OK and who != "no token":
        (row,) = await harness.audit(answer.request_id)
        assert row["outcome"] == "DENIED"
        assert (row["actor_id"], row["session_fingerprint"]) == (person.user_id, person.fingerprint)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("field", sorted(SUBSCRIPTIONS))
async def test_subscription_answers_only_permitted_callers(harness: ApiHarness, field: str, who: Who) -> None:
    case = await harness.case()
    variables = await _variables(harness, field, who, case)
    person = await _who(harness, who, case)
    await _give_export(harness, variables, person)
    async with open_socket(harness.api_url, origin=None) as client:
        got = await _subscribed(client, person, FIELDS[field].document, variables)
        assert got == FIELDS[field].expected[who]
        if got != OK and who != "no token":
            (row,) = await harness.audit(client.request_id)
            assert row["outcome"] == "DENIED"
            assert (row["actor_id"], row["session_fingerprint"]) == (person.user_id, person.fingerprint)


async def _subscribed(client: Socket, person: Person, document: str, variables: dict[str, object]) -> str:
    """Subscribe to a field. Return OK, or the error code with which the subscription or its WebSocket connection
    ended.
    """
    await client.send_init(person)
    await client.subscribe(document, "1", **variables)
    try:
        assert await client.receive() == {"type": "connection_ack"}
        message = await client.receive()
    except ConnectionClosed as closed:
        return {4401: "UNAUTHENTICATED", 4403: "FORBIDDEN"}[closed.rcvd.code if closed.rcvd else 0]
    return OK if message["type"] == "next" else str(message["payload"][0]["extensions"]["code"])


async def test_token_with_the_session_of_another_person_is_refused(
    harness: ApiHarness, case: Case, other_doctor: Person
) -> None:
    token = harness.token(case.doctor.user_id, other_doctor.session_id)
    mixed = replace(case.doctor, token=token)
    assert await mixed.refused(documents.VIEWER) == ("UNAUTHENTICATED", "session_over")


async def test_aal2_token_of_an_aal1_session_is_refused(harness: ApiHarness, case: Case) -> None:
    weak = await harness.with_session(case.doctor, aal="aal1")
    token = harness.token(case.doctor.user_id, weak.session_id, aal="aal2")
    assert await replace(weak, token=token).refused(documents.VIEWER) == ("UNAUTHENTICATED", "session_over")


QUOTAS = {
    "pages": "counts as one page",
    "urls": "counts as one URL",
    "playbacks": "counts as one playback URL",
    "subtitles": "counts as one subtitle link",
    "invitations": "counts as one invitation",
    "exports": "counts as one export",
}
"""How the description of a root field says which hourly quota a call uses."""


@pytest.mark.parametrize("field", [name for name in FIELDS if name not in SUBSCRIPTIONS])
async def test_description_says_which_quota_a_call_uses(harness: ApiHarness, field: str) -> None:
    schema = _schema()
    assert schema.query_type is not None
    assert schema.mutation_type is not None
    description = (schema.query_type.fields | schema.mutation_type.fields)[field].description or ""
    roles: tuple[Who, ...] = ("clinician", "patient", "compliance")
    who = next(role for role in roles if FIELDS[field].expected[role] == OK)
    case = await harness.case()
    await case.consent()
    variables = await _variables(harness, field, who, case)
    person = await _who(harness, who, case)
    await _give_export(harness, variables, person)
    for meter in QUOTAS:
        await harness.spend(person, meter, 100_000)
    answer = await person.send(FIELDS[field].document, **variables)
    used = {answer.error.reason} if "errors" in answer.body else set()
    assert used == {f"quota_{meter}" for meter, said in QUOTAS.items() if said in description}
