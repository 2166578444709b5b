-- What keeps a recording from being lost, doubled or stuck: the one table of steps, when each was taken, the sound
-- beside the picture, recordings that start by themselves, and what the reconciler asks.

alter table resguardo.consultations
add column auto_record boolean not null default false,
add column separate_speakers boolean not null default false;
comment on column resguardo.consultations.auto_record is
'Recorded as soon as the doctor and the patient are in the room and everybody consents, once.';
comment on column resguardo.consultations.separate_speakers is
'Beside the picture the sound alone is recorded, doctor and patient on a channel each.';

alter table resguardo.recordings
add column medium text not null default 'VIDEO'
constraint recordings_medium_is_known check (medium in ('VIDEO', 'SPEAKERS')),
add column beside uuid,
add column source text not null default 'EGRESS'
constraint recordings_source_is_known check (source in ('EGRESS', 'IMPORT')),
add column status_at timestamptz not null default clock_timestamp(),
add constraint recordings_speakers_are_beside check ((medium = 'SPEAKERS') = (beside is not null)),
add constraint recordings_of_consultation_key unique (id, consultation_id),
add constraint recordings_beside_fkey foreign key (beside, consultation_id)
references resguardo.recordings (id, consultation_id);
comment on column resguardo.recordings.beside is 'The video that this sound was recorded beside.';
comment on column resguardo.recordings.status_at is 'When it came to its status: deadlines count from here.';
comment on column resguardo.recordings.error is
'What went wrong, or what stopped it; a READY recording may bear one.';

create unique index recordings_beside_key on resguardo.recordings (beside, consultation_id);
create index recordings_unfinished_idx on resguardo.recordings (status_at)
where status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING', 'LOST');

drop index resguardo.recordings_one_live_key;
create unique index recordings_one_live_key on resguardo.recordings (consultation_id, medium)
where status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING');

-- The same table as TRANSITIONS in app/recordings/model.py; a test holds them together.
create function private.may_become(before text, after text) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return before = after or after = any(case before
        when 'REQUESTED' then array['STARTING', 'ABORTED', 'FAILED']
        when 'STARTING' then array['RECORDING', 'STOPPING', 'VERIFYING', 'FAILED', 'ABORTED', 'LOST']
        when 'RECORDING' then array['STOPPING', 'VERIFYING', 'FAILED', 'ABORTED', 'LOST']
        when 'STOPPING' then array['VERIFYING', 'FAILED', 'ABORTED', 'LOST']
        when 'VERIFYING' then array['READY', 'FAILED', 'LOST']
        when 'LOST' then array['READY']
        else '{}'::text[]
    end);
end
$$;

create or replace function private.guard_recording() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
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
    if old.status in ('READY', 'FAILED', 'ABORTED')
        and (
            new.egress_id, new.room_sid, new.started_at, new.ended_at, new.duration_seconds, new.size_bytes,
            new.sha256, new.truncated, new.error
        ) is distinct from (
            old.egress_id, old.room_sid, old.started_at, old.ended_at, old.duration_seconds, old.size_bytes,
            old.sha256, old.truncated, old.error
        )
    then
        raise exception 'recording_is_finished' using errcode = 'RG409';
    end if;
    new.updated_at := clock_timestamp();
    if new.status <> old.status then
        new.status_at := new.updated_at;
    end if;
    return new;
end
$$;

