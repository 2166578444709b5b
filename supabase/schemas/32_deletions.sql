-- Deletions of recordings, from the request to the proof that every object is gone.

create table resguardo.deletions (
    id uuid primary key default gen_random_uuid(),
    recording_id uuid not null,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    ground text not null
    constraint deletions_ground_is_known check (ground in ('RETENTION', 'REQUEST', 'MISSING', 'RESTORE')),
    reason text
    constraint deletions_reason_is_known check (
        reason in ('RECORDED_IN_ERROR', 'WRONG_PATIENT', 'DUPLICATE', 'PATIENT_ASKED', 'CONSENT_WITHDRAWN', 'OTHER')
    ),
    status text not null default 'REQUESTED'
    constraint deletions_status_is_known check (status in ('REQUESTED', 'UNDONE', 'DELETING', 'DELETED')),
    requested_by uuid,
    requested_at timestamptz not null default private.now(),
    undo_until timestamptz,
    number integer not null default 1 constraint deletions_number_is_positive check (number > 0),
    policy_id integer constraint deletions_policy_id_fkey references resguardo.retention_policies (id),
    due_at timestamptz,
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default private.now(),
    hold_checked_at timestamptz,
    error text constraint deletions_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    shredded_at timestamptz,
    destroyed_keys jsonb not null default '[]',
    finished_at timestamptz,
    cleared_text_rows jsonb not null default '[]',
    changed_at timestamptz not null default private.now(),
    stage text not null
    generated always as (case when status = 'DELETING' and error is not null then 'FAILING' else status end) stored,
    constraint deletions_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint deletions_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint deletions_request_is_whole check (
        (ground = 'REQUEST') = (reason is not null) and (ground = 'REQUEST') = (undo_until is not null)
        and (ground = 'REQUEST') = (requested_by is not null)
    )
);
alter table resguardo.deletions enable row level security;
comment on column resguardo.deletions.number is
'The number of its certificate. 2 and more: a restored backup brought the recording back and it was destroyed again.';
comment on column resguardo.deletions.stage is
'The status, or FAILING if the deletion is DELETING and its newest attempt failed. Lists are filtered by it.';
comment on column resguardo.deletions.hold_checked_at is
'When the newest attempt checked that no hold covers the recording.';
comment on column resguardo.deletions.shredded_at is 'When its keys were destroyed, after its objects were deleted.';
comment on column resguardo.deletions.changed_at is 'When subscriptions were last notified of a change.';
comment on column resguardo.deletions.cleared_text_rows is
'How many rows of text were deleted from each table: of the transcript, of what was made from it, and of notes.';
create unique index deletions_one_open_key on resguardo.deletions (recording_id)
where status in ('REQUESTED', 'DELETING');
create index deletions_recording_idx on resguardo.deletions (recording_id, consultation_id, requested_at desc);
create index deletions_consultation_idx on resguardo.deletions (consultation_id, doctor_id, patient_id);
create index deletions_doctor_idx on resguardo.deletions (doctor_id, requested_at desc, id desc);
create index deletions_changed_idx on resguardo.deletions (doctor_id, changed_at desc, id desc);
create index deletions_patient_idx on resguardo.deletions (patient_id);
create index deletions_policy_idx on resguardo.deletions (policy_id);
create index deletions_doctor_stage_idx on resguardo.deletions (doctor_id, stage, requested_at desc, id desc);
create index deletions_requested_idx on resguardo.deletions (requested_at desc, id desc);
create index deletions_stage_idx on resguardo.deletions (stage, requested_at desc, id desc);
create index deletions_in_grace_idx on resguardo.deletions (undo_until) where status = 'REQUESTED';
create index deletions_begun_idx on resguardo.deletions (next_attempt_at) where status = 'DELETING';

create trigger deletions_announce after insert on resguardo.deletions
for each row execute function private.announce_change();

create trigger deletions_announce_progress before update on resguardo.deletions
for each row when (
    (new.status, new.attempts, new.error, new.undo_until, new.finished_at)
    is distinct from (old.status, old.attempts, old.error, old.undo_until, old.finished_at)
) execute function private.announce_change();

create table private.deletion_objects (
    deletion_id uuid not null constraint deletion_objects_deletion_id_fkey references resguardo.deletions (id),
    object_key text not null,
    size_bytes bigint not null,
    etag text not null,
    sha256 text,
    deleted_at timestamptz,
    gone_at timestamptz,
    constraint deletion_objects_pkey primary key (deletion_id, object_key)
);
comment on table private.deletion_objects is
'The objects found before their deletion, so that a crash loses nothing. Deleted once the certificate lists them.';

