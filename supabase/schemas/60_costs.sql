-- The cost ledger: what each recording used of each vendor. The daily budget for language models.
--
-- The ledger and the budget contain no PHI. The ledger keeps the rows of a destroyed recording, because the practice
-- still pays the vendors' bills. A budget bounds requests to a language model alone. No function of recording,
-- storage, transcription, deletion or access requests reads it.

create table private.cost_entries (
    recording_id uuid not null,
    day date not null,
    kind text not null
    constraint cost_entries_kind_is_known check (kind in ('EGRESS', 'STORAGE', 'SPEECH', 'LANGUAGE')),
    vendor text not null constraint cost_entries_vendor_is_short check (length(vendor) between 1 and 253),
    model text not null constraint cost_entries_model_is_short check (length(model) between 0 and 200),
    unit text not null
    constraint cost_entries_unit_is_known check (
        unit in ('SECONDS', 'BYTES', 'INPUT_TOKENS', 'CACHED_TOKENS', 'OUTPUT_TOKENS')
    ),
    doctor_id uuid not null,
    quantity bigint not null
    constraint cost_entries_quantity_is_positive check (quantity >= 0 or kind = 'STORAGE'),
    constraint cost_entries_pkey primary key (recording_id, day, kind, vendor, model, unit),
    constraint cost_entries_recording_fkey foreign key (recording_id) references resguardo.recordings (id)
);
comment on table private.cost_entries is
'What each recording used on each day (UTC), as each vendor reported it. Sound counts for its video.';
comment on column private.cost_entries.model is 'The model that the request named. Empty if the vendor has no models.';
comment on column private.cost_entries.quantity is
'SECONDS of egress or of transcribed sound, tokens, or BYTES: stored bytes count on the day when the object was
verified, and a negative number counts on the day when it was destroyed. CACHED_TOKENS are part of INPUT_TOKENS.';
create index cost_entries_day_idx on private.cost_entries (day, kind);
create index cost_entries_doctor_idx on private.cost_entries (doctor_id, day) where kind = 'LANGUAGE';

create table private.language_budget (
    singleton boolean primary key default true constraint language_budget_is_one_row check (singleton),
    tokens_per_day bigint not null constraint language_budget_is_positive check (tokens_per_day > 0)
);
comment on table private.language_budget is
'How many tokens (input and output) language models may use for one doctor and day. `resguardo migrate` loads
policies/quotas.toml.';

create table private.language_budget_lifts (
    doctor_id uuid not null,
    day date not null,
    lifted_by uuid not null,
    lifted_at timestamptz not null default clock_timestamp(),
    constraint language_budget_lifts_pkey primary key (doctor_id, day)
);
comment on table private.language_budget_lifts is
'The days (UTC) on which a compliance officer lifted a doctor''s budget. No budget bounds these days.';

create table private.held_language_work (
    recording_id uuid not null,
    task text not null,
    doctor_id uuid not null,
    held_at timestamptz not null default clock_timestamp(),
    constraint held_language_work_pkey primary key (recording_id, task),
    constraint held_language_work_recording_fkey foreign key (recording_id) references resguardo.recordings (id),
    constraint held_language_work_task_fkey foreign key (task) references private.tasks (name)
);
comment on table private.held_language_work is
'The jobs that wait until their doctor''s budget permits another request to the language model.';
create index held_language_work_doctor_idx on private.held_language_work (doctor_id);
create index held_language_work_task_idx on private.held_language_work (task);

