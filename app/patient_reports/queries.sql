-- name: read_access_report
-- Returns a page of the report of who looked at a patient's record; no row if its subject does not exist.
select
    r.id, r.recorded_at, r.local_at, r.action, r.outcome, r.reason, r.purpose, r.basis, r.relation, r.actor_name,
    r.consultation_ids, r.reached_at
from private.read_access_report(
    %(access_request_id)s,
    coalesce(%(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text)),
    %(before_at)s, %(before_id)s, %(page_size)s, %(time_zone)s, %(with_names)s, %(fields)s
) as r;

-- name: read_recording_report
-- Returns a page of the report of what was recorded of a patient; no row if its subject does not exist.
select
    r.id, r.created_at, r.consultation_id, r.recorded_at, r.local_at, r.doctor_name, r.duration_seconds, r.status,
    r.kept_until, r.kept_until_day, r.is_kept_longer, r.destroyed_at, r.destroyed_day, r.certificate_number,
    r.certificate_sha256, r.certificate_json
from private.read_recording_report(
    %(access_request_id)s,
    coalesce(%(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text)),
    %(before_at)s, %(before_id)s, %(page_size)s, %(time_zone)s, %(with_names)s, %(fields)s
) as r;
