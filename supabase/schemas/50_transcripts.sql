-- Transcripts of recordings: the progress of the transcription, and the text, which is encrypted with the recording's
-- data key.

create table resguardo.transcripts (
    recording_id uuid primary key
    constraint transcripts_recording_id_fkey references resguardo.recordings (id),
    id uuid not null default gen_random_uuid() constraint transcripts_id_key unique,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    status text not null
    constraint transcripts_status_is_known check (
        status in ('PENDING', 'RUNNING', 'READY', 'NO_SPEECH', 'FAILED', 'OFF')
    ),
    error text constraint transcripts_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    language text constraint transcripts_language_is_code check (language ~ '^[a-z]{2,3}$'),
    chunks_total integer constraint transcripts_chunks_total_range check (chunks_total >= 0),
    chunks_done integer not null default 0
    constraint transcripts_chunks_done_range check (chunks_done between 0 and coalesce(chunks_total, 0)),
    unused_track_count smallint not null default 0
    constraint transcripts_unused_track_count_range check (unused_track_count >= 0),
    unintelligible_count integer not null default 0
    constraint transcripts_unintelligible_count_range check (unintelligible_count >= 0),
    attempt integer not null default 1 constraint transcripts_attempt_range check (attempt > 0),
    is_retried boolean not null default false,
    created_at timestamptz not null default private.now(),
    status_at timestamptz not null default private.now(),
    run integer not null default 0
    constraint transcripts_run_range check (run >= 0),
    changed_at timestamptz not null default private.now(),
    constraint transcripts_people_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint transcripts_error_says_why check (
        status = 'READY' or (error is not null) = (status in ('FAILED', 'OFF'))
    ),
    constraint transcripts_retried_is_ready check (status = 'READY' or not is_retried)
);
alter table resguardo.transcripts enable row level security;
comment on column resguardo.transcripts.chunks_total is
'The number of requests to the speech service; null until the sound was inspected.';
comment on column resguardo.transcripts.unused_track_count is
'The number of sound tracks that could not be decoded and that the transcript therefore lacks.';
comment on column resguardo.transcripts.unintelligible_count is
'The number of turns without text, because the speech service could not understand them.';
comment on column resguardo.transcripts.is_retried is
'Whether the worker is retrying the unintelligible chunks of a READY transcript. Its text stays readable meanwhile.';
comment on column resguardo.transcripts.error is
'Why it is FAILED or OFF. For a READY transcript: why its last retry ended without a transcript.';
comment on column resguardo.transcripts.changed_at is
'When subscriptions were last notified of a change. Between two notifications, chunks_done grows unnoticed.';
comment on column resguardo.transcripts.run is
'Counts how often a worker began or resumed. Only the newest worker may send requests to the speech service.';
create index transcripts_consultation_idx on resguardo.transcripts (consultation_id, doctor_id, patient_id);
create index transcripts_doctor_idx on resguardo.transcripts (doctor_id, changed_at desc, recording_id desc);
create index transcripts_patient_idx on resguardo.transcripts (patient_id);

