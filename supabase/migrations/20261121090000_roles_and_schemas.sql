-- The people's roles, the two logins, and the four schemas that Supabase never exposes.
--
-- Roles belong to the cluster, not to the database: they may be there already, made by another deployment's
-- database or by one that runs this file at the same moment.

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
            null; -- another database's migration was faster
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

grant clinician to resguardo_api;
grant compliance to resguardo_api;
grant patient to resguardo_api;

create schema resguardo;
create schema audit;
create schema private;
create schema jobs;

comment on schema resguardo is 'The clinical tables. Row level security decides on every one.';
comment on schema audit is 'The audit log. Insert only, through private functions.';
comment on schema private is 'Functions that check and record, and the tables that only they read.';
comment on schema jobs is 'The job queue (procrastinate).';

revoke all on schema resguardo, audit, private, jobs from public, anon, authenticated, service_role;
grant usage on schema resguardo, private to clinician, compliance, patient, resguardo_worker;
grant usage on schema private to resguardo_api;
grant usage on schema jobs to resguardo_worker;
