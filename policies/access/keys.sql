-- Keys: the API proves that it has the right root keys, and the worker makes and rewraps data keys.

grant execute on function private.require_root_keys(text[], bytea[]) to resguardo_api, resguardo_worker;

grant execute on function
private.count_keys(),
private.register_root_key(text, bytea),
private.make_recording_key(uuid, bytea, text),
private.count_keys_to_rewrap(text),
private.read_keys_to_rewrap(text, uuid, integer),
private.rewrap_recording_keys(uuid[], bytea[], bytea[], text),
private.read_patient_keys_to_rewrap(text, uuid, integer),
private.rewrap_patient_keys(uuid[], bytea[], bytea[], text)
to resguardo_worker;
