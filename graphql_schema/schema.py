"""The GraphQL schema of the API: every root field with its permission."""

import strawberry
from strawberry.schema.config import StrawberryConfig

import graphql_schema.enums  # noqa: F401 - names and describes the enums that the types below use
from app.identity import permissions
from graphql_schema import access_exports as export_fields
from graphql_schema import access_request_mutations as access_changes
from graphql_schema import access_requests as access_fields
from graphql_schema import access_reviews as staff_access_fields
from graphql_schema import accountings as accounting_fields
from graphql_schema import alerts as alert_fields
from graphql_schema import amendments as amendment_fields
from graphql_schema import attestations as attestation_fields
from graphql_schema import audit, consents, recording_imports, subscriptions
from graphql_schema import audit_exports as audit_export_fields
from graphql_schema import breach_mutations as breach_changes
from graphql_schema import breaches as breach_fields
from graphql_schema import clips as clip_fields
from graphql_schema import consultations as consultation_fields
from graphql_schema import costs as cost_fields
from graphql_schema import deletions as deletion_fields
from graphql_schema import disclosures as disclosure_fields
from graphql_schema import emergency_access as emergency_fields
from graphql_schema import fetches as fetch_fields
from graphql_schema import holds as hold_fields
from graphql_schema import insights as insight_fields
from graphql_schema import notes as draft_fields
from graphql_schema import officer_proposals as proposal_fields
from graphql_schema import outgoing_webhooks as outgoing_webhook_fields
from graphql_schema import patient_reports as report_fields
from graphql_schema import playback as playback_fields
from graphql_schema import psychotherapy_notes as psychotherapy_fields
from graphql_schema import questions as question_fields
from graphql_schema import recordings as recording_fields
from graphql_schema import retention as retention_fields
from graphql_schema import review_cases as review_case_fields
from graphql_schema import review_rules as review_rule_fields
from graphql_schema import session_notes as note_fields
from graphql_schema import shares as share_fields
from graphql_schema import signed_notes as signed_note_fields
from graphql_schema import staff as staff_fields
from graphql_schema import thumbnails as thumbnail_fields
from graphql_schema import transcripts as transcript_fields
from graphql_schema import vendor_agreements as vendor_agreement_fields
from graphql_schema.authorization import AuthorizationFirst
from graphql_schema.document_limits import Limits, limit_extensions
from graphql_schema.error_masking import MaskedSchema
from graphql_schema.error_types import ErrorExtensions
from graphql_schema.root_fields import root_field, root_subscription
from graphql_schema.rows import resolve_by_name
from graphql_schema.scalars import SCALARS


