-- Fetches: the reads of objects in the bucket's access log, which are compared with the URLs that the audit log says
-- were issued. A fetch without an issued URL is a finding. An issued URL without a fetch is not a finding, because the
-- access log is not complete.

create table private.fetch_logs (
    sha256 text primary key constraint fetch_logs_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    first_at timestamptz not null,
    last_at timestamptz not null,
    line_count bigint not null,
    imported_at timestamptz not null default private.now()
);
comment on table private.fetch_logs is
'The imported files of the bucket''s access log, with the times of their first and their last event.';
create index fetch_logs_last_idx on private.fetch_logs (last_at);

create table private.fetches (
    entity_type text not null constraint fetches_entity_type_is_known check (entity_type in ('recording', 'export')),
    entity_id uuid not null,
    fetched_at timestamptz not null,
    address text not null,
    interface text not null
    constraint fetches_interface_is_known check (interface in ('S3', 'API', 'WORKERS', 'PUBLIC', 'OTHER')),
    is_issued boolean not null,
    constraint fetches_pkey primary key (entity_id, fetched_at, address, interface)
);
comment on table private.fetches is
'The reads of objects in the access log: one row for each object, minute, address and interface, without object keys.';
comment on column private.fetches.fetched_at is 'The minute in which the object was read.';
comment on column private.fetches.is_issued is 'Whether a URL of this object was issued at most 20 minutes before.';
create index fetches_findings_idx on private.fetches (fetched_at desc, entity_id) where not is_issued;
create index fetches_fetched_idx on private.fetches (fetched_at);

-- Returns whether the audit log names a URL of this object that could be used at this time. A URL is valid for at most
-- 15 minutes, and the clocks of the bucket and the database may differ by 5 minutes.
create function private.is_url_issued(of_entity uuid, used_at timestamptz) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from audit.events as e
        where e.action in (
                'recording.issue_url', 'recording.play', 'access_request.issue_url', 'audit.export_url'
            )
            and e.outcome = 'ALLOWED'
            and e.recorded_at between used_at - interval '20 minutes' and used_at + interval '6 minutes'
            and exists (
                select from jsonb_array_elements(e.entities) as n (entity)
                where n.entity -> 'ids' ? of_entity::text
            )
    );
end
$$;

-- Stores a part of an imported access log: reads of objects, each with its minute. A part that was stored before
-- changes nothing. Returns how many of its rows are findings. A read through another interface than S3 uses no URL.
create function private.store_fetches(rows jsonb) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.fetches as f (entity_type, entity_id, fetched_at, address, interface, is_issued)
    select
        r.entity_type, r.entity_id, r.fetched_at, r.address, r.interface,
        r.interface = 'S3' and private.is_url_issued(r.entity_id, r.fetched_at)
    from jsonb_to_recordset(rows) as r (
        entity_type text, entity_id uuid, fetched_at timestamptz, address text, interface text
    )
    on conflict do nothing;
    return (
        select count(*)
        from jsonb_to_recordset(rows) as r (entity_id uuid, fetched_at timestamptz, address text, interface text)
        inner join private.fetches as f
            on f.entity_id = r.entity_id and f.fetched_at = r.fetched_at and f.address = r.address
            and f.interface = r.interface
        where not f.is_issued
    );
end
$$;

-- Stores that a file of the access log was imported to its end, and writes the audit row.
create function private.finish_fetch_log(
    of_sha256 text, first_event_at timestamptz, last_event_at timestamptz, lines bigint
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into private.fetch_logs as l (sha256, first_at, last_at, line_count)
    values (of_sha256, first_event_at, last_event_at, lines)
    on conflict do nothing;
    perform private.write_audit(
        'fetch.import', 'ALLOWED', null, 'bucket', '{}', '{}', '{}', array['objectFetches'],
        least(lines, 2147483647)::integer, null
    );
end
$$;

-- Writes the audit row, and returns to compliance the report of fetches in a period: whether an imported log covers a
-- part of the period, how many URLs were issued, in how many minutes objects were read, and the newest 100 reads
-- without an issued URL.
create function private.report_fetches(since timestamptz, until timestamptz)
returns table (
    is_evaluated boolean, first_event_at timestamptz, last_event_at timestamptz, issued_count bigint,
    fetched_count bigint, finding_count bigint, findings jsonb
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.use_quota(private.person(), 'pages');
    select count(*) > 0, min(l.first_at), max(l.last_at) into is_evaluated, first_event_at, last_event_at
    from private.fetch_logs as l where l.first_at < until and l.last_at >= since;
    select count(*) into issued_count
    from audit.events as e
    where e.action in ('recording.issue_url', 'recording.play', 'access_request.issue_url', 'audit.export_url')
        and e.outcome = 'ALLOWED' and e.recorded_at >= since and e.recorded_at < until;
    select count(*), count(*) filter (where not f.is_issued) into fetched_count, finding_count
    from private.fetches as f where f.fetched_at >= since and f.fetched_at < until;
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'entity_type', n.entity_type, 'entity_id', n.entity_id, 'fetched_at', n.fetched_at,
                'address', n.address, 'interface', n.interface
            ) order by n.fetched_at desc, n.entity_id
        ), '[]'
    ) into findings
    from (
        select f.entity_type, f.entity_id, f.fetched_at, f.address, f.interface
        from private.fetches as f
        where not f.is_issued and f.fetched_at >= since and f.fetched_at < until
        order by f.fetched_at desc, f.entity_id limit 100
    ) as n;
    perform private.write_audit_of_entities(
        'fetch.report', 'ALLOWED', null,
        private.entities_of(
            'recording',
            array(
                select distinct (n.finding ->> 'entity_id')::uuid
                from jsonb_array_elements(findings) as n (finding)
                where n.finding ->> 'entity_type' = 'recording'
            )
        ),
        '{}', '{}', array['objectFetches'], least(jsonb_array_length(findings), 100), null, null
    );
    return next;
end
$$;
