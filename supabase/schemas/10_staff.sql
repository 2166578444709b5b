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
'When the member last received the role: on creation, on a role change or on a reinstatement.';
comment on column resguardo.staff.published_name is
'The name of the member that the practice shows, for example to patients. Compliance sets it. No log contains it.';
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

-- Returns to a compliance officer the time at which a person last used their login.
create function private.last_use(of_user uuid) returns timestamptz
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.person();
    return private.last_use_of(of_user);
end
$$;

-- Returns the time at which a person last used their login, or null if they never did. This is the time of the person's
-- newest ALLOWED event in the audit log, such as a read or a sign-in. Refused attempts do not count. The function reads
-- the person's newest 1,000 events from the index on the actor. If all of them are refusals, the function uses the
-- search index of the audit log.
create function private.last_use_of(of_user uuid) returns timestamptz
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    used_at timestamptz;
    looked_at integer := 0;
    event record;
begin
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
begin
    perform private.person();
    perform from resguardo.staff as s where s.user_id in (private.uid(), member) order by s.user_id for update;
    person := private.person();  -- checked again under the lock because two members may suspend each other
    if member = person then
        raise exception 'own_suspension' using errcode = 'RG409';
    end if;
    perform private.suspend_member(member, person);
    return query select s.* from resguardo.staff as s where s.user_id = member;
end
$$;

-- Suspends a member of staff on behalf of an officer, and writes the audit row, which says ABSENT if the member does
-- not exist.
create function private.suspend_member(member uuid, officer uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    is_member boolean;
begin
    update resguardo.staff as s
    set status = 'suspended', suspended_at = coalesce(s.suspended_at, clock_timestamp()),
        suspended_by = coalesce(nullif(s.suspended_by, '00000000-0000-0000-0000-000000000000'), officer)
    where s.user_id = member;
    is_member := found;
    perform private.write_audit(
        'staff.suspend', case when is_member then 'ALLOWED' else 'ABSENT' end, null,
        'staff', array[member], '{}', '{}', array['status'], is_member::integer, null
    );
    if is_member then
        perform private.end_work_of(member);
        perform private.put_job('ban_user', member);
    end if;
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

-- Deletes every session of a person. Returns false if the Supabase project does not permit it. A suspended member has
-- no access even if the sessions still exist.
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
