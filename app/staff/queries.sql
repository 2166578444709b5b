-- name: view_staff
select s.user_id, s.role, null::uuid as patient_id from resguardo.staff as s where s.user_id = private.uid();

-- name: view_patient
select p.user_id, 'patient' as role, p.id as patient_id from resguardo.patients as p where p.user_id = private.uid();

-- name: suspend_staff
select private.suspend_staff(%(user_id)s);

-- name: record_ban
select private.record_service('staff.ban', %(outcome)s, %(reason)s::text, 'staff', %(user_id)s);

-- name: end_sessions_of_suspended
select private.end_sessions_of_suspended();

-- name: invite_staff
select i.id, i.role, i.status, i.error, i.email, i.created_at, i.refusal
from private.invite_staff(%(email)s, %(role)s) as i;

-- name: read_staff_invitations
select i.id, i.role, i.status, i.error, i.email, i.created_at
from private.read_staff_invitations() as i;

-- name: settle_staff_invitation
select private.settle_staff_invitation(%(id)s, %(invited)s::uuid);

-- name: fail_staff_invitation
select private.fail_staff_invitation(%(id)s, %(reason)s);

-- name: add_staff
select a.invitation, a.refusal from private.add_staff(%(email)s, %(role)s) as a;

-- name: staff_invitation_outcome
select i.user_id, i.error, coalesce(l.is_confirmed, false) as is_confirmed
from private.staff_invitations as i, private.staff_login(i.email) as l
where i.id = %(id)s;
