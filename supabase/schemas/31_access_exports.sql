-- The encrypted copies of recordings that the worker makes for access requests.

create table private.access_exports (
    request_id uuid primary key
    constraint access_exports_request_id_fkey references resguardo.access_requests (id),
    object_key text not null constraint access_exports_object_key_key unique
    constraint access_exports_object_key_is_of_request check (
        starts_with(object_key, private.exports_prefix(request_id))
    ),
    recording_ids uuid[] not null,
    note_ids uuid[] not null default '{}',
    files integer not null constraint access_exports_files_is_count check (files >= 0),
    secret text,
    began_at timestamptz not null default private.now(),
    ready_at timestamptz,
    expires_at timestamptz,
    expired_at timestamptz,
    constraint access_exports_readiness_is_whole check ((ready_at is null) = (expires_at is null))
);
comment on table private.access_exports is
'The object with the copy, and its recordings. Destroying one of the recordings deletes the object, then this row.';
comment on column private.access_exports.recording_ids is
'The media in the copy and their videos. While the copy is being made, everything that it may contain.';
comment on column private.access_exports.note_ids is 'The signed notes in the copy.';
comment on column private.access_exports.secret is
'The passphrase of the copy. Erased after compliance has seen it once, or when the copy ends.';
create index access_exports_notes_idx on private.access_exports using gin (note_ids);
create index access_exports_recordings_idx on private.access_exports using gin (recording_ids);

-- Records in the access request that its encrypted copy was deleted, because a recording in the copy was destroyed.
create function private.note_deleted_export() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.access_requests as a set export_status = 'DELETED'
    where a.id = old.request_id and a.export_status = 'READY';
    return null;
end
$$;

create trigger access_exports_note_deletion after delete on private.access_exports
for each row execute function private.note_deleted_export();

-- Returns the recordings that an access request covers and that are not destroyed. A clip is not among them, because it
-- is a part of a recording that the copy contains as a whole (45 CFR 164.524(c)(1): the same information is produced
-- once).
create function private.wanted_recordings(asked resguardo.access_requests) returns setof resguardo.recordings
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select r.* from resguardo.recordings as r
    where r.patient_id = asked.patient_id and r.status <> 'DELETED' and r.medium <> 'CLIP'
        and (asked.consultation_id is null or r.consultation_id = asked.consultation_id)
        and not private.is_destroyed(coalesce(r.video_id, r.id));
end
$$;

-- Returns the signed notes that an access request covers and that are not destroyed.
create function private.wanted_notes(asked resguardo.access_requests) returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select n.id from resguardo.signed_notes as n
    where n.patient_id = asked.patient_id and n.status = 'KEPT'
        and (asked.consultation_id is null or n.consultation_id = asked.consultation_id);
end
$$;

