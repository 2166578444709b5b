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
        unit in ('MILLISECONDS', 'BYTES', 'INPUT_TOKENS', 'CACHED_TOKENS', 'OUTPUT_TOKENS')
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
'MILLISECONDS of egress or of transcribed sound, tokens, or BYTES: stored bytes count on the day when the object was
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

-- Returns how many tokens language models used for the doctor on the day (UTC). The extractive writer of this process
-- uses none.
create function private.language_tokens_used(of_doctor uuid, on_day date) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(sum(e.quantity), 0)::bigint from private.cost_entries as e
        where e.doctor_id = of_doctor and e.day = on_day and e.kind = 'LANGUAGE'
            and e.unit in ('INPUT_TOKENS', 'OUTPUT_TOKENS')
    );
end
$$;

-- Returns how many tokens language models may still use for the doctor today (UTC): 0 if the budget is used up, and
-- the largest bigint if an officer lifted the budget for today. Without a stored budget, no request is permitted. A
-- request that begins before the budget is used up may exceed it, because its tokens are known afterwards.
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
    return greatest(
        0,
        coalesce((select b.tokens_per_day from private.language_budget as b), 0)
        - private.language_tokens_used(of_doctor, today)
    );
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
            new.id, 'EGRESS', 'livekit', '', 'MILLISECONDS',
            greatest(0, ceil(1000 * extract(epoch from new.ended_at - coalesce(new.started_at, new.ended_at))))::bigint
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

-- Lifts the budget of a doctor for today (UTC), and queues the jobs that wait for it. Returns the day, the budget, and
-- the tokens that the doctor used today; no row if there is no such doctor. A repeated call changes nothing.
create function private.lift_language_budget(of_doctor uuid)
returns table (day date, tokens_per_day bigint, used_tokens bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    today constant date := private.today();
    is_doctor constant boolean := exists (
        select from resguardo.staff as s where s.user_id = of_doctor and s.role = 'clinician'
    );
begin
    perform private.write_audit(
        'language_budget.lift', case when is_doctor then 'ALLOWED' else 'ABSENT' end, null, 'staff',
        array[of_doctor], '{}', '{}', array['languageBudget'], is_doctor::integer, null
    );
    if not is_doctor then
        return;
    end if;
    insert into private.language_budget_lifts (doctor_id, day, lifted_by)
    values (of_doctor, today, officer)
    on conflict on constraint language_budget_lifts_pkey do nothing;
    perform private.resume_language_work();
    return query select today, b.tokens_per_day, private.language_tokens_used(of_doctor, today)
    from private.language_budget as b;
end
$$;

-- Writes the audit row, and returns what the vendors were used for on the days from `since` to before `until`, by
-- MONTH, DOCTOR or VENDOR (with its models), for compliance. The quantity of STORAGE is in byte days: each stored byte
-- counts once for each day until today on which it was stored. The report names no patient and no recording.
create function private.report_costs(since date, until date, group_by text)
returns table (
    month date, doctor_id uuid, vendor text, model text, kind text, unit text, quantity numeric
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    tomorrow constant date := private.today() + 1;
begin
    perform private.use_quota(private.person(), 'pages');
    perform private.write_audit(
        'cost.report', 'ALLOWED', null, 'cost', '{}', '{}', '{}', array['costReport'], 0, null
    );
    return query
    with windows as materialized (
        select
            case when group_by = 'MONTH' then m.month::date end as month, greatest(m.month::date, since) as begins,
            least((m.month + interval '1 month')::date, until, tomorrow) as ends
        from generate_series(date_trunc('month', since::timestamp), until::timestamp - interval '1 day', '1 month')
            as m (month)
    ),

    daily as materialized (
        select
            e.day, e.kind, e.unit, case when group_by = 'DOCTOR' then e.doctor_id end as doctor_id,
            case when group_by = 'VENDOR' then e.vendor end as vendor,
            case when group_by = 'VENDOR' then e.model end as model, sum(e.quantity) as quantity
        from private.cost_entries as e
        where e.day < until and (e.day >= since or e.kind = 'STORAGE')
        group by 1, 2, 3, 4, 5, 6
    )

    select
        w.month, d.doctor_id, d.vendor, d.model, d.kind, d.unit,
        sum(d.quantity * case when d.kind = 'STORAGE' then w.ends - greatest(d.day, w.begins) else 1 end)
    from windows as w
    inner join daily as d on d.day < w.ends and (d.day >= w.begins or d.kind = 'STORAGE')
    where w.ends > w.begins
    group by w.month, d.doctor_id, d.vendor, d.model, d.kind, d.unit
    having sum(d.quantity * case when d.kind = 'STORAGE' then w.ends - greatest(d.day, w.begins) else 1 end) <> 0;
end
$$;
