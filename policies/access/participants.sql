-- Participants: a clinician sees the participants of the consultations that the clinician sees. A doctor sees and adds
-- the participants of their own consultations and joins as the doctor. A patient sees the participants of the patient's
-- own consultations and joins as the patient. Compliance officers see all participants. Guests have no login and join
-- through private.redeem_invitation().

select private.reset_access('resguardo.participants');
alter table resguardo.participants enable row level security;

grant select on resguardo.participants to clinician, compliance, patient, resguardo_worker;
grant insert (id, consultation_id, doctor_id, patient_id, kind, guest_role) on resguardo.participants to clinician;
grant update (joined_at) on resguardo.participants to clinician, patient;

create policy participants_select_clinician on resguardo.participants for select to clinician
using (
    case
        when doctor_id = (select private.doctor()) then true
        else consultation_id = any((select private.shared_consultation_ids())::uuid[])
    end
);

create policy participants_select_patient on resguardo.participants for select to patient
using (patient_id = (select private.patient()));

create policy participants_select_compliance on resguardo.participants for select to compliance
using ((select private.person()) is not null);

create policy participants_select_worker on resguardo.participants for select to resguardo_worker
using (true);

create policy participants_insert_clinician on resguardo.participants for insert to clinician
with check (doctor_id = (select private.doctor()) and joined_at is null);

create policy participants_update_clinician on resguardo.participants for update to clinician
using (doctor_id = (select private.doctor()) and kind = 'DOCTOR');

create policy participants_update_patient on resguardo.participants for update to patient
using (patient_id = (select private.patient()) and kind = 'PATIENT');

grant execute on function private.keep_invitation(uuid, bytea, timestamptz) to clinician;

grant execute on function private.redeem_invitation(bytea, text[]) to resguardo_api;
