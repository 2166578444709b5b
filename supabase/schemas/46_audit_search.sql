-- The search in the audit log, and the summary of it: the filters, the blocks with the bitmaps of their events, and the
-- functions that compliance calls.
--
-- The worker collects the events in blocks of 1,024 events (audit.event_blocks). For each attribute of an event, such
-- as its actor, and each value of this attribute, a bitmap says which events of the block have this value
-- (audit.event_bitmaps). The search combines one bitmap for each filter with AND, so its cost does not depend on how
-- many events each filter matches alone. Events that are in no block yet (audit.unindexed) are read one by one.

-- A filter of audit events. A null matches every event. An outcome or purpose matches if it is one of the array.
create type private.audit_filter as (
    actor_id uuid, action text, outcomes text[], purposes text[], patient_id uuid, consultation_id uuid, -- noqa: LT01
    recording_id uuid, address inet, session_fingerprint text, since timestamptz, until timestamptz
);

-- Returns the attributes of an event by which events can be found, each with its value as text. An attribute can have
-- several values. A value is cut off after 200 characters, because an index has no room for a long one. The JSON path
-- is lax, so entities of an unexpected shape raise no error.
create function private.event_attributes(event audit.events) returns table (attribute text, value text)
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select a.attribute, left(a.value, 200)
    from (
        values ('actor', event.actor_id::text), ('action', event.action), ('outcome', event.outcome),
        ('purpose', event.purpose), ('session', event.session_fingerprint), ('address', host(event.address))
        union all
        select 'patient', s.id::text from unnest(event.patient_ids) as s (id)
        union all
        select 'consultation', s.id::text from unnest(event.consultation_ids) as s (id)
        union all
        select 'entity', s.id #>> '{}'
        from jsonb_path_query(
            event.entities, 'lax $[*] ? (@.type != "patient" && @.type != "consultation").ids[*]'
        ) as s (id)
    ) as a (attribute, value)
    where a.value is not null;
end
$$;

-- Moves the 1,024 oldest events of audit.unindexed into a new block. Returns false if there are fewer events. The
-- function never waits for a writer of events. Two calls at the same time lock the same rows, so the second call waits
-- and then finds fewer rows.
create function private.index_audit_events() returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    no_events constant bit(1024) := repeat('0', 1024)::bit(1024);
    times timestamptz[];
    ids uuid[];
    former record;
begin
    if not exists (select from audit.unindexed as u order by u.recorded_at, u.event_id offset 1023 limit 1) then
        return false;
    end if;
    select array_agg(u.recorded_at order by u.recorded_at, u.event_id),
        array_agg(u.event_id order by u.recorded_at, u.event_id)
    into times, ids
    from (
        select q.recorded_at, q.event_id from audit.unindexed as q
        order by q.recorded_at, q.event_id limit 1024 for update
    ) as u;
    if times is null or cardinality(times) < 1024 then
        return false;
    end if;
    delete from audit.unindexed as u using unnest(times, ids) as d (recorded_at, event_id)
    where u.recorded_at = d.recorded_at and u.event_id = d.event_id;
    select b.number, b.latest_at into former from audit.event_blocks as b order by b.number desc limit 1;
    insert into audit.event_blocks (number, started_at, ended_at, latest_at, recorded_at, event_ids)
    values (coalesce(former.number, 0) + 1, times[1], times[1024], greatest(former.latest_at, times[1024]), times, ids);
    insert into audit.event_bitmaps (attribute, value, block, bits)
    select a.attribute, a.value, coalesce(former.number, 0) + 1,
        bit_or(set_bit(no_events, (u.place - 1)::integer, 1))
    from unnest(times, ids) with ordinality as u (recorded_at, event_id, place)
    cross join lateral (
        select e as event from audit.events as e where e.id = u.event_id and e.recorded_at = u.recorded_at limit 1
    ) as e
    cross join lateral private.event_attributes(e.event) as a
    group by 1, 2;
    return true;
end
$$;

-- Removes an event from the bitmaps of what a redaction clears: `given` is the event before its redaction. An event
-- that is in no block yet stays locked until the end of the transaction, so a new block contains the redacted event.
create function private.unindex_event(given audit.events) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    of_block integer;
    of_bit integer;
