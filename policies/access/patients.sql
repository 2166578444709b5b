-- Patients: a patient sees only their own row. A clinician sees the id and the external id of the patients of the
-- consultations that the clinician sees, because the subquery of the policy reads consultations under the policies of
-- that table. Compliance officers see the id and the external id of every patient, by which they name a patient in
-- holds and access requests. Neither of them sees a birth date or a login. Clinicians find or create a patient only
-- through private.register_patient().

select private.reset_access('resguardo.patients');
alter table resguardo.patients enable row level security;

grant select on resguardo.patients to patient;
grant select (id, external_id) on resguardo.patients to clinician, compliance;

create policy patients_select_clinician on resguardo.patients for select to clinician
using (
    case
        when exists (
            select from resguardo.consultations as c
            where c.patient_id = patients.id and c.doctor_id = (select private.doctor())
        ) then true
        else exists (
            select from resguardo.consultations as c
            where c.patient_id = patients.id and c.id = any((select private.shared_consultation_ids())::uuid[])
        )
    end
);

create policy patients_select_compliance on resguardo.patients for select to compliance
using ((select private.person()) is not null);

create policy patients_select_patient on resguardo.patients for select to patient
using (id = (select private.patient()));

grant execute on function private.register_patient(text, uuid, date) to clinician;

grant execute on function private.patient_id_of(text) to clinician, compliance, patient;
