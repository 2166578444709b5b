-- The functions that the files of policies/access call, and the digest of the access that the files granted.
--
-- Each file of policies/access first revokes all access to its tables and functions and then grants it again, so the
-- file states the complete access.

create table private.access_seals (
    object text not null constraint access_seals_pkey primary key,
    digest text not null
);
comment on table private.access_seals is
'What private.access_catalogue() returned when `resguardo migrate` last applied policies/access.';

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

-- Revokes all access to the functions of a schema. Postgres itself grants EXECUTE on each new function to PUBLIC.
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

-- Returns every catalogue object that affects access, each with a digest of its access settings.
create function private.access_catalogue() returns table (object text, digest text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with ours as (
        select n.oid, n.nspname from pg_namespace as n where n.nspname in ('resguardo', 'audit', 'private', 'jobs')
    ),
    our_roles as (
        select r.oid, r.rolname from pg_roles as r
        where r.rolname in ('resguardo_api', 'resguardo_worker', 'clinician', 'compliance', 'patient')
    ),
    here as (
        select d.oid from pg_database as d where d.datname = current_database()
    ),
    said (object, says) as (
        select 'schema ' || n.nspname, n.nspacl::text from pg_namespace as n join ours on ours.oid = n.oid
        union all
        select
            'table ' || c.oid::regclass::text,
            concat_ws(' ', c.relowner::regrole, c.relrowsecurity, c.relforcerowsecurity, c.relacl::text)
        from pg_class as c join ours on ours.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
        union all
        select 'column ' || c.oid::regclass::text || '.' || a.attname, a.attacl::text
        from pg_attribute as a
        join pg_class as c on c.oid = a.attrelid
        join ours on ours.oid = c.relnamespace
        where a.attacl is not null
        union all
        select
            'policy ' || p.polrelid::regclass::text || '.' || p.polname,
            concat_ws(
                ' ', p.polcmd, p.polpermissive,
                array(select r.member::regrole::text from unnest(p.polroles) as r (member) order by 1),
                pg_get_expr(p.polqual, p.polrelid), '/', pg_get_expr(p.polwithcheck, p.polrelid)
            )
        from pg_policy as p
        join pg_class as c on c.oid = p.polrelid
        join ours on ours.oid = c.relnamespace
        union all
        select
            'trigger ' || t.tgrelid::regclass::text || '.' || t.tgname,
            concat_ws(' ', t.tgenabled, pg_get_triggerdef(t.oid))
        from pg_trigger as t
        join pg_class as c on c.oid = t.tgrelid
        join ours on ours.oid = c.relnamespace
        where not t.tgisinternal
        union all
        select
            'function ' || f.oid::regprocedure::text,
            concat_ws(' ', f.proowner::regrole, f.prosecdef, f.proconfig::text, f.proacl::text, f.prosrc)
        from pg_proc as f join ours on ours.oid = f.pronamespace
        union all
        select
            'role ' || r.rolname,
            concat_ws(
                ' ', r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication,
                r.rolbypassrls, r.rolconnlimit, nullif(r.rolvaliduntil, 'infinity'), array(
                    select m.member::regrole::text || ' is ' || m.roleid::regrole::text from pg_auth_members as m
                    where m.member = r.oid or m.roleid = r.oid order by 1
                )
            )
        from pg_roles as r join our_roles on our_roles.oid = r.oid
        union all
        select
            'database rights of ' || our_roles.rolname,
            concat_ws(
                ' ', has_database_privilege(our_roles.oid, here.oid, 'CONNECT'),
                has_database_privilege(our_roles.oid, here.oid, 'CREATE'),
                has_database_privilege(our_roles.oid, here.oid, 'TEMP')
            )
        from our_roles cross join here
        union all
        select
            concat(
                'settings of ', coalesce(r.rolname, 'everybody'),
                case when s.setdatabase <> 0 then ' in this database' end
            ),
            array(select o.setting from unnest(s.setconfig) as o (setting) order by 1)::text
        from pg_db_role_setting as s
        join here on s.setdatabase in (0, here.oid)
        left join our_roles as r on r.oid = s.setrole
        where s.setrole = 0 or r.oid is not null
    )
    select said.object, encode(sha256(convert_to(coalesce(said.says, ''), 'UTF8')), 'hex') from said;
end
$$;

-- Stores the digests of the access that the database grants now. Only the owner of the database can call
-- seal_access().
create function private.seal_access() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    delete from private.access_seals;
    insert into private.access_seals (object, digest)
    select c.object, c.digest from private.access_catalogue() as c;
end
$$;

-- Returns the version of policies/access that was last applied to the database, and the database objects whose access
-- somebody has changed by hand since then. Returns null if policies/access was never applied.
create function private.access_standing() returns table (policy_version text, changed text[])
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    policy_version := private.policy_version();
    if exists (select from private.access_seals) then
        changed := array(
            select coalesce(s.object, c.object)
            from private.access_seals as s full join private.access_catalogue() as c on c.object = s.object
            where s.digest is distinct from c.digest
            order by 1
        );
    end if;
    return next;
end
$$;
