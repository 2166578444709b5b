-- Breach assessments (45 CFR 164.402 to 164.414): an officer assesses a possible breach with the four factors of
-- 164.402(2), decides on it, and records the notices and the sanctions that follow.
--
-- The affected patients and recordings come from the audit log: the worker reads the events that a filter selects, or
-- the events of a review case, in pages. A subject of an assessment neither sees nor changes it.

create table resguardo.breach_assessments (
    id uuid primary key default gen_random_uuid(),
    case_id uuid constraint breach_assessments_case_id_fkey references resguardo.review_cases (id),
    subject_id uuid constraint breach_assessments_subject_id_fkey references resguardo.staff (user_id),
    filter private.audit_filter,
    status text not null default 'OPEN'
    constraint breach_assessments_status_is_known check (status in ('OPEN', 'NOTIFYING', 'CLOSED')),
    count_status text not null default 'COUNTING'
    constraint breach_assessments_count_status_is_known check (count_status in ('COUNTING', 'COUNTED', 'FAILED')),
    count_until timestamptz not null default private.now(),
    count_before_at timestamptz,
    count_before_id uuid,
    event_count bigint not null default 0,
    patient_count integer not null default 0,
    recording_count integer not null default 0,
    discovered_on date not null,
    due_on date not null,
    next_due_on date,
    delay_statement text
    constraint breach_assessments_delay_statement_is_known check (delay_statement in ('ORAL', 'WRITTEN')),
    delayed_until date,
    decision text
    constraint breach_assessments_decision_is_known check (
        decision in (
            'BREACH', 'LOW_PROBABILITY', 'UNINTENTIONAL_ACCESS', 'INADVERTENT_DISCLOSURE', 'NOT_RETAINED', 'SECURED'
        )
    ),
    decided_by uuid constraint breach_assessments_decided_by_fkey references resguardo.staff (user_id),
    decided_at timestamptz,
    late_reason text
    constraint breach_assessments_late_reason_is_known check (
        late_reason in ('SCOPE_UNKNOWN', 'EVIDENCE_LATE', 'STAFF_ABSENCE', 'VENDOR_LATE', 'OVERSIGHT')
    ),
    residents jsonb,
    sha256 text constraint breach_assessments_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    document text,
    event_id uuid,
    opened_by uuid not null constraint breach_assessments_opened_by_fkey references resguardo.staff (user_id),
    created_at timestamptz not null default private.now(),
    closed_at timestamptz,
    constraint breach_assessments_scope_is_given check (num_nonnulls(case_id, filter) >= 1),
    constraint breach_assessments_clock_is_of_the_rule check (due_on = discovered_on + 60),
    constraint breach_assessments_delay_is_whole check ((delay_statement is null) = (delayed_until is null)),
    constraint breach_assessments_decision_is_whole check (
        (status = 'OPEN') = (decision is null)
        and num_nonnulls(decision, decided_by, decided_at, sha256, document, event_id) in (0, 6)
    ),
    constraint breach_assessments_notices_are_of_breaches check (status <> 'NOTIFYING' or decision = 'BREACH'),
    constraint breach_assessments_end_is_whole check ((status = 'CLOSED') = (closed_at is not null)),
    constraint breach_assessments_deadline_is_whole check ((status = 'CLOSED') = (next_due_on is null)),
    constraint breach_assessments_decided_by_another check (decided_by <> subject_id)
);
alter table resguardo.breach_assessments enable row level security;
comment on column resguardo.breach_assessments.subject_id is
'The member of staff whose access is assessed. Null if nobody of the staff is suspected.';
comment on column resguardo.breach_assessments.filter is
'The filter of the events of the incident. Null if a review case lists all its events.';
comment on column resguardo.breach_assessments.count_until is
'The assessment covers only events before this time.';
comment on column resguardo.breach_assessments.count_before_at is
'With count_before_id, the oldest event that the worker has read. The worker reads back from count_until.';
comment on column resguardo.breach_assessments.discovered_on is
'The first day in UTC on which anybody but the subject knew of the incident, or should have known (164.404(a)(2)).';
comment on column resguardo.breach_assessments.due_on is
'The last day for the notices, in UTC: 60 days after the discovery (164.404(b)).';
comment on column resguardo.breach_assessments.next_due_on is
'The last day for the next step: the decision, or the next notice. Null if nothing is left to do.';
comment on column resguardo.breach_assessments.delayed_until is
'Law enforcement has asked that no notice is sent before this day (164.412).';
comment on column resguardo.breach_assessments.late_reason is 'Why the decision came after the deadline.';
comment on column resguardo.breach_assessments.residents is
'How many affected patients live in each state or jurisdiction. If null, all may live in the same one.';
comment on column resguardo.breach_assessments.document is
'The decision, as JSON with ids and digests. Its SHA-256 is the digest of the audit event breach.seal.';
create index breach_assessments_created_idx on resguardo.breach_assessments (created_at desc, id desc);
create index breach_assessments_status_idx on resguardo.breach_assessments (status, created_at desc, id desc);
create index breach_assessments_next_due_idx on resguardo.breach_assessments (next_due_on) where status <> 'CLOSED';
create unique index breach_assessments_one_of_case_key on resguardo.breach_assessments (case_id)
where status <> 'CLOSED';
create index breach_assessments_case_idx on resguardo.breach_assessments (case_id);
create index breach_assessments_subject_idx on resguardo.breach_assessments (subject_id);
create index breach_assessments_decided_by_idx on resguardo.breach_assessments (decided_by);
create index breach_assessments_opened_by_idx on resguardo.breach_assessments (opened_by);

