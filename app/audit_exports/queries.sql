-- name: request_export
-- Asks for an export of the audit log and returns its id; returns null if the filter names a patient, a consultation
-- or a recording that does not exist.
select private.request_audit_export(
    %(format)s,
    row(
        %(actor_id)s::uuid, %(action)s::text, %(outcomes)s::text[], %(purposes)s::text[],
        coalesce(%(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)),
        coalesce(%(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text)),
        coalesce(%(recording_id)s::uuid, private.recording_id_of(%(egress_id)s::text)),
        %(address)s::inet, %(session_fingerprint)s::text,
        %(since)s::timestamptz, %(until)s::timestamptz
    )::private.audit_filter,
    %(totp_max_age_seconds)s
);

-- name: release_key
-- Returns the object key of an export to the officer who asked for it; returns null if the export does not exist.
select private.release_audit_export_key(%(id)s, %(totp_max_age_seconds)s);

-- name: reveal_secret
-- Returns the secret of an export once to the officer who asked for it; returns null if the export does not exist.
select private.reveal_audit_export_secret(%(id)s, %(totp_max_age_seconds)s);

-- name: begin_export
-- Begins an attempt to make an export and returns one row; returns no row if the export is not being made.
select b.object_key, b.run, b.format, b.filter, b.requested_by, b.requested_at, b.oldest_at
from private.begin_audit_export(%(id)s, %(secret)s) as b;

-- name: report_export
-- Stores the progress of an attempt; returns false if the attempt must end.
select private.report_audit_export(%(id)s, %(run)s, %(percent)s, %(event_count)s);

-- name: read_events
-- Returns the next events of an export, newest first.
select e.*
from private.read_audit_export(%(id)s, %(run)s, %(before_at)s, %(before_id)s, %(page_size)s) as e
order by e.recorded_at desc, e.id desc;

-- name: find_places
-- Returns the place of each of the given events in its log.
select p.event_id, p.origin, p.index
from private.find_audit_places(%(ids)s::uuid[], %(recorded_ats)s::timestamptz[]) as p;

-- name: record_content
-- Records the file of events that an attempt has written, and returns the id of the audit event; returns null if the
-- attempt must end.
select private.record_audit_export_content(%(id)s, %(run)s, %(event_count)s, %(size_bytes)s, %(sha256)s);

-- name: finish_export
-- Marks an export as READY and returns true; returns false if the stored archive must be deleted.
select private.finish_audit_export(%(id)s, %(run)s, %(object_key)s, %(size_bytes)s);

-- name: fail_export
-- Stores why an export could not be made.
select private.fail_audit_export(%(id)s, %(reason)s);

-- name: ended_exports
-- Returns at most 100 exports that are expired, and whose archive must be deleted.
select e.export_id, e.object_key from private.ended_audit_exports() as e;

-- name: expire_export
-- Marks an export as expired and returns true; returns false if it is not READY any more.
select private.expire_audit_export(%(id)s);
