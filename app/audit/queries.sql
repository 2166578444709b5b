-- name: read_audit
-- Returns a page of the audit log, newest first.
select e.*
from
    private.read_audit(
        row(
            %(actor_id)s::uuid, %(action)s::text, %(outcomes)s::text[], %(purposes)s::text[],
            coalesce(%(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)),
            coalesce(%(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text)),
            coalesce(%(recording_id)s::uuid, private.recording_id_of(%(egress_id)s::text)),
            %(address)s::inet, %(session_fingerprint)s::text,
            %(since)s::timestamptz, %(until)s::timestamptz
        )::private.audit_filter,
        %(before_at)s, %(before_id)s, %(page_size)s, %(fields)s
    ) as e
order by e.recorded_at desc, e.id desc;

-- name: summarize_audit
-- Returns the number of matching events for each interval, without a value for all events, and for each value.
select s.starts_at, s.value, s.event_count
from
    private.summarize_audit(
        row(
            %(actor_id)s::uuid, %(action)s::text, %(outcomes)s::text[], %(purposes)s::text[],
            coalesce(%(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)),
            coalesce(%(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text)),
            coalesce(%(recording_id)s::uuid, private.recording_id_of(%(egress_id)s::text)),
            %(address)s::inet, %(session_fingerprint)s::text,
            %(since)s::timestamptz, %(until)s::timestamptz
        )::private.audit_filter,
        %(unit)s, %(group_by)s, %(fields)s
    ) as s
order by s.starts_at, s.value;

-- name: index_events
-- Moves the oldest 1,024 events without a block into a block. Returns false if there are fewer events.
select private.index_audit_events();

-- name: record_rejections
-- Writes one audit row for all requests that one address sent without a valid token or signature.
select private.record_rejections(%(action)s, %(address)s, %(count)s);
