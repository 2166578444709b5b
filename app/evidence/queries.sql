-- name: read_section
-- Returns the next rows of a section of an evidence pack, oldest first.
select e.at, e.id, e.content
from private.read_evidence(%(section)s, %(since)s, %(until)s, %(after_at)s, %(after_id)s) as e
order by e.at, e.id;

-- name: has_section
-- Returns whether this version has a section.
select private.has_evidence(%(section)s);

-- name: read_coverage
-- Returns every kind of audit event with the time of its newest event.
select c.action, c.operation, c.last_seen_at, c.last_seen_in_range_at
from private.read_coverage(%(since)s, %(until)s) as c
order by c.action;

-- name: record_pack
-- Records an evidence pack in the audit log and returns the id of the event.
select private.record_evidence(%(id)s, %(sha256)s, %(file_count)s, %(size_bytes)s);