@strawberry.type(
    description=(
        "Queries read what the caller may see. Each root field has one row in the audit log. A refused root field is "
        "null, with an error at its path, and the other root fields are answered."
    )
)
class Query:
    viewer = root_field(
        staff_fields.viewer,
        permissions.READ_VIEWER,
        description="Returns the person who calls the API, with their role and their session.",
    )
    consent_text = root_field(
        consents.consent_text,
        permission=None,
        description=(
            "Returns a consent text, for everybody, signed in or not. Without a version, it is the current text, which "
            "a client displays before a participant consents. With a version, it is the text that somebody agreed to "
            "earlier."
        ),
    )
    consultation = root_field(
        consultation_fields.consultation,
        permissions.READ_CONSULTATION,
        quota="pages",
        description=(
            "Returns the consultation with this `id` or `externalId`, for its doctor and its patient. "
            "Compliance officers read the metadata of every consultation, without any content."
        ),
    )
    consultations = root_field(
        consultation_fields.consultations,
        permissions.LIST_CONSULTATIONS,
        quota="pages",
        description=(
            "Lists the calling doctor's or patient's consultations, newest appointment first. "
            "Compliance officers read the metadata of all consultations, without any content."
        ),
    )
    recording = root_field(
        recording_fields.recording,
        permissions.READ_RECORDING,
        quota="pages",
        description=(
            "Returns a recording of the calling doctor. Compliance officers read the metadata of "
            "every recording, without any content."
        ),
    )
    stored_object = root_field(
        recording_fields.stored_object,
        permissions.READ_STORAGE,
        quota="urls",
        description=(
            "Returns what the bucket says about the video of a READY recording of the calling doctor. The API asks the "
            "bucket, so the value is null with an error if the bucket does not answer."
        ),
    )
    recordings = root_field(
        recording_fields.recordings,
        permissions.LIST_RECORDINGS,
        quota="pages",
        description="Lists the calling doctor's recordings, newest first.",
    )
    transcript = root_field(
        transcript_fields.transcript,
        permissions.READ_TRANSCRIPT,
        quota="pages",
        description="Returns the READY transcript of a recording of the calling doctor.",
    )
    transcript_search = root_field(
        transcript_fields.transcript_search,
        permissions.SEARCH_TRANSCRIPTS,
        quota="pages",
        description="Searches the transcripts of the calling doctor, best hits first.",
    )
    signed_notes = root_field(
        signed_note_fields.signed_notes,
        permissions.READ_SIGNED_NOTES,
        quota="pages",
        description=(
            "Lists the notes that the calling doctor signed, newest first: of one recording, of one patient, or all. "
            "Each version is verified against the hash of its signature."
        ),
    )
    insights = root_field(
        insight_fields.insights,
        permissions.READ_INSIGHTS,
        quota="pages",
        description=(
            "Returns the READY or STALE insights into a recording of the calling doctor: a summary, key points, action "
            "items, topics, chapters, highlights and lines for a note, each with its quotes."
        ),
    )
    note_draft = root_field(
        draft_fields.note_draft,
        permissions.READ_NOTE_DRAFT,
        quota="pages",
        description=(
            "Returns the draft of the note on a READY recording of the calling doctor, with the quotes and flags of "
            "its lines. Without insights, the draft is empty, and the doctor writes it."
        ),
    )
    active_rooms = root_field(
        consultation_fields.active_rooms,
        permissions.LIST_ROOMS,
        quota="pages",
        description=(
            "Lists the calling doctor's rooms that are open now, at most 100, newest appointment first. The API asks "
            "LiveKit, so the value is null with an error if LiveKit does not answer."
        ),
    )
    session_notes = root_field(
        note_fields.session_notes,
        permissions.READ_SESSION_NOTES,
        quota="pages",
        description="Returns the session notes of a consultation of the calling doctor.",
    )
    psychotherapy_notes = root_field(
        psychotherapy_fields.psychotherapy_notes,
        permissions.READ_PSYCHOTHERAPY_NOTES,
        quota="pages",
        description=(
            "Returns the psychotherapy notes (45 CFR 164.501) of a consultation of the calling doctor. They are kept "
            "apart from the session notes, and each read has an audit action of its own."
        ),
    )
    access_entries = root_field(
        report_fields.access_entries,
        permissions.READ_ACCESS_REPORT,
        quota="pages",
        description=(
            "Lists who looked at the calling patient's record and who was refused, newest first, in plain words. A "
            "page can have fewer entries than `first` although another page follows. The practice decides whether the "
            "report says names or roles."
        ),
    )
    recording_summaries = root_field(
        report_fields.recording_summaries,
        permissions.READ_RECORDING_REPORT,
        quota="pages",
        description=(
            "Lists the recordings of the calling patient, newest first: the time, the doctor, until when the "
            "practice keeps it, and the certificate of each destroyed recording."
        ),
    )
    audit_events = root_field(
        audit.audit_events,
        permissions.LIST_AUDIT_EVENTS,
        quota="pages",
        description="Lists the audit log, newest first.",
    )
    audit_summary = root_field(
        audit.audit_summary,
        permissions.SUMMARIZE_AUDIT_EVENTS,
        quota="pages",
        description=(
            "Counts the events of the audit log by hour, day, week or month, for a plot. The filter must have both "
            "bounds of `recordedDuring`."
        ),
    )
    breach_assessments = root_field(
        breach_fields.breach_assessments,
        permissions.LIST_BREACHES,
        quota="pages",
        description=(
            "Lists the assessments of possible breaches, newest first. Nobody sees an assessment of which they are the "
            "subject."
        ),
    )
    sanctions = root_field(
        breach_fields.sanctions,
        permissions.LIST_SANCTIONS,
        quota="pages",
        description="Lists the sanctions against members of staff other than the caller, newest first.",
    )
    attestations = root_field(
        attestation_fields.attestations,
        permissions.LIST_ATTESTATIONS,
        quota="pages",
        description="Lists the attestations of the monthly review by all officers, newest first.",
    )
    audit_exports = root_field(
        audit_export_fields.audit_exports,
        permissions.LIST_AUDIT_EXPORTS,
        quota="pages",
        description="Lists the exports of the audit log that all officers asked for, newest first.",
    )
    vendor_agreements = root_field(
        vendor_agreement_fields.vendor_agreements,
        permissions.LIST_VENDOR_AGREEMENTS,
        quota="pages",
        description=(
            "Lists the register of business associate agreements, newest first. The newest entry of a service is in "
            "force."
        ),
    )
    webhook_deliveries = root_field(
        outgoing_webhook_fields.webhook_deliveries,
        permissions.LIST_WEBHOOK_DELIVERIES,
        quota="pages",
        description="Lists the deliveries of outgoing webhooks, newest first.",
    )
    object_fetches = root_field(
        fetch_fields.object_fetches,
        permissions.REPORT_FETCHES,
        quota="pages",
        description=(
            "Returns a comparison of the bucket's access log with the issued URLs of a period. It lists the reads of "
            "recordings and exports for which no URL was issued. Without an imported access log, the period is not "
            "evaluated."
        ),
    )
    alerts = root_field(
        alert_fields.alerts,
        permissions.LIST_ALERTS,
        quota="pages",
        description=(
            "Lists the alerts, newest first: what an operator or a compliance officer must look at, such as an overdue "
            "access request or a deletion that fails."
        ),
    )
    accounting_requests = root_field(
        accounting_fields.accounting_requests,
        permissions.LIST_ACCOUNTING_REQUESTS,
        quota="pages",
        description=(
            "Lists requests for an accounting of disclosures, newest first. A patient sees their own requests, and "
            "compliance sees all requests."
        ),
    )
    amendments = root_field(
        amendment_fields.amendments,
        permissions.LIST_AMENDMENTS,
        quota="pages",
        description=(
            "Lists the requests to amend records, with their decisions and statements, newest first. A patient sees "
            "those of their own record, a doctor sees those of their own consultations, and compliance sees all of "
            "them."
        ),
    )
    released_copies = root_field(
        disclosure_fields.list_released_copies,
        permissions.LIST_RELEASED_COPIES,
        quota="pages",
        description=(
            "Lists everything that left the system, newest first: download URLs, subtitles, PDFs of notes, copies for "
            "patients, exports of the audit log, accountings, recorded disclosures, and the data that the worker sent "
            "to the speech and language services."
        ),
    )
    disclosures = root_field(
        disclosure_fields.disclosures,
        permissions.LIST_DISCLOSURES,
        quota="pages",
        description=(
            "Lists all recorded disclosures, the latest day first, also those that no accounting contains and those "
            "that a suspension hides from the patient."
        ),
    )
    disclosure_suspensions = root_field(
        disclosure_fields.disclosure_suspensions,
        permissions.LIST_SUSPENSIONS,
        quota="pages",
        description="Lists the suspensions of patients' right to see disclosures, newest first.",
    )
    review_cases = root_field(
        review_case_fields.review_cases,
        permissions.LIST_REVIEW_CASES,
        quota="pages",
        description=(
            "Lists the review cases, newest first. An officer does not see the cases about their own activity."
        ),
    )
    review_rules = root_field(
        review_rule_fields.review_rules,
        permissions.LIST_REVIEW_RULES,
        quota="pages",
        description=(
            "Returns the rules of the review in force, whether each rule is evaluated, and how much it matched. It "
            "also returns the proposed versions of the rules."
        ),
    )
    review_case = root_field(
        review_case_fields.review_case,
        permissions.READ_REVIEW_CASE,
        quota="pages",
        description="Returns one review case with its events, unless it is about the officer's own activity.",
    )
    deletions = root_field(
        deletion_fields.deletions,
        permissions.LIST_DELETIONS,
        quota="pages",
        description=(
            "Lists deletions, newest first. A doctor sees the deletions of their own recordings, and "
            "compliance sees all deletions."
        ),
    )
    deletion_certificates = root_field(
        deletion_fields.deletion_certificates,
        permissions.READ_CERTIFICATES,
        quota="pages",
        description=(
            "Lists the certificates of a destroyed recording by their numbers, for its doctor and for compliance. "
            "The list of certificates is empty until the recording is destroyed."
        ),
    )
    signed_note_certificates = root_field(
        deletion_fields.signed_note_certificates,
        permissions.READ_CERTIFICATES,
        quota="pages",
        description=(
            "Lists the certificates of the destroyed signed note on a recording by their numbers, for its doctor and "
            "for compliance. The list is empty until the note is destroyed."
        ),
    )
    staff_invitations = root_field(
        staff_fields.staff_invitations,
        permissions.LIST_STAFF_INVITATIONS,
        quota="pages",
        description="Lists the staff invitations, newest first.",
    )
    staff = root_field(
        staff_fields.staff,
        permissions.LIST_STAFF,
        quota="pages",
        description=(
            "Lists the staff members with their roles and their last use, newest first, including suspended members."
        ),
    )
    staff_access_reviews = root_field(
        staff_access_fields.staff_access_reviews,
        permissions.LIST_STAFF_ACCESS_REVIEWS,
        quota="pages",
        description="Lists the quarterly reviews of the access of staff, newest first.",
    )
    staff_access_review_entries = root_field(
        staff_access_fields.staff_access_review_entries,
        permissions.LIST_STAFF_ACCESS,
        quota="pages",
        description=(
            "Lists the entries of one access review, newest staff member first: the role, the last use and the "
            "decision for each member."
        ),
    )
    officer_proposals = root_field(
        proposal_fields.officer_proposals,
        permissions.LIST_PROPOSALS,
        quota="pages",
        description="Lists the changes that need a second officer, newest first: open, decided and finished.",
    )
    access_requests = root_field(
        access_fields.access_requests,
        permissions.LIST_ACCESS_REQUESTS,
        quota="pages",
        description=(
            "Lists access requests, newest first. A patient sees their own requests, and compliance "
            "sees all requests."
        ),
    )
    emergency_accesses = root_field(
        emergency_fields.emergency_accesses,
        permissions.LIST_EMERGENCY_ACCESSES,
        quota="pages",
        description="Lists the emergency accesses of all clinicians, newest first.",
    )
    legal_holds = root_field(
        hold_fields.legal_holds,
        permissions.LIST_HOLDS,
        quota="pages",
        description="Lists legal holds, newest first.",
    )
    retention_policies = root_field(
        retention_fields.retention_policies,
        permissions.LIST_RETENTION_POLICIES,
        quota="pages",
        description="Lists retention policies, newest first.",
    )
    retention_preview = root_field(
        retention_fields.retention_preview,
        permissions.PREVIEW_RETENTION,
        quota="pages",
        description="Returns how many recordings a PROPOSED retention policy would delete in each month.",
    )
    storage_report = root_field(
        retention_fields.storage_report,
        permissions.REPORT_STORAGE,
        quota="pages",
        description=(
            "Returns a storage report: the stored bytes, the deletions of the next 30 days, and the cost."
        ),
    )
    cost_report = root_field(
        cost_fields.cost_report,
        permissions.REPORT_COSTS,
        quota="pages",
        description=(
            "Returns what the recordings of a period cost, by month, doctor or vendor. It computes the costs from what "
            "the vendors reported and from the configured prices."
        ),
    )
    cost_estimate = root_field(
        cost_fields.cost_estimate,
        permissions.ESTIMATE_COSTS,
        quota="pages",
        description="Returns what sessions of one length are expected to cost, at the configured prices.",
    )


