-- The terms of recordings: compliance reads the reports, and the worker reads what has outgrown its class.

grant execute on function
private.report_storage(),
private.report_coming(integer)
to compliance;

grant execute on function private.outgrown() to resguardo_worker;
