-- Consents: a row of the table is written once and never changed. A clinician sees the consents of the consultations
-- that the clinician sees. Doctors give their own consent and attest a
-- patient's or a guest's consent. A patient gives and withdraws only the patient's own consent. Compliance officers
-- see all consents, because they must prove that each recording was consented to.

select private.reset_access('resguardo.consents');
alter table resguardo.consents enable row level security;

grant select on resguardo.consents to clinician, compliance, patient, resguardo_worker;
grant insert (
    id, consultation_id, doctor_id, patient_id, participant_id, participant_kind, decision, source, recorded_by,
    representative_relationship, representative_name, text_version, text_language, text_sha256
) on resguardo.consents to clinician, patient;

create policy consents_select_clinician on resguardo.consents for select to clinician
using (
    case
        when doctor_id = (select private.doctor()) then true
        else consultation_id = any((select private.shared_consultation_ids())::uuid[])
    end
);

create policy consents_select_patient on resguardo.consents for select to patient
using (patient_id = (select private.patient()));

create policy consents_select_compliance on resguardo.consents for select to compliance
using ((select private.person()) is not null);

create policy consents_select_worker on resguardo.consents for select to resguardo_worker
using (true);

create policy consents_insert_clinician on resguardo.consents for insert to clinician
with check (
    doctor_id = (select private.doctor())
    and recorded_by = (select private.uid())
    and (source = 'SELF') = (participant_kind = 'DOCTOR')
);

create policy consents_insert_patient on resguardo.consents for insert to patient
with check (
    patient_id = (select private.patient())
    and recorded_by = (select private.uid())
    and source = 'SELF'
    and participant_kind = 'PATIENT'
);

grant execute on function private.everyone_consents(uuid) to clinician, resguardo_worker;
