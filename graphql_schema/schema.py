"""The whole API on one page: every root field, and nothing else."""

from functools import partial

import strawberry
from strawberry.schema.config import StrawberryConfig

from graphql_schema import access_requests as access_fields
from graphql_schema import audit, consents, recording_changes, recording_imports, staff
from graphql_schema import consultations as consultation_fields
from graphql_schema import deletions as deletion_fields
from graphql_schema import holds as hold_fields
from graphql_schema import recordings as recording_fields
from graphql_schema import retention as retention_fields
from graphql_schema import transcripts as transcript_fields
from graphql_schema.errors import MaskedSchema
from graphql_schema.limits import Limits, limit_extensions
from graphql_schema.root_fields import Uncancelled
from graphql_schema.scalars import BIG_INT, BigInt

_root = partial(strawberry.field, extensions=[Uncancelled()])


@strawberry.type
class Query:
    viewer = _root(staff.viewer, description="The person who asks.")
    consent_text = _root(consents.consent_text, description="The words to show before consent.")
    consultation = _root(consultation_fields.consultation, description="By `id` or by `externalId`.")
    consultations = _root(
        consultation_fields.consultations,
        description="One's own consultations, the newest appointment first.",
    )
    recording = _root(recording_fields.recording, description="A recording of one's own patient's.")
    recordings = _root(recording_fields.recordings, description="One's recordings, newest first.")
    transcript = _root(
        transcript_fields.transcript,
        description="The words of a recording of one's own, once they are READY.",
    )
    search_transcripts = _root(
        transcript_fields.search_transcripts, description="In all recordings of one's own, best first."
    )
    active_rooms = _root(consultation_fields.active_rooms, description="One's rooms that are open now.")
    audit_events = _root(audit.audit_events, description="The audit log, for compliance alone.")
    deletions = _root(
        deletion_fields.deletions, description="Of one's own recordings; for compliance of all. Newest first."
    )
    deletion_certificates = _root(
        deletion_fields.deletion_certificates,
        description="The proof that a recording is destroyed, for its doctor and for compliance.",
    )
    staff_invitations = _root(
        staff.staff_invitations, description="The newest hundred, newest first, for compliance alone."
    )
    access_requests = _root(
        access_fields.access_requests,
        description="A patient's own; for compliance all of them. Newest first.",
    )
    legal_holds = _root(hold_fields.legal_holds, description="Newest first, for compliance alone.")
    retention_policies = _root(
        retention_fields.retention_policies, description="Newest first, for compliance alone."
    )
    retention_preview = _root(
        retention_fields.retention_preview,
        description="What a PROPOSED policy would delete and when, for compliance alone.",
    )
    storage_report = _root(
        retention_fields.storage_report,
        description="What is stored, what goes within 30 days, what it costs; for compliance alone.",
    )


