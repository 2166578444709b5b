-- Emergency accesses: a clinician sees their own, and compliance officers see all. Only functions of the schema private
-- write the rows. What an emergency access shows is decided by the policies that call
-- private.shared_consultation_ids() (policies/access/shares.sql).

select private.reset_access('resguardo.emergency_accesses');
alter table resguardo.emergency_accesses enable row level security;

grant select on resguardo.emergency_accesses to clinician, compliance;

create policy emergency_accesses_select_clinician on resguardo.emergency_accesses for select to clinician
using (clinician_id = (select private.doctor()));

create policy emergency_accesses_select_compliance on resguardo.emergency_accesses for select to compliance
using ((select private.person()) is not null);

grant execute on function private.break_glass(text, text) to clinician;