begin
    perform from audit.unindexed as u
    where u.recorded_at = given.recorded_at and u.event_id = given.id for update;
    if found then
        return;
    end if;
    select b.number, array_position(b.event_ids, given.id) - 1 into of_block, of_bit from audit.event_blocks as b
    where given.recorded_at between b.started_at and b.ended_at and given.id = any(b.event_ids);
    alter table audit.event_bitmaps disable trigger event_bitmaps_refuse_change;
    update audit.event_bitmaps as t set bits = set_bit(t.bits, of_bit, 0)
    from private.event_attributes(given) as a
    where t.attribute = a.attribute and t.value = a.value and t.block = of_block
        and t.attribute not in ('action', 'outcome', 'purpose');
    delete from audit.event_bitmaps as t using private.event_attributes(given) as a
    where t.attribute = a.attribute and t.value = a.value and t.block = of_block and bit_count(t.bits) = 0;
    alter table audit.event_bitmaps enable always trigger event_bitmaps_refuse_change;
end
$$;

-- Returns the filters of `wanted` that are set: the attribute in audit.event_bitmaps, the condition on the value of a
-- bitmap `t`, and the condition on an event `e`. Both conditions are constant texts, in which $1 is the filter.
create function private.set_audit_filters(wanted private.audit_filter)
returns table (attribute text, value_condition text, event_condition text)
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select f.attribute, f.value_condition, f.event_condition
    from (values
        (wanted.actor_id is not null, 'actor', 't.value = ($1).actor_id::text', 'e.actor_id = ($1).actor_id'),
        (wanted.action is not null, 'action', 't.value = left(($1).action, 200)', 'e.action = ($1).action'),
        (wanted.outcomes is not null, 'outcome', 't.value = any(($1).outcomes)', 'e.outcome = any(($1).outcomes)'),
        (wanted.purposes is not null, 'purpose', 't.value = any(($1).purposes)', 'e.purpose = any(($1).purposes)'),
        (
            wanted.patient_id is not null, 'patient', 't.value = ($1).patient_id::text',
            'e.patient_ids @> array[($1).patient_id]'
        ),
        (
            wanted.consultation_id is not null, 'consultation', 't.value = ($1).consultation_id::text',
            'e.consultation_ids @> array[($1).consultation_id]'
        ),
        (
            wanted.recording_id is not null, 'entity', 't.value = ($1).recording_id::text',
            'e.entities @> (''[{"ids": ["'' || ($1).recording_id::text || ''"]}]'')::jsonb'
            ' and jsonb_path_exists(e.entities, ''lax $[*] ? (@.type != "patient" && @.type != "consultation").ids[*]'
            ' ? (@ == $id)'', jsonb_build_object(''id'', ($1).recording_id))'
        ),
        (
            wanted.address is not null, 'address', 't.value = host(($1).address)',
            'host(e.address) = host(($1).address)'
        ),
        (
            wanted.session_fingerprint is not null, 'session', 't.value = left(($1).session_fingerprint, 200)',
            'e.session_fingerprint = ($1).session_fingerprint'
        )
    ) as f (is_set, attribute, value_condition, event_condition)
    where f.is_set;
end
$$;

-- Returns the text of a select of the blocks from $5 to $6 and the bits of the events in them that match all filters,
-- newest block first. The select reads the bitmaps of the filter with the fewest blocks, and looks up the bitmaps of
-- every other filter for these blocks. The function counts at most 1,000 blocks for each filter.
create function private.compose_audit_walk(wanted private.audit_filter, first_block integer, last_block integer)
returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    filter record;
    counted integer;
    fewest integer;
    blocks text;
    bitmaps text := '';
    bits text;
begin
    for filter in select f.attribute, f.value_condition from private.set_audit_filters(wanted) as f loop
        execute format(
            'select count(*) from (select from audit.event_bitmaps as t where t.attribute = %L and %s'
            ' and t.block between $2 and $3 limit 1000) as c', filter.attribute, filter.value_condition
        ) into counted using wanted, first_block, last_block;
        if fewest is null or counted < fewest then
            fewest := counted;
            blocks := format(
                'select distinct t.block from audit.event_bitmaps as t where t.attribute = %L and %s'
                ' and t.block between $5 and $6 order by t.block desc', filter.attribute, filter.value_condition
            );
        end if;
        bitmaps := bitmaps || format(
            ' cross join lateral (select bit_or(t.bits) as bits from audit.event_bitmaps as t'
            ' where t.attribute = %1$L and %2$s and t.block = d.block) as of_%1$s',
            filter.attribute, filter.value_condition
        );
        bits := concat_ws(' & ', bits, format('of_%s.bits', filter.attribute));
    end loop;
    return format('select d.block, %2$s as bits from (%1$s) as d%3$s where bit_count(%2$s) > 0', blocks, bits, bitmaps);
