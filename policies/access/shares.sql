-- Shares: the doctor of a consultation and the colleague see a share, and compliance officers see all shares. Only
-- functions of the schema private write the rows. A share lets the colleague see the consultation and what was made of
-- it; the policies of those tables call private.shared_consultation_ids().

select private.reset_access('resguardo.shares');
alter table resguardo.shares enable row level security;

grant select on resguardo.shares to clinician, compliance;

create policy shares_select_clinician on resguardo.shares for select to clinician
using (doctor_id = (select private.doctor()) or colleague_id = (select private.doctor()));

create policy shares_select_compliance on resguardo.shares for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.shared_consultation_ids()
to clinician;

grant execute on function private.access_basis(uuid) to clinician, compliance, patient;
