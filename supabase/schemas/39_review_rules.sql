-- The rules of the review (policies/review.toml): their versions, the related ids that the practice imports, and the
-- evaluation of the rules over the audit log.
--
-- The evaluation reads the leaves of the audit log in the order in which they were sealed. An event that was committed
-- late is sealed late, so the evaluation reads each event exactly once, whatever its time is. One transaction reads a
-- batch, opens the cases and advances the position, so a batch takes effect entirely or not at all.

create table resguardo.review_policies (
    id integer generated always as identity constraint review_policies_pkey primary key,
    name text not null constraint review_policies_name_key unique
    constraint review_policies_name_is_plain check (name ~ '^[0-9A-Za-z][0-9A-Za-z ._-]{0,63}$'),
    sha256 text not null constraint review_policies_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    status text not null default 'PROPOSED'
    constraint review_policies_status_is_known check (status in ('PROPOSED', 'ACTIVE', 'SUPERSEDED', 'REJECTED')),
    source text not null,
    rules jsonb not null,
    proposed_at timestamptz not null default private.now(),
    activated_at timestamptz,
    constraint review_policies_activation_is_whole check (
        (status in ('ACTIVE', 'SUPERSEDED')) = (activated_at is not null)
    )
);
alter table resguardo.review_policies enable row level security;
comment on table resguardo.review_policies is
'Versions of policies/review.toml. Two officers must approve each version, because a rule may match an officer.';
create unique index review_policies_one_active_key on resguardo.review_policies (status) where status = 'ACTIVE';

create table private.review_approvals (
    policy_id integer not null
    constraint review_approvals_policy_id_fkey references resguardo.review_policies (id),
    officer_id uuid not null,
    approved_at timestamptz not null default private.now(),
    constraint review_approvals_pkey primary key (policy_id, officer_id)
);

create table private.review_positions (
    log_year smallint not null constraint review_positions_pkey primary key,
    next_index bigint not null default 0
);
comment on table private.review_positions is
'For each year of the audit log, the next leaf that the review reads. A row is locked while its year is evaluated.';

create table private.review_days (
    actor_id uuid not null,
    day date not null,
    patient_count integer not null,
    constraint review_days_pkey primary key (actor_id, day)
);
comment on table private.review_days is
'How many patients each member of staff accessed on each day, for the baseline of the rule about volume.';

create table private.review_counts (
    rule text not null,
    day date not null,
    matched bigint not null,
    constraint review_counts_pkey primary key (day, rule)
);
comment on table private.review_counts is
'How many events each rule matched on each day of evaluation. The rule "all" counts the evaluated events.';

create table private.related_pairs (
    staff_id uuid not null constraint related_pairs_staff_id_fkey references resguardo.staff (user_id),
    patient_id uuid not null constraint related_pairs_patient_id_fkey references resguardo.patients (id),
    relation text not null constraint related_pairs_relation_is_known check (
        relation in ('SELF', 'SURNAME', 'HOUSEHOLD', 'CO_WORKER')
    ),
    constraint related_pairs_pkey primary key (staff_id, patient_id, relation)
);
comment on table private.related_pairs is
'Members of staff and patients who are related. The practice imports the pairs: Resguardo stores no names of patients.';
create index related_pairs_patient_idx on private.related_pairs (patient_id, relation);

create table private.related_imports (
    relation text primary key constraint related_imports_relation_is_known check (
        relation in ('SELF', 'SURNAME', 'HOUSEHOLD', 'CO_WORKER')
    ),
    pair_count integer not null,
    imported_at timestamptz not null default private.now()
);
comment on table private.related_imports is
'The imported relations, with or without pairs. A rule that needs a relation is not evaluated before its import.';

create type private.review_hit as (
    actor_id uuid, event_id uuid, happened_at timestamptz, patient_ids uuid[], consultation_ids uuid[], -- noqa: LT01
    is_context boolean
);

