-- name: require_root_keys
-- Raises an error if the keyring lacks a root key that is in use, or has a different key under the same id.
select private.require_root_keys(%(ids)s, %(check_values)s);

-- name: register_root_key
-- Stores the check value of the current root key; raises an error if a different check value is stored for the same
-- id.
select private.register_root_key(%(id)s, %(check_value)s);

-- name: make_recording_key
-- Stores the data key of a video; returns false if the video already has one.
select private.make_recording_key(%(id)s, %(wrapped)s, %(root_key_id)s);

-- name: lock_word_index_key
-- Locks and returns the key of the word index; no row if the current root key already wraps it.
select
    k.wrapped,
    k.root_key
from private.lock_word_index_key(%(root_key_id)s) as k;

-- name: rewrap_word_index_key
-- Stores the key of the word index, wrapped by the current root key.
select private.rewrap_word_index_key(%(wrapped)s, %(root_key_id)s);

-- name: count_keys
-- Returns the number of keys by kind and by the root key that wraps them.
select
    k.kind,
    k.root_key,
    k.keys
from private.count_keys() as k;

-- name: count_keys_to_rewrap
-- Returns the number of data keys that an old root key wraps.
select private.count_keys_to_rewrap(%(root_key_id)s);

-- name: read_keys_to_rewrap
-- Locks and returns a batch of data keys that an old root key wraps. The batch contains only recordings whose id is
-- greater than the given one.
select
    k.of_recording as owner_id,
    k.wrapped,
    k.root_key
from private.read_keys_to_rewrap(%(root_key_id)s, %(after)s, %(at_most)s) as k;

-- name: rewrap_recording_keys
-- Replaces the wrapped data keys that have not changed since they were read, and returns how many it replaced.
select private.rewrap_recording_keys(%(ids)s, %(before)s, %(after)s, %(root_key_id)s);

-- name: read_patient_keys_to_rewrap
-- Locks and returns a batch of patients' data keys that an old root key wraps. The batch contains only patients
-- whose id is greater than the given one.
select
    k.of_patient as owner_id,
    k.wrapped,
    k.root_key
from private.read_patient_keys_to_rewrap(%(root_key_id)s, %(after)s, %(at_most)s) as k;

-- name: rewrap_patient_keys
-- Replaces the wrapped data keys of patients that have not changed since they were read, and returns how many it
-- replaced.
select private.rewrap_patient_keys(%(ids)s, %(before)s, %(after)s, %(root_key_id)s);
