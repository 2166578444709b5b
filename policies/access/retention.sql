-- Retention terms: compliance reads the storage reports, and the worker reads the videos that the bucket would delete
-- too early.

grant execute on function
private.report_storage(),
private.report_coming(integer)
to compliance;

grant execute on function private.outgrown() to resguardo_worker;
