-- Publishing of the audit log: the worker's login publishes the log through functions, and has no right on the tables.

grant execute on function
private.list_published_logs(integer),
private.list_log_sizes(),
private.read_tiles(integer, smallint[], bigint[], integer[]),
private.record_publication(integer, bigint, text),
private.record_second_publication(integer, bigint),
private.overdue_publications(integer, boolean),
private.read_leaves(integer, bigint, integer),
private.adopt_leaves(
    integer, text, bigint, bigint, uuid[], timestamptz[], bytea[], bytea[], smallint[], bigint[], bytea[], bytea, text,
    text
)
to resguardo_worker;