create table private.transcript_chunks (
    recording_id uuid not null
    constraint transcript_chunks_recording_id_fkey references resguardo.transcripts (recording_id),
    number integer not null constraint transcript_chunks_number_range check (number >= 0),
    sound uuid not null constraint transcript_chunks_sound_fkey references resguardo.recordings (id),
    late_ms integer not null default 0,
    label smallint constraint transcript_chunks_label_range check (label between 0 and 255),
    speaker text not null default 'UNKNOWN',
    participant_id uuid constraint transcript_chunks_participant_id_fkey references resguardo.participants (id),
    channel smallint constraint transcript_chunks_channel_range check (channel between 0 and 15),
    source smallint not null default 0 constraint transcript_chunks_source_range check (source between 0 and 15),
    start_ms integer not null constraint transcript_chunks_start_range check (start_ms >= 0),
    end_ms integer not null,
    answer bytea,
    is_unintelligible boolean not null default false,
    turn integer constraint transcript_chunks_turn_range check (turn >= 0),
    failed_requests integer not null default 0
    constraint transcript_chunks_failed_requests_range check (failed_requests >= 0),
    constraint transcript_chunks_pkey primary key (recording_id, number),
    constraint transcript_chunks_end_range check (end_ms > start_ms)
);
comment on column private.transcript_chunks.sound is
'The recording that the chunk is cut from: the video, or a sound beside it.';
comment on column private.transcript_chunks.late_ms is
'How many milliseconds later than the video this sound begins, at this chunk.';
comment on column private.transcript_chunks.label is
'The voice: equal for all sound of one participant or channel. Null if nothing separates the voices.';
comment on column private.transcript_chunks.participant_id is
'The participant of the microphone, if each microphone was recorded separately.';
comment on column private.transcript_chunks.channel is
'The channel of the chunk''s file, if the file has several channels to transcribe.';
comment on column private.transcript_chunks.source is 'The channel of the file that the chunk is cut from.';
comment on column private.transcript_chunks.answer is
'The speech service''s answer, encrypted; null until there is one.';
comment on column private.transcript_chunks.is_unintelligible is
'Whether the last try returned no usable answer. The chunk then becomes one turn without text.';
comment on column private.transcript_chunks.turn is
'The number of the turn that represents an unintelligible chunk of a READY transcript.';
comment on column private.transcript_chunks.failed_requests is
'How often the chunk was sent, and possibly paid for, without a usable answer.';
create index transcript_chunks_sound_idx on private.transcript_chunks (sound);
create index transcript_chunks_participant_idx on private.transcript_chunks (participant_id);

create table private.transcript_texts (
    recording_id uuid primary key
    constraint transcript_texts_recording_id_fkey references resguardo.transcripts (recording_id),
    ciphertext bytea not null
    constraint transcript_texts_ciphertext_length check (length(ciphertext) between 29 and 67108864),
    terms bigint[] not null,
    made_at timestamptz not null default private.now()
);
create index transcript_texts_terms_idx on private.transcript_texts using gin (terms) with (fastupdate = off);

create table private.transcript_corrections (
    recording_id uuid not null
    constraint transcript_corrections_recording_id_fkey references private.transcript_texts (recording_id),
    number integer not null constraint transcript_corrections_number_range check (number > 0),
    ciphertext bytea not null
    constraint transcript_corrections_ciphertext_length check (length(ciphertext) between 29 and 131072),
    corrected_by uuid not null
    constraint transcript_corrections_corrected_by_fkey references resguardo.staff (user_id),
    corrected_at timestamptz not null default private.now(),
    constraint transcript_corrections_pkey primary key (recording_id, number)
);
create index transcript_corrections_corrected_by_idx on private.transcript_corrections (corrected_by);

-- When a video becomes READY, adds its transcript, and queues the transcription job if the video may be transcribed.
create function private.await_transcript() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    objection constant text := private.transcription_objection(new.consultation_id);
begin
    insert into resguardo.transcripts (recording_id, consultation_id, doctor_id, patient_id, status)
    values (new.id, new.consultation_id, new.doctor_id, new.patient_id, 'PENDING')
    on conflict do nothing;
    if found and objection is null then
        perform private.put_job('transcribe_recording', new.id);
    elsif found then
        perform private.end_transcription(new.id, 'OFF', objection);
    end if;
    return null;
end
$$;

create trigger recordings_await_transcript after update of status on resguardo.recordings
for each row when (new.status = 'READY' and old.status <> 'READY' and new.medium = 'VIDEO')
execute function private.await_transcript();

create trigger transcripts_announce after insert on resguardo.transcripts
for each row execute function private.announce_change();

-- Notifies clients of a transcription's progress only after each twentieth of its chunks. A notification after each
-- chunk would be too frequent, because each notified client reads the recording again, which writes an audit row.
create trigger transcripts_announce_progress before update on resguardo.transcripts
for each row when (
    (new.status, new.attempt, new.chunks_total, new.is_retried)
    is distinct from (old.status, old.attempt, old.chunks_total, old.is_retried)
    or 20 * new.chunks_done / nullif(new.chunks_total, 0) <> 20 * old.chunks_done / nullif(old.chunks_total, 0)
) execute function private.announce_change();

