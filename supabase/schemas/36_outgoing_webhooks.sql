-- Outgoing webhooks: the messages that the worker sends to the endpoints of the practice, and the result of each
-- attempt. A message has ids only. The URLs and the secrets of the endpoints are settings of the worker.

create table private.webhook_endpoints (
    name text primary key constraint webhook_endpoints_name_is_slug check (name ~ '^[a-z][a-z0-9_-]{0,30}$'),
    url_digest text not null constraint webhook_endpoints_url_digest_is_hex check (url_digest ~ '^[0-9a-f]{64}$'),
    event_types text[] not null,
    is_configured boolean not null default true,
    disabled_at timestamptz,
    failing_since timestamptz,
    failure_count integer not null default 0,
    paused_until timestamptz
);
comment on table private.webhook_endpoints is
'The endpoints in the settings of the worker that started last, without their URLs and secrets.';
comment on column private.webhook_endpoints.url_digest is
'The SHA-256 of the URL, in hex. A disabled endpoint is enabled again if its URL changes.';
comment on column private.webhook_endpoints.disabled_at is
'When the endpoint answered 410 Gone. The worker sends nothing to it until an officer asks for a redelivery.';
comment on column private.webhook_endpoints.failing_since is 'The first failed attempt since the last delivered one.';
comment on column private.webhook_endpoints.failure_count is
'The number of failed attempts since the last delivered one.';
comment on column private.webhook_endpoints.paused_until is
'The worker sends nothing to the endpoint before this time, because the endpoint did not answer or was overloaded.';

