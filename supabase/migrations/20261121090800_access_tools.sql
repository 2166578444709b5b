-- For the files in policies/access: each begins by taking everything away, and so states a table's complete access.

create function private.reset_access(of_table regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    policy name;
begin
    for policy in select p.polname from pg_policy as p where p.polrelid = of_table loop
        execute format('drop policy %I on %s', policy, of_table);
    end loop;
    execute format(
        'revoke all on %s from public, anon, authenticated, service_role, '
        'clinician, compliance, patient, resguardo_api, resguardo_worker',
        of_table
    );
end
$$;

-- The same for the functions of a schema: PUBLIC is granted EXECUTE on each new one by Postgres itself.
create function private.reset_routines(of_schema regnamespace) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'revoke all on all routines in schema %s from public, anon, authenticated, service_role, '
        'clinician, compliance, patient, resguardo_api, resguardo_worker',
        of_schema
    );
end
$$;
