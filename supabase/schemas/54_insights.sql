-- Insights into recordings: the progress of the writing, and the text, which is encrypted with the recording's data
-- key. The doctor's own actions are here. 55_insights_writing.sql has the worker's steps.

create table resguardo.insights (
    recording_id uuid primary key
    constraint insights_recording_id_fkey references resguardo.recordings (id),
    id uuid not null default gen_random_uuid() constraint insights_id_key unique,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    status text not null
    constraint insights_status_is_known check (
        status in ('PENDING', 'RUNNING', 'READY', 'STALE', 'NO_SPEECH', 'FAILED', 'OFF')
    ),
    error text constraint insights_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    part_count integer constraint insights_part_count_range check (part_count > 0),
    parts_done integer not null default 0
    constraint insights_parts_done_range check (parts_done between 0 and coalesce(part_count, 0)),
    attempt integer not null default 1 constraint insights_attempt_range check (attempt > 0),
    generation integer not null default 1 constraint insights_generation_range check (generation > 0),
    run integer not null default 0 constraint insights_run_range check (run >= 0),
    corrections_used integer not null default 0
    constraint insights_corrections_used_range check (corrections_used >= 0),
    is_outdated boolean not null default false,
    is_refreshed boolean not null default false,
    language text constraint insights_language_is_code check (language ~ '^[a-z]{2,3}$'),
    vendor text constraint insights_vendor_length check (length(vendor) between 1 and 255),
    model text constraint insights_model_length check (length(model) between 1 and 255),
    dropped_count integer not null default 0 constraint insights_dropped_count_range check (dropped_count >= 0),
    dismissed_count integer not null default 0
    constraint insights_dismissed_count_range check (dismissed_count >= 0),
    written_at timestamptz,
    created_at timestamptz not null default private.now(),
    status_at timestamptz not null default private.now(),
    changed_at timestamptz not null default private.now(),
    constraint insights_people_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint insights_error_says_why check (
        status in ('READY', 'STALE', 'PENDING') or (error is not null) = (status in ('FAILED', 'OFF'))
    ),
    constraint insights_refreshed_is_stale check (status = 'STALE' or not is_refreshed)
);
alter table resguardo.insights enable row level security;
comment on column resguardo.insights.error is
'Why they are FAILED or OFF. PENDING: why the work is held back. STALE: why the last refresh ended without insights.';
comment on column resguardo.insights.part_count is
'The number of parts of the transcript, with one request each. Null until the worker has divided the transcript.';
comment on column resguardo.insights.generation is
'The number of the insights that the worker writes now or wrote last. Each refresh begins a new generation.';
comment on column resguardo.insights.run is
'Counts how often a worker began or resumed. Only the newest worker may send requests to the language service.';
comment on column resguardo.insights.corrections_used is
'How many corrections of the transcript the present generation is based on.';
comment on column resguardo.insights.is_outdated is
'Whether the transcript has changed since the worker divided it for the present generation.';
comment on column resguardo.insights.is_refreshed is
'Whether the worker writes a new generation of STALE insights. The old generation stays readable meanwhile.';
comment on column resguardo.insights.language is
'The language in which the readable generation is written. The columns down to written_at describe that generation.';
comment on column resguardo.insights.dropped_count is
'How many lines of the language model were left out, because their quotes are not in the transcript.';
comment on column resguardo.insights.dismissed_count is 'How many lines the doctor has dismissed as wrong.';
comment on column resguardo.insights.changed_at is 'When subscriptions were last notified of a change.';
create index insights_consultation_idx on resguardo.insights (consultation_id, doctor_id, patient_id);
create index insights_doctor_idx on resguardo.insights (doctor_id, changed_at desc, recording_id desc);
create index insights_patient_idx on resguardo.insights (patient_id);
create index insights_unfinished_idx on resguardo.insights (recording_id)
where status in ('PENDING', 'RUNNING') or is_refreshed;

create table private.insight_answers (
    recording_id uuid not null
    constraint insight_answers_recording_id_fkey references resguardo.insights (recording_id),
    part integer not null constraint insight_answers_part_range check (part >= 0),
    round smallint not null constraint insight_answers_round_range check (round in (0, 1)),
    request_count integer not null default 0
    constraint insight_answers_request_count_range check (request_count >= 0),
    ciphertext bytea
    constraint insight_answers_ciphertext_length check (length(ciphertext) between 29 and 16777216),
    constraint insight_answers_pkey primary key (recording_id, part, round)
);
comment on table private.insight_answers is
'The requests to the language service and its answers, encrypted, until insights are made of them.';
comment on column private.insight_answers.round is
'0 for the first request about a part. 1 for the second, which lists the errors of the first answer.';
comment on column private.insight_answers.request_count is
'How many requests were sent, and possibly paid for. The count is stored before a request is sent.';
comment on column private.insight_answers.ciphertext is 'The answer, encrypted; null until there is one.';

