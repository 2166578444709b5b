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

-- Returns a key without characters that could be text of a person: every other character becomes a hyphen.
create function private.alert_key(given text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return left(regexp_replace(coalesce(given, ''), '[^A-Za-z0-9_.:/@-]', '-', 'g'), 200);
end
$$;

-- Opens the alert of this kind and key, or, if it is open already, stores that its cause was found again, and with
-- which ids. Returns the id of the alert. A new alert is announced.
create function private.open_alert(kind text, key text, entity_type text, ids uuid[]) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    moment constant timestamptz := private.now();
    found_ids constant uuid[] := (
        select coalesce(array_agg(distinct e.id order by e.id), '{}')
        from unnest(open_alert.ids) as e (id) where e.id is not null
    );
    alert_id uuid;
    is_new boolean;
begin
    insert into resguardo.alerts as a (kind, key, entity_type, entity_ids, entity_count, opened_at, seen_at)
    values (
        open_alert.kind, private.alert_key(open_alert.key), open_alert.entity_type, found_ids[1:100],
        cardinality(found_ids), moment, moment
    )
    on conflict (kind, key) where closed_at is null do update
    set seen_at = greatest(a.seen_at, excluded.seen_at), entity_type = excluded.entity_type,
        entity_ids = excluded.entity_ids, entity_count = excluded.entity_count
    returning a.id, a.xmax = 0 into alert_id, is_new;
    return alert_id;
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

-- Opens an alert of this kind for each finding (key, entity_type, ids), and closes all other alerts of this kind. The
-- first 20 findings get an alert each, those of open alerts before others, and the rest share the alert with the key
-- 'more'. Returns the keys of the alerts that the call opened or closed.
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

-- Returns how many alerts of each kind are open, and since when the oldest of them is open.
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
