-- Idempotency keys: each person claims and settles only their own keys, and the worker deletes old keys.

grant execute on function
private.claim_idempotency_key(text, bytea, bytea),
private.settle_idempotency_key(text, bytea, bytea, uuid)
to clinician, compliance, patient;

grant execute on function private.delete_old_idempotency_keys() to resguardo_worker;
