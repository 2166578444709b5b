-- Only the worker reads and writes the job queue directly. People and the API queue jobs only through
-- private.defer_job() and the function that receives LiveKit's webhooks.

select private.reset_access(c.oid::regclass)
from pg_catalog.pg_class as c
where c.relnamespace = 'jobs'::regnamespace and c.relkind in ('r', 'S');
select private.reset_routines('jobs');

grant select, insert, update, delete on all tables in schema jobs to resguardo_worker;
grant usage on all sequences in schema jobs to resguardo_worker;
grant execute on all routines in schema jobs to resguardo_worker;

grant execute on function private.defer_job(text, uuid) to clinician, patient, resguardo_worker;
