-- Certificates of destroyed signed notes: the doctor of the note and compliance officers read them. Only the functions
-- of the worker destroy notes and write certificates.

select private.reset_access('resguardo.note_certificates');
alter table resguardo.note_certificates enable row level security;

grant select on resguardo.note_certificates to clinician, compliance;

create policy note_certificates_select_clinician on resguardo.note_certificates for select to clinician
using (doctor_id = (select private.doctor()));

create policy note_certificates_select_compliance on resguardo.note_certificates for select to compliance
using ((select private.person()) is not null);