-- Returns the time of an event: the time that the reporting service gave, or the time of the record if the service gave
-- none or an implausible one.
create function private.event_time(event audit.events) returns timestamptz
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when event.occurred_at between event.recorded_at - interval '30 days' and event.recorded_at + interval '1 hour'
            then event.occurred_at
        else event.recorded_at
    end;
end
$$;

-- Returns whether a member of staff accessed patients' data. Work with review cases and with the audit log does not
-- count.
create function private.is_patient_access(event audit.events) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return event.outcome = 'ALLOWED' and event.actor_id is not null and event.actor_role in ('clinician', 'compliance')
        and event.patient_ids <> '{}' and event.action not like 'review\_case.%' and event.action not like 'audit.%';
end
$$;

-- Returns whether an event counts for a rule about many events in a short time.
create function private.counts_in_burst(of_rule text, event audit.events) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return event.actor_id is not null and case of_rule
        when 'many_urls' then event.outcome = 'ALLOWED' and event.action in (
            'recording.issue_url', 'recording.play', 'transcript.issue_url', 'access_request.issue_url',
            'audit.export_url'
        )
        when 'denied_burst' then event.outcome in ('DENIED', 'ABSENT')
            and event.action not in ('sign_in.attempt', 'second_factor.verify')
        when 'failed_sign_ins' then event.outcome = 'DENIED'
            and event.action in ('sign_in.attempt', 'second_factor.verify')
        else false
    end;
end
$$;

create function private.to_hit(event audit.events, is_context boolean) returns private.review_hit
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return row(
        event.actor_id, event.id, private.event_time(event), event.patient_ids, event.consultation_ids, is_context
    )::private.review_hit;
end
$$;

-- Returns the hits of a rule about at least `count` events of one person within `minutes` minutes. For each person and
-- day with a new event, the function reads all events around the new event, whether they are in the batch or not. At
-- most 1,000 events outside the batch are context.
create function private.find_bursts(of_rule text, settings jsonb, batch audit.events[]) returns setof private.review_hit
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    least_count constant integer := (settings ->> 'count')::integer;
    span constant interval := (settings ->> 'minutes')::integer * interval '1 minute';
    copied_within constant interval := case of_rule when 'failed_sign_ins' then interval '1 day' else '0' end;
    ids constant uuid[] := array(select b.id from unnest(batch) as b);
    touched record;
begin
    for touched in
        select
            b.actor_id, least(min(private.event_time(b)), min(b.recorded_at)) as first_at,
            greatest(max(private.event_time(b)), max(b.recorded_at)) as last_at
        from unnest(batch) as b
        where private.counts_in_burst(of_rule, b)
        group by b.actor_id, date_trunc('day', private.event_time(b), 'UTC')
    loop
        return query
        select (private.to_hit(w.event, w.event_id <> all(ids))).*
        from (
            select
                c.event, c.event_id, max(c.counted) over (
                    order by c.happened_at range between current row and span following
                ) as highest
            from (
                select
                    f.event, (f.event).id as event_id, private.event_time(f.event) as happened_at,
                    count(*) over (
                        order by private.event_time(f.event) range between span preceding and current row
                    ) as counted
                from (
                    select e as event from audit.events as e
                    where e.actor_id = touched.actor_id
                        and e.recorded_at between touched.first_at - span and touched.last_at + span + copied_within
                        and private.counts_in_burst(of_rule, e)
                    order by e.recorded_at limit 10000
                ) as f
            ) as c
        ) as w
        where w.highest >= least_count;
    end loop;
end
$$;

-- Returns the hits of the rule about volume: a person accessed at least `minimum` patients in a day, and at least
-- `factor` times the person's average. The average is over those of the `baseline_days` days before on which the person
-- accessed a patient. The first 100 earlier events of the day are context.
create function private.find_volume(settings jsonb, zone text, batch audit.events[]) returns setof private.review_hit
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ids constant uuid[] := array(select b.id from unnest(batch) as b);
    touched record;
    counted integer;
    usual numeric;
