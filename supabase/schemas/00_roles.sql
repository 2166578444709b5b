-- The database roles of people, the two logins of the API and the worker, and the four schemas. Supabase's Data API
-- must expose none of the schemas `resguardo`, `private`, `audit` and `jobs`.
--
-- In Postgres, a role belongs to the cluster, not to one database. A second Resguardo database in the same cluster
-- may have created the roles already, or may create them at the same moment.

do $$
declare
    role_name text;
    attributes text;
begin
    for role_name, attributes in
        values
            ('clinician', 'nologin'), ('compliance', 'nologin'), ('patient', 'nologin'),
            ('resguardo_api', 'login noinherit'), ('resguardo_worker', 'login noinherit')
    loop
        begin
            if not exists (select from pg_roles where rolname = role_name) then
                execute format('create role %I %s', role_name, attributes);
            end if;
        exception when duplicate_object or unique_violation then
            null; -- another database's migration created the role first
        end;
    end loop;

    if exists (
        select from pg_roles
        where rolname in ('clinician', 'compliance', 'patient', 'resguardo_api', 'resguardo_worker')
            and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication)
    ) then
        raise exception 'a role of resguardo has rights that none of them may have';
    end if;

    if exists (
        select from pg_auth_members as m
        where m.member::regrole::text in ('clinician', 'compliance', 'patient', 'resguardo_api', 'resguardo_worker')
            and not (
                m.member = 'resguardo_api'::regrole
                and m.roleid::regrole::text in ('clinician', 'compliance', 'patient')
            )
    ) then
        raise exception 'a role of resguardo is a member of a role that it may not take';
    end if;
end
$$;

create schema resguardo;
create schema audit;
create schema private;
create schema jobs;

comment on schema resguardo is 'The clinical tables. Row level security protects every table.';
comment on schema audit is 'The audit log. Only private functions insert rows; nothing is changed or deleted.';
comment on schema private is
'Functions that check access and write audit rows, and the tables that only these functions read.';
comment on schema jobs is 'The job queue (procrastinate).';

revoke all on schema resguardo, audit, private, jobs from public, anon, authenticated, service_role;
