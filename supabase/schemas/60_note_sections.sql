-- The SQL functions with which the worker writes sections of note drafts again. Each step checks again whether the
-- section may still be written.

-- Locks a recording's draft, and returns a section that the worker may write: the given one, or the first if none is
-- given. Returns null if there is none. If a switch or a consent forbids it, the sections of the recording end with an
-- error.
create function private.lock_note_section(of_recording uuid, of_section text) returns private.note_sections
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    about resguardo.transcripts;
    objection text;
    wanted private.note_sections;
begin
    select t.* into about from resguardo.transcripts as t where t.recording_id = of_recording for update;
    if about.recording_id is null or private.is_to_be_destroyed(of_recording) then
        return null;
    end if;
    objection := private.insights_objection(about.consultation_id);
    if about.status <> 'READY' then
        objection := 'note_without_transcript';
    elsif objection is not null then
        objection := 'insights_' || objection;
    end if;
    if objection is not null then
        update private.note_sections as s set error = objection
        where s.recording_id = of_recording and s.error is null;
        return null;
    end if;
    select s.* into wanted from private.note_sections as s
    where s.recording_id = of_recording and s.error is null and (of_section is null or s.section = of_section)
    order by s.requested_at, s.section
    limit 1;
    return wanted;
end
$$;

-- Begins or resumes to write the next section of a recording's draft that the doctor asked for. Writes the audit row,
-- and returns the draft with its transcript, and the answers of the language service that are already stored. A worker
-- that began the same section earlier may then send no further requests. Returns no row if there is nothing to write.
create function private.begin_note_section(of_recording uuid)
returns table (
    section text, run integer, language text, opened private.opened_note_draft, parts integer[], rounds smallint[],
    answers bytea[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant private.note_sections := private.lock_note_section(of_recording, null);
    about constant private.opened_note_draft := private.gather_note_draft(of_recording);
begin
    if wanted.recording_id is null or about.recording_id is null then
        return;
    end if;
    update private.note_sections as s set run = s.run + 1
    where s.recording_id = of_recording and s.section = wanted.section;
    perform private.write_audit(
        'note_draft.begin', 'ALLOWED', null, 'recording', array[of_recording], array[about.patient_id],
        array[about.consultation_id], array['text', 'data_key'], 1, null
    );
    return query
    select
        wanted.section, wanted.run + 1,
        (select private.insights_language(i) from resguardo.insights as i where i.recording_id = of_recording),
        about, coalesce(a.parts, '{}'), coalesce(a.rounds, '{}'), coalesce(a.answers, '{}')
    from (
        select
            array_agg(x.part order by x.part, x.round) as parts, array_agg(x.round order by x.part, x.round) as rounds,
            array_agg(x.ciphertext order by x.part, x.round) as answers
        from private.note_section_answers as x
        where x.recording_id = of_recording and x.section = wanted.section and x.ciphertext is not null
    ) as a;
end
$$;

-- Counts a request to the language service right before the worker sends it, and returns whether the worker must send
-- it. The count is thus stored even if the worker dies while the service, which may charge for the request, answers.
-- The result is false if the answer is already stored, and null if the section may no longer be written, or not today,
-- because the doctor's budget is used up. After five requests without an answer the section ends with an error. Raises
-- RG409 (insights_overtaken) if a different worker has taken over.
create function private.count_note_request(
    of_recording uuid, of_section text, of_run integer, of_part integer, of_round integer, is_charged boolean
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    most_requests constant integer := 5;
    wanted constant private.note_sections := private.lock_note_section(of_recording, of_section);
    stored private.note_section_answers;
begin
    if wanted.recording_id is null then
        return null;
    elsif wanted.run <> of_run then
        raise exception 'insights_overtaken' using errcode = 'RG409';
    end if;
    select a.* into stored from private.note_section_answers as a
    where a.recording_id = of_recording and a.section = of_section and a.part = of_part and a.round = of_round;
    if stored.ciphertext is not null then
        return false;
    elsif stored.request_count >= most_requests then
        update private.note_sections as s set error = 'insights_unanswered'
        where s.recording_id = of_recording and s.section = of_section;
        return null;
    elsif is_charged and private.language_budget_left(
        (select r.doctor_id from resguardo.recordings as r where r.id = of_recording)
    ) = 0 then
        perform private.hold_language_work(of_recording, 'write_note_section');
        return null;
    end if;
    insert into private.note_section_answers as a (recording_id, section, part, round, request_count)
    values (of_recording, of_section, of_part, of_round, 1)
    on conflict (recording_id, section, part, round) do update set request_count = a.request_count + 1;
    return true;
end
$$;

-- Takes back the count of a request for which the language service did not charge, because the service was busy or
-- unreachable.
create function private.take_back_note_request(
    of_recording uuid, of_section text, of_part integer, of_round integer
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.note_section_answers as a set request_count = greatest(0, a.request_count - 1)
    where a.recording_id = of_recording and a.section = of_section and a.part = of_part and a.round = of_round;
end
$$;

-- Stores the language service's encrypted answer for a part, unless an answer is already stored. The function accepts
-- the answer from any worker, because the service charges for it.
create function private.store_note_answer(
    of_recording uuid, of_section text, of_part integer, of_round integer, answer bytea
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform from resguardo.transcripts as t where t.recording_id = of_recording for update;
    if not private.is_to_be_destroyed(of_recording) then
        update private.note_section_answers as a set ciphertext = answer
        where a.recording_id = of_recording and a.section = of_section and a.part = of_part and a.round = of_round
            and a.ciphertext is null;
    end if;
end
$$;

-- Returns the draft and its transcript again, for the worker that has all answers for a section, and locks them until
-- the worker stores the section. Writes the audit row. Returns no row if the section may no longer be written.
create function private.reopen_note_draft(of_recording uuid, of_section text)
returns setof private.opened_note_draft
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant private.note_sections := private.lock_note_section(of_recording, of_section);
    about constant private.opened_note_draft := private.gather_note_draft(of_recording);
begin
    if wanted.recording_id is null or about.recording_id is null or about.signed_from is not null then
        return;
    end if;
    perform private.write_audit(
        'note_draft.begin', 'ALLOWED', null, 'recording', array[of_recording], array[about.patient_id],
        array[about.consultation_id], array['text', 'data_key'], 1, null
    );
    return next about;
end
$$;

-- Stores the draft with the section that the worker has written, and deletes the answers of the language service, from
-- which the section was made. If the draft has another version than `based_on`, the function changes nothing and
-- returns false.
create function private.finish_note_section(of_recording uuid, of_section text, based_on integer, new_text bytea)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant private.note_sections := private.lock_note_section(of_recording, of_section);
begin
    if wanted.recording_id is null or private.note_draft_version(of_recording) is distinct from based_on then
        return false;
    end if;
    insert into private.note_drafts as d (recording_id, version, ciphertext)
    values (of_recording, based_on + 1, new_text)
    on conflict (recording_id) do update
    set version = excluded.version, ciphertext = excluded.ciphertext, changed_at = private.now();
    delete from private.note_section_answers as a where a.recording_id = of_recording and a.section = of_section;
    delete from private.note_sections as s where s.recording_id = of_recording and s.section = of_section;
    return true;
end
$$;

-- Ends a section that cannot be written with an error that the doctor sees. If no section is given, the function ends
-- all sections of the recording. If `is_useless`, the stored answers are deleted, because no section can be made of
-- them, and a retry requests them again.
create function private.fail_note_section(of_recording uuid, of_section text, why text, is_useless boolean) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform from resguardo.transcripts as t where t.recording_id = of_recording for update;
    delete from private.note_section_answers as a
    where is_useless and a.recording_id = of_recording and (of_section is null or a.section = of_section);
    update private.note_sections as s set error = why
    where s.recording_id = of_recording and s.error is null and (of_section is null or s.section = of_section);
end
$$;

-- Queues a job for each recording with an unfinished section and without a job, and returns how many jobs it queued. A
-- recording that waits for its doctor's budget gets its job from `resume_language_work`.
create function private.resume_note_sections() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    idle constant uuid[] := array(
        select distinct s.recording_id from private.note_sections as s
        where s.error is null and not private.is_to_be_destroyed(s.recording_id)
            and not exists (
                select from jobs.procrastinate_jobs as j
                where j.lock = 'write_note_section:' || s.recording_id and j.status in ('todo', 'doing')
            )
            and not exists (
                select from private.held_language_work as h
                where h.recording_id = s.recording_id and h.task = 'write_note_section'
            )
    );
begin
    perform private.put_job('write_note_section', i.id) from unnest(idle) as i (id);
    return cardinality(idle);
end
$$;
