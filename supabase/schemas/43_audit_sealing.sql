-- Sealing of the audit log: the queue of unsealed events, the leaves and tile hashes of the Merkle tree of each year,
-- and the functions with which the sealer writes them. docs/audit-log.md describes the formats.
--
-- The sealer is a periodic task of the leading worker. Only the worker has the key that signs the checkpoints.

create table audit.unsealed (
    recorded_at timestamptz not null,
    event_id uuid not null,
    constraint unsealed_pkey primary key (recorded_at, event_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
comment on table audit.unsealed is
'The events that the sealer has not sealed yet. A trigger of audit.events writes this table, and the sealer deletes.';

create table audit.logs (
    log_year smallint not null constraint logs_log_year_is_plausible check (log_year between 2000 and 9999),
    origin text not null,
    size bigint not null default 0 constraint logs_size_is_a_count check (size >= 0),
    frontier bytea not null default '',
    checkpoint text,
    signer text,
    sealed_at timestamptz,
    last_recorded_at timestamptz,
    leap_noted_at timestamptz,
    marked_hour timestamptz,
    marked_size bigint not null default 0,
    closed_at timestamptz,
    closed_size bigint,
    constraint logs_pkey primary key (log_year)
);
comment on table audit.logs is
'One row for each year of the audit log. The row is the lock of its year: one transaction seals events at a time.';
comment on column audit.logs.origin is 'The first line of the checkpoints, and the name of the key that signs them.';
comment on column audit.logs.size is 'The number of leaves.';
comment on column audit.logs.frontier is
'The hashes of the full subtrees from which the tree grows. Without them, each seal would read all leaves.';
comment on column audit.logs.checkpoint is 'The newest signed checkpoint, a signed note without cosignatures.';
comment on column audit.logs.signer is 'The verifier key (vkey) of the key that signed the newest checkpoint.';
comment on column audit.logs.last_recorded_at is 'The latest recorded_at of the batch that was sealed last.';
comment on column audit.logs.leap_noted_at is
'The last_recorded_at that was ahead of the clock when the sealer last wrote an event audit_log.note_clock.';
comment on column audit.logs.marked_hour is 'The last hour that an event audit_log.mark_hour marked in this log.';
comment on column audit.logs.marked_size is 'The number of leaves when an hour was last marked.';
comment on column audit.logs.closed_size is
'The number of leaves that the newest event audit_log.close_year names. A late event makes the log larger.';

create table audit.leaves (
    log_year smallint not null,
    index bigint not null constraint leaves_index_is_a_place check (index >= 0),
    event_id uuid,
    recorded_at timestamptz,
    entry bytea constraint leaves_entry_is_sha_256 check (octet_length(entry) = 32),
    leaf_hash bytea not null constraint leaves_leaf_hash_is_sha_256 check (octet_length(leaf_hash) = 32),
    constraint leaves_event_has_its_time check ((event_id is null) = (recorded_at is null)),
    constraint leaves_pkey primary key (log_year, index),
    constraint leaves_event_key unique (event_id, recorded_at)
);
comment on table audit.leaves is 'The leaves of the Merkle tree of each year, in the order in which they were sealed.';
comment on column audit.leaves.event_id is
'The event; null if the database lost the event. A restore of an older backup, for example, loses events.';

comment on column audit.leaves.entry is
'The SHA-256 over the salt and the canonical form of the event, of which leaf_hash is the hash. The bucket gets it.';

create table audit.tile_hashes (
    log_year smallint not null,
    level smallint not null constraint tile_hashes_level_is_known check (level between 1 and 7),
    index bigint not null constraint tile_hashes_index_is_a_place check (index >= 0),
    hash bytea not null constraint tile_hashes_hash_is_sha_256 check (octet_length(hash) = 32),
    constraint tile_hashes_pkey primary key (log_year, level, index)
);
comment on table audit.tile_hashes is
'The root of each full subtree of 256^level leaves. 256 of them in a row are one tile of that level.';

-- Queues a new event for the sealer.
create function private.queue_for_sealing() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into audit.unsealed (recorded_at, event_id) values (new.recorded_at, new.id);
    return null;
end
$$;

create trigger events_queue_for_sealing after insert on audit.events
for each row execute function private.queue_for_sealing();

-- ENABLE ALWAYS must be set for the trigger of each partition separately.
do $$
declare
    partition regclass;
begin
    for partition in
        select i.inhrelid::regclass from pg_catalog.pg_inherits as i where i.inhparent = 'audit.events'::regclass
    loop
        execute format('alter table %s enable always trigger events_queue_for_sealing', partition);
    end loop;
end
$$;

alter table audit.events enable always trigger events_queue_for_sealing;

-- Refuses to remove an event from the queue unless the event has a leaf.
create function private.guard_unsealed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from audit.leaves as l where l.event_id = old.event_id and l.recorded_at = old.recorded_at
    ) then
        return old;
    end if;
    raise exception 'an event leaves the queue only when it is sealed' using errcode = 'RG405';
end
$$;

-- Refuses to delete a leaf that the size of its log includes.
create function private.guard_leaf() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from audit.logs as l where l.log_year = old.log_year and l.size > old.index) then
        raise exception 'the audit log is insert only' using errcode = 'RG405';
    end if;
    return old;
