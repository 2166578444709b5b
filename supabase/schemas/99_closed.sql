-- The last file of the schema: revokes every right except the owner's until `resguardo migrate` applies
-- policies/access. Postgres grants EXECUTE on every new function to PUBLIC, and a Supabase project may have default
-- privileges of its own.

-- Registers the names of all unique indexes as reasons. If a statement violates a unique index, the API returns the
-- name of the index as the reason.
insert into private.audit_terms (kind, term)
select 'reason', c.relname
from pg_catalog.pg_index as i
inner join pg_catalog.pg_class as c on c.oid = i.indexrelid
inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where i.indisunique and n.nspname in ('resguardo', 'private');

-- Revokes every right except the owner's until `resguardo migrate` applies policies/access. Postgres grants EXECUTE
-- on every new function to PUBLIC, and a Supabase project may have default privileges of its own.
select private.reset_access(c.oid::regclass)
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname in ('resguardo', 'audit', 'private', 'jobs') and c.relkind in ('r', 'p', 'v', 'S');

select private.reset_routines(n.oid::regnamespace)
from pg_catalog.pg_namespace as n
where n.nspname in ('resguardo', 'audit', 'private', 'jobs');
