-- The end of the schema. Postgres grants PUBLIC the execution of every new function, and a project may have default
-- privileges of its own: nobody but the owner keeps any right until `resguardo migrate` applies policies/access.

-- A row that is there twice is refused by the name of the index, which the API gives as the reason.
insert into private.audit_terms (kind, term)
select 'reason', c.relname
from pg_catalog.pg_index as i
inner join pg_catalog.pg_class as c on c.oid = i.indexrelid
inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where i.indisunique and n.nspname in ('resguardo', 'private');

-- Postgres grants PUBLIC the execution of every new function, and a project may have default privileges of its own:
-- nobody but the owner keeps anything until `resguardo migrate` applies policies/access.
select private.reset_access(c.oid::regclass)
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname in ('resguardo', 'audit', 'private', 'jobs') and c.relkind in ('r', 'p', 'v', 'S');

select private.reset_routines(n.oid::regnamespace)
from pg_catalog.pg_namespace as n
where n.nspname in ('resguardo', 'audit', 'private', 'jobs');
