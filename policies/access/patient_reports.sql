-- The reports of a patient: a patient reads who looked at their record and what was recorded of them. A compliance
-- officer reads both for the person who filed an approved access request of the patient, such as a representative.

grant execute on function
private.read_access_report(uuid, uuid, timestamptz, uuid, integer, text, boolean, text[]),
private.read_recording_report(uuid, uuid, timestamptz, uuid, integer, text, boolean, text[])
to compliance, patient;
