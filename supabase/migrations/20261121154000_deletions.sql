-- Destroying a recording: who may ask for it, what stands against it, and what is kept of it. What the worker does is
-- in the next file.

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
    constraint deletions_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint deletions_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id),
    constraint deletions_request_is_whole check (
        (ground = 'REQUEST') = (reason is not null) and (ground = 'REQUEST') = (undo_until is not null)
        and (ground = 'REQUEST') = (requested_by is not null)
    )
);
comment on column resguardo.deletions.number is
'The number of its certificate: 2 and more where a restored database made it necessary to destroy again.';
comment on column resguardo.deletions.hold_checked_at is 'When nothing held it, at the start of the newest attempt.';
comment on column resguardo.deletions.shredded_at is 'When its keys were destroyed: its objects were gone before.';
create unique index deletions_one_open_key on resguardo.deletions (recording_id)
where status in ('REQUESTED', 'DELETING');
create index deletions_recording_idx on resguardo.deletions (recording_id, consultation_id, requested_at desc);
create index deletions_consultation_idx on resguardo.deletions (consultation_id, doctor_id, patient_id);
create index deletions_doctor_idx on resguardo.deletions (doctor_id, requested_at desc, id desc);
create index deletions_patient_idx on resguardo.deletions (patient_id);
create index deletions_policy_idx on resguardo.deletions (policy_id);
create index deletions_requested_idx on resguardo.deletions (requested_at desc, id desc);
create index deletions_in_grace_idx on resguardo.deletions (undo_until) where status = 'REQUESTED';
create index deletions_begun_idx on resguardo.deletions (next_attempt_at) where status = 'DELETING';

create table resguardo.certificates (
    recording_id uuid not null,
    number integer not null,
    deletion_id uuid not null constraint certificates_deletion_id_fkey references resguardo.deletions (id),
    doctor_id uuid not null,
    patient_id uuid not null,
    consultation_id uuid not null,
    document text not null,
    sha256 text not null constraint certificates_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    kept_at timestamptz not null default private.now(),
    constraint certificates_pkey primary key (recording_id, number),
    constraint certificates_recording_fkey foreign key (recording_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint certificates_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id)
);
comment on column resguardo.certificates.document is
'The signed file as it is in the ledger: ids, sizes and hashes alone.';
create index certificates_deletion_idx on resguardo.certificates (deletion_id);
create index certificates_recording_idx on resguardo.certificates (recording_id, consultation_id);
create index certificates_consultation_idx on resguardo.certificates (consultation_id, doctor_id, patient_id);
create index certificates_doctor_idx on resguardo.certificates (doctor_id);
create index certificates_patient_idx on resguardo.certificates (patient_id);

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
'What was found before it is deleted, so that a crash forgets nothing of it; gone once the certificate says it.';

alter table resguardo.recordings
drop constraint recordings_status_is_known,
add constraint recordings_status_is_known check (
    status in (
        'REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING', 'READY', 'FAILED', 'ABORTED', 'LOST', 'DELETED'
    )
);

create or replace function private.may_become(before text, after text) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return before = after or after = any(case before
        when 'REQUESTED' then array['STARTING', 'ABORTED', 'FAILED']
        when 'STARTING' then array['RECORDING', 'STOPPING', 'VERIFYING', 'FAILED', 'ABORTED', 'LOST']
        when 'RECORDING' then array['STOPPING', 'VERIFYING', 'FAILED', 'ABORTED', 'LOST']
        when 'STOPPING' then array['VERIFYING', 'FAILED', 'ABORTED', 'LOST']
        when 'VERIFYING' then array['READY', 'FAILED', 'LOST']
        when 'LOST' then array['READY', 'DELETED']
        when 'READY' then array['DELETED']
        when 'FAILED' then array['DELETED']
        when 'ABORTED' then array['DELETED']
        else '{}'::text[]
    end);
end
$$;

create function private.is_finished(status text) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return status in ('READY', 'FAILED', 'ABORTED', 'LOST');
end
$$;

-- Law 5: a finished recording never moves back. Law 7: none is DELETED of which the keys are not destroyed.
create or replace function private.guard_recording() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not private.may_become(old.status, new.status) then
        raise exception '%', case when private.is_live(old.status) then 'recording_has_begun'
            else 'recording_is_finished' end using errcode = 'RG409';
    end if;
    if current_setting('role') = 'clinician'
        and new.status = 'ABORTED' and old.status not in ('REQUESTED', 'ABORTED')
    then
        raise exception 'recording_has_begun' using errcode = 'RG409';
    end if;
    if new.status = 'DELETED' and old.status <> 'DELETED' and not exists (
        select from resguardo.deletions as d
        where d.recording_id = coalesce(new.beside, new.id) and d.status = 'DELETING' and d.shredded_at is not null
    ) then
        raise exception 'recording_not_destroyed' using errcode = 'RG409';
    end if;
    if old.status in ('READY', 'FAILED', 'ABORTED', 'DELETED')
        and (
            new.egress_id, new.room_sid, new.started_at, new.ended_at, new.duration_seconds, new.size_bytes,
            new.sha256, new.truncated, new.error, new.stored_at
        ) is distinct from (
            old.egress_id, old.room_sid, old.started_at, old.ended_at, old.duration_seconds, old.size_bytes,
            old.sha256, old.truncated, old.error, old.stored_at
        )
    then
        raise exception 'recording_is_finished' using errcode = 'RG409';
    end if;
    new.updated_at := private.now();
    if new.status <> old.status then
        new.status_at := new.updated_at;
    end if;
    return new;
