-- Staff: a clinician sees only their own row, and compliance sees all rows. Compliance sets the published name of a
-- member with private.publish_staff_name(). The function private.suspend_staff()
-- suspends a member of staff. Two functions add members of staff: private.settle_staff_invitation() after an
-- invitation by a compliance officer or the database owner, and private.map_staff() from an adopter's role table.

select private.reset_access('resguardo.staff');
alter table resguardo.staff enable row level security;

grant select on resguardo.staff to clinician, compliance;

create policy staff_select_clinician on resguardo.staff for select to clinician
using (user_id = (select private.person()));

create policy staff_select_compliance on resguardo.staff for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.publish_staff_name(uuid, text),
private.last_use(uuid),
private.suspend_staff(uuid)
to compliance;

grant execute on function private.end_sessions_of_suspended() to resguardo_worker;
