-- Who is asking. Every statement that returns our rows goes through person() or patient(), which raise RG401 when the
-- session that the token names is over. Errors of this schema: RG401 unauthenticated, RG403 forbidden, RG405 the log,
-- RG409 conflict, RG429 a quota; the message is a code in snake_case.

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

-- The user of the token, if the session it names still stands in auth.sessions, belongs to that user, and the user is
-- neither banned nor deleted. Raises RG401 otherwise.
create function private.live_session() returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    claims constant jsonb := private.claims();
    person constant uuid := (claims ->> 'sub')::uuid;
begin
    if not exists (
        select
        from auth.sessions as s
        join auth.users as u on u.id = s.user_id
        where s.id = (claims ->> 'session_id')::uuid
            and s.user_id = person
            and (s.not_after is null or s.not_after > now())
            and to_timestamp((claims ->> 'exp')::double precision) > now() - interval '10 seconds'
            and (claims ->> 'aal' <> 'aal2' or s.aal::text = 'aal2')
            and (u.banned_until is null or u.banned_until <= now())
            and u.deleted_at is null
    ) then
        raise exception 'session_over' using errcode = 'RG401';
    end if;
    return person;
end
$$;

-- The member of staff who asks: live session, active, in the role that this transaction has taken, with a second
-- factor. Raises RG401 (session_over, staff_suspended) or RG403 (wrong_role, second_factor_needed).
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

-- The id in resguardo.patients of the patient who asks. Raises RG401 (session_over) or RG403 (wrong_role).
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

-- The role a user takes: the staff's own, else patient, else null. Whether the session and the member are in good
-- standing is for person() and patient() to say.
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

-- Opens a person's transaction: sets the claims, the request and the time limit, and takes the person's role, which
-- must be one of those allowed. An invoker function, since a definer may not set the role. Returns the role.
create function private.begin_as(
    claims jsonb, allowed_roles text[], request_id uuid, address inet, purpose text, timeout_milliseconds integer
) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    taken constant text := private.role_of((claims ->> 'sub')::uuid);
begin
    perform private.describe_request(claims, request_id, address, purpose, timeout_milliseconds);
    if taken is null then
        raise exception 'not_registered' using errcode = 'RG403';
    elsif taken <> all (allowed_roles) then
        raise exception 'wrong_role' using errcode = 'RG403';
    end if;
    perform set_config('role', taken, true);
    return taken;
end
$$;

-- What the audit rows of this transaction will say of the request. Without claims it is a service or a guest.
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
