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
