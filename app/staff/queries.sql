-- name: view_staff
with found as materialized (
    select s.user_id, s.role from resguardo.staff as s where s.user_id = private.uid()
),

seen as materialized (
    select
        private.record_access(
            'viewer.read', 'staff', null, coalesce(array_agg(f.user_id), '{}'), '{}', '{}', '{}', null, null
        ) as recorded
    from found as f
)

select f.user_id, f.role, null::uuid as patient_id
from seen as s
left join found as f on s.recorded;

-- name: view_patient
with found as materialized (
    select p.id, p.user_id from resguardo.patients as p where p.user_id = private.uid()
),

seen as materialized (
    select
        private.record_access(
            'viewer.read', 'patient', null, coalesce(array_agg(f.id), '{}'), array_agg(f.id), '{}', '{}', null, null
        ) as recorded
    from found as f
)

select f.user_id, 'patient' as role, f.id as patient_id
from seen as s
left join found as f on s.recorded;

-- name: suspend_staff
select private.suspend_staff(%(user_id)s);

-- name: record_ban
select private.record_service('staff.ban', 'ALLOWED', null, 'staff', %(user_id)s);
