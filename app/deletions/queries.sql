-- name: request_deletion
-- Requests the destruction of a recording and returns the deletion's id; null if the recording is hidden.
select private.request_deletion(%(recording_id)s, %(reason)s);

-- name: undo_deletion
-- Cancels a requested deletion and returns its id; null if the recording is hidden.
select private.undo_deletion(%(recording_id)s);

-- name: read_deletion
-- Returns a deletion; no row if it is hidden.
select d.* from resguardo.deletions as d where d.id = %(id)s;

-- name: read_certificates
-- Returns the certificates of a recording.
select c.* from resguardo.certificates as c where c.recording_id = %(recording_id)s;

-- name: claim_deletions
-- Claims due deletions and returns each with its attempt, its prefixes and its object keys.
select c.* from private.claim_deletions(%(by_clock)s, %(most)s) as c;

-- name: database_time
-- Returns the database's time.
select private.now() as now;

-- name: keep_inventory
-- Stores the objects that were found, and returns the ids of the claimed deletions that may continue.
select
    private.keep_inventory(
        %(claimed)s::uuid[],
        %(attempts)s::integer[],
        %(deletions)s::uuid[],
        %(keys)s::text[],
        %(sizes)s::bigint[],
        %(etags)s::text[]
    );

-- name: shred_keys
-- Destroys the keys of recordings that have no object left, and returns the facts for each certificate.
select s.*
from
    private.shred_keys(
        %(claimed)s::uuid[],
        %(attempts)s::integer[],
        %(deletions)s::uuid[],
        %(keys)s::text[],
        %(deleted)s::timestamptz[],
        %(gone)s::timestamptz[]
    ) as s;

-- name: finish_deletions
-- Stores the certificates and sets the recordings to DELETED.
select private.finish_deletions(%(deletions)s::uuid[], %(documents)s::text[]);

-- name: fail_deletion
-- Stores why an attempt failed and returns how many there were; null if another attempt has taken over.
select private.fail_deletion(%(id)s, %(attempt)s, %(reason)s);

-- name: call_off_missing
-- Cancels the deletion of a recording that was marked missing although its object exists.
select private.call_off_missing(%(id)s);

-- name: keep_earlier_certificates
-- Stores the certificates of earlier destructions of a recording.
select private.keep_earlier_certificates(%(id)s, %(documents)s::text[]);

-- name: restored_recordings
-- Returns the given recordings that are not DELETED in this database, with a null status for an unknown recording.
select r.* from private.restored_recordings(%(recordings)s::uuid[]) as r;

-- name: unknown_object_keys
-- Returns those of the given object keys that belong to no recording, import or move, as one array.
select private.unknown_object_keys(%(keys)s::text[]);

-- name: find_moved_object
-- Points a recording to its object under keep/ and returns true; returns false if the object is orphaned.
select private.find_moved_object(%(key)s, %(size_bytes)s);

-- name: repeat_deletion
-- Begins to destroy a restored recording again; returns false if it may not be destroyed now.
select private.repeat_deletion(%(recording_id)s, %(documents)s::text[]);
