-- The whole schema. `make migration` generates this file from supabase/schemas: edit those files, not this one.
--
-- It grants nobody anything. Access is in policies/access, and `resguardo migrate` applies it at every run.


-- 00_roles.sql

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


-- 01_deployment.sql

-- The name of the deployment that owns the database. The API and the worker refuse to use a database that belongs to
-- a deployment with a different name.

create table private.deployment (
    singleton boolean primary key default true constraint deployment_is_single check (singleton),
    name text not null constraint deployment_name_is_slug check (name ~ '^[a-z][a-z0-9-]{1,38}[a-z0-9]$'),
    created_at timestamptz not null default now()
);

create function private.deployment_name() returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (select d.name from private.deployment as d);
end
$$;


-- 02_grants.sql

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


-- 03_sessions.sql

-- Sessions of people. Every statement that returns rows of resguardo's tables to a person calls private.person() or
-- private.patient(). The functions private.person() and private.patient() raise RG401 if the session in the token has
-- ended.
--
-- The error codes of Resguardo's SQL functions: RG401 unauthenticated, RG403 forbidden, RG404 not found, RG405 change
-- of the audit log, RG409 conflict, RG429 quota. The message of an error that these functions raise is a reason in
-- snake_case, such as `session_over`.

create table private.session_mac_keys (
    number integer not null,
    inner_block bytea not null constraint session_mac_keys_inner_block_length check (length(inner_block) = 64),
    outer_block bytea not null constraint session_mac_keys_outer_block_length check (length(outer_block) = 64),
    made_at timestamptz not null default now(),
    constraint session_mac_keys_pkey primary key (number)
);
comment on table private.session_mac_keys is
'The current key of session MACs, which has the highest number, and the key before it.';
comment on column private.session_mac_keys.inner_block is
'The key, padded with zeros to 64 bytes, XOR 0x36: HMAC (RFC 2104) hashes this block before the message.';
comment on column private.session_mac_keys.outer_block is
'The key, padded with zeros to 64 bytes, XOR 0x5c: HMAC hashes this block before the inner hash.';

create table private.session_mac_rule (
    singleton boolean primary key default true constraint session_mac_rule_is_single check (singleton),
    is_required boolean not null,
    changed_at timestamptz not null default now()
);
comment on table private.session_mac_rule is
'Whether a session is valid only with a MAC. The table has one row, and only `resguardo migrate` changes it.';

insert into private.session_mac_rule (is_required) values (false);

create function private.claims() returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return nullif(current_setting('request.jwt.claims', true), '')::jsonb;
end
$$;

create function private.uid() returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (private.claims() ->> 'sub')::uuid;
end
$$;

-- Returns the session fingerprint, which identifies a session in the audit log and in subtitle links. The fingerprint
-- is a one-way hash because the session id itself is a secret.
create function private.session_fingerprint(session_id uuid) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return encode(sha256(uuid_send(session_id)), 'hex');
end
$$;

-- Creates a new key, which signs all MACs from now on. MACs made with the previous key are still accepted. All keys
-- older than the previous key are deleted. The 32 random bytes are a hash of three random UUIDs because pgcrypto may
-- not be installed.
create function private.rotate_session_mac_key() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    secret constant bytea := sha256(
        uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
    );
    inner_part bytea := decode(repeat('36', 64), 'hex');
    outer_part bytea := decode(repeat('5c', 64), 'hex');
    made integer;
begin
    for i in 0..31 loop
        inner_part := set_byte(inner_part, i, get_byte(secret, i) # 54);
        outer_part := set_byte(outer_part, i, get_byte(secret, i) # 92);
    end loop;
    insert into private.session_mac_keys (number, inner_block, outer_block)
    select coalesce(max(k.number), 0) + 1, inner_part, outer_part from private.session_mac_keys as k
    returning number into made;
    delete from private.session_mac_keys as k
    where k.number < (select max(f.number) from private.session_mac_keys as f where f.number < made);
    return made;
end
$$;

-- Returns the MAC of the claims, computed with the key of the given number, as `<number>.<HMAC-SHA-256 in hex>`.
-- Returns null if no key has the given number. The MAC covers the person, the session, the assurance level, the
-- expiry, and the authentication methods with their times. The MAC is computed over times in whole seconds. If the
-- claims lack an assurance level, the MAC is computed with aal1. The MAC does not cover authentication methods
-- without a time. The API passes the claims on to the database with times in whole seconds.
create function private.session_mac(claims jsonb, key_number integer) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    message constant bytea := convert_to(
        jsonb_build_array(
            'resguardo-session-mac-1',
            (claims ->> 'sub')::uuid,
            (claims ->> 'session_id')::uuid,
            coalesce(claims ->> 'aal', 'aal1'),
            trunc((claims ->> 'exp')::numeric),
            case when jsonb_typeof(claims -> 'amr') = 'array' then (
                select
                    coalesce(
                        jsonb_agg(
                            jsonb_build_array(
                                p.entry ->> 'method', trunc((p.entry ->> 'timestamp')::numeric)
                            ) order by p.place
                        ),
                        '[]'
                    )
                from jsonb_array_elements(claims -> 'amr') with ordinality as p (entry, place)
                where jsonb_typeof(p.entry) = 'object'
            ) else '[]' end
        )::text,
        'UTF8'
    );
begin
    return (
        select k.number || '.' || encode(sha256(k.outer_block || sha256(k.inner_block || message)), 'hex')
        from private.session_mac_keys as k
        where k.number = key_number and claims ->> 'sub' is not null and claims ->> 'session_id' is not null
    );
end
$$;

-- Returns whether the claims contain a valid MAC, made with a key that is still accepted. The function compares the
-- hash of the given MAC with the hash of the correct MAC, so the duration of the comparison does not reveal the
-- correct MAC.
create function private.has_session_mac(claims jsonb) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    given constant text := claims ->> 'resguardo_mac';
    key_number constant text := split_part(given, '.', 1);
begin
    if given is null or key_number !~ '^[0-9]{1,9}$' then
        return false;
    end if;
    return coalesce(
        sha256(convert_to(given, 'UTF8'))
        = sha256(convert_to(private.session_mac(claims, key_number::integer), 'UTF8')),
        false
    );
end
$$;

-- Raises RG401 (session_over) if the deployment requires session MACs and the claims contain no valid MAC.
create function private.require_session_mac(claims jsonb) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if (select r.is_required from private.session_mac_rule as r) and not private.has_session_mac(claims) then
        raise exception 'session_over' using errcode = 'RG401';
    end if;
end
$$;

-- Returns the claims with `resguardo_mac` added, for an adopter's own Custom Access Token hook. The adopter's hook
-- must call this function last, on the final claims. The function never raises an error, because an error in the hook
-- would stop every sign-in of the Supabase project. The function returns the claims unchanged if they name no
-- session, or if Auth's time limit ends the wait for a lock.
create function private.add_session_mac(claims jsonb) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    mac text;
begin
    if jsonb_typeof(claims) is distinct from 'object' then
        return claims;
    end if;
    begin
        mac := private.session_mac(claims, (select max(k.number) from private.session_mac_keys as k));
    exception when query_canceled or assert_failure or others then
        mac := null;
    end;
    return case
        when mac is null then claims - 'resguardo_mac'
        else claims || jsonb_build_object('resguardo_mac', mac)
    end;
end
$$;

-- The function that Supabase Auth calls as its Custom Access Token hook. Returns the event with
-- `claims.resguardo_mac`. Auth calls the hook as supabase_auth_admin within each sign-in and refresh, and waits for
-- at most two seconds. The hook never raises an error, as add_session_mac() explains.
create function private.access_token_hook(event jsonb) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if jsonb_typeof(event -> 'claims') is distinct from 'object' then
        return event;
    end if;
    return event || jsonb_build_object('claims', private.add_session_mac(event -> 'claims'));
exception when query_canceled or assert_failure or others then
    return event;
end
$$;

-- Returns the user id of the person whom the access token identifies. Raises RG401 (session_over) unless the token's
-- session exists in auth.sessions, belongs to this user, and the user is neither banned nor deleted. Raises RG401
-- (session_delegated) for a session of an OAuth client. The function reads the session row in auth.sessions and not
-- only the claims, because the tokens of an OAuth session stop naming the client once the session has a second
-- factor. The function reads the session row through to_jsonb(), because older versions of Supabase Auth lack two of
-- its columns.
create function private.live_session() returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    claims constant jsonb := private.claims();
    person constant uuid := (claims ->> 'sub')::uuid;
    session jsonb;
begin
    select to_jsonb(s) into session
    from auth.sessions as s
    join auth.users as u on u.id = s.user_id
    where s.id = (claims ->> 'session_id')::uuid
        and s.user_id = person
        and (s.not_after is null or s.not_after > now())
        and to_timestamp((claims ->> 'exp')::double precision) > now() - interval '10 seconds'
        and (claims ->> 'aal' <> 'aal2' or s.aal::text = 'aal2')
        and (u.banned_until is null or u.banned_until <= now())
        and u.deleted_at is null;
    if session is null then
        raise exception 'session_over' using errcode = 'RG401';
    end if;
    perform private.require_session_mac(claims);
    if session ->> 'oauth_client_id' is not null
        or session ->> 'scopes' is not null
        or claims ?| array['client_id', 'scope']
    then
        raise exception 'session_delegated' using errcode = 'RG401';
    end if;
    return person;
end
$$;

-- Returns the member of staff who sends the request. The member of staff must be active, have a live session with a
-- second factor, and have the role that this transaction has taken. Raises RG401 (session_over, staff_suspended) or
-- RG403 (wrong_role, second_factor_needed).
create function private.person() returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.live_session();
    member_role text;
    member_status text;
begin
    select s.role, s.status into member_role, member_status from resguardo.staff as s where s.user_id = person;
    if member_status = 'suspended' then
        raise exception 'staff_suspended' using errcode = 'RG401';
    elsif member_role is distinct from current_setting('role') then
        raise exception 'wrong_role' using errcode = 'RG403';
    elsif private.claims() ->> 'aal' is distinct from 'aal2' then
        raise exception 'second_factor_needed' using errcode = 'RG403';
    end if;
    return person;
end
$$;

-- Returns the id of the doctor who sends the request. Policies, and functions that bypass the policies, call
-- private.doctor() to find the caller's own consultations, recordings and transcripts. Raises the same errors as
-- private.person(), and RG403 (wrong_role) for every role except clinician.
create function private.doctor() returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
begin
    if current_setting('role') <> 'clinician' then
        raise exception 'wrong_role' using errcode = 'RG403';
    end if;
    return person;
end
$$;

-- Returns the id in resguardo.patients of the patient who sends the request. Raises RG401 (session_over) or RG403
-- (wrong_role).
create function private.patient() returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.live_session();
    found_id uuid;
begin
    select p.id into found_id from resguardo.patients as p where p.user_id = person;
    if found_id is null or current_setting('role') <> 'patient' then
        raise exception 'wrong_role' using errcode = 'RG403';
    end if;
    return found_id;
end
$$;

-- Returns the role of a user: the role in resguardo.staff, else `patient`, else null. The function checks neither the
-- session nor whether the user is suspended; private.person() and private.patient() check both.
create function private.role_of(person uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        (select s.role from resguardo.staff as s where s.user_id = person),
        (select 'patient' from resguardo.patients as p where p.user_id = person)
    );
end
$$;

-- Returns the role of a user for the audit row of a refusal, or null if the table resguardo.staff or
-- resguardo.patients is locked. To read the role of a refused user, the function waits at most 0.1 s for a lock.
create function private.known_role(person uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms'
as $$
begin
    return private.role_of(person);
exception when lock_not_available then
    return null;
end
$$;

-- Begins a person's transaction and returns the person's role. Sets the claims, the request and the time limit of the
-- transaction, and takes the person's role, which must be one of the allowed roles. The function begin_as() runs with
-- the rights of its caller (SECURITY INVOKER), because a SECURITY DEFINER function may not set the role. Raises RG401
-- (session_over: no valid MAC, if one is required) or RG403 (not_registered, wrong_role).
create function private.begin_as(
    claims jsonb, allowed_roles text[], request_id uuid, address inet, purpose text, timeout_milliseconds integer
) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    taken text;
begin
    perform private.describe_request(claims, request_id, address, purpose, timeout_milliseconds);
    perform private.require_session_mac(claims);
    taken := private.role_of((claims ->> 'sub')::uuid);
    if taken is null then
        raise exception 'not_registered' using errcode = 'RG403';
    elsif taken <> all (allowed_roles) then
        raise exception 'wrong_role' using errcode = 'RG403';
    end if;
    perform set_config('role', taken, true);
    return taken;
end
$$;

-- Sets the facts about the request that the audit rows of the current transaction record. If there are no claims, the
-- actor in the audit rows is a service or a guest.
create function private.describe_request(
    claims jsonb, request_id uuid, address inet, purpose text, timeout_milliseconds integer
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform
        set_config('request.jwt.claims', coalesce(claims::text, ''), true),
        set_config('resguardo.request_id', coalesce(request_id::text, ''), true),
        set_config('resguardo.address', coalesce(host(address), ''), true),
        set_config('resguardo.purpose', coalesce(purpose, ''), true),
        set_config('statement_timeout', timeout_milliseconds::text, true),
        set_config('lock_timeout', (timeout_milliseconds / 4)::text, true),
        set_config('idle_in_transaction_session_timeout', (timeout_milliseconds * 4)::text, true);
end
$$;

-- Returns the user id of the person who sends the request: an active member of staff or a patient.
create function private.require_person() returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('role') = 'patient' then
        perform private.patient();
        return private.uid();
    end if;
    return private.person();
end
$$;

select private.rotate_session_mac_key();

-- Returns when a link expires that the caller requests now: after the given time, at most 15 minutes, and no later than
-- the caller's access token.
create function private.link_expiry(lifetime_seconds integer) returns timestamptz
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return least(
        now() + make_interval(secs => least(greatest(lifetime_seconds, 1), 900)),
        to_timestamp((private.claims() ->> 'exp')::double precision)
    );
end
$$;

-- Returns the claims of the caller that a link stores, with the session fingerprint in place of the session id.
create function private.claims_for_link(until timestamptz) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select jsonb_object_agg(c.key, c.value) from jsonb_each(private.claims()) as c
        where c.key in ('sub', 'aal', 'amr')
    ) || jsonb_build_object(
        'session_fingerprint', private.session_fingerprint((private.claims() ->> 'session_id')::uuid),
        'exp', floor(extract(epoch from until))
    );
end
$$;

-- Returns the claims with which a link is opened. They name the session in which the link was requested (null if the
-- session has ended), and contain a session MAC that the function computes.
create function private.claims_of_link(stored jsonb) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return private.add_session_mac(
        stored - 'session_fingerprint' || jsonb_build_object(
            'session_id',
            (
                select s.id from auth.sessions as s
                where s.user_id = (stored ->> 'sub')::uuid
                    and private.session_fingerprint(s.id) = stored ->> 'session_fingerprint'
            )
        )
    );
end
$$;


-- 04_audit.sql

-- The audit log: one insert-only table, and the functions that write rows into it.
--
-- Each partition of the audit log holds the rows of one year. The migration creates the partitions of twenty years. A
-- missing partition would stop every insert into the audit log, and every read of protected data inserts an audit
-- row.

create table audit.events (
    id uuid not null default gen_random_uuid(),
    recorded_at timestamptz not null default clock_timestamp(),
    occurred_at timestamptz,
    actor_id uuid,
    actor_role text not null,
    session_fingerprint text,
    aal text,
    action text not null,
    operation text not null constraint events_operation_is_known check (operation in ('C', 'R', 'U', 'D', 'E')),
    outcome text not null
    constraint events_outcome_is_known check (outcome in ('ALLOWED', 'DENIED', 'ABSENT', 'FAILED')),
    reason text,
    purpose text not null
    constraint events_purpose_is_known check (
        purpose in ('TREATMENT', 'PAYMENT', 'OPERATIONS', 'PATIENT_REQUEST', 'LEGAL')
    ),
    basis text not null,
    entities jsonb not null default '[]',
    patient_ids uuid[] not null default '{}',
    consultation_ids uuid[] not null default '{}',
    fields text[] not null default '{}',
    row_count integer not null default 0,
    byte_count bigint,
    digest text constraint events_digest_is_hex check (digest ~ '^[0-9a-f]{64}$'),
    request_id uuid,
    address inet,
    policy_version text not null,
    salt bytea not null default uuid_send(gen_random_uuid()),
    canonical_version smallint not null default 1,
    constraint events_pkey primary key (id, recorded_at)
) partition by range (recorded_at);

comment on table audit.events is
'Insert-only. A list writes one row that names every patient it shows. Rows hold ids and field names, no values.';
comment on column audit.events.recorded_at is
'The time of the insert by the database''s clock, not the start of the transaction.';
comment on column audit.events.occurred_at is
'When the event happened by the clock of the service that reported it, such as Supabase Auth. Null for our own events.';
comment on column audit.events.session_fingerprint is
'The SHA-256 of the session id, in hex. The session id itself is a secret and is not stored.';
comment on column audit.events.operation is 'Create, read, update, delete or execute: AuditEvent.action of FHIR R4.';
comment on column audit.events.entities is
'What the action was about, or what a read showed: for each type of entity an object with the type and the ids.';
comment on column audit.events.fields is
'The fields that were shown, as paths from the entity, such as patient.externalId.';
comment on column audit.events.digest is
'The SHA-256 of a signed note (its random salt keeps its text secret), an export, a final checkpoint or a new key.';
comment on column audit.events.salt is
'Random bytes in front of the row in its leaf hash. They keep the values of a removed row from being guessed.';
comment on column audit.events.canonical_version is
'The version of the canonical form of the row that its leaf hash covers (docs/audit-log.md).';
comment on column audit.events.basis is 'Why access was allowed, or the ground on which access was requested.';

-- The condition of this partial index is true for every event. Postgres uses this index only for a select that
-- repeats the index's condition. Without this condition, Postgres might read the whole audit log backwards to find
-- the events of an actor or an action that it expects to be frequent.
create index events_recorded_idx on audit.events (recorded_at desc, id desc) where outcome <> '';
create index events_actor_idx on audit.events (actor_id, recorded_at desc, id desc);
create index events_action_idx on audit.events (action, recorded_at desc, id desc);
create index events_digest_idx on audit.events (digest) where digest is not null;

create table audit.unindexed (
    recorded_at timestamptz not null,
    event_id uuid not null,
    constraint unindexed_pkey primary key (recorded_at, event_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
comment on table audit.unindexed is
'The events that are in no block yet. A trigger inserts rows, and private.index_audit_events() deletes them.';

create table audit.event_blocks (
    number integer not null constraint event_blocks_pkey primary key,
    started_at timestamptz not null,
    ended_at timestamptz not null,
    latest_at timestamptz not null,
    recorded_at timestamptz[] not null,
    event_ids uuid[] not null
);
comment on table audit.event_blocks is
'Blocks of 1,024 events in order of time. Blocks can overlap in time, because an event can be committed late.';
comment on column audit.event_blocks.latest_at is 'The latest time of an event in this block and all blocks before it.';
create index event_blocks_latest_idx on audit.event_blocks (latest_at);

create table audit.event_bitmaps (
    attribute text not null,
    value text not null,
    block integer not null,
    bits bit(1024) not null,
    constraint event_bitmaps_pkey primary key (attribute, value, block)
);
comment on table audit.event_bitmaps is
'For each value of an attribute in a block: which of the 1,024 events of the block have this value.';

-- Inserts a new event into audit.unindexed. Each event gets exactly one row, so that the duration of a refusal does not
-- reveal whether the requested row exists.
create function private.queue_event_for_index() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into audit.unindexed (recorded_at, event_id) values (new.recorded_at, new.id) on conflict do nothing;
    return null;
end
$$;

create trigger events_queue_for_index after insert on audit.events
for each row execute function private.queue_event_for_index();

create function private.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'the audit log is insert only' using errcode = 'RG405';
end
$$;

create trigger events_refuse_change before update or delete on audit.events
for each row execute function private.refuse_change();

create trigger event_blocks_refuse_change before update or delete on audit.event_blocks
for each row execute function private.refuse_change();
create trigger event_blocks_refuse_truncate before truncate on audit.event_blocks
for each statement execute function private.refuse_change();
alter table audit.event_blocks enable always trigger event_blocks_refuse_change;
alter table audit.event_blocks enable always trigger event_blocks_refuse_truncate;

create trigger event_bitmaps_refuse_change before update or delete on audit.event_bitmaps
for each row execute function private.refuse_change();
create trigger event_bitmaps_refuse_truncate before truncate on audit.event_bitmaps
for each statement execute function private.refuse_change();
alter table audit.event_bitmaps enable always trigger event_bitmaps_refuse_change;
alter table audit.event_bitmaps enable always trigger event_bitmaps_refuse_truncate;

create trigger unindexed_refuse_change before update on audit.unindexed
for each row execute function private.refuse_change();
create trigger unindexed_refuse_truncate before truncate on audit.unindexed
for each statement execute function private.refuse_change();
alter table audit.unindexed enable always trigger unindexed_refuse_change;
alter table audit.unindexed enable always trigger unindexed_refuse_truncate;

-- A partition does not inherit the TRUNCATE trigger of its table, and ENABLE ALWAYS must be set for the row triggers
-- of each partition separately.
do $$
declare
    partition text;
begin
    for year in 2026..2046 loop
        partition := format('events_%s', year);
        execute format(
            'create table audit.%I partition of audit.events for values from (%L) to (%L)',
            partition, format('%s-01-01 00:00:00+00', year), format('%s-01-01 00:00:00+00', year + 1)
        );
        execute format(
            'create trigger events_refuse_truncate before truncate on audit.%I '
            'for each statement execute function private.refuse_change()',
            partition
        );
        execute format('alter table audit.%I enable always trigger events_queue_for_index', partition);
        execute format('alter table audit.%I enable always trigger events_refuse_change', partition);
        execute format('alter table audit.%I enable always trigger events_refuse_truncate', partition);
    end loop;
end
$$;

create trigger events_refuse_truncate before truncate on audit.events
for each statement execute function private.refuse_change();

alter table audit.events enable always trigger events_queue_for_index;
alter table audit.events enable always trigger events_refuse_change;
alter table audit.events enable always trigger events_refuse_truncate;

-- Besides ids, an audit row may contain only the words of this table. This list of permitted words protects the audit
-- log against free text: many people read the log, and anyone with the API's login can call the functions that write
-- it.
create table private.audit_terms (
    kind text not null
    constraint audit_terms_kind_is_known check (kind in ('reason', 'basis', 'entity_type', 'field')),
    term text not null constraint audit_terms_term_is_one_word check (term ~ '^[A-Za-z][A-Za-z0-9_>]{0,62}$'),
    constraint audit_terms_pkey primary key (kind, term)
);
comment on table private.audit_terms is
'Every reason, basis, entity type and field name that an audit row may contain. Only migrations write this table.';

insert into private.audit_terms (kind, term)
select 'reason', t.term from unnest(array[
    'breach_assessment_not_found', 'own_breach_assessment', 'bad_discovered_on', 'breach_decided',
    'breach_not_counted', 'breach_factors_missing', 'breach_closed', 'breach_delay_late', 'bad_delay',
    'breach_clock_run_out',
    'breach_residents_differ', 'breach_undecided', 'bad_sent_on', 'own_sanction', 'sanction_not_of_category',
    'bad_imposed_on', 'bad_month', 'attested_already', 'bad_findings', 'bad_rationale', 'bad_residents',
    'bad_notice_method', 'breach_range', 'evidence_folder_exists',
    'audit_export_unsealed', 'audit_export_ended', 'audit_export_in_progress', 'audit_export_not_ready',
    'audit_export_not_found', 'audit_export_of_another', 'audit_export_too_large', 'quota_exports',
    'audit_filter_not_found', 'officer_lost_access',
    'bad_syntax', 'not_one_field',
    'accounting_request_closed', 'accounting_request_not_found', 'accounting_too_large', 'bad_accounting_dates',
    'accounting_unprintable', 'accounting_too_long_to_print',
    'authorization_expired', 'bad_disclosure', 'suspension_not_found', 'disclosed_on_ahead', 'suspension_not_written',
    'suspension_over', 'suspension_too_long', 'text_not_begun',
    'endpoint_address_forbidden', 'endpoint_busy', 'endpoint_gone', 'endpoint_not_tried', 'endpoint_redirects',
    'endpoint_refused', 'endpoint_removed', 'endpoint_timeout', 'endpoint_tls_failed', 'endpoint_unreachable',
    'endpoint_unresolved', 'webhook_delivery_not_found',
    'note_draft_not_found', 'signed_note_not_found', 'note_draft_changed', 'note_signed', 'note_not_signed',
    'note_flags_open', 'note_empty', 'note_section_in_progress', 'note_without_transcript',
    'note_line_characters', 'note_line_empty', 'note_line_too_long', 'note_line_twice', 'note_too_many_lines',
    'note_line_unknown', 'note_flag_gone', 'note_draft_malformed', 'note_draft_format_unknown',
    'signed_note_malformed', 'signed_note_format_unknown',
    'cloudflare_access_denied', 'cloudflare_account_suspended', 'cloudflare_account_unknown',
    'cloudflare_bucket_missing', 'cloudflare_limited', 'cloudflare_not_enabled', 'cloudflare_token_refused',
    'cloudflare_unavailable', 'email_exists', 'no_intent', 'not_its_recording',
    'deletion_not_requested',
    'quota_subtitles',
    'question_running',
    'question_characters', 'question_empty', 'question_too_long', 'quota_questions',
    'recording_lost',
    'recording_failed',
    'recording_aborted',
    'ABORTED', 'ABORTED>DELETED', 'DELETED', 'FAILED', 'FAILED>DELETED', 'LOST', 'LOST>DELETED', 'LOST>READY',
    'READY', 'READY>DELETED', 'RECORDING', 'RECORDING>ABORTED', 'RECORDING>FAILED', 'RECORDING>LOST',
    'RECORDING>STOPPING', 'RECORDING>VERIFYING', 'REQUESTED', 'REQUESTED>ABORTED', 'REQUESTED>FAILED',
    'REQUESTED>STARTING', 'STARTING', 'STARTING>ABORTED', 'STARTING>FAILED', 'STARTING>LOST', 'STARTING>RECORDING',
    'STARTING>STOPPING', 'STARTING>VERIFYING', 'STOPPING', 'STOPPING>ABORTED', 'STOPPING>FAILED', 'STOPPING>LOST',
    'STOPPING>VERIFYING', 'VERIFYING', 'VERIFYING>FAILED', 'VERIFYING>LOST', 'VERIFYING>READY', 'access_changed',
    'access_not_applied', 'access_request_closed', 'access_request_not_found', 'access_request_open_already',
    'add_clinician', 'add_compliance', 'already_exists', 'already_staff', 'and_more', 'attempt_overdue',
    'audit_log_moved', 'witness_failed', 'witness_timeout', 'witness_unreachable',
    'audit_event_not_found', 'audit_event_not_sealed', 'audit_event_redacted', 'audit_event_differs',
    'audit_event_about_log', 'audit_policy_malformed', 'court_order', 'erasure_request',
    'audit_log_differs', 'audit_log_counts_differ', 'audit_log_unsealed',
    'audit_log_unpublished', 'audit_log_second_bucket_behind', 'audit_log_not_cosigned',
    'auto_record', 'bad_argument', 'bad_birth_date', 'bad_cursor', 'bad_date', 'bad_determination', 'bad_email',
    'bad_extension', 'bad_external_id', 'bad_id', 'bad_input', 'bad_kind', 'bad_page_size', 'bad_received_on',
    'bad_literal', 'bad_published_name', 'bad_proposal_reason',
    'not_in_role_table', 'officer_proposal_not_found', 'officer_too_new', 'proposal_about_you', 'proposal_decided',
    'proposal_officer_gone', 'proposal_open_already', 'proposal_same_officer', 'second_factor_unknown',
    'reassignment_doctor_active', 'reassignment_recipient', 'reassignment_under_investigation',
    'reassignment_waits', 'sessions_not_ended', 'staff_login_gone', 'staff_not_suspended', 'suspended_again',
    'bad_representative', 'bad_sha256', 'bad_text', 'bad_variable', 'begun', 'birth_date_given', 'bucket_changed',
    'bucket_keys_missing', 'bucket_not_as_put', 'bucket_policy_malformed', 'bucket_policy_unreadable',
    'bucket_policy_unsafe', 'bucket_rules_busy', 'bad_address', 'bad_summary_range', 'summary_too_large',
    'certificate_impossible', 'certificate_malformed', 'certificate_not_found',
    'certificate_other_key', 'certificate_pdf_attachments', 'certificate_pdf_malformed', 'certificate_public_key',
    'certificate_signature', 'certificate_too_large', 'change_clinician', 'change_compliance', 'clinician_unknown',
    'cloudflare_failed', 'cloudflare_lock_unknown', 'cloudflare_timeout', 'cloudflare_token_missing',
    'cloudflare_unreachable', 'concurrent_change', 'consent_missing', 'consent_missing_to_join', 'consent_text',
    'consent_text_differs', 'consent_text_unknown', 'consent_withdrawn', 'consultation_not_found',
    'correction_characters', 'correction_empty', 'correction_order', 'correction_too_long', 'cors',
    'credentials_lifetime', 'custom_domain', 'data_key_missing', 'data_key_wrong', 'database_busy',
    'database_login_refused',
    'database_disk_full',
    'database_connections_used_up',
    'database_of_pre_release', 'database_slow', 'database_unavailable', 'database_unmigrated',
    'database_read_only',
    'database_out_of_memory',
    'database_unreachable', 'deleted_too_early', 'deletion_not_undoable',
    'deletion_refused',
    'duplicate', 'egress_aborted', 'egress_failed', 'egress_limit_before_start', 'egress_limit_reached',
    'egress_room_closed_before_start',
    'egress_lost', 'egress_resources_exhausted', 'egress_room_connection_lost', 'egress_start_not_received',
    'egress_start_unknown', 'egress_stopped_before_start', 'egress_upload_failed', 'email_not_authorized',
    'email_refused', 'email_sign_in_disabled', 'escrow_exists', 'escrow_unreadable', 'escrow_unwritable',
    'export_mismatch', 'export_not_there', 'export_secret_gone', 'extended_already', 'external_id_taken',
    'field_unreadable', 'filename', 'found_after_restore', 'hold_custodian', 'hold_dates', 'hold_left_behind',
    'hold_matter', 'hold_not_found', 'hold_released', 'hold_unprotected', 'holds_unprotected',
    'bucket_of_another_deployment', 'bucket_unmarked', 'bad_idempotency_key', 'idempotency_key_reused',
    'invitation_redeemed', 'turn_changed',
    'import_expired', 'import_not_found', 'import_not_prepared',
    'import_size', 'import_type', 'in_the_ledger', 'incomplete', 'insight_line_unknown', 'insights_changed',
    'insights_consent_text', 'insights_consent_withdrawn', 'insights_format_unknown', 'insights_malformed',
    'insights_not_failed', 'insights_not_found', 'insights_not_stale', 'insights_overtaken', 'insights_switched_off',
    'insights_unanswered', 'insights_unusable', 'internal_error', 'invitation_differs',
    'lead_lost',
    'language_budget_used_up', 'cost_minutes', 'cost_period', 'cost_sessions',
    'language_filtered', 'language_incomplete', 'language_key_refused', 'language_model_unknown',
    'language_nonsense', 'language_not_configured', 'language_quota_exceeded', 'language_rate_limited',
    'language_refused', 'language_request_rejected', 'language_timeout', 'language_unavailable',
    'invitation_unknown', 'jwks_empty', 'jwks_unavailable', 'ledger_entry_foreign', 'ledger_number_taken',
    'ledger_versions_unknown', 'lifecycle', 'lifecycle_rules_limit', 'limit_reached', 'live_recording_exists',
    'livekit_at_capacity', 'livekit_clock', 'livekit_credentials_refused', 'livekit_no_egress', 'livekit_not_found',
    'livekit_permission_denied', 'livekit_refused', 'livekit_timeout', 'livekit_unavailable', 'lock_rule_twice',
    'lock_rules_limit', 'locks', 'login_banned', 'login_is_patient', 'login_missing', 'login_password_failed',
    'login_unconfirmed', 'mail_refused', 'mail_slow', 'media_probe_ended', 'media_sound_ended', 'media_too_slow',
    'media_unreadable', 'microphone_gone', 'migration_failed', 'migration_name', 'migration_out_of_order',
    'migration_version_twice',
    'nobody_leads',
    'migrations_missing', 'nested_too_deep',
    'no_consent_to_withdraw', 'no_export_has_it', 'no_review_asked', 'no_valid_signature',
    'no_recording_has_it', 'operation_not_found', 'subscription_by_post',
    'no_valid_token', 'not_a_refusal', 'not_a_rejection', 'not_found',
    'not_permitted', 'not_registered', 'not_reviewable', 'object_appeared',
    'object_digest_differs', 'object_is_back', 'object_key', 'object_key_of_another', 'object_missing',
    'object_move', 'object_move_undecided', 'object_size_differs', 'object_still_there', 'openai_key_refused',
    'openai_missing', 'openai_unreachable', 'other', 'own_hold', 'own_suspension', 'participant_not_found',
    'passphrase_short', 'passphrases_differ', 'past_due', 'past_quarantine', 'patient_asked',
    'patient_birth_date_ahead', 'patient_birth_date_differs', 'patient_not_found', 'patient_user_differs',
    'patient_user_unknown', 'policy_', 'policy_version', 'proven', 'quota_invitations', 'quota_pages', 'quota_urls',
    'clip_consent_text', 'clip_consent_withdrawn', 'clip_in_progress', 'clip_past_end',
    'bad_clip_range', 'media_clip_ended', 'too_many_clips', 'media_thumbnail_ended', 'thumbnail_not_found',
    'quota_playbacks', 'renewal', 'repeated', 'viewing_not_renewable',
    'quotas_malformed', 'pooler_keeps_no_session',
    'r2_account_id', 'r2_jurisdiction', 'r2dev_enabled', 'recorded_at_ahead', 'recorded_at_too_early',
    'recorded_in_error', 'recorder_key_reads', 'recorder_role_refused', 'recorder_role_unsupported',
    'recording_being_deleted', 'recording_deleted', 'recording_destroyed', 'recording_has_begun', 'recording_held',
    'recording_is_finished', 'recording_not_destroyed', 'recording_not_finished', 'recording_not_found',
    'recording_not_ready', 'refused', 'representative_differs', 'request_has_no_representative',
    'request_not_written', 'reserved_action', 'retention_below_floor', 'retention_jurisdiction_unknown',
    'retention_kinds_overlap', 'retention_malformed', 'retention_policy_not_found', 'retention_policy_settled',
    'retention_same_officer', 'retention_term_absurd', 'retention_unknown_key', 'review_pending',
    'reviewed_already', 'reviewer_took_part', 'role_unknown', 'root_key_id', 'root_key_missing', 'root_key_twice',
    'root_key_unknown', 'root_key_weak', 'root_key_wrong', 'root_keys_malformed', 'rule_differs', 'rule_foreign',
    'rule_missing', 'rule_surplus', 'rule_threatens', 'search_empty', 'search_too_long', 'search_too_many_terms',
    'signed_note_altered', 'signed_note_destroyed', 'signed_note_full', 'signed_note_unprintable',
    'signed_note_version_taken', 'signature_not_begun',
    'note_quotes_not_permitted',
    'second_factor_needed', 'separate_speakers', 'served', 'session_delegated', 'session_over', 'speech_access_denied',
    'sound_not_decodable',
    'server_busy',
    'speakers_with_guests', 'speech_account_suspended', 'speech_address_refused', 'speech_busy', 'speech_failed',
    'speech_format_unsupported', 'speech_key_refused', 'speech_model_unknown', 'speech_nonsense',
    'speech_not_configured', 'speech_quota', 'speech_refused', 'speech_timeout', 'staff_member_suspended',
    'staff_not_found', 'staff_suspended', 'start_overdue', 'stop_overdue', 'stopped_by_request',
    'still_there',
    'storage_access_denied', 'storage_account_suspended', 'storage_bucket_missing', 'storage_busy', 'storage_clock',
    'storage_credentials_refused', 'storage_encryption_key', 'storage_failed', 'storage_full',
    'storage_not_implemented', 'storage_not_s3', 'storage_object_archived', 'storage_object_changed',
    'storage_object_locked', 'storage_object_missing', 'storage_object_too_large', 'storage_of_another_deployment',
    'storage_overwrites', 'storage_path_style', 'storage_presigned_refused', 'storage_region_wrong',
    'storage_timeout', 'storage_token_expired', 'storage_unreachable', 'storage_versioned', 'subscriptions_only',
    'supabase_auth', 'supabase_busy', 'supabase_hook_failed', 'supabase_key_refused', 'supabase_mail_limit',
    'supabase_project_paused', 'supabase_project_restricted', 'supabase_refused', 'supabase_unreachable',
    'suspend_clinician', 'suspend_compliance', 'switched_off', 'token_algorithm', 'token_anonymous',
    'temp_role_unknown',
    'temp_role_is_ours',
    'temp_not_revoked',
    'token_audience', 'token_claims', 'token_clock', 'token_expired', 'token_issuer', 'token_key_unknown',
    'token_malformed', 'token_missing', 'token_role', 'token_signature', 'too_deep',
    'too_many_aliases', 'too_many_connections', 'too_many_tokens',
    'too_many_fragments', 'too_many_microphones', 'too_many_objects', 'too_many_operations',
    'too_many_root_fields',
    'too_many_page_objects', 'page_in_nested_page', 'field_not_for_guests',
    'too_many_at_once',
    'too_many_selections', 'too_many_subscriptions', 'totp_stale', 'transcript_changed',
    'transcript_format_unknown', 'transcript_malformed', 'transcript_not_found', 'transcription_not_failed',
    'transcription_consent_withdrawn', 'transcription_overtaken', 'transcription_switched_off', 'turn_unknown',
    'unknown_action',
    'unknown_input_field',
    'unfinished_upload',
    'access_request_not_approved', 'bad_label', 'bad_time_zone', 'report_of_whom',
    'session_note_changed', 'session_note_characters', 'session_note_empty', 'session_note_not_found',
    'session_note_time', 'session_note_too_long', 'session_note_versions_full', 'session_notes_full',
    'auth_entries_forbidden', 'auth_entries_missing', 'auth_entries_not_read', 'auth_entries_not_written',
    'auth_entry_unknown', 'auth_password_hook_missing', 'auth_second_factor_hook_missing',
    'wrong_code', 'wrong_password',
    'review_case_not_found', 'review_case_decided', 'reviewer_is_subject', 'officer_unknown',
    'disposition_characters', 'disposition_empty', 'disposition_too_long',
    'unknown_participant', 'unknown_task', 'upload_unfinished', 'url_lifetime', 'user_unknown',
    'verification_overdue', 'viewer_not_found', 'webhook_body', 'webhook_signature', 'webhook_status',
    'webhook_too_large', 'withdrawn_in_person', 'wrong_patient', 'wrong_role'
]) as t (term);

insert into private.audit_terms (kind, term)
select 'basis', t.term from unnest(array[
    'export_audit_events', 'keep_audit_exports', 'keep_alerts',
    'count_breach', 'make_evidence',
    'write_note_section', 'resume_note_sections',
    'ask_transcript',
    'make_clip', 'make_thumbnail', 'thumbnails',
    'reset_second_factor', 'reassign_consultations',
    'apply_bucket_policies', 'ban_user', 'check', 'check_bucket', 'count_rejections', 'delete_idempotency_keys',
    'destroy_recordings',
    'enforce_consent', 'expire_imports', 'export_access_request', 'follow_egress', 'health', 'index_audit_events',
    'invite_staff',
    'keep_exports', 'livekit_webhook', 'look_for_lost', 'look_for_missing', 'move_recording', 'prepare_import',
    'protect_held', 'reconcile', 'repair_jobs', 'restore_check', 'resume_insights',
    'resume_language_work', 'resume_transcriptions', 'retention_adopt', 'seal_audit_log', 'publish_audit_log',
    'read_sign_ins', 'supabase_auth',
    'retention_propose', 'retention_show', 'role_mapping', 'rotate_keys', 'staff_add', 'start_recording', 'start_up',
    'stop_recording', 'subtitles', 'sweep_bucket', 'transcribe', 'verify_recording', 'watch_leader', 'watch_room',
    'verify_audit_log', 'make_audit_receipt', 'redact_audit_event', 'send_webhooks',
    'write_insights'
]) as t (term);

insert into private.audit_terms (kind, term)
select 'entity_type', t.term from unnest(array[
    'audit_export', 'alert',
    'disclosure', 'disclosure_suspension', 'accounting_request',
    'breach_assessment', 'sanction', 'attestation', 'evidence_pack',
    'access_request', 'audit_event', 'bucket', 'consent', 'consultation', 'cost', 'deletion', 'deployment', 'insights',
    'audit_log',
    'webhook_delivery', 'webhook_endpoint',
    'legal_hold', 'media', 'participant', 'patient', 'signed_note', 'recording', 'recording_import', 'request',
    'clip', 'viewing', 'retention_policy', 'room', 'session_note', 'staff', 'staff_invitation', 'storage', 'transcript',
    'second_factor', 'user', 'officer_proposal',
    'review_case'
]) as t (term);

insert into private.audit_terms (kind, term)
select 'field', t.term from unnest(array[
    'openedAt', 'seenAt', 'closedAt', 'entityType', 'entityIds', 'entityCount', 'remedy',
    'agency', 'authorization', 'description', 'disclosedOn', 'disclosureCount', 'endsAt', 'expiresOn', 'isAccounted',
    'isSuspended', 'isWritten', 'lastDisclosedOn', 'liftedAt', 'liftedBy', 'official', 'purposeStatement',
    'purposeText', 'recipient', 'redisclosureNotice', 'reference', 'signedOn',
    'disclosure', 'disclosureSuspension',
    'attestation', 'attestedBy', 'auditEventId', 'breachAssessment', 'category', 'countStatus',
    'decidedBy', 'delayEndsOn', 'delayStatement', 'discoveredOn', 'document', 'factor', 'factors',
    'findings', 'imposedOn', 'lateReason', 'measure', 'member', 'method', 'month', 'neededNotices', 'nextDueOn',
    'note', 'notices', 'openedBy', 'patientCount', 'patients', 'rationale', 'risk', 'sanction', 'sanctions', 'sentOn',
    'subject',
    'accounting', 'accountingRequest', 'csv', 'entryCount', 'isFree', 'issuedAt',
    'issuedBy', 'earliestDate', 'latestDate',
    'auditExport', 'auditExportUrl', 'format', 'eventCount',
    'accessExportUrl', 'accessRequest', 'instructions', 'markdown', 'recording', 'consent', 'coveredRecordingCount',
    'coveredSignedNoteCount', 'heldSignedNoteCount', 'destroyedAt',
    'destroyingRecordingCount', 'downloadUrl', 'endSeconds', 'isDuplicate', 'isMatch', 'joinToken', 'languageCode',
    'legalHold', 'originalText', 'recordingImport', 'retentionPolicy', 'snippet', 'staffInvitation', 'startSeconds',
    'subtitleUrls', 'turnNumber', 'unreadableCount', 'access', 'action', 'activatedAt', 'actorRole',
    'address', 'ageFromDays', 'anonymous', 'appliesToExisting', 'approvedBy', 'asOf', 'attempt',
    'basis', 'byteCount', 'channel', 'consents',
    'consultation', 'consultationIds', 'contentType', 'correctedAt', 'correctedBy', 'corrections',
    'cors', 'createdAt', 'cursor', 'custodian', 'data_key', 'decidedAt', 'decision', 'deletion',
    'denial', 'determinedBy', 'domains', 'dueBytes', 'dueOn',
    'due_at', 'durationSeconds', 'edges', 'egressId',
    'email', 'endCursor', 'endedAt', 'exists', 'expiresAt',
    'expiresInSeconds', 'export', 'extendedAt', 'extension', 'externalId', 'fields', 'finishedAt',
    'confidence', 'fullText', 'wordCount',
    'actionItems', 'chapters', 'dismissedCount', 'generationNumber', 'highlights', 'isRefreshed', 'isStale',
    'keyPoints', 'noteLines', 'partCount', 'partsDone', 'section', 'summary', 'title',
    'topics', 'uncitedTurns', 'when', 'who',
    'answer', 'citations', 'coverage', 'coveredSeconds', 'droppedCount', 'flags', 'model',
    'unknownSpeakerCount', 'writer',
    'fulfilledAt', 'graceDays', 'ground', 'guestRole', 'hasConsented', 'hasNextPage', 'hasPreviousPage',
    'heldBytes', 'hits', 'holds', 'id',
    'index_key', 'insights', 'invitation', 'isActive', 'isCut', 'isOverdue', 'isRetried', 'isReviewable',
    'isTranscribed', 'isUncertain', 'isUnintelligible', 'joinedAt', 'json', 'jurisdiction', 'key', 'kind', 'kinds',
    'language', 'lifecycle', 'locks', 'matter', 'minorsUntilAgeYears', 'missing', 'missing_since',
    'months', 'name', 'node', 'number', 'object', 'object_key', 'operation',
    'outcome', 'pageInfo', 'participant', 'participantId', 'participants',
    'patientIds', 'placedAt', 'placedBy', 'policyVersion', 'problem', 'prices',
    'proposedAt', 'purpose', 'reason', 'receivedOn', 'recordedAt', 'recordedBy',
    'recordedUntil', 'recordingDays', 'recordingId', 'recordings', 'relationship',
    'lastUsedAt', 'publishedName', 'roleGivenAt',
    'conductedBy', 'officerProposal', 'proposedBy',
    'reassignment', 'keptAsSensitiveCount', 'keptForConsentCount', 'movedCount',
    'releasedAt', 'releasedBy', 'representative', 'requestId', 'requestedAt', 'requestedBy',
    'retentionClass', 'retention_class', 'reviewAskedAt', 'reviewOutcome', 'reviewedAt',
    'reviewedBy', 'role', 'roomName', 'roomSid', 'rowCount', 'scheduledAt', 'scope', 'secret',
    'secretRevealedAt', 'sensitivity', 'sha256', 'sid',
    'signedNoteDays', 'sizeBytes', 'size_bytes', 'source', 'speaker', 'srt',
    'startCursor', 'startedAt', 'status', 'suspendedAt', 'terms', 'text',
    'textLanguage', 'textSha256', 'textVersion', 'token', 'trackSid', 'transcript', 'transcription',
    'turns', 'undoUntil', 'unintelligibleCount', 'unusedTrackCount', 'updatedAt',
    'uploadHeaders', 'uploadUrl', 'upload_url', 'uploads', 'user', 'url', 'value', 'version', 'webvtt',
    'assuranceLevel', 'code', 'message', 'patient', 'staffMember',
    'actor', 'allowedTypes', 'argument', 'attemptCount', 'count', 'details', 'earliest', 'expectedType', 'fileCount',
    'inputPath', 'limit', 'maximum', 'minimum', 'missingFileCount', 'pdfBase64', 'recordedFrom', 'retentionEndsAt',
    'retryAfterSeconds', 'retryable', 'sessionFingerprint', 'variable',
    'classAUsdPerMillion', 'classBUsdPerMillion', 'dueRecordingCount', 'firstDeletionAt', 'heldCount',
    'heldRecordingCount', 'objectCount', 'recordingCount', 'requestsUsdPerMonth', 'soonerCount', 'startsOn',
    'storageUsdPerGbMonth', 'storageUsdPerMonth', 'storedBytes',
    'playbackUrl', 'viewingId', 'clip', 'clips', 'percentDone', 'thumbnail', 'thumbnailStatus', 'thumbnailUrl', 'jpeg',
    'chunkCount', 'chunksDone', 'doctor', 'entities', 'ids', 'isHeld', 'isInterrupted', 'isTruncated', 'mediaFiles',
    'mustConsent', 'participantCount', 'recordingBlockers', 'recordsAutomatically', 'recordsSpeakersSeparately', 'type',
    'sections', 'flag', 'resolution', 'isBeingWritten', 'hasOpenFlags', 'isSigned', 'noteDraft', 'signature',
    'needsSecondApproval', 'shortenedTerms', 'supersededPolicy',
    'digest', 'signedNote', 'quotes', 'quote', 'addendum', 'versions', 'quoteCount', 'signedNoteCount',
    'signedAt', 'isDestroyed', 'isWrittenByModel', 'subjective', 'objective', 'assessment', 'plan',
    'webhookDelivery', 'attempts', 'endpoint', 'eventType', 'messageId', 'nextAttemptAt', 'statusCode',
    'author', 'changedAt', 'changedBy', 'isDeleted', 'isIncomplete', 'lines', 'psychotherapyNote', 'psychotherapyNotes',
    'sessionNote', 'sessionNotes', 'writtenAt',
    'grouping', 'groups', 'totalUsd', 'vendor', 'modelName', 'egressMinutes', 'transcribedMinutes', 'storedGbMonths',
    'inputTokenCount', 'cachedTokenCount', 'outputTokenCount', 'egressUsd', 'speechUsd', 'storageUsd', 'languageUsd',
    'occurredAt', 'sessionUsd', 'monthUsd', 'egressUsdPerMinute', 'speechUsdPerMinute', 'inputUsdPerMillion',
    'cachedUsdPerMillion', 'outputUsdPerMillion', 'storageAsOf', 'languageBudget', 'liftedOn', 'dailyTokenCount',
    'usedTokenCount', 'costReport',
    'certificate', 'consultationId', 'fate', 'isRefused', 'keptUntil', 'label', 'patientExternalId', 'refusal',
    'relation', 'why',
    'eventCounts', 'interval', 'series', 'startsAt',
    'reviewCase', 'rule', 'listedEventCount', 'hasMorePatients', 'firstEventAt', 'lastEventAt',
    'assignedTo', 'disposition', 'dispositionText', 'events'
]) as t (term);

create type private.subjects as (patient_ids uuid[], consultation_ids uuid[]); -- noqa: LT01

create table private.audit_actions (
    action text primary key constraint audit_actions_action_is_dotted check (action ~ '^[a-z_]+[.][a-z_]+$'),
    operation text not null constraint audit_actions_operation_is_known check (operation in ('C', 'R', 'U', 'D', 'E')),
    is_reserved boolean not null
);
comment on column private.audit_actions.is_reserved is
'Whether only functions write this action. A statement of a person cannot use it (private.record_access).';

insert into private.audit_actions (action, operation, is_reserved)
values
('viewer.read', 'R', false),
('consultation.register', 'C', false),
('consultation.read', 'R', false),
('consultation.list', 'R', false),
('consultation.join', 'E', false),
('consultation.watch', 'R', false),
('guest.invite', 'C', false),
('guest.join', 'E', true),
('consent.give', 'C', false),
('consent.withdraw', 'C', false),
('recording.list', 'R', false),
('recording.read', 'R', false),
('recording.watch', 'R', false),
('recording.start', 'C', false),
('recording.stop', 'U', false),
('recording.import', 'C', false),
('recording.issue_upload_url', 'R', true),
('recording.complete_import', 'C', false),
('recording.expire_import', 'U', true),
('recording.transition', 'U', true),
('recording.issue_url', 'R', true),
('recording.play', 'R', true),
('clip.create', 'C', true),
('clip.begin', 'R', true),
('clip.finish', 'C', true),
('clip.fail', 'U', true),
('thumbnail.begin', 'R', true),
('thumbnail.finish', 'C', true),
('thumbnail.fail', 'U', true),
('thumbnail.issue_url', 'R', true),
('thumbnail.read', 'R', true),
('recording.read_storage', 'R', true),
('recording.read_key', 'R', true),
('egress.stop_stray', 'E', true),
('object.report_orphan', 'R', true),
('object.sweep_orphan', 'D', true),
('object.abort_upload', 'D', true),
('breach.open', 'C', true),
('breach.list', 'R', false),
('breach.count', 'R', true),
('breach.recount', 'R', true),
('breach.record_factor', 'U', true),
('breach.delay', 'U', true),
('breach.decide', 'U', true),
('breach.seal', 'C', true),
('breach.record_notice', 'C', true),
('sanction.record', 'C', true),
('sanction.list', 'R', false),
('attestation.sign', 'C', true),
('attestation.seal', 'C', true),
('attestation.list', 'R', false),
('evidence.export', 'E', true),
('rooms.list', 'R', false),
('audit.list', 'R', true),
('audit.summarize', 'R', true),
('audit.export', 'E', true),
('audit.export_list', 'R', false),
('alert.list', 'R', false),
('audit.export_url', 'E', true),
('audit.export_secret', 'R', true),
('audit.export_content', 'R', true),
('audit.export_fail', 'U', true),
('audit.export_stop', 'U', true),
('audit.export_expire', 'D', true),
('accounting.list', 'R', false),
('accounting.file', 'C', true),
('accounting.withdraw', 'U', true),
('accounting.extend', 'U', true),
('accounting.issue', 'E', true),
('disclosure.record', 'C', true),
('disclosure.list', 'R', true),
('disclosure.suspend', 'C', true),
('disclosure.lift_suspension', 'U', true),
('disclosure.list_suspensions', 'R', true),
('staff.invite', 'C', true),
('staff.list_invitations', 'R', true),
('staff.list', 'R', false),
('staff.add', 'C', true),
('staff.map', 'U', true),
('staff.suspend', 'U', true),
('staff.publish_name', 'U', true),
('staff.ban', 'U', true),
('staff.unban', 'U', true),
('staff.reinstate', 'U', true),
('staff.reset_second_factor', 'U', true),
('proposal.make', 'C', true),
('proposal.approve', 'U', true),
('proposal.reject', 'U', true),
('proposal.withdraw', 'U', true),
('proposal.finish', 'U', true),
('proposal.list', 'R', false),
('consultation.reassign', 'U', true),
('recording.delete', 'D', true),
('recording.undo_delete', 'U', true),
('recording.destroy', 'D', true),
('recording.make_key', 'C', true),
('recording.rewrap_key', 'U', true),
('recording.date', 'U', true),
('deletion.list', 'R', false),
('deletion.fail', 'U', true),
('certificate.read', 'R', false),
('retention.propose', 'C', true),
('retention.approve', 'U', true),
('retention.reject', 'U', true),
('retention.activate', 'U', true),
('retention.list', 'R', false),
('retention.preview', 'R', true),
('cost.report', 'R', true),
('cost.estimate', 'R', false),
('language_budget.lift', 'U', true),
('hold.place', 'C', true),
('hold.release', 'U', true),
('hold.list', 'R', false),
('access_request.file', 'C', true),
('access_request.withdraw', 'U', true),
('access_request.approve', 'U', true),
('access_request.deny', 'U', true),
('access_request.extend', 'U', true),
('access_request.ask_review', 'U', true),
('access_request.review', 'U', true),
('access_request.list', 'R', false),
('access_request.export', 'E', true),
('access_request.issue_url', 'E', true),
('access_request.reveal_secret', 'R', true),
('access_request.expire_export', 'D', true),
('access_report.read', 'R', true),
('recording_report.read', 'R', true),
('storage.report', 'R', true),
('object.report_missing', 'R', true),
('object.keep', 'U', true),
('bucket.drift', 'R', true),
('bucket.apply', 'U', true),
('restore.repeat', 'D', true),
('audit_log.mark_hour', 'C', true),
('audit_log.close_year', 'C', true),
('audit_log.note_clock', 'C', true),
('audit_log.rotate_key', 'U', true),
('audit_log.redact', 'U', true),
('audit_log.adopt', 'U', true),
('request.reject', 'E', true),
('webhook.reject', 'E', true),
('webhook.configure', 'U', true),
('webhook.disable', 'U', true),
('webhook.list', 'R', false),
('webhook.redeliver', 'U', true),
('transcript.transition', 'U', true),
('transcript.begin', 'R', true),
('transcript.assemble', 'R', true),
('transcript.read', 'R', true),
('transcript.correct', 'U', true),
('transcript.search', 'R', true),
('transcript.retry', 'U', false),
('transcript.ask', 'R', true),
('transcript.issue_url', 'R', true),
('transcript.rewrap_index_key', 'U', true),
('patient.make_key', 'C', true),
('patient.rewrap_key', 'U', true),
('patient.destroy_key', 'D', true),
('note.sign', 'C', true),
('note.add_addendum', 'C', true),
('note.read', 'R', true),
('note.destroy', 'D', true),
('note.date', 'U', true),
('insights.transition', 'U', true),
('insights.begin', 'R', true),
('insights.read', 'R', true),
('insights.dismiss', 'U', true),
('insights.retry', 'U', false),
('insights.refresh', 'U', false),
('note_draft.read', 'R', true),
('note_draft.edit', 'U', true),
('note_draft.keep_flag', 'U', true),
('note_draft.rewrite', 'U', true),
('note_draft.begin', 'R', true),
('consultation.switch_transcription', 'U', false),
('consultation.set_label', 'U', true),
('session_note.read', 'R', true),
('session_note.watch', 'R', true),
('session_note.write', 'C', true),
('session_note.edit', 'U', true),
('session_note.delete', 'D', true),
('session_note.export', 'R', true),
('sign_in.attempt', 'E', true),
('sign_in.end', 'E', true),
('sign_in.create_user', 'C', true),
('sign_in.confirm_user', 'U', true),
('sign_in.invite_user', 'C', true),
('sign_in.change_user', 'U', true),
('sign_in.delete_user', 'D', true),
('sign_in.request_confirmation', 'E', true),
('sign_in.repeat_sign_up', 'E', true),
('sign_in.reauthenticate', 'E', true),
('sign_in.link_identity', 'C', true),
('sign_in.unlink_identity', 'D', true),
('sign_in.add_passkey', 'C', true),
('sign_in.change_passkey', 'U', true),
('sign_in.remove_passkey', 'D', true),
('sign_in.report_unknown', 'E', true),
('password.request_reset', 'E', true),
('password.change', 'U', true),
('second_factor.enrol', 'C', true),
('second_factor.verify', 'E', true),
('second_factor.change', 'U', true),
('second_factor.remove', 'D', true),
('psychotherapy_note.read', 'R', true),
('psychotherapy_note.write', 'C', true),
('psychotherapy_note.edit', 'U', true),
('review_case.open', 'C', true),
('review_case.list', 'R', false),
('review_case.read', 'R', false),
('review_case.assign', 'U', true),
('review_case.decide', 'U', true),
('psychotherapy_note.delete', 'D', true);

-- Returns FHIR's AuditEvent.action of an action: (C)reate, (R)ead, (U)pdate, (D)elete, (E)xecute.
create function private.operation_of(action text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (select a.operation from private.audit_actions as a where a.action = operation_of.action);
end
$$;

-- Returns the given term if private.audit_terms contains it, else 'unregistered'; returns null for null. An
-- unregistered term does not stop the insert of the audit row, because the audit row is more important than the term.
create function private.audit_term(of_kind text, given text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if given is null or exists (select from private.audit_terms as t where t.kind = of_kind and t.term = given) then
        return given;
    end if;
    return 'unregistered';
end
$$;

-- Returns the given reason if private.audit_terms contains it, else 'unregistered'. A reason may also consist of two
-- registered terms with a colon between them: the step of a recording, and the error of that step. A reason may name
-- a retention policy by its number.
create function private.audit_reason(given text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if given is null or given ~ '^policy_[0-9]{1,10}$' then
        return given;
    elsif strpos(given, ':') = 0 then
        return private.audit_term('reason', given);
    end if;
    return private.audit_term('reason', split_part(given, ':', 1)) || ':'
        || private.audit_term('reason', substr(given, strpos(given, ':') + 1));
end
$$;

-- Returns the given paths of fields in the given order, such as `consultation.patient.externalId`. A path with a name
-- that private.audit_terms lacks becomes 'unregistered', and so does a path of more than 12 names.
create function private.audit_fields(given text[]) returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select case
            when cardinality(n.names) <= 12 and not exists (
                select
                from unnest(n.names) as w (name)
                where not exists (select from private.audit_terms as t where t.kind = 'field' and t.term = w.name)
            ) then g.path
            else 'unregistered'
        end
        from unnest(given) with ordinality as g (path, place)
        cross join lateral (select string_to_array(g.path, '.')) as n (names)
        order by g.place
    );
end
$$;

-- Returns the given entities with one object for each type, in the order in which the types come first. Each id occurs
-- once. A type without ids is left out, except the first. A type that private.audit_terms lacks becomes
-- 'unregistered'. Raises an error for an id that is no UUID.
create function private.audit_entities(given jsonb) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        (
            select jsonb_agg(jsonb_build_object('type', k.type, 'ids', k.ids) order by k.place)
            from (
                select
                    private.audit_term('entity_type', e.value ->> 'type') as type,
                    min(e.place) as place,
                    coalesce(jsonb_agg(distinct (i.id)::uuid) filter (where i.id is not null), '[]') as ids
                from jsonb_array_elements(given) with ordinality as e (value, place)
                left join lateral jsonb_array_elements_text(e.value -> 'ids') as i (id) on true
                group by 1
            ) as k
            where k.place = 1 or k.ids <> '[]'
        ),
        '[]'
    );
end
$$;

-- Returns the entities of one type for an audit row.
create function private.entities_of(entity_type text, ids uuid[]) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_array(jsonb_build_object('type', entity_type, 'ids', to_jsonb(coalesce(ids, '{}'))));
end
$$;

-- Writes one audit row about the current transaction, and returns its id. The actor of the audit row comes from the
-- claims, and its role is the role that the transaction has taken. For a refusal, the audit row names the role that
-- the person would have taken. The audit row's columns about the request contain the values that describe_request()
-- set. Only SECURITY DEFINER functions and triggers may execute this function.
create function private.write_audit_of_entities(
    action text, outcome text, reason text, entities jsonb, patient_ids uuid[], consultation_ids uuid[], fields text[],
    row_count integer, byte_count bigint, digest text default null
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    claims constant jsonb := private.claims();
    is_refusal constant boolean := current_setting('role') = 'none' and claims is not null;
    taken constant text := case
        when is_refusal then coalesce(private.known_role((claims ->> 'sub')::uuid), session_user)
        when current_setting('role') = 'none' then session_user
        else current_setting('role')
    end;
    event_id uuid;
begin
    insert into audit.events (
        actor_id, actor_role, session_fingerprint, aal, action, operation, outcome, reason, purpose, basis,
        entities, patient_ids, consultation_ids, fields, row_count, byte_count, digest,
        request_id, address, policy_version
    ) values (
        (claims ->> 'sub')::uuid, taken, private.session_fingerprint((claims ->> 'session_id')::uuid),
        case
            when claims ->> 'aal' is null or claims ->> 'aal' in ('aal1', 'aal2', 'aal3') then claims ->> 'aal'
            else 'unregistered'
        end,
        action, private.operation_of(action), outcome, private.audit_reason(reason),
        coalesce(
            nullif(current_setting('resguardo.purpose', true), ''),
            case taken when 'clinician' then 'TREATMENT' when 'patient' then 'PATIENT_REQUEST' else 'OPERATIONS' end
        ),
        case
            when is_refusal then 'refused'
            when taken = 'clinician' then 'treating_clinician'
            when taken = 'compliance' then 'compliance_review'
            when taken = 'patient' then 'self'
            else coalesce(
                private.audit_term('basis', nullif(current_setting('resguardo.service_reason', true), '')),
                'no_identity'
            )
        end,
        private.audit_entities(entities), coalesce(patient_ids, '{}'), coalesce(consultation_ids, '{}'),
        private.audit_fields(fields), row_count, byte_count, digest,
        nullif(current_setting('resguardo.request_id', true), '')::uuid,
        nullif(current_setting('resguardo.address', true), '')::inet,
        private.policy_version()
    )
    returning id into event_id;
    return event_id;
end
$$;

-- Writes one audit row that names entities of one type. Otherwise the function is like write_audit_of_entities().
create function private.write_audit(
    action text, outcome text, reason text, entity_type text, entity_ids uuid[], patient_ids uuid[],
    consultation_ids uuid[], fields text[], row_count integer, byte_count bigint
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_of_entities(
        action, outcome, reason, private.entities_of(entity_type, entity_ids), patient_ids, consultation_ids, fields,
        row_count, byte_count
    );
end
$$;

-- Returns the patients and consultations that an entity concerns, even if the person cannot see the entity. Returns
-- nulls if the entity does not exist. The function reads only the table of the given entity type, so a lock on any
-- other table does not delay the function.
create function private.subjects_of(entity_type text, entity uuid) returns private.subjects
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    patient uuid;
    consultation uuid;
begin
    case entity_type
        when 'recording' then
            select r.patient_id, r.consultation_id into patient, consultation
            from resguardo.recordings as r where r.id = entity;
        when 'consultation' then
            select c.patient_id, c.id into patient, consultation from resguardo.consultations as c where c.id = entity;
        when 'patient' then
            select p.id into patient from resguardo.patients as p where p.id = entity;
        when 'participant' then
            select p.patient_id, p.consultation_id into patient, consultation
            from resguardo.participants as p where p.id = entity;
        when 'recording_import' then
            select i.patient_id, i.consultation_id into patient, consultation
            from resguardo.recording_imports as i where i.id = entity;
        when 'deletion' then
            select d.patient_id, d.consultation_id into patient, consultation
            from resguardo.deletions as d where d.id = entity;
        when 'legal_hold' then
            select coalesce(h.patient_id, c.patient_id), h.consultation_id into patient, consultation
            from resguardo.legal_holds as h
            left join resguardo.consultations as c on c.id = h.consultation_id
            where h.id = entity;
        when 'signed_note' then
            select n.patient_id, n.consultation_id into patient, consultation
            from resguardo.signed_notes as n where n.id = entity;
        when 'session_note' then
            select c.patient_id, c.id into patient, consultation
            from (
                select n.consultation_id from private.session_notes as n where n.id = entity
                union all
                select p.consultation_id from private.psychotherapy_notes as p where p.id = entity
            ) as n
            inner join resguardo.consultations as c on c.id = n.consultation_id;
        when 'disclosure' then
            select d.patient_id, d.consultation_id into patient, consultation
            from resguardo.disclosures as d where d.id = entity;
        when 'accounting_request' then
            select a.patient_id into patient from resguardo.accounting_requests as a where a.id = entity;
        when 'disclosure_suspension' then
            select s.patient_id into patient from resguardo.disclosure_suspensions as s where s.id = entity;
        when 'access_request' then
            select a.patient_id, a.consultation_id into patient, consultation
            from resguardo.access_requests as a where a.id = entity;
        when 'review_case' then
            return (
                select row(c.patient_ids[:100], c.consultation_ids[:100])::private.subjects
                from resguardo.review_cases as c where c.id = entity
            );
        else
            return null;
    end case;
    return case
        when found then row(
            array_remove(array[patient], null), array_remove(array[consultation], null)
        )::private.subjects
    end;
end
$$;

-- Returns the patients and consultations of an entity for the audit row of a refusal, or nulls if the entity's table
-- is locked. To read the patients of a refused entity, the function waits at most 0.1 s for a lock.
create function private.known_subjects(entity_type text, entity uuid) returns private.subjects
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms'
as $$
begin
    return private.subjects_of(entity_type, entity);
exception when lock_not_available then
    return null;
end
$$;

-- Returns the patient or, for any other type of entity, the consultation with an external id for the audit row of a
-- refusal, or null if the table of the patients or of the consultations is locked.
create function private.known_id(entity_type text, of_external_id text) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms'
as $$
begin
    if entity_type = 'patient' then
        return (select p.id from resguardo.patients as p where p.external_id = of_external_id);
    end if;
    return (select c.id from resguardo.consultations as c where c.external_id = of_external_id);
exception when lock_not_available then
    return null;
end
$$;

-- Writes the audit row of a lookup. A lookup may name one entity by its id `asked` and its type `asked_type`. The
-- named entity is either the entity to return, or the entity by which a list is filtered. If the lookup found
-- nothing, the audit row records whether the named entity is visible to the person (ALLOWED, no rows), hidden
-- (DENIED) or absent (ABSENT). Returns only whether the outcome of the lookup is ALLOWED, because the person must not
-- be able to tell DENIED from ABSENT. Only SECURITY DEFINER functions may call this function.
create function private.write_lookup(
    action text, entity_type text, asked_type text, asked uuid, is_visible boolean, entities jsonb,
    patient_ids uuid[], consultation_ids uuid[], row_count integer, fields text[]
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    about private.subjects;
begin
    if asked is null or row_count > 0 then
        perform private.write_audit_of_entities(
            action, 'ALLOWED', null, entities, patient_ids, consultation_ids, fields, row_count, null
        );
        return true;
    end if;
    about := private.subjects_of(asked_type, asked);
    if about.patient_ids is null or is_visible is not true then
        perform private.write_audit(
            action, case when about.patient_ids is null then 'ABSENT' else 'DENIED' end, 'not_found',
            asked_type, array[asked], about.patient_ids, about.consultation_ids, fields, 0, null
        );
        return false;
    end if;
    if asked_type <> entity_type then  -- an empty list names no subjects
        asked := null;
        about := null;
    end if;
    perform private.write_audit(
        action, 'ALLOWED', null, entity_type, array_remove(array[asked], null), about.patient_ids,
        about.consultation_ids, fields, 0, null
    );
    return true;
end
$$;

create table private.pending_audit_rows (
    transaction_id xid8 not null default pg_current_xact_id(),
    action text not null,
    reason text,
    entity_type text not null,
    entity_id uuid not null,
    patient_id uuid,
    consultation_id uuid,
    fields text[] not null,
    byte_count bigint,
    digest text,
    constraint pending_audit_rows_pkey primary key (transaction_id, action)
);
comment on column private.pending_audit_rows.digest is 'The SHA-256 of the signed file.';
comment on table private.pending_audit_rows is
'The audit row of a change that the running transaction has not written yet. The table is empty between transactions.';

-- Writes the audit row of a change before the transaction commits. If a read in the same transaction has the same
-- action, that read writes the row instead, and names in it what it shows (private.record_lookup). A mutation and its
-- answer therefore have one audit row. A transaction can make only one change with the same action.
create function private.write_audit_later(
    action text, reason text, entity_type text, entity_id uuid, patient_id uuid, consultation_id uuid, fields text[],
    byte_count bigint
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.pending_audit_rows (
        action, reason, entity_type, entity_id, patient_id, consultation_id, fields, byte_count
    ) values (action, reason, entity_type, entity_id, patient_id, consultation_id, fields, byte_count);
end
$$;

-- Writes a pending audit row before the commit, unless a read has written it.
create function private.write_pending_audit_row() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    pending private.pending_audit_rows;
begin
    delete from private.pending_audit_rows as p
    where p.transaction_id = new.transaction_id and p.action = new.action
    returning p.* into pending;
    if found then
        perform private.write_audit_of_entities(
            pending.action, 'ALLOWED', pending.reason,
            private.entities_of(pending.entity_type, array[pending.entity_id]),
            array_remove(array[pending.patient_id], null), array_remove(array[pending.consultation_id], null),
            pending.fields, 1, pending.byte_count, pending.digest
        );
    end if;
    return null;
end
$$;

create constraint trigger pending_audit_rows_write after insert on private.pending_audit_rows
deferrable initially deferred for each row execute function private.write_pending_audit_row();

-- Writes the pending audit row of an action, with the entities and fields that a read of the changed entity shows.
-- Returns false if the transaction has no pending audit row of the action.
create function private.complete_audit_row(
    of_action text, entities jsonb, patient_ids uuid[], consultation_ids uuid[], row_count integer, fields text[]
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    pending private.pending_audit_rows;
begin
    delete from private.pending_audit_rows as p
    where p.transaction_id = pg_current_xact_id() and p.action = of_action
    returning p.* into pending;
    if pending.action is null then
        return false;
    end if;
    perform private.write_audit_of_entities(
        of_action, 'ALLOWED', pending.reason,
        entities || private.entities_of(pending.entity_type, array[pending.entity_id]),
        array(select distinct s.id from unnest(patient_ids || pending.patient_id) as s (id) where s.id is not null),
        array(
            select distinct s.id from unnest(consultation_ids || pending.consultation_id) as s (id)
            where s.id is not null
        ),
        fields, row_count, pending.byte_count, pending.digest
    );
    return true;
end
$$;

-- Writes the audit row of a lookup in a statement that runs with the person's role, and counts one use of a quota.
-- The outer query must use the result of this function, or Postgres does not call the function. An action that only
-- SQL functions may write into the audit log must have a pending audit row, which the lookup then writes. Raises RG403
-- (reserved_action) for such an action without a pending audit row.
create function private.record_lookup(
    action text, entity_type text, asked_type text, asked uuid, is_visible boolean, entities jsonb,
    patient_ids uuid[], consultation_ids uuid[], row_count integer, fields text[], meter text
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
begin
    if exists (
        select from private.audit_actions as a where a.action = record_lookup.action and a.is_reserved
    ) then
        if private.complete_audit_row(action, entities, patient_ids, consultation_ids, row_count, fields) then
            return true;
        end if;
        raise exception 'reserved_action' using errcode = 'RG403';
    end if;
    if meter is not null then
        perform private.use_quota(person, meter);
    end if;
    return private.write_lookup(
        action, entity_type, asked_type, asked, is_visible, entities, patient_ids, consultation_ids, row_count, fields
    );
end
$$;

-- Writes the audit row of a lookup that names no entity (`asked` is null) or only the entity that it returns. Always
-- returns true.
create function private.record_access(
    action text, entity_type text, asked uuid, found_ids uuid[], patient_ids uuid[], consultation_ids uuid[],
    fields text[], meter text
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.record_lookup(
        action, entity_type, entity_type, asked, false, private.entities_of(entity_type, found_ids), patient_ids,
        consultation_ids, coalesce(cardinality(found_ids), 0), fields, meter
    );
    return true;
end
$$;

-- Returns whether a recording, if it exists, is visible to the person. Compliance sees every recording, and a doctor
-- sees the recordings that the row-level security policies show. The function runs with the rights of its caller
-- (SECURITY INVOKER), so the row-level security policies apply.
create function private.shows_recording(of_recording uuid) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.person();
    if current_setting('role') = 'compliance' then
        return true;
    end if;
    return exists (select from resguardo.recordings as r where r.id = of_recording);
end
$$;

-- Writes the audit row of an error in a separate transaction, because the rollback of the failed transaction would
-- also remove an audit row written in it. DENIED means that the person lacks the right, and FAILED means that a
-- condition other than the person's rights prevented the action. The audit row of an error names the requested entity
-- by its id, or a patient or a consultation by its external id. Locked tables do not stop the insert of the audit row,
-- which then lacks the data of these tables.
create function private.record_refusal(
    action text, outcome text, reason text, entity_type text, asked uuid, asked_external_id text
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    entity constant uuid := coalesce(asked, private.known_id(entity_type, asked_external_id));
    about constant private.subjects := private.known_subjects(entity_type, entity);
begin
    if outcome not in ('DENIED', 'FAILED') then
        raise exception 'not_a_refusal' using errcode = 'RG403';
    end if;
    perform private.write_audit(
        action, outcome, reason, entity_type, array_remove(array[entity], null),
        about.patient_ids, about.consultation_ids, '{}', 0, null
    );
end
$$;

-- Records how many requests without a valid token, and how many webhooks without a valid signature, one client
-- address sent within one minute.
create function private.record_rejections(
    action text, from_address inet, rejections integer
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if action not in ('request.reject', 'webhook.reject') then
        raise exception 'not_a_rejection' using errcode = 'RG403';
    end if;
    perform set_config('resguardo.address', coalesce(host(from_address), ''), true);
    perform private.write_audit(
        action, 'DENIED', case action when 'webhook.reject' then 'no_valid_signature' else 'no_valid_token' end,
        'request', '{}', '{}', '{}', '{}', rejections, null
    );
end
$$;

create function private.record_service(
    action text, outcome text, reason text, entity_type text, entity uuid
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit(action, outcome, reason, entity_type, array[entity], '{}', '{}', '{}', 1, null);
end
$$;


-- 05_quotas.sql

-- Quotas: how often a person may do something within one clock hour.

create table private.quotas (
    meter text primary key
    constraint quotas_meter_is_known check (
        meter in ('urls', 'playbacks', 'subtitles', 'pages', 'invitations', 'questions', 'exports')
    ),
    per_hour integer not null constraint quotas_per_hour_is_positive check (per_hour > 0)
);
comment on table private.quotas is
'How often a person may use a meter in one clock hour. `resguardo migrate` loads policies/quotas.toml.';

create table private.usage (
    person_id uuid not null,
    meter text not null constraint usage_meter_is_known check (
        meter in ('urls', 'playbacks', 'subtitles', 'pages', 'invitations', 'questions', 'exports')
    ),
    window_start timestamptz not null,
    used integer not null,
    slot integer not null default 0 constraint usage_slot_is_known check (slot between 0 and 7),
    constraint usage_pkey primary key (person_id, meter, slot)
) with (fillfactor = 50);
comment on table private.usage is
'How often each person used each meter in the last hour of use. A person has at most eight rows for each meter.';
comment on column private.usage.slot is
'Each of the eight slots has a share of the quota. Parallel transactions of one person use different slots.';

-- Counts one request of a person in one of the eight slots of the person's hourly quota. Returns false if the slot
-- has used up its share of the quota. The shares of the eight slots add up to the quota, so the slots together cannot
-- exceed the quota. The slot's row stays locked until the end of the transaction. If the slot's row already belongs
-- to the next hour, the function counts the request in that row, because a transaction may have begun just before
-- that hour.
create function private.use_slot(
    person uuid, of_meter text, of_slot integer, per_hour bigint, this_hour timestamptz
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    share constant bigint := (per_hour + 7 - of_slot) / 8;
begin
    insert into private.usage as u (person_id, meter, slot, window_start, used)
    select person, of_meter, of_slot, this_hour, 1
    where share > 0
    on conflict (person_id, meter, slot) do update set
        used = case when u.window_start in (this_hour, this_hour + interval '1 hour') then u.used + 1 else 1 end,
        window_start = case
            when u.window_start = this_hour + interval '1 hour' then u.window_start else this_hour
        end
    where u.window_start not in (this_hour, this_hour + interval '1 hour') or u.used < share;
    return found;
end
$$;

-- Counts one request of a person in a quota slot that has no row yet. Returns false, and locks nothing, if a
-- concurrent transaction is creating the slot's row, or has created the row and used up the slot's share.
create function private.try_new_slot(
    person uuid, of_meter text, of_slot integer, per_hour bigint, this_hour timestamptz
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '1ms'
as $$
begin
    if not private.use_slot(person, of_meter, of_slot, per_hour, this_hour) then
        raise lock_not_available;
    end if;
    return true;
exception when lock_not_available then
    return false;
end
$$;

-- Counts one request of a person against the hourly quota for its kind (a meter). Raises RG429 if the quota is
-- exceeded; the error's detail is the number of seconds until the next hour. A meter without a quota permits no
-- request at all. Parallel transactions of one person wait for each other only if transactions that have not ended
-- yet have taken all that remains of the quota.
create function private.use_quota(person uuid, of_meter text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    this_hour constant timestamptz := date_trunc('hour', now(), 'UTC');
    next_hour constant timestamptz := this_hour + interval '1 hour';
    per_hour constant bigint := coalesce((select q.per_hour from private.quotas as q where q.meter = of_meter), 0);
    free_slot integer;
    used_before integer;
    is_current boolean;
    is_counted boolean := false;
begin
    if per_hour = 0 then  -- The table refuses an unknown meter. Its text would otherwise become the error's message.
        insert into private.usage (person_id, meter, slot, window_start, used)
        values (person, of_meter, 0, this_hour, 0)
        on conflict do nothing;
    end if;
    select u.slot, u.used, u.window_start in (this_hour, next_hour)
    into free_slot, used_before, is_current
    from private.usage as u
    where u.person_id = person and u.meter = of_meter and (per_hour + 7 - u.slot) / 8 > 0
        and (u.window_start not in (this_hour, next_hour) or u.used < (per_hour + 7 - u.slot) / 8)
    limit 1
    for update skip locked;
    if found then
        update private.usage as u
        set used = case when is_current then used_before + 1 else 1 end,
            window_start = case when is_current then u.window_start else this_hour end
        where u.person_id = person and u.meter = of_meter and u.slot = free_slot;
        is_counted := true;
    end if;
    if not is_counted then
        for free_slot in
            select s.slot from generate_series(0, 7) as s (slot)
            where not exists (
                select from private.usage as u where u.person_id = person and u.meter = of_meter and u.slot = s.slot
            )
            order by (s.slot + pg_backend_pid()) % 8
        loop
            is_counted := private.try_new_slot(person, of_meter, free_slot, per_hour, this_hour);
            exit when is_counted;
        end loop;
    end if;
    if not is_counted and private.used_in(person, of_meter, this_hour) < per_hour then
        for each_slot in 0..7 loop  -- the same order in each transaction, and no wait for a slot in vain: no deadlock
            is_counted := not exists (
                select from private.usage as u
                where u.person_id = person and u.meter = of_meter and u.slot = each_slot
                    and u.window_start in (this_hour, next_hour) and u.used >= (per_hour + 7 - u.slot) / 8
            ) and private.use_slot(person, of_meter, each_slot, per_hour, this_hour);
            exit when is_counted;
        end loop;
    end if;
    if not is_counted or private.used_in(person, of_meter, this_hour) > per_hour then
        raise exception 'quota_%', of_meter using
            errcode = 'RG429', detail = ceil(extract(epoch from next_hour - now()))::integer;
    end if;
end
$$;

-- Counts one page against the caller's quota, for a read that asks a vendor before it knows what it shows. Raises RG429
-- (quota_pages).
create function private.count_page() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.use_quota(private.require_person(), 'pages');
end
$$;

-- Returns how many requests of one kind (a meter) a person has made since the given hour began. The function does not
-- count the requests of transactions that have not ended.
create function private.used_in(person uuid, of_meter text, this_hour timestamptz) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(sum(u.used), 0) from private.usage as u
        where u.person_id = person and u.meter = of_meter
            and u.window_start in (this_hour, this_hour + interval '1 hour')
    );
end
$$;


-- 06_procrastinate.sql

-- The job queue: procrastinate 3.10.0's own schema (MIT licence), in the schema `jobs`. A test compares this file
-- with the package. The functions get a fixed search path because procrastinate's statements do not name the schema.

select pg_catalog.set_config('search_path', 'jobs', true);

-- noqa: disable=all
-- Procrastinate Schema

DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA pg_catalog;
EXCEPTION
    WHEN OTHERS THEN
        -- On managed PostgreSQL services (e.g. Azure Database for PostgreSQL, Amazon RDS,
        -- Google Cloud SQL), CREATE EXTENSION may fail with various error codes:
        -- insufficient_privilege, feature_not_supported, or provider-specific errors.
        -- Before ignoring, verify the extension actually exists — if it does not exist
        -- and cannot be created, re-raise so the failure is explicit.
        IF EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'plpgsql') THEN
            RAISE NOTICE 'plpgsql extension already exists, skipping creation.';
        ELSE
            RAISE;
        END IF;
END;
$$;

-- Enums

CREATE TYPE procrastinate_job_status AS ENUM (
    'todo',  -- The job is queued
    'doing',  -- The job has been fetched by a worker
    'succeeded',  -- The job ended successfully
    'failed',  -- The job ended with an error
    'cancelled', -- The job was cancelled
    'aborting',  -- legacy, not used anymore since v3.0.0
    'aborted'  -- The job was aborted
);

CREATE TYPE procrastinate_job_event_type AS ENUM (
    'deferred',  -- Job created, in todo
    'started',  -- todo -> doing
    'deferred_for_retry',  -- doing -> todo
    'failed',  -- doing -> failed
    'succeeded',  -- doing -> succeeded
    'cancelled', -- todo -> cancelled
    'abort_requested', -- not a state transition, but set in a separate field
    'aborted', -- doing -> aborted (only allowed when abort_requested field is set)
    'scheduled', -- not a state transition, but recording when a task is scheduled for
    'retried' -- Manually retried failed job
);

-- Composite Types

CREATE TYPE procrastinate_job_to_defer_v1 AS (
    queue_name character varying,
    task_name character varying,
    priority integer,
    lock text,
    queueing_lock text,
    args jsonb,
    scheduled_at timestamp with time zone
);

-- Tables

CREATE TABLE procrastinate_workers(
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    last_heartbeat timestamp with time zone NOT NULL DEFAULT NOW()
);

CREATE TABLE procrastinate_jobs (
    id bigserial PRIMARY KEY,
    queue_name character varying(128) NOT NULL,
    task_name character varying(128) NOT NULL,
    priority integer DEFAULT 0 NOT NULL,
    lock text,
    queueing_lock text,
    args jsonb DEFAULT '{}' NOT NULL,
    status procrastinate_job_status DEFAULT 'todo'::procrastinate_job_status NOT NULL,
    scheduled_at timestamp with time zone NULL,
    attempts integer DEFAULT 0 NOT NULL,
    abort_requested boolean DEFAULT false NOT NULL,
    worker_id bigint REFERENCES procrastinate_workers(id) ON DELETE SET NULL,
    CONSTRAINT check_not_todo_abort_requested CHECK (NOT (status = 'todo' AND abort_requested = true))
);

CREATE TABLE procrastinate_periodic_defers (
    id bigserial PRIMARY KEY,
    task_name character varying(128) NOT NULL,
    defer_timestamp bigint,
    job_id bigint REFERENCES procrastinate_jobs(id) NULL,
    periodic_id character varying(128) NOT NULL DEFAULT '',
    CONSTRAINT procrastinate_periodic_defers_unique UNIQUE (task_name, periodic_id, defer_timestamp)
);

CREATE TABLE procrastinate_events (
    id bigserial PRIMARY KEY,
    job_id bigint NOT NULL REFERENCES procrastinate_jobs ON DELETE CASCADE,
    type procrastinate_job_event_type,
    at timestamp with time zone DEFAULT NOW() NULL
);

-- Constraints & Indices

-- this prevents from having several jobs with the same queueing lock in the "todo" state
CREATE UNIQUE INDEX procrastinate_jobs_queueing_lock_idx_v1 ON procrastinate_jobs (queueing_lock) WHERE status = 'todo';
-- this prevents from having several jobs with the same lock in the "doing" state
CREATE UNIQUE INDEX procrastinate_jobs_lock_idx_v1 ON procrastinate_jobs (lock) WHERE status = 'doing';

-- Index for select_stalled_jobs_by_heartbeat query
CREATE INDEX idx_procrastinate_jobs_worker_not_null ON procrastinate_jobs(worker_id) WHERE worker_id IS NOT NULL AND status = 'doing'::procrastinate_job_status;

CREATE INDEX procrastinate_jobs_queue_name_idx_v1 ON procrastinate_jobs(queue_name);
CREATE INDEX procrastinate_jobs_id_lock_idx_v1 ON procrastinate_jobs (id, lock) WHERE status = ANY (ARRAY['todo'::procrastinate_job_status, 'doing'::procrastinate_job_status]);
CREATE INDEX procrastinate_jobs_priority_idx_v1 ON procrastinate_jobs(priority desc, id asc) WHERE (status = 'todo'::procrastinate_job_status);

CREATE INDEX procrastinate_events_job_id_fkey_v1 ON procrastinate_events(job_id);

CREATE INDEX procrastinate_periodic_defers_job_id_fkey_v1 ON procrastinate_periodic_defers(job_id);

CREATE INDEX idx_procrastinate_workers_last_heartbeat ON procrastinate_workers(last_heartbeat);

-- Functions
CREATE FUNCTION procrastinate_defer_jobs_v1(
    jobs procrastinate_job_to_defer_v1[]
)
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $$
DECLARE
    job_ids bigint[];
BEGIN
    WITH inserted_jobs AS (
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
        SELECT (job).queue_name,
               (job).task_name,
               (job).priority,
               (job).lock,
               (job).queueing_lock,
               (job).args,
               (job).scheduled_at
        FROM unnest(jobs) AS job
        RETURNING id
    )
    SELECT array_agg(id) FROM inserted_jobs INTO job_ids;

    RETURN job_ids;
END;
$$;

CREATE FUNCTION procrastinate_defer_periodic_job_v2(
    _queue_name character varying,
    _lock character varying,
    _queueing_lock character varying,
    _task_name character varying,
    _priority integer,
    _periodic_id character varying,
    _defer_timestamp bigint,
    _args jsonb
)
    RETURNS bigint
    LANGUAGE plpgsql
AS $$
DECLARE
	_job_id bigint;
	_defer_id bigint;
BEGIN
    INSERT
        INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
        VALUES (_task_name, _periodic_id, _defer_timestamp)
        ON CONFLICT DO NOTHING
        RETURNING id into _defer_id;

    IF _defer_id IS NULL THEN
        RETURN NULL;
    END IF;

    UPDATE procrastinate_periodic_defers
        SET job_id = (
            SELECT COALESCE((
                SELECT unnest(procrastinate_defer_jobs_v1(
                    ARRAY[
                        ROW(
                            _queue_name,
                            _task_name,
                            _priority,
                            _lock,
                            _queueing_lock,
                            _args,
                            NULL::timestamptz
                        )
                    ]::procrastinate_job_to_defer_v1[]
                ))
            ), NULL)
        )
        WHERE id = _defer_id
        RETURNING job_id INTO _job_id;

    DELETE
        FROM procrastinate_periodic_defers
        USING (
            SELECT id
            FROM procrastinate_periodic_defers
            WHERE procrastinate_periodic_defers.task_name = _task_name
            AND procrastinate_periodic_defers.periodic_id = _periodic_id
            AND procrastinate_periodic_defers.defer_timestamp < _defer_timestamp
            ORDER BY id
            FOR UPDATE
        ) to_delete
        WHERE procrastinate_periodic_defers.id = to_delete.id;

    RETURN _job_id;
END;
$$;

CREATE FUNCTION procrastinate_fetch_job_v2(
    target_queue_names character varying[],
    p_worker_id bigint
)
    RETURNS procrastinate_jobs
    LANGUAGE plpgsql
AS $$
DECLARE
	found_jobs procrastinate_jobs;
BEGIN
    WITH candidate AS (
        SELECT jobs.*
            FROM procrastinate_jobs AS jobs
            WHERE
                -- reject the job if its lock has earlier or higher priority jobs
                NOT EXISTS (
                    SELECT 1
                        FROM procrastinate_jobs AS other_jobs
                        WHERE
                            jobs.lock IS NOT NULL
                            AND other_jobs.lock = jobs.lock
                            AND (
                                -- job with same lock is already running
                                other_jobs.status = 'doing'
                                OR
                                -- job with same lock is waiting and has higher priority (or same priority but was queued first)
                                (
                                    other_jobs.status = 'todo'
                                    AND (
                                        other_jobs.priority > jobs.priority
                                        OR (
                                        other_jobs.priority = jobs.priority
                                        AND other_jobs.id < jobs.id
                                        )
                                    )
                                )
                            )
                )
                AND jobs.status = 'todo'
                AND (target_queue_names IS NULL OR jobs.queue_name = ANY( target_queue_names ))
                AND (jobs.scheduled_at IS NULL OR jobs.scheduled_at <= now())
            ORDER BY jobs.priority DESC, jobs.id ASC LIMIT 1
            FOR UPDATE OF jobs SKIP LOCKED
    )
    UPDATE procrastinate_jobs
        SET status = 'doing', worker_id = p_worker_id
        FROM candidate
        WHERE procrastinate_jobs.id = candidate.id
        RETURNING procrastinate_jobs.* INTO found_jobs;

 RETURN found_jobs;
END;
$$;

CREATE FUNCTION procrastinate_finish_job_v1(job_id bigint, end_status procrastinate_job_status, delete_job boolean)
    RETURNS void
    LANGUAGE plpgsql
AS $$
DECLARE
    _job_id bigint;
BEGIN
    IF end_status NOT IN ('succeeded', 'failed', 'aborted') THEN
        RAISE 'End status should be either "succeeded", "failed" or "aborted" (job id: %)', job_id;
    END IF;
    IF delete_job THEN
        DELETE FROM procrastinate_jobs
        WHERE id = job_id AND status IN ('todo', 'doing')
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = end_status,
            abort_requested = false,
            attempts = CASE status
                WHEN 'doing' THEN attempts + 1 ELSE attempts
            END
        WHERE id = job_id AND status IN ('todo', 'doing')
        RETURNING id INTO _job_id;
    END IF;
    IF _job_id IS NULL THEN
        RAISE 'Job was not found or not in "doing" or "todo" status (job id: %)', job_id;
    END IF;
END;
$$;

CREATE FUNCTION procrastinate_cancel_job_v1(job_id bigint, abort boolean, delete_job boolean)
    RETURNS bigint
    LANGUAGE plpgsql
AS $$
DECLARE
    _job_id bigint;
BEGIN
    IF delete_job THEN
        DELETE FROM procrastinate_jobs
        WHERE id = job_id AND status = 'todo'
        RETURNING id INTO _job_id;
    END IF;
    IF _job_id IS NULL THEN
        IF abort THEN
            UPDATE procrastinate_jobs
            SET abort_requested = true,
                status = CASE status
                    WHEN 'todo' THEN 'cancelled'::procrastinate_job_status ELSE status
                END
            WHERE id = job_id AND status IN ('todo', 'doing')
            RETURNING id INTO _job_id;
        ELSE
            UPDATE procrastinate_jobs
            SET status = 'cancelled'::procrastinate_job_status
            WHERE id = job_id AND status = 'todo'
            RETURNING id INTO _job_id;
        END IF;
    END IF;
    RETURN _job_id;
END;
$$;

CREATE FUNCTION procrastinate_retry_job_v1(
    job_id bigint,
    retry_at timestamp with time zone,
    new_priority integer,
    new_queue_name character varying,
    new_lock character varying
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    _job_id bigint;
    _abort_requested boolean;
BEGIN
    SELECT abort_requested FROM procrastinate_jobs
    WHERE id = job_id AND status = 'doing'
    FOR UPDATE
    INTO _abort_requested;
    IF _abort_requested THEN
        UPDATE procrastinate_jobs
        SET status = 'failed'::procrastinate_job_status
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = 'todo'::procrastinate_job_status,
            attempts = attempts + 1,
            scheduled_at = retry_at,
            priority = COALESCE(new_priority, priority),
            queue_name = COALESCE(new_queue_name, queue_name),
            lock = COALESCE(new_lock, lock)
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    END IF;

    IF _job_id IS NULL THEN
        RAISE 'Job was not found or not in "doing" status (job id: %)', job_id;
    END IF;
END;
$$;

CREATE FUNCTION procrastinate_retry_job_v2(
    job_id bigint,
    retry_at timestamp with time zone,
    new_priority integer,
    new_queue_name character varying,
    new_lock character varying
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    _job_id bigint;
    _abort_requested boolean;
    _current_status procrastinate_job_status;
BEGIN
    SELECT status, abort_requested FROM procrastinate_jobs
    WHERE id = job_id AND status IN ('doing', 'failed')
    FOR UPDATE
    INTO _current_status, _abort_requested;
    IF _current_status = 'doing' AND _abort_requested THEN
        UPDATE procrastinate_jobs
        SET status = 'failed'::procrastinate_job_status
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = 'todo'::procrastinate_job_status,
            attempts = attempts + 1,
            scheduled_at = retry_at,
            priority = COALESCE(new_priority, priority),
            queue_name = COALESCE(new_queue_name, queue_name),
            lock = COALESCE(new_lock, lock)
        WHERE id = job_id AND status IN ('doing', 'failed')
        RETURNING id INTO _job_id;
    END IF;

    IF _job_id IS NULL THEN
        RAISE 'Job was not found or has an invalid status to retry (job id: %)', job_id;
    END IF;

END;
$$;

CREATE FUNCTION procrastinate_notify_queue_job_inserted_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    payload TEXT;
BEGIN
    SELECT json_build_object('type', 'job_inserted', 'job_id', NEW.id)::text INTO payload;
	PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);
	PERFORM pg_notify('procrastinate_any_queue_v1', payload);
	RETURN NEW;
END;
$$;

CREATE FUNCTION procrastinate_notify_queue_abort_job_v1()
RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    payload TEXT;
BEGIN
    SELECT json_build_object('type', 'abort_job_requested', 'job_id', NEW.id)::text INTO payload;
	PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);
	PERFORM pg_notify('procrastinate_any_queue_v1', payload);
	RETURN NEW;
END;
$$;

CREATE FUNCTION procrastinate_trigger_function_status_events_insert_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type)
        VALUES (NEW.id, 'deferred'::procrastinate_job_event_type);
	RETURN NEW;
END;
$$;

CREATE FUNCTION procrastinate_trigger_function_status_events_update_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    WITH t AS (
        SELECT CASE
            WHEN OLD.status = 'todo'::procrastinate_job_status
                AND NEW.status = 'doing'::procrastinate_job_status
                THEN 'started'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'todo'::procrastinate_job_status
                THEN 'deferred_for_retry'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'failed'::procrastinate_job_status
                THEN 'failed'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'succeeded'::procrastinate_job_status
                THEN 'succeeded'::procrastinate_job_event_type
            WHEN OLD.status = 'todo'::procrastinate_job_status
                AND (
                    NEW.status = 'cancelled'::procrastinate_job_status
                    OR NEW.status = 'failed'::procrastinate_job_status
                    OR NEW.status = 'succeeded'::procrastinate_job_status
                )
                THEN 'cancelled'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'aborted'::procrastinate_job_status
                THEN 'aborted'::procrastinate_job_event_type
            WHEN OLD.status = 'failed'::procrastinate_job_status
                AND NEW.status = 'todo'::procrastinate_job_status
                THEN 'retried'::procrastinate_job_event_type
            ELSE NULL
        END as event_type
    )
    INSERT INTO procrastinate_events(job_id, type)
        SELECT NEW.id, t.event_type
        FROM t
        WHERE t.event_type IS NOT NULL;
	RETURN NEW;
END;
$$;

CREATE FUNCTION procrastinate_trigger_function_scheduled_events_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type, at)
        VALUES (NEW.id, 'scheduled'::procrastinate_job_event_type, NEW.scheduled_at);

	RETURN NEW;
END;
$$;

CREATE FUNCTION procrastinate_trigger_abort_requested_events_procedure_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type)
        VALUES (NEW.id, 'abort_requested'::procrastinate_job_event_type);
    RETURN NEW;
END;
$$;

CREATE FUNCTION procrastinate_unlink_periodic_defers_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE procrastinate_periodic_defers
    SET job_id = NULL
    WHERE job_id = OLD.id;
    RETURN OLD;
END;
$$;

CREATE FUNCTION procrastinate_register_worker_v1()
    RETURNS TABLE(worker_id bigint)
    LANGUAGE plpgsql
AS $$
BEGIN
    RETURN QUERY
    INSERT INTO procrastinate_workers DEFAULT VALUES
    RETURNING procrastinate_workers.id;
END;
$$;

CREATE FUNCTION procrastinate_unregister_worker_v1(worker_id bigint)
    RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM procrastinate_workers
    WHERE id = worker_id;
END;
$$;

CREATE FUNCTION procrastinate_update_heartbeat_v1(worker_id bigint)
    RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE procrastinate_workers
    SET last_heartbeat = NOW()
    WHERE id = worker_id;
END;
$$;

CREATE FUNCTION procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat float)
    RETURNS TABLE(worker_id bigint)
    LANGUAGE plpgsql
AS $$
BEGIN
    RETURN QUERY
    DELETE FROM procrastinate_workers
    WHERE last_heartbeat < NOW() - (seconds_since_heartbeat || 'SECOND')::INTERVAL
    RETURNING procrastinate_workers.id;
END;
$$;

-- Triggers

CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1
    AFTER INSERT ON procrastinate_jobs
    FOR EACH ROW WHEN ((new.status = 'todo'::procrastinate_job_status))
    EXECUTE PROCEDURE procrastinate_notify_queue_job_inserted_v1();

CREATE TRIGGER procrastinate_jobs_notify_queue_job_aborted_v1
    AFTER UPDATE OF abort_requested ON procrastinate_jobs
    FOR EACH ROW WHEN ((old.abort_requested = false AND new.abort_requested = true AND new.status = 'doing'::procrastinate_job_status))
    EXECUTE PROCEDURE procrastinate_notify_queue_abort_job_v1();

CREATE TRIGGER procrastinate_trigger_status_events_update_v1
    AFTER UPDATE OF status ON procrastinate_jobs
    FOR EACH ROW
    EXECUTE PROCEDURE procrastinate_trigger_function_status_events_update_v1();

CREATE TRIGGER procrastinate_trigger_status_events_insert_v1
    AFTER INSERT ON procrastinate_jobs
    FOR EACH ROW WHEN ((new.status = 'todo'::procrastinate_job_status))
    EXECUTE PROCEDURE procrastinate_trigger_function_status_events_insert_v1();

CREATE TRIGGER procrastinate_trigger_scheduled_events_v1
    AFTER UPDATE OR INSERT ON procrastinate_jobs
    FOR EACH ROW WHEN ((new.scheduled_at IS NOT NULL AND new.status = 'todo'::procrastinate_job_status))
    EXECUTE PROCEDURE procrastinate_trigger_function_scheduled_events_v1();

CREATE TRIGGER procrastinate_trigger_abort_requested_events_v1
    AFTER UPDATE OF abort_requested ON procrastinate_jobs
    FOR EACH ROW WHEN ((new.abort_requested = true))
    EXECUTE PROCEDURE procrastinate_trigger_abort_requested_events_procedure_v1();

CREATE TRIGGER procrastinate_trigger_delete_jobs_v1
    BEFORE DELETE ON procrastinate_jobs
    FOR EACH ROW EXECUTE PROCEDURE procrastinate_unlink_periodic_defers_v1();
-- noqa: enable=all

do $$
declare
    routine regprocedure;
begin
    for routine in select p.oid from pg_catalog.pg_proc as p where p.pronamespace = 'jobs'::regnamespace loop
        execute pg_catalog.format('alter function %s set search_path = pg_catalog, jobs, pg_temp', routine);
    end loop;
end
$$;

select pg_catalog.set_config('search_path', 'public', true);


-- 07_jobs.sql

-- The tasks that the functions of the schema `private` may queue, and the roles of people that may queue each task.

create table private.tasks (
    name text primary key constraint tasks_name_is_slug check (name ~ '^[a-z][a-z_]{0,63}$'),
    queue text not null
    constraint tasks_queue_is_known check (queue in ('default', 'starts', 'media', 'transcription', 'language')),
    may_defer text[] not null
);
comment on column private.tasks.may_defer is
'The roles of people that may queue this task, each for their own entities only.';

insert into private.tasks (name, queue, may_defer)
values
('start_recording', 'starts', '{clinician}'),
('stop_recording', 'default', '{clinician}'),
('enforce_consent', 'default', '{clinician, patient}'),
('verify_recording', 'media', '{}'),
('ban_user', 'default', '{}'),
('reset_second_factor', 'default', '{}'),
('reassign_consultations', 'default', '{}'),
('invite_staff', 'default', '{}'),
('prepare_import', 'default', '{clinician}'),
('secure_held', 'default', '{}'),
('export_access_request', 'media', '{}'),
('export_audit_events', 'media', '{}'),
('count_breach', 'default', '{}'),
('transcribe_recording', 'transcription', '{}'),
('write_insights', 'language', '{}'),
('write_note_section', 'language', '{}'),
('make_clip', 'media', '{}'),
('make_thumbnail', 'media', '{}');

-- Queues a job of the given task within the caller's transaction; the job has one id as its argument. The worker
-- never runs two jobs of one task for the same id at once.
create function private.defer_job(task text, argument uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    asker constant text := current_setting('role');
begin
    if not exists (
        select from private.tasks as t
        where t.name = task and (asker not in ('clinician', 'patient') or asker = any (t.may_defer))
    ) then
        raise exception 'unknown_task' using errcode = 'RG403';
    end if;
    if asker in ('clinician', 'patient') then
        perform private.require_own_consultation(
            case task
                when 'enforce_consent' then argument
                when 'prepare_import' then (
                    select i.consultation_id from resguardo.recording_imports as i where i.id = argument
                )
                else (select r.consultation_id from resguardo.recordings as r where r.id = argument)
            end
        );
    end if;
    perform private.put_job(task, argument);
end
$$;

-- Queues a job of the given task; the job has one id as its argument. The function that calls put_job() must already
-- have checked the person's access. Jobs that have the same task and the same id run one at a time. Slow tasks (a
-- start that waits for LiveKit, reading a whole object) have a separate queue, so that urgent jobs never wait behind
-- a slow job.
create function private.put_job(task text, argument uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform jobs.procrastinate_defer_jobs_v1(array[
        row(
            (select t.queue from private.tasks as t where t.name = task),
            task, 0, task || ':' || argument, null,
            jsonb_build_object('id', argument), null
        )::jobs.procrastinate_job_to_defer_v1
    ]);
end
$$;


-- 08_leadership.sql

-- The lease of the worker that runs the periodic tasks. At most one worker holds the leader's lease at a time.

-- The leader's lease: one row that names the worker that leads, with times by the database's clock. Only the worker's
-- login can write the leader's lease.
create table private.leadership (
    of text primary key constraint leadership_of_is_known check (of = 'periodic_tasks'),
    number bigint not null default 0,
    leader text constraint leadership_leader_is_short check (char_length(leader) <= 200),
    taken_at timestamptz,
    renewed_at timestamptz,
    expires_at timestamptz
);
comment on table private.leadership is
'The leading worker. A lease that is neither renewed nor given back ends at expires_at: another worker takes it.';
comment on column private.leadership.number is
'Counts the leases. A transaction of a periodic task names its lease, and is refused once a later lease exists.';
comment on column private.leadership.leader is
'The host and process that hold the lease; null after the lease was given back.';

insert into private.leadership (of) values ('periodic_tasks');

create function private.lease_length() returns interval
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return interval '15 seconds';
end
$$;

-- Makes the calling worker the leader. Returns the number of the new lease, how many seconds ago a worker last led
-- (null if none ever did), and the worker whose lease expired (null if the previous leader gave the lease back).
-- Returns no row while a worker other than the caller leads. A worker that led before passes the number of its former
-- lease. If the stored end of a lease is further away than the longest possible lease, a wrong clock wrote it, and
-- the lease counts as expired.
create function private.take_lease(by_leader text, former_number bigint)
returns table (number bigint, seconds_unled double precision, lapsed_leader text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    known private.leadership;
    now timestamptz;
begin
    select l.* into strict known from private.leadership as l where l.of = 'periodic_tasks' for update;
    now := clock_timestamp();
    if known.leader is not null and known.number is distinct from former_number
        and known.expires_at > now and known.expires_at <= now + private.lease_length()
    then
        return;
    end if;
    update private.leadership as l
    set number = known.number + 1, leader = left(by_leader, 200), taken_at = now, renewed_at = now,
        expires_at = now + private.lease_length()
    where l.of = 'periodic_tasks';
    return query
    select known.number + 1,
        case when known.renewed_at < now then extract(epoch from now - known.renewed_at)::double precision end,
        case when known.number is distinct from former_number then known.leader end;
end
$$;

-- Renews the leader's lease, and returns whether the calling worker still holds the lease. A lease that has expired
-- is not renewed.
create function private.renew_lease(of_number bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    now constant timestamptz := clock_timestamp();
begin
    update private.leadership as l
    set renewed_at = now, expires_at = now + private.lease_length()
    where l.of = 'periodic_tasks' and l.number = of_number and l.leader is not null and l.expires_at > now;
    return found;
end
$$;

-- Ends the caller's own leader's lease early, so that the next leader need not wait until the lease expires.
create function private.give_lease_back(of_number bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.leadership as l
    set leader = null, renewed_at = clock_timestamp(), expires_at = clock_timestamp()
    where l.of = 'periodic_tasks' and l.number = of_number and l.leader is not null;
end
$$;

-- Raises RG409 (lead_lost) if a different worker has become the leader since the caller took its lease. A worker
-- process that the operating system had suspended may wake up in the middle of a periodic task that the new leader
-- now runs.
create function private.require_lease(of_number bigint) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from private.leadership as l where l.of = 'periodic_tasks' and l.number = of_number) then
        raise exception 'lead_lost' using errcode = 'RG409';
    end if;
end
$$;

-- Returns the last time at which a worker was the leader (null if none ever was), and how many seconds ago that was
-- (0 while a worker leads).
create function private.last_led() returns table (led_until timestamptz, seconds double precision)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select l.renewed_at,
        case
            when l.leader is not null and l.expires_at > clock_timestamp() then 0
            else extract(epoch from greatest(clock_timestamp(), l.renewed_at) - l.renewed_at)
        end::double precision
    from private.leadership as l
    where l.of = 'periodic_tasks';
end
$$;


-- 09_clock.sql

-- The retention clock, which never goes back, and the row locks that make transactions run one after the other.

-- The latest time on which the database's clock and the bucket's clock agreed. Retention terms count from the time of
-- the retention clock, so a database clock that jumps back makes no recording due sooner.
create table private.keeping_clock (
    singleton boolean primary key default true constraint keeping_clock_is_single check (singleton),
    highest timestamptz not null
);

insert into private.keeping_clock (highest) values ('-infinity');

-- Rows that transactions lock in order to run one after the other. The functions use no advisory locks, because every
-- database login can take an advisory lock. The logins of the API and the worker can lock a row of this table only
-- through functions of the schema `private`.
create table private.turns (
    of text primary key constraint turns_of_is_known check (of in ('keeping', 'policies', 'bucket')),
    holder uuid,
    held_until timestamptz
);
comment on table private.turns is
'Rows that transactions lock to take turns. Only the turn at the bucket''s rules outlasts a transaction.';
comment on column private.turns.holder is
'The process that may write the bucket''s rules until held_until. Null in the other rows.';

insert into private.turns (of) values ('keeping'), ('policies'), ('bucket');

-- Returns the time by the database's clock. Every check whether a recording is due or held, or a request overdue,
-- uses this function.
create function private.now() returns timestamptz
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    return clock_timestamp();
end
$$;

create function private.latest_time() returns timestamptz
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return greatest(private.now(), (select c.highest from private.keeping_clock as c));
end
$$;

-- Law 7: takes the keeping lock, which a transaction that destroys a recording takes shared, and a transaction that
-- places a legal hold takes exclusively (`alone`). Each transaction keeps the keeping lock until it ends, so no
-- destruction begins while a legal hold is being placed.
create function private.lock_keeping(alone boolean) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if alone then
        perform from private.turns as t where t.of = 'keeping' for update;
    else
        perform from private.turns as t where t.of = 'keeping' for share;
    end if;
    if not found then
        raise exception 'turn_missing';
    end if;
end
$$;

create function private.today() returns date
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (private.now() at time zone 'UTC')::date;
end
$$;


-- 10_staff.sql

-- Members of staff: clinicians and compliance officers.

create table resguardo.staff (
    user_id uuid primary key,
    id uuid not null default gen_random_uuid() constraint staff_id_key unique,
    role text not null constraint staff_role_is_known check (role in ('clinician', 'compliance')),
    status text not null default 'active' constraint staff_status_is_known check (status in ('active', 'suspended')),
    suspended_at timestamptz,
    suspended_by uuid,
    created_at timestamptz not null default now(),
    origin text not null default 'OWN' constraint staff_origin_is_known check (origin in ('OWN', 'MAPPED')),
    mapped_role text constraint staff_mapped_role_is_known check (mapped_role in ('clinician', 'compliance')),
    role_given_at timestamptz not null default clock_timestamp(),
    published_name text constraint staff_published_name_is_plain check (
        length(published_name) between 1 and 100 and published_name = btrim(published_name)
        and published_name !~ '[[:cntrl:]]'
    ),
    constraint staff_suspension_is_whole check ((status = 'suspended') = (suspended_at is not null))
);
alter table resguardo.staff enable row level security;
create index staff_created_idx on resguardo.staff (created_at desc, id desc);
comment on column resguardo.staff.id is
'The id of the membership. The API names a person''s login by user_id and their membership by this id.';
comment on column resguardo.staff.origin is
'OWN: invited, or added by the owner. MAPPED: created by the adopter''s role table, which changes no other row.';
comment on column resguardo.staff.mapped_role is
'The role that the adopter''s role table gives to a MAPPED member now, even during a suspension. Null if none.';
comment on column resguardo.staff.role_given_at is
'When the member got the role last: as a new member, by a change of the role, or by a reinstatement.';
comment on column resguardo.staff.published_name is
'The name that compliance publishes for the member. The practice shows it, for example to patients. Never in a log.';
comment on column resguardo.staff.suspended_by is
'The nil UUID if the adopter''s role table suspended the member. Then only the role table can end the suspension.';

-- Returns the published name of a member of staff, or null if compliance has not set one.
create function private.published_name(user_id uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (select s.published_name from resguardo.staff as s where s.user_id = published_name.user_id);
end
$$;

-- Sets or removes (null) the published name of a member of staff, and returns the member. Returns no row, and writes
-- the audit row, if the member does not exist.
create function private.publish_staff_name(member uuid, of_name text) returns setof resguardo.staff
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    is_member boolean;
begin
    perform private.person();
    update resguardo.staff as s set published_name = of_name where s.user_id = member;
    is_member := found;
    perform private.write_audit(
        'staff.publish_name', case when is_member then 'ALLOWED' else 'ABSENT' end, null,
        'staff', array[member], '{}', '{}', array['publishedName'], is_member::integer, null
    );
    return query select s.* from resguardo.staff as s where s.user_id = member;
end
$$;

-- Returns when a person last used their login with success, or null if they never did: the time of their newest event
-- in the audit log that is ALLOWED, such as a read or a sign-in. Refused attempts are no use. The index of the actor
-- gives the newest events, so no read writes anything for this. If the newest 1,000 events are all refusals, the
-- search of the audit log finds the event.
create function private.last_use(of_user uuid) returns timestamptz
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    used_at timestamptz;
    looked_at integer := 0;
    event record;
begin
    perform private.person();
    for event in
        select e.outcome, coalesce(e.occurred_at, e.recorded_at) as happened_at
        from audit.events as e
        where e.actor_id = of_user
        order by e.recorded_at desc, e.id desc
        limit 1000
    loop
        if event.outcome = 'ALLOWED' then
            return event.happened_at;
        end if;
        looked_at := looked_at + 1;
    end loop;
    if looked_at = 1000 then
        select coalesce(f.occurred_at, f.recorded_at) into used_at
        from private.find_audit_events(
            row(of_user, null, array['ALLOWED'], null, null, null, null, null, null, null, null)::private.audit_filter,
            null, null, 1
        ) as f;
    end if;
    return used_at;
end
$$;

-- Suspends a member of staff at once and returns the member. The function makes the member inactive, deletes all of
-- the member's sessions, stops all of the member's recordings and exports, and queues the member's ban at the identity
-- provider. Returns no row if the member does not exist. If two members suspend each other at the same time, only one
-- of the suspensions succeeds. A suspension by compliance replaces a suspension by the adopter's role table, and a
-- change of the role table can then no longer end the suspension. Raises RG409 (own_suspension).
create function private.suspend_staff(member uuid) returns setof resguardo.staff
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person uuid;
    is_member boolean;
begin
    perform private.person();
    perform from resguardo.staff as s where s.user_id in (private.uid(), member) order by s.user_id for update;
    person := private.person();  -- checked again under the lock because two members may suspend each other
    if member = person then
        raise exception 'own_suspension' using errcode = 'RG409';
    end if;
    update resguardo.staff as s
    set status = 'suspended', suspended_at = coalesce(s.suspended_at, clock_timestamp()),
        suspended_by = coalesce(nullif(s.suspended_by, '00000000-0000-0000-0000-000000000000'), person)
    where s.user_id = member;
    is_member := found;
    perform private.write_audit(
        'staff.suspend', case when is_member then 'ALLOWED' else 'ABSENT' end, null,
        'staff', array[member], '{}', '{}', array['status'], is_member::integer, null
    );
    if not is_member then
        return;
    end if;
    perform private.end_work_of(member);
    perform private.defer_job('ban_user', member);
    return query select s.* from resguardo.staff as s where s.user_id = member;
end
$$;

-- Deletes every session of the members whom compliance suspended, and returns how many sessions it deleted. A
-- suspended member can still have a session, because a sign-in that began before the ban may commit its session after
-- the ban. Members whom the adopter's role table suspended keep their sessions, because they may be users of the
-- adopter's own application. Law 4 (an ended session gives no access) does not depend on end_sessions_of_suspended(),
-- because private.person() refuses every suspended member.
create function private.end_sessions_of_suspended() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ended integer := 0;
begin
    delete from auth.sessions as s
    using resguardo.staff as m
    where m.user_id = s.user_id and m.status = 'suspended'
        and m.suspended_by is distinct from '00000000-0000-0000-0000-000000000000';
    get diagnostics ended = row_count;
    return ended;
exception when insufficient_privilege then
    return 0; -- the Supabase project does not permit it, as in end_work_of()
end
$$;

-- Stops every recording and every export of a member, withdraws the member's proposals, and deletes every session of
-- the member.
create function private.end_work_of(member uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    stopped uuid;
begin
    for stopped in
        update resguardo.recordings as r
        set status = case r.status when 'REQUESTED' then 'ABORTED' else 'STOPPING' end, error = 'staff_suspended'
        where r.doctor_id = member and r.status in ('REQUESTED', 'STARTING', 'RECORDING')
        returning r.id
    loop
        perform private.defer_job('stop_recording', stopped);
    end loop;
    perform private.stop_audit_exports_of(member);
    perform private.withdraw_proposals_of(member);
    perform private.end_sessions_of(member);
end
$$;

-- Deletes every session of a person. Returns false if the Supabase project does not permit it. The status of a
-- suspended member alone already denies all access.
create function private.end_sessions_of(person uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    delete from auth.sessions as s where s.user_id = person;
    return true;
exception when insufficient_privilege then
    return false;
end
$$;

-- Applies one row of the adopter's role table: the role of one login, or null for no role. The function map_staff()
-- adds members of staff, changes their role, and suspends members that the adopter's role table no longer names.
-- map_staff() never changes members who were invited or added by the owner, never ends a suspension by compliance,
-- and ignores the login of a patient. The function stores the mapped role of a MAPPED member in every case, because a
-- reinstatement by compliance needs it. See supabase/adopters/map_roles.sql. Raises RG409 (role_unknown).
create function private.map_staff(login uuid, mapped_role text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    nobody constant uuid := '00000000-0000-0000-0000-000000000000';
    basis constant text := coalesce(current_setting('resguardo.service_reason', true), '');
    member resguardo.staff;
    patient uuid;
    step text;
begin
    if mapped_role not in ('clinician', 'compliance') then
        raise exception 'role_unknown' using errcode = 'RG409';
    end if;
    perform private.lock_login(login);
    select s.* into member from resguardo.staff as s where s.user_id = login for update;
    select p.id into patient from resguardo.patients as p where p.user_id = login;
    step := case
        when member.user_id is null and mapped_role is null then null
        when member.user_id is null and patient is not null then 'refuse'
        when member.user_id is null then 'add'
        when member.origin <> 'MAPPED' then null
        when mapped_role is null then case member.status when 'active' then 'suspend' end
        when member.status = 'suspended' and member.suspended_by is distinct from nobody then null
        when member.status = 'suspended' or member.role <> mapped_role then 'change'
    end;
    if member.origin = 'MAPPED' then
        update resguardo.staff as s set mapped_role = map_staff.mapped_role where s.user_id = login;
    end if;
    if step is null then
        return;
    end if;
    perform set_config('resguardo.service_reason', 'role_mapping', true);
    perform private.write_audit(
        'staff.map', case step when 'refuse' then 'FAILED' else 'ALLOWED' end,
        case step when 'refuse' then 'login_is_patient' else step || '_' || coalesce(mapped_role, member.role) end,
        'staff', array[login], array_remove(array[patient], null), '{}', array['role', 'status'],
        (step <> 'refuse')::integer, null
    );
    if step = 'add' then
        insert into resguardo.staff (user_id, role, origin, mapped_role)
        values (login, map_staff.mapped_role, 'MAPPED', map_staff.mapped_role);
    elsif step = 'suspend' then
        update resguardo.staff as s
        set status = 'suspended', suspended_at = clock_timestamp(), suspended_by = nobody
        where s.user_id = login;
    elsif step = 'change' then
        update resguardo.staff as s
        set role = map_staff.mapped_role, status = 'active', suspended_at = null, suspended_by = null,
            role_given_at = clock_timestamp()
        where s.user_id = login;
    end if;
    if step = 'suspend' or (step = 'change' and member.role <> mapped_role) then
        perform private.end_work_of(login);
    end if;
    perform set_config('resguardo.service_reason', basis, true);
end
$$;

-- Returns whether a member of staff is an active clinician.
create function private.is_active_clinician(member uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.staff as s where s.user_id = member and s.role = 'clinician' and s.status = 'active'
    );
end
$$;


-- 11_staff_invitations.sql

-- Invitations of new members of staff, and the logins that invited people receive.

create table private.staff_invitations (
    id uuid primary key default gen_random_uuid(),
    email text not null
    constraint staff_invitations_email_is_normal check (
        email = lower(email) and length(email) between 3 and 254 and email ~ '^[^@[:space:]]+@[^@[:space:]]+$'
    ),
    role text not null constraint staff_invitations_role_is_known check (role in ('clinician', 'compliance')),
    invited_by uuid,
    status text not null default 'PENDING'
    constraint staff_invitations_status_is_known check (status in ('PENDING', 'SENT', 'FAILED')),
    user_id uuid,
    error text constraint staff_invitations_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    created_at timestamptz not null default clock_timestamp(),
    settled_at timestamptz,
    constraint staff_invitations_settlement_is_whole check (
        (status = 'PENDING') = (settled_at is null)
        and (status = 'FAILED') = (error is not null)
        and (status = 'SENT') = (user_id is not null)
    )
);
comment on table private.staff_invitations is
'Invited addresses. Logs, jobs and the audit log name an invitation only by its id, never by the address.';
comment on column private.staff_invitations.invited_by is
'Null if the owner invited the person with `resguardo staff add`.';
create unique index staff_invitations_one_pending_key on private.staff_invitations (email) where status = 'PENDING';
create index staff_invitations_created_idx on private.staff_invitations (created_at desc, id desc);

-- Returns the login with an email address, and the reason why the login may not become a member of staff (null if it
-- may). Returns nulls if no login has the email address. The function returns a login with an unconfirmed address as
-- usable only if an invitation by Resguardo created the login. Anyone can create a login with an unconfirmed address
-- and a password of their own, but an invitation creates a login without a password (supabase/auth,
-- internal/api/invite.go, checked 2026-11-21).
create function private.staff_login(
    of_email text, out user_id uuid, out is_confirmed boolean, out made_by uuid, out refusal text
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    select
        u.id, u.email_confirmed_at is not null, i.id,
        case
            when s.status = 'active' then 'already_staff'
            when s.status = 'suspended' then 'staff_member_suspended'
            when p.id is not null then 'login_is_patient'
            when u.banned_until > now() then 'login_banned'
            when u.email_confirmed_at is null and i.id is null then 'login_unconfirmed'
        end
    into user_id, is_confirmed, made_by, refusal
    from auth.users as u
    left join resguardo.staff as s on s.user_id = u.id
    left join resguardo.patients as p on p.user_id = u.id
    left join private.staff_invitations as i
        on i.email = of_email
        and i.id::text = u.raw_user_meta_data ->> 'staff_invitation'
        and coalesce(u.encrypted_password, '') = ''
        and u.invited_at is not null
    where u.instance_id = '00000000-0000-0000-0000-000000000000' and lower(u.email) = of_email
        and u.aud = 'authenticated' and not u.is_sso_user and u.deleted_at is null;
end
$$;

-- Returns the pending staff invitation for an email address, and creates the invitation if none exists. If the
-- address cannot be invited, the function returns the reason instead. The owner may change the role in a pending
-- invitation.
create function private.open_staff_invitation(
    of_email text, of_role text, inviter uuid, out invitation uuid, out refusal text, out login uuid
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    standing_role text;
begin
    perform pg_advisory_xact_lock(hashtextextended('resguardo.staff_invitation ' || of_email, 0));
    select l.user_id, l.refusal into login, refusal from private.staff_login(of_email) as l;
    if refusal is not null then
        return;
    end if;
    select i.id, i.role into invitation, standing_role
    from private.staff_invitations as i
    where i.email = of_email and i.status = 'PENDING';
    if invitation is null then
        insert into private.staff_invitations (email, role, invited_by) values (of_email, of_role, inviter)
        returning id into invitation;
    elsif standing_role <> of_role and inviter is not null then
        refusal := 'invitation_differs';
    elsif standing_role <> of_role then
        update private.staff_invitations as i set role = of_role where i.id = invitation;
    end if;
end
$$;

-- Invites a person by email address as a member of staff, or returns the reason why that is not possible. If the
-- invitation is not possible, the audit row names the login or the patient that the returned reason reveals. If an
-- invitation for the address is already pending, the function queues the invitation's job again and changes nothing
-- else. Raises RG429 (quota_invitations).
create function private.invite_staff(of_email text, of_role text)
returns table (
    id uuid, role text, status text, error text, email text, created_at timestamptz, refusal text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    opened record;
begin
    perform private.use_quota(person, 'invitations');
    select o.* into opened from private.open_staff_invitation(of_email, of_role, person) as o;
    perform private.write_audit(
        'staff.invite', case when opened.refusal is null then 'ALLOWED' else 'FAILED' end, opened.refusal,
        case when opened.invitation is null then 'staff' else 'staff_invitation' end,
        array_remove(array[coalesce(opened.invitation, opened.login)], null),
        array(select p.id from resguardo.patients as p where p.user_id = opened.login), '{}',
        array['role'], (opened.refusal is null)::integer, null
    );
    if opened.refusal is not null then
        return query
        select null::uuid, null::text, null::text, null::text, null::text, null::timestamptz, opened.refusal;
        return;
    end if;
    perform private.put_job('invite_staff', opened.invitation);
    return query
    select i.id, i.role, i.status, i.error, i.email, i.created_at, null::text
    from private.staff_invitations as i where i.id = opened.invitation;
end
$$;

-- Returns one page of the staff invitations: the newest invitations before (before_at, before_id), newest first. Writes
-- the audit row about this read, which names the first `first` invitations and the shown fields. Only the person who
-- sent an invitation sees the invited email address.
create function private.read_staff_invitations(
    before_at timestamptz, before_id uuid, first integer, shown_fields text[]
)
returns table (id uuid, role text, status text, error text, email text, created_at timestamptz)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    shown constant uuid[] := array(
        select i.id
        from private.staff_invitations as i
        where before_at is null or (i.created_at, i.id) < (before_at, before_id)
        order by i.created_at desc, i.id desc
        limit least(first, 100) + 1
    );
begin
    perform private.use_quota(person, 'pages');
    perform private.write_audit(
        'staff.list_invitations', 'ALLOWED', null, 'staff_invitation', shown[:first], '{}', '{}',
        shown_fields, cardinality(shown[:first]), null
    );
    return query
    select
        i.id, i.role, i.status, i.error, case when i.invited_by = person then i.email end, i.created_at
    from private.staff_invitations as i
    where i.id = any(shown)
    order by i.created_at desc, i.id desc;
end
$$;

-- Returns the staff invitation for the command `resguardo staff add`, which the database owner runs, or the reason
-- why an invitation is not possible.
create function private.add_staff(of_email text, of_role text, out invitation uuid, out refusal text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    select o.invitation, o.refusal into invitation, refusal
    from private.open_staff_invitation(of_email, of_role, null) as o;
end
$$;

create function private.close_staff_invitation(of_invitation uuid, login uuid, failure text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.staff_invitations as i
    set status = case when failure is null then 'SENT' else 'FAILED' end, user_id = login, error = failure,
        settled_at = clock_timestamp()
    where i.id = of_invitation;
    perform private.write_audit(
        'staff.add', case when failure is null then 'ALLOWED' else 'FAILED' end, failure,
        case when failure is null then 'staff' else 'staff_invitation' end,
        array[coalesce(login, of_invitation)], '{}', '{}', array['role'], (failure is null)::integer, null
    );
end
$$;

-- Completes a pending staff invitation if the invited person already has a usable login. Returns null if the
-- invitation has ended: the member of staff now exists, or the invitation has failed. If the invitation is still
-- pending, the function returns the email address that Supabase Auth must invite. `answered` is the login that
-- Supabase Auth returned for the invitation. If Supabase Auth's response was lost, the invitation's id in the login's
-- metadata identifies the login. Supabase Auth commits a login with an invitation's id only if it has sent the
-- invitation's email.
create function private.settle_staff_invitation(of_invitation uuid, answered uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted private.staff_invitations;
    login record;
begin
    select i.* into wanted from private.staff_invitations as i where i.id = of_invitation for update;
    if wanted.id is null or wanted.status <> 'PENDING' then
        return null;
    end if;
    select l.* into login from private.staff_login(wanted.email) as l;
    if login.refusal is not null then
        perform private.close_staff_invitation(wanted.id, null, login.refusal);
        return null;
    end if;
    if login.user_id is null
        or not (
            login.is_confirmed or login.made_by is not distinct from wanted.id
            or login.user_id is not distinct from answered
        )
    then
        return wanted.email;
    end if;
    insert into resguardo.staff (user_id, role) values (login.user_id, wanted.role);
    perform private.close_staff_invitation(wanted.id, login.user_id, null);
    return null;
end
$$;

create function private.fail_staff_invitation(of_invitation uuid, failure text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform from private.staff_invitations as i
    where i.id = of_invitation and i.status = 'PENDING' for update;
    if found then
        perform private.close_staff_invitation(of_invitation, null, failure);
    end if;
end
$$;


-- 12_patients.sql

-- Patients, and the rule that a login is either a member of staff or a patient.

create table resguardo.patients (
    id uuid primary key default gen_random_uuid(),
    external_id text not null constraint patients_external_id_key unique
    constraint patients_external_id_length check (length(external_id) between 1 and 128),
    user_id uuid constraint patients_user_id_key unique,
    created_at timestamptz not null default now(),
    birth_date date,
    constraint patients_birth_date_is_possible check (birth_date >= date '1900-01-01')
);
alter table resguardo.patients enable row level security;
comment on column resguardo.patients.birth_date is
'Determines the retention term of a minor''s recordings; null for an adult.';

-- Returns the id of the patient with an external id, even if the caller may not see the patient, so that the audit row
-- of a lookup can say DENIED. Returns the max UUID (RFC 9562), which belongs to nobody, if no such patient exists, and
-- null for null.
create function private.patient_id_of(of_external_id text) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_person();
    if of_external_id is null then
        return null;
    end if;
    return coalesce(
        (select p.id from resguardo.patients as p where p.external_id = of_external_id),
        'ffffffff-ffff-ffff-ffff-ffffffffffff'
    );
end
$$;

-- Locks a login, so that no other transaction makes the login a patient or a member of staff at the same moment.
create function private.lock_login(login uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('resguardo.login ' || login::text, 0));
end
$$;

-- Raises RG409 (login_is_patient) if a member of staff would get a patient's login, and RG409 (patient_user_unknown)
-- if a patient would get the login of a member of staff.
create function private.guard_login() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if new.user_id is null then
        return new;
    end if;
    perform private.lock_login(new.user_id);
    if tg_table_name = 'staff' and exists (select from resguardo.patients as p where p.user_id = new.user_id) then
        raise exception 'login_is_patient' using errcode = 'RG409';
    elsif tg_table_name = 'patients' and exists (select from resguardo.staff as s where s.user_id = new.user_id) then
        raise exception 'patient_user_unknown' using errcode = 'RG409';
    end if;
    return new;
end
$$;

create trigger staff_guard_login before insert or update of user_id on resguardo.staff
for each row execute function private.guard_login();

create trigger patients_guard_login before insert or update of user_id on resguardo.patients
for each row execute function private.guard_login();

-- Returns the patient with an external id, and creates the patient if none exists. A login is linked to a patient
-- only when the patient is created. Every later doctor must name the patient's login again, so no consultation
-- becomes visible to a login that its doctor does not know. The patient's birth date can be set only once, when the
-- patient is created or later. A birth date that is set later can postpone the due date of a minor's existing
-- recordings, but never advance it. Raises RG409 (patient_user_unknown, patient_user_differs,
-- patient_birth_date_differs, patient_birth_date_ahead).
create function private.register_patient(of_external_id text, of_user uuid, of_birth_date date) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    known resguardo.patients;
begin
    perform private.person();
    if of_user is not null and (
        not exists (select from auth.users as u where u.id = of_user)
        or exists (select from resguardo.staff as s where s.user_id = of_user)
    ) then
        raise exception 'patient_user_unknown' using errcode = 'RG409';
    elsif of_birth_date > (private.now() at time zone 'Etc/GMT-14')::date then
        raise exception 'patient_birth_date_ahead' using errcode = 'RG409';
    end if;
    insert into resguardo.patients (external_id, user_id, birth_date)
    values (of_external_id, of_user, of_birth_date) on conflict do nothing;
    select p.* into known from resguardo.patients as p where p.external_id = of_external_id;
    if known.id is null or known.user_id is distinct from of_user then
        raise exception 'patient_user_differs' using errcode = 'RG409';
    end if;
    if known.birth_date is null and of_birth_date is not null then
        perform private.give_birth_date(known.id, of_birth_date);
    elsif known.birth_date <> of_birth_date then
        raise exception 'patient_birth_date_differs' using errcode = 'RG409';
    end if;
    return known.id;
end
$$;

-- Stores the birth date of a patient and updates the due dates of the patient's recordings and signed notes.
-- `give_birth_date` and the end of a recording both lock the patient's row, so the due date of each recording takes
-- the birth date into account.
create function private.give_birth_date(of_patient uuid, of_birth_date date) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    dated uuid[];
    consultations uuid[];
begin
    update resguardo.patients as p set birth_date = of_birth_date
    where p.id = of_patient and coalesce(p.birth_date, of_birth_date) = of_birth_date;
    if not found then
        raise exception 'patient_birth_date_differs' using errcode = 'RG409';
    end if;
    with later as (
        update resguardo.recordings as r set due_at = private.minor_until(p.terms, of_birth_date)
        from resguardo.retention_policies as p
        where r.patient_id = of_patient and p.id = r.retention_policy
            and r.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
            and r.due_at < private.minor_until(p.terms, of_birth_date)
        returning r.id, r.consultation_id
    )

    select array_agg(l.id), array_agg(distinct l.consultation_id) into dated, consultations from later as l;
    if dated is not null then
        perform private.write_audit(
            'recording.date', 'ALLOWED', 'birth_date_given', 'recording', dated, array[of_patient], consultations,
            array['due_at'], cardinality(dated), null
        );
    end if;
    dated := private.date_signed_notes(null, of_patient);
    if dated <> '{}' then
        perform private.write_audit(
            'note.date', 'ALLOWED', 'birth_date_given', 'signed_note', dated, array[of_patient], '{}',
            array['due_at'], cardinality(dated), null
        );
    end if;
end
$$;


-- 13_consultations.sql

-- Consultations.
--
-- Every table that belongs to a consultation repeats the consultation's doctor and patient, and a composite foreign
-- key keeps the three columns consistent. Because of these repeated columns, a row-level security policy reads only
-- columns of the row that it checks. A reassignment changes the doctor of the consultation, and the foreign keys change
-- the repeated columns (on update cascade).

create table resguardo.consultations (
    id uuid primary key,
    external_id text not null constraint consultations_external_id_key unique
    constraint consultations_external_id_length check (length(external_id) between 1 and 128),
    doctor_id uuid not null constraint consultations_doctor_id_fkey references resguardo.staff (user_id),
    conducted_by uuid constraint consultations_conducted_by_fkey references resguardo.staff (user_id),
    patient_id uuid not null constraint consultations_patient_id_fkey references resguardo.patients (id),
    scheduled_at timestamptz not null,
    kind text not null constraint consultations_kind_is_slug check (kind ~ '^[a-z][a-z0-9_]{0,39}$'),
    sensitivity text not null
    constraint consultations_sensitivity_is_known check (
        sensitivity in ('ORDINARY', 'PSYCHOTHERAPY', 'SUBSTANCE_USE')
    ),
    room_name text not null constraint consultations_room_name_key unique,
    created_at timestamptz not null default now(),
    auto_record boolean not null default false,
    separate_speakers boolean not null default false,
    transcribe boolean,
    is_transcribed boolean not null
    generated always as (coalesce(transcribe, sensitivity = 'ORDINARY')) stored,
    language text
    constraint consultations_language_is_known check (language in ('EN', 'ES', 'MIXED')),
    constraint consultations_people_key unique (id, doctor_id, patient_id),
    constraint consultations_room_is_own check (right(room_name, 37) = '_' || id::text),
    constraint consultations_of_patient_key unique (id, patient_id)
);
alter table resguardo.consultations enable row level security;
comment on column resguardo.consultations.conducted_by is
'The doctor who held a consultation that was later reassigned to another doctor. Null if it was not.';
comment on column resguardo.consultations.auto_record is
'Recording starts once, by itself, when doctor and patient are in the room and every participant consents.';
comment on column resguardo.consultations.separate_speakers is
'Whether the sound of each microphone is recorded separately beside the video.';
comment on column resguardo.consultations.language is
'The spoken language, as the doctor stated it; null if not stated.';
comment on column resguardo.consultations.transcribe is 'The doctor''s choice; null for the default.';
comment on column resguardo.consultations.is_transcribed is
'Whether the recordings are transcribed. The default is true, unless the consultation kind is sensitive.';
create index consultations_conducted_by_idx on resguardo.consultations (conducted_by);
create index consultations_doctor_idx on resguardo.consultations (doctor_id, scheduled_at desc, id desc);
create index consultations_doctor_patient_idx
on resguardo.consultations (doctor_id, patient_id, scheduled_at desc, id desc);
create index consultations_patient_idx on resguardo.consultations (patient_id, scheduled_at desc, id desc);
create index consultations_scheduled_idx on resguardo.consultations (scheduled_at desc, id desc);

-- Notifies the API's subscriptions of a change, when the transaction commits. The notification contains only ids: of
-- the consultation, of its doctor, and of the recording that changed, if a recording changed. A change of a sound
-- recording, a transcript, insights, a clip or a deletion is a change of its video.
create function private.announce_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    consultation uuid;
    recording uuid;
begin
    if tg_table_name = 'consultations' then
        consultation := new.id;
    else
        consultation := new.consultation_id;
    end if;
    if tg_table_name = 'recordings' then
        recording := coalesce(new.video_id, new.id);
    elsif tg_table_name in ('transcripts', 'insights', 'deletions', 'clips') then
        recording := new.recording_id;
        new.changed_at := private.now();
    end if;
    perform pg_notify('resguardo_changes', concat_ws(' ', consultation, new.doctor_id, recording));
    return new;
end
$$;

create trigger consultations_announce after update on resguardo.consultations
for each row when (new is distinct from old) execute function private.announce_change();

-- Returns whether the caller is the doctor or the patient of the consultation.
create function private.is_own_consultation(consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    patient uuid;
    doctor uuid;
begin
    if current_setting('role') = 'patient' then
        patient := private.patient();
        return exists (select from resguardo.consultations as c where c.id = consultation and c.patient_id = patient);
    end if;
    doctor := private.doctor();
    return exists (select from resguardo.consultations as c where c.id = consultation and c.doctor_id = doctor);
end
$$;

-- Raises RG404 (consultation_not_found) if a person names another person's consultation or one that does not exist. A
-- service, or a function that runs without a person's claims, may name any consultation.
create function private.require_own_consultation(consultation uuid) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('role') in ('clinician', 'compliance', 'patient')
        and not private.is_own_consultation(consultation)
    then
        raise exception 'consultation_not_found' using errcode = 'RG404';
    end if;
end
$$;

-- Locks a consultation's row, so that consents, joins and starts of recordings in one consultation happen one after
-- the other. A person who may not see the consultation gets no lock, so a stranger cannot delay the consultation.
create function private.lock_consultation(consultation uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if private.is_own_consultation(consultation) then
        perform from resguardo.consultations as c where c.id = consultation for update;
    end if;
end
$$;

-- Returns the id of the consultation with an external id, even if the caller may not see it, so that the audit row of a
-- lookup can say DENIED. Returns the max UUID (RFC 9562), which belongs to nobody, if no such consultation exists, and
-- null for null.
create function private.consultation_id_of(of_external_id text) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_person();
    if of_external_id is null then
        return null;
    end if;
    return coalesce(
        (select c.id from resguardo.consultations as c where c.external_id = of_external_id),
        'ffffffff-ffff-ffff-ffff-ffffffffffff'
    );
end
$$;


-- 14_participants.sql

-- Participants of consultations, and the one-time invitations of guests.

create table resguardo.participants (
    id uuid primary key,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    kind text not null constraint participants_kind_is_known check (kind in ('DOCTOR', 'PATIENT', 'GUEST')),
    guest_role text
    constraint participants_guest_role_is_known check (
        guest_role in ('INTERPRETER', 'COMPANION', 'REPRESENTATIVE', 'CLINICIAN', 'STUDENT')
    ),
    joined_at timestamptz,
    created_at timestamptz not null default now(),
    constraint participants_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint participants_guest_has_role check ((kind = 'GUEST') = (guest_role is not null)),
    constraint participants_consultation_key unique (id, kind, consultation_id, doctor_id, patient_id),
    constraint participants_of_consultation_key unique (id, consultation_id)
);
alter table resguardo.participants enable row level security;
comment on column resguardo.participants.id is
'Also the participant''s identity in the LiveKit room. The id reveals no name.';
comment on column resguardo.participants.joined_at is
'When the newest join token was issued; null before the first one.';
create unique index participants_one_doctor_key on resguardo.participants (consultation_id) where kind = 'DOCTOR';
create unique index participants_one_patient_key on resguardo.participants (consultation_id) where kind = 'PATIENT';
create index participants_consultation_idx on resguardo.participants (consultation_id, doctor_id, patient_id);
create index participants_doctor_idx on resguardo.participants (doctor_id, joined_at);
create index participants_patient_idx on resguardo.participants (patient_id);

create trigger participants_announce after insert or update on resguardo.participants
for each row execute function private.announce_change();

create table private.invitations (
    participant_id uuid primary key
    constraint invitations_participant_id_fkey references resguardo.participants (id),
    secret_sha256 bytea not null constraint invitations_secret_key unique,
    expires_at timestamptz not null,
    redeemed_at timestamptz
);

-- Stores the hash of a guest's one-time invitation. If the guest already has an invitation that nobody has redeemed,
-- the new secret and expiry replace those of the invitation. Raises RG409 (invitation_redeemed) if somebody has
-- redeemed the invitation, and RG403 if the guest does not belong to a consultation of the caller.
create function private.keep_invitation(guest uuid, secret_sha256 bytea, expires_at timestamptz) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    if not exists (
        select from resguardo.participants as p where p.id = guest and p.kind = 'GUEST' and p.doctor_id = doctor
    ) then
        raise exception 'participant_not_found' using errcode = 'RG404';
    end if;
    insert into private.invitations as i (participant_id, secret_sha256, expires_at)
    values (guest, keep_invitation.secret_sha256, keep_invitation.expires_at)
    on conflict on constraint invitations_pkey do update
    set secret_sha256 = excluded.secret_sha256, expires_at = excluded.expires_at
    where i.redeemed_at is null;
    if not found then
        raise exception 'invitation_redeemed' using errcode = 'RG409';
    end if;
end
$$;

-- Redeems a guest's invitation, which works once. Returns the guest and the guest's room, or no row if the invitation
-- is unknown, used or expired. The audit row names the fields that the API shows to the guest. Raises RG409
-- (consent_missing_to_join) if the room is being recorded and the guest has not consented.
create function private.redeem_invitation(secret bytea, fields text[])
returns table (participant_id uuid, kind text, guest_role text, consultation_id uuid, room_name text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    guest resguardo.participants;
begin
    update private.invitations as i set redeemed_at = clock_timestamp()
    where i.secret_sha256 = sha256(secret) and i.redeemed_at is null and i.expires_at > now();
    if not found then
        return; -- an unknown secret identifies nobody; the edge counts such attempts by address
    end if;
    select p.* into guest
    from resguardo.participants as p
    join private.invitations as i on i.participant_id = p.id
    where i.secret_sha256 = sha256(secret);
    perform from resguardo.consultations as c where c.id = guest.consultation_id for update;
    if private.has_live_recording(guest.consultation_id)
        and not (select s.is_given from resguardo.standing_consents as s where s.participant_id = guest.id)
    then
        raise exception 'consent_missing_to_join' using errcode = 'RG409';
    end if;
    update resguardo.participants as p set joined_at = clock_timestamp() where p.id = guest.id;
    perform private.write_audit(
        'guest.join', 'ALLOWED', null, 'participant', array[guest.id], array[guest.patient_id],
        array[guest.consultation_id], fields, 1, null
    );
    return query
    select guest.id, guest.kind, guest.guest_role, guest.consultation_id, c.room_name
    from resguardo.consultations as c where c.id = guest.consultation_id;
end
$$;


-- 15_consents.sql

-- Consents: statements of participants about being recorded. Only the newest statement of each participant is valid.

create table resguardo.consents (
    id uuid primary key,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    participant_id uuid not null,
    participant_kind text not null,
    decision text not null constraint consents_decision_is_known check (decision in ('GIVEN', 'WITHDRAWN')),
    source text not null constraint consents_source_is_known check (source in ('SELF', 'ATTESTED')),
    recorded_by uuid not null,
    representative_relationship text
    constraint consents_relationship_is_known check (
        representative_relationship in ('PARENT', 'LEGAL_GUARDIAN', 'HEALTH_CARE_PROXY', 'POWER_OF_ATTORNEY', 'OTHER')
    ),
    representative_name text
    constraint consents_representative_name_length check (length(representative_name) between 1 and 200),
    text_version text not null,
    text_language text not null,
    text_sha256 text not null constraint consents_text_sha256_is_hex check (text_sha256 ~ '^[0-9a-f]{64}$'),
    recorded_at timestamptz not null default clock_timestamp(),
    constraint consents_participant_fkey foreign key (
        participant_id, participant_kind, consultation_id, doctor_id, patient_id
    ) references resguardo.participants (id, kind, consultation_id, doctor_id, patient_id) on update cascade,
    constraint consents_representative_is_whole check (
        (representative_relationship is null) = (representative_name is null)
    )
);
alter table resguardo.consents enable row level security;
create index consents_participant_idx
on resguardo.consents (participant_id, participant_kind, consultation_id, doctor_id, patient_id, recorded_at desc);
create index consents_consultation_idx on resguardo.consents (consultation_id);
create index consents_doctor_idx on resguardo.consents (doctor_id);
create index consents_patient_idx on resguardo.consents (patient_id);

-- The newest statement of each participant, and whether the participant must consent.
create view resguardo.standing_consents with (security_invoker = true) as
select
    p.id as participant_id,
    p.consultation_id,
    p.patient_id,
    p.kind,
    p.guest_role,
    p.joined_at,
    p.kind <> 'GUEST' or p.joined_at is not null as is_required,
    coalesce(c.decision = 'GIVEN', false) as is_given,
    coalesce(c.decision = 'WITHDRAWN', false) as is_withdrawn
from resguardo.participants as p
left join lateral (
    select n.decision
    from resguardo.consents as n
    where n.participant_id = p.id
    order by n.recorded_at desc, n.id desc
    limit 1
) as c on true;

-- Locks the consultation's row, after the row-level security policies have admitted the new consent. Because of this
-- lock, the second of two simultaneous consent statements sees the first one. If a participant withdrew the consent
-- in person, nobody else can record a new consent for that participant.
create function private.guard_consent() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    before resguardo.consents;
begin
    perform from resguardo.consultations as c where c.id = new.consultation_id for no key update;
    select c.* into before
    from resguardo.consents as c
    where c.participant_id = new.participant_id and c.id <> new.id
    order by c.recorded_at desc, c.id desc
    limit 1;
    if before.decision = 'WITHDRAWN' and before.source = 'SELF' and new.source = 'ATTESTED' then
        raise exception 'withdrawn_in_person' using errcode = 'RG409';
    end if;
    return null;
end
$$;

create trigger consents_guard after insert on resguardo.consents
for each row execute function private.guard_consent();

create trigger consents_announce after insert on resguardo.consents
for each row execute function private.announce_change();

-- Law 6: returns whether every required participant has a standing consent, as the row-level security policy on
-- recordings checks it.
create function private.everyone_consents(consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_own_consultation(consultation);
    return count(*) filter (where s.kind = 'PATIENT') = 1
        and count(*) filter (where s.kind = 'DOCTOR') = 1
        and bool_and(s.is_given or not s.is_required)
    from resguardo.standing_consents as s
    where s.consultation_id = consultation;
end
$$;


-- 16_idempotency_keys.sql

-- Idempotency keys, with which a client repeats a mutation without repeating its effect.

create table private.idempotency_keys (
    person_id uuid not null,
    mutation text not null
    constraint idempotency_keys_mutation_is_known check (
        mutation in (
            'inviteGuest', 'recordConsent', 'withdrawConsent', 'startRecording', 'correctTranscript', 'attributeTurn',
            'addAddendum',
            'writeSessionNote', 'writePsychotherapyNote', 'askTranscript', 'exportAuditEvents',
            'recordDisclosure', 'suspendDisclosures',
            'openBreachAssessment'
        )
    ),
    key_sha256 bytea not null constraint idempotency_keys_key_sha256_length check (length(key_sha256) = 32),
    input_mac bytea not null constraint idempotency_keys_input_mac_length check (length(input_mac) = 32),
    entity_id uuid,
    created_at timestamptz not null default now(),
    constraint idempotency_keys_pkey primary key (person_id, mutation, key_sha256)
);
comment on table private.idempotency_keys is
'The idempotency keys of the last 24 hours. The table contains hashes of the keys and of the inputs, and no text.';
comment on column private.idempotency_keys.key_sha256 is
'The SHA-256 of the key. The key itself is not stored, because a client may have put PHI into it.';
comment on column private.idempotency_keys.input_mac is
'The HMAC-SHA-256 of the input. Its secret is the idempotency key, so a reader of this table cannot try likely inputs.';
comment on column private.idempotency_keys.entity_id is
'The entity that the first call returned; null if the first call was refused.';
create index idempotency_keys_created_idx on private.idempotency_keys (created_at);

-- Claims an idempotency key of the caller for one mutation. Returns null if no call with the key has succeeded, and
-- otherwise the entity that the first call returned. If another transaction has claimed the same key, the function
-- waits for the end of that transaction. The claim is a part of the caller's transaction, so a rollback ends it.
-- Raises RG409 (idempotency_key_reused) if a call with another input has succeeded.
create function private.claim_idempotency_key(of_mutation text, of_key_sha256 bytea, of_input_mac bytea) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    claimed private.idempotency_keys;
begin
    insert into private.idempotency_keys (person_id, mutation, key_sha256, input_mac)
    values (person, of_mutation, of_key_sha256, of_input_mac)
    on conflict do nothing;
    if found then
        return null;
    end if;
    select k.* into claimed from private.idempotency_keys as k
    where k.person_id = person and k.mutation = of_mutation and k.key_sha256 = of_key_sha256
    for update;
    if claimed.entity_id is not null and claimed.input_mac <> of_input_mac then
        raise exception 'idempotency_key_reused' using errcode = 'RG409';
    end if;
    return claimed.entity_id;
end
$$;

-- Stores the entity that the first call with an idempotency key returns. The caller has claimed the key in the same
-- transaction. If the worker deleted the old key of a refused call meanwhile, the function stores the key again.
create function private.settle_idempotency_key(
    of_mutation text, of_key_sha256 bytea, of_input_mac bytea, entity uuid
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
begin
    insert into private.idempotency_keys as k (person_id, mutation, key_sha256, input_mac, entity_id)
    values (person, of_mutation, of_key_sha256, of_input_mac, entity)
    on conflict (person_id, mutation, key_sha256) do update
    set input_mac = excluded.input_mac, entity_id = excluded.entity_id, created_at = excluded.created_at
    where k.entity_id is null;
end
$$;

-- Deletes at most 1000 idempotency keys that are older than 24 hours, oldest first, with the answers to questions that
-- are kept for them. Returns how many keys it deleted.
create function private.delete_old_idempotency_keys() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    deleted integer;
begin
    with gone as (
        delete from private.idempotency_keys as k
        using (
            select o.person_id, o.mutation, o.key_sha256
            from private.idempotency_keys as o
            where o.created_at < now() - interval '24 hours'
            order by o.created_at
            limit 1000
            for update skip locked
        ) as old
        where k.person_id = old.person_id and k.mutation = old.mutation and k.key_sha256 = old.key_sha256
        returning k.mutation, k.entity_id
    ),

    answers as (
        delete from private.questions as q using gone as g
        where g.mutation = 'askTranscript' and q.id = g.entity_id
    )

    select count(*) into deleted from gone;
    return deleted;
end
$$;


-- 17_officer_proposals.sql

-- Proposals of compliance officers that a second officer decides: to reset the second factor of a member of staff, to
-- reinstate a suspended member, or to reassign the consultations of a doctor who left (71_reassignments.sql).
--
-- An approval changes the database at once, in the transaction of the approval. Supabase Auth is changed afterwards by
-- a job of the worker, which marks the proposal as DONE or FAILED.

create table resguardo.officer_proposals (
    id uuid primary key default gen_random_uuid(),
    kind text not null
    constraint officer_proposals_kind_is_known check (
        kind in ('RESET_SECOND_FACTOR', 'REINSTATE', 'REASSIGN_CONSULTATIONS')
    ),
    member_id uuid not null constraint officer_proposals_member_id_fkey references resguardo.staff (user_id),
    recipient_id uuid constraint officer_proposals_recipient_id_fkey references resguardo.staff (user_id),
    reason text not null,
    status text not null default 'PROPOSED'
    constraint officer_proposals_status_is_known check (
        status in ('PROPOSED', 'APPROVED', 'DONE', 'FAILED', 'REJECTED', 'WITHDRAWN')
    ),
    error text constraint officer_proposals_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    proposed_by uuid not null constraint officer_proposals_proposed_by_fkey references resguardo.staff (user_id),
    proposed_at timestamptz not null default private.now(),
    decided_by uuid constraint officer_proposals_decided_by_fkey references resguardo.staff (user_id),
    decided_at timestamptz,
    finished_at timestamptz,
    factor_ids uuid[],
    moved_count integer,
    kept_for_consent_count integer,
    kept_as_sensitive_count integer,
    waiting_count integer,
    place_at timestamptz,
    place_id uuid,
    constraint officer_proposals_recipient_has_its_kind check (
        (kind = 'REASSIGN_CONSULTATIONS') = (recipient_id is not null) and recipient_id <> member_id
    ),
    constraint officer_proposals_reason_is_known check (
        case kind
            when 'RESET_SECOND_FACTOR' then reason in ('DEVICE_LOST', 'DEVICE_REPLACED', 'DEVICE_COMPROMISED')
            when 'REINSTATE' then reason in ('SUSPENDED_BY_MISTAKE', 'RETURNED_TO_WORK', 'INVESTIGATION_CLOSED')
            when 'REASSIGN_CONSULTATIONS' then reason in ('LEFT_PRACTICE', 'RETIRED', 'LONG_ABSENCE', 'DIED')
        end
    ),
    constraint officer_proposals_decision_is_whole check (
        (status in ('PROPOSED', 'WITHDRAWN') or decided_by is not null) and (decided_by is null) = (decided_at is null)
    ),
    constraint officer_proposals_needs_a_second_officer check (
        status not in ('APPROVED', 'DONE', 'FAILED') or (decided_by <> proposed_by and decided_by <> member_id)
    ),
    constraint officer_proposals_error_has_its_status check (
        (status in ('FAILED', 'WITHDRAWN')) = (error is not null)
    ),
    constraint officer_proposals_end_is_whole check ((status in ('DONE', 'FAILED')) = (finished_at is not null))
);
alter table resguardo.officer_proposals enable row level security;
comment on table resguardo.officer_proposals is
'Changes that one compliance officer proposes and another compliance officer approves or rejects.';
comment on column resguardo.officer_proposals.member_id is 'The member of staff whom the proposal concerns.';
comment on column resguardo.officer_proposals.error is
'Why the worker could not carry out the proposal (FAILED), or why the proposal ended undecided (WITHDRAWN).';
comment on column resguardo.officer_proposals.factor_ids is
'The second factors that the first attempt of the worker found. A later attempt removes no newer factor.';
comment on column resguardo.officer_proposals.moved_count is
'How many consultations the worker has reassigned so far. Null before it began, as the next counts.';
comment on column resguardo.officer_proposals.kept_for_consent_count is
'How many consultations stay, because a participant has not consented to a text that names sharing.';
comment on column resguardo.officer_proposals.kept_as_sensitive_count is
'How many consultations stay, because they are sensitive or have psychotherapy notes.';
comment on column resguardo.officer_proposals.waiting_count is
'How many consultations the worker must look at again, because a recording of theirs is not finished.';
comment on column resguardo.officer_proposals.place_at is
'The time of the last consultation that the worker looked at. With place_id, the next batch continues there.';
create unique index officer_proposals_one_open_key on resguardo.officer_proposals (kind, member_id)
where status in ('PROPOSED', 'APPROVED');
create index officer_proposals_member_idx on resguardo.officer_proposals (member_id);
create index officer_proposals_recipient_idx on resguardo.officer_proposals (recipient_id);
create index officer_proposals_proposed_by_idx on resguardo.officer_proposals (proposed_by);
create index officer_proposals_decided_by_idx on resguardo.officer_proposals (decided_by);
create index officer_proposals_proposed_idx on resguardo.officer_proposals (proposed_at desc, id desc);
create index officer_proposals_status_idx on resguardo.officer_proposals (status, proposed_at desc, id desc);

-- Writes the audit row about one step of a proposal. The audit row names the proposal and the members of staff whom it
-- concerns.
create function private.audit_proposal(
    action text, outcome text, reason text, about resguardo.officer_proposals, fields text[]
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_of_entities(
        action, outcome, reason,
        private.entities_of('officer_proposal', array[about.id])
        || private.entities_of('staff', array_remove(array[about.member_id, about.recipient_id], null)),
        '{}', '{}', fields, (outcome = 'ALLOWED')::integer, null
    );
end
$$;

-- Returns whether a person is an active compliance officer with a login that is neither banned nor deleted.
create function private.is_active_officer(person uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from resguardo.staff as s
        inner join auth.users as u on u.id = s.user_id
        where s.user_id = person and s.status = 'active' and s.role = 'compliance'
            and u.deleted_at is null and (u.banned_until is null or u.banned_until <= now())
    );
end
$$;

-- Returns whether another officer invited the person less than 30 days ago. Such an officer cannot take part in a
-- decision of two officers, because one person could invite a second login of their own. The owner of the database
-- adds officers without this limit.
create function private.is_new_officer(person uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from private.staff_invitations as i
        where i.user_id = person and i.status = 'SENT' and i.invited_by is not null
            and i.settled_at > private.now() - interval '30 days'
    );
end
$$;

-- Returns why a proposal of this kind cannot be carried out now, or null if it can.
create function private.proposal_objection(of_kind text, of_member uuid, of_recipient uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    member resguardo.staff;
    login record;
begin
    select s.* into member from resguardo.staff as s where s.user_id = of_member;
    select u.id, u.banned_until > now() as is_banned into login
    from auth.users as u where u.id = of_member and u.deleted_at is null;
    return case of_kind
        when 'RESET_SECOND_FACTOR' then case when login.id is null then 'staff_login_gone' end
        when 'REINSTATE' then case
            when login.id is null then 'staff_login_gone'
            when member.suspended_by = '00000000-0000-0000-0000-000000000000'
                or (member.origin = 'MAPPED' and member.mapped_role is null)
                then 'not_in_role_table'
            when member.status = 'active' and login.is_banned is not true then 'staff_not_suspended'
        end
        when 'REASSIGN_CONSULTATIONS' then private.reassignment_objection(of_member, of_recipient)
    end;
end
$$;

-- Proposes a change about a member of staff, which another compliance officer must approve. Returns no row, and writes
-- the audit row, if the member or the recipient is no member of staff. If this officer has proposed the same already,
-- the function returns that proposal. Raises RG403 (totp_stale), RG409 (proposal_about_you, proposal_open_already,
-- officer_too_new, and the objection of private.proposal_objection).
create function private.propose(
    of_kind text, of_member uuid, of_recipient uuid, of_reason text, totp_max_age_seconds integer
) returns setof resguardo.officer_proposals
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    unknown uuid;
    objection text;
    made resguardo.officer_proposals;
begin
    perform private.require_recent_totp(totp_max_age_seconds);
    perform from resguardo.staff as s
    where s.user_id in (officer, of_member, of_recipient) order by s.user_id for no key update;
    perform private.person();
    select n.user_id into unknown
    from unnest(array[of_member, of_recipient]) as n (user_id)
    where n.user_id is not null and not exists (select from resguardo.staff as s where s.user_id = n.user_id);
    if unknown is not null then
        perform private.write_audit(
            'proposal.make', 'ABSENT', 'not_found', 'staff', array[unknown], '{}', '{}', '{}', 0, null
        );
        return;
    elsif officer in (of_member, of_recipient) then
        raise exception 'proposal_about_you' using errcode = 'RG409';
    elsif private.is_new_officer(officer) then
        raise exception 'officer_too_new' using errcode = 'RG409';
    end if;
    select p.* into made from resguardo.officer_proposals as p
    where p.kind = of_kind and p.member_id = of_member and p.status in ('PROPOSED', 'APPROVED');
    if made.id is not null and (
        made.proposed_by <> officer or made.reason <> of_reason or made.recipient_id is distinct from of_recipient
    ) then
        raise exception 'proposal_open_already' using errcode = 'RG409';
    elsif made.id is null then
        objection := private.proposal_objection(of_kind, of_member, of_recipient);
        if objection is not null then
            raise exception '%', objection using errcode = 'RG409';
        end if;
        insert into resguardo.officer_proposals as p (kind, member_id, recipient_id, reason, proposed_by)
        values (of_kind, of_member, of_recipient, of_reason, officer)
        returning p.* into made;
    end if;
    perform private.audit_proposal('proposal.make', 'ALLOWED', null, made, array['officerProposal']);
    return next made;
end
$$;

-- Carries out an approved proposal in the database, and queues the job that changes Supabase Auth.
create function private.carry_out_proposal(approved resguardo.officer_proposals) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if approved.kind = 'REINSTATE' then
        update resguardo.staff as s
        set status = 'active', suspended_at = null, suspended_by = null, role = coalesce(s.mapped_role, s.role),
            role_given_at = clock_timestamp()
        where s.user_id = approved.member_id and s.status = 'suspended';
        perform private.write_audit(
            'staff.reinstate', 'ALLOWED', null, 'staff', array[approved.member_id], '{}', '{}', array['status'], 1, null
        );
        perform private.put_job('ban_user', approved.member_id);
    elsif approved.kind = 'RESET_SECOND_FACTOR' then
        perform private.end_sessions_of(approved.member_id);
        perform private.put_job('reset_second_factor', approved.id);
    elsif approved.kind = 'REASSIGN_CONSULTATIONS' then
        perform private.put_job('reassign_consultations', approved.id);
    end if;
end
$$;

-- Approves or rejects a proposal, and returns it. Returns no row, and writes the audit row, if the proposal does not
-- exist. A repeated call of the officer who decided the same changes nothing. Only an approval needs a second officer
-- and a recent TOTP code. The member whom the proposal concerns decides nothing. Raises RG403 (totp_stale), RG409
-- (proposal_about_you, proposal_decided, proposal_same_officer, proposal_officer_gone, officer_too_new, and the
-- objections of private.propose).
create function private.decide_proposal(of_proposal uuid, is_approved boolean, totp_max_age_seconds integer)
returns setof resguardo.officer_proposals
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    action constant text := case when is_approved then 'proposal.approve' else 'proposal.reject' end;
    wanted resguardo.officer_proposals;
    objection text;
begin
    select p.* into wanted from resguardo.officer_proposals as p where p.id = of_proposal;
    if wanted.id is null then
        perform private.write_audit(
            action, 'ABSENT', 'not_found', 'officer_proposal', array[of_proposal], '{}', '{}', '{}', 0, null
        );
        return;
    end if;
    -- Suspensions lock the members of staff first, too. Of an approval and a suspension, the later one sees the other.
    perform from resguardo.staff as s
    where s.user_id in (officer, wanted.proposed_by, wanted.member_id, wanted.recipient_id)
    order by s.user_id for no key update;
    perform private.person();
    select p.* into wanted from resguardo.officer_proposals as p where p.id = of_proposal for update;
    if officer in (wanted.member_id, wanted.recipient_id) then
        raise exception 'proposal_about_you' using errcode = 'RG409';
    elsif wanted.status <> 'PROPOSED' then
        if wanted.decided_by is distinct from officer
            or wanted.status = 'WITHDRAWN' or (wanted.status = 'REJECTED') = is_approved
        then
            raise exception 'proposal_decided' using errcode = 'RG409';
        end if;
        perform private.audit_proposal(action, 'ALLOWED', null, wanted, array['status']);
        return next wanted;
        return;
    end if;
    if is_approved then
        perform private.require_recent_totp(totp_max_age_seconds);
        if officer = wanted.proposed_by then
            raise exception 'proposal_same_officer' using errcode = 'RG409';
        elsif not private.is_active_officer(wanted.proposed_by) then
            raise exception 'proposal_officer_gone' using errcode = 'RG409';
        elsif private.is_new_officer(officer) or private.is_new_officer(wanted.proposed_by) then
            raise exception 'officer_too_new' using errcode = 'RG409';
        end if;
        objection := private.proposal_objection(wanted.kind, wanted.member_id, wanted.recipient_id);
        if objection is not null then
            raise exception '%', objection using errcode = 'RG409';
        end if;
    end if;
    update resguardo.officer_proposals as p
    set status = case when is_approved then 'APPROVED' else 'REJECTED' end, decided_by = officer,
        decided_at = private.now()
    where p.id = of_proposal
    returning p.* into wanted;
    perform private.audit_proposal(action, 'ALLOWED', null, wanted, array['status']);
    if is_approved then
        perform private.carry_out_proposal(wanted);
    end if;
    return next wanted;
end
$$;

-- Withdraws the open proposals that a member made who has lost their access, and the reinstatement of a member who is
-- suspended again. The worker finds an approved reinstatement withdrawn, and bans the member.
create function private.withdraw_proposals_of(member uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ended resguardo.officer_proposals;
begin
    for ended in
        update resguardo.officer_proposals as p
        set status = 'WITHDRAWN',
            error = case when p.proposed_by = member then 'officer_lost_access' else 'suspended_again' end
        where (p.proposed_by = member and p.status = 'PROPOSED')
            or (
                p.member_id = member and p.kind = 'REINSTATE' and p.status in ('PROPOSED', 'APPROVED')
                and exists (select from resguardo.staff as s where s.user_id = member and s.status = 'suspended')
            )
        returning p.*
    loop
        perform private.audit_proposal('proposal.withdraw', 'ALLOWED', ended.error, ended, array['status']);
    end loop;
end
$$;

-- Marks the approved proposals of a kind about a member as DONE, or as FAILED with an error.
create function private.finish_proposals(of_kind text, of_member uuid, failure text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ended resguardo.officer_proposals;
begin
    for ended in
        update resguardo.officer_proposals as p
        set status = case when failure is null then 'DONE' else 'FAILED' end, error = failure,
            finished_at = private.now()
        where p.kind = of_kind and p.member_id = of_member and p.status = 'APPROVED'
        returning p.*
    loop
        perform private.audit_proposal(
            'proposal.finish', case when failure is null then 'ALLOWED' else 'FAILED' end, failure, ended,
            array['status']
        );
    end loop;
end
$$;

-- Returns whether Supabase Auth must ban a person: true for a member whom compliance suspended, false for an active
-- member, and null for a member whom the adopter's role table suspended, and for everyone else.
create function private.should_be_banned(person uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select s.status = 'suspended' from resguardo.staff as s
        where s.user_id = person
            and s.suspended_by is distinct from '00000000-0000-0000-0000-000000000000'
    );
end
$$;

-- Returns the member whose second factors an approved proposal removes, and the ids of the factors, which are null
-- before the first attempt. Returns no row if the proposal is not APPROVED.
create function private.second_factor_reset(of_proposal uuid) returns table (member_id uuid, factor_ids uuid[])
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select p.member_id, p.factor_ids from resguardo.officer_proposals as p
    where p.id = of_proposal and p.kind = 'RESET_SECOND_FACTOR' and p.status = 'APPROVED';
end
$$;

-- Stores which second factors a proposal removes. The first attempt decides, so that no attempt removes a factor that
-- the person has enrolled since.
create function private.keep_factors_to_remove(of_proposal uuid, of_factors uuid[]) returns uuid[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.officer_proposals as p set factor_ids = of_factors
    where p.id = of_proposal and p.factor_ids is null;
    return (select p.factor_ids from resguardo.officer_proposals as p where p.id = of_proposal);
end
$$;

-- Ends the sessions of the person whose second factors were removed, and marks the proposal as DONE. If `failure` is
-- given, or the Supabase project does not let us end sessions, the proposal is FAILED.
create function private.finish_second_factor_reset(of_proposal uuid, failure text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    reset resguardo.officer_proposals;
    why text := failure;
begin
    select p.* into reset from resguardo.officer_proposals as p
    where p.id = of_proposal and p.kind = 'RESET_SECOND_FACTOR' and p.status = 'APPROVED' for update;
    if reset.id is null then
        return;
    end if;
    if not private.end_sessions_of(reset.member_id) then
        why := coalesce(why, 'sessions_not_ended');
    end if;
    perform private.write_audit_of_entities(
        'staff.reset_second_factor', case when why is null then 'ALLOWED' else 'FAILED' end, why,
        private.entities_of('staff', array[reset.member_id])
        || private.entities_of('second_factor', reset.factor_ids),
        '{}', '{}', '{}', coalesce(cardinality(reset.factor_ids), 0), null
    );
    perform private.finish_proposals('RESET_SECOND_FACTOR', reset.member_id, why);
end
$$;


-- 18_shares.sql

-- Shares of consultations with colleagues, and the two functions by which policies decide what a clinician sees of
-- another doctor's consultation: by a share (this file), or by an emergency access (19_emergency_access.sql).

create table resguardo.shares (
    id uuid primary key default gen_random_uuid(),
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    colleague_id uuid not null constraint shares_colleague_id_fkey references resguardo.staff (user_id),
    shared_by uuid not null constraint shares_shared_by_fkey references resguardo.staff (user_id),
    purpose text not null
    constraint shares_purpose_is_known check (purpose in ('CARE_TEAM', 'COVERAGE', 'SECOND_OPINION', 'REFERRAL')),
    may_write_notes boolean not null,
    began_at timestamptz not null,
    ends_at timestamptz not null,
    ended_at timestamptz,
    ended_by uuid,
    end_reason text
    constraint shares_end_reason_is_known check (
        end_reason in (
            'ENDED_BY_DOCTOR', 'ENDED_BY_COLLEAGUE', 'CONSENT_WITHDRAWN', 'AUTHORIZATION_WITHDRAWN',
            'COLLEAGUE_SUSPENDED'
        )
    ),
    constraint shares_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint shares_term_is_possible check (
        ends_at > began_at and ends_at <= began_at + interval '366 days'
    ),
    constraint shares_end_is_whole check ((ended_at is null) = (end_reason is null))
);
alter table resguardo.shares enable row level security;
comment on column resguardo.shares.doctor_id is 'The doctor of the consultation.';
comment on column resguardo.shares.shared_by is 'The doctor of the consultation when the share was made.';
comment on column resguardo.shares.may_write_notes is
'Whether the colleague may write session notes of the consultation, and read the session notes that others wrote.';
comment on column resguardo.shares.ends_at is 'The end of the term. From then on the share gives no access.';
comment on column resguardo.shares.ended_at is 'When the share ended before its term; null if it did not.';
comment on column resguardo.shares.ended_by is
'The person whose action ended the share: the doctor, the colleague, or who withdrew a consent.';
create index shares_consultation_idx on resguardo.shares (consultation_id, doctor_id, patient_id);
create index shares_doctor_idx on resguardo.shares (doctor_id);
create index shares_patient_idx on resguardo.shares (patient_id);
create index shares_shared_by_idx on resguardo.shares (shared_by);
create index shares_colleague_idx on resguardo.shares (colleague_id, ends_at) where ended_at is null;
create index shares_of_colleague_idx on resguardo.shares (colleague_id, began_at desc, id desc);
create unique index shares_one_open_key on resguardo.shares (consultation_id, colleague_id) where ended_at is null;

-- Returns the versions of the consent text that name shares and emergency access. A test holds them equal to
-- `ABOUT_SHARING` in app/consents/texts.py.
create function private.texts_about_sharing() returns text[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return array['2027-02'];
end
$$;

-- Returns whether every required participant of a consultation has a standing consent to a text that names shares and
-- emergency access.
create function private.consents_to_sharing(of_consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select
            count(*) filter (where p.kind = 'PATIENT') = 1 and count(*) filter (where p.kind = 'DOCTOR') = 1
            and bool_and(
                coalesce(
                    n.decision = 'GIVEN' and n.text_version = any(private.texts_about_sharing()),
                    p.kind = 'GUEST' and p.joined_at is null
                )
            )
        from resguardo.participants as p
        left join lateral (
            select c.decision, c.text_version from resguardo.consents as c
            where c.participant_id = p.id
            order by c.recorded_at desc, c.id desc
            limit 1
        ) as n on true
        where p.consultation_id = of_consultation
    );
end
$$;

-- Returns the consultations that other doctors share with a clinician now.
create function private.consultations_shared_with(colleague uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
begin
    return array(
        select s.consultation_id from resguardo.shares as s
        where s.colleague_id = colleague and s.doctor_id <> colleague
            and s.ended_at is null and s.ends_at > moment and s.began_at <= moment
    );
end
$$;

-- Law 3: returns the consultations of other doctors that the caller sees now, by a share or by an emergency access.
-- The policies of clinicians call this function, and so does each function that bypasses the policies. Raises the same
-- errors as private.doctor().
create function private.shared_consultation_ids() returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    return private.consultations_shared_with(doctor) || private.consultations_in_emergency(doctor);
end
$$;

-- Returns why the caller sees a consultation: `treating_clinician`, `shared`, `emergency`, `compliance_review` or
-- `self`. Returns null if the caller does not see the consultation. Raises RG401 or RG403 if the caller has no live
-- session.
create function private.access_basis(consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    about resguardo.consultations;
    doctor uuid;
begin
    select c.* into about from resguardo.consultations as c where c.id = consultation;
    if current_setting('role') = 'patient' then
        return case when about.patient_id = private.patient() then 'self' end;
    elsif current_setting('role') = 'compliance' then
        perform private.person();
        return case when about.id is not null then 'compliance_review' end;
    end if;
    doctor := private.doctor();
    return case
        when about.doctor_id = doctor then 'treating_clinician'
        when consultation = any(private.consultations_shared_with(doctor)) then 'shared'
        when consultation = any(private.consultations_in_emergency(doctor)) then 'emergency'
    end;
end
$$;

-- Returns the basis of a clinician's audit row that names these consultations: `emergency` if the clinician sees any
-- of them only by an emergency access, else `shared` if the clinician sees any of them only by a share, else
-- `treating_clinician`. The function does not check the session, because the row of a refusal is written without one.
create function private.basis_of_clinician(clinician uuid, consultations uuid[]) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    shared constant uuid[] := private.consultations_shared_with(clinician);
    in_emergency constant uuid[] := private.consultations_in_emergency(clinician);
begin
    return case
        when exists (
            select from unnest(consultations) as c (id) where c.id = any(in_emergency) and c.id <> all(shared)
        ) then 'emergency'
        when consultations && shared then 'shared'
        else 'treating_clinician'
    end;
end
$$;


-- 19_emergency_access.sql

-- Emergency access ("break-glass"): a clinician sees another doctor's patient for at most one hour.

create table resguardo.emergency_accesses (
    id uuid primary key default gen_random_uuid(),
    clinician_id uuid not null
    constraint emergency_accesses_clinician_id_fkey references resguardo.staff (user_id),
    patient_id uuid not null constraint emergency_accesses_patient_id_fkey references resguardo.patients (id),
    reason text not null
    constraint emergency_accesses_reason_is_known check (
        reason in ('MEDICAL_EMERGENCY', 'RISK_OF_HARM', 'DOCTOR_UNREACHABLE', 'DISASTER')
    ),
    began_at timestamptz not null,
    ends_at timestamptz not null,
    seen_at timestamptz not null,
    ended_at timestamptz,
    constraint emergency_accesses_term_is_an_hour check (
        ends_at > began_at and ends_at <= began_at + interval '1 hour'
    )
);
alter table resguardo.emergency_accesses enable row level security;
comment on column resguardo.emergency_accesses.ends_at is
'The end of the access by the database''s clock, at most one hour after it began.';
comment on column resguardo.emergency_accesses.seen_at is
'The latest time at which the access was used. While the database''s clock is before this time, it gives no access.';
comment on column resguardo.emergency_accesses.ended_at is
'When the clinician''s suspension ended the access before its term; null if nothing did.';
create index emergency_accesses_patient_idx on resguardo.emergency_accesses (patient_id);
create index emergency_accesses_clinician_idx on resguardo.emergency_accesses (clinician_id, ends_at);
create index emergency_accesses_began_idx on resguardo.emergency_accesses (began_at desc, id desc);

-- Returns the patients whom a clinician may see now in an emergency. A clock that jumps back does not prolong an
-- access: it gives no access while the clock is before the time of its last use.
create function private.patients_in_emergency(clinician uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
begin
    return array(
        select e.patient_id from resguardo.emergency_accesses as e
        where e.clinician_id = clinician and e.ended_at is null and e.ends_at > moment
            and e.began_at <= moment and e.seen_at <= moment
            and e.ends_at > private.latest_time()
    );
end
$$;

-- Returns the consultations of other doctors that a clinician sees now by an emergency access: those whose
-- participants consent to a text that names it. A sensitive kind of consultation is left out.
create function private.consultations_in_emergency(clinician uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    patients constant uuid[] := private.patients_in_emergency(clinician);
begin
    if patients = '{}' then
        return '{}';
    end if;
    return array(
        select c.id from resguardo.consultations as c
        where c.patient_id = any(patients) and c.doctor_id <> clinician
            and c.sensitivity = 'ORDINARY' and private.consents_to_sharing(c.id)
    );
end
$$;


-- 20_retention_policies.sql

-- Retention policies: versions of policies/retention.toml, which compliance officers approve.

create table resguardo.retention_policies (
    id integer generated always as identity constraint retention_policies_pkey primary key,
    name text not null constraint retention_policies_name_key unique
    constraint retention_policies_name_is_plain check (name ~ '^[0-9A-Za-z][0-9A-Za-z ._-]{0,63}$'),
    sha256 text not null constraint retention_policies_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    status text not null default 'PROPOSED'
    constraint retention_policies_status_is_known check (status in ('PROPOSED', 'ACTIVE', 'SUPERSEDED', 'REJECTED')),
    source text not null,
    terms jsonb not null
    constraint retention_policies_terms_are_whole check (
        (terms ->> 'grace_days')::integer between 1 and 36500
        and (terms #>> '{default,recording_days}')::integer between 1 and 36500
        and (terms #>> '{default,signed_note_days}')::integer between 1 and 36500
        and (terms ->> 'applies_to_existing')::boolean is not null
    ),
    shortens boolean not null,
    proposed_at timestamptz not null default private.now(),
    activated_at timestamptz,
    constraint retention_policies_activation_is_whole check (
        (status in ('ACTIVE', 'SUPERSEDED')) = (activated_at is not null)
    )
);
alter table resguardo.retention_policies enable row level security;
comment on column resguardo.retention_policies.source is
'The policy file as it was proposed. The column sha256 holds its SHA-256.';
comment on column resguardo.retention_policies.shortens is
'Whether the policy shortened a term when it was last compared. If true, two officers must approve it.';
create unique index retention_policies_one_active_key on resguardo.retention_policies (status)
where status = 'ACTIVE';

create table resguardo.retention_approvals (
    policy_id integer not null
    constraint retention_approvals_policy_id_fkey references resguardo.retention_policies (id),
    officer_id uuid not null,
    approved_at timestamptz not null default private.now(),
    constraint retention_approvals_pkey primary key (policy_id, officer_id)
);
alter table resguardo.retention_approvals enable row level security;

-- Returns the policy in force; all columns are null if no policy is in force.
create function private.active_policy() returns resguardo.retention_policies
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    active resguardo.retention_policies;
begin
    select p.* into active from resguardo.retention_policies as p where p.status = 'ACTIVE';
    return active;
end
$$;

-- Locks the retention policies until the end of the transaction, so that only one policy is decided on at a time and
-- no policy comes into force meanwhile.
create function private.lock_policies() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    perform from private.turns as t where t.of = 'policies' for update;
    if not found then
        raise exception 'turn_missing';
    end if;
end
$$;

-- Returns whether the policy `after` shortens any term of the policy `before`: a term of recordings or signed notes
-- of any kind of consultation, a term of minors, or the grace period of deletions. A change of the jurisdiction also
-- counts as a shortening, because the minimum terms of the previous jurisdiction no longer apply.
create function private.shortens(before jsonb, after jsonb) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return (after ->> 'grace_days')::integer < (before ->> 'grace_days')::integer
        or (before ->> 'jurisdiction' is not null and before ->> 'jurisdiction' is distinct from after ->> 'jurisdiction')
        or coalesce((after #>> '{minors,until_age_years}')::integer, 0)
        < coalesce((before #>> '{minors,until_age_years}')::integer, 0)
        or exists (
            select
            from (
                select null::text as kind
                union select k.kind from jsonb_object_keys(before -> 'kinds') as k (kind)
                union select k.kind from jsonb_object_keys(after -> 'kinds') as k (kind)
            ) as n
            cross join unnest(array['recording_days', 'signed_note_days']) as t (term)
            where private.term_of(after, n.kind, t.term) < private.term_of(before, n.kind, t.term)
        );
end
$$;

-- Returns whether two compliance officers must approve the given retention terms. Two officers are needed if the new
-- terms shorten a term of the policy in force. Two officers are also needed if the new terms apply to existing
-- recordings and shorten a term of an earlier policy that still determines a recording's due date. If no policy was
-- ever in force, two officers are needed as soon as any recording exists, because the new policy would be the first
-- to set a due date for the recording.
create function private.is_shortening(of_terms jsonb) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    active constant resguardo.retention_policies := private.active_policy();
begin
    if active.id is null then
        return exists (select from resguardo.recordings);
    end if;
    return private.shortens(active.terms, of_terms)
        or (
            (of_terms ->> 'applies_to_existing')::boolean
            and exists (
                select
                from resguardo.retention_policies as p
                where p.status = 'SUPERSEDED' and private.shortens(p.terms, of_terms)
                    and exists (
                        select from resguardo.recordings as r
                        where r.retention_policy = p.id and r.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
                        union all
                        select
                        from resguardo.signed_notes as n
                        where n.retention_policy = p.id and n.status = 'KEPT'
                    )
            )
        );
end
$$;

-- Returns each existing recording whose due date the given policy would change, with the due date before and after
-- the change. The new due date is never in the past unless the recording is already due. The function leaves out
-- recordings whose destruction has begun.
create function private.redated(of_policy integer)
returns table (recording_id uuid, due_before timestamptz, due_after timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    policy resguardo.retention_policies;
begin
    select p.* into policy from resguardo.retention_policies as p where p.id = of_policy;
    return query
    select
        r.id, r.due_at,
        greatest(
            private.due_of(
                policy.terms, c.kind, p.birth_date,
                coalesce(r.term_from, greatest(r.ended_at, r.stored_at, r.status_at))
            ),
            least(r.due_at, private.now())
        )
    from resguardo.recordings as r
    inner join resguardo.consultations as c on c.id = r.consultation_id
    inner join resguardo.patients as p on p.id = r.patient_id
    where r.medium = 'VIDEO' and r.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
        and (r.retention_policy is null or (policy.terms ->> 'applies_to_existing')::boolean)
        and not exists (
            select from resguardo.deletions as d where d.recording_id = r.id and d.status = 'DELETING'
        );
end
$$;

-- Puts a retention policy into force and ends the previous policy. Transactions that write a recording wait for
-- activate_policy(), so each recording gets its due date either from the previous policy or from the new policy. If a
-- recording got its due date from the previous policy, activate_policy() computes the due date again. The same applies
-- to signed notes.
create function private.activate_policy(of_policy integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    how_many integer;
begin
    lock table resguardo.recordings, resguardo.signed_notes in share row exclusive mode;
    update resguardo.retention_policies as p set status = 'SUPERSEDED' where p.status = 'ACTIVE';
    update resguardo.retention_policies as p set status = 'ACTIVE', activated_at = private.now()
    where p.id = of_policy;
    update resguardo.recordings as r set due_at = n.due_after, retention_policy = of_policy
    from private.redated(of_policy) as n
    where r.id = n.recording_id;
    get diagnostics how_many = row_count;
    how_many := how_many + cardinality(private.date_signed_notes(null, null));
    perform private.write_audit(
        'retention.activate', 'ALLOWED', 'policy_' || of_policy, 'retention_policy', '{}', '{}', '{}',
        array['status', 'due_at'], how_many, null
    );
end
$$;

-- Stores a version of the retention policy, on which compliance officers then decide, and returns the version's id.
-- Only the owner of the database can call propose_policy(). Raises RG409 (retention_policies_name_key) if an earlier
-- policy has the same name.
create function private.propose_policy(of_name text, of_sha256 text, of_source text, of_terms jsonb) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made integer;
begin
    perform private.lock_policies();
    insert into resguardo.retention_policies (name, sha256, source, terms, shortens)
    values (of_name, of_sha256, of_source, of_terms, private.is_shortening(of_terms))
    returning id into made;
    perform private.write_audit(
        'retention.propose', 'ALLOWED', 'policy_' || made, 'retention_policy', '{}', '{}', '{}',
        array['terms'], 1, null
    );
    return made;
end
$$;

-- Puts the first policy into force at once, if no officer has decided on any policy and no recording exists. If an
-- officer has decided on a policy or a recording exists, the function returns null and puts no policy into force.
-- Only the owner of the database can call adopt_policy().
create function private.adopt_policy(of_name text, of_sha256 text, of_source text, of_terms jsonb) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made integer;
begin
    perform private.lock_policies();
    lock table resguardo.recordings in share row exclusive mode;
    if exists (select from resguardo.retention_policies) or exists (select from resguardo.recordings) then
        return null;
    end if;
    made := private.propose_policy(of_name, of_sha256, of_source, of_terms);
    perform private.activate_policy(made);
    return made;
end
$$;

-- Locks and returns a proposed retention policy, so that a compliance officer can decide on it. Returns nulls if the
-- policy does not exist, and writes an audit row about the failed lookup. Raises RG409 (retention_policy_settled) if
-- the policy was already decided on.
create function private.open_policy(of_policy integer, action text) returns resguardo.retention_policies
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.retention_policies;
begin
    perform private.lock_policies();
    select p.* into wanted from resguardo.retention_policies as p where p.id = of_policy for update;
    if wanted.id is null then
        perform private.write_audit(
            action, 'ABSENT', 'not_found', 'retention_policy', '{}', '{}', '{}', array['status'], 0, null
        );
    elsif wanted.status <> 'PROPOSED' then
        raise exception 'retention_policy_settled' using errcode = 'RG409';
    end if;
    return wanted;
end
$$;

-- Records one compliance officer's approval of a proposed policy, and compares the proposed policy with the policy
-- that is in force now. Returns false if the proposal does not exist. The proposed policy comes into force with the
-- first approval, or with a second officer's approval if the policy shortens a term. The approval of an officer who
-- has since been suspended does not count. Raises RG409 (retention_policy_settled, retention_same_officer).
create function private.approve_policy(of_policy integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    wanted constant resguardo.retention_policies := private.open_policy(of_policy, 'retention.approve');
    is_shorter boolean;
    approvals integer;
begin
    if wanted.id is null then
        return false;
    end if;
    insert into resguardo.retention_approvals (policy_id, officer_id) values (of_policy, person)
    on conflict do nothing;
    if not found then
        raise exception 'retention_same_officer' using errcode = 'RG409';
    end if;
    perform private.write_audit(
        'retention.approve', 'ALLOWED', 'policy_' || of_policy, 'retention_policy', '{}', '{}', '{}',
        array['status'], 1, null
    );
    lock table resguardo.recordings in share row exclusive mode;
    is_shorter := private.is_shortening(wanted.terms);
    update resguardo.retention_policies as p set shortens = is_shorter where p.id = of_policy;
    select count(*) into approvals
    from resguardo.retention_approvals as a
    inner join resguardo.staff as s on s.user_id = a.officer_id
    where a.policy_id = of_policy and s.status = 'active' and s.role = 'compliance';
    if approvals >= (case when is_shorter then 2 else 1 end) then
        perform private.activate_policy(of_policy);
    end if;
    return true;
end
$$;

-- Records one compliance officer's rejection of a proposed policy, which ends the proposal. Returns false if the
-- proposal does not exist. Raises RG409 (retention_policy_settled).
create function private.reject_policy(of_policy integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.person();
    if (private.open_policy(of_policy, 'retention.reject')).id is null then
        return false;
    end if;
    update resguardo.retention_policies as p set status = 'REJECTED' where p.id = of_policy;
    perform private.write_audit(
        'retention.reject', 'ALLOWED', 'policy_' || of_policy, 'retention_policy', '{}', '{}', '{}',
        array['status'], 1, null
    );
    return true;
end
$$;

-- Returns the effect of a retention policy on existing recordings and signed notes, one row for each month. A row
-- contains how many recordings the policy would delete in the month, how many of these have a later due date or none
-- today, and how many of these are held and therefore kept. It also contains how many signed notes the policy would
-- destroy in the month, and how many of these are held. `earliest_due_at` is of recordings alone.
create function private.policy_effects(of_policy integer)
returns table (
    month date, recordings bigint, size_bytes bigint, sooner bigint, held bigint, earliest_due_at timestamptz,
    notes bigint, held_notes bigint
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with recordings_due as (
        select
            date_trunc('month', n.due_after at time zone 'UTC')::date as month, count(*) as counted,
            coalesce(sum(coalesce(r.size_bytes, 0) + s.size_bytes), 0)::bigint as bytes,
            count(*) filter (where n.due_before is null or n.due_after < n.due_before) as is_sooner,
            count(h.id) as is_held, min(n.due_after) as earliest
        from private.redated(of_policy) as n
        inner join resguardo.recordings as r on r.id = n.recording_id
        cross join lateral (
            select coalesce(sum(p.size_bytes), 0) as size_bytes from resguardo.recordings as p where p.video_id = r.id
        ) as s
        left join private.held_videos() as h (id) on h.id = r.id
        group by 1
    ),

    notes_due as (
        select
            date_trunc('month', n.due_after at time zone 'UTC')::date as month, count(*) as counted, count(h.id) as is_held
        from private.redated_notes(of_policy) as n
        left join private.held_notes() as h (id) on h.id = n.note_id
        where n.due_after is not null
        group by 1
    )

    select
        coalesce(d.month, n.month), coalesce(d.counted, 0), coalesce(d.bytes, 0), coalesce(d.is_sooner, 0),
        coalesce(d.is_held, 0), d.earliest, coalesce(n.counted, 0), coalesce(n.is_held, 0)
    from recordings_due as d
    full join notes_due as n on n.month = d.month
    order by 1;
end
$$;

-- Writes the audit row about this read, and returns the effect of a retention policy to a compliance officer. Returns
-- no row if the policy does not exist. Raises RG409 (retention_policy_settled) if the policy is not PROPOSED.
create function private.preview_policy(of_policy integer)
returns table (
    month date, recordings bigint, size_bytes bigint, sooner bigint, held bigint, earliest_due_at timestamptz,
    notes bigint, held_notes bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.retention_policies;
begin
    perform private.use_quota(private.person(), 'pages');
    select p.* into wanted from resguardo.retention_policies as p where p.id = of_policy;
    if wanted.status <> 'PROPOSED' then
        raise exception 'retention_policy_settled' using errcode = 'RG409';
    end if;
    perform private.write_audit(
        'retention.preview', case when wanted.id is null then 'ABSENT' else 'ALLOWED' end,
        coalesce('policy_' || wanted.id, 'not_found'), 'retention_policy', '{}', '{}', '{}',
        array['due_at', 'size_bytes'], (wanted.id is not null)::integer, null
    );
    if wanted.id is not null then
        return query select e.* from private.policy_effects(of_policy) as e;
    end if;
end
$$;


-- 21_recordings.sql

-- Recordings, their states, and the rule that nothing is recorded without consent.

create table resguardo.recordings (
    id uuid primary key,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    requested_by uuid not null,
    status text not null default 'REQUESTED'
    constraint recordings_status_is_known check (
        status in (
            'REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING', 'READY', 'FAILED', 'ABORTED', 'LOST',
            'DELETED'
        )
    ),
    room_name text not null,
    room_sid text,
    egress_id text constraint recordings_egress_id_key unique,
    egress_updated_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    duration_seconds double precision constraint recordings_duration_is_positive check (duration_seconds >= 0),
    size_bytes bigint constraint recordings_size_is_positive check (size_bytes > 0),
    sha256 text constraint recordings_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    truncated boolean not null default false,
    interrupted boolean not null default false,
    recorder_sid text,
    error text constraint recordings_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    medium text not null default 'VIDEO'
    constraint recordings_medium_is_known check (medium in ('VIDEO', 'MICROPHONE', 'SPEAKERS', 'CLIP')),
    video_id uuid,
    participant_id uuid,
    track_sid text constraint recordings_track_sid_is_id check (track_sid ~ '^[A-Za-z0-9_-]{1,64}$'),
    is_routed boolean not null default false,
    source text not null default 'EGRESS'
    constraint recordings_source_is_known check (source in ('EGRESS', 'IMPORT')),
    status_at timestamptz not null default clock_timestamp(),
    expected_sha256 text
    constraint recordings_expected_sha256_is_hex check (expected_sha256 ~ '^[0-9a-f]{64}$'),
    retention_class text not null default 'keep'
    constraint recordings_retention_class_is_known check (retention_class ~ '^(keep|d[1-9][0-9]{0,4})$'),
    recorded_class text,
    stored_at timestamptz,
    due_at timestamptz,
    retention_policy integer,
    term_from timestamptz,
    missing_since timestamptz,
    thumbnail_status text
    constraint recordings_thumbnail_status_is_known check (
        thumbnail_status in ('PENDING', 'READY', 'NO_PICTURE', 'FAILED')
    ),
    constraint recordings_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint recordings_ready_is_verified check (
        status <> 'READY' or (sha256 is not null and size_bytes is not null)
    ),
    constraint recordings_sound_has_video check ((medium <> 'VIDEO') = (video_id is not null)),
    constraint recordings_microphone_has_participant check ((medium = 'MICROPHONE') = (participant_id is not null)),
    constraint recordings_microphone_has_track check ((medium = 'MICROPHONE') = (track_sid is not null)),
    constraint recordings_routes_are_of_speakers check (medium = 'SPEAKERS' or not is_routed),
    constraint recordings_of_consultation_key unique (id, consultation_id),
    constraint recordings_video_fkey foreign key (video_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint recordings_participant_fkey foreign key (participant_id, consultation_id)
    references resguardo.participants (id, consultation_id),
    constraint recordings_retention_policy_fkey foreign key (retention_policy)
    references resguardo.retention_policies (id)
);
alter table resguardo.recordings enable row level security;
comment on column resguardo.recordings.truncated is
'LiveKit ended the recording at a limit: the file is valid, but the consultation went on.';
comment on column resguardo.recordings.interrupted is
'The recorder lost its room and came back: a part of the consultation is missing inside the recording.';
comment on column resguardo.recordings.recorder_sid is
'The participant SID under which the recorder was first seen in its room. It gets another one when it comes back.';
comment on column resguardo.recordings.medium is
'VIDEO: the room with mixed sound. MICROPHONE: one microphone track. SPEAKERS: sound on two channels. CLIP: a part.';
comment on column resguardo.recordings.video_id is 'The video that belongs to this sound.';
comment on column resguardo.recordings.participant_id is 'The participant who published the microphone track.';
comment on column resguardo.recordings.track_sid is
'LiveKit''s id of the microphone track. A microphone that is published again is another track.';
comment on column resguardo.recordings.is_routed is
'The doctor is on the left channel, the patient on the right one. False for SPEAKERS: nobody knows who is where.';
comment on column resguardo.recordings.status_at is
'When the recording entered its status. Deadlines count from this time.';
comment on column resguardo.recordings.error is
'The error, or the reason why the recording was stopped. A READY recording may have one.';
comment on column resguardo.recordings.expected_sha256 is
'The SHA-256 that the importer announced for the object; null if none was announced.';
comment on column resguardo.recordings.retention_class is
'The storage prefix of its objects. The bucket also deletes r/d90/ after 90 days; only we delete keep/.';
comment on column resguardo.recordings.recorded_class is
'The class when recording began. Objects that were left there after a move to keep/ are destroyed with it.';
comment on column resguardo.recordings.stored_at is 'When the object was stored, by the bucket''s clock.';
comment on column resguardo.recordings.due_at is
'When it is to be destroyed; null if it is unfinished, is sound (destroyed with its video), or has no policy.';
comment on column resguardo.recordings.retention_policy is 'The retention policy that set its term.';
comment on column resguardo.recordings.term_from is
'When its term begins: the latest end that any clock reported, so a clock that jumped back shortens no term.';
comment on column resguardo.recordings.missing_since is
'Since when its object was missing from the bucket; null if the object is present.';
comment on column resguardo.recordings.thumbnail_status is
'The status of its thumbnail; null if none is made. NO_PICTURE: no picture of the video is suitable.';
create index recordings_consultation_idx on resguardo.recordings (consultation_id, doctor_id, patient_id);
create index recordings_doctor_idx on resguardo.recordings (doctor_id, medium, created_at desc, id desc);
create index recordings_doctor_status_idx on resguardo.recordings (doctor_id, status, created_at desc, id desc)
where medium = 'VIDEO';
create index recordings_changed_idx on resguardo.recordings (doctor_id, updated_at desc, id desc)
where medium = 'VIDEO';
create index recordings_sound_changed_idx on resguardo.recordings (doctor_id, updated_at desc, id desc)
where medium <> 'VIDEO';
create index recordings_patient_idx on resguardo.recordings (patient_id, medium, created_at desc, id desc);
create index recordings_doctor_patient_idx
on resguardo.recordings (doctor_id, patient_id, created_at desc, id desc) where medium = 'VIDEO';
create index recordings_room_idx on resguardo.recordings (room_name);
create index recordings_video_idx on resguardo.recordings (video_id, consultation_id);
create index recordings_participant_idx on resguardo.recordings (participant_id, consultation_id);
create unique index recordings_track_key on resguardo.recordings (video_id, track_sid) where medium = 'MICROPHONE';
create unique index recordings_speakers_key on resguardo.recordings (video_id) where medium = 'SPEAKERS';
create index recordings_unfinished_idx on resguardo.recordings (status_at)
where status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING', 'LOST');
create unique index recordings_one_live_key on resguardo.recordings (consultation_id)
where medium = 'VIDEO' and status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING');
create index recordings_due_idx on resguardo.recordings (due_at, id) where due_at is not null;
create index recordings_retention_policy_idx on resguardo.recordings (retention_policy);
create index recordings_missing_idx on resguardo.recordings (missing_since) where missing_since is not null;

-- Law 5: a finished recording never returns to an earlier status. Law 7: a recording becomes DELETED only after its
-- encryption keys were destroyed. If a doctor stops a recording before it has begun, the trigger sets the recording's
-- error code, because a doctor may change only the recording's status.
create function private.guard_recording() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not private.may_become(old.status, new.status) then
        raise exception '%', case when private.is_live(old.status) then 'recording_has_begun'
            else 'recording_is_finished' end using errcode = 'RG409';
    end if;
    if current_setting('role') = 'clinician'
        and new.status = 'ABORTED' and old.status not in ('REQUESTED', 'ABORTED')
    then
        raise exception 'recording_has_begun' using errcode = 'RG409';
    end if;
    if current_setting('role') = 'clinician'
        and new.status in ('STOPPING', 'ABORTED') and old.status in ('REQUESTED', 'STARTING')
    then
        new.error := 'stopped_by_request';
    end if;
    if new.status = 'DELETED' and old.status <> 'DELETED' and not exists (
        select from resguardo.deletions as d
        where d.recording_id = coalesce(new.video_id, new.id) and d.status = 'DELETING' and d.shredded_at is not null
    ) then
        raise exception 'recording_not_destroyed' using errcode = 'RG409';
    end if;
    if old.status in ('READY', 'FAILED', 'ABORTED', 'DELETED')
        and (
            new.egress_id, new.room_sid, new.started_at, new.ended_at, new.duration_seconds, new.size_bytes,
            new.sha256, new.truncated, new.interrupted, new.error, new.stored_at
        ) is distinct from (
            old.egress_id, old.room_sid, old.started_at, old.ended_at, old.duration_seconds, old.size_bytes,
            old.sha256, old.truncated, old.interrupted, old.error, old.stored_at
        )
    then
        raise exception 'recording_is_finished' using errcode = 'RG409';
    end if;
    new.updated_at := private.now();
    if new.status <> old.status then
        new.status_at := new.updated_at;
    end if;
    return new;
end
$$;

create trigger recordings_guard before update on resguardo.recordings
for each row execute function private.guard_recording();

create function private.audit_transition() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    step text := new.status;
begin
    if tg_op = 'UPDATE' then
        if new.status = old.status then
            return null;
        end if;
        step := old.status || '>' || new.status;
    end if;
    perform private.write_audit(
        'recording.transition', case new.status when 'FAILED' then 'FAILED' else 'ALLOWED' end,
        concat_ws(':', step, new.error), 'recording', array[new.id], array[new.patient_id],
        array[new.consultation_id], array['status'], 1, new.size_bytes
    );
    return null;
end
$$;

create trigger recordings_audit_transition after insert or update of status on resguardo.recordings
for each row execute function private.audit_transition();

create function private.recheck_consent() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform from resguardo.consultations as c where c.id = new.consultation_id for no key update;
    if private.is_live(new.status) and not private.everyone_consents(new.consultation_id) then
        raise exception 'consent_missing' using errcode = 'RG409';
    end if;
    return null;
end
$$;

create trigger recordings_recheck_consent after insert on resguardo.recordings
for each row execute function private.recheck_consent();

create trigger recordings_announce after insert or update on resguardo.recordings
for each row execute function private.announce_change();

create function private.is_live(status text) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING');
end
$$;

create function private.is_finished(status text) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return status in ('READY', 'FAILED', 'ABORTED', 'LOST');
end
$$;

create function private.has_live_recording(consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_own_consultation(consultation);
    return exists (
        select from resguardo.recordings as r
        where r.consultation_id = consultation and private.is_live(r.status)
    );
end
$$;

-- Returns why no recording of a consultation can start now, for the doctor and the patient of the consultation and for
-- compliance. The service that starts recordings uses the same rows. SPEAKERS_WITH_GUESTS counts only if LiveKit
-- routes the doctor and the patient to the two channels of a sound recording, which only the API's settings say.
create function private.recording_blockers(of_consultation uuid)
returns table (reason text, participant_id uuid, role text, recording_id uuid)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('role') = 'compliance' then
        perform private.person();
    else
        perform private.require_own_consultation(of_consultation);
    end if;
    return query
    select 'RECORDING_IN_PROGRESS', null::uuid, null::text, r.id
    from resguardo.recordings as r
    where r.consultation_id = of_consultation and r.medium = 'VIDEO'
        and r.status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING')
    union all
    select
        case when s.is_withdrawn then 'CONSENT_WITHDRAWN' else 'CONSENT_MISSING' end, s.participant_id,
        coalesce(s.guest_role, s.kind), null
    from resguardo.standing_consents as s
    where s.consultation_id = of_consultation and s.is_required and not s.is_given
    union all
    select 'CONSENT_MISSING', null, k.kind, null
    from unnest(array['DOCTOR', 'PATIENT']) as k (kind)
    where not exists (
        select from resguardo.participants as p where p.consultation_id = of_consultation and p.kind = k.kind
    )
    union all
    select 'SPEAKERS_WITH_GUESTS', p.id, p.guest_role, null
    from resguardo.consultations as c
    inner join resguardo.participants as p on p.consultation_id = c.id and p.kind = 'GUEST'
    where c.id = of_consultation and c.separate_speakers;
end
$$;

-- Returns the reason code that tells why a recording in the given status cannot be downloaded, such as
-- `recording_deleted`.
create function private.unready_reason(status text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return case status
        when 'DELETED' then 'recording_deleted'
        when 'FAILED' then 'recording_failed'
        when 'ABORTED' then 'recording_aborted'
        when 'LOST' then 'recording_lost'
        else 'recording_not_ready'
    end;
end
$$;

-- Returns whether a recording may change from one status to another. A test compares the permitted changes of status
-- with TRANSITIONS in app/recordings/transitions.py.
create function private.may_become(before text, after text) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return before = after or after = any(case before
        when 'REQUESTED' then array['STARTING', 'ABORTED', 'FAILED']
        when 'STARTING' then array['RECORDING', 'STOPPING', 'VERIFYING', 'FAILED', 'ABORTED', 'LOST']
        when 'RECORDING' then array['STOPPING', 'VERIFYING', 'FAILED', 'ABORTED', 'LOST']
        when 'STOPPING' then array['VERIFYING', 'FAILED', 'ABORTED', 'LOST']
        when 'VERIFYING' then array['READY', 'FAILED', 'LOST']
        when 'LOST' then array['READY', 'DELETED']
        when 'READY' then array['DELETED']
        when 'FAILED' then array['DELETED']
        when 'ABORTED' then array['DELETED']
        else '{}'::text[]
    end);
end
$$;

-- Requests the automatic recording of a consultation: creates the recording with its object key and its job, and
-- returns its id. Returns null if the consultation is not recorded automatically, was recorded before, or lacks a
-- consent. The function locks the consultation, so that no concurrent transaction requests a second recording.
create function private.request_recording(of_consultation uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.consultations;
    video constant uuid := gen_random_uuid();
    made resguardo.recordings;
begin
    select c.* into wanted from resguardo.consultations as c where c.id = of_consultation for update;
    if wanted.id is null or not wanted.auto_record
        or not private.everyone_consents(of_consultation)
        or exists (
            select from resguardo.recordings as r where r.consultation_id = of_consultation and r.source = 'EGRESS'
        )
        or not exists (
            select from resguardo.staff as s where s.user_id = wanted.doctor_id and s.status = 'active'
        )
    then
        return null;
    end if;
    insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, room_name)
    values (video, wanted.id, wanted.doctor_id, wanted.patient_id, wanted.doctor_id, wanted.room_name)
    returning * into made;
    insert into private.recording_secrets (recording_id, object_key)
    values (video, private.first_object_key(made));
    perform private.defer_job('start_recording', video);
    perform private.write_audit(
        'recording.start', 'ALLOWED', 'auto_record', 'recording', array[video], array[wanted.patient_id],
        array[wanted.id], array['status'], 1, null
    );
    return video;
end
$$;

-- Returns the published microphone tracks, as (identity, track_sid), that are to be recorded beside the video. Each
-- returned track belongs to a participant of the consultation and has no recording yet.
create function private.unrecorded_tracks(video resguardo.recordings, identities text[], track_sids text[])
returns table (participant_id uuid, track_sid text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct on (t.track_sid) p.id, t.track_sid
    from unnest(identities, track_sids) as t (identity, track_sid)
    join resguardo.participants as p on p.consultation_id = video.consultation_id and p.id::text = t.identity
    where t.track_sid ~ '^[A-Za-z0-9_-]{1,64}$'
        and not exists (
            select from resguardo.recordings as r
            where r.video_id = video.id and r.medium = 'MICROPHONE' and r.track_sid = t.track_sid
        )
    order by t.track_sid, p.id;
end
$$;

-- Requests the sound recordings beside a video that is not finished, if the consultation has `separate_speakers`. The
-- function requests one sound recording for each of the given microphone tracks. If `is_routed` is true, the function
-- requests a single sound recording, with the doctor on the left channel and the patient on the right channel.
-- Returns how many sound recordings the function requested. A video never has both kinds of sound recording: the kind
-- that was requested first stays.
--
-- The sound recording of a microphone track is FAILED at once (too_many_microphones) if eight recordings of the
-- track's participant are live, or if it is the video's hundredth sound recording. The number of sound recordings is
-- limited because each of them costs an egress, and a participant can publish any number of tracks. A recording with
-- both speakers on two channels (`is_routed`) is requested only when the doctor and the patient both have a
-- microphone. If the consultation has a guest, a SPEAKERS recording (doctor and patient, one on each channel) gets
-- the status FAILED at once, with the error speakers_with_guests.
create function private.request_sound(
    of_video uuid, identities text[], track_sids text[], sound_file text, is_routed boolean
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    most_tracks constant integer := 100;
    most_live constant integer := 8;
    video resguardo.recordings;
    wanted record;
    made resguardo.recordings;
    refusal text;
    tracks integer;
    requested uuid[] := '{}';
begin
    select v.* into video from resguardo.recordings as v where v.id = of_video and v.medium = 'VIDEO';
    if video.id is null
        or not (is_routed or exists (select from private.unrecorded_tracks(video, identities, track_sids)))
        or exists (select from resguardo.recordings as r where r.video_id = of_video and r.medium = 'SPEAKERS')
    then
        return 0;
    end if;
    perform from resguardo.consultations as c where c.id = video.consultation_id for no key update;
    select v.* into video from resguardo.recordings as v where v.id = of_video for no key update;
    if video.status not in ('REQUESTED', 'STARTING', 'RECORDING')
        or not exists (
            select from resguardo.consultations as c where c.id = video.consultation_id and c.separate_speakers
        )
        or not private.everyone_consents(video.consultation_id)
        or exists (select from resguardo.recordings as r where r.video_id = of_video and r.medium = 'SPEAKERS')
    then
        return 0;
    end if;
    select count(*) into tracks from resguardo.recordings as r where r.video_id = of_video and r.medium = 'MICROPHONE';
    for wanted in
        select 'MICROPHONE' as medium, t.participant_id, t.track_sid
        from private.unrecorded_tracks(video, identities, track_sids) as t
        where not is_routed or tracks > 0
        union all
        select 'SPEAKERS', null::uuid, null::text
        where is_routed and tracks = 0
    loop
        exit when tracks >= most_tracks;
        if wanted.medium = 'SPEAKERS' then
            refusal := case when exists (
                    select from resguardo.participants as p
                    where p.consultation_id = video.consultation_id and p.kind = 'GUEST'
                ) then 'speakers_with_guests' end;
            exit when refusal is null and (
                select count(distinct p.kind)
                from resguardo.participants as p
                where p.consultation_id = video.consultation_id and p.id::text = any(identities)
            ) < 2;
        else
            tracks := tracks + 1;
            refusal := case when tracks = most_tracks or most_live <= (
                    select count(*) from resguardo.recordings as r
                    where r.video_id = of_video and r.participant_id = wanted.participant_id
                        and private.is_live(r.status)
                ) then 'too_many_microphones' end;
        end if;
        insert into resguardo.recordings (
            id, consultation_id, doctor_id, patient_id, requested_by, room_name, medium, video_id, participant_id,
            track_sid, is_routed, status, error
        ) values (
            gen_random_uuid(), video.consultation_id, video.doctor_id, video.patient_id, video.requested_by,
            video.room_name, wanted.medium, of_video, wanted.participant_id, wanted.track_sid,
            wanted.medium = 'SPEAKERS', case when refusal is null then 'REQUESTED' else 'FAILED' end, refusal
        ) returning * into made;
        insert into private.recording_secrets (recording_id, object_key)
        values (made.id, private.first_object_key(made, sound_file));
        if refusal is null then
            perform private.defer_job('start_recording', made.id);
            requested := requested || made.id;
        end if;
    end loop;
    if requested <> '{}' then
        perform private.write_audit(
            'recording.start', 'ALLOWED', 'separate_speakers', 'recording', requested, array[video.patient_id],
            array[video.consultation_id], array['status'], cardinality(requested), null
        );
    end if;
    return cardinality(requested);
end
$$;

-- Returns the id of the recording whose video this egress recorded, for a statement that then reads or audits the
-- recording. Returns the max UUID, which is the id of no recording, for an unknown egress.
create function private.recording_id_of(of_egress_id text) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_person();
    if of_egress_id is null then
        return null;
    end if;
    return coalesce(
        (
            select r.id from resguardo.recordings as r
            where r.egress_id = of_egress_id and r.medium = 'VIDEO'
        ),
        'ffffffff-ffff-ffff-ffff-ffffffffffff'
    );
end
$$;


-- 22_object_keys.sql

-- The bucket's object keys. The functions of this file compose the keys of recordings, imports and exports, and
-- app/bucket/object_keys.py composes the same keys in Python. tests/policies/test_object_keys.py compares both
-- implementations. Only functions that first write the audit row return the object key of a recording.

create table private.recording_secrets (
    recording_id uuid primary key
    constraint recording_secrets_recording_id_fkey references resguardo.recordings (id),
    object_key text not null constraint recording_secrets_object_key_key unique
);
create index recording_secrets_object_key_idx on private.recording_secrets (object_key collate "C");

create table private.viewings (
    id uuid primary key,
    recording_id uuid not null constraint viewings_recording_id_fkey references resguardo.recordings (id),
    file_id uuid not null constraint viewings_file_id_fkey references resguardo.recordings (id),
    person_id uuid not null,
    purpose text not null,
    began_at timestamptz not null default private.now()
);
comment on table private.viewings is
'The viewings of recordings. The audit row of each playback URL names the viewing to which the URL belongs.';
comment on column private.viewings.file_id is
'The file that is played: the video, a sound beside the video, or a clip.';
create index viewings_recording_idx on private.viewings (recording_id);
create index viewings_file_idx on private.viewings (file_id);
create index viewings_began_idx on private.viewings (began_at);

-- Stores a new viewing of a file. If `is_renewal` is true, the function instead checks that the caller began this
-- viewing of this file for this purpose within the last 12 hours. Raises RG409 (viewing_not_renewable). The function
-- also deletes viewings that can no longer be renewed.
create function private.begin_viewing(
    of_viewing uuid, of_recording uuid, of_file uuid, doctor uuid, is_renewal boolean
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    stated constant text := coalesce(nullif(current_setting('resguardo.purpose', true), ''), 'TREATMENT');
begin
    if is_renewal then
        if not exists (
            select from private.viewings as v
            where v.id = of_viewing and v.recording_id = of_recording and v.file_id = of_file
                and v.person_id = doctor and v.purpose = stated
                and v.began_at > private.now() - interval '12 hours'
        ) then
            raise exception 'viewing_not_renewable' using errcode = 'RG409';
        end if;
        return;
    end if;
    delete from private.viewings as v
    where v.id in (
        select o.id from private.viewings as o
        where o.began_at < private.now() - interval '1 day'
        limit 100
        for update skip locked
    );
    insert into private.viewings (id, recording_id, file_id, person_id, purpose)
    values (of_viewing, of_recording, of_file, doctor, stated);
end
$$;

-- Sets the object key of a recording. An object key contains no name of a person. Raises RG403 if the recording does
-- not belong to the caller.
create function private.assign_object_key(of_recording uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    insert into private.recording_secrets (recording_id, object_key)
    select r.id, private.first_object_key(r)
    from resguardo.recordings as r
    where r.id = of_recording and r.doctor_id = doctor;
    if not found then
        raise exception 'recording_not_found' using errcode = 'RG404';
    end if;
end
$$;

-- Raises RG403 (totp_stale) if the session's newest TOTP code is older than the given maximum age. A maximum age of
-- null allows every age.
create function private.require_recent_totp(totp_max_age_seconds integer) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    newest_totp double precision;
begin
    select max((a.method ->> 'timestamp')::double precision) into newest_totp
    from jsonb_array_elements(private.claims() -> 'amr') as a (method)
    where a.method ->> 'method' in ('totp', 'mfa/totp');
    if totp_max_age_seconds is not null
        and coalesce(newest_totp, 0) < extract(epoch from now()) - totp_max_age_seconds
    then
        raise exception 'totp_stale' using errcode = 'RG403';
    end if;
end
$$;

-- Writes the audit row about this access, and returns the object key of a READY file of a recording to the recording's
-- doctor: the key of its video, or of the media file beside the video that the caller names. Returns null if the person
-- may not see the recording, it does not exist or has no such file (the audit row then says DENIED, ABSENT or FAILED),
-- and '' if the file is not READY. The audit row names the recording and the media file, and for `recording.play` also
-- the viewing: a new one, or the one that the caller renews. The session's TOTP code must be no older than the given
-- maximum age. Raises RG403 (totp_stale), RG429 (quota_urls, quota_playbacks), RG409 (recording_being_deleted,
-- viewing_not_renewable).
create function private.release_object_key(
    action text, of_recording uuid, totp_max_age_seconds integer, of_file uuid default null,
    of_viewing uuid default null, is_renewal boolean default false
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    wanted resguardo.recordings;
    file resguardo.recordings;
    key text;
    is_allowed boolean;
begin
    if action is null or action not in ('recording.issue_url', 'recording.read_storage', 'recording.play')
        or (action = 'recording.play') <> (of_viewing is not null)
    then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    perform private.require_recent_totp(totp_max_age_seconds);
    perform private.use_quota(doctor, case action when 'recording.play' then 'playbacks' else 'urls' end);
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording;
    if wanted.doctor_id = doctor and exists (
        select from resguardo.deletions as d
        where d.recording_id = wanted.id and d.status in ('REQUESTED', 'DELETING')
    ) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    if wanted.medium = 'VIDEO' then
        select f.* into file
        from resguardo.recordings as f
        where f.id = coalesce(of_file, of_recording) and wanted.id in (f.id, f.video_id);
    end if;
    select s.object_key into key from private.recording_secrets as s where s.recording_id = file.id;
    is_allowed := coalesce(wanted.doctor_id = doctor and file.status = 'READY' and key is not null, false);
    if is_allowed and of_viewing is not null then
        perform private.begin_viewing(of_viewing, wanted.id, file.id, doctor, is_renewal);
    end if;
    perform private.write_audit_of_entities(
        action,
        case when is_allowed then 'ALLOWED' when wanted.id is null then 'ABSENT'
            when wanted.doctor_id <> doctor then 'DENIED' else 'FAILED' end,
        case when wanted.id is null or wanted.doctor_id <> doctor or file.id is null then 'not_found'
            when not is_allowed then private.unready_reason(file.status)
            when is_renewal then 'renewal' end,
        private.entities_of('recording', array_remove(array[of_recording, of_file], null))
        || case when is_allowed and of_viewing is not null then private.entities_of('viewing', array[of_viewing])
            else '[]' end,
        case when wanted.id is not null then array[wanted.patient_id] end,
        case when wanted.id is not null then array[wanted.consultation_id] end,
        array['object'], is_allowed::integer, case when is_allowed then file.size_bytes end
    );
    return case when is_allowed then key when wanted.doctor_id = doctor and file.id is not null then '' end;
end
$$;

-- Returns the object key of a recording to the worker, and first writes the audit row about this access.
create function private.read_object_key(of_recording uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording;
    if wanted.id is null then
        return null;
    end if;
    perform private.write_audit(
        'recording.read_key', 'ALLOWED', null, 'recording', array[of_recording],
        array[wanted.patient_id], array[wanted.consultation_id], array['object_key'], 1, null
    );
    return (select s.object_key from private.recording_secrets as s where s.recording_id = of_recording);
end
$$;

-- Composes the object key of a recording: `r/<retention class>/<consultation>/<video>/<file>` or
-- `keep/<consultation>/<video>/<file>`. If no file is given, the function returns the common key prefix of the
-- objects of a video and its sound.
create function private.compose_object_key(of_recording resguardo.recordings, file text default '') returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return case of_recording.retention_class
            when 'keep' then 'keep/' else 'r/' || of_recording.retention_class || '/'
        end || format('%s/%s/%s', of_recording.consultation_id, coalesce(of_recording.video_id, of_recording.id), file);
end
$$;

-- Returns the key that an object under r/ gets when it is moved to keep/.
create function private.kept_object_key(object_key text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return regexp_replace(object_key, '^r/[^/]+/', 'keep/');
end
$$;

-- Returns the prefix under r/ of the consultation to which an object belongs, or null if the key is not under r/.
create function private.consultation_prefix(object_key text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return substring(object_key from '^r/[^/]+/[^/]+/');
end
$$;

-- Returns the common key prefix of the encrypted copies that are made for one access request.
create function private.exports_prefix(of_request uuid) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return format('exports/%s/', of_request);
end
$$;

-- Returns the object key that a recording gets when it is requested. `sound_file` is the extension of a MICROPHONE's
-- file: mp4 or ogg.
create function private.first_object_key(of_recording resguardo.recordings, sound_file text default 'mp4') returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return private.compose_object_key(
        of_recording,
        case of_recording.medium
            when 'MICROPHONE' then format(
                'microphone-%s.%s', of_recording.id, case sound_file when 'ogg' then 'ogg' else 'mp4' end
            )
            when 'SPEAKERS' then 'speakers.ogg'
            else 'video.mp4'
        end
    );
end
$$;

-- Law 5: gives a recording a new object key before the worker sends a second egress request to LiveKit, so that a
-- late egress of the first request overwrites no object. When the worker adopts an egress that LiveKit already runs,
-- the recording gets the object key of that egress. The object key changes only while the recording is unfinished.
-- Raises RG409 (object_key_of_another).
create function private.change_object_key(of_recording uuid, key text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording;
    if wanted.id is null or not private.is_live(wanted.status)
        or not starts_with(key, private.compose_object_key(wanted))
        or substr(key, length(private.compose_object_key(wanted)) + 1) !~ (
            case wanted.medium
                when 'MICROPHONE' then format('^microphone-%s(-[0-9]{1,3})?[.](mp4|ogg)$', wanted.id)
                when 'SPEAKERS' then '^speakers(-[0-9]{1,3})?[.]ogg$'
                else '^video(-[0-9]{1,3})?[.]mp4$'
            end
        )
    then
        raise exception 'object_key_of_another' using errcode = 'RG409';
    end if;
    update private.recording_secrets as s set object_key = key
    where s.recording_id = of_recording and s.object_key <> key;
end
$$;

-- Returns, for the sweep of orphaned objects, which of the given keys belong to no recording, no pending import, no
-- clip that is being stored and no move to keep/. A recording that the worker gave up before LiveKit reported anything
-- about it has no object key. An object that LiveKit later uploads for a recording without an object key is orphaned.
-- The function reveals nothing about keys that the caller did not name.
create function private.unknown_object_keys(keys text[]) returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select k.key from unnest(keys) as k (key)
        where not exists (
                select
                from private.recording_secrets as s
                join resguardo.recordings as r on r.id = s.recording_id
                where s.object_key = k.key
                    and not (r.status = 'ABORTED' or (r.status = 'FAILED' and r.egress_id is null and r.source = 'EGRESS'))
            )
            and not exists (
                select
                from private.import_secrets as s
                join resguardo.recording_imports as i on i.id = s.import_id
                where s.object_key = k.key and i.status in ('AWAITING_URL', 'AWAITING_UPLOAD')
            )
            and not exists (
                select from resguardo.clips as c
                where c.status = 'STORING' and k.key like '%/' || private.clip_file(c.id, c.run)
            )
            and not exists (select from private.object_moves as m where m.source_key = k.key)
            and not exists (select from private.object_moves as m where m.target_key = k.key)
    );
end
$$;

-- Returns the key prefixes of a recording's objects, including the prefix that they had before a move to keep/.
create function private.object_prefixes(of_recording resguardo.recordings) returns text[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    before resguardo.recordings := of_recording;
begin
    before.retention_class := coalesce(of_recording.recorded_class, of_recording.retention_class);
    return array(
        select distinct p.prefix
        from unnest(array[private.compose_object_key(of_recording), private.compose_object_key(before)]) as p (prefix)
    );
end
$$;


-- 23_recording_imports.sql

-- Imports of files that were recorded elsewhere.

-- Imports. The database generates the recording id, so nobody can make an import overwrite an existing recording.
create table resguardo.recording_imports (
    id uuid primary key default gen_random_uuid(),
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    recording_id uuid not null default gen_random_uuid() constraint recording_imports_recording_id_key unique,
    status text not null default 'AWAITING_URL'
    constraint recording_imports_status_is_known check (
        status in ('AWAITING_URL', 'AWAITING_UPLOAD', 'COMPLETED', 'EXPIRED')
    ),
    content_type text not null
    constraint recording_imports_content_type_is_known check (content_type = 'video/mp4'),
    size_bytes bigint not null
    constraint recording_imports_size_is_possible check (size_bytes between 1 and 5000000000),
    sha256 text constraint recording_imports_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    recorded_at timestamptz,
    expires_at timestamptz not null default clock_timestamp() + interval '15 minutes',
    created_at timestamptz not null default clock_timestamp(),
    retention_class text not null default 'keep'
    constraint recording_imports_retention_class_is_known check (retention_class ~ '^(keep|d[1-9][0-9]{0,4})$'),
    constraint recording_imports_recorded_at_is_possible check (
        recorded_at >= '1990-01-01 00:00:00+00' and recorded_at <= created_at + interval '5 minutes'
    ),
    constraint recording_imports_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade
);
alter table resguardo.recording_imports enable row level security;
comment on column resguardo.recording_imports.recording_id is
'The id of the future recording, which exists once the import is COMPLETED.';
comment on column resguardo.recording_imports.expires_at is 'When the upload URL expires.';
comment on column resguardo.recording_imports.recorded_at is
'When the recording began, as the doctor states it. Becomes started_at and has no effect on the retention term.';
comment on column resguardo.recording_imports.retention_class is
'The retention class of the future recording. The object is uploaded under this prefix before the recording exists.';
create index recording_imports_consultation_idx
on resguardo.recording_imports (consultation_id, doctor_id, patient_id);
create index recording_imports_doctor_idx on resguardo.recording_imports (doctor_id);
create index recording_imports_patient_idx on resguardo.recording_imports (patient_id);
create index recording_imports_pending_idx on resguardo.recording_imports (expires_at)
where status in ('AWAITING_URL', 'AWAITING_UPLOAD');

create table private.import_secrets (
    import_id uuid primary key
    constraint import_secrets_import_id_fkey references resguardo.recording_imports (id),
    object_key text not null constraint import_secrets_object_key_key unique,
    upload_url text
);
comment on column private.import_secrets.upload_url is
'The upload URL, which works once without a login. Erased when it expires or the import is COMPLETED.';

-- Law 6: everyone must consent before a file is imported, because the file is a recording. The trigger also sets the
-- import's object key, which the imported recording keeps and which no other recording has.
create function private.guard_import() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    coming resguardo.recordings;
begin
    perform from resguardo.consultations as c where c.id = new.consultation_id for no key update;
    if not private.everyone_consents(new.consultation_id) then
        raise exception 'consent_missing' using errcode = 'RG409';
    end if;
    coming.id := new.recording_id;
    coming.consultation_id := new.consultation_id;
    coming.retention_class := new.retention_class;
    insert into private.import_secrets (import_id, object_key)
    values (new.id, private.compose_object_key(coming, 'import.mp4'));
    return null;
end
$$;

create trigger recording_imports_guard after insert on resguardo.recording_imports
for each row execute function private.guard_import();

-- Returns the object key and the maximum lifetime in seconds of the upload URL for the worker to sign, and first
-- writes the audit row. Returns no row if the import no longer needs an upload URL.
create function private.read_import_key(of_import uuid)
returns table (object_key text, content_type text, size_bytes bigint, seconds_left integer)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recording_imports;
    seconds integer;
begin
    select i.* into wanted from resguardo.recording_imports as i where i.id = of_import;
    seconds := floor(extract(epoch from wanted.expires_at - clock_timestamp()));
    if wanted.status is distinct from 'AWAITING_URL' or seconds < 1 then
        return;
    end if;
    perform private.write_audit(
        'recording.read_key', 'ALLOWED', null, 'recording_import', array[wanted.id], array[wanted.patient_id],
        array[wanted.consultation_id], array['object_key'], 1, null
    );
    return query
    select s.object_key, wanted.content_type, wanted.size_bytes, seconds
    from private.import_secrets as s where s.import_id = of_import;
end
$$;

-- Stores the upload URL that the worker signed, if the import still needs an upload URL.
create function private.store_upload_url(of_import uuid, url text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.recording_imports as i set status = 'AWAITING_UPLOAD'
    where i.id = of_import and i.status = 'AWAITING_URL' and i.expires_at > clock_timestamp();
    if found then
        update private.import_secrets as s set upload_url = url where s.import_id = of_import;
    end if;
end
$$;

-- Writes the audit row about this access, and returns the upload URL of an import to the import's doctor. Returns
-- null if the upload URL does not exist yet, or if the caller is not the doctor who owns the import (the audit row
-- then says DENIED or ABSENT).
create function private.release_upload_url(of_import uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    wanted resguardo.recording_imports;
    url text;
    is_own boolean;
begin
    select i.* into wanted from resguardo.recording_imports as i where i.id = of_import;
    is_own := coalesce(wanted.doctor_id = doctor, false);
    if is_own then
        select s.upload_url into url
        from private.import_secrets as s
        where s.import_id = of_import and wanted.expires_at > clock_timestamp();
        if url is null then
            return null;
        end if;
    end if;
    perform private.write_audit(
        'recording.issue_upload_url',
        case when is_own then 'ALLOWED' when wanted.id is null then 'ABSENT' else 'DENIED' end,
        case when not is_own then 'not_found' end, 'recording_import', array[of_import],
        array_remove(array[wanted.patient_id], null), array_remove(array[wanted.consultation_id], null),
        array['upload_url'], is_own::integer, case when is_own then wanted.size_bytes end
    );
    return url;
end
$$;

-- Returns how long an upload may continue after its URL has expired: as long as it takes to send 5 GB at 6 Mbit/s.
create function private.upload_grace() returns interval
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return interval '2 hours';
end
$$;

-- Creates the recording of an import with the status VERIFYING, queues the recording's job and erases the upload URL.
-- Changes nothing if the import is already COMPLETED. The uploaded object need not exist yet, because the
-- verification checks whether it exists. The function raises an error if a recording with the import's recording id
-- already exists, and never uses that recording. Raises RG404 (import_not_found) and RG409
-- (import_expired, consent_missing).
create function private.complete_import(of_import uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    wanted resguardo.recording_imports;
begin
    select i.* into wanted from resguardo.recording_imports as i
    where i.id = of_import and i.doctor_id = doctor and i.status = 'COMPLETED';
    if found then
        return wanted.recording_id;  -- nothing changes, so nothing is locked
    end if;
    perform
    from resguardo.consultations as c
    join resguardo.recording_imports as i on i.consultation_id = c.id
    where i.id = of_import and c.doctor_id = doctor
    for update of c;
    if not found then
        raise exception 'import_not_found' using errcode = 'RG404';
    end if;
    select i.* into wanted from resguardo.recording_imports as i where i.id = of_import for update;
    if wanted.status = 'COMPLETED' then
        return wanted.recording_id;
    elsif wanted.status = 'EXPIRED' or wanted.expires_at + private.upload_grace() < clock_timestamp() then
        raise exception 'import_expired' using errcode = 'RG409';
    elsif not private.everyone_consents(wanted.consultation_id) then
        raise exception 'consent_missing' using errcode = 'RG409';
    end if;
    insert into resguardo.recordings (
        id, consultation_id, doctor_id, patient_id, requested_by, status, room_name, medium, source, size_bytes,
        expected_sha256, started_at
    )
    select
        wanted.recording_id, c.id, c.doctor_id, c.patient_id, doctor, 'VERIFYING', c.room_name, 'VIDEO', 'IMPORT',
        wanted.size_bytes, wanted.sha256, wanted.recorded_at
    from resguardo.consultations as c where c.id = wanted.consultation_id;
    insert into private.recording_secrets (recording_id, object_key)
    select wanted.recording_id, s.object_key from private.import_secrets as s where s.import_id = of_import;
    update resguardo.recording_imports as i set status = 'COMPLETED' where i.id = of_import;
    update private.import_secrets as s set upload_url = null where s.import_id = of_import;
    perform private.put_job('verify_recording', wanted.recording_id);
    return wanted.recording_id;
end
$$;

-- Erases expired upload URLs, ends imports that no client completed before their upload deadline and grace period had
-- passed, and returns how many imports ended. The uploaded objects of ended imports are orphaned, and the sweep of
-- orphaned objects deletes them.
create function private.expire_imports() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    expired resguardo.recording_imports;
    how_many integer := 0;
begin
    update private.import_secrets as s set upload_url = null
    from resguardo.recording_imports as i
    where i.id = s.import_id and i.status = 'AWAITING_UPLOAD' and i.expires_at < clock_timestamp()
        and s.upload_url is not null;
    for expired in
        update resguardo.recording_imports as i set status = 'EXPIRED'
        where i.status in ('AWAITING_URL', 'AWAITING_UPLOAD')
            and i.expires_at + private.upload_grace() < clock_timestamp()
        returning i.*
    loop
        how_many := how_many + 1;
        perform private.write_audit(
            'recording.expire_import', 'ALLOWED', null, 'recording_import', array[expired.id],
            array[expired.patient_id], array[expired.consultation_id], array['status'], 1, null
        );
    end loop;
    return how_many;
end
$$;


-- 24_livekit_events.sql

-- The inbox of LiveKit's webhook deliveries, which stores only ids and times.

create table private.livekit_events (
    event_id text primary key constraint livekit_events_event_id_is_id check (event_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    event text not null constraint livekit_events_event_is_name check (event ~ '^[a-z][a-z_]{0,63}$'),
    egress_id text constraint livekit_events_egress_id_is_id check (egress_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    room_name text,
    occurred_at timestamptz not null,
    received_at timestamptz not null default clock_timestamp()
);
comment on table private.livekit_events is
'The inbox of LiveKit''s events, ids only. An event only makes the worker read LiveKit''s own lists.';

-- Law 5: stores the event of a LiveKit webhook and queues its job in one transaction. Returns true if LiveKit's event
-- is new; the function then queues the event's job. After an egress event, the job reads LiveKit's list of egresses.
-- After an event of a room that is recorded, or that may still be recorded automatically, the job reads the room's
-- participants. No job is queued for an event of a room without a recording, because the job that starts a recording
-- reads the room's participants itself.
--
-- If a job that will read the same list from LiveKit is already waiting, no second job is queued. A participant who
-- joins and leaves many times therefore adds many events to the inbox, but few jobs to the queue. The check for a
-- waiting job needs no lock: a worker starts a job only after the job's new status is committed, so a job that is
-- still `todo` will read LiveKit's list after the current event. A job that failed and waits for its next attempt
-- does not count as a waiting job.
create function private.receive_livekit_event(
    of_event_id text, of_event text, of_egress_id text, of_room_name text, at timestamptz
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    task constant text := case
        when of_event like 'egress\_%' then 'follow_egress'
        when of_event in ('participant_joined', 'track_published')
            and exists (
                select from resguardo.consultations as c
                where c.room_name = of_room_name
                    and (
                        c.auto_record and not exists (
                            select from resguardo.recordings as r where r.consultation_id = c.id and r.source = 'EGRESS'
                        )
                        or exists (
                            select from resguardo.recordings as r
                            where r.consultation_id = c.id and private.is_live(r.status)
                        )
                    )
            )
            then 'watch_room'
    end;
    room constant text := case when of_room_name ~ '^[A-Za-z0-9_-]{1,128}$' then of_room_name end;
    turn constant text := task || ':' || coalesce(room, of_egress_id, of_event_id);
begin
    insert into private.livekit_events (event_id, event, egress_id, room_name, occurred_at)
    values (of_event_id, of_event, of_egress_id, room, at)
    on conflict (event_id) do nothing;
    if not found then
        return false;
    end if;
    if task is not null and not exists (
        select from jobs.procrastinate_jobs as j
        inner join private.livekit_events as e on j.args ->> 'id' = e.event_id
        where j.lock = turn and j.status = 'todo' and j.attempts = 0 and e.egress_id is not distinct from of_egress_id
    )
    then
        perform jobs.procrastinate_defer_jobs_v1(array[
            row(
                'default', task, 0, turn, null, jsonb_build_object('id', of_event_id), null
            )::jobs.procrastinate_job_to_defer_v1
        ]);
    end if;
    return true;
end
$$;


-- 25_retention.sql

-- The retention term of each recording: when it begins, and when the recording is to be destroyed.

-- Sets the retention class and the due date of a recording. A new video gets the retention class that its retention
-- term requires. A sound recording gets the retention class of its video, and an imported recording keeps the class
-- of its upload. A recording that has ended gets its due date from the policy in force and keeps that policy. If a
-- LOST recording is found and gets a new status, it keeps its retention policy and never becomes due earlier than
-- before.
create function private.retain_recording() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    policy resguardo.retention_policies;
    of_kind text;
    born date;
begin
    if tg_op = 'INSERT' and new.retention_class = 'keep' then
        new.retention_class := coalesce(
            (select v.retention_class from resguardo.recordings as v where v.id = new.video_id),
            (
                select i.retention_class from resguardo.recording_imports as i
                where i.recording_id = new.id and new.source = 'IMPORT'
            ),
            private.class_for(new.consultation_id)
        );
    end if;
    if tg_op = 'INSERT' then
        new.recorded_class := new.retention_class;
    end if;
    if new.medium <> 'VIDEO' or not private.is_finished(new.status) then
        return new;
    elsif tg_op = 'INSERT' then
        if new.due_at is not null then
            return new;
        end if;
    elsif new.status = old.status then
        return new;
    end if;
    new.term_from := greatest(
        new.term_from, new.created_at, new.ended_at, new.stored_at, new.status_at, private.latest_time()
    );
    policy := private.active_policy();
    if new.retention_policy is not null then
        select p.* into policy from resguardo.retention_policies as p where p.id = new.retention_policy;
    end if;
    if policy.id is not null then
        select c.kind, p.birth_date into of_kind, born
        from resguardo.consultations as c
        inner join resguardo.patients as p on p.id = c.patient_id
        where c.id = new.consultation_id
        for share of p;
        new.due_at := greatest(new.due_at, private.due_of(policy.terms, of_kind, born, new.term_from));
        new.retention_policy := policy.id;
    end if;
    return new;
end
$$;

-- Postgres runs triggers in the order of their names. The name of the trigger recordings_retention sorts after
-- recordings_guard, because the trigger recordings_guard must first set status_at.
create trigger recordings_retention before insert or update of status on resguardo.recordings
for each row execute function private.retain_recording();

create function private.classify_import() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    new.retention_class := private.class_for(new.consultation_id);
    return new;
end
$$;

create trigger recording_imports_classify before insert on resguardo.recording_imports
for each row execute function private.classify_import();

-- Returns the retention term 'recording_days' or 'signed_note_days' for a kind of consultation, or the default term
-- if the kind has none.
create function private.term_of(terms jsonb, kind text, term text) returns integer
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce((terms #>> array['kinds', kind, term])::integer, (terms #>> array['default', term])::integer);
end
$$;

-- Returns the time until which recordings of a minor with the given birth date must be kept at least, or null if the
-- retention terms say nothing about minors. A minor is of full age once the birthday has begun in every time zone. A
-- person born on 29 February comes of age on 1 March.
create function private.minor_until(terms jsonb, birth_date date) returns timestamptz
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    years constant integer := (terms #>> '{minors,until_age_years}')::integer;
begin
    return (
        make_date(extract(year from birth_date)::integer + years, extract(month from birth_date)::integer, 1)
        + (extract(day from birth_date)::integer - 1)
    )::timestamp at time zone 'Etc/GMT+12';
end
$$;

-- Returns when a recording or, with the term 'signed_note_days', a signed note is due for destruction if its retention
-- term counts from the given time. Returns null if the terms or the start time are null.
create function private.due_of(
    terms jsonb, kind text, birth_date date, counted_from timestamptz, term text default 'recording_days'
) returns timestamptz
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if terms is null or counted_from is null then
        return null;
    end if;
    return greatest(
        counted_from + make_interval(hours => 24 * private.term_of(terms, kind, term)),
        private.minor_until(terms, birth_date)
    );
end
$$;

-- Returns the retention class of a consultation's next recording: a key prefix under which the bucket's rule deletes
-- no object before the recording is due.
create function private.class_for(of_consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    terms constant jsonb := (private.active_policy()).terms;
    of_kind text;
    born date;
    days integer;
begin
    select c.kind, p.birth_date into of_kind, born
    from resguardo.consultations as c
    inner join resguardo.patients as p on p.id = c.patient_id
    where c.id = of_consultation;
    days := private.term_of(terms, of_kind, 'recording_days');
    if days is null or private.minor_until(terms, born) > private.now() + make_interval(hours => 24 * days) then
        return 'keep';
    end if;
    return 'd' || days;
end
$$;

-- Returns the videos that the bucket's rule would delete too early. The bucket deletes an object one week after the
-- term of its retention class, counted from when the object was stored. The function returns a video if it is due
-- later than two days before the bucket would delete its object, unless its retention class is `keep`.
create function private.outgrown() returns table (recording_id uuid)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select r.id
    from resguardo.recordings as r
    where r.retention_class <> 'keep' and r.medium = 'VIDEO' and r.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
        and r.due_at > coalesce(r.stored_at, r.created_at)
        + make_interval(hours => 24 * (substr(r.retention_class, 2)::integer + 5));
end
$$;

-- Writes the audit row, and returns the number and bytes of stored objects by retention class and age in days to
-- compliance. The report names no person and no recording.
create function private.report_storage()
returns table (retention_class text, age_from_days integer, objects bigint, size_bytes bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.use_quota(private.person(), 'pages');
    perform private.write_audit(
        'storage.report', 'ALLOWED', null, 'storage', '{}', '{}', '{}', array['size_bytes', 'due_at'], 1, null
    );
    return query
    select r.retention_class, a.from_days, count(*), coalesce(sum(r.size_bytes), 0)::bigint
    from resguardo.recordings as r
    cross join lateral (
        select max(d.days) as from_days
        from unnest(array[0, 30, 90, 365]) as d (days)
        where d.days = 0
            or private.now() - coalesce(r.stored_at, r.ended_at, r.created_at) >= make_interval(hours => 24 * d.days)
    ) as a
    where r.status = 'READY' or (r.stored_at is not null and r.status in ('VERIFYING', 'FAILED', 'ABORTED', 'LOST'))
    group by r.retention_class, a.from_days
    order by r.retention_class, a.from_days;
end
$$;

-- Returns which recordings become due in the next N days, how many of them are held and therefore kept, and how much
-- was stored and fetched in the last N days. The function writes no audit row, because report_storage() has already
-- written it.
create function private.report_coming(within_days integer)
returns table (
    recordings bigint, size_bytes bigint, held_recordings bigint, held_bytes bigint, objects_stored bigint,
    urls_issued bigint
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    span constant interval := make_interval(hours => 24 * within_days);
begin
    perform private.person();
    return query
    with due as (
        select r.id, coalesce(r.size_bytes, 0) + s.size_bytes as bytes, h.id is not null as is_held
        from resguardo.recordings as r
        cross join lateral (
            select coalesce(sum(p.size_bytes), 0) as size_bytes from resguardo.recordings as p where p.video_id = r.id
        ) as s
        left join private.held_videos() as h (id) on h.id = r.id
        left join resguardo.deletions as d on d.recording_id = r.id and d.status in ('REQUESTED', 'DELETING')
        where (least(r.due_at, d.undo_until) < private.now() + span or d.status = 'DELETING') and r.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
    )

    select
        count(*) filter (where not d.is_held), coalesce(sum(d.bytes) filter (where not d.is_held), 0)::bigint,
        count(*) filter (where d.is_held), coalesce(sum(d.bytes) filter (where d.is_held), 0)::bigint,
        (
            select count(*) from resguardo.recordings as r
            where coalesce(r.stored_at, r.ended_at) > private.now() - span
        ),
        (
            select count(*) from audit.events as e
            where e.action in (
                'recording.issue_url', 'recording.play', 'recording.read_storage', 'access_request.issue_url'
            )
                and e.outcome = 'ALLOWED' and e.recorded_at > private.now() - span
        )
    from due as d;
end
$$;


-- 26_legal_holds.sql

-- Legal holds, which forbid the destruction of recordings that a legal matter needs. The function
-- private.may_be_destroyed() enforces legal holds (law 7).

create table resguardo.legal_holds (
    id uuid primary key default gen_random_uuid(),
    consultation_id uuid constraint legal_holds_consultation_id_fkey references resguardo.consultations (id),
    patient_id uuid constraint legal_holds_patient_id_fkey references resguardo.patients (id),
    recorded_since timestamptz,
    recorded_until timestamptz,
    matter text not null constraint legal_holds_matter_length check (length(matter) between 1 and 200),
    custodian text not null constraint legal_holds_custodian_length check (length(custodian) between 1 and 200),
    placed_by uuid not null,
    placed_at timestamptz not null default private.now(),
    released_by uuid,
    released_at timestamptz,
    constraint legal_holds_scope_is_one check (
        num_nonnulls(consultation_id, patient_id, recorded_since) = 1
        and (recorded_since is null) = (recorded_until is null)
    ),
    constraint legal_holds_range_is_forward check (recorded_since < recorded_until),
    constraint legal_holds_release_is_whole check ((released_by is null) = (released_at is null)),
    constraint legal_holds_release_is_by_another check (released_by <> placed_by)
);
alter table resguardo.legal_holds enable row level security;
comment on table resguardo.legal_holds is
'Legal holds on recordings. A hold is active while released_at is null. A released hold stays in the table.';
comment on column resguardo.legal_holds.recorded_since is
'With recorded_until (exclusive): every recording created in this range.';
create index legal_holds_consultation_idx on resguardo.legal_holds (consultation_id);
create index legal_holds_patient_idx on resguardo.legal_holds (patient_id);
create index legal_holds_placed_idx on resguardo.legal_holds (placed_at desc, id desc);
create index legal_holds_active_placed_idx on resguardo.legal_holds (placed_at desc, id desc)
where released_at is null;
create index legal_holds_released_placed_idx on resguardo.legal_holds (placed_at desc, id desc)
where released_at is not null;
create index legal_holds_active_idx on resguardo.legal_holds (recorded_since) where released_at is null;

-- Returns the videos that a legal hold covers, whatever their status is. A hold on a video also covers the sound
-- recorded beside it. If the hold's range of time includes a sound recording, the hold covers the video of that sound
-- recording.
create function private.videos_under(of_hold resguardo.legal_holds) returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if of_hold.consultation_id is not null then
        return query
        select r.id from resguardo.recordings as r
        where r.consultation_id = of_hold.consultation_id and r.medium = 'VIDEO' and r.status <> 'DELETED';
    elsif of_hold.patient_id is not null then
        return query
        select r.id from resguardo.recordings as r
        where r.patient_id = of_hold.patient_id and r.medium = 'VIDEO' and r.status <> 'DELETED';
    else
        return query
        select distinct coalesce(r.video_id, r.id) from resguardo.recordings as r
        inner join resguardo.consultations as c on c.id = r.consultation_id
        where (
            (r.created_at >= of_hold.recorded_since and r.created_at < of_hold.recorded_until)
            or (r.started_at >= of_hold.recorded_since and r.started_at < of_hold.recorded_until)
            or (c.scheduled_at >= of_hold.recorded_since and c.scheduled_at < of_hold.recorded_until)
        )
            and r.status <> 'DELETED';
    end if;
end
$$;

-- Places a legal hold, and returns its id and how many videos and signed notes it covers now. Returns no row if the
-- given consultation or patient does not exist. If the caller has already placed an equal active hold, the function
-- returns that hold and places no second hold. The function takes the keeping lock exclusively, so no destruction
-- begins while the hold is being placed. The function separately counts the recordings whose destruction has already
-- begun.
create function private.place_hold(
    of_consultation uuid, of_patient uuid, since timestamptz, until timestamptz, of_matter text, of_custodian text
) returns table (id uuid, covered_recordings bigint, recordings_in_destruction bigint, covered_notes bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    hold resguardo.legal_holds;
    patients uuid[];
    covered uuid[];
begin
    perform private.lock_keeping(true);
    patients := array(
        select c.patient_id from resguardo.consultations as c where c.id = of_consultation
        union all
        select p.id from resguardo.patients as p where p.id = of_patient
    );
    if cardinality(patients) = 0 and since is null then
        perform private.write_audit(
            'hold.place', 'ABSENT', 'not_found', case when of_patient is null then 'consultation' else 'patient' end,
            array_remove(array[of_consultation, of_patient], null), '{}', '{}', '{}', 0, null
        );
        return;
    end if;
    select h.* into hold
    from resguardo.legal_holds as h
    where h.placed_by = person and h.released_at is null and h.matter = of_matter and h.custodian = of_custodian
        and (h.consultation_id, h.patient_id, h.recorded_since, h.recorded_until)
        is not distinct from (of_consultation, of_patient, since, until);
    if hold.id is null then
        insert into resguardo.legal_holds as h (
            consultation_id, patient_id, recorded_since, recorded_until, matter, custodian, placed_by
        ) values (of_consultation, of_patient, since, until, of_matter, of_custodian, person)
        returning h.* into hold;
    end if;
    covered := array(select v.id from private.videos_under(hold) as v (id));
    perform private.write_audit_later(
        'hold.place', null, 'legal_hold', hold.id, patients[1], of_consultation, array['scope', 'matter', 'custodian'],
        null
    );
    perform private.put_job('secure_held', hold.id);
    return query
    select
        hold.id, cardinality(covered)::bigint,
        (
            select count(distinct d.recording_id) from resguardo.deletions as d
            where d.recording_id = any(covered) and d.status = 'DELETING'
        ),
        (select count(*) from private.notes_under(hold));
end
$$;

-- Releases a legal hold, and returns its id; the caller must not be the officer who placed it. Returns null if the
-- legal hold does not exist. If the caller has already released the hold, the function changes nothing. Raises RG409
-- (own_hold, hold_released).
create function private.release_hold(of_hold uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    hold resguardo.legal_holds;
    about private.subjects;
begin
    select h.* into hold from resguardo.legal_holds as h where h.id = of_hold for update;
    if hold.id is null then
        perform private.write_audit(
            'hold.release', 'ABSENT', 'not_found', 'legal_hold', array[of_hold], '{}', '{}', '{}', 0, null
        );
        return null;
    elsif hold.placed_by = person then
        raise exception 'own_hold' using errcode = 'RG409';
    elsif hold.released_by <> person then
        raise exception 'hold_released' using errcode = 'RG409';
    elsif hold.released_by is null then
        update resguardo.legal_holds as h set released_by = person, released_at = private.now()
        where h.id = of_hold
        returning h.* into hold;
        perform private.put_job('secure_held', hold.id);
    end if;
    about := private.subjects_of('legal_hold', of_hold);
    perform private.write_audit_later(
        'hold.release', null, 'legal_hold', of_hold, about.patient_ids[1], about.consultation_ids[1],
        array['releasedAt'], null
    );
    return hold.id;
end
$$;

-- Returns the videos that must not be destroyed, because an active legal hold or an access request covers them.
create function private.held_videos() returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select v.id
    from resguardo.legal_holds as h
    cross join lateral private.videos_under(h) as v (id)
    where h.released_at is null
    union
    select r.id
    from resguardo.access_requests as a
    inner join resguardo.recordings as r
        on r.patient_id = a.patient_id and (a.consultation_id is null or r.consultation_id = a.consultation_id)
    where a.status in ('OPEN', 'APPROVED', 'DENIED') and private.request_holds(a)
        and r.medium = 'VIDEO' and r.status <> 'DELETED';
end
$$;

-- Law 7: returns the ids of the active legal holds and the access requests that forbid the destruction of a
-- recording.
create function private.holds_on(of_recording uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select distinct h.id
        from resguardo.recordings as r
        inner join resguardo.consultations as c on c.id = r.consultation_id
        inner join resguardo.legal_holds as h
            on h.released_at is null
            and (
                h.consultation_id = r.consultation_id or h.patient_id = r.patient_id
                or (r.created_at >= h.recorded_since and r.created_at < h.recorded_until)
                or (r.started_at >= h.recorded_since and r.started_at < h.recorded_until)
                or (c.scheduled_at >= h.recorded_since and c.scheduled_at < h.recorded_until)
            )
        where of_recording in (r.id, r.video_id)
        union all
        select a.id
        from resguardo.recordings as r
        inner join resguardo.access_requests as a
            on a.patient_id = r.patient_id and a.status in ('OPEN', 'APPROVED', 'DENIED')
            and (a.consultation_id is null or a.consultation_id = r.consultation_id) and private.request_holds(a)
        where r.id = of_recording
    );
end
$$;

create function private.is_held(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return private.holds_on(of_recording) <> '{}';
end
$$;

-- Returns whether a legal hold or an access request forbids the destruction of a recording. A doctor may ask only about
-- the doctor's own recordings, and compliance about every recording. Raises RG404 (recording_not_found).
create function private.is_own_held(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor uuid;
begin
    if current_setting('role') = 'compliance' then
        perform private.person();
    else
        doctor := private.doctor();
        if not exists (select from resguardo.recordings as r where r.id = of_recording and r.doctor_id = doctor) then
            raise exception 'recording_not_found' using errcode = 'RG404';
        end if;
    end if;
    return private.is_held(of_recording);
end
$$;

-- Returns whether a recording may be destroyed now. The video and its sound must be finished, no legal hold or access
-- request may cover them, and none of their objects may be in a move to keep/.
create function private.may_be_destroyed(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return not exists (
        select
        from resguardo.recordings as r
        where of_recording in (r.id, r.video_id)
            and (
                not private.is_finished(r.status)
                or exists (select from private.object_moves as m where m.recording_id = r.id)
            )
    )
    and not exists (select from private.storing_videos() as s (id) where s.id = of_recording)
    and not private.is_held(of_recording);
end
$$;


-- 27_object_moves.sql

-- Moves of objects to keep/, a prefix that no rule of the bucket deletes, and objects that are missing from the
-- bucket.

create table private.object_moves (
    recording_id uuid primary key
    constraint object_moves_recording_id_fkey references resguardo.recordings (id),
    source_key text not null,
    target_key text not null,
    begun_at timestamptz not null default private.now(),
    kept_at timestamptz,
    constraint object_moves_lead_to_keep check (starts_with(target_key, 'keep/') and starts_with(source_key, 'r/'))
);
comment on table private.object_moves is
'Objects that move to keep/. While a row exists, the object may be under either key, or both.';
comment on column private.object_moves.kept_at is 'When the worker began to read the recording from the new key.';

-- Returns the videos under r/ that must outlive the bucket's rule, oldest first. `lock_prefix` is the folder of the
-- consultation, where a lock on the bucket's prefix would protect the video from deletion. `lock_prefix` is null if
-- the folder also contains a video that is not held, because the lock would protect the unheld video, too. `may_move`
-- is true if no process writes or destroys the objects any more. `movable` is the number of objects of the video and
-- its sound that can be moved now.
create function private.unprotected_videos()
returns table (
    id uuid, lock_prefix text, is_held boolean, is_outgrown boolean, may_move boolean, movable integer
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with held as materialized (select v.id from private.held_videos() as v (id)),

    outgrown as materialized (select o.id from private.outgrown() as o (id)),

    wanted as materialized (
        select
            r.id, r.created_at, m.prefix, m.are_finished, m.movable,
            exists (select from held as h where h.id = r.id) as is_held,
            exists (select from outgrown as o where o.id = r.id) as is_outgrown
        from resguardo.recordings as r
        cross join lateral (
            select
                min(private.consultation_prefix(k.object_key)) as prefix,
                bool_and(private.is_finished(p.status)) as are_finished,
                count(*) filter (
                    where private.may_move(p.status, p.status_at) and starts_with(k.object_key, 'r/')
                )::integer as movable
            from resguardo.recordings as p
            left join private.recording_secrets as k on k.recording_id = p.id
            where r.id in (p.id, p.video_id) and p.status <> 'DELETED'
        ) as m
        where r.id in (select h.id from held as h union select o.id from outgrown as o)
            and r.medium = 'VIDEO' and r.status <> 'DELETED'
    ),

    shared as materialized (
        select distinct w.prefix
        from wanted as w
        inner join resguardo.recordings as r on r.id = w.id
        inner join resguardo.recordings as o
            on o.consultation_id = r.consultation_id and o.medium = 'VIDEO' and o.status <> 'DELETED'
        inner join private.recording_secrets as k on k.recording_id = o.id and starts_with(k.object_key, w.prefix)
        where not exists (select from held as h where h.id = o.id)
    )

    select
        w.id,
        case when not exists (select from shared as x where x.prefix = w.prefix) then w.prefix end,
        w.is_held,
        w.is_outgrown,
        w.are_finished and w.movable > 0
        and not exists (
            select from resguardo.deletions as d
            where d.recording_id = w.id and d.status = 'DELETING' and private.is_in_destruction(w.id)
        ),
        w.movable
    from wanted as w
    where w.prefix is not null
    order by w.created_at, w.id;
end
$$;

create function private.may_move(status text, since timestamptz) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    return status in ('READY', 'FAILED', 'ABORTED')
        or (status = 'LOST' and since < private.now() - interval '8 days');
end
$$;

-- Returns the videos that have objects in a move to keep/, and the videos beside which a clip is being stored. The
-- destruction of a video may not begin in this time.
create function private.moving_videos() returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct coalesce(r.video_id, r.id)
    from private.object_moves as m
    inner join resguardo.recordings as r on r.id = m.recording_id
    union
    select s.id from private.storing_videos() as s (id);
end
$$;

-- Records that the objects of a video and of its sound are to move to keep/, writes the audit row, and returns the
-- old and new object keys. If a move of the video's objects is already under way, the function returns that move.
-- Returns no row if the destruction of the video has begun or no object needs to move.
create function private.begin_move(of_video uuid)
returns table (recording_id uuid, source_key text, target_key text, is_verified boolean, is_kept boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    video resguardo.recordings;
begin
    perform private.lock_keeping(false);
    perform from resguardo.recordings as r where of_video in (r.id, r.video_id) order by r.id for update;
    select r.* into video from resguardo.recordings as r where r.id = of_video;
    if not private.is_in_destruction(of_video) then
        update resguardo.deletions as d set attempts = d.attempts + 1
        where d.recording_id = of_video and d.status = 'DELETING';
        insert into private.object_moves (recording_id, source_key, target_key)
        select r.id, s.object_key, private.kept_object_key(s.object_key)
        from resguardo.recordings as r
        inner join private.recording_secrets as s on s.recording_id = r.id
        where of_video in (r.id, r.video_id) and private.may_move(r.status, r.status_at)
            and starts_with(s.object_key, 'r/')
        on conflict on constraint object_moves_pkey do nothing;
    end if;
    perform private.write_audit(
        'recording.read_key', 'ALLOWED', 'object_move', 'recording',
        array(
            select of_video
            union
            select m.recording_id
            from private.object_moves as m
            inner join resguardo.recordings as r on r.id = m.recording_id
            where of_video in (r.id, r.video_id)
        ),
        array_remove(array[video.patient_id], null), array_remove(array[video.consultation_id], null),
        array['object_key'], 1, null
    );
    return query
    select m.recording_id, m.source_key, m.target_key, r.status = 'READY', m.kept_at is not null
    from private.object_moves as m
    inner join resguardo.recordings as r on r.id = m.recording_id
    where of_video in (r.id, r.video_id)
    order by r.medium desc;
end
$$;

-- Replaces the recording's object key by the new key of its move, and returns true. Returns false if no move leads to
-- the given key, or the recording is being destroyed.
create function private.keep_object(of_recording uuid, old_key text, new_key text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    kept resguardo.recordings;
begin
    select r.* into kept from resguardo.recordings as r where r.id = of_recording for update;
    if exists (
        select from private.recording_secrets as s
        where s.recording_id = of_recording and s.object_key = new_key
    ) then
        return true;
    elsif private.is_in_destruction(coalesce(kept.video_id, kept.id)) then
        return false;
    end if;
    update private.recording_secrets as s set object_key = new_key
    where s.recording_id = of_recording and s.object_key = old_key
        and exists (
            select from private.object_moves as m
            where m.recording_id = of_recording and m.source_key = old_key and m.target_key = new_key
        );
    if not found then
        return false;
    end if;
    update resguardo.recordings as r set retention_class = 'keep' where r.id = of_recording;
    update private.object_moves as m set kept_at = private.now() where m.recording_id = of_recording;
    update private.deletion_objects as o set object_key = new_key where o.object_key = old_key;
    perform private.write_audit(
        'object.keep', 'ALLOWED', null, 'recording', array[of_recording], array[kept.patient_id],
        array[kept.consultation_id], array['object_key', 'retention_class'], 1, null
    );
    return true;
end
$$;

-- Ends the move of an object, when the object exists only under one key, or does not exist at all.
create function private.end_move(of_recording uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    delete from private.object_moves as m where m.recording_id = of_recording;
end
$$;

-- Starts a search for missing objects: returns the time and the number of verified recordings.
create function private.begin_look(out at timestamptz, out verified bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    at := private.now();
    select count(*) into verified from resguardo.recordings as r where r.status = 'READY';
end
$$;

-- Returns the verified recordings whose object key lies after `after_key`, up to and including `last_key`, and is not
-- in `present`, the list of existing objects. The function leaves out recordings whose destruction has begun. If a
-- recording is marked as missing and its object key is in `present`, the function removes the mark.
create function private.missing_objects(after_key text, last_key text, present text[])
returns table (id uuid, video_id uuid, consultation_id uuid, missing_since timestamptz)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.recordings as r set missing_since = null
    from private.recording_secrets as s
    where r.missing_since is not null and s.recording_id = r.id and s.object_key = any(present);
    return query
    select r.id, r.video_id, r.consultation_id, r.missing_since
    from private.recording_secrets as s
    inner join resguardo.recordings as r on r.id = s.recording_id
    where s.object_key collate "C" > after_key and s.object_key collate "C" <= last_key
        and r.status = 'READY' and not s.object_key = any(present)
        and not exists (
            select from resguardo.deletions as d
            where d.recording_id = coalesce(r.video_id, r.id) and d.status = 'DELETING'
        )
    order by r.id;
end
$$;

-- Records that the object of a recording was found missing at the given time. Returns false, and changes nothing, if
-- the object is already recorded as missing.
create function private.report_missing(of_recording uuid, seen_at timestamptz) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    missed resguardo.recordings;
begin
    update resguardo.recordings as r set missing_since = greatest(seen_at, private.now())
    where r.id = of_recording and r.missing_since is null and r.status = 'READY'
    returning r.* into missed;
    if missed.id is null then
        return false;
    end if;
    perform private.write_audit(
        'object.report_missing', 'ALLOWED', null, 'recording', array[missed.id], array[missed.patient_id],
        array[missed.consultation_id], array['missing_since'], 1, null
    );
    return true;
end
$$;


-- 28_clips.sql

-- Clips: short parts of a recording that its doctor cuts out. A finished clip is a row of resguardo.recordings, with
-- the medium CLIP and the id of the clip, beside the video and its sound. Holds, moves to keep/, the search for
-- missing objects, destruction and certificates therefore apply to a clip as they do to a sound recording.

create table resguardo.clips (
    id uuid primary key default gen_random_uuid(),
    recording_id uuid not null,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    purpose text not null,
    start_ms integer not null,
    end_ms integer not null,
    status text not null default 'PENDING'
    constraint clips_status_is_known check (
        status in ('PENDING', 'RUNNING', 'STORING', 'READY', 'FAILED', 'DELETED')
    ),
    percent_done integer not null default 0
    constraint clips_percent_is_known check (percent_done between 0 and 100),
    error text constraint clips_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    run integer not null default 0,
    created_at timestamptz not null default private.now(),
    changed_at timestamptz not null default private.now(),
    constraint clips_bounds_are_valid check (start_ms >= 0 and end_ms > start_ms and end_ms - start_ms <= 900000),
    constraint clips_failure_has_error check ((status = 'FAILED') = (error is not null)),
    constraint clips_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint clips_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade
);
alter table resguardo.clips enable row level security;
comment on column resguardo.clips.run is 'The number of the newest attempt to make the clip. An earlier attempt ends.';
comment on column resguardo.clips.changed_at is 'When subscriptions were last notified of a change.';
create unique index clips_bounds_key on resguardo.clips (recording_id, start_ms, end_ms);
create unique index clips_one_at_a_time_key on resguardo.clips (doctor_id)
where status in ('PENDING', 'RUNNING', 'STORING');
create index clips_recording_idx on resguardo.clips (recording_id, consultation_id);
create index clips_consultation_idx on resguardo.clips (consultation_id, doctor_id, patient_id);
create index clips_patient_idx on resguardo.clips (patient_id);
create index clips_changed_idx on resguardo.clips (doctor_id, changed_at desc, recording_id desc);

create trigger clips_announce before insert or update on resguardo.clips
for each row execute function private.announce_change();

-- Writes the audit row about one step of a clip. The row names the recording and the clip.
create function private.audit_clip(action text, outcome text, reason text, clip resguardo.clips, byte_count bigint)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_of_entities(
        action, outcome, reason,
        private.entities_of('recording', array[clip.recording_id]) || private.entities_of('clip', array[clip.id]),
        array[clip.patient_id], array[clip.consultation_id], array['object'], 1, byte_count
    );
end
$$;

-- Returns why no clip of a recording may be made now, or null if a clip may be made.
create function private.clip_objection(of_recording resguardo.recordings) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if of_recording.status <> 'READY' then
        return private.unready_reason(of_recording.status);
    elsif private.is_to_be_destroyed(of_recording.id) then
        return 'recording_being_deleted';
    end if;
    return case private.consent_objection(of_recording.consultation_id)
        when 'consent_text' then 'clip_consent_text'
        when 'consent_withdrawn' then 'clip_consent_withdrawn'
    end;
end
$$;

-- Requests a clip of the caller's own recording, queues its job, and returns its id. If the clip with these bounds
-- exists or is being made, the function returns its id; if its last attempt failed, the function requests it again.
-- Returns null if the caller may not see the recording or it does not exist. Raises RG403 (totp_stale), RG429
-- (quota_pages), RG409 (recording_not_ready and the other reasons of an unready recording, recording_being_deleted,
-- clip_consent_text, clip_consent_withdrawn, clip_past_end, clip_in_progress, too_many_clips).
create function private.request_clip(
    of_recording uuid, of_start_ms integer, of_end_ms integer, totp_max_age_seconds integer
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    most_clips constant integer := 100;
    doctor constant uuid := private.doctor();
    wanted resguardo.recordings;
    clip resguardo.clips;
    objection text;
begin
    perform private.require_recent_totp(totp_max_age_seconds);
    perform private.use_quota(doctor, 'pages');
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording and r.medium = 'VIDEO';
    if wanted.id is null or wanted.doctor_id <> doctor then
        perform private.write_audit(
            'clip.create', case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'recording',
            array[of_recording], array_remove(array[wanted.patient_id], null),
            array_remove(array[wanted.consultation_id], null), '{}', 0, null
        );
        return null;
    end if;
    perform from resguardo.staff as s where s.user_id = doctor for no key update;
    perform private.lock_keeping(false);
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording for share;
    objection := private.clip_objection(wanted);
    if objection is not null then
        raise exception '%', objection using errcode = 'RG409';
    elsif of_end_ms > ceil(wanted.duration_seconds * 1000) then
        raise exception 'clip_past_end' using errcode = 'RG409';
    end if;
    select c.* into clip from resguardo.clips as c
    where c.recording_id = of_recording and c.start_ms = of_start_ms and c.end_ms = of_end_ms
    for update;
    if clip.id is null or clip.status in ('FAILED', 'DELETED') then
        if exists (
            select from resguardo.clips as c
            where c.doctor_id = doctor and c.status in ('PENDING', 'RUNNING', 'STORING')
        ) then
            raise exception 'clip_in_progress' using errcode = 'RG409';
        elsif clip.id is null and most_clips <= (
            select count(*) from resguardo.clips as c where c.recording_id = of_recording
        ) then
            raise exception 'too_many_clips' using errcode = 'RG409';
        end if;
        insert into resguardo.clips as c (
            recording_id, consultation_id, doctor_id, patient_id, purpose, start_ms, end_ms
        ) values (
            wanted.id, wanted.consultation_id, wanted.doctor_id, wanted.patient_id,
            coalesce(nullif(current_setting('resguardo.purpose', true), ''), 'TREATMENT'), of_start_ms, of_end_ms
        )
        on conflict (recording_id, start_ms, end_ms) do update
        set status = 'PENDING', error = null, percent_done = 0, purpose = excluded.purpose
        returning c.* into clip;
        perform private.put_job('make_clip', clip.id);
    end if;
    perform private.write_audit_later(
        'clip.create', null, 'recording', wanted.id, wanted.patient_id, wanted.consultation_id, array['clip'], null
    );
    return clip.id;
end
$$;

-- Locks a clip for the given attempt to make it, and returns the clip. Returns nulls if another attempt has begun, or
-- the clip is not being made any more. If no clip of the recording may be made any more, the function sets the clip to
-- FAILED and returns nulls.
create function private.lock_clip(of_clip uuid, of_run integer) returns resguardo.clips
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
    clip resguardo.clips;
    objection text;
begin
    perform private.lock_keeping(false);
    select r.* into wanted
    from resguardo.recordings as r inner join resguardo.clips as c on c.recording_id = r.id
    where c.id = of_clip
    for share of r;
    select c.* into clip from resguardo.clips as c where c.id = of_clip for update;
    if clip.id is null or clip.run <> of_run or clip.status not in ('PENDING', 'RUNNING', 'STORING') then
        return null;
    end if;
    objection := private.clip_objection(wanted);
    if objection is not null then
        perform private.fail_clip(of_clip, of_run, objection);
        return null;
    end if;
    return clip;
end
$$;

-- Writes the audit row, and begins a new attempt to make a clip. Returns the object to cut, the bounds, and the object
-- key of the attempt before, which may have stored an object. Returns no row if the clip needs no work.
create function private.begin_clip(of_clip uuid)
returns table (
    recording_id uuid, object_key text, size_bytes bigint, start_ms integer, end_ms integer, run integer,
    earlier_key text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    clip constant resguardo.clips := private.lock_clip(
        of_clip, (select c.run from resguardo.clips as c where c.id = of_clip)
    );
begin
    if clip.id is null then
        return;
    end if;
    update resguardo.clips as c set status = 'RUNNING', run = c.run + 1, percent_done = 0 where c.id = of_clip;
    perform private.audit_clip('clip.begin', 'ALLOWED', null, clip, null);
    return query
    select
        r.id, s.object_key, r.size_bytes, clip.start_ms, clip.end_ms, clip.run + 1,
        case when clip.run > 0 then private.compose_object_key(r, private.clip_file(clip.id, clip.run)) end
    from resguardo.recordings as r
    inner join private.recording_secrets as s on s.recording_id = r.id
    where r.id = clip.recording_id;
end
$$;

-- Stores how much of a clip is encoded. Returns false if this attempt must end.
create function private.report_clip(of_clip uuid, of_run integer, percent integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    clip constant resguardo.clips := private.lock_clip(of_clip, of_run);
begin
    update resguardo.clips as c set percent_done = greatest(c.percent_done, least(percent, 99))
    where c.id = clip.id and c.percent_done < percent;
    return clip.id is not null;
end
$$;

-- Reserves the next 15 minutes for the upload of a finished clip, and returns the object key. The recording cannot be
-- destroyed in this time (private.may_be_destroyed). Returns null if this attempt must end.
create function private.begin_storing_clip(of_clip uuid, of_run integer) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    clip constant resguardo.clips := private.lock_clip(of_clip, of_run);
begin
    if clip.id is null then
        return null;
    end if;
    update resguardo.clips as c set status = 'STORING', percent_done = 99 where c.id = of_clip;
    return (
        select private.compose_object_key(r, private.clip_file(clip.id, of_run))
        from resguardo.recordings as r where r.id = clip.recording_id
    );
end
$$;

-- Returns the name of a clip's object in the folder of its recording. Each attempt to make the clip has a name of its
-- own, so that a late upload of an earlier attempt overwrites nothing.
create function private.clip_file(of_clip uuid, of_run integer) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return format('clip-%s%s.webm', of_clip, case when of_run > 1 then '-' || of_run else '' end);
end
$$;

-- Returns the videos beside which a clip is being stored.
create function private.storing_videos() returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select c.recording_id from resguardo.clips as c
    where c.status = 'STORING' and c.changed_at > private.now() - interval '15 minutes';
end
$$;

-- Makes a stored clip READY: creates its row beside the video, with its own SHA-256 and size, and writes the audit row.
-- Returns false if this attempt must end; the stored object then belongs to nothing.
create function private.finish_clip(of_clip uuid, of_run integer, key text, of_sha256 text, of_size_bytes bigint)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    clip constant resguardo.clips := private.lock_clip(of_clip, of_run);
begin
    if clip.id is null or clip.status <> 'STORING' or not key like '%/' || private.clip_file(clip.id, of_run)
        or not exists (select from private.storing_videos() as s (id) where s.id = clip.recording_id)
    then
        return false;
    end if;
    insert into resguardo.recordings (
        id, consultation_id, doctor_id, patient_id, requested_by, status, room_name, medium, source, video_id,
        started_at, ended_at, duration_seconds, size_bytes, sha256, stored_at
    )
    select
        clip.id, r.consultation_id, r.doctor_id, r.patient_id, r.doctor_id, 'READY', r.room_name, 'CLIP', r.source, r.id,
        r.started_at + make_interval(secs => clip.start_ms / 1000.0),
        r.started_at + make_interval(secs => clip.end_ms / 1000.0), (clip.end_ms - clip.start_ms) / 1000.0,
        of_size_bytes, of_sha256, private.now()
    from resguardo.recordings as r where r.id = clip.recording_id;
    insert into private.recording_secrets (recording_id, object_key) values (clip.id, key);
    perform private.count_usage(clip.id, 'STORAGE', 'bucket', '', 'BYTES', of_size_bytes);
    update resguardo.clips as c set status = 'READY', percent_done = 100 where c.id = of_clip;
    perform private.audit_clip('clip.finish', 'ALLOWED', null, clip, of_size_bytes);
    return true;
end
$$;

-- Sets a clip to FAILED with a reason that the doctor sees, if the given attempt is the newest one.
create function private.fail_clip(of_clip uuid, of_run integer, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    failed resguardo.clips;
begin
    update resguardo.clips as c set status = 'FAILED', error = why
    where c.id = of_clip and c.run = coalesce(of_run, c.run) and c.status in ('PENDING', 'RUNNING', 'STORING')
    returning c.* into failed;
    if failed.id is not null then
        perform private.audit_clip('clip.fail', 'FAILED', why, failed, null);
    end if;
end
$$;


-- 29_thumbnails.sql

-- Thumbnails: a small picture of a video, encrypted with the recording's data key. The worker makes thumbnails only if
-- the practice switches them on, and never of a sensitive kind of consultation.

create table private.thumbnails (
    recording_id uuid primary key
    constraint thumbnails_recording_id_fkey references resguardo.recordings (id),
    ciphertext bytea not null constraint thumbnails_ciphertext_length check (length(ciphertext) between 29 and 131072)
);

create table private.thumbnail_links (
    secret_sha256 bytea primary key
    constraint thumbnail_links_secret_sha256_length check (length(secret_sha256) = 32),
    recording_id uuid not null
    constraint thumbnail_links_recording_id_fkey references resguardo.recordings (id),
    claims jsonb not null,
    expires_at timestamptz not null
);
comment on column private.thumbnail_links.claims is
'The claims of the person who asked for the link, with the session fingerprint in place of the session id.';
create index thumbnail_links_recording_idx on private.thumbnail_links (recording_id);
create index thumbnail_links_expires_idx on private.thumbnail_links (expires_at);

-- Returns whether a thumbnail of a recording may be made now: the recording is a READY video and is not to be
-- destroyed, its consultation is of no sensitive kind, and everybody consents to a text that names clips.
create function private.may_have_thumbnail(of_recording resguardo.recordings) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return of_recording.status = 'READY' and of_recording.medium = 'VIDEO'
        and not private.is_to_be_destroyed(of_recording.id)
        and private.consent_objection(of_recording.consultation_id) is null
        and exists (
            select from resguardo.consultations as c
            where c.id = of_recording.consultation_id and c.sensitivity = 'ORDINARY'
        );
end
$$;

-- Queues the job that makes the thumbnail of a recording, if one may be made. A repeated call changes nothing.
create function private.request_thumbnail(of_recording uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording for update;
    if wanted.thumbnail_status is null and private.may_have_thumbnail(wanted) then
        update resguardo.recordings as r set thumbnail_status = 'PENDING' where r.id = of_recording;
        perform private.put_job('make_thumbnail', of_recording);
    end if;
end
$$;

-- Locks and returns a recording whose thumbnail is to be made. Returns nulls if the thumbnail needs no work. If no
-- thumbnail may be made any more, the function removes the status of the thumbnail and returns nulls.
create function private.lock_thumbnail(of_recording uuid) returns resguardo.recordings
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording for update;
    if wanted.thumbnail_status is distinct from 'PENDING' then
        return null;
    end if;
    if not private.may_have_thumbnail(wanted) then
        update resguardo.recordings as r set thumbnail_status = null where r.id = of_recording;
        perform private.audit_thumbnail('thumbnail.fail', 'ALLOWED', 'not_permitted', wanted);
        return null;
    end if;
    return wanted;
end
$$;

-- Writes the audit row about one step of a thumbnail.
create function private.audit_thumbnail(action text, outcome text, reason text, of_recording resguardo.recordings)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit(
        action, outcome, reason, 'recording', array[of_recording.id], array[of_recording.patient_id],
        array[of_recording.consultation_id],
        case action when 'thumbnail.begin' then array['object_key', 'data_key'] else array['thumbnail'] end, 1, null
    );
end
$$;

-- Writes the audit row, and returns the video of which the worker makes the thumbnail, and the recording's data key.
-- Returns no row if the thumbnail needs no work.
create function private.begin_thumbnail(of_recording uuid)
returns table (object_key text, size_bytes bigint, duration_seconds double precision, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.recordings := private.lock_thumbnail(of_recording);
begin
    if wanted.id is null then
        return;
    end if;
    perform private.audit_thumbnail('thumbnail.begin', 'ALLOWED', null, wanted);
    return query
    select s.object_key, wanted.size_bytes, coalesce(wanted.duration_seconds, 0), k.wrapped_key, k.root_key_id
    from private.recording_secrets as s
    inner join private.recording_keys as k on k.recording_id = s.recording_id
    where s.recording_id = wanted.id;
end
$$;

-- Stores the encrypted thumbnail of a recording, or, if it is null, that no picture of the video is suitable. Changes
-- nothing if no thumbnail may be made any more.
create function private.finish_thumbnail(of_recording uuid, encrypted bytea) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.recordings := private.lock_thumbnail(of_recording);
begin
    if wanted.id is null then
        return;
    end if;
    if encrypted is not null then
        insert into private.thumbnails (recording_id, ciphertext) values (of_recording, encrypted);
    end if;
    update resguardo.recordings as r
    set thumbnail_status = case when encrypted is null then 'NO_PICTURE' else 'READY' end
    where r.id = of_recording;
    perform private.audit_thumbnail('thumbnail.finish', 'ALLOWED', null, wanted);
end
$$;

-- Sets a thumbnail to FAILED, and writes the reason into the audit log.
create function private.fail_thumbnail(of_recording uuid, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.recordings := private.lock_thumbnail(of_recording);
begin
    if wanted.id is not null then
        update resguardo.recordings as r set thumbnail_status = 'FAILED' where r.id = of_recording;
        perform private.audit_thumbnail('thumbnail.fail', 'FAILED', why, wanted);
    end if;
end
$$;

-- Writes the audit row, and returns whether the caller's own recording has a thumbnail. Returns false if the recording
-- belongs to a different doctor, does not exist or has no thumbnail, so the caller cannot tell these cases apart.
-- Counts as a page against the caller's quota. Raises RG409 (recording_being_deleted).
create function private.find_thumbnail(of_action text, of_recording uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    wanted resguardo.recordings;
    is_found boolean;
begin
    perform private.use_quota(private.person(), 'pages');
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording and r.doctor_id = doctor;
    is_found := coalesce(wanted.thumbnail_status = 'READY', false);
    perform private.write_lookup(
        of_action, 'recording', 'recording', of_recording, wanted.id is not null,
        private.entities_of('recording', array_remove(array[wanted.id], null)), array[wanted.patient_id],
        array[wanted.consultation_id], is_found::integer, array['thumbnail']
    );
    if is_found and private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    return is_found;
end
$$;

-- Stores a thumbnail link of the caller's own recording under the hash of the link's secret, and returns when it
-- expires: no later than the access token with which it was requested. Returns null if the caller may not see the
-- recording or it has no thumbnail. The function also deletes expired thumbnail links. Raises RG409
-- (recording_being_deleted).
create function private.store_thumbnail_link(of_recording uuid, secret_sha256 bytea, lifetime_seconds integer)
returns timestamptz
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    until constant timestamptz := private.link_expiry(lifetime_seconds);
begin
    if not private.find_thumbnail('thumbnail.issue_url', of_recording) then
        return null;
    end if;
    delete from private.thumbnail_links as l where l.expires_at < now() - interval '1 day';
    insert into private.thumbnail_links (secret_sha256, recording_id, claims, expires_at)
    values (secret_sha256, of_recording, private.claims_for_link(until), until);
    return until;
end
$$;

-- Returns the claims and the recording of a thumbnail link to the API's database login, or no row for an unknown or
-- expired link.
create function private.read_thumbnail_link(secret bytea) returns table (claims jsonb, of_recording uuid)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select private.claims_of_link(l.claims), l.recording_id
    from private.thumbnail_links as l
    where l.secret_sha256 = sha256(secret) and l.expires_at > now();
end
$$;

-- Returns the encrypted thumbnail of the caller's own recording, and the recording's data key, after it wrote the
-- audit row. Returns no row if the caller may not see the recording or it has no thumbnail. Raises RG409
-- (recording_being_deleted).
create function private.open_thumbnail(of_recording uuid)
returns table (ciphertext bytea, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not private.find_thumbnail('thumbnail.read', of_recording) then
        return;
    end if;
    return query
    select t.ciphertext, k.wrapped_key, k.root_key_id
    from private.thumbnails as t
    inner join private.recording_keys as k on k.recording_id = t.recording_id
    where t.recording_id = of_recording;
end
$$;

-- Deletes the thumbnail of a recording, and returns how many rows it deleted from each table. A worker that stores a
-- thumbnail locks the recording, so clear_thumbnail() waits for the worker and then deletes this thumbnail, too.
create function private.clear_thumbnail(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    tables constant text[] := array['thumbnail_links', 'thumbnails'];
    of_table text;
    rows_cleared bigint;
    cleared jsonb := '[]';
begin
    perform from resguardo.recordings as r where r.id = of_recording for no key update;
    foreach of_table in array tables loop
        execute format('delete from private.%I where recording_id = $1', of_table) using of_recording;
        get diagnostics rows_cleared = row_count;
        if rows_cleared > 0 then
            cleared := cleared || jsonb_build_object('table', of_table, 'rows', rows_cleared);
        end if;
    end loop;
    update resguardo.recordings as r set thumbnail_status = null
    where r.id = of_recording and r.thumbnail_status is not null;
    return cleared;
end
$$;


-- 30_access_requests.sql

-- Access requests, in which patients ask for a copy of their recordings.

create table resguardo.access_requests (
    id uuid primary key default gen_random_uuid(),
    patient_id uuid not null constraint access_requests_patient_id_fkey references resguardo.patients (id),
    consultation_id uuid,
    status text not null default 'OPEN'
    constraint access_requests_status_is_known check (
        status in ('OPEN', 'APPROVED', 'FULFILLED', 'DENIED', 'WITHDRAWN')
    ),
    channel text not null constraint access_requests_channel_is_known check (channel in ('LOGIN', 'WRITTEN')),
    filed_by uuid not null,
    representative_relationship text
    constraint access_requests_relationship_is_known check (
        representative_relationship in ('PARENT', 'LEGAL_GUARDIAN', 'HEALTH_CARE_PROXY', 'POWER_OF_ATTORNEY', 'OTHER')
    ),
    representative_name text
    constraint access_requests_representative_name_length check (length(representative_name) between 1 and 200),
    received_on date not null,
    due_on date not null,
    extension_reason text
    constraint access_requests_extension_reason_is_known check (
        extension_reason in ('VOLUME', 'STORED_ELSEWHERE', 'PROFESSIONAL_REVIEW', 'TECHNICAL_FAILURE', 'STAFF_ABSENCE')
    ),
    extended_at timestamptz,
    decided_by uuid,
    decided_at timestamptz,
    denial_ground text
    constraint access_requests_denial_ground_is_known check (
        denial_ground in (
            'EXCEPTED', 'CORRECTIONAL', 'RESEARCH', 'PRIVACY_ACT', 'CONFIDENTIAL_SOURCE', 'ENDANGERS_LIFE',
            'HARMS_ANOTHER', 'REPRESENTATIVE_HARMS'
        )
    ),
    determined_by uuid constraint access_requests_determined_by_fkey references resguardo.staff (user_id),
    review_asked_at timestamptz,
    reviewed_by uuid constraint access_requests_reviewed_by_fkey references resguardo.staff (user_id),
    reviewed_at timestamptz,
    review_outcome text
    constraint access_requests_review_outcome_is_known check (review_outcome in ('UPHELD', 'REVERSED')),
    export_status text
    constraint access_requests_export_status_is_known check (
        export_status in ('PREPARING', 'READY', 'NOTHING_RECORDED', 'FAILED', 'EXPIRED', 'DELETED')
    ),
    export_error text constraint access_requests_export_error_is_slug check (export_error ~ '^[a-z][a-z0-9_]{0,63}$'),
    export_size_bytes bigint constraint access_requests_export_size_is_positive check (export_size_bytes > 0),
    export_recordings integer,
    export_missing integer,
    export_notes integer,
    export_expires_at timestamptz,
    secret_revealed_at timestamptz,
    fulfilled_at timestamptz,
    created_at timestamptz not null default private.now(),
    constraint access_requests_consultation_fkey foreign key (consultation_id, patient_id)
    references resguardo.consultations (id, patient_id),
    constraint access_requests_representative_is_whole check (
        (representative_relationship is null) = (representative_name is null)
    ),
    constraint access_requests_extension_is_whole check ((extension_reason is null) = (extended_at is null)),
    constraint access_requests_clock_is_of_the_rule check (
        due_on >= received_on + 30
        and (due_on <= received_on + case when extended_at is null then 30 else 60 end or review_asked_at is not null)
    ),
    constraint access_requests_denial_is_whole check (status <> 'DENIED' or denial_ground is not null),
    constraint access_requests_determination_is_whole check (
        coalesce(denial_ground in ('ENDANGERS_LIFE', 'HARMS_ANOTHER', 'REPRESENTATIVE_HARMS'), false)
        = (determined_by is not null)
    ),
    constraint access_requests_review_is_whole check (
        (review_outcome is null) = (reviewed_at is null) and (reviewed_by is null) = (reviewed_at is null)
    ),
    constraint access_requests_fulfilment_is_whole check ((status = 'FULFILLED') = (fulfilled_at is not null)),
    constraint access_requests_failure_is_whole check ((export_status = 'FAILED') is true = (export_error is not null))
);
alter table resguardo.access_requests enable row level security;
comment on column resguardo.access_requests.consultation_id is
'Null if the request covers every recording of the patient.';
comment on column resguardo.access_requests.channel is
'LOGIN: the patient asked with their own login. WRITTEN: compliance entered a request that came on paper.';
comment on column resguardo.access_requests.due_on is
'The last day to act, in UTC: 30 days after receipt, extended once by 30 at most (164.524(b)(2)).';
comment on column resguardo.access_requests.determined_by is
'The licensed professional who determined the harm, if the ground of the denial is reviewable (164.524(a)(3)).';
comment on column resguardo.access_requests.export_status is
'The state of the copy. DELETED: a recording in it was destroyed, and the copy was destroyed too.';
comment on column resguardo.access_requests.export_notes is 'How many signed notes the copy contains.';
comment on column resguardo.access_requests.export_missing is
'How many files the copy lacks because the bucket does not have them or has another content.';
create unique index access_requests_one_open_key on resguardo.access_requests (
    patient_id, coalesce(consultation_id, '00000000-0000-0000-0000-000000000000')
) where status in ('OPEN', 'APPROVED');
create index access_requests_patient_idx on resguardo.access_requests (patient_id, created_at desc, id desc);
create index access_requests_consultation_idx on resguardo.access_requests (consultation_id, patient_id);
create index access_requests_created_idx on resguardo.access_requests (created_at desc, id desc);
create index access_requests_patient_status_idx
on resguardo.access_requests (patient_id, status, created_at desc, id desc);
create index access_requests_status_idx on resguardo.access_requests (status, created_at desc, id desc);
create index access_requests_due_idx on resguardo.access_requests (due_on) where status in ('OPEN', 'APPROVED');
create index access_requests_holding_idx on resguardo.access_requests (patient_id)
where status in ('OPEN', 'APPROVED', 'DENIED');
create index access_requests_determined_by_idx on resguardo.access_requests (determined_by);
create index access_requests_reviewed_by_idx on resguardo.access_requests (reviewed_by);

-- Returns whether an access request forbids the destruction of the recordings that it covers. An access request
-- forbids the destruction of its recordings while it is OPEN or APPROVED. If the patient may ask for a review of the
-- denial, the recordings are kept for 60 days after the denial, so that a review is not too late. When the outcome of
-- the review is recorded, the protection of the recordings from destruction ends.
create function private.request_holds(asked resguardo.access_requests) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        asked.status in ('OPEN', 'APPROVED')
        or (
            asked.status = 'DENIED' and asked.determined_by is not null and asked.reviewed_at is null
            and asked.decided_at > private.now() - interval '60 days'
        ),
        false
    );
end
$$;

-- Writes the audit row of a change of an access request before the commit (private.write_audit_later).
create function private.audit_request(of_action text, asked resguardo.access_requests, of_fields text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_later(
        of_action, null, 'access_request', asked.id, asked.patient_id, asked.consultation_id, of_fields, null
    );
end
$$;

-- Returns an access request. A compliance officer may see every access request, and a patient only the patient's own.
-- If the caller may not see the request or it does not exist, the function writes an audit row with DENIED or ABSENT
-- and returns nulls.
create function private.find_access_request(of_request uuid, of_action text) returns resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    is_patient constant boolean := current_setting('role') = 'patient';
    patient uuid;
    wanted resguardo.access_requests;
begin
    if is_patient then
        patient := private.patient();
    else
        perform private.person();
        if current_setting('role') <> 'compliance' then
            raise exception 'wrong_role' using errcode = 'RG403';
        end if;
    end if;
    select a.* into wanted from resguardo.access_requests as a where a.id = of_request;
    if wanted.id is null or (is_patient and wanted.patient_id <> patient) then
        perform private.write_audit(
            of_action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'access_request',
            array[of_request], array_remove(array[wanted.patient_id], null),
            array_remove(array[wanted.consultation_id], null), '{}', 0, null
        );
        return null;
    end if;
    return wanted;
end
$$;

-- Locks and returns an access request, so that the caller can change it. If the caller is a patient and the request
-- belongs to a different patient, the function does not lock the request.
create function private.lock_access_request(of_request uuid, of_action text) returns resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests := private.find_access_request(of_request, of_action);
begin
    if wanted.id is not null then
        select a.* into wanted from resguardo.access_requests as a where a.id = of_request for update;
    end if;
    return wanted;
end
$$;

-- Locks and returns the open access request for all recordings of a patient, or for one consultation; returns nulls
-- if no such request is open.
create function private.lock_open_request(of_patient uuid, of_consultation uuid) returns resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    select a.* into wanted
    from resguardo.access_requests as a
    where a.patient_id = of_patient and a.consultation_id is not distinct from of_consultation
        and a.status in ('OPEN', 'APPROVED')
    for update;
    return wanted;
end
$$;

-- Merges a repeated access request into the open access request. The merged access request has the earlier of the two
-- days of receipt. The patient's representative is added if the open access request names no representative and is
-- not decided yet. Raises RG409 (representative_differs).
create function private.join_request(
    wanted resguardo.access_requests, received date, relationship text, representative text
) returns resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    joined resguardo.access_requests;
begin
    if representative is not null
        and (wanted.representative_relationship, wanted.representative_name)
        is distinct from (relationship, representative)
        and (wanted.representative_name is not null or wanted.status <> 'OPEN')
    then
        raise exception 'representative_differs' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set received_on = least(a.received_on, received),
        due_on = a.due_on
        - case when a.review_asked_at is null then greatest(a.received_on - received, 0) else 0 end,
        representative_relationship = coalesce(a.representative_relationship, relationship),
        representative_name = coalesce(a.representative_name, representative)
    where a.id = wanted.id
    returning a.* into joined;
    return joined;
end
$$;

-- Files an access request, which keeps the recordings that it covers from being destroyed. Patients file access
-- requests for themselves, and a compliance officer files one for a patient who asked in writing within the last 60
-- days. Returns the id of the access request. If a request for the same patient and consultation is already open, the
-- function returns the id of the open request. Returns null if the patient or the consultation does not exist, or if
-- the caller may not see it. Raises RG409 (bad_received_on, representative_differs), RG429 (quota_pages).
create function private.file_access_request(
    of_patient uuid, of_consultation uuid, received date, relationship text, representative text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    is_patient constant boolean := current_setting('role') = 'patient';
    today constant date := private.today();
    patient uuid;
    filed resguardo.access_requests;
begin
    if not is_patient and current_setting('role') <> 'compliance' then
        raise exception 'wrong_role' using errcode = 'RG403';
    end if;
    perform private.use_quota(person, 'pages');
    if is_patient then  -- no `case` expression below: its plan would evaluate this condition for compliance too
        of_patient := private.patient();
    end if;
    if not is_patient and (received is null or received > today or received < today - 60) then
        raise exception 'bad_received_on' using errcode = 'RG409';
    end if;
    select p.id into patient
    from resguardo.patients as p
    where p.id = of_patient
        and (
            of_consultation is null or exists (
                select from resguardo.consultations as c where c.id = of_consultation and c.patient_id = p.id
            )
        );
    if patient is null then
        perform private.write_audit(
            'access_request.file',
            case when not exists (select from resguardo.consultations as c where c.id = of_consultation)
                or not exists (select from resguardo.patients as p where p.id = of_patient)
                then 'ABSENT' when is_patient then 'DENIED' else 'FAILED' end,
            'not_found', case when of_consultation is null then 'patient' else 'consultation' end,
            array_remove(array[coalesce(of_consultation, of_patient)], null),
            array(select c.patient_id from resguardo.consultations as c where c.id = of_consultation),
            array(select c.id from resguardo.consultations as c where c.id = of_consultation), '{}', 0, null
        );
        return null;
    end if;
    received := case when is_patient then today else received end;
    filed := private.lock_open_request(patient, of_consultation);
    if filed.id is null then
        perform private.lock_keeping(true);
        filed := private.lock_open_request(patient, of_consultation);
    end if;
    if filed.id is not null then
        filed := private.join_request(filed, received, relationship, representative);
    else
        insert into resguardo.access_requests (
            patient_id, consultation_id, channel, filed_by, representative_relationship, representative_name,
            received_on, due_on
        ) values (
            patient, of_consultation, case when is_patient then 'LOGIN' else 'WRITTEN' end, person, relationship,
            representative, received, received + 30
        )
        returning * into filed;
    end if;
    perform private.audit_request('access_request.file', filed, array['status', 'receivedOn', 'dueOn']);
    return filed.id;
end
$$;

-- Locks an access request and returns it to its patient, or to a compliance officer if the patient asked in writing.
-- Returns nulls if the access request does not exist or the caller may not see it. Raises RG409
-- (request_not_written), RG429 (quota_pages).
create function private.lock_for_patient(of_request uuid, of_action text) returns resguardo.access_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    perform private.use_quota(private.require_person(), 'pages');
    wanted := private.lock_access_request(of_request, of_action);
    if current_setting('role') <> 'patient' and wanted.channel <> 'WRITTEN' then
        raise exception 'request_not_written' using errcode = 'RG409';
    end if;
    return wanted;
end
$$;

-- Withdraws an access request; the caller is its patient, or a compliance officer if the request came in writing. A
-- second withdrawal of an access request changes nothing. This function and those below return the id of the access
-- request, or null if it does not exist or the caller may not see it. Raises RG409 (access_request_closed,
-- request_not_written), RG429 (quota_pages).
create function private.withdraw_access_request(of_request uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    wanted := private.lock_for_patient(of_request, 'access_request.withdraw');
    if wanted.id is null then
        return null;
    elsif wanted.status not in ('OPEN', 'APPROVED', 'WITHDRAWN') then
        raise exception 'access_request_closed' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set status = 'WITHDRAWN', export_status = null, export_error = null
    where a.id = of_request returning a.* into wanted;
    perform private.audit_request('access_request.withdraw', wanted, array['status']);
    return wanted.id;
end
$$;

-- Records that a compliance officer approves an access request, and queues the job that makes the encrypted copy. If
-- an earlier attempt to make the encrypted copy failed, the job tries again. If an encrypted copy is already being
-- made, the function begins no second copy. Raises RG409 (access_request_closed, review_pending), RG429
-- (quota_pages).
create function private.approve_access_request(of_request uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    wanted resguardo.access_requests;
begin
    perform private.use_quota(person, 'pages');
    wanted := private.lock_access_request(of_request, 'access_request.approve');
    if wanted.id is null then
        return null;
    elsif wanted.status not in ('OPEN', 'APPROVED') then
        raise exception 'access_request_closed' using errcode = 'RG409';
    elsif wanted.status = 'OPEN' and wanted.review_asked_at is not null then
        raise exception 'review_pending' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set status = 'APPROVED', decided_by = coalesce(a.decided_by, person),
        decided_at = coalesce(a.decided_at, private.now()), export_status = 'PREPARING', export_error = null
    where a.id = of_request returning a.* into wanted;
    if not exists (
        select from jobs.procrastinate_jobs as j
        where j.lock = 'export_access_request:' || of_request and j.status in ('todo', 'doing')
    ) then
        perform private.put_job('export_access_request', of_request);
    end if;
    perform private.audit_request('access_request.approve', wanted, array['status']);
    return wanted.id;
end
$$;

-- Records that a compliance officer denies an access request on a ground of 45 CFR 164.524(a)(2), or on a ground of
-- (a)(3) that a clinician determined. Raises RG409 (access_request_closed, review_pending, clinician_unknown,
-- request_has_no_representative).
create function private.deny_access_request(
    of_request uuid, ground text, determined uuid
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    wanted resguardo.access_requests;
begin
    wanted := private.lock_access_request(of_request, 'access_request.deny');
    if wanted.id is null then
        return null;
    elsif wanted.status <> 'OPEN' then
        raise exception 'access_request_closed' using errcode = 'RG409';
    elsif wanted.review_asked_at is not null then
        raise exception 'review_pending' using errcode = 'RG409';
    elsif determined is not null and not private.is_active_clinician(determined) then
        raise exception 'clinician_unknown' using errcode = 'RG409';
    elsif ground = 'REPRESENTATIVE_HARMS' and wanted.representative_name is null then
        raise exception 'request_has_no_representative' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set status = 'DENIED', decided_by = person, decided_at = private.now(), denial_ground = ground,
        determined_by = determined
    where a.id = of_request returning a.* into wanted;
    perform private.audit_request(
        'access_request.deny', wanted, array['status', 'denial.ground', 'denial.determinedBy.id']
    );
    return wanted.id;
end
$$;

-- Extends the deadline of an access request once, by at most 30 days, if a compliance officer asks for this on or
-- before the due day. Raises RG409 (access_request_closed, review_pending, extended_already, past_due).
create function private.extend_access_request(
    of_request uuid, days integer, reason text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    perform private.person();
    wanted := private.lock_access_request(of_request, 'access_request.extend');
    if wanted.id is null then
        return null;
    elsif wanted.status not in ('OPEN', 'APPROVED') then
        raise exception 'access_request_closed' using errcode = 'RG409';
    elsif wanted.status = 'OPEN' and wanted.review_asked_at is not null then
        raise exception 'review_pending' using errcode = 'RG409';
    elsif wanted.extended_at is not null then
        raise exception 'extended_already' using errcode = 'RG409';
    elsif private.today() > wanted.due_on then
        raise exception 'past_due' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set due_on = a.due_on + days, extension_reason = reason, extended_at = private.now()
    where a.id = of_request returning a.* into wanted;
    perform private.audit_request('access_request.extend', wanted, array['dueOn', 'extension.reason']);
    return wanted.id;
end
$$;

-- Asks for the review of a denial on a reviewable ground; the caller is the patient, or a compliance officer if the
-- request came in writing. When a review is asked for, the access request is open again, and its recordings are kept
-- until the outcome of the review is recorded. The deadline for the review is 30 days; 45 CFR 164.524(d)(4) only says
-- "within a reasonable period of time". If the review was already asked for, the function changes nothing. Raises
-- RG409 (not_reviewable, reviewed_already, access_request_open_already, request_not_written), RG429 (quota_pages).
create function private.ask_access_review(of_request uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    wanted := private.lock_for_patient(of_request, 'access_request.ask_review');
    if wanted.id is null then
        return null;
    elsif wanted.status = 'OPEN' and wanted.review_asked_at is not null then
        perform private.audit_request('access_request.ask_review', wanted, array['status']);
        return wanted.id;
    elsif wanted.reviewed_at is not null then
        raise exception 'reviewed_already' using errcode = 'RG409';
    elsif wanted.status <> 'DENIED' or wanted.determined_by is null then
        raise exception 'not_reviewable' using errcode = 'RG409';
    end if;
    perform private.lock_keeping(true);
    if exists (
        select from resguardo.access_requests as a
        where a.patient_id = wanted.patient_id and a.consultation_id is not distinct from wanted.consultation_id
            and a.status in ('OPEN', 'APPROVED')
    ) then
        raise exception 'access_request_open_already' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set status = 'OPEN', review_asked_at = private.now(), due_on = greatest(a.due_on, private.today() + 30)
    where a.id = of_request returning a.* into wanted;
    perform private.audit_request('access_request.ask_review', wanted, array['status', 'dueOn']);
    return wanted.id;
end
$$;

-- Records, for a compliance officer, the outcome of a review by a clinician who took no part in the denial of the
-- access request. Raises RG409 (no_review_asked, clinician_unknown, reviewer_took_part).
create function private.record_access_review(
    of_request uuid, reviewer uuid, outcome text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    perform private.person();
    wanted := private.lock_access_request(of_request, 'access_request.review');
    if wanted.id is null then
        return null;
    elsif wanted.status <> 'OPEN' or wanted.review_asked_at is null then
        raise exception 'no_review_asked' using errcode = 'RG409';
    elsif not private.is_active_clinician(reviewer) then
        raise exception 'clinician_unknown' using errcode = 'RG409';
    elsif reviewer = wanted.determined_by then
        raise exception 'reviewer_took_part' using errcode = 'RG409';
    end if;
    update resguardo.access_requests as a
    set status = case outcome when 'REVERSED' then 'APPROVED' else 'DENIED' end,
        export_status = case outcome when 'REVERSED' then 'PREPARING' end,
        reviewed_by = reviewer, reviewed_at = private.now(), review_outcome = outcome
    where a.id = of_request returning a.* into wanted;
    if wanted.status = 'APPROVED' then
        perform private.put_job('export_access_request', of_request);
    end if;
    perform private.audit_request(
        'access_request.review', wanted, array['status', 'denial.reviewOutcome', 'denial.reviewedBy.id']
    );
    return wanted.id;
end
$$;

-- Returns the access requests that compliance neither approved nor denied before their due day.
create function private.overdue_access_requests() returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select a.id from resguardo.access_requests as a
        where a.status in ('OPEN', 'APPROVED') and a.due_on < private.today()
        order by a.due_on, a.id
    );
end
$$;


-- 31_access_exports.sql

-- The encrypted copies of recordings that the worker makes for access requests.

create table private.access_exports (
    request_id uuid primary key
    constraint access_exports_request_id_fkey references resguardo.access_requests (id),
    object_key text not null constraint access_exports_object_key_key unique
    constraint access_exports_object_key_is_of_request check (
        starts_with(object_key, private.exports_prefix(request_id))
    ),
    recording_ids uuid[] not null,
    note_ids uuid[] not null default '{}',
    files integer not null constraint access_exports_files_is_count check (files >= 0),
    secret text,
    began_at timestamptz not null default private.now(),
    ready_at timestamptz,
    expires_at timestamptz,
    expired_at timestamptz,
    constraint access_exports_readiness_is_whole check ((ready_at is null) = (expires_at is null))
);
comment on table private.access_exports is
'The object with the copy, and its recordings. Destroying one of the recordings deletes the object, then this row.';
comment on column private.access_exports.recording_ids is
'The media in the copy and their videos. While the copy is being made, everything that it may contain.';
comment on column private.access_exports.note_ids is 'The signed notes in the copy.';
comment on column private.access_exports.secret is
'The passphrase of the copy. Erased after compliance has seen it once, or when the copy ends.';
create index access_exports_notes_idx on private.access_exports using gin (note_ids);
create index access_exports_recordings_idx on private.access_exports using gin (recording_ids);

-- Records in the access request that its encrypted copy was deleted, because a recording in the copy was destroyed.
create function private.note_deleted_export() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.access_requests as a set export_status = 'DELETED'
    where a.id = old.request_id and a.export_status = 'READY';
    return null;
end
$$;

create trigger access_exports_note_deletion after delete on private.access_exports
for each row execute function private.note_deleted_export();

-- Returns the recordings that an access request covers and that are not destroyed. A clip is not among them, because it
-- is a part of a recording that the copy contains as a whole (45 CFR 164.524(c)(1): the same information is produced
-- once).
create function private.wanted_recordings(asked resguardo.access_requests) returns setof resguardo.recordings
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select r.* from resguardo.recordings as r
    where r.patient_id = asked.patient_id and r.status <> 'DELETED' and r.medium <> 'CLIP'
        and (asked.consultation_id is null or r.consultation_id = asked.consultation_id)
        and not private.is_destroyed(coalesce(r.video_id, r.id));
end
$$;

-- Returns the signed notes that an access request covers and that are not destroyed.
create function private.wanted_notes(asked resguardo.access_requests) returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select n.id from resguardo.signed_notes as n
    where n.patient_id = asked.patient_id and n.status = 'KEPT'
        and (asked.consultation_id is null or n.consultation_id = asked.consultation_id);
end
$$;

-- Writes the audit row, and returns the versions of the signed notes that the copy for an access request contains,
-- with their ciphertexts and the data key of the patient, as read_signed_notes() does for a doctor.
create function private.export_signed_notes(of_request uuid)
returns table (
    note_id uuid, status text, patient_id uuid, consultation_id uuid, recording_id uuid, version integer,
    signed_at timestamptz, sha256 text, quote_count integer, is_logged boolean, ciphertext bytea, wrapped bytea,
    root_key text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ids constant uuid[] := (select e.note_ids from private.access_exports as e where e.request_id = of_request);
begin
    if coalesce(cardinality(ids), 0) = 0 then
        return;
    end if;
    perform private.audit_notes('note.read', null, ids);
    return query
    select
        n.id, n.status, n.patient_id, n.consultation_id, n.recording_id, v.version, v.signed_at, v.sha256,
        v.quote_count, private.is_signature_logged(n.consultation_id, v.sha256), t.ciphertext, k.wrapped_key,
        k.root_key_id
    from resguardo.signed_notes as n
    inner join resguardo.signed_note_versions as v on v.note_id = n.id
    left join private.signed_note_texts as t on t.note_id = v.note_id and t.version = v.version
    left join private.patient_keys as k on k.patient_id = n.patient_id and t.note_id is not null
    where n.id = any(ids)
    order by n.id, v.version;
end
$$;

-- Begins an attempt to make the encrypted copy for an access request. Writes the audit row, and returns the object
-- key of the encrypted copy and the recordings to copy. The object key is new at each attempt, so that two attempts
-- never write to the same object. `number` counts the sound recordings beside a video separately for each kind of
-- participant, starting at 1.
--
-- Returns one row without a recording if notes are all that the copy can contain. Returns no row if no copy is
-- needed, because the access request is not APPROVED, or covers no READY recording and no note (it is then
-- fulfilled). Raises RG409 (recording_not_finished) while a covered recording may still become READY; a LOST
-- recording may become READY for a week. Raises RG409 (recording_being_deleted) while an attempt to destroy a covered
-- recording runs that began before the access request was filed.
create function private.begin_export(of_request uuid, new_secret text)
returns table (
    object_key text, recording_id uuid, video_id uuid, medium text, participant_id uuid, participant_kind text,
    guest_role text, number integer, recorded_at timestamptz, size_bytes bigint, sha256 text, recording_key text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
    new_key constant text := private.exports_prefix(of_request) || gen_random_uuid() || '.zip';
    ids uuid[];
    noted uuid[];
    signed uuid[];
begin
    select a.* into wanted from resguardo.access_requests as a where a.id = of_request for update;
    if wanted.id is null or wanted.status <> 'APPROVED' then
        return;
    end if;
    if exists (
        select from private.wanted_recordings(wanted) as r
        where not private.is_finished(r.status)
            or (r.status = 'LOST' and r.status_at > private.now() - interval '7 days')
    ) then
        raise exception 'recording_not_finished' using errcode = 'RG409';
    elsif exists (
        select from private.wanted_recordings(wanted) as r where private.is_in_destruction(coalesce(r.video_id, r.id))
    ) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    ids := array(select r.id from private.wanted_recordings(wanted) as r where r.status = 'READY');
    noted := array(select n.id from private.noted_recordings(wanted) as n (id));
    signed := array(select n.id from private.wanted_notes(wanted) as n (id));
    if cardinality(ids || noted || signed) = 0 then
        update resguardo.access_requests as a
        set status = 'FULFILLED', fulfilled_at = private.now(), export_status = 'NOTHING_RECORDED',
            export_recordings = 0, export_notes = 0, export_missing = null, export_error = null
        where a.id = of_request;
        perform private.audit_request('access_request.export', wanted, array['status']);
        return;
    end if;
    insert into private.access_exports as e (request_id, object_key, recording_ids, note_ids, files, secret)
    values (
        of_request, new_key,
        array(
            select r.id from resguardo.recordings as r where r.id = any(ids)
            union
            select r.video_id from resguardo.recordings as r where r.id = any(ids) and r.video_id is not null
            union
            select n.id from unnest(noted) as n (id)
        ),
        signed, cardinality(ids), new_secret
    )
    on conflict (request_id) do update
    set object_key = excluded.object_key, recording_ids = excluded.recording_ids, note_ids = excluded.note_ids,
        files = excluded.files, secret = excluded.secret, began_at = excluded.began_at;
    perform private.write_audit(
        'recording.read_key', 'ALLOWED', null, 'recording', ids, array[wanted.patient_id],
        array(select distinct r.consultation_id from resguardo.recordings as r where r.id = any(ids)),
        array['object_key'], cardinality(ids), null
    );
    return query
    select
        new_key, r.id, coalesce(r.video_id, r.id), r.medium, p.id, p.kind, p.guest_role,
        row_number() over (
            partition by coalesce(r.video_id, r.id), r.medium, p.kind
            order by coalesce(r.started_at, r.created_at), r.id
        )::integer,
        coalesce(r.started_at, c.scheduled_at), r.size_bytes, r.sha256, s.object_key
    from resguardo.recordings as r
    join resguardo.consultations as c on c.id = r.consultation_id
    join private.recording_secrets as s on s.recording_id = r.id
    left join resguardo.participants as p on p.id = r.participant_id
    where r.id = any(ids)
    order by coalesce(r.started_at, c.scheduled_at), r.id;
    if not found then
        object_key := new_key;
        return next;
    end if;
end
$$;

-- Returns the texts about the recordings of an access request that exist and that no copy contains: TRANSCRIPT and
-- INSIGHTS, each with the video's id. The copy's manifest names them, so that the patient can ask the doctor for them.
create function private.uncopied_texts(of_request uuid) returns table (recording_id uuid, kind text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    select a.* into wanted from resguardo.access_requests as a where a.id = of_request;
    return query
    select r.id, x.kind
    from private.wanted_recordings(wanted) as r
    cross join lateral (
        select 'TRANSCRIPT' from resguardo.transcripts as t where t.recording_id = r.id and t.status = 'READY'
        union all
        select 'INSIGHTS' from resguardo.insights as i
        where i.recording_id = r.id and i.status in ('READY', 'STALE')
    ) as x (kind)
    where r.medium = 'VIDEO'
    order by r.id, x.kind desc;
end
$$;

-- Fulfils an access request with the encrypted copy that one attempt has made. Returns false if a later attempt has
-- replaced the given attempt, or the access request no longer needs a copy; the copy's object is then orphaned. If
-- one of the copied recordings was destroyed in the meantime, the function queues the job that makes a new copy.
-- `noted` has the recordings whose session notes are in the copy.
create function private.finish_export(of_request uuid, key text, size bigint, contents uuid[], noted uuid[])
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
    wanted resguardo.access_requests;
    made private.access_exports;
    missing integer;
begin
    select a.* into wanted from resguardo.access_requests as a where a.id = of_request for update;
    select e.* into made from private.access_exports as e where e.request_id = of_request for update;
    if exists (select from unnest(made.recording_ids) as m (id) where private.is_destroyed(m.id)) then
        delete from private.access_exports as e where e.request_id = of_request;
        made := null;
    end if;
    if made.object_key is distinct from key or made.expired_at is not null then
        if made.object_key is null and wanted.status = 'APPROVED' then
            perform private.put_job('export_access_request', of_request);
        end if;
        return false;
    elsif wanted.status <> 'APPROVED' then
        return made.ready_at is not null;
    end if;
    missing := made.files - cardinality(contents);
    update private.access_exports as e
    set ready_at = moment, expires_at = moment + interval '30 days', files = cardinality(contents),
        recording_ids = array(
            select r.id from resguardo.recordings as r where r.id = any(contents)
            union
            select r.video_id from resguardo.recordings as r where r.id = any(contents) and r.video_id is not null
            union
            select n.id from unnest(noted) as n (id)
        )
    where e.request_id = of_request
    returning e.* into made;
    update resguardo.access_requests as a
    set status = 'FULFILLED', fulfilled_at = made.ready_at, export_status = 'READY', export_error = null,
        export_size_bytes = size, export_recordings = made.files, export_missing = missing,
        export_notes = cardinality(made.note_ids),
        export_expires_at = made.expires_at
    where a.id = of_request;
    perform private.write_audit(
        'access_request.export', 'ALLOWED', case when missing > 0 then 'incomplete' end, 'access_request',
        array[of_request], array[wanted.patient_id],
        array(select distinct r.consultation_id from resguardo.recordings as r where r.id = any(made.recording_ids)),
        array['object'], made.files, size
    );
    return true;
end
$$;

-- Records that the worker could not make the encrypted copy for an access request. Compliance may then approve the
-- access request again.
create function private.fail_export(of_request uuid, failure text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    update resguardo.access_requests as a set export_status = 'FAILED', export_error = failure
    where a.id = of_request and a.status = 'APPROVED'
    returning a.* into wanted;
    if wanted.id is not null then
        perform private.write_audit(
            'access_request.export', 'FAILED', failure, 'access_request', array[of_request],
            array[wanted.patient_id], array_remove(array[wanted.consultation_id], null), array['status'], 0, null
        );
    end if;
end
$$;

-- Returns the encrypted copies to delete: those that are 30 days old, and those whose access request was withdrawn
-- while the copy was being made.
create function private.ended_exports() returns table (request_id uuid, object_key text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select e.request_id, e.object_key
    from private.access_exports as e
    join resguardo.access_requests as a on a.id = e.request_id
    where e.expired_at is null and (e.expires_at <= private.now() or a.status = 'WITHDRAWN')
    order by e.began_at
    limit 100;
end
$$;

-- Marks an encrypted copy as expired, after its object was deleted from the bucket. Returns false if a later attempt
-- has replaced the encrypted copy.
create function private.expire_export(of_request uuid, key text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    select a.* into wanted from resguardo.access_requests as a where a.id = of_request for update;
    update private.access_exports as e set expired_at = private.now(), secret = null
    where e.request_id = of_request and e.object_key = key and e.expired_at is null
        and (e.expires_at <= private.now() or wanted.status = 'WITHDRAWN');
    if not found then
        return false;
    end if;
    update resguardo.access_requests as a set export_status = 'EXPIRED'
    where a.id = of_request and a.export_status = 'READY';
    perform private.audit_request('access_request.expire_export', wanted, array['object', 'secret']);
    return true;
end
$$;

-- Returns which of the given object keys belong to no encrypted copy and to no export of the audit log, for the sweep
-- that deletes the objects of interrupted attempts. The function reveals nothing about keys that the caller did not
-- name.
create function private.unknown_export_keys(keys text[]) returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select k.key from unnest(keys) as k (key)
        where not exists (
            select from private.access_exports as e where e.object_key = k.key and e.expired_at is null
        ) and not exists (select from private.audit_export_files as f where f.object_key = k.key)
    );
end
$$;

-- Returns the type of the entity to which the archives under `exports/<id>/` belong, for an audit row.
create function private.export_entity_type(of_id uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when exists (select from resguardo.audit_exports as e where e.id = of_id) then 'audit_export'
        else 'access_request'
    end;
end
$$;

-- Writes the audit row about this access, and returns the object key of an access request's encrypted copy to the
-- patient. Returns null if the person may not see the request or it does not exist (the audit row then says DENIED or
-- ABSENT), and '' if the access request has no copy now. Raises RG429 (quota_urls).
create function private.release_export_key(of_request uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
    made private.access_exports;
begin
    perform private.patient();
    perform private.use_quota(private.uid(), 'urls');
    wanted := private.find_access_request(of_request, 'access_request.issue_url');
    if wanted.id is null then
        return null;
    end if;
    select e.* into made from private.access_exports as e
    where e.request_id = of_request and e.expires_at > private.now() and e.expired_at is null;
    perform private.write_audit(
        'access_request.issue_url', case when made.request_id is null then 'FAILED' else 'ALLOWED' end,
        case when made.request_id is null then 'export_not_there' end, 'access_request', array[of_request],
        array[wanted.patient_id],
        array(select distinct r.consultation_id from resguardo.recordings as r where r.id = any(made.recording_ids)),
        array['object'], coalesce(made.files, 0),
        case when made.request_id is not null then wanted.export_size_bytes end
    );
    return coalesce(made.object_key, '');
end
$$;

-- Returns the passphrase of an access request's encrypted copy once, so that a compliance officer can give it to the
-- patient by telephone or post. The function erases the passphrase in the transaction that returns it. Returns null
-- if the access request does not exist. Raises RG409 (export_secret_gone) if the encrypted copy does not exist or its
-- passphrase was already shown.
create function private.reveal_export_secret(of_request uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
    revealed text;
begin
    perform private.person();
    wanted := private.lock_access_request(of_request, 'access_request.reveal_secret');
    if wanted.id is null then
        return null;
    end if;
    select e.secret into revealed from private.access_exports as e
    where e.request_id = of_request and e.ready_at is not null and e.expires_at > private.now()
        and e.expired_at is null;
    if revealed is null then
        raise exception 'export_secret_gone' using errcode = 'RG409';
    end if;
    update private.access_exports as e set secret = null where e.request_id = of_request;
    update resguardo.access_requests as a set secret_revealed_at = private.now() where a.id = of_request;
    perform private.audit_request('access_request.reveal_secret', wanted, array['export.secretRevealedAt', 'secret']);
    return revealed;
end
$$;


-- 32_deletions.sql

-- Deletions of recordings, from the request to the proof that every object is gone.

create table resguardo.deletions (
    id uuid primary key default gen_random_uuid(),
    recording_id uuid not null,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    ground text not null
    constraint deletions_ground_is_known check (ground in ('RETENTION', 'REQUEST', 'MISSING', 'RESTORE')),
    reason text
    constraint deletions_reason_is_known check (
        reason in ('RECORDED_IN_ERROR', 'WRONG_PATIENT', 'DUPLICATE', 'PATIENT_ASKED', 'CONSENT_WITHDRAWN', 'OTHER')
    ),
    status text not null default 'REQUESTED'
    constraint deletions_status_is_known check (status in ('REQUESTED', 'UNDONE', 'DELETING', 'DELETED')),
    requested_by uuid,
    requested_at timestamptz not null default private.now(),
    undo_until timestamptz,
    number integer not null default 1 constraint deletions_number_is_positive check (number > 0),
    policy_id integer constraint deletions_policy_id_fkey references resguardo.retention_policies (id),
    due_at timestamptz,
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default private.now(),
    hold_checked_at timestamptz,
    error text constraint deletions_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    shredded_at timestamptz,
    destroyed_keys jsonb not null default '[]',
    finished_at timestamptz,
    cleared_text_rows jsonb not null default '[]',
    changed_at timestamptz not null default private.now(),
    stage text not null
    generated always as (case when status = 'DELETING' and error is not null then 'FAILING' else status end) stored,
    constraint deletions_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint deletions_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint deletions_request_is_whole check (
        (ground = 'REQUEST') = (reason is not null) and (ground = 'REQUEST') = (undo_until is not null)
        and (ground = 'REQUEST') = (requested_by is not null)
    )
);
alter table resguardo.deletions enable row level security;
comment on column resguardo.deletions.number is
'The number of its certificate. 2 and more: a restored backup brought the recording back and it was destroyed again.';
comment on column resguardo.deletions.stage is
'The status, or FAILING if the deletion is DELETING and its newest attempt failed. Lists are filtered by it.';
comment on column resguardo.deletions.hold_checked_at is
'When the newest attempt checked that no hold covers the recording.';
comment on column resguardo.deletions.shredded_at is 'When its keys were destroyed, after its objects were deleted.';
comment on column resguardo.deletions.changed_at is 'When subscriptions were last notified of a change.';
comment on column resguardo.deletions.cleared_text_rows is
'How many rows of text were deleted from each table: of the transcript, of what was made from it, and of notes.';
create unique index deletions_one_open_key on resguardo.deletions (recording_id)
where status in ('REQUESTED', 'DELETING');
create index deletions_recording_idx on resguardo.deletions (recording_id, consultation_id, requested_at desc);
create index deletions_consultation_idx on resguardo.deletions (consultation_id, doctor_id, patient_id);
create index deletions_doctor_idx on resguardo.deletions (doctor_id, requested_at desc, id desc);
create index deletions_changed_idx on resguardo.deletions (doctor_id, changed_at desc, id desc);
create index deletions_patient_idx on resguardo.deletions (patient_id);
create index deletions_policy_idx on resguardo.deletions (policy_id);
create index deletions_doctor_stage_idx on resguardo.deletions (doctor_id, stage, requested_at desc, id desc);
create index deletions_requested_idx on resguardo.deletions (requested_at desc, id desc);
create index deletions_stage_idx on resguardo.deletions (stage, requested_at desc, id desc);
create index deletions_in_grace_idx on resguardo.deletions (undo_until) where status = 'REQUESTED';
create index deletions_begun_idx on resguardo.deletions (next_attempt_at) where status = 'DELETING';

create trigger deletions_announce after insert on resguardo.deletions
for each row execute function private.announce_change();

create trigger deletions_announce_progress before update on resguardo.deletions
for each row when (
    (new.status, new.attempts, new.error, new.undo_until, new.finished_at)
    is distinct from (old.status, old.attempts, old.error, old.undo_until, old.finished_at)
) execute function private.announce_change();

create table private.deletion_objects (
    deletion_id uuid not null constraint deletion_objects_deletion_id_fkey references resguardo.deletions (id),
    object_key text not null,
    size_bytes bigint not null,
    etag text not null,
    sha256 text,
    deleted_at timestamptz,
    gone_at timestamptz,
    constraint deletion_objects_pkey primary key (deletion_id, object_key)
);
comment on table private.deletion_objects is
'The objects found before their deletion, so that a crash loses nothing. Deleted once the certificate lists them.';

-- Takes the keeping lock, and locks and returns a recording that the caller may destroy. A doctor may destroy the
-- doctor's own recordings, and a compliance officer may destroy every recording. If the caller may not destroy the
-- recording, the function locks nothing, writes an audit row with DENIED or ABSENT, and returns null.
create function private.lock_own_recording(of_recording uuid, action text) returns resguardo.recordings
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
    is_allowed boolean;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording;
    if current_setting('role') = 'compliance' then
        is_allowed := private.person() is not null;
    else
        is_allowed := wanted.doctor_id = private.doctor();
    end if;
    if wanted.id is null or not is_allowed then
        perform private.write_audit(
            action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'recording',
            array[of_recording], array_remove(array[wanted.patient_id], null),
            array_remove(array[wanted.consultation_id], null), '{}', 0, null
        );
        return null;
    elsif wanted.medium <> 'VIDEO' then
        perform private.write_audit(
            action, 'FAILED', 'not_found', 'recording', array[of_recording], array[wanted.patient_id],
            array[wanted.consultation_id], '{}', 0, null
        );
        return null;
    end if;
    perform private.lock_keeping(false);
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording for update;
    return wanted;
end
$$;

-- Requests that a recording is destroyed after the grace period of the retention policy. If a deletion of the
-- recording is already requested or running, the function returns that deletion. Returns null if the person may not
-- see the recording or it does not exist. Raises RG409 (recording_not_finished, recording_deleted, recording_held).
create function private.request_deletion(of_recording uuid, why text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.recordings := private.lock_own_recording(of_recording, 'recording.delete');
    days constant integer := coalesce((private.active_policy()).terms ->> 'grace_days', '7')::integer;
    made uuid;
begin
    if wanted.id is null then
        return null;
    elsif wanted.status = 'DELETED' then
        raise exception 'recording_deleted' using errcode = 'RG409';
    elsif not private.is_finished(wanted.status) or exists (
        select from resguardo.recordings as s where s.video_id = wanted.id and not private.is_finished(s.status)
    ) then
        raise exception 'recording_not_finished' using errcode = 'RG409';
    elsif private.is_held(wanted.id) then
        raise exception 'recording_held' using errcode = 'RG409';
    end if;
    select d.id into made
    from resguardo.deletions as d where d.recording_id = wanted.id and d.status in ('REQUESTED', 'DELETING');
    if made is null then
        insert into resguardo.deletions (
            recording_id, consultation_id, doctor_id, patient_id, ground, reason, requested_by, undo_until, policy_id,
            due_at
        ) values (
            wanted.id, wanted.consultation_id, wanted.doctor_id, wanted.patient_id, 'REQUEST', why, private.uid(),
            private.latest_time() + make_interval(days => days), wanted.retention_policy, wanted.due_at
        ) returning id into made;
    end if;
    perform private.write_audit_later(
        'recording.delete', lower(why), 'recording', wanted.id, wanted.patient_id, wanted.consultation_id,
        array['deletion'], wanted.size_bytes
    );
    return made;
end
$$;

-- Cancels a deletion request before the destruction has begun. A second cancellation of the same request changes
-- nothing. Returns null if the person may not see the recording or it does not exist. Raises RG409
-- (deletion_not_undoable).
create function private.undo_deletion(of_recording uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.recordings := private.lock_own_recording(of_recording, 'recording.undo_delete');
    newest resguardo.deletions;
begin
    if wanted.id is null then
        return null;
    end if;
    select d.* into newest
    from resguardo.deletions as d where d.recording_id = wanted.id
    order by d.status in ('REQUESTED', 'DELETING') desc, d.requested_at desc, d.id desc limit 1 for update;
    if newest.id is null then
        raise exception 'deletion_not_requested' using errcode = 'RG409';
    elsif newest.status = 'REQUESTED' then
        update resguardo.deletions as d set status = 'UNDONE', finished_at = private.now() where d.id = newest.id;
    elsif newest.status is distinct from 'UNDONE' then
        raise exception 'deletion_not_undoable' using errcode = 'RG409';
    end if;
    perform private.write_audit_later(
        'recording.undo_delete', null, 'recording', wanted.id, wanted.patient_id, wanted.consultation_id,
        array['deletion'], null
    );
    return newest.id;
end
$$;

-- Returns whether the destruction of a recording is under way. Returns false if a legal hold was placed after a
-- failed attempt to destroy the recording. Under a legal hold, the worker makes no further attempt to destroy the
-- recording, and may move the remaining objects to keep/.
create function private.is_in_destruction(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.deletions as d
        where d.recording_id = of_recording and d.status = 'DELETING'
            and (
                d.shredded_at is not null or d.next_attempt_at > private.now() or not private.is_held(of_recording)
            )
    );
end
$$;

-- Returns whether the destruction of a recording was requested, has begun or is complete. After a request to destroy
-- a recording, its transcript is neither made nor shown unless the deletion is undone.
create function private.is_to_be_destroyed(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.deletions as d
        where d.recording_id = of_recording and d.status in ('REQUESTED', 'DELETING', 'DELETED')
    );
end
$$;

-- Returns whether the destruction of a recording has begun or is complete.
create function private.is_being_destroyed(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.deletions as d
        where d.recording_id = of_recording and d.status in ('DELETING', 'DELETED')
    );
end
$$;

-- Returns whether a recording is destroyed, which means that at least its encryption key is deleted. An encrypted
-- copy for an access request never contains a destroyed recording.
create function private.is_destroyed(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.deletions as d
        where d.recording_id = of_recording and (d.status = 'DELETED' or d.shredded_at is not null)
    );
end
$$;

-- Cancels deletions that have begun but have not yet destroyed an encryption key. The recordings of cancelled
-- deletions stay unchanged.
create function private.call_off(deletions uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.deletions as d set status = 'UNDONE', finished_at = private.now()
    where d.id = any (deletions) and d.status = 'DELETING' and d.shredded_at is null;
    delete from private.deletion_objects as o
    using resguardo.deletions as d
    where d.id = o.deletion_id and d.id = any (deletions) and d.status = 'UNDONE';
end
$$;

-- Locks the deletions that the worker claimed in one attempt, and returns those that still belong to this attempt. If
-- the worker was suspended for longer than the lease of its claim, a later attempt may have claimed some of the
-- deletions, or a legal hold may protect the recordings.
create function private.lock_claimed(deletions uuid[], attempts integer[]) returns uuid[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform from resguardo.deletions as d where d.id = any (deletions) order by d.id for update;
    return array(
        select d.id
        from unnest(deletions, attempts) as c (id, attempt)
        inner join resguardo.deletions as d on d.id = c.id and d.attempts = c.attempt and d.status = 'DELETING'
    );
end
$$;

-- Writes the audit row, and claims at most `most` deletions for the caller: deletions that are due, and deletions
-- that were interrupted. A deletion is due if both the database's clock and the given time, which comes from the
-- bucket's clock, have reached its due date. The function claims no deletion of a recording under a legal hold or an
-- access request, even if the destruction has begun. The function ignores a `next_attempt_at` that is far in the
-- future, because a wrong clock wrote it. The query uses a custom plan, in which a hash of the held recordings shows
-- whether a recording is held. Many recordings may be held at the same time.
create function private.claim_deletions(by_clock timestamptz, most integer)
returns table (
    deletion_id uuid, recording_id uuid, attempt integer, ground text, prefixes text[], object_keys text[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan
as $$
declare
    moment constant timestamptz := least(by_clock, private.now());
    spared uuid[];
    claimed uuid[];
begin
    perform private.lock_keeping(false);
    update private.keeping_clock as c set highest = moment where c.highest < moment;
    spared := array(
        select v.id from private.held_videos() as v (id) union select m.id from private.moving_videos() as m (id)
    );
    insert into resguardo.deletions (
        recording_id, consultation_id, doctor_id, patient_id, ground, status, policy_id, due_at
    )
    select
        r.id, r.consultation_id, r.doctor_id, r.patient_id, 'RETENTION', 'DELETING', r.retention_policy, r.due_at
    from resguardo.recordings as r
    where r.due_at <= moment and r.medium = 'VIDEO' and r.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
        and r.id <> all (spared)
        and not exists (
            select from resguardo.deletions as d
            where d.recording_id = r.id and d.status in ('REQUESTED', 'DELETING')
        )
        and not exists (
            select from resguardo.recordings as s where s.video_id = r.id and not private.is_finished(s.status)
        )
    order by r.due_at asc, r.id asc
    limit most
    for update of r skip locked
    on conflict do nothing;
    update resguardo.deletions as d set status = 'DELETING', next_attempt_at = private.now()
    where d.id in (
        select g.id
        from resguardo.deletions as g
        inner join resguardo.recordings as r on r.id = g.recording_id
        where g.status = 'REQUESTED' and (g.undo_until <= moment or r.due_at <= moment)
            and private.may_be_destroyed(r.id)
        order by g.undo_until asc
        limit most
        for update of g, r skip locked
    );
    perform private.call_off(array(
        select d.id
        from resguardo.deletions as d
        inner join resguardo.recordings as r on r.id = d.recording_id
        where d.status = 'DELETING' and d.ground = 'RETENTION' and d.shredded_at is null
            and r.due_at > d.due_at and r.due_at > moment and d.next_attempt_at <= private.now()
        for update of d
    ));
    with taken as (
        update resguardo.deletions as d
        set attempts = d.attempts + 1,
            hold_checked_at = case when d.shredded_at is null then private.now() else d.hold_checked_at end,
            next_attempt_at = private.now() + interval '15 minutes'
        where d.id in (
            select b.id
            from resguardo.deletions as b
            where b.status = 'DELETING'
                and (b.next_attempt_at <= private.now() or b.next_attempt_at > private.now() + interval '1 day')
                and (b.shredded_at is not null or private.may_be_destroyed(b.recording_id))
            order by b.next_attempt_at asc, b.id asc
            limit most
            for update skip locked
        )
        returning d.id
    )
    select array_agg(t.id) into claimed from taken as t;
    perform private.audit_deletions('recording.destroy', 'begun', claimed);
    return query
    select
        d.id, d.recording_id, d.attempts, d.ground,
        private.object_prefixes(r) || array(
            select private.exports_prefix(e.request_id)
            from private.access_exports as e
            where e.recording_ids @> array[r.id]
            order by e.request_id
        ),
        array(
            select s.object_key
            from private.recording_secrets as s
            inner join resguardo.recordings as m on m.id = s.recording_id
            where r.id in (m.id, m.video_id)
            union
            select e.object_key from private.access_exports as e where e.recording_ids @> array[r.id]
            union
            select o.object_key from private.deletion_objects as o where o.deletion_id = d.id
        )
    from resguardo.deletions as d
    inner join resguardo.recordings as r on r.id = d.recording_id
    where d.id = any (claimed);
end
$$;

-- Writes the audit row about one step of several deletions. The audit row names first the videos, and then the sound
-- recordings beside these videos.
create function private.audit_deletions(action text, reason text, deletions uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    about record;
begin
    select
        array_agg(d.recording_id) as recordings, array_agg(distinct d.patient_id) as patients,
        array_agg(distinct d.consultation_id) as consultations, count(*)::integer as how_many
    into about
    from resguardo.deletions as d where d.id = any (deletions);
    if about.how_many > 0 then
        perform private.write_audit(
            action, 'ALLOWED', reason, 'recording',
            about.recordings || array(
                select r.id from resguardo.recordings as r where r.video_id = any (about.recordings) order by r.id
            ),
            about.patients, about.consultations,
            array['object', 'key'], about.how_many, null
        );
    end if;
end
$$;

-- Stores a list of the objects that were found in the bucket, before the worker deletes them. Objects that an earlier
-- attempt stored stay in the list. Returns the claimed deletions that may continue.
create function private.keep_inventory(
    claimed uuid[], attempts integer[], deletions uuid[], object_keys text[], sizes bigint[], etags text[]
) returns uuid[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ours constant uuid[] := private.lock_claimed(claimed, attempts);
begin
    insert into private.deletion_objects (deletion_id, object_key, size_bytes, etag, sha256)
    select
        i.deletion_id, i.object_key, i.size_bytes, i.etag,
        (
            select m.sha256
            from private.recording_secrets as s
            inner join resguardo.recordings as m on m.id = s.recording_id
            where s.object_key = i.object_key and m.size_bytes = i.size_bytes
        )
    from unnest(deletions, object_keys, sizes, etags) as i (deletion_id, object_key, size_bytes, etag)
    where i.deletion_id = any (ours)
    on conflict (deletion_id, object_key) do nothing;
    return ours;
end
$$;

-- Deletes the transcript of a recording, the insights into it, the notes on it and its thumbnail, and returns how many
-- rows it deleted from each table. The function locks the transcript first, as a correction does, which then marks the
-- insights as outdated.
create function private.clear_texts(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    of_transcript constant jsonb := private.clear_transcript(of_recording);
begin
    return of_transcript || private.clear_insights(of_recording) || private.clear_note_draft(of_recording)
        || private.clear_session_notes(of_recording) || private.clear_thumbnail(of_recording);
end
$$;

-- Destroys the encryption keys of recordings that have no object left in the bucket, deletes their text and object
-- keys, and returns the data for each certificate. If objects of a recording are left in the bucket, the function skips
-- the recording.
create function private.shred_keys(
    claimed uuid[], attempts integer[], of_deletions uuid[], object_keys text[], deleted timestamptz[],
    gone timestamptz[]
) returns table (deletion_id uuid, facts jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
    ours constant uuid[] := private.lock_claimed(claimed, attempts);
    shredded uuid[];
    recordings uuid[];
    media uuid[];
begin
    update private.deletion_objects as o
    set deleted_at = least(g.deleted_at, moment), gone_at = least(g.gone_at, moment)
    from unnest(of_deletions, object_keys, deleted, gone) as g (deletion_id, object_key, deleted_at, gone_at)
    inner join resguardo.deletions as d on d.id = g.deletion_id and d.shredded_at is null
    where o.deletion_id = g.deletion_id and o.object_key = g.object_key and d.id = any (ours);
    select array_agg(d.id), array_agg(d.recording_id) into shredded, recordings
    from resguardo.deletions as d
    where d.id = any (ours)
        and not exists (
            select from private.deletion_objects as o where o.deletion_id = d.id and o.gone_at is null
        );
    media := array(
        select r.id from resguardo.recordings as r where r.id = any (recordings) or r.video_id = any (recordings)
    );
    with destroyed as (
        delete from private.recording_keys as k where k.recording_id = any (media)
        returning k.recording_id, k.wrapped_key, k.root_key_id
    ),

    told as (
        select
            coalesce(r.video_id, r.id) as recording_id,
            jsonb_agg(
                jsonb_build_object(
                    'kind', 'recording', 'fingerprint', encode(sha256(x.wrapped_key), 'hex'),
                    'root_key_id', x.root_key_id, 'destroyed_at', moment
                )
            ) as keys
        from destroyed as x
        inner join resguardo.recordings as r on r.id = x.recording_id
        group by coalesce(r.video_id, r.id)
    )

    update resguardo.deletions as d
    set shredded_at = coalesce(d.shredded_at, moment),
        destroyed_keys = d.destroyed_keys
            || coalesce((select t.keys from told as t where t.recording_id = d.recording_id), '[]'),
        cleared_text_rows = d.cleared_text_rows || private.clear_texts(d.recording_id)
    where d.id = any (shredded);
    delete from private.recording_secrets as s where s.recording_id = any (media);
    delete from private.import_secrets as s
    using resguardo.recording_imports as i
    where i.id = s.import_id and i.recording_id = any (media);
    perform from resguardo.access_requests as a
    where a.id in (select e.request_id from private.access_exports as e where e.recording_ids && recordings)
    order by a.id
    for update;
    delete from private.access_exports as e where e.recording_ids && recordings;
    return query
    select
        d.id,
        jsonb_build_object(
            'recording_id', d.recording_id, 'consultation_id', d.consultation_id, 'ground', d.ground,
            'reason', lower(d.reason), 'requested_at', case d.ground when 'REQUEST' then d.requested_at end,
            'policy', case when p.id is not null then jsonb_build_object(
                'name', p.name, 'sha256', p.sha256, 'due_at', d.due_at,
                'term_days', private.term_of(p.terms, c.kind, 'recording_days')
            ) end,
            'hold_checked_at', d.hold_checked_at, 'destroyed_at', d.shredded_at, 'keys', d.destroyed_keys,
            'text_rows', d.cleared_text_rows,
            'signed_note_id', null, 'surviving_notes', private.surviving_notes(d.recording_id),
            'number', d.number,
            'repeats', (
                select c.sha256 from resguardo.certificates as c
                where c.recording_id = d.recording_id and c.number = d.number - 1
            ),
            'objects', coalesce(
                (
                    select jsonb_agg(
                        jsonb_build_object(
                            'key', o.object_key, 'size_bytes', o.size_bytes, 'etag', o.etag, 'sha256', o.sha256,
                            'deleted_at', o.deleted_at, 'gone_at', o.gone_at
                        ) order by o.object_key
                    )
                    from private.deletion_objects as o where o.deletion_id = d.id
                ),
                '[]'
            )
        )
    from resguardo.deletions as d
    inner join resguardo.consultations as c on c.id = d.consultation_id
    left join resguardo.retention_policies as p on p.id = d.policy_id
    where d.id = any (shredded);
end
$$;

-- Stores the certificates of destruction and sets the destroyed recordings to DELETED.
create function private.finish_deletions(deletions uuid[], documents text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    finished uuid[];
    recordings uuid[];
begin
    select array_agg(d.id), array_agg(d.recording_id) into finished, recordings
    from resguardo.deletions as d
    where d.id = any (deletions) and d.status = 'DELETING' and d.shredded_at is not null;
    insert into resguardo.certificates (
        recording_id, number, deletion_id, doctor_id, patient_id, consultation_id, document, sha256
    )
    select
        d.recording_id, d.number, d.id, d.doctor_id, d.patient_id, d.consultation_id, g.document,
        encode(sha256(convert_to(g.document, 'UTF8')), 'hex')
    from unnest(deletions, documents) as g (deletion_id, document)
    inner join resguardo.deletions as d on d.id = g.deletion_id and d.id = any (finished)
    on conflict (recording_id, number) do nothing;
    perform private.audit_deletions('recording.destroy', 'proven', finished);
    update resguardo.recordings as r set status = 'DELETED', due_at = null
    where r.id = any (recordings) or r.video_id = any (recordings);
    update resguardo.clips as c set status = 'DELETED', error = null
    where c.recording_id = any (recordings) and c.status <> 'DELETED';
    update resguardo.deletions as d set status = 'DELETED', finished_at = private.now(), error = null
    where d.id = any (finished);
    delete from private.deletion_objects as o where o.deletion_id = any (finished);
end
$$;

-- Records why the newest attempt to destroy a recording failed, and returns how many attempts there were. The next
-- attempt to destroy the recording is made within one hour.
create function private.fail_deletion(of_deletion uuid, attempt integer, why text) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    failed resguardo.deletions;
begin
    update resguardo.deletions as d
    set error = why,
        next_attempt_at = private.now() + least(interval '1 hour', interval '1 minute' * 2 ^ least(d.attempts - 1, 10))
    where d.id = of_deletion and d.attempts = attempt and d.status = 'DELETING'
    returning d.* into failed;
    if failed.id is not null then
        perform private.write_audit(
            'deletion.fail', 'FAILED', why, 'deletion', array[failed.id], array[failed.patient_id],
            array[failed.consultation_id], '{}', 1, null
        );
    end if;
    return failed.attempts;
end
$$;

-- Begins the deletion of a recording whose object has been missing from the bucket for too long. Returns false if a
-- legal hold or an access request covers the recording, or its object is not marked as missing.
create function private.destroy_missing(of_recording uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.lock_keeping(false);
    insert into resguardo.deletions (
        recording_id, consultation_id, doctor_id, patient_id, ground, status, policy_id, due_at
    )
    select r.id, r.consultation_id, r.doctor_id, r.patient_id, 'MISSING', 'DELETING', r.retention_policy, r.due_at
    from resguardo.recordings as r
    where r.id = of_recording and r.medium = 'VIDEO' and r.status = 'READY' and r.missing_since is not null
        and private.may_be_destroyed(r.id)
    for update of r
    on conflict (recording_id) where status in ('REQUESTED', 'DELETING') do nothing;
    return found;
end
$$;

-- Cancels the deletion of a recording that was marked as missing although its object exists; the recording stays.
create function private.call_off_missing(of_deletion uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    called_off resguardo.deletions;
begin
    perform private.call_off(array[of_deletion]);
    select d.* into called_off
    from resguardo.deletions as d where d.id = of_deletion and d.status = 'UNDONE' and d.ground = 'MISSING';
    update resguardo.recordings as r set missing_since = null
    where called_off.recording_id in (r.id, r.video_id);
    perform private.write_audit(
        'recording.undo_delete', 'ALLOWED', 'object_is_back', 'recording', array[called_off.recording_id],
        array[called_off.patient_id], array[called_off.consultation_id], array['deletion'], 1, null
    );
end
$$;


-- 33_certificates.sql

-- Certificates of destruction.

create table resguardo.certificates (
    recording_id uuid not null,
    number integer not null,
    deletion_id uuid not null constraint certificates_deletion_id_fkey references resguardo.deletions (id),
    doctor_id uuid not null,
    patient_id uuid not null,
    consultation_id uuid not null,
    document text not null,
    sha256 text not null constraint certificates_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    kept_at timestamptz not null default private.now(),
    constraint certificates_pkey primary key (recording_id, number),
    constraint certificates_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint certificates_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade
);
alter table resguardo.certificates enable row level security;
comment on column resguardo.certificates.document is
'The signed file, equal to the file in the ledger: it holds only ids, sizes and hashes.';
create index certificates_deletion_idx on resguardo.certificates (deletion_id);
create index certificates_recording_idx on resguardo.certificates (recording_id, consultation_id);
create index certificates_consultation_idx on resguardo.certificates (consultation_id, doctor_id, patient_id);
create index certificates_doctor_idx on resguardo.certificates (doctor_id);
create index certificates_patient_idx on resguardo.certificates (patient_id);


-- 34_restores.sql

-- Deletions that are repeated after a backup was restored.

-- Stores the certificates of earlier destructions of a recording, oldest first, and gives the current deletion the
-- next number.
create function private.keep_earlier_certificates(of_deletion uuid, documents text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.deletions as d set number = cardinality(documents) + 1
    where d.id = of_deletion and d.status = 'DELETING';
    insert into resguardo.certificates (
        recording_id, number, deletion_id, doctor_id, patient_id, consultation_id, document, sha256
    )
    select
        d.recording_id, g.place, d.id, d.doctor_id, d.patient_id, d.consultation_id, g.document,
        encode(sha256(convert_to(g.document, 'UTF8')), 'hex')
    from unnest(documents) with ordinality as g (document, place)
    inner join resguardo.deletions as d on d.id = of_deletion and d.status = 'DELETING'
    on conflict (recording_id, number) do nothing;
end
$$;

-- Returns, for recordings that the ledger lists as destroyed, the status that they have in this database (null if the
-- recording is unknown). The function leaves out recordings that are DELETED, and ids of signed notes.
create function private.restored_recordings(recordings uuid[])
returns table (recording_id uuid, status text, is_held boolean, is_begun boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        w.id, r.status, r.id is not null and private.is_held(r.id),
        exists (select from resguardo.deletions as d where d.recording_id = w.id and d.status = 'DELETING')
    from unnest(recordings) as w (id)
    left join resguardo.recordings as r on r.id = w.id and r.medium = 'VIDEO'
    where r.status is distinct from 'DELETED'
        and not exists (select from resguardo.signed_notes as n where n.id = w.id);
end
$$;

-- Corrects the object key of a recording after a restore. If the worker moved an object to keep/ after the backup was
-- made, the restored database still has the object's old key. The function gives the key under keep/ to the READY
-- recording with the same size and the old key. Returns true if a recording got the key under keep/.
create function private.find_moved_object(kept_key text, size bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moved resguardo.recordings;
begin
    update private.recording_secrets as s set object_key = kept_key
    where starts_with(kept_key, 'keep/') and s.object_key ~ '^r/[^/]+/'
        and private.kept_object_key(s.object_key) = kept_key
        and exists (
            select from resguardo.recordings as r
            where r.id = s.recording_id and r.status = 'READY' and r.size_bytes = size
                and not private.is_being_destroyed(coalesce(r.video_id, r.id))
        )
        and not exists (select from private.object_moves as m where m.recording_id = s.recording_id)
    returning s.recording_id into moved.id;
    if moved.id is null then
        return false;
    end if;
    update resguardo.recordings as r set retention_class = 'keep' where r.id = moved.id returning r.* into moved;
    perform private.write_audit(
        'object.keep', 'ALLOWED', 'found_after_restore', 'recording', array[moved.id], array[moved.patient_id],
        array[moved.consultation_id], array['object_key', 'retention_class'], 1, null
    );
    return true;
end
$$;

-- Repeats the destruction of a recording that a restored backup has brought back, and stores the certificates that
-- the backup lacks. Returns false if a legal hold or an access request covers the recording, or the recording is not
-- finished or already DELETED.
create function private.repeat_deletion(of_recording uuid, documents text[]) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made resguardo.deletions;
begin
    perform private.lock_keeping(false);
    if not private.may_be_destroyed(of_recording) then
        return false;
    end if;
    update resguardo.deletions as d set status = 'UNDONE', finished_at = private.now()
    where d.recording_id = of_recording and d.status = 'REQUESTED';
    insert into resguardo.deletions (
        recording_id, consultation_id, doctor_id, patient_id, ground, status, number, policy_id, due_at
    )
    select
        r.id, r.consultation_id, r.doctor_id, r.patient_id, 'RESTORE', 'DELETING', cardinality(documents) + 1,
        r.retention_policy, r.due_at
    from resguardo.recordings as r
    where r.id = of_recording and r.medium = 'VIDEO' and private.is_finished(r.status)
    for update of r
    on conflict (recording_id) where status in ('REQUESTED', 'DELETING') do nothing
    returning * into made;
    if made.id is null then
        return false;
    end if;
    perform private.keep_earlier_certificates(made.id, documents);
    perform private.audit_deletions('restore.repeat', 'in_the_ledger', array[made.id]);
    return true;
end
$$;


-- 35_alerts.sql

-- Alerts: conditions that a person must look at. An alert opens when its cause is found and closes when its cause is
-- gone. At most one alert of each kind and key is open at a time.

create table resguardo.alerts (
    id uuid primary key default gen_random_uuid(),
    kind text not null constraint alerts_kind_is_name check (kind ~ '^[A-Z][A-Z0-9_]{0,62}$'),
    key text not null constraint alerts_key_is_plain check (key ~ '^[A-Za-z0-9_.:/@-]{0,200}$'),
    entity_type text constraint alerts_entity_type_is_slug check (entity_type ~ '^[a-z][a-z0-9_]{0,62}$'),
    entity_ids uuid[] not null default '{}' constraint alerts_entity_ids_are_few check (cardinality(entity_ids) <= 100),
    entity_count integer not null default 0 constraint alerts_entity_count_is_count check (entity_count >= 0),
    opened_at timestamptz not null default private.now(),
    seen_at timestamptz not null default private.now(),
    closed_at timestamptz,
    status text not null generated always as (case when closed_at is null then 'OPEN' else 'CLOSED' end) stored
);
alter table resguardo.alerts enable row level security;
comment on table resguardo.alerts is 'Alerts for operators and compliance: ids, kinds and times, no names.';
comment on column resguardo.alerts.key is 'Tells alerts of one kind apart: an id, a year or the name of a rule.';
comment on column resguardo.alerts.entity_ids is 'The first 100 ids of the entities that the alert is about.';
comment on column resguardo.alerts.entity_count is 'How many entities the alert is about.';
comment on column resguardo.alerts.seen_at is 'When the cause of the alert was last found.';
create unique index alerts_open_key on resguardo.alerts (kind, key) where closed_at is null;
create index alerts_opened_idx on resguardo.alerts (opened_at desc, id desc);
create index alerts_kind_status_idx on resguardo.alerts (kind, status, opened_at desc, id desc);

-- Returns a key without characters that could be text of a person: every other character becomes a hyphen.
create function private.alert_key(given text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return left(regexp_replace(coalesce(given, ''), '[^A-Za-z0-9_.:/@-]', '-', 'g'), 200);
end
$$;

-- Opens the alert of this kind and key, or, if it is open already, stores that its cause was found again, and with
-- which ids. Returns the id of the alert, and whether the call opened it. The transaction that opens an alert also
-- queues its webhook event.
create function private.store_alert(kind text, key text, entity_type text, ids uuid[])
returns table (alert_id uuid, is_new boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    moment constant timestamptz := private.now();
    found_ids constant uuid[] := (
        select coalesce(array_agg(distinct e.id order by e.id), '{}')
        from unnest(store_alert.ids) as e (id) where e.id is not null
    );
begin
    insert into resguardo.alerts as a (kind, key, entity_type, entity_ids, entity_count, opened_at, seen_at)
    values (
        store_alert.kind, private.alert_key(store_alert.key), store_alert.entity_type, found_ids[1:100],
        cardinality(found_ids), moment, moment
    )
    on conflict (kind, key) where closed_at is null do update
    set seen_at = greatest(a.seen_at, excluded.seen_at), entity_type = excluded.entity_type,
        entity_ids = excluded.entity_ids, entity_count = excluded.entity_count
    returning a.id, a.xmax = 0 into alert_id, is_new;
    if is_new then
        perform private.announce('alert.opened', 'alert', array[alert_id]);
    end if;
    return next;
end
$$;

-- Opens the alert of this kind and key unless it is open, and returns its id. Other features call this in the
-- transaction that finds the cause.
create function private.open_alert(kind text, key text, entity_type text, ids uuid[]) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (select s.alert_id from private.store_alert(kind, key, entity_type, ids) as s);
end
$$;

-- Closes the open alert of this kind and key, if there is one.
create function private.close_alert(kind text, key text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.alerts as a set closed_at = greatest(private.now(), a.opened_at)
    where a.kind = close_alert.kind and a.key = private.alert_key(close_alert.key) and a.closed_at is null;
end
$$;

-- Opens an alert of this kind for each finding (key, entity_type, ids), and closes all other alerts of this kind. The
-- first 20 findings get an alert each, those of open alerts before others, and the rest share the alert with the key
-- 'more'. Returns the keys of the alerts that the call opened or closed.
create function private.replace_alerts(kind text, findings jsonb) returns table (key text, is_over boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    wanted record;
    kept text[] := '{}';
begin
    for wanted in
        with given as (
            select
                private.alert_key(f.key) as key, min(f.entity_type) as entity_type,
                coalesce(array_agg(e.id) filter (where e.id is not null), '{}') as ids
            from jsonb_to_recordset(findings) as f (key text, entity_type text, ids uuid[])
            left join lateral unnest(f.ids) as e (id) on true
            group by private.alert_key(f.key)
        ),

        placed as (
            select g.key, g.entity_type, g.ids, a.id is not null as is_known,
                row_number() over (order by a.id is null, g.key) as place
            from given as g
            left join resguardo.alerts as a
                on a.kind = replace_alerts.kind and a.key = g.key and a.closed_at is null
        )

        select p.key, p.entity_type, p.ids, p.is_known from placed as p where p.place <= 20
        union all
        select
            'more', min(p.entity_type),
            array(
                select e.id from placed as q cross join lateral unnest(q.ids) as e (id) where q.place > 20
            ),
            exists (
                select from resguardo.alerts as a
                where a.kind = replace_alerts.kind and a.key = 'more' and a.closed_at is null
            )
        from placed as p where p.place > 20 having count(*) > 0
    loop
        perform private.open_alert(replace_alerts.kind, wanted.key, wanted.entity_type, wanted.ids);
        kept := kept || wanted.key;
        if not wanted.is_known then
            key := wanted.key;
            is_over := false;
            return next;
        end if;
    end loop;
    return query
    update resguardo.alerts as a set closed_at = greatest(private.now(), a.opened_at)
    where a.kind = replace_alerts.kind and a.closed_at is null and not (a.key = any(kept))
    returning a.key, true;
end
$$;

-- Opens the alert NO_LEADER if no worker has led for longer than `most_seconds`, and closes it if a worker leads. The
-- API calls this, because no worker can report that no worker leads. Returns the same as private.last_led().
create function private.watch_leader(most_seconds double precision)
returns table (led_until timestamptz, seconds double precision)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    select l.led_until, l.seconds into led_until, seconds from private.last_led() as l;
    if seconds > most_seconds then
        perform private.open_alert('NO_LEADER', '', null, '{}');
    elsif exists (select from resguardo.alerts as a where a.kind = 'NO_LEADER' and a.closed_at is null) then
        perform private.close_alert('NO_LEADER', '');
    end if;
    return next;
end
$$;

-- Returns how many alerts of each kind are open, and since when the oldest of them is open.
create function private.count_open_alerts() returns table (kind text, open_count bigint, opened_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select a.kind, count(*), min(a.opened_at)
    from resguardo.alerts as a where a.closed_at is null
    group by a.kind order by a.kind;
end
$$;

-- Returns the present causes of the alerts of one kind that the stored rows show, at most 1000. An event, such as the
-- stop of a stray egress, counts as a cause for a time after it happened.
create function private.find_alert_causes(of_kind text) returns table (key text, entity_type text, ids uuid[])
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
begin
    case of_kind
        when 'ACCESS_REQUEST_OVERDUE' then
            return query
            select o.id::text, 'access_request', array[o.id]
            from unnest(private.overdue_access_requests()) as o (id) limit 1000;
        when 'BREACH_DUE' then
            return query
            select b.id::text, 'breach_assessment', array[b.id]
            from private.due_breaches(10) as b where not b.is_overdue;
        when 'BREACH_OVERDUE' then
            return query
            select b.id::text, 'breach_assessment', array[b.id] from private.due_breaches(-1) as b;
        when 'BREACH_COUNT_FAILED' then
            return query
            select b.id::text, 'breach_assessment', array[b.id]
            from resguardo.breach_assessments as b
            where b.status = 'OPEN' and b.count_status = 'FAILED' limit 1000;
        when 'REVIEW_UNATTESTED' then
            return query
            select to_char(m.month, 'YYYY-MM'), null::text, '{}'::uuid[]
            from unnest(private.unattested_months(10)) as m (month);
        when 'ACCESS_COPY_FAILED' then
            return query
            select a.id::text, 'access_request', array[a.id]
            from resguardo.access_requests as a
            where a.status = 'APPROVED' and a.export_status = 'FAILED' limit 1000;
        when 'ACCESS_COPY_INCOMPLETE' then
            return query
            select distinct a.id::text, 'access_request', array[a.id]
            from audit.events as e
            cross join lateral jsonb_array_elements_text(e.entities -> 0 -> 'ids') as n (id)
            inner join resguardo.access_requests as a on a.id = n.id::uuid
            where e.action = 'access_request.export' and e.reason = 'incomplete'
                and e.recorded_at > moment - interval '31 days'
                and a.export_status = 'READY' and a.export_missing > 0
            limit 1000;
        when 'AUDIT_EXPORT_FAILED' then
            return query
            select e.id::text, 'audit_export', array[e.id]
            from resguardo.audit_exports as e
            where e.created_at > moment - interval '7 days' and e.status = 'FAILED' limit 1000;
        when 'EXPORT_NOT_DELETED' then
            return query
            select e.id::text, 'audit_export', array[e.id]
            from resguardo.audit_exports as e
            where e.status = 'READY' and e.expires_at < moment - interval '1 hour'
            union all
            select e.request_id::text, 'access_request', array[e.request_id]
            from private.access_exports as e
            where e.expired_at is null and e.expires_at < moment - interval '1 hour'
            limit 1000;
        when 'DELETION_FAILING' then
            return query
            select d.id::text, 'deletion', array[d.id]
            from resguardo.deletions as d where d.stage = 'FAILING' and d.attempts >= 3
            union all
            select d.note_id::text, 'signed_note', array[d.note_id]
            from private.note_destructions as d where d.error is not null and d.attempts >= 3
            limit 1000;
        when 'BUCKET_DRIFT' then
            return query
            select
                concat_ws(':', d.topic, d.code, d.subject),
                case when d.consultation_id is not null then 'consultation' end,
                array_remove(array[d.consultation_id], null)
            from private.drifts as d limit 1000;
        when 'OBJECT_MISSING' then
            return query
            select r.id::text, 'recording', array[r.id]
            from resguardo.recordings as r where r.missing_since is not null limit 1000;
        when 'RECORDING_LOST' then
            return query
            select r.id::text, 'recording', array[r.id]
            from resguardo.recordings as r
            where r.status = 'LOST' and r.status_at > moment - interval '7 days' limit 1000;
        when 'EGRESS_DIED' then
            return query
            select distinct n.id, 'recording', array[n.id::uuid]
            from audit.events as e
            cross join lateral jsonb_array_elements_text(e.entities -> 0 -> 'ids') as n (id)
            where e.action = 'recording.transition' and e.recorded_at > moment - interval '1 day'
                and e.reason like '%:egress_lost'
            limit 1000;
        when 'STRAY_EGRESS' then
            return query
            select e.id::text, 'audit_event', array[e.id]
            from audit.events as e
            where e.action = 'egress.stop_stray' and e.recorded_at > moment - interval '1 day' limit 1000;
        when 'AUDIT_LOG_ADOPTED' then
            return query
            select e.id::text, 'audit_event', array[e.id]
            from audit.events as e
            where e.action = 'audit_log.adopt' and e.recorded_at > moment - interval '7 days' limit 1000;
        when 'AUDIT_LOG_UNSEALED' then
            return query
            select '', 'audit_event', o.event_ids from private.overdue_events() as o where o.overdue_count > 0;
        when 'SIGN_INS_MISSING' then
            return query
            select p.problem, null::text, '{}'::uuid[] from unnest(private.find_sign_in_problems()) as p (problem);
        when 'BAN_FAILED' then
            return query
            select s.user_id::text, 'staff', array[s.user_id]
            from resguardo.staff as s
            inner join auth.users as u on u.id = s.user_id
            where s.status = 'suspended' and s.suspended_at < moment - interval '15 minutes'
                and s.suspended_by <> '00000000-0000-0000-0000-000000000000'
                and u.deleted_at is null and (u.banned_until is null or u.banned_until <= moment)
            limit 1000;
        when 'JOB_FAILED' then
            return query
            select
                j.task_name::text, null::text,
                coalesce(
                    array_agg(distinct (j.args ->> 'id')::uuid)
                    filter (where j.args ->> 'id' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'), '{}'
                )
            from (
                select n.id, n.task_name, n.args, n.status
                from jobs.procrastinate_jobs as n order by n.id desc limit 10000
            ) as j
            inner join jobs.procrastinate_events as e on e.job_id = j.id
            where j.status = 'failed' and e.type = 'failed' and e.at > moment - interval '1 day'
            group by j.task_name;
    end case;
end
$$;

-- Opens and closes the alerts of one kind by the causes that private.find_alert_causes finds. Returns the keys of the
-- alerts that the call opened or closed. No stored row shows whether a transcript is still unreadable, or whether a
-- bucket still contradicts the audit log. These alerts close a day after their cause was last found.
create function private.evaluate_alerts(of_kind text) returns table (key text, is_over boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if of_kind in ('TRANSCRIPT_UNREADABLE', 'AUDIT_BUCKET_DIFFERS') then
        return query
        update resguardo.alerts as a set closed_at = private.now()
        where a.kind = of_kind and a.closed_at is null and a.seen_at < private.now() - interval '1 day'
        returning a.key, true;
        return;
    end if;
    return query
    select r.key, r.is_over
    from private.replace_alerts(
        of_kind, (select coalesce(jsonb_agg(to_jsonb(c)), '[]') from private.find_alert_causes(of_kind) as c)
    ) as r;
end
$$;

-- Opens the alert about transcripts that a search could not decrypt.
create function private.report_unreadable_transcripts(recordings uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.open_alert(
        'TRANSCRIPT_UNREADABLE', '', 'transcript',
        array(select r.id from resguardo.recordings as r where r.id = any(recordings[1:100]))
    );
end
$$;


-- 36_outgoing_webhooks.sql

-- Outgoing webhooks: the messages that the worker sends to the endpoints of the practice, and the result of each
-- attempt. A message has ids only. The URLs and the secrets of the endpoints are settings of the worker.

create table private.webhook_endpoints (
    name text primary key constraint webhook_endpoints_name_is_slug check (name ~ '^[a-z][a-z0-9_-]{0,30}$'),
    url_digest text not null constraint webhook_endpoints_url_digest_is_hex check (url_digest ~ '^[0-9a-f]{64}$'),
    event_types text[] not null,
    is_configured boolean not null default true,
    disabled_at timestamptz,
    failing_since timestamptz,
    failure_count integer not null default 0,
    paused_until timestamptz
);
comment on table private.webhook_endpoints is
'The endpoints in the settings of the worker that started last, without their URLs and secrets.';
comment on column private.webhook_endpoints.url_digest is
'The SHA-256 of the URL, in hex. An endpoint with another URL than before is not disabled any more.';
comment on column private.webhook_endpoints.disabled_at is
'When the endpoint answered 410 Gone. The worker sends nothing to it until an officer asks for a redelivery.';
comment on column private.webhook_endpoints.failing_since is 'The first failed attempt since the last delivered one.';
comment on column private.webhook_endpoints.failure_count is
'The number of failed attempts since the last delivered one.';
comment on column private.webhook_endpoints.paused_until is
'The worker sends nothing to the endpoint before this time, because the endpoint did not answer or was overloaded.';

-- Returns the types of events that the practice can receive.
create function private.webhook_event_types() returns text[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return array[
        'alert.opened', 'case.opened', 'deletion.done', 'insights.ready', 'note.signed', 'recording.failed',
        'recording.ready', 'transcript.ready'
    ];
end
$$;

create table resguardo.webhook_deliveries (
    id uuid primary key default gen_random_uuid(),
    message_id uuid not null,
    endpoint text not null
    constraint webhook_deliveries_endpoint_fkey references private.webhook_endpoints (name),
    event_type text not null,
    entity_type text not null
    constraint webhook_deliveries_entity_type_is_slug check (entity_type ~ '^[a-z][a-z_]{0,63}$'),
    entity_ids uuid[] not null
    constraint webhook_deliveries_entity_ids_are_few check (cardinality(entity_ids) <= 100),
    status text not null default 'PENDING'
    constraint webhook_deliveries_status_is_known check (status in ('PENDING', 'DELIVERED', 'FAILED')),
    attempt_count integer not null default 0,
    attempts_left integer not null default 10,
    next_attempt_at timestamptz default private.now(),
    give_up_at timestamptz not null default private.now() + interval '7 days',
    status_code integer,
    error text constraint webhook_deliveries_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    created_at timestamptz not null default private.now(),
    finished_at timestamptz,
    constraint webhook_deliveries_message_key unique (message_id, endpoint),
    constraint webhook_deliveries_end_is_whole check (
        (status = 'PENDING') = (finished_at is null) and (status = 'PENDING') = (next_attempt_at is not null)
    ),
    constraint webhook_deliveries_failure_has_error check ((status = 'FAILED') <= (error is not null))
);
alter table resguardo.webhook_deliveries enable row level security;
comment on column resguardo.webhook_deliveries.message_id is
'The `webhook-id` of the message. It is the same for all endpoints and all attempts.';
comment on column resguardo.webhook_deliveries.attempts_left is
'How many further attempts may fail until the delivery is FAILED. A redelivery sets it to 10 again.';
comment on column resguardo.webhook_deliveries.give_up_at is
'When the delivery becomes FAILED although attempts are left. A redelivery sets it to 7 days later again.';
comment on column resguardo.webhook_deliveries.status_code is 'The HTTP status of the last answer.';
comment on column resguardo.webhook_deliveries.error is 'Why the last attempt failed.';
comment on column resguardo.webhook_deliveries.created_at is 'When the event happened.';
create index webhook_deliveries_due_idx on resguardo.webhook_deliveries (endpoint, next_attempt_at)
where status = 'PENDING';
create index webhook_deliveries_endpoint_idx on resguardo.webhook_deliveries (endpoint, created_at desc, id desc);
create index webhook_deliveries_created_idx on resguardo.webhook_deliveries (created_at desc, id desc);
create index webhook_deliveries_status_idx on resguardo.webhook_deliveries (status, created_at desc, id desc);

create table resguardo.webhook_attempts (
    delivery_id uuid not null
    constraint webhook_attempts_delivery_id_fkey references resguardo.webhook_deliveries (id) on delete cascade,
    number integer not null,
    started_at timestamptz not null default private.now(),
    duration_ms integer,
    status_code integer,
    error text constraint webhook_attempts_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    constraint webhook_attempts_pkey primary key (delivery_id, number)
);
alter table resguardo.webhook_attempts enable row level security;
comment on column resguardo.webhook_attempts.duration_ms is
'The duration of the attempt. Null if the attempt is running, or if the worker ended during the attempt.';

-- Queues the message about an event for each endpoint that receives this type of event. The caller makes the event true
-- in the same transaction. The message has at most the first 100 ids.
create function private.announce(event_type text, entity_type text, ids uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    message constant uuid := gen_random_uuid();
begin
    if announce.event_type is null or announce.event_type <> all (private.webhook_event_types()) then
        raise exception 'unknown type of webhook event';
    end if;
    insert into resguardo.webhook_deliveries (message_id, endpoint, event_type, entity_type, entity_ids)
    select message, e.name, announce.event_type, announce.entity_type, coalesce(announce.ids[1:100], '{}')
    from private.webhook_endpoints as e
    where e.is_configured and announce.event_type = any (e.event_types);
end
$$;

-- Stores the endpoints in the settings of the worker that starts, and writes an audit row if they changed. An endpoint
-- that the settings do not name receives no more events.
create function private.register_webhook_endpoints(names text[], url_digests text[], types jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    changed integer := 0;
    one record;
begin
    for one in
        select
            g.name, g.url_digest,
            array(select jsonb_array_elements_text(types -> g.name) order by 1) as event_types
        from unnest(names, url_digests) as g (name, url_digest)
        order by g.name
    loop
        insert into private.webhook_endpoints as e (name, url_digest, event_types)
        values (one.name, one.url_digest, one.event_types)
        on conflict (name) do update
        set url_digest = excluded.url_digest, event_types = excluded.event_types, is_configured = true,
            disabled_at = case when e.url_digest = excluded.url_digest then e.disabled_at end,
            paused_until = case when e.url_digest = excluded.url_digest then e.paused_until end
        where (e.url_digest, e.event_types, e.is_configured) is distinct from (
            excluded.url_digest, excluded.event_types, true
        );
        if found then
            changed := changed + 1;
        end if;
    end loop;
    update private.webhook_endpoints as e set is_configured = false
    where e.is_configured and e.name <> all (names);
    if found then
        changed := changed + 1;
    end if;
    if changed > 0 then
        perform private.write_audit(
            'webhook.configure', 'ALLOWED', null, 'webhook_endpoint', '{}', '{}', '{}', '{}', changed, null
        );
    end if;
end
$$;

-- Begins an attempt at each of at most `most` deliveries that are due at an endpoint, and returns these deliveries. An
-- endpoint that failed last gets one delivery only. If the worker ends during an attempt, the delivery is due again
-- after 2 minutes. A due time more than 2 days ahead shows that the database's clock was wrong, and counts as past.
create function private.claim_webhook_deliveries(of_endpoint text, most integer)
returns table (
    delivery_id uuid, attempt integer, message_id uuid, event_type text, entity_type text, entity_ids uuid[],
    created_at timestamptz
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
    target private.webhook_endpoints;
begin
    select e.* into target from private.webhook_endpoints as e where e.name = of_endpoint for no key update;
    if target.is_configured is not true or target.disabled_at is not null
        or (target.paused_until > moment and target.paused_until < moment + interval '2 days') then
        return;
    end if;
    return query
    with due as (
        select d.id
        from resguardo.webhook_deliveries as d
        where d.endpoint = of_endpoint and d.status = 'PENDING'
            and (d.next_attempt_at <= moment or d.next_attempt_at > moment + interval '2 days')
        order by d.next_attempt_at
        limit case when target.failure_count > 0 then 1 else most end
        for no key update skip locked
    ),

    begun as (
        update resguardo.webhook_deliveries as d
        set attempt_count = d.attempt_count + 1, next_attempt_at = moment + interval '2 minutes'
        from due
        where d.id = due.id
        returning d.*
    ),

    logged as (
        insert into resguardo.webhook_attempts (delivery_id, number, started_at)
        select b.id, b.attempt_count, moment from begun as b
    )

    select b.id, b.attempt_count, b.message_id, b.event_type, b.entity_type, b.entity_ids, b.created_at
    from begun as b;
end
$$;

-- Returns the pause before the next attempt, after the given number of failed attempts: the schedule that Standard
-- Webhooks recommends, more than three days in total, with up to a tenth more at random.
create function private.webhook_pause(failed_attempts integer) returns interval
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    return (array[5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400])[least(greatest(failed_attempts, 1), 9)]
        * (1 + random() / 10) * interval '1 second';
end
$$;

-- Stores the result of an attempt. `why` is null if the endpoint has accepted the message. `is_overloaded` says that
-- the endpoint did not answer, or asked for a pause: then nothing is sent to it for some seconds, at most 5 minutes, or
-- for the time that it asked for, at most a day. An alert opens if the endpoint has failed for an hour, has answered
-- 410 Gone, or has used up the attempts of a delivery. The next delivered message closes the alert. Returns the status
-- of the delivery, or null if another attempt has begun since.
create function private.settle_webhook_attempt(
    of_delivery uuid, of_attempt integer, took_ms integer, code integer, why text, is_overloaded boolean,
    asked_pause_seconds integer
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
    asked_pause constant interval := least(greatest(coalesce(asked_pause_seconds, 0), 0), 86400) * interval '1 second';
    target private.webhook_endpoints;
    given resguardo.webhook_deliveries;
begin
    select e.* into target
    from private.webhook_endpoints as e
    where e.name = (select d.endpoint from resguardo.webhook_deliveries as d where d.id = of_delivery)
    for no key update;
    update resguardo.webhook_attempts as a set duration_ms = took_ms, status_code = code, error = why
    where a.delivery_id = of_delivery and a.number = of_attempt;
    if why is null then
        update private.webhook_endpoints as e set failing_since = null, failure_count = 0, paused_until = null
        where e.name = target.name and e.failure_count > 0;
        if target.failure_count > 0 then
            perform private.close_alert('WEBHOOK_ENDPOINT_FAILING', target.name);
        end if;
    else
        update private.webhook_endpoints as e
        set failing_since = coalesce(e.failing_since, moment), failure_count = least(e.failure_count, 1000) + 1,
            paused_until = case
                when is_overloaded
                    then moment + greatest(least(5 * 2 ^ least(e.failure_count, 6), 300) * interval '1 second', asked_pause)
                else e.paused_until
            end,
            disabled_at = case when code = 410 then coalesce(e.disabled_at, moment) else e.disabled_at end
        where e.name = target.name;
        if code = 410 and target.disabled_at is null then
            perform private.write_audit(
                'webhook.disable', 'ALLOWED', why, 'webhook_delivery', array[of_delivery], '{}', '{}', '{}', 1, null
            );
        end if;
    end if;
    select d.* into given from resguardo.webhook_deliveries as d where d.id = of_delivery for no key update;
    if given.status is distinct from 'PENDING' or given.attempt_count <> of_attempt then
        return null;
    end if;
    update resguardo.webhook_deliveries as d
    set status_code = code, error = why, attempts_left = d.attempts_left - 1,
        status = case when why is null then 'DELIVERED' when d.attempts_left <= 1 then 'FAILED' else 'PENDING' end,
        next_attempt_at = case
            when why is not null and d.attempts_left > 1
                then moment + greatest(private.webhook_pause(11 - d.attempts_left), asked_pause)
        end,
        finished_at = case when why is null or d.attempts_left <= 1 then moment end
    where d.id = of_delivery
    returning d.* into given;
    if given.status = 'FAILED'
        or why is not null and (code = 410 or target.failing_since < moment - interval '1 hour') then
        perform private.open_alert('WEBHOOK_ENDPOINT_FAILING', target.name, 'webhook_delivery', array[of_delivery]);
    end if;
    return given.status;
end
$$;

-- Asks the worker to send a message to its endpoint again, and returns the delivery. The message has the same
-- `webhook-id`. A disabled endpoint is enabled by this. A PENDING delivery becomes due now. Returns null, and writes
-- the audit row, if the delivery does not exist. Raises RG409 (endpoint_removed).
create function private.redeliver_webhook(of_delivery uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    moment constant timestamptz := private.now();
    target private.webhook_endpoints;
begin
    if officer is null then
        return null;
    end if;
    select e.* into target
    from private.webhook_endpoints as e
    where e.name = (select d.endpoint from resguardo.webhook_deliveries as d where d.id = of_delivery)
    for no key update;
    if target.name is null then
        perform private.write_audit(
            'webhook.redeliver', 'ABSENT', 'not_found', 'webhook_delivery', array[of_delivery], '{}', '{}', '{}', 0, null
        );
        return null;
    elsif not target.is_configured then
        raise exception 'endpoint_removed' using errcode = 'RG409';
    end if;
    update private.webhook_endpoints as e set disabled_at = null, paused_until = null where e.name = target.name;
    update resguardo.webhook_deliveries as d
    set status = 'PENDING', attempts_left = 10, next_attempt_at = least(d.next_attempt_at, moment), finished_at = null,
        error = case when d.status = 'PENDING' then d.error end,
        status_code = case when d.status = 'PENDING' then d.status_code end,
        give_up_at = case when d.status = 'PENDING' then d.give_up_at else moment + interval '7 days' end
    where d.id = of_delivery;
    perform private.write_audit_later(
        'webhook.redeliver', null, 'webhook_delivery', of_delivery, null, null, array['webhookDelivery'], null
    );
    return of_delivery;
end
$$;

-- Ends at most 1,000 deliveries that are not delivered after 7 days, or whose endpoint was removed from the
-- settings. Deletes at most 1,000 deliveries that ended more than 90 days ago. Returns how many it changed.
create function private.clear_webhook_deliveries() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
    ended integer;
    deleted integer;
begin
    with late as (
        select d.id, e.is_configured
        from resguardo.webhook_deliveries as d
        inner join private.webhook_endpoints as e on e.name = d.endpoint
        where d.status = 'PENDING' and (not e.is_configured or d.give_up_at < moment)
        order by d.created_at
        limit 1000
        for no key update of d skip locked
    )

    update resguardo.webhook_deliveries as d
    set status = 'FAILED', finished_at = moment, next_attempt_at = null,
        error = case
            when not late.is_configured then 'endpoint_removed'
            else coalesce(d.error, 'endpoint_not_tried')
        end
    from late
    where d.id = late.id;
    get diagnostics ended = row_count;
    delete from resguardo.webhook_deliveries as d
    where d.id in (
        select o.id
        from resguardo.webhook_deliveries as o
        where o.status in ('DELIVERED', 'FAILED') and o.finished_at < moment - interval '90 days'
            and o.created_at < moment - interval '90 days'
        order by o.created_at
        limit 1000
        for update skip locked
    );
    get diagnostics deleted = row_count;
    return ended + deleted;
end
$$;


-- 38_review_cases.sql

-- Review cases: activity in the audit log that an officer must review, and the disposition that the officer records.
--
-- The rules of the review (39_review_rules.sql) and other features open cases with private.open_case(). A case lists at
-- most 1,000 events and 1,000 patients and consultations, and counts the events that it does not list.

create table resguardo.review_cases (
    id uuid primary key default gen_random_uuid(),
    rule text not null constraint review_cases_rule_is_known check (
        rule in (
            'self', 'surname', 'household', 'co_worker', 'no_relationship', 'after_hours', 'volume', 'many_urls',
            'download_without_playback', 'role_change', 'break_glass', 'denied_burst', 'failed_sign_ins',
            'new_second_factor'
        )
    ),
    case_key text not null constraint review_cases_case_key_length check (length(case_key) between 1 and 200),
    subject_id uuid,
    status text not null default 'OPEN' constraint review_cases_status_is_known check (status in ('OPEN', 'DECIDED')),
    event_count bigint not null default 0 constraint review_cases_event_count_is_count check (event_count >= 0),
    listed_event_count integer not null default 0
    constraint review_cases_list_is_bounded check (listed_event_count between 0 and 1000),
    patient_ids uuid[] not null default '{}'
    constraint review_cases_patients_are_bounded check (cardinality(patient_ids) <= 1000),
    consultation_ids uuid[] not null default '{}'
    constraint review_cases_consultations_are_bounded check (cardinality(consultation_ids) <= 1000),
    has_more_patients boolean not null default false,
    first_event_at timestamptz,
    last_event_at timestamptz,
    status_and_rule text not null generated always as (status || ' ' || rule) stored,
    opened_at timestamptz not null default private.now(),
    assigned_to uuid constraint review_cases_assigned_to_fkey references resguardo.staff (user_id),
    disposition text constraint review_cases_disposition_is_known check (
        disposition in ('APPROPRIATE', 'RULE_TOO_WIDE', 'POLICY_VIOLATION', 'POSSIBLE_BREACH')
    ),
    disposition_text text
    constraint review_cases_disposition_text_length check (length(disposition_text) between 1 and 2000),
    decided_by uuid,
    decided_at timestamptz,
    constraint review_cases_decision_is_whole check (
        num_nonnulls(disposition, disposition_text, decided_by, decided_at) = case status when 'OPEN' then 0 else 4 end
    ),
    constraint review_cases_reviewer_is_not_subject check (decided_by <> subject_id and assigned_to <> subject_id)
);
alter table resguardo.review_cases enable row level security;
comment on column resguardo.review_cases.case_key is
'What the rule groups its hits by, such as the subject and the day. A rule has at most one OPEN case for each key.';
comment on column resguardo.review_cases.subject_id is
'The member of staff whose activity the case is about. Null if the case is about nobody of the staff.';
comment on column resguardo.review_cases.event_count is
'How many events the case is about. The first 1,000 of them are in resguardo.review_case_events.';
comment on column resguardo.review_cases.has_more_patients is
'Whether the events concern further patients or consultations, for which the arrays have no room.';
comment on column resguardo.review_cases.disposition_text is
'What the officer found. Only compliance officers read it, and each read writes an audit row.';
create unique index review_cases_one_open_key on resguardo.review_cases (rule, case_key) where status = 'OPEN';
create index review_cases_key_idx on resguardo.review_cases (rule, case_key, opened_at desc, id desc);
create index review_cases_opened_idx on resguardo.review_cases (opened_at desc, id desc);
create index review_cases_status_idx on resguardo.review_cases (status, opened_at desc, id desc);
create index review_cases_status_and_rule_idx on resguardo.review_cases (status_and_rule, opened_at desc, id desc);
create index review_cases_rule_idx on resguardo.review_cases (rule, opened_at desc, id desc);
create index review_cases_subject_idx on resguardo.review_cases (subject_id, opened_at desc, id desc);
create index review_cases_assigned_idx on resguardo.review_cases (assigned_to, opened_at desc, id desc);
create index review_cases_open_subject_idx on resguardo.review_cases (subject_id) where status = 'OPEN';

create table resguardo.review_case_events (
    case_id uuid not null
    constraint review_case_events_case_id_fkey references resguardo.review_cases (id),
    id uuid not null,
    recorded_at timestamptz not null,
    constraint review_case_events_pkey primary key (case_id, id)
);
alter table resguardo.review_case_events enable row level security;
comment on column resguardo.review_case_events.id is 'The audit event.';
create index review_case_events_recorded_idx on resguardo.review_case_events (case_id, recorded_at desc, id desc);
create index review_case_events_event_idx on resguardo.review_case_events (id);

-- Returns whether a compliance officer may see and decide a case about a subject: nobody reviews their own activity.
create function private.may_review(officer uuid, subject uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return officer is not null and officer is distinct from subject;
end
$$;

-- Returns at most 1,000 different ids of two arrays: those of `known`, and then those of `more`.
create function private.join_ids(known uuid[], more uuid[]) returns uuid[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select j.id
        from (
            select i.id, min(i.place) as place from unnest(known || more) with ordinality as i (id, place)
            where i.id is not null group by i.id
        ) as j
        order by j.place limit 1000
    );
end
$$;

-- Adds events, patients and consultations to a case, which the caller has locked. An event that the case lists is not
-- added again. The case counts each event of `event_ids` for which its list has no room. It never counts an event of
-- `context_ids` that it does not list. An event that the audit log lacks is left out.
create function private.add_to_case(
    of_case uuid, more_patients uuid[], more_consultations uuid[], event_ids uuid[], context_ids uuid[]
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    most constant integer := 1000;
    found_case resguardo.review_cases;
    new_ids uuid[];
    first_at timestamptz;
    last_at timestamptz;
    listed integer;
    unlisted integer;
begin
    select c.* into found_case from resguardo.review_cases as c where c.id = of_case;
    new_ids := array(
        select distinct n.id from unnest(event_ids) as n (id)
        where not exists (select from resguardo.review_case_events as l where l.case_id = of_case and l.id = n.id)
    );
    insert into resguardo.review_case_events (case_id, id, recorded_at)
    select of_case, e.id, e.recorded_at
    from (
        select distinct n.id from unnest(new_ids || context_ids) as n (id)
        where not exists (select from resguardo.review_case_events as l where l.case_id = of_case and l.id = n.id)
    ) as n
    cross join lateral (select a.id, a.recorded_at from audit.events as a where a.id = n.id limit 1) as e
    order by e.recorded_at, e.id
    limit most - found_case.listed_event_count;
    get diagnostics listed = row_count;
    select count(*) into unlisted from unnest(new_ids) as n (id)
    where exists (select from audit.events as a where a.id = n.id)
        and not exists (select from resguardo.review_case_events as l where l.case_id = of_case and l.id = n.id);
    select min(e.recorded_at), max(e.recorded_at) into first_at, last_at
    from unnest(new_ids || context_ids) as n (id)
    cross join lateral (select a.recorded_at from audit.events as a where a.id = n.id limit 1) as e;
    update resguardo.review_cases as c
    set event_count = c.event_count + listed + unlisted,
        listed_event_count = c.listed_event_count + listed,
        patient_ids = private.join_ids(c.patient_ids, more_patients),
        consultation_ids = private.join_ids(c.consultation_ids, more_consultations),
        has_more_patients = c.has_more_patients
            or not coalesce(more_patients, '{}') <@ private.join_ids(c.patient_ids, more_patients)
            or not coalesce(more_consultations, '{}') <@ private.join_ids(c.consultation_ids, more_consultations),
        first_event_at = least(c.first_event_at, first_at),
        last_event_at = greatest(c.last_event_at, last_at)
    where c.id = of_case;
end
$$;

-- Opens a case, or adds to the open case with the same rule and key, and returns its id. If the newest case with the
-- rule and key is decided, a new case is opened for those of the events that no such case lists. If there are none, the
-- function changes nothing and returns the decided case. `subject` is the member of staff whose activity the case is
-- about, or null. `context_ids` are events that the case lists if it has room, and never counts otherwise.
create function private.open_case_with_context(
    of_rule text, subject uuid, of_patients uuid[], of_consultations uuid[], event_ids uuid[], context_ids uuid[],
    of_key text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    newest resguardo.review_cases;
    new_ids uuid[] := event_ids;
    opened uuid;
begin
    for attempt in 1..10 loop
        select c.* into newest from resguardo.review_cases as c
        where c.rule = of_rule and c.case_key = of_key
        order by (c.status = 'OPEN') desc, c.opened_at desc, c.id desc limit 1 for update;
        if newest.status = 'OPEN' then
            perform private.add_to_case(newest.id, of_patients, of_consultations, event_ids, context_ids);
            return newest.id;
        elsif newest.status = 'DECIDED' then
            new_ids := array(
                select n.id from unnest(event_ids) as n (id)
                where not exists (
                    select from resguardo.review_case_events as l
                    inner join resguardo.review_cases as c on c.id = l.case_id
                    where l.id = n.id and c.rule = of_rule and c.case_key = of_key
                )
            );
            if cardinality(new_ids) = 0 then
                return newest.id;
            end if;
        end if;
        insert into resguardo.review_cases (rule, case_key, subject_id) values (of_rule, of_key, subject)
        on conflict (rule, case_key) where status = 'OPEN' do nothing
        returning id into opened;
        continue when opened is null;  -- another transaction has opened the case
        perform private.add_to_case(opened, of_patients, of_consultations, new_ids, context_ids);
        perform private.write_audit(
            'review_case.open', 'ALLOWED', null, 'review_case', array[opened], '{}', '{}', array['status'], 1, null
        );
        return opened;
    end loop;
    raise exception 'concurrent_change' using errcode = 'RG409';
end
$$;

-- Opens a case like private.open_case_with_context(), without context.
create function private.open_case(
    rule text, subject uuid, patient_ids uuid[], consultation_ids uuid[], event_ids uuid[], key text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return private.open_case_with_context(
        rule, subject, coalesce(patient_ids, '{}'), coalesce(consultation_ids, '{}'), coalesce(event_ids, '{}'), '{}',
        key
    );
end
$$;

-- Returns whether an open case is about an event. A case that does not list all its events is about every event of its
-- subject in the time between its first and its last event.
create function private.is_in_open_case(event_id uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.review_case_events as l
        inner join resguardo.review_cases as c on c.id = l.case_id
        where l.id = is_in_open_case.event_id and c.status = 'OPEN'
    ) or exists (
        select from resguardo.review_cases as c
        inner join audit.events as e on e.actor_id = c.subject_id
        where c.status = 'OPEN' and c.event_count > c.listed_event_count and e.id = is_in_open_case.event_id
            and e.recorded_at between c.first_event_at and c.last_event_at
    );
end
$$;

-- Returns whether an open case is about the activity of a member of staff.
create function private.has_open_case(subject uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.review_cases as c where c.subject_id = has_open_case.subject and c.status = 'OPEN'
    );
end
$$;

-- Locks and returns a case for a change by the calling officer. Returns nulls, and writes the audit row, if the case
-- does not exist or is about the officer's own activity.
create function private.lock_review_case(of_case uuid, of_action text) returns resguardo.review_cases
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_case resguardo.review_cases;
begin
    perform private.person();
    select c.* into found_case from resguardo.review_cases as c where c.id = of_case for update;
    if private.may_review(private.person(), found_case.subject_id) and found_case.id is not null then
        return found_case;
    end if;
    perform private.write_audit(
        of_action, case when found_case.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'review_case',
        array[of_case], '{}', '{}', '{}', 0, null
    );
    return null;
end
$$;

-- Records an officer's disposition of a case, and returns the id of the case. Returns null if the case does not exist
-- or is about the officer's own activity. If the same officer repeats the call with the same disposition and text,
-- nothing changes. The disposition POSSIBLE_BREACH opens a breach assessment of the case. Raises RG409
-- (review_case_decided).
create function private.record_disposition(of_case uuid, of_disposition text, of_text text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    found_case constant resguardo.review_cases := private.lock_review_case(of_case, 'review_case.decide');
begin
    if found_case.id is null then
        return null;
    elsif found_case.status = 'OPEN' then
        update resguardo.review_cases as c
        set status = 'DECIDED', disposition = of_disposition, disposition_text = of_text, decided_by = person,
            decided_at = private.now()
        where c.id = of_case;
        if of_disposition = 'POSSIBLE_BREACH' then
            perform private.open_breach_of_case(of_case);
        end if;
    elsif (found_case.decided_by, found_case.disposition, found_case.disposition_text)
        is distinct from (person, of_disposition, of_text)
    then
        raise exception 'review_case_decided' using errcode = 'RG409';
    end if;
    perform private.write_audit_later(
        'review_case.decide', null, 'review_case', of_case, null, null, array['disposition', 'dispositionText'], null
    );
    return of_case;
end
$$;

-- Assigns an open case to an officer, or to nobody, and returns the id of the case. Returns null if the case does not
-- exist or is about the caller's own activity. Raises RG409 (review_case_decided, reviewer_is_subject,
-- officer_unknown).
create function private.assign_review_case(of_case uuid, officer uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_case constant resguardo.review_cases := private.lock_review_case(of_case, 'review_case.assign');
begin
    if found_case.id is null then
        return null;
    elsif found_case.status <> 'OPEN' then
        raise exception 'review_case_decided' using errcode = 'RG409';
    elsif officer = found_case.subject_id then
        raise exception 'reviewer_is_subject' using errcode = 'RG409';
    elsif officer is not null and not exists (
        select from resguardo.staff as s
        where s.user_id = officer and s.role = 'compliance' and s.status = 'active'
    ) then
        raise exception 'officer_unknown' using errcode = 'RG409';
    end if;
    update resguardo.review_cases as c set assigned_to = officer where c.id = of_case;
    perform private.write_audit_later(
        'review_case.assign', null, 'review_case', of_case, null, null, array['assignedTo'], null
    );
    return of_case;
end
$$;

-- Returns what an event of a case says, to an officer who may see the case. Of the patients and consultations of the
-- event, the function returns those that the case names first, at most 100.
create function private.read_case_event(of_case uuid, of_event uuid, event_recorded_at timestamptz)
returns table (
    occurred_at timestamptz, actor_id uuid, action text, outcome text, reason text, basis text, address text,
    patient_ids uuid[], consultation_ids uuid[]
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
begin
    return query
    select
        e.occurred_at, e.actor_id, e.action, e.outcome, e.reason, e.basis, host(e.address),
        array(select i.id from unnest(c.patient_ids[:100]) as i (id) where i.id = any(e.patient_ids)),
        array(select i.id from unnest(c.consultation_ids[:100]) as i (id) where i.id = any(e.consultation_ids))
    from resguardo.review_cases as c
    inner join resguardo.review_case_events as l on l.case_id = c.id
    inner join audit.events as e on e.id = l.id and e.recorded_at = l.recorded_at
    where c.id = of_case and l.id = of_event and e.recorded_at = event_recorded_at
        and private.may_review(person, c.subject_id);
end
$$;


-- 40_bucket.sql

-- The key prefixes that the bucket's lock and lifecycle rules must protect.

-- Gives one process the sole right to write the bucket's rules for two minutes. Returns false while a different
-- process has the right to write the bucket's rules. If two processes read the bucket's rules and wrote them back at
-- once, one change would be lost. The right to write the bucket's rules is a lease and not a lock, because no
-- transaction may be open while the bucket or Cloudflare answers.
create function private.take_rules_turn(new_holder uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.turns as t
    set holder = new_holder, held_until = clock_timestamp() + interval '2 minutes'
    where t.of = 'bucket' and (t.holder is null or t.held_until <= clock_timestamp());
    return found;
end
$$;

-- Extends a process's right to write the bucket's rules to two minutes from now. Returns false if a different process
-- has had the right to write the bucket's rules since then.
create function private.renew_rules_turn(of_holder uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.turns as t
    set held_until = clock_timestamp() + interval '2 minutes'
    where t.of = 'bucket' and t.holder = of_holder;
    return found;
end
$$;

-- Gives back a process's right to write the bucket's rules. Does nothing if a different process has taken over the
-- right to write the bucket's rules.
create function private.give_rules_turn_back(of_holder uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.turns as t set holder = null, held_until = null where t.of = 'bucket' and t.holder = of_holder;
end
$$;

-- Returns the consultations under r/ that a legal hold or an access request protects, each with its prefix in the
-- bucket, and whether one of its recordings is finished. An unfinished recording cannot be moved to keep/ yet, and
-- does not need to be moved.
create function private.protected_prefixes() returns table (consultation_id uuid, prefix text, is_finished boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with videos as materialized (select v.id from private.held_videos() as v (id)),

    held as (
        select r.id, r.consultation_id, r.status
        from videos as v
        inner join resguardo.recordings as r on r.id = v.id
        union all
        select r.id, r.consultation_id, r.status
        from videos as v
        inner join resguardo.recordings as r on r.video_id = v.id
    )

    select
        held.consultation_id, private.consultation_prefix(s.object_key),
        bool_or(private.is_finished(held.status))
    from held join private.recording_secrets as s on s.recording_id = held.id
    where s.object_key like 'r/%' and held.status <> 'DELETED'
    group by 1, 2
    order by 2;
end
$$;

-- Returns the prefixes whose objects the bucket would delete before the recordings are due. The bucket would delete
-- an object too early if its recording's retention term was extended, or began long after the object was stored.
create function private.endangered_prefixes() returns table (consultation_id uuid, prefix text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct r.consultation_id, private.consultation_prefix(s.object_key)
    from resguardo.recordings as r join private.recording_secrets as s on s.recording_id = r.id
    where r.due_at is not null and r.status <> 'DELETED' and s.object_key ~ '^r/d[1-9][0-9]{0,4}/'
        and r.due_at > coalesce(r.stored_at, r.ended_at, r.created_at)
        + make_interval(days => 7 + substring(s.object_key from '^r/d([0-9]+)/')::integer)
    order by 2;
end
$$;

-- Returns the retention terms, in days, of the recordings under r/ and of the policy in force. The bucket needs a
-- lifecycle rule for each of these retention terms.
create function private.retention_days() returns integer[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select distinct substr(r.retention_class, 2)::integer from resguardo.recordings as r
        where r.retention_class <> 'keep' and r.status <> 'DELETED'
        union
        select substr(i.retention_class, 2)::integer from resguardo.recording_imports as i
        where i.retention_class <> 'keep' and i.status in ('AWAITING_URL', 'AWAITING_UPLOAD')
        union
        select (t.term ->> 'recording_days')::integer
        from resguardo.retention_policies as p
        cross join lateral (
            select p.terms -> 'default'
            union all
            select k.value from jsonb_each(coalesce(p.terms -> 'kinds', '{}')) as k
        ) as t (term)
        where p.status = 'ACTIVE' and t.term ->> 'recording_days' is not null
        order by 1
    );
end
$$;

create function private.record_bucket_change(part text, outcome text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit('bucket.apply', outcome, part, 'bucket', '{}', '{}', '{}', array[part], 1, null);
end
$$;


-- 41_drifts.sql

-- Drifts: differences between the files of policies/ and the actual rules of the bucket or rights in the database.

create table private.drifts (
    topic text not null,
    code text not null,
    subject text not null,
    consultation_id uuid,
    since timestamptz not null default private.now(),
    constraint drifts_pkey primary key (topic, code, subject)
);
comment on table private.drifts is
'Differences from policies/bucket and policies/access at the last check: ids, rules and addresses, no names.';

-- Stores the drifts (differences from the files of policies/) that a check found. If a check covered a topic
-- completely and did not find a stored drift again, the stored drift ends. The function writes one audit row when a
-- drift begins and one when it ends. The function returns a new drift only to the first check that found it.
create function private.settle_drifts(topics text[], drifts jsonb)
returns table (drift_code text, drift_subject text, is_over boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    one private.drifts;
begin
    for one in
        delete from private.drifts as d
        where d.topic = any(topics) and not exists (
            select from jsonb_to_recordset(drifts) as f (topic text, code text, subject text)
            where f.topic = d.topic and f.code = d.code and f.subject = d.subject
        )
        returning d.*
    loop
        perform private.record_drift(one, 'ALLOWED');
        drift_code := one.code;
        drift_subject := one.subject;
        is_over := true;
        return next;
    end loop;
    for one in
        insert into private.drifts as d (topic, code, subject, consultation_id)
        select f.topic, f.code, f.subject, f.consultation_id
        from jsonb_to_recordset(drifts) as f (topic text, code text, subject text, consultation_id uuid)
        on conflict do nothing
        returning d.*
    loop
        perform private.record_drift(one, 'FAILED');
        drift_code := one.code;
        drift_subject := one.subject;
        is_over := false;
        return next;
    end loop;
end
$$;

create function private.record_drift(drift private.drifts, outcome text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit(
        'bucket.drift', outcome, drift.code,
        case when drift.consultation_id is null then 'bucket' else 'consultation' end,
        array_remove(array[drift.consultation_id], null), '{}', array_remove(array[drift.consultation_id], null),
        array[drift.topic], 1, null
    );
end
$$;


-- 42_keys.sql

-- The root keys, and the data keys of recordings and patients, encrypted (wrapped) with a root key.

create table private.recording_keys (
    recording_id uuid primary key
    constraint recording_keys_recording_id_fkey references resguardo.recordings (id),
    wrapped_key bytea not null
    constraint recording_keys_wrapped_key_length check (length(wrapped_key) between 40 and 64),
    root_key_id text not null constraint recording_keys_root_key_id_is_slug check (root_key_id ~ '^[a-z0-9-]{1,32}$'),
    created_at timestamptz not null default clock_timestamp()
);
comment on table private.recording_keys is
'One data key per recording, wrapped by a root key (AES-KW, RFC 3394). It encrypts the transcript and the notes.';
create index recording_keys_root_key_idx on private.recording_keys (root_key_id, recording_id);

create table private.patient_keys (
    patient_id uuid primary key constraint patient_keys_patient_id_fkey references resguardo.patients (id),
    wrapped_key bytea not null
    constraint patient_keys_wrapped_key_length check (length(wrapped_key) between 40 and 64),
    root_key_id text not null constraint patient_keys_root_key_id_is_slug check (root_key_id ~ '^[a-z0-9-]{1,32}$'),
    created_at timestamptz not null default private.now()
);
comment on table private.patient_keys is
'The data key of each patient with a signed note, wrapped by a root key. It encrypts the patient''s signed notes.';
create index patient_keys_root_key_idx on private.patient_keys (root_key_id, patient_id);

create table private.root_keys (
    id text primary key constraint root_keys_id_is_slug check (id ~ '^[a-z0-9-]{1,32}$'),
    check_value bytea not null constraint root_keys_check_value_length check (length(check_value) = 16),
    created_at timestamptz not null default private.now()
);
comment on table private.root_keys is
'A truncated HMAC of the id of each root key that was ever current. It reveals a wrong key under a known id.';

-- Raises RG409 (root_key_missing) if the keyring lacks a root key that still wraps a data key, and RG409
-- (root_key_wrong) if the keyring's key with one of the given ids differs from the registered key.
create function private.require_root_keys(ids text[], check_values bytea[]) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from unnest(ids, check_values) as given (id, check_value)
        join private.root_keys as k on k.id = given.id
        where k.check_value is distinct from given.check_value
    ) then
        raise exception 'root_key_wrong' using errcode = 'RG409';
    end if;
    if exists (
        select from private.root_keys as k
        where k.id <> all (coalesce(ids, '{}'))
            and (
                exists (select from private.recording_keys as d where d.root_key_id = k.id)
                or exists (select from private.patient_keys as p where p.root_key_id = k.id)
                or exists (select from private.word_index_key as w where w.root_key_id = k.id)
            )
    ) then
        raise exception 'root_key_missing' using errcode = 'RG409';
    end if;
end
$$;

-- Stores the check value of the current root key, if none is stored yet. Raises RG409 (root_key_wrong) if a different
-- key is already registered under the same id, even if two processes register their keys at the same moment.
create function private.register_root_key(root_key_id text, value_to_check bytea) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.root_keys (id, check_value) values (root_key_id, value_to_check) on conflict do nothing;
    if (select k.check_value from private.root_keys as k where k.id = root_key_id) is distinct from value_to_check then
        raise exception 'root_key_wrong' using errcode = 'RG409';
    end if;
end
$$;

-- Stores the data key of a READY video, if the video has no data key yet. Returns false if the video already has a
-- data key. Raises RG409 (recording_not_ready) for a recording that is not a READY video, so that a destroyed
-- recording never gets a data key again. Raises RG409 (root_key_unknown) for a root key that no process registered at
-- its start.
create function private.make_recording_key(of_recording uuid, wrapped bytea, root_key text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording for update;
    if wanted.id is null or wanted.medium <> 'VIDEO' or wanted.status <> 'READY'
        or private.is_being_destroyed(wanted.id)
    then
        raise exception 'recording_not_ready' using errcode = 'RG409';
    end if;
    if not exists (select from private.root_keys as k where k.id = root_key) then
        raise exception 'root_key_unknown' using errcode = 'RG409';
    end if;
    insert into private.recording_keys (recording_id, wrapped_key, root_key_id, created_at)
    values (of_recording, wrapped, root_key, private.now())
    on conflict do nothing;
    if not found then
        return false;
    end if;
    perform private.write_audit(
        'recording.make_key', 'ALLOWED', null, 'recording', array[of_recording],
        array[wanted.patient_id], array[wanted.consultation_id], array['data_key'], 1, null
    );
    return true;
end
$$;

-- Stores the data key of a patient, if the patient has none yet, and locks it, so that the key is not destroyed before
-- the transaction has stored a signed note. Raises RG409 (root_key_unknown) for a root key that no process registered
-- at its start.
create function private.make_patient_key(of_patient uuid, of_consultation uuid, wrapped bytea, root_key text)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    loop
        perform from private.patient_keys as p where p.patient_id = of_patient for share;
        exit when found;
        if not exists (select from private.root_keys as k where k.id = root_key) then
            raise exception 'root_key_unknown' using errcode = 'RG409';
        end if;
        insert into private.patient_keys (patient_id, wrapped_key, root_key_id) values (of_patient, wrapped, root_key)
        on conflict do nothing;
        if found then
            perform private.write_audit(
                'patient.make_key', 'ALLOWED', null, 'patient', array[of_patient], array[of_patient],
                array_remove(array[of_consultation], null), array['data_key'], 1, null
            );
            exit;
        end if;
    end loop;
end
$$;

-- Returns how many data keys are wrapped by a root key other than the given one.
create function private.count_keys_to_rewrap(current_root_key text) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        (select count(*) from private.recording_keys as d where d.root_key_id <> current_root_key)
        + (select count(*) from private.patient_keys as p where p.root_key_id <> current_root_key)
    );
end
$$;

-- Writes the audit row about this read, then locks and returns some data keys that are wrapped by a root key other
-- than the current one. The data keys are ordered by recording id, and begin after the given recording id.
create function private.read_keys_to_rewrap(current_root_key text, after_recording uuid, at_most integer)
returns table (of_recording uuid, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ids uuid[];
    patients uuid[];
    consultations uuid[];
begin
    select array_agg(l.recording_id order by l.recording_id) into ids
    from (
        select d.recording_id from private.recording_keys as d
        where d.root_key_id <> current_root_key and (after_recording is null or d.recording_id > after_recording)
        order by d.recording_id
        limit at_most
        for update
    ) as l;
    if ids is null then
        return;
    end if;
    select array_agg(distinct r.patient_id), array_agg(distinct r.consultation_id) into patients, consultations
    from resguardo.recordings as r
    where r.id = any (ids);
    perform private.write_audit(
        'recording.rewrap_key', 'ALLOWED', null, 'recording', ids, patients, consultations, array['data_key'],
        cardinality(ids), null
    );
    return query
    select d.recording_id, d.wrapped_key, d.root_key_id
    from private.recording_keys as d
    where d.recording_id = any (ids)
    order by d.recording_id;
end
$$;

-- Replaces the data keys that have not changed since the worker read them, and returns how many data keys it
-- replaced. Raises RG409 (root_key_unknown).
create function private.rewrap_recording_keys(
    of_recordings uuid[], wrapped_before bytea[], wrapped_after bytea[], root_key text
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    replaced integer;
begin
    if not exists (select from private.root_keys as k where k.id = root_key) then
        raise exception 'root_key_unknown' using errcode = 'RG409';
    end if;
    update private.recording_keys as d set wrapped_key = new.wrapped_after, root_key_id = root_key
    from unnest(of_recordings, wrapped_before, wrapped_after) as new (recording_id, wrapped_before, wrapped_after)
    where d.recording_id = new.recording_id and d.wrapped_key = new.wrapped_before;
    get diagnostics replaced = row_count;
    return replaced;
end
$$;

-- Writes the audit row about this read, then locks and returns some data keys of patients that are wrapped by a root
-- key other than the current one, ordered by patient id and after the given patient id.
create function private.read_patient_keys_to_rewrap(current_root_key text, after_patient uuid, at_most integer)
returns table (of_patient uuid, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ids uuid[];
begin
    select array_agg(l.patient_id order by l.patient_id) into ids
    from (
        select p.patient_id from private.patient_keys as p
        where p.root_key_id <> current_root_key and (after_patient is null or p.patient_id > after_patient)
        order by p.patient_id
        limit at_most
        for update
    ) as l;
    if ids is null then
        return;
    end if;
    perform private.write_audit(
        'patient.rewrap_key', 'ALLOWED', null, 'patient', ids, ids, '{}', array['data_key'], cardinality(ids), null
    );
    return query
    select p.patient_id, p.wrapped_key, p.root_key_id
    from private.patient_keys as p
    where p.patient_id = any (ids)
    order by p.patient_id;
end
$$;

-- Replaces the data keys of patients that have not changed since the worker read them, and returns how many it
-- replaced. Raises RG409 (root_key_unknown).
create function private.rewrap_patient_keys(
    of_patients uuid[], wrapped_before bytea[], wrapped_after bytea[], root_key text
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    replaced integer;
begin
    if not exists (select from private.root_keys as k where k.id = root_key) then
        raise exception 'root_key_unknown' using errcode = 'RG409';
    end if;
    update private.patient_keys as p set wrapped_key = new.wrapped_after, root_key_id = root_key
    from unnest(of_patients, wrapped_before, wrapped_after) as new (patient_id, wrapped_before, wrapped_after)
    where p.patient_id = new.patient_id and p.wrapped_key = new.wrapped_before;
    get diagnostics replaced = row_count;
    return replaced;
end
$$;

-- Returns the number of encrypted keys for each kind of key and each root key that wraps them.
create function private.count_keys() returns table (kind text, root_key text, keys bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select 'recording', d.root_key_id, count(*) from private.recording_keys as d group by d.root_key_id
    union all
    select 'patient', p.root_key_id, count(*) from private.patient_keys as p group by p.root_key_id
    union all
    select 'word_index', w.root_key_id, count(*) from private.word_index_key as w group by w.root_key_id
    order by 1, 2;
end
$$;


-- 43_audit_sealing.sql

-- Sealing of the audit log: the queue of unsealed events, the leaves and tile hashes of the Merkle tree of each year,
-- and the functions with which the sealer writes them. docs/audit-log.md describes the formats.
--
-- The sealer is a periodic task of the leading worker. Only the worker has the key that signs the checkpoints.

create table audit.unsealed (
    recorded_at timestamptz not null,
    event_id uuid not null,
    constraint unsealed_pkey primary key (recorded_at, event_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
comment on table audit.unsealed is
'The events that the sealer has not sealed yet. A trigger of audit.events writes this table, and the sealer deletes.';

create table audit.logs (
    log_year smallint not null constraint logs_log_year_is_plausible check (log_year between 2000 and 9999),
    origin text not null,
    size bigint not null default 0 constraint logs_size_is_a_count check (size >= 0),
    frontier bytea not null default '',
    checkpoint text,
    signer text,
    sealed_at timestamptz,
    last_recorded_at timestamptz,
    leap_noted_at timestamptz,
    marked_hour timestamptz,
    marked_size bigint not null default 0,
    closed_at timestamptz,
    closed_size bigint,
    constraint logs_pkey primary key (log_year)
);
comment on table audit.logs is
'One row for each year of the audit log. The row is the lock of its year: one transaction seals events at a time.';
comment on column audit.logs.origin is 'The first line of the checkpoints, and the name of the key that signs them.';
comment on column audit.logs.size is 'The number of leaves.';
comment on column audit.logs.frontier is
'The hashes of the full subtrees from which the tree grows. Without them, each seal would read all leaves.';
comment on column audit.logs.checkpoint is 'The newest signed checkpoint, a signed note without cosignatures.';
comment on column audit.logs.signer is 'The verifier key (vkey) of the key that signed the newest checkpoint.';
comment on column audit.logs.last_recorded_at is 'The latest recorded_at of the batch that was sealed last.';
comment on column audit.logs.leap_noted_at is
'The last_recorded_at that was ahead of the clock when the sealer last wrote an event audit_log.note_clock.';
comment on column audit.logs.marked_hour is 'The last hour that an event audit_log.mark_hour marked in this log.';
comment on column audit.logs.marked_size is 'The number of leaves when an hour was last marked.';
comment on column audit.logs.closed_size is
'The number of leaves that the newest event audit_log.close_year names. A late event makes the log larger.';

create table audit.leaves (
    log_year smallint not null,
    index bigint not null constraint leaves_index_is_a_place check (index >= 0),
    event_id uuid,
    recorded_at timestamptz,
    entry bytea constraint leaves_entry_is_sha_256 check (octet_length(entry) = 32),
    leaf_hash bytea not null constraint leaves_leaf_hash_is_sha_256 check (octet_length(leaf_hash) = 32),
    constraint leaves_event_has_its_time check ((event_id is null) = (recorded_at is null)),
    constraint leaves_pkey primary key (log_year, index),
    constraint leaves_event_key unique (event_id, recorded_at)
);
comment on table audit.leaves is 'The leaves of the Merkle tree of each year, in the order in which they were sealed.';
comment on column audit.leaves.event_id is
'The event; null if the database lost the event. A restore of an older backup, for example, loses events.';

comment on column audit.leaves.entry is
'The SHA-256 over the salt and the canonical form of the event, of which leaf_hash is the hash. The bucket gets it.';

create table audit.tile_hashes (
    log_year smallint not null,
    level smallint not null constraint tile_hashes_level_is_known check (level between 1 and 7),
    index bigint not null constraint tile_hashes_index_is_a_place check (index >= 0),
    hash bytea not null constraint tile_hashes_hash_is_sha_256 check (octet_length(hash) = 32),
    constraint tile_hashes_pkey primary key (log_year, level, index)
);
comment on table audit.tile_hashes is
'The root of each full subtree of 256^level leaves. 256 of them in a row are one tile of that level.';

-- Queues a new event for the sealer.
create function private.queue_for_sealing() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into audit.unsealed (recorded_at, event_id) values (new.recorded_at, new.id);
    return null;
end
$$;

create trigger events_queue_for_sealing after insert on audit.events
for each row execute function private.queue_for_sealing();

-- ENABLE ALWAYS must be set for the trigger of each partition separately.
do $$
declare
    partition regclass;
begin
    for partition in
        select i.inhrelid::regclass from pg_catalog.pg_inherits as i where i.inhparent = 'audit.events'::regclass
    loop
        execute format('alter table %s enable always trigger events_queue_for_sealing', partition);
    end loop;
end
$$;

alter table audit.events enable always trigger events_queue_for_sealing;

-- Refuses to remove an event from the queue unless the event has a leaf.
create function private.guard_unsealed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from audit.leaves as l where l.event_id = old.event_id and l.recorded_at = old.recorded_at
    ) then
        return old;
    end if;
    raise exception 'an event leaves the queue only when it is sealed' using errcode = 'RG405';
end
$$;

-- Refuses to delete a leaf that the size of its log includes.
create function private.guard_leaf() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from audit.logs as l where l.log_year = old.log_year and l.size > old.index) then
        raise exception 'the audit log is insert only' using errcode = 'RG405';
    end if;
    return old;
end
$$;

-- Refuses to delete the root of a subtree that the size of its log includes.
create function private.guard_tile_hash() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from audit.logs as l
        where l.log_year = old.log_year and l.size >= (old.index + 1) << (8 * old.level)
    ) then
        raise exception 'the audit log is insert only' using errcode = 'RG405';
    end if;
    return old;
end
$$;

create trigger unsealed_refuse_change before update on audit.unsealed
for each row execute function private.refuse_change();
create trigger unsealed_guard before delete on audit.unsealed
for each row execute function private.guard_unsealed();
create trigger unsealed_refuse_truncate before truncate on audit.unsealed
for each statement execute function private.refuse_change();
create trigger leaves_refuse_change before update on audit.leaves
for each row execute function private.refuse_change();
create trigger leaves_guard before delete on audit.leaves
for each row execute function private.guard_leaf();
create trigger leaves_refuse_truncate before truncate on audit.leaves
for each statement execute function private.refuse_change();
create trigger tile_hashes_refuse_change before update on audit.tile_hashes
for each row execute function private.refuse_change();
create trigger tile_hashes_guard before delete on audit.tile_hashes
for each row execute function private.guard_tile_hash();
create trigger tile_hashes_refuse_truncate before truncate on audit.tile_hashes
for each statement execute function private.refuse_change();
create trigger logs_refuse_delete before delete on audit.logs
for each row execute function private.refuse_change();
create trigger logs_refuse_truncate before truncate on audit.logs
for each statement execute function private.refuse_change();

alter table audit.unsealed enable always trigger unsealed_refuse_change;
alter table audit.unsealed enable always trigger unsealed_guard;
alter table audit.unsealed enable always trigger unsealed_refuse_truncate;
alter table audit.leaves enable always trigger leaves_refuse_change;
alter table audit.leaves enable always trigger leaves_guard;
alter table audit.leaves enable always trigger leaves_refuse_truncate;
alter table audit.tile_hashes enable always trigger tile_hashes_refuse_change;
alter table audit.tile_hashes enable always trigger tile_hashes_guard;
alter table audit.tile_hashes enable always trigger tile_hashes_refuse_truncate;
alter table audit.logs enable always trigger logs_refuse_delete;
alter table audit.logs enable always trigger logs_refuse_truncate;

-- Returns the first moment of a year in UTC.
create function private.start_of_year(of_year integer) returns timestamptz
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return make_timestamptz(of_year, 1, 1, 0, 0, 0, 'UTC');
end
$$;

-- Returns the years of the unsealed events, the earliest first. A time outside the years that a log can have, which
-- only a superuser can insert, is left out.
create function private.unsealed_years() returns setof smallint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    next_at timestamptz := (
        select min(u.recorded_at) from audit.unsealed as u where u.recorded_at >= private.start_of_year(2000)
    );
    unsealed_year smallint;
begin
    while next_at < private.start_of_year(9999) loop
        unsealed_year := extract(year from next_at at time zone 'UTC');
        return next unsealed_year;
        next_at := (
            select min(u.recorded_at) from audit.unsealed as u
            where u.recorded_at >= private.start_of_year(unsealed_year + 1)
        );
    end loop;
end
$$;

-- Returns the log of a year, which stays locked until the transaction ends. Begins the log if it does not exist.
create function private.lock_log(of_year integer) returns audit.logs
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_log audit.logs;
begin
    insert into audit.logs (log_year, origin)
    values (of_year, format('resguardo/%s/%s', private.deployment_name(), of_year))
    on conflict do nothing;
    select l.* into strict found_log from audit.logs as l where l.log_year = of_year for update;
    return found_log;
end
$$;

-- Returns the unsealed events of a year after the event (after_at, after_id), the earliest first. `limit 1` keeps
-- Postgres from a join that reads all events. A queued event that was deleted is not returned, and neither is an event
-- that already has a leaf, nor an event with a time that Python cannot represent.
create function private.read_unsealed(of_year integer, after_at timestamptz, after_id uuid, max_events integer)
returns setof audit.events
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return query
    select e.*
    from audit.unsealed as u
    cross join lateral (
        select a.* from audit.events as a where a.id = u.event_id and a.recorded_at = u.recorded_at limit 1
    ) as e
    where
        u.recorded_at >= private.start_of_year(of_year)
        and u.recorded_at < private.start_of_year(of_year + 1)
        and (u.recorded_at, u.event_id) > (after_at, after_id)
        and coalesce(e.occurred_at between private.start_of_year(1) and private.start_of_year(9999), true)
        and not exists (
            select from audit.leaves as l where l.event_id = u.event_id and l.recorded_at = u.recorded_at
        )
    order by u.recorded_at, u.event_id
    limit max_events;
end
$$;

-- Adds leaves to the log of a year, stores the checkpoint of the larger log, and removes the events from the queue.
-- Writes an event audit_log.rotate_key if a key signed the checkpoint that did not sign the previous one. Raises RG409
-- (audit_log_moved) unless the log has exactly `first_index` leaves and each event is in the queue.
create function private.seal_events(
    of_year integer, of_origin text, first_index bigint, event_ids uuid[], recorded_ats timestamptz[],
    entries bytea[], leaf_hashes bytea[], tile_levels smallint[], tile_indexes bigint[], hashes bytea[],
    new_frontier bytea, new_checkpoint text, new_signer text
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    known constant audit.logs := private.lock_log(of_year);
    removed integer;
begin
    if known.size <> first_index then
        raise exception 'audit_log_moved' using errcode = 'RG409';
    end if;
    insert into audit.leaves (log_year, index, event_id, recorded_at, entry, leaf_hash)
    select of_year, first_index + n.place - 1, n.event_id, n.recorded_at, n.entry, n.leaf_hash
    from unnest(event_ids, recorded_ats, entries, leaf_hashes) with ordinality as n (
        event_id, recorded_at, entry, leaf_hash, place
    );
    insert into audit.tile_hashes (log_year, level, index, hash)
    select of_year, n.level, n.index, n.hash from unnest(tile_levels, tile_indexes, hashes) as n (level, index, hash);
    delete from audit.unsealed as u
    using unnest(event_ids, recorded_ats) as n (event_id, recorded_at)
    where u.recorded_at = n.recorded_at and u.event_id = n.event_id;
    get diagnostics removed = row_count;
    if removed <> cardinality(event_ids) then
        raise exception 'audit_log_moved' using errcode = 'RG409';
    end if;
    update audit.logs as l
    set size = first_index + cardinality(event_ids), origin = of_origin, frontier = new_frontier,
        checkpoint = new_checkpoint, signer = new_signer, sealed_at = private.now(),
        last_recorded_at = (select max(n.at) from unnest(recorded_ats) as n (at))
    where l.log_year = of_year;
    if known.signer <> new_signer then
        perform private.write_log_event(
            'audit_log.rotate_key', first_index, sha256(convert_to(new_signer, 'UTF8'))
        );
    end if;
end
$$;

-- Writes an event of the sealer about the audit log itself.
create function private.write_log_event(action text, counted bigint, sha_256 bytea) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_of_entities(
        action, 'ALLOWED', null, private.entities_of('audit_log', '{}'), '{}', '{}', '{}',
        least(counted, 2147483647)::integer, null, encode(sha_256, 'hex')
    );
end
$$;

-- Writes the event audit_log.mark_hour once in each hour of the database's clock. Its row count is the number of
-- leaves that were sealed since the last mark. Also returns whether it wrote the event. If the clock goes back, an hour
-- is marked again.
create function private.mark_hour() returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    this_hour constant timestamptz := date_trunc('hour', private.now(), 'UTC');
    this_year constant integer := extract(year from this_hour at time zone 'UTC');
    counted bigint;
begin
    if (private.lock_log(this_year)).marked_hour = this_hour then
        return false;
    end if;
    counted := (select sum(greatest(l.size - l.marked_size, 0)) from audit.logs as l);
    update audit.logs as l
    set marked_size = l.size, marked_hour = case when l.log_year = this_year then this_hour else l.marked_hour end
    where l.size <> l.marked_size or l.log_year = this_year;
    perform private.write_log_event('audit_log.mark_hour', counted, null);
    return true;
end
$$;

-- Writes the event audit_log.close_year for each log of a year that has been over for an hour. The digest is the
-- SHA-256 of the final checkpoint's body, and the row count is the number of leaves. A log with unsealed events waits
-- for them, at most a day. If a late event makes a closed log larger, the log is closed again. Returns the years of the
-- closed logs.
create function private.close_years() returns setof smallint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    old_log audit.logs;
begin
    for old_log in
        select l.* from audit.logs as l
        where
            l.size is distinct from coalesce(l.closed_size, 0)
            and private.start_of_year(l.log_year + 1) <= private.now() - interval '1 hour'
            and (
                private.start_of_year(l.log_year + 1) <= private.now() - interval '1 day'
                or not exists (
                    select from audit.unsealed as u
                    where
                        u.recorded_at >= private.start_of_year(l.log_year)
                        and u.recorded_at < private.start_of_year(l.log_year + 1)
                )
            )
        order by l.log_year
        for update
    loop
        perform private.write_log_event(
            'audit_log.close_year', old_log.size,
            sha256(convert_to(split_part(old_log.checkpoint, E'\n\n', 1) || E'\n', 'UTF8'))
        );
        update audit.logs as l set closed_at = private.now(), closed_size = l.size
        where l.log_year = old_log.log_year;
        return next old_log.log_year;
    end loop;
end
$$;

-- Writes the event audit_log.note_clock if the events that were sealed last are dated more than a minute ahead of the
-- database's clock, which means that the clock went back. The row count is the difference in seconds. Writes the event
-- once for each leap of the clock. Returns the seconds of the leap, or null.
create function private.note_clock() returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    seconds_ahead bigint;
begin
    select extract(epoch from max(l.last_recorded_at) - private.now())::bigint into seconds_ahead
    from audit.logs as l
    where
        l.last_recorded_at > private.now() + interval '60 seconds'
        and l.last_recorded_at < private.start_of_year(9999)
        and l.leap_noted_at is distinct from l.last_recorded_at;
    if seconds_ahead is not null then
        perform private.write_log_event('audit_log.note_clock', seconds_ahead, null);
        update audit.logs as l set leap_noted_at = l.last_recorded_at
        where l.last_recorded_at > private.now() + interval '60 seconds';
    end if;
    return seconds_ahead;
end
$$;

-- Removes at most 1,000 events from the queue that have a leaf and were queued again, and returns how many.
create function private.discard_queued_twice() returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    removed integer;
begin
    delete from audit.unsealed as u
    using (
        select q.recorded_at, q.event_id
        from audit.unsealed as q
        inner join audit.leaves as l on l.event_id = q.event_id and l.recorded_at = q.recorded_at
        where q.recorded_at < private.now() - interval '60 seconds'
        limit 1000
    ) as n
    where u.recorded_at = n.recorded_at and u.event_id = n.event_id;
    get diagnostics removed = row_count;
    return removed;
end
$$;

-- Returns how many events have been unsealed for more than a minute (at most 10,000 are counted), the age of the
-- oldest, and the ids of the ten oldest.
create function private.overdue_events()
returns table (overdue_count bigint, oldest_seconds double precision, event_ids uuid[])
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with overdue as (
        select u.recorded_at, u.event_id
        from audit.unsealed as u
        where u.recorded_at < private.now() - interval '60 seconds'
        order by u.recorded_at, u.event_id
        limit 10000
    )
    select
        count(*),
        extract(
            epoch from private.now() - greatest(min(o.recorded_at), private.start_of_year(2000))
        )::double precision,
        coalesce((array_agg(o.event_id order by o.recorded_at, o.event_id))[:10], '{}')
    from overdue as o;
end
$$;

-- Returns the years that have events, the earliest first. A time outside the years that a log can have is left out.
create function private.audit_years() returns setof smallint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    next_at timestamptz := (
        select min(e.recorded_at) from audit.events as e
        where e.outcome <> '' and e.recorded_at >= private.start_of_year(2000)
    );
    found_year smallint;
begin
    while next_at < private.start_of_year(9999) loop
        found_year := extract(year from next_at at time zone 'UTC');
        return next found_year;
        next_at := (
            select min(e.recorded_at) from audit.events as e
            where e.outcome <> '' and e.recorded_at >= private.start_of_year(found_year + 1)
        );
    end loop;
end
$$;

-- Counts the events, the leaves with an event and the unsealed events of a year at one moment. The number of events is
-- the sum of the other two, unless somebody has changed the audit log.
create function private.count_log(of_year integer)
returns table (event_count bigint, leaf_count bigint, unsealed_count bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    since constant timestamptz := private.start_of_year(of_year);
    until constant timestamptz := private.start_of_year(of_year + 1);
begin
    return query
    select
        (select count(*) from audit.events as e where e.recorded_at >= since and e.recorded_at < until),
        (select count(l.event_id) from audit.leaves as l where l.log_year = of_year),
        (select count(*) from audit.unsealed as u where u.recorded_at >= since and u.recorded_at < until);
end
$$;


-- 44_audit_publishing.sql

-- Publishing of the audit log: which checkpoints are in the buckets, the tiles to publish, and the adoption of the
-- bucket's log after a restore of the database. docs/audit-log.md describes the objects.

create table audit.published_logs (
    log_year smallint not null,
    size bigint not null default 0 constraint published_logs_size_is_a_count check (size >= 0),
    checkpoint text,
    published_at timestamptz,
    second_size bigint not null default 0 constraint published_logs_second_size_is_a_count check (second_size >= 0),
    second_published_at timestamptz,
    constraint published_logs_pkey primary key (log_year)
);
comment on table audit.published_logs is
'The newest checkpoint of each log that is in the bucket and in the second bucket.';
comment on column audit.published_logs.size is 'The number of leaves of the newest checkpoint in the bucket.';
comment on column audit.published_logs.checkpoint is 'The newest checkpoint in the bucket, with its cosignatures.';
comment on column audit.published_logs.second_size is
'The number of leaves of the newest checkpoint in the second bucket.';

create table audit.publications (
    log_year smallint not null,
    size bigint not null,
    published_at timestamptz not null default private.now(),
    constraint publications_pkey primary key (log_year, size)
);
comment on table audit.publications is
'The sizes of all published checkpoints. The second bucket gets each of them, also after an outage.';

create trigger publications_refuse_change before update or delete on audit.publications
for each row execute function private.refuse_change();
create trigger publications_refuse_truncate before truncate on audit.publications
for each statement execute function private.refuse_change();
create trigger published_logs_refuse_delete before delete on audit.published_logs
for each row execute function private.refuse_change();
create trigger published_logs_refuse_truncate before truncate on audit.published_logs
for each statement execute function private.refuse_change();

alter table audit.publications enable always trigger publications_refuse_change;
alter table audit.publications enable always trigger publications_refuse_truncate;
alter table audit.published_logs enable always trigger published_logs_refuse_delete;
alter table audit.published_logs enable always trigger published_logs_refuse_truncate;

-- Returns each log with its newest checkpoint in the database, in the bucket and in the second bucket. `is_due` says
-- whether the log has grown and the bucket's newest checkpoint is at least `publish_seconds` old, or dated in the
-- future because the clock went back. A stored published size above the size of the log is wrong and counts as 0.
create function private.list_published_logs(publish_seconds integer)
returns table (
    log_year smallint, origin text, size bigint, checkpoint text, published_size bigint, published_checkpoint text,
    is_due boolean, second_size bigint
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    at constant timestamptz := private.now();
begin
    return query
    select
        l.log_year, l.origin, l.size, l.checkpoint, case when p.size <= l.size then p.size else 0 end, p.checkpoint,
        p.size is distinct from l.size and (
            p.published_at is null
            or p.published_at > at
            or p.published_at <= at - make_interval(secs => publish_seconds)
        ),
        case when p.second_size <= l.size then p.second_size else 0 end
    from audit.logs as l
    left join audit.published_logs as p on p.log_year = l.log_year
    where l.checkpoint is not null
    order by l.log_year;
end
$$;

-- Returns the sizes of the logs, and of their newest checkpoints in the bucket. Includes the current year, although its
-- log may not have begun in a restored database.
create function private.list_log_sizes()
returns table (log_year smallint, size bigint, published_size bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        y.log_year, coalesce(l.size, 0),
        case when p.size <= l.size then p.size else 0 end
    from (
        select k.log_year from audit.logs as k
        union
        select extract(year from private.now() at time zone 'UTC')::smallint
    ) as y (log_year)
    left join audit.logs as l on l.log_year = y.log_year
    left join audit.published_logs as p on p.log_year = y.log_year
    order by y.log_year;
end
$$;

-- Returns the hashes of tiles, one after the other. `place` is the position of the tile in the arguments. The level -1
-- means the entries of the leaves. A tile is null if the log has fewer hashes than the width.
create function private.read_tiles(of_year integer, levels smallint[], indexes bigint[], widths integer[])
returns table (place integer, content bytea)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    first_hash bigint;
    after_hash bigint;
    counted bigint;
begin
    for place in 1..cardinality(levels) loop
        first_hash := indexes[place] * 256;
        after_hash := first_hash + widths[place];
        if levels[place] > 0 then
            select string_agg(t.hash, '' order by t.index), count(*) into content, counted
            from audit.tile_hashes as t
            where
                t.log_year = of_year and t.level = levels[place] and t.index >= first_hash and t.index < after_hash;
        else
            select
                string_agg(case levels[place] when 0 then l.leaf_hash else l.entry end, '' order by l.index), count(*)
            into content, counted
            from audit.leaves as l
            where l.log_year = of_year and l.index >= first_hash and l.index < after_hash;
        end if;
        if counted <> widths[place] then
            content := null;
        end if;
        return next;
    end loop;
end
$$;

-- Stores that the bucket has a checkpoint with this many leaves.
create function private.record_publication(of_year integer, of_size bigint, cosigned_checkpoint text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into audit.publications (log_year, size) values (of_year, of_size) on conflict do nothing;
    insert into audit.published_logs (log_year, size, checkpoint, published_at)
    values (of_year, of_size, cosigned_checkpoint, private.now())
    on conflict (log_year) do update
    set size = excluded.size, checkpoint = excluded.checkpoint, published_at = excluded.published_at;
end
$$;

-- Stores that the second bucket has a checkpoint with this many leaves.
create function private.record_second_publication(of_year integer, of_size bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into audit.published_logs (log_year, second_size, second_published_at)
    values (of_year, of_size, private.now())
    on conflict (log_year) do update
    set second_size = excluded.second_size, second_published_at = excluded.second_published_at;
end
$$;

-- Returns the origins of the logs that have grown, and of which the bucket, or the second bucket, has got no checkpoint
-- for this many seconds.
create function private.overdue_publications(overdue_seconds integer, has_second boolean)
returns table (origin text, is_second boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    since constant timestamptz := private.now() - make_interval(secs => overdue_seconds);
begin
    return query
    select l.origin, false
    from audit.logs as l
    left join audit.published_logs as p on p.log_year = l.log_year
    where
        l.size > coalesce(p.size, 0)
        and coalesce(
            p.published_at,
            (select f.recorded_at from audit.leaves as f where f.log_year = l.log_year and f.index = 0)
        ) < since
    union all
    select l.origin, true
    from audit.logs as l
    inner join audit.published_logs as p on p.log_year = l.log_year
    where
        has_second
        and p.size > p.second_size
        and coalesce(
            p.second_published_at,
            (select min(f.published_at) from audit.publications as f where f.log_year = l.log_year)
        ) < since;
end
$$;

-- Returns the events of the leaves from `first_index` on, with their leaf hashes.
create function private.read_leaves(of_year integer, first_index bigint, max_leaves integer)
returns table (index bigint, event_id uuid, recorded_at timestamptz, leaf_hash bytea)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select l.index, l.event_id, l.recorded_at, l.leaf_hash
    from audit.leaves as l
    where l.log_year = of_year and l.index >= first_index
    order by l.index
    limit max_leaves;
end
$$;

-- Replaces the leaves from `first_index` on by leaves of the bucket, and stores the checkpoint of the changed log. The
-- events of replaced leaves go back to the queue, unless they are among the adopted leaves. An adopted leaf has no
-- event if the database lost it. Writes an event audit_log.adopt; its row count is the number of adopted leaves without
-- an event, so that a deleted event cannot pass for one that the restore lost. Raises RG409
-- (audit_log_moved) unless the log has exactly `known_size` leaves.
create function private.adopt_leaves(
    of_year integer, of_origin text, known_size bigint, first_index bigint, event_ids uuid[],
    recorded_ats timestamptz[], new_entries bytea[], leaf_hashes bytea[], tile_levels smallint[],
    tile_indexes bigint[], hashes bytea[], new_frontier bytea, new_checkpoint text, new_signer text
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    known constant audit.logs := private.lock_log(of_year);
begin
    if known.size <> known_size or first_index > known_size then
        raise exception 'audit_log_moved' using errcode = 'RG409';
    end if;
    insert into audit.unsealed (recorded_at, event_id)
    select l.recorded_at, l.event_id
    from audit.leaves as l
    where l.log_year = of_year and l.index >= first_index and l.event_id is not null
    on conflict do nothing;
    update audit.logs as l set size = first_index where l.log_year = of_year;
    delete from audit.leaves as l where l.log_year = of_year and l.index >= first_index;
    delete from audit.tile_hashes as t
    where t.log_year = of_year and (t.index + 1) << (8 * t.level) > first_index;
    insert into audit.leaves (log_year, index, event_id, recorded_at, entry, leaf_hash)
    select of_year, first_index + n.place - 1, n.event_id, n.recorded_at, n.entry, n.leaf_hash
    from unnest(event_ids, recorded_ats, new_entries, leaf_hashes) with ordinality as n (
        event_id, recorded_at, entry, leaf_hash, place
    );
    insert into audit.tile_hashes (log_year, level, index, hash)
    select of_year, n.level, n.index, n.hash from unnest(tile_levels, tile_indexes, hashes) as n (level, index, hash);
    delete from audit.unsealed as u
    using unnest(event_ids, recorded_ats) as n (event_id, recorded_at)
    where u.recorded_at = n.recorded_at and u.event_id = n.event_id;
    update audit.logs as l
    set size = first_index + cardinality(leaf_hashes), origin = of_origin, frontier = new_frontier,
        checkpoint = new_checkpoint, signer = new_signer, sealed_at = private.now()
    where l.log_year = of_year;
    perform private.write_log_event('audit_log.adopt', cardinality(array_positions(event_ids, null)), null);
end
$$;


-- 45_audit_verification.sql

-- Verification of the audit log: the functions with which `resguardo audit` reads the sealed rows, and the redaction of
-- an event. docs/audit-log.md describes the formats.

-- Returns each log with its number of leaves, counted from the newest leaf, at one moment. A wrong leaf at the largest
-- bigint does not overflow the number.
create function private.read_logs()
returns table (
    log_year smallint, origin text, size bigint, frontier bytea, checkpoint text, closed_size bigint, leaf_count bigint
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        l.log_year, l.origin, l.size, l.frontier, l.checkpoint, l.closed_size,
        coalesce((select least(max(f.index), 4611686018427387903) + 1 from audit.leaves as f where f.log_year = l.log_year), 0)
    from audit.logs as l
    order by l.log_year;
end
$$;

-- Returns the events of these leaves. `limit 1` keeps Postgres from a join that reads all events.
create function private.read_sealed_events(of_year integer, first_index bigint, end_index bigint)
returns setof audit.events
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return query
    select e.*
    from audit.leaves as f
    cross join lateral (
        select a.* from audit.events as a where a.id = f.event_id and a.recorded_at = f.recorded_at limit 1
    ) as e
    where f.log_year = of_year and f.index >= first_index and f.index < end_index;
end
$$;

-- Returns the events with these ids, whatever their time is.
create function private.find_events(event_ids uuid[]) returns setof audit.events
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return query
    select e.* from unnest(event_ids) as n (id) cross join lateral (
        select a.* from audit.events as a where a.id = n.id order by a.recorded_at limit 1
    ) as e;
end
$$;

-- Returns the hashes of a log's tiles above level 0 after the hash (after_level, after_index).
create function private.read_tile_hashes(of_year integer, after_level integer, after_index bigint, max_hashes integer)
returns setof audit.tile_hashes
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select t.*
    from audit.tile_hashes as t
    where t.log_year = of_year and (t.level, t.index) > (after_level, after_index)
    order by t.level, t.index
    limit max_hashes;
end
$$;

-- Looks for events of a year that have no leaf and do not wait for one. One call reads at most `max_events` events
-- after the event (after_at, after_id). Returns the last event that it read, or nulls at the end.
create function private.find_unqueued(
    of_year integer, after_at timestamptz, after_id uuid, max_events integer,
    out last_at timestamptz, out last_id uuid, out event_ids uuid[]
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    with page as materialized (
        select e.recorded_at, e.id
        from audit.events as e
        where
            e.outcome <> ''
            and e.recorded_at >= private.start_of_year(of_year)
            and e.recorded_at < private.start_of_year(of_year + 1)
            and (e.recorded_at, e.id) > (after_at, after_id)
        order by e.recorded_at, e.id
        limit max_events
    ),

    unqueued as materialized (
        select p.recorded_at, p.id
        from page as p
        where
            not exists (select from audit.leaves as f where f.event_id = p.id and f.recorded_at = p.recorded_at)
            and not exists (select from audit.unsealed as u where u.event_id = p.id and u.recorded_at = p.recorded_at)
    )

    select n.recorded_at, n.id, (select coalesce(array_agg(u.id order by u.recorded_at, u.id), '{}') from unqueued as u)
    into last_at, last_id, event_ids
    from (select p.recorded_at, p.id from page as p order by p.recorded_at desc, p.id desc limit 1) as n;
end
$$;

-- Returns at most `max_events` ids that wait for a leaf, but whose event is gone.
create function private.find_queued_without_event(max_events integer) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return (
        select coalesce(array_agg(n.event_id), '{}')
        from (
            select u.event_id
            from audit.unsealed as u
            where not exists (
                select from audit.events as e where e.id = u.event_id and e.recorded_at = u.recorded_at
            )
            order by u.recorded_at, u.event_id
            limit max_events
        ) as n
    );
end
$$;

-- Returns the leaf of an event, and a checkpoint that covers the leaf: the newest published one with its cosignatures,
-- or the newest one in the database if none is published. Returns nulls if the event is not sealed.
create function private.find_leaf(
    of_event uuid, out log_year smallint, out index bigint, out checkpoint text, out is_published boolean
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    select
        l.log_year, f.index, case when p.size > f.index then p.checkpoint else l.checkpoint end,
        coalesce(p.size > f.index, false)
    into find_leaf.log_year, find_leaf.index, find_leaf.checkpoint, find_leaf.is_published
    from audit.leaves as f
    inner join audit.logs as l on l.log_year = f.log_year
    left join audit.published_logs as p on p.log_year = f.log_year
    where f.event_id = of_event
    limit 1;
end
$$;

-- Returns the sizes of the published checkpoints of a log after a size, the smallest first, and up to which size the
-- second bucket has them.
create function private.list_publications(of_year integer, after_size bigint, max_sizes integer)
returns table (size bigint, is_in_second boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        p.size,
        p.size <= coalesce((select s.second_size from audit.published_logs as s where s.log_year = of_year), 0)
    from audit.publications as p
    where p.log_year = of_year and p.size > after_size
    order by p.size
    limit max_sizes;
end
$$;

-- Redacts a sealed event: clears every column that says who did what to whom, and the salt. The leaf stays, so every
-- proof stays valid, and nobody can guess the cleared values from the leaf. The event audit_log.redact names the
-- redacted event and the reason. No role may call this function, because only the owner of the database can turn off
-- the triggers that protect the log. Returns true if this call redacted the event. Raises RG404
-- (audit_event_not_found) and RG409 (audit_event_not_sealed, audit_event_about_log).
create function private.redact_event(of_event uuid, with_reason text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '10s'
as $$
declare
    redacted audit.events;
    partition text;
begin
    select e.* into redacted from audit.events as e where e.id = of_event;
    if redacted.id is null then
        raise exception 'audit_event_not_found' using errcode = 'RG404';
    end if;
    if redacted.action like 'audit\_log.%' then
        raise exception 'audit_event_about_log' using errcode = 'RG409';
    end if;
    if not exists (
        select from audit.leaves as f where f.event_id = redacted.id and f.recorded_at = redacted.recorded_at
    ) then
        raise exception 'audit_event_not_sealed' using errcode = 'RG409';
    end if;
    partition := format('audit.events_%s', extract(year from redacted.recorded_at at time zone 'UTC'));
    execute format('alter table %s disable trigger events_refuse_change', partition);
    select e.* into redacted from audit.events as e where e.id = of_event;
    if redacted.salt = '' then
        execute format('alter table %s enable always trigger events_refuse_change', partition);
        return false;
    end if;
    update audit.events as e
    set salt = '', occurred_at = null, actor_id = null, session_fingerprint = null, aal = null, reason = null,
        entities = '[]', patient_ids = '{}', consultation_ids = '{}', fields = '{}', row_count = 0, byte_count = null,
        digest = null, request_id = null, address = null
    where e.id = redacted.id and e.recorded_at = redacted.recorded_at;
    execute format('alter table %s enable always trigger events_refuse_change', partition);
    perform private.unindex_event(redacted);
    perform private.write_audit(
        'audit_log.redact', 'ALLOWED', with_reason, 'audit_event', array[of_event], '{}', '{}', '{}', 1, null
    );
    return true;
end
$$;


-- 46_audit_search.sql

-- The search in the audit log, and the summary of it: the filters, the blocks with the bitmaps of their events, and the
-- functions that compliance calls.
--
-- The worker collects the events in blocks of 1,024 events (audit.event_blocks). For each attribute of an event, such
-- as its actor, and each value of this attribute, a bitmap says which events of the block have this value
-- (audit.event_bitmaps). The search combines one bitmap for each filter with AND, so its cost does not depend on how
-- many events each filter matches alone. Events that are in no block yet (audit.unindexed) are read one by one.

-- A filter of audit events. A null matches every event. An outcome or purpose matches if it is one of the array.
create type private.audit_filter as (
    actor_id uuid, action text, outcomes text[], purposes text[], patient_id uuid, consultation_id uuid, -- noqa: LT01
    recording_id uuid, address inet, session_fingerprint text, since timestamptz, until timestamptz
);

-- Returns the attributes of an event by which events can be found, each with its value as text. An attribute can have
-- several values. A value is cut off after 200 characters, because an index has no room for a long one. The JSON path
-- is lax, so entities of an unexpected shape raise no error.
create function private.event_attributes(event audit.events) returns table (attribute text, value text)
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select a.attribute, left(a.value, 200)
    from (
        values ('actor', event.actor_id::text), ('action', event.action), ('outcome', event.outcome),
        ('purpose', event.purpose), ('session', event.session_fingerprint), ('address', host(event.address))
        union all
        select 'patient', s.id::text from unnest(event.patient_ids) as s (id)
        union all
        select 'consultation', s.id::text from unnest(event.consultation_ids) as s (id)
        union all
        select 'entity', s.id #>> '{}'
        from jsonb_path_query(
            event.entities, 'lax $[*] ? (@.type != "patient" && @.type != "consultation").ids[*]'
        ) as s (id)
    ) as a (attribute, value)
    where a.value is not null;
end
$$;

-- Moves the 1,024 oldest events of audit.unindexed into a new block. Returns false if there are fewer events. The
-- function never waits for a writer of events. Two calls at the same time lock the same rows, so the second call waits
-- and then finds fewer rows.
create function private.index_audit_events() returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    no_events constant bit(1024) := repeat('0', 1024)::bit(1024);
    times timestamptz[];
    ids uuid[];
    former record;
begin
    if not exists (select from audit.unindexed as u order by u.recorded_at, u.event_id offset 1023 limit 1) then
        return false;
    end if;
    select array_agg(u.recorded_at order by u.recorded_at, u.event_id),
        array_agg(u.event_id order by u.recorded_at, u.event_id)
    into times, ids
    from (
        select q.recorded_at, q.event_id from audit.unindexed as q
        order by q.recorded_at, q.event_id limit 1024 for update
    ) as u;
    if times is null or cardinality(times) < 1024 then
        return false;
    end if;
    delete from audit.unindexed as u using unnest(times, ids) as d (recorded_at, event_id)
    where u.recorded_at = d.recorded_at and u.event_id = d.event_id;
    select b.number, b.latest_at into former from audit.event_blocks as b order by b.number desc limit 1;
    insert into audit.event_blocks (number, started_at, ended_at, latest_at, recorded_at, event_ids)
    values (coalesce(former.number, 0) + 1, times[1], times[1024], greatest(former.latest_at, times[1024]), times, ids);
    insert into audit.event_bitmaps (attribute, value, block, bits)
    select a.attribute, a.value, coalesce(former.number, 0) + 1,
        bit_or(set_bit(no_events, (u.place - 1)::integer, 1))
    from unnest(times, ids) with ordinality as u (recorded_at, event_id, place)
    cross join lateral (
        select e as event from audit.events as e where e.id = u.event_id and e.recorded_at = u.recorded_at limit 1
    ) as e
    cross join lateral private.event_attributes(e.event) as a
    group by 1, 2;
    return true;
end
$$;

-- Removes an event from the bitmaps of what a redaction clears: `given` is the event before its redaction. An event
-- that is in no block yet stays locked until the end of the transaction, so a new block contains the redacted event.
create function private.unindex_event(given audit.events) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    of_block integer;
    of_bit integer;
begin
    perform from audit.unindexed as u
    where u.recorded_at = given.recorded_at and u.event_id = given.id for update;
    if found then
        return;
    end if;
    select b.number, array_position(b.event_ids, given.id) - 1 into of_block, of_bit from audit.event_blocks as b
    where given.recorded_at between b.started_at and b.ended_at and given.id = any(b.event_ids);
    alter table audit.event_bitmaps disable trigger event_bitmaps_refuse_change;
    update audit.event_bitmaps as t set bits = set_bit(t.bits, of_bit, 0)
    from private.event_attributes(given) as a
    where t.attribute = a.attribute and t.value = a.value and t.block = of_block
        and t.attribute not in ('action', 'outcome', 'purpose');
    delete from audit.event_bitmaps as t using private.event_attributes(given) as a
    where t.attribute = a.attribute and t.value = a.value and t.block = of_block and bit_count(t.bits) = 0;
    alter table audit.event_bitmaps enable always trigger event_bitmaps_refuse_change;
end
$$;

-- Returns the filters of `wanted` that are set: the attribute in audit.event_bitmaps, the condition on the value of a
-- bitmap `t`, and the condition on an event `e`. Both conditions are constant texts, in which $1 is the filter.
create function private.set_audit_filters(wanted private.audit_filter)
returns table (attribute text, value_condition text, event_condition text)
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select f.attribute, f.value_condition, f.event_condition
    from (values
        (wanted.actor_id is not null, 'actor', 't.value = ($1).actor_id::text', 'e.actor_id = ($1).actor_id'),
        (wanted.action is not null, 'action', 't.value = left(($1).action, 200)', 'e.action = ($1).action'),
        (wanted.outcomes is not null, 'outcome', 't.value = any(($1).outcomes)', 'e.outcome = any(($1).outcomes)'),
        (wanted.purposes is not null, 'purpose', 't.value = any(($1).purposes)', 'e.purpose = any(($1).purposes)'),
        (
            wanted.patient_id is not null, 'patient', 't.value = ($1).patient_id::text',
            'e.patient_ids @> array[($1).patient_id]'
        ),
        (
            wanted.consultation_id is not null, 'consultation', 't.value = ($1).consultation_id::text',
            'e.consultation_ids @> array[($1).consultation_id]'
        ),
        (
            wanted.recording_id is not null, 'entity', 't.value = ($1).recording_id::text',
            'e.entities @> (''[{"ids": ["'' || ($1).recording_id::text || ''"]}]'')::jsonb'
            ' and jsonb_path_exists(e.entities, ''lax $[*] ? (@.type != "patient" && @.type != "consultation").ids[*]'
            ' ? (@ == $id)'', jsonb_build_object(''id'', ($1).recording_id))'
        ),
        (
            wanted.address is not null, 'address', 't.value = host(($1).address)',
            'host(e.address) = host(($1).address)'
        ),
        (
            wanted.session_fingerprint is not null, 'session', 't.value = left(($1).session_fingerprint, 200)',
            'e.session_fingerprint = ($1).session_fingerprint'
        )
    ) as f (is_set, attribute, value_condition, event_condition)
    where f.is_set;
end
$$;

-- Returns the text of a select of the blocks from $5 to $6 and the bits of the events in them that match all filters,
-- newest block first. The select reads the bitmaps of the filter with the fewest blocks, and looks up the bitmaps of
-- every other filter for these blocks. The function counts at most 1,000 blocks for each filter.
create function private.compose_audit_walk(wanted private.audit_filter, first_block integer, last_block integer)
returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    filter record;
    counted integer;
    fewest integer;
    blocks text;
    bitmaps text := '';
    bits text;
begin
    for filter in select f.attribute, f.value_condition from private.set_audit_filters(wanted) as f loop
        execute format(
            'select count(*) from (select from audit.event_bitmaps as t where t.attribute = %L and %s'
            ' and t.block between $2 and $3 limit 1000) as c', filter.attribute, filter.value_condition
        ) into counted using wanted, first_block, last_block;
        if fewest is null or counted < fewest then
            fewest := counted;
            blocks := format(
                'select distinct t.block from audit.event_bitmaps as t where t.attribute = %L and %s'
                ' and t.block between $5 and $6 order by t.block desc', filter.attribute, filter.value_condition
            );
        end if;
        bitmaps := bitmaps || format(
            ' cross join lateral (select bit_or(t.bits) as bits from audit.event_bitmaps as t'
            ' where t.attribute = %1$L and %2$s and t.block = d.block) as of_%1$s',
            filter.attribute, filter.value_condition
        );
        bits := concat_ws(' & ', bits, format('of_%s.bits', filter.attribute));
    end loop;
    return format('select d.block, %2$s as bits from (%1$s) as d%3$s where bit_count(%2$s) > 0', blocks, bits, bitmaps);
end
$$;

-- Returns the newest events before (before_at, before_id) that match the filter, newest first, at most 1,001. A call
-- sees the events of one moment, because the function is STABLE. The blocks are read from the newest one on, and
-- reading ends when the events of all older blocks are older than the events that are found. The bits of a block are
-- read from the newest event on that is not too new. No sort follows, so reading can end inside a block. `limit 1`
-- keeps Postgres from a join that reads a whole partition. The bounds of audit.unindexed let Postgres plan for few
-- partitions.
create function private.find_audit_events(
    wanted private.audit_filter, before_at timestamptz, before_id uuid, page_size integer
) returns setof audit.events
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    most constant integer := least(coalesce(page_size, 101), 1001);
    earliest constant timestamptz := coalesce((wanted).since, '-infinity');
    latest constant timestamptz := least((wanted).until, before_at, 'infinity');
    time_range constant text := concat(
        case when before_at is not null then ' and (q.recorded_at, q.id) < ($2, $3)' end,
        case when (wanted).since is not null then ' and q.recorded_at >= ($1).since' end,
        case when (wanted).until is not null then ' and q.recorded_at < ($1).until' end
    );
    checks text;
    times timestamptz[];
    ids uuid[];
    first_block integer;
    last_block integer;
    found_event record;
    block_before integer;
    last_of_page timestamptz;
begin
    select string_agg(' and ' || f.event_condition, '') into checks from private.set_audit_filters(wanted) as f;
    if checks is null then
        return query execute 'select q.* from audit.events as q where q.outcome <> ''''' || time_range
            || ' order by q.recorded_at desc, q.id desc limit $4'
        using wanted, before_at, before_id, most;
        return;
    end if;
    execute format(
        'select coalesce(array_agg(f.recorded_at), ''{}''), coalesce(array_agg(f.id), ''{}'') from ('
        'select e.recorded_at, e.id from (select u.recorded_at, u.event_id as id from audit.unindexed as u) as q'
        ' cross join lateral (select a.* from audit.events as a where a.id = q.id and a.recorded_at = q.recorded_at'
        ' and a.recorded_at between $5 and $6 limit 1) as e where true%s'
        ' order by q.recorded_at desc, q.id desc limit $4) as f', checks || time_range
    ) into times, ids using wanted, before_at, before_id, most,
        (select min(u.recorded_at) from audit.unindexed as u), (select max(u.recorded_at) from audit.unindexed as u);
    select b.number into first_block from audit.event_blocks as b
    where b.latest_at >= earliest order by b.latest_at, b.number limit 1;
    select b.number into last_block from audit.event_blocks as b
    where b.started_at <= latest order by b.number desc limit 1;
    for found_event in execute format(
        'select w.block, b.latest_at, e.recorded_at, e.id from (%s) as w'
        ' cross join lateral (select b.latest_at, b.ended_at, b.recorded_at, b.event_ids from audit.event_blocks as b'
        ' where b.number = w.block and b.started_at <= $8 and b.ended_at >= $7 limit 1) as b'
        ' cross join lateral (select e.recorded_at, e.id from (select b.recorded_at[p.place + 1] as recorded_at,'
        ' b.event_ids[p.place + 1] as id from generate_series('
        'case when b.ended_at <= $8 then 1023 else width_bucket($8, b.recorded_at) - 1 end, 0, -1) as p (place)'
        ' where get_bit(w.bits, p.place) = 1 offset 0) as q cross join lateral (select a.* from audit.events as a'
        ' where a.id = q.id and a.recorded_at = q.recorded_at limit 1) as e where true%s limit $4) as e',
        private.compose_audit_walk(wanted, first_block, last_block), checks || time_range
    ) using wanted, before_at, before_id, most, first_block, last_block, earliest, latest loop
        if found_event.block is distinct from block_before and cardinality(times) >= most then
            select k.recorded_at into last_of_page
            from unnest(times) as k (recorded_at) order by 1 desc offset most - 1 limit 1;
            exit when last_of_page > found_event.latest_at;
        end if;
        block_before := found_event.block;
        times := times || found_event.recorded_at;
        ids := ids || found_event.id;
    end loop;
    return query
    select e.*
    from (
        select distinct k.recorded_at, k.id from unnest(times, ids) as k (recorded_at, id)
        order by k.recorded_at desc, k.id desc limit most
    ) as k
    cross join lateral (
        select a.* from audit.events as a where a.id = k.id and a.recorded_at = k.recorded_at limit 1
    ) as e
    order by e.recorded_at desc, e.id desc;
end
$$;

-- Writes the audit row of a read of the audit log or of its summary. If the read found nothing, the audit row says
-- whether the recording, consultation or patient of the filter exists.
create function private.record_audit_read(
    action text, wanted private.audit_filter, shown_fields text[], shown_events integer
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    subject constant uuid := coalesce((wanted).recording_id, (wanted).consultation_id, (wanted).patient_id);
    of_recording constant private.subjects := private.subjects_of('recording', (wanted).recording_id);
begin
    if shown_events = 0 and subject is not null then
        perform private.write_lookup(
            action, 'audit_event',
            case subject
                when (wanted).recording_id then 'recording' when (wanted).consultation_id then 'consultation'
                else 'patient'
            end,
            subject, true, '[]', '{}', '{}', 0, shown_fields
        );
        return;
    end if;
    perform private.write_audit_of_entities(
        action, 'ALLOWED', null,
        private.entities_of('audit_event', '{}')
        || private.entities_of('recording', array_remove(array[(wanted).recording_id], null)),
        array_remove((of_recording).patient_ids || (wanted).patient_id, null),
        array_remove((of_recording).consultation_ids || (wanted).consultation_id, null),
        shown_fields, shown_events, null
    );
end
$$;

-- Returns one page of the audit log to a compliance officer: the newest events before (before_at, before_id), newest
-- first. Each read of the audit log writes an audit row, too, which names the shown fields.
create function private.read_audit(
    wanted private.audit_filter, before_at timestamptz, before_id uuid, page_size integer, shown_fields text[]
) returns setof audit.events
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    returned_rows integer;
begin
    perform private.use_quota(private.person(), 'pages');
    return query
    select e.* from private.find_audit_events(wanted, before_at, before_id, least(page_size, 101)) as e;
    get diagnostics returned_rows = row_count;
    perform private.record_audit_read('audit.list', wanted, shown_fields, least(returned_rows, page_size - 1));
end
$$;

-- Counts the events that match the filter, for each interval that has such events. A row with a `value` counts the
-- events with this action, outcome, purpose or actor (`by_attribute`), for the 20 values with the most events. A row
-- without a `value` counts all events. Intervals begin at full hours, days, weeks (on Mondays) or months in UTC
-- (`unit`). The filter must have both bounds of time.
--
-- The function counts the bits of at most 5,000 blocks, and raises RG400 (summary_too_large) if the range of time has
-- more. A part of a block (`parts`) is what lies in one interval: its bits begin at `first_bit`. Events are in order
-- of time in a block, so a binary search finds the bounds of a part.
create function private.count_audit_events(wanted private.audit_filter, unit text, by_attribute text)
returns table (starts_at timestamptz, value text, event_count bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
set enable_nestloop = off
as $$
declare
    every_event constant bit(1024) := repeat('1', 1024)::bit(1024);
    tick constant interval := interval '1 microsecond';
    step constant interval := '1 ' || unit;
    of_event constant text := case by_attribute when 'actor' then 'e.actor_id::text' else format('e.%I', by_attribute) end;
    checks text := '';
    bitmaps text := '';
    bits text := '';
    first_block integer;
    last_block integer;
    filter record;
begin
    select b.number into first_block from audit.event_blocks as b
    where b.latest_at >= (wanted).since order by b.latest_at, b.number limit 1;
    select b.number into last_block from audit.event_blocks as b
    where b.started_at < (wanted).until order by b.number desc limit 1;
    if last_block - first_block >= 5000 then
        raise exception 'summary_too_large' using errcode = 'RG400';
    end if;
    for filter in select f.* from private.set_audit_filters(wanted) as f loop
        checks := checks || ' and ' || filter.event_condition;
        bitmaps := bitmaps || format(
            ' inner join (select t.block, bit_or(t.bits) as bits from audit.event_bitmaps as t where t.attribute = %1$L'
            ' and %2$s and t.block between $4 and $5 group by t.block) as of_%1$s on of_%1$s.block = b.number',
            filter.attribute, filter.value_condition
        );
        bits := bits || format(' & of_%s.bits', filter.attribute);
    end loop;
    return query execute format(
        $query$
        with recursive
        matched as materialized (
            select b.number, b.started_at, b.ended_at, b.recorded_at, $6 %3$s as bits
            from audit.event_blocks as b %2$s
            where b.number between $4 and $5
        ),
        parts as materialized (
            select m.number, m.bits, i.starts_at, c.first_bit, c.end_bit - c.first_bit as width
            from matched as m
            cross join lateral generate_series(
                date_trunc($2, greatest(m.started_at, ($1).since) at time zone 'UTC'),
                least(m.ended_at, ($1).until - $7) at time zone 'UTC', $3
            ) as s (utc)
            cross join lateral (
                select s.utc at time zone 'UTC' as starts_at, (s.utc + $3) at time zone 'UTC' as ends_at
            ) as i
            cross join lateral (
                select greatest(i.starts_at, ($1).since) as since, least(i.ends_at, ($1).until) as until
            ) as r
            cross join lateral (
                select
                    case when m.started_at >= r.since then 0 else width_bucket(r.since - $7, m.recorded_at) end
                        as first_bit,
                    case when m.ended_at < r.until then 1024 else width_bucket(r.until - $7, m.recorded_at) end
                        as end_bit
            ) as c
        ),
        named as (
            (
                select t.value from audit.event_bitmaps as t
                where t.attribute = %5$L order by t.value limit 1
            )
            union all
            select (
                select t.value from audit.event_bitmaps as t
                where t.attribute = %5$L and t.value > n.value order by t.value limit 1
            )
            from named as n
            where n.value is not null
        ),
        bitmaps as materialized (
            select n.value, t.block, t.bits
            from named as n
            cross join lateral (
                select t.block, t.bits from audit.event_bitmaps as t
                where t.attribute = %5$L and t.value = n.value and t.block between $4 and $5
                offset 0
            ) as t
        ),
        unindexed as materialized (
            select date_trunc($2, e.recorded_at, 'UTC') as starts_at, left(%4$s, 200) as value, count(*) as event_count
            from (select u.recorded_at, u.event_id as id from audit.unindexed as u) as q
            cross join lateral (
                select a.* from audit.events as a where a.id = q.id and a.recorded_at = q.recorded_at limit 1
            ) as e
            where q.recorded_at >= ($1).since and q.recorded_at < ($1).until %1$s
            group by 1, 2
        ),
        of_values as materialized (
            select c.starts_at, c.value, sum(c.event_count)::bigint as event_count
            from (
                select p.starts_at, b.value, bit_count(substring(p.bits & b.bits from p.first_bit + 1 for p.width))
                from parts as p
                inner join bitmaps as b on b.block = p.number
                union all
                select u.starts_at, u.value, u.event_count from unindexed as u where u.value is not null
            ) as c (starts_at, value, event_count)
            group by 1, 2
        ),
        most_frequent as (
            select v.value from of_values as v group by v.value order by sum(v.event_count) desc, v.value limit 20
        )
        select a.starts_at, null::text, sum(a.event_count)::bigint
        from (
            select p.starts_at, bit_count(substring(p.bits from p.first_bit + 1 for p.width)) from parts as p
            union all
            select u.starts_at, u.event_count from unindexed as u
        ) as a (starts_at, event_count)
        group by 1
        having sum(a.event_count) > 0
        union all
        select v.starts_at, v.value, v.event_count
        from of_values as v
        inner join most_frequent as f on f.value = v.value
        where v.event_count > 0
        $query$,
        checks, bitmaps, bits, of_event, by_attribute
    ) using wanted, unit, step, first_block, last_block, every_event, tick;
end
$$;

-- Returns to a compliance officer the counts of private.count_audit_events(), and writes an audit row, which names the
-- shown fields.
create function private.summarize_audit(
    wanted private.audit_filter, unit text, by_attribute text, shown_fields text[]
) returns table (starts_at timestamptz, value text, event_count bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    returned_rows integer;
begin
    perform private.use_quota(private.person(), 'pages');
    return query
    select c.starts_at, c.value, c.event_count from private.count_audit_events(wanted, unit, by_attribute) as c;
    get diagnostics returned_rows = row_count;
    perform private.record_audit_read('audit.summarize', wanted, shown_fields, returned_rows);
end
$$;


-- 47_audit_exports.sql

-- Exports of the audit log: an officer asks for the events that a filter selects, and the worker writes them into one
-- encrypted archive, with the receipt of the event that records the digest of the file.

create table resguardo.audit_exports (
    id uuid primary key default gen_random_uuid(),
    requested_by uuid not null constraint audit_exports_requested_by_fkey references resguardo.staff (user_id),
    format text not null constraint audit_exports_format_is_known check (format in ('NDJSON', 'CSV')),
    filter private.audit_filter not null,
    status text not null default 'PENDING'
    constraint audit_exports_status_is_known check (
        status in ('PENDING', 'RUNNING', 'READY', 'FAILED', 'STOPPED', 'EXPIRED')
    ),
    percent_done integer not null default 0
    constraint audit_exports_percent_is_known check (percent_done between 0 and 100),
    event_count bigint not null default 0 constraint audit_exports_event_count_is_count check (event_count >= 0),
    error text constraint audit_exports_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    run integer not null default 0,
    sha256 text constraint audit_exports_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    content_event_id uuid,
    size_bytes bigint constraint audit_exports_size_is_positive check (size_bytes > 0),
    created_at timestamptz not null default private.now(),
    finished_at timestamptz,
    expires_at timestamptz,
    secret_revealed_at timestamptz,
    constraint audit_exports_failure_has_error check ((status in ('FAILED', 'STOPPED')) = (error is not null)),
    constraint audit_exports_content_is_whole check ((sha256 is null) = (content_event_id is null)),
    constraint audit_exports_end_is_whole check (
        (status in ('READY', 'EXPIRED')) <= (num_nonnulls(sha256, size_bytes, finished_at, expires_at) = 4)
    )
);
alter table resguardo.audit_exports enable row level security;
comment on column resguardo.audit_exports.filter is
'The filter, as in auditEvents.';
comment on column resguardo.audit_exports.event_count is 'How many events the newest attempt has written so far.';
comment on column resguardo.audit_exports.run is 'The number of the newest attempt. An earlier attempt ends.';
comment on column resguardo.audit_exports.sha256 is 'The SHA-256 of the file of events, in hex.';
comment on column resguardo.audit_exports.content_event_id is
'The audit event audit.export_content, whose digest is the SHA-256 of the file. The archive has its receipt.';
comment on column resguardo.audit_exports.created_at is 'When the export was asked for. It has no later events.';
create unique index audit_exports_one_at_a_time_key on resguardo.audit_exports (requested_by)
where status in ('PENDING', 'RUNNING');
create index audit_exports_requested_by_idx on resguardo.audit_exports (requested_by, status);
create index audit_exports_created_idx on resguardo.audit_exports (created_at desc, id desc);
create index audit_exports_expires_idx on resguardo.audit_exports (expires_at) where status = 'READY';

create table private.audit_export_files (
    export_id uuid primary key
    constraint audit_export_files_export_id_fkey references resguardo.audit_exports (id),
    object_key text not null constraint audit_export_files_object_key_key unique
    constraint audit_export_files_object_key_is_of_export check (
        starts_with(object_key, private.exports_prefix(export_id))
    ),
    secret text
);
comment on table private.audit_export_files is
'The object and the secret of each export that is being made or READY. The worker deletes an object without a row.';
comment on column private.audit_export_files.secret is
'The secret of the archive. Erased after its officer has seen it once.';

-- Writes the audit row about one step of an export that the worker makes. Returns the id of the event.
create function private.audit_export_step(
    action text, outcome text, reason text, made resguardo.audit_exports, fields text[], row_count bigint,
    byte_count bigint, digest text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return private.write_audit_of_entities(
        action, outcome, reason, private.entities_of('audit_export', array[made.id]),
        array_remove(array[(made.filter).patient_id], null),
        array_remove(array[(made.filter).consultation_id], null), fields,
        least(row_count, 2147483647)::integer, byte_count, digest
    );
end
$$;

-- Returns why the person who asked for an export may not have it any more, or null. The person must still be an active
-- compliance officer with a login that is neither banned nor deleted. The session in which they asked may have ended,
-- because nobody gets the export without a live session.
create function private.audit_export_objection(person uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when not exists (
            select from resguardo.staff as s
            where s.user_id = person and s.status = 'active' and s.role = 'compliance'
        ) or not exists (
            select from auth.users as u
            where u.id = person and u.deleted_at is null and (u.banned_until is null or u.banned_until <= now())
        ) then 'officer_lost_access'
    end;
end
$$;

-- Asks for an export of the events that a filter selects and that are recorded before now. Queues the job that makes
-- the export, and returns the id of the export. Raises RG403
-- (totp_stale), RG429 (quota_exports), RG409 (audit_export_in_progress). Returns null, and writes the audit row, if the
-- filter names a patient, a consultation or a recording that does not exist.
create function private.request_audit_export(
    wanted_format text, wanted private.audit_filter, totp_max_age_seconds integer
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    patient constant uuid := (wanted).patient_id;
    consultation constant uuid := (wanted).consultation_id;
    recording constant uuid := (wanted).recording_id;
    made resguardo.audit_exports;
begin
    perform private.require_recent_totp(totp_max_age_seconds);
    perform private.use_quota(officer, 'exports');
    if (patient is not null and not exists (select from resguardo.patients as p where p.id = patient))
        or (
            consultation is not null
            and not exists (select from resguardo.consultations as c where c.id = consultation)
        )
        or (recording is not null and not exists (select from resguardo.recordings as r where r.id = recording))
    then
        perform private.write_audit('audit.export', 'ABSENT', 'not_found', 'audit_export', '{}', '{}', '{}', '{}', 0, null);
        return null;
    end if;
    -- The lock lets a suspension either see this export, or be seen by it.
    perform from resguardo.staff as s where s.user_id = officer for no key update;
    perform private.person();
    if exists (
        select from resguardo.audit_exports as e
        where e.requested_by = officer and e.status in ('PENDING', 'RUNNING')
    ) then
        raise exception 'audit_export_in_progress' using errcode = 'RG409';
    end if;
    insert into resguardo.audit_exports as e (requested_by, format, filter)
    values (officer, wanted_format, wanted)
    returning e.* into made;
    perform private.put_job('export_audit_events', made.id);
    perform private.write_audit_later(
        'audit.export', null, 'audit_export', made.id, patient, consultation, array['auditExport'], null
    );
    return made.id;
end
$$;

-- Returns an export to the officer who asked for it, locked. Returns nulls, and writes the audit row, if the export
-- does not exist. Raises RG403 (audit_export_of_another) if another officer asked for it.
create function private.lock_audit_export(of_export uuid, of_action text) returns resguardo.audit_exports
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    found_export resguardo.audit_exports;
begin
    select e.* into found_export from resguardo.audit_exports as e where e.id = of_export;
    if found_export.id is null then
        perform private.write_audit(
            of_action, 'ABSENT', 'not_found', 'audit_export', array[of_export], '{}', '{}', '{}', 0, null
        );
        return null;
    elsif found_export.requested_by <> officer then
        raise exception 'audit_export_of_another' using errcode = 'RG403';
    end if;
    select e.* into found_export from resguardo.audit_exports as e where e.id = of_export for update;
    return found_export;
end
$$;

-- Writes the audit row about this access, and returns the object key of an export to the officer who asked for it.
-- Returns null if the export does not exist. Raises RG403 (totp_stale, audit_export_of_another), RG429 (quota_urls),
-- RG409 (audit_export_not_ready).
create function private.release_audit_export_key(of_export uuid, totp_max_age_seconds integer) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    made resguardo.audit_exports;
    key text;
begin
    perform private.require_recent_totp(totp_max_age_seconds);
    perform private.use_quota(officer, 'urls');
    made := private.lock_audit_export(of_export, 'audit.export_url');
    if made.id is null then
        return null;
    end if;
    select f.object_key into key from private.audit_export_files as f
    where f.export_id = made.id and made.status = 'READY' and made.expires_at > private.now();
    if key is null then
        raise exception 'audit_export_not_ready' using errcode = 'RG409';
    end if;
    perform private.audit_export_step(
        'audit.export_url', 'ALLOWED', null, made, array['object'], made.event_count, made.size_bytes, made.sha256
    );
    return key;
end
$$;

-- Returns the secret of an export once to the officer who asked for it, and erases it. Returns null if the export does
-- not exist. Raises RG403 (totp_stale, audit_export_of_another), RG409 (audit_export_not_ready, export_secret_gone).
create function private.reveal_audit_export_secret(of_export uuid, totp_max_age_seconds integer) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made resguardo.audit_exports;
    revealed text;
begin
    perform private.person();
    perform private.require_recent_totp(totp_max_age_seconds);
    made := private.lock_audit_export(of_export, 'audit.export_secret');
    if made.id is null then
        return null;
    elsif made.status <> 'READY' or made.expires_at <= private.now() then
        raise exception 'audit_export_not_ready' using errcode = 'RG409';
    end if;
    select f.secret into revealed from private.audit_export_files as f where f.export_id = made.id;
    if revealed is null then
        raise exception 'export_secret_gone' using errcode = 'RG409';
    end if;
    update private.audit_export_files as f set secret = null where f.export_id = made.id;
    update resguardo.audit_exports as e set secret_revealed_at = private.now() where e.id = made.id;
    perform private.write_audit_later(
        'audit.export_secret', null, 'audit_export', made.id, null, null, array['secretRevealedAt', 'secret'], null
    );
    return revealed;
end
$$;

-- Stops an export for a reason, erases its secret, and queues the job that deletes its object.
create function private.stop_audit_export(of_export uuid, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    stopped resguardo.audit_exports;
begin
    update resguardo.audit_exports as e set status = 'STOPPED', error = why
    where e.id = of_export and e.status in ('PENDING', 'RUNNING', 'READY')
    returning e.* into stopped;
    if stopped.id is not null then
        delete from private.audit_export_files as f where f.export_id = of_export;
        perform private.put_job('export_audit_events', of_export);
        perform private.audit_export_step(
            'audit.export_stop', 'ALLOWED', why, stopped, array['status', 'object', 'secret'], 1, null, null
        );
    end if;
end
$$;

-- Stops every export of a member of staff, who is suspended or has got another role.
create function private.stop_audit_exports_of(member uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.stop_audit_export(e.id, 'officer_lost_access')
    from resguardo.audit_exports as e
    where e.requested_by = member and e.status in ('PENDING', 'RUNNING', 'READY');
end
$$;

-- Locks an export for the given attempt to make it, and returns the export. If the officer may not have the export any
-- more, the function stops it. Returns nulls if the attempt must end.
create function private.lock_audit_export_attempt(of_export uuid, of_run integer) returns resguardo.audit_exports
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made resguardo.audit_exports;
    objection text;
begin
    select e.* into made from resguardo.audit_exports as e where e.id = of_export for update;
    if made.status is distinct from 'RUNNING' or made.run <> of_run then
        return null;
    end if;
    objection := private.audit_export_objection(made.requested_by);
    if objection is not null then
        perform private.stop_audit_export(of_export, objection);
        return null;
    end if;
    return made;
end
$$;

-- Begins an attempt to make an export with a new object and a new secret. No event of the export is older than
-- `oldest_at`, which lies between the oldest event of the log and the request. Returns no row if the export is not
-- being made.
create function private.begin_audit_export(of_export uuid, new_secret text)
returns table (
    object_key text, run integer, format text, filter jsonb, requested_by uuid, requested_at timestamptz,
    oldest_at timestamptz
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    new_key constant text := private.exports_prefix(of_export) || gen_random_uuid() || '.zip';
    made resguardo.audit_exports;
begin
    update resguardo.audit_exports as e
    set status = 'RUNNING', run = e.run + 1, percent_done = 0, event_count = 0
    where e.id = of_export and e.status in ('PENDING', 'RUNNING')
    returning e.* into made;
    if made.id is null or (private.lock_audit_export_attempt(made.id, made.run)).id is null then
        return;
    end if;
    insert into private.audit_export_files as f (export_id, object_key, secret)
    values (of_export, new_key, new_secret)
    on conflict (export_id) do update set object_key = excluded.object_key, secret = excluded.secret;
    return query
    select
        new_key, made.run, made.format, jsonb_strip_nulls(to_jsonb(made.filter)), made.requested_by, made.created_at,
        least(
            greatest(
                (made.filter).since, (select min(a.recorded_at) from audit.events as a where a.outcome <> '')
            ),
            made.created_at
        );
end
$$;

-- Stores the progress of an attempt. Returns false if the attempt must end.
create function private.report_audit_export(of_export uuid, of_run integer, percent integer, events bigint)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if (private.lock_audit_export_attempt(of_export, of_run)).id is null then
        return false;
    end if;
    update resguardo.audit_exports as e set percent_done = percent, event_count = events where e.id = of_export;
    return true;
end
$$;

-- Returns the next events of an export, newest first: those before (before_at, before_id). Returns no event if the
-- attempt must end.
create function private.read_audit_export(
    of_export uuid, of_run integer, before_at timestamptz, before_id uuid, page_size integer
) returns setof audit.events
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select found_event.*
    from resguardo.audit_exports as e
    cross join lateral private.find_audit_events(e.filter, before_at, before_id, page_size) as found_event
    where e.id = of_export and e.run = of_run and e.status = 'RUNNING';
end
$$;

-- Records the file of events that an attempt has written: writes the audit event audit.export_content with the digest
-- of the file, and returns the id of the event. A second call of the same attempt returns the same id. Returns null if
-- the attempt must end.
create function private.record_audit_export_content(
    of_export uuid, of_run integer, events bigint, bytes bigint, of_sha256 text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made resguardo.audit_exports := private.lock_audit_export_attempt(of_export, of_run);
    event_id uuid;
begin
    if made.id is null then
        return null;
    elsif made.sha256 = of_sha256 then
        return made.content_event_id;
    end if;
    event_id := private.audit_export_step(
        'audit.export_content', 'ALLOWED', null, made, array['object'], events, bytes, of_sha256
    );
    update resguardo.audit_exports as e
    set event_count = events, sha256 = of_sha256, content_event_id = event_id
    where e.id = of_export;
    return event_id;
end
$$;

-- Marks an export as READY for 7 days, after the attempt has stored the archive. Returns false if the attempt must end;
-- the stored object then belongs to nothing.
create function private.finish_audit_export(of_export uuid, of_run integer, of_object_key text, of_size_bytes bigint)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
begin
    if exists (
        select from resguardo.audit_exports as e
        inner join private.audit_export_files as f on f.export_id = e.id
        where e.id = of_export and e.run = of_run and e.status = 'READY' and f.object_key = of_object_key
    ) then
        return true;
    elsif (private.lock_audit_export_attempt(of_export, of_run)).id is null then
        return false;
    end if;
    update resguardo.audit_exports as e
    set status = 'READY', percent_done = 100, size_bytes = of_size_bytes, finished_at = moment,
        expires_at = moment + interval '7 days'
    where e.id = of_export;
    return true;
end
$$;

-- Records that an export could not be made.
create function private.fail_audit_export(of_export uuid, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    failed resguardo.audit_exports;
begin
    update resguardo.audit_exports as e set status = 'FAILED', error = why
    where e.id = of_export and e.status in ('PENDING', 'RUNNING')
    returning e.* into failed;
    if failed.id is not null then
        delete from private.audit_export_files as f where f.export_id = of_export;
        perform private.audit_export_step(
            'audit.export_fail', 'FAILED', why, failed, array['status'], 0, null, null
        );
    end if;
end
$$;

-- Stops the READY exports whose officer may not have them any more, and returns at most 100 exports that are expired
-- and whose object must be deleted.
create function private.ended_audit_exports() returns table (export_id uuid, object_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.stop_audit_export(e.id, 'officer_lost_access')
    from resguardo.audit_exports as e
    where e.status = 'READY' and private.audit_export_objection(e.requested_by) is not null;
    return query
    select e.id, f.object_key
    from resguardo.audit_exports as e
    inner join private.audit_export_files as f on f.export_id = e.id
    where e.status = 'READY' and e.expires_at <= private.now()
    order by e.expires_at
    limit 100;
end
$$;

-- Marks an export as EXPIRED, after its object was deleted from the bucket. Returns false if it was not expired.
create function private.expire_audit_export(of_export uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    expired resguardo.audit_exports;
begin
    update resguardo.audit_exports as e set status = 'EXPIRED'
    where e.id = of_export and e.status = 'READY' and e.expires_at <= private.now()
    returning e.* into expired;
    if expired.id is null then
        return false;
    end if;
    delete from private.audit_export_files as f where f.export_id = of_export;
    perform private.audit_export_step(
        'audit.export_expire', 'ALLOWED', null, expired, array['object', 'secret'], 1, null, null
    );
    return true;
end
$$;

-- Returns the place of each of these events: the origin of its log, and the index of its leaf, which is null if the
-- event is not sealed yet.
create function private.find_audit_places(ids uuid[], recorded_ats timestamptz[])
returns table (event_id uuid, origin text, index bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return query
    select
        e.id, format('resguardo/%s/%s', private.deployment_name(), extract(year from e.recorded_at at time zone 'UTC')),
        l.index
    from unnest(ids, recorded_ats) as e (id, recorded_at)
    left join audit.leaves as l on l.event_id = e.id and l.recorded_at = e.recorded_at;
end
$$;


-- 48_sign_ins.sql

-- Sign-ins: the events of Supabase Auth as rows of the audit log.
--
-- Supabase Auth writes a row into auth.audit_log_entries, an entry, for each event, in the transaction of the event.
-- The leader copies each entry into the audit log once. Supabase Auth writes no entry for a wrong password or a wrong
-- code. It calls two hooks for these, which write their audit rows themselves. No audit row contains an address or a
-- name.

create table private.auth_reading (
    singleton boolean primary key default true constraint auth_reading_is_single check (singleton),
    began_at timestamptz,
    read_at timestamptz,
    next_page bigint not null default 0,
    pass_began_at timestamptz,
    pass_page bigint,
    newest_entry_at timestamptz,
    password_checked_at timestamptz,
    code_checked_at timestamptz
);
comment on table private.auth_reading is 'How far the entries of Supabase Auth have been read. The table has one row.';
comment on column private.auth_reading.began_at is 'When the entries were first read.';
comment on column private.auth_reading.read_at is 'When all entries had last been read.';
comment on column private.auth_reading.next_page is 'The page of auth.audit_log_entries at which the next call begins.';
comment on column private.auth_reading.pass_began_at is 'When the newest pass over all pages began.';
comment on column private.auth_reading.pass_page is 'The page at which the pass continues. Null if no pass is running.';
comment on column private.auth_reading.newest_entry_at is 'The newest time of an entry, by the clock of Supabase Auth.';
comment on column private.auth_reading.password_checked_at is 'The time of the newest sign-in with a password.';
comment on column private.auth_reading.code_checked_at is 'The time of the newest verification of a second factor.';

insert into private.auth_reading (singleton) values (true);

create table private.auth_hooks (
    hook text not null constraint auth_hooks_hook_is_known check (hook in ('password', 'second_factor')),
    called_at timestamptz,
    constraint auth_hooks_pkey primary key (hook)
);
comment on table private.auth_hooks is
'When Supabase Auth last called each hook, by the clock of Supabase Auth and exact to ten seconds.';

insert into private.auth_hooks (hook) values ('password'), ('second_factor');

create type private.auth_entry as ( -- noqa: LT01
    auth_action text, actor_id uuid, user_id uuid, factor_id uuid, session_id uuid, provider text
);

-- Returns the ids in the payload of an entry, or null if the payload does not have the form of an entry. The function
-- does not return the addresses and names in the payload. A person chooses their own name there, and it may be any
-- JSON: a payload with a name of more than 32 KB, or nested deeper than Postgres can parse, also gives null.
create function private.parse_auth_entry(payload json) returns private.auth_entry
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if pg_column_size(payload) > 32768 then
        return null;
    end if;
    return row(
        payload ->> 'action', (payload ->> 'actor_id')::uuid, (payload #>> '{traits,user_id}')::uuid,
        (payload #>> '{traits,factor_id}')::uuid, (payload #>> '{traits,session_id}')::uuid,
        payload #>> '{traits,provider}'
    )::private.auth_entry;
exception when data_exception or program_limit_exceeded then
    return null;
end
$$;

create function private.parse_address(given text) returns inet
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return nullif(given, '')::inet;
exception when data_exception then
    return null;
end
$$;

-- Returns the action of the audit log for an action of Supabase Auth, an empty text if the audit log does not record
-- the action, or null if the action is unknown. The audit log does not record the renewal of tokens, which happens
-- hourly in each session, and the request for a code, which is followed by a right or a wrong code.
create function private.action_of_auth(auth_action text, is_by_administrator boolean) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return case auth_action
        when 'login' then 'sign_in.attempt'
        when 'logout' then 'sign_in.end'
        when 'user_signedup' then case when is_by_administrator then 'sign_in.create_user' else 'sign_in.confirm_user' end
        when 'invite_accepted' then 'sign_in.confirm_user'
        when 'user_invited' then 'sign_in.invite_user'
        when 'user_modified' then 'sign_in.change_user'
        when 'user_deleted' then 'sign_in.delete_user'
        when 'user_confirmation_requested' then 'sign_in.request_confirmation'
        when 'user_repeated_signup' then 'sign_in.repeat_sign_up'
        when 'user_reauthenticate_requested' then 'sign_in.reauthenticate'
        when 'identity_linked' then 'sign_in.link_identity'
        when 'identity_unlinked' then 'sign_in.unlink_identity'
        when 'passkey_created' then 'sign_in.add_passkey'
        when 'passkey_updated' then 'sign_in.change_passkey'
        when 'passkey_deleted' then 'sign_in.remove_passkey'
        when 'user_recovery_requested' then 'password.request_reset'
        when 'user_updated_password' then 'password.change'
        when 'factor_in_progress' then 'second_factor.enrol'
        when 'verification_attempted' then 'second_factor.verify'
        when 'factor_updated' then 'second_factor.change'
        when 'factor_unenrolled' then 'second_factor.remove'
        when 'factor_deleted' then 'second_factor.remove'
        when 'token_refreshed' then ''
        when 'token_revoked' then ''
        when 'challenge_created' then ''
    end;
end
$$;

-- Writes the audit row of one event of Supabase Auth. The id of the audit row is the id that Supabase Auth gave to the
-- event. The actor is null for an administrator, who is anyone with the project's secret key. A time that not every
-- client can represent, such as infinity, is stored as null.
create function private.write_auth_event(
    event_id uuid, occurred_at timestamptz, actor uuid, is_by_administrator boolean, action text, outcome text,
    reason text, user_id uuid, factor_id uuid, session_fingerprint text, address inet
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into audit.events (
        id, occurred_at, actor_id, actor_role, session_fingerprint, action, operation, outcome, reason, purpose, basis,
        entities, row_count, address, policy_version
    ) values (
        event_id, case when occurred_at between '1970-01-01' and '9000-01-01' then occurred_at end, actor,
        case
            when is_by_administrator then 'service_role'
            else coalesce(private.known_role(actor), 'unregistered')
        end,
        session_fingerprint, action, private.operation_of(action), outcome, private.audit_reason(reason), 'OPERATIONS',
        private.audit_term('basis', 'supabase_auth'),
        private.audit_entities(
            private.entities_of('user', array_remove(array[user_id], null))
            || case
                when factor_id is null then '[]'
                else private.entities_of('second_factor', array[factor_id])
            end
        ),
        1, address, private.policy_version()
    );
end
$$;

-- Writes the audit row of one entry. `transaction_id` is the transaction that wrote the entry. Supabase Auth opens the
-- session of a sign-in in the same transaction, and the proof in auth.mfa_amr_claims is not changed afterwards. The
-- audit row therefore names the session and its address as long as the session exists. The same holds for the row of a
-- user whom an administrator changed: if nothing changed it since, it shows whether the user was banned.
create function private.write_auth_entry(
    entry_id uuid, occurred_at timestamptz, entry private.auth_entry, entry_address inet, transaction_id xid
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    nobody constant uuid := '00000000-0000-0000-0000-000000000000';
    is_by_administrator constant boolean := coalesce(entry.actor_id = nobody or entry.auth_action = 'factor_deleted', false);
    actor constant uuid := case when not is_by_administrator then entry.actor_id end;
    about constant uuid := coalesce(entry.user_id, nullif(entry.actor_id, nobody));
    action constant text := private.action_of_auth(entry.auth_action, is_by_administrator);
    session_id uuid := entry.session_id;
    session_address inet;
    reason text;
begin
    if action is null then
        perform private.write_auth_event(
            entry_id, occurred_at, null, false, 'sign_in.report_unknown', 'FAILED', 'auth_entry_unknown', null, null,
            null, null
        );
        return;
    end if;
    if session_id is null and actor is not null then
        select s.id, s.ip into session_id, session_address
        from auth.sessions as s
        inner join auth.mfa_amr_claims as c on c.session_id = s.id
        where s.user_id = actor and c.xmin = transaction_id
        limit 1;
    end if;
    if action = 'sign_in.change_user' and exists (
        select from auth.users as u where u.id = about and u.xmin = transaction_id and u.banned_until > now()
    ) then
        reason := 'login_banned';
    end if;
    perform private.write_auth_event(
        entry_id, occurred_at, actor, is_by_administrator, action, 'ALLOWED', reason, about, entry.factor_id,
        private.session_fingerprint(session_id), coalesce(entry_address, session_address)
    );
end
$$;

-- Returns why the entries cannot be read, or null if they can be read. Row-level security would hide all entries from
-- an owner without the attribute BYPASSRLS, without any error.
create function private.auth_entries_problem() returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    entries constant regclass := to_regclass('auth.audit_log_entries');
begin
    if (select c.relkind from pg_class as c where c.oid = entries) is distinct from 'r' then
        return 'auth_entries_missing';
    elsif not has_table_privilege(entries, 'select') or row_security_active(entries) then
        return 'auth_entries_forbidden';
    end if;
    return null;
end
$$;

-- Copies the entries on the given pages that the audit log lacks into the audit log, at most the given number, and
-- returns how many it copied. The id of an entry is the id of its audit row, so no entry is copied twice.
create function private.copy_auth_entries(first_page bigint, end_page bigint, at_most integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    first_row constant tid := format('(%s,0)', first_page)::tid;
    end_row constant tid := format('(%s,0)', end_page)::tid;
    copied_before constant uuid[] := array(
        select a.id from audit.events as a
        where a.id = any(
            array(select e.id from auth.audit_log_entries as e where e.ctid >= first_row and e.ctid < end_row)
        )
    );
    occurred_at timestamptz;
    newest timestamptz;
    newest_password timestamptz;
    newest_code timestamptz;
    item record;
    copied integer := 0;
begin
    for item in
        select
            e.id, e.created_at, private.parse_address(e.ip_address) as address, e.xmin as transaction_id, p as entry
        from auth.audit_log_entries as e
        cross join lateral private.parse_auth_entry(e.payload) as p
        where e.ctid >= first_row and e.ctid < end_row and e.id <> all(copied_before)
        order by e.ctid
    loop
        occurred_at := case when item.created_at < now() + interval '1 minute' then item.created_at else now() end;
        newest := greatest(newest, occurred_at);
        continue when private.action_of_auth((item.entry).auth_action, false) = '';
        exit when copied >= at_most;
        perform private.write_auth_entry(item.id, item.created_at, item.entry, item.address, item.transaction_id);
        copied := copied + 1;
        if (item.entry).auth_action = 'login' and (item.entry).provider in ('email', 'phone') then
            newest_password := greatest(newest_password, occurred_at);
        elsif (item.entry).auth_action = 'verification_attempted' then
            newest_code := greatest(newest_code, occurred_at);
        end if;
    end loop;
    update private.auth_reading as r
    set
        newest_entry_at = greatest(r.newest_entry_at, newest),
        password_checked_at = greatest(r.password_checked_at, newest_password),
        code_checked_at = greatest(r.code_checked_at, newest_code)
    where newest is not null;
    return copied;
end
$$;

-- Copies new entries into the audit log, at most the given number, and returns how many it copied. Returns null if the
-- entries cannot be read.
--
-- The table of the entries has no index by time, and only Supabase Auth may create one. Its new rows are on its last
-- pages, so each call reads on from the last pages. It reads the last 16 pages again, for the entries whose
-- transactions had not committed. If somebody deletes old entries, new rows also fill the gaps. A pass over all pages
-- finds these. A pass begins one second per page after the last pass began, at the latest an hour after it.
create function private.read_auth_entries(at_most integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    pages_at_end constant bigint := 16;
    pages_at_once constant bigint := 100;
    parts constant integer := 20;
    reading private.auth_reading;
    pages bigint;
    copied integer := 0;
begin
    if private.auth_entries_problem() is not null then
        return null;
    end if;
    select r.* into reading from private.auth_reading as r for update;
    pages := pg_relation_size('auth.audit_log_entries') / current_setting('block_size')::bigint;
    if reading.next_page > pages then
        reading.next_page := 0;
    end if;
    for part in 1..parts loop
        copied := copied + private.copy_auth_entries(
            reading.next_page, reading.next_page + pages_at_once, at_most - copied
        );
        exit when copied >= at_most;
        reading.next_page := least(reading.next_page + pages_at_once, greatest(pages - pages_at_end, 0));
        if reading.next_page >= pages - pages_at_end then
            reading.read_at := now();
            exit;
        end if;
    end loop;
    if reading.pass_page is null and reading.pass_began_at is not null and now() not between reading.pass_began_at
        and reading.pass_began_at + least(interval '1 hour', pages * interval '1 second')
    then
        reading.pass_page := 0;
    end if;
    if reading.pass_page = 0 or reading.pass_began_at is null then
        reading.pass_began_at := now();
    end if;
    for part in 1..parts loop
        exit when reading.pass_page is null or copied >= at_most;
        copied := copied + private.copy_auth_entries(
            reading.pass_page, reading.pass_page + pages_at_once, at_most - copied
        );
        exit when copied >= at_most;
        reading.pass_page := nullif(least(reading.pass_page + pages_at_once, reading.next_page), reading.next_page);
    end loop;
    update private.auth_reading as r
    set
        began_at = coalesce(r.began_at, now()), read_at = reading.read_at, next_page = reading.next_page,
        pass_began_at = reading.pass_began_at, pass_page = reading.pass_page;
    return copied;
end
$$;

-- Returns the reasons for which the audit log may lack events of Supabase Auth. A session without an entry of its time
-- shows that Supabase Auth does not write entries. A right password, or a right code, without a call of its hook shows
-- that the hook is not set up.
create function private.find_sign_in_problems() returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    problem constant text := private.auth_entries_problem();
    reading private.auth_reading;
begin
    if problem is not null then
        return array[problem];
    end if;
    select r.* into reading from private.auth_reading as r;
    return array_remove(
        array[
            case
                when coalesce(reading.read_at, reading.began_at) < now() - interval '5 minutes'
                    then 'auth_entries_not_read'
            end,
            case
                when exists (
                    select from auth.sessions as s
                    where s.created_at > reading.began_at and s.created_at < reading.read_at - interval '1 minute'
                        and s.created_at > coalesce(reading.newest_entry_at, '-infinity') + interval '1 minute'
                ) then 'auth_entries_not_written'
            end,
            case
                when exists (
                    select from audit.events as e
                    where e.action = 'sign_in.report_unknown' and e.recorded_at > now() - interval '7 days'
                ) then 'auth_entry_unknown'
            end,
            case
                when reading.password_checked_at > coalesce(
                    (select h.called_at from private.auth_hooks as h where h.hook = 'password'), reading.began_at
                ) + interval '1 minute' then 'auth_password_hook_missing'
            end,
            case
                when reading.code_checked_at > coalesce(
                    (select h.called_at from private.auth_hooks as h where h.hook = 'second_factor'), reading.began_at
                ) + interval '1 minute' then 'auth_second_factor_hook_missing'
            end
        ],
        null
    );
end
$$;

-- Records that Supabase Auth called a hook, and writes the audit row of a wrong password or a wrong code. The actor of
-- the audit row is the user whose password or code was asked for. A repeated call about the same attempt writes no
-- second audit row.
create function private.record_attempt(hook text, action text, reason text, event jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
    event_id constant uuid := coalesce((event #>> '{metadata,uuid}')::uuid, gen_random_uuid());
    attempted_at constant timestamptz := (event #>> '{metadata,time}')::timestamptz;
    person constant uuid := (event ->> 'user_id')::uuid;
begin
    if not exists (
        select from private.auth_hooks as h
        where h.hook = record_attempt.hook
            and coalesce(attempted_at, now()) between h.called_at and h.called_at + interval '10 seconds'
    ) then
        update private.auth_hooks as h set called_at = coalesce(attempted_at, now()) where h.hook = record_attempt.hook;
    end if;
    if event ->> 'valid' = 'false' and not exists (select from audit.events as e where e.id = event_id) then
        perform private.write_auth_event(
            event_id, attempted_at, person, false, action, 'DENIED', reason, person, (event ->> 'factor_id')::uuid, null,
            private.parse_address(event #>> '{metadata,ip_address}')
        );
    end if;
end
$$;

-- The function that Supabase Auth calls as its Password Verification Attempt hook, in a transaction of its own. The
-- hook never refuses an attempt, and never raises an error, because an error would stop every sign-in of the project.
-- If the audit row cannot be written, the hook writes a warning into the database's log.
create function private.password_attempt_hook(event jsonb) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.record_attempt('password', 'sign_in.attempt', 'wrong_password', event);
    return '{"decision": "continue"}';
exception when query_canceled or assert_failure or others then
    raise warning 'resguardo: a hook wrote no audit row (%)', sqlstate;
    return '{"decision": "continue"}';
end
$$;

-- The function that Supabase Auth calls as its MFA Verification Attempt hook, like the function above.
create function private.second_factor_attempt_hook(event jsonb) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.record_attempt('second_factor', 'second_factor.verify', 'wrong_code', event);
    return '{"decision": "continue"}';
exception when query_canceled or assert_failure or others then
    raise warning 'resguardo: a hook wrote no audit row (%)', sqlstate;
    return '{"decision": "continue"}';
end
$$;


-- 50_transcripts.sql

-- Transcripts of recordings: the progress of the transcription, and the text, which is encrypted with the recording's
-- data key.

create table resguardo.transcripts (
    recording_id uuid primary key
    constraint transcripts_recording_id_fkey references resguardo.recordings (id),
    id uuid not null default gen_random_uuid() constraint transcripts_id_key unique,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    status text not null
    constraint transcripts_status_is_known check (
        status in ('PENDING', 'RUNNING', 'READY', 'NO_SPEECH', 'FAILED', 'OFF')
    ),
    error text constraint transcripts_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    language text constraint transcripts_language_is_code check (language ~ '^[a-z]{2,3}$'),
    chunks_total integer constraint transcripts_chunks_total_range check (chunks_total >= 0),
    chunks_done integer not null default 0
    constraint transcripts_chunks_done_range check (chunks_done between 0 and coalesce(chunks_total, 0)),
    unused_track_count smallint not null default 0
    constraint transcripts_unused_track_count_range check (unused_track_count >= 0),
    unintelligible_count integer not null default 0
    constraint transcripts_unintelligible_count_range check (unintelligible_count >= 0),
    attempt integer not null default 1 constraint transcripts_attempt_range check (attempt > 0),
    is_retried boolean not null default false,
    created_at timestamptz not null default private.now(),
    status_at timestamptz not null default private.now(),
    run integer not null default 0
    constraint transcripts_run_range check (run >= 0),
    changed_at timestamptz not null default private.now(),
    constraint transcripts_people_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint transcripts_error_says_why check (
        status = 'READY' or (error is not null) = (status in ('FAILED', 'OFF'))
    ),
    constraint transcripts_retried_is_ready check (status = 'READY' or not is_retried)
);
alter table resguardo.transcripts enable row level security;
comment on column resguardo.transcripts.chunks_total is
'The number of requests to the speech service; null until the sound was inspected.';
comment on column resguardo.transcripts.unused_track_count is
'The number of sound tracks that could not be decoded and that the transcript therefore lacks.';
comment on column resguardo.transcripts.unintelligible_count is
'The number of turns without text, because the speech service could not understand them.';
comment on column resguardo.transcripts.is_retried is
'Whether the worker is retrying the unintelligible chunks of a READY transcript. Its text stays readable meanwhile.';
comment on column resguardo.transcripts.error is
'Why it is FAILED or OFF. For a READY transcript: why its last retry ended without a transcript.';
comment on column resguardo.transcripts.changed_at is
'When subscriptions were last notified of a change. Between two notifications, chunks_done grows unnoticed.';
comment on column resguardo.transcripts.run is
'Counts how often a worker began or resumed. Only the newest worker may send requests to the speech service.';
create index transcripts_consultation_idx on resguardo.transcripts (consultation_id, doctor_id, patient_id);
create index transcripts_doctor_idx on resguardo.transcripts (doctor_id, changed_at desc, recording_id desc);
create index transcripts_patient_idx on resguardo.transcripts (patient_id);

create table private.transcript_chunks (
    recording_id uuid not null
    constraint transcript_chunks_recording_id_fkey references resguardo.transcripts (recording_id),
    number integer not null constraint transcript_chunks_number_range check (number >= 0),
    sound uuid not null constraint transcript_chunks_sound_fkey references resguardo.recordings (id),
    late_ms integer not null default 0,
    label smallint constraint transcript_chunks_label_range check (label between 0 and 255),
    speaker text not null default 'UNKNOWN',
    participant_id uuid constraint transcript_chunks_participant_id_fkey references resguardo.participants (id),
    channel smallint constraint transcript_chunks_channel_range check (channel between 0 and 15),
    source smallint not null default 0 constraint transcript_chunks_source_range check (source between 0 and 15),
    start_ms integer not null constraint transcript_chunks_start_range check (start_ms >= 0),
    end_ms integer not null,
    answer bytea,
    is_unintelligible boolean not null default false,
    turn integer constraint transcript_chunks_turn_range check (turn >= 0),
    failed_requests integer not null default 0
    constraint transcript_chunks_failed_requests_range check (failed_requests >= 0),
    constraint transcript_chunks_pkey primary key (recording_id, number),
    constraint transcript_chunks_end_range check (end_ms > start_ms)
);
comment on column private.transcript_chunks.sound is
'The recording that the chunk is cut from: the video, or a sound beside it.';
comment on column private.transcript_chunks.late_ms is
'How many milliseconds later than the video this sound begins, at this chunk.';
comment on column private.transcript_chunks.label is
'The voice: equal for all sound of one participant or channel. Null if nothing separates the voices.';
comment on column private.transcript_chunks.participant_id is
'The participant of the microphone, if each microphone was recorded separately.';
comment on column private.transcript_chunks.channel is
'The channel of the chunk''s file, if the file has several channels to transcribe.';
comment on column private.transcript_chunks.source is 'The channel of the file that the chunk is cut from.';
comment on column private.transcript_chunks.answer is
'The speech service''s answer, encrypted; null until there is one.';
comment on column private.transcript_chunks.is_unintelligible is
'Whether the last try returned no usable answer. The chunk then becomes one turn without text.';
comment on column private.transcript_chunks.turn is
'The number of the turn that represents an unintelligible chunk of a READY transcript.';
comment on column private.transcript_chunks.failed_requests is
'How often the chunk was sent, and possibly paid for, without a usable answer.';
create index transcript_chunks_sound_idx on private.transcript_chunks (sound);
create index transcript_chunks_participant_idx on private.transcript_chunks (participant_id);

create table private.transcript_texts (
    recording_id uuid primary key
    constraint transcript_texts_recording_id_fkey references resguardo.transcripts (recording_id),
    ciphertext bytea not null
    constraint transcript_texts_ciphertext_length check (length(ciphertext) between 29 and 67108864),
    terms bigint[] not null,
    made_at timestamptz not null default private.now()
);
create index transcript_texts_terms_idx on private.transcript_texts using gin (terms) with (fastupdate = off);

create table private.transcript_corrections (
    recording_id uuid not null
    constraint transcript_corrections_recording_id_fkey references private.transcript_texts (recording_id),
    number integer not null constraint transcript_corrections_number_range check (number > 0),
    ciphertext bytea not null
    constraint transcript_corrections_ciphertext_length check (length(ciphertext) between 29 and 131072),
    corrected_by uuid not null
    constraint transcript_corrections_corrected_by_fkey references resguardo.staff (user_id),
    corrected_at timestamptz not null default private.now(),
    constraint transcript_corrections_pkey primary key (recording_id, number)
);
create index transcript_corrections_corrected_by_idx on private.transcript_corrections (corrected_by);

-- When a video becomes READY, adds its transcript, and queues the transcription job if the video may be transcribed.
create function private.await_transcript() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    objection constant text := private.transcription_objection(new.consultation_id);
begin
    insert into resguardo.transcripts (recording_id, consultation_id, doctor_id, patient_id, status)
    values (new.id, new.consultation_id, new.doctor_id, new.patient_id, 'PENDING')
    on conflict do nothing;
    if found and objection is null then
        perform private.put_job('transcribe_recording', new.id);
    elsif found then
        perform private.end_transcription(new.id, 'OFF', objection);
    end if;
    return null;
end
$$;

create trigger recordings_await_transcript after update of status on resguardo.recordings
for each row when (new.status = 'READY' and old.status <> 'READY' and new.medium = 'VIDEO')
execute function private.await_transcript();

create trigger transcripts_announce after insert on resguardo.transcripts
for each row execute function private.announce_change();

-- Notifies clients of a transcription's progress only after each twentieth of its chunks. A notification after each
-- chunk would be too frequent, because each notified client reads the recording again, which writes an audit row.
create trigger transcripts_announce_progress before update on resguardo.transcripts
for each row when (
    (new.status, new.attempt, new.chunks_total, new.is_retried)
    is distinct from (old.status, old.attempt, old.chunks_total, old.is_retried)
    or 20 * new.chunks_done / nullif(new.chunks_total, 0) <> 20 * old.chunks_done / nullif(old.chunks_total, 0)
) execute function private.announce_change();

-- Returns why the recordings of a consultation may not be transcribed now: `switched_off`, or `consent_withdrawn` if
-- the newest statement of anybody who must consent is a withdrawal. If the recordings may be transcribed, the
-- function returns null instead of a reason.
create function private.transcription_objection(of_consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not (select c.is_transcribed from resguardo.consultations as c where c.id = of_consultation) then
        return 'switched_off';
    elsif exists (
        select from resguardo.standing_consents as s
        where s.consultation_id = of_consultation and s.is_required and s.is_withdrawn
    ) then
        return 'consent_withdrawn';
    end if;
    return null;
end
$$;

-- Writes the audit row, and returns the transcript of a doctor's own recording. The audit row names the recording and
-- the entities in `shown`, which the calling statement has read. The function locks the transcript if the doctor's
-- action changes it. For `transcript.retry` the function writes no audit row if it finds the transcript, because the
-- statement that shows the retried recording writes the row. Returns null if the recording belongs to a different
-- doctor, does not exist or has no transcript, so the caller cannot tell these cases apart. Raises RG409
-- (recording_deleted).
create function private.find_transcript(
    of_action text, of_recording uuid, shown jsonb, of_fields text[], is_locked boolean
) returns resguardo.transcripts
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    is_own boolean;
    is_deleted boolean;
    wanted resguardo.transcripts;
begin
    select r.doctor_id = doctor, r.status = 'DELETED' into is_own, is_deleted
    from resguardo.recordings as r where r.id = of_recording;
    if is_own and is_deleted then
        raise exception 'recording_deleted' using errcode = 'RG409';
    elsif is_own and is_locked then
        select t.* into wanted from resguardo.transcripts as t where t.recording_id = of_recording for update;
    elsif is_own then
        select t.* into wanted from resguardo.transcripts as t where t.recording_id = of_recording;
    end if;
    if of_action <> 'transcript.retry' or wanted.recording_id is null then
        perform private.write_lookup(
            of_action, 'recording', 'recording', of_recording, is_own,
            private.entities_of('recording', array_remove(array[wanted.recording_id], null)) || shown,
            array[wanted.patient_id], array[wanted.consultation_id],
            coalesce(wanted.status = 'READY', false)::integer, of_fields
        );
    end if;
    return wanted;
end
$$;

-- Returns the id and the encrypted transcript text of the caller's own recording, the recording's data key, and every
-- correction. Before that, writes the audit row, which also names the entities in `shown` and the fields in
-- `of_fields`: what the statement that calls this function reads besides the text. Raises RG409
-- (recording_being_deleted) if the deletion of the recording was requested. The call counts as a page against the
-- caller's quota, and `transcript.ask` as a question.
create function private.open_transcript(of_action text, of_recording uuid, shown jsonb, of_fields text[])
returns table (
    id uuid, ciphertext bytea, wrapped bytea, root_key text, corrections bytea[], corrected_by uuid[],
    corrected_at timestamptz[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.transcripts;
begin
    if of_action is null or of_action not in ('transcript.read', 'transcript.correct', 'transcript.ask') then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    perform private.use_quota(
        private.person(), case when of_action = 'transcript.ask' then 'questions' else 'pages' end
    );
    wanted := private.find_transcript(
        of_action, of_recording, shown, of_fields, is_locked => of_action = 'transcript.correct'
    );
    if wanted.status = 'READY' and private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    return query
    select
        wanted.id, w.ciphertext, k.wrapped_key, k.root_key_id,
        coalesce(c.ciphertext, '{}'), coalesce(c.corrected_by, '{}'), coalesce(c.corrected_at, '{}')
    from private.transcript_texts as w
    inner join private.recording_keys as k on k.recording_id = w.recording_id
    left join lateral (
        select
            array_agg(x.ciphertext order by x.number) as ciphertext,
            array_agg(x.corrected_by order by x.number) as corrected_by,
            array_agg(x.corrected_at order by x.number) as corrected_at
        from private.transcript_corrections as x
        where x.recording_id = w.recording_id
    ) as c on true
    where w.recording_id = wanted.recording_id and wanted.status = 'READY';
end
$$;

-- Adds a correction to a transcript that was opened for correction in this transaction, and returns the author and
-- the time of the correction. Raises RG409 (transcript_changed) if a concurrent correction came first or the
-- transcript is being destroyed.
create function private.correct_transcript(of_recording uuid, of_number integer, correction bytea, new_terms bigint[])
returns table (made_by uuid, made_at timestamptz)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    perform from resguardo.transcripts as t
    where t.recording_id = of_recording and t.doctor_id = doctor and t.status = 'READY' for update;
    if not found or private.is_to_be_destroyed(of_recording) then
        raise exception 'transcript_changed' using errcode = 'RG409';
    end if;
    if of_number <> 1 + (
        select count(*) from private.transcript_corrections as c where c.recording_id = of_recording
    ) then
        raise exception 'transcript_changed' using errcode = 'RG409';
    end if;
    update private.transcript_texts as w set terms = new_terms where w.recording_id = of_recording;
    return query
    insert into private.transcript_corrections (recording_id, number, ciphertext, corrected_by)
    values (of_recording, of_number, correction, doctor)
    returning corrected_by, corrected_at;
end
$$;

-- Retries a FAILED transcription, or an OFF transcription if the recording may be transcribed now. For a READY
-- transcript, the function retries only the unintelligible chunks. Returns false, and writes an audit row, if the
-- recording does not belong to the caller or has no transcript. If the function returns true, the statement that shows
-- the recording writes the audit row.
create function private.retry_transcription(of_recording uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts :=
        private.find_transcript('transcript.retry', of_recording, '[]', array['transcript'], is_locked => true);
    objection constant text := private.transcription_objection(wanted.consultation_id);
    is_in_part constant boolean := wanted.status = 'READY' and not wanted.is_retried and exists (
        select from private.transcript_chunks as p where p.recording_id = wanted.recording_id
    );
begin
    if wanted.recording_id is null then
        return false;
    end if;
    if private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    if wanted.status not in ('FAILED', 'OFF') and not is_in_part then
        raise exception 'transcription_not_failed' using errcode = 'RG409';
    end if;
    if objection = 'switched_off' then
        raise exception 'transcription_switched_off' using errcode = 'RG409';
    elsif objection = 'consent_withdrawn' then
        raise exception 'transcription_consent_withdrawn' using errcode = 'RG409';
    end if;
    update private.transcript_chunks as p
    set answer = case when not p.is_unintelligible then p.answer end, is_unintelligible = false, failed_requests = 0
    where p.recording_id = of_recording;
    update resguardo.transcripts as t
    set status = case when is_in_part then t.status else 'PENDING' end, is_retried = is_in_part, error = null,
        attempt = t.attempt + 1, status_at = private.now(),
        chunks_done = coalesce(t.chunks_total, 0) - (
            select count(*) from private.transcript_chunks as p where p.recording_id = of_recording and p.answer is null
        )
    where t.recording_id = of_recording;
    perform private.put_job('transcribe_recording', of_recording);
    return true;
end
$$;

-- Sets whether a consultation's recordings are transcribed from now on. Returns false if the consultation does not
-- belong to the caller. The statement that shows the consultation, or finds none, writes the audit row. If the doctor
-- turns transcription off for the consultation, a transcription in progress ends at its next step.
create function private.switch_transcription(of_consultation uuid, is_on boolean) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    update resguardo.consultations as c set transcribe = is_on
    where c.id = of_consultation and c.doctor_id = doctor;
    return found;
end
$$;

-- Deletes the text of a recording's transcript, and returns how many rows it deleted from each table. A worker that
-- writes transcript text locks the transcript's row, so clear_transcript() waits for the worker and then deletes this
-- text, too.
create function private.clear_transcript(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    tables constant text[] := array[
        'questions', 'subtitle_links', 'transcript_corrections', 'transcript_chunks', 'transcript_texts'
    ];
    of_table text;
    rows_cleared bigint;
    cleared jsonb := '[]';
begin
    perform from resguardo.transcripts as t where t.recording_id = of_recording for update;
    foreach of_table in array tables loop
        execute format('delete from private.%I where recording_id = $1', of_table) using of_recording;
        get diagnostics rows_cleared = row_count;
        if rows_cleared > 0 then
            cleared := cleared || jsonb_build_object('table', of_table, 'rows', rows_cleared);
        end if;
    end loop;
    update resguardo.transcripts as t
    set status = 'OFF', error = 'recording_destroyed', is_retried = false, unintelligible_count = 0,
        status_at = private.now()
    where t.recording_id = of_recording and t.error is distinct from 'recording_destroyed';
    return cleared;
end
$$;


-- 51_transcription.sql

-- The SQL functions that the worker calls to make a transcript. Each step of the transcription checks again whether
-- the recording may still be transcribed.

-- When a sound recording ends in any status, resumes the transcription that waits for the sound recording.
create function private.resume_transcription() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from resguardo.transcripts as t where t.recording_id = new.video_id and t.status = 'PENDING'
    ) then
        perform private.put_job('transcribe_recording', new.video_id);
    end if;
    return null;
end
$$;

create trigger recordings_resume_transcription after update of status on resguardo.recordings
for each row when (
    new.video_id is not null and new.status <> old.status and new.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
)
execute function private.resume_transcription();

-- Writes the audit row and ends a transcription. If the transcription is a retry of a READY transcript, the
-- transcript keeps its text.
create function private.end_transcription(of_recording uuid, ended_as text, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ended resguardo.transcripts;
begin
    update resguardo.transcripts as t
    set status = case when t.is_retried then t.status else ended_as end, error = why, is_retried = false,
        status_at = private.now()
    where t.recording_id = of_recording
    returning t.* into ended;
    perform private.write_audit(
        'transcript.transition', case ended_as when 'FAILED' then 'FAILED' else 'ALLOWED' end, why, 'recording',
        array[of_recording], array[ended.patient_id], array[ended.consultation_id], array['transcript'], 1, null
    );
end
$$;

-- Locks and returns a transcript if the worker may continue the transcription, and returns null otherwise. The worker
-- may continue if the transcript is not finished, the recording is not to be destroyed, and transcription is neither
-- switched off nor excluded by a withdrawn consent. If transcription was switched off or a consent withdrawn, the
-- transcription ends as OFF.
create function private.lock_transcription(of_recording uuid) returns resguardo.transcripts
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.transcripts;
    objection text;
begin
    select t.* into wanted from resguardo.transcripts as t where t.recording_id = of_recording for update;
    if wanted.recording_id is null or not (wanted.status in ('PENDING', 'RUNNING') or wanted.is_retried)
        or private.is_to_be_destroyed(of_recording)
    then
        return null;
    end if;
    objection := private.transcription_objection(wanted.consultation_id);
    if objection is not null then
        perform private.end_transcription(of_recording, 'OFF', objection);
        return null;
    end if;
    return wanted;
end
$$;

-- Returns how many milliseconds after the video a sound recording begins; the number is negative if the sound
-- recording begins before the video. The function returns 0 if the sound is the video's own, or if LiveKit reported
-- no times. The file of a sound recording begins 0.09 s before the start time that LiveKit reports. A video file is
-- longer than LiveKit reports, and begins earlier by this difference, but by at most one second (measured with egress
-- 1.9.1). The worker measures the remaining difference between the sound and the video. The two start times come from
-- LiveKit and may be wrong, so the function returns a delay of at most one day.
create function private.lateness_ms(of_sound resguardo.recordings, of_video uuid) returns integer
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    seconds numeric;
begin
    if of_sound.id = of_video then
        return 0;
    end if;
    select extract(epoch from of_sound.started_at - v.started_at) - 0.09 + greatest(
            0, least(1, coalesce(v.duration_seconds - extract(epoch from v.ended_at - v.started_at), 0))
        ) into seconds
    from resguardo.recordings as v where v.id = of_video;
    return round(1000 * greatest(-86400, least(86400, coalesce(seconds, 0))));
end
$$;

-- Returns the voice on each channel of a sound recording: the voice's label, the kind of speaker, and the
-- participant's id. A microphone recording contains one voice. If LiveKit routed the doctor and the patient to the
-- two channels, each channel has one of the two voices. In a sound recording of any other kind, the voices are
-- unknown.
create function private.voices_of(of_sound resguardo.recordings) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(jsonb_agg(jsonb_build_array(v.label, v.speaker, v.id) order by v.label), '[]')
        from (
            select p.id, coalesce(p.guest_role, p.kind) as speaker, p.kind,
                case p.kind
                    when 'DOCTOR' then 0
                    when 'PATIENT' then 1
                    else least(255, 1 + row_number() over (partition by p.kind order by p.created_at, p.id))
                end as label
            from resguardo.participants as p
            where p.consultation_id = of_sound.consultation_id
        ) as v
        where v.id = of_sound.participant_id or (of_sound.is_routed and v.kind in ('DOCTOR', 'PATIENT'))
    );
end
$$;

-- Returns the language for the speech service, as a code of ISO 639-1, or null if the service must detect the
-- language. If the consultation has a spoken language, the function returns that language. If the consultation has no
-- spoken language, the function uses the language in which everybody consented, unless an interpreter joined.
create function private.spoken_language(of_consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    given constant text := (select c.language from resguardo.consultations as c where c.id = of_consultation);
    consented text[];
begin
    if given is not null then
        return lower(nullif(given, 'MIXED'));
    end if;
    if exists (
        select from resguardo.participants as p
        where p.consultation_id = of_consultation and p.guest_role = 'INTERPRETER' and p.joined_at is not null
    ) then
        return null;
    end if;
    select array_agg(distinct lower(n.text_language)) into consented
    from resguardo.participants as p
    cross join lateral (
        select k.text_language from resguardo.consents as k
        where k.participant_id = p.id and k.decision = 'GIVEN'
        order by k.recorded_at desc, k.id desc limit 1
    ) as n
    where p.consultation_id = of_consultation and (p.kind <> 'GUEST' or p.joined_at is not null);
    return case when cardinality(consented) = 1 and consented[1] ~ '^[a-z]{2}$' then consented[1] end;
end
$$;

-- Returns the recordings to transcribe: the READY sound recordings beside the video, and the video for all speech
-- that these sound recordings lack. Returns only the video, which contains every voice, if the video has no sound
-- recording, or if a sound recording is LOST, missing, or FAILED after it began. If a sound recording is FAILED or
-- ABORTED and never began, it contains nothing. Returns null while a sound recording beside the video is unfinished.
create function private.sounds_to_transcribe(of_recording uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    parts uuid[];
begin
    if exists (
        select from resguardo.recordings as r
        where r.video_id = of_recording and not private.is_finished(r.status) and r.status <> 'DELETED'
    ) then
        return null;
    end if;
    if exists (
        select from resguardo.recordings as r
        where r.video_id = of_recording and r.medium <> 'CLIP' and (
            r.status = 'LOST' or (r.status = 'FAILED' and r.started_at is not null)
            or (r.status = 'READY' and r.missing_since is not null)
        )
    ) then
        return array[of_recording];
    end if;
    parts := array(
        select r.id from resguardo.recordings as r
        where r.video_id = of_recording and r.status = 'READY' and r.medium = 'MICROPHONE'
    );
    if cardinality(parts) = 0 then
        parts := array(
            select r.id from resguardo.recordings as r
            where r.video_id = of_recording and r.status = 'READY' and r.medium = 'SPEAKERS'
        );
    end if;
    return parts || of_recording;
end
$$;

-- Returns whether every participant who consented saw one of the given consent texts.
create function private.texts_allow_transcription(of_consultation uuid, texts text[]) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return not exists (
        select from resguardo.participants as p
        where p.consultation_id = of_consultation
            and (
                select n.text_version from resguardo.consents as n
                where n.participant_id = p.id and n.decision = 'GIVEN'
                order by n.recorded_at desc, n.id desc limit 1
            ) <> all (texts)
    );
end
$$;

-- Returns the versions of the consent text that name insights by a language service, clips, and quotes that are kept in
-- the signed note. A test holds them equal to `ABOUT_INSIGHTS` in app/consents/texts.py.
create function private.texts_about_insights() returns text[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return array['2027-01', '2027-02'];
end
$$;

-- Returns why the consents do not allow insights, clips and quotes in signed notes for a consultation:
-- `consent_withdrawn` if the newest statement of anybody who must consent is a withdrawal, or `consent_text` if
-- anybody consented to a text that does not name them. If the consents allow them, the function returns null.
create function private.consent_objection(of_consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from resguardo.standing_consents as s
        where s.consultation_id = of_consultation and s.is_required and s.is_withdrawn
    ) then
        return 'consent_withdrawn';
    elsif not private.texts_allow_transcription(of_consultation, private.texts_about_insights()) then
        return 'consent_text';
    end if;
    return null;
end
$$;

-- Returns why a language service may not process the transcripts of a consultation now: a reason of
-- `private.transcription_objection` or of `private.consent_objection`. If it may, the function returns null.
create function private.insights_objection(of_consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        private.transcription_objection(of_consultation), private.consent_objection(of_consultation)
    );
end
$$;

-- Writes the audit row, and begins or resumes a transcription. Returns the sound recordings to transcribe, their
-- object keys, their voices, and the data key. Returns no row if the transcription has no work left, or if a sound
-- recording beside the video is unfinished. Once the transcription has a plan of chunks, the function returns the
-- sound recordings of the plan, even if new sound recordings have appeared. A worker that began the same
-- transcription earlier may then send no further requests to the speech service.
create function private.begin_transcription(of_recording uuid, texts text[])
returns table (
    sound uuid, medium text, object_key text, size_bytes bigint, late_ms integer, voices jsonb, wrapped bytea,
    root_key text, is_planned boolean, run integer, language text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
    sounds uuid[];
begin
    if wanted.recording_id is null then
        return;
    end if;
    if not private.texts_allow_transcription(wanted.consultation_id, texts) then
        perform private.end_transcription(of_recording, 'OFF', 'consent_text');
        return;
    end if;
    if wanted.chunks_total is null then
        sounds := private.sounds_to_transcribe(of_recording);
    else
        sounds := array(
            select distinct p.sound from private.transcript_chunks as p where p.recording_id = of_recording
        );
    end if;
    if sounds is null then
        return;
    end if;
    if not exists (select from private.recording_keys as k where k.recording_id = of_recording) then
        perform private.end_transcription(of_recording, 'FAILED', 'data_key_missing');
        return;
    end if;
    update resguardo.transcripts as t
    set run = t.run + 1, status = case when t.is_retried then t.status else 'RUNNING' end,
        status_at = case t.status when 'PENDING' then private.now() else t.status_at end
    where t.recording_id = of_recording;
    if wanted.status = 'PENDING' then
        update private.transcript_chunks as p set failed_requests = 0
        where p.recording_id = of_recording and p.failed_requests > 0;
    end if;
    perform private.write_audit(
        'transcript.begin', 'ALLOWED', null, 'recording', of_recording || array_remove(sounds, of_recording),
        array[wanted.patient_id], array[wanted.consultation_id], array['object_key', 'data_key'], cardinality(sounds),
        null
    );
    return query
    select r.id, r.medium, s.object_key, r.size_bytes, private.lateness_ms(r, of_recording), private.voices_of(r),
        k.wrapped_key, k.root_key_id, wanted.chunks_total is not null, wanted.run + 1,
        private.spoken_language(wanted.consultation_id)
    from resguardo.recordings as r
    inner join private.recording_secrets as s on s.recording_id = r.id
    inner join private.recording_keys as k on k.recording_id = of_recording
    where r.id = any (sounds)
    order by r.id = of_recording, r.started_at, r.id;
end
$$;

-- Stores the plan of a transcription, a list of chunks, unless a plan is already stored. If the sound contains no
-- speech, storing the plan also finishes the transcription.
create function private.store_chunks(of_recording uuid, chunks jsonb, unused_tracks smallint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null or wanted.chunks_total is not null then
        return;
    end if;
    insert into private.transcript_chunks (
        recording_id, number, sound, late_ms, label, speaker, participant_id, channel, source, start_ms, end_ms
    )
    select
        of_recording, p.place - 1, e.sound, e.late_ms, e.label, e.speaker, e.participant_id, e.channel, e.source,
        e.start_ms, e.end_ms
    from jsonb_array_elements(chunks) with ordinality as p (chunk, place)
    cross join lateral jsonb_to_record(p.chunk) as e (
        sound uuid, late_ms integer, label smallint, speaker text, participant_id uuid, channel smallint,
        source smallint, start_ms integer, end_ms integer
    );
    update resguardo.transcripts as t
    set chunks_total = jsonb_array_length(chunks), unused_track_count = unused_tracks
    where t.recording_id = of_recording;
    if jsonb_array_length(chunks) = 0 then
        perform private.end_transcription(of_recording, 'NO_SPEECH', null);
    end if;
end
$$;

-- Returns the chunks of a transcription that the speech service has not answered yet. If the recording may no longer
-- be transcribed, the function returns no chunk.
create function private.list_unanswered_chunks(of_recording uuid)
returns table (
    number integer, sound uuid, late_ms integer, channel smallint, source smallint, start_ms integer, end_ms integer,
    label smallint, speaker text, participant_id uuid
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    return query
    select
        p.number, p.sound, p.late_ms, p.channel, p.source, p.start_ms, p.end_ms, p.label, p.speaker, p.participant_id
    from private.transcript_chunks as p
    where p.recording_id = wanted.recording_id and p.answer is null
    order by p.number;
end
$$;

-- Returns whether the speech service has transcribed a chunk of this recording before.
create function private.is_any_chunk_transcribed(of_recording uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    return coalesce(wanted.is_retried, false) or exists (
        select from private.transcript_chunks as p
        where p.recording_id = wanted.recording_id and p.answer is not null and not p.is_unintelligible
    );
end
$$;

-- Returns, right before a request to the speech service, whether the worker must send a chunk. The result is false if
-- the chunk already has an answer, and null if the recording may no longer be transcribed. Raises RG409
-- (transcription_overtaken) if a different worker has taken over the transcription.
create function private.is_chunk_wanted(of_recording uuid, of_run integer, of_chunk integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null then
        return null;
    end if;
    if wanted.run <> of_run then
        raise exception 'transcription_overtaken' using errcode = 'RG409';
    end if;
    return exists (
        select from private.transcript_chunks as p
        where p.recording_id = of_recording and p.number = of_chunk and p.answer is null
    );
end
$$;

-- Counts a request to the speech service that returned no usable answer for a chunk, because the service may still
-- charge for it. Returns how many requests for the chunk brought no usable answer.
create function private.count_failed_request(of_recording uuid, of_chunk integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    times integer;
begin
    update private.transcript_chunks as p set failed_requests = p.failed_requests + 1
    where p.recording_id = of_recording and p.number = of_chunk
    returning p.failed_requests into times;
    return coalesce(times, 0);
end
$$;

-- Stores the speech service's encrypted answer for a chunk, unless an answer is already stored. The function accepts
-- the answer from any worker, because the speech service charges for it. If the recording may no longer be
-- transcribed, the function stores nothing. `gives_up` marks a chunk as unintelligible after the last attempt to
-- transcribe it.
create function private.store_answer(
    of_recording uuid, of_chunk integer, new_answer bytea, gives_up boolean
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    update private.transcript_chunks as p set answer = new_answer, is_unintelligible = gives_up
    where p.recording_id = wanted.recording_id and p.number = of_chunk and p.answer is null;
    if found then
        update resguardo.transcripts as t set chunks_done = t.chunks_done + 1 where t.recording_id = of_recording;
    end if;
end
$$;

-- Writes the audit row, and returns all answers of the speech service for a transcript. Returns no row while a chunk
-- of the transcript has no answer. `turn` is the turn of a READY transcript that the chunk's answer will replace.
create function private.read_answers(of_recording uuid)
returns table (number integer, answer bytea, is_unintelligible boolean, turn integer)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null or wanted.chunks_done is distinct from wanted.chunks_total then
        return;
    end if;
    perform private.write_audit(
        'transcript.assemble', 'ALLOWED', null, 'recording', array[of_recording], array[wanted.patient_id],
        array[wanted.consultation_id], array['text'], wanted.chunks_total, null
    );
    return query
    select p.number, p.answer, p.is_unintelligible, p.turn
    from private.transcript_chunks as p
    where p.recording_id = of_recording
    order by p.number;
end
$$;

-- Writes the audit row, and returns the encrypted text and the corrections of a READY transcript that is being
-- retried. Returns no row if the transcript is not READY or not being retried.
create function private.read_retried_transcript(of_recording uuid)
returns table (ciphertext bytea, corrections bytea[])
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null or not wanted.is_retried then
        return;
    end if;
    perform private.write_audit(
        'transcript.assemble', 'ALLOWED', null, 'recording', array[of_recording], array[wanted.patient_id],
        array[wanted.consultation_id], array['text'], 1, null
    );
    return query
    select
        w.ciphertext,
        array(
            select x.ciphertext from private.transcript_corrections as x
            where x.recording_id = w.recording_id order by x.number
        )
    from private.transcript_texts as w
    where w.recording_id = of_recording;
end
$$;

-- Stores the text and its search terms and sets the transcript to READY, or to NO_SPEECH if it has no text.
-- Unintelligible chunks are kept together with the numbers of their turns, so that they can be retried. When the
-- transcription ends, the function deletes the rows of all chunks except the unintelligible ones. Raises RG409
-- (concurrent_change) if the transcript was corrected after the worker read it.
create function private.finish_transcription(
    of_recording uuid, of_language text, new_text bytea, new_terms bigint[], corrections integer,
    turns_without_text integer, unintelligible_chunks integer[], unintelligible_turns integer[]
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null then
        return;
    end if;
    if corrections <> (
        select count(*) from private.transcript_corrections as c where c.recording_id = of_recording
    ) then
        raise exception 'concurrent_change' using errcode = 'RG409';
    end if;
    if wanted.is_retried then
        update private.transcript_texts as w set ciphertext = new_text, terms = new_terms
        where w.recording_id = of_recording;
    elsif new_text is not null then
        insert into private.transcript_texts (recording_id, ciphertext, terms)
        values (of_recording, new_text, new_terms);
    end if;
    delete from private.transcript_chunks as p where p.recording_id = of_recording and not p.is_unintelligible;
    update private.transcript_chunks as p set turn = u.turn
    from unnest(unintelligible_chunks, unintelligible_turns) as u (number, turn)
    where p.recording_id = of_recording and p.number = u.number;
    update resguardo.transcripts as t set language = of_language, unintelligible_count = turns_without_text
    where t.recording_id = of_recording;
    perform private.end_transcription(
        of_recording, case when new_text is null then 'NO_SPEECH' else 'READY' end, null
    );
end
$$;

-- Ends a transcription that cannot be completed, as FAILED, or as OFF if the worker sent no request to the speech
-- service.
create function private.give_up_transcription(of_recording uuid, ended_as text, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is not null then
        perform private.end_transcription(of_recording, ended_as, why);
    end if;
end
$$;

-- Queues a job for each unfinished transcription that has no job, and returns how many jobs it queued. A
-- transcription loses its job if a worker is wrongly considered dead, and then ends the job that its successor runs.
-- A transcription that waits for a sound recording also gets a job, which then does nothing.
create function private.resume_transcriptions() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    idle constant uuid[] := array(
        select t.recording_id from resguardo.transcripts as t
        where (t.status in ('PENDING', 'RUNNING') or t.is_retried) and not private.is_to_be_destroyed(t.recording_id)
            and not exists (
                select from jobs.procrastinate_jobs as j
                where j.lock = 'transcribe_recording:' || t.recording_id and j.status in ('todo', 'doing')
            )
    );
begin
    perform private.put_job('transcribe_recording', i.id) from unnest(idle) as i (id);
    return cardinality(idle);
end
$$;


-- 52_transcript_search.sql

-- The search in transcripts, which uses an index of keyed hashes of the transcripts' words (a blind index).

create table private.word_index_key (
    is_the_only_one boolean primary key default true
    constraint word_index_key_is_alone check (is_the_only_one),
    wrapped_key bytea not null
    constraint word_index_key_wrapped_key_length check (length(wrapped_key) between 40 and 64),
    root_key_id text not null
    constraint word_index_key_root_key_id_fkey references private.root_keys (id)
);
create index word_index_key_root_key_idx on private.word_index_key (root_key_id);

-- Stores the key of the word index unless a key is already stored, and returns the key that is now stored. If two
-- processes create a key at once, both get the key that was stored first.
create function private.word_index_key(new_wrapped bytea, new_root_key text)
returns table (wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.word_index_key (wrapped_key, root_key_id) values (new_wrapped, new_root_key)
    on conflict do nothing;
    return query select k.wrapped_key, k.root_key_id from private.word_index_key as k;
end
$$;

-- A search of the transcripts, until its transaction commits. The commit then writes the audit row of the search and
-- deletes the row here, so the table is empty outside of searches. The audit row cannot be written earlier, because it
-- also names what the hits show, and only the API can find the hits, in the decrypted text.
create table private.searches (
    id uuid constraint searches_pkey primary key default gen_random_uuid(),
    named_kind text,
    named_id uuid,
    is_own boolean,
    recording_ids uuid[] not null,
    patient_ids uuid[] not null,
    consultation_ids uuid[] not null,
    fields text[] not null,
    shown jsonb not null default '[]'
);
comment on table private.searches is 'Searches of transcripts whose transaction has not committed. They have no words.';
comment on column private.searches.recording_ids is 'The recordings whose encrypted transcripts the API got.';
comment on column private.searches.shown is 'The entities that the hits show: for each type an object with its ids.';

-- Writes the audit row of a search, and deletes the search.
create function private.write_search() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    search private.searches;
begin
    delete from private.searches as s where s.id = new.id returning s.* into search;
    perform private.write_lookup(
        'transcript.search', 'recording', search.named_kind, search.named_id, search.is_own,
        private.entities_of('recording', search.recording_ids) || search.shown,
        search.patient_ids, search.consultation_ids, cardinality(search.recording_ids), search.fields
    );
    return null;
end
$$;

create constraint trigger searches_write_audit after insert on private.searches
deferrable initially deferred for each row execute function private.write_search();
alter table private.searches enable always trigger searches_write_audit;

-- Adds the entities that the hits of a search show to the audit row of the search. Returns whether the caller's
-- transaction contains the search.
create function private.add_shown_hits(of_search uuid, shown_entities jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.doctor();
    update private.searches as s set shown = s.shown || shown_entities where s.id = of_search;
    return found;
end
$$;

-- Returns the caller's newest transcripts that may contain all search terms, still encrypted. Before that, stores the
-- search, so that the commit of the transaction writes an audit row that names these transcripts' recordings. The
-- function also returns the id of the search, and whether it left out older transcripts, because the transcripts exceed
-- the given number or 40 MiB together. The search leaves out sensitive kinds of consultation unless the caller asks for
-- them. The search leaves out transcripts of recordings that are to be destroyed. The query reads the index on `terms`
-- first. Postgres's planner does not know the cost of reading `terms` from TOAST storage, and would otherwise read the
-- terms of all transcripts of the doctor.
create function private.search_transcripts(
    of_terms bigint[], of_patient uuid, of_consultation uuid, of_recording uuid, since timestamptz, until timestamptz,
    with_sensitive boolean, most integer, of_fields text[]
) returns table (
    search_id uuid, recording_id uuid, ciphertext bytea, wrapped bytea, root_key text, corrections bytea[],
    is_cut boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan set enable_seqscan = off
as $$
declare
    doctor constant uuid := private.doctor();
    most_bytes constant bigint := 41943040;
    hits uuid[];
    named_kind text;
    named uuid;
    is_own boolean;
    leaves_some_out boolean;
    new_id constant uuid := gen_random_uuid();
begin
    perform private.use_quota(doctor, 'pages');
    if cardinality(of_terms) = 0 then
        raise exception 'search_empty' using errcode = 'RG409';
    end if;
    with matching as materialized (
        select w.recording_id, length(w.ciphertext) as size_bytes
        from private.transcript_texts as w
        where w.terms @> of_terms
    ),

    found as (
        select m.recording_id, c.scheduled_at, m.size_bytes
        from matching as m
        inner join resguardo.transcripts as t on t.recording_id = m.recording_id
        inner join resguardo.consultations as c on c.id = t.consultation_id
        where t.doctor_id = doctor and c.doctor_id = doctor and t.status = 'READY'
            and (of_patient is null or t.patient_id = of_patient)
            and (of_consultation is null or t.consultation_id = of_consultation)
            and (of_recording is null or t.recording_id = of_recording)
            and (since is null or c.scheduled_at >= since)
            and (until is null or c.scheduled_at < until)
            and (with_sensitive or c.sensitivity = 'ORDINARY')
            and not exists (
                select from resguardo.deletions as d
                where d.recording_id = m.recording_id and d.status in ('REQUESTED', 'DELETING')
            )
        order by c.scheduled_at desc, m.recording_id desc
        limit most + 1
    ),

    sized as (
        select
            f.recording_id,
            row_number() over newest as place,
            sum(
                f.size_bytes + coalesce(
                    (
                        select sum(length(x.ciphertext)) from private.transcript_corrections as x
                        where x.recording_id = f.recording_id
                    ), 0
                )
            ) over newest as bytes_so_far
        from found as f
        window newest as (order by f.scheduled_at desc, f.recording_id desc)
    ),

    taken as (
        select s.recording_id, s.place, s.place = 1 or (s.place <= most and s.bytes_so_far <= most_bytes) as is_taken
        from sized as s
    )

    select
        coalesce(array_agg(k.recording_id order by k.place) filter (where k.is_taken), '{}'),
        not coalesce(bool_and(k.is_taken), true)
    into hits, leaves_some_out
    from taken as k;
    if cardinality(hits) = 0 then
        select f.kind, f.id, f.is_own into named_kind, named, is_own
        from (
            values
            ('recording', of_recording, exists (
                select from resguardo.recordings as r where r.id = of_recording and r.doctor_id = doctor
            )),
            ('consultation', of_consultation, exists (
                select from resguardo.consultations as c where c.id = of_consultation and c.doctor_id = doctor
            )),
            ('patient', of_patient, exists (
                select from resguardo.consultations as c where c.patient_id = of_patient and c.doctor_id = doctor
            ))
        ) as f (kind, id, is_own)
        where f.id is not null
        order by f.is_own
        limit 1;
    end if;
    insert into private.searches (
        id, named_kind, named_id, is_own, recording_ids, patient_ids, consultation_ids, fields
    ) values (
        new_id, named_kind, named, is_own, hits,
        array(
            select distinct t.patient_id from resguardo.transcripts as t where t.recording_id = any (hits)
        ),
        array(
            select distinct t.consultation_id from resguardo.transcripts as t where t.recording_id = any (hits)
        ),
        of_fields
    );
    return query
    select
        new_id, t.recording_id, w.ciphertext, k.wrapped_key, k.root_key_id,
        array(
            select x.ciphertext from private.transcript_corrections as x
            where x.recording_id = t.recording_id order by x.number
        ),
        leaves_some_out
    from unnest(hits) with ordinality as h (id, place)
    inner join resguardo.transcripts as t on t.recording_id = h.id
    inner join private.transcript_texts as w on w.recording_id = t.recording_id
    inner join private.recording_keys as k on k.recording_id = t.recording_id
    order by h.place;
end
$$;

-- Returns the key of the word index for a search, or no row if no transcript has been indexed yet.
create function private.read_word_index_key() returns table (wrapped bytea, root_key text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.person();
    return query select k.wrapped_key, k.root_key_id from private.word_index_key as k;
end
$$;

-- Locks and returns the key of the word index if it is wrapped by a root key other than the current one.
create function private.lock_word_index_key(current_root_key text) returns table (wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select k.wrapped_key, k.root_key_id from private.word_index_key as k
    where k.root_key_id <> current_root_key for update;
end
$$;

-- Stores the key of the word index, wrapped by a new root key.
create function private.rewrap_word_index_key(wrapped_after bytea, root_key text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.word_index_key as k set wrapped_key = wrapped_after, root_key_id = root_key;
    perform private.write_audit(
        'transcript.rewrap_index_key', 'ALLOWED', null, 'deployment', null, null, null, array['index_key'], 1, null
    );
end
$$;


-- 53_subtitles.sql

-- Subtitle links, with which a video player reads subtitles without an access token.

create table private.subtitle_links (
    secret_sha256 bytea primary key
    constraint subtitle_links_secret_sha256_length check (length(secret_sha256) = 32),
    recording_id uuid not null
    constraint subtitle_links_recording_id_fkey references resguardo.transcripts (recording_id),
    claims jsonb not null,
    expires_at timestamptz not null
);
comment on column private.subtitle_links.claims is
'The claims of the person who asked for the link, with the session fingerprint in place of the session id.';
create index subtitle_links_recording_idx on private.subtitle_links (recording_id);
create index subtitle_links_expires_idx on private.subtitle_links (expires_at);

-- Stores a subtitle link of the caller's own recording under the hash of the link's secret. Returns null if the
-- caller may not see the recording or it has no transcript text. A subtitle link expires no later than the access
-- token with which it was requested. The function also deletes expired subtitle links. Raises RG409
-- (recording_being_deleted).
create function private.store_subtitle_link(of_recording uuid, secret_sha256 bytea, lifetime_seconds integer)
returns timestamptz
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.transcripts;
    until constant timestamptz := private.link_expiry(lifetime_seconds);
begin
    perform private.use_quota(private.person(), 'subtitles');
    wanted := private.find_transcript('transcript.issue_url', of_recording, '[]', array['text'], is_locked => false);
    if wanted.status = 'READY' and private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    if wanted.status is distinct from 'READY' then
        return null;
    end if;
    delete from private.subtitle_links as l where l.expires_at < now() - interval '1 day';
    insert into private.subtitle_links (secret_sha256, recording_id, claims, expires_at)
    values (secret_sha256, of_recording, private.claims_for_link(until), until);
    return until;
end
$$;

-- Returns the claims and the recording of a subtitle link to the API's database login, or no row for an unknown or
-- expired link.
create function private.read_subtitle_link(secret bytea) returns table (claims jsonb, of_recording uuid)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select private.claims_of_link(l.claims), l.recording_id
    from private.subtitle_links as l
    where l.secret_sha256 = sha256(secret) and l.expires_at > now();
end
$$;


-- 54_insights.sql

-- Insights into recordings: the progress of the writing, and the text, which is encrypted with the recording's data
-- key. The doctor's own actions are here. 55_insights_writing.sql has the worker's steps.

create table resguardo.insights (
    recording_id uuid primary key
    constraint insights_recording_id_fkey references resguardo.recordings (id),
    id uuid not null default gen_random_uuid() constraint insights_id_key unique,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    status text not null
    constraint insights_status_is_known check (
        status in ('PENDING', 'RUNNING', 'READY', 'STALE', 'NO_SPEECH', 'FAILED', 'OFF')
    ),
    error text constraint insights_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    part_count integer constraint insights_part_count_range check (part_count > 0),
    parts_done integer not null default 0
    constraint insights_parts_done_range check (parts_done between 0 and coalesce(part_count, 0)),
    attempt integer not null default 1 constraint insights_attempt_range check (attempt > 0),
    generation integer not null default 1 constraint insights_generation_range check (generation > 0),
    run integer not null default 0 constraint insights_run_range check (run >= 0),
    corrections_used integer not null default 0
    constraint insights_corrections_used_range check (corrections_used >= 0),
    is_outdated boolean not null default false,
    is_refreshed boolean not null default false,
    language text constraint insights_language_is_code check (language ~ '^[a-z]{2,3}$'),
    vendor text constraint insights_vendor_length check (length(vendor) between 1 and 255),
    model text constraint insights_model_length check (length(model) between 1 and 255),
    dropped_count integer not null default 0 constraint insights_dropped_count_range check (dropped_count >= 0),
    dismissed_count integer not null default 0
    constraint insights_dismissed_count_range check (dismissed_count >= 0),
    written_at timestamptz,
    created_at timestamptz not null default private.now(),
    status_at timestamptz not null default private.now(),
    changed_at timestamptz not null default private.now(),
    constraint insights_people_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint insights_error_says_why check (
        status in ('READY', 'STALE', 'PENDING') or (error is not null) = (status in ('FAILED', 'OFF'))
    ),
    constraint insights_refreshed_is_stale check (status = 'STALE' or not is_refreshed)
);
alter table resguardo.insights enable row level security;
comment on column resguardo.insights.error is
'Why they are FAILED or OFF. PENDING: why the work is held back. STALE: why the last refresh ended without insights.';
comment on column resguardo.insights.part_count is
'The number of parts of the transcript, with one request each. Null until the worker has divided the transcript.';
comment on column resguardo.insights.generation is
'The number of the insights that the worker writes now or wrote last. Each refresh begins a new generation.';
comment on column resguardo.insights.run is
'Counts how often a worker began or resumed. Only the newest worker may send requests to the language service.';
comment on column resguardo.insights.corrections_used is
'How many corrections of the transcript the present generation is based on.';
comment on column resguardo.insights.is_outdated is
'Whether the transcript has changed since the worker divided it for the present generation.';
comment on column resguardo.insights.is_refreshed is
'Whether the worker writes a new generation of STALE insights. The old generation stays readable meanwhile.';
comment on column resguardo.insights.language is
'The language in which the readable generation is written. The columns down to written_at describe that generation.';
comment on column resguardo.insights.dropped_count is
'How many lines of the language model were left out, because their quotes are not in the transcript.';
comment on column resguardo.insights.dismissed_count is 'How many lines the doctor has dismissed as wrong.';
comment on column resguardo.insights.changed_at is 'When subscriptions were last notified of a change.';
create index insights_consultation_idx on resguardo.insights (consultation_id, doctor_id, patient_id);
create index insights_doctor_idx on resguardo.insights (doctor_id, changed_at desc, recording_id desc);
create index insights_patient_idx on resguardo.insights (patient_id);
create index insights_unfinished_idx on resguardo.insights (recording_id)
where status in ('PENDING', 'RUNNING') or is_refreshed;

create table private.insight_answers (
    recording_id uuid not null
    constraint insight_answers_recording_id_fkey references resguardo.insights (recording_id),
    part integer not null constraint insight_answers_part_range check (part >= 0),
    round smallint not null constraint insight_answers_round_range check (round in (0, 1)),
    request_count integer not null default 0
    constraint insight_answers_request_count_range check (request_count >= 0),
    ciphertext bytea
    constraint insight_answers_ciphertext_length check (length(ciphertext) between 29 and 16777216),
    constraint insight_answers_pkey primary key (recording_id, part, round)
);
comment on table private.insight_answers is
'The requests to the language service and its answers, encrypted, until insights are made of them.';
comment on column private.insight_answers.round is
'0 for the first request about a part. 1 for the second, which lists the errors of the first answer.';
comment on column private.insight_answers.request_count is
'How many requests were sent, and possibly paid for. The count is stored before a request is sent.';
comment on column private.insight_answers.ciphertext is 'The answer, encrypted; null until there is one.';

create table private.insight_texts (
    recording_id uuid primary key
    constraint insight_texts_recording_id_fkey references resguardo.insights (recording_id),
    generation integer not null constraint insight_texts_generation_range check (generation > 0),
    ciphertext bytea not null
    constraint insight_texts_ciphertext_length check (length(ciphertext) between 29 and 67108864),
    topics bytea
    constraint insight_texts_topics_length check (length(topics) between 29 and 1048576)
);
comment on column private.insight_texts.topics is
'The names of the topics with the numbers of their lines, encrypted. A list of recordings shows them.';

create table private.insight_dismissals (
    recording_id uuid not null
    constraint insight_dismissals_recording_id_fkey references resguardo.insights (recording_id),
    generation integer not null constraint insight_dismissals_generation_range check (generation > 0),
    line_number integer not null constraint insight_dismissals_line_number_range check (line_number > 0),
    dismissed_by uuid not null
    constraint insight_dismissals_dismissed_by_fkey references resguardo.staff (user_id),
    dismissed_at timestamptz not null default private.now(),
    constraint insight_dismissals_pkey primary key (recording_id, generation, line_number)
);
create index insight_dismissals_dismissed_by_idx on private.insight_dismissals (dismissed_by);

create trigger insights_announce after insert on resguardo.insights
for each row execute function private.announce_change();

create trigger insights_announce_progress before update on resguardo.insights
for each row when (
    (new.status, new.error, new.attempt, new.part_count, new.parts_done, new.is_refreshed, new.dismissed_count)
    is distinct from
    (old.status, old.error, old.attempt, old.part_count, old.parts_done, old.is_refreshed, old.dismissed_count)
) execute function private.announce_change();

-- Writes the audit row, and returns the insights into a doctor's own recording. The audit row names the recording and
-- the entities in `shown`, which the calling statement has read. The function locks the insights if the doctor's
-- action changes them. For `insights.retry` and `insights.refresh` the function writes no audit row if it finds the
-- insights, because the statement that shows the recording writes the row. Returns null if the recording belongs to a
-- different doctor, does not exist or has no insights, so the caller cannot tell these cases apart. Raises RG409
-- (recording_deleted).
create function private.find_insights(
    of_action text, of_recording uuid, shown jsonb, of_fields text[], is_locked boolean
) returns resguardo.insights
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    is_own boolean;
    is_deleted boolean;
    wanted resguardo.insights;
begin
    select r.doctor_id = doctor, r.status = 'DELETED' into is_own, is_deleted
    from resguardo.recordings as r where r.id = of_recording;
    if is_own and is_deleted then
        raise exception 'recording_deleted' using errcode = 'RG409';
    elsif is_own and is_locked then
        select i.* into wanted from resguardo.insights as i where i.recording_id = of_recording for update;
    elsif is_own then
        select i.* into wanted from resguardo.insights as i where i.recording_id = of_recording;
    end if;
    if of_action not in ('insights.retry', 'insights.refresh') or wanted.recording_id is null then
        perform private.write_lookup(
            of_action, 'recording', 'recording', of_recording, is_own,
            private.entities_of('recording', array_remove(array[wanted.recording_id], null)) || shown,
            array[wanted.patient_id], array[wanted.consultation_id],
            coalesce(wanted.status in ('READY', 'STALE'), false)::integer, of_fields
        );
    end if;
    return wanted;
end
$$;

-- Returns the encrypted insights into the caller's own recording, the recording's data key, and the numbers of the
-- dismissed lines. Before that, writes the audit row, which also names the entities in `shown` and the fields in
-- `of_fields`: what the statement that calls this function reads besides the text. Returns no row unless the insights
-- are READY or STALE. Raises RG409 (recording_being_deleted) if the deletion of the recording was requested.
create function private.open_insights(of_action text, of_recording uuid, shown jsonb, of_fields text[])
returns table (
    id uuid, status text, generation integer, language text, vendor text, model text, dropped_count integer,
    written_at timestamptz, is_refreshed boolean, ciphertext bytea, wrapped bytea, root_key text, dismissed integer[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.insights;
begin
    if of_action is null or of_action not in ('insights.read', 'insights.dismiss') then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    perform private.use_quota(private.person(), 'pages');
    wanted := private.find_insights(
        of_action, of_recording, shown, of_fields, is_locked => of_action = 'insights.dismiss'
    );
    if wanted.status in ('READY', 'STALE') and private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    return query
    select
        wanted.id, wanted.status, w.generation, wanted.language, wanted.vendor, wanted.model, wanted.dropped_count,
        wanted.written_at, wanted.is_refreshed, w.ciphertext, k.wrapped_key, k.root_key_id,
        array(
            select d.line_number from private.insight_dismissals as d
            where d.recording_id = w.recording_id and d.generation = w.generation order by d.line_number
        )
    from private.insight_texts as w
    inner join private.recording_keys as k on k.recording_id = w.recording_id
    where w.recording_id = wanted.recording_id and wanted.status in ('READY', 'STALE');
end
$$;

-- Dismisses a line of insights that were opened for a dismissal in this transaction. A second dismissal of the same
-- line changes nothing. Raises RG409 (insights_changed) if the caller's recording has no readable insights of this
-- generation, or is being destroyed.
create function private.dismiss_insight(of_recording uuid, of_generation integer, of_line integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    perform from resguardo.insights as i
    inner join private.insight_texts as w on w.recording_id = i.recording_id and w.generation = of_generation
    where i.recording_id = of_recording and i.doctor_id = doctor and i.status in ('READY', 'STALE')
    for update of i;
    if not found or private.is_to_be_destroyed(of_recording) then
        raise exception 'insights_changed' using errcode = 'RG409';
    end if;
    insert into private.insight_dismissals (recording_id, generation, line_number, dismissed_by)
    values (of_recording, of_generation, of_line, doctor)
    on conflict do nothing;
    if found then
        update resguardo.insights as i set dismissed_count = i.dismissed_count + 1
        where i.recording_id = of_recording;
    end if;
end
$$;

-- Raises RG409 if the insights into a recording may not be written now: insights_switched_off,
-- insights_consent_withdrawn, insights_consent_text or recording_being_deleted.
create function private.require_insights_allowed(of_insights resguardo.insights) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    objection constant text := private.insights_objection(of_insights.consultation_id);
begin
    if private.is_to_be_destroyed(of_insights.recording_id) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    elsif objection = 'switched_off' then
        raise exception 'insights_switched_off' using errcode = 'RG409';
    elsif objection = 'consent_withdrawn' then
        raise exception 'insights_consent_withdrawn' using errcode = 'RG409';
    elsif objection = 'consent_text' then
        raise exception 'insights_consent_text' using errcode = 'RG409';
    end if;
end
$$;

-- Begins FAILED insights again, or OFF insights if they may be written now. The answers of the language service that
-- are already stored stay, and are not requested again. Returns false, and writes an audit row, if the recording does
-- not belong to the caller or has no insights. If the function returns true, the statement that shows the recording
-- writes the audit row. Raises RG409 (insights_not_failed) and the errors of `require_insights_allowed`.
create function private.retry_insights(of_recording uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights :=
        private.find_insights('insights.retry', of_recording, '[]', array['insights'], is_locked => true);
begin
    if wanted.recording_id is null then
        return false;
    end if;
    if wanted.status not in ('FAILED', 'OFF') then
        raise exception 'insights_not_failed' using errcode = 'RG409';
    end if;
    perform private.require_insights_allowed(wanted);
    update private.insight_answers as a set request_count = 0
    where a.recording_id = of_recording and a.ciphertext is null;
    update resguardo.insights as i
    set status = 'PENDING', error = null, attempt = i.attempt + 1, status_at = private.now()
    where i.recording_id = of_recording;
    perform private.put_job('write_insights', of_recording);
    return true;
end
$$;

-- Begins a new generation of STALE insights. The old generation stays readable until the new one is READY. A refresh
-- of insights that are being refreshed changes nothing. Returns false, and writes an audit row, if the recording does
-- not belong to the caller or has no insights. If the function returns true, the statement that shows the recording
-- writes the audit row. Raises RG409 (insights_not_stale) and the errors of `require_insights_allowed`.
create function private.refresh_insights(of_recording uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights :=
        private.find_insights('insights.refresh', of_recording, '[]', array['insights'], is_locked => true);
begin
    if wanted.recording_id is null or wanted.is_refreshed then
        return wanted.recording_id is not null;
    end if;
    if wanted.status <> 'STALE' then
        raise exception 'insights_not_stale' using errcode = 'RG409';
    end if;
    perform private.require_insights_allowed(wanted);
    delete from private.insight_answers as a where a.recording_id = of_recording;
    update resguardo.insights as i
    set is_refreshed = true, error = null, attempt = i.attempt + 1, generation = i.generation + 1, part_count = null,
        parts_done = 0
    where i.recording_id = of_recording;
    perform private.put_job('write_insights', of_recording);
    return true;
end
$$;

-- Deletes the insights into a recording, and returns how many rows it deleted from each table. A worker that writes
-- text locks the insights' row, so clear_insights() waits for the worker and then deletes this text, too.
create function private.clear_insights(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    tables constant text[] := array['insight_answers', 'insight_dismissals', 'insight_texts'];
    of_table text;
    rows_cleared bigint;
    cleared jsonb := '[]';
begin
    perform from resguardo.insights as i where i.recording_id = of_recording for update;
    foreach of_table in array tables loop
        execute format('delete from private.%I where recording_id = $1', of_table) using of_recording;
        get diagnostics rows_cleared = row_count;
        if rows_cleared > 0 then
            cleared := cleared || jsonb_build_object('table', of_table, 'rows', rows_cleared);
        end if;
    end loop;
    update resguardo.insights as i
    set status = 'OFF', error = 'recording_destroyed', is_refreshed = false, dropped_count = 0, dismissed_count = 0,
        status_at = private.now()
    where i.recording_id = of_recording and i.error is distinct from 'recording_destroyed';
    return cleared;
end
$$;


-- 55_insights_writing.sql

-- The SQL functions with which the worker writes insights. Each step checks again whether the insights may still be
-- written.

-- When a transcript becomes READY, adds the recording's insights, and queues the job that writes them if they may be
-- written. A transcript without speech has no insights.
create function private.await_insights() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    objection constant text := private.insights_objection(new.consultation_id);
begin
    insert into resguardo.insights (recording_id, consultation_id, doctor_id, patient_id, status)
    values (
        new.recording_id, new.consultation_id, new.doctor_id, new.patient_id,
        case new.status when 'READY' then 'PENDING' else new.status end
    )
    on conflict do nothing;
    if not found or new.status <> 'READY' then
        return null;
    end if;
    if objection is null then
        perform private.put_job('write_insights', new.recording_id);
    else
        perform private.end_insights(new.recording_id, 'OFF', objection);
    end if;
    return null;
end
$$;

create trigger transcripts_await_insights after update of status on resguardo.transcripts
for each row when (new.status in ('READY', 'NO_SPEECH') and old.status <> new.status)
execute function private.await_insights();

-- Marks the insights into a recording as outdated, because its transcript has changed. READY insights become STALE.
-- Insights that the worker is writing become STALE when they are finished.
create function private.outdate_insights() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.insights as i
    set is_outdated = true, status = case i.status when 'READY' then 'STALE' else i.status end,
        status_at = case i.status when 'READY' then private.now() else i.status_at end
    where i.recording_id = new.recording_id and not i.is_outdated;
    return null;
end
$$;

create trigger transcript_corrections_outdate_insights after insert on private.transcript_corrections
for each row execute function private.outdate_insights();

-- A retry of a READY transcript changes its text only if a turn is no longer unintelligible.
create trigger transcripts_outdate_insights after update of unintelligible_count on resguardo.transcripts
for each row when (
    old.status = 'READY' and new.status = 'READY' and new.unintelligible_count <> old.unintelligible_count
)
execute function private.outdate_insights();

-- Writes the audit row and ends the writing of insights. If STALE insights are being refreshed, they stay STALE and
-- keep their text.
create function private.end_insights(of_recording uuid, ended_as text, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ended resguardo.insights;
begin
    update resguardo.insights as i
    set status = case when i.is_refreshed then i.status else ended_as end, error = why, is_refreshed = false,
        status_at = private.now()
    where i.recording_id = of_recording
    returning i.* into ended;
    perform private.write_audit(
        'insights.transition', case ended_as when 'FAILED' then 'FAILED' else 'ALLOWED' end, why, 'recording',
        array[of_recording], array[ended.patient_id], array[ended.consultation_id], array['insights'], 1, null
    );
end
$$;

-- Locks and returns insights if the worker may continue to write them, and returns null otherwise. The worker may
-- continue if the insights are not finished, the recording is not to be destroyed, and no switch and no consent
-- forbids it. If a switch or a consent forbids it, the insights end as OFF.
create function private.lock_insights(of_recording uuid) returns resguardo.insights
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.insights;
    objection text;
begin
    select i.* into wanted from resguardo.insights as i where i.recording_id = of_recording for update;
    if wanted.recording_id is null or not (wanted.status in ('PENDING', 'RUNNING') or wanted.is_refreshed)
        or private.is_to_be_destroyed(of_recording)
    then
        return null;
    end if;
    objection := private.insights_objection(wanted.consultation_id);
    if objection is not null then
        perform private.end_insights(of_recording, 'OFF', objection);
        return null;
    end if;
    return wanted;
end
$$;

-- Returns whether the doctor's budget for language models is used up. If so, the insights say that they wait, and their
-- job is kept until the budget permits another request.
create function private.is_held_back(of_insights resguardo.insights) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if private.language_budget_left(of_insights.doctor_id) > 0 then
        return false;
    end if;
    update resguardo.insights as i
    set status = case when i.is_refreshed then i.status else 'PENDING' end, error = 'language_budget_used_up'
    where i.recording_id = of_insights.recording_id;
    perform private.hold_language_work(of_insights.recording_id, 'write_insights');
    return true;
end
$$;

-- Returns the language in which the insights into a recording are written, as a code of ISO 639-1: the spoken language
-- of the consultation, or else the language that the speech service detected, or else the language in which everybody
-- consented. The function returns null if all of them are unknown.
create function private.insights_language(of_insights resguardo.insights) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(lower(nullif(c.language, 'MIXED')), t.language, private.spoken_language(c.id))
        from resguardo.consultations as c
        left join resguardo.transcripts as t on t.recording_id = of_insights.recording_id
        where c.id = of_insights.consultation_id
    );
end
$$;

-- Writes the audit row, and begins or resumes the writing of insights. Returns the encrypted transcript, its
-- corrections, the recording's data key, and the answers of the language service that are already stored. Once an
-- answer is stored, the function returns only the corrections that existed before the first request, so that all parts
-- are based on the same text. A worker that began the same insights earlier may then send no further requests. Returns
-- no row if there is nothing to write now.
create function private.begin_insights(of_recording uuid, is_charged boolean)
returns table (
    generation integer, run integer, language text, corrections_used integer, duration_seconds double precision,
    is_truncated boolean, is_interrupted boolean, unused_track_count smallint, ciphertext bytea, corrections bytea[],
    wrapped bytea, root_key text, parts integer[], rounds smallint[], answers bytea[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights := private.lock_insights(of_recording);
    is_resumed boolean;
    of_corrections integer;
begin
    if wanted.recording_id is null or (is_charged and private.is_held_back(wanted)) then
        return;
    end if;
    if not exists (select from private.recording_keys as k where k.recording_id = of_recording) then
        perform private.end_insights(of_recording, 'FAILED', 'data_key_missing');
        return;
    end if;
    is_resumed := exists (
        select from private.insight_answers as a where a.recording_id = of_recording and a.ciphertext is not null
    );
    of_corrections := case
        when is_resumed then wanted.corrections_used
        else (select count(*) from private.transcript_corrections as c where c.recording_id = of_recording)
    end;
    update resguardo.insights as i
    set run = i.run + 1, status = case when i.is_refreshed then i.status else 'RUNNING' end, error = null,
        status_at = case i.status when 'PENDING' then private.now() else i.status_at end,
        corrections_used = of_corrections, is_outdated = i.is_outdated and is_resumed
    where i.recording_id = of_recording;
    perform private.write_audit(
        'insights.begin', 'ALLOWED', null, 'recording', array[of_recording], array[wanted.patient_id],
        array[wanted.consultation_id], array['text', 'data_key'], 1, null
    );
    return query
    select
        wanted.generation, wanted.run + 1, private.insights_language(wanted), of_corrections, r.duration_seconds,
        r.truncated, r.interrupted, t.unused_track_count, w.ciphertext,
        array(
            select c.ciphertext from private.transcript_corrections as c
            where c.recording_id = of_recording and c.number <= of_corrections order by c.number
        ),
        k.wrapped_key, k.root_key_id, coalesce(a.parts, '{}'), coalesce(a.rounds, '{}'), coalesce(a.answers, '{}')
    from private.transcript_texts as w
    inner join resguardo.transcripts as t on t.recording_id = w.recording_id
    inner join resguardo.recordings as r on r.id = w.recording_id
    inner join private.recording_keys as k on k.recording_id = w.recording_id
    cross join lateral (
        select
            array_agg(x.part order by x.part, x.round) as parts, array_agg(x.round order by x.part, x.round) as rounds,
            array_agg(x.ciphertext order by x.part, x.round) as answers
        from private.insight_answers as x
        where x.recording_id = of_recording and x.ciphertext is not null
    ) as a
    where w.recording_id = of_recording;
end
$$;

-- Stores into how many parts the worker has divided the transcript.
create function private.store_part_count(of_recording uuid, of_run integer, parts integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights := private.lock_insights(of_recording);
begin
    if wanted.run = of_run then
        update resguardo.insights as i set part_count = parts, parts_done = least(i.parts_done, parts)
        where i.recording_id = of_recording;
    end if;
end
$$;

-- Counts a request to the language service right before the worker sends it, and returns whether the worker must send
-- it. The count is thus stored even if the worker dies while the service, which may charge for the request, answers.
-- The result is false if the answer is already stored, and null if the insights may no longer be written, or not today.
-- After five requests without an answer the insights end as FAILED. Raises RG409 (insights_overtaken) if a different
-- worker has taken over.
create function private.count_insight_request(
    of_recording uuid, of_run integer, of_part integer, of_round integer, is_charged boolean
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    most_requests constant integer := 5;
    wanted constant resguardo.insights := private.lock_insights(of_recording);
    stored private.insight_answers;
begin
    if wanted.recording_id is null then
        return null;
    end if;
    if wanted.run <> of_run then
        raise exception 'insights_overtaken' using errcode = 'RG409';
    end if;
    if is_charged and private.is_held_back(wanted) then
        return null;
    end if;
    insert into private.insight_answers as a (recording_id, part, round, request_count)
    values (of_recording, of_part, of_round, 1)
    on conflict (recording_id, part, round) do update
    set request_count = a.request_count + case when a.ciphertext is null then 1 else 0 end
    returning a.* into stored;
    if stored.ciphertext is not null then
        return false;
    elsif stored.request_count > most_requests then
        perform private.end_insights(of_recording, 'FAILED', 'insights_unanswered');
        return null;
    end if;
    return true;
end
$$;

-- Takes back the count of a request for which the language service did not charge, because the service was busy or
-- unreachable.
create function private.take_back_insight_request(of_recording uuid, of_part integer, of_round integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.insight_answers as a set request_count = greatest(0, a.request_count - 1)
    where a.recording_id = of_recording and a.part = of_part and a.round = of_round;
end
$$;

-- Stores the language service's encrypted answer for a part, unless an answer is already stored or the transcript's
-- text for the part has become another one. The function accepts the answer from any worker, because the service
-- charges for it. If the insights may no longer be written, the function stores nothing.
create function private.store_insight_answer(
    of_recording uuid, of_generation integer, corrections integer, of_part integer, of_round integer, answer bytea
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights := private.lock_insights(of_recording);
begin
    if wanted.generation = of_generation and wanted.corrections_used = corrections then
        update private.insight_answers as a set ciphertext = answer
        where a.recording_id = of_recording and a.part = of_part and a.round = of_round and a.ciphertext is null;
        update resguardo.insights as i
        set parts_done = least(
            i.part_count,
            (
                select count(*) from private.insight_answers as a
                where a.recording_id = of_recording and a.round = 0 and a.ciphertext is not null
            )
        )
        where i.recording_id = of_recording;
    end if;
end
$$;

-- Stores the encrypted insights of a generation, and their topics apart. Sets them to READY, or to STALE if the
-- transcript has changed since the first request. Deletes the answers of the language service, from which the insights
-- were made.
create function private.finish_insights(
    of_recording uuid, of_generation integer, of_run integer, new_text bytea, new_topics bytea, in_language text,
    of_vendor text, of_model text, dropped_lines integer
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights := private.lock_insights(of_recording);
begin
    if wanted.run is distinct from of_run or wanted.generation <> of_generation then
        return;
    end if;
    insert into private.insight_texts as w (recording_id, generation, ciphertext, topics)
    values (of_recording, of_generation, new_text, new_topics)
    on conflict (recording_id) do update
    set generation = excluded.generation, ciphertext = excluded.ciphertext, topics = excluded.topics;
    delete from private.insight_answers as a where a.recording_id = of_recording;
    update resguardo.insights as i
    set is_refreshed = false, language = in_language, vendor = of_vendor, model = of_model, dismissed_count = 0,
        dropped_count = dropped_lines, written_at = private.now(), parts_done = i.part_count
    where i.recording_id = of_recording;
    perform private.end_insights(of_recording, case when wanted.is_outdated then 'STALE' else 'READY' end, null);
end
$$;

-- Ends insights that cannot be finished: as FAILED, as OFF if no language service is configured, or as NO_SPEECH.
-- Deletes the answers for the given parts, from which no insights can be made, so that a retry requests them again.
create function private.give_up_insights(of_recording uuid, ended_as text, why text, useless_parts integer[])
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights := private.lock_insights(of_recording);
begin
    if wanted.recording_id is null then
        return;
    end if;
    delete from private.insight_answers as a where a.recording_id = of_recording and a.part = any (useless_parts);
    update resguardo.insights as i
    set parts_done = (
        select count(*) from private.insight_answers as a
        where a.recording_id = of_recording and a.round = 0 and a.ciphertext is not null
    )
    where i.recording_id = of_recording and i.part_count is not null;
    perform private.end_insights(of_recording, ended_as, why);
end
$$;

-- Queues a job for all unfinished insights that have no job, and returns how many jobs it queued. Insights lose their
-- job if a worker is wrongly considered dead, and then ends the job that its successor runs. Insights that wait for the
-- doctor's budget get their job from `resume_language_work`.
create function private.resume_insights() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    idle constant uuid[] := array(
        select i.recording_id from resguardo.insights as i
        where (i.status in ('PENDING', 'RUNNING') or i.is_refreshed) and not private.is_to_be_destroyed(i.recording_id)
            and not exists (
                select from private.held_language_work as h
                where h.recording_id = i.recording_id and h.task = 'write_insights'
            )
            and not exists (
                select from jobs.procrastinate_jobs as j
                where j.lock = 'write_insights:' || i.recording_id and j.status in ('todo', 'doing')
            )
    );
begin
    perform private.put_job('write_insights', d.id) from unnest(idle) as d (id);
    return cardinality(idle);
end
$$;


-- 56_questions.sql

-- Questions that a doctor asks about a transcript. A question and its answer are in clear only in the API's memory.
-- With an idempotency key, the language model's answer is kept for 24 hours, encrypted with the recording's data key,
-- so that a repeated call is not paid for twice.

create table private.questions (
    id uuid constraint questions_pkey primary key,
    recording_id uuid not null
    constraint questions_recording_id_fkey references resguardo.transcripts (recording_id),
    begun_at timestamptz not null default now(),
    ciphertext bytea
    constraint questions_ciphertext_length check (length(ciphertext) between 29 and 16777216)
);
comment on table private.questions is
'The questions that were asked with an idempotency key, until the key is deleted. The table contains no question.';
comment on column private.questions.begun_at is 'When the newest request to the language service for it began.';
comment on column private.questions.ciphertext is
'The answer of the language model, encrypted; null until there is one.';
create index questions_recording_idx on private.questions (recording_id);

-- Raises an error if the language service may not be asked about the caller's own recording now: RG409
-- (insights_switched_off, insights_consent_withdrawn, insights_consent_text), or RG429 (language_budget_used_up) if
-- the answer uses the budget.
create function private.require_question_allowed(of_recording uuid, uses_budget boolean) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    objection constant text := (
        select private.insights_objection(r.consultation_id) from resguardo.recordings as r
        where r.id = of_recording and r.doctor_id = doctor
    );
begin
    if objection is not null then
        raise exception 'insights_%', objection using errcode = 'RG409';
    elsif uses_budget then
        perform private.require_language_budget();
    end if;
end
$$;

-- Begins a question about the caller's own recording that was asked with an idempotency key. Returns the encrypted
-- answer instead if the question has been answered. Raises RG409 (question_running) if another call with the same key
-- began to ask less than `lease_seconds` ago and has not ended.
create function private.begin_question(of_question uuid, of_recording uuid, lease_seconds integer) returns bytea
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    answer bytea;
begin
    insert into private.questions as q (id, recording_id)
    select of_question, r.id from resguardo.recordings as r
    where r.id = of_recording and r.doctor_id = doctor
    on conflict (id) do update set begun_at = now()
    where q.recording_id = of_recording and q.ciphertext is null
        and q.begun_at < now() - make_interval(secs => lease_seconds);
    if found then
        return null;
    end if;
    select q.ciphertext into answer from private.questions as q
    where q.id = of_question and q.recording_id = of_recording;
    if answer is null then
        raise exception 'question_running' using errcode = 'RG409';
    end if;
    return answer;
end
$$;

-- Ends a question: counts the tokens of the language service's answer in the ledger of the recording, unless the
-- service reported none, and stores the encrypted answer to a question that was asked with an idempotency key, unless
-- the recording was destroyed meanwhile. Without an answer, the next call with the same key asks again at once.
create function private.end_question(
    of_question uuid, of_recording uuid, answer bytea, of_vendor text, of_model text, input_tokens bigint,
    cached_tokens bigint, output_tokens bigint
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if answer is null then
        delete from private.questions as q where q.id = of_question and q.ciphertext is null;
    else
        update private.questions as q set ciphertext = answer where q.id = of_question and q.ciphertext is null;
    end if;
    if of_vendor is not null then
        perform private.count_tokens(of_recording, of_vendor, of_model, input_tokens, cached_tokens, output_tokens);
    end if;
end
$$;

-- Raises RG409 (recording_being_deleted, recording_deleted) if the answer about the caller's own recording may no
-- longer be shown, because the deletion of the recording began while the language service was asked.
create function private.require_answer_shown(of_recording uuid) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    if private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    elsif not exists (
        select from resguardo.transcripts as t
        where t.recording_id = of_recording and t.doctor_id = doctor and t.status = 'READY'
    ) then
        raise exception 'recording_deleted' using errcode = 'RG409';
    end if;
end
$$;


-- 57_topics.sql

-- The topics of insights, which a list of recordings may show. They are encrypted apart from the insights, so that a
-- page of recordings decrypts little.

-- The recordings whose topics the running transaction has read. The statement that shows a recording writes the audit
-- row, and not `topics_of`, because one row names a whole page. At the commit, a trigger checks that the row was
-- written.
create table private.shown_topics (
    transaction_id xid8 constraint shown_topics_pkey primary key default pg_current_xact_id(),
    recording_ids uuid[] not null
);
comment on table private.shown_topics is
'The recordings whose topics the running transaction has read. The table is empty between transactions.';

-- Writes an audit row about the topics that the transaction has read, unless the transaction has already written a row
-- that names the field. No transaction can therefore read topics without an audit row.
create function private.audit_topics() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    shown private.shown_topics;
begin
    delete from private.shown_topics as s where s.transaction_id = new.transaction_id returning s.* into shown;
    if exists (
        select from (
            select e.fields, e.xmin as written_by from audit.events as e
            where e.actor_id = private.uid() order by e.recorded_at desc limit 20
        ) as n
        where n.written_by = pg_current_xact_id()::xid
            and exists (select from unnest(n.fields) as f (name) where f.name ~ '(^|[.])topics$')
    ) then
        return null;
    end if;
    perform private.write_audit(
        'insights.read', 'ALLOWED', null, 'recording', shown.recording_ids,
        array(select distinct r.patient_id from resguardo.recordings as r where r.id = any (shown.recording_ids)),
        array(select distinct r.consultation_id from resguardo.recordings as r where r.id = any (shown.recording_ids)),
        array['topics'], cardinality(shown.recording_ids), null
    );
    return null;
end
$$;

create constraint trigger shown_topics_audit after insert on private.shown_topics
deferrable initially deferred for each row execute function private.audit_topics();
alter table private.shown_topics enable always trigger shown_topics_audit;

-- Returns the encrypted topics of the calling doctor's own recording, with their generation, the recording's wrapped
-- data key and the numbers of the dismissed lines. Returns null for everybody else, for a recording without readable
-- insights, and for one that is to be destroyed.
create function private.topics_of(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_topics jsonb;
begin
    perform private.person();
    if current_setting('role') <> 'clinician' then
        return null;
    end if;
    select jsonb_build_object(
        'recording_id', i.recording_id, 'generation', w.generation, 'ciphertext', encode(w.topics, 'base64'),
        'wrapped', encode(k.wrapped_key, 'base64'), 'root_key', k.root_key_id,
        'dismissed', array(
            select d.line_number from private.insight_dismissals as d
            where d.recording_id = w.recording_id and d.generation = w.generation
        )
    )
    into found_topics
    from resguardo.insights as i
    inner join private.insight_texts as w on w.recording_id = i.recording_id
    inner join private.recording_keys as k on k.recording_id = i.recording_id
    where i.recording_id = of_recording and i.doctor_id = private.doctor() and i.status in ('READY', 'STALE')
        and w.topics is not null
        and not private.is_to_be_destroyed(of_recording);
    if found_topics is not null then
        insert into private.shown_topics as s (recording_ids) values (array[of_recording])
        on conflict (transaction_id) do update set recording_ids = s.recording_ids || excluded.recording_ids;
    end if;
    return found_topics;
end
$$;


-- 58_session_notes.sql

-- Session notes: the lines that a doctor writes during or after a consultation. Each line belongs to a recording of the
-- consultation, is encrypted with the recording's data key, and is deleted when the recording is destroyed.
--
-- Psychotherapy notes (45 CFR 164.501) have tables of their own. Only private.open_psychotherapy_notes() returns them,
-- and they are never part of a copy for an access request.

create table private.session_notes (
    id uuid primary key,
    recording_id uuid not null,
    consultation_id uuid not null,
    author_id uuid not null
    constraint session_notes_author_id_fkey references resguardo.staff (user_id),
    start_ms integer constraint session_notes_start_range check (start_ms between 0 and 86400000),
    version integer not null default 1 constraint session_notes_version_range check (version between 1 and 1000),
    ciphertext bytea not null
    constraint session_notes_ciphertext_length check (length(ciphertext) between 30 and 8192),
    changed_by uuid not null
    constraint session_notes_changed_by_fkey references resguardo.staff (user_id),
    written_at timestamptz not null default private.now(),
    changed_at timestamptz not null default private.now(),
    constraint session_notes_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint session_notes_recording_key unique (id, recording_id)
);
comment on column private.session_notes.start_ms is
'The time in the recording that the line is about, or null.';
comment on column private.session_notes.version is
'Counts the versions of the line. An edit names the version that it is based on.';
create index session_notes_recording_idx on private.session_notes (recording_id, consultation_id);
create index session_notes_consultation_idx on private.session_notes (consultation_id, written_at, id);
create index session_notes_author_idx on private.session_notes (author_id);
create index session_notes_changed_by_idx on private.session_notes (changed_by);

create table private.session_note_versions (
    note_id uuid not null,
    version integer not null constraint session_note_versions_version_range check (version between 1 and 999),
    recording_id uuid not null,
    start_ms integer,
    ciphertext bytea not null,
    changed_by uuid not null
    constraint session_note_versions_changed_by_fkey references resguardo.staff (user_id),
    changed_at timestamptz not null,
    constraint session_note_versions_pkey primary key (note_id, version),
    constraint session_note_versions_note_fkey foreign key (note_id, recording_id)
    references private.session_notes (id, recording_id)
);
comment on table private.session_note_versions is
'The earlier versions of session notes. An edit moves the version that it replaces into this table.';
create index session_note_versions_note_idx on private.session_note_versions (note_id, recording_id);
create index session_note_versions_recording_idx on private.session_note_versions (recording_id);
create index session_note_versions_changed_by_idx on private.session_note_versions (changed_by);

create table private.psychotherapy_notes (
    id uuid primary key,
    recording_id uuid not null,
    consultation_id uuid not null,
    author_id uuid not null
    constraint psychotherapy_notes_author_id_fkey references resguardo.staff (user_id),
    start_ms integer constraint psychotherapy_notes_start_range check (start_ms between 0 and 86400000),
    version integer not null default 1 constraint psychotherapy_notes_version_range check (version between 1 and 1000),
    ciphertext bytea not null
    constraint psychotherapy_notes_ciphertext_length check (length(ciphertext) between 30 and 8192),
    changed_by uuid not null
    constraint psychotherapy_notes_changed_by_fkey references resguardo.staff (user_id),
    written_at timestamptz not null default private.now(),
    changed_at timestamptz not null default private.now(),
    constraint psychotherapy_notes_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint psychotherapy_notes_recording_key unique (id, recording_id)
);
comment on table private.psychotherapy_notes is
'Psychotherapy notes (45 CFR 164.501), which are kept apart from the rest of the record.';
create index psychotherapy_notes_recording_idx on private.psychotherapy_notes (recording_id, consultation_id);
create index psychotherapy_notes_consultation_idx on private.psychotherapy_notes (consultation_id, written_at, id);
create index psychotherapy_notes_author_idx on private.psychotherapy_notes (author_id);
create index psychotherapy_notes_changed_by_idx on private.psychotherapy_notes (changed_by);

create table private.psychotherapy_note_versions (
    note_id uuid not null,
    version integer not null constraint psychotherapy_note_versions_version_range check (version between 1 and 999),
    recording_id uuid not null,
    start_ms integer,
    ciphertext bytea not null,
    changed_by uuid not null
    constraint psychotherapy_note_versions_changed_by_fkey references resguardo.staff (user_id),
    changed_at timestamptz not null,
    constraint psychotherapy_note_versions_pkey primary key (note_id, version),
    constraint psychotherapy_note_versions_note_fkey foreign key (note_id, recording_id)
    references private.psychotherapy_notes (id, recording_id)
);
create index psychotherapy_note_versions_note_idx on private.psychotherapy_note_versions (note_id, recording_id);
create index psychotherapy_note_versions_recording_idx on private.psychotherapy_note_versions (recording_id);
create index psychotherapy_note_versions_changed_by_idx on private.psychotherapy_note_versions (changed_by);

-- Notifies the subscriptions to a consultation that one of its session notes was written, changed or deleted.
create function private.announce_session_note() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    changed constant private.session_notes := coalesce(new, old);
begin
    perform pg_notify('resguardo_changes', concat_ws(' ', r.consultation_id, r.doctor_id, r.id))
    from resguardo.recordings as r where r.id = changed.recording_id;
    return null;
end
$$;

create trigger session_notes_announce after insert or update or delete on private.session_notes
for each row execute function private.announce_session_note();

-- Returns the id and the consultation of the recording of a note; returns nulls if the note does not exist.
create function private.find_note(
    is_psychotherapy boolean, of_note uuid, out of_recording uuid, out of_consultation uuid
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if is_psychotherapy then
        select n.recording_id, n.consultation_id into of_recording, of_consultation
        from private.psychotherapy_notes as n where n.id = of_note;
    else
        select n.recording_id, n.consultation_id into of_recording, of_consultation
        from private.session_notes as n where n.id = of_note;
    end if;
end
$$;

-- Locks and returns the recording whose notes a doctor changes, so that its destruction does not begin before the
-- transaction ends. If the recording belongs to a different doctor or does not exist, the function writes an audit row
-- with DENIED or ABSENT about the entity that the doctor named, and returns null. Raises RG409 (recording_deleted,
-- recording_being_deleted).
create function private.lock_noted_recording(
    of_action text, of_recording uuid, entity_type text, entity uuid
) returns resguardo.recordings
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    wanted resguardo.recordings;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording and r.medium = 'VIDEO';
    if wanted.id is null or wanted.doctor_id <> doctor then
        perform private.write_audit(
            of_action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', entity_type,
            array[entity], array_remove(array[wanted.patient_id], null),
            array_remove(array[wanted.consultation_id], null), '{}', 0, null
        );
        return null;
    end if;
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording for share;
    if wanted.status = 'DELETED' then
        raise exception 'recording_deleted' using errcode = 'RG409';
    elsif private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    return wanted;
end
$$;

-- Begins to write a note on a recording: locks the consultation and the recording, and returns the recording's data
-- key, and its duration if it has ended. If the recording has no data key yet, because it is not READY, the function
-- stores the given key: `new_keys` has the same data key wrapped by each root key of the API, and the function stores
-- the first one whose root key is registered. The commit writes the audit row. Returns no row if the recording belongs
-- to a different doctor or does not exist. Raises RG409 (recording_deleted, recording_being_deleted, root_key_unknown),
-- RG429 (quota_pages).
create function private.begin_session_note(
    of_action text, of_recording uuid, new_keys bytea[], new_root_keys text[]
)
returns table (consultation_id uuid, wrapped bytea, root_key text, duration_seconds double precision)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    wanted resguardo.recordings;
begin
    if of_action is null or of_action not in ('session_note.write', 'psychotherapy_note.write') then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    perform private.use_quota(private.person(), 'pages');
    perform from resguardo.consultations as c
    where c.doctor_id = doctor and c.id in (
        select r.consultation_id from resguardo.recordings as r where r.id = of_recording
    )
    for no key update;
    wanted := private.lock_noted_recording(of_action, of_recording, 'recording', of_recording);
    if wanted.id is null then
        return;
    end if;
    if not exists (select from private.recording_keys as k where k.recording_id = of_recording) then
        insert into private.recording_keys (recording_id, wrapped_key, root_key_id, created_at)
        select of_recording, n.wrapped, n.root_key, private.now()
        from unnest(new_keys, new_root_keys) with ordinality as n (wrapped, root_key, place)
        inner join private.root_keys as k on k.id = n.root_key
        order by n.place
        limit 1;
        if not found then
            raise exception 'root_key_unknown' using errcode = 'RG409';
        end if;
        perform private.write_audit(
            'recording.make_key', 'ALLOWED', null, 'recording', array[of_recording], array[wanted.patient_id],
            array[wanted.consultation_id], array['data_key'], 1, null
        );
    end if;
    perform private.write_audit_later(
        of_action, null, 'recording', of_recording, wanted.patient_id, wanted.consultation_id,
        array['lines.text', 'lines.startSeconds'], null
    );
    return query
    select wanted.consultation_id, k.wrapped_key, k.root_key_id, wanted.duration_seconds
    from private.recording_keys as k where k.recording_id = of_recording;
end
$$;

-- Raises RG403 (reserved_action) unless this transaction has begun the given change of the entity, so that each change
-- has an audit row.
create function private.require_begun(of_action text, entity uuid) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select from private.pending_audit_rows as p
        where p.transaction_id = pg_current_xact_id() and p.action = of_action and p.entity_id = entity
    ) then
        raise exception 'reserved_action' using errcode = 'RG403';
    end if;
end
$$;

-- Stores a new note, which this transaction has begun to write (private.begin_session_note). Raises RG409
-- (session_notes_full) if the consultation has 1,000 notes of this kind.
create function private.add_session_note(
    of_action text, of_recording uuid, of_note uuid, of_start_ms integer, of_ciphertext bytea
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    moment constant timestamptz := private.now();
    consultation uuid;
    lines bigint;
begin
    perform private.require_begun(of_action, of_recording);
    select r.consultation_id into consultation from resguardo.recordings as r where r.id = of_recording;
    if of_action = 'session_note.write' then
        insert into private.session_notes (
            id, recording_id, consultation_id, author_id, start_ms, ciphertext, changed_by, written_at, changed_at
        ) values (
            of_note, of_recording, consultation, doctor, of_start_ms, of_ciphertext, doctor, moment, moment
        );
        lines := (select count(*) from private.session_notes as n where n.consultation_id = consultation);
    else
        insert into private.psychotherapy_notes (
            id, recording_id, consultation_id, author_id, start_ms, ciphertext, changed_by, written_at, changed_at
        ) values (
            of_note, of_recording, consultation, doctor, of_start_ms, of_ciphertext, doctor, moment, moment
        );
        lines := (select count(*) from private.psychotherapy_notes as n where n.consultation_id = consultation);
    end if;
    if lines > 1000 then
        raise exception 'session_notes_full' using errcode = 'RG409';
    end if;
end
$$;

-- Begins to edit or to delete a note: locks its recording and the note, and returns the newest version of the note with
-- the data key. No hold can be placed while a note is being deleted. The commit writes the audit row. Returns no row if
-- the recording belongs to a different doctor or the note does not exist. Raises RG409 (recording_deleted,
-- recording_being_deleted), RG429 (quota_pages).
create function private.begin_note_change(of_action text, of_note uuid)
returns table (
    recording_id uuid, consultation_id uuid, wrapped bytea, root_key text, version integer, start_ms integer,
    ciphertext bytea, changed_by uuid, duration_seconds double precision
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    noted record;
    wanted resguardo.recordings;
    note private.session_notes;
begin
    if of_action is null or of_action not in (
        'session_note.edit', 'session_note.delete', 'psychotherapy_note.edit', 'psychotherapy_note.delete'
    ) then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    perform private.use_quota(private.person(), 'pages');
    noted := private.find_note(split_part(of_action, '.', 1) = 'psychotherapy_note', of_note);
    if split_part(of_action, '.', 2) = 'delete' then
        perform private.lock_keeping(false);
    end if;
    wanted := private.lock_noted_recording(of_action, noted.of_recording, 'session_note', of_note);
    if wanted.id is null then
        return;
    end if;
    if split_part(of_action, '.', 1) = 'session_note' then
        select n.* into note from private.session_notes as n where n.id = of_note for update;
    else
        select n.* into note from private.psychotherapy_notes as n where n.id = of_note for update;
    end if;
    if note.id is null then
        perform private.write_audit(
            of_action, 'ABSENT', 'not_found', 'session_note', array[of_note], '{}', '{}', '{}', 0, null
        );
        return;
    end if;
    perform private.write_audit_later(
        of_action, null, 'session_note', of_note, wanted.patient_id, wanted.consultation_id,
        array['lines.text', 'lines.startSeconds'], null
    );
    return query
    select
        note.recording_id, note.consultation_id, k.wrapped_key, k.root_key_id, note.version, note.start_ms,
        note.ciphertext, note.changed_by, wanted.duration_seconds
    from private.recording_keys as k where k.recording_id = note.recording_id;
end
$$;

-- Replaces the text and the time of a note, which this transaction has begun to edit, and keeps the earlier version.
-- Raises RG409 (session_note_changed) if the note has a later version than the one on which the edit is based. Raises
-- RG409 (session_note_versions_full) if the note has 1,000 versions.
create function private.change_session_note(
    of_action text, of_note uuid, based_on integer, of_start_ms integer, of_ciphertext bytea
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    is_changed boolean;
begin
    perform private.require_begun(of_action, of_note);
    if of_action not in ('session_note.edit', 'psychotherapy_note.edit') then
        raise exception 'unknown_action' using errcode = 'RG403';
    elsif based_on >= 1000 then
        raise exception 'session_note_versions_full' using errcode = 'RG409';
    end if;
    if of_action = 'session_note.edit' then
        insert into private.session_note_versions (
            note_id, version, recording_id, start_ms, ciphertext, changed_by, changed_at
        )
        select n.id, n.version, n.recording_id, n.start_ms, n.ciphertext, n.changed_by, n.changed_at
        from private.session_notes as n where n.id = of_note and n.version = based_on;
        update private.session_notes as n
        set version = n.version + 1, start_ms = of_start_ms, ciphertext = of_ciphertext, changed_by = doctor,
            changed_at = private.now()
        where n.id = of_note and n.version = based_on;
        is_changed := found;
    else
        insert into private.psychotherapy_note_versions (
            note_id, version, recording_id, start_ms, ciphertext, changed_by, changed_at
        )
        select n.id, n.version, n.recording_id, n.start_ms, n.ciphertext, n.changed_by, n.changed_at
        from private.psychotherapy_notes as n where n.id = of_note and n.version = based_on;
        update private.psychotherapy_notes as n
        set version = n.version + 1, start_ms = of_start_ms, ciphertext = of_ciphertext, changed_by = doctor,
            changed_at = private.now()
        where n.id = of_note and n.version = based_on;
        is_changed := found;
    end if;
    if not is_changed then
        raise exception 'session_note_changed' using errcode = 'RG409';
    end if;
end
$$;

-- Deletes a note with all its versions, after this transaction has begun to delete it. Raises RG409 (recording_held)
-- while a legal hold or an access request covers the recording, and RG409 (session_note_changed) if the note has a
-- later version than the given one.
create function private.delete_session_note(of_action text, of_note uuid, based_on integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    is_psychotherapy constant boolean := of_action = 'psychotherapy_note.delete';
    is_deleted boolean;
begin
    perform private.doctor();
    perform private.require_begun(of_action, of_note);
    if of_action not in ('session_note.delete', 'psychotherapy_note.delete') then
        raise exception 'unknown_action' using errcode = 'RG403';
    elsif private.is_held((private.find_note(is_psychotherapy, of_note)).of_recording) then
        raise exception 'recording_held' using errcode = 'RG409';
    elsif is_psychotherapy then
        delete from private.psychotherapy_note_versions as v where v.note_id = of_note;
        delete from private.psychotherapy_notes as n where n.id = of_note and n.version = based_on;
        is_deleted := found;
    else
        delete from private.session_note_versions as v where v.note_id = of_note;
        delete from private.session_notes as n where n.id = of_note and n.version = based_on;
        is_deleted := found;
    end if;
    if not is_deleted then
        raise exception 'session_note_changed' using errcode = 'RG409';
    end if;
end
$$;

-- Writes the audit row of a read of a consultation's notes of one type, or completes the audit row of a change that
-- the transaction has made. Returns false if the consultation belongs to a different doctor or does not exist.
create function private.record_notes(
    of_action text, of_consultation uuid, shown jsonb, notes uuid[], of_fields text[], is_counted boolean
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    entities constant jsonb := private.entities_of('consultation', array[of_consultation]) || shown
        || private.entities_of('session_note', notes);
    wanted resguardo.consultations;
begin
    select c.* into wanted from resguardo.consultations as c where c.id = of_consultation;
    if of_action like '%.read' or of_action like '%.watch' then
        if is_counted then
            perform private.use_quota(private.person(), 'pages');
        end if;
        if wanted.doctor_id is distinct from doctor then
            perform private.write_audit(
                of_action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'consultation',
                array[of_consultation], array_remove(array[wanted.patient_id], null),
                array_remove(array[wanted.id], null), of_fields, 0, null
            );
            return false;
        end if;
        perform private.write_audit_of_entities(
            of_action, 'ALLOWED', null, entities, array[wanted.patient_id], array[wanted.id], of_fields,
            cardinality(notes), null
        );
    elsif wanted.doctor_id is distinct from doctor or not private.complete_audit_row(
        of_action, entities, array[wanted.patient_id], array[wanted.id], cardinality(notes), of_fields
    ) then
        raise exception 'reserved_action' using errcode = 'RG403';
    end if;
    return true;
end
$$;

-- Returns the encrypted session notes of the caller's own consultation in the order in which they were written, or
-- only the given note, with the data key of each recording. Before that, writes the audit row, which also names the
-- entities in `shown` and the fields in `of_fields`. The answer of a change has the action of that change. Notes are
-- left out if the deletion of their recording was requested, and `is_incomplete` is then true. Returns no row if the
-- consultation belongs to a different doctor or does not exist. Raises RG429 (quota_pages).
create function private.open_session_notes(
    of_action text, of_consultation uuid, only_note uuid, shown jsonb, of_fields text[], is_counted boolean
)
returns table (
    ids uuid[], recording_ids uuid[], author_ids uuid[], starts integer[], versions integer[], ciphertexts bytea[],
    written timestamptz[], changed timestamptz[], changed_by uuid[], keyed_recordings uuid[], wrapped_keys bytea[],
    root_keys text[], is_incomplete boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    own constant uuid := (
        select c.id from resguardo.consultations as c
        where c.id = of_consultation and c.doctor_id = private.doctor()
    );
    readable uuid[];
    found_notes uuid[];
begin
    if of_action is null or of_action not in (
        'session_note.read', 'session_note.watch', 'session_note.write', 'session_note.edit', 'session_note.delete'
    ) then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    readable := private.readable_recordings(own);
    found_notes := array(
        select n.id from private.session_notes as n
        where n.consultation_id = own and n.recording_id = any (readable) and (only_note is null or n.id = only_note)
    );
    if not private.record_notes(of_action, of_consultation, shown, found_notes, of_fields, is_counted) then
        return;
    end if;
    return query
    select
        coalesce(n.ids, '{}'), coalesce(n.recording_ids, '{}'), coalesce(n.author_ids, '{}'),
        coalesce(n.starts, '{}'), coalesce(n.versions, '{}'), coalesce(n.ciphertexts, '{}'),
        coalesce(n.written, '{}'), coalesce(n.changed, '{}'), coalesce(n.changed_by, '{}'),
        coalesce(k.recording_ids, '{}'), coalesce(k.wrapped, '{}'), coalesce(k.root_keys, '{}'),
        exists (
            select from private.session_notes as h
            where h.consultation_id = own and h.recording_id <> all (readable)
        )
    from (
        select
            array_agg(x.id order by x.written_at, x.id) as ids,
            array_agg(x.recording_id order by x.written_at, x.id) as recording_ids,
            array_agg(x.author_id order by x.written_at, x.id) as author_ids,
            array_agg(x.start_ms order by x.written_at, x.id) as starts,
            array_agg(x.version order by x.written_at, x.id) as versions,
            array_agg(x.ciphertext order by x.written_at, x.id) as ciphertexts,
            array_agg(x.written_at order by x.written_at, x.id) as written,
            array_agg(x.changed_at order by x.written_at, x.id) as changed,
            array_agg(x.changed_by order by x.written_at, x.id) as changed_by
        from private.session_notes as x
        where x.id = any (found_notes)
    ) as n
    cross join private.keys_of(readable) as k;
end
$$;

-- Returns the encrypted psychotherapy notes of the caller's own consultation, as private.open_session_notes() returns
-- session notes. No other function returns them.
create function private.open_psychotherapy_notes(
    of_action text, of_consultation uuid, only_note uuid, shown jsonb, of_fields text[], is_counted boolean
)
returns table (
    ids uuid[], recording_ids uuid[], author_ids uuid[], starts integer[], versions integer[], ciphertexts bytea[],
    written timestamptz[], changed timestamptz[], changed_by uuid[], keyed_recordings uuid[], wrapped_keys bytea[],
    root_keys text[], is_incomplete boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    own constant uuid := (
        select c.id from resguardo.consultations as c
        where c.id = of_consultation and c.doctor_id = private.doctor()
    );
    readable uuid[];
    found_notes uuid[];
begin
    if of_action is null or of_action not in (
        'psychotherapy_note.read', 'psychotherapy_note.write', 'psychotherapy_note.edit', 'psychotherapy_note.delete'
    ) then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    readable := private.readable_recordings(own);
    found_notes := array(
        select n.id from private.psychotherapy_notes as n
        where n.consultation_id = own and n.recording_id = any (readable) and (only_note is null or n.id = only_note)
    );
    if not private.record_notes(of_action, of_consultation, shown, found_notes, of_fields, is_counted) then
        return;
    end if;
    return query
    select
        coalesce(n.ids, '{}'), coalesce(n.recording_ids, '{}'), coalesce(n.author_ids, '{}'),
        coalesce(n.starts, '{}'), coalesce(n.versions, '{}'), coalesce(n.ciphertexts, '{}'),
        coalesce(n.written, '{}'), coalesce(n.changed, '{}'), coalesce(n.changed_by, '{}'),
        coalesce(k.recording_ids, '{}'), coalesce(k.wrapped, '{}'), coalesce(k.root_keys, '{}'),
        exists (
            select from private.psychotherapy_notes as h
            where h.consultation_id = own and h.recording_id <> all (readable)
        )
    from (
        select
            array_agg(x.id order by x.written_at, x.id) as ids,
            array_agg(x.recording_id order by x.written_at, x.id) as recording_ids,
            array_agg(x.author_id order by x.written_at, x.id) as author_ids,
            array_agg(x.start_ms order by x.written_at, x.id) as starts,
            array_agg(x.version order by x.written_at, x.id) as versions,
            array_agg(x.ciphertext order by x.written_at, x.id) as ciphertexts,
            array_agg(x.written_at order by x.written_at, x.id) as written,
            array_agg(x.changed_at order by x.written_at, x.id) as changed,
            array_agg(x.changed_by order by x.written_at, x.id) as changed_by
        from private.psychotherapy_notes as x
        where x.id = any (found_notes)
    ) as n
    cross join private.keys_of(readable) as k;
end
$$;

-- Returns the recordings of a consultation whose notes may be shown: those whose deletion was not requested.
create function private.readable_recordings(of_consultation uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select r.id from resguardo.recordings as r
        where r.consultation_id = of_consultation and r.medium = 'VIDEO' and r.status <> 'DELETED'
            and not private.is_to_be_destroyed(r.id)
    );
end
$$;

-- Returns the data keys of some recordings.
create function private.keys_of(
    recordings uuid[], out recording_ids uuid[], out wrapped bytea[], out root_keys text[]
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    select
        array_agg(k.recording_id order by k.recording_id), array_agg(k.wrapped_key order by k.recording_id),
        array_agg(k.root_key_id order by k.recording_id)
    into recording_ids, wrapped, root_keys
    from private.recording_keys as k where k.recording_id = any (recordings);
end
$$;

-- Returns a text that differs after each change of the session notes that the caller's own consultation shows, or null
-- if the consultation belongs to a different doctor or does not exist. The text reveals nothing about the notes.
create function private.session_notes_version(of_consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    own constant uuid := (
        select c.id from resguardo.consultations as c
        where c.id = of_consultation and c.doctor_id = private.doctor()
    );
begin
    return (
        select md5(coalesce(string_agg(n.id::text || ' ' || n.version, ',' order by n.id), ''))
        from private.session_notes as n
        where n.consultation_id = own and n.recording_id = any (private.readable_recordings(own))
        having own is not null
    );
end
$$;

-- Deletes the session notes and psychotherapy notes of a recording, and returns how many rows it deleted from each
-- table. A transaction that writes a note locks the recording, so its destruction begins after that.
create function private.clear_session_notes(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    tables constant text[] := array[
        'session_note_versions', 'session_notes', 'psychotherapy_note_versions', 'psychotherapy_notes'
    ];
    of_table text;
    rows_cleared bigint;
    cleared jsonb := '[]';
begin
    foreach of_table in array tables loop
        execute format('delete from private.%I where recording_id = $1', of_table) using of_recording;
        get diagnostics rows_cleared = row_count;
        if rows_cleared > 0 then
            cleared := cleared || jsonb_build_object('table', of_table, 'rows', rows_cleared);
        end if;
    end loop;
    return cleared;
end
$$;

-- Writes the audit row, and returns every version of the session notes that the copy for an access request must
-- contain, with the data keys of their recordings. The transaction must have begun the copy (private.begin_export).
-- Psychotherapy notes are never part of a copy (45 CFR 164.524(a)(1)(i)).
create function private.export_session_notes(of_request uuid)
returns table (
    recording_id uuid, recorded_at timestamptz, wrapped bytea, root_key text, note_id uuid, author_id uuid,
    written_at timestamptz, version integer, start_ms integer, ciphertext bytea, changed_by uuid,
    changed_at timestamptz
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
    noted uuid[];
begin
    select a.* into wanted from resguardo.access_requests as a where a.id = of_request and a.status = 'APPROVED';
    noted := array(select r.id from private.noted_recordings(wanted) as r (id));
    if cardinality(noted) = 0 then
        return;
    end if;
    perform private.write_audit(
        'session_note.export', 'ALLOWED', null, 'recording', noted, array[wanted.patient_id],
        array(select distinct r.consultation_id from resguardo.recordings as r where r.id = any (noted)),
        array['lines.text', 'lines.startSeconds'], cardinality(noted), null
    );
    return query
    select
        n.recording_id, coalesce(r.started_at, c.scheduled_at), k.wrapped_key, k.root_key_id, n.id, n.author_id,
        n.written_at, v.version, v.start_ms, v.ciphertext, v.changed_by, v.changed_at
    from private.session_notes as n
    inner join resguardo.recordings as r on r.id = n.recording_id
    inner join resguardo.consultations as c on c.id = n.consultation_id
    inner join private.recording_keys as k on k.recording_id = n.recording_id
    cross join lateral (
        select n.version, n.start_ms, n.ciphertext, n.changed_by, n.changed_at
        union all
        select e.version, e.start_ms, e.ciphertext, e.changed_by, e.changed_at
        from private.session_note_versions as e where e.note_id = n.id
    ) as v
    where n.recording_id = any (noted)
    order by r.created_at, n.recording_id, n.written_at, n.id, v.version;
end
$$;

-- Returns the recordings of an access request that have session notes.
create function private.noted_recordings(asked resguardo.access_requests) returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select r.id from private.wanted_recordings(asked) as r
    where r.medium = 'VIDEO' and exists (select from private.session_notes as n where n.recording_id = r.id);
end
$$;


-- 59_note_drafts.sql

-- Drafts of SOAP notes. A draft follows from the insights until the doctor changes it, and is then stored, encrypted
-- with the recording's data key. A draft is deleted when its recording is destroyed. Signed notes are in
-- 61_signed_notes.sql.

create table private.note_drafts (
    recording_id uuid primary key
    constraint note_drafts_recording_id_fkey references resguardo.recordings (id),
    version integer not null constraint note_drafts_version_range check (version > 0),
    signed_from integer constraint note_drafts_signed_from_range check (signed_from >= 0),
    ciphertext bytea not null
    constraint note_drafts_ciphertext_length check (length(ciphertext) between 29 and 16777216),
    changed_at timestamptz not null default private.now()
);
comment on table private.note_drafts is
'Drafts that a doctor has changed. Without a row here, the draft of a recording is that of its insights.';
comment on column private.note_drafts.version is
'Counts the versions of the draft, from the generation of the insights with which it began.';
comment on column private.note_drafts.signed_from is
'The version that the doctor signed; null if the draft is not signed. A signed draft does not change any more.';

create table private.note_sections (
    recording_id uuid not null
    constraint note_sections_recording_id_fkey references resguardo.recordings (id),
    section text not null constraint note_sections_section_is_known check (section in ('S', 'O', 'A', 'P')),
    error text constraint note_sections_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    attempt integer not null default 1 constraint note_sections_attempt_range check (attempt > 0),
    run integer not null default 0 constraint note_sections_run_range check (run >= 0),
    requested_at timestamptz not null default private.now(),
    constraint note_sections_pkey primary key (recording_id, section)
);
comment on table private.note_sections is
'The sections that the doctor asked the language model to write again, until they are written.';
comment on column private.note_sections.error is 'Why the section could not be written; null while it is written.';
comment on column private.note_sections.run is
'Counts how often a worker began or resumed. Only the newest worker may send requests to the language service.';

create table private.note_section_answers (
    recording_id uuid not null,
    section text not null,
    part integer not null constraint note_section_answers_part_range check (part >= 0),
    round smallint not null constraint note_section_answers_round_range check (round in (0, 1)),
    request_count integer not null default 0
    constraint note_section_answers_request_count_range check (request_count >= 0),
    ciphertext bytea
    constraint note_section_answers_ciphertext_length check (length(ciphertext) between 29 and 16777216),
    constraint note_section_answers_pkey primary key (recording_id, section, part, round),
    constraint note_section_answers_section_fkey foreign key (recording_id, section)
    references private.note_sections (recording_id, section)
);
comment on table private.note_section_answers is
'The requests for a section and the answers of the language service, encrypted, until the section is made of them.';
comment on column private.note_section_answers.round is
'0 for the first request about a part. 1 for the second, which lists the errors of the first answer.';
comment on column private.note_section_answers.request_count is
'How many requests were sent, and possibly paid for. The count is stored before a request is sent.';

-- What a reader of a draft needs: the stored draft, the insights and the transcript of its recording, all encrypted,
-- with the recording's data key and the facts about how much of the consultation they cover.
create type private.opened_note_draft as (
    recording_id uuid,
    consultation_id uuid,
    patient_id uuid,
    doctor_id uuid,
    recording_sha256 text,
    duration_seconds double precision,
    is_truncated boolean,
    is_interrupted boolean,
    version integer,
    signed_from integer,
    written_sections text[], -- noqa: LT01
    failed_sections text[], -- noqa: LT01
    section_errors text[], -- noqa: LT01
    draft bytea,
    insights_status text,
    insights_generation integer,
    insights_vendor text,
    insights_model text,
    insights bytea,
    dismissed integer[], -- noqa: LT01
    transcript_status text,
    unused_track_count smallint,
    transcript bytea,
    corrections bytea[], -- noqa: LT01
    quotes_objection text,
    opened_at timestamptz,
    wrapped bytea,
    root_key text
);

-- Returns what a reader of a recording's draft needs, or null if the recording has no transcript or no data key. The
-- caller has checked the right to read the draft, and has written the audit row.
create function private.gather_note_draft(of_recording uuid) returns private.opened_note_draft
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    opened private.opened_note_draft;
begin
    select
        r.id, r.consultation_id, r.patient_id, r.doctor_id, r.sha256, r.duration_seconds, r.truncated, r.interrupted,
        private.note_draft_version(r.id), d.signed_from,
        array(select s.section from private.note_sections as s where s.recording_id = r.id and s.error is null),
        array(
            select s.section from private.note_sections as s
            where s.recording_id = r.id and s.error is not null order by s.section
        ),
        array(
            select s.error from private.note_sections as s
            where s.recording_id = r.id and s.error is not null order by s.section
        ),
        d.ciphertext, i.status, w.generation, i.vendor, i.model,
        w.ciphertext,
        array(
            select x.line_number from private.insight_dismissals as x
            where x.recording_id = w.recording_id and x.generation = w.generation order by x.line_number
        ),
        t.status, t.unused_track_count, y.ciphertext,
        array(
            select c.ciphertext from private.transcript_corrections as c
            where c.recording_id = r.id order by c.number
        ),
        private.consent_objection(r.consultation_id), private.now(), k.wrapped_key, k.root_key_id
    into opened
    from resguardo.recordings as r
    inner join resguardo.transcripts as t on t.recording_id = r.id
    inner join private.recording_keys as k on k.recording_id = r.id
    left join private.transcript_texts as y on y.recording_id = r.id and t.status = 'READY'
    left join resguardo.insights as i on i.recording_id = r.id
    left join private.insight_texts as w on w.recording_id = r.id and i.status in ('READY', 'STALE')
    left join private.note_drafts as d on d.recording_id = r.id
    where r.id = of_recording and r.status = 'READY';
    return opened;
end
$$;

-- Returns the version of a recording's draft. A draft that no doctor has changed has the generation of the insights as
-- its version, or 0 without insights.
create function private.note_draft_version(of_recording uuid) returns integer
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        (select d.version from private.note_drafts as d where d.recording_id = of_recording),
        (
            select w.generation
            from private.insight_texts as w
            inner join resguardo.insights as i on i.recording_id = w.recording_id and i.status in ('READY', 'STALE')
            where w.recording_id = of_recording
        ),
        0
    );
end
$$;

-- Returns the draft of the caller's own recording for the given action. Before that, writes the audit row, which also
-- names the entities in `shown` and the fields in `of_fields`. If the doctor signs the note, the audit row is that of
-- begin_signing(), which the transaction has called, or a row of this function if the note is already signed. If the
-- action changes the draft, the function locks the recording's transcript, so that changes of one draft, and the
-- destruction of the recording, wait for each other. Returns no row if the recording belongs to a different doctor,
-- does not exist or is not READY, so the caller cannot tell these cases apart. Raises RG409 (recording_deleted,
-- recording_being_deleted), RG429 (quota_pages), RG403 (unknown_action).
create function private.open_note_draft(of_action text, of_recording uuid, shown jsonb, of_fields text[])
returns setof private.opened_note_draft
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    is_own boolean;
    is_deleted boolean;
    opened private.opened_note_draft;
begin
    if of_action is null or of_action not in (
        'note_draft.read', 'note_draft.edit', 'note_draft.keep_flag', 'note_draft.rewrite', 'note.sign'
    ) then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    perform private.use_quota(private.person(), 'pages');
    select r.doctor_id = doctor, r.status = 'DELETED' into is_own, is_deleted
    from resguardo.recordings as r where r.id = of_recording and r.medium = 'VIDEO';
    if is_own and is_deleted then
        raise exception 'recording_deleted' using errcode = 'RG409';
    elsif is_own and of_action <> 'note_draft.read' then
        perform from resguardo.transcripts as t where t.recording_id = of_recording for update;
    end if;
    if is_own then
        opened := private.gather_note_draft(of_recording);
    end if;
    if of_action <> 'note.sign' or opened.recording_id is null or opened.signed_from is not null then
        perform private.write_lookup(
            of_action, 'recording', 'recording', of_recording, is_own,
            private.entities_of('recording', array_remove(array[opened.recording_id], null)) || shown,
            array[opened.patient_id], array[opened.consultation_id], (opened.recording_id is not null)::integer,
            of_fields
        );
    elsif not exists (
        select from private.pending_audit_rows as p
        where p.transaction_id = pg_current_xact_id() and p.action = of_action
    ) then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    if opened.recording_id is null then
        return;
    elsif private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    return next opened;
end
$$;

-- Stores a new version of the draft of the caller's own recording, and returns its number. `is_signed` says whether the
-- doctor signs the draft in this transaction; nobody changes the draft afterwards. Raises RG409 (note_draft_changed) if
-- the draft has another version than `based_on`, or the recording is being destroyed, RG409 (note_signed) if the draft
-- is signed, and RG409 (note_section_in_progress) if the doctor signs while a section is being written.
create function private.store_note_draft(of_recording uuid, based_on integer, new_text bytea, is_signed boolean)
returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    perform from resguardo.transcripts as t
    where t.recording_id = of_recording and t.doctor_id = doctor for update;
    if not found or private.is_to_be_destroyed(of_recording)
        or private.note_draft_version(of_recording) is distinct from based_on
    then
        raise exception 'note_draft_changed' using errcode = 'RG409';
    elsif exists (
        select from private.note_drafts as d where d.recording_id = of_recording and d.signed_from is not null
    ) then
        raise exception 'note_signed' using errcode = 'RG409';
    elsif is_signed and exists (
        select from private.note_sections as s where s.recording_id = of_recording and s.error is null
    ) then
        raise exception 'note_section_in_progress' using errcode = 'RG409';
    end if;
    insert into private.note_drafts as d (recording_id, version, ciphertext, signed_from)
    values (of_recording, based_on + 1, new_text, case when is_signed then based_on end)
    on conflict (recording_id) do update
    set version = excluded.version, ciphertext = excluded.ciphertext, signed_from = excluded.signed_from,
        changed_at = private.now();
    return based_on + 1;
end
$$;

-- Queues the job that writes a section of the draft again, after the draft was opened for it in this transaction. If
-- the section is already being written, the function changes nothing. Answers of the language service that are already
-- stored are used again. Raises RG409 (note_draft_changed, note_signed, note_without_transcript, and `insights_` with a
-- reason of insights_objection()).
create function private.request_note_section(of_recording uuid, of_section text, based_on integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    wanted resguardo.transcripts;
    objection text;
begin
    select t.* into wanted from resguardo.transcripts as t
    where t.recording_id = of_recording and t.doctor_id = doctor for update;
    if wanted.recording_id is null or private.is_to_be_destroyed(of_recording) then
        raise exception 'note_draft_changed' using errcode = 'RG409';
    elsif exists (
        select from private.note_drafts as d where d.recording_id = of_recording and d.signed_from is not null
    ) then
        raise exception 'note_signed' using errcode = 'RG409';
    elsif wanted.status <> 'READY' then
        raise exception 'note_without_transcript' using errcode = 'RG409';
    end if;
    if exists (
        select from private.note_sections as s
        where s.recording_id = of_recording and s.section = of_section and s.error is null
    ) then
        return;
    end if;
    objection := private.insights_objection(wanted.consultation_id);
    if objection is not null then
        raise exception 'insights_%', objection using errcode = 'RG409';
    elsif private.note_draft_version(of_recording) is distinct from based_on then
        raise exception 'note_draft_changed' using errcode = 'RG409';
    end if;
    update private.note_section_answers as a set request_count = 0
    where a.recording_id = of_recording and a.section = of_section and a.ciphertext is null;
    insert into private.note_sections as s (recording_id, section) values (of_recording, of_section)
    on conflict (recording_id, section) do update
    set error = null, attempt = s.attempt + 1, requested_at = private.now();
    perform private.put_job('write_note_section', of_recording);
end
$$;

-- Deletes the draft of a recording, and returns how many rows it deleted from each table. A change of the draft locks
-- the recording's transcript, so clear_note_draft() waits for the change and then deletes it, too.
create function private.clear_note_draft(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    tables constant text[] := array['note_section_answers', 'note_sections', 'note_drafts'];
    of_table text;
    rows_cleared bigint;
    cleared jsonb := '[]';
begin
    perform from resguardo.transcripts as t where t.recording_id = of_recording for update;
    foreach of_table in array tables loop
        execute format('delete from private.%I where recording_id = $1', of_table) using of_recording;
        get diagnostics rows_cleared = row_count;
        if rows_cleared > 0 then
            cleared := cleared || jsonb_build_object('table', of_table, 'rows', rows_cleared);
        end if;
    end loop;
    return cleared;
end
$$;


-- 60_note_sections.sql

-- The SQL functions with which the worker writes sections of note drafts again. Each step checks again whether the
-- section may still be written.

-- Locks a recording's draft, and returns a section that the worker may write: the given one, or the first if none is
-- given. Returns null if there is none. If a switch or a consent forbids it, the sections of the recording end with an
-- error.
create function private.lock_note_section(of_recording uuid, of_section text) returns private.note_sections
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    about resguardo.transcripts;
    objection text;
    wanted private.note_sections;
begin
    select t.* into about from resguardo.transcripts as t where t.recording_id = of_recording for update;
    if about.recording_id is null or private.is_to_be_destroyed(of_recording) then
        return null;
    end if;
    objection := private.insights_objection(about.consultation_id);
    if about.status <> 'READY' then
        objection := 'note_without_transcript';
    elsif objection is not null then
        objection := 'insights_' || objection;
    end if;
    if objection is not null then
        update private.note_sections as s set error = objection
        where s.recording_id = of_recording and s.error is null;
        return null;
    end if;
    select s.* into wanted from private.note_sections as s
    where s.recording_id = of_recording and s.error is null and (of_section is null or s.section = of_section)
    order by s.requested_at, s.section
    limit 1;
    return wanted;
end
$$;

-- Begins or resumes to write the next section of a recording's draft that the doctor asked for. Writes the audit row,
-- and returns the draft with its transcript, and the answers of the language service that are already stored. A worker
-- that began the same section earlier may then send no further requests. Returns no row if there is nothing to write.
create function private.begin_note_section(of_recording uuid)
returns table (
    section text, run integer, language text, opened private.opened_note_draft, parts integer[], rounds smallint[],
    answers bytea[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant private.note_sections := private.lock_note_section(of_recording, null);
    about constant private.opened_note_draft := private.gather_note_draft(of_recording);
begin
    if wanted.recording_id is null or about.recording_id is null then
        return;
    end if;
    update private.note_sections as s set run = s.run + 1
    where s.recording_id = of_recording and s.section = wanted.section;
    perform private.write_audit(
        'note_draft.begin', 'ALLOWED', null, 'recording', array[of_recording], array[about.patient_id],
        array[about.consultation_id], array['text', 'data_key'], 1, null
    );
    return query
    select
        wanted.section, wanted.run + 1,
        (select private.insights_language(i) from resguardo.insights as i where i.recording_id = of_recording),
        about, coalesce(a.parts, '{}'), coalesce(a.rounds, '{}'), coalesce(a.answers, '{}')
    from (
        select
            array_agg(x.part order by x.part, x.round) as parts, array_agg(x.round order by x.part, x.round) as rounds,
            array_agg(x.ciphertext order by x.part, x.round) as answers
        from private.note_section_answers as x
        where x.recording_id = of_recording and x.section = wanted.section and x.ciphertext is not null
    ) as a;
end
$$;

-- Counts a request to the language service right before the worker sends it, and returns whether the worker must send
-- it. The count is thus stored even if the worker dies while the service, which may charge for the request, answers.
-- The result is false if the answer is already stored, and null if the section may no longer be written, or not today,
-- because the doctor's budget is used up. After five requests without an answer the section ends with an error. Raises
-- RG409 (insights_overtaken) if a different worker has taken over.
create function private.count_note_request(
    of_recording uuid, of_section text, of_run integer, of_part integer, of_round integer, is_charged boolean
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    most_requests constant integer := 5;
    wanted constant private.note_sections := private.lock_note_section(of_recording, of_section);
    stored private.note_section_answers;
begin
    if wanted.recording_id is null then
        return null;
    elsif wanted.run <> of_run then
        raise exception 'insights_overtaken' using errcode = 'RG409';
    end if;
    select a.* into stored from private.note_section_answers as a
    where a.recording_id = of_recording and a.section = of_section and a.part = of_part and a.round = of_round;
    if stored.ciphertext is not null then
        return false;
    elsif stored.request_count >= most_requests then
        update private.note_sections as s set error = 'insights_unanswered'
        where s.recording_id = of_recording and s.section = of_section;
        return null;
    elsif is_charged and private.language_budget_left(
        (select r.doctor_id from resguardo.recordings as r where r.id = of_recording)
    ) = 0 then
        perform private.hold_language_work(of_recording, 'write_note_section');
        return null;
    end if;
    insert into private.note_section_answers as a (recording_id, section, part, round, request_count)
    values (of_recording, of_section, of_part, of_round, 1)
    on conflict (recording_id, section, part, round) do update set request_count = a.request_count + 1;
    return true;
end
$$;

-- Takes back the count of a request for which the language service did not charge, because the service was busy or
-- unreachable.
create function private.take_back_note_request(
    of_recording uuid, of_section text, of_part integer, of_round integer
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.note_section_answers as a set request_count = greatest(0, a.request_count - 1)
    where a.recording_id = of_recording and a.section = of_section and a.part = of_part and a.round = of_round;
end
$$;

-- Stores the language service's encrypted answer for a part, unless an answer is already stored. The function accepts
-- the answer from any worker, because the service charges for it.
create function private.store_note_answer(
    of_recording uuid, of_section text, of_part integer, of_round integer, answer bytea
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform from resguardo.transcripts as t where t.recording_id = of_recording for update;
    if not private.is_to_be_destroyed(of_recording) then
        update private.note_section_answers as a set ciphertext = answer
        where a.recording_id = of_recording and a.section = of_section and a.part = of_part and a.round = of_round
            and a.ciphertext is null;
    end if;
end
$$;

-- Returns the draft and its transcript again, for the worker that has all answers for a section, and locks them until
-- the worker stores the section. Writes the audit row. Returns no row if the section may no longer be written.
create function private.reopen_note_draft(of_recording uuid, of_section text)
returns setof private.opened_note_draft
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant private.note_sections := private.lock_note_section(of_recording, of_section);
    about constant private.opened_note_draft := private.gather_note_draft(of_recording);
begin
    if wanted.recording_id is null or about.recording_id is null or about.signed_from is not null then
        return;
    end if;
    perform private.write_audit(
        'note_draft.begin', 'ALLOWED', null, 'recording', array[of_recording], array[about.patient_id],
        array[about.consultation_id], array['text', 'data_key'], 1, null
    );
    return next about;
end
$$;

-- Stores the draft with the section that the worker has written, and deletes the answers of the language service, from
-- which the section was made. If the draft has another version than `based_on`, the function changes nothing and
-- returns false.
create function private.finish_note_section(of_recording uuid, of_section text, based_on integer, new_text bytea)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant private.note_sections := private.lock_note_section(of_recording, of_section);
begin
    if wanted.recording_id is null or private.note_draft_version(of_recording) is distinct from based_on then
        return false;
    end if;
    insert into private.note_drafts as d (recording_id, version, ciphertext)
    values (of_recording, based_on + 1, new_text)
    on conflict (recording_id) do update
    set version = excluded.version, ciphertext = excluded.ciphertext, changed_at = private.now();
    delete from private.note_section_answers as a where a.recording_id = of_recording and a.section = of_section;
    delete from private.note_sections as s where s.recording_id = of_recording and s.section = of_section;
    return true;
end
$$;

-- Ends a section that cannot be written with an error that the doctor sees. If no section is given, the function ends
-- all sections of the recording. If `is_useless`, the stored answers are deleted, because no section can be made of
-- them, and a retry requests them again.
create function private.fail_note_section(of_recording uuid, of_section text, why text, is_useless boolean) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform from resguardo.transcripts as t where t.recording_id = of_recording for update;
    delete from private.note_section_answers as a
    where is_useless and a.recording_id = of_recording and (of_section is null or a.section = of_section);
    update private.note_sections as s set error = why
    where s.recording_id = of_recording and s.error is null and (of_section is null or s.section = of_section);
end
$$;

-- Queues a job for each recording with an unfinished section and without a job, and returns how many jobs it queued. A
-- recording that waits for its doctor's budget gets its job from `resume_language_work`.
create function private.resume_note_sections() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    idle constant uuid[] := array(
        select distinct s.recording_id from private.note_sections as s
        where s.error is null and not private.is_to_be_destroyed(s.recording_id)
            and not exists (
                select from jobs.procrastinate_jobs as j
                where j.lock = 'write_note_section:' || s.recording_id and j.status in ('todo', 'doing')
            )
            and not exists (
                select from private.held_language_work as h
                where h.recording_id = s.recording_id and h.task = 'write_note_section'
            )
    );
begin
    perform private.put_job('write_note_section', i.id) from unnest(idle) as i (id);
    return cardinality(idle);
end
$$;


-- 61_signed_notes.sql

-- Signed notes: the notes that doctors signed, and their addenda. A signed note is encrypted with the data key of the
-- patient, so it outlives the recording, and is destroyed when its own retention term has passed.

create table resguardo.signed_notes (
    id uuid primary key,
    recording_id uuid not null constraint signed_notes_recording_id_key unique,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    status text not null default 'KEPT'
    constraint signed_notes_status_is_known check (status in ('KEPT', 'DESTROYING', 'DESTROYED')),
    signed_at timestamptz not null,
    version_count integer not null default 0
    constraint signed_notes_version_count_range check (version_count between 0 and 100),
    quote_count integer not null default 0 constraint signed_notes_quote_count_is_count check (quote_count >= 0),
    term_from timestamptz not null,
    due_at timestamptz,
    retention_policy integer
    constraint signed_notes_retention_policy_fkey references resguardo.retention_policies (id),
    constraint signed_notes_identity_key unique (id, consultation_id, doctor_id, patient_id),
    constraint signed_notes_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint signed_notes_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade
);
alter table resguardo.signed_notes enable row level security;
comment on column resguardo.signed_notes.version_count is
'The signed note is version 1, and each addendum is a version.';
comment on column resguardo.signed_notes.quote_count is 'How many quotes of the recording all versions keep.';
comment on column resguardo.signed_notes.term_from is 'When the newest version was signed. The term counts from it.';
create index signed_notes_recording_idx on resguardo.signed_notes (recording_id, consultation_id);
create index signed_notes_consultation_idx on resguardo.signed_notes (consultation_id, doctor_id, patient_id);
create index signed_notes_doctor_idx on resguardo.signed_notes (doctor_id, signed_at desc, id desc);
create index signed_notes_patient_idx on resguardo.signed_notes (patient_id, signed_at desc, id desc);
create index signed_notes_policy_idx on resguardo.signed_notes (retention_policy);
create index signed_notes_due_idx on resguardo.signed_notes (due_at) where status = 'KEPT';

create table resguardo.signed_note_versions (
    note_id uuid not null,
    version integer not null constraint signed_note_versions_version_is_positive check (version > 0),
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    signed_at timestamptz not null,
    sha256 text not null constraint signed_note_versions_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes integer not null constraint signed_note_versions_size_is_positive check (size_bytes > 0),
    quote_count integer not null constraint signed_note_versions_quote_count_is_count check (quote_count >= 0),
    constraint signed_note_versions_pkey primary key (note_id, version),
    constraint signed_note_versions_note_fkey foreign key (note_id, consultation_id, doctor_id, patient_id)
    references resguardo.signed_notes (id, consultation_id, doctor_id, patient_id) on update cascade
);
alter table resguardo.signed_note_versions enable row level security;
comment on table resguardo.signed_note_versions is
'The SHA-256 of each signed file. The file contains a random salt, so nobody can guess a note from its hash.';
create index signed_note_versions_note_idx
on resguardo.signed_note_versions (note_id, consultation_id, doctor_id, patient_id);
create index signed_note_versions_doctor_idx on resguardo.signed_note_versions (doctor_id);
create index signed_note_versions_patient_idx on resguardo.signed_note_versions (patient_id);

create table private.signed_note_texts (
    note_id uuid not null,
    version integer not null,
    ciphertext bytea not null
    constraint signed_note_texts_ciphertext_length check (length(ciphertext) between 29 and 16777216),
    constraint signed_note_texts_pkey primary key (note_id, version),
    constraint signed_note_texts_version_fkey foreign key (note_id, version)
    references resguardo.signed_note_versions (note_id, version)
);
comment on table private.signed_note_texts is 'Each signed file, encrypted with the data key of the patient.';

-- Begins the signature of a version of a note, and returns what the signed file must contain and the data key of the
-- patient, which is `offered` if the patient has none yet. Version 1 is the note, and each later version an addendum.
-- Version 1 needs the recording; an addendum does not. The transaction must then call store_signed_note(), and its
-- commit writes the audit row. If the call repeats an earlier one, the transaction stores nothing, and the audit row
-- has the reason `repeated` and no digest. Returns no row if the recording does not belong to the caller; the function
-- then writes an audit row with DENIED or ABSENT. The session's TOTP code must be no older than the given maximum age.
-- Raises RG403 (totp_stale), RG409 (recording_being_deleted, recording_deleted, signed_note_destroyed,
-- signed_note_version_taken, signed_note_full).
create function private.begin_signing(
    of_recording uuid, of_version integer, totp_max_age_seconds integer, offered bytea, offered_root_key text
) returns table (
    note_id uuid, patient_id uuid, consultation_id uuid, signed_at timestamptz, wrapped bytea, root_key text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    action constant text := case of_version when 1 then 'note.sign' else 'note.add_addendum' end;
    wanted resguardo.recordings;
    note resguardo.signed_notes;
    note_of_version uuid;
begin
    perform private.require_recent_totp(totp_max_age_seconds);
    select r.* into wanted from resguardo.recordings as r
    where r.id = of_recording and r.doctor_id = doctor and r.medium = 'VIDEO' for no key update;
    if wanted.id is null then
        perform private.write_lookup(
            action, 'recording', 'recording', of_recording, false, '[]', '{}', '{}', 0, array['signedNote']
        );
        return;
    end if;
    select n.* into note from resguardo.signed_notes as n where n.recording_id = of_recording for update;
    if note.id is not null and note.status <> 'KEPT' then
        raise exception 'signed_note_destroyed' using errcode = 'RG409';
    elsif of_version is distinct from coalesce(note.version_count, 0) + 1 then
        raise exception 'signed_note_version_taken' using errcode = 'RG409';
    elsif of_version > 100 then
        raise exception 'signed_note_full' using errcode = 'RG409';
    elsif note.id is null and wanted.status = 'DELETED' then
        raise exception 'recording_deleted' using errcode = 'RG409';
    elsif note.id is null and private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    note_of_version := coalesce(note.id, gen_random_uuid());
    perform private.write_audit_later(
        action, 'repeated', 'signed_note', note_of_version, wanted.patient_id, wanted.consultation_id,
        array['signedNote'], null
    );
    perform private.make_patient_key(wanted.patient_id, wanted.consultation_id, offered, offered_root_key);
    return query
    select note_of_version, wanted.patient_id, wanted.consultation_id, private.now(), k.wrapped_key, k.root_key_id
    from private.patient_keys as k where k.patient_id = wanted.patient_id;
end
$$;

-- Stores the version of a note whose signature began in this transaction: its metadata, its ciphertext, and in the
-- pending audit row the SHA-256 of the signed file. The note's retention term then counts from this version. Raises
-- RG409 (note_quotes_not_permitted) if the version has quotes and the consents do not allow quotes in signed notes.
create function private.store_signed_note(
    of_note uuid, of_recording uuid, of_version integer, of_signed_at timestamptz, new_ciphertext bytea, of_sha256 text,
    of_size integer, of_quotes integer
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    about resguardo.recordings;
begin
    lock table resguardo.signed_notes in row exclusive mode;
    select r.* into about from resguardo.recordings as r where r.id = of_recording and r.doctor_id = doctor;
    update private.pending_audit_rows as p set digest = of_sha256, byte_count = of_size, reason = null
    where p.transaction_id = pg_current_xact_id() and p.entity_type = 'signed_note' and p.entity_id = of_note
        and p.action = case of_version when 1 then 'note.sign' else 'note.add_addendum' end;
    if not found or about.id is null
        or of_signed_at not between private.now() - interval '5 minutes' and private.now()
    then
        raise exception 'signature_not_begun' using errcode = 'RG403';
    elsif of_quotes > 0 and private.consent_objection(about.consultation_id) is not null then
        raise exception 'note_quotes_not_permitted' using errcode = 'RG409';
    end if;
    insert into resguardo.signed_notes as n (
        id, recording_id, consultation_id, doctor_id, patient_id, signed_at, term_from, retention_policy
    ) values (
        of_note, of_recording, about.consultation_id, about.doctor_id, about.patient_id, of_signed_at, of_signed_at,
        (private.active_policy()).id
    )
    on conflict (recording_id) do nothing;
    update resguardo.signed_notes as n
    set version_count = of_version, quote_count = n.quote_count + of_quotes,
        term_from = greatest(n.term_from, of_signed_at, private.latest_time())
    where n.id = of_note and n.version_count = of_version - 1 and n.status = 'KEPT';
    if not found then
        raise exception 'signed_note_version_taken' using errcode = 'RG409';
    end if;
    insert into resguardo.signed_note_versions (
        note_id, version, consultation_id, doctor_id, patient_id, signed_at, sha256, size_bytes, quote_count
    ) values (
        of_note, of_version, about.consultation_id, about.doctor_id, about.patient_id, of_signed_at, of_sha256, of_size,
        of_quotes
    );
    insert into private.signed_note_texts (note_id, version, ciphertext) values (of_note, of_version, new_ciphertext);
    perform from resguardo.patients as p where p.id = about.patient_id for share;
    perform private.date_signed_notes(of_note, null);
end
$$;

-- Computes the due date of one signed note, of all signed notes of a patient, or, if both are null, of all signed notes
-- to which the active retention policy applies. A due date of a note never becomes earlier, unless a policy that
-- applies to existing records shortens it; it then becomes no earlier than now. Returns the notes whose due date has
-- changed.
create function private.date_signed_notes(of_note uuid, of_patient uuid) returns uuid[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    active constant resguardo.retention_policies := private.active_policy();
    is_for_all constant boolean := of_note is null and of_patient is null;
    dated uuid[];
begin
    with dates as (
        select n.id, p.id as policy_id, n.due_at as due_before,
            private.due_of(p.terms, c.kind, s.birth_date, n.term_from, 'signed_note_days') as due_after
        from resguardo.signed_notes as n
        inner join resguardo.consultations as c on c.id = n.consultation_id
        inner join resguardo.patients as s on s.id = n.patient_id
        inner join resguardo.retention_policies as p on p.id = case
            when n.retention_policy is null or (is_for_all and (active.terms ->> 'applies_to_existing')::boolean)
                then active.id
            else n.retention_policy
        end
        where n.status = 'KEPT' and (of_note is null or n.id = of_note)
            and (of_patient is null or n.patient_id = of_patient)
    ),

    changed as (
        update resguardo.signed_notes as n
        set retention_policy = d.policy_id,
            due_at = case
                when is_for_all then greatest(d.due_after, least(d.due_before, private.now()))
                else greatest(d.due_after, d.due_before)
            end
        from dates as d
        where n.id = d.id
            and (n.retention_policy is distinct from d.policy_id or n.due_at is distinct from d.due_after)
        returning n.id
    )

    select array_agg(c.id) into dated from changed as c;
    return coalesce(dated, '{}');
end
$$;

-- Returns whether the audit log has a signature of a file with this hash, in this consultation.
create function private.is_signature_logged(of_consultation uuid, of_sha256 text) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from audit.events as e
        where e.digest = of_sha256 and e.consultation_ids @> array[of_consultation]
            and e.action in ('note.sign', 'note.add_addendum')
    );
end
$$;

-- Writes the audit row, and returns the versions of those signed notes in `shown` that the calling doctor signed,
-- oldest version first, with their ciphertexts and the data key of the patient. `asked` is the recording or the
-- patient by which the doctor asked, or null for all notes. `is_logged` says whether the audit log has the hash of
-- the version. A destroyed note has no ciphertext and no key.
create function private.read_signed_notes(asked_type text, asked uuid, shown jsonb, of_fields text[])
returns table (
    note_id uuid, status text, patient_id uuid, consultation_id uuid, recording_id uuid, version integer,
    signed_at timestamptz, sha256 text, quote_count integer, is_logged boolean, ciphertext bytea, wrapped bytea,
    root_key text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    ids uuid[];
    patients uuid[];
    consultations uuid[];
begin
    perform private.use_quota(doctor, 'pages');
    select array_agg(n.id), array_agg(distinct n.patient_id), array_agg(distinct n.consultation_id)
    into ids, patients, consultations
    from resguardo.signed_notes as n
    where n.doctor_id = doctor and n.id in (
        select (i.id)::uuid
        from jsonb_array_elements(shown) as e (entry)
        cross join lateral jsonb_array_elements_text(e.entry -> 'ids') as i (id)
        where e.entry ->> 'type' = 'signed_note'
    );
    perform private.write_lookup(
        'note.read', case asked_type when 'recording' then 'recording' else 'signed_note' end,
        coalesce(asked_type, 'signed_note'), asked,
        exists (
            select from resguardo.consultations as c
            where c.doctor_id = doctor and asked_type = 'patient' and c.patient_id = asked
        ) or exists (
            select from resguardo.recordings as r
            where r.doctor_id = doctor and asked_type = 'recording' and r.id = asked
        ),
        shown, patients, consultations, coalesce(cardinality(ids), 0), of_fields
    );
    return query
    select
        n.id, n.status, n.patient_id, n.consultation_id, n.recording_id, v.version, v.signed_at, v.sha256,
        v.quote_count,
        private.is_signature_logged(n.consultation_id, v.sha256),
        t.ciphertext, k.wrapped_key, k.root_key_id
    from resguardo.signed_notes as n
    inner join resguardo.signed_note_versions as v on v.note_id = n.id
    left join private.signed_note_texts as t on t.note_id = v.note_id and t.version = v.version
    left join private.patient_keys as k on k.patient_id = n.patient_id and t.note_id is not null
    where n.id = any(ids)
    order by n.id, v.version;
end
$$;


-- 62_note_destructions.sql

-- The destruction of signed notes whose retention term has passed, and its certificates. A destruction first deletes
-- the ciphertexts, and the data key of a patient without further notes. Then its certificate is signed and written
-- to the ledger.

create table private.note_destructions (
    note_id uuid primary key
    constraint note_destructions_note_id_fkey references resguardo.signed_notes (id),
    ground text not null default 'RETENTION'
    constraint note_destructions_ground_is_known check (ground in ('RETENTION', 'RESTORE')),
    number integer not null default 1 constraint note_destructions_number_is_positive check (number > 0),
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default private.now(),
    error text constraint note_destructions_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    hold_checked_at timestamptz,
    destroyed_at timestamptz,
    destroyed_keys jsonb not null default '[]',
    cleared_rows bigint not null default 0
);
comment on column private.note_destructions.number is
'The number of its certificate. 2 and more: a restored backup brought the note back and it was destroyed again.';
create index note_destructions_open_idx on private.note_destructions (next_attempt_at) where destroyed_at is not null;

create table resguardo.note_certificates (
    note_id uuid not null,
    number integer not null,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    document text not null,
    sha256 text not null constraint note_certificates_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    kept_at timestamptz not null default private.now(),
    constraint note_certificates_pkey primary key (note_id, number),
    constraint note_certificates_note_fkey foreign key (note_id, consultation_id, doctor_id, patient_id)
    references resguardo.signed_notes (id, consultation_id, doctor_id, patient_id) on update cascade
);
alter table resguardo.note_certificates enable row level security;
comment on column resguardo.note_certificates.document is
'The signed file, equal to the file in the ledger: it holds only ids, sizes and hashes.';
create index note_certificates_note_idx
on resguardo.note_certificates (note_id, consultation_id, doctor_id, patient_id);
create index note_certificates_doctor_idx on resguardo.note_certificates (doctor_id);
create index note_certificates_patient_idx on resguardo.note_certificates (patient_id);

-- Law 7: returns the ids of the active legal holds and the access requests that forbid the destruction of a signed
-- note. A hold on a range of time covers a note that was signed in the range, or whose recording or consultation the
-- range includes.
create function private.holds_on_note(of_note uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select h.id
        from resguardo.signed_notes as n
        inner join resguardo.recordings as r on r.id = n.recording_id
        inner join resguardo.consultations as c on c.id = n.consultation_id
        inner join resguardo.legal_holds as h
            on h.released_at is null
            and (
                h.consultation_id = n.consultation_id or h.patient_id = n.patient_id
                or (n.signed_at < h.recorded_until and n.term_from >= h.recorded_since)
                or (r.created_at >= h.recorded_since and r.created_at < h.recorded_until)
                or (r.started_at >= h.recorded_since and r.started_at < h.recorded_until)
                or (c.scheduled_at >= h.recorded_since and c.scheduled_at < h.recorded_until)
            )
        where n.id = of_note
        union all
        select a.id
        from resguardo.signed_notes as n
        inner join resguardo.access_requests as a
            on a.patient_id = n.patient_id and a.status in ('OPEN', 'APPROVED', 'DENIED')
            and (a.consultation_id is null or a.consultation_id = n.consultation_id) and private.request_holds(a)
        where n.id = of_note
    );
end
$$;

-- Returns the signed notes that a legal hold covers and that exist, by the rule of `private.holds_on_note`.
create function private.notes_under(of_hold resguardo.legal_holds) returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if of_hold.consultation_id is not null then
        return query
        select n.id from resguardo.signed_notes as n
        where n.consultation_id = of_hold.consultation_id and n.status = 'KEPT';
    elsif of_hold.patient_id is not null then
        return query
        select n.id from resguardo.signed_notes as n
        where n.patient_id = of_hold.patient_id and n.status = 'KEPT';
    else
        return query
        select n.id
        from resguardo.signed_notes as n
        inner join resguardo.recordings as r on r.id = n.recording_id
        inner join resguardo.consultations as c on c.id = n.consultation_id
        where n.status = 'KEPT'
            and (
                (n.signed_at < of_hold.recorded_until and n.term_from >= of_hold.recorded_since)
                or (r.created_at >= of_hold.recorded_since and r.created_at < of_hold.recorded_until)
                or (r.started_at >= of_hold.recorded_since and r.started_at < of_hold.recorded_until)
                or (c.scheduled_at >= of_hold.recorded_since and c.scheduled_at < of_hold.recorded_until)
            );
    end if;
end
$$;

-- Returns the signed notes that a legal hold or an access request keeps from destruction, by the rule of
-- `private.holds_on_note`.
create function private.held_notes() returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select v.id
    from resguardo.legal_holds as h
    cross join lateral private.notes_under(h) as v (id)
    where h.released_at is null
    union
    select n.id
    from resguardo.access_requests as a
    inner join resguardo.signed_notes as n
        on n.patient_id = a.patient_id and (a.consultation_id is null or n.consultation_id = a.consultation_id)
    where a.status in ('OPEN', 'APPROVED', 'DENIED') and private.request_holds(a) and n.status = 'KEPT';
end
$$;

-- Returns the signed notes to which a retention policy would apply if it came into force now, each with its due date
-- now and then, by the rule of `private.date_signed_notes`.
create function private.redated_notes(of_policy integer)
returns table (note_id uuid, due_before timestamptz, due_after timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    policy resguardo.retention_policies;
begin
    select p.* into policy from resguardo.retention_policies as p where p.id = of_policy;
    return query
    select
        n.id, n.due_at,
        greatest(
            private.due_of(policy.terms, c.kind, s.birth_date, n.term_from, 'signed_note_days'),
            least(n.due_at, private.now())
        )
    from resguardo.signed_notes as n
    inner join resguardo.consultations as c on c.id = n.consultation_id
    inner join resguardo.patients as s on s.id = n.patient_id
    where n.status = 'KEPT' and (n.retention_policy is null or (policy.terms ->> 'applies_to_existing')::boolean);
end
$$;

-- Destroys at most `most` signed notes that are due, and returns the data for the certificate of each note that is
-- destroyed and has no certificate yet. A note is due if both the database's clock and the given time, which comes from
-- the bucket's clock, have reached its due date. The function destroys no note under a legal hold or an access request.
-- It ends the encrypted copies that contain a due note, and destroys the note once their objects are deleted.
create function private.destroy_due_notes(by_clock timestamptz, most integer)
returns table (note_id uuid, attempt integer, facts jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := least(by_clock, private.now());
    due uuid[];
    patients uuid[];
    claimed uuid[];
begin
    perform private.lock_keeping(false);
    update private.keeping_clock as c set highest = moment where c.highest < moment;
    due := array(
        select n.id from resguardo.signed_notes as n
        where n.status = 'KEPT' and n.due_at <= moment and private.holds_on_note(n.id) = '{}'
        order by n.due_at, n.id
        limit most
        for update skip locked
    );
    update private.access_exports as e set expires_at = private.now()
    where e.note_ids && due and e.expired_at is null and e.expires_at > private.now();
    due := array(
        select d.id from unnest(due) as d (id)
        where not exists (
            select from private.access_exports as e where e.note_ids @> array[d.id] and e.expired_at is null
        )
    );
    patients := array(select distinct n.patient_id from resguardo.signed_notes as n where n.id = any(due));
    perform from private.patient_keys as k where k.patient_id = any(patients) order by k.patient_id for update;
    insert into private.note_destructions as d (note_id) select i.id from unnest(due) as i (id)
    on conflict on constraint note_destructions_pkey do nothing;
    update private.note_destructions as d set hold_checked_at = private.now(), destroyed_at = private.now()
    where d.note_id = any(due);
    with cleared as (
        delete from private.signed_note_texts as t where t.note_id = any(due) returning t.note_id
    )

    update private.note_destructions as d set cleared_rows = d.cleared_rows + c.how_many
    from (select l.note_id, count(*) as how_many from cleared as l group by l.note_id) as c
    where d.note_id = c.note_id;
    with shredded as (
        delete from private.patient_keys as k
        where k.patient_id = any(patients) and not exists (
            select
            from private.signed_note_texts as t
            inner join resguardo.signed_notes as n on n.id = t.note_id
            where n.patient_id = k.patient_id
        ) and not exists (select from private.patient_texts as x where x.patient_id = k.patient_id)
        returning k.patient_id, k.wrapped_key, k.root_key_id
    )

    update private.note_destructions as d
    set destroyed_keys = d.destroyed_keys || jsonb_build_object(
        'kind', 'patient', 'fingerprint', encode(sha256(s.wrapped_key), 'hex'), 'root_key_id', s.root_key_id,
        'destroyed_at', d.destroyed_at
    )
    from shredded as s
    inner join resguardo.signed_notes as n on n.patient_id = s.patient_id
    where d.note_id = n.id and n.id = any(due);
    update resguardo.signed_notes as n set status = 'DESTROYING' where n.id = any(due);
    perform private.audit_notes('note.destroy', 'begun', due);
    with taken as (
        update private.note_destructions as d
        set attempts = d.attempts + 1, next_attempt_at = private.now() + interval '15 minutes'
        where d.note_id in (
            select o.note_id
            from private.note_destructions as o
            inner join resguardo.signed_notes as n on n.id = o.note_id and n.status = 'DESTROYING'
            where o.destroyed_at is not null
                and (o.next_attempt_at <= private.now() or o.next_attempt_at > private.now() + interval '1 day')
            order by o.next_attempt_at, o.note_id
            limit most
            for update of o skip locked
        )
        returning d.note_id
    )

    select array_agg(t.note_id) into claimed from taken as t;
    return query
    select
        d.note_id, d.attempts,
        jsonb_build_object(
            'recording_id', n.recording_id, 'signed_note_id', n.id, 'consultation_id', n.consultation_id,
            'ground', d.ground, 'reason', null, 'requested_at', null,
            'policy', case when p.id is not null then jsonb_build_object(
                'name', p.name, 'sha256', p.sha256, 'due_at', n.due_at,
                'term_days', private.term_of(p.terms, c.kind, 'signed_note_days')
            ) end,
            'hold_checked_at', d.hold_checked_at, 'destroyed_at', d.destroyed_at, 'keys', d.destroyed_keys,
            'text_rows', jsonb_build_array(
                jsonb_build_object('table', 'signed_note_texts', 'rows', d.cleared_rows)
            ),
            'number', d.number,
            'repeats', (
                select x.sha256 from resguardo.note_certificates as x
                where x.note_id = d.note_id and x.number = d.number - 1
            ),
            'objects', jsonb_build_array(), 'surviving_notes', jsonb_build_array()
        )
    from private.note_destructions as d
    inner join resguardo.signed_notes as n on n.id = d.note_id
    inner join resguardo.consultations as c on c.id = n.consultation_id
    left join resguardo.retention_policies as p on p.id = n.retention_policy
    where d.note_id = any(claimed);
end
$$;

-- Writes the audit row about one step of the destruction of several signed notes.
create function private.audit_notes(action text, reason text, notes uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if cardinality(notes) > 0 then
        perform private.write_audit(
            action, 'ALLOWED', reason, 'signed_note', notes,
            array(select distinct n.patient_id from resguardo.signed_notes as n where n.id = any(notes)),
            array(select distinct n.consultation_id from resguardo.signed_notes as n where n.id = any(notes)),
            array['text', 'key'], cardinality(notes), null
        );
    end if;
end
$$;

-- Stores the certificates of destroyed notes and sets the notes to DESTROYED.
create function private.finish_note_destructions(notes uuid[], documents text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    finished constant uuid[] := array(
        select n.id from resguardo.signed_notes as n where n.id = any(notes) and n.status = 'DESTROYING'
        order by n.id for update
    );
begin
    insert into resguardo.note_certificates (
        note_id, number, consultation_id, doctor_id, patient_id, document, sha256
    )
    select
        n.id, d.number, n.consultation_id, n.doctor_id, n.patient_id, g.document,
        encode(sha256(convert_to(g.document, 'UTF8')), 'hex')
    from unnest(notes, documents) as g (note_id, document)
    inner join resguardo.signed_notes as n on n.id = g.note_id and n.id = any(finished)
    inner join private.note_destructions as d on d.note_id = n.id
    on conflict (note_id, number) do nothing;
    perform private.audit_notes('note.destroy', 'proven', finished);
    update resguardo.signed_notes as n set status = 'DESTROYED' where n.id = any(finished);
    update private.note_destructions as d set error = null where d.note_id = any(finished);
end
$$;

-- Stores why the certificate of a destroyed note could not be made, and returns how many attempts there were. The next
-- attempt is made within one hour. Returns null if a later attempt has taken over.
create function private.fail_note_destruction(of_note uuid, attempt integer, why text) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    times integer;
begin
    update private.note_destructions as d
    set error = why,
        next_attempt_at = private.now() + least(interval '1 hour', interval '1 minute' * 2 ^ least(d.attempts - 1, 10))
    where d.note_id = of_note and d.attempts = attempt
    returning d.attempts into times;
    return times;
end
$$;

-- Stores the certificates of earlier destructions of a note, oldest first, and gives the current destruction the next
-- number.
create function private.keep_earlier_note_certificates(of_note uuid, documents text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.note_destructions as d set number = cardinality(documents) + 1 where d.note_id = of_note;
    insert into resguardo.note_certificates (
        note_id, number, consultation_id, doctor_id, patient_id, document, sha256
    )
    select
        n.id, g.place, n.consultation_id, n.doctor_id, n.patient_id, g.document,
        encode(sha256(convert_to(g.document, 'UTF8')), 'hex')
    from unnest(documents) with ordinality as g (document, place)
    inner join resguardo.signed_notes as n on n.id = of_note
    on conflict (note_id, number) do nothing;
end
$$;

-- Returns the signed notes among the given ids of the ledger: whether each is DESTROYED in this database, is held, and
-- whether its destruction has begun.
create function private.restored_notes(ids uuid[])
returns table (note_id uuid, is_destroyed boolean, is_held boolean, is_begun boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        n.id, n.status = 'DESTROYED', private.holds_on_note(n.id) <> '{}',
        n.status = 'DESTROYING' or exists (
            select from private.note_destructions as d
            where d.note_id = n.id and d.ground = 'RESTORE' and n.status = 'KEPT'
        )
    from resguardo.signed_notes as n
    where n.id = any(ids);
end
$$;

-- Makes a signed note that a restored backup has brought back due now, so that the worker destroys it again, and stores
-- the certificates that the backup lacks. Returns false if a legal hold or an access request covers the note, or it is
-- not KEPT.
create function private.repeat_note_destruction(of_note uuid, documents text[]) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.lock_keeping(false);
    update resguardo.signed_notes as n set due_at = least(n.due_at, private.now())
    where n.id = of_note and n.status = 'KEPT' and private.holds_on_note(n.id) = '{}';
    if not found then
        return false;
    end if;
    insert into private.note_destructions as d (note_id, ground) values (of_note, 'RESTORE')
    on conflict (note_id) do update set ground = 'RESTORE', destroyed_at = null, next_attempt_at = private.now();
    perform private.keep_earlier_note_certificates(of_note, documents);
    perform private.audit_notes('restore.repeat', 'in_the_ledger', array[of_note]);
    return true;
end
$$;

-- Returns, for the certificate of a recording, the signed notes that survive the recording: the hash of each signed
-- version, and how many quotes of the recording the note keeps.
create function private.surviving_notes(of_recording uuid) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        (
            select jsonb_agg(
                jsonb_build_object(
                    'signed_note_id', n.id, 'quotes', n.quote_count, 'due_at', n.due_at,
                    'versions', (
                        select jsonb_agg(v.sha256 order by v.version)
                        from resguardo.signed_note_versions as v where v.note_id = n.id
                    )
                ) order by n.id
            )
            from resguardo.signed_notes as n
            where n.recording_id = of_recording and n.status = 'KEPT'
        ),
        '[]'
    );
end
$$;


-- 63_costs.sql

-- The cost ledger: what each recording used of each vendor. The daily budget for language models.
--
-- The ledger and the budget contain no PHI. The ledger keeps the rows of a destroyed recording, because the practice
-- still pays the vendors' bills. A budget bounds requests to a language model alone. No function of recording,
-- storage, transcription, deletion or access requests reads it.

create table private.cost_entries (
    recording_id uuid not null,
    day date not null,
    kind text not null
    constraint cost_entries_kind_is_known check (kind in ('EGRESS', 'STORAGE', 'SPEECH', 'LANGUAGE')),
    vendor text not null constraint cost_entries_vendor_is_short check (length(vendor) between 1 and 253),
    model text not null constraint cost_entries_model_is_short check (length(model) between 0 and 200),
    unit text not null
    constraint cost_entries_unit_is_known check (
        unit in ('MILLISECONDS', 'BYTES', 'INPUT_TOKENS', 'CACHED_TOKENS', 'OUTPUT_TOKENS')
    ),
    doctor_id uuid not null,
    quantity bigint not null
    constraint cost_entries_quantity_is_positive check (quantity >= 0 or kind = 'STORAGE'),
    constraint cost_entries_pkey primary key (recording_id, day, kind, vendor, model, unit),
    constraint cost_entries_recording_fkey foreign key (recording_id) references resguardo.recordings (id)
);
comment on table private.cost_entries is
'What each recording used on each day (UTC), as each vendor reported it. Sound counts for its video.';
comment on column private.cost_entries.model is 'The model that the request named. Empty if the vendor has no models.';
comment on column private.cost_entries.quantity is
'MILLISECONDS of egress or of transcribed sound, tokens, or BYTES: stored bytes count on the day when the object was
verified, and a negative number counts on the day when it was destroyed. CACHED_TOKENS are part of INPUT_TOKENS.';
create index cost_entries_day_idx on private.cost_entries (day, kind);
create index cost_entries_doctor_idx on private.cost_entries (doctor_id, day) where kind = 'LANGUAGE';

create table private.language_budget (
    singleton boolean primary key default true constraint language_budget_is_one_row check (singleton),
    tokens_per_day bigint not null constraint language_budget_is_positive check (tokens_per_day > 0)
);
comment on table private.language_budget is
'How many tokens (input and output) language models may use for one doctor and day. `resguardo migrate` loads
policies/quotas.toml.';

create table private.language_budget_lifts (
    doctor_id uuid not null,
    day date not null,
    lifted_by uuid not null,
    lifted_at timestamptz not null default clock_timestamp(),
    constraint language_budget_lifts_pkey primary key (doctor_id, day)
);
comment on table private.language_budget_lifts is
'The days (UTC) on which a compliance officer lifted a doctor''s budget. No budget bounds these days.';

create table private.held_language_work (
    recording_id uuid not null,
    task text not null,
    doctor_id uuid not null,
    held_at timestamptz not null default clock_timestamp(),
    constraint held_language_work_pkey primary key (recording_id, task),
    constraint held_language_work_recording_fkey foreign key (recording_id) references resguardo.recordings (id),
    constraint held_language_work_task_fkey foreign key (task) references private.tasks (name)
);
comment on table private.held_language_work is
'The jobs that wait until their doctor''s budget permits another request to the language model.';
create index held_language_work_doctor_idx on private.held_language_work (doctor_id);
create index held_language_work_task_idx on private.held_language_work (task);

-- Adds a quantity to the ledger of a recording, in the caller's transaction. The sound recordings beside a video count
-- for the video. Parallel transactions of one recording wait for each other, so the caller calls the function last.
create function private.count_usage(
    of_recording uuid, of_kind text, of_vendor text, of_model text, of_unit text, of_quantity bigint
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.cost_entries as e (recording_id, day, kind, vendor, model, unit, doctor_id, quantity)
    select coalesce(r.video_id, r.id), private.today(), of_kind, of_vendor, coalesce(of_model, ''), of_unit, r.doctor_id,
        of_quantity
    from resguardo.recordings as r
    where r.id = of_recording and of_quantity <> 0
    on conflict (recording_id, day, kind, vendor, model, unit) do update set quantity = e.quantity + excluded.quantity;
end
$$;

-- Adds the tokens of one answer of a language model to the ledger of a recording. Only the worker, and the doctor of
-- the recording, may count. Raises RG404 (consultation_not_found).
create function private.count_tokens(
    of_recording uuid, of_vendor text, of_model text, input_tokens bigint, cached_tokens bigint, output_tokens bigint
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_own_consultation(
        (select r.consultation_id from resguardo.recordings as r where r.id = of_recording)
    );
    if least(input_tokens, cached_tokens, output_tokens) < 0 then
        raise check_violation using constraint = 'cost_entries_quantity_is_positive';
    end if;
    perform private.count_usage(of_recording, 'LANGUAGE', of_vendor, of_model, 'INPUT_TOKENS', input_tokens);
    perform private.count_usage(of_recording, 'LANGUAGE', of_vendor, of_model, 'CACHED_TOKENS', cached_tokens);
    perform private.count_usage(of_recording, 'LANGUAGE', of_vendor, of_model, 'OUTPUT_TOKENS', output_tokens);
end
$$;

-- Returns how many tokens language models used for the doctor on the day (UTC). The extractive writer of this process
-- uses none.
create function private.language_tokens_used(of_doctor uuid, on_day date) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(sum(e.quantity), 0)::bigint from private.cost_entries as e
        where e.doctor_id = of_doctor and e.day = on_day and e.kind = 'LANGUAGE'
            and e.unit in ('INPUT_TOKENS', 'OUTPUT_TOKENS')
    );
end
$$;

-- Returns how many tokens language models may still use for the doctor today (UTC): 0 if the budget is used up, and
-- the largest bigint if an officer lifted the budget for today. Without a stored budget, no request is permitted. A
-- request that begins before the budget is used up may exceed it, because its tokens are known afterwards.
create function private.language_budget_left(of_doctor uuid) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    today constant date := private.today();
begin
    if exists (
        select from private.language_budget_lifts as l where l.doctor_id = of_doctor and l.day = today
    ) then
        return 9223372036854775807;
    end if;
    return greatest(
        0,
        coalesce((select b.tokens_per_day from private.language_budget as b), 0)
        - private.language_tokens_used(of_doctor, today)
    );
end
$$;

-- Raises RG429 (language_budget_used_up) if the budget of the doctor who sends the request is used up; the error's
-- detail is the number of seconds until the next day (UTC).
create function private.require_language_budget() returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if private.language_budget_left(private.doctor()) = 0 then
        raise exception 'language_budget_used_up' using
            errcode = 'RG429',
            detail = ceil(extract(
                epoch from (private.today() + 1)::timestamp at time zone 'UTC' - private.now()
            ))::integer;
    end if;
end
$$;

-- Keeps a job of the recording for the time when its doctor's budget permits another request, in the transaction that
-- ends the present job. `resume_language_work` queues the job again.
create function private.hold_language_work(of_recording uuid, of_task text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.held_language_work (recording_id, task, doctor_id)
    select r.id, of_task, r.doctor_id from resguardo.recordings as r where r.id = of_recording
    on conflict (recording_id, task) do nothing;
end
$$;

-- Queues the held jobs of every doctor whose budget permits another request, and returns their number, at most 1,000.
create function private.resume_language_work() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    resumed integer := 0;
    work record;
begin
    for work in
        select h.recording_id, h.task from private.held_language_work as h
        where h.doctor_id in (
            select d.doctor_id from (select distinct w.doctor_id from private.held_language_work as w) as d
            where private.language_budget_left(d.doctor_id) > 0
        )
        order by h.held_at, h.recording_id, h.task
        limit 1000
        for update skip locked
    loop
        delete from private.held_language_work as h where h.recording_id = work.recording_id and h.task = work.task;
        perform private.put_job(work.task, work.recording_id);
        resumed := resumed + 1;
    end loop;
    return resumed;
end
$$;

-- Counts the egress when LiveKit has reported its end, and the stored bytes of a recording when it becomes READY. When
-- the recording is destroyed, the function counts its bytes as a negative number. An import uses no egress.
create function private.count_recording() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if new.source = 'EGRESS' and old.ended_at is null and new.ended_at is not null then
        perform private.count_usage(
            new.id, 'EGRESS', 'livekit', '', 'MILLISECONDS',
            greatest(0, ceil(1000 * extract(epoch from new.ended_at - coalesce(new.started_at, new.ended_at))))::bigint
        );
    end if;
    if new.status = 'READY' and old.status <> 'READY' then
        perform private.count_usage(new.id, 'STORAGE', 'bucket', '', 'BYTES', new.size_bytes);
    elsif new.status = 'DELETED' and old.status = 'READY' then
        perform private.count_usage(new.id, 'STORAGE', 'bucket', '', 'BYTES', -old.size_bytes);
    end if;
    return null;
end
$$;

create trigger recordings_count_usage after update of status, ended_at on resguardo.recordings
for each row when (new.status <> old.status or new.ended_at is distinct from old.ended_at)
execute function private.count_recording();

-- Lifts the budget of a doctor for today (UTC), and queues the jobs that wait for it. Returns the day, the budget, and
-- the tokens that the doctor used today; no row if there is no such doctor. A repeated call changes nothing.
create function private.lift_language_budget(of_doctor uuid)
returns table (day date, tokens_per_day bigint, used_tokens bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    today constant date := private.today();
    is_doctor constant boolean := exists (
        select from resguardo.staff as s where s.user_id = of_doctor and s.role = 'clinician'
    );
begin
    perform private.write_audit(
        'language_budget.lift', case when is_doctor then 'ALLOWED' else 'ABSENT' end, null, 'staff',
        array[of_doctor], '{}', '{}', array['languageBudget'], is_doctor::integer, null
    );
    if not is_doctor then
        return;
    end if;
    insert into private.language_budget_lifts (doctor_id, day, lifted_by)
    values (of_doctor, today, officer)
    on conflict on constraint language_budget_lifts_pkey do nothing;
    perform private.resume_language_work();
    return query select today, b.tokens_per_day, private.language_tokens_used(of_doctor, today)
    from private.language_budget as b;
end
$$;

-- Writes the audit row, and returns what the vendors were used for on the days from `since` to before `until`, by
-- MONTH, DOCTOR or VENDOR (with its models), for compliance. The quantity of STORAGE is in byte days: each stored byte
-- counts once for each day until today on which it was stored. The report names no patient and no recording.
create function private.report_costs(since date, until date, group_by text)
returns table (
    month date, doctor_id uuid, vendor text, model text, kind text, unit text, quantity numeric
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    tomorrow constant date := private.today() + 1;
begin
    perform private.use_quota(private.person(), 'pages');
    perform private.write_audit(
        'cost.report', 'ALLOWED', null, 'cost', '{}', '{}', '{}', array['costReport'], 0, null
    );
    return query
    with windows as materialized (
        select
            case when group_by = 'MONTH' then m.month::date end as month, greatest(m.month::date, since) as begins,
            least((m.month + interval '1 month')::date, until, tomorrow) as ends
        from generate_series(date_trunc('month', since::timestamp), until::timestamp - interval '1 day', '1 month')
            as m (month)
    ),

    daily as materialized (
        select
            e.day, e.kind, e.unit, case when group_by = 'DOCTOR' then e.doctor_id end as doctor_id,
            case when group_by = 'VENDOR' then e.vendor end as vendor,
            case when group_by = 'VENDOR' then e.model end as model, sum(e.quantity) as quantity
        from private.cost_entries as e
        where e.day < until and (e.day >= since or e.kind = 'STORAGE')
        group by 1, 2, 3, 4, 5, 6
    )

    select
        w.month, d.doctor_id, d.vendor, d.model, d.kind, d.unit,
        sum(d.quantity * case when d.kind = 'STORAGE' then w.ends - greatest(d.day, w.begins) else 1 end)
    from windows as w
    inner join daily as d on d.day < w.ends and (d.day >= w.begins or d.kind = 'STORAGE')
    where w.ends > w.begins
    group by w.month, d.doctor_id, d.vendor, d.model, d.kind, d.unit
    having sum(d.quantity * case when d.kind = 'STORAGE' then w.ends - greatest(d.day, w.begins) else 1 end) <> 0;
end
$$;


-- 64_breach_assessments.sql

-- Breach assessments (45 CFR 164.402 to 164.414): an officer assesses a possible breach with the four factors of
-- 164.402(2), decides on it, and records the notices and the sanctions that follow.
--
-- The affected patients and recordings come from the audit log: the worker reads the events that a filter selects, or
-- the events of a review case, in pages. A subject of an assessment neither sees nor changes it.

create table resguardo.breach_assessments (
    id uuid primary key default gen_random_uuid(),
    case_id uuid constraint breach_assessments_case_id_fkey references resguardo.review_cases (id),
    subject_id uuid constraint breach_assessments_subject_id_fkey references resguardo.staff (user_id),
    filter private.audit_filter,
    status text not null default 'OPEN'
    constraint breach_assessments_status_is_known check (status in ('OPEN', 'NOTIFYING', 'CLOSED')),
    count_status text not null default 'COUNTING'
    constraint breach_assessments_count_status_is_known check (count_status in ('COUNTING', 'COUNTED', 'FAILED')),
    count_until timestamptz not null default private.now(),
    count_before_at timestamptz,
    count_before_id uuid,
    event_count bigint not null default 0,
    patient_count integer not null default 0,
    recording_count integer not null default 0,
    discovered_on date not null,
    due_on date not null,
    next_due_on date,
    delay_statement text
    constraint breach_assessments_delay_statement_is_known check (delay_statement in ('ORAL', 'WRITTEN')),
    delayed_until date,
    decision text
    constraint breach_assessments_decision_is_known check (
        decision in (
            'BREACH', 'LOW_PROBABILITY', 'UNINTENTIONAL_ACCESS', 'INADVERTENT_DISCLOSURE', 'NOT_RETAINED', 'SECURED'
        )
    ),
    decided_by uuid constraint breach_assessments_decided_by_fkey references resguardo.staff (user_id),
    decided_at timestamptz,
    late_reason text
    constraint breach_assessments_late_reason_is_known check (
        late_reason in ('SCOPE_UNKNOWN', 'EVIDENCE_LATE', 'STAFF_ABSENCE', 'VENDOR_LATE', 'OVERSIGHT')
    ),
    residents jsonb,
    sha256 text constraint breach_assessments_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    document text,
    event_id uuid,
    opened_by uuid not null constraint breach_assessments_opened_by_fkey references resguardo.staff (user_id),
    created_at timestamptz not null default private.now(),
    closed_at timestamptz,
    constraint breach_assessments_scope_is_given check (num_nonnulls(case_id, filter) >= 1),
    constraint breach_assessments_clock_is_of_the_rule check (due_on = discovered_on + 60),
    constraint breach_assessments_delay_is_whole check ((delay_statement is null) = (delayed_until is null)),
    constraint breach_assessments_decision_is_whole check (
        (status = 'OPEN') = (decision is null)
        and num_nonnulls(decision, decided_by, decided_at, sha256, document, event_id) in (0, 6)
    ),
    constraint breach_assessments_notices_are_of_breaches check (status <> 'NOTIFYING' or decision = 'BREACH'),
    constraint breach_assessments_end_is_whole check ((status = 'CLOSED') = (closed_at is not null)),
    constraint breach_assessments_deadline_is_whole check ((status = 'CLOSED') = (next_due_on is null)),
    constraint breach_assessments_decided_by_another check (decided_by <> subject_id)
);
alter table resguardo.breach_assessments enable row level security;
comment on column resguardo.breach_assessments.subject_id is
'The member of staff whose access is assessed. Null if nobody of the staff is suspected.';
comment on column resguardo.breach_assessments.filter is
'The filter of the events of the incident. Null if a review case lists all its events.';
comment on column resguardo.breach_assessments.count_until is
'The affected patients are those of events before this time.';
comment on column resguardo.breach_assessments.count_before_at is
'With count_before_id: the worker has read the events from count_until back to this one.';
comment on column resguardo.breach_assessments.discovered_on is
'The first day in UTC on which anybody but the subject knew of the incident, or should have known (164.404(a)(2)).';
comment on column resguardo.breach_assessments.due_on is
'The last day for the notices, in UTC: 60 days after the discovery (164.404(b)).';
comment on column resguardo.breach_assessments.next_due_on is
'The last day for the next step: the decision, or the next notice. Null if nothing is left to do.';
comment on column resguardo.breach_assessments.delayed_until is
'Law enforcement has asked that no notice is sent before this day (164.412).';
comment on column resguardo.breach_assessments.late_reason is 'Why the decision came after the deadline.';
comment on column resguardo.breach_assessments.residents is
'How many affected patients live in each state or jurisdiction. Null: all may live in the same one.';
comment on column resguardo.breach_assessments.document is
'What was decided, as JSON with ids and digests. Its SHA-256 is the digest of the audit event breach.seal.';
create index breach_assessments_created_idx on resguardo.breach_assessments (created_at desc, id desc);
create index breach_assessments_status_idx on resguardo.breach_assessments (status, created_at desc, id desc);
create index breach_assessments_next_due_idx on resguardo.breach_assessments (next_due_on) where status <> 'CLOSED';
create unique index breach_assessments_one_of_case_key on resguardo.breach_assessments (case_id)
where status <> 'CLOSED';
create index breach_assessments_case_idx on resguardo.breach_assessments (case_id);
create index breach_assessments_subject_idx on resguardo.breach_assessments (subject_id);
create index breach_assessments_decided_by_idx on resguardo.breach_assessments (decided_by);
create index breach_assessments_opened_by_idx on resguardo.breach_assessments (opened_by);

create table resguardo.breach_patients (
    assessment_id uuid not null
    constraint breach_patients_assessment_id_fkey references resguardo.breach_assessments (id),
    patient_id uuid not null constraint breach_patients_patient_id_fkey references resguardo.patients (id),
    counted_at timestamptz not null default private.now(),
    constraint breach_patients_pkey primary key (assessment_id, patient_id)
);
alter table resguardo.breach_patients enable row level security;
create index breach_patients_counted_idx
on resguardo.breach_patients (assessment_id, counted_at desc, patient_id desc);
create index breach_patients_patient_idx on resguardo.breach_patients (patient_id);

create table resguardo.breach_recordings (
    assessment_id uuid not null
    constraint breach_recordings_assessment_id_fkey references resguardo.breach_assessments (id),
    recording_id uuid not null constraint breach_recordings_recording_id_fkey references resguardo.recordings (id),
    counted_at timestamptz not null default private.now(),
    constraint breach_recordings_pkey primary key (assessment_id, recording_id)
);
alter table resguardo.breach_recordings enable row level security;
create index breach_recordings_counted_idx
on resguardo.breach_recordings (assessment_id, counted_at desc, recording_id desc);
create index breach_recordings_recording_idx on resguardo.breach_recordings (recording_id);

create table resguardo.breach_factors (
    assessment_id uuid not null
    constraint breach_factors_assessment_id_fkey references resguardo.breach_assessments (id),
    factor text not null
    constraint breach_factors_factor_is_known check (
        factor in ('NATURE_AND_EXTENT', 'UNAUTHORIZED_PERSON', 'ACQUIRED_OR_VIEWED', 'MITIGATION')
    ),
    risk text not null constraint breach_factors_risk_is_known check (risk in ('LOW', 'MEDIUM', 'HIGH')),
    rationale text not null constraint breach_factors_rationale_length check (length(rationale) between 1 and 2000),
    salt bytea not null default uuid_send(gen_random_uuid()),
    recorded_by uuid not null constraint breach_factors_recorded_by_fkey references resguardo.staff (user_id),
    recorded_at timestamptz not null default private.now(),
    constraint breach_factors_pkey primary key (assessment_id, factor)
);
alter table resguardo.breach_factors enable row level security;
comment on table resguardo.breach_factors is 'The four factors of the risk assessment (164.402(2)).';
comment on column resguardo.breach_factors.salt is
'Random bytes in front of the rationale in its digest, so that nobody can guess the rationale from the digest.';
create index breach_factors_recorded_by_idx on resguardo.breach_factors (recorded_by);

create table resguardo.breach_notices (
    id uuid primary key default gen_random_uuid(),
    assessment_id uuid not null
    constraint breach_notices_assessment_id_fkey references resguardo.breach_assessments (id),
    kind text not null,
    method text not null,
    jurisdiction text constraint breach_notices_jurisdiction_is_code check (jurisdiction ~ '^[A-Z]{2}$'),
    sent_on date not null,
    late_reason text
    constraint breach_notices_late_reason_is_known check (
        late_reason in ('SCOPE_UNKNOWN', 'EVIDENCE_LATE', 'STAFF_ABSENCE', 'VENDOR_LATE', 'OVERSIGHT')
    ),
    recorded_by uuid not null constraint breach_notices_recorded_by_fkey references resguardo.staff (user_id),
    recorded_at timestamptz not null default private.now(),
    constraint breach_notices_method_is_of_kind check (
        case kind
            when 'INDIVIDUALS' then method in ('FIRST_CLASS_MAIL', 'EMAIL')
            when 'URGENT' then method in ('TELEPHONE', 'EMAIL')
            when 'SUBSTITUTE' then method in ('EMAIL', 'TELEPHONE', 'WEB_SITE', 'PRESS')
            when 'SECRETARY' then method = 'HHS_PORTAL'
            when 'MEDIA' then method = 'PRESS'
            else false
        end
    ),
    constraint breach_notices_jurisdiction_is_of_media check (jurisdiction is null or kind = 'MEDIA'),
    constraint breach_notices_once_key unique nulls not distinct (assessment_id, kind, jurisdiction, sent_on, method)
);
alter table resguardo.breach_notices enable row level security;
create index breach_notices_recorded_by_idx on resguardo.breach_notices (recorded_by);

-- Which sanctions the practice's policy permits for each category of violation (164.530(e)).
create table private.sanction_measures (
    category text not null,
    measure text not null,
    constraint sanction_measures_pkey primary key (category, measure)
);

insert into private.sanction_measures (category, measure)
values
('CARELESS', 'COUNSELING'), ('CARELESS', 'TRAINING'), ('CARELESS', 'WRITTEN_WARNING'),
('CURIOUS', 'WRITTEN_WARNING'), ('CURIOUS', 'FINAL_WARNING'), ('CURIOUS', 'SUSPENSION'), ('CURIOUS', 'TERMINATION'),
('MALICIOUS', 'SUSPENSION'), ('MALICIOUS', 'TERMINATION');

create table resguardo.sanctions (
    id uuid primary key default gen_random_uuid(),
    assessment_id uuid constraint sanctions_assessment_id_fkey references resguardo.breach_assessments (id),
    staff_id uuid not null constraint sanctions_staff_id_fkey references resguardo.staff (user_id),
    category text not null,
    measure text not null,
    imposed_on date not null,
    recorded_by uuid not null constraint sanctions_recorded_by_fkey references resguardo.staff (user_id),
    created_at timestamptz not null default private.now(),
    constraint sanctions_measure_is_of_category foreign key (category, measure)
    references private.sanction_measures (category, measure),
    constraint sanctions_recorded_by_another check (recorded_by <> staff_id),
    constraint sanctions_once_key unique nulls not distinct (staff_id, assessment_id, category, measure, imposed_on)
);
alter table resguardo.sanctions enable row level security;
create index sanctions_created_idx on resguardo.sanctions (created_at desc, id desc);
create index sanctions_assessment_idx on resguardo.sanctions (assessment_id);
create index sanctions_recorded_by_idx on resguardo.sanctions (recorded_by);
create index sanctions_measure_idx on resguardo.sanctions (category, measure);

-- Returns the notices that a breach needs, with the last day of each and the day on which it was sent, or null.
-- 164.404: the affected patients. 164.406: the media of each state or jurisdiction in which more than 500 of them live.
-- 164.408: the Secretary of HHS, at the same time if 500 or more are affected, otherwise within 60 days after the end
-- of the year of the discovery. While law enforcement asks for a delay, no notice is due (164.412).
create function private.needed_breach_notices(assessed resguardo.breach_assessments)
returns table (kind text, jurisdiction text, due_on date, sent_on date)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    end_of_year constant date := make_date(extract(year from assessed.discovered_on)::integer, 12, 31);
begin
    return query
    select
        n.kind, n.jurisdiction, greatest(n.due_on, assessed.delayed_until),
        (
            select min(s.sent_on) from resguardo.breach_notices as s
            where s.assessment_id = assessed.id and s.kind = n.kind
                and (n.jurisdiction is null or s.jurisdiction = n.jurisdiction)
        )
    from (
        select 'INDIVIDUALS'::text as kind, null::text as jurisdiction, assessed.due_on
        union all
        select
            'SECRETARY', null,
            case when assessed.patient_count >= 500 then assessed.due_on else end_of_year + 60 end
        union all
        select 'MEDIA', null, assessed.due_on
        where assessed.residents is null and assessed.patient_count > 500
        union all
        select 'MEDIA', r.jurisdiction, assessed.due_on
        from jsonb_to_recordset(assessed.residents) as r (jurisdiction text, count integer)
        where r.count > 500
    ) as n
    where assessed.decision = 'BREACH'
    order by 3, 1, 2;
end
$$;

-- Returns the notices that a breach needs to a compliance officer who is not its subject.
create function private.list_needed_notices(of_assessment uuid)
returns table (kind text, jurisdiction text, due_on date, sent_on date)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    assessed resguardo.breach_assessments;
begin
    select a.* into assessed from resguardo.breach_assessments as a
    where a.id = of_assessment and a.subject_id is distinct from officer;
    return query
    select n.kind, n.jurisdiction, n.due_on, n.sent_on from private.needed_breach_notices(assessed) as n;
end
$$;

-- Stores the last day for the next step of an assessment, and closes a breach with all its notices sent.
create function private.date_breach(of_assessment uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    assessed resguardo.breach_assessments;
    next_day date;
begin
    select a.* into assessed from resguardo.breach_assessments as a where a.id = of_assessment;
    if assessed.status = 'OPEN' then
        next_day := greatest(assessed.due_on, assessed.delayed_until);
    elsif assessed.status = 'NOTIFYING' then
        select min(n.due_on) into next_day from private.needed_breach_notices(assessed) as n where n.sent_on is null;
    end if;
    update resguardo.breach_assessments as a
    set next_due_on = next_day,
        status = case when next_day is null then 'CLOSED' else a.status end,
        closed_at = case when next_day is null then coalesce(a.closed_at, private.now()) end
    where a.id = of_assessment;
end
$$;

-- Locks and returns an assessment for a change by the calling officer. Returns nulls, and writes the audit row, if the
-- assessment does not exist or the officer is its subject.
create function private.lock_breach(of_assessment uuid, of_action text) returns resguardo.breach_assessments
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    wanted resguardo.breach_assessments;
begin
    select a.* into wanted from resguardo.breach_assessments as a where a.id = of_assessment for update;
    if wanted.id is null or wanted.subject_id = officer then
        perform private.write_audit(
            of_action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'breach_assessment',
            array[of_assessment], '{}', '{}', '{}', 0, null
        );
        return null;
    end if;
    return wanted;
end
$$;

-- Opens an assessment, and queues the job that reads the affected patients and recordings from the audit log. The
-- caller has checked the rights of the person.
create function private.insert_breach(
    of_case uuid, wanted private.audit_filter, subject uuid, discovered date, opener uuid
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made uuid;
begin
    insert into resguardo.breach_assessments as a (
        case_id, filter, subject_id, discovered_on, due_on, next_due_on, opened_by
    ) values (of_case, wanted, subject, discovered, discovered + 60, discovered + 60, opener)
    returning a.id into made;
    perform private.put_job('count_breach', made);
    return made;
end
$$;

-- Opens an assessment by hand: of the events that a filter selects. If the filter names one actor of the staff, the
-- actor is the subject, unless the officer names another subject. Returns the id of the assessment, or null if the
-- named subject is no member of staff. Raises RG409 (own_breach_assessment, bad_discovered_on).
create function private.open_breach(wanted private.audit_filter, subject uuid, discovered date) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    made uuid;
begin
    if officer in (subject, (wanted).actor_id) then
        raise exception 'own_breach_assessment' using errcode = 'RG409';
    elsif discovered > private.today() or discovered < private.today() - 2192 then
        raise exception 'bad_discovered_on' using errcode = 'RG409';
    elsif subject is not null and not exists (select from resguardo.staff as s where s.user_id = subject) then
        perform private.write_audit(
            'breach.open', 'ABSENT', 'not_found', 'staff', array[subject], '{}', '{}', '{}', 0, null
        );
        return null;
    end if;
    subject := coalesce(
        subject, (select s.user_id from resguardo.staff as s where s.user_id = (wanted).actor_id)
    );
    made := private.insert_breach(null, wanted, subject, discovered, officer);
    perform private.write_audit_later(
        'breach.open', null, 'breach_assessment', made, null, null, array['breachAssessment'], null
    );
    return made;
end
$$;

-- Opens an assessment of a review case whose disposition is a possible breach, or returns the one that is open. The
-- practice should have known of the incident from the day on which the case was opened. If the case lists all its
-- events, the assessment is of these events; otherwise it is of all that its subject did between the first and the last
-- event of the case. Returns the id, or null if the case does not exist. Raises RG409 (own_breach_assessment).
create function private.open_breach_of_case(of_case uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    about resguardo.review_cases;
    wanted private.audit_filter;
    made uuid;
begin
    select c.* into about from resguardo.review_cases as c where c.id = of_case for update;
    if about.id is null then
        return null;
    elsif about.subject_id = officer then
        raise exception 'own_breach_assessment' using errcode = 'RG409';
    end if;
    select a.id into made from resguardo.breach_assessments as a where a.case_id = of_case and a.status <> 'CLOSED';
    if made is null then
        if about.event_count > about.listed_event_count and about.subject_id is not null then
            wanted.actor_id := about.subject_id;
            wanted.since := about.first_event_at;
            wanted.until := about.last_event_at + interval '1 microsecond';
        else
            wanted := null;
        end if;
        made := private.insert_breach(
            of_case, wanted, about.subject_id, (about.opened_at at time zone 'UTC')::date, officer
        );
        perform private.write_audit(
            'breach.open', 'ALLOWED', null, 'breach_assessment', array[made], '{}', '{}', array['breachAssessment'], 1,
            null
        );
    end if;
    return made;
end
$$;

-- Reads the next page of the events of an incident, at most 1,000, and stores the patients and recordings that they
-- name. Only events with the outcome ALLOWED count, because a refusal shows nothing. Returns false at the end. Two
-- calls at the same time read different pages.
create function private.count_breach(of_assessment uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    page_size constant integer := 1000;
    assessed resguardo.breach_assessments;
    wanted private.audit_filter;
    page audit.events[];
    last_event audit.events;
    new_patients integer;
    new_recordings integer;
begin
    select a.* into assessed from resguardo.breach_assessments as a where a.id = of_assessment for update;
    if assessed.count_status is distinct from 'COUNTING' then
        return false;
    end if;
    if assessed.filter is null then
        page := array(
            select e
            from private.find_events(array(
                select l.id from resguardo.review_case_events as l
                where l.case_id = assessed.case_id
                    and (assessed.count_before_id is null or l.id < assessed.count_before_id)
                order by l.id desc limit page_size
            )) as e
            order by e.id desc
        );
    else
        wanted := assessed.filter;
        wanted.until := least(wanted.until, assessed.count_until);
        wanted.outcomes := array['ALLOWED'];
        page := array(
            select e
            from private.find_audit_events(
                wanted, coalesce(assessed.count_before_at, 'infinity'),
                coalesce(assessed.count_before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'), page_size
            ) as e
            order by e.recorded_at desc, e.id desc
        );
    end if;
    last_event := page[cardinality(page)];
    insert into resguardo.breach_patients as b (assessment_id, patient_id)
    select distinct of_assessment, p.id
    from unnest(page) as e
    cross join lateral unnest(e.patient_ids) as s (id)
    inner join resguardo.patients as p on p.id = s.id
    where e.outcome = 'ALLOWED'
    on conflict do nothing;
    get diagnostics new_patients = row_count;
    insert into resguardo.breach_recordings as b (assessment_id, recording_id)
    select distinct of_assessment, coalesce(r.video_id, r.id)
    from unnest(page) as e
    cross join lateral jsonb_path_query(e.entities, 'lax $[*] ? (@.type == "recording").ids[*]') as s (id)
    inner join resguardo.recordings as r on r.id = (s.id #>> '{}')::uuid
    where e.outcome = 'ALLOWED'
    on conflict do nothing;
    get diagnostics new_recordings = row_count;
    update resguardo.breach_assessments as a
    set event_count = a.event_count + cardinality(page),
        count_before_at = coalesce(last_event.recorded_at, a.count_before_at),
        count_before_id = coalesce(last_event.id, a.count_before_id),
        count_status = case when cardinality(page) < page_size then 'COUNTED' else 'COUNTING' end,
        patient_count = a.patient_count + new_patients, recording_count = a.recording_count + new_recordings
    where a.id = of_assessment;
    if cardinality(page) < page_size then
        perform private.write_audit(
            'breach.count', 'ALLOWED', null, 'breach_assessment', array[of_assessment], '{}', '{}',
            array['patientCount', 'recordingCount'], 1, null
        );
        return false;
    end if;
    return true;
end
$$;

-- Records that the affected patients of an assessment could not be read.
create function private.fail_breach_count(of_assessment uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.breach_assessments as a set count_status = 'FAILED'
    where a.id = of_assessment and a.count_status = 'COUNTING';
end
$$;

-- Reads the events of an incident again, up to now, if the assessment is not decided yet. Patients and recordings that
-- were counted before stay affected. Returns the id, or null. Raises RG409 (breach_decided).
create function private.recount_breach(of_assessment uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    assessed constant resguardo.breach_assessments := private.lock_breach(of_assessment, 'breach.recount');
begin
    if assessed.id is null then
        return null;
    elsif assessed.status <> 'OPEN' then
        raise exception 'breach_decided' using errcode = 'RG409';
    elsif assessed.count_status <> 'COUNTING' then
        update resguardo.breach_assessments as a
        set count_status = 'COUNTING', count_until = private.now(), count_before_at = null, count_before_id = null,
            event_count = 0
        where a.id = of_assessment;
        perform private.put_job('count_breach', of_assessment);
    end if;
    perform private.write_audit_later(
        'breach.recount', null, 'breach_assessment', of_assessment, null, null, array['countStatus'], null
    );
    return of_assessment;
end
$$;

-- Records one of the four factors of an assessment that is not decided yet. A repeated call replaces the factor.
-- Returns the id of the assessment, or null. Raises RG409 (breach_decided).
create function private.record_breach_factor(of_assessment uuid, of_factor text, of_risk text, of_rationale text)
returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    assessed constant resguardo.breach_assessments := private.lock_breach(of_assessment, 'breach.record_factor');
begin
    if assessed.id is null then
        return null;
    elsif assessed.status <> 'OPEN' then
        raise exception 'breach_decided' using errcode = 'RG409';
    end if;
    insert into resguardo.breach_factors as f (assessment_id, factor, risk, rationale, recorded_by)
    values (of_assessment, of_factor, of_risk, of_rationale, private.person())
    on conflict (assessment_id, factor) do update
    set risk = excluded.risk, rationale = excluded.rationale, salt = excluded.salt,
        recorded_by = excluded.recorded_by, recorded_at = excluded.recorded_at
    where (f.risk, f.rationale) <> (excluded.risk, excluded.rationale);
    perform private.write_audit_later(
        'breach.record_factor', null, 'breach_assessment', of_assessment, null, null, array['factors'], null
    );
    return of_assessment;
end
$$;

-- Records that law enforcement has asked for a delay of the notices (164.412): orally for at most 30 days from today,
-- or in writing until the stated day, at most 6 years. The delay cannot end earlier than a recorded one, and nothing
-- moves a deadline that has passed. Returns the id, or null. Raises RG409 (breach_closed, breach_delay_late,
-- bad_delay).
create function private.delay_breach_notices(of_assessment uuid, statement text, until_day date) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    assessed constant resguardo.breach_assessments := private.lock_breach(of_assessment, 'breach.delay');
    today constant date := private.today();
begin
    if assessed.id is null then
        return null;
    elsif assessed.delay_statement = statement and assessed.delayed_until = until_day then
        null;
    elsif assessed.status = 'CLOSED' then
        raise exception 'breach_closed' using errcode = 'RG409';
    elsif assessed.next_due_on < today then
        raise exception 'breach_delay_late' using errcode = 'RG409';
    elsif until_day <= today or until_day > today + (case statement when 'ORAL' then 30 else 2192 end)
        or until_day < assessed.delayed_until
    then
        raise exception 'bad_delay' using errcode = 'RG409';
    else
        update resguardo.breach_assessments as a set delay_statement = statement, delayed_until = until_day
        where a.id = of_assessment;
        perform private.date_breach(of_assessment);
    end if;
    perform private.write_audit_later(
        'breach.delay', null, 'breach_assessment', of_assessment, null, null, array['delayEndsOn'], null
    );
    return of_assessment;
end
$$;

-- Returns what an officer decides on an assessment, as JSON with ids, counts and digests, and without any rationale.
create function private.breach_document(
    assessed resguardo.breach_assessments, of_decision text, residents_of jsonb, reason text, officer uuid,
    moment timestamptz
) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_object(
        'breach_assessment', assessed.id, 'case', assessed.case_id, 'subject', assessed.subject_id,
        'discovered_on', assessed.discovered_on, 'due_on', assessed.due_on, 'delayed_until', assessed.delayed_until,
        'event_count', assessed.event_count, 'patient_count', assessed.patient_count,
        'recording_count', assessed.recording_count,
        'factors', (
            select coalesce(jsonb_agg(jsonb_build_object(
                'factor', f.factor, 'risk', f.risk, 'recorded_by', f.recorded_by, 'recorded_at', f.recorded_at,
                'rationale_sha256', encode(sha256(f.salt || convert_to(f.rationale, 'UTF8')), 'hex')
            ) order by f.factor), '[]')
            from resguardo.breach_factors as f where f.assessment_id = assessed.id
        ),
        'decision', of_decision, 'residents', residents_of, 'late_reason', reason, 'decided_by', officer,
        'decided_at', moment
    )::text;
end
$$;

-- Decides on an assessment, once, and seals the decision: the audit event breach.seal has the digest of a document with
-- what was decided. A breach then needs its notices, and every other decision closes the assessment. A repeated call of
-- the same officer with the same decision changes nothing. Returns the id, or null. After the deadline, a decision must
-- state why it is late. Raises RG409 (breach_decided, breach_not_counted, breach_factors_missing,
-- breach_clock_run_out, breach_residents_differ).
create function private.decide_breach(of_assessment uuid, of_decision text, residents_of jsonb, reason text)
returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    assessed constant resguardo.breach_assessments := private.lock_breach(of_assessment, 'breach.decide');
    is_late constant boolean := assessed.next_due_on < private.today();
    moment constant timestamptz := private.now();
    text_of_document text;
    digest_of_document text;
    sealing_event uuid;
begin
    if assessed.id is null then
        return null;
    elsif assessed.status <> 'OPEN' then
        if assessed.decided_by <> officer or assessed.decision <> of_decision then
            raise exception 'breach_decided' using errcode = 'RG409';
        end if;
        perform private.write_audit_later(
            'breach.decide', null, 'breach_assessment', of_assessment, null, null, array['decision'], null
        );
        return of_assessment;
    elsif assessed.count_status <> 'COUNTED' then
        raise exception 'breach_not_counted' using errcode = 'RG409';
    elsif of_decision = 'LOW_PROBABILITY'
        and (select count(*) from resguardo.breach_factors as f where f.assessment_id = of_assessment) < 4
    then
        raise exception 'breach_factors_missing' using errcode = 'RG409';
    elsif is_late and reason is null then
        raise exception 'breach_clock_run_out' using errcode = 'RG409';
    elsif of_decision = 'BREACH' and (
        select sum(r.count) from jsonb_to_recordset(residents_of) as r (count integer)
    ) <> assessed.patient_count
    then
        raise exception 'breach_residents_differ' using errcode = 'RG409';
    end if;
    residents_of := case of_decision when 'BREACH' then residents_of end;
    reason := case when is_late then reason end;
    text_of_document := private.breach_document(assessed, of_decision, residents_of, reason, officer, moment);
    digest_of_document := encode(sha256(convert_to(text_of_document, 'UTF8')), 'hex');
    sealing_event := private.write_audit_of_entities(
        'breach.seal', 'ALLOWED', null, private.entities_of('breach_assessment', array[of_assessment]), '{}', '{}',
        array['decision', 'factors'], 1, null, digest_of_document
    );
    update resguardo.breach_assessments as a
    set decision = of_decision, decided_by = officer, decided_at = moment, late_reason = reason,
        residents = residents_of, document = text_of_document, sha256 = digest_of_document, event_id = sealing_event,
        status = case of_decision when 'BREACH' then 'NOTIFYING' else 'CLOSED' end,
        next_due_on = case of_decision when 'BREACH' then a.next_due_on end,
        closed_at = case when of_decision <> 'BREACH' then moment end
    where a.id = of_assessment;
    if of_decision = 'BREACH' then
        perform private.date_breach(of_assessment);
    end if;
    perform private.write_audit_later(
        'breach.decide', null, 'breach_assessment', of_assessment, null, null, array['decision'], null
    );
    return of_assessment;
end
$$;

-- Records a notice of a breach that the practice has sent. The last needed notice closes the assessment. A notice that
-- was sent after its deadline must state why it is late. A repeated call records nothing more. Returns the id of the
-- assessment, or null. Raises RG409 (breach_undecided, bad_sent_on, breach_clock_run_out).
create function private.record_breach_notice(
    of_assessment uuid, of_kind text, of_method text, of_jurisdiction text, sent_day date, reason text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    assessed constant resguardo.breach_assessments := private.lock_breach(of_assessment, 'breach.record_notice');
    is_late boolean;
begin
    if assessed.id is null then
        return null;
    elsif assessed.decision is distinct from 'BREACH' then
        raise exception 'breach_undecided' using errcode = 'RG409';
    elsif sent_day < assessed.discovered_on or sent_day > private.today() then
        raise exception 'bad_sent_on' using errcode = 'RG409';
    end if;
    is_late := sent_day > coalesce(
        (
            select min(n.due_on) from private.needed_breach_notices(assessed) as n
            where n.kind = of_kind and (n.jurisdiction is null or n.jurisdiction = of_jurisdiction)
        ),
        greatest(assessed.due_on, assessed.delayed_until)
    );
    if is_late and reason is null then
        raise exception 'breach_clock_run_out' using errcode = 'RG409';
    end if;
    insert into resguardo.breach_notices (
        assessment_id, kind, method, jurisdiction, sent_on, late_reason, recorded_by
    ) values (
        of_assessment, of_kind, of_method, of_jurisdiction, sent_day, case when is_late then reason end, officer
    )
    on conflict do nothing;
    perform private.date_breach(of_assessment);
    perform private.write_audit_later(
        'breach.record_notice', null, 'breach_assessment', of_assessment, null, null, array['notices'], null
    );
    return of_assessment;
end
$$;

-- Records a sanction against a member of staff (164.530(e)). A repeated call returns the recorded sanction. Returns its
-- id, or null if the member or the assessment does not exist. Raises RG409 (own_sanction, sanction_not_of_category,
-- bad_imposed_on).
create function private.record_sanction(
    member uuid, of_assessment uuid, of_category text, of_measure text, imposed_day date
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    made uuid;
begin
    if member = officer then
        raise exception 'own_sanction' using errcode = 'RG409';
    elsif of_assessment is not null and (private.lock_breach(of_assessment, 'sanction.record')).id is null then
        return null;
    elsif not exists (select from resguardo.staff as s where s.user_id = member) then
        perform private.write_audit(
            'sanction.record', 'ABSENT', 'not_found', 'staff', array[member], '{}', '{}', '{}', 0, null
        );
        return null;
    elsif not exists (
        select from private.sanction_measures as m where m.category = of_category and m.measure = of_measure
    ) then
        raise exception 'sanction_not_of_category' using errcode = 'RG409';
    elsif imposed_day > private.today() or imposed_day < private.today() - 2192 then
        raise exception 'bad_imposed_on' using errcode = 'RG409';
    end if;
    insert into resguardo.sanctions (assessment_id, staff_id, category, measure, imposed_on, recorded_by)
    values (of_assessment, member, of_category, of_measure, imposed_day, officer)
    on conflict on constraint sanctions_once_key do nothing;
    select s.id into made from resguardo.sanctions as s
    where s.staff_id = member and s.assessment_id is not distinct from of_assessment and s.category = of_category
        and s.measure = of_measure and s.imposed_on = imposed_day;
    perform private.write_audit_later(
        'sanction.record', null, 'sanction', made, null, null, array['sanction'], null
    );
    return made;
end
$$;

-- Returns the assessments whose next step is due within `days` days, or is overdue, the longest overdue first, at most
-- 1,000.
create function private.due_breaches(days integer) returns table (id uuid, due_on date, is_overdue boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select a.id, a.next_due_on, a.next_due_on < private.today()
    from resguardo.breach_assessments as a
    where a.status <> 'CLOSED' and a.next_due_on <= private.today() + days
    order by a.next_due_on, a.id
    limit 1000;
end
$$;


-- 65_attestations.sql

-- Attestations of the monthly review (164.308(a)(1)(ii)(D)): an officer attests with a fresh TOTP code that the
-- activity of a month was reviewed, and what was found. The audit log seals the digest of each attestation.

create table resguardo.attestations (
    id uuid primary key default gen_random_uuid(),
    month date not null
    constraint attestations_month_is_first_day check (month = date_trunc('month', month) and month >= '2026-01-01'),
    attested_by uuid not null constraint attestations_attested_by_fkey references resguardo.staff (user_id),
    findings text[] not null
    constraint attestations_findings_are_known check (
        findings <@ array[
            'NOTHING', 'POLICY_VIOLATION', 'POSSIBLE_BREACH', 'UNUSED_ACCESS', 'FAILED_SIGN_INS', 'TECHNICAL_FAULT',
            'REVIEW_INCOMPLETE'
        ]
        and cardinality(findings) between 1 and 7
        and (cardinality(findings) = 1 or not findings @> array['NOTHING'])
    ),
    note text constraint attestations_note_length check (length(note) between 1 and 2000),
    salt bytea not null default uuid_send(gen_random_uuid()),
    document text not null,
    sha256 text not null constraint attestations_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    event_id uuid not null,
    created_at timestamptz not null default private.now(),
    constraint attestations_once_key unique (month, attested_by)
);
alter table resguardo.attestations enable row level security;
comment on column resguardo.attestations.salt is
'Random bytes in front of the note in its digest, so that nobody can guess the note from the digest.';
comment on column resguardo.attestations.document is
'What the officer attests, as JSON with ids, counts and digests. Its SHA-256 is the digest of attestation.seal.';
comment on column resguardo.attestations.event_id is 'The audit event attestation.seal.';
create index attestations_created_idx on resguardo.attestations (created_at desc, id desc);
create index attestations_attested_by_idx on resguardo.attestations (attested_by);

-- Returns how many events of each outcome the audit log has between two times, or null if there are too many to count.
create function private.count_outcomes(since timestamptz, until timestamptz) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(jsonb_object_agg(c.value, c.event_count), '{}')
        from (
            select e.value, sum(e.event_count) as event_count
            from private.count_audit_events(
                row(null, null, null, null, null, null, null, null, null, since, until)::private.audit_filter,
                'month', 'outcome'
            ) as e
            where e.value is not null
            group by e.value
        ) as c
    );
exception when sqlstate 'RG400' then
    return null;
end
$$;

-- Returns what the database counts about a month for its attestation.
create function private.count_month(of_month date) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    since constant timestamptz := of_month::timestamp at time zone 'UTC';
    until constant timestamptz := (of_month + interval '1 month')::timestamp at time zone 'UTC';
begin
    return jsonb_build_object(
        'events_by_outcome', private.count_outcomes(since, until),
        'alerts_opened', (
            select count(*) from resguardo.alerts as a where a.opened_at >= since and a.opened_at < until
        ),
        'cases_opened', (
            select count(*) from resguardo.review_cases as c where c.opened_at >= since and c.opened_at < until
        ),
        'cases_of_month_open_now', (
            select count(*) from resguardo.review_cases as c
            where c.opened_at >= since and c.opened_at < until and c.status = 'OPEN'
        ),
        'breach_assessments_opened', (
            select count(*) from resguardo.breach_assessments as a where a.created_at >= since and a.created_at < until
        ),
        'breach_assessments_open_now', (
            select count(*) from resguardo.breach_assessments as a where a.next_due_on is not null
        ),
        'sanctions_recorded', (
            select count(*) from resguardo.sanctions as s where s.created_at >= since and s.created_at < until
        )
    );
end
$$;

-- Attests the review of a month that is over, and seals it: the audit event attestation.seal has the digest of a
-- document with what the officer attests. Each officer can attest a month once. A repeated call with the same findings
-- and note returns the recorded attestation. Returns its id. Raises RG403 (totp_stale) and RG409 (bad_month,
-- attested_already).
create function private.attest_review(
    of_month date, of_findings text[], of_note text, totp_max_age_seconds integer
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    made uuid := gen_random_uuid();
    new_salt constant bytea := uuid_send(gen_random_uuid());
    moment constant timestamptz := private.now();
    earlier resguardo.attestations;
    text_of_document text;
    digest_of_document text;
    sealing_event uuid;
begin
    perform private.require_recent_totp(totp_max_age_seconds);
    if of_month <> date_trunc('month', of_month) or of_month < '2026-01-01'
        or of_month + interval '1 month' > private.today()
    then
        raise exception 'bad_month' using errcode = 'RG409';
    end if;
    perform from resguardo.staff as s where s.user_id = officer for no key update;
    select a.* into earlier from resguardo.attestations as a
    where a.month = of_month and a.attested_by = officer;
    if earlier.id is not null then
        if (earlier.findings, earlier.note) is distinct from (of_findings, of_note) then
            raise exception 'attested_already' using errcode = 'RG409';
        end if;
        made := earlier.id;
    else
        text_of_document := jsonb_build_object(
            'attestation', made, 'month', to_char(of_month, 'YYYY-MM'), 'attested_by', officer,
            'attested_at', moment, 'findings', of_findings, 'counts', private.count_month(of_month),
            'note_sha256', encode(sha256(new_salt || convert_to(of_note, 'UTF8')), 'hex')
        )::text;
        digest_of_document := encode(sha256(convert_to(text_of_document, 'UTF8')), 'hex');
        sealing_event := private.write_audit_of_entities(
            'attestation.seal', 'ALLOWED', null, private.entities_of('attestation', array[made]), '{}', '{}',
            array['findings'], 1, null, digest_of_document
        );
        insert into resguardo.attestations (
            id, month, attested_by, findings, note, salt, document, sha256, event_id, created_at
        ) values (
            made, of_month, officer, of_findings, of_note, new_salt, text_of_document, digest_of_document,
            sealing_event, moment
        );
    end if;
    perform private.write_audit_later(
        'attestation.sign', null, 'attestation', made, null, null, array['attestation'], null
    );
    return made;
end
$$;

-- Returns the first days of the months without an attestation that ended at least `grace_days` days ago: of the last 12
-- months, from the month of the first member of staff on.
create function private.unattested_months(grace_days integer) returns date[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    today constant date := private.today();
    first_day constant date := (select (min(s.created_at) at time zone 'UTC')::date from resguardo.staff as s);
begin
    return array(
        select m.month::date
        from generate_series(
            date_trunc('month', today - interval '12 months'), today - interval '1 month', interval '1 month'
        ) as m (month)
        where m.month >= '2026-01-01' and m.month >= date_trunc('month', first_day)
            and m.month + interval '1 month' <= today - grace_days
            and not exists (select from resguardo.attestations as a where a.month = m.month::date)
        order by 1
    );
end
$$;


-- 66_disclosures.sql

-- Disclosures of a patient's information to others (45 CFR 164.528), and the suspensions of the patient's right to see
-- them. Who received what is free text, so the database stores it encrypted with the data key of the patient.

create table private.patient_texts (
    id uuid constraint patient_texts_pkey primary key,
    patient_id uuid not null constraint patient_texts_patient_id_fkey references resguardo.patients (id),
    ciphertext bytea not null
    constraint patient_texts_ciphertext_length check (length(ciphertext) between 29 and 67108864)
);
comment on table private.patient_texts is
'Texts of disclosures, suspensions, accountings and amendments, each encrypted with the data key of its patient.';
comment on column private.patient_texts.id is 'The id of the row that the text belongs to.';
create index patient_texts_patient_idx on private.patient_texts (patient_id);

create table resguardo.disclosures (
    id uuid primary key default gen_random_uuid(),
    patient_id uuid not null constraint disclosures_patient_id_fkey references resguardo.patients (id),
    consultation_id uuid,
    disclosed_on date not null,
    last_disclosed_on date,
    disclosure_count integer not null default 1
    constraint disclosures_count_range check (disclosure_count between 1 and 100000),
    purpose text not null
    constraint disclosures_purpose_is_known check (
        purpose in (
            'REQUIRED_BY_LAW', 'PUBLIC_HEALTH', 'ABUSE_REPORT', 'HEALTH_OVERSIGHT', 'JUDICIAL', 'LAW_ENFORCEMENT',
            'DECEDENT', 'ORGAN_DONATION', 'RESEARCH', 'SERIOUS_THREAT', 'GOVERNMENT_FUNCTION', 'WORKERS_COMPENSATION',
            'HHS_INVESTIGATION', 'NOT_PERMITTED', 'TREATMENT', 'PAYMENT', 'OPERATIONS', 'PATIENT_REQUEST',
            'AUTHORIZATION', 'INVOLVED_IN_CARE', 'INCIDENTAL', 'NATIONAL_SECURITY', 'CORRECTIONAL', 'LIMITED_DATA_SET'
        )
    ),
    is_accounted boolean not null generated always as (
        purpose not in (
            'TREATMENT', 'PAYMENT', 'OPERATIONS', 'PATIENT_REQUEST', 'AUTHORIZATION', 'INVOLVED_IN_CARE', 'INCIDENTAL',
            'NATIONAL_SECURITY', 'CORRECTIONAL', 'LIMITED_DATA_SET'
        )
    ) stored,
    authorized_on date,
    authorization_expires_on date,
    recorded_by uuid not null constraint disclosures_recorded_by_fkey references resguardo.staff (user_id),
    recorded_at timestamptz not null default private.now(),
    constraint disclosures_consultation_fkey foreign key (consultation_id, patient_id)
    references resguardo.consultations (id, patient_id),
    constraint disclosures_series_is_whole check (
        (last_disclosed_on is null) = (disclosure_count = 1) and last_disclosed_on >= disclosed_on is not false
    ),
    constraint disclosures_authorization_is_whole check (
        (purpose <> 'AUTHORIZATION' or authorized_on is not null)
        and (authorization_expires_on is null or authorization_expires_on >= authorized_on)
    )
);
alter table resguardo.disclosures enable row level security;
comment on column resguardo.disclosures.consultation_id is
'The consultation that the disclosed information is about. Null if it is about more than one.';
comment on column resguardo.disclosures.disclosed_on is 'The day of the disclosure, or of the first one of a series.';
comment on column resguardo.disclosures.last_disclosed_on is
'The day of the last disclosure of a series to the same recipient for the same purpose (164.528(b)(3)).';
comment on column resguardo.disclosures.is_accounted is
'Whether an accounting contains the disclosure. 164.528(a)(1) excepts the other purposes.';
create index disclosures_patient_idx on resguardo.disclosures (patient_id, disclosed_on desc, id desc);
create index disclosures_accounted_idx on resguardo.disclosures (patient_id, disclosed_on desc, id desc)
where is_accounted;
create index disclosures_disclosed_idx on resguardo.disclosures (disclosed_on desc, id desc);
create index disclosures_consultation_idx on resguardo.disclosures (consultation_id, patient_id);
create index disclosures_recorded_by_idx on resguardo.disclosures (recorded_by);

create table resguardo.disclosure_suspensions (
    id uuid primary key default gen_random_uuid(),
    patient_id uuid not null constraint disclosure_suspensions_patient_id_fkey references resguardo.patients (id),
    agency text not null constraint disclosure_suspensions_agency_is_known check (
        agency in ('HEALTH_OVERSIGHT', 'LAW_ENFORCEMENT')
    ),
    is_written boolean not null,
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    placed_by uuid not null constraint disclosure_suspensions_placed_by_fkey references resguardo.staff (user_id),
    lifted_by uuid constraint disclosure_suspensions_lifted_by_fkey references resguardo.staff (user_id),
    lifted_at timestamptz,
    constraint disclosure_suspensions_range check (ends_at > starts_at),
    constraint disclosure_suspensions_oral_is_short check (is_written or ends_at <= starts_at + interval '30 days'),
    constraint disclosure_suspensions_lifting_is_whole check ((lifted_by is null) = (lifted_at is null))
);
alter table resguardo.disclosure_suspensions enable row level security;
comment on table resguardo.disclosure_suspensions is
'Suspensions that an agency asked for. Until a suspension ends, no accounting shows the disclosures to that agency.';
comment on column resguardo.disclosure_suspensions.is_written is
'False for an oral statement, which suspends for at most 30 days (164.528(a)(2)(ii)).';
comment on column resguardo.disclosure_suspensions.lifted_at is 'When compliance lifted it before its time.';
create index disclosure_suspensions_patient_idx
on resguardo.disclosure_suspensions (patient_id, ends_at desc);
create index disclosure_suspensions_starts_idx on resguardo.disclosure_suspensions (starts_at desc, id desc);
create index disclosure_suspensions_patient_starts_idx
on resguardo.disclosure_suspensions (patient_id, starts_at desc, id desc);
create index disclosure_suspensions_placed_by_idx on resguardo.disclosure_suspensions (placed_by);
create index disclosure_suspensions_lifted_by_idx on resguardo.disclosure_suspensions (lifted_by);

-- Returns the suspensions of a patient that are in effect now. While one is in effect, the patient sees no disclosure
-- to its agency, and no entry of the audit log about such a disclosure.
create function private.disclosure_suspensions(of_patient uuid)
returns table (suspension_id uuid, agency text, starts_at timestamptz, ends_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select s.id, s.agency, s.starts_at, s.ends_at
    from resguardo.disclosure_suspensions as s
    where s.patient_id = of_patient and s.lifted_at is null and s.ends_at > private.now()
        and s.starts_at <= private.now();
end
$$;

-- Returns the patient of a call, whose id or external id the caller named, if the patient exists and if the
-- consultation, if one is named, is the patient's. Otherwise the function writes an audit row and returns null.
create function private.require_patient(of_action text, of_patient uuid, of_consultation uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from resguardo.patients as p where p.id = of_patient) and (
        of_consultation is null or exists (
            select from resguardo.consultations as c where c.id = of_consultation and c.patient_id = of_patient
        )
    ) then
        return of_patient;
    end if;
    perform private.write_audit(
        of_action,
        case
            when exists (select from resguardo.patients as p where p.id = of_patient)
                and exists (select from resguardo.consultations as c where c.id = of_consultation)
                then 'FAILED'
            else 'ABSENT'
        end,
        'not_found', case when of_consultation is null then 'patient' else 'consultation' end,
        array_remove(array[coalesce(of_consultation, of_patient)], null),
        array(select p.id from resguardo.patients as p where p.id = of_patient),
        array(select c.id from resguardo.consultations as c where c.id = of_consultation), '{}', 0, null
    );
    return null;
end
$$;

-- Stores the encrypted text of a row that this transaction has inserted or changed, and whose audit row is pending.
create function private.store_patient_text(of_id uuid, of_patient uuid, new_ciphertext bytea) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_person();
    if not exists (
        select from private.pending_audit_rows as p
        where p.transaction_id = pg_current_xact_id() and p.entity_id = of_id and p.patient_id = of_patient
    ) then
        raise exception 'text_not_begun' using errcode = 'RG403';
    end if;
    insert into private.patient_texts (id, patient_id, ciphertext) values (of_id, of_patient, new_ciphertext);
end
$$;

-- Records a disclosure, and returns its id and the data key of the patient, which is `offered` if the patient has none
-- yet. The transaction must then call store_patient_text(). Returns no row if the patient or the consultation does not
-- exist. Raises RG409 (disclosed_on_ahead, authorization_expired), RG429 (quota_pages).
create function private.record_disclosure(
    of_patient uuid, of_consultation uuid, first_on date, last_on date, how_many integer, of_purpose text,
    signed_on date, expires_on date, offered bytea, offered_root_key text
) returns table (disclosure_id uuid, patient_id uuid, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    patient uuid;
    recorded uuid;
begin
    perform private.use_quota(officer, 'pages');
    patient := private.require_patient('disclosure.record', of_patient, of_consultation);
    if patient is null then
        return;
    elsif greatest(first_on, last_on, signed_on) > private.today() + 1 then
        raise exception 'disclosed_on_ahead' using errcode = 'RG409';
    elsif of_purpose = 'AUTHORIZATION' and (signed_on > first_on or expires_on < coalesce(last_on, first_on)) then
        raise exception 'authorization_expired' using errcode = 'RG409';
    end if;
    perform private.make_patient_key(patient, of_consultation, offered, offered_root_key);
    insert into resguardo.disclosures as d (
        patient_id, consultation_id, disclosed_on, last_disclosed_on, disclosure_count, purpose, authorized_on,
        authorization_expires_on, recorded_by
    ) values (
        patient, of_consultation, first_on, last_on, how_many, of_purpose, signed_on, expires_on, officer
    )
    returning d.id into recorded;
    perform private.write_audit_later(
        'disclosure.record', null, 'disclosure', recorded, patient, of_consultation, array['disclosure'], null
    );
    return query
    select recorded, patient, k.wrapped_key, k.root_key_id from private.patient_keys as k where k.patient_id = patient;
end
$$;

-- Writes the audit row, and returns the encrypted texts of the disclosures or suspensions in `shown`, with the data
-- keys of their patients, as one row of arrays. A text whose key was destroyed is null. `asked` is the patient by which
-- the caller asked, or null.
create function private.read_disclosure_texts(of_action text, asked uuid, shown jsonb, of_fields text[])
returns table (
    row_ids uuid[], patient_ids uuid[], ciphertexts bytea[], wrapped_keys bytea[], root_keys text[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    kind constant text := case
        when of_action like '%suspension%' or of_action = 'disclosure.suspend' then 'disclosure_suspension'
        else 'disclosure'
    end;
    ids uuid[];
    patients uuid[];
    consultations uuid[];
begin
    if of_action not in (
        'disclosure.record', 'disclosure.list', 'disclosure.suspend', 'disclosure.lift_suspension',
        'disclosure.list_suspensions'
    ) then
        raise exception 'reserved_action' using errcode = 'RG403';
    end if;
    select array_agg((i.id)::uuid) into ids
    from jsonb_array_elements(shown) as e (entry)
    cross join lateral jsonb_array_elements_text(e.entry -> 'ids') as i (id)
    where e.entry ->> 'type' = kind;
    select array_agg(distinct o.patient_id), array_agg(distinct o.consultation_id) filter (
        where o.consultation_id is not null
    )
    into patients, consultations
    from (
        select d.patient_id, d.consultation_id from resguardo.disclosures as d where d.id = any(ids)
        union all
        select s.patient_id, null from resguardo.disclosure_suspensions as s where s.id = any(ids)
    ) as o;
    if not private.complete_audit_row(
        of_action, shown, patients, consultations, coalesce(cardinality(ids), 0), of_fields
    ) then
        perform private.use_quota(officer, 'pages');
        perform private.write_lookup(
            of_action, kind, 'patient', asked, true, shown, patients, consultations, coalesce(cardinality(ids), 0),
            of_fields
        );
    end if;
    return query
    select
        array_agg(t.id), array_agg(t.patient_id), array_agg(t.ciphertext), array_agg(k.wrapped_key),
        array_agg(k.root_key_id)
    from private.patient_texts as t
    inner join private.patient_keys as k on k.patient_id = t.patient_id
    where t.id = any(ids);
end
$$;

-- Suspends the patient's right to see the disclosures to an agency, and returns the id of the suspension and the data
-- key of the patient. The transaction must then call store_patient_text(). Returns no row if the patient does not
-- exist. An oral statement suspends once, for at most 30 days: to go on, the agency must write. Raises RG409
-- (suspension_over, suspension_too_long, suspension_not_written).
create function private.suspend_disclosures(
    of_patient uuid, of_agency text, of_writing boolean, until timestamptz, offered bytea, offered_root_key text
) returns table (suspension_id uuid, patient_id uuid, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    moment constant timestamptz := private.now();
    patient uuid;
    placed uuid;
begin
    perform private.use_quota(officer, 'pages');
    patient := private.require_patient('disclosure.suspend', of_patient, null);
    if patient is null then
        return;
    elsif until <= moment then
        raise exception 'suspension_over' using errcode = 'RG409';
    elsif (until > moment + case when of_writing then interval '6 years' else interval '30 days' end) then
        raise exception 'suspension_too_long' using errcode = 'RG409';
    end if;
    perform from resguardo.patients as p where p.id = patient for no key update;
    if not of_writing and exists (
        select from resguardo.disclosure_suspensions as s
        where s.patient_id = patient and s.agency = of_agency and not s.is_written
            and s.ends_at > moment - interval '30 days'
    ) then
        raise exception 'suspension_not_written' using errcode = 'RG409';
    end if;
    perform private.make_patient_key(patient, null, offered, offered_root_key);
    insert into resguardo.disclosure_suspensions as s (patient_id, agency, is_written, starts_at, ends_at, placed_by)
    values (patient, of_agency, of_writing, moment, until, officer)
    returning s.id into placed;
    perform private.write_audit_later(
        'disclosure.suspend', null, 'disclosure_suspension', placed, patient, null, array['disclosureSuspension'], null
    );
    return query
    select placed, patient, k.wrapped_key, k.root_key_id from private.patient_keys as k where k.patient_id = patient;
end
$$;

-- Lifts a suspension before its time, and returns its id. A suspension that has ended stays as it is. Returns null, and
-- writes the audit row, if the suspension does not exist.
create function private.lift_disclosure_suspension(of_suspension uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    placed resguardo.disclosure_suspensions;
begin
    perform private.use_quota(officer, 'pages');
    select s.* into placed from resguardo.disclosure_suspensions as s where s.id = of_suspension for update;
    if placed.id is null then
        perform private.write_audit(
            'disclosure.lift_suspension', 'ABSENT', 'not_found', 'disclosure_suspension', array[of_suspension], '{}',
            '{}', '{}', 0, null
        );
        return null;
    end if;
    update resguardo.disclosure_suspensions as s set lifted_at = private.now(), lifted_by = officer
    where s.id = of_suspension and s.lifted_at is null and s.ends_at > private.now();
    perform private.write_audit_later(
        'disclosure.lift_suspension', null, 'disclosure_suspension', placed.id, placed.patient_id, null,
        array['disclosureSuspension'], null
    );
    return placed.id;
end
$$;


-- 70_patient_reports.sql

-- The reports that a patient reads about themself: who looked at the patient's record, and what was recorded of the
-- patient.
--
-- The report of looks comes from the audit log. It has only the events of some actions (private.patient_report_actions)
-- and no event that an open case or a suspension hides for now. Patients read their own reports. A compliance officer
-- reads a patient's reports for the person who filed an approved access request, such as a representative.

create table private.patient_report_actions (
    action text not null,
    shown text not null constraint patient_report_actions_shown_is_known check (shown in ('ALWAYS', 'REFUSED')),
    is_shown_of_self boolean not null default false,
    constraint patient_report_actions_pkey primary key (action)
);
comment on table private.patient_report_actions is
'The actions that a patient reads about. Only migrations write this table. app/texts has the words of each action.';
comment on column private.patient_report_actions.shown is
'ALWAYS: the patient reads about the action and about refused attempts. REFUSED: only about refused attempts.';
comment on column private.patient_report_actions.is_shown_of_self is
'Whether the patient also reads about the action if the patient''s own login did it.';

insert into private.patient_report_actions (action, shown, is_shown_of_self)
values
('access_report.read', 'ALWAYS', false),
('recording_report.read', 'ALWAYS', false),
('access_request.export', 'ALWAYS', true),
('access_request.issue_url', 'ALWAYS', true),
('access_request.reveal_secret', 'ALWAYS', false),
('consultation.read', 'ALWAYS', false),
('consultation.reassign', 'ALWAYS', false),
('consultation.share', 'ALWAYS', false),
('consultation.end_share', 'REFUSED', false),
('consultation.authorize_sharing', 'ALWAYS', false),
('consultation.withdraw_authorization', 'ALWAYS', false),
('patient.break_glass', 'ALWAYS', false),
('accounting.issue', 'ALWAYS', false),
('accounting.file', 'REFUSED', false),
('accounting.withdraw', 'REFUSED', false),
('accounting.extend', 'REFUSED', false),
('clip.create', 'ALWAYS', false),
('insights.dismiss', 'ALWAYS', false),
('insights.read', 'ALWAYS', false),
('note.add_addendum', 'ALWAYS', false),
('note.read', 'ALWAYS', false),
('note.sign', 'ALWAYS', false),
('note_draft.edit', 'ALWAYS', false),
('note_draft.keep_flag', 'ALWAYS', false),
('note_draft.read', 'ALWAYS', false),
('note_draft.rewrite', 'ALWAYS', false),
('psychotherapy_note.delete', 'ALWAYS', false),
('psychotherapy_note.edit', 'ALWAYS', false),
('psychotherapy_note.read', 'ALWAYS', false),
('psychotherapy_note.write', 'ALWAYS', false),
('recording.issue_url', 'ALWAYS', false),
('recording.play', 'ALWAYS', false),
('recording.read', 'ALWAYS', false),
('recording.read_storage', 'ALWAYS', false),
('session_note.delete', 'ALWAYS', false),
('session_note.edit', 'ALWAYS', false),
('session_note.read', 'ALWAYS', false),
('session_note.watch', 'ALWAYS', false),
('session_note.write', 'ALWAYS', false),
('thumbnail.issue_url', 'ALWAYS', false),
('thumbnail.read', 'ALWAYS', false),
('transcript.ask', 'ALWAYS', false),
('transcript.correct', 'ALWAYS', false),
('transcript.issue_url', 'ALWAYS', false),
('transcript.read', 'ALWAYS', false),
('transcript.search', 'ALWAYS', false),
('access_request.approve', 'REFUSED', false),
('access_request.ask_review', 'REFUSED', false),
('access_request.deny', 'REFUSED', false),
('access_request.extend', 'REFUSED', false),
('access_request.file', 'REFUSED', false),
('access_request.review', 'REFUSED', false),
('access_request.withdraw', 'REFUSED', false),
('certificate.read', 'REFUSED', false),
('consent.give', 'REFUSED', false),
('consent.withdraw', 'REFUSED', false),
('consultation.join', 'REFUSED', false),
('consultation.register', 'REFUSED', false),
('consultation.set_label', 'REFUSED', false),
('consultation.switch_transcription', 'REFUSED', false),
('consultation.watch', 'REFUSED', false),
('guest.invite', 'REFUSED', false),
('insights.refresh', 'REFUSED', false),
('insights.retry', 'REFUSED', false),
('recording.complete_import', 'REFUSED', false),
('recording.delete', 'REFUSED', false),
('recording.import', 'REFUSED', false),
('recording.issue_upload_url', 'REFUSED', false),
('recording.start', 'REFUSED', false),
('recording.stop', 'REFUSED', false),
('recording.undo_delete', 'REFUSED', false),
('recording.watch', 'REFUSED', false),
('transcript.retry', 'REFUSED', false);

-- Returns the newest events before (before_at, before_id) that a patient reads about, newest first: at most 101. With a
-- consultation, the events concern this consultation. A call walks through at most 2,000 blocks of the search index,
-- and begins no block after it has found 20,000 events. If it ends before the page is full, the events after
-- `reached_at` are complete, and a last row has only this time. The next page begins there.
--
-- An event in an open case is hidden until the case is decided. While a suspension of the patient's accounting is in
-- effect, an event with the purpose LEGAL is hidden. A hidden event leaves no gap, because the next event takes its
-- place in the page.
--
-- A block's bitmaps say which of its 1,024 events concern the patient, have an action and an outcome that the patient
-- reads about, and are not the patient's own (46_audit_search.sql). The newest block is read first, and the walk ends
-- when the events of all older blocks are older than the events that are found.
create function private.find_patient_report(
    of_patient uuid, of_consultation uuid, before_at timestamptz, before_id uuid, page_size integer
) returns table (event audit.events, reached_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    most constant integer := least(page_size, 101);
    latest constant timestamptz := coalesce(before_at, 'infinity');
    nothing constant bit(1024) := repeat('0', 1024)::bit(1024);
    is_suspended constant boolean := exists (select from private.disclosure_suspensions(of_patient));
    login constant uuid := (select p.user_id from resguardo.patients as p where p.id = of_patient);
    always constant text[] := array(
        select a.action from private.patient_report_actions as a where a.shown = 'ALWAYS'
    );
    refusable constant text[] := array(select a.action from private.patient_report_actions as a);
    of_self constant text[] := array(
        select a.action from private.patient_report_actions as a where a.is_shown_of_self
    );
    times timestamptz[];
    ids uuid[];
    walked integer := 0;
    examined integer := 0;
    of_block integer;
    walked_block record;
    found_event record;
    reached timestamptz;
    last_of_page timestamptz;
begin
    select coalesce(array_agg(f.recorded_at), '{}'), coalesce(array_agg(f.id), '{}') into times, ids
    from (
        select e.recorded_at, e.id
        from (select u.recorded_at, u.event_id as id from audit.unindexed as u) as q
        cross join lateral (
            select a.* from audit.events as a where a.id = q.id and a.recorded_at = q.recorded_at limit 1
        ) as e
        where e.patient_ids @> array[of_patient]
            and (of_consultation is null or e.consultation_ids @> array[of_consultation])
            and (
                (e.outcome = 'ALLOWED' and e.action = any(always))
                or (e.outcome = 'DENIED' and e.action = any(refusable))
            )
            and (login is null or e.actor_id is distinct from login or e.action = any(of_self))
            and (before_at is null or (q.recorded_at, q.id) < (before_at, before_id))
            and not (is_suspended and e.purpose = 'LEGAL')
            and not private.is_in_open_case(e.id)
        order by q.recorded_at desc, q.id desc limit most
    ) as f;
    for walked_block in
        select
            p.block, b.started_at, b.ended_at, b.latest_at, b.recorded_at, b.event_ids,
            p.bits & coalesce(c.bits, ~nothing)
            & ((a.always & coalesce(o.allowed, nothing)) | (a.refusable & coalesce(o.denied, nothing)))
            & (~coalesce(s.bits, nothing) | coalesce(a.of_self, nothing)) as bits
        from audit.event_bitmaps as p
        cross join lateral (
            select k.* from audit.event_blocks as k where k.number = p.block and k.started_at <= latest limit 1
        ) as b
        left join lateral (
            select t.bits from audit.event_bitmaps as t
            where t.attribute = 'consultation' and t.value = of_consultation::text and t.block = p.block
        ) as c on true
        cross join lateral (
            select
                coalesce(bit_or(t.bits) filter (where t.value = any(always)), nothing) as always,
                coalesce(bit_or(t.bits), nothing) as refusable,
                bit_or(t.bits) filter (where t.value = any(of_self)) as of_self
            from audit.event_bitmaps as t
            where t.attribute = 'action' and t.value = any(refusable) and t.block = p.block
        ) as a
        cross join lateral (
            select
                bit_or(t.bits) filter (where t.value = 'ALLOWED') as allowed,
                bit_or(t.bits) filter (where t.value = 'DENIED') as denied
            from audit.event_bitmaps as t
            where t.attribute = 'outcome' and t.value = any('{ALLOWED,DENIED}') and t.block = p.block
        ) as o
        left join lateral (
            select t.bits from audit.event_bitmaps as t
            where t.attribute = 'actor' and t.value = login::text and t.block = p.block
        ) as s on true
        where p.attribute = 'patient' and p.value = of_patient::text
            and (of_consultation is null or c.bits is not null)
        order by p.block desc
    loop
        if cardinality(times) >= most then
            select k.recorded_at into last_of_page
            from unnest(times) as k (recorded_at) order by 1 desc offset most - 1 limit 1;
            exit when last_of_page > walked_block.latest_at;
        elsif (walked >= 2000 or examined >= 20000) and walked_block.latest_at < latest then
            reached := walked_block.latest_at;
            exit;
        end if;
        walked := walked + 1;
        of_block := 0;
        continue when walked_block.bits = nothing;
        for found_event in
            select e.recorded_at, e.id, e.purpose
            from (
                select walked_block.recorded_at[i.place + 1] as recorded_at, walked_block.event_ids[i.place + 1] as id
                from generate_series(
                    case
                        when walked_block.ended_at <= latest then 1023
                        else width_bucket(latest, walked_block.recorded_at) - 1
                    end, 0, -1
                ) as i (place)
                where get_bit(walked_block.bits, i.place) = 1
                offset 0
            ) as q
            cross join lateral (
                select a.* from audit.events as a where a.id = q.id and a.recorded_at = q.recorded_at limit 1
            ) as e
            where e.patient_ids @> array[of_patient]
                and (before_at is null or (e.recorded_at, e.id) < (before_at, before_id))
        loop
            examined := examined + 1;
            continue when (is_suspended and found_event.purpose = 'LEGAL')
                or private.is_in_open_case(found_event.id);
            times := times || found_event.recorded_at;
            ids := ids || found_event.id;
            of_block := of_block + 1;
            exit when of_block >= most;
        end loop;
    end loop;
    return query
    select e.event, null::timestamptz
    from (
        select distinct k.recorded_at, k.id from unnest(times, ids) as k (recorded_at, id)
        where reached is null or k.recorded_at > reached
        order by k.recorded_at desc, k.id desc limit most
    ) as k
    cross join lateral (
        select a as event from audit.events as a where a.id = k.id and a.recorded_at = k.recorded_at limit 1
    ) as e
    order by k.recorded_at desc, k.id desc;
    if reached is not null then
        return query select null::audit.events, reached;
    end if;
end
$$;

-- Returns the patient and the consultation that a report is about: of the calling patient, or of an approved access
-- request, for which a compliance officer reads the report. Returns nulls, and writes the audit row, if the request or
-- the consultation does not exist or the caller may not see it. Raises RG400 (report_of_whom) if an officer names no
-- request, or if the caller names both, and RG409 (access_request_not_approved).
create function private.subject_of_report(
    of_action text, of_request uuid, of_consultation uuid, out patient uuid, out consultation uuid
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    asked resguardo.access_requests;
begin
    perform private.use_quota(private.require_person(), 'pages');
    if of_request is not null then
        asked := private.find_access_request(of_request, of_action);
        if asked.id is null then
            return;
        elsif of_consultation is not null then
            raise exception 'report_of_whom' using errcode = 'RG400';
        elsif asked.status not in ('APPROVED', 'FULFILLED') then
            raise exception 'access_request_not_approved' using errcode = 'RG409';
        end if;
        patient := asked.patient_id;
        consultation := asked.consultation_id;
    elsif current_setting('role') <> 'patient' then
        raise exception 'report_of_whom' using errcode = 'RG400';
    elsif of_consultation is null or private.is_own_consultation(of_consultation) then
        patient := private.patient();
        consultation := of_consultation;
    else
        perform private.write_lookup(
            of_action, 'consultation', 'consultation', of_consultation, false, '[]', '{}', '{}', 0, '{}'
        );
    end if;
end
$$;

-- Writes the audit row of a read of a report.
create function private.audit_report(
    of_action text, of_patient uuid, of_consultation uuid, of_request uuid, shown_fields text[], shown_rows integer
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_of_entities(
        of_action, 'ALLOWED', null,
        private.entities_of('patient', array[of_patient])
        || private.entities_of('access_request', array_remove(array[of_request], null)),
        array[of_patient], array_remove(array[of_consultation], null), shown_fields, shown_rows, null
    );
end
$$;

-- Raises RG400 (bad_time_zone) if Postgres does not know the time zone.
create function private.require_time_zone(time_zone text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    perform now() at time zone time_zone;
exception when invalid_parameter_value then
    raise exception 'bad_time_zone' using errcode = 'RG400';
end
$$;

-- Returns one page of the report of who looked at a patient's record, newest first, and writes the audit row. One row
-- more than the page shows says that another page follows, and so does a last row with `reached_at`. `local_at` is the
-- time of day in the given time zone. `relation` says how the person who looked relates to the patient. Of the
-- consultations, a row names only those of the patient. The row after the last one has no id. Returns no row at all if
-- the subject of the report does not exist. Raises RG400 (bad_time_zone) and the errors of private.subject_of_report().
create function private.read_access_report(
    of_request uuid, of_consultation uuid, before_at timestamptz, before_id uuid, page_size integer, time_zone text,
    with_names boolean, shown_fields text[]
) returns table (
    id uuid, recorded_at timestamptz, local_at timestamp, action text, outcome text, reason text, purpose text,
    basis text, relation text, actor_name text, consultation_ids uuid[], reached_at timestamptz
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    subject record;
    looked record;
    shown_rows integer := 0;
begin
    perform private.require_time_zone(time_zone);
    select s.patient, s.consultation, p.user_id as login into subject
    from private.subject_of_report('access_report.read', of_request, of_consultation) as s
    inner join resguardo.patients as p on p.id = s.patient;
    if subject.patient is null then
        return;
    end if;
    for looked in
        select (f.event).*, f.reached_at as reached
        from private.find_patient_report(subject.patient, subject.consultation, before_at, before_id, page_size) as f
    loop
        reached_at := looked.reached;
        exit when looked.id is null;
        id := looked.id;
        recorded_at := looked.recorded_at;
        local_at := looked.recorded_at at time zone time_zone;
        action := looked.action;
        outcome := looked.outcome;
        reason := looked.reason;
        purpose := looked.purpose;
        basis := looked.basis;
        consultation_ids := array(
            select c.id from resguardo.consultations as c
            where c.id = any(looked.consultation_ids) and c.patient_id = subject.patient order by c.id
        );
        relation := case
            when looked.actor_id = subject.login then 'SELF'
            when looked.actor_role = 'clinician' and looked.actor_id in (
                select c.doctor_id from resguardo.consultations as c
                where c.id = any(read_access_report.consultation_ids)
            ) then 'DOCTOR'
            when looked.actor_role = 'clinician' then 'CLINICIAN'
            when looked.actor_role = 'compliance' then 'COMPLIANCE'
            when looked.actor_role = 'patient' then 'OTHER_PATIENT'
            when looked.actor_id is null then 'SYSTEM'
            else 'OTHER'
        end;
        actor_name := case when with_names then private.published_name(looked.actor_id) end;
        shown_rows := shown_rows + 1;
        return next;
    end loop;
    perform private.audit_report(
        'access_report.read', subject.patient, subject.consultation, of_request, shown_fields,
        least(shown_rows, page_size - 1)
    );
    id := null;
    return next;
end
$$;

-- Returns one page of the report of what was recorded of a patient, newest first, and writes the audit row. The page
-- has the videos that were stored or that began, with the newest certificate of each destroyed one. `is_kept_longer`
-- says that the term is over and the recording is still kept. The row after the last one has no id, and one row more
-- than the page shows says that another page follows. Returns no row at all if the subject of the report does not
-- exist. Raises RG400 (bad_time_zone) and the errors of private.subject_of_report().
create function private.read_recording_report(
    of_request uuid, of_consultation uuid, before_at timestamptz, before_id uuid, page_size integer, time_zone text,
    with_names boolean, shown_fields text[]
) returns table (
    id uuid, created_at timestamptz, consultation_id uuid, recorded_at timestamptz, local_at timestamp,
    doctor_name text, duration_seconds double precision, status text, kept_until timestamptz, kept_until_day date,
    is_kept_longer boolean, destroyed_at timestamptz, destroyed_day date, certificate_number integer,
    certificate_sha256 text, certificate_json text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    subject record;
    shown_rows integer;
begin
    perform private.require_time_zone(time_zone);
    select s.patient, s.consultation into subject
    from private.subject_of_report('recording_report.read', of_request, of_consultation) as s;
    if subject.patient is null then
        return;
    end if;
    return query
    select
        r.id, r.created_at, r.consultation_id, coalesce(r.started_at, r.created_at),
        coalesce(r.started_at, r.created_at) at time zone time_zone,
        case when with_names then private.published_name(r.doctor_id) end, r.duration_seconds,
        case
            when r.status = 'DELETED' then 'DESTROYED'
            when r.status = 'LOST' or (r.status = 'READY' and r.missing_since is not null) then 'LOST'
            when r.status = 'READY' then 'KEPT'
            when r.status in ('FAILED', 'ABORTED') then 'FAILED'
            else 'IN_PROGRESS'
        end,
        case when r.status <> 'DELETED' then r.due_at end,
        case when r.status <> 'DELETED' then (r.due_at at time zone time_zone)::date end,
        coalesce(r.status <> 'DELETED' and r.due_at <= private.now(), false),
        d.finished_at, (d.finished_at at time zone time_zone)::date, d.number, d.sha256, d.document
    from (
        select a.* from resguardo.recordings as a
        where a.patient_id = subject.patient and a.medium = 'VIDEO'
            and (a.started_at is not null or a.status in ('READY', 'DELETED', 'LOST'))
            and (subject.consultation is null or a.consultation_id = subject.consultation)
            and (before_at is null or (a.created_at, a.id) < (before_at, before_id))
        order by a.created_at desc, a.id desc limit least(page_size, 101)
    ) as r
    left join lateral (
        select e.finished_at, c.number, c.sha256, c.document
        from resguardo.certificates as c
        inner join resguardo.deletions as e on e.id = c.deletion_id
        where c.recording_id = r.id and r.status = 'DELETED'
        order by c.number desc limit 1
    ) as d on true
    order by r.created_at desc, r.id desc;
    get diagnostics shown_rows = row_count;
    perform private.audit_report(
        'recording_report.read', subject.patient, subject.consultation, of_request, shown_fields,
        least(shown_rows, page_size - 1)
    );
    id := null;
    return next;
end
$$;


-- 71_reassignments.sql

-- Reassignments: the consultations of a doctor who left get another doctor. The proposal and its approval are in
-- 17_officer_proposals.sql. After the approval, the worker moves the consultations in batches.

-- Returns why the consultations of a doctor cannot be reassigned to another doctor now, or null if they can. The doctor
-- must have left: the doctor is suspended or has another role. The recipient must be an active doctor with a login that
-- is neither banned nor deleted. While a review case about one of the two is open, nothing is reassigned.
create function private.reassignment_objection(from_doctor uuid, to_doctor uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when from_doctor = to_doctor then 'reassignment_recipient'
        when private.is_active_clinician(from_doctor) then 'reassignment_doctor_active'
        when not private.is_active_clinician(to_doctor) or not exists (
            select from auth.users as u
            where u.id = to_doctor and u.deleted_at is null and (u.banned_until is null or u.banned_until <= now())
        ) then 'reassignment_recipient'
        when private.has_open_case(from_doctor) or private.has_open_case(to_doctor)
            then 'reassignment_under_investigation'
    end;
end
$$;

-- Returns why a consultation of a doctor who left stays with that doctor, or null if it can be moved. WAITING:
-- a recording, a clip or a destruction is not finished. SENSITIVE: the consultation is of a sensitive kind or has
-- psychotherapy notes. CONSENT: something was recorded, and a participant has not consented to a text that names
-- sharing. A consultation of which nothing was recorded can always be moved.
create function private.reassignment_obstacle(of_consultation resguardo.consultations) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when exists (
            select from resguardo.recordings as r
            where r.consultation_id = of_consultation.id
                and r.status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING')
            union all
            select from resguardo.clips as k
            where k.consultation_id = of_consultation.id and k.status in ('PENDING', 'RUNNING', 'STORING')
            union all
            select from resguardo.deletions as d
            where d.consultation_id = of_consultation.id and d.status = 'DELETING'
        ) then 'WAITING'
        when not exists (
            select from resguardo.recordings as r
            where r.consultation_id = of_consultation.id and r.status <> 'ABORTED'
        ) then null
        when of_consultation.sensitivity <> 'ORDINARY' or exists (
            select from private.psychotherapy_notes as n where n.consultation_id = of_consultation.id
        ) then 'SENSITIVE'
        when not private.consents_to_sharing(of_consultation.id) then 'CONSENT'
    end;
end
$$;

-- Moves the next consultations of an approved reassignment to the new doctor: looks at most at 50. The foreign keys
-- change the doctor in all rows of a consultation. Signed notes keep the author in the signed file, and
-- consultations.conducted_by keeps the doctor who held a consultation. Returns whether the worker must call the
-- function again: MORE at once, WAITING later, ENDED never. Before each batch, the function checks again that the
-- reassignment is possible, and marks the proposal as FAILED if not.
create function private.reassign_consultations(of_proposal uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    approved resguardo.officer_proposals;
    objection text;
    obstacle text;
    looked_at resguardo.consultations;
    moved uuid[] := '{}';
    for_consent integer := 0;
    as_sensitive integer := 0;
    waiting integer := 0;
    is_over boolean := true;
begin
    select p.* into approved from resguardo.officer_proposals as p where p.id = of_proposal;
    perform from resguardo.staff as s
    where s.user_id in (approved.member_id, approved.recipient_id) order by s.user_id for no key update;
    select p.* into approved from resguardo.officer_proposals as p
    where p.id = of_proposal and p.kind = 'REASSIGN_CONSULTATIONS' and p.status = 'APPROVED' for update;
    if approved.id is null then
        return 'ENDED';
    end if;
    objection := private.reassignment_objection(approved.member_id, approved.recipient_id);
    if objection is not null then
        perform private.finish_proposals('REASSIGN_CONSULTATIONS', approved.member_id, objection);
        return 'ENDED';
    end if;
    for looked_at in
        select c.* from resguardo.consultations as c
        where c.doctor_id = approved.member_id
            and (approved.place_at is null or (c.scheduled_at, c.id) < (approved.place_at, approved.place_id))
        order by c.scheduled_at desc, c.id desc
        limit 50
        for update
    loop
        is_over := false;
        obstacle := private.reassignment_obstacle(looked_at);
        if obstacle is null then
            moved := moved || looked_at.id;
        elsif obstacle = 'CONSENT' then
            for_consent := for_consent + 1;
        elsif obstacle = 'SENSITIVE' then
            as_sensitive := as_sensitive + 1;
        else
            waiting := waiting + 1;
        end if;
        approved.place_at := looked_at.scheduled_at;
        approved.place_id := looked_at.id;
    end loop;
    if cardinality(moved) > 0 then
        perform private.audit_reassignment(approved, moved);
        update resguardo.consultations as c
        set doctor_id = approved.recipient_id,
            conducted_by = coalesce(
                c.conducted_by,
                case when exists (
                    select from resguardo.participants as p
                    where p.consultation_id = c.id and p.kind = 'DOCTOR' and p.joined_at is not null
                    union all
                    select from resguardo.recordings as r where r.consultation_id = c.id
                ) then approved.member_id end
            )
        where c.id = any(moved);
    end if;
    if is_over and coalesce(approved.waiting_count, 0) > 0 then
        update resguardo.officer_proposals as p
        set place_at = null, place_id = null, waiting_count = 0, kept_for_consent_count = 0,
            kept_as_sensitive_count = 0
        where p.id = of_proposal;
        return 'WAITING';
    end if;
    update resguardo.officer_proposals as p
    set place_at = approved.place_at, place_id = approved.place_id,
        moved_count = coalesce(p.moved_count, 0) + cardinality(moved),
        kept_for_consent_count = coalesce(p.kept_for_consent_count, 0) + for_consent,
        kept_as_sensitive_count = coalesce(p.kept_as_sensitive_count, 0) + as_sensitive,
        waiting_count = coalesce(p.waiting_count, 0) + waiting
    where p.id = of_proposal;
    if is_over then
        perform private.finish_proposals('REASSIGN_CONSULTATIONS', approved.member_id, null);
        return 'ENDED';
    end if;
    return 'MORE';
end
$$;

-- Marks an approved reassignment as FAILED with a reason. The consultations that were moved stay moved.
create function private.fail_reassignment(of_proposal uuid, failure text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.finish_proposals('REASSIGN_CONSULTATIONS', p.member_id, failure)
    from resguardo.officer_proposals as p
    where p.id = of_proposal and p.kind = 'REASSIGN_CONSULTATIONS' and p.status = 'APPROVED';
end
$$;

-- Writes the audit row about consultations that the worker moves to another doctor.
create function private.audit_reassignment(approved resguardo.officer_proposals, moved uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_of_entities(
        'consultation.reassign', 'ALLOWED', null,
        private.entities_of('consultation', moved)
        || private.entities_of('staff', array[approved.member_id, approved.recipient_id])
        || private.entities_of('officer_proposal', array[approved.id]),
        array(select distinct c.patient_id from resguardo.consultations as c where c.id = any(moved)), moved,
        array['doctor'], cardinality(moved), null
    );
end
$$;


-- 72_consultation_labels.sql

-- The labels of consultations: a few words by which the doctor and the patient recognise a consultation. A label is
-- encrypted with the data key of the patient, and is deleted with this key.

create table private.consultation_labels (
    consultation_id uuid not null,
    patient_id uuid not null
    constraint consultation_labels_patient_key_fkey references private.patient_keys (patient_id) on delete cascade,
    ciphertext bytea not null
    constraint consultation_labels_ciphertext_length check (length(ciphertext) between 30 and 1024),
    changed_by uuid not null
    constraint consultation_labels_changed_by_fkey references resguardo.staff (user_id),
    changed_at timestamptz not null default private.now(),
    constraint consultation_labels_pkey primary key (consultation_id),
    constraint consultation_labels_consultation_fkey foreign key (consultation_id, patient_id)
    references resguardo.consultations (id, patient_id)
);
comment on table private.consultation_labels is
'The encrypted label of each consultation that has one. It is deleted with the data key of the patient.';
create index consultation_labels_patient_idx on private.consultation_labels (patient_id);
create index consultation_labels_consultation_idx on private.consultation_labels (consultation_id, patient_id);
create index consultation_labels_changed_by_idx on private.consultation_labels (changed_by);

-- The consultations whose labels the running transaction has read. The statement that shows a consultation writes the
-- audit row, and not `label_of`, because one row names a whole page. At the commit, a trigger checks that the row was
-- written.
create table private.shown_labels (
    transaction_id xid8 constraint shown_labels_pkey primary key default pg_current_xact_id(),
    consultation_ids uuid[] not null
);
comment on table private.shown_labels is
'The consultations whose labels the running transaction has read. The table is empty between transactions.';

-- Writes an audit row about the labels that the transaction has read, unless the transaction has already written a row
-- that names the field. No transaction can therefore read labels without an audit row.
create function private.audit_labels() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    shown private.shown_labels;
begin
    delete from private.shown_labels as s where s.transaction_id = new.transaction_id returning s.* into shown;
    if exists (
        select from (
            select e.fields, e.xmin as written_by from audit.events as e
            where e.actor_id = private.uid() order by e.recorded_at desc limit 20
        ) as n
        where n.written_by = pg_current_xact_id()::xid
            and exists (select from unnest(n.fields) as f (name) where f.name ~ '(^|[.])label$')
    ) then
        return null;
    end if;
    perform private.write_audit(
        'consultation.read', 'ALLOWED', null, 'consultation', shown.consultation_ids,
        array(
            select distinct c.patient_id from resguardo.consultations as c where c.id = any (shown.consultation_ids)
        ),
        shown.consultation_ids, array['label'], cardinality(shown.consultation_ids), null
    );
    return null;
end
$$;

create constraint trigger shown_labels_audit after insert on private.shown_labels
deferrable initially deferred for each row execute function private.audit_labels();
alter table private.shown_labels enable always trigger shown_labels_audit;

-- Returns the encrypted label of a consultation with the patient's wrapped data key, to the doctor and the patient of
-- the consultation. Returns null for everybody else, and for a consultation without a label.
create function private.label_of(of_consultation uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_label jsonb;
begin
    perform private.require_person();
    if current_setting('role') not in ('clinician', 'patient') then
        return null;
    end if;
    select jsonb_build_object(
        'consultation_id', l.consultation_id, 'patient_id', l.patient_id,
        'ciphertext', encode(l.ciphertext, 'base64'), 'wrapped', encode(k.wrapped_key, 'base64'),
        'root_key', k.root_key_id
    )
    into found_label
    from private.consultation_labels as l
    inner join private.patient_keys as k on k.patient_id = l.patient_id
    where l.consultation_id = of_consultation and private.is_own_consultation(of_consultation);
    if found_label is not null then
        insert into private.shown_labels as s (consultation_ids) values (array[of_consultation])
        on conflict (transaction_id) do update set consultation_ids = s.consultation_ids || excluded.consultation_ids;
    end if;
    return found_label;
end
$$;

-- Returns whether a consultation had recordings, and all of them and its signed notes are destroyed.
create function private.is_consultation_destroyed(of_consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.recordings as r where r.consultation_id = of_consultation and r.status = 'DELETED'
    ) and not exists (
        select from resguardo.recordings as r
        where r.consultation_id = of_consultation and r.status not in ('DELETED', 'ABORTED')
    ) and not exists (
        select from resguardo.signed_notes as n where n.consultation_id = of_consultation and n.status <> 'DESTROYED'
    );
end
$$;

-- Begins to change the label of a consultation of the calling doctor: locks the consultation, and returns the data key
-- of the patient and the current label. If the patient has no key, the function stores the offered one. Without an
-- offered key, as for the removal of a label, it makes none. The commit writes the audit row. Returns no row if the
-- consultation does not exist or the caller may not see it. Raises RG409 (recording_deleted, root_key_unknown), RG429
-- (quota_pages).
create function private.begin_label(of_consultation uuid, offered bytea, offered_root_key text)
returns table (patient_id uuid, wrapped bytea, root_key text, ciphertext bytea)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    patient uuid;
begin
    perform private.use_quota(doctor, 'pages');
    if private.is_own_consultation(of_consultation) then
        select c.patient_id into patient from resguardo.consultations as c
        where c.id = of_consultation for no key update;
    end if;
    if patient is null then
        perform private.write_lookup(
            'consultation.set_label', 'consultation', 'consultation', of_consultation, false, '[]', '{}', '{}', 0,
            array['label']
        );
        return;
    end if;
    if offered is not null and private.is_consultation_destroyed(of_consultation) then
        raise exception 'recording_deleted' using errcode = 'RG409';
    end if;
    perform private.write_audit_later(
        'consultation.set_label', null, 'consultation', of_consultation, patient, of_consultation, array['label'], null
    );
    if offered is not null then
        perform private.make_patient_key(patient, of_consultation, offered, offered_root_key);
    end if;
    return query
    select patient, k.wrapped_key, k.root_key_id, l.ciphertext
    from (select patient as id) as p
    left join private.patient_keys as k on k.patient_id = p.id and offered is not null
    left join private.consultation_labels as l on l.consultation_id = of_consultation;
end
$$;

-- Stores or removes (null) the label of a consultation, whose change this transaction has begun. Raises RG403
-- (reserved_action).
create function private.store_label(of_consultation uuid, new_ciphertext bytea) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    perform private.require_begun('consultation.set_label', of_consultation);
    if new_ciphertext is null then
        delete from private.consultation_labels as l where l.consultation_id = of_consultation;
        return;
    end if;
    insert into private.consultation_labels as l (consultation_id, patient_id, ciphertext, changed_by)
    select c.id, c.patient_id, new_ciphertext, doctor from resguardo.consultations as c where c.id = of_consultation
    on conflict (consultation_id) do update
    set ciphertext = excluded.ciphertext, changed_by = excluded.changed_by, changed_at = private.now();
end
$$;

-- Deletes the label of a consultation when the last of its recordings and signed notes is destroyed. Then destroys the
-- data key of the patient if it encrypts nothing any more.
create function private.delete_label() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not private.is_consultation_destroyed(new.consultation_id) then
        return null;
    end if;
    delete from private.consultation_labels as l where l.consultation_id = new.consultation_id;
    if not found then
        return null;
    end if;
    perform from private.patient_keys as k where k.patient_id = new.patient_id for update;
    delete from private.patient_keys as k
    where k.patient_id = new.patient_id
        and not exists (select from private.consultation_labels as l where l.patient_id = k.patient_id)
        and not exists (
            select from private.signed_note_texts as t
            inner join resguardo.signed_notes as n on n.id = t.note_id
            where n.patient_id = k.patient_id
        );
    if found then
        perform private.write_audit(
            'patient.destroy_key', 'ALLOWED', null, 'patient', array[new.patient_id], array[new.patient_id],
            array[new.consultation_id], array['data_key'], 1, null
        );
    end if;
    return null;
end
$$;

create trigger recordings_delete_label after update of status on resguardo.recordings
for each row when (new.status = 'DELETED' and old.status <> 'DELETED') execute function private.delete_label();

create trigger signed_notes_delete_label after update of status on resguardo.signed_notes
for each row when (new.status = 'DESTROYED' and old.status <> 'DESTROYED') execute function private.delete_label();


-- 73_evidence.sql

-- Evidence packs: what `resguardo evidence` reads for an auditor, and the audit event that records a pack.

-- Returns at most 500 rows of a section of an evidence pack after the row (after_at, after_id), oldest first: those of
-- the range of time. Rows have ids, codes, times and digests, and no text that a person has written. A section of an
-- unknown name has no rows.
create function private.read_evidence(
    section text, since timestamptz, until timestamptz, after_at timestamptz, after_id uuid
) returns table (at timestamptz, id uuid, content jsonb)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    case section
        when 'retention_policies' then
            return query
            select p.proposed_at, p.uuid, jsonb_build_object(
                'number', p.id, 'name', p.name, 'sha256', p.sha256, 'status', p.status, 'terms', p.terms,
                'proposed_at', p.proposed_at, 'activated_at', p.activated_at,
                'approved_by', (
                    select coalesce(jsonb_agg(a.officer_id order by a.approved_at), '[]')
                    from resguardo.retention_approvals as a where a.policy_id = p.id
                )
            )
            from (
                select
                    r.id, r.name, r.sha256, r.status, r.terms, r.proposed_at, r.activated_at,
                    lpad(to_hex(r.id), 32, '0')::uuid as uuid
                from resguardo.retention_policies as r
            ) as p
            where p.proposed_at < until and (p.proposed_at, p.uuid) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'review_cases' then
            return query
            select c.opened_at, c.id, jsonb_build_object(
                'id', c.id, 'rule', c.rule, 'subject', c.subject_id, 'status', c.status, 'opened_at', c.opened_at,
                'event_count', c.event_count, 'disposition', c.disposition, 'decided_by', c.decided_by,
                'decided_at', c.decided_at
            )
            from resguardo.review_cases as c
            where c.opened_at >= since and c.opened_at < until and (c.opened_at, c.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'attestations' then
            return query
            select a.created_at, a.id, jsonb_build_object(
                'id', a.id, 'month', to_char(a.month, 'YYYY-MM'), 'attested_by', a.attested_by,
                'findings', a.findings, 'created_at', a.created_at, 'sha256', a.sha256, 'event_id', a.event_id,
                'document', a.document
            )
            from resguardo.attestations as a
            where a.created_at >= since and a.created_at < until and (a.created_at, a.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'breach_assessments' then
            return query
            select a.created_at, a.id, jsonb_build_object(
                'id', a.id, 'case', a.case_id, 'subject', a.subject_id, 'status', a.status,
                'discovered_on', a.discovered_on, 'due_on', a.due_on, 'next_due_on', a.next_due_on,
                'delayed_until', a.delayed_until, 'patient_count', a.patient_count,
                'recording_count', a.recording_count, 'decision', a.decision, 'decided_by', a.decided_by,
                'decided_at', a.decided_at, 'late_reason', a.late_reason, 'created_at', a.created_at,
                'closed_at', a.closed_at, 'sha256', a.sha256, 'event_id', a.event_id, 'document', a.document,
                'notices', (
                    select coalesce(jsonb_agg(jsonb_build_object(
                        'kind', n.kind, 'method', n.method, 'jurisdiction', n.jurisdiction, 'sent_on', n.sent_on,
                        'late_reason', n.late_reason, 'recorded_by', n.recorded_by, 'recorded_at', n.recorded_at
                    ) order by n.sent_on, n.recorded_at), '[]')
                    from resguardo.breach_notices as n where n.assessment_id = a.id
                ),
                'needed_notices', (
                    select coalesce(jsonb_agg(to_jsonb(n)), '[]') from private.needed_breach_notices(a) as n
                )
            )
            from resguardo.breach_assessments as a
            where a.created_at >= since and a.created_at < until and (a.created_at, a.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'sanctions' then
            return query
            select s.created_at, s.id, jsonb_build_object(
                'id', s.id, 'assessment', s.assessment_id, 'member', s.staff_id, 'category', s.category,
                'measure', s.measure, 'imposed_on', s.imposed_on, 'recorded_by', s.recorded_by
            )
            from resguardo.sanctions as s
            where s.created_at >= since and s.created_at < until and (s.created_at, s.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'emergency_accesses' then
            return query
            select e.began_at, e.id, jsonb_build_object(
                'id', e.id, 'clinician', e.clinician_id, 'patient', e.patient_id, 'reason', e.reason,
                'began_at', e.began_at, 'ends_at', e.ends_at, 'ended_at', e.ended_at
            )
            from resguardo.emergency_accesses as e
            where e.began_at >= since and e.began_at < until and (e.began_at, e.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'alerts' then
            return query
            select a.opened_at, a.id, jsonb_build_object(
                'id', a.id, 'kind', a.kind, 'opened_at', a.opened_at, 'seen_at', a.seen_at, 'closed_at', a.closed_at,
                'entity_type', a.entity_type, 'entity_count', a.entity_count
            )
            from resguardo.alerts as a
            where a.opened_at >= since and a.opened_at < until and (a.opened_at, a.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'staff' then
            return query
            select s.created_at, s.id, jsonb_build_object(
                'user', s.user_id, 'role', s.role, 'status', s.status, 'since', s.created_at,
                'suspended_at', s.suspended_at
            )
            from resguardo.staff as s
            where s.created_at < until and (s.created_at, s.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'officer_proposals' then
            return query
            select p.proposed_at, p.id, jsonb_build_object(
                'id', p.id, 'kind', p.kind, 'member', p.member_id, 'reason', p.reason, 'status', p.status,
                'proposed_by', p.proposed_by, 'proposed_at', p.proposed_at, 'decided_by', p.decided_by,
                'decided_at', p.decided_at
            )
            from resguardo.officer_proposals as p
            where p.proposed_at >= since and p.proposed_at < until and (p.proposed_at, p.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'disclosures' then
            return query
            select d.recorded_at, d.id, jsonb_build_object(
                'id', d.id, 'patient', d.patient_id, 'disclosed_on', d.disclosed_on,
                'last_disclosed_on', d.last_disclosed_on, 'count', d.disclosure_count, 'purpose', d.purpose,
                'is_accounted', d.is_accounted, 'recorded_by', d.recorded_by, 'recorded_at', d.recorded_at
            )
            from resguardo.disclosures as d
            where d.recorded_at >= since and d.recorded_at < until and (d.recorded_at, d.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'access_reviews' then
            return query
            select r.started_at, r.id, jsonb_build_object(
                'id', r.id, 'status', r.status, 'started_by', r.started_by, 'started_at', r.started_at,
                'decided_by', r.decided_by, 'decided_at', r.decided_at, 'finished_at', r.finished_at,
                'sha256', r.sha256,
                'entries', (
                    select coalesce(jsonb_agg(jsonb_build_object(
                        'member', e.member_id, 'role', e.role, 'role_given_at', e.role_given_at,
                        'last_used_at', e.last_used_at, 'is_unused', e.is_unused, 'decision', e.decision,
                        'outcome', e.outcome
                    ) order by e.member_id), '[]')
                    from resguardo.access_review_entries as e where e.review_id = r.id
                )
            )
            from resguardo.access_reviews as r
            where r.started_at >= since and r.started_at < until and (r.started_at, r.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'vendor_agreements' then
            return query
            select v.recorded_at, v.id, jsonb_build_object(
                'id', v.id, 'service', v.service, 'vendor', v.vendor, 'basis', v.basis, 'version', v.version,
                'signed_on', v.signed_on, 'expires_on', v.expires_on, 'recorded_by', v.recorded_by,
                'recorded_at', v.recorded_at
            )
            from resguardo.vendor_agreements as v
            where v.recorded_at < until and (v.recorded_at, v.id) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'review_policies' then
            return query
            select p.proposed_at, p.uuid, jsonb_build_object(
                'number', p.id, 'name', p.name, 'sha256', p.sha256, 'status', p.status, 'rules', p.rules,
                'proposed_at', p.proposed_at, 'activated_at', p.activated_at
            )
            from (
                select
                    r.id, r.name, r.sha256, r.status, r.rules, r.proposed_at, r.activated_at,
                    lpad(to_hex(r.id), 32, '0')::uuid as uuid
                from resguardo.review_policies as r
            ) as p
            where p.proposed_at < until and (p.proposed_at, p.uuid) > (after_at, after_id)
            order by 1, 2 limit 500;
        when 'certificates' then
            return query
            select c.kept_at, c.uuid, jsonb_build_object(
                'recording', c.recording_id, 'number', c.number, 'sha256', c.sha256, 'kept_at', c.kept_at,
                'document', c.document
            )
            from (
                select
                    k.recording_id, k.number, k.sha256, k.kept_at, k.document,
                    md5(k.recording_id || ' ' || k.number)::uuid as uuid
                from resguardo.certificates as k
                where k.kept_at >= greatest(since, after_at) and k.kept_at < until
            ) as c
            where (c.kept_at, c.uuid) > (after_at, after_id)
            order by 1, 2 limit 500;
        else
            return;
    end case;
end
$$;

-- Returns whether this version has a section, whose rows are those of the table of the same name.
create function private.has_evidence(section text) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return to_regclass('resguardo.' || quote_ident(section)) is not null;
end
$$;

-- Returns every kind of audit event with the time of its newest event before `until`, and the time of its newest event
-- in the range of time. A time is null if there is no such event.
create function private.read_coverage(since timestamptz, until timestamptz)
returns table (action text, operation text, last_seen_at timestamptz, last_seen_in_range_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select a.action, a.operation, e.recorded_at, case when e.recorded_at >= since then e.recorded_at end
    from private.audit_actions as a
    left join lateral (
        select v.recorded_at from audit.events as v
        where v.action = a.action and v.recorded_at < until
        order by v.recorded_at desc, v.id desc limit 1
    ) as e on true
    order by a.action;
end
$$;

-- Records an evidence pack: writes the audit event evidence.export with the digest of the pack's manifest, and returns
-- the id of the event.
create function private.record_evidence(of_pack uuid, of_sha256 text, files integer, bytes bigint) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return private.write_audit_of_entities(
        'evidence.export', 'ALLOWED', null, private.entities_of('evidence_pack', array[of_pack]), '{}', '{}',
        array['document'], files, bytes, of_sha256
    );
end
$$;


-- 74_accountings.sql

-- Requests for an accounting of disclosures (45 CFR 164.528(c)), and the accountings that the practice has issued.

create table resguardo.accounting_requests (
    id uuid primary key default gen_random_uuid(),
    patient_id uuid not null constraint accounting_requests_patient_id_fkey references resguardo.patients (id),
    status text not null default 'OPEN'
    constraint accounting_requests_status_is_known check (status in ('OPEN', 'FULFILLED', 'WITHDRAWN')),
    channel text not null constraint accounting_requests_channel_is_known check (channel in ('LOGIN', 'WRITTEN')),
    filed_by uuid not null,
    received_on date not null,
    due_on date not null,
    earliest_date date not null,
    latest_date date not null,
    is_free boolean not null,
    extension_reason text
    constraint accounting_requests_extension_reason_is_known check (
        extension_reason in ('VOLUME', 'STORED_ELSEWHERE', 'PROFESSIONAL_REVIEW', 'TECHNICAL_FAILURE', 'STAFF_ABSENCE')
    ),
    extended_at timestamptz,
    issued_by uuid constraint accounting_requests_issued_by_fkey references resguardo.staff (user_id),
    issued_at timestamptz,
    entry_count integer constraint accounting_requests_entry_count_is_count check (entry_count >= 0),
    sha256 text constraint accounting_requests_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    created_at timestamptz not null default private.now(),
    constraint accounting_requests_range check (
        earliest_date <= latest_date and latest_date <= received_on
        and earliest_date >= received_on - interval '6 years'
    ),
    constraint accounting_requests_extension_is_whole check ((extension_reason is null) = (extended_at is null)),
    constraint accounting_requests_clock_is_of_the_rule check (
        due_on between received_on + 60 and received_on + case when extended_at is null then 60 else 90 end
    ),
    constraint accounting_requests_issue_is_whole check (
        num_nonnulls(issued_by, issued_at, entry_count, sha256) = case status when 'FULFILLED' then 4 else 0 end
    )
);
alter table resguardo.accounting_requests enable row level security;
comment on column resguardo.accounting_requests.due_on is
'The last day to act, in UTC: 60 days after receipt, extended once by 30 at most (164.528(c)(1)).';
comment on column resguardo.accounting_requests.is_free is
'Whether it is the patient''s first request in 12 months, for which no fee may be charged (164.528(c)(2)).';
comment on column resguardo.accounting_requests.sha256 is 'The SHA-256 of the issued accounting, in hex.';
create unique index accounting_requests_one_open_key on resguardo.accounting_requests (patient_id)
where status = 'OPEN';
create index accounting_requests_patient_idx
on resguardo.accounting_requests (patient_id, created_at desc, id desc);
create index accounting_requests_patient_status_idx
on resguardo.accounting_requests (patient_id, status, created_at desc, id desc);
create index accounting_requests_created_idx on resguardo.accounting_requests (created_at desc, id desc);
create index accounting_requests_status_idx on resguardo.accounting_requests (status, created_at desc, id desc);
create index accounting_requests_due_idx on resguardo.accounting_requests (due_on) where status = 'OPEN';
create index accounting_requests_issued_by_idx on resguardo.accounting_requests (issued_by);

-- Writes the audit row of a change of a request before the commit.
create function private.audit_accounting(of_action text, asked resguardo.accounting_requests, of_fields text[])
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_later(
        of_action, null, 'accounting_request', asked.id, asked.patient_id, null, of_fields, null
    );
end
$$;

-- Locks and returns a request. A compliance officer may change every request, and a patient only the patient's own. If
-- the caller may not see the request or it does not exist, the function writes an audit row and returns nulls.
create function private.lock_accounting_request(of_request uuid, of_action text)
returns resguardo.accounting_requests
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    is_patient constant boolean := current_setting('role') = 'patient';
    patient uuid;
    wanted resguardo.accounting_requests;
begin
    perform private.use_quota(person, 'pages');
    if is_patient then
        patient := private.patient();
    elsif current_setting('role') <> 'compliance' then
        raise exception 'wrong_role' using errcode = 'RG403';
    end if;
    select a.* into wanted from resguardo.accounting_requests as a where a.id = of_request;
    if wanted.id is null or (is_patient and wanted.patient_id <> patient) then
        perform private.write_audit(
            of_action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'accounting_request',
            array[of_request], array_remove(array[wanted.patient_id], null), '{}', '{}', 0, null
        );
        return null;
    end if;
    select a.* into wanted from resguardo.accounting_requests as a where a.id = of_request for update;
    return wanted;
end
$$;

-- Files a request for an accounting of the disclosures in a range of days, which is at most the six years before the
-- day of receipt. Patients file for themselves, and a compliance officer for a patient who asked in writing within the
-- last 90 days. Returns the id of the request, or of the open request of the same patient. Returns null if the patient
-- does not exist. Raises RG409 (bad_accounting_dates), RG429 (quota_pages).
create function private.file_accounting_request(of_patient uuid, received date, earliest date, latest date)
returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    is_patient constant boolean := current_setting('role') = 'patient';
    today constant date := private.today();
    filed resguardo.accounting_requests;
begin
    perform private.use_quota(person, 'pages');
    if is_patient then
        of_patient := private.patient();
        received := today;
    elsif current_setting('role') <> 'compliance' then
        raise exception 'wrong_role' using errcode = 'RG403';
    else
        of_patient := private.require_patient('accounting.file', of_patient, null);
    end if;
    if of_patient is null then
        return null;
    end if;
    latest := coalesce(latest, received);
    earliest := coalesce(earliest, (received - interval '6 years')::date);
    if received is null or received > today or received < today - 90 or earliest > latest or latest > received
        or earliest < received - interval '6 years'
    then
        raise exception 'bad_accounting_dates' using errcode = 'RG409';
    end if;
    perform from resguardo.patients as p where p.id = of_patient for no key update;
    select a.* into filed from resguardo.accounting_requests as a
    where a.patient_id = of_patient and a.status = 'OPEN' for update;
    if filed.id is null then
        insert into resguardo.accounting_requests as a (
            patient_id, channel, filed_by, received_on, due_on, earliest_date, latest_date, is_free
        ) values (
            of_patient, case when is_patient then 'LOGIN' else 'WRITTEN' end, person, received, received + 60, earliest,
            latest, not exists (
                select from resguardo.accounting_requests as o
                where o.patient_id = of_patient and o.status <> 'WITHDRAWN'
                    and o.received_on > received - interval '12 months'
            )
        )
        returning a.* into filed;
    end if;
    perform private.audit_accounting('accounting.file', filed, array['status', 'receivedOn', 'dueOn']);
    return filed.id;
end
$$;

-- Withdraws a request. A second withdrawal changes nothing. Returns null if the caller may not see the request or it
-- does not exist. Raises RG409 (accounting_request_closed), RG429 (quota_pages).
create function private.withdraw_accounting_request(of_request uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.accounting_requests := private.lock_accounting_request(of_request, 'accounting.withdraw');
begin
    if wanted.id is null then
        return null;
    elsif wanted.status = 'FULFILLED' then
        raise exception 'accounting_request_closed' using errcode = 'RG409';
    end if;
    update resguardo.accounting_requests as a set status = 'WITHDRAWN' where a.id = of_request;
    perform private.audit_accounting('accounting.withdraw', wanted, array['status']);
    return wanted.id;
end
$$;

-- Extends the deadline of a request once, by at most 30 days, on or before the due day. Returns null if the request
-- does not exist. Raises RG409 (accounting_request_closed, extended_already, past_due), RG429 (quota_pages).
create function private.extend_accounting_request(of_request uuid, days integer, reason text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.accounting_requests;
begin
    perform private.person();
    wanted := private.lock_accounting_request(of_request, 'accounting.extend');
    if wanted.id is null then
        return null;
    elsif wanted.status <> 'OPEN' then
        raise exception 'accounting_request_closed' using errcode = 'RG409';
    elsif wanted.extended_at is not null then
        raise exception 'extended_already' using errcode = 'RG409';
    elsif private.today() > wanted.due_on then
        raise exception 'past_due' using errcode = 'RG409';
    end if;
    update resguardo.accounting_requests as a
    set due_on = a.due_on + days, extension_reason = reason, extended_at = private.now()
    where a.id = of_request;
    perform private.audit_accounting('accounting.extend', wanted, array['dueOn', 'extension.reason']);
    return wanted.id;
end
$$;

-- Begins to issue the accounting of a request, and returns the request's range of days and the data key of the patient,
-- which is `offered` if the patient has none yet. If the accounting was issued before, `issued` has its ciphertext, and
-- the transaction changes nothing. Returns no row if the request does not exist. Raises RG409
-- (accounting_request_closed), RG429 (quota_pages).
create function private.begin_accounting(of_request uuid, offered bytea, offered_root_key text)
returns table (
    patient_id uuid, earliest_date date, latest_date date, received_on date, issued bytea, wrapped bytea, root_key text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.accounting_requests;
begin
    perform private.person();
    wanted := private.lock_accounting_request(of_request, 'accounting.issue');
    if wanted.id is null then
        return;
    elsif wanted.status = 'WITHDRAWN' then
        raise exception 'accounting_request_closed' using errcode = 'RG409';
    end if;
    perform private.audit_accounting('accounting.issue', wanted, array['accounting']);
    if wanted.status = 'OPEN' then
        perform private.make_patient_key(wanted.patient_id, null, offered, offered_root_key);
    end if;
    return query
    select
        wanted.patient_id, wanted.earliest_date, wanted.latest_date, wanted.received_on, t.ciphertext, k.wrapped_key,
        k.root_key_id
    from (select) as one
    left join private.patient_texts as t on t.id = wanted.id
    left join private.patient_keys as k on k.patient_id = wanted.patient_id;
end
$$;

-- Returns the entries of the accounting that this transaction has begun, the latest day first, and at most 20,001. A
-- disclosure to an agency that has asked for a suspension is left out until the suspension ends.
create function private.read_accounting_entries(of_request uuid)
returns table (
    id uuid, disclosed_on date, last_disclosed_on date, disclosure_count integer, purpose text, ciphertext bytea,
    is_substance_use boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.accounting_requests;
    hidden text[];
    sensitive uuid[];
begin
    perform private.person();
    select a.* into wanted from resguardo.accounting_requests as a
    inner join private.pending_audit_rows as p
        on p.transaction_id = pg_current_xact_id() and p.entity_id = a.id and p.action = 'accounting.issue'
    where a.id = of_request;
    hidden := array(select s.agency from private.disclosure_suspensions(wanted.patient_id) as s);
    sensitive := array(
        select c.id from resguardo.consultations as c
        where c.patient_id = wanted.patient_id and c.sensitivity = 'SUBSTANCE_USE'
    );
    return query
    select
        d.id, d.disclosed_on, d.last_disclosed_on, d.disclosure_count, d.purpose, t.ciphertext,
        coalesce(d.consultation_id = any(sensitive), sensitive <> '{}')
    from resguardo.disclosures as d
    left join private.patient_texts as t on t.id = d.id
    where d.patient_id = wanted.patient_id and d.is_accounted and d.purpose <> all(hidden)
        and coalesce(d.last_disclosed_on, d.disclosed_on) >= wanted.earliest_date
        and d.disclosed_on <= wanted.latest_date
    order by d.disclosed_on desc, d.id desc
    limit 20001;
end
$$;

-- Stores the accounting that this transaction has begun, and marks its request as FULFILLED.
create function private.finish_accounting(of_request uuid, new_ciphertext bytea, of_sha256 text, entries integer)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    issued resguardo.accounting_requests;
begin
    update resguardo.accounting_requests as a
    set status = 'FULFILLED', issued_by = officer, issued_at = private.now(), entry_count = entries, sha256 = of_sha256
    where a.id = of_request and a.status = 'OPEN'
    returning a.* into issued;
    perform private.store_patient_text(of_request, issued.patient_id, new_ciphertext);
    update private.pending_audit_rows as p set digest = of_sha256, byte_count = length(new_ciphertext)
    where p.transaction_id = pg_current_xact_id() and p.entity_id = of_request;
end
$$;

-- Returns the open requests whose due day has passed, the longest overdue first.
create function private.overdue_accounting_requests() returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select a.id from resguardo.accounting_requests as a
        where a.status = 'OPEN' and a.due_on < private.today()
        order by a.due_on, a.id
    );
end
$$;


-- 74_webhook_events.sql

-- The events of recordings, transcripts, insights, notes and deletions that are announced to webhook endpoints. Each
-- trigger runs in the transaction that makes the event true.

-- Announces an event of the type in the first argument, about an entity of the type in the second argument. The column
-- in the third argument has the id.
create function private.announce_event() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.announce(tg_argv[0], tg_argv[1], array[(to_jsonb(new) ->> tg_argv[2])::uuid]);
    return null;
end
$$;

create trigger recordings_announce_ready after update of status on resguardo.recordings
for each row when (new.medium = 'VIDEO' and new.status = 'READY' and old.status <> 'READY')
execute function private.announce_event('recording.ready', 'recording', 'id');

create trigger recordings_announce_failed after update of status on resguardo.recordings
for each row when (new.medium = 'VIDEO' and new.status = 'FAILED' and old.status <> 'FAILED')
execute function private.announce_event('recording.failed', 'recording', 'id');

create trigger transcripts_announce_ready after update on resguardo.transcripts
for each row when (new.status = 'READY' and not new.is_retried and (old.status <> 'READY' or old.is_retried))
execute function private.announce_event('transcript.ready', 'recording', 'recording_id');

create trigger insights_announce_ready after update on resguardo.insights
for each row when (
    (new.status = 'READY' and old.status <> 'READY') or (new.status = 'STALE' and old.status in ('PENDING', 'RUNNING'))
)
execute function private.announce_event('insights.ready', 'recording', 'recording_id');

create trigger signed_note_versions_announce after insert on resguardo.signed_note_versions
for each row execute function private.announce_event('note.signed', 'signed_note', 'note_id');

create trigger deletions_announce_done after update on resguardo.deletions
for each row when (new.status = 'DELETED' and old.status <> 'DELETED')
execute function private.announce_event('deletion.done', 'deletion', 'id');

create trigger signed_notes_announce_destroyed after update on resguardo.signed_notes
for each row when (new.status = 'DESTROYED' and old.status <> 'DESTROYED')
execute function private.announce_event('deletion.done', 'signed_note', 'id');


-- 99_closed.sql

-- The last file of the schema: revokes every right except the owner's until `resguardo migrate` applies
-- policies/access. Postgres grants EXECUTE on every new function to PUBLIC, and a Supabase project may have default
-- privileges of its own.

-- Registers the names of all unique indexes as reasons. If a statement violates a unique index, the API returns the
-- name of the index as the reason.
insert into private.audit_terms (kind, term)
select 'reason', c.relname
from pg_catalog.pg_index as i
inner join pg_catalog.pg_class as c on c.oid = i.indexrelid
inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where i.indisunique and n.nspname in ('resguardo', 'private');

-- Revokes every right except the owner's until `resguardo migrate` applies policies/access. Postgres grants EXECUTE
-- on every new function to PUBLIC, and a Supabase project may have default privileges of its own.
select private.reset_access(c.oid::regclass)
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname in ('resguardo', 'audit', 'private', 'jobs') and c.relkind in ('r', 'p', 'v', 'S');

select private.reset_routines(n.oid::regnamespace)
from pg_catalog.pg_namespace as n
where n.nspname in ('resguardo', 'audit', 'private', 'jobs');