end
$$;

-- Refuses to delete the root of a subtree that the size of its log includes.
create function private.guard_tile_hash() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from audit.logs as l
        where l.log_year = old.log_year and l.size >= (old.index + 1) << (8 * old.level)
    ) then
        raise exception 'the audit log is insert only' using errcode = 'RG405';
    end if;
    return old;
end
$$;

create trigger unsealed_refuse_change before update on audit.unsealed
for each row execute function private.refuse_change();
create trigger unsealed_guard before delete on audit.unsealed
for each row execute function private.guard_unsealed();
create trigger unsealed_refuse_truncate before truncate on audit.unsealed
for each statement execute function private.refuse_change();
create trigger leaves_refuse_change before update on audit.leaves
for each row execute function private.refuse_change();
create trigger leaves_guard before delete on audit.leaves
for each row execute function private.guard_leaf();
create trigger leaves_refuse_truncate before truncate on audit.leaves
for each statement execute function private.refuse_change();
create trigger tile_hashes_refuse_change before update on audit.tile_hashes
for each row execute function private.refuse_change();
create trigger tile_hashes_guard before delete on audit.tile_hashes
for each row execute function private.guard_tile_hash();
create trigger tile_hashes_refuse_truncate before truncate on audit.tile_hashes
for each statement execute function private.refuse_change();
create trigger logs_refuse_delete before delete on audit.logs
for each row execute function private.refuse_change();
create trigger logs_refuse_truncate before truncate on audit.logs
for each statement execute function private.refuse_change();

alter table audit.unsealed enable always trigger unsealed_refuse_change;
alter table audit.unsealed enable always trigger unsealed_guard;
alter table audit.unsealed enable always trigger unsealed_refuse_truncate;
alter table audit.leaves enable always trigger leaves_refuse_change;
alter table audit.leaves enable always trigger leaves_guard;
alter table audit.leaves enable always trigger leaves_refuse_truncate;
alter table audit.tile_hashes enable always trigger tile_hashes_refuse_change;
alter table audit.tile_hashes enable always trigger tile_hashes_guard;
alter table audit.tile_hashes enable always trigger tile_hashes_refuse_truncate;
alter table audit.logs enable always trigger logs_refuse_delete;
alter table audit.logs enable always trigger logs_refuse_truncate;

-- Returns the first moment of a year in UTC.
create function private.start_of_year(of_year integer) returns timestamptz
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return make_timestamptz(of_year, 1, 1, 0, 0, 0, 'UTC');
end
$$;

-- Returns the years of the unsealed events, the earliest first. A time outside the years that a log can have, which
-- only a superuser can insert, is left out.
create function private.unsealed_years() returns setof smallint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    next_at timestamptz := (
        select min(u.recorded_at) from audit.unsealed as u where u.recorded_at >= private.start_of_year(2000)
    );
    unsealed_year smallint;
begin
    while next_at < private.start_of_year(9999) loop
        unsealed_year := extract(year from next_at at time zone 'UTC');
        return next unsealed_year;
        next_at := (
            select min(u.recorded_at) from audit.unsealed as u
            where u.recorded_at >= private.start_of_year(unsealed_year + 1)
        );
    end loop;
end
$$;

-- Returns the log of a year, which stays locked until the transaction ends. Begins the log if it does not exist.
create function private.lock_log(of_year integer) returns audit.logs
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_log audit.logs;
begin
    insert into audit.logs (log_year, origin)
    values (of_year, format('resguardo/%s/%s', private.deployment_name(), of_year))
    on conflict do nothing;
    select l.* into strict found_log from audit.logs as l where l.log_year = of_year for update;
    return found_log;
end
$$;