@strawberry.type
class Mutation:
    register_consultation = _root(
        consultation_fields.register_consultation, description="Idempotent by external id."
    )
    record_consent = _root(
        consents.record_consent, description="One's own consent, or one that the doctor attests."
    )
    withdraw_consent = _root(consents.withdraw_consent, description="Stops a running recording at once.")
    invite_guest = _root(consultation_fields.invite_guest, description="An interpreter, say.")
    join_consultation = _root(
        consultation_fields.join_consultation, description="A LiveKit token for two hours."
    )
    start_recording = _root(
        recording_fields.start_recording, description="Needs the consent of every participant."
    )
    stop_recording = _root(recording_fields.stop_recording, description="Idempotent.")
    correct_transcript = _root(
        transcript_fields.correct_transcript, description="Every version is kept, with who wrote it and when."
    )
    attribute_turn = _root(
        transcript_fields.attribute_turn, description="Renames a speaker. Every version is kept, likewise."
    )
    issue_subtitle_urls = _root(
        transcript_fields.issue_subtitle_urls, description="For a few minutes, to whoever holds them."
    )
    retry_transcription = _root(
        transcript_fields.retry_transcription, description="Of what FAILED, or was OFF and is wanted now."
    )
    switch_transcription = _root(
        transcript_fields.switch_transcription,
        description="Off by default for sensitive kinds. Nothing more is sent to a service from then on.",
    )
    import_recording = _root(
        recording_imports.import_recording,
        description="A recording made elsewhere. Needs the consent of every participant; idempotent while pending.",
    )
    complete_import = _root(
        recording_imports.complete_import, description="After the upload, which is then verified. Idempotent."
    )
    delete_recording = _root(
        deletion_fields.delete_recording,
        description="Once the grace period is over. By its doctor or compliance; nothing that is held. Idempotent.",
    )
    undo_deletion = _root(
        deletion_fields.undo_deletion, description="Within the grace period of a request. Idempotent."
    )
    request_access = _root(
        access_fields.request_access,
        description="By the patient's login, for the patient or who speaks for the patient. Idempotent while open.",
    )
    record_access_request = _root(
        access_fields.record_access_request,
        description="For compliance alone: a request that came in writing. Idempotent while open.",
    )
    withdraw_access_request = _root(
        access_fields.withdraw_access_request, description="One's own, while it is open. Idempotent."
    )
    approve_access_request = _root(
        access_fields.approve_access_request,
        description="For compliance alone: an encrypted copy is made. Again, where that failed, once more.",
    )
    deny_access_request = _root(
        access_fields.deny_access_request,
        description="For compliance alone, on a ground of 45 CFR 164.524(a).",
    )
    extend_access_request = _root(
        access_fields.extend_access_request,
        description="For compliance alone: once, before it is overdue, by 1 to 30 days.",
    )
    ask_access_review = _root(
        access_fields.ask_access_review,
        description="Of a denial of one's own request on a reviewable ground. Idempotent.",
    )
    record_access_review = _root(
        access_fields.record_access_review,
        description="For compliance alone: by a clinician who took no part in the denial.",
    )
    issue_export_url = _root(
        access_fields.issue_export_url,
        description="For the patient alone: the encrypted copy, for a few minutes.",
    )
    reveal_export_secret = _root(
        access_fields.reveal_export_secret,
        description="For compliance alone, once: to be told to the patient by telephone or post.",
    )
    issue_download_url = _root(
        recording_fields.issue_download_url, description="A URL for a few minutes, to whoever holds it."
    )
    process_livekit_webhook = _root(
        recording_fields.process_livekit_webhook, description="The same as POST /webhooks/livekit."
    )
    suspend_staff = _root(staff.suspend_staff, description="For compliance alone.")
    invite_staff = _root(
        staff.invite_staff, description="For compliance alone. Again while it is PENDING sends it again."
    )
    place_legal_hold = _root(
        hold_fields.place_legal_hold,
        description="For compliance alone. Nothing that it covers begins to be destroyed from then on.",
    )
    release_legal_hold = _root(
        hold_fields.release_legal_hold,
        description="For compliance alone, and not for whoever placed it. Idempotent for whoever released it.",
    )
    approve_retention_policy = _root(
        retention_fields.approve_retention_policy,
        description="For compliance alone. In force at once, or with a second officer's where it shortens a term.",
    )
    reject_retention_policy = _root(
        retention_fields.reject_retention_policy, description="For compliance alone. Ends a proposal."
    )


@strawberry.type(description="Over WebSocket alone, by graphql-transport-ws.")
class Subscription:
    recording_changed = strawberry.subscription(
        recording_changes.recording_changed,
        description="The consultation's newest recording, if there is one, and then each recording of it that changes.",
    )


def make_schema(*, is_production: bool) -> MaskedSchema:
    """The executable schema; production answers no introspection."""
    return MaskedSchema(
        Query,
        Mutation,
        Subscription,
        config=StrawberryConfig(scalar_map={BigInt: BIG_INT}),
        extensions=limit_extensions(Limits(), allow_introspection=not is_production),
    )
