"""Fills a migrated database, as a superuser, with the medical practice that `actors.py` describes."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg

from tests.policies.actors import (
    ANA,
    BRUNO,
    CASES,
    CONSULTATIONS,
    FINISHED,
    SHA256,
    STAFF,
    USERS,
    Case,
    Connection,
    id_of,
)
from tests.practice import Practice

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def seed(superuser_url: str) -> None:
    """Insert and commit all rows of the test practice."""
    with psycopg.connect(superuser_url) as connection:
        _people(Practice(connection))
        for case in CASES:
            _case(connection, case)
        _access_of_others(connection)
        _queue(connection)


def _people(practice: Practice) -> None:
    for user in USERS:
        soon, now = practice.now() + timedelta(days=1), practice.now()
        practice.user(
            id_of(user),
            email=f"{user}@example.org",
            banned_until=soon if user == "banned" else None,
            deleted_at=now if user == "deleted" else None,
        )
        for session, aal in (("session", "aal2"), ("aal1 session", "aal1")):
            practice.session(id_of(user), id_of(f"{user} {session}"), aal)
    for user, (role, status) in STAFF.items():
        suspended_at = practice.now() if status == "suspended" else None
        practice.member(id_of(user), role, status=status, suspended_at=suspended_at)
    for user in ("banned", "deleted"):
        practice.member(id_of(user))


def _case(connection: Connection, case: Case) -> None:
    practice = Practice(connection)
    practice.patient(case.patient_id, external_id=f"mrn-{case.patient}", user_id=id_of(case.patient))
    for number, name in enumerate(CONSULTATIONS):
        _consultation(connection, case, name, NOON + timedelta(hours=number))
    for status in FINISHED:
        add_recording(connection, case, "over", status)
    add_recording(connection, case, "live", "RECORDING")
    connection.execute(
        "insert into resguardo.recording_imports (id, consultation_id, doctor_id, patient_id, recording_id,"
        " content_type, size_bytes) values (%s, %s, %s, %s, %s, 'video/mp4', 1000)",
        [case.id_of("import"), case.id_of("over"), case.doctor_id, case.patient_id, case.id_of("imported")],
    )
    _shares(connection, case)
    _access_requests(connection, case)
    _note_draft(connection, case)
    _hold(connection, case)
    _deletion(connection, case)
    _words(connection, case)
    _signed_note(connection, case)
    _insights(connection, case)
    _notes(connection, case)
    connection.execute(
        "insert into private.usage values (%s, 'urls', date_trunc('hour', now(), 'UTC'), 1)", [case.doctor_id]
    )
    connection.execute(
        "insert into resguardo.clips (recording_id, consultation_id, doctor_id, patient_id, purpose, start_ms, end_ms)"
        " select r.id, r.consultation_id, r.doctor_id, r.patient_id, 'TREATMENT', 0, 1000"
        " from resguardo.recordings as r where r.consultation_id = %s and r.status = 'READY'",
        [case.id_of("over")],
    )
    connection.execute(
        "with made as (update resguardo.recordings set thumbnail_status = 'READY' where id = %s returning id)"
        " insert into private.thumbnails select id, %s from made",
        [case.id_of("over READY"), bytes(40)],
    )
    connection.execute(
        "insert into private.thumbnail_links values (sha256(%s), %s, '{}', now())",
        [case.doctor.encode(), case.id_of("over READY")],
    )
    connection.execute(
        "insert into private.viewings (id, recording_id, file_id, person_id, purpose)"
        " select gen_random_uuid(), r.id, r.id, r.doctor_id, 'TREATMENT' from resguardo.recordings as r"
        " where r.consultation_id = %s and r.status = 'READY'",
        [case.id_of("over")],
    )
    connection.execute(
        "insert into private.idempotency_keys values (%s, 'startRecording', sha256('key'), sha256('input'), %s)",
        [case.doctor_id, case.id_of("live")],
    )
    connection.execute(
        "with asked as (insert into resguardo.audit_exports (requested_by, format, filter, status, error)"
        " values (%s, 'CSV', '(,,,,,,,,,,)', 'FAILED', 'storage_failed') returning id)"
        " insert into private.audit_export_files (export_id, object_key)"
        " select a.id, private.exports_prefix(a.id) || 'x.zip' from asked as a",
        [case.doctor_id],
    )
    connection.execute(
        "with known as (insert into private.webhook_endpoints (name, url_digest, event_types)"
        " values ('siem', repeat('0', 64), '{note.signed}') on conflict (name) do nothing),"
        " made as (insert into resguardo.webhook_deliveries (message_id, endpoint, event_type, entity_type, entity_ids)"
        " values (gen_random_uuid(), 'siem', 'note.signed', 'signed_note', '{}') returning id)"
        " insert into resguardo.webhook_attempts (delivery_id, number) select id, 1 from made"
    )
    connection.execute(
        "insert into resguardo.officer_proposals (kind, member_id, reason, proposed_by)"
        " values ('RESET_SECOND_FACTOR', %s, 'DEVICE_LOST', %s)",
        [case.doctor_id, case.doctor_id],
    )
    connection.execute(
        "with recorded as (insert into resguardo.disclosures (patient_id, disclosed_on, purpose, recorded_by)"
        " values (%s, current_date, 'PUBLIC_HEALTH', %s) returning id, patient_id)"
        " insert into private.patient_texts select r.id, r.patient_id, %s from recorded as r",
        [case.patient_id, case.doctor_id, bytes(40)],
    )
    connection.execute(
        "with asked as (insert into resguardo.amendments (patient_id, consultation_id, doctor_id, part, channel,"
        " is_by_representative, filed_by, received_on, due_on)"
        " values (%s, %s, %s, 'RECORD', 'WRITTEN', false, %s, current_date, current_date + 60) returning id)"
        " insert into private.amendment_statements (amendment_id, kind, made_by) select a.id, 'REQUEST', %s"
        " from asked as a",
        [case.patient_id, case.id_of("live"), case.doctor_id, case.doctor_id, case.doctor_id],
    )
    connection.execute(
        "insert into resguardo.accounting_requests"
        " (patient_id, channel, filed_by, received_on, due_on, earliest_date, latest_date, is_free)"
        " values (%s, 'WRITTEN', %s, current_date, current_date + 60, current_date, current_date, true)",
        [case.patient_id, case.doctor_id],
    )
    connection.execute(
        "insert into resguardo.disclosure_suspensions (patient_id, agency, is_written, starts_at, ends_at, placed_by)"
        " values (%s, 'LAW_ENFORCEMENT', true, now(), now() + interval '1 day', %s)",
        [case.patient_id, case.doctor_id],
    )
    _breach(connection, case)
    connection.execute(
        "insert into resguardo.vendor_agreements (service, vendor, basis, version, signatory, signed_on)"
        " values ('VIDEO', 'Vendor', 'AGREEMENT', '1', 'Signatory', '2026-01-01')"
    )
    connection.execute(
        "with made as (insert into resguardo.access_reviews (started_by, status, decided_by, decided_at)"
        " values (%s, 'REJECTED', %s, now()) returning id)"
        " insert into resguardo.access_review_entries"
        " (review_id, member_id, member_since, role, role_given_at, is_unused, decision)"
        " select id, %s, now(), 'clinician', now(), false, 'KEEP' from made",
        [case.doctor_id, case.doctor_id, case.doctor_id],
    )
    _pending_audit_row(connection, case)
    connection.execute(
        "select private.receive_livekit_event(%s, 'egress_started', %s, %s, now())",
        [f"EV_{case.doctor}", f"EG_{case.doctor}", case.room_of("live")],
    )


def _shares(connection: Connection, case: Case) -> None:
    """Insert a share of the consultation `live` and an emergency access, which have ended, and an authorization."""
    connection.execute(
        "insert into resguardo.shares (consultation_id, doctor_id, patient_id, colleague_id, shared_by, purpose,"
        " may_write_notes, began_at, ends_at) values (%s, %s, %s, %s, %s, 'CARE_TEAM', false, %s, %s)",
        [
            case.id_of("live"),
            case.doctor_id,
            case.patient_id,
            id_of("sara"),
            case.doctor_id,
            NOON - timedelta(days=2),
            NOON - timedelta(days=1),
        ],
    )
    connection.execute(
        "insert into resguardo.emergency_accesses (clinician_id, patient_id, reason, began_at, ends_at, seen_at)"
        " values (%s, %s, 'DISASTER', %s, %s, %s)",
        [
            case.doctor_id,
            case.patient_id,
            NOON - timedelta(days=1),
            NOON - timedelta(hours=23),
            NOON - timedelta(days=1),
        ],
    )
    connection.execute(
        "insert into resguardo.sharing_authorizations (consultation_id, doctor_id, patient_id, signed_on,"
        " is_signed_by_representative, expires_at, recorded_by, recorded_at)"
        " values (%s, %s, %s, current_date, false, now() + interval '1 day', %s, now())",
        [case.id_of("over"), case.doctor_id, case.patient_id, case.doctor_id],
    )


def _access_of_others(connection: Connection) -> None:
    """Let Berta see the consultation `over` of Ana by a share, and Dario by an emergency access to Paula."""
    connection.execute(
        "insert into resguardo.shares (consultation_id, doctor_id, patient_id, colleague_id, shared_by, purpose,"
        " may_write_notes, began_at, ends_at)"
        " values (%s, %s, %s, %s, %s, 'CARE_TEAM', false, now(), now() + interval '30 days')",
        [ANA.id_of("over"), ANA.doctor_id, ANA.patient_id, id_of("berta"), ANA.doctor_id],
    )
    connection.execute(
        "update resguardo.consents set text_version = '2027-02' where consultation_id = %s",
        [ANA.id_of("over")],
    )
    connection.execute(
        "insert into resguardo.emergency_accesses (clinician_id, patient_id, reason, began_at, ends_at, seen_at)"
        " values (%s, %s, 'DISASTER', now(), now() + interval '1 hour', now())",
        [id_of("dario"), ANA.patient_id],
    )


def _breach(connection: Connection, case: Case) -> None:
    """Insert an assessment with its parts, a sanction and an attestation. No officer is a subject."""
    connection.execute(
        "with assessed as (insert into resguardo.breach_assessments"
        " (filter, subject_id, discovered_on, due_on, next_due_on, opened_by)"
        " values ('(,,,,,,,,,,)', %(doctor)s, '2026-11-20', '2027-01-19', '2027-01-19', %(doctor)s) returning id),"
        " patients as (insert into resguardo.breach_patients select a.id, %(patient)s from assessed as a),"
        " recordings as (insert into resguardo.breach_recordings select a.id, %(recording)s from assessed as a),"
        " factors as (insert into resguardo.breach_factors (assessment_id, factor, risk, rationale, recorded_by)"
        " select a.id, 'MITIGATION', 'LOW', 'Destroyed.', %(doctor)s from assessed as a),"
        " notices as (insert into resguardo.breach_notices (assessment_id, kind, method, sent_on, recorded_by)"
        " select a.id, 'SECRETARY', 'HHS_PORTAL', '2026-11-21', %(doctor)s from assessed as a),"
        " sanctions as (insert into resguardo.sanctions"
        " (assessment_id, staff_id, category, measure, imposed_on, recorded_by)"
        " select a.id, %(doctor)s, 'CARELESS', 'TRAINING', '2026-11-21', %(other)s from assessed as a)"
        " insert into resguardo.attestations (month, attested_by, findings, document, sha256, event_id)"
        " values ('2026-10-01', %(doctor)s, '{NOTHING}', '{}', %(sha256)s, gen_random_uuid())",
        {
            "doctor": case.doctor_id,
            "other": next(one.doctor_id for one in CASES if one.doctor != case.doctor),
            "patient": case.patient_id,
            "recording": case.id_of("over READY"),
            "sha256": SHA256,
        },
    )


def _consultation(connection: Connection, case: Case, name: str, scheduled_at: datetime) -> None:
    Practice(connection).consultation(
        case.doctor_id,
        case.patient_id,
        case.id_of(name),
        external_id=f"{case.doctor}-{name}",
        scheduled_at=scheduled_at,
        room_name=case.room_of(name),
    )
    for kind in ("DOCTOR", "PATIENT", "GUEST"):
        add_participant(connection, case, name, kind, joined_at=scheduled_at)
        if kind != "GUEST" or name != "unconsented":
            give_consent(connection, case, name, kind)
    guest = case.id_of(f"{name} GUEST")
    connection.execute(
        "insert into private.invitations values (%s, sha256(%s), now() + interval '1 day', now())",
        [guest, guest.bytes],
    )


def _deletion(connection: Connection, case: Case) -> None:
    """Insert the rows of a recording that is being destroyed: the deletion, a certificate, one object and the data
    key.
    """
    recording = case.id_of("over FAILED")
    people = [case.id_of("over"), case.doctor_id, case.patient_id]
    connection.execute(
        "insert into resguardo.deletions (id, recording_id, consultation_id, doctor_id, patient_id, ground, status)"
        " values (%s, %s, %s, %s, %s, 'RETENTION', 'DELETING')",
        [case.id_of("deletion"), recording, *people],
    )
    connection.execute(
        "insert into resguardo.certificates (recording_id, number, deletion_id, consultation_id, doctor_id, patient_id,"
        " document, sha256) values (%s, 1, %s, %s, %s, %s, '{}', %s)",
        [recording, case.id_of("deletion"), *people, SHA256],
    )
    connection.execute(
        "insert into private.deletion_objects values (%s, 'keep/1', 1, 'etag')", [case.id_of("deletion")]
    )
    connection.execute("insert into private.recording_keys values (%s, %s, 'first')", [recording, bytes(40)])


def _pending_audit_row(connection: Connection, case: Case) -> None:
    """Insert an audit row that a transaction has not written yet. Its trigger would delete it before the commit."""
    connection.execute("set session_replication_role = replica")
    connection.execute(
        "insert into private.pending_audit_rows (action, entity_type, entity_id, patient_id, consultation_id, fields)"
        " values (%s, 'recording', %s, %s, %s, '{deletion}')",
        [f"{case.doctor}.test", case.id_of("over READY"), case.patient_id, case.id_of("over")],
    )
    connection.execute("set session_replication_role = origin")


def _words(connection: Connection, case: Case) -> None:
    """Insert a transcript with one chunk, one correction, one subtitle link and one question."""
    recording = case.id_of("over READY")
    Practice(connection).transcript(recording)
    connection.execute(
        "insert into private.transcript_chunks (recording_id, number, sound, start_ms, end_ms)"
        " values (%s, 0, %s, 0, 1)",
        [recording, recording],
    )
    connection.execute(
        "insert into private.transcript_texts (recording_id, ciphertext, terms) values (%s, %s, '{1}')",
        [recording, bytes(40)],
    )
    connection.execute(
        "insert into private.transcript_corrections (recording_id, number, ciphertext, corrected_by)"
        " values (%s, 1, %s, %s)",
        [recording, bytes(40), case.doctor_id],
    )
    connection.execute(
        "insert into private.subtitle_links values (sha256(%s), %s, '{}', now())",
        [recording.bytes, recording],
    )
    connection.execute(
        "insert into private.questions (id, recording_id, ciphertext) values (%s, %s, %s)",
        [recording, recording, bytes(40)],
    )


def _signed_note(connection: Connection, case: Case) -> None:
    """Insert a signed note with its version and the data key of the patient."""
    people = [case.id_of("over"), case.doctor_id, case.patient_id]
    note = case.id_of("signed note")
    connection.execute(
        "insert into private.patient_keys values (%s, %s, 'first')", [case.patient_id, bytes(40)]
    )
    connection.execute(
        "insert into private.consultation_labels (consultation_id, patient_id, ciphertext, changed_by)"
        " values (%s, %s, %s, %s)",
        [case.id_of("over"), case.patient_id, bytes(40), case.doctor_id],
    )
    connection.execute(
        "insert into resguardo.signed_notes (id, recording_id, consultation_id, doctor_id, patient_id, signed_at,"
        " version_count, quote_count, term_from) values (%s, %s, %s, %s, %s, %s, 1, 2, %s)",
        [note, case.id_of("over READY"), *people, NOON, NOON],
    )
    connection.execute(
        "insert into resguardo.signed_note_versions (note_id, version, consultation_id, doctor_id, patient_id,"
        " signed_at, sha256, size_bytes, quote_count) values (%s, 1, %s, %s, %s, %s, %s, 40, 2)",
        [note, *people, NOON, SHA256],
    )
    connection.execute(
        "insert into private.signed_note_texts (note_id, version, ciphertext) values (%s, 1, %s)",
        [note, bytes(40)],
    )
    connection.execute("insert into private.note_destructions (note_id) values (%s)", [note])
    connection.execute(
        "insert into resguardo.note_certificates (note_id, number, consultation_id, doctor_id, patient_id, document,"
        " sha256) values (%s, 1, %s, %s, %s, '{}', %s)",
        [note, *people, SHA256],
    )


def _insights(connection: Connection, case: Case) -> None:
    """Insert READY insights with one stored answer and one dismissed line."""
    recording = case.id_of("over READY")
    Practice(connection).insights(recording)
    connection.execute(
        "insert into private.insight_answers (recording_id, part, round) values (%s, 0, 0)", [recording]
    )
    connection.execute(
        "insert into private.insight_texts (recording_id, generation, ciphertext) values (%s, 1, %s)",
        [recording, bytes(40)],
    )
    connection.execute(
        "insert into private.insight_dismissals (recording_id, generation, line_number, dismissed_by)"
        " values (%s, 1, 1, %s)",
        [recording, case.doctor_id],
    )


def _notes(connection: Connection, case: Case) -> None:
    """Insert a session note and a psychotherapy note, each with an earlier version."""
    recording = case.id_of("over READY")
    for notes, versions in (
        (b"private.session_notes", b"private.session_note_versions"),
        (b"private.psychotherapy_notes", b"private.psychotherapy_note_versions"),
    ):
        note = case.id_of(notes.decode())
        connection.execute(
            b"insert into %b (id, recording_id, consultation_id, author_id, version, ciphertext, changed_by)"
            b" values (%%s, %%s, %%s, %%s, 2, %%s, %%s)" % notes,
            [note, recording, case.id_of("over"), case.doctor_id, bytes(40), case.doctor_id],
        )
        connection.execute(
            b"insert into %b (note_id, version, recording_id, ciphertext, changed_by, changed_at)"
            b" values (%%s, 1, %%s, %%s, %%s, now())" % versions,
            [note, recording, bytes(40), case.doctor_id],
        )


def _note_draft(connection: Connection, case: Case) -> None:
    """Insert a note draft, and a section of it that the worker writes again, with one request."""
    recording = case.id_of("over READY")
    connection.execute(
        "insert into private.note_drafts (recording_id, version, ciphertext) values (%s, 2, %s)",
        [recording, bytes(40)],
    )
    connection.execute(
        "insert into private.note_sections (recording_id, section) values (%s, 'P')", [recording]
    )
    connection.execute(
        "insert into private.note_section_answers (recording_id, section, part, round) values (%s, 'P', 0, 0)",
        [recording],
    )


def _hold(connection: Connection, case: Case) -> None:
    """Insert a legal hold on the patient, and the row of an object that is being moved to `keep/`."""
    Practice(connection).hold(id_of("carla"), case.id_of("hold"), patient_id=case.patient_id)
    recording = case.id_of("over READY")
    connection.execute(
        "insert into private.object_moves (recording_id, source_key, target_key) values (%s, %s, %s)",
        [recording, f"r/d90/{recording}/video.mp4", f"keep/{recording}/video.mp4"],
    )


def _access_requests(connection: Connection, case: Case) -> None:
    """Insert a fulfilled access request with its encrypted copy, and an open access request."""
    for name, fulfilled_at in (("request", NOON), ("open request", None)):
        Practice(connection).access_request(
            case.patient_id,
            id_of(case.patient),
            case.id_of(name),
            received_on=NOON.date(),
            status="FULFILLED" if fulfilled_at else "OPEN",
            fulfilled_at=fulfilled_at,
            export_status="READY" if fulfilled_at else None,
        )
    request = case.id_of("request")
    connection.execute(
        "insert into private.access_exports"
        " (request_id, object_key, recording_ids, files, secret, ready_at, expires_at)"
        " values (%s, %s, %s, 1, 'ABCD', %s, %s::timestamptz + interval '30 days')",
        [request, f"exports/{request}/copy.zip", [case.id_of("over READY")], NOON, NOON],
    )


def _retention(connection: Connection) -> None:
    """Insert a rejected retention policy with the approval of one compliance officer. After this insert, no
    retention policy is in force.
    """
    Practice(connection).retention_policy(name="rejected", status="REJECTED")
    connection.execute(
        "insert into resguardo.retention_approvals (policy_id, officer_id)"
        " select p.id, %s from resguardo.retention_policies as p",
        [id_of("carla")],
    )


def add_participant(
    connection: Connection, case: Case, consultation: str, kind: str, joined_at: datetime | None = None
) -> None:
    Practice(connection).participant(
        case.id_of(consultation),
        kind,
        case.id_of(f"{consultation} {kind}"),
        guest_role="INTERPRETER" if kind == "GUEST" else None,
        joined_at=joined_at,
    )


def give_consent(
    connection: Connection,
    case: Case,
    consultation: str,
    kind: str,
    decision: str = "GIVEN",
    *,
    attested: bool = False,
) -> None:
    """Insert a consent that becomes the newest consent of a participant. `connection` may have any database role."""
    connection.execute(
        "insert into resguardo.consents (id, consultation_id, doctor_id, patient_id, participant_id,"
        " participant_kind, decision, source, recorded_by, text_version, text_language, text_sha256)"
        " values (gen_random_uuid(), %s, %s, %s, %s, %s, %s, %s, %s, '1', 'en', %s)",
        [
            case.id_of(consultation),
            case.doctor_id,
            case.patient_id,
            case.id_of(f"{consultation} {kind}"),
            kind,
            decision,
            "ATTESTED" if kind == "GUEST" or attested else "SELF",
            id_of(case.patient) if kind == "PATIENT" and not attested else case.doctor_id,
            SHA256,
        ],
    )


def add_recording(connection: Connection, case: Case, consultation: str, status: str) -> UUID:
    """Insert a recording that has this status and an object key."""
    recording = case.id_of(f"{consultation} {status}")
    Practice(connection).recording(
        case.id_of(consultation),
        status,
        recording,
        object_key=f"keep/{recording}/video.mp4",
        egress_id=f"EG_{recording}",
        sha256=SHA256,
        size_bytes=1000,
    )
    return recording


def _queue(connection: Connection) -> None:
    connection.execute(
        "insert into private.staff_invitations (email, role, invited_by) values ('dora@example.org', 'clinician', %s)",
        [id_of("carla")],
    )
    connection.execute("select private.defer_job('verify_recording', %s)", [ANA.id_of("over VERIFYING")])
    connection.execute("insert into jobs.procrastinate_workers default values")
    connection.execute(
        "insert into jobs.procrastinate_periodic_defers (task_name, defer_timestamp) values ('reconcile', 1)"
    )
    connection.execute("insert into private.deployment (name) values ('test-practice')")
    _retention(connection)
    connection.execute("insert into private.root_keys values ('first', %s)", [bytes(16)])
    connection.execute(
        "insert into private.word_index_key (wrapped_key, root_key_id) values (%s, 'first')", [bytes(40)]
    )
    # A commit deletes every search, so the search stays only without the trigger that does it
    connection.execute("alter table private.shown_fields disable trigger shown_fields_audit")
    connection.execute(
        "insert into private.shown_fields (field, action, entity_type, entity_ids)"
        " values ('topics', 'insights.read', 'recording', '{}')"
    )
    connection.execute("alter table private.shown_fields enable always trigger shown_fields_audit")
    connection.execute("alter table private.searches disable trigger searches_write_audit")
    connection.execute(
        "insert into private.searches (recording_ids, patient_ids, consultation_ids, fields)"
        " values ('{}', '{}', '{}', '{}')"
    )
    connection.execute("alter table private.searches enable always trigger searches_write_audit")
    connection.execute(
        "insert into private.drifts (topic, code, subject) values ('locks', 'lock_missing', 'x')"
    )
    connection.execute("select private.open_alert('NO_LEADER', '', null, '{}')")
    connection.execute(
        "with made as (select private.propose_review_policy('1', repeat('ab', 32), '', '{}') as id)"
        " insert into private.review_approvals (policy_id, officer_id) select m.id, %s from made as m",
        [ANA.doctor_id],
    )
    connection.execute("insert into private.review_positions values (2001, 1)")
    connection.execute("insert into private.review_days values (%s, '2026-11-20', 1)", [ANA.doctor_id])
    connection.execute("insert into private.review_counts values ('all', '2026-11-20', 1)")
    connection.execute(
        "insert into private.related_pairs values (%s, %s, 'SELF')", [ANA.doctor_id, BRUNO.patient_id]
    )
    connection.execute("insert into private.related_imports values ('SELF', 1)")
    connection.execute(
        "insert into private.fetches values ('recording', gen_random_uuid(), now(), 'none', 'S3', false)"
    )
    connection.execute("insert into private.fetch_logs values (repeat('ab', 32), now(), now(), 1)")
    connection.execute(
        "select private.open_case('no_relationship', %s, %s, %s, array[e.id], %s) from audit.events as e limit 1",
        [ANA.doctor_id, [ANA.patient_id], [ANA.id_of("over")], f"{ANA.doctor_id}|2026-11-20"],
    )
    connection.execute("insert into private.access_seals values ('schema of nobody', '')")
    _past_log(connection)
    _costs(connection)


def _past_log(connection: Connection) -> None:
    """Insert a closed log of a past year with one leaf, whose event the database has lost, and an empty block."""
    connection.execute(
        "insert into audit.logs (log_year, origin, size, marked_size, closed_size) values (2001, 'past', 1, 1, 1)"
    )
    connection.execute(
        "insert into audit.leaves (log_year, index, entry, leaf_hash) values (2001, 0, %s, %s)",
        [bytes(32), bytes(32)],
    )
    connection.execute("insert into audit.tile_hashes values (2001, 1, 0, %s)", [bytes(32)])
    connection.execute("insert into audit.published_logs (log_year, size) values (2001, 1)")
    connection.execute("insert into audit.publications (log_year, size) values (2001, 1)")
    connection.execute(
        "insert into audit.event_blocks values (0, '2001-01-01', '2001-01-01', '2001-01-01', '{}', '{}')"
    )
    connection.execute(
        "insert into audit.event_bitmaps values ('action', 'past', 0, repeat('0', 1024)::bit(1024))"
    )


def _costs(connection: Connection) -> None:
    connection.execute(
        "insert into private.language_budget (tokens_per_day) values (1000000) on conflict do nothing"
    )
    for case in CASES:
        recording = case.id_of("over READY")
        connection.execute(
            "select private.count_usage(%s, 'LANGUAGE', 'api.example.org', 'a-model', 'INPUT_TOKENS', 100)",
            [recording],
        )
        connection.execute(
            "insert into private.language_budget_lifts (doctor_id, day, lifted_by)"
            " values (%s, '2026-01-01', %s)",
            [case.doctor_id, id_of("carla")],
        )
        connection.execute(
            "insert into private.held_language_work (recording_id, task, doctor_id)"
            " values (%s, 'transcribe_recording', %s)",
            [recording, case.doctor_id],
        )