@strawberry.type(
    description=(
        "Mutations change something. Each mutation takes effect as a whole or not at all. The mutations of one "
        "operation run one after the other, and a refused mutation does not undo the mutations before it."
    )
)
class Mutation:
    register_consultation = root_field(
        consultation_fields.register_consultation,
        permissions.REGISTER_CONSULTATION,
        quota="pages",
        description="Registers a consultation of the calling doctor. Idempotent by `externalId`.",
    )
    record_consent = root_field(
        consents.record_consent,
        permissions.GIVE_CONSENT,
        description=(
            "Records the caller's own consent, or a consent that the doctor attests. Idempotent by `idempotencyKey`. "
            "Without a key, each call records another statement."
        ),
    )
    withdraw_consent = root_field(
        consents.withdraw_consent,
        permissions.WITHDRAW_CONSENT,
        description=(
            "Withdraws a consent, and stops a running recording at once. The API keeps the part "
            "of the recording that already exists. The worker stops a transcription of the "
            "consultation that is not finished. Idempotent by `idempotencyKey`. A withdrawal also changes nothing if "
            "the newest statement of the participant is a withdrawal."
        ),
    )
    invite_guest = root_field(
        consultation_fields.invite_guest,
        permissions.INVITE_GUEST,
        description=(
            "Invites a guest, such as an interpreter, to a consultation of the calling doctor. Idempotent by "
            "`idempotencyKey`: a repeated call returns the same guest with a new secret, which replaces the secret of "
            "the first call, and is refused with `INVITATION_REDEEMED` once the guest has joined. Without a key, each "
            "call invites another guest."
        ),
    )
    join_consultation = root_field(
        consultation_fields.join_consultation,
        permissions.JOIN_CONSULTATION,
        quota="pages",
        description=(
            "Issues a LiveKit token for the room of a consultation, for its doctor or its patient. The "
            "token is valid for two hours. Idempotent by `consultationId`: a repeated call issues "
            "another token for the same participant."
        ),
    )
    join_as_guest = root_field(
        consultation_fields.join_as_guest,
        permission=None,
        description=(
            "Redeems a guest's invitation and issues a LiveKit token for the room, which is valid for "
            "two hours. A guest has no login. Idempotent by `invitation`: it is valid once, and a "
            "repeated call is refused as NOT_FOUND."
        ),
    )
    start_recording = root_field(
        recording_fields.start_recording,
        permissions.START_RECORDING,
        quota="pages",
        description=(
            "Starts a recording of a consultation of the calling doctor in which every participant has consented. "
            "Idempotent by `idempotencyKey`. Without a key, a repeated call is refused with `LIVE_RECORDING_EXISTS` "
            "while the recording lasts."
        ),
    )
    stop_recording = root_field(
        recording_fields.stop_recording,
        permissions.STOP_RECORDING,
        quota="pages",
        description="Stops a recording. Idempotent by `recordingId`.",
    )
    correct_transcript = root_field(
        transcript_fields.correct_transcript,
        permissions.CORRECT_TRANSCRIPT,
        quota="pages",
        description=(
            "Corrects the text of one turn of a transcript. The API keeps every version of the "
            "text with its author and time. Idempotent by `idempotencyKey`. A correction that repeats the "
            "current text changes nothing either."
        ),
    )
    attribute_turn = root_field(
        transcript_fields.attribute_turn,
        permissions.CORRECT_TRANSCRIPT,
        quota="pages",
        description=(
            "Names the speaker of one turn of a transcript, or of all turns with the same voice. "
            "The API keeps every version of the turn with its author and time. Idempotent by "
            "`idempotencyKey`. A correction that names the current speaker changes nothing either."
        ),
    )
    issue_subtitle_urls = root_field(
        transcript_fields.issue_subtitle_urls,
        permissions.ISSUE_SUBTITLE_URLS,
        quota="subtitles",
        description=(
            "Issues links to the subtitles of a recording. Everyone who has a link can read the "
            "subtitles for a few minutes. Idempotent by `recordingId`: a repeated call issues further "
            "links to the same subtitles."
        ),
    )
    retry_insights = root_field(
        insight_fields.retry_insights,
        permissions.RETRY_INSIGHTS,
        quota="pages",
        description=(
            "Begins insights again that FAILED or were OFF. Answers of the language service that are already stored "
            "are not requested again. Idempotent by `recordingId`: while the retry runs, a repeated call is refused "
            "and begins no second retry."
        ),
    )
    refresh_insights = root_field(
        insight_fields.refresh_insights,
        permissions.REFRESH_INSIGHTS,
        quota="pages",
        description=(
            "Writes STALE insights again from the present transcript. The old insights stay readable until the new "
            "ones are READY. Idempotent by `recordingId`: while the refresh runs, a repeated call changes nothing."
        ),
    )
    dismiss_insight = root_field(
        insight_fields.dismiss_insight,
        permissions.DISMISS_INSIGHT,
        quota="pages",
        description=(
            "Takes a wrong line of the insights out of view, and counts it. Idempotent by `recordingId`, "
            "`generationNumber` and `lineNumber`."
        ),
    )
    ask_transcript = root_field(
        question_fields.ask_transcript,
        permissions.ASK_TRANSCRIPT,
        quota="questions",
        description=(
            "Asks a question about the transcript of a recording. The language service gets the question and parts of "
            "the transcript, and answers with lines that cite the transcript, or finds no answer. It is a mutation, "
            "because each answer is paid for and uses the doctor's daily budget. Idempotent by `idempotencyKey`: a "
            "repeated call returns the first answer and sends nothing to the language service. Without a key, each "
            "call asks again."
        ),
    )
    edit_note = root_field(
        draft_fields.edit_note,
        permissions.EDIT_NOTE_DRAFT,
        quota="pages",
        description=(
            "Replaces the lines of one section of a note draft. Idempotent by the whole input: if the section already "
            "has these lines, the call changes nothing."
        ),
    )
    keep_note_flag = root_field(
        draft_fields.keep_note_flag,
        permissions.KEEP_NOTE_FLAG,
        quota="pages",
        description=(
            "Resolves a flag of a line of a note draft as KEPT: the doctor confirms the line as it is. A flag also "
            "becomes resolved if `editNote` changes or removes the line. Idempotent by `lineNumber` and `flag`."
        ),
    )
    regenerate_section = root_field(
        draft_fields.regenerate_section,
        permissions.REWRITE_NOTE_SECTION,
        quota="pages",
        description=(
            "Asks the language model to write one section of a note draft again. A job of the worker replaces the "
            "lines of the section, and no other section changes. Idempotent by `recordingId` and `section`: while the "
            "section is being written, a repeated call changes nothing."
        ),
    )
    sign_note = root_field(
        draft_fields.sign_note,
        permissions.SIGN_NOTE,
        quota="pages",
        description=(
            "Signs the draft of a note, whose flags are all resolved. The signed note never changes, and outlives its "
            "recording with its quotes. The signature needs a recent TOTP code. Idempotent by `recordingId` and "
            "`basedOnVersion`: a repeated call returns the draft that is already signed."
        ),
    )
    add_addendum = root_field(
        draft_fields.add_addendum,
        permissions.ADD_ADDENDUM,
        description=(
            "Signs lines that are added to a signed note, as a new version of the note. Only the doctor who signed the "
            "note may add them. The signature needs a recent TOTP code. Idempotent by `idempotencyKey`."
        ),
    )
    retry_transcription = root_field(
        transcript_fields.retry_transcription,
        permissions.RETRY_TRANSCRIPTION,
        quota="pages",
        description=(
            "Retries a transcription that FAILED or was OFF, or the unintelligible turns of a READY "
            "transcript. Idempotent by `recordingId`: while the retry runs, a repeated call is refused and begins no "
            "second retry."
        ),
    )
    edit_consultation_label = root_field(
        consultation_fields.edit_consultation_label,
        permissions.SET_CONSULTATION_LABEL,
        quota="pages",
        description=(
            "Sets or removes the label of a consultation of the calling doctor. Only the doctor and the patient of the "
            "consultation read the label. Idempotent by `consultationId` and `label`."
        ),
    )
    switch_transcription = root_field(
        transcript_fields.switch_transcription,
        permissions.SWITCH_TRANSCRIPTION,
        quota="pages",
        description=(
            "Switches the transcription of a consultation on or off. By default, only recordings of "
            "ORDINARY consultations are transcribed. After transcription is switched off, the worker "
            "sends no more sound to the speech service. Idempotent by `consultationId` and "
            "`isTranscribed`."
        ),
    )
    write_session_note = root_field(
        note_fields.write_session_note,
        permissions.WRITE_SESSION_NOTE,
        quota="pages",
        description=(
            "Writes a line of session notes on a recording. A consultation has at most 1,000 lines. Idempotent by "
            "`idempotencyKey`."
        ),
    )
    edit_session_note = root_field(
        note_fields.edit_session_note,
        permissions.EDIT_SESSION_NOTE,
        quota="pages",
        description=(
            "Edits a line of session notes. The API keeps every version of the line. Idempotent by the whole input: "
            "an edit to the present text and time changes nothing."
        ),
    )
    delete_session_note = root_field(
        note_fields.delete_session_note,
        permissions.DELETE_SESSION_NOTE,
        quota="pages",
        description=(
            "Deletes a line of session notes with all its versions. The API refuses the deletion while a legal hold "
            "or an access request covers the recording. Idempotent by `sessionNoteId`: a repeated call is refused "
            "and changes nothing."
        ),
    )
    write_psychotherapy_note = root_field(
        psychotherapy_fields.write_psychotherapy_note,
        permissions.WRITE_PSYCHOTHERAPY_NOTE,
        quota="pages",
        description=(
            "Writes a line of psychotherapy notes (45 CFR 164.501) on a recording. Copies for access requests do not "
            "contain it. A consultation has at most 1,000 such lines. Idempotent by `idempotencyKey`."
        ),
    )
    edit_psychotherapy_note = root_field(
        psychotherapy_fields.edit_psychotherapy_note,
        permissions.EDIT_PSYCHOTHERAPY_NOTE,
        quota="pages",
        description=(
            "Edits a line of psychotherapy notes. The API keeps every version of the line. Idempotent by the whole "
            "input: an edit to the present text and time changes nothing."
        ),
    )
    delete_psychotherapy_note = root_field(
        psychotherapy_fields.delete_psychotherapy_note,
        permissions.DELETE_PSYCHOTHERAPY_NOTE,
        quota="pages",
        description=(
            "Deletes a line of psychotherapy notes with all its versions. The API refuses the deletion while a legal "
            "hold or an access request covers the recording. Idempotent by `psychotherapyNoteId`: a repeated call "
            "is refused and changes nothing."
        ),
    )
    import_recording = root_field(
        recording_imports.import_recording,
        permissions.IMPORT_RECORDING,
        quota="urls",
        description=(
            "Begins to import a recording that was made elsewhere. Every participant of the "
            "consultation must have consented. Idempotent by the whole input: a repeated call returns "
            "the pending import."
        ),
    )
    complete_import = root_field(
        recording_imports.complete_import,
        permissions.COMPLETE_IMPORT,
        quota="pages",
        description=(
            "Completes an import after the upload of its file. The worker then verifies the uploaded "
            "file. Idempotent by `importId`."
        ),
    )
    delete_recording = root_field(
        deletion_fields.delete_recording,
        permissions.DELETE_RECORDING,
        description=(
            "Requests that a recording is destroyed after the grace period of the retention policy. The "
            "caller must be the recording's doctor or a compliance officer. The API refuses to delete a "
            "recording under a legal hold. Idempotent by `recordingId`."
        ),
    )
    undo_deletion = root_field(
        deletion_fields.undo_deletion,
        permissions.UNDO_DELETION,
        description=(
            "Withdraws a requested deletion, while its grace period lasts. Idempotent by `recordingId`."
        ),
    )
    request_access = root_field(
        access_changes.request_access,
        permissions.REQUEST_ACCESS,
        quota="pages",
        description=(
            "Files an access request of the signed-in patient, who may name a representative. "
            "Idempotent by the patient and `consultation`: while the access request is open, a repeated "
            "call returns it."
        ),
    )
    record_access_request = root_field(
        access_changes.record_access_request,
        permissions.RECORD_ACCESS_REQUEST,
        quota="pages",
        description=(
            "Files an access request that arrived in writing. Idempotent by `patient` and "
            "`consultation`: while the access request is open, a repeated call returns it."
        ),
    )
    withdraw_access_request = root_field(
        access_changes.withdraw_access_request,
        permissions.WITHDRAW_ACCESS_REQUEST,
        quota="pages",
        description=(
            "Withdraws an open access request. A patient can withdraw their own request, and compliance "
            "can withdraw a written request. Idempotent by `accessRequestId`."
        ),
    )
    approve_access_request = root_field(
        access_changes.approve_access_request,
        permissions.APPROVE_ACCESS_REQUEST,
        quota="pages",
        description=(
            "Approves an access request, and queues its encrypted copy. If the worker failed to make "
            "the encrypted copy, a repeated call queues the copy again. Idempotent by "
            "`accessRequestId`."
        ),
    )
    deny_access_request = root_field(
        access_changes.deny_access_request,
        permissions.DENY_ACCESS_REQUEST,
        description=(
            "Denies an access request on a ground of 45 CFR 164.524(a). Idempotent by "
            "`accessRequestId`: a repeated call is refused and changes nothing."
        ),
    )
    extend_access_request = root_field(
        access_changes.extend_access_request,
        permissions.EXTEND_ACCESS_REQUEST,
        description=(
            "Extends the deadline of an access request by 1 to 30 days. The deadline can be extended "
            "once, and only before it has passed. Idempotent by `accessRequestId`: a repeated call is "
            "refused and changes nothing."
        ),
    )
    ask_access_review = root_field(
        access_changes.ask_access_review,
        permissions.ASK_ACCESS_REVIEW,
        quota="pages",
        description=(
            "Asks for the review of a denied access request, if the ground of the denial allows a "
            "review. The patient may ask for the review, or compliance if the request arrived in "
            "writing. Idempotent by `accessRequestId`."
        ),
    )
    record_access_review = root_field(
        access_changes.record_access_review,
        permissions.RECORD_ACCESS_REVIEW,
        description=(
            "Records the outcome of a review by a clinician who took no part in the denial of the "
            "access request. Idempotent by `accessRequestId`: a repeated call is refused and changes "
            "nothing."
        ),
    )
    issue_access_export_url = root_field(
        export_fields.issue_access_export_url,
        permissions.ISSUE_EXPORT_URL,
        quota="urls",
        description=(
            "Issues a URL that downloads the encrypted copy of an access request for a few minutes. "
            "Idempotent by `accessRequestId`: a repeated call issues a further URL of the same copy."
        ),
    )
    reveal_access_export_secret = root_field(
        export_fields.reveal_access_export_secret,
        permissions.REVEAL_EXPORT_SECRET,
        description=(
            "Reveals the secret of an encrypted copy once. A compliance officer gives the secret to the "
            "patient by telephone or post. Idempotent by `accessRequestId`: the secret is returned "
            "once, and a repeated call is refused."
        ),
    )
    open_breach_assessment = root_field(
        breach_changes.open_breach_assessment,
        permissions.OPEN_BREACH,
        description=(
            "Opens the assessment of a possible breach. The worker reads the affected patients and recordings from the "
            "audit log. Idempotent by `idempotencyKey`: a repeated call returns the assessment of the first call."
        ),
    )
    recount_breach = root_field(
        breach_changes.recount_breach,
        permissions.RECOUNT_BREACH,
        description=(
            "Reads the affected patients and recordings of an OPEN assessment from the audit log again, up to now. "
            "Patients who were counted before stay affected. Idempotent by `breachAssessmentId`: while the worker "
            "counts, a repeated call begins no second count."
        ),
    )
    record_breach_factor = root_field(
        breach_changes.record_breach_factor,
        permissions.RECORD_BREACH_FACTOR,
        description=(
            "Records one of the four factors of an OPEN assessment (45 CFR 164.402(2)). Idempotent by `factor`: a "
            "repeated call with the same values changes nothing, and a call with other values replaces the factor."
        ),
    )
    delay_breach_notices = root_field(
        breach_changes.delay_breach_notices,
        permissions.DELAY_BREACH,
        description=(
            "Records that law enforcement asks for a delay of the notices (45 CFR 164.412), which moves the deadline. "
            "Idempotent by `breachAssessmentId`: a repeated call changes nothing."
        ),
    )
    decide_breach = root_field(
        breach_changes.decide_breach,
        permissions.DECIDE_BREACH,
        description=(
            "Decides on an OPEN assessment, once, and seals the decision in the audit log. After the deadline, the "
            "decision must state why it is late. Idempotent by `breachAssessmentId`: a repeated call of the same "
            "officer with the same decision changes nothing."
        ),
    )
    record_breach_notice = root_field(
        breach_changes.record_breach_notice,
        permissions.RECORD_BREACH_NOTICE,
        description=(
            "Records a notice of a breach that was sent. The assessment is CLOSED when all needed notices are "
            "recorded. Idempotent by the whole input: a repeated call records nothing more."
        ),
    )
    record_sanction = root_field(
        breach_changes.record_sanction,
        permissions.RECORD_SANCTION,
        description=(
            "Records a sanction against a member of staff other than the caller. Idempotent by its whole input: a "
            "repeated call returns the recorded sanction."
        ),
    )
    attest_review = root_field(
        attestation_fields.attest_review,
        permissions.ATTEST_REVIEW,
        description=(
            "Attests that the activity of a month was reviewed, and seals the attestation in the audit log. Needs a "
            "fresh TOTP code. Idempotent by `month`: a repeated call with the same findings and note returns the "
            "attestation, and nobody can change it."
        ),
    )
    export_audit_events = root_field(
        audit_export_fields.export_audit_events,
        permissions.EXPORT_AUDIT_EVENTS,
        quota="exports",
        description=(
            "Asks for an export of the audit log. The worker writes the events into an encrypted archive, with "
            "a receipt that proves its content. An officer can have one export made at a time. Idempotent by "
            "`idempotencyKey`: a repeated call returns the export of the first call."
        ),
    )
    record_vendor_agreement = root_field(
        vendor_agreement_fields.record_vendor_agreement,
        permissions.RECORD_VENDOR_AGREEMENT,
        description=(
            "Records a business associate agreement in the register, which is insert-only. Idempotent by its input: a "
            "repeated call returns the entry of the first call while that entry is in force."
        ),
    )
    redeliver_webhook = root_field(
        outgoing_webhook_fields.redeliver_webhook,
        permissions.REDELIVER_WEBHOOK,
        description=(
            "Asks the worker to send a message to its endpoint again, with the same `webhook-id`. The worker retries "
            "the message for as many days as the first time. An endpoint that answered 410 Gone is enabled again. "
            "Idempotent by `webhookDeliveryId`: a repeated call changes nothing while the delivery is PENDING, and a "
            "receiver recognises a repeated message by its `webhook-id`."
        ),
    )
    issue_audit_export_url = root_field(
        audit_export_fields.issue_audit_export_url,
        permissions.ISSUE_AUDIT_EXPORT_URL,
        quota="urls",
        description=(
            "Issues a URL that downloads an export of the audit log for a few minutes. Only the officer who "
            "asked for the export gets a URL. Idempotent by `auditExportId`: a repeated call issues a further "
            "URL of the same archive."
        ),
    )
    reveal_audit_export_secret = root_field(
        audit_export_fields.reveal_audit_export_secret,
        permissions.REVEAL_AUDIT_EXPORT_SECRET,
        description=(
            "Reveals the secret of an export of the audit log once, to the officer who asked for the export. "
            "Idempotent by `auditExportId`: the secret is returned once, and a repeated call is refused."
        ),
    )
    request_amendment = root_field(
        amendment_fields.request_amendment,
        permissions.REQUEST_AMENDMENT,
        quota="pages",
        description=(
            "Files a request of the signed-in patient to amend their record (45 CFR 164.526). Idempotent by "
            "`idempotencyKey`: a repeated call returns the first call's amendment."
        ),
    )
    record_amendment_request = root_field(
        amendment_fields.record_amendment_request,
        permissions.RECORD_AMENDMENT_REQUEST,
        quota="pages",
        description=(
            "Files a request for an amendment that arrived in writing. Idempotent by `idempotencyKey`: a repeated "
            "call returns the first call's amendment."
        ),
    )
    extend_amendment = root_field(
        amendment_fields.extend_amendment,
        permissions.EXTEND_AMENDMENT,
        quota="pages",
        description=(
            "Extends the deadline of an amendment once, by at most 30 days. Idempotent by `amendmentId`: a "
            "repeated call is refused."
        ),
    )
    accept_amendment = root_field(
        amendment_fields.accept_amendment,
        permissions.ACCEPT_AMENDMENT,
        quota="pages",
        description=(
            "Accepts an amendment, and adds its text to the record. Idempotent by `amendmentId`: a repeated call "
            "is refused."
        ),
    )
    deny_amendment = root_field(
        amendment_fields.deny_amendment,
        permissions.DENY_AMENDMENT,
        quota="pages",
        description=(
            "Denies an amendment on one of the four grounds of the regulation. Idempotent by `amendmentId`: a "
            "repeated call is refused."
        ),
    )
    dispute_amendment = root_field(
        amendment_fields.dispute_amendment,
        permissions.DISPUTE_AMENDMENT,
        quota="pages",
        description=(
            "Adds the patient's statement of disagreement with a denial. Idempotent by `amendmentId`: a repeated "
            "call is refused."
        ),
    )
    rebut_amendment = root_field(
        amendment_fields.rebut_amendment,
        permissions.REBUT_AMENDMENT,
        quota="pages",
        description=(
            "Adds the practice's rebuttal of a statement of disagreement. Idempotent by `amendmentId`: a repeated "
            "call is refused."
        ),
    )
    include_amendment = root_field(
        amendment_fields.include_amendment,
        permissions.INCLUDE_AMENDMENT,
        quota="pages",
        description=(
            "Notes that the patient asks for a denied request and its denial to go with future disclosures. "
            "Idempotent by `amendmentId`: a repeated call changes nothing."
        ),
    )
    request_accounting = root_field(
        accounting_fields.request_accounting,
        permissions.REQUEST_ACCOUNTING,
        quota="pages",
        description=(
            "Files a request of the signed-in patient for an accounting of disclosures (45 CFR 164.528). Idempotent by "
            "the caller: if a request of the patient is OPEN, it is returned unchanged."
        ),
    )
    record_accounting_request = root_field(
        accounting_fields.record_accounting_request,
        permissions.RECORD_ACCOUNTING_REQUEST,
        quota="pages",
        description=(
            "Files a patient's request for an accounting of disclosures that arrived in writing. Idempotent by "
            "`patient`: if a request of the patient is OPEN, it is returned unchanged."
        ),
    )
    withdraw_accounting_request = root_field(
        accounting_fields.withdraw_accounting_request,
        permissions.WITHDRAW_ACCOUNTING_REQUEST,
        quota="pages",
        description=(
            "Withdraws a request for an accounting. Idempotent by `accountingRequestId`: a withdrawn request stays "
            "WITHDRAWN."
        ),
    )
    extend_accounting_request = root_field(
        accounting_fields.extend_accounting_request,
        permissions.EXTEND_ACCOUNTING_REQUEST,
        quota="pages",
        description=(
            "Extends the deadline of a request for an accounting once, by at most 30 days. Idempotent by "
            "`accountingRequestId`: a repeated call is refused."
        ),
    )
    fulfill_accounting_request = root_field(
        accounting_fields.fulfill_accounting_request,
        permissions.ISSUE_ACCOUNTING,
        quota="pages",
        description=(
            "Issues the accounting of a request, and keeps it. Idempotent by `accountingRequestId`: a repeated call "
            "returns the accounting that was issued first."
        ),
    )
    record_disclosure = root_field(
        disclosure_fields.record_disclosure,
        permissions.RECORD_DISCLOSURE,
        quota="pages",
        description=(
            "Records a disclosure of a patient's information to somebody outside the practice (45 CFR 164.528). "
            "Idempotent by `idempotencyKey`: a repeated call returns the disclosure of the first call."
        ),
    )
    suspend_disclosures = root_field(
        disclosure_fields.suspend_disclosures,
        permissions.SUSPEND_DISCLOSURES,
        quota="pages",
        description=(
            "Suspends a patient's right to see the disclosures to an agency that asked for it (45 CFR 164.528(a)(2)). "
            "The disclosures appear again when the suspension ends. Idempotent by `idempotencyKey`: a repeated call "
            "returns the suspension of the first call."
        ),
    )
    lift_disclosure_suspension = root_field(
        disclosure_fields.lift_disclosure_suspension,
        permissions.LIFT_SUSPENSION,
        quota="pages",
        description=(
            "Lifts a suspension before its time. Idempotent by `disclosureSuspensionId`: a suspension that has ended "
            "stays as it is."
        ),
    )
    issue_download_url = root_field(
        recording_fields.issue_download_url,
        permissions.ISSUE_DOWNLOAD_URL,
        quota="urls",
        description=(
            "Issues a download URL of a recording. Everyone who has the URL can download the recording "
            "for a few minutes. Idempotent by `recordingId` and `file`: a repeated call issues a "
            "further URL of the same file."
        ),
    )
    issue_playback_url = root_field(
        playback_fields.issue_playback_url,
        permissions.ISSUE_PLAYBACK_URL,
        quota="playbacks",
        description=(
            "Issues a URL that plays a recording in a browser. Everyone who has the URL can play the recording "
            "for a few minutes. Idempotent by `recordingId` and `file`: a repeated call issues a further URL of "
            "the same file. A call with `viewingId` belongs to an earlier viewing."
        ),
    )
    create_clip = root_field(
        clip_fields.create_clip,
        permissions.CREATE_CLIP,
        quota="pages",
        description=(
            "Cuts a clip out of a recording. The worker encodes the clip anew, so that it contains nothing from "
            "outside its bounds. One clip of a doctor is made at a time. Idempotent by `recordingId`, "
            "`startSeconds` and `endSeconds`: a repeated call returns the clip of the first call, and makes it "
            "again only if it is FAILED."
        ),
    )
    issue_thumbnail_url = root_field(
        thumbnail_fields.issue_thumbnail_url,
        permissions.ISSUE_THUMBNAIL_URL,
        quota="pages",
        description=(
            "Issues a link to the thumbnail of a recording. Everyone who has the link can see the thumbnail for a few "
            "minutes. Idempotent by `recordingId`: a repeated call issues a further link to the same thumbnail."
        ),
    )
    process_livekit_webhook = root_field(
        recording_fields.process_livekit_webhook,
        permission=None,
        description=(
            "Receives a signed LiveKit webhook, in the same way as `POST /webhooks/livekit`. Idempotent "
            "by the id of LiveKit's event: a repeated event is stored once."
        ),
    )
    publish_staff_name = root_field(
        staff_fields.publish_staff_name,
        permissions.PUBLISH_STAFF_NAME,
        description=(
            "Sets the published name of a staff member, or removes it. Idempotent by `userId` and `publishedName`."
        ),
    )
    suspend_staff = root_field(
        staff_fields.suspend_staff,
        permissions.SUSPEND_STAFF,
        description="Suspends a staff member at once and ends their sessions. Idempotent by `userId`.",
    )
    start_staff_access_review = root_field(
        staff_access_fields.start_staff_access_review,
        permissions.START_STAFF_ACCESS_REVIEW,
        description=(
            "Begins a review of the access of all active staff members. The review proposes to remove the access that "
            "nobody used. Idempotent by the OPEN review, which a repeated call returns."
        ),
    )
    decide_staff_access = root_field(
        staff_access_fields.decide_staff_access,
        permissions.DECIDE_STAFF_ACCESS,
        description=(
            "Changes the decision of an OPEN review about one staff member. Idempotent by `reviewId`, `userId` and "
            "`decision`."
        ),
    )
    approve_staff_access_review = root_field(
        staff_access_fields.approve_staff_access_review,
        permissions.APPROVE_STAFF_ACCESS_REVIEW,
        description=(
            "Approves an access review, which needs a second person: an officer who neither started the review nor "
            "changed an entry. The worker then suspends the members whose access the review removes. Idempotent by "
            "`reviewId`."
        ),
    )
    reject_staff_access_review = root_field(
        staff_access_fields.reject_staff_access_review,
        permissions.REJECT_STAFF_ACCESS_REVIEW,
        description="Rejects an access review, which then changes nothing. Idempotent by `reviewId`.",
    )
    reset_second_factor = root_field(
        proposal_fields.reset_second_factor,
        permissions.RESET_SECOND_FACTOR,
        description=(
            "Proposes to remove all second factors of a staff member. After a second officer has approved it, all "
            "sessions of the member end, and the worker removes the factors at Supabase Auth. Idempotent by `userId` "
            "and `reason` while the proposal is open."
        ),
    )
    reinstate_staff = root_field(
        proposal_fields.reinstate_staff,
        permissions.REINSTATE_STAFF,
        description=(
            "Proposes to end the suspension of a staff member. After a second officer has approved it, the member is "
            "ACTIVE, and the worker lifts the ban at Supabase Auth. Idempotent by `userId` and `reason` while the "
            "proposal is open."
        ),
    )
    reassign_consultations = root_field(
        proposal_fields.reassign_consultations,
        permissions.REASSIGN_CONSULTATIONS,
        description=(
            "Proposes to give the consultations of a doctor who left to another doctor. After a second officer has "
            "approved it, the worker moves the consultations in batches. Past signatures stay. Idempotent by "
            "`fromDoctorId`, `toDoctorId` and `reason` while the proposal is open."
        ),
    )
    approve_officer_proposal = root_field(
        proposal_fields.approve_officer_proposal,
        permissions.APPROVE_PROPOSAL,
        description=(
            "Approves a proposal of another officer, which takes effect at once. The proposing officer and the member "
            "whom it concerns cannot approve it. Idempotent by `officerProposalId`."
        ),
    )
    reject_officer_proposal = root_field(
        proposal_fields.reject_officer_proposal,
        permissions.REJECT_PROPOSAL,
        description="Rejects a proposal, which ends it. Idempotent by `officerProposalId`.",
    )
    invite_staff = root_field(
        staff_fields.invite_staff,
        permissions.INVITE_STAFF,
        quota="invitations",
        description=(
            "Invites a staff member by email. Idempotent by `email` and `role` while the invitation is "
            "PENDING: a repeated call sends the same invitation again."
        ),
    )
    share_consultation = root_field(
        share_fields.share_consultation,
        permissions.SHARE_CONSULTATION,
        description=(
            "Shares a consultation with a colleague. Until the share ends, the colleague sees the consultation and the "
            "data that was made from it, and can download nothing. Idempotent by `idempotencyKey`: a repeated call "
            "returns the share of the first call."
        ),
    )
    end_share = root_field(
        share_fields.end_share,
        permissions.END_SHARE,
        description="Ends a share at once. Idempotent by `shareId`: a repeated call changes nothing.",
    )
    record_sharing_authorization = root_field(
        share_fields.record_sharing_authorization,
        permissions.AUTHORIZE_SHARING,
        description=(
            "Records an authorization that the patient of a sensitive consultation signed. Idempotent by "
            "`idempotencyKey`: a repeated call returns the authorization of the first call."
        ),
    )
    withdraw_sharing_authorization = root_field(
        share_fields.withdraw_sharing_authorization,
        permissions.WITHDRAW_SHARING_AUTHORIZATION,
        description=(
            "Records that a patient has withdrawn an authorization, which ends the share with its colleague. "
            "Idempotent by `sharingAuthorizationId`: a repeated call changes nothing."
        ),
    )
    break_glass = root_field(
        emergency_fields.break_glass,
        permissions.BREAK_GLASS,
        quota="emergencies",
        description=(
            "Gives a clinician emergency access to a patient of other doctors for one hour, opens a review case and "
            "alerts compliance. The caller's newest TOTP code must be at most 5 minutes old. Idempotent by "
            "`patientExternalId` for that hour: a repeated call returns the same access and does not prolong it."
        ),
    )
    place_legal_hold = root_field(
        hold_fields.place_legal_hold,
        permissions.PLACE_HOLD,
        description=(
            "Places a legal hold, after which no destruction of a covered recording begins. Idempotent "
            "by the whole input: if the same officer repeats the call, the existing hold is returned."
        ),
    )
    release_legal_hold = root_field(
        hold_fields.release_legal_hold,
        permissions.RELEASE_HOLD,
        description=(
            "Releases a legal hold that a different officer placed. Idempotent by `legalHoldId`: if the "
            "officer who released the hold repeats the call, nothing changes."
        ),
    )
    record_disposition = root_field(
        review_case_fields.record_disposition,
        permissions.DECIDE_REVIEW_CASE,
        description=(
            "Records the disposition of a review case, which ends the case. The subject of a case cannot decide it. "
            "Idempotent by the whole input: if the same officer repeats the call, the case is returned unchanged."
        ),
    )
    approve_review_policy = root_field(
        review_rule_fields.approve_review_policy,
        permissions.APPROVE_REVIEW_POLICY,
        description=(
            "Approves a version of the rules of the review, which comes into force with the approval of a second "
            "officer. Idempotent by `policyId` and the officer: a repeated approval is refused and changes nothing."
        ),
    )
    reject_review_policy = root_field(
        review_rule_fields.reject_review_policy,
        permissions.REJECT_REVIEW_POLICY,
        description=(
            "Rejects a proposed version of the rules of the review. Idempotent by `policyId`: a repeated rejection is "
            "refused and changes nothing."
        ),
    )
    assign_review_case = root_field(
        review_case_fields.assign_review_case,
        permissions.ASSIGN_REVIEW_CASE,
        description=(
            "Assigns an open review case to an officer, or to nobody. Every officer who sees the case may still decide "
            "it. Idempotent by the whole input."
        ),
    )
    lift_language_budget = root_field(
        cost_fields.lift_language_budget,
        permissions.LIFT_LANGUAGE_BUDGET,
        description=(
            "Lifts the budget of language models for one doctor until the end of today (UTC), and resumes the work "
            "that waits for it. Idempotent by `doctorId` and the day."
        ),
    )
    approve_retention_policy = root_field(
        retention_fields.approve_retention_policy,
        permissions.APPROVE_RETENTION,
        description=(
            "Approves a retention policy. A policy that shortens a retention term comes into force "
            "after the approval of a second officer. A policy that shortens no retention term comes "
            "into force with the first approval. Idempotent by `policyId` and the officer: a repeated "
            "approval is refused and changes nothing."
        ),
    )
    reject_retention_policy = root_field(
        retention_fields.reject_retention_policy,
        permissions.REJECT_RETENTION,
        description=(
            "Rejects a proposed retention policy. Idempotent by `policyId`: a repeated rejection "
            "is refused and changes nothing."
        ),
    )


