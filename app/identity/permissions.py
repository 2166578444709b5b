"""The permissions of the API: the audit action of each operation, and the roles that may take it.

Each permission of the API is declared once, in this module. A GraphQL root field declares its permission, the
service opens its transaction with the same permission, and a test checks all root fields. The row-level security
policies of the database decide which rows a person sees.
"""

from dataclasses import dataclass
from typing import Final, LiteralString
from uuid import UUID

from app.postgres.database import Access

_CLINICIAN: Final = frozenset[LiteralString]({"clinician"})
_COMPLIANCE: Final = frozenset[LiteralString]({"compliance"})
_PATIENT: Final = frozenset[LiteralString]({"patient"})
_CARE: Final = _CLINICIAN | _PATIENT
_STAFF: Final = _CLINICIAN | _COMPLIANCE
_REQUESTERS: Final = _PATIENT | _COMPLIANCE
_EVERYBODY: Final = _STAFF | _PATIENT


@dataclass(frozen=True)
class Permission:
    """An audit action, the roles that may take it, and the type of its entity.

    The audit row of each action names the purpose for which the data is used. If `states_purpose` is true, the
    caller states the purpose of use in the request. If `states_purpose` is false, the database writes the purpose
    TREATMENT for clinicians, PATIENT_REQUEST for patients, and OPERATIONS for compliance.
    """

    action: LiteralString
    roles: frozenset[LiteralString]
    entity_type: LiteralString
    states_purpose: bool = False

    def on(
        self,
        entity_id: UUID | None = None,
        *,
        entity_type: LiteralString | None = None,
        purpose: str | None = None,
        external_id: str | None = None,
    ) -> Access:
        """Return an Access that uses this permission for one entity, or for a list of entities. If the permission's
        action has several entity types, the caller passes `entity_type`.
        """
        return Access(
            self.action,
            self.roles,
            entity_type or self.entity_type,
            entity_id,
            purpose=purpose,
            external_id=external_id,
        )


READ_VIEWER: Final = Permission("viewer.read", _EVERYBODY, "staff")

REGISTER_CONSULTATION: Final = Permission("consultation.register", _CLINICIAN, "consultation")
READ_CONSULTATION: Final = Permission("consultation.read", _EVERYBODY, "consultation")
LIST_CONSULTATIONS: Final = Permission("consultation.list", _EVERYBODY, "consultation")
WATCH_CONSULTATION: Final = Permission("consultation.watch", _CLINICIAN, "consultation")
JOIN_CONSULTATION: Final = Permission("consultation.join", _CARE, "consultation")
JOIN_AS_GUEST: Final = Permission("guest.join", frozenset(), "participant")
INVITE_GUEST: Final = Permission("guest.invite", _CLINICIAN, "consultation")
SET_CONSULTATION_LABEL: Final = Permission("consultation.set_label", _CLINICIAN, "consultation")
SHARE_CONSULTATION: Final = Permission("consultation.share", _CLINICIAN, "consultation")
END_SHARE: Final = Permission("consultation.end_share", _CLINICIAN, "share")
READ_SHARE: Final = Permission("consultation.read", _CLINICIAN, "consultation")
"""The reads of a repeated call that shares or authorizes. Only the first call changes anything."""
AUTHORIZE_SHARING: Final = Permission("consultation.authorize_sharing", _CLINICIAN, "consultation")
WITHDRAW_SHARING_AUTHORIZATION: Final = Permission(
    "consultation.withdraw_authorization", _CLINICIAN, "sharing_authorization"
)
BREAK_GLASS: Final = Permission("patient.break_glass", _CLINICIAN, "patient")
LIST_EMERGENCY_ACCESSES: Final = Permission("emergency_access.list", _COMPLIANCE, "emergency_access")
LIST_ROOMS: Final = Permission("rooms.list", _CLINICIAN, "room")

GIVE_CONSENT: Final = Permission("consent.give", _CARE, "participant")
WITHDRAW_CONSENT: Final = Permission("consent.withdraw", _CARE, "participant")

