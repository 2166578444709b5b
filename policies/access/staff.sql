-- Staff: each clinician sees the own row, compliance sees all. Suspension goes through private.suspend_staff(). Members
-- are made by private.settle_staff_invitation(), of an invitation of compliance's or the owner's, and by an adopter's
-- mapping, private.map_staff().

select private.reset_access('resguardo.staff');
alter table resguardo.staff enable row level security;

grant select on resguardo.staff to clinician, compliance;

create policy staff_select_clinician on resguardo.staff for select to clinician
using (user_id = (select private.person()));

create policy staff_select_compliance on resguardo.staff for select to compliance
using ((select private.person()) is not null);

grant execute on function private.suspend_staff(uuid) to compliance;

grant execute on function private.end_sessions_of_suspended() to resguardo_worker;
