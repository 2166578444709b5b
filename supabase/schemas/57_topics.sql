-- The topics of insights, which a list of recordings may show. They are encrypted apart from the insights, so that a
-- page of recordings decrypts little.

-- The recordings whose topics the running transaction has read. The statement that shows a recording writes the audit
-- row, and not `topics_of`, because one row names a whole page. At the commit, a trigger checks that the row was
-- written.
create table private.shown_topics (
    transaction_id xid8 constraint shown_topics_pkey primary key default pg_current_xact_id(),
    recording_ids uuid[] not null
);
comment on table private.shown_topics is
'The recordings whose topics the running transaction has read. The table is empty between transactions.';

-- Writes an audit row about the topics that the transaction has read, unless the transaction has already written a row
-- that names the field. No transaction can therefore read topics without an audit row.
create function private.audit_topics() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    shown private.shown_topics;
begin
    delete from private.shown_topics as s where s.transaction_id = new.transaction_id returning s.* into shown;
    if exists (
        select from (
            select e.fields, e.xmin as written_by from audit.events as e
            where e.actor_id = private.uid() order by e.recorded_at desc limit 20
        ) as n
        where n.written_by = pg_current_xact_id()::xid
            and exists (select from unnest(n.fields) as f (name) where f.name ~ '(^|[.])topics$')
    ) then
        return null;
    end if;
    perform private.write_audit(
        'insights.read', 'ALLOWED', null, 'recording', shown.recording_ids,
        array(select distinct r.patient_id from resguardo.recordings as r where r.id = any (shown.recording_ids)),
        array(select distinct r.consultation_id from resguardo.recordings as r where r.id = any (shown.recording_ids)),
        array['topics'], cardinality(shown.recording_ids), null
    );
    return null;
end
$$;

create constraint trigger shown_topics_audit after insert on private.shown_topics
deferrable initially deferred for each row execute function private.audit_topics();
alter table private.shown_topics enable always trigger shown_topics_audit;

-- Returns the encrypted topics of the calling doctor's own recording, with their generation, the recording's wrapped
-- data key and the numbers of the dismissed lines. Returns null for everybody else, for a recording without readable
-- insights, and for one that is to be destroyed.
create function private.topics_of(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_topics jsonb;
begin
    perform private.person();
    if current_setting('role') <> 'clinician' then
        return null;
    end if;
    select jsonb_build_object(
        'recording_id', i.recording_id, 'generation', w.generation, 'ciphertext', encode(w.topics, 'base64'),
        'wrapped', encode(k.wrapped_key, 'base64'), 'root_key', k.root_key_id,
        'dismissed', array(
            select d.line_number from private.insight_dismissals as d
            where d.recording_id = w.recording_id and d.generation = w.generation
        )
    )
    into found_topics
    from resguardo.insights as i
    inner join private.insight_texts as w on w.recording_id = i.recording_id
    inner join private.recording_keys as k on k.recording_id = i.recording_id
    where i.recording_id = of_recording and i.status in ('READY', 'STALE') and w.topics is not null
        and private.sees_consultation(i.doctor_id, i.consultation_id)
        and not private.is_to_be_destroyed(of_recording);
    if found_topics is not null then
        insert into private.shown_topics as s (recording_ids) values (array[of_recording])
        on conflict (transaction_id) do update set recording_ids = s.recording_ids || excluded.recording_ids;
    end if;
    return found_topics;
end
$$;
