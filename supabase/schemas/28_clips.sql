-- Clips: short parts of a recording that its doctor cuts out. A finished clip is a row of resguardo.recordings, with
-- the medium CLIP and the id of the clip, beside the video and its sound. Holds, moves to keep/, the search for
-- missing objects, destruction and certificates therefore apply to a clip as they do to a sound recording.

create table resguardo.clips (
    id uuid primary key default gen_random_uuid(),
    recording_id uuid not null,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    purpose text not null,
    start_ms integer not null,
    end_ms integer not null,
    status text not null default 'PENDING'
    constraint clips_status_is_known check (
        status in ('PENDING', 'RUNNING', 'STORING', 'READY', 'FAILED', 'DELETED')
    ),
    percent_done integer not null default 0
    constraint clips_percent_is_known check (percent_done between 0 and 100),
    error text constraint clips_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    run integer not null default 0,
    created_at timestamptz not null default private.now(),
    changed_at timestamptz not null default private.now(),
    constraint clips_bounds_are_valid check (start_ms >= 0 and end_ms > start_ms and end_ms - start_ms <= 900000),
    constraint clips_failure_has_error check ((status = 'FAILED') = (error is not null)),
    constraint clips_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint clips_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade
);
alter table resguardo.clips enable row level security;
comment on column resguardo.clips.run is 'The number of the newest attempt to make the clip. An earlier attempt ends.';
comment on column resguardo.clips.changed_at is 'When subscriptions were last notified of a change.';
create unique index clips_bounds_key on resguardo.clips (recording_id, start_ms, end_ms);
create unique index clips_one_at_a_time_key on resguardo.clips (doctor_id)
where status in ('PENDING', 'RUNNING', 'STORING');
create index clips_recording_idx on resguardo.clips (recording_id, consultation_id);
create index clips_consultation_idx on resguardo.clips (consultation_id, doctor_id, patient_id);
create index clips_patient_idx on resguardo.clips (patient_id);
create index clips_changed_idx on resguardo.clips (doctor_id, changed_at desc, recording_id desc);

create trigger clips_announce before insert or update on resguardo.clips
for each row execute function private.announce_change();

-- Writes the audit row about one step of a clip. The row names the recording and the clip.
create function private.audit_clip(action text, outcome text, reason text, clip resguardo.clips, byte_count bigint)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_of_entities(
        action, outcome, reason,
        private.entities_of('recording', array[clip.recording_id]) || private.entities_of('clip', array[clip.id]),
        array[clip.patient_id], array[clip.consultation_id], array['object'], 1, byte_count
    );
end
$$;

-- Returns why no clip of a recording may be made now, or null if a clip may be made.
create function private.clip_objection(of_recording resguardo.recordings) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if of_recording.status <> 'READY' then
        return private.unready_reason(of_recording.status);
    elsif private.is_to_be_destroyed(of_recording.id) then
        return 'recording_being_deleted';
    end if;
    return case private.consent_objection(of_recording.consultation_id)
        when 'consent_text' then 'clip_consent_text'
        when 'consent_withdrawn' then 'clip_consent_withdrawn'
    end;
end
$$;

