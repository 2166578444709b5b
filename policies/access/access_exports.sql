-- The encrypted copies for access requests: the worker makes a copy, compliance reads the copy's passphrase once, and
-- the patient gets a presigned URL of the copy.

grant execute on function private.reveal_export_secret(uuid) to compliance;

grant execute on function private.release_export_key(uuid) to patient;

grant execute on function
private.begin_export(uuid, text),
private.uncopied_texts(uuid),
private.finish_export(uuid, text, bigint, uuid[], uuid[]),
private.fail_export(uuid, text),
private.ended_exports(),
private.expire_export(uuid, text),
private.unknown_export_keys(text[]),
private.export_entity_type(uuid)
to resguardo_worker;

grant execute on function
private.export_signed_notes(uuid)
to resguardo_worker;