-- Returns the types of events that the practice can receive.
create function private.webhook_event_types() returns text[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return array[
        'alert.opened', 'case.opened', 'deletion.done', 'insights.ready', 'note.signed', 'recording.failed',
        'recording.ready', 'transcript.ready'
    ];
end
$$;

create table resguardo.webhook_deliveries (
    id uuid primary key default gen_random_uuid(),
    message_id uuid not null,
    endpoint text not null
    constraint webhook_deliveries_endpoint_fkey references private.webhook_endpoints (name),
    event_type text not null,
    entity_type text not null
    constraint webhook_deliveries_entity_type_is_slug check (entity_type ~ '^[a-z][a-z_]{0,63}$'),
    entity_ids uuid[] not null
    constraint webhook_deliveries_entity_ids_are_few check (cardinality(entity_ids) <= 100),
    status text not null default 'PENDING'
    constraint webhook_deliveries_status_is_known check (status in ('PENDING', 'DELIVERED', 'FAILED')),
    attempt_count integer not null default 0,
    attempts_left integer not null default 10,
    next_attempt_at timestamptz default private.now(),
    give_up_at timestamptz not null default private.now() + interval '7 days',
    status_code integer,
    error text constraint webhook_deliveries_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    created_at timestamptz not null default private.now(),
    finished_at timestamptz,
    constraint webhook_deliveries_message_key unique (message_id, endpoint),
    constraint webhook_deliveries_end_is_whole check (
        (status = 'PENDING') = (finished_at is null) and (status = 'PENDING') = (next_attempt_at is not null)
    ),
    constraint webhook_deliveries_failure_has_error check ((status = 'FAILED') <= (error is not null))
);
alter table resguardo.webhook_deliveries enable row level security;
comment on column resguardo.webhook_deliveries.message_id is
'The `webhook-id` of the message. It is the same for all endpoints and all attempts.';
comment on column resguardo.webhook_deliveries.attempts_left is
'The number of attempts that may still fail before the delivery is FAILED. A redelivery resets it to 10.';
comment on column resguardo.webhook_deliveries.give_up_at is
'When the delivery becomes FAILED even if attempts are left. A redelivery sets it to 7 days after the call.';
comment on column resguardo.webhook_deliveries.status_code is 'The HTTP status of the last answer.';
comment on column resguardo.webhook_deliveries.error is 'Why the last attempt failed.';
comment on column resguardo.webhook_deliveries.created_at is 'When the event happened.';
create index webhook_deliveries_due_idx on resguardo.webhook_deliveries (endpoint, next_attempt_at)
where status = 'PENDING';
create index webhook_deliveries_endpoint_idx on resguardo.webhook_deliveries (endpoint, created_at desc, id desc);
create index webhook_deliveries_created_idx on resguardo.webhook_deliveries (created_at desc, id desc);
create index webhook_deliveries_status_idx on resguardo.webhook_deliveries (status, created_at desc, id desc);

create table resguardo.webhook_attempts (
    delivery_id uuid not null
    constraint webhook_attempts_delivery_id_fkey references resguardo.webhook_deliveries (id) on delete cascade,
    number integer not null,
    started_at timestamptz not null default private.now(),
    duration_ms integer,
    status_code integer,
    error text constraint webhook_attempts_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    constraint webhook_attempts_pkey primary key (delivery_id, number)
);
alter table resguardo.webhook_attempts enable row level security;
comment on column resguardo.webhook_attempts.duration_ms is
'The duration of the attempt. Null if the attempt is running, or if the worker ended during the attempt.';

-- Queues the message about an event for each endpoint that receives this type of event. The caller makes the announced
-- change in the same transaction. The message contains at most the first 100 ids.
create function private.announce(event_type text, entity_type text, ids uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    message constant uuid := gen_random_uuid();
begin
    if announce.event_type is null or announce.event_type <> all (private.webhook_event_types()) then
        raise exception 'unknown type of webhook event';
    end if;
    insert into resguardo.webhook_deliveries (message_id, endpoint, event_type, entity_type, entity_ids)
    select message, e.name, announce.event_type, announce.entity_type, coalesce(announce.ids[1:100], '{}')
    from private.webhook_endpoints as e
    where e.is_configured and announce.event_type = any (e.event_types);
end
$$;

-- Stores the endpoints in the settings of the worker that starts, and writes an audit row if they changed. An endpoint
-- that the settings do not name receives no more events.
create function private.register_webhook_endpoints(names text[], url_digests text[], types jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    changed integer := 0;
    one record;
begin
    for one in
        select
            g.name, g.url_digest,
            array(select jsonb_array_elements_text(types -> g.name) order by 1) as event_types
        from unnest(names, url_digests) as g (name, url_digest)
        order by g.name
    loop
        insert into private.webhook_endpoints as e (name, url_digest, event_types)
        values (one.name, one.url_digest, one.event_types)
        on conflict (name) do update
        set url_digest = excluded.url_digest, event_types = excluded.event_types, is_configured = true,
            disabled_at = case when e.url_digest = excluded.url_digest then e.disabled_at end,
            paused_until = case when e.url_digest = excluded.url_digest then e.paused_until end
        where (e.url_digest, e.event_types, e.is_configured) is distinct from (
            excluded.url_digest, excluded.event_types, true
        );
        if found then
            changed := changed + 1;
        end if;
    end loop;
    update private.webhook_endpoints as e set is_configured = false
    where e.is_configured and e.name <> all (names);
    if found then
        changed := changed + 1;
    end if;
    if changed > 0 then
        perform private.write_audit(
            'webhook.configure', 'ALLOWED', null, 'webhook_endpoint', '{}', '{}', '{}', '{}', changed, null
        );
    end if;
end
$$;

-- Begins an attempt at each of at most `most` deliveries that are due at an endpoint, and returns these deliveries. If
-- the last attempt at the endpoint failed, the function returns at most one delivery. If the worker ends during an
-- attempt, the delivery is due again after 2 minutes. A due time more than 2 days ahead shows that the database's clock
-- was wrong, and counts as past.
create function private.claim_webhook_deliveries(of_endpoint text, most integer)
returns table (
    delivery_id uuid, attempt integer, message_id uuid, event_type text, entity_type text, entity_ids uuid[],
    created_at timestamptz
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
    target private.webhook_endpoints;
begin
    select e.* into target from private.webhook_endpoints as e where e.name = of_endpoint for no key update;
    if target.is_configured is not true or target.disabled_at is not null
        or (target.paused_until > moment and target.paused_until < moment + interval '2 days') then
        return;
    end if;
    return query
    with due as (
        select d.id
        from resguardo.webhook_deliveries as d
        where d.endpoint = of_endpoint and d.status = 'PENDING'
            and (d.next_attempt_at <= moment or d.next_attempt_at > moment + interval '2 days')
        order by d.next_attempt_at
        limit case when target.failure_count > 0 then 1 else most end
        for no key update skip locked
    ),

    begun as (
        update resguardo.webhook_deliveries as d
        set attempt_count = d.attempt_count + 1, next_attempt_at = moment + interval '2 minutes'
        from due
        where d.id = due.id
        returning d.*
    ),

    logged as (
        insert into resguardo.webhook_attempts (delivery_id, number, started_at)
        select b.id, b.attempt_count, moment from begun as b
    )

    select b.id, b.attempt_count, b.message_id, b.event_type, b.entity_type, b.entity_ids, b.created_at
    from begun as b;
end
$$;

-- Returns the pause before the next attempt, after the given number of failed attempts: the schedule that Standard
-- Webhooks recommends, more than three days in total, with up to a tenth more at random.
create function private.webhook_pause(failed_attempts integer) returns interval
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    return (array[5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400])[least(greatest(failed_attempts, 1), 9)]
        * (1 + random() / 10) * interval '1 second';
end
$$;

-- Stores the result of an attempt. `why` is null if the endpoint has accepted the message. `is_overloaded` says that
-- the endpoint did not answer or asked for a pause. The worker then sends nothing to the endpoint during a pause, which
-- grows with each failure from 5 seconds to at most 5 minutes. If the endpoint asked for a longer pause, the pause is
-- as long as the endpoint asked for, and at most a day. An alert opens if the endpoint has failed for an hour, has
-- answered 410 Gone, or has used up the attempts of a delivery. The next delivered message closes the alert. Returns
-- the status of the delivery, or null if another attempt has begun since.
create function private.settle_webhook_attempt(
    of_delivery uuid, of_attempt integer, took_ms integer, code integer, why text, is_overloaded boolean,
    asked_pause_seconds integer
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
    asked_pause constant interval := least(greatest(coalesce(asked_pause_seconds, 0), 0), 86400) * interval '1 second';
    target private.webhook_endpoints;
    given resguardo.webhook_deliveries;
begin
    select e.* into target
    from private.webhook_endpoints as e
    where e.name = (select d.endpoint from resguardo.webhook_deliveries as d where d.id = of_delivery)
    for no key update;
    update resguardo.webhook_attempts as a set duration_ms = took_ms, status_code = code, error = why
    where a.delivery_id = of_delivery and a.number = of_attempt;
    if why is null then
        update private.webhook_endpoints as e set failing_since = null, failure_count = 0, paused_until = null
        where e.name = target.name and e.failure_count > 0;
        if target.failure_count > 0 then
            perform private.close_alert('WEBHOOK_ENDPOINT_FAILING', target.name);
        end if;
    else
        update private.webhook_endpoints as e
        set failing_since = coalesce(e.failing_since, moment), failure_count = least(e.failure_count, 1000) + 1,
            paused_until = case
                when is_overloaded
                    then moment + greatest(least(5 * 2 ^ least(e.failure_count, 6), 300) * interval '1 second', asked_pause)
                else e.paused_until
            end,
            disabled_at = case when code = 410 then coalesce(e.disabled_at, moment) else e.disabled_at end
        where e.name = target.name;
        if code = 410 and target.disabled_at is null then
            perform private.write_audit(
                'webhook.disable', 'ALLOWED', why, 'webhook_delivery', array[of_delivery], '{}', '{}', '{}', 1, null
            );
        end if;
    end if;
    select d.* into given from resguardo.webhook_deliveries as d where d.id = of_delivery for no key update;
    if given.status is distinct from 'PENDING' or given.attempt_count <> of_attempt then
        return null;
    end if;
    update resguardo.webhook_deliveries as d
    set status_code = code, error = why, attempts_left = d.attempts_left - 1,
        status = case when why is null then 'DELIVERED' when d.attempts_left <= 1 then 'FAILED' else 'PENDING' end,
        next_attempt_at = case
            when why is not null and d.attempts_left > 1
                then moment + greatest(private.webhook_pause(11 - d.attempts_left), asked_pause)
        end,
        finished_at = case when why is null or d.attempts_left <= 1 then moment end
    where d.id = of_delivery
    returning d.* into given;
    if given.status = 'FAILED'
        or why is not null and (code = 410 or target.failing_since < moment - interval '1 hour') then
        perform private.open_alert('WEBHOOK_ENDPOINT_FAILING', target.name, 'webhook_delivery', array[of_delivery]);
    end if;
    return given.status;
end
$$;

-- Asks the worker to send a message to its endpoint again, and returns the delivery. The message has the same
-- `webhook-id`. The call enables a disabled endpoint. A PENDING delivery becomes due now. Returns null, and writes the
-- audit row, if the delivery does not exist. Raises RG409 (endpoint_removed).
create function private.redeliver_webhook(of_delivery uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    moment constant timestamptz := private.now();
    target private.webhook_endpoints;
begin
    if officer is null then
        return null;
    end if;
    select e.* into target
    from private.webhook_endpoints as e
    where e.name = (select d.endpoint from resguardo.webhook_deliveries as d where d.id = of_delivery)
    for no key update;
    if target.name is null then
        perform private.write_audit(
            'webhook.redeliver', 'ABSENT', 'not_found', 'webhook_delivery', array[of_delivery], '{}', '{}', '{}', 0, null
        );
        return null;
    elsif not target.is_configured then
        raise exception 'endpoint_removed' using errcode = 'RG409';
    end if;
    update private.webhook_endpoints as e set disabled_at = null, paused_until = null where e.name = target.name;
    update resguardo.webhook_deliveries as d
    set status = 'PENDING', attempts_left = 10, next_attempt_at = least(d.next_attempt_at, moment), finished_at = null,
        error = case when d.status = 'PENDING' then d.error end,
        status_code = case when d.status = 'PENDING' then d.status_code end,
        give_up_at = case when d.status = 'PENDING' then d.give_up_at else moment + interval '7 days' end
    where d.id = of_delivery;
    perform private.write_audit_later(
        'webhook.redeliver', null, 'webhook_delivery', of_delivery, null, null, array['webhookDelivery'], null
    );
    return of_delivery;
end
$$;

-- Ends at most 1,000 deliveries that are not delivered after 7 days, or whose endpoint was removed from the settings.
-- Deletes at most 1,000 deliveries that ended more than 90 days ago. Returns the number of changed deliveries.
create function private.clear_webhook_deliveries() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
    ended integer;
    deleted integer;
begin
    with late as (
        select d.id, e.is_configured
        from resguardo.webhook_deliveries as d
        inner join private.webhook_endpoints as e on e.name = d.endpoint
        where d.status = 'PENDING' and (not e.is_configured or d.give_up_at < moment)
        order by d.created_at
        limit 1000
        for no key update of d skip locked
    )

    update resguardo.webhook_deliveries as d
    set status = 'FAILED', finished_at = moment, next_attempt_at = null,
        error = case
            when not late.is_configured then 'endpoint_removed'
            else coalesce(d.error, 'endpoint_not_tried')
        end
    from late
    where d.id = late.id;
    get diagnostics ended = row_count;
    delete from resguardo.webhook_deliveries as d
    where d.id in (
        select o.id
        from resguardo.webhook_deliveries as o
        where o.status in ('DELIVERED', 'FAILED') and o.finished_at < moment - interval '90 days'
            and o.created_at < moment - interval '90 days'
        order by o.created_at
        limit 1000
        for update skip locked
    );
    get diagnostics deleted = row_count;
    return ended + deleted;
end
$$;
