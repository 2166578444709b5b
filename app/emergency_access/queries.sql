-- name: break_glass
-- Gives the caller emergency access to a patient and returns the id of the access; null if the patient does not exist.
select private.break_glass(%(external_id)s, %(reason)s);

-- name: read_access
-- Returns an emergency access that the transaction has begun, as a row of the API. The audit row of its beginning names
-- all that it shows.
select
    e.id::text as id,
    json_build_object('id', e.clinician_id) as clinician,
    json_build_object('id', e.patient_id, 'external_id', %(external_id)s::text) as patient,
    e.reason,
    to_json(e.began_at) #>> '{}' as began_at,
    to_json(e.ends_at) #>> '{}' as ends_at,
    e.ended_at is null and e.ends_at > clock_timestamp() as is_active
from resguardo.emergency_accesses as e
where e.id = %(id)s;
