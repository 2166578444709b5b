-- name: list_published_logs
-- Returns each log with its newest checkpoint in the database and in the buckets.
select
    l.log_year, l.origin, l.size, l.checkpoint, l.published_size, l.published_checkpoint, l.is_due, l.second_size
from private.list_published_logs(%(publish_seconds)s) as l;

-- name: list_log_sizes
-- Returns the sizes of the logs, and of their newest checkpoints in the bucket.
select l.log_year, l.size, l.published_size from private.list_log_sizes() as l;

-- name: read_tiles
-- Returns the hashes or entries of tiles, in the order of the arguments; null for a tile that the log lacks.
select t.content
from private.read_tiles(%(log_year)s, %(levels)s::smallint[], %(indexes)s::bigint[], %(widths)s::integer[]) as t
order by t.place;

-- name: record_publication
-- Stores that the bucket has a checkpoint.
select private.record_publication(%(log_year)s, %(size)s, %(note)s);

-- name: record_second_publication
-- Stores that the second bucket has a checkpoint.
select private.record_second_publication(%(log_year)s, %(size)s);

-- name: list_publications
-- Returns the sizes of published checkpoints after one size.
select p.size from private.list_publications(%(log_year)s, %(after_size)s, %(most)s) as p order by p.size;

-- name: overdue_publications
-- Returns the logs that have grown and of which a bucket has got no checkpoint for this many seconds.
select o.origin, o.is_second from private.overdue_publications(%(overdue_seconds)s, %(has_second)s) as o;

-- name: read_leaves
-- Returns leaves with their events, from an index on.
select l.index, l.event_id, l.recorded_at, l.leaf_hash
from private.read_leaves(%(log_year)s, %(first_index)s, %(most)s) as l
order by l.index;

-- name: read_unsealed
-- Returns the unsealed events of a year after one event, the earliest first.
select e.*
from private.read_unsealed(%(log_year)s, %(after_at)s, %(after_id)s, %(most)s) as e
order by e.recorded_at, e.id;

-- name: adopt_leaves
-- Replaces the leaves of a log from an index on by leaves of the bucket.
select
    private.adopt_leaves(
        %(log_year)s, %(origin)s, %(known_size)s, %(first_index)s, %(event_ids)s::uuid[],
        %(recorded_ats)s::timestamptz[], %(entries)s::bytea[], %(leaf_hashes)s::bytea[], %(tile_levels)s::smallint[],
        %(tile_indexes)s::bigint[], %(tile_hashes)s::bytea[], %(frontier)s, %(note)s, %(signer)s
    );
