-- Deletions that are repeated after a restore of the database: only the worker may call the functions that this file
-- names.

grant execute on function
private.keep_earlier_certificates(uuid, text[]),
private.restored_recordings(uuid[]),
private.repeat_deletion(uuid, text[]),
private.find_moved_object(text, bigint)
to resguardo_worker;
