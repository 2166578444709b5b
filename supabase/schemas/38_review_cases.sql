-- Review cases: activity in the audit log that an officer must review, and the disposition that the officer records.
--
-- The rules of the review (39_review_rules.sql) and other features open cases with private.open_case(). A case lists at
-- most 1,000 events and 1,000 patients and consultations, and counts the events that it does not list.

create table resguardo.review_cases (
    id uuid primary key default gen_random_uuid(),
    rule text not null constraint review_cases_rule_is_known check (
        rule in (
            'self', 'surname', 'household', 'co_worker', 'no_relationship', 'after_hours', 'volume', 'many_urls',
            'download_without_playback', 'role_change', 'break_glass', 'denied_burst', 'failed_sign_ins',
            'new_second_factor'
        )
    ),
    case_key text not null constraint review_cases_case_key_length check (length(case_key) between 1 and 200),
    subject_id uuid,
    status text not null default 'OPEN' constraint review_cases_status_is_known check (status in ('OPEN', 'DECIDED')),
    event_count bigint not null default 0 constraint review_cases_event_count_is_count check (event_count >= 0),
    listed_event_count integer not null default 0
    constraint review_cases_list_is_bounded check (listed_event_count between 0 and 1000),
    patient_ids uuid[] not null default '{}'
    constraint review_cases_patients_are_bounded check (cardinality(patient_ids) <= 1000),
    consultation_ids uuid[] not null default '{}'
    constraint review_cases_consultations_are_bounded check (cardinality(consultation_ids) <= 1000),
    has_more_patients boolean not null default false,
    first_event_at timestamptz,
    last_event_at timestamptz,
    status_and_rule text not null generated always as (status || ' ' || rule) stored,
    opened_at timestamptz not null default private.now(),
    assigned_to uuid constraint review_cases_assigned_to_fkey references resguardo.staff (user_id),
    disposition text constraint review_cases_disposition_is_known check (
        disposition in ('APPROPRIATE', 'RULE_TOO_WIDE', 'POLICY_VIOLATION', 'POSSIBLE_BREACH')
    ),
    disposition_text text
    constraint review_cases_disposition_text_length check (length(disposition_text) between 1 and 2000),
    decided_by uuid,
    decided_at timestamptz,
    constraint review_cases_decision_is_whole check (
        num_nonnulls(disposition, disposition_text, decided_by, decided_at) = case status when 'OPEN' then 0 else 4 end
    ),
    constraint review_cases_reviewer_is_not_subject check (decided_by <> subject_id and assigned_to <> subject_id)
);
alter table resguardo.review_cases enable row level security;
comment on column resguardo.review_cases.case_key is
'The key by which the rule groups its hits, such as the subject and the day. A rule has at most one OPEN case per key.';
comment on column resguardo.review_cases.subject_id is
'The member of staff whose activity the case is about. Null if the case is not about a member.';
comment on column resguardo.review_cases.event_count is
'How many events the case is about. The first 1,000 of them are in resguardo.review_case_events.';
comment on column resguardo.review_cases.has_more_patients is
'Whether the events concern more patients or consultations than the arrays list.';
comment on column resguardo.review_cases.disposition_text is
'The finding of the officer. Only compliance officers can read it, and each read writes an audit row.';
create unique index review_cases_one_open_key on resguardo.review_cases (rule, case_key) where status = 'OPEN';
create index review_cases_key_idx on resguardo.review_cases (rule, case_key, opened_at desc, id desc);
create index review_cases_opened_idx on resguardo.review_cases (opened_at desc, id desc);
create index review_cases_status_idx on resguardo.review_cases (status, opened_at desc, id desc);
create index review_cases_status_and_rule_idx on resguardo.review_cases (status_and_rule, opened_at desc, id desc);
create index review_cases_rule_idx on resguardo.review_cases (rule, opened_at desc, id desc);
create index review_cases_subject_idx on resguardo.review_cases (subject_id, opened_at desc, id desc);
create index review_cases_assigned_idx on resguardo.review_cases (assigned_to, opened_at desc, id desc);
create index review_cases_open_subject_idx on resguardo.review_cases (subject_id) where status = 'OPEN';

