-- name: request_deletion
select private.request_deletion(%(recording_id)s, %(reason)s);

-- name: undo_deletion
select private.undo_deletion(%(recording_id)s);

-- name: read_deletion
select d.* from resguardo.deletions as d where d.id = %(id)s;

-- name: list_deletions
with page as materialized (
    select d.*
    from resguardo.deletions as d
    where
        (%(before_at)s::timestamptz is null or (d.requested_at, d.id) < (%(before_at)s, %(before_id)s::uuid))
        and (%(status)s::text is null or d.status = %(status)s)
        and (%(recording_id)s::uuid is null or d.recording_id = %(recording_id)s)
        and (
            %(is_failing)s::boolean is null
            or (d.status = 'DELETING' and d.error is not null) = %(is_failing)s
        )
    order by d.requested_at desc, d.id desc
    limit %(page_size)s
),

seen as materialized (
    select
        private.record_lookup(
            'deletion.list', 'deletion', 'recording', %(recording_id)s::uuid,
            private.shows_recording(%(recording_id)s::uuid),
            coalesce(array_agg(p.id), '{}'), array_agg(p.patient_id), array_agg(p.consultation_id),
            null, '{}', 'pages'
        ) as recorded
    from (select s.* from page as s order by s.requested_at desc, s.id desc limit %(first)s) as p
)

select
    (select s.recorded from seen as s) as recorded,
    coalesce((select json_agg(p order by p.requested_at desc, p.id desc)::text from page as p), '[]') as found;

-- name: read_certificates
with found as materialized (
    select c.* from resguardo.certificates as c where c.recording_id = %(recording_id)s
),

seen as materialized (
    select
        private.record_lookup(
            'certificate.read', 'recording', 'recording', %(recording_id)s,
            private.shows_recording(%(recording_id)s),
            coalesce(array_agg(distinct f.recording_id), '{}'), array_agg(distinct f.patient_id),
            array_agg(distinct f.consultation_id), count(*)::integer, array['certificate'], 'pages'
        ) as recorded
    from found as f
)

select
    (select s.recorded from seen as s) as recorded,
    coalesce((select json_agg(f order by f.number)::text from found as f), '[]') as found;

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
