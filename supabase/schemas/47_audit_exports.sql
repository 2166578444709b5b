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
