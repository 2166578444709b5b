-- Verification of the audit log: the worker's login reads the sealed rows through functions. Only the owner of the
-- database redacts an event.

grant execute on function
private.read_logs(),
private.read_sealed_events(integer, bigint, bigint),
private.find_events(uuid[]),
private.read_tile_hashes(integer, integer, bigint, integer),
private.find_unqueued(integer, timestamptz, uuid, integer),
private.find_queued_without_event(integer),
private.find_leaf(uuid),
private.list_publications(integer, bigint, integer)
to resguardo_worker;