-- Fixes where the recording's object will be. The key names nobody. Raises RG403 for a recording that is not the
-- caller's own.
create or replace function private.assign_object_key(of_recording uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.person();
    insert into private.recording_secrets (recording_id, object_key)
    select r.id, private.first_object_key(r)
    from resguardo.recordings as r
    where r.id = of_recording and r.doctor_id = private.person();
    if not found then
        raise exception 'not_own_recording' using errcode = 'RG403';
    end if;
end
$$;

create function private.object_prefix(of_recording resguardo.recordings) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return format(
        'r/standard/%s/%s/', of_recording.consultation_id, coalesce(of_recording.beside, of_recording.id)
    );
end
$$;

create function private.first_object_key(of_recording resguardo.recordings) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return private.object_prefix(of_recording)
        || case of_recording.medium when 'SPEAKERS' then 'speakers.ogg' else 'video.mp4' end;
end
$$;

-- Law 5: each time that LiveKit is asked anew it is given another key, so that an egress of an earlier ask that turns
-- up late overwrites nothing; and the key follows the egress that is adopted. Only while nothing has been recorded to
-- the end. Raises RG409 (object_key_of_another).
create function private.point_object_key(of_recording uuid, key text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.recordings;
begin
    select r.* into wanted from resguardo.recordings as r where r.id = of_recording;
    if wanted.id is null or not private.is_live(wanted.status)
        or not starts_with(key, private.object_prefix(wanted))
        or substr(key, length(private.object_prefix(wanted)) + 1) !~ (
            case wanted.medium
                when 'SPEAKERS' then '^speakers(-[0-9]{1,3})?[.]ogg$' else '^video(-[0-9]{1,3})?[.]mp4$'
            end
        )
    then
        raise exception 'object_key_of_another' using errcode = 'RG409';
    end if;
    update private.recording_secrets as s set object_key = key
    where s.recording_id = of_recording and s.object_key <> key;
end
$$;

-- A consultation that is to be recorded by itself, recorded: its recording with its object key and its job, or null
-- where it is not to be, was before, or somebody's consent is missing. The consultation's lock makes it once.
create function private.request_recording(of_consultation uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    wanted resguardo.consultations;
    video constant uuid := gen_random_uuid();
    made resguardo.recordings;
begin
    select c.* into wanted from resguardo.consultations as c where c.id = of_consultation for update;
    if wanted.id is null or not wanted.auto_record
        or not private.everyone_consents(of_consultation)
        or exists (
            select from resguardo.recordings as r where r.consultation_id = of_consultation and r.source = 'EGRESS'
        )
        or not exists (
            select from resguardo.staff as s where s.user_id = wanted.doctor_id and s.status = 'active'
        )
    then
        return null;
    end if;
    for made in
        insert into resguardo.recordings (
            id, consultation_id, doctor_id, patient_id, requested_by, room_name, medium, beside
        )
        select
            case m.medium when 'VIDEO' then video else gen_random_uuid() end, wanted.id, wanted.doctor_id,
            wanted.patient_id, wanted.doctor_id, wanted.room_name, m.medium,
            case m.medium when 'SPEAKERS' then video end
        from unnest(array['VIDEO', 'SPEAKERS']) with ordinality as m (medium, place)
        where m.medium = 'VIDEO' or wanted.separate_speakers
        order by m.place
        returning *
    loop
        insert into private.recording_secrets (recording_id, object_key)
        values (made.id, private.first_object_key(made));
        perform private.defer_job('start_recording', made.id);
    end loop;
    perform private.write_audit(
        'recording.start', 'ALLOWED', 'auto_record', 'recording', array[video], array[wanted.patient_id],
        array[wanted.id], array['status'], 1, null
    );
    return video;
end
$$;

-- Law 5: the webhook's one transaction. True where the event is new; its job is queued with it: to read LiveKit's list
-- after news of an egress, and to see who is there after news of a room that is recorded, or still to be by itself; a
-- start that follows looks for itself. Where a job already waits to look at the same, none is queued: somebody who
-- comes and goes fills the inbox, but not the queue. That needs no lock: a worker has its job once the fetch is
-- committed, so what is still seen as `todo` here asks LiveKit later than now, and now is later than what LiveKit tells
-- of. A job that failed before, and waits for its next try, does not count.
create or replace function private.receive_livekit_event(
    of_event_id text, of_event text, of_egress_id text, of_room_name text, at timestamptz
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    task constant text := case
        when of_event like 'egress\_%' then 'follow_egress'
        when of_event in ('participant_joined', 'track_published')
            and exists (
                select from resguardo.consultations as c
                where c.room_name = of_room_name
                    and (
                        c.auto_record and not exists (
                            select from resguardo.recordings as r where r.consultation_id = c.id and r.source = 'EGRESS'
                        )
                        or exists (
                            select from resguardo.recordings as r
                            where r.consultation_id = c.id and private.is_live(r.status)
                        )
                    )
            )
            then 'watch_room'
    end;
    turn constant text := task || ':' || coalesce(of_room_name, of_egress_id, of_event_id);
begin
    insert into private.livekit_events (event_id, event, egress_id, room_name, occurred_at)
    values (of_event_id, of_event, of_egress_id, of_room_name, at)
    on conflict (event_id) do nothing;
    if not found then
        return false;
    end if;
    if task is not null and not exists (
        select from jobs.procrastinate_jobs as j
        inner join private.livekit_events as e on j.args ->> 'id' = e.event_id
        where j.lock = turn and j.status = 'todo' and j.attempts = 0 and e.egress_id is not distinct from of_egress_id
    )
    then
        perform jobs.procrastinate_defer_jobs_v1(array[
            row(
                'default', task, 0, turn, null, jsonb_build_object('id', of_event_id), null
            )::jobs.procrastinate_job_to_defer_v1
        ]);
    end if;
    return true;
end
$$;

-- Which of these keys no recording has, for the sweep of the bucket. It tells nothing that was not asked with.
create function private.unknown_object_keys(keys text[]) returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select k.key from unnest(keys) as k (key)
        where not exists (select from private.recording_secrets as s where s.object_key = k.key)
    );
end
$$;

create or replace function private.operation_of(action text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return case action
        when 'viewer.read' then 'R'
        when 'consultation.register' then 'C'
        when 'consultation.read' then 'R'
        when 'consultation.list' then 'R'
        when 'consultation.join' then 'E'
        when 'guest.invite' then 'C'
        when 'guest.join' then 'E'
        when 'consent.give' then 'C'
        when 'consent.withdraw' then 'C'
        when 'recording.list' then 'R'
        when 'recording.read' then 'R'
        when 'recording.watch' then 'R'
        when 'recording.start' then 'C'
        when 'recording.stop' then 'U'
        when 'recording.import' then 'C'
        when 'recording.transition' then 'U'
        when 'recording.issue_url' then 'R'
        when 'recording.read_storage' then 'R'
        when 'recording.read_key' then 'R'
        when 'egress.stop_stray' then 'E'
        when 'object.report_orphan' then 'R'
        when 'object.sweep_orphan' then 'D'
        when 'object.abort_upload' then 'D'
        when 'rooms.list' then 'R'
        when 'audit.list' then 'R'
        when 'staff.invite' then 'C'
        when 'staff.add' then 'C'
        when 'staff.map' then 'U'
        when 'staff.suspend' then 'U'
        when 'staff.ban' then 'U'
        when 'request.reject' then 'E'
        when 'webhook.reject' then 'E'
    end;
end
$$;

-- The audit row of a read or a change, in its own statement. `asked` is the one id that was asked for, null for a list;
-- where it was asked for and not found, the row says whether it was hidden (DENIED) or never was (ABSENT), and the
-- caller cannot tell. Always returns true, so that the outer query can refer to it.
create or replace function private.record_access(
    action text, entity_type text, asked uuid, found_ids uuid[], patient_ids uuid[], consultation_ids uuid[],
    fields text[], meter text, quota integer
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    person constant uuid := private.require_person();
    is_missing constant boolean := asked is not null and cardinality(found_ids) = 0;
    hidden private.subjects;
begin
    if action = any (array[
        'guest.join', 'recording.transition', 'recording.issue_url', 'recording.read_storage', 'recording.read_key',
        'egress.stop_stray', 'object.report_orphan', 'object.sweep_orphan', 'object.abort_upload', 'audit.list',
        'staff.add', 'staff.map', 'staff.suspend', 'staff.ban', 'request.reject', 'webhook.reject'
    ]) then
        raise exception 'reserved_action' using errcode = 'RG403';
    end if;
    if meter is not null then
        perform private.use_quota(person, meter, quota);
    end if;
    if not is_missing then
        perform private.write_audit(
            action, 'ALLOWED', null, entity_type, found_ids, patient_ids, consultation_ids, fields,
            cardinality(found_ids), null
        );
        return true;
    end if;
    hidden := private.subjects_of(entity_type, asked);
    perform private.write_audit(
        action, case when hidden.patient_ids is null then 'ABSENT' else 'DENIED' end, 'not_found',
        entity_type, array[asked], hidden.patient_ids, hidden.consultation_ids, fields, 0, null
    );
    return true;
end
$$;
