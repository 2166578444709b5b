-- Deletions that are repeated after a backup was restored.

-- Stores the certificates of earlier destructions of a recording, oldest first, and gives the current deletion the
-- next number.
create function private.keep_earlier_certificates(of_deletion uuid, documents text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.deletions as d set number = cardinality(documents) + 1
    where d.id = of_deletion and d.status = 'DELETING';
    insert into resguardo.certificates (
        recording_id, number, deletion_id, doctor_id, patient_id, consultation_id, document, sha256
    )
    select
        d.recording_id, g.place, d.id, d.doctor_id, d.patient_id, d.consultation_id, g.document,
        encode(sha256(convert_to(g.document, 'UTF8')), 'hex')
    from unnest(documents) with ordinality as g (document, place)
    inner join resguardo.deletions as d on d.id = of_deletion and d.status = 'DELETING'
    on conflict (recording_id, number) do nothing;
end
$$;

-- Returns, for recordings that the ledger lists as destroyed, the status that they have in this database (null if the
-- recording is unknown). The function leaves out recordings that are DELETED, and ids of signed notes.
create function private.restored_recordings(recordings uuid[])
returns table (recording_id uuid, status text, is_held boolean, is_begun boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        w.id, r.status, r.id is not null and private.is_held(r.id),
        exists (select from resguardo.deletions as d where d.recording_id = w.id and d.status = 'DELETING')
    from unnest(recordings) as w (id)
    left join resguardo.recordings as r on r.id = w.id and r.medium = 'VIDEO'
    where r.status is distinct from 'DELETED'
        and not exists (select from resguardo.signed_notes as n where n.id = w.id);
end
$$;

-- Corrects the object key of a recording after a restore. If the worker moved an object to keep/ after the backup was
-- made, the restored database still has the object's old key. The function gives the key under keep/ to the READY
-- recording with the same size and the old key. Returns true if a recording got the key under keep/.
create function private.find_moved_object(kept_key text, size bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moved resguardo.recordings;
begin
    update private.recording_secrets as s set object_key = kept_key
    where starts_with(kept_key, 'keep/') and s.object_key ~ '^r/[^/]+/'
        and private.kept_object_key(s.object_key) = kept_key
        and exists (
            select from resguardo.recordings as r
            where r.id = s.recording_id and r.status = 'READY' and r.size_bytes = size
                and not private.is_being_destroyed(coalesce(r.video_id, r.id))
        )
        and not exists (select from private.object_moves as m where m.recording_id = s.recording_id)
    returning s.recording_id into moved.id;
    if moved.id is null then
        return false;
    end if;
    update resguardo.recordings as r set retention_class = 'keep' where r.id = moved.id returning r.* into moved;
    perform private.write_audit(
        'object.keep', 'ALLOWED', 'found_after_restore', 'recording', array[moved.id], array[moved.patient_id],
        array[moved.consultation_id], array['object_key', 'retention_class'], 1, null
    );
    return true;
end
$$;

-- Repeats the destruction of a recording that a restored backup has brought back, and stores the certificates that
-- the backup lacks. Returns false if a legal hold or an access request covers the recording, or the recording is not
-- finished or already DELETED.
create function private.repeat_deletion(of_recording uuid, documents text[]) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made resguardo.deletions;
begin
    perform private.lock_keeping(false);
    if not private.may_be_destroyed(of_recording) then
        return false;
    end if;
    update resguardo.deletions as d set status = 'UNDONE', finished_at = private.now()
    where d.recording_id = of_recording and d.status = 'REQUESTED';
    insert into resguardo.deletions (
        recording_id, consultation_id, doctor_id, patient_id, ground, status, number, policy_id, due_at
    )
    select
        r.id, r.consultation_id, r.doctor_id, r.patient_id, 'RESTORE', 'DELETING', cardinality(documents) + 1,
        r.retention_policy, r.due_at
    from resguardo.recordings as r
    where r.id = of_recording and r.medium = 'VIDEO' and private.is_finished(r.status)
    for update of r
    on conflict (recording_id) where status in ('REQUESTED', 'DELETING') do nothing
    returning * into made;
    if made.id is null then
        return false;
    end if;
    perform private.keep_earlier_certificates(made.id, documents);
    perform private.audit_deletions('restore.repeat', 'in_the_ledger', array[made.id]);
    return true;
end
$$;
