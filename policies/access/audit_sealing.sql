-- Sealing of the audit log: the worker's login seals the events through functions, and has no right on the tables.

grant execute on function
private.unsealed_years(),
private.lock_log(integer),
private.read_unsealed(integer, timestamptz, uuid, integer),
private.seal_events(
    integer, text, bigint, uuid[], timestamptz[], bytea[], bytea[], smallint[], bigint[], bytea[], bytea, text, text
),
private.mark_hour(),
private.close_years(),
private.note_clock(),
private.discard_queued_twice(),
private.overdue_events(),
private.audit_years(),
private.count_log(integer)
to resguardo_worker;