LIST_RECORDINGS: Final = Permission("recording.list", _CLINICIAN, "recording")
READ_RECORDING: Final = Permission("recording.read", _STAFF, "recording")
READ_STORAGE: Final = Permission("recording.read_storage", _CLINICIAN, "recording")
WATCH_RECORDINGS: Final = Permission("recording.watch", _CLINICIAN, "consultation")
WATCH_OWN_RECORDINGS: Final = Permission("recording.watch", _CLINICIAN, "recording")
CONNECT: Final = Permission("recording.watch", _EVERYBODY, "recording")
"""The permission to open a WebSocket, for everyone who is signed in. Each subscription has its own permission."""
START_RECORDING: Final = Permission("recording.start", _CLINICIAN, "consultation")
STOP_RECORDING: Final = Permission("recording.stop", _CLINICIAN, "recording")
ISSUE_DOWNLOAD_URL: Final = Permission("recording.issue_url", _CLINICIAN, "recording", states_purpose=True)
ISSUE_PLAYBACK_URL: Final = Permission("recording.play", _CLINICIAN, "recording", states_purpose=True)
CREATE_CLIP: Final = Permission("clip.create", _CLINICIAN, "recording", states_purpose=True)
ISSUE_THUMBNAIL_URL: Final = Permission("thumbnail.issue_url", _CLINICIAN, "recording")
READ_THUMBNAIL: Final = Permission("thumbnail.read", _CLINICIAN, "recording")
IMPORT_RECORDING: Final = Permission("recording.import", _CLINICIAN, "consultation")
ISSUE_UPLOAD_URL: Final = Permission("recording.issue_upload_url", _CLINICIAN, "recording_import")
COMPLETE_IMPORT: Final = Permission("recording.complete_import", _CLINICIAN, "recording_import")

READ_TRANSCRIPT: Final = Permission("transcript.read", _CLINICIAN, "recording")
SEARCH_TRANSCRIPTS: Final = Permission("transcript.search", _CLINICIAN, "recording")
CORRECT_TRANSCRIPT: Final = Permission("transcript.correct", _CLINICIAN, "recording")
ISSUE_SUBTITLE_URLS: Final = Permission("transcript.issue_url", _CLINICIAN, "recording")
ASK_TRANSCRIPT: Final = Permission("transcript.ask", _CLINICIAN, "recording")
RETRY_TRANSCRIPTION: Final = Permission("transcript.retry", _CLINICIAN, "recording")
READ_INSIGHTS: Final = Permission("insights.read", _CLINICIAN, "recording")
DISMISS_INSIGHT: Final = Permission("insights.dismiss", _CLINICIAN, "recording")
RETRY_INSIGHTS: Final = Permission("insights.retry", _CLINICIAN, "recording")
REFRESH_INSIGHTS: Final = Permission("insights.refresh", _CLINICIAN, "recording")
READ_SIGNED_NOTES: Final = Permission("note.read", _CLINICIAN, "recording")
SWITCH_TRANSCRIPTION: Final = Permission("consultation.switch_transcription", _CLINICIAN, "consultation")

READ_SESSION_NOTES: Final = Permission("session_note.read", _CLINICIAN, "consultation")
WATCH_SESSION_NOTES: Final = Permission("session_note.watch", _CLINICIAN, "consultation")
WRITE_SESSION_NOTE: Final = Permission("session_note.write", _CLINICIAN, "recording")
EDIT_SESSION_NOTE: Final = Permission("session_note.edit", _CLINICIAN, "session_note")
DELETE_SESSION_NOTE: Final = Permission("session_note.delete", _CLINICIAN, "session_note")
READ_PSYCHOTHERAPY_NOTES: Final = Permission("psychotherapy_note.read", _CLINICIAN, "consultation")
WRITE_PSYCHOTHERAPY_NOTE: Final = Permission("psychotherapy_note.write", _CLINICIAN, "recording")
EDIT_PSYCHOTHERAPY_NOTE: Final = Permission("psychotherapy_note.edit", _CLINICIAN, "session_note")
DELETE_PSYCHOTHERAPY_NOTE: Final = Permission("psychotherapy_note.delete", _CLINICIAN, "session_note")

