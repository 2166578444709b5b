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

select private.reset_access('resguardo.sharing_authorizations');
alter table resguardo.sharing_authorizations enable row level security;

grant select on resguardo.sharing_authorizations to clinician, compliance;

create policy sharing_authorizations_select_clinician on resguardo.sharing_authorizations for select to clinician
using (doctor_id = (select private.doctor()));

create policy sharing_authorizations_select_compliance on resguardo.sharing_authorizations for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.shared_consultation_ids(),
private.access_ends_at(uuid),
private.share_consultation(uuid, uuid, text, boolean, timestamptz),
private.end_share(uuid),
private.authorize_sharing(uuid, uuid, date, boolean, timestamptz),
private.withdraw_sharing_authorization(uuid)
to clinician;

grant execute on function private.access_basis(uuid) to clinician, compliance, patient;