begin
    for touched in
        select b.actor_id, (b.recorded_at at time zone zone)::date as day
        from unnest(batch) as b where private.is_patient_access(b)
        group by 1, 2 order by 1, 2
    loop
        select count(distinct p.id) into counted
        from (
            select e as event from audit.events as e
            where e.actor_id = touched.actor_id
                and e.recorded_at >= touched.day::timestamp at time zone zone
                and e.recorded_at < (touched.day + 1)::timestamp at time zone zone
                and private.is_patient_access(e)
            order by e.recorded_at limit 20000
        ) as e
        cross join lateral unnest((e.event).patient_ids) as p (id);
        insert into private.review_days as d (actor_id, day, patient_count)
        values (touched.actor_id, touched.day, counted)
        on conflict (actor_id, day) do update set patient_count = excluded.patient_count;
        usual := (
            select avg(d.patient_count) from private.review_days as d
            where d.actor_id = touched.actor_id and d.day < touched.day
                and d.day >= touched.day - (settings ->> 'baseline_days')::integer
        );
        continue when counted < (settings ->> 'minimum')::integer
            or counted < coalesce(usual, 0) * (settings ->> 'factor')::numeric;
        return query
        select (private.to_hit(e, false)).*
        from unnest(batch) as e
        where private.is_patient_access(e) and e.actor_id = touched.actor_id
            and (e.recorded_at at time zone zone)::date = touched.day;
        return query
        select (private.to_hit(e.event, true)).*
        from (
            select a as event from audit.events as a
            where a.actor_id = touched.actor_id
                and a.recorded_at >= touched.day::timestamp at time zone zone
                and a.recorded_at < (touched.day + 1)::timestamp at time zone zone
                and private.is_patient_access(a) and a.id <> all(ids)
            order by a.recorded_at limit 100
        ) as e;
    end loop;
end
$$;

-- Returns the hits of a rule about the activity of a person soon after a change: access to patients' data after a
-- change of the role, or a download after the enrolment of a second factor. The change can be read before or after the
-- events that follow it, because it can be committed late. The function reads at most 1,000 earlier events for each
-- change.
create function private.find_after_change(of_rule text, settings jsonb, batch audit.events[])
returns setof private.review_hit
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    span constant interval := coalesce(
        (settings ->> 'days')::integer * interval '1 day', (settings ->> 'hours')::integer * interval '1 hour'
    );
    changes constant text[] := case of_rule
        when 'role_change' then array['staff.map', 'staff.reinstate'] else array['second_factor.enrol']
    end;
    first_at constant timestamptz := (select min(private.event_time(b)) from unnest(batch) as b);
    last_at constant timestamptz := (select max(b.recorded_at) from unnest(batch) as b);
