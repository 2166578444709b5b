-- Amendments: patients see their own, a doctor those of the doctor's consultations, and compliance officers all of
-- them. Functions alone write the rows and read the encrypted texts.

select private.reset_access('resguardo.amendments');
alter table resguardo.amendments enable row level security;

grant select on resguardo.amendments to clinician, compliance, patient;

create policy amendments_select_clinician on resguardo.amendments for select to clinician
using (doctor_id = (select private.doctor()));

create policy amendments_select_compliance on resguardo.amendments for select to compliance
using ((select private.person()) is not null);

create policy amendments_select_patient on resguardo.amendments for select to patient
using (patient_id = (select private.patient()));

grant execute on function private.read_amendment_texts(text, uuid, jsonb, text[]) to clinician, compliance, patient;

grant execute on function
private.request_amendment(uuid, uuid, text, date, boolean, bytea, text),
private.answer_amendment(uuid, text, bytea, text),
private.include_amendment(uuid),
private.store_amendment_text(uuid, bytea)
to compliance, patient;

grant execute on function
private.extend_amendment(uuid, integer, text),
private.decide_amendment(uuid, text, bytea, text)
to compliance;