create table resguardo.breach_patients (
    assessment_id uuid not null
    constraint breach_patients_assessment_id_fkey references resguardo.breach_assessments (id),
    patient_id uuid not null constraint breach_patients_patient_id_fkey references resguardo.patients (id),
    counted_at timestamptz not null default private.now(),
    constraint breach_patients_pkey primary key (assessment_id, patient_id)
);
alter table resguardo.breach_patients enable row level security;
create index breach_patients_counted_idx
on resguardo.breach_patients (assessment_id, counted_at desc, patient_id desc);
create index breach_patients_patient_idx on resguardo.breach_patients (patient_id);

create table resguardo.breach_recordings (
    assessment_id uuid not null
    constraint breach_recordings_assessment_id_fkey references resguardo.breach_assessments (id),
    recording_id uuid not null constraint breach_recordings_recording_id_fkey references resguardo.recordings (id),
    counted_at timestamptz not null default private.now(),
    constraint breach_recordings_pkey primary key (assessment_id, recording_id)
);
alter table resguardo.breach_recordings enable row level security;
create index breach_recordings_counted_idx
on resguardo.breach_recordings (assessment_id, counted_at desc, recording_id desc);
create index breach_recordings_recording_idx on resguardo.breach_recordings (recording_id);

create table resguardo.breach_factors (
    assessment_id uuid not null
    constraint breach_factors_assessment_id_fkey references resguardo.breach_assessments (id),
    factor text not null
    constraint breach_factors_factor_is_known check (
        factor in ('NATURE_AND_EXTENT', 'UNAUTHORIZED_PERSON', 'ACQUIRED_OR_VIEWED', 'MITIGATION')
    ),
    risk text not null constraint breach_factors_risk_is_known check (risk in ('LOW', 'MEDIUM', 'HIGH')),
    rationale text not null constraint breach_factors_rationale_length check (length(rationale) between 1 and 2000),
    salt bytea not null default uuid_send(gen_random_uuid()),
    recorded_by uuid not null constraint breach_factors_recorded_by_fkey references resguardo.staff (user_id),
    recorded_at timestamptz not null default private.now(),
    constraint breach_factors_pkey primary key (assessment_id, factor)
);
alter table resguardo.breach_factors enable row level security;
comment on table resguardo.breach_factors is 'The four factors of the risk assessment (164.402(2)).';
comment on column resguardo.breach_factors.salt is
'Random bytes in front of the rationale in its digest, so that nobody can guess the rationale from the digest.';
create index breach_factors_recorded_by_idx on resguardo.breach_factors (recorded_by);

