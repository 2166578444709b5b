-- Thumbnails: a small picture of a video, encrypted with the recording's data key. The worker makes thumbnails only if
-- the practice switches them on, and never of a sensitive kind of consultation.

create table private.thumbnails (
    recording_id uuid primary key
    constraint thumbnails_recording_id_fkey references resguardo.recordings (id),
    ciphertext bytea not null constraint thumbnails_ciphertext_length check (length(ciphertext) between 29 and 131072)
);

create table private.thumbnail_links (
    secret_sha256 bytea primary key
    constraint thumbnail_links_secret_sha256_length check (length(secret_sha256) = 32),
    recording_id uuid not null
    constraint thumbnail_links_recording_id_fkey references resguardo.recordings (id),
    claims jsonb not null,
    expires_at timestamptz not null
);
comment on column private.thumbnail_links.claims is
'The claims of the person who asked for the link, with the session fingerprint in place of the session id.';
create index thumbnail_links_recording_idx on private.thumbnail_links (recording_id);
create index thumbnail_links_expires_idx on private.thumbnail_links (expires_at);

-- Returns whether a thumbnail of a recording may be made now: the recording is a READY video and is not to be
-- destroyed, its consultation is of no sensitive kind, and everybody consents to a text that names clips.
create function private.may_have_thumbnail(of_recording resguardo.recordings) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return of_recording.status = 'READY' and of_recording.medium = 'VIDEO'
        and not private.is_to_be_destroyed(of_recording.id)
        and private.consent_objection(of_recording.consultation_id) is null
        and exists (
            select from resguardo.consultations as c
            where c.id = of_recording.consultation_id and c.sensitivity = 'ORDINARY'
        );
end
$$;

