-- name: claim
-- Claims an idempotency key and returns the entity that the first call with the key returned; null if there is none.
select private.claim_idempotency_key(%(mutation)s, %(key_sha256)s, %(input_mac)s);

-- name: settle
-- Stores the entity that the first call with an idempotency key returns.
select private.settle_idempotency_key(%(mutation)s, %(key_sha256)s, %(input_mac)s, %(entity_id)s);

-- name: delete_old
-- Deletes a batch of old idempotency keys and returns how many keys it deleted.
select private.delete_old_idempotency_keys();
