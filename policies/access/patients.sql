-- Patients: a patient sees only their own row. Compliance officers see the id and the external id of every patient,
-- by which they name a patient in holds and access requests, and no birth date and no login. Clinicians find or
-- create a patient only through private.register_patient().

select private.reset_access('resguardo.patients');
alter table resguardo.patients enable row level security;

grant select on resguardo.patients to patient;
grant select (id, external_id) on resguardo.patients to compliance;

create policy patients_select_compliance on resguardo.patients for select to compliance
using ((select private.person()) is not null);

create policy patients_select_patient on resguardo.patients for select to patient
using (id = (select private.patient()));

grant execute on function private.register_patient(text, uuid, date) to clinician;
