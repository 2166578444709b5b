-- The SQL functions with which the worker writes insights. Each step checks again whether the insights may still be
-- written.

-- When a transcript becomes READY, adds the recording's insights, and queues the job that writes them if they may be
-- written. A transcript without speech has no insights.
create function private.await_insights() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    objection constant text := private.insights_objection(new.consultation_id);
begin
    insert into resguardo.insights (recording_id, consultation_id, doctor_id, patient_id, status)
    values (
        new.recording_id, new.consultation_id, new.doctor_id, new.patient_id,
        case new.status when 'READY' then 'PENDING' else new.status end
    )
    on conflict do nothing;
    if not found or new.status <> 'READY' then
        return null;
    end if;
    if objection is null then
        perform private.put_job('write_insights', new.recording_id);
    else
        perform private.end_insights(new.recording_id, 'OFF', objection);
    end if;
    return null;
end
$$;

create trigger transcripts_await_insights after update of status on resguardo.transcripts
for each row when (new.status in ('READY', 'NO_SPEECH') and old.status <> new.status)
execute function private.await_insights();

-- Marks the insights into a recording as outdated, because its transcript has changed. READY insights become STALE.
-- Insights that the worker is writing become STALE when they are finished.
create function private.outdate_insights() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.insights as i
    set is_outdated = true, status = case i.status when 'READY' then 'STALE' else i.status end,
        status_at = case i.status when 'READY' then private.now() else i.status_at end
    where i.recording_id = new.recording_id and not i.is_outdated;
    return null;
end
$$;

create trigger transcript_corrections_outdate_insights after insert on private.transcript_corrections
for each row execute function private.outdate_insights();

-- A retry of a READY transcript changes its text only if a turn is no longer unintelligible.
create trigger transcripts_outdate_insights after update of unintelligible_count on resguardo.transcripts
for each row when (
    old.status = 'READY' and new.status = 'READY' and new.unintelligible_count <> old.unintelligible_count
)
execute function private.outdate_insights();

-- Writes the audit row and ends the writing of insights. If STALE insights are being refreshed, they stay STALE and
-- keep their text.
create function private.end_insights(of_recording uuid, ended_as text, why text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ended resguardo.insights;
begin
    update resguardo.insights as i
    set status = case when i.is_refreshed then i.status else ended_as end, error = why, is_refreshed = false,
        status_at = private.now()
    where i.recording_id = of_recording
    returning i.* into ended;
    perform private.write_audit(
        'insights.transition', case ended_as when 'FAILED' then 'FAILED' else 'ALLOWED' end, why, 'recording',
        array[of_recording], array[ended.patient_id], array[ended.consultation_id], array['insights'], 1, null
    );
end
$$;

-- Locks and returns insights if the worker may continue to write them, and returns null otherwise. The worker may
-- continue if the insights are not finished, the recording is not to be destroyed, and no switch and no consent
-- forbids it. If a switch or a consent forbids it, the insights end as OFF.
create function private.lock_insights(of_recording uuid) returns resguardo.insights
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.insights;
    objection text;
begin
    select i.* into wanted from resguardo.insights as i where i.recording_id = of_recording for update;
    if wanted.recording_id is null or not (wanted.status in ('PENDING', 'RUNNING') or wanted.is_refreshed)
        or private.is_to_be_destroyed(of_recording)
    then
        return null;
    end if;
    objection := private.insights_objection(wanted.consultation_id);
    if objection is not null then
        perform private.end_insights(of_recording, 'OFF', objection);
        return null;
    end if;
    return wanted;
end
$$;

-- Returns whether the doctor's budget for language models is used up. If so, the insights say that they wait, and their
-- job is kept until the budget permits another request.
create function private.is_held_back(of_insights resguardo.insights) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if private.language_budget_left(of_insights.doctor_id) > 0 then
        return false;
    end if;
    update resguardo.insights as i
    set status = case when i.is_refreshed then i.status else 'PENDING' end, error = 'language_budget_used_up'
    where i.recording_id = of_insights.recording_id;
    perform private.hold_language_work(of_insights.recording_id, 'write_insights');
    return true;
end
$$;

-- Returns the language in which the insights into a recording are written, as a code of ISO 639-1: the spoken language
-- of the consultation, or else the language that the speech service detected, or else the language in which everybody
-- consented. The function returns null if all of them are unknown.
create function private.insights_language(of_insights resguardo.insights) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(lower(nullif(c.language, 'MIXED')), t.language, private.spoken_language(c.id))
        from resguardo.consultations as c
        left join resguardo.transcripts as t on t.recording_id = of_insights.recording_id
        where c.id = of_insights.consultation_id
    );
