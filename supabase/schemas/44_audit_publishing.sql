-- Publishing of the audit log: which checkpoints are in the buckets, the tiles to publish, and the adoption of the
-- bucket's log after a restore of the database. docs/audit-log.md describes the objects.

create table audit.published_logs (
    log_year smallint not null,
    size bigint not null default 0 constraint published_logs_size_is_a_count check (size >= 0),
    checkpoint text,
    published_at timestamptz,
    second_size bigint not null default 0 constraint published_logs_second_size_is_a_count check (second_size >= 0),
    second_published_at timestamptz,
    constraint published_logs_pkey primary key (log_year)
);
comment on table audit.published_logs is
'The newest checkpoint of each log that is in the bucket and in the second bucket.';
comment on column audit.published_logs.size is 'The number of leaves of the newest checkpoint in the bucket.';
comment on column audit.published_logs.checkpoint is 'The newest checkpoint in the bucket, with its cosignatures.';
comment on column audit.published_logs.second_size is
'The number of leaves of the newest checkpoint in the second bucket.';

create table audit.publications (
    log_year smallint not null,
    size bigint not null,
    published_at timestamptz not null default private.now(),
    constraint publications_pkey primary key (log_year, size)
);
comment on table audit.publications is
'The sizes of all published checkpoints. The second bucket gets each of them, also after an outage.';

create trigger publications_refuse_change before update or delete on audit.publications
for each row execute function private.refuse_change();
create trigger publications_refuse_truncate before truncate on audit.publications
for each statement execute function private.refuse_change();
create trigger published_logs_refuse_delete before delete on audit.published_logs
for each row execute function private.refuse_change();
create trigger published_logs_refuse_truncate before truncate on audit.published_logs
for each statement execute function private.refuse_change();

alter table audit.publications enable always trigger publications_refuse_change;
alter table audit.publications enable always trigger publications_refuse_truncate;
alter table audit.published_logs enable always trigger published_logs_refuse_delete;
alter table audit.published_logs enable always trigger published_logs_refuse_truncate;

