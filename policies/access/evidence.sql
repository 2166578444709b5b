-- Evidence packs: the command `resguardo evidence` reads the sections of a pack with the worker's login. The functions
-- return no text that a person has written.

grant execute on function
private.read_evidence(text, timestamptz, timestamptz, timestamptz, uuid),
private.has_evidence(text),
private.read_coverage(timestamptz, timestamptz),
private.record_evidence(uuid, text, integer, bigint)
to resguardo_worker;
