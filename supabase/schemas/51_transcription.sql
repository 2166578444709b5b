-- The SQL functions that the worker calls to make a transcript. Each step of the transcription checks again whether
-- the recording may still be transcribed.

-- When a sound recording ends in any status, resumes the transcription that waits for the sound recording.
create function private.resume_transcription() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from resguardo.transcripts as t where t.recording_id = new.video_id and t.status = 'PENDING'
    ) then
        perform private.put_job('transcribe_recording', new.video_id);
    end if;
    return null;
end
$$;

create trigger recordings_resume_transcription after update of status on resguardo.recordings
for each row when (
    new.video_id is not null and new.status <> old.status and new.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
)
execute function private.resume_transcription();

-- Writes the audit row and ends a transcription. If the transcription is a retry of a READY transcript, the
-- transcript keeps its text.
create function private.end_transcription(of_recording uuid, ended_as text, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ended resguardo.transcripts;
begin
    update resguardo.transcripts as t
    set status = case when t.is_retried then t.status else ended_as end, error = why, is_retried = false,
        status_at = private.now()
    where t.recording_id = of_recording
    returning t.* into ended;
    perform private.write_audit(
        'transcript.transition', case ended_as when 'FAILED' then 'FAILED' else 'ALLOWED' end, why, 'recording',
        array[of_recording], array[ended.patient_id], array[ended.consultation_id], array['transcript'], 1, null
    );
end
$$;

-- Locks and returns a transcript if the worker may continue the transcription, and returns null otherwise. The worker
-- may continue if the transcript is not finished, the recording is not to be destroyed, and transcription is neither
-- switched off nor excluded by a withdrawn consent. If transcription was switched off or a consent withdrawn, the
-- transcription ends as OFF.
create function private.lock_transcription(of_recording uuid) returns resguardo.transcripts
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.transcripts;
    objection text;
begin
    select t.* into wanted from resguardo.transcripts as t where t.recording_id = of_recording for update;
    if wanted.recording_id is null or not (wanted.status in ('PENDING', 'RUNNING') or wanted.is_retried)
        or private.is_to_be_destroyed(of_recording)
    then
        return null;
    end if;
    objection := private.transcription_objection(wanted.consultation_id);
    if objection is not null then
        perform private.end_transcription(of_recording, 'OFF', objection);
        return null;
    end if;
    return wanted;
end
$$;

-- Returns how many milliseconds after the video a sound recording begins; the number is negative if the sound
-- recording begins before the video. The function returns 0 if the sound is the video's own, or if LiveKit reported
-- no times. The file of a sound recording begins 0.09 s before the start time that LiveKit reports. A video file is
-- longer than LiveKit reports, and begins earlier by this difference, but by at most one second (measured with egress
-- 1.9.1). The worker measures the remaining difference between the sound and the video. The two start times come from
-- LiveKit and may be wrong, so the function returns a delay of at most one day.
create function private.lateness_ms(of_sound resguardo.recordings, of_video uuid) returns integer
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    seconds numeric;
begin
    if of_sound.id = of_video then
        return 0;
    end if;
    select extract(epoch from of_sound.started_at - v.started_at) - 0.09 + greatest(
            0, least(1, coalesce(v.duration_seconds - extract(epoch from v.ended_at - v.started_at), 0))
        ) into seconds
    from resguardo.recordings as v where v.id = of_video;
    return round(1000 * greatest(-86400, least(86400, coalesce(seconds, 0))));
end
$$;

-- Returns the voice on each channel of a sound recording: the voice's label, the kind of speaker, and the
-- participant's id. A microphone recording contains one voice. If LiveKit routed the doctor and the patient to the
-- two channels, each channel has one of the two voices. In a sound recording of any other kind, the voices are
-- unknown.
create function private.voices_of(of_sound resguardo.recordings) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(jsonb_agg(jsonb_build_array(v.label, v.speaker, v.id) order by v.label), '[]')
        from (
            select p.id, coalesce(p.guest_role, p.kind) as speaker, p.kind,
                case p.kind
                    when 'DOCTOR' then 0
                    when 'PATIENT' then 1
                    else least(255, 1 + row_number() over (partition by p.kind order by p.created_at, p.id))
                end as label
            from resguardo.participants as p
            where p.consultation_id = of_sound.consultation_id
        ) as v
        where v.id = of_sound.participant_id or (of_sound.is_routed and v.kind in ('DOCTOR', 'PATIENT'))
    );
