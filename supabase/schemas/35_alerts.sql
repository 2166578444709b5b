-- Alerts: conditions that a person must look at. An alert opens when its cause is found and closes when its cause is
-- gone. At most one alert of each kind and key is open at a time.

create table resguardo.alerts (
    id uuid primary key default gen_random_uuid(),
    kind text not null constraint alerts_kind_is_name check (kind ~ '^[A-Z][A-Z0-9_]{0,62}$'),
    key text not null constraint alerts_key_is_plain check (key ~ '^[A-Za-z0-9_.:/@-]{0,200}$'),
    entity_type text constraint alerts_entity_type_is_slug check (entity_type ~ '^[a-z][a-z0-9_]{0,62}$'),
    entity_ids uuid[] not null default '{}' constraint alerts_entity_ids_are_few check (cardinality(entity_ids) <= 100),
    entity_count integer not null default 0 constraint alerts_entity_count_is_count check (entity_count >= 0),
    opened_at timestamptz not null default private.now(),
    seen_at timestamptz not null default private.now(),
    closed_at timestamptz,
    status text not null generated always as (case when closed_at is null then 'OPEN' else 'CLOSED' end) stored
);
alter table resguardo.alerts enable row level security;
comment on table resguardo.alerts is 'Alerts for operators and compliance: ids, kinds and times, no names.';
comment on column resguardo.alerts.key is 'Tells alerts of one kind apart: an id, a year or the name of a rule.';
comment on column resguardo.alerts.entity_ids is 'The first 100 ids of the entities that the alert is about.';
comment on column resguardo.alerts.entity_count is 'How many entities the alert is about.';
comment on column resguardo.alerts.seen_at is 'When the cause of the alert was last found.';
create unique index alerts_open_key on resguardo.alerts (kind, key) where closed_at is null;
create index alerts_opened_idx on resguardo.alerts (opened_at desc, id desc);
create index alerts_kind_status_idx on resguardo.alerts (kind, status, opened_at desc, id desc);

