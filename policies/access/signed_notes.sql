-- Signed notes: the tables contain no text. A clinician sees which notes of the
-- consultations that the clinician sees are signed, and compliance officers see
-- all of this metadata. Only SQL functions of the schema private store, read and destroy signed notes.

select private.reset_access('resguardo.signed_notes');
alter table resguardo.signed_notes enable row level security;

grant select on resguardo.signed_notes to clinician, compliance;

create policy signed_notes_select_clinician on resguardo.signed_notes for select to clinician
using (
    case
        when doctor_id = (select private.doctor()) then true
        else consultation_id = any((select private.shared_consultation_ids())::uuid[])
    end
);

create policy signed_notes_select_compliance on resguardo.signed_notes for select to compliance
using ((select private.person()) is not null);

select private.reset_access('resguardo.signed_note_versions');
alter table resguardo.signed_note_versions enable row level security;

grant select on resguardo.signed_note_versions to clinician, compliance;

create policy signed_note_versions_select_clinician on resguardo.signed_note_versions for select to clinician
using (
    case
        when doctor_id = (select private.doctor()) then true
        else consultation_id = any((select private.shared_consultation_ids())::uuid[])
    end
);

create policy signed_note_versions_select_compliance on resguardo.signed_note_versions for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.begin_signing(uuid, integer, integer, bytea, text),
private.store_signed_note(uuid, uuid, integer, timestamptz, bytea, text, integer, integer),
private.read_signed_notes(text, uuid, jsonb, text[])
to clinician;
