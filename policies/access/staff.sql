-- Staff: each clinician sees the own row, compliance sees all. Suspension goes through private.suspend_staff().

select private.reset_access('resguardo.staff');
alter table resguardo.staff enable row level security;

grant select on resguardo.staff to clinician, compliance;

create policy staff_select_clinician on resguardo.staff for select to clinician
using (user_id = (select private.person()));

create policy staff_select_compliance on resguardo.staff for select to compliance
using ((select private.person()) is not null);