-- Returns the unsealed events of a year after the event (after_at, after_id), the earliest first. `limit 1` keeps
-- Postgres from a join that reads all events. A queued event that was deleted is not returned, and neither is an event
-- that already has a leaf, nor an event with a time that Python cannot represent.
create function private.read_unsealed(of_year integer, after_at timestamptz, after_id uuid, max_events integer)
returns setof audit.events
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
    return query
    select e.*
    from audit.unsealed as u
    cross join lateral (
        select a.* from audit.events as a where a.id = u.event_id and a.recorded_at = u.recorded_at limit 1
    ) as e
    where
        u.recorded_at >= private.start_of_year(of_year)
        and u.recorded_at < private.start_of_year(of_year + 1)
        and (u.recorded_at, u.event_id) > (after_at, after_id)
        and coalesce(e.occurred_at between private.start_of_year(1) and private.start_of_year(9999), true)
        and not exists (
            select from audit.leaves as l where l.event_id = u.event_id and l.recorded_at = u.recorded_at
        )
    order by u.recorded_at, u.event_id
    limit max_events;
end
$$;

-- Adds leaves to the log of a year, stores the checkpoint of the larger log, and removes the events from the queue.
-- Writes an event audit_log.rotate_key if a key signed the checkpoint that did not sign the previous one. Raises RG409
-- (audit_log_moved) unless the log has exactly `first_index` leaves and each event is in the queue.
create function private.seal_events(
    of_year integer, of_origin text, first_index bigint, event_ids uuid[], recorded_ats timestamptz[],
    entries bytea[], leaf_hashes bytea[], tile_levels smallint[], tile_indexes bigint[], hashes bytea[],
    new_frontier bytea, new_checkpoint text, new_signer text
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    known constant audit.logs := private.lock_log(of_year);
    removed integer;
begin
    if known.size <> first_index then
        raise exception 'audit_log_moved' using errcode = 'RG409';
    end if;
    insert into audit.leaves (log_year, index, event_id, recorded_at, entry, leaf_hash)
    select of_year, first_index + n.place - 1, n.event_id, n.recorded_at, n.entry, n.leaf_hash
    from unnest(event_ids, recorded_ats, entries, leaf_hashes) with ordinality as n (
        event_id, recorded_at, entry, leaf_hash, place
    );
    insert into audit.tile_hashes (log_year, level, index, hash)
    select of_year, n.level, n.index, n.hash from unnest(tile_levels, tile_indexes, hashes) as n (level, index, hash);
    delete from audit.unsealed as u
    using unnest(event_ids, recorded_ats) as n (event_id, recorded_at)
    where u.recorded_at = n.recorded_at and u.event_id = n.event_id;
    get diagnostics removed = row_count;
    if removed <> cardinality(event_ids) then
        raise exception 'audit_log_moved' using errcode = 'RG409';
    end if;
    update audit.logs as l
    set size = first_index + cardinality(event_ids), origin = of_origin, frontier = new_frontier,
        checkpoint = new_checkpoint, signer = new_signer, sealed_at = private.now(),
        last_recorded_at = (select max(n.at) from unnest(recorded_ats) as n (at))
    where l.log_year = of_year;
    if known.signer <> new_signer then
        perform private.write_log_event(
            'audit_log.rotate_key', first_index, sha256(convert_to(new_signer, 'UTF8'))
        );
    end if;
end
$$;

-- Writes an event of the sealer about the audit log itself.
create function private.write_log_event(action text, counted bigint, sha_256 bytea) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit_of_entities(
        action, 'ALLOWED', null, private.entities_of('audit_log', '{}'), '{}', '{}', '{}',
        least(counted, 2147483647)::integer, null, encode(sha_256, 'hex')
    );
end
$$;

-- Writes the event audit_log.mark_hour once in each hour of the database's clock. Its row count is the number of
-- leaves that were sealed since the last mark. Also returns whether it wrote the event. If the clock goes back, an hour
-- is marked again.
create function private.mark_hour() returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    this_hour constant timestamptz := date_trunc('hour', private.now(), 'UTC');
    this_year constant integer := extract(year from this_hour at time zone 'UTC');
    counted bigint;
begin
    if (private.lock_log(this_year)).marked_hour = this_hour then
        return false;
    end if;
    counted := (select sum(greatest(l.size - l.marked_size, 0)) from audit.logs as l);
    update audit.logs as l
    set marked_size = l.size, marked_hour = case when l.log_year = this_year then this_hour else l.marked_hour end
    where l.size <> l.marked_size or l.log_year = this_year;
    perform private.write_log_event('audit_log.mark_hour', counted, null);
    return true;
end
$$;

-- Writes the event audit_log.close_year for each log of a year that has been over for an hour. The digest is the
-- SHA-256 of the final checkpoint's body, and the row count is the number of leaves. A log with unsealed events waits
-- for them, at most a day. If a late event makes a closed log larger, the log is closed again. Returns the years of the
-- closed logs.
create function private.close_years() returns setof smallint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    old_log audit.logs;
begin
    for old_log in
        select l.* from audit.logs as l
        where
            l.size is distinct from coalesce(l.closed_size, 0)
            and private.start_of_year(l.log_year + 1) <= private.now() - interval '1 hour'
            and (
                private.start_of_year(l.log_year + 1) <= private.now() - interval '1 day'
                or not exists (
                    select from audit.unsealed as u
                    where
                        u.recorded_at >= private.start_of_year(l.log_year)
                        and u.recorded_at < private.start_of_year(l.log_year + 1)
                )
            )
        order by l.log_year
        for update
    loop
        perform private.write_log_event(
            'audit_log.close_year', old_log.size,
            sha256(convert_to(split_part(old_log.checkpoint, E'\n\n', 1) || E'\n', 'UTF8'))
        );
        update audit.logs as l set closed_at = private.now(), closed_size = l.size
        where l.log_year = old_log.log_year;
        return next old_log.log_year;
    end loop;
end
$$;

-- Writes the event audit_log.note_clock if the events that were sealed last are dated more than a minute ahead of the
-- database's clock, which means that the clock went back. The row count is the difference in seconds. Writes the event
-- once for each leap of the clock. Returns the seconds of the leap, or null.
create function private.note_clock() returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    seconds_ahead bigint;
begin
    select extract(epoch from max(l.last_recorded_at) - private.now())::bigint into seconds_ahead
    from audit.logs as l
    where
        l.last_recorded_at > private.now() + interval '60 seconds'
        and l.last_recorded_at < private.start_of_year(9999)
        and l.leap_noted_at is distinct from l.last_recorded_at;
    if seconds_ahead is not null then
        perform private.write_log_event('audit_log.note_clock', seconds_ahead, null);
        update audit.logs as l set leap_noted_at = l.last_recorded_at
        where l.last_recorded_at > private.now() + interval '60 seconds';
    end if;
    return seconds_ahead;
end
$$;

-- Removes at most 1,000 events from the queue that have a leaf and were queued again, and returns how many.
create function private.discard_queued_twice() returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    removed integer;
begin
    delete from audit.unsealed as u
    using (
        select q.recorded_at, q.event_id
        from audit.unsealed as q
        inner join audit.leaves as l on l.event_id = q.event_id and l.recorded_at = q.recorded_at
        where q.recorded_at < private.now() - interval '60 seconds'
        limit 1000
    ) as n
    where u.recorded_at = n.recorded_at and u.event_id = n.event_id;
    get diagnostics removed = row_count;
    return removed;
end
$$;

-- Returns how many events have been unsealed for more than a minute (at most 10,000 are counted), the age of the
-- oldest, and the ids of the ten oldest.
create function private.overdue_events()
returns table (overdue_count bigint, oldest_seconds double precision, event_ids uuid[])
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with overdue as (
        select u.recorded_at, u.event_id
        from audit.unsealed as u
        where u.recorded_at < private.now() - interval '60 seconds'
        order by u.recorded_at, u.event_id
        limit 10000
    )
    select
        count(*),
        extract(
            epoch from private.now() - greatest(min(o.recorded_at), private.start_of_year(2000))
        )::double precision,
        coalesce((array_agg(o.event_id order by o.recorded_at, o.event_id))[:10], '{}')
    from overdue as o;
end
$$;

-- Returns the years that have events, the earliest first. A time outside the years that a log can have is left out.
create function private.audit_years() returns setof smallint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    next_at timestamptz := (
        select min(e.recorded_at) from audit.events as e
        where e.outcome <> '' and e.recorded_at >= private.start_of_year(2000)
    );
    found_year smallint;
begin
    while next_at < private.start_of_year(9999) loop
        found_year := extract(year from next_at at time zone 'UTC');
        return next found_year;
        next_at := (
            select min(e.recorded_at) from audit.events as e
            where e.outcome <> '' and e.recorded_at >= private.start_of_year(found_year + 1)
        );
    end loop;
end
$$;

-- Counts the events, the leaves with an event and the unsealed events of a year at one moment. The number of events is
-- the sum of the other two, unless somebody has changed the audit log.
create function private.count_log(of_year integer)
returns table (event_count bigint, leaf_count bigint, unsealed_count bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    since constant timestamptz := private.start_of_year(of_year);
    until constant timestamptz := private.start_of_year(of_year + 1);
begin
    return query
    select
        (select count(*) from audit.events as e where e.recorded_at >= since and e.recorded_at < until),
        (select count(l.event_id) from audit.leaves as l where l.log_year = of_year),
        (select count(*) from audit.unsealed as u where u.recorded_at >= since and u.recorded_at < until);
end
$$;
