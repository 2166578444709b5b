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
