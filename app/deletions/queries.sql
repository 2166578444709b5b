-- name: request_deletion
select private.request_deletion(%(recording_id)s, %(reason)s);

-- name: undo_deletion
select private.undo_deletion(%(recording_id)s);

-- name: read_deletion
select d.* from resguardo.deletions as d where d.id = %(id)s;

-- name: list_deletions
select d.*
from resguardo.deletions as d
where
    (%(status)s::text is null or d.status = %(status)s)
    and (%(recording_id)s::uuid is null or d.recording_id = %(recording_id)s)
    and (
        %(is_failing)s::boolean is null
        or (d.status = 'DELETING' and d.error is not null) = %(is_failing)s
    );

-- name: read_certificates
select c.* from resguardo.certificates as c where c.recording_id = %(recording_id)s;

-- name: claim_deletions
select c.* from private.claim_deletions(%(by_clock)s, %(most)s) as c;

-- name: database_time
select private.now() as now;

-- name: keep_inventory
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
select private.finish_deletions(%(deletions)s::uuid[], %(documents)s::text[]);

-- name: fail_deletion
select private.fail_deletion(%(id)s, %(attempt)s, %(reason)s);

-- name: call_off_missing
select private.call_off_missing(%(id)s);

-- name: keep_earlier_certificates
select private.keep_earlier_certificates(%(id)s, %(documents)s::text[]);

-- name: restored_recordings
select r.* from private.restored_recordings(%(recordings)s::uuid[]) as r;

-- name: unknown_object_keys
select private.unknown_object_keys(%(keys)s::text[]);

-- name: find_moved_object
select private.find_moved_object(%(key)s, %(size_bytes)s);

-- name: repeat_deletion
select private.repeat_deletion(%(recording_id)s, %(documents)s::text[]);
