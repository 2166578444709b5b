-- What the ways of keeping and destroying share: one clock, one lock, when a recording is due, its key, and the names
-- of what is done.

-- The database's clock, in one place: what is due, held or overdue is reckoned by this alone.
create function private.now() returns timestamptz
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    return clock_timestamp();
end
$$;

-- The latest time that the database's clock and the bucket's have agreed upon: what is reckoned from here ends no
-- sooner for a clock that jumped back.
create table private.keeping_clock (
    singleton boolean primary key default true constraint keeping_clock_is_single check (singleton),
    highest timestamptz not null
);
insert into private.keeping_clock (highest) values ('-infinity');

create function private.latest_time() returns timestamptz
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return greatest(private.now(), (select c.highest from private.keeping_clock as c));
end
$$;

-- Law 7: whoever takes something away holds this shared, whoever forbids it holds it alone, each to the end of the
-- transaction. So nothing is begun to be destroyed while a hold on it is being placed.
create function private.lock_keeping(alone boolean) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if alone then
        perform pg_advisory_xact_lock(7164, 0);
    else
        perform pg_advisory_xact_lock_shared(7164, 0);
    end if;
end
$$;

alter table resguardo.patients add column birth_date date;
comment on column resguardo.patients.birth_date is 'For the term of what is recorded of a minor; null: of age.';

alter table resguardo.recordings
add column retention_class text not null default 'keep'
constraint recordings_retention_class_is_known check (retention_class ~ '^(keep|d[1-9][0-9]{0,4})$'),
add column recorded_class text,
add column stored_at timestamptz,
add column due_at timestamptz,
add column retention_policy integer;
comment on column resguardo.recordings.retention_class is
'Where its objects are: under r/d90/ for a term of 90 days, which the bucket empties too; under keep/ we alone do.';
comment on column resguardo.recordings.recorded_class is
'The class that it was recorded under: what was left there when it moved to keep/ goes with it.';
comment on column resguardo.recordings.stored_at is 'When the object was stored, by the bucket''s clock.';
comment on column resguardo.recordings.due_at is
'When it is to be destroyed; null while it is unfinished, of sound (which goes with its video) or without a policy.';
comment on column resguardo.recordings.retention_policy is 'The policy that its term is of.';
create index recordings_due_idx on resguardo.recordings (due_at, id) where due_at is not null;

create or replace function private.object_prefix(of_recording resguardo.recordings) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return case of_recording.retention_class
            when 'keep' then 'keep/' else 'r/' || of_recording.retention_class || '/'
        end || format('%s/%s/', of_recording.consultation_id, coalesce(of_recording.beside, of_recording.id));
end
$$;

create table private.recording_keys (
    recording_id uuid primary key
    constraint recording_keys_recording_id_fkey references resguardo.recordings (id),
    wrapped_key bytea not null
    constraint recording_keys_wrapped_key_length check (length(wrapped_key) between 40 and 64),
    root_key_id text not null constraint recording_keys_root_key_id_is_slug check (root_key_id ~ '^[a-z0-9-]{1,32}$'),
    created_at timestamptz not null default clock_timestamp()
);
comment on table private.recording_keys is
'A data key a recording, wrapped by a root key (AES-KW, RFC 3394): the words that die with it are encrypted with it.';

