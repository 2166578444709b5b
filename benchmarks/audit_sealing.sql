-- name: write_read
-- Writes one audit row of a read, as a new transaction of the API does.
select
    private.write_audit(
        'recording.read', 'ALLOWED', null, 'recording', array[gen_random_uuid()], array[gen_random_uuid()],
        array[gen_random_uuid()], '{recording.status}', 1, null
    );

-- name: lags_since
-- Returns the indexes of the leaves after `after`, with the seconds from the time of the event until now.
select l.index, extract(epoch from clock_timestamp() - l.recorded_at) as seconds
from audit.leaves as l
where l.log_year = %(year)s and l.index > %(after)s
order by l.index;