create table resguardo.review_case_events (
    case_id uuid not null
    constraint review_case_events_case_id_fkey references resguardo.review_cases (id),
    id uuid not null,
    recorded_at timestamptz not null,
    constraint review_case_events_pkey primary key (case_id, id)
);
alter table resguardo.review_case_events enable row level security;
comment on column resguardo.review_case_events.id is 'The audit event.';
create index review_case_events_recorded_idx on resguardo.review_case_events (case_id, recorded_at desc, id desc);
create index review_case_events_event_idx on resguardo.review_case_events (id);

-- Returns whether a compliance officer may see and decide a case about a subject: nobody reviews their own activity.
create function private.may_review(officer uuid, subject uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return officer is not null and officer is distinct from subject;
end
$$;

-- Returns at most 1,000 distinct ids of two arrays: first those of `known`, and then those of `more`.
create function private.join_ids(known uuid[], more uuid[]) returns uuid[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select j.id
        from (
            select i.id, min(i.place) as place from unnest(known || more) with ordinality as i (id, place)
            where i.id is not null group by i.id
        ) as j
        order by j.place limit 1000
    );
end
$$;

-- Adds events, patients and consultations to a case, which the caller has locked. An event that the case lists is not
-- added again. If the list of the case is full, the function only counts the further events of `event_ids`, and ignores
-- those of `context_ids`. The function also ignores ids of events that the audit log does not contain.
create function private.add_to_case(
    of_case uuid, more_patients uuid[], more_consultations uuid[], event_ids uuid[], context_ids uuid[]
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    most constant integer := 1000;
    found_case resguardo.review_cases;
    new_ids uuid[];
    first_at timestamptz;
    last_at timestamptz;
    listed integer;
    unlisted integer;
begin
    select c.* into found_case from resguardo.review_cases as c where c.id = of_case;
    new_ids := array(
        select distinct n.id from unnest(event_ids) as n (id)
        where not exists (select from resguardo.review_case_events as l where l.case_id = of_case and l.id = n.id)
    );
    insert into resguardo.review_case_events (case_id, id, recorded_at)
    select of_case, e.id, e.recorded_at
    from (
        select distinct n.id from unnest(new_ids || context_ids) as n (id)
        where not exists (select from resguardo.review_case_events as l where l.case_id = of_case and l.id = n.id)
    ) as n
    cross join lateral (select a.id, a.recorded_at from audit.events as a where a.id = n.id limit 1) as e
    order by e.recorded_at, e.id
    limit most - found_case.listed_event_count;
    get diagnostics listed = row_count;
    select count(*) into unlisted from unnest(new_ids) as n (id)
    where exists (select from audit.events as a where a.id = n.id)
        and not exists (select from resguardo.review_case_events as l where l.case_id = of_case and l.id = n.id);
    select min(e.recorded_at), max(e.recorded_at) into first_at, last_at
    from unnest(new_ids || context_ids) as n (id)
    cross join lateral (select a.recorded_at from audit.events as a where a.id = n.id limit 1) as e;
    update resguardo.review_cases as c
    set event_count = c.event_count + listed + unlisted,
        listed_event_count = c.listed_event_count + listed,
        patient_ids = private.join_ids(c.patient_ids, more_patients),
        consultation_ids = private.join_ids(c.consultation_ids, more_consultations),
        has_more_patients = c.has_more_patients
            or not coalesce(more_patients, '{}') <@ private.join_ids(c.patient_ids, more_patients)
            or not coalesce(more_consultations, '{}') <@ private.join_ids(c.consultation_ids, more_consultations),
        first_event_at = least(c.first_event_at, first_at),
        last_event_at = greatest(c.last_event_at, last_at)
    where c.id = of_case;
end
$$;

-- Opens a case, or adds to the open case with the same rule and key, and returns its id. If the newest case with the
-- rule and key is DECIDED, the function opens a new case for the events that no case with this rule and key lists. If
-- such cases list all the events, the function changes nothing and returns the decided case. `subject` is the member of
-- staff whose activity the case is about, or null. `context_ids` are events that the case lists if it has room, and
-- never counts otherwise.
create function private.open_case_with_context(
    of_rule text, subject uuid, of_patients uuid[], of_consultations uuid[], event_ids uuid[], context_ids uuid[],
    of_key text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    newest resguardo.review_cases;
    new_ids uuid[] := event_ids;
    opened uuid;
begin
    for attempt in 1..10 loop
        select c.* into newest from resguardo.review_cases as c
        where c.rule = of_rule and c.case_key = of_key
        order by (c.status = 'OPEN') desc, c.opened_at desc, c.id desc limit 1 for update;
        if newest.status = 'OPEN' then
            perform private.add_to_case(newest.id, of_patients, of_consultations, event_ids, context_ids);
            return newest.id;
        elsif newest.status = 'DECIDED' then
            new_ids := array(
                select n.id from unnest(event_ids) as n (id)
                where not exists (
                    select from resguardo.review_case_events as l
                    inner join resguardo.review_cases as c on c.id = l.case_id
                    where l.id = n.id and c.rule = of_rule and c.case_key = of_key
                )
            );
            if cardinality(new_ids) = 0 then
                return newest.id;
            end if;
        end if;
        insert into resguardo.review_cases (rule, case_key, subject_id) values (of_rule, of_key, subject)
        on conflict (rule, case_key) where status = 'OPEN' do nothing
        returning id into opened;
        continue when opened is null;  -- another transaction has opened the case
        perform private.add_to_case(opened, of_patients, of_consultations, new_ids, context_ids);
        perform private.write_audit(
            'review_case.open', 'ALLOWED', null, 'review_case', array[opened], '{}', '{}', array['status'], 1, null
        );
        perform private.announce('case.opened', 'review_case', array[opened]);
        return opened;
    end loop;
    raise exception 'concurrent_change' using errcode = 'RG409';
end
$$;

-- Opens a case like private.open_case_with_context(), without context.
create function private.open_case(
    rule text, subject uuid, patient_ids uuid[], consultation_ids uuid[], event_ids uuid[], key text
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return private.open_case_with_context(
        rule, subject, coalesce(patient_ids, '{}'), coalesce(consultation_ids, '{}'), coalesce(event_ids, '{}'), '{}',
        key
    );
end
$$;

-- Returns whether an open case is about an event. A case that does not list all its events is about every event of its
-- subject in the time between its first and its last event.
create function private.is_in_open_case(event_id uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.review_case_events as l
        inner join resguardo.review_cases as c on c.id = l.case_id
        where l.id = is_in_open_case.event_id and c.status = 'OPEN'
    ) or exists (
        select from resguardo.review_cases as c
        inner join audit.events as e on e.actor_id = c.subject_id
        where c.status = 'OPEN' and c.event_count > c.listed_event_count and e.id = is_in_open_case.event_id
            and e.recorded_at between c.first_event_at and c.last_event_at
    );
end
$$;

-- Returns whether an open case is about the activity of a member of staff.
create function private.has_open_case(subject uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.review_cases as c where c.subject_id = has_open_case.subject and c.status = 'OPEN'
    );
end
$$;

-- Locks and returns a case for a change by the calling officer. Returns nulls, and writes the audit row, if the case
-- does not exist or is about the officer's own activity.
create function private.lock_review_case(of_case uuid, of_action text) returns resguardo.review_cases
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_case resguardo.review_cases;
begin
    perform private.person();
    select c.* into found_case from resguardo.review_cases as c where c.id = of_case for update;
    if private.may_review(private.person(), found_case.subject_id) and found_case.id is not null then
        return found_case;
    end if;
    perform private.write_audit(
        of_action, case when found_case.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'review_case',
        array[of_case], '{}', '{}', '{}', 0, null
    );
    return null;
end
$$;

-- Records an officer's disposition of a case, and returns the id of the case. The decision about an emergency access
-- closes its alert. The disposition POSSIBLE_BREACH opens a breach assessment of the case. Returns null if the case
-- does not exist or is about the officer's own activity. If the same officer repeats the call with the same disposition
-- and text, nothing changes. Raises RG409 (review_case_decided).
create function private.record_disposition(of_case uuid, of_disposition text, of_text text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    found_case constant resguardo.review_cases := private.lock_review_case(of_case, 'review_case.decide');
begin
    if found_case.id is null then
        return null;
    elsif found_case.status = 'OPEN' then
        update resguardo.review_cases as c
        set status = 'DECIDED', disposition = of_disposition, disposition_text = of_text, decided_by = person,
            decided_at = private.now()
        where c.id = of_case;
        if of_disposition = 'POSSIBLE_BREACH' then
            perform private.open_breach_of_case(of_case);
        end if;
        if found_case.rule = 'break_glass' then
            perform private.close_alert('EMERGENCY_ACCESS', found_case.case_key);
        end if;
    elsif (found_case.decided_by, found_case.disposition, found_case.disposition_text)
        is distinct from (person, of_disposition, of_text)
    then
        raise exception 'review_case_decided' using errcode = 'RG409';
    end if;
    perform private.write_audit_later(
        'review_case.decide', null, 'review_case', of_case, null, null, array['disposition', 'dispositionText'], null
    );
    return of_case;
end
$$;

-- Assigns an open case to an officer, or to nobody, and returns the id of the case. Returns null if the case does not
-- exist or is about the caller's own activity. Raises RG409 (review_case_decided, reviewer_is_subject,
-- officer_unknown).
create function private.assign_review_case(of_case uuid, officer uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_case constant resguardo.review_cases := private.lock_review_case(of_case, 'review_case.assign');
begin
    if found_case.id is null then
        return null;
    elsif found_case.status <> 'OPEN' then
        raise exception 'review_case_decided' using errcode = 'RG409';
    elsif officer = found_case.subject_id then
        raise exception 'reviewer_is_subject' using errcode = 'RG409';
    elsif officer is not null and not exists (
        select from resguardo.staff as s
        where s.user_id = officer and s.role = 'compliance' and s.status = 'active'
    ) then
        raise exception 'officer_unknown' using errcode = 'RG409';
    end if;
    update resguardo.review_cases as c set assigned_to = officer where c.id = of_case;
    perform private.write_audit_later(
        'review_case.assign', null, 'review_case', of_case, null, null, array['assignedTo'], null
    );
    return of_case;
end
$$;

-- Returns an event of a case to an officer who may see the case. The returned patients and consultations of the event
-- are those among the first 100 patients and the first 100 consultations of the case.
create function private.read_case_event(of_case uuid, of_event uuid, event_recorded_at timestamptz)
returns table (
    occurred_at timestamptz, actor_id uuid, action text, outcome text, reason text, basis text, address text,
    patient_ids uuid[], consultation_ids uuid[]
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
begin
    return query
    select
        e.occurred_at, e.actor_id, e.action, e.outcome, e.reason, e.basis, host(e.address),
        array(select i.id from unnest(c.patient_ids[:100]) as i (id) where i.id = any(e.patient_ids)),
        array(select i.id from unnest(c.consultation_ids[:100]) as i (id) where i.id = any(e.consultation_ids))
    from resguardo.review_cases as c
    inner join resguardo.review_case_events as l on l.case_id = c.id
    inner join audit.events as e on e.id = l.id and e.recorded_at = l.recorded_at
    where c.id = of_case and l.id = of_event and e.recorded_at = event_recorded_at
        and private.may_review(person, c.subject_id);
end
$$;
