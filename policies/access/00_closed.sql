-- Revokes all access to the database's tables and functions. The files of policies/access that run after
-- 00_closed.sql grant the rights again, so `resguardo migrate` removes every right that no file names. The tables of
-- the schemas private and audit have no row-level security policies. No role has a right on these tables, and only
-- functions of the schema private read and write them.

select private.reset_routines('private');
select private.reset_routines('audit');
select private.reset_routines('resguardo');
select private.reset_access(c.oid::regclass)
from pg_catalog.pg_class as c
where c.relnamespace in ('private'::regnamespace, 'audit'::regnamespace) and c.relkind in ('r', 'p', 'v');

-- Which roles may use each schema, and which roles the API's login may take. Every role without such a grant may use
-- none of the schemas `resguardo`, `private`, `audit` and `jobs`.

revoke all on schema resguardo, audit, private, jobs
from public, anon, authenticated, service_role, clinician, compliance, patient, resguardo_api, resguardo_worker;
grant usage on schema resguardo, private to clinician, compliance, patient, resguardo_worker;
grant usage on schema private to resguardo_api;
grant usage on schema jobs to resguardo_worker;

grant clinician to resguardo_api;
grant compliance to resguardo_api;
grant patient to resguardo_api;

-- Removes all stored settings (ALTER ROLE ... SET) of Resguardo's logins and of the people's roles. A login can store
-- settings for itself, with which its next connections would begin. The settings of all other roles belong to the
-- operator of the database and stay unchanged.
do $$
declare
    setting record;
begin
    for setting in
        select r.rolname, d.datname
        from pg_catalog.pg_db_role_setting as s
        inner join pg_catalog.pg_roles as r on r.oid = s.setrole
        left join pg_catalog.pg_database as d on d.oid = s.setdatabase
        where r.rolname in ('clinician', 'compliance', 'patient', 'resguardo_api', 'resguardo_worker')
            and (s.setdatabase = 0 or d.datname = pg_catalog.current_database())
    loop
        execute pg_catalog.format('alter role %I', setting.rolname)
            || case when setting.datname is null then '' else pg_catalog.format(' in database %I', setting.datname) end
            || ' reset all';
    end loop;
end
$$;
