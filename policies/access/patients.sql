-- Patients: a patient sees only their own row. Clinicians find or create a patient only through
-- private.register_patient().

select private.reset_access('resguardo.patients');
alter table resguardo.patients enable row level security;

grant select on resguardo.patients to patient;

create policy patients_select_patient on resguardo.patients for select to patient
using (id = (select private.patient()));

grant execute on function private.register_patient(text, uuid, date) to clinician;