READ_NOTE_DRAFT: Final = Permission("note_draft.read", _CLINICIAN, "recording")
EDIT_NOTE_DRAFT: Final = Permission("note_draft.edit", _CLINICIAN, "recording")
KEEP_NOTE_FLAG: Final = Permission("note_draft.keep_flag", _CLINICIAN, "recording")
REWRITE_NOTE_SECTION: Final = Permission("note_draft.rewrite", _CLINICIAN, "recording")
SIGN_NOTE: Final = Permission("note.sign", _CLINICIAN, "recording")
ADD_ADDENDUM: Final = Permission("note.add_addendum", _CLINICIAN, "recording")

DELETE_RECORDING: Final = Permission("recording.delete", _STAFF, "recording")
UNDO_DELETION: Final = Permission("recording.undo_delete", _STAFF, "recording")
LIST_DELETIONS: Final = Permission("deletion.list", _STAFF, "deletion")
READ_CERTIFICATES: Final = Permission("certificate.read", _STAFF, "recording")

LIST_ACCESS_REQUESTS: Final = Permission("access_request.list", _REQUESTERS, "access_request")
REQUEST_ACCESS: Final = Permission("access_request.file", _PATIENT, "consultation")
RECORD_ACCESS_REQUEST: Final = Permission("access_request.file", _COMPLIANCE, "patient")
WITHDRAW_ACCESS_REQUEST: Final = Permission("access_request.withdraw", _REQUESTERS, "access_request")
APPROVE_ACCESS_REQUEST: Final = Permission("access_request.approve", _COMPLIANCE, "access_request")
DENY_ACCESS_REQUEST: Final = Permission("access_request.deny", _COMPLIANCE, "access_request")
EXTEND_ACCESS_REQUEST: Final = Permission("access_request.extend", _COMPLIANCE, "access_request")
ASK_ACCESS_REVIEW: Final = Permission("access_request.ask_review", _REQUESTERS, "access_request")
RECORD_ACCESS_REVIEW: Final = Permission("access_request.review", _COMPLIANCE, "access_request")
ISSUE_EXPORT_URL: Final = Permission("access_request.issue_url", _PATIENT, "access_request")
REVEAL_EXPORT_SECRET: Final = Permission("access_request.reveal_secret", _COMPLIANCE, "access_request")

READ_ACCESS_REPORT: Final = Permission("access_report.read", _REQUESTERS, "access_request")
READ_RECORDING_REPORT: Final = Permission("recording_report.read", _REQUESTERS, "access_request")

LIST_AUDIT_EVENTS: Final = Permission("audit.list", _COMPLIANCE, "audit_event")
SUMMARIZE_AUDIT_EVENTS: Final = Permission("audit.summarize", _COMPLIANCE, "audit_event")
EXPORT_AUDIT_EVENTS: Final = Permission("audit.export", _COMPLIANCE, "audit_export")
LIST_AUDIT_EXPORTS: Final = Permission("audit.export_list", _COMPLIANCE, "audit_export")
ISSUE_AUDIT_EXPORT_URL: Final = Permission("audit.export_url", _COMPLIANCE, "audit_export")
REVEAL_AUDIT_EXPORT_SECRET: Final = Permission("audit.export_secret", _COMPLIANCE, "audit_export")

LIST_WEBHOOK_DELIVERIES: Final = Permission("webhook.list", _COMPLIANCE, "webhook_delivery")
REDELIVER_WEBHOOK: Final = Permission("webhook.redeliver", _COMPLIANCE, "webhook_delivery")

LIST_VENDOR_AGREEMENTS: Final = Permission("vendor_agreement.list", _COMPLIANCE, "vendor_agreement")
RECORD_VENDOR_AGREEMENT: Final = Permission("vendor_agreement.record", _COMPLIANCE, "vendor_agreement")

