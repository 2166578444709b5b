-- Drifts: differences between the files of policies/ and the actual rules of the bucket or rights in the database.

create table private.drifts (
    topic text not null,
    code text not null,
    subject text not null,
    consultation_id uuid,
    since timestamptz not null default private.now(),
    constraint drifts_pkey primary key (topic, code, subject)
);
comment on table private.drifts is
'Differences from policies/bucket and policies/access at the last check: ids, rules and addresses, no names.';

-- Stores the drifts (differences from the files of policies/) that a check found. If a check covered a topic
-- completely and did not find a stored drift again, the stored drift ends. The function writes one audit row when a
-- drift begins and one when it ends. The function returns a new drift only to the first check that found it.
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
