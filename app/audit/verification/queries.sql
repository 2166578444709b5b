-- name: read_logs
-- Returns each log with its number of leaves. A superuser can make each column null.
select
    l.log_year, coalesce(l.origin, '') as origin, coalesce(l.size, 0) as size, coalesce(l.frontier, '') as frontier,
    l.checkpoint, l.closed_size, l.leaf_count
from private.read_logs() as l;

-- name: read_leaves
-- Returns the leaves of a log from `first_index` to before `end_index`. A time that Python cannot represent is null.
select
    f.index, f.event_id, case when f.recorded_at between '0002-01-01 UTC' and '9998-01-01 UTC' then f.recorded_at end
        as recorded_at,
    coalesce(f.leaf_hash, '') as leaf_hash
from private.read_leaves(%(year)s, %(first_index)s, (%(end_index)s - %(first_index)s)::integer) as f
order by f.index;

-- name: read_sealed_events
-- Returns the events of the leaves from `first_index` to before `end_index`.
select e.* from private.read_sealed_events(%(year)s, %(first_index)s, %(end_index)s) as e;

-- name: find_events
-- Returns the events with these ids.
select e.* from private.find_events(%(ids)s) as e;

-- name: read_tile_hashes
-- Returns a page of the hashes of a log's tiles above level 0.
select t.level, t.index, coalesce(t.hash, '') as hash
from private.read_tile_hashes(%(year)s, %(after_level)s, %(after_index)s, %(max_rows)s) as t
order by t.level, t.index;

-- name: find_unqueued
-- Returns the ids of events that have no leaf and do not wait for one, and the place where the search continues.
select u.last_at, u.last_id, u.event_ids
from private.find_unqueued(%(year)s, %(after_at)s, %(after_id)s, %(max_rows)s) as u;

-- name: find_queued_without_event
-- Returns ids that wait for a leaf, but whose event is gone.
select private.find_queued_without_event(%(max_rows)s);

-- name: overdue_events
-- Returns how many events have been unsealed for more than a minute, and the ids of the oldest.
select o.overdue_count, o.event_ids from private.overdue_events() as o;

-- name: audit_years
-- Returns the years from the earliest to the latest event.
select y.log_year from private.audit_years() as y (log_year) order by y.log_year;

-- name: allow_count_time
-- Gives the statements of this transaction more time, because a count reads every row of a year.
select set_config('statement_timeout', %(milliseconds)s, true);

-- name: count_log
-- Returns the numbers of a year's events, leaves with an event, and unsealed events.
select c.event_count, c.leaf_count, c.unsealed_count from private.count_log(%(year)s) as c;

-- name: find_leaf
-- Returns the leaf of an event and a checkpoint that covers it.
select f.log_year, f.index, f.checkpoint, f.is_published from private.find_leaf(%(event_id)s) as f;

-- name: list_publications
-- Returns a page of the sizes of published checkpoints.
select p.size, p.is_in_second
from private.list_publications(%(year)s, %(after_size)s, %(max_rows)s) as p
order by p.size;

-- name: read_tiles
-- Returns the hashes of tiles, in the order of the arrays.
select t.content
from private.read_tiles(%(year)s, %(levels)s::smallint[], %(indexes)s::bigint[], %(widths)s::integer[]) as t
order by t.place;

-- name: redact_event
-- Redacts an event, as the owner. Returns whether the event was redacted now.
select private.redact_event(%(event_id)s, %(reason)s);
