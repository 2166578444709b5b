-- The bucket's object keys. The functions of this file compose the keys of recordings, imports and exports, and
-- app/bucket/object_keys.py composes the same keys in Python. tests/policies/test_object_keys.py compares both
-- implementations. Only functions that first write the audit row return the object key of a recording.

create table private.recording_secrets (
    recording_id uuid primary key
    constraint recording_secrets_recording_id_fkey references resguardo.recordings (id),
    object_key text not null constraint recording_secrets_object_key_key unique
);
create index recording_secrets_object_key_idx on private.recording_secrets (object_key collate "C");

create table private.viewings (
    id uuid primary key,
    recording_id uuid not null constraint viewings_recording_id_fkey references resguardo.recordings (id),
    file_id uuid not null constraint viewings_file_id_fkey references resguardo.recordings (id),
    person_id uuid not null,
    purpose text not null,
    began_at timestamptz not null default private.now()
);
comment on table private.viewings is
'The viewings of recordings. The audit row of each playback URL names the viewing to which the URL belongs.';
comment on column private.viewings.file_id is
'The file that is played: the video, a sound beside the video, or a clip.';
create index viewings_recording_idx on private.viewings (recording_id);
create index viewings_file_idx on private.viewings (file_id);
create index viewings_began_idx on private.viewings (began_at);

