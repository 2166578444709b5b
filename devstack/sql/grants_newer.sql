-- The statements that Studio runs after the older grants when it creates a project today: the API roles no longer get
-- rights on each new table, sequence or function of `public` (supabase/cli, internal/db/start/start.go, read
-- 2026-11-21). As on Supabase's hosted platform, the statements do not revoke the rights TRUNCATE, REFERENCES and
-- TRIGGER of the older grants.

alter default privileges for role :"owner" in schema public
revoke select, insert, update, delete on tables from anon, authenticated, service_role;
alter default privileges for role :"owner" in schema public
revoke usage, select on sequences from anon, authenticated, service_role;
alter default privileges for role :"owner" in schema public
revoke execute on functions from anon, authenticated, service_role;
