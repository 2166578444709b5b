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
