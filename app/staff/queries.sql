-- name: view_staff
-- Returns the caller's role, if the caller is a member of staff.
select s.user_id, s.role, null::uuid as patient_id, null::text as patient_external_id
from resguardo.staff as s
where s.user_id = private.uid();

-- name: view_patient
-- Returns the caller's patient, if the caller is a patient.
select p.user_id, 'patient' as role, p.id as patient_id, p.external_id as patient_external_id
from resguardo.patients as p
where p.user_id = private.uid();

-- name: suspend_staff
-- Suspends a member of staff and returns the member; no row if the member does not exist.
select
    s.id, s.user_id, s.role, s.status, s.created_at, s.role_given_at, s.suspended_at, s.published_name,
    private.last_use(s.user_id) as last_used_at
from private.suspend_staff(%(user_id)s) as s;

-- name: publish_staff_name
-- Sets or removes the published name of a member of staff and returns the member; no row if the member does not exist.
select
    s.id, s.user_id, s.role, s.status, s.created_at, s.role_given_at, s.suspended_at, s.published_name,
    private.last_use(s.user_id) as last_used_at
from private.publish_staff_name(%(user_id)s, %(name)s::text) as s;

-- name: record_ban
-- Writes the audit row of a ban at Supabase Auth.
select private.record_service('staff.ban', %(outcome)s, %(reason)s::text, 'staff', %(user_id)s);

-- name: record_lifted_ban
-- Writes the audit row of a lifted ban at Supabase Auth.
select private.record_service('staff.unban', %(outcome)s, %(reason)s::text, 'staff', %(user_id)s);

-- name: should_be_banned
-- Returns whether Supabase Auth must ban a person; null if the person's status decides nothing.
select private.should_be_banned(%(user_id)s);

-- name: finish_reinstatement
-- Marks the approved reinstatement of a member as DONE, or as FAILED with a reason.
select private.finish_proposals('REINSTATE', %(user_id)s, %(reason)s::text);

-- name: end_sessions_of_suspended
-- Deletes the sessions of suspended members of staff, and returns how many it deleted.
select private.end_sessions_of_suspended();

-- name: invite_staff
-- Invites an address and returns the pending invitation. If the address may not be invited, the result is one row
-- with the reason in the column `refusal` and null in all other columns.
select i.id, i.role, i.status, i.error, i.email, i.created_at, i.refusal
from private.invite_staff(%(email)s, %(role)s) as i;

-- name: read_staff_invitations
-- Returns a page of the staff invitations, newest first, and one more invitation if another page follows. Only the
-- person who sent an invitation sees its address.
select i.id, i.role, i.status, i.error, i.email, i.created_at
from private.read_staff_invitations(%(before_at)s, %(before_id)s, %(first)s, %(fields)s) as i;

-- name: settle_staff_invitation
-- Completes a pending invitation if its address has a login. Returns the address that Supabase must still invite, or
-- null if the invitation has ended.
select private.settle_staff_invitation(%(id)s, %(invited)s::uuid);

-- name: fail_staff_invitation
-- Ends a pending invitation with an error.
select private.fail_staff_invitation(%(id)s, %(reason)s);

-- name: add_staff
-- Invites an address on behalf of the owner, and returns the invitation, or the reason why the address may not be
-- invited.
select a.invitation, a.refusal from private.add_staff(%(email)s, %(role)s) as a;

-- name: staff_invitation_outcome
-- Returns the outcome of an invitation (its login or its error), and whether the login's address is confirmed.
select i.user_id, i.error, coalesce(l.is_confirmed, false) as is_confirmed
from private.staff_invitations as i, private.staff_login(i.email) as l
where i.id = %(id)s;
