"""Tests that a repeated call of each mutation has no second effect, as its description says."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest
from graphql import build_schema
from psycopg import sql

from app.session_notes.model import NoteKind
from tests.api import assessing, documents, sharing
from tests.api.accounting import insert_accounting_request
from tests.api.amending import STAGES, amendment_input, insert_amendment
from tests.api.deleting import request_deletion
from tests.api.delivering import AGREEMENT, insert_delivery
from tests.api.disclosing import disclosure_input, insert_suspension, suspension_input
from tests.api.drafting import store_suggestions
from tests.api.exporting import insert_audit_export
from tests.api.harness import ApiHarness, Case, Person, consent_input, consultation_input
from tests.api.holding import hold_input
from tests.api.importing import arrange_import, import_input
from tests.api.noting import store_note
from tests.api.requesting import insert_access_request
from tests.api.retaining import delete_policies_afterwards, propose_policy
from tests.api.reviewing import open_case, propose_rules
from tests.api.speaking import store_transcript
from tests.api.writing_insights import store_insights

pytestmark = pytest.mark.anyio

SCHEMA = build_schema(
    (Path(__file__).parents[2] / "graphql_schema/schema.graphql").read_text(encoding="utf-8")
)
assert SCHEMA.mutation_type is not None
MUTATIONS = SCHEMA.mutation_type.fields

TABLES = """
select n.nspname as schema, c.relname as name
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname in ('resguardo', 'private') and c.relkind = 'r' and c.relname <> 'usage'
"""
CONTENT = sql.SQL("select md5(string_agg(t::text, '|' order by t::text)) as digest from {} as t")


class Arranged:
    """The people and the consultation of one test."""

    def __init__(self, harness: ApiHarness, case: Case, officer: Person, other_officer: Person) -> None:
        self.harness = harness
        self.case = case
        self.officer = officer
        self.other_officer = other_officer

    async def ready(self) -> UUID:
        """Return a READY recording with a transcript."""
        recording = await self.harness.recording(self.case)
        await store_transcript(self.harness, recording)
        return recording

    async def request(self, stage: Any = "OPEN", channel: Any = "LOGIN") -> dict[str, str]:
        """Return the input with an access request at this stage."""
        request = await insert_access_request(self.harness, self.case, stage, channel)
        return {"accessRequestId": str(request)}


Call = tuple[Person, dict[str, Any]]
Arrange = Callable[[Arranged], Awaitable[Call]]


async def _register(at: Arranged) -> Call:
    return at.case.doctor, consultation_input()


async def _record_consent(at: Arranged) -> Call:
    consent = consent_input(at.case.participant("PATIENT"))
    return at.case.patient, consent | {"idempotencyKey": str(uuid4())}


async def _withdraw_consent(at: Arranged) -> Call:
    await at.case.consent()
    return at.case.patient, {
        "participantId": at.case.participant("PATIENT"),
        "idempotencyKey": str(uuid4()),
    }


async def _invite_guest(at: Arranged) -> Call:
    return at.case.doctor, {
        "consultationId": at.case.id,
        "role": "INTERPRETER",
        "idempotencyKey": str(uuid4()),
    }


async def _join(at: Arranged) -> Call:
    return at.case.patient, {"consultationId": at.case.id}


async def _join_as_guest(at: Arranged) -> Call:
    invited = await at.case.doctor.ask(documents.INVITE, consultationId=at.case.id, role="INTERPRETER")
    return at.harness.stranger(), {"invitation": invited["invitation"]["secret"]}


async def _start(at: Arranged) -> Call:
    await at.case.consent()
    return at.case.doctor, {"consultationId": at.case.id, "idempotencyKey": str(uuid4())}


async def _stop(at: Arranged) -> Call:
    await at.case.consent()
    recording = await at.harness.recording(at.case, "RECORDING")
    return at.case.doctor, {"recordingId": str(recording)}


async def _correct(at: Arranged) -> Call:
    return at.case.doctor, {
        "recordingId": str(await at.ready()),
        "turnNumber": 1,
        "text": "Two weeks.",
        "idempotencyKey": str(uuid4()),
    }


async def _attribute(at: Arranged) -> Call:
    return at.case.doctor, {
        "recordingId": str(await at.ready()),
        "turnNumber": 1,
        "speaker": "DOCTOR",
        "idempotencyKey": str(uuid4()),
    }


async def _write_note(at: Arranged) -> Call:
    recording = await at.harness.recording(at.case)
    key = str(uuid4())
    return at.case.doctor, {"recordingId": str(recording), "text": "Sleeps badly.", "idempotencyKey": key}


async def _edit_note(at: Arranged) -> Call:
    note = await store_note(at.harness, await at.harness.recording(at.case))
    return at.case.doctor, {"sessionNoteId": str(note), "text": "Sleeps badly.", "basedOnVersion": 1}


async def _delete_note(at: Arranged) -> Call:
    note = await store_note(at.harness, await at.harness.recording(at.case))
    return at.case.doctor, {"sessionNoteId": str(note), "basedOnVersion": 1}


async def _edit_psychotherapy_note(at: Arranged) -> Call:
    recording = await at.harness.recording(at.case)
    note = await store_note(at.harness, recording, kind=NoteKind.PSYCHOTHERAPY)
    return at.case.doctor, {"psychotherapyNoteId": str(note), "text": "Sleeps badly.", "basedOnVersion": 1}


async def _delete_psychotherapy_note(at: Arranged) -> Call:
    recording = await at.harness.recording(at.case)
    note = await store_note(at.harness, recording, kind=NoteKind.PSYCHOTHERAPY)
    return at.case.doctor, {"psychotherapyNoteId": str(note), "basedOnVersion": 1}


async def _of_recording(at: Arranged) -> Call:
    return at.case.doctor, {"recordingId": str(await at.ready())}


async def _drafted(at: Arranged) -> dict[str, Any]:
    """Return the input with a recording whose draft has one line without a quote, in version 1."""
    recording = str(await at.ready())
    lines = [{"text": "Rest."}]
    await at.case.doctor.ask(documents.EDIT_NOTE, id=recording, lines=lines, version=0)
    return {"recordingId": recording, "basedOnVersion": 1}


async def _edit_draft(at: Arranged) -> Call:
    return at.case.doctor, await _drafted(at) | {"section": "S", "lines": [{"text": "Sleeps badly."}]}


async def _keep_flag(at: Arranged) -> Call:
    recording = await at.harness.recording(at.case)
    await store_suggestions(at.harness, recording, await store_transcript(at.harness, recording))
    given = {"recordingId": str(recording), "lineNumber": 2, "flag": "NUMBER", "basedOnVersion": 1}
    return at.case.doctor, given


async def _regenerate(at: Arranged) -> Call:
    await at.case.consent()
    return at.case.doctor, await _drafted(at) | {"section": "P"}


async def _sign_draft(at: Arranged) -> Call:
    return at.case.doctor, await _drafted(at)


async def _addendum(at: Arranged) -> Call:
    given = await _drafted(at)
    await at.case.doctor.ask(documents.SIGN_NOTE, id=given["recordingId"], version=1)
    key = str(uuid4())
    return at.case.doctor, {
        "recordingId": given["recordingId"],
        "lines": ["No fever."],
        "idempotencyKey": key,
    }


async def _retry(at: Arranged) -> Call:
    await at.case.consent()
    recording = await at.ready()
    await at.harness.rows(
        "update resguardo.transcripts set status = 'FAILED', error = 'speech_failed' where recording_id = %s",
        recording,
    )
    return at.case.doctor, {"recordingId": str(recording)}


async def _insights(at: Arranged, change: LiteralString = "select %s") -> UUID:
    """Return a READY recording with insights, after this change of them."""
    await at.case.consent()
    recording = await at.harness.recording(at.case)
    await store_insights(at.harness, recording, await store_transcript(at.harness, recording))
    await at.harness.rows(change, recording)
    return recording


async def _retry_insights(at: Arranged) -> Call:
    failed: LiteralString = (
        "update resguardo.insights set status = 'FAILED', error = 'insights_unusable' where recording_id = %s"
    )
    return at.case.doctor, {"recordingId": str(await _insights(at, failed))}


async def _refresh_insights(at: Arranged) -> Call:
    stale: LiteralString = "update resguardo.insights set status = 'STALE' where recording_id = %s"
    return at.case.doctor, {"recordingId": str(await _insights(at, stale))}


async def _dismiss_insight(at: Arranged) -> Call:
    return at.case.doctor, {"recordingId": str(await _insights(at)), "lineNumber": 3, "generationNumber": 1}


async def _ask_transcript(at: Arranged) -> Call:
    await at.case.consent()
    return at.case.doctor, {
        "recordingId": str(await at.ready()),
        "question": "Which pills?",
        "idempotencyKey": str(uuid4()),
    }


async def _switch(at: Arranged) -> Call:
    return at.case.doctor, {"consultationId": at.case.id, "isTranscribed": False}


async def _set_label(at: Arranged) -> Call:
    return at.case.doctor, {"consultationId": at.case.id, "label": "Knee, second visit"}


async def _import(at: Arranged) -> Call:
    await at.case.consent()
    await arrange_import(at.harness, at.case)
    return at.case.doctor, import_input(at.case)


async def _complete_import(at: Arranged) -> Call:
    await at.case.consent()
    return at.case.doctor, {"importId": await arrange_import(at.harness, at.case)}


async def _delete(at: Arranged) -> Call:
    return at.case.doctor, {"recordingId": str(await at.ready()), "reason": "RECORDED_IN_ERROR"}


async def _undo(at: Arranged) -> Call:
    recording = await at.ready()
    await request_deletion(at.harness, recording)
    return at.case.doctor, {"recordingId": str(recording)}


async def _request_access(at: Arranged) -> Call:
    return at.case.patient, {}


async def _record_request(at: Arranged) -> Call:
    return at.officer, {
        "patient": {"id": at.case.patient_id},
        "receivedOn": datetime.now(UTC).date().isoformat(),
    }


async def _withdraw_request(at: Arranged) -> Call:
    return at.case.patient, await at.request()


async def _decide(at: Arranged) -> Call:
    return at.officer, await at.request()


async def _deny(at: Arranged) -> Call:
    return at.officer, await at.request() | {"ground": "EXCEPTED"}


async def _extend(at: Arranged) -> Call:
    return at.officer, await at.request() | {"reason": "VOLUME"}


async def _ask_review(at: Arranged) -> Call:
    return at.case.patient, await at.request("DENIED")


async def _review(at: Arranged) -> Call:
    reviewer = await at.harness.clinician()
    request = await at.request("IN REVIEW")
    return at.officer, request | {"reviewerId": str(reviewer.user_id), "outcome": "UPHELD"}


async def _export_url(at: Arranged) -> Call:
    return at.case.patient, await at.request("FULFILLED")


async def _export_secret(at: Arranged) -> Call:
    return at.officer, await at.request("FULFILLED")


async def _audit_export(at: Arranged) -> Call:
    return at.officer, {"format": "CSV", "idempotencyKey": str(uuid4())}


async def _own_audit_export(at: Arranged) -> Call:
    return at.officer, {"auditExportId": str(await insert_audit_export(at.harness, at.officer))}


async def _request_accounting(at: Arranged) -> Call:
    return at.case.patient, {}


async def _record_accounting(at: Arranged) -> Call:
    today = (await at.harness.rows("select private.today() as today"))[0]["today"]
    return at.officer, {"patient": {"id": at.case.patient_id}, "receivedOn": str(today)}


async def _accounting(at: Arranged) -> Call:
    return at.officer, {"accountingRequestId": str(await insert_accounting_request(at.harness, at.case))}


async def _extend_accounting(at: Arranged) -> Call:
    person, given = await _accounting(at)
    return person, given | {"reason": "VOLUME"}


async def _request_amendment(at: Arranged) -> Call:
    return at.case.patient, amendment_input(at.case, idempotencyKey=str(uuid4()))


async def _record_amendment(at: Arranged) -> Call:
    today = (await at.harness.rows("select private.today() as today"))[0]["today"]
    return at.officer, amendment_input(at.case, receivedOn=str(today), idempotencyKey=str(uuid4()))


def _amendment_call(name: str, **given: object) -> Arrange:
    """Return the function that prepares a mutation of one amendment."""

    async def arrange(at: Arranged) -> Call:
        amendment = await insert_amendment(at.harness, at.case, STAGES.get(name, "OPEN"))
        return at.officer, {"amendmentId": amendment, **given}

    return arrange


async def _disclosure(at: Arranged) -> Call:
    return at.officer, disclosure_input(at.case.patient_id, idempotencyKey=str(uuid4()))


async def _suspension(at: Arranged) -> Call:
    return at.officer, suspension_input(at.harness, at.case.patient_id, idempotencyKey=str(uuid4()))


async def _lift(at: Arranged) -> Call:
    suspension = await insert_suspension(at.harness, at.case.patient_id, at.officer)
    return at.officer, {"disclosureSuspensionId": str(suspension)}


async def _disposition(at: Arranged) -> Call:
    wanted = {"disposition": "APPROPRIATE", "text": "A locum."}
    return at.officer, {"reviewCaseId": await open_case(at.harness, at.case.doctor), **wanted}


async def _settle_rules(at: Arranged) -> Call:
    return at.officer, {"policyId": await propose_rules(at.harness)}


async def _assignment(at: Arranged) -> Call:
    wanted = {"officerId": str(at.officer.user_id)}
    return at.officer, {"reviewCaseId": await open_case(at.harness, at.case.doctor), **wanted}


async def _agreement(at: Arranged) -> Call:
    return at.officer, {**AGREEMENT, "vendor": f"Vendor {uuid4()}"}


async def _redeliver(at: Arranged) -> Call:
    return at.officer, {"webhookDeliveryId": str(insert_delivery(at.harness, "FAILED"))}


def _breach_call(name: str) -> Arrange:
    async def arrange(at: Arranged) -> Call:
        given = (await assessing.breach_variables(at.harness, name, at.case))["breach"]
        if name == "openBreachAssessment":
            given |= {"idempotencyKey": str(uuid4())}
        return at.officer, given

    return arrange


async def _clip(at: Arranged) -> Call:
    recording = await at.ready()
    bounds = {"startSeconds": 1.0, "endSeconds": 2.0}
    return at.case.doctor, {"recordingId": str(recording), "purposeOfUse": "TREATMENT"} | bounds


async def _thumbnail(at: Arranged) -> Call:
    recording = await at.ready()
    await at.harness.rows(
        "with made as (update resguardo.recordings set thumbnail_status = 'READY' where id = %s returning id)"
        " insert into private.thumbnails select id, %s from made",
        recording,
        bytes(40),
    )
    return at.case.doctor, {"recordingId": str(recording)}


async def _download(at: Arranged) -> Call:
    recording = await at.ready()
    return at.case.doctor, {"recordingId": str(recording), "purposeOfUse": "TREATMENT"}


async def _webhook(at: Arranged) -> Call:
    return at.harness.stranger(), {"body": "{}", "authorization": "none"}


async def _suspend(at: Arranged) -> Call:
    return at.officer, {"userId": str((await at.harness.clinician()).user_id)}


async def _publish_name(at: Arranged) -> Call:
    return at.officer, {"userId": str(at.case.doctor.user_id), "publishedName": "Dr. Ada Example"}


async def _reset_second_factor(at: Arranged) -> Call:
    return at.officer, {"userId": str(at.case.doctor.user_id), "reason": "DEVICE_LOST"}


async def _reinstate(at: Arranged) -> Call:
    _, suspended = await _suspend(at)
    await at.officer.ask(documents.SUSPEND, **suspended)
    return at.officer, suspended | {"reason": "RETURNED_TO_WORK"}


async def _reassign(at: Arranged) -> Call:
    _, suspended = await _suspend(at)
    await at.officer.ask(documents.SUSPEND, **suspended)
    doctors = {"fromDoctorId": suspended["userId"], "toDoctorId": str(at.case.doctor.user_id)}
    return at.officer, doctors | {"reason": "RETIRED"}


async def _start_access_review(at: Arranged) -> Call:
    await at.harness.rows(
        "update resguardo.access_reviews set status = 'REJECTED', decided_by = started_by, decided_at = now()"
        " where status = 'OPEN' returning id"
    )
    return at.officer, {}


async def _access_review(at: Arranged) -> Call:
    await _start_access_review(at)
    started = await at.officer.ask(documents.START_ACCESS_REVIEW)
    return at.other_officer, {"reviewId": started["id"]}


async def _decide_access(at: Arranged) -> Call:
    officer, review = await _access_review(at)
    return officer, review | {"userId": str(at.case.doctor.user_id), "decision": "REMOVE"}


async def _decide_proposal(at: Arranged) -> Call:
    proposed = await at.officer.ask(documents.RESET_SECOND_FACTOR, userId=str(at.case.doctor.user_id))
    return at.other_officer, {"officerProposalId": proposed["id"]}


async def _lift_budget(at: Arranged) -> Call:
    return at.officer, {"doctorId": str((await at.harness.clinician()).user_id)}


async def _invite_staff(at: Arranged) -> Call:
    return at.officer, {"email": f"{uuid4().hex}@example.org", "role": "CLINICIAN"}


async def _share(at: Arranged) -> Call:
    await at.case.consent()
    colleague = (await at.harness.clinician()).user_id
    return at.case.doctor, sharing.share_input(at.case, colleague, idempotencyKey=str(uuid4()))


async def _end_share(at: Arranged) -> Call:
    colleague = (await at.harness.clinician()).user_id
    return at.case.doctor, {"shareId": await sharing.insert_share(at.harness, at.case, colleague)}


async def _authorize(at: Arranged) -> Call:
    await sharing.make_sensitive(at.harness, at.case)
    return at.case.doctor, sharing.paper_input(at.case, idempotencyKey=str(uuid4()))


async def _withdraw_paper(at: Arranged) -> Call:
    return at.case.doctor, {"sharingAuthorizationId": await sharing.insert_paper(at.harness, at.case)}


async def _break_glass(at: Arranged) -> Call:
    patient = await sharing.external_id_of(at.harness, at.case)
    return await at.harness.clinician(), {"patientExternalId": patient, "reason": "DISASTER"}


async def _place_hold(at: Arranged) -> Call:
    return at.officer, hold_input({"consultation": {"id": at.case.id}})


async def _release_hold(at: Arranged) -> Call:
    placed = await at.officer.send(
        "mutation ($input: PlaceLegalHoldInput!) { placeLegalHold(input: $input) { legalHold { id } } }",
        input=hold_input({"consultation": {"id": at.case.id}}),
    )
    hold = placed.body["data"]["placeLegalHold"]["legalHold"]["id"]
    return at.other_officer, {"legalHoldId": hold}


async def _settle_policy(at: Arranged) -> Call:
    return at.officer, {"policyId": await propose_policy(at.harness)}


CALLS: dict[str, Arrange] = {
    "registerConsultation": _register,
    "recordConsent": _record_consent,
    "withdrawConsent": _withdraw_consent,
    "inviteGuest": _invite_guest,
    "joinConsultation": _join,
    "joinAsGuest": _join_as_guest,
    "startRecording": _start,
    "stopRecording": _stop,
    "correctTranscript": _correct,
    "attributeTurn": _attribute,
    "issueSubtitleUrls": _of_recording,
    "issueThumbnailUrl": _thumbnail,
    "editNote": _edit_draft,
    "keepNoteFlag": _keep_flag,
    "regenerateSection": _regenerate,
    "signNote": _sign_draft,
    "addAddendum": _addendum,
    "retryTranscription": _retry,
    "retryInsights": _retry_insights,
    "refreshInsights": _refresh_insights,
    "dismissInsight": _dismiss_insight,
    "askTranscript": _ask_transcript,
    "switchTranscription": _switch,
    "editConsultationLabel": _set_label,
    "writeSessionNote": _write_note,
    "editSessionNote": _edit_note,
    "deleteSessionNote": _delete_note,
    "writePsychotherapyNote": _write_note,
    "editPsychotherapyNote": _edit_psychotherapy_note,
    "deletePsychotherapyNote": _delete_psychotherapy_note,
    "importRecording": _import,
    "completeImport": _complete_import,
    "deleteRecording": _delete,
    "undoDeletion": _undo,
    "requestAccess": _request_access,
    "recordAccessRequest": _record_request,
    "withdrawAccessRequest": _withdraw_request,
    "approveAccessRequest": _decide,
    "denyAccessRequest": _deny,
    "extendAccessRequest": _extend,
    "askAccessReview": _ask_review,
    "recordAccessReview": _review,
    "issueAccessExportUrl": _export_url,
    "revealAccessExportSecret": _export_secret,
    **{name: _breach_call(name) for name in assessing.MUTATIONS},
    "exportAuditEvents": _audit_export,
    "requestAmendment": _request_amendment,
    "recordAmendmentRequest": _record_amendment,
    "extendAmendment": _amendment_call("extendAmendment", reason="VOLUME"),
    "acceptAmendment": _amendment_call("acceptAmendment", text="The left knee"),
    "denyAmendment": _amendment_call(
        "denyAmendment", ground="ACCURATE_AND_COMPLETE", text="The record is right"
    ),
    "disputeAmendment": _amendment_call("disputeAmendment", text="I disagree"),
    "rebutAmendment": _amendment_call("rebutAmendment", text="We looked again"),
    "includeAmendment": _amendment_call("includeAmendment"),
    "requestAccounting": _request_accounting,
    "recordAccountingRequest": _record_accounting,
    "withdrawAccountingRequest": _accounting,
    "extendAccountingRequest": _extend_accounting,
    "fulfillAccountingRequest": _accounting,
    "recordDisclosure": _disclosure,
    "suspendDisclosures": _suspension,
    "liftDisclosureSuspension": _lift,
    "issueAuditExportUrl": _own_audit_export,
    "revealAuditExportSecret": _own_audit_export,
    "approveReviewPolicy": _settle_rules,
    "rejectReviewPolicy": _settle_rules,
    "recordDisposition": _disposition,
    "assignReviewCase": _assignment,
    "redeliverWebhook": _redeliver,
    "recordVendorAgreement": _agreement,
    "issueDownloadUrl": _download,
    "issuePlaybackUrl": _download,
    "createClip": _clip,
    "publishStaffName": _publish_name,
    "resetSecondFactor": _reset_second_factor,
    "reinstateStaff": _reinstate,
    "reassignConsultations": _reassign,
    "startStaffAccessReview": _start_access_review,
    "decideStaffAccess": _decide_access,
    "approveStaffAccessReview": _access_review,
    "rejectStaffAccessReview": _access_review,
    "approveOfficerProposal": _decide_proposal,
    "rejectOfficerProposal": _decide_proposal,
    "suspendStaff": _suspend,
    "liftLanguageBudget": _lift_budget,
    "inviteStaff": _invite_staff,
    "shareConsultation": _share,
    "endShare": _end_share,
    "recordSharingAuthorization": _authorize,
    "withdrawSharingAuthorization": _withdraw_paper,
    "breakGlass": _break_glass,
    "placeLegalHold": _place_hold,
    "releaseLegalHold": _release_hold,
    "approveRetentionPolicy": _settle_policy,
    "rejectRetentionPolicy": _settle_policy,
}
"""For each mutation, the person who calls it and its input."""
REFUSED = {
    "joinAsGuest",
    "denyAccessRequest",
    "extendAccessRequest",
    "extendAccountingRequest",
    "extendAmendment",
    "acceptAmendment",
    "denyAmendment",
    "disputeAmendment",
    "rebutAmendment",
    "recordAccessReview",
    "revealAccessExportSecret",
    "revealAuditExportSecret",
    "retryTranscription",
    "deleteSessionNote",
    "deletePsychotherapyNote",
    "retryInsights",
    "approveRetentionPolicy",
    "rejectRetentionPolicy",
    "approveReviewPolicy",
    "rejectReviewPolicy",
}
"""The mutations whose description says that a repeated call is refused."""
RENEWED = {
    "joinConsultation": "resguardo.participants",
    "inviteGuest": "private.invitations",
    "issueSubtitleUrls": "private.subtitle_links",
    "issuePlaybackUrl": "private.viewings",
    "issueThumbnailUrl": "private.thumbnail_links",
}
"""The mutations whose description says that a repeated call issues something new, with the table of it."""


async def _rows(harness: ApiHarness) -> dict[str, str | None]:
    """Return a digest of the content of each table, except the audit log and the use of quotas."""
    found = {}
    for table in await harness.rows(TABLES):
        name = (table["schema"], table["name"])
        cursor = await harness.superuser.execute(CONTENT.format(sql.Identifier(*name)))
        (row,) = await cursor.fetchall()
        found[".".join(name)] = row["digest"]
    return found


def test_every_mutation_is_repeated_here() -> None:
    assert set(CALLS) | {"processLivekitWebhook"} == set(MUTATIONS), "test_webhook.py repeats the webhook"


@pytest.mark.parametrize("name", CALLS)
async def test_repeated_call_has_no_second_effect(
    harness: ApiHarness, case: Case, officer: Person, name: str
) -> None:
    at = Arranged(harness, case, officer, await harness.staff("compliance"))
    async with delete_policies_afterwards(harness):
        person, given = await CALLS[name](at)
        kind = MUTATIONS[name].args["input"].type
        document = f"mutation ($input: {kind}) {{ {name}(input: $input) {{ __typename }} }}"
        first = await person.send(document, input=given)
        assert "errors" not in first.body, first.body
        await harness.livekit.notifier.idle()
        before = await _rows(harness)
        second = await person.send(document, input=given)
        await harness.livekit.notifier.idle()
        after = await _rows(harness)
    changed = {table for table in before if before[table] != after[table]} - {RENEWED.get(name, "")}
    assert changed == set(), json.dumps(sorted(changed))
    assert ("errors" in second.body) == (name in REFUSED), second.body
    if name in REFUSED:
        assert "refused" in str(MUTATIONS[name].description)
