-- Sessions: the API takes the role of the person who sends the request. Only Supabase Auth may call the functions
-- that sign session MACs.

grant execute on function private.doctor() to clinician;

grant execute on function private.person() to clinician, compliance;

grant execute on function
private.claims(),
private.uid()
to clinician, compliance, patient;

grant execute on function private.patient() to patient;

grant execute on function
private.begin_as(jsonb, text[], uuid, inet, text, integer),
private.role_of(uuid),
private.require_session_mac(jsonb)
to resguardo_api;

grant execute on function
private.describe_request(jsonb, uuid, inet, text, integer)
to resguardo_api, resguardo_worker;

-- Grants Supabase Auth, if it is installed, the right to call Resguardo's token hook, and the function that an
-- adopter's own token hook calls.
do $$
begin
    if exists (select from pg_roles where rolname = 'supabase_auth_admin') then
        revoke all on schema resguardo, audit, private, jobs from supabase_auth_admin;
        revoke all on all routines in schema resguardo, audit, private, jobs from supabase_auth_admin;
        grant usage on schema private to supabase_auth_admin;
        grant execute on function private.access_token_hook(jsonb), private.add_session_mac(jsonb)
        to supabase_auth_admin;
    end if;
end
$$;
