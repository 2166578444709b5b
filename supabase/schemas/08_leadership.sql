-- The lease of the worker that runs the periodic tasks. At most one worker holds the leader's lease at a time.

-- The leader's lease: one row that names the worker that leads, with times by the database's clock. Only the worker's
-- login can write the leader's lease.
create table private.leadership (
    of text primary key constraint leadership_of_is_known check (of = 'periodic_tasks'),
    number bigint not null default 0,
    leader text constraint leadership_leader_is_short check (char_length(leader) <= 200),
    taken_at timestamptz,
    renewed_at timestamptz,
    expires_at timestamptz
);
comment on table private.leadership is
'The leading worker. A lease that is neither renewed nor given back ends at expires_at: another worker takes it.';
comment on column private.leadership.number is
'Counts the leases. A transaction of a periodic task names its lease, and is refused once a later lease exists.';
comment on column private.leadership.leader is
'The host and process that hold the lease; null after the lease was given back.';

insert into private.leadership (of) values ('periodic_tasks');

create function private.lease_length() returns interval
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return interval '15 seconds';
end
$$;

-- Makes the calling worker the leader. Returns the number of the new lease, how many seconds ago a worker last led
-- (null if none ever did), and the worker whose lease expired (null if the previous leader gave the lease back).
-- Returns no row while a worker other than the caller leads. A worker that led before passes the number of its former
-- lease. If the stored end of a lease is further away than the longest possible lease, a wrong clock wrote it, and
-- the lease counts as expired.
create function private.take_lease(by_leader text, former_number bigint)
returns table (number bigint, seconds_unled double precision, lapsed_leader text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    known private.leadership;
    now timestamptz;
begin
    select l.* into strict known from private.leadership as l where l.of = 'periodic_tasks' for update;
    now := clock_timestamp();
    if known.leader is not null and known.number is distinct from former_number
        and known.expires_at > now and known.expires_at <= now + private.lease_length()
    then
        return;
    end if;
    update private.leadership as l
    set number = known.number + 1, leader = left(by_leader, 200), taken_at = now, renewed_at = now,
        expires_at = now + private.lease_length()
    where l.of = 'periodic_tasks';
    return query
    select known.number + 1,
        case when known.renewed_at < now then extract(epoch from now - known.renewed_at)::double precision end,
        case when known.number is distinct from former_number then known.leader end;
end
$$;

-- Renews the leader's lease, and returns whether the calling worker still holds the lease. A lease that has expired
-- is not renewed.
create function private.renew_lease(of_number bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    now constant timestamptz := clock_timestamp();
begin
    update private.leadership as l
    set renewed_at = now, expires_at = now + private.lease_length()
    where l.of = 'periodic_tasks' and l.number = of_number and l.leader is not null and l.expires_at > now;
    return found;
end
$$;

-- Ends the caller's own leader's lease early, so that the next leader need not wait until the lease expires.
create function private.give_lease_back(of_number bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.leadership as l
    set leader = null, renewed_at = clock_timestamp(), expires_at = clock_timestamp()
    where l.of = 'periodic_tasks' and l.number = of_number and l.leader is not null;
end
$$;

-- Raises RG409 (lead_lost) if a different worker has become the leader since the caller took its lease. A worker
-- process that the operating system had suspended may wake up in the middle of a periodic task that the new leader
-- now runs.
create function private.require_lease(of_number bigint) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from private.leadership as l where l.of = 'periodic_tasks' and l.number = of_number) then
        raise exception 'lead_lost' using errcode = 'RG409';
    end if;
end
$$;

-- Returns the last time at which a worker was the leader (null if none ever was), and how many seconds ago that was
-- (0 while a worker leads).
create function private.last_led() returns table (led_until timestamptz, seconds double precision)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select l.renewed_at,
        case
            when l.leader is not null and l.expires_at > clock_timestamp() then 0
            else extract(epoch from greatest(clock_timestamp(), l.renewed_at) - l.renewed_at)
        end::double precision
    from private.leadership as l
    where l.of = 'periodic_tasks';
end
$$;
