-- Who works here: invitations through Supabase Auth, members added by the owner, and members that an adopter's own
-- role table names. A login is either a member of staff or a patient's, never both.

alter table resguardo.staff
add column origin text not null default 'OWN' constraint staff_origin_is_known check (origin in ('OWN', 'MAPPED'));
comment on column resguardo.staff.origin is
'OWN: invited, or added by the owner. MAPPED: named by the adopter''s role table, which changes no other.';
comment on column resguardo.staff.suspended_by is
'The nil UUID where the adopter''s role table took the role away: it alone may give it back.';

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
'Who was asked to work here. The address is nowhere else of ours: logs, jobs and the audit log name the invitation.';
comment on column private.staff_invitations.invited_by is 'Null: the owner, by `resguardo staff add`.';
create unique index staff_invitations_one_pending_key on private.staff_invitations (email) where status = 'PENDING';
create index staff_invitations_created_idx on private.staff_invitations (created_at desc);

-- Holds a login against whoever would make it a patient's, or a member's, at the same moment.
create function private.lock_login(login uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('resguardo.login ' || login::text, 0));
end
$$;

-- Raises RG409 (login_is_patient, patient_user_unknown).
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

-- The login of an address, all null where there is none, and why it may not become a member of staff. A login whose
-- address nobody confirmed may have been made by anybody, with a password of theirs: it counts only where an
-- invitation of ours made it, which leaves it without a password (supabase/auth, internal/api/invite.go, checked
-- 2026-11-21).
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

-- The standing invitation of an address, made if new, or why there can be none. The owner, who is nobody, may change
-- the role of one that stands.
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

-- Invites somebody by address, or says why not: the audit row then names the login or the patient that the answer
-- told of. Again while it is pending the job is queued once more and nothing else changes. Raises RG429
-- (quota_invitations).
create function private.invite_staff(of_email text, of_role text, quota integer)
returns table (id uuid, role text, status text, error text, created_at timestamptz, refusal text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    opened record;
begin
    perform private.use_quota(person, 'invitations', quota);
    select o.* into opened from private.open_staff_invitation(of_email, of_role, person) as o;
    perform private.write_audit(
        'staff.invite', case when opened.refusal is null then 'ALLOWED' else 'FAILED' end, opened.refusal,
        case when opened.invitation is null then 'staff' else 'staff_invitation' end,
        array_remove(array[coalesce(opened.invitation, opened.login)], null),
        array(select p.id from resguardo.patients as p where p.user_id = opened.login), '{}',
        array['role'], (opened.refusal is null)::integer, null
    );
    if opened.refusal is not null then
        return query select null::uuid, null::text, null::text, null::text, null::timestamptz, opened.refusal;
        return;
    end if;
    perform jobs.procrastinate_defer_jobs_v1(array[
        row(
            'default', 'invite_staff', 0, opened.invitation::text, null,
            jsonb_build_object('id', opened.invitation), null
        )::jobs.procrastinate_job_to_defer_v1
    ]);
    return query
    select i.id, i.role, i.status, i.error, i.created_at, null::text
    from private.staff_invitations as i where i.id = opened.invitation;
end
$$;

-- The newest hundred invitations, without the addresses, after the audit row of the look.
create function private.read_staff_invitations(quota integer)
returns table (id uuid, role text, status text, error text, created_at timestamptz)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    shown constant uuid[] := array(
        select i.id from private.staff_invitations as i order by i.created_at desc, i.id desc limit 100
    );
begin
    perform private.use_quota(private.person(), 'pages', quota);
    perform private.write_audit(
        'staff.list_invitations', 'ALLOWED', null, 'staff_invitation', shown, '{}', '{}',
        array['role', 'status', 'error'], cardinality(shown), null
    );
    return query
    select i.id, i.role, i.status, i.error, i.created_at
    from private.staff_invitations as i
    where i.id = any(shown)
    order by i.created_at desc, i.id desc;
end
$$;

-- The owner's `resguardo staff add`: the invitation to settle, or why there can be none.
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

-- Brings a pending invitation to its end as far as the logins allow: the member of staff is made, or it has failed, and
-- null is returned; or the address that has to be invited still. `answered` is the login that Supabase Auth named
-- when it was asked. An answer that was lost is found again by the mark that the invitation left on its login, which
-- is committed only where the mail was sent.
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

-- Ends what a member has going on: every recording of theirs is stopped, every session gone.
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
    begin
        delete from auth.sessions as s where s.user_id = member;
    exception when insufficient_privilege then
        null; -- the project does not let us; the status alone already closes every door of ours
    end;
end
$$;

-- Suspends a member of staff at once: not active, every session gone, every recording of theirs stopped, the ban at the
-- identity provider queued. False where there is no such member. Of two who suspend each other one comes first. It
-- outweighs a suspension by the adopter's role table, which may no longer end it. Raises RG409 (own_suspension).
create or replace function private.suspend_staff(member uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person uuid;
    is_member boolean;
begin
    perform from resguardo.staff as s where s.user_id in (private.uid(), member) order by s.user_id for update;
    person := private.person();
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
        return false;
    end if;
    perform private.end_work_of(member);
    perform private.defer_job('ban_user', member);
    return true;
end
$$;

-- What the adopter's role table says of one login: its role here, or null for none. It makes members, changes their
-- role, and suspends those it no longer names; it touches none that were invited or added, gives back no access that
-- compliance took away, and leaves a patient's login alone. See supabase/adopters/map_roles.sql. Raises RG409
-- (role_unknown).
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
        insert into resguardo.staff (user_id, role, origin) values (login, mapped_role, 'MAPPED');
    elsif step = 'suspend' then
        update resguardo.staff as s
        set status = 'suspended', suspended_at = clock_timestamp(), suspended_by = nobody
        where s.user_id = login;
    elsif step = 'change' then
        update resguardo.staff as s
        set role = mapped_role, status = 'active', suspended_at = null, suspended_by = null
        where s.user_id = login;
    end if;
    if step = 'suspend' or (step = 'change' and member.role <> mapped_role) then
        perform private.end_work_of(login);
    end if;
    perform set_config('resguardo.service_reason', basis, true);
end
$$;

create or replace function private.operation_of(action text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return case action
        when 'viewer.read' then 'R'
        when 'consultation.register' then 'C'
        when 'consultation.read' then 'R'
        when 'consultation.list' then 'R'
        when 'consultation.join' then 'E'
        when 'guest.invite' then 'C'
        when 'guest.join' then 'E'
        when 'consent.give' then 'C'
        when 'consent.withdraw' then 'C'
        when 'recording.list' then 'R'
        when 'recording.read' then 'R'
        when 'recording.watch' then 'R'
        when 'recording.start' then 'C'
        when 'recording.stop' then 'U'
        when 'recording.import' then 'C'
        when 'recording.transition' then 'U'
        when 'recording.issue_url' then 'R'
        when 'recording.read_storage' then 'R'
        when 'recording.read_key' then 'R'
        when 'egress.stop_stray' then 'E'
        when 'object.report_orphan' then 'R'
        when 'object.sweep_orphan' then 'D'
        when 'object.abort_upload' then 'D'
        when 'rooms.list' then 'R'
        when 'audit.list' then 'R'
        when 'staff.invite' then 'C'
        when 'staff.list_invitations' then 'R'
        when 'staff.add' then 'C'
        when 'staff.map' then 'U'
        when 'staff.suspend' then 'U'
        when 'staff.ban' then 'U'
        when 'request.reject' then 'E'
        when 'webhook.reject' then 'E'
    end;
end
$$;
