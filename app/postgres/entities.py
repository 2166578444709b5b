"""The entities of the API and their relations, each with the SQL of its fields. `composer.py` makes statements of them.

The names are those of the GraphQL schema in snake_case. A field that this file does not name is the column of its own
name. A field that ends in `problem` has the code of the problem, and the API adds the text.
"""

from typing import Final, LiteralString

from app.postgres.composer import Entity, Many, One, Paged


def _user(column: LiteralString) -> LiteralString:
    """Return the SQL of a user, of whom the API shows only the id."""
    return f"case when {{row}}.{column} is not null then json_build_object('id', {{row}}.{column}) end"


_REPRESENTATIVE: Final[LiteralString] = (
    "case when {row}.representative_name is not null then json_build_object("
    "'relationship', {row}.representative_relationship, 'name', {row}.representative_name) end"
)
_TRANSCRIPTION: Final[LiteralString] = (
    "(select row_to_json(y) from (select t.status, t.error as problem, t.language as language_code, t.chunks_done,"
    " t.chunks_total as chunk_count, t.attempt, t.unused_track_count, t.unintelligible_count, t.is_retried"
    " from resguardo.transcripts as t where t.recording_id = {row}.id) as y)"
)
_INSIGHTS: Final[LiteralString] = (
    "(select row_to_json(y) from (select i.status, i.error as problem, i.parts_done, i.part_count, i.attempt,"
    " i.is_refreshed, i.language as language_code, i.vendor, i.model, i.dropped_count, i.dismissed_count,"
    " i.written_at from resguardo.insights as i where i.recording_id = {row}.id) as y)"
)
_COVERAGE: Final[LiteralString] = (
    "(select row_to_json(y) from (select c.duration_seconds, c.truncated as is_truncated, c.interrupted as"
    " is_interrupted, t.unused_track_count from resguardo.recordings as c inner join resguardo.transcripts as t"
    " on t.recording_id = c.id where c.id = {row}.recording_id) as y)"
)
_BLOCKERS: Final[LiteralString] = (
    "(select coalesce(json_agg(json_build_object('reason', b.reason, 'participant', (select row_to_json(y) from"
    " (select s.participant_id as id, s.kind, s.guest_role, s.joined_at, s.is_required as must_consent,"
    " s.is_given as has_consented from resguardo.standing_consents as s where s.participant_id = b.participant_id)"
    " as y))), '[]') from private.recording_blockers({row}.id) as b)"
)
_PARTICIPANTS: Final[LiteralString] = (
    "(select s.participant_id as id, s.consultation_id, s.patient_id, s.kind, s.guest_role, s.joined_at,"
    " s.is_required as must_consent, s.is_given as has_consented from resguardo.standing_consents as s)"
)

