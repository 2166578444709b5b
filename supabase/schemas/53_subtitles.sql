-- Subtitle links, with which a video player reads subtitles without an access token.

create table private.subtitle_links (
    secret_sha256 bytea primary key
    constraint subtitle_links_secret_sha256_length check (length(secret_sha256) = 32),
    recording_id uuid not null
    constraint subtitle_links_recording_id_fkey references resguardo.transcripts (recording_id),
    claims jsonb not null,
    expires_at timestamptz not null
);
comment on column private.subtitle_links.claims is
'The claims of the person who asked for the link, with the session fingerprint in place of the session id.';
create index subtitle_links_recording_idx on private.subtitle_links (recording_id);
create index subtitle_links_expires_idx on private.subtitle_links (expires_at);

-- Stores a subtitle link of the caller's own recording under the hash of the link's secret. Returns null if the
-- caller may not see the recording or it has no transcript text. A subtitle link expires no later than the access
-- token with which it was requested. The function also deletes expired subtitle links. Raises RG409
-- (recording_being_deleted).
create function private.store_subtitle_link(of_recording uuid, secret_sha256 bytea, lifetime_seconds integer)
returns timestamptz
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.transcripts;
    until constant timestamptz := private.link_expiry(lifetime_seconds);
begin
    perform private.use_quota(private.person(), 'subtitles');
    wanted := private.find_transcript('transcript.issue_url', of_recording, '[]', array['text'], is_locked => false);
    if wanted.status = 'READY' and private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    if wanted.status is distinct from 'READY' then
        return null;
    end if;
    delete from private.subtitle_links as l where l.expires_at < now() - interval '1 day';
    insert into private.subtitle_links (secret_sha256, recording_id, claims, expires_at)
    values (secret_sha256, of_recording, private.claims_for_link(until), until);
    return until;
end
$$;

-- Returns the claims and the recording of a subtitle link to the API's database login, or no row for an unknown or
-- expired link. Also returns whether the notice against redisclosure accompanies the subtitles.
create function private.read_subtitle_link(secret bytea)
returns table (claims jsonb, of_recording uuid, has_notice boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select private.claims_of_link(l.claims), l.recording_id, c.sensitivity = 'SUBSTANCE_USE'
    from private.subtitle_links as l
    inner join resguardo.recordings as r on r.id = l.recording_id
    inner join resguardo.consultations as c on c.id = r.consultation_id
    where l.secret_sha256 = sha256(secret) and l.expires_at > now();
end
$$;
