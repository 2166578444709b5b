-- Sections of note drafts that the worker writes again: the worker's steps.

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
