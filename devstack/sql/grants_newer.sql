-- What Studio runs after the older grants when it makes a project now: the API roles get no new table, sequence or
-- function of `public` by themselves (supabase/cli, internal/db/start/start.go, read 2026-11-21). What is left of the
-- older grants (TRUNCATE, REFERENCES, TRIGGER) is left on the hosted platform too.

alter default privileges for role :"owner" in schema public
revoke select, insert, update, delete on tables from anon, authenticated, service_role;
alter default privileges for role :"owner" in schema public
revoke usage, select on sequences from anon, authenticated, service_role;
alter default privileges for role :"owner" in schema public
revoke execute on functions from anon, authenticated, service_role;
