-- Consultations: the doctor of a consultation sees and registers it, and its patient sees it. A clinician also sees the
-- consultations of private.shared_consultation_ids(): those that another doctor shares with the clinician, and those of
-- an emergency access. Compliance officers and
-- the worker read all consultations. A consultation's row contains no content of the consultation.

select private.reset_access('resguardo.consultations');
alter table resguardo.consultations enable row level security;

grant select on resguardo.consultations to clinician, compliance, patient, resguardo_worker;
grant insert (
    id, external_id, doctor_id, patient_id, scheduled_at, kind, sensitivity, room_name, auto_record,
    separate_speakers, transcribe, language
) on resguardo.consultations to clinician;

create policy consultations_select_clinician on resguardo.consultations for select to clinician
using (
    case
        when doctor_id = (select private.doctor()) then true
        else id = any((select private.shared_consultation_ids())::uuid[])
    end
);

create policy consultations_select_patient on resguardo.consultations for select to patient
using (patient_id = (select private.patient()));

create policy consultations_select_compliance on resguardo.consultations for select to compliance
using ((select private.person()) is not null);

create policy consultations_select_worker on resguardo.consultations for select to resguardo_worker
using (true);

create policy consultations_insert_clinician on resguardo.consultations for insert to clinician
with check (doctor_id = (select private.doctor()));

grant execute on function private.lock_consultation(uuid) to clinician, patient;

grant execute on function private.consultation_id_of(text) to clinician, compliance, patient;
