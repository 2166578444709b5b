-- Sign-ins: the worker copies the entries of Supabase Auth into the audit log. Only Supabase Auth may call the hooks.

grant execute on function
private.read_auth_entries(integer),
private.find_sign_in_problems()
to resguardo_worker;

-- Grants Supabase Auth, if it is installed, the right to call Resguardo's hooks. sessions.sql grants the use of the
-- schema.
do $$
begin
    if exists (select from pg_roles where rolname = 'supabase_auth_admin') then
        grant execute on function
        private.password_attempt_hook(jsonb), private.second_factor_attempt_hook(jsonb)
        to supabase_auth_admin;
    end if;
end
$$;
