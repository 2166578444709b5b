-- The grants on new objects in `public` that every project had until 2026, and that older projects still have
-- (supabase/postgres, migrations/db/init-scripts/00000000000000-initial-schema.sql, read 2026-11-21).

grant usage on schema public to :"owner", anon, authenticated, service_role;

alter default privileges in schema public
grant all on tables to :"owner", anon, authenticated, service_role;
alter default privileges in schema public
grant all on functions to :"owner", anon, authenticated, service_role;
alter default privileges in schema public
grant all on sequences to :"owner", anon, authenticated, service_role;

alter default privileges for role :"owner" in schema public
grant all on tables to :"owner", anon, authenticated, service_role;
alter default privileges for role :"owner" in schema public
grant all on functions to :"owner", anon, authenticated, service_role;
alter default privileges for role :"owner" in schema public
grant all on sequences to :"owner", anon, authenticated, service_role;