begin
    return query
    with changed as materialized (
        select
            coalesce((e.entities #>> '{0,ids,0}')::uuid, e.actor_id) as member, private.event_time(e) as changed_at,
            e.id = any(array(select b.id from unnest(batch) as b)) as is_new
        from audit.events as e
        where e.action = any(changes) and e.outcome = 'ALLOWED'
            and e.recorded_at between first_at - span and last_at + interval '1 day'
            and (of_rule <> 'role_change' or e.action = 'staff.reinstate' or e.reason like 'change\_%')
        order by e.recorded_at limit 5000
    )
    select (private.to_hit(b, false)).*
    from unnest(batch) as b
    where exists (
        select from changed as c
        where c.member = b.actor_id and private.event_time(b) between c.changed_at and c.changed_at + span
    ) and case of_rule
        when 'role_change' then private.is_patient_access(b)
        else b.outcome = 'ALLOWED' and b.action in ('recording.issue_url', 'audit.export_url')
    end
    union
    select (private.to_hit(e.event, false)).*
    from changed as c
    cross join lateral (
        select a as event from audit.events as a
        where c.is_new and a.actor_id = c.member and a.recorded_at between c.changed_at and c.changed_at + span
            and case of_rule
                when 'role_change' then private.is_patient_access(a)
                else a.outcome = 'ALLOWED' and a.action in ('recording.issue_url', 'audit.export_url')
            end
        order by a.recorded_at limit 1000
    ) as e;
end
$$;

-- Returns the hits of a rule about single events. A hit names only the patients to whom the rule applies.
create function private.find_single_hits(of_rule text, settings jsonb, zone text, batch audit.events[])
returns setof private.review_hit
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    event audit.events;
    patients uuid[];
    of_day time;
    opens constant time := (settings ->> 'opens_at')::time;
    closes constant time := (settings ->> 'closes_at')::time;
begin
    foreach event in array batch loop
        continue when event.actor_id is null or event.action like 'review\_case.%' or event.action like 'audit.%';
        patients := null;
        case of_rule
            when 'after_hours' then
                of_day := (event.recorded_at at time zone zone)::time;
                if private.is_patient_access(event) and not (
                    settings -> 'days' @> to_jsonb(extract(isodow from event.recorded_at at time zone zone)::integer)
                    and case
                        when opens <= closes then of_day >= opens and of_day < closes
                        else of_day >= opens or of_day < closes
                    end
                ) then
                    patients := event.patient_ids;
                end if;
            when 'break_glass' then
                if event.basis = 'emergency' then
                    patients := event.patient_ids;
                end if;
            when 'no_relationship' then
                if event.actor_role = 'clinician' and event.outcome in ('ALLOWED', 'DENIED')
                    and event.basis not in ('shared', 'emergency')
                then
                    patients := array(
                        select p.id from unnest(event.patient_ids) as p (id)
                        where not exists (
                            select from resguardo.consultations as c
                            where c.doctor_id = event.actor_id and c.patient_id = p.id
                        )
                    );
                end if;
            when 'download_without_playback' then
                if event.action = 'recording.issue_url' and event.outcome = 'ALLOWED' and not exists (
                    select from private.find_audit_events(
                        row(
                            event.actor_id, 'recording.play', array['ALLOWED'], null, null, null,
                            (event.entities #>> '{0,ids,0}')::uuid, null, null,
                            event.recorded_at - (settings ->> 'days')::integer * interval '1 day',
                            event.recorded_at + interval '1 microsecond'
                        )::private.audit_filter, null, null, 1
                    )
                ) then
                    patients := event.patient_ids;
                end if;
            else
                if event.outcome in ('ALLOWED', 'DENIED') and event.actor_role in ('clinician', 'compliance') then
                    patients := array(
                        select p.id from unnest(event.patient_ids) as p (id)
                        where exists (
                            select from private.related_pairs as r
                            where r.patient_id = p.id and case
                                when of_rule = 'co_worker' and r.relation = 'SELF' then r.staff_id <> event.actor_id
                                else r.staff_id = event.actor_id and r.relation = upper(of_rule)
                            end
                        )
                    );
                end if;
        end case;
        if cardinality(patients) > 0 then
            return next row(
                event.actor_id, event.id, private.event_time(event), patients, event.consultation_ids, false
            )::private.review_hit;
        end if;
    end loop;
end
$$;

-- Returns why a rule cannot be evaluated, or null: the rules about related people need the practice's imports.
create function private.why_not_evaluated(of_rule text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when of_rule in ('self', 'surname', 'household', 'co_worker') and not exists (
            select from private.related_imports as i
            where i.relation = upper(of_rule) or (of_rule = 'co_worker' and i.relation = 'SELF')
        ) then 'pairs_not_imported'
    end;
end
$$;

-- Opens the cases of the hits of a rule: one for each person and day. Hits about the use of an emergency access are
-- added to the case that the start of the emergency access opened. If the person is not a member of staff, the case has
-- no subject.
create function private.open_cases_of(of_rule text, zone text, hits private.review_hit[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found record;
    key text;
begin
    for found in
        select
            h.actor_id, (h.happened_at at time zone zone)::date as day, min(h.happened_at) as first_at,
            coalesce(array_agg(distinct h.event_id) filter (where not h.is_context), '{}') as event_ids,
            coalesce(array_agg(distinct h.event_id) filter (where h.is_context), '{}') as context_ids,
            array_agg(h) as members
        from unnest(hits) as h
        group by 1, 2
        having bool_or(not h.is_context)
        order by 1, 2
    loop
        key := case of_rule when 'break_glass' then (
            select c.case_key from resguardo.review_cases as c
            where c.rule = of_rule and c.subject_id = found.actor_id
                and c.opened_at between found.first_at - interval '2 hours' and found.first_at + interval '5 minutes'
            order by c.opened_at desc, c.id desc limit 1
        ) end;
        perform private.open_case_with_context(
            of_rule, (select s.user_id from resguardo.staff as s where s.user_id = found.actor_id),
            array(
                select distinct p.id from unnest(found.members) as m cross join lateral unnest(m.patient_ids) as p (id)
                limit 1001
            ),
            array(
                select distinct p.id
                from unnest(found.members) as m
                cross join lateral unnest(m.consultation_ids) as p (id)
                limit 1001
            ),
            found.event_ids, found.context_ids, coalesce(key, found.actor_id || '|' || found.day)
        );
    end loop;
end
$$;

-- Evaluates all enabled rules for a batch of events, and counts what they matched.
create function private.evaluate_rules(policy jsonb, batch audit.events[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    zone constant text := policy ->> 'time_zone';
    rule record;
    hits private.review_hit[];
begin
    for rule in
        select r.key as name, r.value as settings from jsonb_each(policy -> 'rules') as r
        where (r.value ->> 'enabled')::boolean and private.why_not_evaluated(r.key) is null
        order by r.key
    loop
        hits := case
            when rule.name in ('many_urls', 'denied_burst', 'failed_sign_ins')
                then array(select h from private.find_bursts(rule.name, rule.settings, batch) as h)
            when rule.name = 'volume' then array(select h from private.find_volume(rule.settings, zone, batch) as h)
            when rule.name in ('role_change', 'new_second_factor')
                then array(select h from private.find_after_change(rule.name, rule.settings, batch) as h)
            else array(select h from private.find_single_hits(rule.name, rule.settings, zone, batch) as h)
        end;
        perform private.open_cases_of(rule.name, zone, hits);
        perform private.count_review(
            rule.name, (select count(distinct h.event_id) from unnest(hits) as h where not h.is_context)
        );
    end loop;
    perform private.count_review('all', cardinality(batch));
end
$$;

create function private.count_review(of_rule text, more bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.review_counts as n (rule, day, matched) values (of_rule, private.today(), more)
    on conflict (day, rule) do update set matched = n.matched + excluded.matched;
end
$$;

-- Evaluates the rules for the next sealed events of the audit log, at most `at_most` of one year, and returns how many
-- leaves it read. Returns 0 if there are none or no rules are in force. Only one call evaluates a year at a time.
create function private.review_audit_log(at_most integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    policy jsonb;
    log record;
    batch audit.events[];
    reached bigint;
begin
    select p.rules into policy from resguardo.review_policies as p where p.status = 'ACTIVE';
    if policy is null then
        return 0;
    end if;
    insert into private.review_positions (log_year) select l.log_year from audit.logs as l on conflict do nothing;
    for log in
        select l.log_year, l.size from audit.logs as l
        inner join private.review_positions as p on p.log_year = l.log_year and p.next_index < l.size
        order by l.log_year
    loop
        select p.next_index into reached from private.review_positions as p where p.log_year = log.log_year for update;
        continue when reached >= log.size;
        batch := array(
            select e.event
            from (
                select f.event_id, f.recorded_at from audit.leaves as f
                where f.log_year = log.log_year and f.index >= reached
                    and f.index < least(log.size, reached + at_most)
                order by f.index
            ) as f
            cross join lateral (
                select a as event from audit.events as a
                where a.id = f.event_id and a.recorded_at = f.recorded_at limit 1
            ) as e
        );
        perform private.evaluate_rules(policy, batch);
        at_most := least(log.size, reached + at_most) - reached;
        update private.review_positions as p set next_index = reached + at_most where p.log_year = log.log_year;
        return at_most;
    end loop;
    return 0;
end
$$;

-- Returns, for each rule of the policy in force, whether it is evaluated, and how many events it matched in the last 30
-- days of the evaluated events. A rule that matches more than half of at least 1,000 events matches too much.
create function private.read_review_rules()
returns table (
    rule text, status text, settings jsonb, matched_count bigint, evaluated_count bigint, matches_too_much boolean,
    policy_id integer
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    since constant date := current_date - 30;
    evaluated constant bigint := coalesce(
        (select sum(n.matched) from private.review_counts as n where n.rule = 'all' and n.day >= since), 0
    );
begin
    perform private.person();
    return query
    select
        r.key,
        case
            when not (r.value ->> 'enabled')::boolean then 'OFF'
            when private.why_not_evaluated(r.key) is not null then 'NOT_EVALUATED'
            else 'EVALUATED'
        end,
        r.value, m.matched, evaluated, evaluated >= 1000 and m.matched > evaluated / 2, p.id
    from resguardo.review_policies as p
    cross join lateral jsonb_each(p.rules -> 'rules') as r
    cross join lateral (
        select coalesce(sum(n.matched), 0)::bigint as matched
        from private.review_counts as n where n.rule = r.key and n.day >= since
    ) as m
    where p.status = 'ACTIVE'
    order by r.key;
end
$$;

-- Returns the version of the rules in force and the proposed versions, at most 20, with the officers who approved them.
create function private.read_review_policies(only_policy integer)
returns table (
    id integer, name text, status text, sha256 text, source text, proposed_at timestamptz, activated_at timestamptz,
    approved_by uuid[]
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.person();
    return query
    select
        p.id, p.name, p.status, p.sha256, p.source, p.proposed_at, p.activated_at,
        array(
            select a.officer_id from private.review_approvals as a
            where a.policy_id = p.id order by a.approved_at, a.officer_id
        )
    from resguardo.review_policies as p
    where p.id = only_policy or (only_policy is null and p.status in ('ACTIVE', 'PROPOSED'))
    order by p.id desc limit 20;
end
$$;

-- Replaces the pairs of the given relations by the given pairs, and returns how many there are. An id that is unknown
-- raises RG404 (pair_unknown). Only the owner of the database can call import_related_pairs().
create function private.import_related_pairs(
    relations text[], staff_ids uuid[], patient_external_ids text[], pair_relations text[]
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    imported integer;
begin
    lock table private.related_pairs, private.related_imports in share row exclusive mode;
    if exists (
        select from unnest(staff_ids, patient_external_ids, pair_relations) as n (staff_id, external_id, relation)
        where n.relation <> all(relations)
            or not exists (select from resguardo.staff as s where s.user_id = n.staff_id)
            or not exists (select from resguardo.patients as p where p.external_id = n.external_id)
    ) then
        raise exception 'pair_unknown' using errcode = 'RG404';
    end if;
    delete from private.related_pairs as r where r.relation = any(relations);
    insert into private.related_pairs (staff_id, patient_id, relation)
    select distinct n.staff_id, p.id, n.relation
    from unnest(staff_ids, patient_external_ids, pair_relations) as n (staff_id, external_id, relation)
    inner join resguardo.patients as p on p.external_id = n.external_id;
    get diagnostics imported = row_count;
    insert into private.related_imports (relation, pair_count)
    select w.relation, (select count(*) from private.related_pairs as r where r.relation = w.relation)
    from unnest(relations) as w (relation)
    on conflict (relation) do update set pair_count = excluded.pair_count, imported_at = private.now();
    perform private.write_audit(
        'review_rule.import_pairs', 'ALLOWED', null, 'review_policy', '{}', '{}', '{}', '{}', imported, null
    );
    return imported;
end
$$;

-- Stores a version of the rules, on which two compliance officers then decide, and returns its id. Only the owner of
-- the database can call propose_review_policy(). Raises RG409 (review_policies_name_key).
create function private.propose_review_policy(of_name text, of_sha256 text, of_source text, of_rules jsonb)
returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made integer;
begin
    insert into resguardo.review_policies (name, sha256, source, rules)
    values (of_name, of_sha256, of_source, of_rules)
    returning id into made;
    perform private.write_audit(
        'review_rule.propose', 'ALLOWED', 'policy_' || made, 'review_policy', '{}', '{}', '{}', '{}', 1, null
    );
    return made;
end
$$;

-- Puts a version of the rules into force and ends the previous version.
create function private.activate_review_policy(of_policy integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.review_policies as p set status = 'SUPERSEDED' where p.status = 'ACTIVE';
    update resguardo.review_policies as p set status = 'ACTIVE', activated_at = private.now() where p.id = of_policy;
    perform private.write_audit(
        'review_rule.activate', 'ALLOWED', 'policy_' || of_policy, 'review_policy', '{}', '{}', '{}',
        array['status'], 1, null
    );
end
$$;

-- Puts the first rules into force, if no rules were ever proposed. Returns null otherwise. Only the owner of the
-- database can call adopt_review_policy().
create function private.adopt_review_policy(of_name text, of_sha256 text, of_source text, of_rules jsonb)
returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made integer;
begin
    lock table resguardo.review_policies in share row exclusive mode;
    if exists (select from resguardo.review_policies) then
        return null;
    end if;
    made := private.propose_review_policy(of_name, of_sha256, of_source, of_rules);
    perform private.activate_review_policy(made);
    return made;
end
$$;

-- Records the decision of a compliance officer on a proposed version, and returns the version's new status. The version
-- comes into force with the approval of two officers who are both still active. One officer rejects it. Returns null if
-- the version does not exist. Raises RG409 (review_policy_settled, review_same_officer).
create function private.decide_review_policy(of_policy integer, is_approval boolean) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person uuid := private.person();
    of_action constant text := case when is_approval then 'review_rule.approve' else 'review_rule.reject' end;
    wanted resguardo.review_policies;
begin
    lock table resguardo.review_policies in share row exclusive mode;
    person := private.person();
    select p.* into wanted from resguardo.review_policies as p where p.id = of_policy for update;
    if wanted.id is null then
        perform private.write_audit(of_action, 'ABSENT', 'not_found', 'review_policy', '{}', '{}', '{}', '{}', 0, null);
        return null;
    elsif wanted.status <> 'PROPOSED' then
        raise exception 'review_policy_settled' using errcode = 'RG409';
    end if;
    if is_approval then
        insert into private.review_approvals (policy_id, officer_id) values (of_policy, person) on conflict do nothing;
        if not found then
            raise exception 'review_same_officer' using errcode = 'RG409';
        end if;
    else
        update resguardo.review_policies as p set status = 'REJECTED' where p.id = of_policy;
    end if;
    perform private.write_audit(
        of_action, 'ALLOWED', 'policy_' || of_policy, 'review_policy', '{}', '{}', '{}', array['status'], 1, null
    );
    if is_approval and (
        select count(*) from private.review_approvals as a
        inner join resguardo.staff as s on s.user_id = a.officer_id
        where a.policy_id = of_policy and s.status = 'active' and s.role = 'compliance'
    ) >= 2 then
        perform private.activate_review_policy(of_policy);
    end if;
    return (select p.status from resguardo.review_policies as p where p.id = of_policy);
end
$$;