-- Takes the keeping lock, and locks and returns a recording that the caller may destroy. A doctor may destroy the
-- doctor's own recordings, and a compliance officer may destroy every recording. If the caller may not destroy the
-- recording, the function locks nothing, writes an audit row with DENIED or ABSENT, and returns null.
create function private.lock_own_recording(of_recording uuid, action text) returns resguardo.recordings
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
    is_allowed boolean;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording;
    if current_setting('role') = 'compliance' then
        is_allowed := private.person() is not null;
    else
        is_allowed := wanted.doctor_id = private.doctor();
    end if;
    if wanted.id is null or not is_allowed then
        perform private.write_audit(
            action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'recording',
            array[of_recording], array_remove(array[wanted.patient_id], null),
            array_remove(array[wanted.consultation_id], null), '{}', 0, null
        );
        return null;
    elsif wanted.medium <> 'VIDEO' then
        perform private.write_audit(
            action, 'FAILED', 'not_found', 'recording', array[of_recording], array[wanted.patient_id],
            array[wanted.consultation_id], '{}', 0, null
        );
        return null;
    end if;
    perform private.lock_keeping(false);
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording for update;
    return wanted;
end
$$;

-- Requests that a recording is destroyed after the grace period of the retention policy. If a deletion of the
-- recording is already requested or running, the function returns that deletion. Returns null if the person may not
-- see the recording or it does not exist. Raises RG409 (recording_not_finished, recording_deleted, recording_held).
create function private.request_deletion(of_recording uuid, why text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.recordings := private.lock_own_recording(of_recording, 'recording.delete');
    days constant integer := coalesce((private.active_policy()).terms ->> 'grace_days', '7')::integer;
    made uuid;
begin
    if wanted.id is null then
        return null;
    elsif wanted.status = 'DELETED' then
        raise exception 'recording_deleted' using errcode = 'RG409';
    elsif not private.is_finished(wanted.status) or exists (
        select from resguardo.recordings as s where s.video_id = wanted.id and not private.is_finished(s.status)
    ) then
        raise exception 'recording_not_finished' using errcode = 'RG409';
    elsif private.is_held(wanted.id) then
        raise exception 'recording_held' using errcode = 'RG409';
    end if;
    select d.id into made
    from resguardo.deletions as d where d.recording_id = wanted.id and d.status in ('REQUESTED', 'DELETING');
    if made is null then
        insert into resguardo.deletions (
            recording_id, consultation_id, doctor_id, patient_id, ground, reason, requested_by, undo_until, policy_id,
            due_at
        ) values (
            wanted.id, wanted.consultation_id, wanted.doctor_id, wanted.patient_id, 'REQUEST', why, private.uid(),
            private.latest_time() + make_interval(days => days), wanted.retention_policy, wanted.due_at
        ) returning id into made;
    end if;
    perform private.write_audit_later(
        'recording.delete', lower(why), 'recording', wanted.id, wanted.patient_id, wanted.consultation_id,
        array['deletion'], wanted.size_bytes
    );
    return made;
end
$$;

-- Cancels a deletion request before the destruction has begun. A second cancellation of the same request changes
-- nothing. Returns null if the person may not see the recording or it does not exist. Raises RG409
-- (deletion_not_undoable).
create function private.undo_deletion(of_recording uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant resguardo.recordings := private.lock_own_recording(of_recording, 'recording.undo_delete');
    newest resguardo.deletions;
begin
    if wanted.id is null then
        return null;
    end if;
    select d.* into newest
    from resguardo.deletions as d where d.recording_id = wanted.id
    order by d.status in ('REQUESTED', 'DELETING') desc, d.requested_at desc, d.id desc limit 1 for update;
    if newest.id is null then
        raise exception 'deletion_not_requested' using errcode = 'RG409';
    elsif newest.status = 'REQUESTED' then
        update resguardo.deletions as d set status = 'UNDONE', finished_at = private.now() where d.id = newest.id;
    elsif newest.status is distinct from 'UNDONE' then
        raise exception 'deletion_not_undoable' using errcode = 'RG409';
    end if;
    perform private.write_audit_later(
        'recording.undo_delete', null, 'recording', wanted.id, wanted.patient_id, wanted.consultation_id,
        array['deletion'], null
    );
    return newest.id;
end
$$;

-- Returns whether the destruction of a recording is under way. Returns false if a legal hold was placed after a
-- failed attempt to destroy the recording. Under a legal hold, the worker makes no further attempt to destroy the
-- recording, and may move the remaining objects to keep/.
create function private.is_in_destruction(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.deletions as d
        where d.recording_id = of_recording and d.status = 'DELETING'
            and (
                d.shredded_at is not null or d.next_attempt_at > private.now() or not private.is_held(of_recording)
            )
    );
end
$$;

-- Returns whether the destruction of a recording was requested, has begun or is complete. After a request to destroy
-- a recording, its transcript is neither made nor shown unless the deletion is undone.
create function private.is_to_be_destroyed(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.deletions as d
        where d.recording_id = of_recording and d.status in ('REQUESTED', 'DELETING', 'DELETED')
    );
end
$$;

-- Returns whether the destruction of a recording has begun or is complete.
create function private.is_being_destroyed(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.deletions as d
        where d.recording_id = of_recording and d.status in ('DELETING', 'DELETED')
    );
end
$$;

-- Returns whether a recording is destroyed, which means that at least its encryption key is deleted. An encrypted
-- copy for an access request never contains a destroyed recording.
create function private.is_destroyed(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.deletions as d
        where d.recording_id = of_recording and (d.status = 'DELETED' or d.shredded_at is not null)
    );
end
$$;

-- Cancels deletions that have begun but have not yet destroyed an encryption key. The recordings of cancelled
-- deletions stay unchanged.
create function private.call_off(deletions uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update resguardo.deletions as d set status = 'UNDONE', finished_at = private.now()
    where d.id = any (deletions) and d.status = 'DELETING' and d.shredded_at is null;
    delete from private.deletion_objects as o
    using resguardo.deletions as d
    where d.id = o.deletion_id and d.id = any (deletions) and d.status = 'UNDONE';
end
$$;

-- Locks the deletions that the worker claimed in one attempt, and returns those that still belong to this attempt. If
-- the worker was suspended for longer than the lease of its claim, a later attempt may have claimed some of the
-- deletions, or a legal hold may protect the recordings.
create function private.lock_claimed(deletions uuid[], attempts integer[]) returns uuid[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform from resguardo.deletions as d where d.id = any (deletions) order by d.id for update;
    return array(
        select d.id
        from unnest(deletions, attempts) as c (id, attempt)
        inner join resguardo.deletions as d on d.id = c.id and d.attempts = c.attempt and d.status = 'DELETING'
    );
end
$$;

-- Writes the audit row, and claims at most `most` deletions for the caller: deletions that are due, and deletions
-- that were interrupted. A deletion is due if both the database's clock and the given time, which comes from the
-- bucket's clock, have reached its due date. The function claims no deletion of a recording under a legal hold or an
-- access request, even if the destruction has begun. The function ignores a `next_attempt_at` that is far in the
-- future, because a wrong clock wrote it. The query uses a custom plan, in which a hash of the held recordings shows
-- whether a recording is held. Many recordings may be held at the same time.
create function private.claim_deletions(by_clock timestamptz, most integer)
returns table (
    deletion_id uuid, recording_id uuid, attempt integer, ground text, prefixes text[], object_keys text[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan
as $$
declare
    moment constant timestamptz := least(by_clock, private.now());
    spared uuid[];
    claimed uuid[];
begin
    perform private.lock_keeping(false);
    update private.keeping_clock as c set highest = moment where c.highest < moment;
    spared := array(
        select v.id from private.held_videos() as v (id) union select m.id from private.moving_videos() as m (id)
    );
    insert into resguardo.deletions (
        recording_id, consultation_id, doctor_id, patient_id, ground, status, policy_id, due_at
    )
    select
        r.id, r.consultation_id, r.doctor_id, r.patient_id, 'RETENTION', 'DELETING', r.retention_policy, r.due_at
    from resguardo.recordings as r
    where r.due_at <= moment and r.medium = 'VIDEO' and r.status in ('READY', 'FAILED', 'ABORTED', 'LOST')
        and r.id <> all (spared)
        and not exists (
            select from resguardo.deletions as d
            where d.recording_id = r.id and d.status in ('REQUESTED', 'DELETING')
        )
        and not exists (
            select from resguardo.recordings as s where s.video_id = r.id and not private.is_finished(s.status)
        )
    order by r.due_at asc, r.id asc
    limit most
    for update of r skip locked
    on conflict do nothing;
    update resguardo.deletions as d set status = 'DELETING', next_attempt_at = private.now()
    where d.id in (
        select g.id
        from resguardo.deletions as g
        inner join resguardo.recordings as r on r.id = g.recording_id
        where g.status = 'REQUESTED' and (g.undo_until <= moment or r.due_at <= moment)
            and private.may_be_destroyed(r.id)
        order by g.undo_until asc
        limit most
        for update of g, r skip locked
    );
    perform private.call_off(array(
        select d.id
        from resguardo.deletions as d
        inner join resguardo.recordings as r on r.id = d.recording_id
        where d.status = 'DELETING' and d.ground = 'RETENTION' and d.shredded_at is null
            and r.due_at > d.due_at and r.due_at > moment and d.next_attempt_at <= private.now()
        for update of d
    ));
    with taken as (
        update resguardo.deletions as d
        set attempts = d.attempts + 1,
            hold_checked_at = case when d.shredded_at is null then private.now() else d.hold_checked_at end,
            next_attempt_at = private.now() + interval '15 minutes'
        where d.id in (
            select b.id
            from resguardo.deletions as b
            where b.status = 'DELETING'
                and (b.next_attempt_at <= private.now() or b.next_attempt_at > private.now() + interval '1 day')
                and (b.shredded_at is not null or private.may_be_destroyed(b.recording_id))
            order by b.next_attempt_at asc, b.id asc
            limit most
            for update skip locked
        )
        returning d.id
    )
    select array_agg(t.id) into claimed from taken as t;
    perform private.audit_deletions('recording.destroy', 'begun', claimed);
    return query
    select
        d.id, d.recording_id, d.attempts, d.ground,
        private.object_prefixes(r) || array(
            select private.exports_prefix(e.request_id)
            from private.access_exports as e
            where e.recording_ids @> array[r.id]
            order by e.request_id
        ),
        array(
            select s.object_key
            from private.recording_secrets as s
            inner join resguardo.recordings as m on m.id = s.recording_id
            where r.id in (m.id, m.video_id)
            union
            select e.object_key from private.access_exports as e where e.recording_ids @> array[r.id]
            union
            select o.object_key from private.deletion_objects as o where o.deletion_id = d.id
        )
    from resguardo.deletions as d
    inner join resguardo.recordings as r on r.id = d.recording_id
    where d.id = any (claimed);
end
$$;

-- Writes the audit row about one step of several deletions. The audit row names first the videos, and then the sound
-- recordings beside these videos.
create function private.audit_deletions(action text, reason text, deletions uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    about record;
begin
    select
        array_agg(d.recording_id) as recordings, array_agg(distinct d.patient_id) as patients,
        array_agg(distinct d.consultation_id) as consultations, count(*)::integer as how_many
    into about
    from resguardo.deletions as d where d.id = any (deletions);
    if about.how_many > 0 then
        perform private.write_audit(
            action, 'ALLOWED', reason, 'recording',
            about.recordings || array(
                select r.id from resguardo.recordings as r where r.video_id = any (about.recordings) order by r.id
            ),
            about.patients, about.consultations,
            array['object', 'key'], about.how_many, null
        );
    end if;
end
$$;

-- Stores a list of the objects that were found in the bucket, before the worker deletes them. Objects that an earlier
-- attempt stored stay in the list. Returns the claimed deletions that may continue.
create function private.keep_inventory(
    claimed uuid[], attempts integer[], deletions uuid[], object_keys text[], sizes bigint[], etags text[]
) returns uuid[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ours constant uuid[] := private.lock_claimed(claimed, attempts);
begin
    insert into private.deletion_objects (deletion_id, object_key, size_bytes, etag, sha256)
    select
        i.deletion_id, i.object_key, i.size_bytes, i.etag,
        (
            select m.sha256
            from private.recording_secrets as s
            inner join resguardo.recordings as m on m.id = s.recording_id
            where s.object_key = i.object_key and m.size_bytes = i.size_bytes
        )
    from unnest(deletions, object_keys, sizes, etags) as i (deletion_id, object_key, size_bytes, etag)
    where i.deletion_id = any (ours)
    on conflict (deletion_id, object_key) do nothing;
    return ours;
end
$$;

-- Deletes the transcript of a recording, the insights into it, the notes on it and its thumbnail, and returns how many
-- rows it deleted from each table. The function locks the transcript first, as a correction does, which then marks the
-- insights as outdated.
create function private.clear_texts(of_recording uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    of_transcript constant jsonb := private.clear_transcript(of_recording);
begin
    return of_transcript || private.clear_insights(of_recording) || private.clear_note_draft(of_recording)
        || private.clear_session_notes(of_recording) || private.clear_thumbnail(of_recording);
end
$$;

-- Destroys the encryption keys of recordings that have no object left in the bucket, deletes their text and object
-- keys, and returns the data for each certificate. If objects of a recording are left in the bucket, the function skips
-- the recording.
create function private.shred_keys(
    claimed uuid[], attempts integer[], of_deletions uuid[], object_keys text[], deleted timestamptz[],
    gone timestamptz[]
) returns table (deletion_id uuid, facts jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := private.now();
    ours constant uuid[] := private.lock_claimed(claimed, attempts);
    shredded uuid[];
    recordings uuid[];
    media uuid[];
begin
    update private.deletion_objects as o
    set deleted_at = least(g.deleted_at, moment), gone_at = least(g.gone_at, moment)
    from unnest(of_deletions, object_keys, deleted, gone) as g (deletion_id, object_key, deleted_at, gone_at)
    inner join resguardo.deletions as d on d.id = g.deletion_id and d.shredded_at is null
    where o.deletion_id = g.deletion_id and o.object_key = g.object_key and d.id = any (ours);
    select array_agg(d.id), array_agg(d.recording_id) into shredded, recordings
    from resguardo.deletions as d
    where d.id = any (ours)
        and not exists (
            select from private.deletion_objects as o where o.deletion_id = d.id and o.gone_at is null
        );
    media := array(
        select r.id from resguardo.recordings as r where r.id = any (recordings) or r.video_id = any (recordings)
    );
    with destroyed as (
        delete from private.recording_keys as k where k.recording_id = any (media)
        returning k.recording_id, k.wrapped_key, k.root_key_id
    ),

    told as (
        select
            coalesce(r.video_id, r.id) as recording_id,
            jsonb_agg(
                jsonb_build_object(
                    'kind', 'recording', 'fingerprint', encode(sha256(x.wrapped_key), 'hex'),
                    'root_key_id', x.root_key_id, 'destroyed_at', moment
                )
            ) as keys
        from destroyed as x
        inner join resguardo.recordings as r on r.id = x.recording_id
        group by coalesce(r.video_id, r.id)
    )

    update resguardo.deletions as d
    set shredded_at = coalesce(d.shredded_at, moment),
        destroyed_keys = d.destroyed_keys
            || coalesce((select t.keys from told as t where t.recording_id = d.recording_id), '[]'),
        cleared_text_rows = d.cleared_text_rows || private.clear_texts(d.recording_id)
    where d.id = any (shredded);
    delete from private.recording_secrets as s where s.recording_id = any (media);
    delete from private.import_secrets as s
    using resguardo.recording_imports as i
    where i.id = s.import_id and i.recording_id = any (media);
    perform from resguardo.access_requests as a
    where a.id in (select e.request_id from private.access_exports as e where e.recording_ids && recordings)
    order by a.id
    for update;
    delete from private.access_exports as e where e.recording_ids && recordings;
    return query
    select
        d.id,
        jsonb_build_object(
            'recording_id', d.recording_id, 'consultation_id', d.consultation_id, 'ground', d.ground,
            'reason', lower(d.reason), 'requested_at', case d.ground when 'REQUEST' then d.requested_at end,
            'policy', case when p.id is not null then jsonb_build_object(
                'name', p.name, 'sha256', p.sha256, 'due_at', d.due_at,
                'term_days', private.term_of(p.terms, c.kind, 'recording_days')
            ) end,
            'hold_checked_at', d.hold_checked_at, 'destroyed_at', d.shredded_at, 'keys', d.destroyed_keys,
            'text_rows', d.cleared_text_rows,
            'signed_note_id', null, 'surviving_notes', private.surviving_notes(d.recording_id),
            'number', d.number,
            'repeats', (
                select c.sha256 from resguardo.certificates as c
                where c.recording_id = d.recording_id and c.number = d.number - 1
            ),
            'objects', coalesce(
                (
                    select jsonb_agg(
                        jsonb_build_object(
                            'key', o.object_key, 'size_bytes', o.size_bytes, 'etag', o.etag, 'sha256', o.sha256,
                            'deleted_at', o.deleted_at, 'gone_at', o.gone_at
                        ) order by o.object_key
                    )
                    from private.deletion_objects as o where o.deletion_id = d.id
                ),
                '[]'
            )
        )
    from resguardo.deletions as d
    inner join resguardo.consultations as c on c.id = d.consultation_id
    left join resguardo.retention_policies as p on p.id = d.policy_id
    where d.id = any (shredded);
end
$$;

-- Stores the certificates of destruction and sets the destroyed recordings to DELETED.
create function private.finish_deletions(deletions uuid[], documents text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    finished uuid[];
    recordings uuid[];
begin
    select array_agg(d.id), array_agg(d.recording_id) into finished, recordings
    from resguardo.deletions as d
    where d.id = any (deletions) and d.status = 'DELETING' and d.shredded_at is not null;
    insert into resguardo.certificates (
        recording_id, number, deletion_id, doctor_id, patient_id, consultation_id, document, sha256
    )
    select
        d.recording_id, d.number, d.id, d.doctor_id, d.patient_id, d.consultation_id, g.document,
        encode(sha256(convert_to(g.document, 'UTF8')), 'hex')
    from unnest(deletions, documents) as g (deletion_id, document)
    inner join resguardo.deletions as d on d.id = g.deletion_id and d.id = any (finished)
    on conflict (recording_id, number) do nothing;
    perform private.audit_deletions('recording.destroy', 'proven', finished);
    update resguardo.recordings as r set status = 'DELETED', due_at = null
    where r.id = any (recordings) or r.video_id = any (recordings);
    update resguardo.clips as c set status = 'DELETED', error = null
    where c.recording_id = any (recordings) and c.status <> 'DELETED';
    update resguardo.deletions as d set status = 'DELETED', finished_at = private.now(), error = null
    where d.id = any (finished);
    delete from private.deletion_objects as o where o.deletion_id = any (finished);
end
$$;

-- Records why the newest attempt to destroy a recording failed, and returns how many attempts there were. The next
-- attempt to destroy the recording is made within one hour.
create function private.fail_deletion(of_deletion uuid, attempt integer, why text) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    failed resguardo.deletions;
begin
    update resguardo.deletions as d
    set error = why,
        next_attempt_at = private.now() + least(interval '1 hour', interval '1 minute' * 2 ^ least(d.attempts - 1, 10))
    where d.id = of_deletion and d.attempts = attempt and d.status = 'DELETING'
    returning d.* into failed;
    if failed.id is not null then
        perform private.write_audit(
            'deletion.fail', 'FAILED', why, 'deletion', array[failed.id], array[failed.patient_id],
            array[failed.consultation_id], '{}', 1, null
        );
    end if;
    return failed.attempts;
end
$$;

-- Begins the deletion of a recording whose object has been missing from the bucket for too long. Returns false if a
-- legal hold or an access request covers the recording, or its object is not marked as missing.
create function private.destroy_missing(of_recording uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.lock_keeping(false);
    insert into resguardo.deletions (
        recording_id, consultation_id, doctor_id, patient_id, ground, status, policy_id, due_at
    )
    select r.id, r.consultation_id, r.doctor_id, r.patient_id, 'MISSING', 'DELETING', r.retention_policy, r.due_at
    from resguardo.recordings as r
    where r.id = of_recording and r.medium = 'VIDEO' and r.status = 'READY' and r.missing_since is not null
        and private.may_be_destroyed(r.id)
    for update of r
    on conflict (recording_id) where status in ('REQUESTED', 'DELETING') do nothing;
    return found;
end
$$;

-- Cancels the deletion of a recording that was marked as missing although its object exists; the recording stays.
create function private.call_off_missing(of_deletion uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    called_off resguardo.deletions;
begin
    perform private.call_off(array[of_deletion]);
    select d.* into called_off
    from resguardo.deletions as d where d.id = of_deletion and d.status = 'UNDONE' and d.ground = 'MISSING';
    update resguardo.recordings as r set missing_since = null
    where called_off.recording_id in (r.id, r.video_id);
    perform private.write_audit(
        'recording.undo_delete', 'ALLOWED', 'object_is_back', 'recording', array[called_off.recording_id],
        array[called_off.patient_id], array[called_off.consultation_id], array['deletion'], 1, null
    );
end
$$;
