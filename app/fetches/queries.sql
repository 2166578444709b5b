-- name: store_fetches
-- Stores reads of the access log, and returns how many of them have no issued URL.
select private.store_fetches(%(rows)s::jsonb);

-- name: finish_log
-- Stores that a file of the access log was imported, and writes the audit row.
select private.finish_fetch_log(%(sha256)s, %(first_at)s, %(last_at)s, %(line_count)s);

-- name: report_fetches
-- Writes the audit row and returns what the access log says about a period.
select
    r.is_evaluated, r.first_event_at, r.last_event_at, r.issued_count, r.fetched_count, r.finding_count, r.findings
from private.report_fetches(%(since)s, %(until)s) as r;
