-- Session notes and psychotherapy notes: only the doctor of the consultation reads and writes them, through functions
-- that write an audit row. A colleague whose share permits notes reads session notes and writes their own. Compliance
-- officers see no note. The worker reads session notes, and never psychotherapy notes, for the copies of access
-- requests.

grant execute on function
private.begin_session_note(text, uuid, bytea[], text[]),
private.add_session_note(text, uuid, uuid, integer, bytea),
private.begin_note_change(text, uuid),
private.change_session_note(text, uuid, integer, integer, bytea),
private.delete_session_note(text, uuid, integer),
private.open_session_notes(text, uuid, uuid, jsonb, text[], boolean),
private.open_psychotherapy_notes(text, uuid, uuid, jsonb, text[], boolean),
private.session_notes_version(uuid)
to clinician;

grant execute on function private.export_session_notes(uuid) to resguardo_worker;