-- Stores a new viewing of a file. If `is_renewal` is true, the function instead checks that the caller began this
-- viewing of this file for this purpose within the last 12 hours. Raises RG409 (viewing_not_renewable). The function
-- also deletes viewings that can no longer be renewed.
create function private.begin_viewing(
    of_viewing uuid, of_recording uuid, of_file uuid, doctor uuid, is_renewal boolean
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    stated constant text := coalesce(nullif(current_setting('resguardo.purpose', true), ''), 'TREATMENT');
begin
    if is_renewal then
        if not exists (
            select from private.viewings as v
            where v.id = of_viewing and v.recording_id = of_recording and v.file_id = of_file
                and v.person_id = doctor and v.purpose = stated
                and v.began_at > private.now() - interval '12 hours'
        ) then
            raise exception 'viewing_not_renewable' using errcode = 'RG409';
        end if;
        return;
    end if;
    delete from private.viewings as v
    where v.id in (
        select o.id from private.viewings as o
        where o.began_at < private.now() - interval '1 day'
        limit 100
        for update skip locked
    );
    insert into private.viewings (id, recording_id, file_id, person_id, purpose)
    values (of_viewing, of_recording, of_file, doctor, stated);
end
$$;

-- Sets the object key of a recording. An object key contains no name of a person. Raises RG403 if the recording does
-- not belong to the caller.
create function private.assign_object_key(of_recording uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    insert into private.recording_secrets (recording_id, object_key)
    select r.id, private.first_object_key(r)
    from resguardo.recordings as r
    where r.id = of_recording and r.doctor_id = doctor;
    if not found then
        raise exception 'recording_not_found' using errcode = 'RG404';
    end if;
end
$$;

-- Raises RG403 (totp_stale) if the session's newest TOTP code is older than the given maximum age. A maximum age of
-- null allows every age.
create function private.require_recent_totp(totp_max_age_seconds integer) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    newest_totp double precision;
begin
    select max((a.method ->> 'timestamp')::double precision) into newest_totp
    from jsonb_array_elements(private.claims() -> 'amr') as a (method)
    where a.method ->> 'method' in ('totp', 'mfa/totp');
    if totp_max_age_seconds is not null
        and coalesce(newest_totp, 0) < extract(epoch from now()) - totp_max_age_seconds
    then
        raise exception 'totp_stale' using errcode = 'RG403';
    end if;
end
$$;

-- Writes the audit row about this access, and returns the object key of a READY file of a recording to the recording's
-- doctor, and for `recording.play` to every clinician who sees the recording: the key of its video, or of the media
-- file beside the video that the caller names. Returns null if the person may not see the recording, it does not exist
-- or has no such file (the audit row then says DENIED, ABSENT or FAILED), and '' if the file is not READY. The audit
-- row names the recording and the media file, and for `recording.play` also the viewing: a new one, or the one that the
-- caller renews. The session's TOTP code must be no older than the given maximum age. Raises RG403 (totp_stale), RG429
-- (quota_urls, quota_playbacks), RG409 (recording_being_deleted, viewing_not_renewable).
create function private.release_object_key(
    action text, of_recording uuid, totp_max_age_seconds integer, of_file uuid default null,
    of_viewing uuid default null, is_renewal boolean default false
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    wanted resguardo.recordings;
    file resguardo.recordings;
    key text;
    is_visible boolean;
    is_allowed boolean;
begin
    if action is null or action not in ('recording.issue_url', 'recording.read_storage', 'recording.play')
        or (action = 'recording.play') <> (of_viewing is not null)
    then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    perform private.require_recent_totp(totp_max_age_seconds);
    perform private.use_quota(doctor, case action when 'recording.play' then 'playbacks' else 'urls' end);
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording;
    is_visible := case action
        when 'recording.play' then private.sees_consultation(wanted.doctor_id, wanted.consultation_id)
        else coalesce(wanted.doctor_id = doctor, false)
    end;
    if is_visible and exists (
        select from resguardo.deletions as d
        where d.recording_id = wanted.id and d.status in ('REQUESTED', 'DELETING')
    ) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    if wanted.medium = 'VIDEO' then
        select f.* into file
        from resguardo.recordings as f
        where f.id = coalesce(of_file, of_recording) and wanted.id in (f.id, f.video_id);
    end if;
    select s.object_key into key from private.recording_secrets as s where s.recording_id = file.id;
    is_allowed := coalesce(is_visible and file.status = 'READY' and key is not null, false);
    if is_allowed and of_viewing is not null then
        perform private.begin_viewing(of_viewing, wanted.id, file.id, doctor, is_renewal);
    end if;
    perform private.write_audit_of_entities(
        action,
        case when is_allowed then 'ALLOWED' when wanted.id is null then 'ABSENT'
            when not is_visible then 'DENIED' else 'FAILED' end,
        case when not is_visible or file.id is null then 'not_found'
            when not is_allowed then private.unready_reason(file.status)
            when is_renewal then 'renewal' end,
        private.entities_of('recording', array_remove(array[of_recording, of_file], null))
        || case when is_allowed and of_viewing is not null then private.entities_of('viewing', array[of_viewing])
            else '[]' end,
        case when wanted.id is not null then array[wanted.patient_id] end,
        case when wanted.id is not null then array[wanted.consultation_id] end,
        array['object'], is_allowed::integer, case when is_allowed then file.size_bytes end
    );
    return case when is_allowed then key when is_visible and file.id is not null then '' end;
end
$$;

-- Returns the object key of a recording to the worker, and first writes the audit row about this access.
create function private.read_object_key(of_recording uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording;
    if wanted.id is null then
        return null;
    end if;
    perform private.write_audit(
        'recording.read_key', 'ALLOWED', null, 'recording', array[of_recording],
        array[wanted.patient_id], array[wanted.consultation_id], array['object_key'], 1, null
    );
    return (select s.object_key from private.recording_secrets as s where s.recording_id = of_recording);
end
$$;

-- Composes the object key of a recording: `r/<retention class>/<consultation>/<video>/<file>` or
-- `keep/<consultation>/<video>/<file>`. If no file is given, the function returns the common key prefix of the
-- objects of a video and its sound.
create function private.compose_object_key(of_recording resguardo.recordings, file text default '') returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return case of_recording.retention_class
            when 'keep' then 'keep/' else 'r/' || of_recording.retention_class || '/'
        end || format('%s/%s/%s', of_recording.consultation_id, coalesce(of_recording.video_id, of_recording.id), file);
end
$$;

-- Returns the key that an object under r/ gets when it is moved to keep/.
create function private.kept_object_key(object_key text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return regexp_replace(object_key, '^r/[^/]+/', 'keep/');
end
$$;

-- Returns the prefix under r/ of the consultation to which an object belongs, or null if the key is not under r/.
create function private.consultation_prefix(object_key text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return substring(object_key from '^r/[^/]+/[^/]+/');
end
$$;

-- Returns the common key prefix of the encrypted copies that are made for one access request.
create function private.exports_prefix(of_request uuid) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return format('exports/%s/', of_request);
end
$$;

-- Returns the object key that a recording gets when it is requested. `sound_file` is the extension of a MICROPHONE's
-- file: mp4 or ogg.
create function private.first_object_key(of_recording resguardo.recordings, sound_file text default 'mp4') returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return private.compose_object_key(
        of_recording,
        case of_recording.medium
            when 'MICROPHONE' then format(
                'microphone-%s.%s', of_recording.id, case sound_file when 'ogg' then 'ogg' else 'mp4' end
            )
            when 'SPEAKERS' then 'speakers.ogg'
            else 'video.mp4'
        end
    );
end
$$;

-- Law 5: gives a recording a new object key before the worker sends a second egress request to LiveKit, so that a
-- late egress of the first request overwrites no object. When the worker adopts an egress that LiveKit already runs,
-- the recording gets the object key of that egress. The object key changes only while the recording is unfinished.
-- Raises RG409 (object_key_of_another).
create function private.change_object_key(of_recording uuid, key text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording;
    if wanted.id is null or not private.is_live(wanted.status)
        or not starts_with(key, private.compose_object_key(wanted))
        or substr(key, length(private.compose_object_key(wanted)) + 1) !~ (
            case wanted.medium
                when 'MICROPHONE' then format('^microphone-%s(-[0-9]{1,3})?[.](mp4|ogg)$', wanted.id)
                when 'SPEAKERS' then '^speakers(-[0-9]{1,3})?[.]ogg$'
                else '^video(-[0-9]{1,3})?[.]mp4$'
            end
        )
    then
        raise exception 'object_key_of_another' using errcode = 'RG409';
    end if;
    update private.recording_secrets as s set object_key = key
    where s.recording_id = of_recording and s.object_key <> key;
end
$$;

-- Returns, for the sweep of orphaned objects, which of the given keys belong to no recording, no pending import, no
-- clip that is being stored and no move to keep/. A recording that the worker gave up before LiveKit reported anything
-- about it has no object key. An object that LiveKit later uploads for a recording without an object key is orphaned.
-- The function reveals nothing about keys that the caller did not name.
create function private.unknown_object_keys(keys text[]) returns text[]
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
            and not exists (
                select from resguardo.clips as c
                where c.status = 'STORING' and k.key like '%/' || private.clip_file(c.id, c.run)
            )
            and not exists (select from private.object_moves as m where m.source_key = k.key)
            and not exists (select from private.object_moves as m where m.target_key = k.key)
    );
end
$$;

-- Returns the key prefixes of a recording's objects, including the prefix that they had before a move to keep/.
create function private.object_prefixes(of_recording resguardo.recordings) returns text[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    before resguardo.recordings := of_recording;
begin
    before.retention_class := coalesce(of_recording.recorded_class, of_recording.retention_class);
    return array(
        select distinct p.prefix
        from unnest(array[private.compose_object_key(of_recording), private.compose_object_key(before)]) as p (prefix)
    );
end
$$;
