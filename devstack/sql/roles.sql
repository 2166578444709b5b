-- The roles of a Supabase project, from supabase/postgres, migrations/db (read 2026-11-21). Roles belong to the
-- cluster, so this file runs under an advisory lock and can run again. The file sets no password. :"owner" is the
-- role that runs migrations: `postgres`, or another name if `postgres` is already a superuser.

do $$
declare
    missing text;
begin
    for missing in
        select name
        from unnest(array[
            'anon', 'authenticated', 'service_role', 'authenticator', 'supabase_auth_admin',
            'supabase_read_only_user', 'dashboard_user', :'owner'
        ]) as wanted (name)
        where not exists (select from pg_catalog.pg_roles where rolname = name)
    loop
        execute format('create role %I', missing);
    end loop;
end $$;

alter role anon nologin inherit;
alter role authenticated nologin inherit;
alter role service_role nologin inherit bypassrls;
alter role authenticator login noinherit;
alter role supabase_auth_admin login noinherit createrole noreplication;
alter role supabase_read_only_user login bypassrls;
alter role dashboard_user nosuperuser createdb createrole replication;
alter role :"owner" nosuperuser createdb createrole login replication bypassrls;

grant anon, authenticated, service_role to authenticator;
grant pg_read_all_data to supabase_read_only_user;
grant pg_monitor, pg_read_all_data, pg_signal_backend to :"owner";

-- Migration 20230201083204. Since migration 20250605172253, the owner also gets the admin option on Postgres 16 and
-- later.
do $$
begin
    if current_setting('server_version_num')::int >= 160000 then
        execute format('grant anon, authenticated, service_role to %I with admin option', :'owner');
    else
        execute format('grant anon, authenticated, service_role to %I', :'owner');
    end if;
end $$;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
alter role supabase_auth_admin set search_path = auth;
alter role :"owner" set search_path = "$user", public, extensions;
