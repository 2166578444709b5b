-- The topics of insights, which a list of recordings may show. They are encrypted apart from the insights, so that a
-- page of recordings decrypts little.

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
        perform private.require_audit_of('topics', 'insights.read', 'recording', of_recording);
    end if;
    return found_topics;
end
$$;