-- Adds a quantity to the ledger of a recording, in the caller's transaction. The sound recordings beside a video count
-- for the video. Parallel transactions of one recording wait for each other, so the caller calls the function last.
create function private.count_usage(
    of_recording uuid, of_kind text, of_vendor text, of_model text, of_unit text, of_quantity bigint
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.cost_entries as e (recording_id, day, kind, vendor, model, unit, doctor_id, quantity)
    select coalesce(r.video_id, r.id), private.today(), of_kind, of_vendor, coalesce(of_model, ''), of_unit, r.doctor_id,
        of_quantity
    from resguardo.recordings as r
    where r.id = of_recording and of_quantity <> 0
    on conflict (recording_id, day, kind, vendor, model, unit) do update set quantity = e.quantity + excluded.quantity;
end
$$;

-- Adds the tokens of one answer of a language model to the ledger of a recording. Only the worker, and the doctor of
-- the recording, may count. Raises RG404 (consultation_not_found).
create function private.count_tokens(
    of_recording uuid, of_vendor text, of_model text, input_tokens bigint, cached_tokens bigint, output_tokens bigint
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_own_consultation(
        (select r.consultation_id from resguardo.recordings as r where r.id = of_recording)
    );
    if least(input_tokens, cached_tokens, output_tokens) < 0 then
        raise check_violation using constraint = 'cost_entries_quantity_is_positive';
    end if;
    perform private.count_usage(of_recording, 'LANGUAGE', of_vendor, of_model, 'INPUT_TOKENS', input_tokens);
    perform private.count_usage(of_recording, 'LANGUAGE', of_vendor, of_model, 'CACHED_TOKENS', cached_tokens);
    perform private.count_usage(of_recording, 'LANGUAGE', of_vendor, of_model, 'OUTPUT_TOKENS', output_tokens);
end
$$;

-- Returns how many tokens language models may still use for the doctor today (UTC): 0 if the budget is used up, and
-- the largest bigint if an officer lifted the budget for today. Without a stored budget, no request is permitted. The
-- extractive writer of this process uses no budget. A request that begins before the budget is used up may exceed it,
-- because its tokens are known afterwards.
create function private.language_budget_left(of_doctor uuid) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    today constant date := private.today();
begin
    if exists (
        select from private.language_budget_lifts as l where l.doctor_id = of_doctor and l.day = today
    ) then
        return 9223372036854775807;
    end if;
    return greatest(0, coalesce((select b.tokens_per_day from private.language_budget as b), 0) - (
        select coalesce(sum(e.quantity), 0) from private.cost_entries as e
        where e.doctor_id = of_doctor and e.day = today and e.kind = 'LANGUAGE'
            and e.unit in ('INPUT_TOKENS', 'OUTPUT_TOKENS') and e.vendor <> 'resguardo'
    ))::bigint;
end
$$;

-- Raises RG429 (language_budget_used_up) if the budget of the doctor who sends the request is used up; the error's
-- detail is the number of seconds until the next day (UTC).
create function private.require_language_budget() returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if private.language_budget_left(private.doctor()) = 0 then
        raise exception 'language_budget_used_up' using
            errcode = 'RG429',
            detail = ceil(extract(
                epoch from (private.today() + 1)::timestamp at time zone 'UTC' - private.now()
            ))::integer;
    end if;
end
$$;

-- Keeps a job of the recording for the time when its doctor's budget permits another request, in the transaction that
-- ends the present job. `resume_language_work` queues the job again.
create function private.hold_language_work(of_recording uuid, of_task text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.held_language_work (recording_id, task, doctor_id)
    select r.id, of_task, r.doctor_id from resguardo.recordings as r where r.id = of_recording
    on conflict (recording_id, task) do nothing;
end
$$;

-- Queues the held jobs of every doctor whose budget permits another request, and returns their number, at most 1,000.
create function private.resume_language_work() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    resumed integer := 0;
    work record;
begin
    for work in
        select h.recording_id, h.task from private.held_language_work as h
        where h.doctor_id in (
            select d.doctor_id from (select distinct w.doctor_id from private.held_language_work as w) as d
            where private.language_budget_left(d.doctor_id) > 0
        )
        order by h.held_at, h.recording_id, h.task
        limit 1000
        for update skip locked
    loop
        delete from private.held_language_work as h where h.recording_id = work.recording_id and h.task = work.task;
        perform private.put_job(work.task, work.recording_id);
        resumed := resumed + 1;
    end loop;
    return resumed;
end
$$;

-- Counts the egress when LiveKit has reported its end, and the stored bytes of a recording when it becomes READY. When
-- the recording is destroyed, the function counts its bytes as a negative number. An import uses no egress.
create function private.count_recording() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if new.source = 'EGRESS' and old.ended_at is null and new.ended_at is not null then
        perform private.count_usage(
            new.id, 'EGRESS', 'livekit', '', 'SECONDS',
            greatest(0, ceil(extract(epoch from new.ended_at - coalesce(new.started_at, new.ended_at))))::bigint
        );
    end if;
    if new.status = 'READY' and old.status <> 'READY' then
        perform private.count_usage(new.id, 'STORAGE', 'bucket', '', 'BYTES', new.size_bytes);
    elsif new.status = 'DELETED' and old.status = 'READY' then
        perform private.count_usage(new.id, 'STORAGE', 'bucket', '', 'BYTES', -old.size_bytes);
    end if;
    return null;
end
$$;

create trigger recordings_count_usage after update of status, ended_at on resguardo.recordings
for each row when (new.status <> old.status or new.ended_at is distinct from old.ended_at)
execute function private.count_recording();
