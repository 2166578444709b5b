-- Recordings made elsewhere: a doctor declares one, uploads it through a URL that the worker signs for exactly that,
-- and it is verified like any other. What was declared and not uploaded in time expires.

alter table resguardo.recordings
add column expected_sha256 text
constraint recordings_expected_sha256_is_hex check (expected_sha256 ~ '^[0-9a-f]{64}$');
comment on column resguardo.recordings.expected_sha256 is
'What whoever imported it said its object would hash to; null where nothing was said.';

-- Its ids are made here: whoever declares an import cannot aim it at a recording that there is.
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
    expires_at timestamptz not null default clock_timestamp() + interval '15 minutes',
    created_at timestamptz not null default clock_timestamp(),
    constraint recording_imports_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id)
);
comment on column resguardo.recording_imports.recording_id is
'The id that the recording will have: it exists once the import is COMPLETED.';
comment on column resguardo.recording_imports.expires_at is 'When the upload URL ends.';
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
'Whoever holds it may upload, once: erased when it ends and when the import is COMPLETED.';

-- Law 6: what is imported was recorded, so everybody consents. With the row its object key is fixed: the one that the
-- recording will have, of a name that nothing recorded here has.
create function private.guard_import() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    coming resguardo.recordings;
begin
    perform from resguardo.consultations as c where c.id = new.consultation_id for no key update;
    if not private.everyone_consents(new.consultation_id) then
        raise exception 'consent_missing' using errcode = 'RG403';
    end if;
    coming.id := new.recording_id;
    coming.consultation_id := new.consultation_id;
    insert into private.import_secrets (import_id, object_key)
    values (new.id, private.object_prefix(coming) || 'import.mp4');
    return null;
end
$$;

create trigger recording_imports_guard after insert on resguardo.recording_imports
for each row execute function private.guard_import();

-- What the worker signs a URL for, after the audit row, and for how many seconds at most; no row where no URL is wanted
-- any more.
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

-- Keeps the URL that the worker signed, where one is wanted still.
create function private.keep_upload_url(of_import uuid, url text) returns void
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

-- The upload URL of an import for its doctor, after the audit row that says so; null where there is none (yet), and
-- for everybody else (the row then says DENIED or ABSENT).
create function private.release_upload_url(of_import uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    wanted resguardo.recording_imports;
    url text;
    is_own boolean;
begin
    select i.* into wanted from resguardo.recording_imports as i where i.id = of_import;
    is_own := coalesce(wanted.doctor_id = person, false);
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

-- How long after the URL's end an upload that began in time may take: 5 GB at 6 Mbit/s.
create function private.upload_grace() returns interval
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return interval '2 hours';
end
$$;

-- Makes the recording of an import, VERIFYING, with its job, and erases the URL; of a completed one it changes nothing.
-- The object need not be there: verification says so. Raises RG403 (not_own_import, consent_missing) and RG409
-- (import_expired), and never takes a recording that is there for the import's.
create function private.complete_import(of_import uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    wanted resguardo.recording_imports;
begin
    perform
    from resguardo.consultations as c
    join resguardo.recording_imports as i on i.consultation_id = c.id
    where i.id = of_import and c.doctor_id = person
    for update of c;
    if not found then
        raise exception 'not_own_import' using errcode = 'RG403';
    end if;
    select i.* into wanted from resguardo.recording_imports as i where i.id = of_import for update;
    if wanted.status = 'COMPLETED' then
        return wanted.recording_id;
    elsif wanted.status = 'EXPIRED' or wanted.expires_at + private.upload_grace() < clock_timestamp() then
        raise exception 'import_expired' using errcode = 'RG409';
    elsif not private.everyone_consents(wanted.consultation_id) then
        raise exception 'consent_missing' using errcode = 'RG403';
    end if;
    insert into resguardo.recordings (
        id, consultation_id, doctor_id, patient_id, requested_by, status, room_name, medium, source, size_bytes,
        expected_sha256
    )
    select
        wanted.recording_id, c.id, c.doctor_id, c.patient_id, person, 'VERIFYING', c.room_name, 'VIDEO', 'IMPORT',
        wanted.size_bytes, wanted.sha256
    from resguardo.consultations as c where c.id = wanted.consultation_id;
    insert into private.recording_secrets (recording_id, object_key)
    select wanted.recording_id, s.object_key from private.import_secrets as s where s.import_id = of_import;
    update resguardo.recording_imports as i set status = 'COMPLETED' where i.id = of_import;
    update private.import_secrets as s set upload_url = null where s.import_id = of_import;
    perform private.put_job('verify_recording', wanted.recording_id);
    return wanted.recording_id;
end
$$;

-- Erases the URLs that have ended, and ends the imports that nobody completed in time and grace; how many. Their
-- objects, if any came, are then nobody's, for the sweep of the bucket.
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

-- Which of these keys no recording has and no import waits for, for the sweep of the bucket. A recording that was given
-- up before anything was known of it has none: what LiveKit uploads for it all the same is nobody's. It tells nothing
-- that was not asked with.
create or replace function private.unknown_object_keys(keys text[]) returns text[]
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
    );
end
$$;

-- A job with one id for its argument, for functions that have seen to who asks. The same task for one id runs once at a
-- time; what takes long, a start that waits for LiveKit or reading a whole object, has a queue of its own, so that
-- nothing urgent waits behind it.
create function private.put_job(task text, argument uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform jobs.procrastinate_defer_jobs_v1(array[
        row(
            case task when 'start_recording' then 'starts' when 'verify_recording' then 'media' else 'default' end,
            task, 0, task || ':' || argument, null,
            jsonb_build_object('id', argument), null
        )::jobs.procrastinate_job_to_defer_v1
    ]);
end
$$;

-- Puts a job into the queue within the caller's transaction.
create or replace function private.defer_job(task text, argument uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if task not in (
        'start_recording', 'stop_recording', 'enforce_consent', 'verify_recording', 'ban_user', 'invite_staff',
        'prepare_import'
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
        else null; -- the worker, and compliance through suspend_staff() alone
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
    select array[s.patient_id], array[s.consultation_id] into found_subjects
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
        'recording.issue_upload_url', 'recording.expire_import', 'egress.stop_stray', 'object.report_orphan',
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
