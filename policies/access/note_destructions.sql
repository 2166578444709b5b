-- The destruction of signed notes whose term has ended.

grant execute on function
private.destroy_due_notes(timestamptz, integer),
private.finish_note_destructions(uuid[], text[]),
private.fail_note_destruction(uuid, integer, text),
private.keep_earlier_note_certificates(uuid, text[]),
private.restored_notes(uuid[]),
private.repeat_note_destruction(uuid, text[])
to resguardo_worker;