-- Returns each log with its newest checkpoint in the database, in the bucket and in the second bucket. `is_due` says
-- whether the log has grown and the bucket's newest checkpoint is at least `publish_seconds` old, or dated in the
-- future because the clock went back. A stored published size above the size of the log is wrong and counts as 0.
create function private.list_published_logs(publish_seconds integer)
returns table (
    log_year smallint, origin text, size bigint, checkpoint text, published_size bigint, published_checkpoint text,
    is_due boolean, second_size bigint
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    at constant timestamptz := private.now();
begin
    return query
    select
        l.log_year, l.origin, l.size, l.checkpoint, case when p.size <= l.size then p.size else 0 end, p.checkpoint,
        p.size is distinct from l.size and (
            p.published_at is null
            or p.published_at > at
            or p.published_at <= at - make_interval(secs => publish_seconds)
        ),
        case when p.second_size <= l.size then p.second_size else 0 end
    from audit.logs as l
    left join audit.published_logs as p on p.log_year = l.log_year
    where l.checkpoint is not null
    order by l.log_year;
end
$$;

-- Returns the sizes of the logs, and of their newest checkpoints in the bucket. Includes the current year, although its
-- log may not have begun in a restored database.
create function private.list_log_sizes()
returns table (log_year smallint, size bigint, published_size bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        y.log_year, coalesce(l.size, 0),
        case when p.size <= l.size then p.size else 0 end
    from (
        select k.log_year from audit.logs as k
        union
        select extract(year from private.now() at time zone 'UTC')::smallint
    ) as y (log_year)
    left join audit.logs as l on l.log_year = y.log_year
    left join audit.published_logs as p on p.log_year = y.log_year
    order by y.log_year;
end
$$;

-- Returns the hashes of tiles, one after the other. `place` is the position of the tile in the arguments. The level -1
-- means the entries of the leaves. A tile is null if the log has fewer hashes than the width.
create function private.read_tiles(of_year integer, levels smallint[], indexes bigint[], widths integer[])
returns table (place integer, content bytea)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    first_hash bigint;
    after_hash bigint;
    counted bigint;
begin
    for place in 1..cardinality(levels) loop
        first_hash := indexes[place] * 256;
        after_hash := first_hash + widths[place];
        if levels[place] > 0 then
            select string_agg(t.hash, '' order by t.index), count(*) into content, counted
            from audit.tile_hashes as t
            where
                t.log_year = of_year and t.level = levels[place] and t.index >= first_hash and t.index < after_hash;
        else
            select
                string_agg(case levels[place] when 0 then l.leaf_hash else l.entry end, '' order by l.index), count(*)
            into content, counted
            from audit.leaves as l
            where l.log_year = of_year and l.index >= first_hash and l.index < after_hash;
        end if;
        if counted <> widths[place] then
            content := null;
        end if;
        return next;
    end loop;
end
$$;

-- Stores that the bucket has a checkpoint with this many leaves.
create function private.record_publication(of_year integer, of_size bigint, cosigned_checkpoint text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into audit.publications (log_year, size) values (of_year, of_size) on conflict do nothing;
    insert into audit.published_logs (log_year, size, checkpoint, published_at)
    values (of_year, of_size, cosigned_checkpoint, private.now())
    on conflict (log_year) do update
    set size = excluded.size, checkpoint = excluded.checkpoint, published_at = excluded.published_at;
end
$$;

-- Stores that the second bucket has a checkpoint with this many leaves.
create function private.record_second_publication(of_year integer, of_size bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into audit.published_logs (log_year, second_size, second_published_at)
    values (of_year, of_size, private.now())
    on conflict (log_year) do update
    set second_size = excluded.second_size, second_published_at = excluded.second_published_at;
end
$$;

-- Returns the origins of the logs that have grown, and of which the bucket, or the second bucket, has got no checkpoint
-- for this many seconds.
create function private.overdue_publications(overdue_seconds integer, has_second boolean)
returns table (origin text, is_second boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    since constant timestamptz := private.now() - make_interval(secs => overdue_seconds);
begin
    return query
    select l.origin, false
    from audit.logs as l
    left join audit.published_logs as p on p.log_year = l.log_year
    where
        l.size > coalesce(p.size, 0)
        and coalesce(
            p.published_at,
            (select f.recorded_at from audit.leaves as f where f.log_year = l.log_year and f.index = 0)
        ) < since
    union all
    select l.origin, true
    from audit.logs as l
    inner join audit.published_logs as p on p.log_year = l.log_year
    where
        has_second
        and p.size > p.second_size
        and coalesce(
            p.second_published_at,
            (select min(f.published_at) from audit.publications as f where f.log_year = l.log_year)
        ) < since;
end
$$;

-- Returns the events of the leaves from `first_index` on, with their leaf hashes.
create function private.read_leaves(of_year integer, first_index bigint, max_leaves integer)
returns table (index bigint, event_id uuid, recorded_at timestamptz, leaf_hash bytea)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select l.index, l.event_id, l.recorded_at, l.leaf_hash
    from audit.leaves as l
    where l.log_year = of_year and l.index >= first_index
    order by l.index
    limit max_leaves;
end
$$;

-- Replaces the leaves from `first_index` on by leaves of the bucket, and stores the checkpoint of the changed log. The
-- events of replaced leaves go back to the queue, unless they are among the adopted leaves. An adopted leaf has no
-- event if the database lost it. Writes an event audit_log.adopt; its row count is the number of adopted leaves without
-- an event, so that a deleted event cannot pass for one that the restore lost. Raises RG409
-- (audit_log_moved) unless the log has exactly `known_size` leaves.
create function private.adopt_leaves(
    of_year integer, of_origin text, known_size bigint, first_index bigint, event_ids uuid[],
    recorded_ats timestamptz[], new_entries bytea[], leaf_hashes bytea[], tile_levels smallint[],
    tile_indexes bigint[], hashes bytea[], new_frontier bytea, new_checkpoint text, new_signer text
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    known constant audit.logs := private.lock_log(of_year);
begin
    if known.size <> known_size or first_index > known_size then
        raise exception 'audit_log_moved' using errcode = 'RG409';
    end if;
    insert into audit.unsealed (recorded_at, event_id)
    select l.recorded_at, l.event_id
    from audit.leaves as l
    where l.log_year = of_year and l.index >= first_index and l.event_id is not null
    on conflict do nothing;
    update audit.logs as l set size = first_index where l.log_year = of_year;
    delete from audit.leaves as l where l.log_year = of_year and l.index >= first_index;
    delete from audit.tile_hashes as t
    where t.log_year = of_year and (t.index + 1) << (8 * t.level) > first_index;
    insert into audit.leaves (log_year, index, event_id, recorded_at, entry, leaf_hash)
    select of_year, first_index + n.place - 1, n.event_id, n.recorded_at, n.entry, n.leaf_hash
    from unnest(event_ids, recorded_ats, new_entries, leaf_hashes) with ordinality as n (
        event_id, recorded_at, entry, leaf_hash, place
    );
    insert into audit.tile_hashes (log_year, level, index, hash)
    select of_year, n.level, n.index, n.hash from unnest(tile_levels, tile_indexes, hashes) as n (level, index, hash);
    delete from audit.unsealed as u
    using unnest(event_ids, recorded_ats) as n (event_id, recorded_at)
    where u.recorded_at = n.recorded_at and u.event_id = n.event_id;
    update audit.logs as l
    set size = first_index + cardinality(leaf_hashes), origin = of_origin, frontier = new_frontier,
        checkpoint = new_checkpoint, signer = new_signer, sealed_at = private.now()
    where l.log_year = of_year;
    perform private.write_log_event('audit_log.adopt', cardinality(array_positions(event_ids, null)), null);
end
$$;