end
$$;

-- Returns the newest events before (before_at, before_id) that match the filter, newest first, at most 1,001. A call
-- sees the events of one moment, because the function is STABLE. The blocks are read from the newest one on, and
-- reading ends when the events of all older blocks are older than the events that are found. The bits of a block are
-- read from the newest event on that is not too new. No sort follows, so reading can end inside a block. `limit 1`
-- keeps Postgres from a join that reads a whole partition. The bounds of audit.unindexed let Postgres plan for few
-- partitions.
create function private.find_audit_events(
    wanted private.audit_filter, before_at timestamptz, before_id uuid, page_size integer
) returns setof audit.events
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
declare
    most constant integer := least(coalesce(page_size, 101), 1001);
    earliest constant timestamptz := coalesce((wanted).since, '-infinity');
    latest constant timestamptz := least((wanted).until, before_at, 'infinity');
    time_range constant text := concat(
        case when before_at is not null then ' and (q.recorded_at, q.id) < ($2, $3)' end,
        case when (wanted).since is not null then ' and q.recorded_at >= ($1).since' end,
        case when (wanted).until is not null then ' and q.recorded_at < ($1).until' end
    );
    checks text;
    times timestamptz[];
    ids uuid[];
    first_block integer;
    last_block integer;
    found_event record;
    block_before integer;
    last_of_page timestamptz;
