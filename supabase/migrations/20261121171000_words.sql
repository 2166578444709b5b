-- Words for people: whatever returns them, still encrypted, writes the audit row first.

create table private.subtitle_links (
    secret_sha256 bytea primary key
    constraint subtitle_links_secret_sha256_length check (length(secret_sha256) = 32),
    recording_id uuid not null
    constraint subtitle_links_recording_id_fkey references resguardo.transcripts (recording_id),
    claims jsonb not null,
    expires_at timestamptz not null
);
create index subtitle_links_recording_idx on private.subtitle_links (recording_id);
create index subtitle_links_expires_idx on private.subtitle_links (expires_at);
comment on column private.subtitle_links.claims is
'As whom the subtitles are read: a link is worth no more than the session that asked for it.';

-- The own recording's transcript, locked where it is to be changed, for a doctor: after the audit row that says how it
-- went. Null where it is hidden or not there, which the two are told alike.
create function private.find_transcript(of_action text, of_recording uuid, of_fields text[])
returns resguardo.transcripts
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    wanted resguardo.transcripts;
    is_own boolean;
begin
    select t.* into wanted from resguardo.transcripts as t where t.recording_id = of_recording for update;
    is_own := coalesce(wanted.doctor_id = person, false);
    perform private.write_audit(
        of_action,
        case when is_own then 'ALLOWED' when wanted.recording_id is null then 'ABSENT' else 'DENIED' end,
        case when not is_own then 'not_found' end, 'recording', array[of_recording],
        case when wanted.recording_id is not null then array[wanted.patient_id] end,
        case when wanted.recording_id is not null then array[wanted.consultation_id] end,
        of_fields, is_own::integer, null
    );
    return case when is_own then wanted end;
end
$$;