create or replace function private.put_job(task text, argument uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform jobs.procrastinate_defer_jobs_v1(array[
        row(
            case task
                when 'start_recording' then 'starts'
                when 'verify_recording' then 'media'
                when 'export_access_request' then 'media'
                else 'default'
            end,
            task, 0, task || ':' || argument, null,
            jsonb_build_object('id', argument), null
        )::jobs.procrastinate_job_to_defer_v1
    ]);
end
$$;

create or replace function private.defer_job(task text, argument uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if task not in (
        'start_recording', 'stop_recording', 'enforce_consent', 'verify_recording', 'ban_user', 'invite_staff',
        'prepare_import', 'secure_held', 'export_access_request'
    ) then
        raise exception 'unknown_task' using errcode = 'RG403';
    end if;
    case current_setting('role')
        when 'patient' then
            if task <> 'enforce_consent' then
                raise exception 'unknown_task' using errcode = 'RG403';
            end if;
            perform private.require_own_consultation(argument);
        when 'clinician' then
            if task not in ('start_recording', 'stop_recording', 'enforce_consent', 'prepare_import') then
                raise exception 'unknown_task' using errcode = 'RG403';
            end if;
            perform private.require_own_consultation(
                case task
                    when 'enforce_consent' then argument
                    when 'prepare_import' then (
                        select i.consultation_id from resguardo.recording_imports as i where i.id = argument
                    )
                    else (select r.consultation_id from resguardo.recordings as r where r.id = argument)
                end
            );
        else null; -- the worker, and compliance through functions alone
    end case;
    perform private.put_job(task, argument);
end
$$;

create or replace function private.subjects_of(entity_type text, entity uuid) returns private.subjects
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_subjects private.subjects;
begin
    select array_remove(array[s.patient_id], null), array_remove(array[s.consultation_id], null) into found_subjects
    from (
        select r.patient_id, r.consultation_id from resguardo.recordings as r
        where entity_type = 'recording' and r.id = entity
        union all
        select c.patient_id, c.id from resguardo.consultations as c
        where entity_type = 'consultation' and c.id = entity
        union all
        select p.patient_id, p.consultation_id from resguardo.participants as p
        where entity_type = 'participant' and p.id = entity
        union all
        select i.patient_id, i.consultation_id from resguardo.recording_imports as i
        where entity_type = 'recording_import' and i.id = entity
        union all
        select d.patient_id, d.consultation_id from resguardo.deletions as d
        where entity_type = 'deletion' and d.id = entity
        union all
        select coalesce(h.patient_id, c.patient_id), h.consultation_id
        from resguardo.legal_holds as h
        left join resguardo.consultations as c on c.id = h.consultation_id
        where entity_type = 'legal_hold' and h.id = entity
        union all
        select a.patient_id, a.consultation_id from resguardo.access_requests as a
        where entity_type = 'access_request' and a.id = entity
    ) as s (patient_id, consultation_id);
    return found_subjects;
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
        when 'recording.issue_upload_url' then 'R'
        when 'recording.complete_import' then 'C'
        when 'recording.expire_import' then 'U'
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
        when 'recording.delete' then 'D'
        when 'recording.undo_delete' then 'U'
        when 'recording.destroy' then 'D'
        when 'recording.make_key' then 'C'
        when 'recording.rewrap_key' then 'U'
        when 'recording.date' then 'U'
        when 'deletion.list' then 'R'
        when 'deletion.fail' then 'U'
        when 'certificate.read' then 'R'
        when 'retention.propose' then 'C'
        when 'retention.approve' then 'U'
        when 'retention.reject' then 'U'
        when 'retention.activate' then 'U'
        when 'retention.list' then 'R'
        when 'retention.preview' then 'R'
        when 'hold.place' then 'C'
        when 'hold.release' then 'U'
        when 'hold.list' then 'R'
        when 'access_request.file' then 'C'
        when 'access_request.withdraw' then 'U'
        when 'access_request.approve' then 'U'
        when 'access_request.deny' then 'U'
        when 'access_request.extend' then 'U'
        when 'access_request.ask_review' then 'U'
        when 'access_request.review' then 'U'
        when 'access_request.list' then 'R'
        when 'access_request.export' then 'E'
        when 'access_request.issue_url' then 'E'
        when 'access_request.reveal_secret' then 'R'
        when 'access_request.expire_export' then 'D'
        when 'storage.report' then 'R'
        when 'object.report_missing' then 'R'
        when 'object.keep' then 'U'
        when 'bucket.drift' then 'R'
        when 'bucket.apply' then 'U'
        when 'restore.check' then 'R'
        when 'restore.repeat' then 'D'
        when 'request.reject' then 'E'
        when 'webhook.reject' then 'E'
    end;
end
$$;

create or replace function private.record_access(
    action text, entity_type text, asked uuid, found_ids uuid[], patient_ids uuid[], consultation_ids uuid[],
    fields text[], meter text, quota integer
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    is_missing constant boolean := asked is not null and cardinality(found_ids) = 0;
    hidden private.subjects;
begin
    if action = any (array[
        'guest.join', 'recording.transition', 'recording.issue_url', 'recording.read_storage', 'recording.read_key',
        'recording.issue_upload_url', 'recording.expire_import', 'recording.delete', 'recording.undo_delete',
        'recording.destroy', 'recording.make_key', 'recording.rewrap_key', 'recording.date', 'deletion.fail',
        'retention.propose',
        'retention.approve', 'retention.reject', 'retention.activate', 'retention.preview', 'hold.place', 'hold.release',
        'access_request.file', 'access_request.withdraw', 'access_request.approve', 'access_request.deny',
        'access_request.extend', 'access_request.ask_review', 'access_request.review', 'access_request.export',
        'access_request.issue_url', 'access_request.reveal_secret',
        'access_request.expire_export', 'storage.report', 'object.report_missing', 'object.keep', 'bucket.drift',
        'bucket.apply', 'restore.check', 'restore.repeat', 'egress.stop_stray', 'object.report_orphan',
        'object.sweep_orphan', 'object.abort_upload', 'audit.list', 'staff.invite', 'staff.list_invitations',
        'staff.add', 'staff.map', 'staff.suspend', 'staff.ban', 'request.reject', 'webhook.reject'
    ]) then
        raise exception 'reserved_action' using errcode = 'RG403';
    end if;
    if meter is not null then
        perform private.use_quota(person, meter, quota);
    end if;
    if not is_missing then
        perform private.write_audit(
            action, 'ALLOWED', null, entity_type, found_ids, patient_ids, consultation_ids, fields,
            cardinality(found_ids), null
        );
        return true;
    end if;
    hidden := private.subjects_of(entity_type, asked);
    perform private.write_audit(
        action, case when hidden.patient_ids is null then 'ABSENT' else 'DENIED' end, 'not_found',
        entity_type, array[asked], hidden.patient_ids, hidden.consultation_ids, fields, 0, null
    );
    return true;
end
$$;