REPORT_FETCHES: Final = Permission("fetch.report", _COMPLIANCE, "bucket")
LIST_ALERTS: Final = Permission("alert.list", _COMPLIANCE, "alert")
LIST_ACCOUNTING_REQUESTS: Final = Permission("accounting.list", _REQUESTERS, "accounting_request")
REQUEST_ACCOUNTING: Final = Permission("accounting.file", _PATIENT, "patient")
RECORD_ACCOUNTING_REQUEST: Final = Permission("accounting.file", _COMPLIANCE, "patient")
WITHDRAW_ACCOUNTING_REQUEST: Final = Permission("accounting.withdraw", _REQUESTERS, "accounting_request")
EXTEND_ACCOUNTING_REQUEST: Final = Permission("accounting.extend", _COMPLIANCE, "accounting_request")
ISSUE_ACCOUNTING: Final = Permission("accounting.issue", _COMPLIANCE, "accounting_request")

LIST_RELEASED_COPIES: Final = Permission("disclosure.list_copies", _COMPLIANCE, "audit_event")
_AMENDED: Final = _CLINICIAN | _COMPLIANCE | _PATIENT
LIST_AMENDMENTS: Final = Permission("amendment.list", _AMENDED, "amendment")
REQUEST_AMENDMENT: Final = Permission("amendment.request", _PATIENT, "consultation")
RECORD_AMENDMENT_REQUEST: Final = Permission("amendment.request", _COMPLIANCE, "consultation")
EXTEND_AMENDMENT: Final = Permission("amendment.extend", _COMPLIANCE, "amendment")
ACCEPT_AMENDMENT: Final = Permission("amendment.decide", _COMPLIANCE, "amendment")
DENY_AMENDMENT: Final = Permission("amendment.decide", _COMPLIANCE, "amendment")
DISPUTE_AMENDMENT: Final = Permission("amendment.dispute", _REQUESTERS, "amendment")
REBUT_AMENDMENT: Final = Permission("amendment.rebut", _COMPLIANCE, "amendment")
INCLUDE_AMENDMENT: Final = Permission("amendment.include", _REQUESTERS, "amendment")

RECORD_DISCLOSURE: Final = Permission("disclosure.record", _COMPLIANCE, "patient")
LIST_DISCLOSURES: Final = Permission("disclosure.list", _COMPLIANCE, "disclosure")
SUSPEND_DISCLOSURES: Final = Permission("disclosure.suspend", _COMPLIANCE, "patient")
LIFT_SUSPENSION: Final = Permission("disclosure.lift_suspension", _COMPLIANCE, "disclosure_suspension")
LIST_SUSPENSIONS: Final = Permission("disclosure.list_suspensions", _COMPLIANCE, "disclosure_suspension")
LIST_REVIEW_CASES: Final = Permission("review_case.list", _COMPLIANCE, "review_case")
READ_REVIEW_CASE: Final = Permission("review_case.read", _COMPLIANCE, "review_case")
DECIDE_REVIEW_CASE: Final = Permission("review_case.decide", _COMPLIANCE, "review_case")
LIST_REVIEW_RULES: Final = Permission("review_rule.list", _COMPLIANCE, "review_policy")
APPROVE_REVIEW_POLICY: Final = Permission("review_rule.approve", _COMPLIANCE, "review_policy")
REJECT_REVIEW_POLICY: Final = Permission("review_rule.reject", _COMPLIANCE, "review_policy")
ASSIGN_REVIEW_CASE: Final = Permission("review_case.assign", _COMPLIANCE, "review_case")
LIST_BREACHES: Final = Permission("breach.list", _COMPLIANCE, "breach_assessment")
OPEN_BREACH: Final = Permission("breach.open", _COMPLIANCE, "breach_assessment")
RECOUNT_BREACH: Final = Permission("breach.recount", _COMPLIANCE, "breach_assessment")
RECORD_BREACH_FACTOR: Final = Permission("breach.record_factor", _COMPLIANCE, "breach_assessment")
DELAY_BREACH: Final = Permission("breach.delay", _COMPLIANCE, "breach_assessment")
DECIDE_BREACH: Final = Permission("breach.decide", _COMPLIANCE, "breach_assessment")
RECORD_BREACH_NOTICE: Final = Permission("breach.record_notice", _COMPLIANCE, "breach_assessment")
LIST_SANCTIONS: Final = Permission("sanction.list", _COMPLIANCE, "sanction")
RECORD_SANCTION: Final = Permission("sanction.record", _COMPLIANCE, "sanction")
LIST_ATTESTATIONS: Final = Permission("attestation.list", _COMPLIANCE, "attestation")
ATTEST_REVIEW: Final = Permission("attestation.sign", _COMPLIANCE, "attestation")

