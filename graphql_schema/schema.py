"""The whole API on one page: every root field with the permission that it needs."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from app import permissions
from graphql_schema import access_requests as access_fields
from graphql_schema import audit, consents, recording_changes, recording_imports, staff
from graphql_schema import consultations as consultation_fields
from graphql_schema import deletions as deletion_fields
from graphql_schema import holds as hold_fields
from graphql_schema import recordings as recording_fields
from graphql_schema import retention as retention_fields
from graphql_schema import transcripts as transcript_fields
from graphql_schema.authorization import AuthorizationFirst
from graphql_schema.errors import MaskedSchema
from graphql_schema.limits import Limits, limit_extensions
from graphql_schema.root_fields import root_field, root_subscription
from graphql_schema.scalars import BIG_INT, BigInt


@strawberry.type
class Query:
    viewer = root_field(staff.viewer, permissions.READ_VIEWER, description="The person who asks.")
    consent_text = root_field(
        consents.consent_text, permission=None, description="The words to show before consent."
    )
    consultation = root_field(
        consultation_fields.consultation,
        permissions.READ_CONSULTATION,
        description="By `id` or by `externalId`.",
    )
    consultations = root_field(
        consultation_fields.consultations,
        permissions.LIST_CONSULTATIONS,
        description="One's own consultations, the newest appointment first.",
    )
    recording = root_field(
        recording_fields.recording,
        permissions.READ_RECORDING,
        description="A recording of one's own patient's.",
    )
    recordings = root_field(
        recording_fields.recordings,
        permissions.LIST_RECORDINGS,
        description="One's recordings, newest first.",
    )
    transcript = root_field(
        transcript_fields.transcript,
        permissions.READ_TRANSCRIPT,
        description="The words of a recording of one's own, once they are READY.",
    )
    search_transcripts = root_field(
        transcript_fields.search_transcripts,
        permissions.SEARCH_TRANSCRIPTS,
        description="In all recordings of one's own, best first.",
    )
    active_rooms = root_field(
        consultation_fields.active_rooms, permissions.LIST_ROOMS, description="One's rooms that are open now."
    )
    audit_events = root_field(
        audit.audit_events, permissions.LIST_AUDIT_EVENTS, description="The audit log, for compliance alone."
    )
    deletions = root_field(
        deletion_fields.deletions,
        permissions.LIST_DELETIONS,
        description="Of one's own recordings; for compliance of all. Newest first.",
    )
    deletion_certificates = root_field(
        deletion_fields.deletion_certificates,
        permissions.READ_CERTIFICATES,
        description="The proof that a recording is destroyed, for its doctor and for compliance; empty until then.",
    )
    staff_invitations = root_field(
        staff.staff_invitations,
        permissions.LIST_STAFF_INVITATIONS,
        description="The newest hundred, newest first, for compliance alone.",
    )
    access_requests = root_field(
        access_fields.access_requests,
        permissions.LIST_ACCESS_REQUESTS,
        description="A patient's own; for compliance all of them. Newest first.",
    )
    legal_holds = root_field(
        hold_fields.legal_holds, permissions.LIST_HOLDS, description="Newest first, for compliance alone."
    )
    retention_policies = root_field(
        retention_fields.retention_policies,
        permissions.LIST_RETENTION_POLICIES,
        description="Newest first, for compliance alone.",
    )
    retention_preview = root_field(
        retention_fields.retention_preview,
        permissions.PREVIEW_RETENTION,
        description="What a PROPOSED policy would delete and when, for compliance alone.",
    )
    storage_report = root_field(
        retention_fields.storage_report,
        permissions.REPORT_STORAGE,
        description="What is stored, what goes within 30 days, what it costs; for compliance alone.",
    )


@strawberry.type
class Mutation:
    register_consultation = root_field(
        consultation_fields.register_consultation,
        permissions.REGISTER_CONSULTATION,
        description="Idempotent by external id.",
    )
    record_consent = root_field(
        consents.record_consent,
        permissions.GIVE_CONSENT,
        description="One's own consent, or one that the doctor attests.",
    )
    withdraw_consent = root_field(
        consents.withdraw_consent,
        permissions.WITHDRAW_CONSENT,
        description="Stops a running recording at once.",
    )
    invite_guest = root_field(
        consultation_fields.invite_guest, permissions.INVITE_GUEST, description="An interpreter, say."
    )
    join_consultation = root_field(
        consultation_fields.join_consultation,
        permissions.JOIN_CONSULTATION,
        description="A LiveKit token for two hours.",
    )
    start_recording = root_field(
        recording_fields.start_recording,
        permissions.START_RECORDING,
        description="Needs the consent of every participant.",
    )
    stop_recording = root_field(
        recording_fields.stop_recording, permissions.STOP_RECORDING, description="Idempotent."
    )
    correct_transcript = root_field(
        transcript_fields.correct_transcript,
        permissions.CORRECT_TRANSCRIPT,
        description="Every version is kept, with who wrote it and when. "
        "A call with the words that the turn has already changes nothing.",
    )
    attribute_turn = root_field(
        transcript_fields.attribute_turn,
        permissions.CORRECT_TRANSCRIPT,
        description="Renames a speaker. Every version is kept, likewise. The same speaker again changes nothing.",
    )
    issue_subtitle_urls = root_field(
        transcript_fields.issue_subtitle_urls,
        permissions.ISSUE_SUBTITLE_URLS,
        description="For a few minutes, to whoever holds them.",
    )
    retry_transcription = root_field(
        transcript_fields.retry_transcription,
        permissions.RETRY_TRANSCRIPTION,
        description="Of what FAILED, or was OFF and is wanted now.",
    )
    switch_transcription = root_field(
        transcript_fields.switch_transcription,
        permissions.SWITCH_TRANSCRIPTION,
        description="Off by default for sensitive kinds. Nothing more is sent to a service from then on.",
    )
    import_recording = root_field(
        recording_imports.import_recording,
        permissions.IMPORT_RECORDING,
        description="A recording made elsewhere. Needs the consent of every participant; idempotent while pending.",
    )
    complete_import = root_field(
        recording_imports.complete_import,
        permissions.COMPLETE_IMPORT,
        description="After the upload, which is then verified. Idempotent.",
    )
    delete_recording = root_field(
        deletion_fields.delete_recording,
        permissions.DELETE_RECORDING,
        description="Once the grace period is over. By its doctor or compliance; nothing that is held. Idempotent.",
    )
    undo_deletion = root_field(
        deletion_fields.undo_deletion,
        permissions.UNDO_DELETION,
        description="Within the grace period of a request. Idempotent.",
    )
    request_access = root_field(
        access_fields.request_access,
        permissions.REQUEST_ACCESS,
        description="By the patient's login, for the patient or who speaks for the patient. Idempotent while open.",
    )
    record_access_request = root_field(
        access_fields.record_access_request,
        permissions.RECORD_ACCESS_REQUEST,
        description="For compliance alone: a request that came in writing. Idempotent while open.",
    )
    withdraw_access_request = root_field(
        access_fields.withdraw_access_request,
        permissions.WITHDRAW_ACCESS_REQUEST,
        description="One's own, while it is open. Idempotent.",
    )
    approve_access_request = root_field(
        access_fields.approve_access_request,
        permissions.APPROVE_ACCESS_REQUEST,
        description="For compliance alone: an encrypted copy is made. Again, where that failed, once more.",
    )
    deny_access_request = root_field(
        access_fields.deny_access_request,
        permissions.DENY_ACCESS_REQUEST,
        description="For compliance alone, on a ground of 45 CFR 164.524(a).",
    )
    extend_access_request = root_field(
        access_fields.extend_access_request,
        permissions.EXTEND_ACCESS_REQUEST,
        description="For compliance alone: once, before it is overdue, by 1 to 30 days.",
    )
    ask_access_review = root_field(
        access_fields.ask_access_review,
        permissions.ASK_ACCESS_REVIEW,
        description="Of a denial of one's own request on a reviewable ground. Idempotent.",
    )
    record_access_review = root_field(
        access_fields.record_access_review,
        permissions.RECORD_ACCESS_REVIEW,
        description="For compliance alone: by a clinician who took no part in the denial.",
    )
    issue_export_url = root_field(
        access_fields.issue_export_url,
        permissions.ISSUE_EXPORT_URL,
        description="For the patient alone: the encrypted copy, for a few minutes.",
    )
    reveal_export_secret = root_field(
        access_fields.reveal_export_secret,
        permissions.REVEAL_EXPORT_SECRET,
        description="For compliance alone, once: to be told to the patient by telephone or post.",
    )
    issue_download_url = root_field(
        recording_fields.issue_download_url,
        permissions.ISSUE_DOWNLOAD_URL,
        description="A URL for a few minutes, to whoever holds it.",
    )
    process_livekit_webhook = root_field(
        recording_fields.process_livekit_webhook,
        permission=None,
        description="The same as POST /webhooks/livekit.",
    )
    suspend_staff = root_field(
        staff.suspend_staff, permissions.SUSPEND_STAFF, description="For compliance alone."
    )
    invite_staff = root_field(
        staff.invite_staff,
        permissions.INVITE_STAFF,
        description="For compliance alone. Again while it is PENDING sends it again.",
    )
    place_legal_hold = root_field(
        hold_fields.place_legal_hold,
        permissions.PLACE_HOLD,
        description="For compliance alone. Nothing that it covers begins to be destroyed from then on.",
    )
    release_legal_hold = root_field(
        hold_fields.release_legal_hold,
        permissions.RELEASE_HOLD,
        description="For compliance alone, and not for whoever placed it. Idempotent for whoever released it.",
    )
    approve_retention_policy = root_field(
        retention_fields.approve_retention_policy,
        permissions.APPROVE_RETENTION,
        description="For compliance alone. In force at once, or with a second officer's where it shortens a term.",
    )
    reject_retention_policy = root_field(
        retention_fields.reject_retention_policy,
        permissions.REJECT_RETENTION,
        description="For compliance alone. Ends a proposal.",
    )


@strawberry.type(description="Over WebSocket alone, by graphql-transport-ws.")
class Subscription:
    recording_changed = root_subscription(
        recording_changes.recording_changed,
        permissions.WATCH_RECORDINGS,
        description="The consultation's newest recording, if there is one, and then each recording of it that changes.",
    )


def make_schema(*, is_production: bool) -> MaskedSchema:
    """The executable schema; production answers no introspection."""
    return MaskedSchema(
        Query,
        Mutation,
        Subscription,
        config=StrawberryConfig(scalar_map={BigInt: BIG_INT}),
        extensions=[
            AuthorizationFirst,
            *limit_extensions(Limits(), allow_introspection=not is_production),
        ],
    )
