-- Note drafts: only functions of the schema private read or write the tables, for the doctor of the recording.
-- note_sections.sql has the worker that writes sections again.

grant execute on function
private.open_note_draft(text, uuid, jsonb, text[]),
private.store_note_draft(uuid, integer, bytea, boolean),
private.request_note_section(uuid, text, integer)
to clinician;
