-- name: read_audit
-- Returns a page of the audit log, newest first.
select e.*
from
    private.read_audit(
        %(before_at)s, %(before_id)s, %(actor_id)s, %(action)s, %(outcomes)s::text[],
        coalesce(%(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)),
        coalesce(%(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text)),
        %(since)s, %(until)s, %(page_size)s, %(fields)s
    ) as e
order by e.recorded_at desc, e.id desc;

-- name: record_rejections
-- Writes one audit row for all requests that one address sent without a valid token or signature.
select private.record_rejections(%(action)s, %(address)s, %(count)s);
