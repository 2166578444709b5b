-- Note drafts: only functions of the schema private read or write the tables, for the doctor of the recording and for
-- the worker that writes sections again.

grant execute on function
private.open_note_draft(text, uuid, jsonb, text[]),
private.store_note_draft(uuid, integer, bytea, boolean),
private.request_note_section(uuid, text, integer)
to clinician;

grant execute on function
private.begin_note_section(uuid),
private.count_note_request(uuid, text, integer, integer, integer, boolean),
private.take_back_note_request(uuid, text, integer, integer),
private.store_note_answer(uuid, text, integer, integer, bytea),
private.reopen_note_draft(uuid, text),
private.finish_note_section(uuid, text, integer, bytea),
private.fail_note_section(uuid, text, text, boolean),
private.resume_note_sections()
to resguardo_worker;
