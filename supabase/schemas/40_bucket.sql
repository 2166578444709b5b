-- The key prefixes that the bucket's lock and lifecycle rules must protect.

-- Gives one process the sole right to write the bucket's rules for two minutes. Returns false while a different
-- process has the right to write the bucket's rules. If two processes read the bucket's rules and wrote them back at
-- once, one change would be lost. The right to write the bucket's rules is a lease and not a lock, because no
-- transaction may be open while the bucket or Cloudflare answers.
create function private.take_rules_turn(new_holder uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.turns as t
    set holder = new_holder, held_until = clock_timestamp() + interval '2 minutes'
    where t.of = 'bucket' and (t.holder is null or t.held_until <= clock_timestamp());
    return found;
end
$$;

-- Extends a process's right to write the bucket's rules to two minutes from now. Returns false if a different process
-- has had the right to write the bucket's rules since then.
create function private.renew_rules_turn(of_holder uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.turns as t
    set held_until = clock_timestamp() + interval '2 minutes'
    where t.of = 'bucket' and t.holder = of_holder;
    return found;
end
$$;

-- Gives back a process's right to write the bucket's rules. Does nothing if a different process has taken over the
-- right to write the bucket's rules.
create function private.give_rules_turn_back(of_holder uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update private.turns as t set holder = null, held_until = null where t.of = 'bucket' and t.holder = of_holder;
end
$$;

-- Returns the consultations under r/ that a legal hold or an access request protects, each with its prefix in the
-- bucket, and whether one of its recordings is finished. An unfinished recording cannot be moved to keep/ yet, and
-- does not need to be moved.
create function private.protected_prefixes() returns table (consultation_id uuid, prefix text, is_finished boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with videos as materialized (select v.id from private.held_videos() as v (id)),

    held as (
        select r.id, r.consultation_id, r.status
        from videos as v
        inner join resguardo.recordings as r on r.id = v.id
        union all
        select r.id, r.consultation_id, r.status
        from videos as v
        inner join resguardo.recordings as r on r.video_id = v.id
    )

    select
        held.consultation_id, private.consultation_prefix(s.object_key),
        bool_or(private.is_finished(held.status))
    from held join private.recording_secrets as s on s.recording_id = held.id
    where s.object_key like 'r/%' and held.status <> 'DELETED'
    group by 1, 2
    order by 2;
end
$$;

-- Returns the prefixes whose objects the bucket would delete before the recordings are due. The bucket would delete
-- an object too early if its recording's retention term was extended, or began long after the object was stored.
create function private.endangered_prefixes() returns table (consultation_id uuid, prefix text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct r.consultation_id, private.consultation_prefix(s.object_key)
    from resguardo.recordings as r join private.recording_secrets as s on s.recording_id = r.id
    where r.due_at is not null and r.status <> 'DELETED' and s.object_key ~ '^r/d[1-9][0-9]{0,4}/'
        and r.due_at > coalesce(r.stored_at, r.ended_at, r.created_at)
        + make_interval(days => 7 + substring(s.object_key from '^r/d([0-9]+)/')::integer)
    order by 2;
end
$$;

-- Returns the retention terms, in days, of the recordings under r/ and of the policy in force. The bucket needs a
-- lifecycle rule for each of these retention terms.
create function private.retention_days() returns integer[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select distinct substr(r.retention_class, 2)::integer from resguardo.recordings as r
        where r.retention_class <> 'keep' and r.status <> 'DELETED'
        union
        select substr(i.retention_class, 2)::integer from resguardo.recording_imports as i
        where i.retention_class <> 'keep' and i.status in ('AWAITING_URL', 'AWAITING_UPLOAD')
        union
        select (t.term ->> 'recording_days')::integer
        from resguardo.retention_policies as p
        cross join lateral (
            select p.terms -> 'default'
            union all
            select k.value from jsonb_each(coalesce(p.terms -> 'kinds', '{}')) as k
        ) as t (term)
        where p.status = 'ACTIVE' and t.term ->> 'recording_days' is not null
        order by 1
    );
end
$$;

create function private.record_bucket_change(part text, outcome text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit('bucket.apply', outcome, part, 'bucket', '{}', '{}', '{}', array[part], 1, null);
end
$$;