end
$$;

-- Returns the language for the speech service, as a code of ISO 639-1, or null if the service must detect the
-- language. If the consultation has a spoken language, the function returns that language. If the consultation has no
-- spoken language, the function uses the language in which everybody consented, unless an interpreter joined.
create function private.spoken_language(of_consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    given constant text := (select c.language from resguardo.consultations as c where c.id = of_consultation);
    consented text[];
begin
    if given is not null then
        return lower(nullif(given, 'MIXED'));
    end if;
    if exists (
        select from resguardo.participants as p
        where p.consultation_id = of_consultation and p.guest_role = 'INTERPRETER' and p.joined_at is not null
    ) then
        return null;
    end if;
    select array_agg(distinct lower(n.text_language)) into consented
    from resguardo.participants as p
    cross join lateral (
        select k.text_language from resguardo.consents as k
        where k.participant_id = p.id and k.decision = 'GIVEN'
        order by k.recorded_at desc, k.id desc limit 1
    ) as n
    where p.consultation_id = of_consultation and (p.kind <> 'GUEST' or p.joined_at is not null);
    return case when cardinality(consented) = 1 and consented[1] ~ '^[a-z]{2}$' then consented[1] end;
end
$$;

-- Returns the recordings to transcribe: the READY sound recordings beside the video, and the video for all speech
-- that these sound recordings lack. Returns only the video, which contains every voice, if the video has no sound
-- recording, or if a sound recording is LOST, missing, or FAILED after it began. If a sound recording is FAILED or
-- ABORTED and never began, it contains nothing. Returns null while a sound recording beside the video is unfinished.
create function private.sounds_to_transcribe(of_recording uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    parts uuid[];
begin
    if exists (
        select from resguardo.recordings as r
        where r.video_id = of_recording and not private.is_finished(r.status) and r.status <> 'DELETED'
    ) then
        return null;
    end if;
    if exists (
        select from resguardo.recordings as r
        where r.video_id = of_recording and r.medium <> 'CLIP' and (
            r.status = 'LOST' or (r.status = 'FAILED' and r.started_at is not null)
            or (r.status = 'READY' and r.missing_since is not null)
        )
    ) then
        return array[of_recording];
    end if;
    parts := array(
        select r.id from resguardo.recordings as r
        where r.video_id = of_recording and r.status = 'READY' and r.medium = 'MICROPHONE'
    );
    if cardinality(parts) = 0 then
        parts := array(
            select r.id from resguardo.recordings as r
            where r.video_id = of_recording and r.status = 'READY' and r.medium = 'SPEAKERS'
        );
    end if;
    return parts || of_recording;
end
$$;

-- Returns whether every participant who consented saw one of the given consent texts.
create function private.texts_allow_transcription(of_consultation uuid, texts text[]) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return not exists (
        select from resguardo.participants as p
        where p.consultation_id = of_consultation
            and (
                select n.text_version from resguardo.consents as n
                where n.participant_id = p.id and n.decision = 'GIVEN'
                order by n.recorded_at desc, n.id desc limit 1
            ) <> all (texts)
    );
end
$$;

-- Returns the versions of the consent text that name insights by a language service, clips, and quotes that are kept in
-- the signed note. A test holds them equal to `ABOUT_INSIGHTS` in app/consents/texts.py.
create function private.texts_about_insights() returns text[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return array['2027-01', '2027-02'];
end
$$;

-- Returns why the consents do not allow insights, clips and quotes in signed notes for a consultation:
-- `consent_withdrawn` if the newest statement of anybody who must consent is a withdrawal, or `consent_text` if
-- anybody consented to a text that does not name them. If the consents allow them, the function returns null.
create function private.consent_objection(of_consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from resguardo.standing_consents as s
        where s.consultation_id = of_consultation and s.is_required and s.is_withdrawn
    ) then
        return 'consent_withdrawn';
    elsif not private.texts_allow_transcription(of_consultation, private.texts_about_insights()) then
        return 'consent_text';
    end if;
    return null;
end
$$;

-- Returns why a language service may not process the transcripts of a consultation now: a reason of
-- `private.transcription_objection` or of `private.consent_objection`. If it may, the function returns null.
create function private.insights_objection(of_consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        private.transcription_objection(of_consultation), private.consent_objection(of_consultation)
    );
end
$$;

-- Writes the audit row, and begins or resumes a transcription. Returns the sound recordings to transcribe, their
-- object keys, their voices, and the data key. Returns no row if the transcription has no work left, or if a sound
-- recording beside the video is unfinished. Once the transcription has a plan of chunks, the function returns the
-- sound recordings of the plan, even if new sound recordings have appeared. A worker that began the same
-- transcription earlier may then send no further requests to the speech service.
create function private.begin_transcription(of_recording uuid, texts text[])
returns table (
    sound uuid, medium text, object_key text, size_bytes bigint, late_ms integer, voices jsonb, wrapped bytea,
    root_key text, is_planned boolean, run integer, language text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
    sounds uuid[];
begin
    if wanted.recording_id is null then
        return;
    end if;
    if not private.texts_allow_transcription(wanted.consultation_id, texts) then
        perform private.end_transcription(of_recording, 'OFF', 'consent_text');
        return;
    end if;
    if wanted.chunks_total is null then
        sounds := private.sounds_to_transcribe(of_recording);
    else
        sounds := array(
            select distinct p.sound from private.transcript_chunks as p where p.recording_id = of_recording
        );
    end if;
    if sounds is null then
        return;
    end if;
    if not exists (select from private.recording_keys as k where k.recording_id = of_recording) then
        perform private.end_transcription(of_recording, 'FAILED', 'data_key_missing');
        return;
    end if;
    update resguardo.transcripts as t
    set run = t.run + 1, status = case when t.is_retried then t.status else 'RUNNING' end,
        status_at = case t.status when 'PENDING' then private.now() else t.status_at end
    where t.recording_id = of_recording;
    if wanted.status = 'PENDING' then
        update private.transcript_chunks as p set failed_requests = 0
        where p.recording_id = of_recording and p.failed_requests > 0;
    end if;
    perform private.write_audit(
        'transcript.begin', 'ALLOWED', null, 'recording', of_recording || array_remove(sounds, of_recording),
        array[wanted.patient_id], array[wanted.consultation_id], array['object_key', 'data_key'], cardinality(sounds),
        null
    );
    return query
    select r.id, r.medium, s.object_key, r.size_bytes, private.lateness_ms(r, of_recording), private.voices_of(r),
        k.wrapped_key, k.root_key_id, wanted.chunks_total is not null, wanted.run + 1,
        private.spoken_language(wanted.consultation_id)
    from resguardo.recordings as r
    inner join private.recording_secrets as s on s.recording_id = r.id
    inner join private.recording_keys as k on k.recording_id = of_recording
    where r.id = any (sounds)
    order by r.id = of_recording, r.started_at, r.id;
end
$$;

-- Stores the plan of a transcription, a list of chunks, unless a plan is already stored. If the sound contains no
-- speech, storing the plan also finishes the transcription.
create function private.store_chunks(of_recording uuid, chunks jsonb, unused_tracks smallint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null or wanted.chunks_total is not null then
        return;
    end if;
    insert into private.transcript_chunks (
        recording_id, number, sound, late_ms, label, speaker, participant_id, channel, source, start_ms, end_ms
    )
    select
        of_recording, p.place - 1, e.sound, e.late_ms, e.label, e.speaker, e.participant_id, e.channel, e.source,
        e.start_ms, e.end_ms
    from jsonb_array_elements(chunks) with ordinality as p (chunk, place)
    cross join lateral jsonb_to_record(p.chunk) as e (
        sound uuid, late_ms integer, label smallint, speaker text, participant_id uuid, channel smallint,
        source smallint, start_ms integer, end_ms integer
    );
    update resguardo.transcripts as t
    set chunks_total = jsonb_array_length(chunks), unused_track_count = unused_tracks
    where t.recording_id = of_recording;
    if jsonb_array_length(chunks) = 0 then
        perform private.end_transcription(of_recording, 'NO_SPEECH', null);
    end if;
end
$$;

-- Returns the chunks of a transcription that the speech service has not answered yet. If the recording may no longer
-- be transcribed, the function returns no chunk.
create function private.list_unanswered_chunks(of_recording uuid)
returns table (
    number integer, sound uuid, late_ms integer, channel smallint, source smallint, start_ms integer, end_ms integer,
    label smallint, speaker text, participant_id uuid
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    return query
    select
        p.number, p.sound, p.late_ms, p.channel, p.source, p.start_ms, p.end_ms, p.label, p.speaker, p.participant_id
    from private.transcript_chunks as p
    where p.recording_id = wanted.recording_id and p.answer is null
    order by p.number;
end
$$;

-- Returns whether the speech service has transcribed a chunk of this recording before.
create function private.is_any_chunk_transcribed(of_recording uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    return coalesce(wanted.is_retried, false) or exists (
        select from private.transcript_chunks as p
        where p.recording_id = wanted.recording_id and p.answer is not null and not p.is_unintelligible
    );
end
$$;

-- Returns, right before a request to the speech service, whether the worker must send a chunk. The result is false if
-- the chunk already has an answer, and null if the recording may no longer be transcribed. Raises RG409
-- (transcription_overtaken) if a different worker has taken over the transcription.
create function private.is_chunk_wanted(of_recording uuid, of_run integer, of_chunk integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null then
        return null;
    end if;
    if wanted.run <> of_run then
        raise exception 'transcription_overtaken' using errcode = 'RG409';
    end if;
    return exists (
        select from private.transcript_chunks as p
        where p.recording_id = of_recording and p.number = of_chunk and p.answer is null
    );
end
$$;

-- Counts a request to the speech service that returned no usable answer for a chunk, because the service may still
-- charge for it. Returns how many requests for the chunk brought no usable answer.
create function private.count_failed_request(of_recording uuid, of_chunk integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    times integer;
begin
    update private.transcript_chunks as p set failed_requests = p.failed_requests + 1
    where p.recording_id = of_recording and p.number = of_chunk
    returning p.failed_requests into times;
    return coalesce(times, 0);
end
$$;

-- Stores the speech service's encrypted answer for a chunk, unless an answer is already stored. The function accepts
-- the answer from any worker, because the speech service charges for it. If the recording may no longer be
-- transcribed, the function stores nothing. `gives_up` marks a chunk as unintelligible after the last attempt to
-- transcribe it.
create function private.store_answer(
    of_recording uuid, of_chunk integer, new_answer bytea, gives_up boolean
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    update private.transcript_chunks as p set answer = new_answer, is_unintelligible = gives_up
    where p.recording_id = wanted.recording_id and p.number = of_chunk and p.answer is null;
    if found then
        update resguardo.transcripts as t set chunks_done = t.chunks_done + 1 where t.recording_id = of_recording;
    end if;
end
$$;

-- Writes the audit row, and returns all answers of the speech service for a transcript. Returns no row while a chunk
-- of the transcript has no answer. `turn` is the turn of a READY transcript that the chunk's answer will replace.
create function private.read_answers(of_recording uuid)
returns table (number integer, answer bytea, is_unintelligible boolean, turn integer)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null or wanted.chunks_done is distinct from wanted.chunks_total then
        return;
    end if;
    perform private.write_audit(
        'transcript.assemble', 'ALLOWED', null, 'recording', array[of_recording], array[wanted.patient_id],
        array[wanted.consultation_id], array['text'], wanted.chunks_total, null
    );
    return query
    select p.number, p.answer, p.is_unintelligible, p.turn
    from private.transcript_chunks as p
    where p.recording_id = of_recording
    order by p.number;
end
$$;

-- Writes the audit row, and returns the encrypted text and the corrections of a READY transcript that is being
-- retried. Returns no row if the transcript is not READY or not being retried.
create function private.read_retried_transcript(of_recording uuid)
returns table (ciphertext bytea, corrections bytea[])
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null or not wanted.is_retried then
        return;
    end if;
    perform private.write_audit(
        'transcript.assemble', 'ALLOWED', null, 'recording', array[of_recording], array[wanted.patient_id],
        array[wanted.consultation_id], array['text'], 1, null
    );
    return query
    select
        w.ciphertext,
        array(
            select x.ciphertext from private.transcript_corrections as x
            where x.recording_id = w.recording_id order by x.number
        )
    from private.transcript_texts as w
    where w.recording_id = of_recording;
end
$$;

-- Stores the text and its search terms and sets the transcript to READY, or to NO_SPEECH if it has no text.
-- Unintelligible chunks are kept together with the numbers of their turns, so that they can be retried. When the
-- transcription ends, the function deletes the rows of all chunks except the unintelligible ones. Raises RG409
-- (concurrent_change) if the transcript was corrected after the worker read it.
create function private.finish_transcription(
    of_recording uuid, of_language text, new_text bytea, new_terms bigint[], corrections integer,
    turns_without_text integer, unintelligible_chunks integer[], unintelligible_turns integer[]
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is null then
        return;
    end if;
    if corrections <> (
        select count(*) from private.transcript_corrections as c where c.recording_id = of_recording
    ) then
        raise exception 'concurrent_change' using errcode = 'RG409';
    end if;
    if wanted.is_retried then
        update private.transcript_texts as w set ciphertext = new_text, terms = new_terms
        where w.recording_id = of_recording;
    elsif new_text is not null then
        insert into private.transcript_texts (recording_id, ciphertext, terms)
        values (of_recording, new_text, new_terms);
    end if;
    delete from private.transcript_chunks as p where p.recording_id = of_recording and not p.is_unintelligible;
    update private.transcript_chunks as p set turn = u.turn
    from unnest(unintelligible_chunks, unintelligible_turns) as u (number, turn)
    where p.recording_id = of_recording and p.number = u.number;
    update resguardo.transcripts as t set language = of_language, unintelligible_count = turns_without_text
    where t.recording_id = of_recording;
    perform private.end_transcription(
        of_recording, case when new_text is null then 'NO_SPEECH' else 'READY' end, null
    );
end
$$;

-- Ends a transcription that cannot be completed, as FAILED, or as OFF if the worker sent no request to the speech
-- service.
create function private.give_up_transcription(of_recording uuid, ended_as text, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts := private.lock_transcription(of_recording);
begin
    if wanted.recording_id is not null then
        perform private.end_transcription(of_recording, ended_as, why);
    end if;
end
$$;

-- Queues a job for each unfinished transcription that has no job, and returns how many jobs it queued. A
-- transcription loses its job if a worker is wrongly considered dead, and then ends the job that its successor runs.
-- A transcription that waits for a sound recording also gets a job, which then does nothing.
create function private.resume_transcriptions() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    idle constant uuid[] := array(
        select t.recording_id from resguardo.transcripts as t
        where (t.status in ('PENDING', 'RUNNING') or t.is_retried) and not private.is_to_be_destroyed(t.recording_id)
            and not exists (
                select from jobs.procrastinate_jobs as j
                where j.lock = 'transcribe_recording:' || t.recording_id and j.status in ('todo', 'doing')
            )
    );
begin
    perform private.put_job('transcribe_recording', i.id) from unnest(idle) as i (id);
    return cardinality(idle);
end
$$;
