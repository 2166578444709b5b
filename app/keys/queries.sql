-- name: require_root_keys
select private.require_root_keys(%(ids)s, %(check_values)s);

-- name: register_root_key
select private.register_root_key(%(id)s, %(check_value)s);

-- name: make_recording_key
select private.make_recording_key(%(id)s, %(wrapped)s, %(root_key_id)s);

-- name: lock_word_index_key
select
    k.wrapped,
    k.root_key
from private.lock_word_index_key(%(root_key_id)s) as k;

-- name: rewrap_word_index_key
select private.rewrap_word_index_key(%(wrapped)s, %(root_key_id)s);

-- name: count_keys
select
    k.kind,
    k.root_key,
    k.keys
from private.count_keys() as k;

-- name: count_keys_to_rewrap
select private.count_keys_to_rewrap(%(root_key_id)s);

-- name: read_keys_to_rewrap
select
    k.of_recording,
    k.wrapped,
    k.root_key
from private.read_keys_to_rewrap(%(root_key_id)s, %(after)s, %(at_most)s) as k;

-- name: rewrap_recording_keys
select private.rewrap_recording_keys(%(ids)s, %(before)s, %(after)s, %(root_key_id)s);
