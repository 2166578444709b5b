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
