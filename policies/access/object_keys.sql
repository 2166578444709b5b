-- Object keys: the doctor of a recording gets its object key, and a clinician who sees the recording only the key to
-- play it. Each of the functions that this file names writes an audit row before it returns an object key.

grant execute on function
private.assign_object_key(uuid),
private.release_object_key(text, uuid, integer, uuid, uuid, boolean)
to clinician;

grant execute on function
private.read_object_key(uuid),
private.change_object_key(uuid, text),
private.unknown_object_keys(text[])
to resguardo_worker;