begin
    select string_agg(' and ' || f.event_condition, '') into checks from private.set_audit_filters(wanted) as f;
    if checks is null then
        return query execute 'select q.* from audit.events as q where q.outcome <> ''''' || time_range
            || ' order by q.recorded_at desc, q.id desc limit $4'
        using wanted, before_at, before_id, most;
        return;
    end if;
    execute format(
        'select coalesce(array_agg(f.recorded_at), ''{}''), coalesce(array_agg(f.id), ''{}'') from ('
        'select e.recorded_at, e.id from (select u.recorded_at, u.event_id as id from audit.unindexed as u) as q'
        ' cross join lateral (select a.* from audit.events as a where a.id = q.id and a.recorded_at = q.recorded_at'
        ' and a.recorded_at between $5 and $6 limit 1) as e where true%s'
        ' order by q.recorded_at desc, q.id desc limit $4) as f', checks || time_range
    ) into times, ids using wanted, before_at, before_id, most,
        (select min(u.recorded_at) from audit.unindexed as u), (select max(u.recorded_at) from audit.unindexed as u);
    select b.number into first_block from audit.event_blocks as b
    where b.latest_at >= earliest order by b.latest_at, b.number limit 1;
    select b.number into last_block from audit.event_blocks as b
    where b.started_at <= latest order by b.number desc limit 1;
    for found_event in execute format(
        'select w.block, b.latest_at, e.recorded_at, e.id from (%s) as w'
        ' cross join lateral (select b.latest_at, b.ended_at, b.recorded_at, b.event_ids from audit.event_blocks as b'
        ' where b.number = w.block and b.started_at <= $8 and b.ended_at >= $7 limit 1) as b'
        ' cross join lateral (select e.recorded_at, e.id from (select b.recorded_at[p.place + 1] as recorded_at,'
        ' b.event_ids[p.place + 1] as id from generate_series('
        'case when b.ended_at <= $8 then 1023 else width_bucket($8, b.recorded_at) - 1 end, 0, -1) as p (place)'
        ' where get_bit(w.bits, p.place) = 1 offset 0) as q cross join lateral (select a.* from audit.events as a'
        ' where a.id = q.id and a.recorded_at = q.recorded_at limit 1) as e where true%s limit $4) as e',
        private.compose_audit_walk(wanted, first_block, last_block), checks || time_range
    ) using wanted, before_at, before_id, most, first_block, last_block, earliest, latest loop
        if found_event.block is distinct from block_before and cardinality(times) >= most then
            select k.recorded_at into last_of_page
            from unnest(times) as k (recorded_at) order by 1 desc offset most - 1 limit 1;
            exit when last_of_page > found_event.latest_at;
        end if;
        block_before := found_event.block;
        times := times || found_event.recorded_at;
        ids := ids || found_event.id;
    end loop;
    return query
    select e.*
    from (
        select distinct k.recorded_at, k.id from unnest(times, ids) as k (recorded_at, id)
        order by k.recorded_at desc, k.id desc limit most
    ) as k
    cross join lateral (
        select a.* from audit.events as a where a.id = k.id and a.recorded_at = k.recorded_at limit 1
    ) as e
    order by e.recorded_at desc, e.id desc;
end
$$;

-- Writes the audit row of a read of the audit log or of its summary. If the read found nothing, the audit row says
-- whether the recording, consultation or patient of the filter exists.
create function private.record_audit_read(
    action text, wanted private.audit_filter, shown_fields text[], shown_events integer
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    subject constant uuid := coalesce((wanted).recording_id, (wanted).consultation_id, (wanted).patient_id);
    of_recording constant private.subjects := private.subjects_of('recording', (wanted).recording_id);
begin
    if shown_events = 0 and subject is not null then
        perform private.write_lookup(
            action, 'audit_event',
            case subject
                when (wanted).recording_id then 'recording' when (wanted).consultation_id then 'consultation'
                else 'patient'
            end,
            subject, true, '[]', '{}', '{}', 0, shown_fields
        );
        return;
    end if;
    perform private.write_audit_of_entities(
        action, 'ALLOWED', null,
        private.entities_of('audit_event', '{}')
        || private.entities_of('recording', array_remove(array[(wanted).recording_id], null)),
        array_remove((of_recording).patient_ids || (wanted).patient_id, null),
        array_remove((of_recording).consultation_ids || (wanted).consultation_id, null),
        shown_fields, shown_events, null
    );
end
$$;

-- Returns one page of the audit log to a compliance officer: the newest events before (before_at, before_id), newest
-- first. Each read of the audit log writes an audit row, too, which names the shown fields.
create function private.read_audit(
    wanted private.audit_filter, before_at timestamptz, before_id uuid, page_size integer, shown_fields text[]
) returns setof audit.events
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    returned_rows integer;
begin
    perform private.use_quota(private.person(), 'pages');
    return query
    select e.* from private.find_audit_events(wanted, before_at, before_id, least(page_size, 101)) as e;
    get diagnostics returned_rows = row_count;
    perform private.record_audit_read('audit.list', wanted, shown_fields, least(returned_rows, page_size - 1));
end
$$;

-- Counts the events that match the filter, for each interval that has such events. A row with a `value` counts the
-- events with this action, outcome, purpose or actor (`by_attribute`), for the 20 values with the most events. A row
-- without a `value` counts all events. Intervals begin at full hours, days, weeks (on Mondays) or months in UTC
-- (`unit`). The filter must have both bounds of time.
--
-- The function counts the bits of at most 5,000 blocks, and raises RG400 (summary_too_large) if the range of time has
-- more. A part of a block (`parts`) is what lies in one interval: its bits begin at `first_bit`. Events are in order
-- of time in a block, so a binary search finds the bounds of a part.
create function private.count_audit_events(wanted private.audit_filter, unit text, by_attribute text)
returns table (starts_at timestamptz, value text, event_count bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
set enable_nestloop = off
as $$
declare
    every_event constant bit(1024) := repeat('1', 1024)::bit(1024);
    tick constant interval := interval '1 microsecond';
    step constant interval := '1 ' || unit;
    of_event constant text := case by_attribute when 'actor' then 'e.actor_id::text' else format('e.%I', by_attribute) end;
    checks text := '';
    bitmaps text := '';
    bits text := '';
    first_block integer;
    last_block integer;
    filter record;
begin
    select b.number into first_block from audit.event_blocks as b
    where b.latest_at >= (wanted).since order by b.latest_at, b.number limit 1;
    select b.number into last_block from audit.event_blocks as b
    where b.started_at < (wanted).until order by b.number desc limit 1;
    if last_block - first_block >= 5000 then
        raise exception 'summary_too_large' using errcode = 'RG400';
    end if;
    for filter in select f.* from private.set_audit_filters(wanted) as f loop
        checks := checks || ' and ' || filter.event_condition;
        bitmaps := bitmaps || format(
            ' inner join (select t.block, bit_or(t.bits) as bits from audit.event_bitmaps as t where t.attribute = %1$L'
            ' and %2$s and t.block between $4 and $5 group by t.block) as of_%1$s on of_%1$s.block = b.number',
            filter.attribute, filter.value_condition
        );
        bits := bits || format(' & of_%s.bits', filter.attribute);
    end loop;
    return query execute format(
        $query$
        with recursive
        matched as materialized (
            select b.number, b.started_at, b.ended_at, b.recorded_at, $6 %3$s as bits
            from audit.event_blocks as b %2$s
            where b.number between $4 and $5
        ),
        parts as materialized (
            select m.number, m.bits, i.starts_at, c.first_bit, c.end_bit - c.first_bit as width
            from matched as m
            cross join lateral generate_series(
                date_trunc($2, greatest(m.started_at, ($1).since) at time zone 'UTC'),
                least(m.ended_at, ($1).until - $7) at time zone 'UTC', $3
            ) as s (utc)
            cross join lateral (
                select s.utc at time zone 'UTC' as starts_at, (s.utc + $3) at time zone 'UTC' as ends_at
            ) as i
            cross join lateral (
                select greatest(i.starts_at, ($1).since) as since, least(i.ends_at, ($1).until) as until
            ) as r
            cross join lateral (
                select
                    case when m.started_at >= r.since then 0 else width_bucket(r.since - $7, m.recorded_at) end
                        as first_bit,
                    case when m.ended_at < r.until then 1024 else width_bucket(r.until - $7, m.recorded_at) end
                        as end_bit
            ) as c
        ),
        named as (
            (
                select t.value from audit.event_bitmaps as t
                where t.attribute = %5$L order by t.value limit 1
            )
            union all
            select (
                select t.value from audit.event_bitmaps as t
                where t.attribute = %5$L and t.value > n.value order by t.value limit 1
            )
            from named as n
            where n.value is not null
        ),
        bitmaps as materialized (
            select n.value, t.block, t.bits
            from named as n
            cross join lateral (
                select t.block, t.bits from audit.event_bitmaps as t
                where t.attribute = %5$L and t.value = n.value and t.block between $4 and $5
                offset 0
            ) as t
        ),
        unindexed as materialized (
            select date_trunc($2, e.recorded_at, 'UTC') as starts_at, left(%4$s, 200) as value, count(*) as event_count
            from (select u.recorded_at, u.event_id as id from audit.unindexed as u) as q
            cross join lateral (
                select a.* from audit.events as a where a.id = q.id and a.recorded_at = q.recorded_at limit 1
            ) as e
            where q.recorded_at >= ($1).since and q.recorded_at < ($1).until %1$s
            group by 1, 2
        ),
        of_values as materialized (
            select c.starts_at, c.value, sum(c.event_count)::bigint as event_count
            from (
                select p.starts_at, b.value, bit_count(substring(p.bits & b.bits from p.first_bit + 1 for p.width))
                from parts as p
                inner join bitmaps as b on b.block = p.number
                union all
                select u.starts_at, u.value, u.event_count from unindexed as u where u.value is not null
            ) as c (starts_at, value, event_count)
            group by 1, 2
        ),
        most_frequent as (
            select v.value from of_values as v group by v.value order by sum(v.event_count) desc, v.value limit 20
        )
        select a.starts_at, null::text, sum(a.event_count)::bigint
        from (
            select p.starts_at, bit_count(substring(p.bits from p.first_bit + 1 for p.width)) from parts as p
            union all
            select u.starts_at, u.event_count from unindexed as u
        ) as a (starts_at, event_count)
        group by 1
        having sum(a.event_count) > 0
        union all
        select v.starts_at, v.value, v.event_count
        from of_values as v
        inner join most_frequent as f on f.value = v.value
        where v.event_count > 0
        $query$,
        checks, bitmaps, bits, of_event, by_attribute
    ) using wanted, unit, step, first_block, last_block, every_event, tick;
end
$$;

-- Returns to a compliance officer the counts of private.count_audit_events(), and writes an audit row, which names the
-- shown fields.
create function private.summarize_audit(
    wanted private.audit_filter, unit text, by_attribute text, shown_fields text[]
) returns table (starts_at timestamptz, value text, event_count bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    returned_rows integer;
begin
    perform private.use_quota(private.person(), 'pages');
    return query
    select c.starts_at, c.value, c.event_count from private.count_audit_events(wanted, unit, by_attribute) as c;
    get diagnostics returned_rows = row_count;
    perform private.record_audit_read('audit.summarize', wanted, shown_fields, returned_rows);
end
$$;
