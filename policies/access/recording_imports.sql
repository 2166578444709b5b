-- Imports of recordings: only the doctor who declared an import sees it. A doctor can declare an import only if every
-- required participant has a standing consent. After the declaration, the worker stores the signed upload URL through
-- a function, and private.complete_import() creates the recording.

select private.reset_access('resguardo.recording_imports');
alter table resguardo.recording_imports enable row level security;

grant select on resguardo.recording_imports to clinician;
grant insert (
    consultation_id, doctor_id, patient_id, content_type, size_bytes, sha256, recorded_at
) on resguardo.recording_imports to clinician;

create policy recording_imports_select_clinician on resguardo.recording_imports for select to clinician
using (doctor_id = (select private.doctor()));

create policy recording_imports_insert_clinician on resguardo.recording_imports for insert to clinician
with check (
    doctor_id = (select private.doctor())
    and private.everyone_consents(consultation_id)
);

grant execute on function
private.release_upload_url(uuid),
private.complete_import(uuid)
to clinician;

grant execute on function
private.read_import_key(uuid),
private.store_upload_url(uuid, text),
private.expire_imports()
to resguardo_worker;
