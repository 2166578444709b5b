-- Quotas: how often a person may do something within one clock hour.

create table private.quotas (
    meter text primary key
    constraint quotas_meter_is_known check (meter in ('urls', 'subtitles', 'pages', 'invitations')),
    per_hour integer not null constraint quotas_per_hour_is_positive check (per_hour > 0)
);
comment on table private.quotas is
'How often a person may use a meter in one clock hour. `resguardo migrate` loads policies/quotas.toml.';

create table private.usage (
    person_id uuid not null,
    meter text not null constraint usage_meter_is_known check (meter in ('urls', 'subtitles', 'pages', 'invitations')),
    window_start timestamptz not null,
    used integer not null,
    constraint usage_pkey primary key (person_id, meter, window_start)
);
comment on table private.usage is 'How often each person has used each meter in each hour.';

-- Counts one use of a meter in this hour. Raises RG429 if the quota is exceeded, with the seconds until the next hour
-- as its detail. A meter without a quota allows no use. The person's row stays locked until the end of the
-- transaction, so two transactions cannot both take the last use.
create function private.use_quota(person uuid, of_meter text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    this_hour constant timestamptz := date_trunc('hour', now(), 'UTC');
    used_now integer;
begin
    insert into private.usage as u (person_id, meter, window_start, used)
    values (person, of_meter, this_hour, 1)
    on conflict (person_id, meter, window_start) do update set used = u.used + 1
    returning u.used into used_now;
    if used_now > coalesce((select q.per_hour from private.quotas as q where q.meter = of_meter), 0) then
        raise exception 'quota_%', of_meter using
            errcode = 'RG429',
            detail = ceil(extract(epoch from this_hour + interval '1 hour' - now()))::integer;
    end if;
end
$$;
