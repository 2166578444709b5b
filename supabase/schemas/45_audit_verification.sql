-- Verification of the audit log: the functions with which `resguardo audit` reads the sealed rows, and the redaction of
-- an event. docs/audit-log.md describes the formats.

-- Returns each log with its number of leaves, counted from the newest leaf, at one moment. A wrong leaf at the largest
-- bigint does not overflow the number.
create function private.read_logs()
returns table (
    log_year smallint, origin text, size bigint, frontier bytea, checkpoint text, closed_size bigint, leaf_count bigint
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        l.log_year, l.origin, l.size, l.frontier, l.checkpoint, l.closed_size,
        coalesce((select least(max(f.index), 4611686018427387903) + 1 from audit.leaves as f where f.log_year = l.log_year), 0)
    from audit.logs as l
    order by l.log_year;
end
$$;

-- Returns the events of these leaves. `limit 1` keeps Postgres from a join that reads all events.
create function private.read_sealed_events(of_year integer, first_index bigint, end_index bigint)
returns setof audit.events
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return query
    select e.*
    from audit.leaves as f
    cross join lateral (
        select a.* from audit.events as a where a.id = f.event_id and a.recorded_at = f.recorded_at limit 1
    ) as e
    where f.log_year = of_year and f.index >= first_index and f.index < end_index;
end
$$;

-- Returns the events with these ids, whatever their time is.
create function private.find_events(event_ids uuid[]) returns setof audit.events
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return query
    select e.* from unnest(event_ids) as n (id) cross join lateral (
        select a.* from audit.events as a where a.id = n.id order by a.recorded_at limit 1
    ) as e;
end
$$;

-- Returns the hashes of a log's tiles above level 0 after the hash (after_level, after_index).
create function private.read_tile_hashes(of_year integer, after_level integer, after_index bigint, max_hashes integer)
returns setof audit.tile_hashes
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select t.*
    from audit.tile_hashes as t
    where t.log_year = of_year and (t.level, t.index) > (after_level, after_index)
    order by t.level, t.index
    limit max_hashes;
end
$$;

-- Looks for events of a year that have no leaf and do not wait for one. One call reads at most `max_events` events
-- after the event (after_at, after_id). Returns the last event that it read, or nulls at the end.
create function private.find_unqueued(
    of_year integer, after_at timestamptz, after_id uuid, max_events integer,
    out last_at timestamptz, out last_id uuid, out event_ids uuid[]
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    with page as materialized (
        select e.recorded_at, e.id
        from audit.events as e
        where
            e.outcome <> ''
            and e.recorded_at >= private.start_of_year(of_year)
            and e.recorded_at < private.start_of_year(of_year + 1)
            and (e.recorded_at, e.id) > (after_at, after_id)
        order by e.recorded_at, e.id
        limit max_events
    ),

    unqueued as materialized (
        select p.recorded_at, p.id
        from page as p
        where
            not exists (select from audit.leaves as f where f.event_id = p.id and f.recorded_at = p.recorded_at)
            and not exists (select from audit.unsealed as u where u.event_id = p.id and u.recorded_at = p.recorded_at)
    )

    select n.recorded_at, n.id, (select coalesce(array_agg(u.id order by u.recorded_at, u.id), '{}') from unqueued as u)
    into last_at, last_id, event_ids
    from (select p.recorded_at, p.id from page as p order by p.recorded_at desc, p.id desc limit 1) as n;
end
$$;

-- Returns at most `max_events` ids that wait for a leaf, but whose event is gone.
create function private.find_queued_without_event(max_events integer) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return (
        select coalesce(array_agg(n.event_id), '{}')
        from (
            select u.event_id
            from audit.unsealed as u
            where not exists (
                select from audit.events as e where e.id = u.event_id and e.recorded_at = u.recorded_at
            )
            order by u.recorded_at, u.event_id
            limit max_events
        ) as n
    );
end
$$;

-- Returns the leaf of an event, and a checkpoint that covers the leaf: the newest published one with its cosignatures,
-- or the newest one in the database if none is published. Returns nulls if the event is not sealed.
create function private.find_leaf(
    of_event uuid, out log_year smallint, out index bigint, out checkpoint text, out is_published boolean
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    select
        l.log_year, f.index, case when p.size > f.index then p.checkpoint else l.checkpoint end,
        coalesce(p.size > f.index, false)
    into find_leaf.log_year, find_leaf.index, find_leaf.checkpoint, find_leaf.is_published
    from audit.leaves as f
    inner join audit.logs as l on l.log_year = f.log_year
    left join audit.published_logs as p on p.log_year = f.log_year
    where f.event_id = of_event
    limit 1;
end
$$;

-- Returns the sizes of the published checkpoints of a log after a size, the smallest first, and up to which size the
-- second bucket has them.
create function private.list_publications(of_year integer, after_size bigint, max_sizes integer)
returns table (size bigint, is_in_second boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        p.size,
        p.size <= coalesce((select s.second_size from audit.published_logs as s where s.log_year = of_year), 0)
    from audit.publications as p
    where p.log_year = of_year and p.size > after_size
    order by p.size
    limit max_sizes;
end
$$;

-- Redacts a sealed event: clears every column that says who did what to whom, and the salt. The leaf stays, so every
-- proof stays valid, and nobody can guess the cleared values from the leaf. The event audit_log.redact names the
-- redacted event and the reason. No role may call this function, because only the owner of the database can turn off
-- the triggers that protect the log. Returns true if this call redacted the event. Raises RG404
-- (audit_event_not_found) and RG409 (audit_event_not_sealed, audit_event_about_log).
create function private.redact_event(of_event uuid, with_reason text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '10s'
as $$
declare
    redacted audit.events;
    partition text;
begin
    select e.* into redacted from audit.events as e where e.id = of_event;
    if redacted.id is null then
        raise exception 'audit_event_not_found' using errcode = 'RG404';
    end if;
    if redacted.action like 'audit\_log.%' then
        raise exception 'audit_event_about_log' using errcode = 'RG409';
    end if;
    if not exists (
        select from audit.leaves as f where f.event_id = redacted.id and f.recorded_at = redacted.recorded_at
    ) then
        raise exception 'audit_event_not_sealed' using errcode = 'RG409';
    end if;
    partition := format('audit.events_%s', extract(year from redacted.recorded_at at time zone 'UTC'));
    execute format('alter table %s disable trigger events_refuse_change', partition);
    select e.* into redacted from audit.events as e where e.id = of_event;
    if redacted.salt = '' then
        execute format('alter table %s enable always trigger events_refuse_change', partition);
        return false;
    end if;
    update audit.events as e
    set salt = '', occurred_at = null, actor_id = null, session_fingerprint = null, aal = null, reason = null,
        entities = '[]', patient_ids = '{}', consultation_ids = '{}', fields = '{}', row_count = 0, byte_count = null,
        digest = null, request_id = null, address = null
    where e.id = redacted.id and e.recorded_at = redacted.recorded_at;
    execute format('alter table %s enable always trigger events_refuse_change', partition);
    perform private.unindex_event(redacted);
    perform private.write_audit(
        'audit_log.redact', 'ALLOWED', with_reason, 'audit_event', array[of_event], '{}', '{}', '{}', 1, null
    );
    return true;
end
$$;