-- Queues the job that makes the thumbnail of a recording, if one may be made. A repeated call changes nothing.
create function private.request_thumbnail(of_recording uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording for update;
    if wanted.thumbnail_status is null and private.may_have_thumbnail(wanted) then
        update resguardo.recordings as r set thumbnail_status = 'PENDING' where r.id = of_recording;
        perform private.put_job('make_thumbnail', of_recording);
    end if;
end
$$;

-- Locks and returns a recording whose thumbnail is to be made. Returns nulls if the thumbnail needs no work. If no
-- thumbnail may be made any more, the function removes the status of the thumbnail and returns nulls.
create function private.lock_thumbnail(of_recording uuid) returns resguardo.recordings
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording for update;
    if wanted.thumbnail_status is distinct from 'PENDING' then
        return null;
    end if;
    if not private.may_have_thumbnail(wanted) then
        update resguardo.recordings as r set thumbnail_status = null where r.id = of_recording;
        perform private.audit_thumbnail('thumbnail.fail', 'ALLOWED', 'not_permitted', wanted);
        return null;
    end if;
    return wanted;
end
$$;

-- Writes the audit row about one step of a thumbnail.
create function private.audit_thumbnail(action text, outcome text, reason text, of_recording resguardo.recordings)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit(
        action, outcome, reason, 'recording', array[of_recording.id], array[of_recording.patient_id],
        array[of_recording.consultation_id],
        case action when 'thumbnail.begin' then array['object_key', 'data_key'] else array['thumbnail'] end, 1, null
    );
end
$$;

-- Writes the audit row, and returns the video of which the worker makes the thumbnail, and the recording's data key.
-- Returns no row if the thumbnail needs no work.
create function private.begin_thumbnail(of_recording uuid)
returns table (object_key text, size_bytes bigint, duration_seconds double precision, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.recordings := private.lock_thumbnail(of_recording);
begin
    if wanted.id is null then
        return;
    end if;
    perform private.audit_thumbnail('thumbnail.begin', 'ALLOWED', null, wanted);
    return query
    select s.object_key, wanted.size_bytes, coalesce(wanted.duration_seconds, 0), k.wrapped_key, k.root_key_id
    from private.recording_secrets as s
    inner join private.recording_keys as k on k.recording_id = s.recording_id
    where s.recording_id = wanted.id;
end
$$;

-- Stores the encrypted thumbnail of a recording, or, if it is null, that no picture of the video is suitable. Changes
-- nothing if no thumbnail may be made any more.
create function private.finish_thumbnail(of_recording uuid, encrypted bytea) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.recordings := private.lock_thumbnail(of_recording);
begin
    if wanted.id is null then
        return;
    end if;
    if encrypted is not null then
        insert into private.thumbnails (recording_id, ciphertext) values (of_recording, encrypted);
    end if;
    update resguardo.recordings as r
    set thumbnail_status = case when encrypted is null then 'NO_PICTURE' else 'READY' end
    where r.id = of_recording;
    perform private.audit_thumbnail('thumbnail.finish', 'ALLOWED', null, wanted);
end
$$;

-- Sets a thumbnail to FAILED, and writes the reason into the audit log.
create function private.fail_thumbnail(of_recording uuid, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.recordings := private.lock_thumbnail(of_recording);
begin
    if wanted.id is not null then
        update resguardo.recordings as r set thumbnail_status = 'FAILED' where r.id = of_recording;
        perform private.audit_thumbnail('thumbnail.fail', 'FAILED', why, wanted);
    end if;
end
$$;

-- Writes the audit row, and returns whether a recording that the caller sees has a thumbnail. Returns false if the
-- recording is hidden from the caller, does not exist or has no thumbnail, so the caller cannot tell these cases apart.
-- Counts as a page against the caller's quota. Raises RG409 (recording_being_deleted).
create function private.find_thumbnail(of_action text, of_recording uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
    is_found boolean;
begin
    perform private.use_quota(private.person(), 'pages');
    select r.* into wanted from resguardo.recordings as r
    where r.id = of_recording and private.sees_consultation(r.doctor_id, r.consultation_id);
    is_found := coalesce(wanted.thumbnail_status = 'READY', false);
    perform private.write_lookup(
        of_action, 'recording', 'recording', of_recording, wanted.id is not null,
        private.entities_of('recording', array_remove(array[wanted.id], null)), array[wanted.patient_id],
        array[wanted.consultation_id], is_found::integer, array['thumbnail']
    );
    if is_found and private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    return is_found;
end
$$;

-- Stores a thumbnail link of the caller's own recording under the hash of the link's secret, and returns when it
-- expires: no later than the access token with which it was requested. Returns null if the caller may not see the
-- recording or it has no thumbnail. The function also deletes expired thumbnail links. Raises RG409
-- (recording_being_deleted).
create function private.store_thumbnail_link(of_recording uuid, secret_sha256 bytea, lifetime_seconds integer)
returns timestamptz
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    until constant timestamptz := private.link_expiry(lifetime_seconds);
begin
    if not private.find_thumbnail('thumbnail.issue_url', of_recording) then
        return null;
    end if;
    delete from private.thumbnail_links as l where l.expires_at < now() - interval '1 day';
    insert into private.thumbnail_links (secret_sha256, recording_id, claims, expires_at)
    values (secret_sha256, of_recording, private.claims_for_link(until), until);
    return until;
end
$$;

-- Returns the claims and the recording of a thumbnail link to the API's database login, or no row for an unknown or
-- expired link.
create function private.read_thumbnail_link(secret bytea) returns table (claims jsonb, of_recording uuid)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select private.claims_of_link(l.claims), l.recording_id
    from private.thumbnail_links as l
    where l.secret_sha256 = sha256(secret) and l.expires_at > now();
end
$$;

-- Returns the encrypted thumbnail of the caller's own recording, and the recording's data key, after it wrote the
-- audit row. Returns no row if the caller may not see the recording or it has no thumbnail. Raises RG409
-- (recording_being_deleted).
create function private.open_thumbnail(of_recording uuid)
returns table (ciphertext bytea, wrapped bytea, root_key text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not private.find_thumbnail('thumbnail.read', of_recording) then
        return;
    end if;
    return query
    select t.ciphertext, k.wrapped_key, k.root_key_id
    from private.thumbnails as t
    inner join private.recording_keys as k on k.recording_id = t.recording_id
    where t.recording_id = of_recording;
end
$$;

-- Deletes the thumbnail of a recording, and returns how many rows it deleted from each table. A worker that stores a
-- thumbnail locks the recording, so clear_thumbnail() waits for the worker and then deletes this thumbnail, too.
create function private.clear_thumbnail(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    tables constant text[] := array['thumbnail_links', 'thumbnails'];
    of_table text;
    rows_cleared bigint;
    cleared jsonb := '[]';
begin
    perform from resguardo.recordings as r where r.id = of_recording for no key update;
    foreach of_table in array tables loop
        execute format('delete from private.%I where recording_id = $1', of_table) using of_recording;
        get diagnostics rows_cleared = row_count;
        if rows_cleared > 0 then
            cleared := cleared || jsonb_build_object('table', of_table, 'rows', rows_cleared);
        end if;
    end loop;
    update resguardo.recordings as r set thumbnail_status = null
    where r.id = of_recording and r.thumbnail_status is not null;
    return cleared;
end
$$;
