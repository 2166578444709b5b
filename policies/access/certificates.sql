-- Certificates of destruction: the doctor of the destroyed recording and compliance officers read its certificates.
-- Only the functions that finish a deletion write certificates.

select private.reset_access('resguardo.certificates');
alter table resguardo.certificates enable row level security;

grant select on resguardo.certificates to clinician, compliance;

create policy certificates_select_clinician on resguardo.certificates for select to clinician
using (doctor_id = (select private.doctor()));

create policy certificates_select_compliance on resguardo.certificates for select to compliance
using ((select private.person()) is not null);