@strawberry.type(
    description=(
        "A client sends subscriptions over WebSocket, with the protocol graphql-transport-ws. Each sends first "
        "the present state, then each change, so that resubscribing is resuming. A client that lost its "
        "connection subscribes again, and needs no other query. Many changes in quick succession may be sent "
        "as one."
    )
)
class Subscription:
    consultation_changed = root_subscription(
        subscriptions.consultation_changed,
        permissions.WATCH_CONSULTATION,
        description=(
            "Sends a consultation of the calling doctor: first the present state, then each change, so "
            "that resubscribing is resuming. A change is a consent, a withdrawal, a join, an invited "
            "guest, a switched transcription, or a change of a recording, of its media files, its "
            "transcription or its deletion. The first state counts as one page of the caller's quota."
        ),
    )
    recording_changed = root_subscription(
        subscriptions.recording_changed,
        permissions.WATCH_RECORDINGS,
        description=(
            "Sends recordings of one consultation of the calling doctor: first the present state, then "
            "each change, so that resubscribing is resuming. The present state is the newest recording "
            "of the consultation, if one exists. Then follows each recording of the consultation that "
            "changes, or of which a media file, the transcription or the deletion changes. The first "
            "state counts as one page of the caller's quota."
        ),
    )
    recordings_changed = root_subscription(
        subscriptions.recordings_changed,
        permissions.WATCH_OWN_RECORDINGS,
        description=(
            "Sends recordings of all consultations of the calling doctor, for a library: first the "
            "present state, then each change, so that resubscribing is resuming. The present state is "
            "the recordings that changed last, at most 25, with the oldest change first. Then follows "
            "each recording that changes, or of which a media file, the transcription or the deletion "
            "changes. The first state counts as one page of the caller's quota."
        ),
    )
    session_notes_changed = root_subscription(
        note_fields.session_notes_changed,
        permissions.WATCH_SESSION_NOTES,
        description=(
            "Sends the session notes of one consultation of the calling doctor: first the present state, then "
            "each change, so that resubscribing is resuming. A change sends all notes again. Psychotherapy notes are "
            "not among them. The first state counts as one page of the caller's quota."
        ),
    )


def make_schema(*, is_production: bool) -> MaskedSchema:
    """Return the executable schema. In production, the schema answers no introspection."""
    return MaskedSchema(
        Query,
        Mutation,
        Subscription,
        types=[ErrorExtensions],
        config=StrawberryConfig(scalar_map=SCALARS, default_resolver=resolve_by_name),
        extensions=[
            AuthorizationFirst,
            *limit_extensions(Limits(), allow_introspection=not is_production),
        ],
    )
