-- Quotas: how often a person may do something within one clock hour.

create table private.quotas (
    meter text primary key
    constraint quotas_meter_is_known check (
        meter in ('urls', 'playbacks', 'subtitles', 'pages', 'invitations', 'questions', 'exports', 'emergencies')
    ),
    per_hour integer not null constraint quotas_per_hour_is_positive check (per_hour > 0)
);
comment on table private.quotas is
'How often a person may use a meter in one clock hour. `resguardo migrate` loads policies/quotas.toml.';

create table private.usage (
    person_id uuid not null,
    meter text not null constraint usage_meter_is_known check (
        meter in ('urls', 'playbacks', 'subtitles', 'pages', 'invitations', 'questions', 'exports', 'emergencies')
    ),
    window_start timestamptz not null,
    used integer not null,
    slot integer not null default 0 constraint usage_slot_is_known check (slot between 0 and 7),
    constraint usage_pkey primary key (person_id, meter, slot)
) with (fillfactor = 50);
comment on table private.usage is
'How often each person used each meter in the last hour of use. A person has at most eight rows for each meter.';
comment on column private.usage.slot is
'Each of the eight slots has a share of the quota. Parallel transactions of one person use different slots.';

-- Counts one request of a person in one of the eight slots of the person's hourly quota. Returns false if the slot
-- has used up its share of the quota. The shares of the eight slots add up to the quota, so the slots together cannot
-- exceed the quota. The slot's row stays locked until the end of the transaction. If the slot's row already belongs
-- to the next hour, the function counts the request in that row, because a transaction may have begun just before
-- that hour.
create function private.use_slot(
    person uuid, of_meter text, of_slot integer, per_hour bigint, this_hour timestamptz
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    share constant bigint := (per_hour + 7 - of_slot) / 8;
begin
    insert into private.usage as u (person_id, meter, slot, window_start, used)
    select person, of_meter, of_slot, this_hour, 1
    where share > 0
    on conflict (person_id, meter, slot) do update set
        used = case when u.window_start in (this_hour, this_hour + interval '1 hour') then u.used + 1 else 1 end,
        window_start = case
            when u.window_start = this_hour + interval '1 hour' then u.window_start else this_hour
        end
    where u.window_start not in (this_hour, this_hour + interval '1 hour') or u.used < share;
    return found;
end
$$;

-- Counts one request of a person in a quota slot that has no row yet. Returns false, and locks nothing, if a
-- concurrent transaction is creating the slot's row, or has created the row and used up the slot's share.
create function private.try_new_slot(
    person uuid, of_meter text, of_slot integer, per_hour bigint, this_hour timestamptz
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '1ms'
as $$
begin
    if not private.use_slot(person, of_meter, of_slot, per_hour, this_hour) then
        raise lock_not_available;
    end if;
    return true;
exception when lock_not_available then
    return false;
end
$$;

-- Counts one request of a person against the hourly quota for its kind (a meter). Raises RG429 if the quota is
-- exceeded; the error's detail is the number of seconds until the next hour. A meter without a quota permits no
-- request at all. Parallel transactions of one person wait for each other only if transactions that have not ended
-- yet have taken all that remains of the quota.
create function private.use_quota(person uuid, of_meter text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    this_hour constant timestamptz := date_trunc('hour', now(), 'UTC');
    next_hour constant timestamptz := this_hour + interval '1 hour';
    per_hour constant bigint := coalesce((select q.per_hour from private.quotas as q where q.meter = of_meter), 0);
    free_slot integer;
    used_before integer;
    is_current boolean;
    is_counted boolean := false;
begin
    if per_hour = 0 then  -- The table refuses an unknown meter. Its text would otherwise become the error's message.
        insert into private.usage (person_id, meter, slot, window_start, used)
        values (person, of_meter, 0, this_hour, 0)
        on conflict do nothing;
    end if;
    select u.slot, u.used, u.window_start in (this_hour, next_hour)
    into free_slot, used_before, is_current
    from private.usage as u
    where u.person_id = person and u.meter = of_meter and (per_hour + 7 - u.slot) / 8 > 0
        and (u.window_start not in (this_hour, next_hour) or u.used < (per_hour + 7 - u.slot) / 8)
    limit 1
    for update skip locked;
    if found then
        update private.usage as u
        set used = case when is_current then used_before + 1 else 1 end,
            window_start = case when is_current then u.window_start else this_hour end
        where u.person_id = person and u.meter = of_meter and u.slot = free_slot;
        is_counted := true;
    end if;
    if not is_counted then
        for free_slot in
            select s.slot from generate_series(0, 7) as s (slot)
            where not exists (
                select from private.usage as u where u.person_id = person and u.meter = of_meter and u.slot = s.slot
            )
            order by (s.slot + pg_backend_pid()) % 8
        loop
            is_counted := private.try_new_slot(person, of_meter, free_slot, per_hour, this_hour);
            exit when is_counted;
        end loop;
    end if;
    if not is_counted and private.used_in(person, of_meter, this_hour) < per_hour then
        for each_slot in 0..7 loop  -- the same order in each transaction, and no wait for a slot in vain: no deadlock
            is_counted := not exists (
                select from private.usage as u
                where u.person_id = person and u.meter = of_meter and u.slot = each_slot
                    and u.window_start in (this_hour, next_hour) and u.used >= (per_hour + 7 - u.slot) / 8
            ) and private.use_slot(person, of_meter, each_slot, per_hour, this_hour);
            exit when is_counted;
        end loop;
    end if;
    if not is_counted or private.used_in(person, of_meter, this_hour) > per_hour then
        raise exception 'quota_%', of_meter using
            errcode = 'RG429', detail = ceil(extract(epoch from next_hour - now()))::integer;
    end if;
end
$$;

-- Counts one page against the caller's quota, for a read that asks a vendor before it knows what it shows. Raises RG429
-- (quota_pages).
create function private.count_page() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.use_quota(private.require_person(), 'pages');
end
$$;

-- Returns how many requests of one kind (a meter) a person has made since the given hour began. The function does not
-- count the requests of transactions that have not ended.
create function private.used_in(person uuid, of_meter text, this_hour timestamptz) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(sum(u.used), 0) from private.usage as u
        where u.person_id = person and u.meter = of_meter
            and u.window_start in (this_hour, this_hour + interval '1 hour')
    );
end
$$;