create table private.insight_texts (
    recording_id uuid primary key
    constraint insight_texts_recording_id_fkey references resguardo.insights (recording_id),
    generation integer not null constraint insight_texts_generation_range check (generation > 0),
    ciphertext bytea not null
    constraint insight_texts_ciphertext_length check (length(ciphertext) between 29 and 67108864),
    topics bytea
    constraint insight_texts_topics_length check (length(topics) between 29 and 1048576)
);
comment on column private.insight_texts.topics is
'The names of the topics with the numbers of their lines, encrypted. A list of recordings shows them.';

create table private.insight_dismissals (
    recording_id uuid not null
    constraint insight_dismissals_recording_id_fkey references resguardo.insights (recording_id),
    generation integer not null constraint insight_dismissals_generation_range check (generation > 0),
    line_number integer not null constraint insight_dismissals_line_number_range check (line_number > 0),
    dismissed_by uuid not null
    constraint insight_dismissals_dismissed_by_fkey references resguardo.staff (user_id),
    dismissed_at timestamptz not null default private.now(),
    constraint insight_dismissals_pkey primary key (recording_id, generation, line_number)
);
create index insight_dismissals_dismissed_by_idx on private.insight_dismissals (dismissed_by);

create trigger insights_announce after insert on resguardo.insights
for each row execute function private.announce_change();

create trigger insights_announce_progress before update on resguardo.insights
for each row when (
    (new.status, new.error, new.attempt, new.part_count, new.parts_done, new.is_refreshed, new.dismissed_count)
    is distinct from
    (old.status, old.error, old.attempt, old.part_count, old.parts_done, old.is_refreshed, old.dismissed_count)
) execute function private.announce_change();

-- Writes the audit row, and returns the insights into a recording. To read the insights, the caller must see the
-- recording under the policies. For every other action, the caller must be the doctor of the recording. The audit row
-- names the recording and the entities in `shown`, which the calling statement has read. The function locks the
-- insights if the doctor's action changes them. For `insights.retry` and `insights.refresh` the function writes no
-- audit row if it finds the insights, because the statement that shows the recording writes the row. Returns null if
-- the recording belongs to a different doctor, does not exist or has no insights, so the caller cannot tell these cases
-- apart. Raises RG409 (recording_deleted).
create function private.find_insights(
    of_action text, of_recording uuid, shown jsonb, of_fields text[], is_locked boolean
) returns resguardo.insights
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    is_own boolean;
    is_deleted boolean;
    wanted resguardo.insights;
begin
    select
        case of_action
            when 'insights.read' then private.sees_consultation(r.doctor_id, r.consultation_id)
            else r.doctor_id = doctor
        end,
        r.status = 'DELETED'
    into is_own, is_deleted
    from resguardo.recordings as r where r.id = of_recording;
    if is_own and is_deleted then
        raise exception 'recording_deleted' using errcode = 'RG409';
    elsif is_own and is_locked then
        select i.* into wanted from resguardo.insights as i where i.recording_id = of_recording for update;
    elsif is_own then
        select i.* into wanted from resguardo.insights as i where i.recording_id = of_recording;
    end if;
    if of_action not in ('insights.retry', 'insights.refresh') or wanted.recording_id is null then
        perform private.write_lookup(
            of_action, 'recording', 'recording', of_recording, is_own,
            private.entities_of('recording', array_remove(array[wanted.recording_id], null)) || shown,
            array[wanted.patient_id], array[wanted.consultation_id],
            coalesce(wanted.status in ('READY', 'STALE'), false)::integer, of_fields
        );
    end if;
    return wanted;
end
$$;

