-- The labels of consultations: the doctor and the patient of a consultation read its label, and the doctor changes it.
-- Compliance officers read the same lists, in which the labels are null.

grant execute on function private.label_of(uuid) to clinician, compliance, patient;

grant execute on function
private.begin_label(uuid, bytea, text),
private.store_label(uuid, bytea)
to clinician;