-- Returns the key with a hyphen in place of each character that ids, years and names of rules do not have, and at most
-- 200 characters of it.
create function private.alert_key(given text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return left(regexp_replace(coalesce(given, ''), '[^A-Za-z0-9_.:/@-]', '-', 'g'), 200);
end
$$;

-- Opens the alert of this kind and key. If the alert is already open, stores the time and the ids of the new finding.
-- Returns the id of the alert, and whether the call opened it. The transaction that opens an alert also queues its
-- webhook event.
create function private.store_alert(kind text, key text, entity_type text, ids uuid[])
returns table (alert_id uuid, is_new boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    moment constant timestamptz := private.now();
    found_ids constant uuid[] := (
        select coalesce(array_agg(distinct e.id order by e.id), '{}')
        from unnest(store_alert.ids) as e (id) where e.id is not null
    );
begin
    insert into resguardo.alerts as a (kind, key, entity_type, entity_ids, entity_count, opened_at, seen_at)
    values (
        store_alert.kind, private.alert_key(store_alert.key), store_alert.entity_type, found_ids[1:100],
        cardinality(found_ids), moment, moment
    )
    on conflict (kind, key) where closed_at is null do update
    set seen_at = greatest(a.seen_at, excluded.seen_at), entity_type = excluded.entity_type,
        entity_ids = excluded.entity_ids, entity_count = excluded.entity_count
    returning a.id, a.xmax = 0 into alert_id, is_new;
    if is_new then
        perform private.announce('alert.opened', 'alert', array[alert_id]);
    end if;
    return next;
end
$$;

-- Opens the alert of this kind and key unless it is open, and returns its id. Other features call this in the
-- transaction that finds the cause.
create function private.open_alert(kind text, key text, entity_type text, ids uuid[]) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (select s.alert_id from private.store_alert(kind, key, entity_type, ids) as s);
end
$$;

-- Closes the open alert of this kind and key, if there is one.
create function private.close_alert(kind text, key text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.alerts as a set closed_at = greatest(private.now(), a.opened_at)
    where a.kind = close_alert.kind and a.key = private.alert_key(close_alert.key) and a.closed_at is null;
end
$$;

-- Opens an alert of this kind for each finding (key, entity_type, ids), and closes all other alerts of this kind. At
-- most 20 findings get an alert of their own, first those that already have one. All other findings share the alert
-- with the key 'more'. Returns the keys of the alerts that the call opened or closed.
create function private.replace_alerts(kind text, findings jsonb) returns table (key text, is_over boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    wanted record;
    kept text[] := '{}';
begin
    for wanted in
        with given as (
            select
                private.alert_key(f.key) as key, min(f.entity_type) as entity_type,
                coalesce(array_agg(e.id) filter (where e.id is not null), '{}') as ids
            from jsonb_to_recordset(findings) as f (key text, entity_type text, ids uuid[])
            left join lateral unnest(f.ids) as e (id) on true
            group by private.alert_key(f.key)
        ),

        placed as (
            select g.key, g.entity_type, g.ids, a.id is not null as is_known,
                row_number() over (order by a.id is null, g.key) as place
            from given as g
            left join resguardo.alerts as a
                on a.kind = replace_alerts.kind and a.key = g.key and a.closed_at is null
        )

        select p.key, p.entity_type, p.ids, p.is_known from placed as p where p.place <= 20
        union all
        select
            'more', min(p.entity_type),
            array(
                select e.id from placed as q cross join lateral unnest(q.ids) as e (id) where q.place > 20
            ),
            exists (
                select from resguardo.alerts as a
                where a.kind = replace_alerts.kind and a.key = 'more' and a.closed_at is null
            )
        from placed as p where p.place > 20 having count(*) > 0
    loop
        perform private.open_alert(replace_alerts.kind, wanted.key, wanted.entity_type, wanted.ids);
        kept := kept || wanted.key;
        if not wanted.is_known then
            key := wanted.key;
            is_over := false;
            return next;
        end if;
    end loop;
    return query
    update resguardo.alerts as a set closed_at = greatest(private.now(), a.opened_at)
    where a.kind = replace_alerts.kind and a.closed_at is null and not (a.key = any(kept))
    returning a.key, true;
end
$$;

-- Opens the alert NO_LEADER if no worker has led for longer than `most_seconds`, and closes it if a worker leads. The
-- API calls this, because no worker can report that no worker leads. Returns the same as private.last_led().
create function private.watch_leader(most_seconds double precision)
returns table (led_until timestamptz, seconds double precision)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    select l.led_until, l.seconds into led_until, seconds from private.last_led() as l;
    if seconds > most_seconds then
        perform private.open_alert('NO_LEADER', '', null, '{}');
    elsif exists (select from resguardo.alerts as a where a.kind = 'NO_LEADER' and a.closed_at is null) then
        perform private.close_alert('NO_LEADER', '');
    end if;
    return next;
end
$$;

-- Returns how many alerts of each kind are open, and when the oldest of them was opened.
create function private.count_open_alerts() returns table (kind text, open_count bigint, opened_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select a.kind, count(*), min(a.opened_at)
    from resguardo.alerts as a where a.closed_at is null
    group by a.kind order by a.kind;
end
$$;

-- Returns the present causes of the alerts of one kind that the stored rows show, at most 1000. An event, such as the
-- stop of a stray egress, counts as a cause for a limited time after it happened.
create function private.find_alert_causes(of_kind text) returns table (key text, entity_type text, ids uuid[])
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
begin
    case of_kind
        when 'ACCESS_REQUEST_OVERDUE' then
            return query
            select o.id::text, 'access_request', array[o.id]
            from unnest(private.overdue_access_requests()) as o (id) limit 1000;
        when 'ACCOUNTING_OVERDUE' then
            return query
            select o.id::text, 'accounting_request', array[o.id]
            from unnest(private.overdue_accounting_requests()) as o (id) limit 1000;
        when 'AMENDMENT_OVERDUE' then
            return query
            select o.id::text, 'amendment', array[o.id] from unnest(private.overdue_amendments()) as o (id);
        when 'BREACH_DUE' then
            return query
            select b.id::text, 'breach_assessment', array[b.id]
            from private.due_breaches(10) as b where not b.is_overdue;
        when 'BREACH_OVERDUE' then
            return query
            select b.id::text, 'breach_assessment', array[b.id] from private.due_breaches(-1) as b;
        when 'BREACH_COUNT_FAILED' then
            return query
            select b.id::text, 'breach_assessment', array[b.id]
            from resguardo.breach_assessments as b
            where b.status = 'OPEN' and b.count_status = 'FAILED' limit 1000;
        when 'REVIEW_UNATTESTED' then
            return query
            select to_char(m.month, 'YYYY-MM'), null::text, '{}'::uuid[]
            from unnest(private.unattested_months(10)) as m (month);
        when 'ACCESS_COPY_FAILED' then
            return query
            select a.id::text, 'access_request', array[a.id]
            from resguardo.access_requests as a
            where a.status = 'APPROVED' and a.export_status = 'FAILED' limit 1000;
        when 'ACCESS_COPY_INCOMPLETE' then
            return query
            select distinct a.id::text, 'access_request', array[a.id]
            from audit.events as e
            cross join lateral jsonb_array_elements_text(e.entities -> 0 -> 'ids') as n (id)
            inner join resguardo.access_requests as a on a.id = n.id::uuid
            where e.action = 'access_request.export' and e.reason = 'incomplete'
                and e.recorded_at > moment - interval '31 days'
                and a.export_status = 'READY' and a.export_missing > 0
            limit 1000;
        when 'AUDIT_EXPORT_FAILED' then
            return query
            select e.id::text, 'audit_export', array[e.id]
            from resguardo.audit_exports as e
            where e.created_at > moment - interval '7 days' and e.status = 'FAILED' limit 1000;
        when 'EXPORT_NOT_DELETED' then
            return query
            select e.id::text, 'audit_export', array[e.id]
            from resguardo.audit_exports as e
            where e.status = 'READY' and e.expires_at < moment - interval '1 hour'
            union all
            select e.request_id::text, 'access_request', array[e.request_id]
            from private.access_exports as e
            where e.expired_at is null and e.expires_at < moment - interval '1 hour'
            limit 1000;
        when 'DELETION_FAILING' then
            return query
            select d.id::text, 'deletion', array[d.id]
            from resguardo.deletions as d where d.stage = 'FAILING' and d.attempts >= 3
            union all
            select d.note_id::text, 'signed_note', array[d.note_id]
            from private.note_destructions as d where d.error is not null and d.attempts >= 3
            limit 1000;
        when 'BUCKET_DRIFT' then
            return query
            select
                concat_ws(':', d.topic, d.code, d.subject),
                case when d.consultation_id is not null then 'consultation' end,
                array_remove(array[d.consultation_id], null)
            from private.drifts as d limit 1000;
        when 'OBJECT_MISSING' then
            return query
            select r.id::text, 'recording', array[r.id]
            from resguardo.recordings as r where r.missing_since is not null limit 1000;
        when 'RECORDING_LOST' then
            return query
            select r.id::text, 'recording', array[r.id]
            from resguardo.recordings as r
            where r.status = 'LOST' and r.status_at > moment - interval '7 days' limit 1000;
        when 'EGRESS_DIED' then
            return query
            select distinct n.id, 'recording', array[n.id::uuid]
            from audit.events as e
            cross join lateral jsonb_array_elements_text(e.entities -> 0 -> 'ids') as n (id)
            where e.action = 'recording.transition' and e.recorded_at > moment - interval '1 day'
                and e.reason like '%:egress_lost'
            limit 1000;
        when 'FETCH_NOT_ISSUED' then
            return query
            select distinct f.entity_id::text, f.entity_type, array[f.entity_id]
            from private.fetches as f
            where not f.is_issued and f.fetched_at > moment - interval '30 days' limit 1000;
        when 'STRAY_EGRESS' then
            return query
            select e.id::text, 'audit_event', array[e.id]
            from audit.events as e
            where e.action = 'egress.stop_stray' and e.recorded_at > moment - interval '1 day' limit 1000;
        when 'AUDIT_LOG_ADOPTED' then
            return query
            select e.id::text, 'audit_event', array[e.id]
            from audit.events as e
            where e.action = 'audit_log.adopt' and e.recorded_at > moment - interval '7 days' limit 1000;
        when 'AUDIT_LOG_UNSEALED' then
            return query
            select '', 'audit_event', o.event_ids from private.overdue_events() as o where o.overdue_count > 0;
        when 'SIGN_INS_MISSING' then
            return query
            select p.problem, null::text, '{}'::uuid[] from unnest(private.find_sign_in_problems()) as p (problem);
        when 'BAN_FAILED' then
            return query
            select s.user_id::text, 'staff', array[s.user_id]
            from resguardo.staff as s
            inner join auth.users as u on u.id = s.user_id
            where s.status = 'suspended' and s.suspended_at < moment - interval '15 minutes'
                and s.suspended_by <> '00000000-0000-0000-0000-000000000000'
                and u.deleted_at is null and (u.banned_until is null or u.banned_until <= moment)
            limit 1000;
        when 'JOB_FAILED' then
            return query
            select
                j.task_name::text, null::text,
                coalesce(
                    array_agg(distinct (j.args ->> 'id')::uuid)
                    filter (where j.args ->> 'id' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'), '{}'
                )
            from (
                select n.id, n.task_name, n.args, n.status
                from jobs.procrastinate_jobs as n order by n.id desc limit 10000
            ) as j
            inner join jobs.procrastinate_events as e on e.job_id = j.id
            where j.status = 'failed' and e.type = 'failed' and e.at > moment - interval '1 day'
            group by j.task_name;
    end case;
end
$$;

-- Opens and closes the alerts of one kind so that they match the causes that private.find_alert_causes returns. Returns
-- the keys of the alerts that the call opened or closed. No stored row shows whether a transcript is still unreadable,
-- or whether a bucket still contradicts the audit log. These alerts close a day after their cause was last found.
create function private.evaluate_alerts(of_kind text) returns table (key text, is_over boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if of_kind in ('TRANSCRIPT_UNREADABLE', 'AUDIT_BUCKET_DIFFERS') then
        return query
        update resguardo.alerts as a set closed_at = private.now()
        where a.kind = of_kind and a.closed_at is null and a.seen_at < private.now() - interval '1 day'
        returning a.key, true;
        return;
    end if;
    return query
    select r.key, r.is_over
    from private.replace_alerts(
        of_kind, (select coalesce(jsonb_agg(to_jsonb(c)), '[]') from private.find_alert_causes(of_kind) as c)
    ) as r;
end
$$;

-- Opens the alert about transcripts that a search could not decrypt.
create function private.report_unreadable_transcripts(recordings uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.open_alert(
        'TRANSCRIPT_UNREADABLE', '', 'transcript',
        array(select r.id from resguardo.recordings as r where r.id = any(recordings[1:100]))
    );
end
$$;