create table resguardo.breach_notices (
    id uuid primary key default gen_random_uuid(),
    assessment_id uuid not null
    constraint breach_notices_assessment_id_fkey references resguardo.breach_assessments (id),
    kind text not null,
    method text not null,
    jurisdiction text constraint breach_notices_jurisdiction_is_code check (jurisdiction ~ '^[A-Z]{2}$'),
    sent_on date not null,
    late_reason text
    constraint breach_notices_late_reason_is_known check (
        late_reason in ('SCOPE_UNKNOWN', 'EVIDENCE_LATE', 'STAFF_ABSENCE', 'VENDOR_LATE', 'OVERSIGHT')
    ),
    recorded_by uuid not null constraint breach_notices_recorded_by_fkey references resguardo.staff (user_id),
    recorded_at timestamptz not null default private.now(),
    constraint breach_notices_method_is_of_kind check (
        (kind = 'INDIVIDUALS' and method in ('FIRST_CLASS_MAIL', 'EMAIL'))
        or (kind = 'URGENT' and method in ('TELEPHONE', 'EMAIL'))
        or (kind = 'SUBSTITUTE' and method in ('EMAIL', 'TELEPHONE', 'WEB_SITE', 'PRESS'))
        or (kind = 'SECRETARY' and method = 'HHS_PORTAL')
        or (kind = 'MEDIA' and method = 'PRESS')
    ),
    constraint breach_notices_jurisdiction_is_of_media check (jurisdiction is null or kind = 'MEDIA'),
    constraint breach_notices_once_key unique nulls not distinct (assessment_id, kind, jurisdiction, sent_on, method)
);
alter table resguardo.breach_notices enable row level security;
create index breach_notices_recorded_by_idx on resguardo.breach_notices (recorded_by);

-- Which sanctions the practice's policy permits for each category of violation (164.530(e)).
create table private.sanction_measures (
    category text not null,
    measure text not null,
    constraint sanction_measures_pkey primary key (category, measure)
);

insert into private.sanction_measures (category, measure)
values
('CARELESS', 'COUNSELING'), ('CARELESS', 'TRAINING'), ('CARELESS', 'WRITTEN_WARNING'),
('CURIOUS', 'WRITTEN_WARNING'), ('CURIOUS', 'FINAL_WARNING'), ('CURIOUS', 'SUSPENSION'), ('CURIOUS', 'TERMINATION'),
('MALICIOUS', 'SUSPENSION'), ('MALICIOUS', 'TERMINATION');

create table resguardo.sanctions (
    id uuid primary key default gen_random_uuid(),
    assessment_id uuid constraint sanctions_assessment_id_fkey references resguardo.breach_assessments (id),
    staff_id uuid not null constraint sanctions_staff_id_fkey references resguardo.staff (user_id),
    category text not null,
    measure text not null,
    imposed_on date not null,
    recorded_by uuid not null constraint sanctions_recorded_by_fkey references resguardo.staff (user_id),
    created_at timestamptz not null default private.now(),
    constraint sanctions_measure_is_of_category foreign key (category, measure)
    references private.sanction_measures (category, measure),
    constraint sanctions_recorded_by_another check (recorded_by <> staff_id),
    constraint sanctions_once_key unique nulls not distinct (staff_id, assessment_id, category, measure, imposed_on)
);
alter table resguardo.sanctions enable row level security;
create index sanctions_created_idx on resguardo.sanctions (created_at desc, id desc);
create index sanctions_assessment_idx on resguardo.sanctions (assessment_id);
create index sanctions_recorded_by_idx on resguardo.sanctions (recorded_by);
create index sanctions_measure_idx on resguardo.sanctions (category, measure);

-- Returns the notices that a breach needs, with the last day of each and the day on which it was sent, or null.
-- 164.404: the affected patients. 164.406: the media of each state or jurisdiction in which more than 500 of them live.
-- 164.408: the Secretary of HHS, at the same time if 500 or more are affected, otherwise within 60 days after the end
-- of the year of the discovery. While law enforcement asks for a delay, no notice is due (164.412).
create function private.needed_breach_notices(assessed resguardo.breach_assessments)
returns table (kind text, jurisdiction text, due_on date, sent_on date)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    end_of_year constant date := make_date(extract(year from assessed.discovered_on)::integer, 12, 31);
begin
    return query
    select
        n.kind, n.jurisdiction, greatest(n.due_on, assessed.delayed_until),
        (
            select min(s.sent_on) from resguardo.breach_notices as s
            where s.assessment_id = assessed.id and s.kind = n.kind
                and (n.jurisdiction is null or s.jurisdiction = n.jurisdiction)
        )
    from (
        select 'INDIVIDUALS'::text as kind, null::text as jurisdiction, assessed.due_on
        union all
        select
            'SECRETARY', null,
            case when assessed.patient_count >= 500 then assessed.due_on else end_of_year + 60 end
        union all
        select 'MEDIA', null, assessed.due_on
        where assessed.residents is null and assessed.patient_count > 500
        union all
        select 'MEDIA', r.jurisdiction, assessed.due_on
        from jsonb_to_recordset(assessed.residents) as r (jurisdiction text, count integer)
        where r.count > 500
    ) as n
    where assessed.decision = 'BREACH'
    order by 3, 1, 2;