_PATIENT_EXTERNAL_ID: Final[LiteralString] = (
    "(select s.external_id from resguardo.patients as s where s.id = {row}.patient_id)"
)
_EXTENSION: Final[LiteralString] = (
    "case when {row}.extended_at is not null then json_build_object("
    "'reason', {row}.extension_reason, 'extended_at', {row}.extended_at) end"
)
_DENIAL: Final[LiteralString] = (
    "case when {row}.denial_ground is not null then json_build_object("
    "'ground', {row}.denial_ground, 'determined_by', " + _user("determined_by") + ","
    " 'review_asked_at', {row}.review_asked_at, 'reviewed_by', " + _user("reviewed_by") + ","
    " 'reviewed_at', {row}.reviewed_at, 'review_outcome', {row}.review_outcome) end"
)
_EXPORT: Final[LiteralString] = (
    "case when {row}.export_status is not null then json_build_object("
    "'status', {row}.export_status, 'problem', {row}.export_error, 'size_bytes', {row}.export_size_bytes,"
    " 'file_count', {row}.export_recordings, 'signed_note_count', {row}.export_notes,"
    " 'missing_file_count', {row}.export_missing,"
    " 'expires_at', {row}.export_expires_at, 'secret_revealed_at', {row}.secret_revealed_at) end"
)
_WEBHOOK_ATTEMPTS: Final[LiteralString] = (
    "(select coalesce(json_agg(y), '[]') from (select a.number, a.started_at, a.duration_ms / 1000.0 as"
    " duration_seconds, a.status_code, a.error as problem from resguardo.webhook_attempts as a"
    " where a.delivery_id = {row}.id order by a.number desc limit 25) as y)"
)
_HELD_PATIENT: Final[LiteralString] = (
    "coalesce({row}.patient_id,"
    " (select c.patient_id from resguardo.consultations as c where c.id = {row}.consultation_id))"
)
_AUTHORIZATION: Final[LiteralString] = (
    "case when {row}.authorized_on is not null then json_build_object("
    "'signed_on', {row}.authorized_on, 'expires_on', {row}.authorization_expires_on) end"
)
_SUSPENDED: Final[LiteralString] = (
    "exists (select from resguardo.disclosure_suspensions as s where s.patient_id = {row}.patient_id"
    " and s.agency = {row}.purpose and s.lifted_at is null and s.ends_at > clock_timestamp())"
)
_SUBSTANCE_USE: Final[LiteralString] = (
    "exists (select from resguardo.consultations as c where c.patient_id = {row}.patient_id"
    " and c.sensitivity = 'SUBSTANCE_USE' and coalesce({row}.consultation_id, c.id) = c.id)"
)
_SUBJECTS: Final = {
    "patient": One("patient", "{row}.id = {parent}.patient_id"),
    "consultation": One("consultation", "{row}.id = {parent}.consultation_id"),
}
_HITS: Final[LiteralString] = (
    "(select h.recording_id as id, h.recording_id, h.participant_id, h.place"
    " from unnest(%(recording_ids)s::uuid[], %(participant_ids)s::uuid[])"
    " with ordinality as h (recording_id, participant_id, place))"
)

_HAS_MORE_PATIENTS: Final[LiteralString] = (
    "({row}.has_more_patients or greatest(cardinality({row}.patient_ids), cardinality({row}.consultation_ids)) > 100)"
)
_CASE_EVENTS: Final[LiteralString] = (
    "(select l.case_id, l.id, l.recorded_at, e.occurred_at, e.actor_id, e.action, e.outcome, e.reason, e.basis,"
    " e.address, e.patient_ids, e.consultation_ids from resguardo.review_case_events as l"
    " cross join lateral private.read_case_event(l.case_id, l.id, l.recorded_at) as e)"
)

_LIVE_VIDEO: Final[LiteralString] = (
    "{row}.consultation_id = {parent}.consultation_id and {row}.medium = 'VIDEO'"
    " and {row}.status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING')"
)

_FACTORS: Final[LiteralString] = (
    "(select coalesce(json_agg(row_to_json(y) order by y.factor), '[]') from (select f.factor, f.risk, f.rationale,"
    " json_build_object('id', f.recorded_by) as recorded_by, f.recorded_at"
    " from resguardo.breach_factors as f where f.assessment_id = {row}.id) as y)"
)
_NOTICES: Final[LiteralString] = (
    "(select coalesce(json_agg(row_to_json(y) order by y.sent_on, y.recorded_at), '[]') from (select n.kind, n.method,"
    " n.jurisdiction, n.sent_on, n.late_reason, json_build_object('id', n.recorded_by) as recorded_by, n.recorded_at"
    " from resguardo.breach_notices as n where n.assessment_id = {row}.id) as y)"
)
_NEEDED_NOTICES: Final[LiteralString] = (
    "(select coalesce(json_agg(row_to_json(y)), '[]') from (select n.kind, n.jurisdiction, n.due_on, n.sent_on"
    " from private.list_needed_notices({row}.id) as n) as y)"
)
_BREACH_PATIENTS: Final[LiteralString] = (
    "(select p.id, p.external_id, b.assessment_id, b.counted_at from resguardo.breach_patients as b"
    " inner join resguardo.patients as p on p.id = b.patient_id)"
)
_BREACH_RECORDINGS: Final[LiteralString] = (
    "(select b.recording_id as id, b.recording_id, b.assessment_id, b.counted_at, r.patient_id, r.consultation_id"
    " from resguardo.breach_recordings as b inner join resguardo.recordings as r on r.id = b.recording_id)"
)

