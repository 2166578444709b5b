-- name: unsealed_years
-- Returns the years of the unsealed events, the earliest first.
select y.log_year from private.unsealed_years() as y (log_year) order by y.log_year;

-- name: lock_log
-- Returns the log of a year, which stays locked until the transaction ends.
select l.log_year, l.size, l.frontier, l.checkpoint from private.lock_log(%(log_year)s) as l;

-- name: read_unsealed
-- Returns the unsealed events of a year after one event, the earliest first.
select e.*
from private.read_unsealed(%(log_year)s, %(after_at)s, %(after_id)s, %(batch)s) as e
order by e.recorded_at, e.id;

-- name: seal_events
-- Adds leaves to the log of a year, and stores the checkpoint of the larger log.
select
    private.seal_events(
        %(log_year)s, %(origin)s, %(first_index)s, %(event_ids)s::uuid[], %(recorded_ats)s::timestamptz[],
        %(entries)s::bytea[], %(leaf_hashes)s::bytea[],
        %(tile_levels)s::smallint[], %(tile_indexes)s::bigint[], %(tile_hashes)s::bytea[],
        %(frontier)s, %(note)s, %(signer)s
    );

-- name: mark_hour
-- Writes the event of this hour unless it exists, and returns whether it wrote the event.
select private.mark_hour();

-- name: close_years
-- Writes an event for each log of a year that is over, and returns these years.
select y.log_year from private.close_years() as y (log_year);

-- name: note_clock
-- Writes an event if the clock went back, and returns by how many seconds; null if the clock did not go back.
select private.note_clock();

-- name: discard_queued_twice
-- Removes sealed events from the queue, and returns how many.
select private.discard_queued_twice();

-- name: overdue_events
-- Returns how many events have been unsealed for more than a minute, the age of the oldest, and ids of ten of them.
select o.overdue_count, o.oldest_seconds, o.event_ids from private.overdue_events() as o;

-- name: audit_years
-- Returns the years from the earliest to the latest event.
select y.log_year from private.audit_years() as y (log_year) order by y.log_year;

-- name: count_log
-- Counts the events, the leaves with an event and the unsealed events of a year.
select c.event_count, c.leaf_count, c.unsealed_count from private.count_log(%(log_year)s) as c;