-- The words of a recording of one's own, encrypted, with the key that opens them and every correction. Raises RG409
-- (recording_being_deleted), as for the recording itself.
create function private.open_transcript(of_action text, of_recording uuid, quota integer)
returns table (
    sealed bytea, wrapped bytea, root_key text, corrections bytea[], corrected_by uuid[], corrected_at timestamptz[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.transcripts;
begin
    if of_action is null or of_action not in ('transcript.read', 'transcript.correct') then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    perform private.use_quota(private.person(), 'pages', quota);
    wanted := private.find_transcript(of_action, of_recording, array['words']);
    if wanted.status = 'READY' and private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    return query
    select
        w.sealed, k.wrapped_key, k.root_key_id,
        coalesce(c.sealed, '{}'), coalesce(c.corrected_by, '{}'), coalesce(c.corrected_at, '{}')
    from private.transcript_words as w
    inner join private.recording_keys as k on k.recording_id = w.recording_id
    left join lateral (
        select
            array_agg(x.sealed order by x.number) as sealed,
            array_agg(x.corrected_by order by x.number) as corrected_by,
            array_agg(x.corrected_at order by x.number) as corrected_at
        from private.transcript_corrections as x
        where x.recording_id = w.recording_id
    ) as c on true
    where w.recording_id = wanted.recording_id and wanted.status = 'READY';
end
$$;

-- Adds a correction to a transcript that was opened for it in the same transaction, and says by whom and when. Raises
-- RG409 (transcript_changed) where another came first, or the words are going.
create function private.correct_transcript(of_recording uuid, of_number integer, correction bytea, found_by bigint[])
returns table (made_by uuid, made_at timestamptz)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
begin
    perform from resguardo.transcripts as t
    where t.recording_id = of_recording and t.doctor_id = person and t.status = 'READY' for update;
    if not found or private.is_to_be_destroyed(of_recording) then
        raise exception 'transcript_changed' using errcode = 'RG409';
    end if;
    if of_number <> 1 + (
        select count(*) from private.transcript_corrections as c where c.recording_id = of_recording
    ) then
        raise exception 'transcript_changed' using errcode = 'RG409';
    end if;
    update private.transcript_words as w set terms = found_by where w.recording_id = of_recording;
    return query
    insert into private.transcript_corrections (recording_id, number, sealed, corrected_by)
    values (of_recording, of_number, correction, person)
    returning corrected_by, corrected_at;
end
$$;

-- The newest own transcripts in which all the terms may be, encrypted, after the audit row that names them; whether
-- older ones were left out, since there are more than so many, or they are longer than 40 MiB together. Sensitive kinds
-- are left out unless they are asked for, and what is to be destroyed is. The index answers first: the planner does not
-- know what it costs to read `terms` out of line, and would read those of every transcript of the doctor.
create function private.search_transcripts(
    of_terms bigint[], of_patient uuid, of_consultation uuid, of_recording uuid, since timestamptz, until timestamptz,
    with_sensitive boolean, most integer, quota integer
) returns table (
    recording_id uuid, consultation_id uuid, recorded_at timestamptz, sealed bytea, wrapped bytea, root_key text,
    corrections bytea[], is_cut boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan set enable_seqscan = off
as $$
declare
    person constant uuid := private.person();
    most_bytes constant bigint := 41943040;
    hits uuid[];
    leaves_some_out boolean;
begin
    perform private.use_quota(person, 'pages', quota);
    if cardinality(of_terms) = 0 then
        raise exception 'search_empty' using errcode = 'RG409';
    end if;
    with matching as materialized (
        select w.recording_id, length(w.sealed) as size_bytes
        from private.transcript_words as w
        where w.terms @> of_terms
    ),

    found as (
        select m.recording_id, c.scheduled_at, m.size_bytes
        from matching as m
        inner join resguardo.transcripts as t on t.recording_id = m.recording_id
        inner join resguardo.consultations as c on c.id = t.consultation_id
        where t.doctor_id = person and c.doctor_id = person and t.status = 'READY'
            and (of_patient is null or t.patient_id = of_patient)
            and (of_consultation is null or t.consultation_id = of_consultation)
            and (of_recording is null or t.recording_id = of_recording)
            and (since is null or c.scheduled_at >= since)
            and (until is null or c.scheduled_at < until)
            and (with_sensitive or c.sensitivity = 'ORDINARY')
            and not exists (
                select from resguardo.deletions as d
                where d.recording_id = m.recording_id and d.status in ('REQUESTED', 'DELETING')
            )
        order by c.scheduled_at desc, m.recording_id desc
        limit most + 1
    ),

    sized as (
        select
            f.recording_id,
            row_number() over newest as place,
            sum(
                f.size_bytes + coalesce(
                    (
                        select sum(length(x.sealed)) from private.transcript_corrections as x
                        where x.recording_id = f.recording_id
                    ), 0
                )
            ) over newest as bytes_so_far
        from found as f
        window newest as (order by f.scheduled_at desc, f.recording_id desc)
    ),

    taken as (
        select s.recording_id, s.place, s.place = 1 or (s.place <= most and s.bytes_so_far <= most_bytes) as is_taken
        from sized as s
    )

    select
        coalesce(array_agg(k.recording_id order by k.place) filter (where k.is_taken), '{}'),
        not coalesce(bool_and(k.is_taken), true)
    into hits, leaves_some_out
    from taken as k;
    perform private.write_audit(
        'transcript.search', 'ALLOWED', null, 'recording', hits,
        array(
            select distinct t.patient_id from resguardo.transcripts as t where t.recording_id = any (hits)
        ),
        array(
            select distinct t.consultation_id from resguardo.transcripts as t where t.recording_id = any (hits)
        ),
        array['words'], cardinality(hits), null
    );
    return query
    select
        t.recording_id, t.consultation_id, c.scheduled_at, w.sealed, k.wrapped_key, k.root_key_id,
        array(
            select x.sealed from private.transcript_corrections as x
            where x.recording_id = t.recording_id order by x.number
        ),
        leaves_some_out
    from unnest(hits) with ordinality as h (id, place)
    inner join resguardo.transcripts as t on t.recording_id = h.id
    inner join resguardo.consultations as c on c.id = t.consultation_id
    inner join private.transcript_words as w on w.recording_id = t.recording_id
    inner join private.recording_keys as k on k.recording_id = t.recording_id
    order by h.place;
end
$$;

-- Has what failed, or was off and is wanted now, tried again; false where it is not the caller's.
create function private.retry_transcription(of_recording uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts :=
        private.find_transcript('transcript.retry', of_recording, array['transcript']);
begin
    if wanted.recording_id is null then
        return false;
    end if;
    if wanted.status not in ('FAILED', 'OFF') or private.is_being_destroyed(of_recording) then
        raise exception 'transcription_not_failed' using errcode = 'RG409';
    end if;
    if private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    if not private.wants_words(wanted.consultation_id) then
        raise exception 'transcription_switched_off' using errcode = 'RG409';
    end if;
    update resguardo.transcripts as t
    set status = 'PENDING', error = null, attempt = t.attempt + 1, status_at = private.now()
    where t.recording_id = of_recording;
    perform private.put_job('transcribe_recording', of_recording);
    return true;
end
$$;

-- Says whether a consultation's recordings are turned into words from now on; false where it is not the caller's. What
-- is under way ends as soon as it looks.
create function private.switch_transcription(of_consultation uuid, is_on boolean) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    wanted resguardo.consultations;
    is_own boolean;
begin
    select c.* into wanted from resguardo.consultations as c where c.id = of_consultation for update;
    is_own := coalesce(wanted.doctor_id = person, false);
    perform private.write_audit(
        'consultation.switch_transcription',
        case when is_own then 'ALLOWED' when wanted.id is null then 'ABSENT' else 'DENIED' end,
        case when not is_own then 'not_found' end, 'consultation', array[of_consultation],
        case when wanted.id is not null then array[wanted.patient_id] end,
        case when wanted.id is not null then array[wanted.id] end,
        array['transcribe'], is_own::integer, null
    );
    if is_own then
        update resguardo.consultations as c set transcribe = is_on where c.id = of_consultation;
    end if;
    return is_own;
end
$$;

-- The key of the word index, for whoever searches; no row before anything was turned into words.
create function private.read_word_index_key() returns table (wrapped bytea, root_key text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.person();
    return query select k.wrapped_key, k.root_key_id from private.word_index_key as k;
end
$$;

-- Keeps a link to the subtitles of a recording of one's own, by the hash of its secret; null where it is hidden or has
-- no words. It is good no longer than the token that asked for it. What has expired is forgotten. Raises RG409
-- (recording_being_deleted).
create function private.keep_subtitle_link(
    of_recording uuid, secret_sha256 bytea, lifetime_seconds integer, quota integer
) returns timestamptz
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.transcripts;
    until constant timestamptz := least(
        now() + make_interval(secs => least(greatest(lifetime_seconds, 1), 900)),
        to_timestamp((private.claims() ->> 'exp')::double precision)
    );
begin
    perform private.use_quota(private.person(), 'urls', quota);
    wanted := private.find_transcript('transcript.issue_url', of_recording, array['words']);
    if wanted.status = 'READY' and private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    if wanted.status is distinct from 'READY' then
        return null;
    end if;
    delete from private.subtitle_links as l where l.expires_at < now() - interval '1 day';
    insert into private.subtitle_links (secret_sha256, recording_id, claims, expires_at)
    values (
        secret_sha256, of_recording,
        (
            select jsonb_object_agg(c.key, c.value) from jsonb_each(private.claims()) as c
            where c.key in ('sub', 'session_id', 'aal', 'amr', 'exp')
        ),
        until
    );
    return until;
end
$$;

-- For the API as itself: as whom a link is read, and what; nothing for one that nobody gave, or that has expired.
create function private.read_subtitle_link(secret bytea) returns table (claims jsonb, of_recording uuid)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select l.claims, l.recording_id from private.subtitle_links as l
    where l.secret_sha256 = sha256(secret) and l.expires_at > now();
end
$$;