-- Writes the audit row, and returns the versions of the signed notes that the copy for an access request contains,
-- with their ciphertexts and the data key of the patient, as read_signed_notes() does for a doctor.
create function private.export_signed_notes(of_request uuid)
returns table (
    note_id uuid, status text, patient_id uuid, consultation_id uuid, recording_id uuid, version integer,
    signed_at timestamptz, sha256 text, quote_count integer, is_logged boolean, ciphertext bytea, wrapped bytea,
    root_key text, has_notice boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ids constant uuid[] := (select e.note_ids from private.access_exports as e where e.request_id = of_request);
begin
    if coalesce(cardinality(ids), 0) = 0 then
        return;
    end if;
    perform private.audit_notes('note.read', null, ids);
    return query
    select
        n.id, n.status, n.patient_id, n.consultation_id, n.recording_id, v.version, v.signed_at, v.sha256,
        v.quote_count, private.is_signature_logged(n.consultation_id, v.sha256), t.ciphertext, k.wrapped_key,
        k.root_key_id,
        exists (
            select from resguardo.consultations as c
            where c.id = n.consultation_id and c.sensitivity = 'SUBSTANCE_USE'
        )
    from resguardo.signed_notes as n
    inner join resguardo.signed_note_versions as v on v.note_id = n.id
    left join private.signed_note_texts as t on t.note_id = v.note_id and t.version = v.version
    left join private.patient_keys as k on k.patient_id = n.patient_id and t.note_id is not null
    where n.id = any(ids)
    order by n.id, v.version;
end
$$;

-- Begins an attempt to make the encrypted copy for an access request. Writes the audit row, and returns the object
-- key of the encrypted copy and the recordings to copy. The object key is new at each attempt, so that two attempts
-- never write to the same object. `number` counts the sound recordings beside a video separately for each kind of
-- participant, starting at 1.
--
-- Returns one row without a recording if notes are all that the copy can contain. Returns no row if no copy is
-- needed, because the access request is not APPROVED, or covers no READY recording and no note (it is then
-- fulfilled). Raises RG409 (recording_not_finished) while a covered recording may still become READY; a LOST
-- recording may become READY for a week. Raises RG409 (recording_being_deleted) while an attempt to destroy a covered
-- recording runs that began before the access request was filed.
create function private.begin_export(of_request uuid, new_secret text)
returns table (
    object_key text, recording_id uuid, video_id uuid, medium text, participant_id uuid, participant_kind text,
    guest_role text, number integer, recorded_at timestamptz, size_bytes bigint, sha256 text, recording_key text,
    has_notice boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
    new_key constant text := private.exports_prefix(of_request) || gen_random_uuid() || '.zip';
    ids uuid[];
    noted uuid[];
    signed uuid[];
begin
    select a.* into wanted from resguardo.access_requests as a where a.id = of_request for update;
    if wanted.id is null or wanted.status <> 'APPROVED' then
        return;
    end if;
    if exists (
        select from private.wanted_recordings(wanted) as r
        where not private.is_finished(r.status)
            or (r.status = 'LOST' and r.status_at > private.now() - interval '7 days')
    ) then
        raise exception 'recording_not_finished' using errcode = 'RG409';
    elsif exists (
        select from private.wanted_recordings(wanted) as r where private.is_in_destruction(coalesce(r.video_id, r.id))
    ) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    ids := array(select r.id from private.wanted_recordings(wanted) as r where r.status = 'READY');
    noted := array(select n.id from private.noted_recordings(wanted) as n (id));
    signed := array(select n.id from private.wanted_notes(wanted) as n (id));
    has_notice := exists (
        select from resguardo.consultations as c
        where c.sensitivity = 'SUBSTANCE_USE' and c.id in (
            select r.consultation_id from resguardo.recordings as r where r.id = any(ids || noted)
            union all
            select n.consultation_id from resguardo.signed_notes as n where n.id = any(signed)
        )
    );
    if cardinality(ids || noted || signed) = 0 then
        update resguardo.access_requests as a
        set status = 'FULFILLED', fulfilled_at = private.now(), export_status = 'NOTHING_RECORDED',
            export_recordings = 0, export_notes = 0, export_missing = null, export_error = null
        where a.id = of_request;
        perform private.audit_request('access_request.export', wanted, array['status']);
        return;
    end if;
    insert into private.access_exports as e (request_id, object_key, recording_ids, note_ids, files, secret)
    values (
        of_request, new_key,
        array(
            select r.id from resguardo.recordings as r where r.id = any(ids)
            union
            select r.video_id from resguardo.recordings as r where r.id = any(ids) and r.video_id is not null
            union
            select n.id from unnest(noted) as n (id)
        ),
        signed, cardinality(ids), new_secret
    )
    on conflict (request_id) do update
    set object_key = excluded.object_key, recording_ids = excluded.recording_ids, note_ids = excluded.note_ids,
        files = excluded.files, secret = excluded.secret, began_at = excluded.began_at;
    perform private.write_audit(
        'recording.read_key', 'ALLOWED', null, 'recording', ids, array[wanted.patient_id],
        array(select distinct r.consultation_id from resguardo.recordings as r where r.id = any(ids)),
        array['object_key'], cardinality(ids), null
    );
    return query
    select
        new_key, r.id, coalesce(r.video_id, r.id), r.medium, p.id, p.kind, p.guest_role,
        row_number() over (
            partition by coalesce(r.video_id, r.id), r.medium, p.kind
            order by coalesce(r.started_at, r.created_at), r.id
        )::integer,
        coalesce(r.started_at, c.scheduled_at), r.size_bytes, r.sha256, s.object_key, begin_export.has_notice
    from resguardo.recordings as r
    join resguardo.consultations as c on c.id = r.consultation_id
    join private.recording_secrets as s on s.recording_id = r.id
    left join resguardo.participants as p on p.id = r.participant_id
    where r.id = any(ids)
    order by coalesce(r.started_at, c.scheduled_at), r.id;
    if not found then
        object_key := new_key;
        return next;
    end if;
end
$$;

-- Returns the texts about the recordings of an access request that exist and that no copy contains: TRANSCRIPT and
-- INSIGHTS, each with the video's id. The copy's manifest names them, so that the patient can ask the doctor for them.
create function private.uncopied_texts(of_request uuid) returns table (recording_id uuid, kind text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    select a.* into wanted from resguardo.access_requests as a where a.id = of_request;
    return query
    select r.id, x.kind
    from private.wanted_recordings(wanted) as r
    cross join lateral (
        select 'TRANSCRIPT' from resguardo.transcripts as t where t.recording_id = r.id and t.status = 'READY'
        union all
        select 'INSIGHTS' from resguardo.insights as i
        where i.recording_id = r.id and i.status in ('READY', 'STALE')
    ) as x (kind)
    where r.medium = 'VIDEO'
    order by r.id, x.kind desc;
end
$$;

-- Fulfils an access request with the encrypted copy that one attempt has made. Returns false if a later attempt has
-- replaced the given attempt, or the access request no longer needs a copy; the copy's object is then orphaned. If
-- one of the copied recordings was destroyed in the meantime, the function queues the job that makes a new copy.
-- `noted` has the recordings whose session notes are in the copy.
create function private.finish_export(of_request uuid, key text, size bigint, contents uuid[], noted uuid[])
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
    wanted resguardo.access_requests;
    made private.access_exports;
    missing integer;
begin
    select a.* into wanted from resguardo.access_requests as a where a.id = of_request for update;
    select e.* into made from private.access_exports as e where e.request_id = of_request for update;
    if exists (select from unnest(made.recording_ids) as m (id) where private.is_destroyed(m.id)) then
        delete from private.access_exports as e where e.request_id = of_request;
        made := null;
    end if;
    if made.object_key is distinct from key or made.expired_at is not null then
        if made.object_key is null and wanted.status = 'APPROVED' then
            perform private.put_job('export_access_request', of_request);
        end if;
        return false;
    elsif wanted.status <> 'APPROVED' then
        return made.ready_at is not null;
    end if;
    missing := made.files - cardinality(contents);
    update private.access_exports as e
    set ready_at = moment, expires_at = moment + interval '30 days', files = cardinality(contents),
        recording_ids = array(
            select r.id from resguardo.recordings as r where r.id = any(contents)
            union
            select r.video_id from resguardo.recordings as r where r.id = any(contents) and r.video_id is not null
            union
            select n.id from unnest(noted) as n (id)
        )
    where e.request_id = of_request
    returning e.* into made;
    update resguardo.access_requests as a
    set status = 'FULFILLED', fulfilled_at = made.ready_at, export_status = 'READY', export_error = null,
        export_size_bytes = size, export_recordings = made.files, export_missing = missing,
        export_notes = cardinality(made.note_ids),
        export_expires_at = made.expires_at
    where a.id = of_request;
    perform private.write_audit(
        'access_request.export', 'ALLOWED', case when missing > 0 then 'incomplete' end, 'access_request',
        array[of_request], array[wanted.patient_id],
        array(select distinct r.consultation_id from resguardo.recordings as r where r.id = any(made.recording_ids)),
        array['object'], made.files, size
    );
    return true;
end
$$;

-- Records that the worker could not make the encrypted copy for an access request. Compliance may then approve the
-- access request again.
create function private.fail_export(of_request uuid, failure text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    update resguardo.access_requests as a set export_status = 'FAILED', export_error = failure
    where a.id = of_request and a.status = 'APPROVED'
    returning a.* into wanted;
    if wanted.id is not null then
        perform private.write_audit(
            'access_request.export', 'FAILED', failure, 'access_request', array[of_request],
            array[wanted.patient_id], array_remove(array[wanted.consultation_id], null), array['status'], 0, null
        );
    end if;
end
$$;

-- Returns the encrypted copies to delete: those that are 30 days old, and those whose access request was withdrawn
-- while the copy was being made.
create function private.ended_exports() returns table (request_id uuid, object_key text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select e.request_id, e.object_key
    from private.access_exports as e
    join resguardo.access_requests as a on a.id = e.request_id
    where e.expired_at is null and (e.expires_at <= private.now() or a.status = 'WITHDRAWN')
    order by e.began_at
    limit 100;
end
$$;

-- Marks an encrypted copy as expired, after its object was deleted from the bucket. Returns false if a later attempt
-- has replaced the encrypted copy.
create function private.expire_export(of_request uuid, key text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
begin
    select a.* into wanted from resguardo.access_requests as a where a.id = of_request for update;
    update private.access_exports as e set expired_at = private.now(), secret = null
    where e.request_id = of_request and e.object_key = key and e.expired_at is null
        and (e.expires_at <= private.now() or wanted.status = 'WITHDRAWN');
    if not found then
        return false;
    end if;
    update resguardo.access_requests as a set export_status = 'EXPIRED'
    where a.id = of_request and a.export_status = 'READY';
    perform private.audit_request('access_request.expire_export', wanted, array['object', 'secret']);
    return true;
end
$$;

-- Returns which of the given object keys belong to no encrypted copy and to no export of the audit log, for the sweep
-- that deletes the objects of interrupted attempts. The function reveals nothing about keys that the caller did not
-- name.
create function private.unknown_export_keys(keys text[]) returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select k.key from unnest(keys) as k (key)
        where not exists (
            select from private.access_exports as e where e.object_key = k.key and e.expired_at is null
        ) and not exists (select from private.audit_export_files as f where f.object_key = k.key)
    );
end
$$;

-- Returns the type of the entity to which the archives under `exports/<id>/` belong, for an audit row.
create function private.export_entity_type(of_id uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when exists (select from resguardo.audit_exports as e where e.id = of_id) then 'audit_export'
        else 'access_request'
    end;
end
$$;

-- Writes the audit row about this access, and returns the object key of an access request's encrypted copy to the
-- patient. Returns null if the person may not see the request or it does not exist (the audit row then says DENIED or
-- ABSENT), and '' if the access request has no copy now. Raises RG429 (quota_urls).
create function private.release_export_key(of_request uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
    made private.access_exports;
begin
    perform private.patient();
    perform private.use_quota(private.uid(), 'urls');
    wanted := private.find_access_request(of_request, 'access_request.issue_url');
    if wanted.id is null then
        return null;
    end if;
    select e.* into made from private.access_exports as e
    where e.request_id = of_request and e.expires_at > private.now() and e.expired_at is null;
    perform private.write_audit(
        'access_request.issue_url', case when made.request_id is null then 'FAILED' else 'ALLOWED' end,
        case when made.request_id is null then 'export_not_there' end, 'access_request', array[of_request],
        array[wanted.patient_id],
        array(select distinct r.consultation_id from resguardo.recordings as r where r.id = any(made.recording_ids)),
        array['object'], coalesce(made.files, 0),
        case when made.request_id is not null then wanted.export_size_bytes end
    );
    return coalesce(made.object_key, '');
end
$$;

-- Returns the passphrase of an access request's encrypted copy once, so that a compliance officer can give it to the
-- patient by telephone or post. The function erases the passphrase in the transaction that returns it. Returns null
-- if the access request does not exist. Raises RG409 (export_secret_gone) if the encrypted copy does not exist or its
-- passphrase was already shown.
create function private.reveal_export_secret(of_request uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.access_requests;
    revealed text;
begin
    perform private.person();
    wanted := private.lock_access_request(of_request, 'access_request.reveal_secret');
    if wanted.id is null then
        return null;
    end if;
    select e.secret into revealed from private.access_exports as e
    where e.request_id = of_request and e.ready_at is not null and e.expires_at > private.now()
        and e.expired_at is null;
    if revealed is null then
        raise exception 'export_secret_gone' using errcode = 'RG409';
    end if;
    update private.access_exports as e set secret = null where e.request_id = of_request;
    update resguardo.access_requests as a set secret_revealed_at = private.now() where a.id = of_request;
    perform private.audit_request('access_request.reveal_secret', wanted, array['export.secretRevealedAt', 'secret']);
    return revealed;
end
$$;