-- Returns the encrypted insights into a recording, the recording's data key, and the numbers of the dismissed lines.
-- private.find_insights checks the caller's right. The function first writes the audit row, which also names the
-- entities in `shown` and the fields in `of_fields`, which the calling statement reads besides the text. Returns no row
-- unless the insights are READY or STALE. Raises RG409 (recording_being_deleted) if the deletion of the recording was
-- requested.
create function private.open_insights(of_action text, of_recording uuid, shown jsonb, of_fields text[])
returns table (
    id uuid, status text, generation integer, language text, vendor text, model text, dropped_count integer,
    written_at timestamptz, is_refreshed boolean, ciphertext bytea, wrapped bytea, root_key text, dismissed integer[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.insights;
begin
    if of_action is null or of_action not in ('insights.read', 'insights.dismiss') then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    perform private.use_quota(private.person(), 'pages');
    wanted := private.find_insights(
        of_action, of_recording, shown, of_fields, is_locked => of_action = 'insights.dismiss'
    );
    if wanted.status in ('READY', 'STALE') and private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    return query
    select
        wanted.id, wanted.status, w.generation, wanted.language, wanted.vendor, wanted.model, wanted.dropped_count,
        wanted.written_at, wanted.is_refreshed, w.ciphertext, k.wrapped_key, k.root_key_id,
        array(
            select d.line_number from private.insight_dismissals as d
            where d.recording_id = w.recording_id and d.generation = w.generation order by d.line_number
        )
    from private.insight_texts as w
    inner join private.recording_keys as k on k.recording_id = w.recording_id
    where w.recording_id = wanted.recording_id and wanted.status in ('READY', 'STALE');
end
$$;

-- Dismisses a line of insights that were opened for a dismissal in this transaction. A second dismissal of the same
-- line changes nothing. Raises RG409 (insights_changed) if the caller's recording has no readable insights of this
-- generation, or is being destroyed.
create function private.dismiss_insight(of_recording uuid, of_generation integer, of_line integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    perform from resguardo.insights as i
    inner join private.insight_texts as w on w.recording_id = i.recording_id and w.generation = of_generation
    where i.recording_id = of_recording and i.doctor_id = doctor and i.status in ('READY', 'STALE')
    for update of i;
    if not found or private.is_to_be_destroyed(of_recording) then
        raise exception 'insights_changed' using errcode = 'RG409';
    end if;
    insert into private.insight_dismissals (recording_id, generation, line_number, dismissed_by)
    values (of_recording, of_generation, of_line, doctor)
    on conflict do nothing;
    if found then
        update resguardo.insights as i set dismissed_count = i.dismissed_count + 1
        where i.recording_id = of_recording;
    end if;
end
$$;

-- Raises RG409 if the insights into a recording may not be written now: insights_switched_off,
-- insights_consent_withdrawn, insights_consent_text or recording_being_deleted.
create function private.require_insights_allowed(of_insights resguardo.insights) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    objection constant text := private.insights_objection(of_insights.consultation_id);
begin
    if private.is_to_be_destroyed(of_insights.recording_id) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    elsif objection = 'switched_off' then
        raise exception 'insights_switched_off' using errcode = 'RG409';
    elsif objection = 'consent_withdrawn' then
        raise exception 'insights_consent_withdrawn' using errcode = 'RG409';
    elsif objection = 'consent_text' then
        raise exception 'insights_consent_text' using errcode = 'RG409';
    end if;
end
$$;

-- Begins FAILED insights again, or OFF insights if they may be written now. The answers of the language service that
-- are already stored stay, and are not requested again. Returns false, and writes an audit row, if the recording does
-- not belong to the caller or has no insights. If the function returns true, the statement that shows the recording
-- writes the audit row. Raises RG409 (insights_not_failed) and the errors of `require_insights_allowed`.
create function private.retry_insights(of_recording uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights :=
        private.find_insights('insights.retry', of_recording, '[]', array['insights'], is_locked => true);
begin
    if wanted.recording_id is null then
        return false;
    end if;
    if wanted.status not in ('FAILED', 'OFF') then
        raise exception 'insights_not_failed' using errcode = 'RG409';
    end if;
    perform private.require_insights_allowed(wanted);
    update private.insight_answers as a set request_count = 0
    where a.recording_id = of_recording and a.ciphertext is null;
    update resguardo.insights as i
    set status = 'PENDING', error = null, attempt = i.attempt + 1, status_at = private.now()
    where i.recording_id = of_recording;
    perform private.put_job('write_insights', of_recording);
    return true;
end
$$;

-- Begins a new generation of STALE insights. The old generation stays readable until the new one is READY. A refresh
-- of insights that are being refreshed changes nothing. Returns false, and writes an audit row, if the recording does
-- not belong to the caller or has no insights. If the function returns true, the statement that shows the recording
-- writes the audit row. Raises RG409 (insights_not_stale) and the errors of `require_insights_allowed`.
create function private.refresh_insights(of_recording uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.insights :=
        private.find_insights('insights.refresh', of_recording, '[]', array['insights'], is_locked => true);
begin
    if wanted.recording_id is null or wanted.is_refreshed then
        return wanted.recording_id is not null;
    end if;
    if wanted.status <> 'STALE' then
        raise exception 'insights_not_stale' using errcode = 'RG409';
    end if;
    perform private.require_insights_allowed(wanted);
    delete from private.insight_answers as a where a.recording_id = of_recording;
    update resguardo.insights as i
    set is_refreshed = true, error = null, attempt = i.attempt + 1, generation = i.generation + 1, part_count = null,
        parts_done = 0
    where i.recording_id = of_recording;
    perform private.put_job('write_insights', of_recording);
    return true;
end
$$;

-- Deletes the insights into a recording, and returns how many rows it deleted from each table. A worker that writes
-- text locks the insights' row, so clear_insights() waits for the worker and then deletes this text, too.
create function private.clear_insights(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    tables constant text[] := array['insight_answers', 'insight_dismissals', 'insight_texts'];
    of_table text;
    rows_cleared bigint;
    cleared jsonb := '[]';
begin
    perform from resguardo.insights as i where i.recording_id = of_recording for update;
    foreach of_table in array tables loop
        execute format('delete from private.%I where recording_id = $1', of_table) using of_recording;
        get diagnostics rows_cleared = row_count;
        if rows_cleared > 0 then
            cleared := cleared || jsonb_build_object('table', of_table, 'rows', rows_cleared);
        end if;
    end loop;
    update resguardo.insights as i
    set status = 'OFF', error = 'recording_destroyed', is_refreshed = false, dropped_count = 0, dismissed_count = 0,
        status_at = private.now()
    where i.recording_id = of_recording and i.error is distinct from 'recording_destroyed';
    return cleared;
end
$$;