-- Requests a clip of the caller's own recording, queues its job, and returns its id. If the clip with these bounds
-- exists or is being made, the function returns its id; if its last attempt failed, the function requests it again.
-- Returns null if the caller may not see the recording or it does not exist. Raises RG403 (totp_stale), RG429
-- (quota_pages), RG409 (recording_not_ready and the other reasons of an unready recording, recording_being_deleted,
-- clip_consent_text, clip_consent_withdrawn, clip_past_end, clip_in_progress, too_many_clips).
create function private.request_clip(
    of_recording uuid, of_start_ms integer, of_end_ms integer, totp_max_age_seconds integer
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    most_clips constant integer := 100;
    doctor constant uuid := private.doctor();
    wanted resguardo.recordings;
    clip resguardo.clips;
    objection text;
begin
    perform private.require_recent_totp(totp_max_age_seconds);
    perform private.use_quota(doctor, 'pages');
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording and r.medium = 'VIDEO';
    if wanted.id is null or wanted.doctor_id <> doctor then
        perform private.write_audit(
            'clip.create', case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'recording',
            array[of_recording], array_remove(array[wanted.patient_id], null),
            array_remove(array[wanted.consultation_id], null), '{}', 0, null
        );
        return null;
    end if;
    perform from resguardo.staff as s where s.user_id = doctor for no key update;
    perform private.lock_keeping(false);
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording for share;
    objection := private.clip_objection(wanted);
    if objection is not null then
        raise exception '%', objection using errcode = 'RG409';
    elsif of_end_ms > ceil(wanted.duration_seconds * 1000) then
        raise exception 'clip_past_end' using errcode = 'RG409';
    end if;
    select c.* into clip from resguardo.clips as c
    where c.recording_id = of_recording and c.start_ms = of_start_ms and c.end_ms = of_end_ms
    for update;
    if clip.id is null or clip.status in ('FAILED', 'DELETED') then
        if exists (
            select from resguardo.clips as c
            where c.doctor_id = doctor and c.status in ('PENDING', 'RUNNING', 'STORING')
        ) then
            raise exception 'clip_in_progress' using errcode = 'RG409';
        elsif clip.id is null and most_clips <= (
            select count(*) from resguardo.clips as c where c.recording_id = of_recording
        ) then
            raise exception 'too_many_clips' using errcode = 'RG409';
        end if;
        insert into resguardo.clips as c (
            recording_id, consultation_id, doctor_id, patient_id, purpose, start_ms, end_ms
        ) values (
            wanted.id, wanted.consultation_id, wanted.doctor_id, wanted.patient_id,
            coalesce(nullif(current_setting('resguardo.purpose', true), ''), 'TREATMENT'), of_start_ms, of_end_ms
        )
        on conflict (recording_id, start_ms, end_ms) do update
        set status = 'PENDING', error = null, percent_done = 0, purpose = excluded.purpose
        returning c.* into clip;
        perform private.put_job('make_clip', clip.id);
    end if;
    perform private.write_audit_later(
        'clip.create', null, 'recording', wanted.id, wanted.patient_id, wanted.consultation_id, array['clip'], null
    );
    return clip.id;
end
$$;

-- Locks a clip for the given attempt to make it, and returns the clip. Returns nulls if another attempt has begun, or
-- the clip is not being made any more. If no clip of the recording may be made any more, the function sets the clip to
-- FAILED and returns nulls.
create function private.lock_clip(of_clip uuid, of_run integer) returns resguardo.clips
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
    clip resguardo.clips;
    objection text;
begin
    perform private.lock_keeping(false);
    select r.* into wanted
    from resguardo.recordings as r inner join resguardo.clips as c on c.recording_id = r.id
    where c.id = of_clip
    for share of r;
    select c.* into clip from resguardo.clips as c where c.id = of_clip for update;
    if clip.id is null or clip.run <> of_run or clip.status not in ('PENDING', 'RUNNING', 'STORING') then
        return null;
    end if;
    objection := private.clip_objection(wanted);
    if objection is not null then
        perform private.fail_clip(of_clip, of_run, objection);
        return null;
    end if;
    return clip;
end
$$;

-- Writes the audit row, and begins a new attempt to make a clip. Returns the object to cut, the bounds, and the object
-- key of the attempt before, which may have stored an object. Returns no row if the clip needs no work.
create function private.begin_clip(of_clip uuid)
returns table (
    recording_id uuid, object_key text, size_bytes bigint, start_ms integer, end_ms integer, run integer,
    earlier_key text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    clip constant resguardo.clips := private.lock_clip(
        of_clip, (select c.run from resguardo.clips as c where c.id = of_clip)
    );
begin
    if clip.id is null then
        return;
    end if;
    update resguardo.clips as c set status = 'RUNNING', run = c.run + 1, percent_done = 0 where c.id = of_clip;
    perform private.audit_clip('clip.begin', 'ALLOWED', null, clip, null);
    return query
    select
        r.id, s.object_key, r.size_bytes, clip.start_ms, clip.end_ms, clip.run + 1,
        case when clip.run > 0 then private.compose_object_key(r, private.clip_file(clip.id, clip.run)) end
    from resguardo.recordings as r
    inner join private.recording_secrets as s on s.recording_id = r.id
    where r.id = clip.recording_id;
end
$$;

-- Stores how much of a clip is encoded. Returns false if this attempt must end.
create function private.report_clip(of_clip uuid, of_run integer, percent integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    clip constant resguardo.clips := private.lock_clip(of_clip, of_run);
begin
    update resguardo.clips as c set percent_done = greatest(c.percent_done, least(percent, 99))
    where c.id = clip.id and c.percent_done < percent;
    return clip.id is not null;
end
$$;

-- Reserves the next 15 minutes for the upload of a finished clip, and returns the object key. The recording cannot be
-- destroyed in this time (private.may_be_destroyed). Returns null if this attempt must end.
create function private.begin_storing_clip(of_clip uuid, of_run integer) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    clip constant resguardo.clips := private.lock_clip(of_clip, of_run);
begin
    if clip.id is null then
        return null;
    end if;
    update resguardo.clips as c set status = 'STORING', percent_done = 99 where c.id = of_clip;
    return (
        select private.compose_object_key(r, private.clip_file(clip.id, of_run))
        from resguardo.recordings as r where r.id = clip.recording_id
    );
end
$$;

-- Returns the name of a clip's object in the folder of its recording. Each attempt to make the clip has a name of its
-- own, so that a late upload of an earlier attempt overwrites nothing.
create function private.clip_file(of_clip uuid, of_run integer) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return format('clip-%s%s.webm', of_clip, case when of_run > 1 then '-' || of_run else '' end);
end
$$;

-- Returns the videos beside which a clip is being stored.
create function private.storing_videos() returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select c.recording_id from resguardo.clips as c
    where c.status = 'STORING' and c.changed_at > private.now() - interval '15 minutes';
end
$$;

-- Makes a stored clip READY: creates its row beside the video, with its own SHA-256 and size, and writes the audit row.
-- Returns false if this attempt must end; the stored object then belongs to nothing.
create function private.finish_clip(of_clip uuid, of_run integer, key text, of_sha256 text, of_size_bytes bigint)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    clip constant resguardo.clips := private.lock_clip(of_clip, of_run);
begin
    if clip.id is null or clip.status <> 'STORING' or not key like '%/' || private.clip_file(clip.id, of_run)
        or not exists (select from private.storing_videos() as s (id) where s.id = clip.recording_id)
    then
        return false;
    end if;
    insert into resguardo.recordings (
        id, consultation_id, doctor_id, patient_id, requested_by, status, room_name, medium, source, video_id,
        started_at, ended_at, duration_seconds, size_bytes, sha256, stored_at
    )
    select
        clip.id, r.consultation_id, r.doctor_id, r.patient_id, r.doctor_id, 'READY', r.room_name, 'CLIP', r.source, r.id,
        r.started_at + make_interval(secs => clip.start_ms / 1000.0),
        r.started_at + make_interval(secs => clip.end_ms / 1000.0), (clip.end_ms - clip.start_ms) / 1000.0,
        of_size_bytes, of_sha256, private.now()
    from resguardo.recordings as r where r.id = clip.recording_id;
    insert into private.recording_secrets (recording_id, object_key) values (clip.id, key);
    perform private.count_usage(clip.id, 'STORAGE', 'bucket', '', 'BYTES', of_size_bytes);
    update resguardo.clips as c set status = 'READY', percent_done = 100 where c.id = of_clip;
    perform private.audit_clip('clip.finish', 'ALLOWED', null, clip, of_size_bytes);
    return true;
end
$$;

-- Sets a clip to FAILED with a reason that the doctor sees, if the given attempt is the newest one.
create function private.fail_clip(of_clip uuid, of_run integer, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    failed resguardo.clips;
begin
    update resguardo.clips as c set status = 'FAILED', error = why
    where c.id = of_clip and c.run = coalesce(of_run, c.run) and c.status in ('PENDING', 'RUNNING', 'STORING')
    returning c.* into failed;
    if failed.id is not null then
        perform private.audit_clip('clip.fail', 'FAILED', why, failed, null);
    end if;
end
$$;
