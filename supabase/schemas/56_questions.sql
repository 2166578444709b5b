-- Questions that a doctor asks about a transcript. A question and its answer are in clear only in the API's memory.
-- With an idempotency key, the language model's answer is kept for 24 hours, encrypted with the recording's data key,
-- so that a repeated call is not paid for twice.

create table private.questions (
    id uuid constraint questions_pkey primary key,
    recording_id uuid not null
    constraint questions_recording_id_fkey references resguardo.transcripts (recording_id),
    begun_at timestamptz not null default now(),
    ciphertext bytea
    constraint questions_ciphertext_length check (length(ciphertext) between 29 and 16777216)
);
comment on table private.questions is
'The questions that were asked with an idempotency key, until the key is deleted. The table contains no question.';
comment on column private.questions.begun_at is 'When the newest request to the language service for it began.';
comment on column private.questions.ciphertext is
'The answer of the language model, encrypted; null until there is one.';
create index questions_recording_idx on private.questions (recording_id);

-- Raises an error if the language service may not be asked about the caller's own recording now: RG409
-- (insights_switched_off, insights_consent_withdrawn, insights_consent_text), or RG429 (language_budget_used_up) if
-- the answer uses the budget.
create function private.require_question_allowed(of_recording uuid, uses_budget boolean) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    objection constant text := (
        select private.insights_objection(r.consultation_id) from resguardo.recordings as r
        where r.id = of_recording and r.doctor_id = doctor
    );
begin
    if objection is not null then
        raise exception 'insights_%', objection using errcode = 'RG409';
    elsif uses_budget then
        perform private.require_language_budget();
    end if;
end
$$;

-- Begins a question about the caller's own recording that was asked with an idempotency key. Returns the encrypted
-- answer instead if the question has been answered. Raises RG409 (question_running) if another call with the same key
-- began to ask less than `lease_seconds` ago and has not ended.
create function private.begin_question(of_question uuid, of_recording uuid, lease_seconds integer) returns bytea
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
    answer bytea;
begin
    insert into private.questions as q (id, recording_id)
    select of_question, r.id from resguardo.recordings as r
    where r.id = of_recording and r.doctor_id = doctor
    on conflict (id) do update set begun_at = now()
    where q.recording_id = of_recording and q.ciphertext is null
        and q.begun_at < now() - make_interval(secs => lease_seconds);
    if found then
        return null;
    end if;
    select q.ciphertext into answer from private.questions as q
    where q.id = of_question and q.recording_id = of_recording;
    if answer is null then
        raise exception 'question_running' using errcode = 'RG409';
    end if;
    return answer;
end
$$;

-- Ends a question: counts the tokens of the language service's answer in the ledger of the recording, unless the
-- service reported none, and stores the encrypted answer to a question that was asked with an idempotency key, unless
-- the recording was destroyed meanwhile. Without an answer, the next call with the same key asks again at once.
create function private.end_question(
    of_question uuid, of_recording uuid, answer bytea, of_vendor text, of_model text, input_tokens bigint,
    cached_tokens bigint, output_tokens bigint
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if answer is null then
        delete from private.questions as q where q.id = of_question and q.ciphertext is null;
    else
        update private.questions as q set ciphertext = answer where q.id = of_question and q.ciphertext is null;
    end if;
    if of_vendor is not null then
        perform private.count_tokens(of_recording, of_vendor, of_model, input_tokens, cached_tokens, output_tokens);
    end if;
end
$$;

-- Raises RG409 (recording_being_deleted, recording_deleted) if the answer about the caller's own recording may no
-- longer be shown, because the deletion of the recording began while the language service was asked.
create function private.require_answer_shown(of_recording uuid) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    doctor constant uuid := private.doctor();
begin
    if private.is_to_be_destroyed(of_recording) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    elsif not exists (
        select from resguardo.transcripts as t
        where t.recording_id = of_recording and t.doctor_id = doctor and t.status = 'READY'
    ) then
        raise exception 'recording_deleted' using errcode = 'RG409';
    end if;
end
$$;