-- Returns why the recordings of a consultation may not be transcribed now: `switched_off`, or `consent_withdrawn` if
-- the newest statement of anybody who must consent is a withdrawal. If the recordings may be transcribed, the
-- function returns null instead of a reason.
create function private.transcription_objection(of_consultation uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not (select c.is_transcribed from resguardo.consultations as c where c.id = of_consultation) then
        return 'switched_off';
    elsif exists (
        select from resguardo.standing_consents as s
        where s.consultation_id = of_consultation and s.is_required and s.is_withdrawn
    ) then
        return 'consent_withdrawn';
    end if;
    return null;
end
$$;

-- Writes the audit row, and returns the transcript of a recording. To read the transcript, the caller must see the
-- recording under the policies. For every other action, the caller must be the doctor of the recording. The audit row
-- names the recording and the entities in `shown`, which the calling statement has read. The function locks the
-- transcript if the doctor's action changes it. For `transcript.retry` the function writes no audit row if it finds the
-- transcript, because the statement that shows the retried recording writes the row. Returns null if the recording
-- belongs to a different doctor, does not exist or has no transcript, so the caller cannot tell these cases apart.
-- Raises RG409 (recording_deleted).
create function private.find_transcript(
    of_action text, of_recording uuid, shown jsonb, of_fields text[], is_locked boolean
) returns resguardo.transcripts
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    is_own boolean;
    is_deleted boolean;
    wanted resguardo.transcripts;
begin
    select
        case of_action
            when 'transcript.read' then private.sees_consultation(r.doctor_id, r.consultation_id)
            else r.doctor_id = doctor
        end,
        r.status = 'DELETED'
    into is_own, is_deleted
    from resguardo.recordings as r where r.id = of_recording;
    if is_own and is_deleted then
        raise exception 'recording_deleted' using errcode = 'RG409';
    elsif is_own and is_locked then
        select t.* into wanted from resguardo.transcripts as t where t.recording_id = of_recording for update;
    elsif is_own then
        select t.* into wanted from resguardo.transcripts as t where t.recording_id = of_recording;
    end if;
    if of_action <> 'transcript.retry' or wanted.recording_id is null then
        perform private.write_lookup(
            of_action, 'recording', 'recording', of_recording, is_own,
            private.entities_of('recording', array_remove(array[wanted.recording_id], null)) || shown,
            array[wanted.patient_id], array[wanted.consultation_id],
            coalesce(wanted.status = 'READY', false)::integer, of_fields
        );
    end if;
    return wanted;
end
$$;

-- Returns the id and the encrypted transcript text of a recording, the recording's data key, and every correction.
-- private.find_transcript checks the caller's right. The function first writes the audit row, which also names the
-- entities in `shown` and the fields in `of_fields`, which the calling statement reads besides the text. Raises RG409
-- (recording_being_deleted) if the deletion of the recording was requested. The call counts as a page against the
-- caller's quota, and `transcript.ask` as a question.
create function private.open_transcript(of_action text, of_recording uuid, shown jsonb, of_fields text[])
returns table (
    id uuid, ciphertext bytea, wrapped bytea, root_key text, corrections bytea[], corrected_by uuid[],
    corrected_at timestamptz[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.transcripts;
begin
    if of_action is null or of_action not in ('transcript.read', 'transcript.correct', 'transcript.ask') then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    perform private.use_quota(
        private.person(), case when of_action = 'transcript.ask' then 'questions' else 'pages' end
    );
    wanted := private.find_transcript(
        of_action, of_recording, shown, of_fields, is_locked => of_action = 'transcript.correct'
    );
    if wanted.status = 'READY' and private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    return query
    select
        wanted.id, w.ciphertext, k.wrapped_key, k.root_key_id,
        coalesce(c.ciphertext, '{}'), coalesce(c.corrected_by, '{}'), coalesce(c.corrected_at, '{}')
    from private.transcript_texts as w
    inner join private.recording_keys as k on k.recording_id = w.recording_id
    left join lateral (
        select
            array_agg(x.ciphertext order by x.number) as ciphertext,
            array_agg(x.corrected_by order by x.number) as corrected_by,
            array_agg(x.corrected_at order by x.number) as corrected_at
        from private.transcript_corrections as x
        where x.recording_id = w.recording_id
    ) as c on true
    where w.recording_id = wanted.recording_id and wanted.status = 'READY';
end
$$;

-- Adds a correction to a transcript that was opened for correction in this transaction, and returns the author and
-- the time of the correction. Raises RG409 (transcript_changed) if a concurrent correction came first or the
-- transcript is being destroyed.
create function private.correct_transcript(of_recording uuid, of_number integer, correction bytea, new_terms bigint[])
returns table (made_by uuid, made_at timestamptz)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    perform from resguardo.transcripts as t
    where t.recording_id = of_recording and t.doctor_id = doctor and t.status = 'READY' for update;
    if not found or private.is_to_be_destroyed(of_recording) then
        raise exception 'transcript_changed' using errcode = 'RG409';
    end if;
    if of_number <> 1 + (
        select count(*) from private.transcript_corrections as c where c.recording_id = of_recording
    ) then
        raise exception 'transcript_changed' using errcode = 'RG409';
    end if;
    update private.transcript_texts as w set terms = new_terms where w.recording_id = of_recording;
    return query
    insert into private.transcript_corrections (recording_id, number, ciphertext, corrected_by)
    values (of_recording, of_number, correction, doctor)
    returning corrected_by, corrected_at;
end
$$;

-- Retries a FAILED transcription, or an OFF transcription if the recording may be transcribed now. For a READY
-- transcript, the function retries only the unintelligible chunks. Returns false, and writes an audit row, if the
-- recording does not belong to the caller or has no transcript. If the function returns true, the statement that shows
-- the recording writes the audit row.
create function private.retry_transcription(of_recording uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.transcripts :=
        private.find_transcript('transcript.retry', of_recording, '[]', array['transcript'], is_locked => true);
    objection constant text := private.transcription_objection(wanted.consultation_id);
    is_in_part constant boolean := wanted.status = 'READY' and not wanted.is_retried and exists (
        select from private.transcript_chunks as p where p.recording_id = wanted.recording_id
    );
begin
    if wanted.recording_id is null then
        return false;
    end if;
    if private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    if wanted.status not in ('FAILED', 'OFF') and not is_in_part then
        raise exception 'transcription_not_failed' using errcode = 'RG409';
    end if;
    if objection = 'switched_off' then
        raise exception 'transcription_switched_off' using errcode = 'RG409';
    elsif objection = 'consent_withdrawn' then
        raise exception 'transcription_consent_withdrawn' using errcode = 'RG409';
    end if;
    update private.transcript_chunks as p
    set answer = case when not p.is_unintelligible then p.answer end, is_unintelligible = false, failed_requests = 0
    where p.recording_id = of_recording;
    update resguardo.transcripts as t
    set status = case when is_in_part then t.status else 'PENDING' end, is_retried = is_in_part, error = null,
        attempt = t.attempt + 1, status_at = private.now(),
        chunks_done = coalesce(t.chunks_total, 0) - (
            select count(*) from private.transcript_chunks as p where p.recording_id = of_recording and p.answer is null
        )
    where t.recording_id = of_recording;
    perform private.put_job('transcribe_recording', of_recording);
    return true;
end
$$;

-- Sets whether a consultation's recordings are transcribed from now on. Returns false if the consultation does not
-- belong to the caller. The statement that shows the consultation, or finds none, writes the audit row. If the doctor
-- turns transcription off for the consultation, a transcription in progress ends at its next step.
create function private.switch_transcription(of_consultation uuid, is_on boolean) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    update resguardo.consultations as c set transcribe = is_on
    where c.id = of_consultation and c.doctor_id = doctor;
    return found;
end
$$;

-- Deletes the text of a recording's transcript, and returns how many rows it deleted from each table. A worker that
-- writes transcript text locks the transcript's row, so clear_transcript() waits for the worker and then deletes this
-- text, too.
create function private.clear_transcript(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    tables constant text[] := array[
        'questions', 'subtitle_links', 'transcript_corrections', 'transcript_chunks', 'transcript_texts'
    ];
    of_table text;
    rows_cleared bigint;
    cleared jsonb := '[]';
begin
    perform from resguardo.transcripts as t where t.recording_id = of_recording for update;
    foreach of_table in array tables loop
        execute format('delete from private.%I where recording_id = $1', of_table) using of_recording;
        get diagnostics rows_cleared = row_count;
        if rows_cleared > 0 then
            cleared := cleared || jsonb_build_object('table', of_table, 'rows', rows_cleared);
        end if;
    end loop;
    update resguardo.transcripts as t
    set status = 'OFF', error = 'recording_destroyed', is_retried = false, unintelligible_count = 0,
        status_at = private.now()
    where t.recording_id = of_recording and t.error is distinct from 'recording_destroyed';
    return cleared;
end
$$;