end
$$;

-- Writes the audit row, and begins or resumes the writing of insights. Returns the encrypted transcript, its
-- corrections, the recording's data key, and the answers of the language service that are already stored. Once an
-- answer is stored, the function returns only the corrections that existed before the first request, so that all parts
-- are based on the same text. A worker that began the same insights earlier may then send no further requests. Returns
-- no row if there is nothing to write now.
create function private.begin_insights(of_recording uuid, is_charged boolean)
returns table (
    generation integer, run integer, language text, corrections_used integer, duration_seconds double precision,
    is_truncated boolean, is_interrupted boolean, unused_track_count smallint, ciphertext bytea, corrections bytea[],
    wrapped bytea, root_key text, parts integer[], rounds smallint[], answers bytea[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights := private.lock_insights(of_recording);
    is_resumed boolean;
    of_corrections integer;
begin
    if wanted.recording_id is null or (is_charged and private.is_held_back(wanted)) then
        return;
    end if;
    if not exists (select from private.recording_keys as k where k.recording_id = of_recording) then
        perform private.end_insights(of_recording, 'FAILED', 'data_key_missing');
        return;
    end if;
    is_resumed := exists (
        select from private.insight_answers as a where a.recording_id = of_recording and a.ciphertext is not null
    );
    of_corrections := case
        when is_resumed then wanted.corrections_used
        else (select count(*) from private.transcript_corrections as c where c.recording_id = of_recording)
    end;
    update resguardo.insights as i
    set run = i.run + 1, status = case when i.is_refreshed then i.status else 'RUNNING' end, error = null,
        status_at = case i.status when 'PENDING' then private.now() else i.status_at end,
        corrections_used = of_corrections, is_outdated = i.is_outdated and is_resumed
    where i.recording_id = of_recording;
    perform private.write_audit(
        'insights.begin', 'ALLOWED', null, 'recording', array[of_recording], array[wanted.patient_id],
        array[wanted.consultation_id], array['text', 'data_key'], 1, null
    );
    return query
    select
        wanted.generation, wanted.run + 1, private.insights_language(wanted), of_corrections, r.duration_seconds,
        r.truncated, r.interrupted, t.unused_track_count, w.ciphertext,
        array(
            select c.ciphertext from private.transcript_corrections as c
            where c.recording_id = of_recording and c.number <= of_corrections order by c.number
        ),
        k.wrapped_key, k.root_key_id, coalesce(a.parts, '{}'), coalesce(a.rounds, '{}'), coalesce(a.answers, '{}')
    from private.transcript_texts as w
    inner join resguardo.transcripts as t on t.recording_id = w.recording_id
    inner join resguardo.recordings as r on r.id = w.recording_id
    inner join private.recording_keys as k on k.recording_id = w.recording_id
    cross join lateral (
        select
            array_agg(x.part order by x.part, x.round) as parts, array_agg(x.round order by x.part, x.round) as rounds,
            array_agg(x.ciphertext order by x.part, x.round) as answers
        from private.insight_answers as x
        where x.recording_id = of_recording and x.ciphertext is not null
    ) as a
    where w.recording_id = of_recording;
end
$$;

-- Stores into how many parts the worker has divided the transcript.
create function private.store_part_count(of_recording uuid, of_run integer, parts integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights := private.lock_insights(of_recording);
begin
    if wanted.run = of_run then
        update resguardo.insights as i set part_count = parts, parts_done = least(i.parts_done, parts)
        where i.recording_id = of_recording;
    end if;
end
$$;

-- Counts a request to the language service right before the worker sends it, and returns whether the worker must send
-- it. The count is thus stored even if the worker dies while the service, which may charge for the request, answers.
-- The result is false if the answer is already stored, and null if the insights may no longer be written, or not today.
-- After five requests without an answer the insights end as FAILED. Raises RG409 (insights_overtaken) if a different
-- worker has taken over.
create function private.count_insight_request(
    of_recording uuid, of_run integer, of_part integer, of_round integer, is_charged boolean
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    most_requests constant integer := 5;
    wanted constant resguardo.insights := private.lock_insights(of_recording);
    stored private.insight_answers;
begin
    if wanted.recording_id is null then
        return null;
    end if;
    if wanted.run <> of_run then
        raise exception 'insights_overtaken' using errcode = 'RG409';
    end if;
    if is_charged and private.is_held_back(wanted) then
        return null;
    end if;
    insert into private.insight_answers as a (recording_id, part, round, request_count)
    values (of_recording, of_part, of_round, 1)
    on conflict (recording_id, part, round) do update
    set request_count = a.request_count + case when a.ciphertext is null then 1 else 0 end
    returning a.* into stored;
    if stored.ciphertext is not null then
        return false;
    elsif stored.request_count > most_requests then
        perform private.end_insights(of_recording, 'FAILED', 'insights_unanswered');
        return null;
    end if;
    return true;
end
$$;

-- Takes back the count of a request for which the language service did not charge, because the service was busy or
-- unreachable.
create function private.take_back_insight_request(of_recording uuid, of_part integer, of_round integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.insight_answers as a set request_count = greatest(0, a.request_count - 1)
    where a.recording_id = of_recording and a.part = of_part and a.round = of_round;
end
$$;

-- Stores the language service's encrypted answer for a part, unless an answer is already stored or the transcript's
-- text for the part has become another one. The function accepts the answer from any worker, because the service
-- charges for it. If the insights may no longer be written, the function stores nothing.
create function private.store_insight_answer(
    of_recording uuid, of_generation integer, corrections integer, of_part integer, of_round integer, answer bytea
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights := private.lock_insights(of_recording);
begin
    if wanted.generation = of_generation and wanted.corrections_used = corrections then
        update private.insight_answers as a set ciphertext = answer
        where a.recording_id = of_recording and a.part = of_part and a.round = of_round and a.ciphertext is null;
        update resguardo.insights as i
        set parts_done = least(
            i.part_count,
            (
                select count(*) from private.insight_answers as a
                where a.recording_id = of_recording and a.round = 0 and a.ciphertext is not null
            )
        )
        where i.recording_id = of_recording;
    end if;
end
$$;

-- Stores the encrypted insights of a generation, and their topics apart. Sets them to READY, or to STALE if the
-- transcript has changed since the first request. Deletes the answers of the language service, from which the insights
-- were made.
create function private.finish_insights(
    of_recording uuid, of_generation integer, of_run integer, new_text bytea, new_topics bytea, in_language text,
    of_vendor text, of_model text, dropped_lines integer
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights := private.lock_insights(of_recording);
begin
    if wanted.run is distinct from of_run or wanted.generation <> of_generation then
        return;
    end if;
    insert into private.insight_texts as w (recording_id, generation, ciphertext, topics)
    values (of_recording, of_generation, new_text, new_topics)
    on conflict (recording_id) do update
    set generation = excluded.generation, ciphertext = excluded.ciphertext, topics = excluded.topics;
    delete from private.insight_answers as a where a.recording_id = of_recording;
    update resguardo.insights as i
    set is_refreshed = false, language = in_language, vendor = of_vendor, model = of_model, dismissed_count = 0,
        dropped_count = dropped_lines, written_at = private.now(), parts_done = i.part_count
    where i.recording_id = of_recording;
    perform private.end_insights(of_recording, case when wanted.is_outdated then 'STALE' else 'READY' end, null);
end
$$;

-- Ends insights that cannot be finished: as FAILED, as OFF if no language service is configured, or as NO_SPEECH.
-- Deletes the answers for the given parts, from which no insights can be made, so that a retry requests them again.
create function private.give_up_insights(of_recording uuid, ended_as text, why text, useless_parts integer[])
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights := private.lock_insights(of_recording);
begin
    if wanted.recording_id is null then
        return;
    end if;
    delete from private.insight_answers as a where a.recording_id = of_recording and a.part = any (useless_parts);
    update resguardo.insights as i
    set parts_done = (
        select count(*) from private.insight_answers as a
        where a.recording_id = of_recording and a.round = 0 and a.ciphertext is not null
    )
    where i.recording_id = of_recording and i.part_count is not null;
    perform private.end_insights(of_recording, ended_as, why);
end
$$;

-- Queues a job for all unfinished insights that have no job, and returns how many jobs it queued. Insights lose their
-- job if a worker is wrongly considered dead, and then ends the job that its successor runs. Insights that wait for the
-- doctor's budget get their job from `resume_language_work`.
create function private.resume_insights() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    idle constant uuid[] := array(
        select i.recording_id from resguardo.insights as i
        where (i.status in ('PENDING', 'RUNNING') or i.is_refreshed) and not private.is_to_be_destroyed(i.recording_id)
            and not exists (
                select from private.held_language_work as h
                where h.recording_id = i.recording_id and h.task = 'write_insights'
            )
            and not exists (
                select from jobs.procrastinate_jobs as j
                where j.lock = 'write_insights:' || i.recording_id and j.status in ('todo', 'doing')
            )
    );
begin
    perform private.put_job('write_insights', d.id) from unnest(idle) as d (id);
    return cardinality(idle);
end
$$;
