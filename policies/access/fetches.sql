-- Fetches: compliance officers read the report, which a function writes into the audit log. The worker's login imports
-- the bucket's access log.

grant execute on function private.report_fetches(timestamptz, timestamptz) to compliance;

grant execute on function
private.store_fetches(jsonb),
private.finish_fetch_log(text, timestamptz, timestamptz, bigint)
to resguardo_worker;