INVITE_STAFF: Final = Permission("staff.invite", _COMPLIANCE, "staff")
LIST_STAFF_INVITATIONS: Final = Permission("staff.list_invitations", _COMPLIANCE, "staff_invitation")
LIST_STAFF: Final = Permission("staff.list", _COMPLIANCE, "staff")
PUBLISH_STAFF_NAME: Final = Permission("staff.publish_name", _COMPLIANCE, "staff")
LIST_STAFF_ACCESS_REVIEWS: Final = Permission("access_review.list", _COMPLIANCE, "access_review")
LIST_STAFF_ACCESS: Final = Permission("access_review.list_entries", _COMPLIANCE, "staff")
START_STAFF_ACCESS_REVIEW: Final = Permission("access_review.start", _COMPLIANCE, "access_review")
DECIDE_STAFF_ACCESS: Final = Permission("access_review.decide_access", _COMPLIANCE, "access_review")
APPROVE_STAFF_ACCESS_REVIEW: Final = Permission("access_review.approve", _COMPLIANCE, "access_review")
REJECT_STAFF_ACCESS_REVIEW: Final = Permission("access_review.reject", _COMPLIANCE, "access_review")
RESET_SECOND_FACTOR: Final = Permission("proposal.make", _COMPLIANCE, "staff")
REINSTATE_STAFF: Final = Permission("proposal.make", _COMPLIANCE, "staff")
REASSIGN_CONSULTATIONS: Final = Permission("proposal.make", _COMPLIANCE, "staff")
APPROVE_PROPOSAL: Final = Permission("proposal.approve", _COMPLIANCE, "officer_proposal")
REJECT_PROPOSAL: Final = Permission("proposal.reject", _COMPLIANCE, "officer_proposal")
LIST_PROPOSALS: Final = Permission("proposal.list", _COMPLIANCE, "officer_proposal")
SUSPEND_STAFF: Final = Permission("staff.suspend", _COMPLIANCE, "staff")

PLACE_HOLD: Final = Permission("hold.place", _COMPLIANCE, "legal_hold")
RELEASE_HOLD: Final = Permission("hold.release", _COMPLIANCE, "legal_hold")
LIST_HOLDS: Final = Permission("hold.list", _COMPLIANCE, "legal_hold")

LIST_RETENTION_POLICIES: Final = Permission("retention.list", _COMPLIANCE, "retention_policy")
PREVIEW_RETENTION: Final = Permission("retention.preview", _COMPLIANCE, "retention_policy")
APPROVE_RETENTION: Final = Permission("retention.approve", _COMPLIANCE, "retention_policy")
REJECT_RETENTION: Final = Permission("retention.reject", _COMPLIANCE, "retention_policy")
REPORT_STORAGE: Final = Permission("storage.report", _COMPLIANCE, "storage")
REPORT_COSTS: Final = Permission("cost.report", _COMPLIANCE, "cost")
ESTIMATE_COSTS: Final = Permission("cost.estimate", _CLINICIAN | _COMPLIANCE, "cost")
LIFT_LANGUAGE_BUDGET: Final = Permission("language_budget.lift", _COMPLIANCE, "staff")
