-- The search in the audit log: compliance reads pages and summaries through functions, which write an audit row. The
-- worker collects the events in blocks.

grant execute on function
private.read_audit(private.audit_filter, timestamptz, uuid, integer, text[]),
private.summarize_audit(private.audit_filter, text, text, text[])
to compliance;

grant execute on function private.index_audit_events() to resguardo_worker;
