-- What no role reads or writes directly: the log, the object keys, the invitations of guests and of staff (their
-- addresses with them), the inbox, the meters, the mark. They have no policies because they have no grants; functions
-- of the schema private are the only way in. The worker alone reads the inbox, which holds ids of LiveKit's.

select private.reset_access(c.oid::regclass)
from pg_catalog.pg_class as c
where c.relnamespace in ('private'::regnamespace, 'audit'::regnamespace) and c.relkind in ('r', 'p', 'v');

grant select on private.livekit_events to resguardo_worker;
