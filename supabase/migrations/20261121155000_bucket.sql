-- The bucket as code: what its rules must cover, who may rewrite them, and what was found to differ from what is meant.

-- Two who read the bucket's locks and write them back lose one's: whoever does holds this, to its transaction's end.
create function private.lock_bucket() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_advisory_xact_lock(7164, 2);
end
$$;

-- The consultations under r/ that a legal hold or an access request keeps, each with its prefix in the bucket, and
-- whether anything there is finished: what is still being recorded cannot be moved yet, and need not be.
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
        inner join resguardo.recordings as r on r.beside = v.id
    )

    select
        held.consultation_id, substring(s.object_key from '^r/[^/]+/[^/]+/'),
        bool_or(held.status in ('READY', 'FAILED', 'ABORTED', 'LOST'))
    from held join private.recording_secrets as s on s.recording_id = held.id
    where s.object_key like 'r/%' and held.status <> 'DELETED'
    group by 1, 2
    order by 2;
end
$$;

-- What the bucket would delete before it is due: of a term that was lengthened, or that began long after the object.
create function private.endangered_prefixes() returns table (consultation_id uuid, prefix text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct r.consultation_id, substring(s.object_key from '^r/[^/]+/[^/]+/')
    from resguardo.recordings as r join private.recording_secrets as s on s.recording_id = r.id
    where r.due_at is not null and r.status <> 'DELETED' and s.object_key ~ '^r/d[1-9][0-9]{0,4}/'
        and r.due_at > coalesce(r.stored_at, r.ended_at, r.created_at)
        + make_interval(days => 7 + substring(s.object_key from '^r/d([0-9]+)/')::integer)
    order by 2;
end
$$;

-- The terms, in days, of what stands under r/ and of the policy in force: each needs a rule of the bucket's.
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

create table private.drifts (
    topic text not null,
    code text not null,
    subject text not null,
    consultation_id uuid,
    since timestamptz not null default private.now(),
    constraint drifts_pkey primary key (topic, code, subject)
);
comment on table private.drifts is
'What differs, as of the last look, from policies/bucket and policies/access: ids, rules and addresses, never names.';

-- Takes what a look found; what it did not find is over on the topics that it looked at whole. Each drift is audited
-- when it begins and when it ends, however often it is seen between, and told to whoever saw it first.
create function private.settle_drifts(topics text[], drifts jsonb)
returns table (drift_code text, drift_subject text, is_over boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    one private.drifts;
begin
    for one in
        delete from private.drifts as d
        where d.topic = any(topics) and not exists (
            select from jsonb_to_recordset(drifts) as f (topic text, code text, subject text)
            where f.topic = d.topic and f.code = d.code and f.subject = d.subject
        )
        returning d.*
    loop
        perform private.record_drift(one, 'ALLOWED');
        drift_code := one.code;
        drift_subject := one.subject;
        is_over := true;
        return next;
    end loop;
    for one in
        insert into private.drifts as d (topic, code, subject, consultation_id)
        select f.topic, f.code, f.subject, f.consultation_id
        from jsonb_to_recordset(drifts) as f (topic text, code text, subject text, consultation_id uuid)
        on conflict do nothing
        returning d.*
    loop
        perform private.record_drift(one, 'FAILED');
        drift_code := one.code;
        drift_subject := one.subject;
        is_over := false;
        return next;
    end loop;
end
$$;

create function private.record_drift(drift private.drifts, outcome text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.write_audit(
        'bucket.drift', outcome, drift.code,
        case when drift.consultation_id is null then 'bucket' else 'consultation' end,
        array_remove(array[drift.consultation_id], null), '{}', array_remove(array[drift.consultation_id], null),
        array[drift.topic], 1, null
    );
end
$$;

-- Everything in the catalogue that decides who may do what, each with a digest of what it says.
create function private.access_catalogue() returns table (object text, digest text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with ours as (
        select n.oid, n.nspname from pg_namespace as n where n.nspname in ('resguardo', 'audit', 'private', 'jobs')
    ),
    said (object, says) as (
        select 'schema ' || n.nspname, n.nspacl::text from pg_namespace as n join ours on ours.oid = n.oid
        union all
        select
            'table ' || c.oid::regclass::text,
            concat_ws(' ', c.relowner::regrole, c.relrowsecurity, c.relforcerowsecurity, c.relacl::text)
        from pg_class as c join ours on ours.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
        union all
        select 'column ' || c.oid::regclass::text || '.' || a.attname, a.attacl::text
        from pg_attribute as a
        join pg_class as c on c.oid = a.attrelid
        join ours on ours.oid = c.relnamespace
        where a.attacl is not null
        union all
        select
            'policy ' || p.polrelid::regclass::text || '.' || p.polname,
            concat_ws(
                ' ', p.polcmd, p.polpermissive,
                array(select r.member::regrole::text from unnest(p.polroles) as r (member) order by 1),
                pg_get_expr(p.polqual, p.polrelid), '/', pg_get_expr(p.polwithcheck, p.polrelid)
            )
        from pg_policy as p
        join pg_class as c on c.oid = p.polrelid
        join ours on ours.oid = c.relnamespace
        union all
        select
            'trigger ' || t.tgrelid::regclass::text || '.' || t.tgname,
            concat_ws(' ', t.tgenabled, pg_get_triggerdef(t.oid))
        from pg_trigger as t
        join pg_class as c on c.oid = t.tgrelid
        join ours on ours.oid = c.relnamespace
        where not t.tgisinternal
        union all
        select
            'function ' || f.oid::regprocedure::text,
            concat_ws(' ', f.proowner::regrole, f.prosecdef, f.proconfig::text, f.proacl::text, f.prosrc)
        from pg_proc as f join ours on ours.oid = f.pronamespace
        union all
        select
            'role ' || r.rolname,
            concat_ws(
                ' ', r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication,
                r.rolbypassrls, array(
                    select m.member::regrole::text || ' is ' || m.roleid::regrole::text from pg_auth_members as m
                    where m.member = r.oid or m.roleid = r.oid order by 1
                )
            )
        from pg_roles as r
        where r.rolname in ('resguardo_api', 'resguardo_worker', 'clinician', 'compliance', 'patient')
    )
    select said.object, encode(sha256(convert_to(coalesce(said.says, ''), 'UTF8')), 'hex') from said;
end
$$;

create table private.access_seals (
    object text not null constraint access_seals_pkey primary key,
    digest text not null
);
comment on table private.access_seals is
'What private.access_catalogue() said when the owner had last set all access anew, by `resguardo migrate`.';

-- The owner's alone.
create function private.seal_access() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    delete from private.access_seals;
    insert into private.access_seals (object, digest)
    select c.object, c.digest from private.access_catalogue() as c;
end
$$;

-- The version of policies/access that the database has, and what has been changed by hand since; null before any seal.
create function private.access_standing() returns table (policy_version text, changed text[])
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    policy_version := private.policy_version();
    if exists (select from private.access_seals) then
        changed := array(
            select coalesce(s.object, c.object)
            from private.access_seals as s full join private.access_catalogue() as c on c.object = s.object
            where s.digest is distinct from c.digest
            order by 1
        );
    end if;
    return next;
end
$$;