_IMPORT_SECONDS: Final[LiteralString] = (
    "case when {row}.status in ('AWAITING_URL', 'AWAITING_UPLOAD') then"
    " greatest(0, floor(extract(epoch from {row}.expires_at - clock_timestamp())))::integer else 0 end"
)

ENTITIES: Final = {
    "patient": Entity(
        type="patient", table="resguardo.patients", patients="{row}.id", consultations="null::uuid"
    ),
    "participant": Entity(
        type="participant",
        table=_PARTICIPANTS,
        relations={"consultation": One("consultation", "{row}.id = {parent}.consultation_id")},
    ),
    "consent": Entity(
        type="consent",
        table="resguardo.consents",
        values={"recorded_by": _user("recorded_by"), "representative": _REPRESENTATIVE},
        relations={
            "participant": One("participant", "{row}.id = {parent}.participant_id"),
            "consultation": One("consultation", "{row}.id = {parent}.consultation_id"),
            "recording": One("recording", _LIVE_VIDEO),
        },
    ),
    "consultation": Entity(
        type="consultation",
        table="resguardo.consultations",
        values={
            "doctor": _user("doctor_id"),
            "conducted_by": _user("conducted_by"),
            "records_automatically": "{row}.auto_record",
            "records_speakers_separately": "{row}.separate_speakers",
            "access_basis": "upper(private.access_basis({row}.id))",
            "recording_blockers": _BLOCKERS,
            "patient_external_id": _PATIENT_EXTERNAL_ID,
            "label": "private.label_of({row}.id)",
        },
        inside={"recording_blockers": "participant"},
        relations={
            "patient": One("patient", "{row}.id = {parent}.patient_id"),
            "participants": Many(
                "participant", "{row}.consultation_id = {parent}.id", "{row}.kind, {row}.id"
            ),
            "consents": Many("consent", "{row}.consultation_id = {parent}.id", "{row}.recorded_at, {row}.id"),
            "recordings": Paged(
                "recording", "{row}.consultation_id = {parent}.id and {row}.medium = 'VIDEO'", "created_at"
            ),
            "shares": Paged("share", "{row}.consultation_id = {parent}.id", "began_at"),
            "sharing_authorizations": Paged(
                "sharing_authorization", "{row}.consultation_id = {parent}.id", "recorded_at"
            ),
        },
        consultations="{row}.id",
        shared_by="id",
    ),
    "share": Entity(
        type="share",
        table="resguardo.shares",
        hidden_from=("patient",),
        values={
            "colleague": _user("colleague_id"),
            "shared_by": _user("shared_by"),
            "ended_by": _user("ended_by"),
            "is_active": "{row}.ended_at is null and {row}.ends_at > clock_timestamp()",
        },
        relations={"consultation": One("consultation", "{row}.id = {parent}.consultation_id")},
    ),
    "sharing_authorization": Entity(
        type="sharing_authorization",
        table="resguardo.sharing_authorizations",
        hidden_from=("patient",),
        values={
            "colleague": _user("colleague_id"),
            "recorded_by": _user("recorded_by"),
            "is_active": "{row}.withdrawn_at is null and {row}.expires_at > clock_timestamp()",
        },
        relations={"consultation": One("consultation", "{row}.id = {parent}.consultation_id")},
    ),
    "emergency_access": Entity(
        type="emergency_access",
        table="resguardo.emergency_accesses",
        hidden_from=("patient",),
        values={
            "clinician": _user("clinician_id"),
            "is_active": "{row}.ended_at is null and {row}.ends_at > clock_timestamp()",
        },
        relations={"patient": One("patient", "{row}.id = {parent}.patient_id")},
        consultations="null::uuid",
    ),
    "room": Entity(
        type="room",
        table="resguardo.consultations",
        values={"name": "{row}.room_name", "sid": "null", "participant_count": "null", "created_at": "null"},
        relations={"consultation": One("consultation", "{row}.id = {parent}.id")},
        consultations="{row}.id",
    ),
    "recording_import": Entity(
        type="recording_import",
        table="resguardo.recording_imports",
        values={
            "upload_url": "null",
            "upload_headers": "'[]'::json",
            "expires_in_seconds": _IMPORT_SECONDS,
        },
        relations={
            "consultation": One("consultation", "{row}.id = {parent}.consultation_id"),
            "recording": One("recording", "{row}.id = {parent}.recording_id and {row}.medium = 'VIDEO'"),
        },
    ),
    "media_file": Entity(
        type="recording",
        table="resguardo.recordings",
        hidden_from=("patient",),
        values={
            "kind": "{row}.medium",
            "is_truncated": "{row}.truncated",
            "is_interrupted": "{row}.interrupted",
            "problem": "{row}.error",
        },
        relations={"participant": One("participant", "{row}.id = {parent}.participant_id")},
    ),
    "clip": Entity(
        type="clip",
        table="resguardo.clips",
        hidden_from=("patient",),
        values={
            "status": "case when {row}.status = 'STORING' then 'RUNNING' else {row}.status end",
            "start_seconds": "{row}.start_ms / 1000.0",
            "end_seconds": "{row}.end_ms / 1000.0",
            "size_bytes": "(select m.size_bytes from resguardo.recordings as m where m.id = {row}.id)",
            "sha256": "(select m.sha256 from resguardo.recordings as m where m.id = {row}.id)",
            "problem": "{row}.error",
        },
        relations={"recording": One("recording", "{row}.id = {parent}.recording_id")},
    ),
    "recording": Entity(
        type="recording",
        table="resguardo.recordings",
        shared_by="consultation_id",
        hidden_from=("patient",),
        values={
            "is_truncated": "{row}.truncated",
            "is_interrupted": "{row}.interrupted",
            "problem": "{row}.error",
            "transcription": _TRANSCRIPTION,
            "insights": _INSIGHTS,
            "topics": "private.topics_of({row}.id)",
            "retention_ends_at": "{row}.due_at",
            "is_held": "private.is_own_held({row}.id)",
        },
        relations={
            "consultation": One("consultation", "{row}.id = {parent}.consultation_id"),
            "media_files": Many(
                "media_file",
                "{row}.video_id = {parent}.id and {row}.medium <> 'CLIP'",
                "{row}.created_at, {row}.id",
            ),
            "clips": Many(
                "clip",
                "{row}.recording_id = {parent}.id and {row}.status <> 'DELETED'",
                "{row}.start_ms, {row}.end_ms",
            ),
            "deletion": One(
                "deletion", "{row}.recording_id = {parent}.id", "{row}.requested_at desc, {row}.id desc"
            ),
        },
    ),
    "transcript": Entity(
        type="transcript",
        table="resguardo.transcripts",
        values={"coverage": _COVERAGE},
        relations={
            "recording": One("recording", "{row}.id = {parent}.recording_id"),
            "participants": Many(
                "participant", "{row}.consultation_id = {parent}.consultation_id", "{row}.kind, {row}.id"
            ),
        },
    ),
    "insights": Entity(
        type="insights",
        table="resguardo.insights",
        relations={"recording": One("recording", "{row}.id = {parent}.recording_id")},
    ),
    "signed_note": Entity(
        type="signed_note",
        table="resguardo.signed_notes",
        values={"retention_ends_at": "{row}.due_at", "is_destroyed": "{row}.status <> 'KEPT'"},
        relations={
            "recording": One("recording", "{row}.id = {parent}.recording_id"),
            "consultation": One("consultation", "{row}.id = {parent}.consultation_id"),
        },
    ),
    "note_draft": Entity(
        type="recording",
        table="resguardo.recordings",
        relations={"recording": One("recording", "{row}.id = {parent}.id")},
    ),
    "transcript_hit": Entity(
        type="recording",
        table=_HITS,
        patients="null::uuid",
        consultations="null::uuid",
        relations={
            "recording": One("recording", "{row}.id = {parent}.recording_id"),
            "participant": One("participant", "{row}.id = {parent}.participant_id"),
        },
    ),
    "session_notes": Entity(
        type="consultation",
        table="resguardo.consultations",
        consultations="{row}.id",
        relations={
            "consultation": One("consultation", "{row}.id = {parent}.id"),
            "recordings": Many(
                "recording",
                "{row}.consultation_id = {parent}.id and {row}.medium = 'VIDEO'",
                "{row}.created_at, {row}.id",
            ),
        },
    ),
    "deletion": Entity(
        type="deletion",
        table="resguardo.deletions",
        hidden_from=("patient",),
        values={
            "requested_by": _user("requested_by"),
            "retention_ends_at": "{row}.due_at",
            "attempt_count": "{row}.attempts",
            "problem": "{row}.error",
        },
        relations={"recording": One("recording", "{row}.id = {parent}.recording_id")},
    ),
    "access_request": Entity(
        type="access_request",
        table="resguardo.access_requests",
        values={
            "representative": _REPRESENTATIVE,
            "is_overdue": "{row}.status in ('OPEN', 'APPROVED') and {row}.due_on < (select private.today())",
            "extension": _EXTENSION,
            "denial": _DENIAL,
            "export": _EXPORT,
        },
        relations=_SUBJECTS,
    ),
    "alert": Entity(
        type="alert",
        table="resguardo.alerts",
        hidden_from=("clinician", "patient"),
        values={"message": "{row}.kind", "remedy": "{row}.kind"},
        patients="null::uuid",
        consultations="null::uuid",
    ),
    "vendor_agreement": Entity(
        type="vendor_agreement",
        table="resguardo.vendor_agreements",
        hidden_from=("clinician", "patient"),
        values={"recorded_by": _user("recorded_by")},
        patients="null::uuid",
        consultations="null::uuid",
    ),
    "webhook_delivery": Entity(
        type="webhook_delivery",
        table="resguardo.webhook_deliveries",
        hidden_from=("clinician", "patient"),
        values={"problem": "{row}.error", "attempts": _WEBHOOK_ATTEMPTS},
        patients="null::uuid",
        consultations="null::uuid",
    ),
    "audit_export": Entity(
        type="audit_export",
        table="resguardo.audit_exports",
        hidden_from=("clinician", "patient"),
        values={"requested_by": _user("requested_by"), "problem": "{row}.error"},
        patients="({row}.filter).patient_id",
        consultations="({row}.filter).consultation_id",
    ),
    "accounting_request": Entity(
        type="accounting_request",
        table="resguardo.accounting_requests",
        hidden_from=("clinician",),
        values={
            "is_overdue": "{row}.status = 'OPEN' and {row}.due_on < (select private.today())",
            "extension": _EXTENSION,
            "issued_by": _user("issued_by"),
        },
        relations={"patient": One("patient", "{row}.id = {parent}.patient_id")},
        consultations="null::uuid",
    ),
    "amendment": Entity(
        type="amendment",
        table="resguardo.amendments",
        values={
            "is_overdue": "{row}.status = 'OPEN' and {row}.due_on < (select private.today())",
            "extension": _EXTENSION,
            "decided_by": _user("decided_by"),
        },
        relations=_SUBJECTS,
    ),
    "disclosure": Entity(
        type="disclosure",
        table="resguardo.disclosures",
        hidden_from=("clinician", "patient"),
        values={
            "recorded_by": _user("recorded_by"),
            "authorization": _AUTHORIZATION,
            "is_suspended": _SUSPENDED,
            "purpose_text": "{row}.purpose",
            "redisclosure_notice": _SUBSTANCE_USE,
        },
        relations=_SUBJECTS,
    ),
    "disclosure_suspension": Entity(
        type="disclosure_suspension",
        table="resguardo.disclosure_suspensions",
        hidden_from=("clinician", "patient"),
        values={
            "placed_by": _user("placed_by"),
            "lifted_by": _user("lifted_by"),
            "is_active": "{row}.lifted_at is null and {row}.ends_at > clock_timestamp()",
        },
        relations={"patient": One("patient", "{row}.id = {parent}.patient_id")},
        consultations="null::uuid",
    ),
    "breach_assessment": Entity(
        type="breach_assessment",
        table="resguardo.breach_assessments",
        hidden_from=("clinician", "patient"),
        values={
            "subject": _user("subject_id"),
            "opened_by": _user("opened_by"),
            "decided_by": _user("decided_by"),
            "is_overdue": "{row}.status <> 'CLOSED' and {row}.next_due_on < (select private.today())",
            "factors": _FACTORS,
            "notices": _NOTICES,
            "needed_notices": _NEEDED_NOTICES,
            "audit_event_id": "{row}.event_id",
            "delay_ends_on": "{row}.delayed_until",
        },
        relations={
            "patients": Paged("breach_patient", "{row}.assessment_id = {parent}.id", "counted_at"),
            "recordings": Paged("breach_recording", "{row}.assessment_id = {parent}.id", "counted_at"),
            "sanctions": Many("sanction", "{row}.assessment_id = {parent}.id", "{row}.created_at, {row}.id"),
        },
        patients="null::uuid",
        consultations="null::uuid",
    ),
    "breach_patient": Entity(
        type="patient", table=_BREACH_PATIENTS, patients="{row}.id", consultations="null::uuid"
    ),
    "breach_recording": Entity(
        type="recording",
        table=_BREACH_RECORDINGS,
        relations={"recording": One("recording", "{row}.id = {parent}.recording_id")},
    ),
    "sanction": Entity(
        type="sanction",
        table="resguardo.sanctions",
        hidden_from=("clinician", "patient"),
        values={"member": _user("staff_id"), "recorded_by": _user("recorded_by")},
        patients="null::uuid",
        consultations="null::uuid",
    ),
    "attestation": Entity(
        type="attestation",
        table="resguardo.attestations",
        hidden_from=("clinician", "patient"),
        values={
            "month": "to_char({row}.month, 'YYYY-MM')",
            "attested_by": _user("attested_by"),
            "audit_event_id": "{row}.event_id",
        },
        patients="null::uuid",
        consultations="null::uuid",
    ),
    "legal_hold": Entity(
        type="legal_hold",
        table="resguardo.legal_holds",
        values={
            "recorded_from": "{row}.recorded_since",
            "placed_by": _user("placed_by"),
            "released_by": _user("released_by"),
            "is_active": "{row}.released_at is null",
        },
        relations=_SUBJECTS,
        patients=_HELD_PATIENT,
    ),
    "review_case": Entity(
        type="review_case",
        table="resguardo.review_cases",
        hidden_from=("clinician", "patient"),
        values={
            "rule": "upper({row}.rule)",
            "subject": _user("subject_id"),
            "assigned_to": _user("assigned_to"),
            "decided_by": _user("decided_by"),
            "patient_ids": "{row}.patient_ids[:100]",
            "consultation_ids": "{row}.consultation_ids[:100]",
            "has_more_patients": _HAS_MORE_PATIENTS,
        },
        relations={"events": Paged("review_case_event", "{row}.case_id = {parent}.id", "recorded_at")},
        patients="{row}.patient_ids[:100]",
        consultations="{row}.consultation_ids[:100]",
        has_many_subjects=True,
    ),
    "review_case_event": Entity(
        type="audit_event",
        table=_CASE_EVENTS,
        hidden_from=("clinician", "patient"),
        values={"actor": _user("actor_id")},
    ),
}