end
$$;

-- Returns the notices that a breach needs to a compliance officer who is not its subject.
create function private.list_needed_notices(of_assessment uuid)
returns table (kind text, jurisdiction text, due_on date, sent_on date)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    assessed resguardo.breach_assessments;
begin
    select a.* into assessed from resguardo.breach_assessments as a
    where a.id = of_assessment and a.subject_id is distinct from officer;
    return query
    select n.kind, n.jurisdiction, n.due_on, n.sent_on from private.needed_breach_notices(assessed) as n;
end
$$;

-- Stores the last day for the next step of an assessment, and closes a breach with all its notices sent.
create function private.date_breach(of_assessment uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    assessed resguardo.breach_assessments;
    next_day date;
begin
    select a.* into assessed from resguardo.breach_assessments as a where a.id = of_assessment;
    if assessed.status = 'OPEN' then
        next_day := greatest(assessed.due_on, assessed.delayed_until);
    elsif assessed.status = 'NOTIFYING' then
        select min(n.due_on) into next_day from private.needed_breach_notices(assessed) as n where n.sent_on is null;
    end if;
    update resguardo.breach_assessments as a
    set next_due_on = next_day,
        status = case when next_day is null then 'CLOSED' else a.status end,
        closed_at = case when next_day is null then coalesce(a.closed_at, private.now()) end
    where a.id = of_assessment;
end
$$;

-- Locks and returns an assessment for a change by the calling officer. Returns nulls, and writes the audit row, if the
-- assessment does not exist or the officer is its subject.
create function private.lock_breach(of_assessment uuid, of_action text) returns resguardo.breach_assessments
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    wanted resguardo.breach_assessments;
begin
    select a.* into wanted from resguardo.breach_assessments as a where a.id = of_assessment for update;
    if wanted.id is null or wanted.subject_id = officer then
        perform private.write_audit(
            of_action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'breach_assessment',
            array[of_assessment], '{}', '{}', '{}', 0, null
        );
        return null;
    end if;
    return wanted;
end
$$;

-- Opens an assessment, and queues the job that reads the affected patients and recordings from the audit log. The
-- caller has checked the rights of the person.
create function private.insert_breach(
    of_case uuid, wanted private.audit_filter, subject uuid, discovered date, opener uuid
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made uuid;
begin
    insert into resguardo.breach_assessments as a (
        case_id, filter, subject_id, discovered_on, due_on, next_due_on, opened_by
    ) values (of_case, wanted, subject, discovered, discovered + 60, discovered + 60, opener)
    returning a.id into made;
    perform private.put_job('count_breach', made);
    return made;
end
$$;

-- Opens an assessment by hand: of the events that a filter selects. If the filter names one actor of the staff, the
-- actor is the subject, unless the officer names another subject. Returns the id of the assessment, or null if the
-- named subject is no member of staff. Raises RG409 (own_breach_assessment, bad_discovered_on).
create function private.open_breach(wanted private.audit_filter, subject uuid, discovered date) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    made uuid;
begin
    if officer in (subject, (wanted).actor_id) then
        raise exception 'own_breach_assessment' using errcode = 'RG409';
    elsif discovered > private.today() or discovered < private.today() - 2192 then
        raise exception 'bad_discovered_on' using errcode = 'RG409';
    elsif subject is not null and not exists (select from resguardo.staff as s where s.user_id = subject) then
        perform private.write_audit(
            'breach.open', 'ABSENT', 'not_found', 'staff', array[subject], '{}', '{}', '{}', 0, null
        );
        return null;
    end if;
    subject := coalesce(
        subject, (select s.user_id from resguardo.staff as s where s.user_id = (wanted).actor_id)
    );
    made := private.insert_breach(null, wanted, subject, discovered, officer);
    perform private.write_audit_later(
        'breach.open', null, 'breach_assessment', made, null, null, array['breachAssessment'], null
    );
    return made;
end
$$;

-- Opens an assessment of a review case whose disposition is a possible breach, or returns the one that is open. The
-- practice should have known of the incident from the day on which the case was opened. If the case lists all its
-- events, the assessment is of these events; otherwise it is of all that its subject did between the first and the last
-- event of the case. Returns the id, or null if the case does not exist. Raises RG409 (own_breach_assessment).
create function private.open_breach_of_case(of_case uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    about resguardo.review_cases;
    wanted private.audit_filter;
    made uuid;
begin
    select c.* into about from resguardo.review_cases as c where c.id = of_case for update;
    if about.id is null then
        return null;
    elsif about.subject_id = officer then
        raise exception 'own_breach_assessment' using errcode = 'RG409';
    end if;
    select a.id into made from resguardo.breach_assessments as a where a.case_id = of_case and a.status <> 'CLOSED';
    if made is null then
        if about.event_count > about.listed_event_count and about.subject_id is not null then
            wanted.actor_id := about.subject_id;
            wanted.since := about.first_event_at;
            wanted.until := about.last_event_at + interval '1 microsecond';
        else
            wanted := null;
        end if;
        made := private.insert_breach(
            of_case, wanted, about.subject_id, (about.opened_at at time zone 'UTC')::date, officer
        );
        perform private.write_audit(
            'breach.open', 'ALLOWED', null, 'breach_assessment', array[made], '{}', '{}', array['breachAssessment'], 1,
            null
        );
    end if;
    return made;
end
$$;

-- Reads the next page of the events of an incident, at most 1,000, and stores the patients and recordings that they
-- name. Only events with the outcome ALLOWED count, because a refusal shows nothing. Returns false at the end. Two
-- calls at the same time read different pages.
create function private.count_breach(of_assessment uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    page_size constant integer := 1000;
    assessed resguardo.breach_assessments;
    wanted private.audit_filter;
    page audit.events[];
    last_event audit.events;
    new_patients integer;
    new_recordings integer;
begin
    select a.* into assessed from resguardo.breach_assessments as a where a.id = of_assessment for update;
    if assessed.count_status is distinct from 'COUNTING' then
        return false;
    end if;
    if assessed.filter is null then
        page := array(
            select e
            from private.find_events(array(
                select l.id from resguardo.review_case_events as l
                where l.case_id = assessed.case_id
                    and (assessed.count_before_id is null or l.id < assessed.count_before_id)
                order by l.id desc limit page_size
            )) as e
            order by e.id desc
        );
    else
        wanted := assessed.filter;
        wanted.until := least(wanted.until, assessed.count_until);
        wanted.outcomes := array['ALLOWED'];
        page := array(
            select e
            from private.find_audit_events(
                wanted, coalesce(assessed.count_before_at, 'infinity'),
                coalesce(assessed.count_before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'), page_size
            ) as e
            order by e.recorded_at desc, e.id desc
        );
    end if;
    last_event := page[cardinality(page)];
    insert into resguardo.breach_patients as b (assessment_id, patient_id)
    select distinct of_assessment, p.id
    from unnest(page) as e
    cross join lateral unnest(e.patient_ids) as s (id)
    inner join resguardo.patients as p on p.id = s.id
    where e.outcome = 'ALLOWED'
    on conflict do nothing;
    get diagnostics new_patients = row_count;
    insert into resguardo.breach_recordings as b (assessment_id, recording_id)
    select distinct of_assessment, coalesce(r.video_id, r.id)
    from unnest(page) as e
    cross join lateral jsonb_path_query(e.entities, 'lax $[*] ? (@.type == "recording").ids[*]') as s (id)
    inner join resguardo.recordings as r on r.id = (s.id #>> '{}')::uuid
    where e.outcome = 'ALLOWED'
    on conflict do nothing;
    get diagnostics new_recordings = row_count;
    update resguardo.breach_assessments as a
    set event_count = a.event_count + cardinality(page),
        count_before_at = coalesce(last_event.recorded_at, a.count_before_at),
        count_before_id = coalesce(last_event.id, a.count_before_id),
        count_status = case when cardinality(page) < page_size then 'COUNTED' else 'COUNTING' end,
        patient_count = a.patient_count + new_patients, recording_count = a.recording_count + new_recordings
    where a.id = of_assessment;
    if cardinality(page) < page_size then
        perform private.write_audit(
            'breach.count', 'ALLOWED', null, 'breach_assessment', array[of_assessment], '{}', '{}',
            array['patientCount', 'recordingCount'], 1, null
        );
        return false;
    end if;
    return true;
end
$$;

-- Records that the affected patients of an assessment could not be read.
create function private.fail_breach_count(of_assessment uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.breach_assessments as a set count_status = 'FAILED'
    where a.id = of_assessment and a.count_status = 'COUNTING';
end
$$;

-- Reads the events of an incident again, up to now, if the assessment is not decided yet. Patients and recordings that
-- were counted before stay affected. Returns the id, or null. Raises RG409 (breach_decided).
create function private.recount_breach(of_assessment uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    assessed constant resguardo.breach_assessments := private.lock_breach(of_assessment, 'breach.recount');
begin
    if assessed.id is null then
        return null;
    elsif assessed.status <> 'OPEN' then
        raise exception 'breach_decided' using errcode = 'RG409';
    elsif assessed.count_status <> 'COUNTING' then
        update resguardo.breach_assessments as a
        set count_status = 'COUNTING', count_until = private.now(), count_before_at = null, count_before_id = null,
            event_count = 0
        where a.id = of_assessment;
        perform private.put_job('count_breach', of_assessment);
    end if;
    perform private.write_audit_later(
        'breach.recount', null, 'breach_assessment', of_assessment, null, null, array['countStatus'], null
    );
    return of_assessment;
end
$$;

-- Records one of the four factors of an assessment that is not decided yet. A repeated call replaces the factor.
-- Returns the id of the assessment, or null. Raises RG409 (breach_decided).
create function private.record_breach_factor(of_assessment uuid, of_factor text, of_risk text, of_rationale text)
returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    assessed constant resguardo.breach_assessments := private.lock_breach(of_assessment, 'breach.record_factor');
begin
    if assessed.id is null then
        return null;
    elsif assessed.status <> 'OPEN' then
        raise exception 'breach_decided' using errcode = 'RG409';
    end if;
    insert into resguardo.breach_factors as f (assessment_id, factor, risk, rationale, recorded_by)
    values (of_assessment, of_factor, of_risk, of_rationale, private.person())
    on conflict (assessment_id, factor) do update
    set risk = excluded.risk, rationale = excluded.rationale, salt = excluded.salt,
        recorded_by = excluded.recorded_by, recorded_at = excluded.recorded_at
    where (f.risk, f.rationale) <> (excluded.risk, excluded.rationale);
    perform private.write_audit_later(
        'breach.record_factor', null, 'breach_assessment', of_assessment, null, null, array['factors'], null
    );
    return of_assessment;
end
$$;

-- Records that law enforcement has asked for a delay of the notices (164.412): orally for at most 30 days from today,
-- or in writing until the stated day, at most 6 years. Only a written statement prolongs a delay. The delay cannot end
-- earlier than a recorded one, and nothing moves a deadline that has passed. Returns the id, or null. Raises RG409
-- (breach_closed, breach_delay_late, bad_delay).
create function private.delay_breach_notices(of_assessment uuid, statement text, until_day date) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    assessed constant resguardo.breach_assessments := private.lock_breach(of_assessment, 'breach.delay');
    today constant date := private.today();
begin
    if assessed.id is null then
        return null;
    elsif assessed.delay_statement = statement and assessed.delayed_until = until_day then
        null;
    elsif assessed.status = 'CLOSED' then
        raise exception 'breach_closed' using errcode = 'RG409';
    elsif assessed.next_due_on < today then
        raise exception 'breach_delay_late' using errcode = 'RG409';
    elsif until_day <= today or until_day > today + (case statement when 'ORAL' then 30 else 2192 end)
        or until_day < assessed.delayed_until or (statement = 'ORAL' and assessed.delay_statement is not null)
    then
        raise exception 'bad_delay' using errcode = 'RG409';
    else
        update resguardo.breach_assessments as a set delay_statement = statement, delayed_until = until_day
        where a.id = of_assessment;
        perform private.date_breach(of_assessment);
    end if;
    perform private.write_audit_later(
        'breach.delay', null, 'breach_assessment', of_assessment, null, null, array['delayEndsOn'], null
    );
    return of_assessment;
end
$$;

-- Returns the decision of an officer on an assessment, as JSON with ids, counts and digests, and without any rationale.
create function private.breach_document(
    assessed resguardo.breach_assessments, of_decision text, residents_of jsonb, reason text, officer uuid,
    moment timestamptz
) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_object(
        'breach_assessment', assessed.id, 'case', assessed.case_id, 'subject', assessed.subject_id,
        'discovered_on', assessed.discovered_on, 'due_on', assessed.due_on, 'delayed_until', assessed.delayed_until,
        'event_count', assessed.event_count, 'patient_count', assessed.patient_count,
        'recording_count', assessed.recording_count,
        'factors', (
            select coalesce(jsonb_agg(jsonb_build_object(
                'factor', f.factor, 'risk', f.risk, 'recorded_by', f.recorded_by, 'recorded_at', f.recorded_at,
                'rationale_sha256', encode(sha256(f.salt || convert_to(f.rationale, 'UTF8')), 'hex')
            ) order by f.factor), '[]')
            from resguardo.breach_factors as f where f.assessment_id = assessed.id
        ),
        'decision', of_decision, 'residents', residents_of, 'late_reason', reason, 'decided_by', officer,
        'decided_at', moment
    )::text;
end
$$;

-- Decides on an assessment, once, and seals the decision: the audit event breach.seal has the digest of the document of
-- the decision. A breach then needs its notices, and every other decision closes the assessment. A repeated call of the
-- same officer with the same decision changes nothing. Returns the id, or null. After the deadline, a decision must
-- state why it is late. Raises RG409 (breach_decided, breach_not_counted, breach_factors_missing, breach_clock_run_out,
-- breach_residents_differ).
create function private.decide_breach(of_assessment uuid, of_decision text, residents_of jsonb, reason text)
returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    assessed constant resguardo.breach_assessments := private.lock_breach(of_assessment, 'breach.decide');
    is_late constant boolean := assessed.next_due_on < private.today();
    moment constant timestamptz := private.now();
    text_of_document text;
    digest_of_document text;
    sealing_event uuid;
begin
    if assessed.id is null then
        return null;
    elsif assessed.status <> 'OPEN' then
        if assessed.decided_by <> officer or assessed.decision <> of_decision then
            raise exception 'breach_decided' using errcode = 'RG409';
        end if;
        perform private.write_audit_later(
            'breach.decide', null, 'breach_assessment', of_assessment, null, null, array['decision'], null
        );
        return of_assessment;
    elsif assessed.count_status <> 'COUNTED' then
        raise exception 'breach_not_counted' using errcode = 'RG409';
    elsif of_decision = 'LOW_PROBABILITY'
        and (select count(*) from resguardo.breach_factors as f where f.assessment_id = of_assessment) < 4
    then
        raise exception 'breach_factors_missing' using errcode = 'RG409';
    elsif is_late and reason is null then
        raise exception 'breach_clock_run_out' using errcode = 'RG409';
    elsif of_decision = 'BREACH' and (
        select sum(r.count) from jsonb_to_recordset(residents_of) as r (count integer)
    ) <> assessed.patient_count
    then
        raise exception 'breach_residents_differ' using errcode = 'RG409';
    end if;
    residents_of := case of_decision when 'BREACH' then residents_of end;
    reason := case when is_late then reason end;
    text_of_document := private.breach_document(assessed, of_decision, residents_of, reason, officer, moment);
    digest_of_document := encode(sha256(convert_to(text_of_document, 'UTF8')), 'hex');
    sealing_event := private.write_audit_of_entities(
        'breach.seal', 'ALLOWED', null, private.entities_of('breach_assessment', array[of_assessment]), '{}', '{}',
        array['decision', 'factors'], 1, null, digest_of_document
    );
    update resguardo.breach_assessments as a
    set decision = of_decision, decided_by = officer, decided_at = moment, late_reason = reason,
        residents = residents_of, document = text_of_document, sha256 = digest_of_document, event_id = sealing_event,
        status = case of_decision when 'BREACH' then 'NOTIFYING' else 'CLOSED' end,
        next_due_on = case of_decision when 'BREACH' then a.next_due_on end,
        closed_at = case when of_decision <> 'BREACH' then moment end
    where a.id = of_assessment;
    if of_decision = 'BREACH' then
        perform private.date_breach(of_assessment);
    end if;
    perform private.write_audit_later(
        'breach.decide', null, 'breach_assessment', of_assessment, null, null, array['decision'], null
    );
    return of_assessment;
end
$$;

-- Records a notice of a breach that the practice has sent. The last needed notice closes the assessment. A notice that
-- was sent after its deadline must state why it is late. A repeated call records nothing more. Returns the id of the
-- assessment, or null. Raises RG409 (breach_undecided, bad_sent_on, breach_clock_run_out).
create function private.record_breach_notice(
    of_assessment uuid, of_kind text, of_method text, of_jurisdiction text, sent_day date, reason text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    assessed constant resguardo.breach_assessments := private.lock_breach(of_assessment, 'breach.record_notice');
    is_late boolean;
begin
    if assessed.id is null then
        return null;
    elsif assessed.decision is distinct from 'BREACH' then
        raise exception 'breach_undecided' using errcode = 'RG409';
    elsif sent_day < assessed.discovered_on or sent_day > private.today() then
        raise exception 'bad_sent_on' using errcode = 'RG409';
    end if;
    is_late := sent_day > coalesce(
        (
            select min(n.due_on) from private.needed_breach_notices(assessed) as n
            where n.kind = of_kind and (n.jurisdiction is null or n.jurisdiction = of_jurisdiction)
        ),
        greatest(assessed.due_on, assessed.delayed_until)
    );
    if is_late and reason is null then
        raise exception 'breach_clock_run_out' using errcode = 'RG409';
    end if;
    insert into resguardo.breach_notices (
        assessment_id, kind, method, jurisdiction, sent_on, late_reason, recorded_by
    ) values (
        of_assessment, of_kind, of_method, of_jurisdiction, sent_day, case when is_late then reason end, officer
    )
    on conflict do nothing;
    perform private.date_breach(of_assessment);
    perform private.write_audit_later(
        'breach.record_notice', null, 'breach_assessment', of_assessment, null, null, array['notices'], null
    );
    return of_assessment;
end
$$;

-- Records a sanction against a member of staff (164.530(e)). A repeated call returns the recorded sanction. Returns its
-- id, or null if the member or the assessment does not exist. Raises RG409 (own_sanction, sanction_not_of_category,
-- bad_imposed_on).
create function private.record_sanction(
    member uuid, of_assessment uuid, of_category text, of_measure text, imposed_day date
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    made uuid;
begin
    if member = officer then
        raise exception 'own_sanction' using errcode = 'RG409';
    elsif of_assessment is not null and (private.lock_breach(of_assessment, 'sanction.record')).id is null then
        return null;
    elsif not exists (select from resguardo.staff as s where s.user_id = member) then
        perform private.write_audit(
            'sanction.record', 'ABSENT', 'not_found', 'staff', array[member], '{}', '{}', '{}', 0, null
        );
        return null;
    elsif not exists (
        select from private.sanction_measures as m where m.category = of_category and m.measure = of_measure
    ) then
        raise exception 'sanction_not_of_category' using errcode = 'RG409';
    elsif imposed_day > private.today() or imposed_day < private.today() - 2192 then
        raise exception 'bad_imposed_on' using errcode = 'RG409';
    end if;
    insert into resguardo.sanctions (assessment_id, staff_id, category, measure, imposed_on, recorded_by)
    values (of_assessment, member, of_category, of_measure, imposed_day, officer)
    on conflict on constraint sanctions_once_key do nothing;
    select s.id into made from resguardo.sanctions as s
    where s.staff_id = member and s.assessment_id is not distinct from of_assessment and s.category = of_category
        and s.measure = of_measure and s.imposed_on = imposed_day;
    perform private.write_audit_later(
        'sanction.record', null, 'sanction', made, null, null, array['sanction'], null
    );
    return made;
end
$$;

-- Returns the assessments whose next step is due within `days` days, or is overdue, the longest overdue first, at most
-- 1,000.
create function private.due_breaches(days integer) returns table (id uuid, due_on date, is_overdue boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select a.id, a.next_due_on, a.next_due_on < private.today()
    from resguardo.breach_assessments as a
    where a.status <> 'CLOSED' and a.next_due_on <= private.today() + days
    order by a.next_due_on, a.id
    limit 1000;
end
$$;