end
$$;

-- Law 7: what stands against destroying a recording: active legal holds and access requests that hold, by their ids.
create function private.holds_on(of_recording uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select h.id
        from resguardo.recordings as r
        inner join resguardo.consultations as c on c.id = r.consultation_id
        inner join resguardo.legal_holds as h
            on h.released_at is null
            and (
                h.consultation_id = r.consultation_id or h.patient_id = r.patient_id
                or (r.created_at >= h.recorded_since and r.created_at < h.recorded_until)
                or (r.started_at >= h.recorded_since and r.started_at < h.recorded_until)
                or (c.scheduled_at >= h.recorded_since and c.scheduled_at < h.recorded_until)
            )
        where r.id = of_recording
        union all
        select a.id
        from resguardo.recordings as r
        inner join resguardo.access_requests as a
            on a.patient_id = r.patient_id and a.status in ('OPEN', 'APPROVED', 'DENIED')
            and (a.consultation_id is null or a.consultation_id = r.consultation_id) and private.request_holds(a)
        where r.id = of_recording
    );
end
$$;

create function private.is_held(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return private.holds_on(of_recording) <> '{}';
end
$$;

-- The recording that a person may destroy, locked, with the keeping lock: a doctor one's own, compliance any. Null,
-- after the row that says DENIED or ABSENT, for everybody else.
create function private.lock_own_recording(of_recording uuid, action text) returns resguardo.recordings
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    wanted resguardo.recordings;
begin
    perform private.lock_keeping(false);
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording and r.medium = 'VIDEO' for update;
    if wanted.id is null or (current_setting('role') <> 'compliance' and wanted.doctor_id <> person) then
        perform private.write_audit(
            action, case when wanted.id is null then 'ABSENT' else 'DENIED' end, 'not_found', 'recording',
            array[of_recording], array_remove(array[wanted.patient_id], null),
            array_remove(array[wanted.consultation_id], null), '{}', 0, null
        );
        return null;
    end if;
    return wanted;
end
$$;

-- Asks for a recording to be destroyed once the grace period of the policy is over; again, it is the same request.
-- Null where there is none for this person. Raises RG409 (recording_not_finished, recording_deleted, recording_held).
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
        select from resguardo.recordings as s where s.beside = wanted.id and not private.is_finished(s.status)
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
    perform private.write_audit(
        'recording.delete', 'ALLOWED', lower(why), 'recording', array[wanted.id], array[wanted.patient_id],
        array[wanted.consultation_id], array['deletion'], 1, wanted.size_bytes
    );
    return made;
end
$$;

-- Takes a request back while it is not begun; again it changes nothing. Null where there is none for this person.
-- Raises RG409 (deletion_not_undoable).
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
    if newest.status = 'REQUESTED' then
        update resguardo.deletions as d set status = 'UNDONE', finished_at = private.now() where d.id = newest.id;
    elsif newest.status is distinct from 'UNDONE' then
        raise exception 'deletion_not_undoable' using errcode = 'RG409';
    end if;
    perform private.write_audit(
        'recording.undo_delete', 'ALLOWED', null, 'recording', array[wanted.id], array[wanted.patient_id],
        array[wanted.consultation_id], array['deletion'], 1, null
    );
    return newest.id;
end
$$;

-- As before, and not while it is asked to be destroyed: RG409 (recording_being_deleted).
create or replace function private.release_object_key(
    action text, of_recording uuid, totp_max_age_seconds integer, meter text, quota integer
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.person();
    newest_totp double precision;
    wanted resguardo.recordings;
    key text;
    is_allowed boolean;
begin
    if action is null or action not in ('recording.issue_url', 'recording.read_storage') then
        raise exception 'unknown_action' using errcode = 'RG403';
    end if;
    select max((a.method ->> 'timestamp')::double precision) into newest_totp
    from jsonb_array_elements(private.claims() -> 'amr') as a (method)
    where a.method ->> 'method' in ('totp', 'mfa/totp');
    if totp_max_age_seconds is not null
        and coalesce(newest_totp, 0) < extract(epoch from now()) - totp_max_age_seconds
    then
        raise exception 'totp_stale' using errcode = 'RG403';
    end if;
    if meter is not null then
        perform private.use_quota(person, meter, quota);
    end if;
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording;
    if wanted.doctor_id = person and exists (
        select from resguardo.deletions as d
        where d.recording_id = coalesce(wanted.beside, wanted.id) and d.status in ('REQUESTED', 'DELETING')
    ) then
        raise exception 'recording_being_deleted' using errcode = 'RG409';
    end if;
    select s.object_key into key from private.recording_secrets as s where s.recording_id = of_recording;
    is_allowed := coalesce(wanted.doctor_id = person and wanted.status = 'READY' and key is not null, false);
    perform private.write_audit(
        action,
        case when is_allowed then 'ALLOWED' when wanted.id is null then 'ABSENT'
            when wanted.doctor_id <> person then 'DENIED' else 'FAILED' end,
        case when wanted.id is null or wanted.doctor_id <> person then 'not_found'
            when wanted.status <> 'READY' then 'recording_not_ready' end,
        'recording', array[of_recording],
        case when wanted.id is not null then array[wanted.patient_id] end,
        case when wanted.id is not null then array[wanted.consultation_id] end,
        array['object'], is_allowed::integer, case when is_allowed then wanted.size_bytes end
    );
    return case when is_allowed then key when wanted.doctor_id = person then '' end;
end
$$;
