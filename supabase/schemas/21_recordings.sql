-- Recordings, their states, and the rule that nothing is recorded without consent.

create table resguardo.recordings (
    id uuid primary key,
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    requested_by uuid not null,
    status text not null default 'REQUESTED'
    constraint recordings_status_is_known check (
        status in (
            'REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING', 'READY', 'FAILED', 'ABORTED', 'LOST',
            'DELETED'
        )
    ),
    room_name text not null,
    room_sid text,
    egress_id text constraint recordings_egress_id_key unique,
    egress_updated_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    duration_seconds double precision constraint recordings_duration_is_positive check (duration_seconds >= 0),
    size_bytes bigint constraint recordings_size_is_positive check (size_bytes > 0),
    sha256 text constraint recordings_sha256_is_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    truncated boolean not null default false,
    interrupted boolean not null default false,
    recorder_sid text,
    error text constraint recordings_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    medium text not null default 'VIDEO'
    constraint recordings_medium_is_known check (medium in ('VIDEO', 'MICROPHONE', 'SPEAKERS', 'CLIP')),
    video_id uuid,
    participant_id uuid,
    track_sid text constraint recordings_track_sid_is_id check (track_sid ~ '^[A-Za-z0-9_-]{1,64}$'),
    is_routed boolean not null default false,
    source text not null default 'EGRESS'
    constraint recordings_source_is_known check (source in ('EGRESS', 'IMPORT')),
    status_at timestamptz not null default clock_timestamp(),
    expected_sha256 text
    constraint recordings_expected_sha256_is_hex check (expected_sha256 ~ '^[0-9a-f]{64}$'),
    retention_class text not null default 'keep'
    constraint recordings_retention_class_is_known check (retention_class ~ '^(keep|d[1-9][0-9]{0,4})$'),
    recorded_class text,
    stored_at timestamptz,
    due_at timestamptz,
    retention_policy integer,
    term_from timestamptz,
    missing_since timestamptz,
    thumbnail_status text
    constraint recordings_thumbnail_status_is_known check (
        thumbnail_status in ('PENDING', 'READY', 'NO_PICTURE', 'FAILED')
    ),
    constraint recordings_consultation_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id) on update cascade,
    constraint recordings_ready_is_verified check (
        status <> 'READY' or (sha256 is not null and size_bytes is not null)
    ),
    constraint recordings_sound_has_video check ((medium <> 'VIDEO') = (video_id is not null)),
    constraint recordings_microphone_has_participant check ((medium = 'MICROPHONE') = (participant_id is not null)),
    constraint recordings_microphone_has_track check ((medium = 'MICROPHONE') = (track_sid is not null)),
    constraint recordings_routes_are_of_speakers check (medium = 'SPEAKERS' or not is_routed),
    constraint recordings_of_consultation_key unique (id, consultation_id),
    constraint recordings_video_fkey foreign key (video_id, consultation_id)
    references resguardo.recordings (id, consultation_id),
    constraint recordings_participant_fkey foreign key (participant_id, consultation_id)
    references resguardo.participants (id, consultation_id),
    constraint recordings_retention_policy_fkey foreign key (retention_policy)
    references resguardo.retention_policies (id)
);
alter table resguardo.recordings enable row level security;
comment on column resguardo.recordings.truncated is
'LiveKit ended the recording at a limit: the file is valid, but the consultation went on.';
comment on column resguardo.recordings.interrupted is
'The recorder lost its room and came back: a part of the consultation is missing inside the recording.';
comment on column resguardo.recordings.recorder_sid is
'The participant SID under which the recorder was first seen in its room. It gets another one when it comes back.';
comment on column resguardo.recordings.medium is
'VIDEO: the room with mixed sound. MICROPHONE: one microphone track. SPEAKERS: sound on two channels. CLIP: a part.';
comment on column resguardo.recordings.video_id is 'The video that belongs to this sound.';
comment on column resguardo.recordings.participant_id is 'The participant who published the microphone track.';
comment on column resguardo.recordings.track_sid is
'LiveKit''s id of the microphone track. A microphone that is published again is another track.';
comment on column resguardo.recordings.is_routed is
'The doctor is on the left channel, the patient on the right one. False for SPEAKERS: nobody knows who is where.';
comment on column resguardo.recordings.status_at is
'When the recording entered its status. Deadlines count from this time.';
comment on column resguardo.recordings.error is
'The error, or the reason why the recording was stopped. A READY recording may have one.';
comment on column resguardo.recordings.expected_sha256 is
'The SHA-256 that the importer announced for the object; null if none was announced.';
comment on column resguardo.recordings.retention_class is
'The storage prefix of its objects. The bucket also deletes r/d90/ after 90 days; only we delete keep/.';
comment on column resguardo.recordings.recorded_class is
'The class when recording began. Objects that were left there after a move to keep/ are destroyed with it.';
comment on column resguardo.recordings.stored_at is 'When the object was stored, by the bucket''s clock.';
comment on column resguardo.recordings.due_at is
'When it is to be destroyed; null if it is unfinished, is sound (destroyed with its video), or has no policy.';
comment on column resguardo.recordings.retention_policy is 'The retention policy that set its term.';
comment on column resguardo.recordings.term_from is
'When its term begins: the latest end that any clock reported, so a clock that jumped back shortens no term.';
comment on column resguardo.recordings.missing_since is
'Since when its object was missing from the bucket; null if the object is present.';
comment on column resguardo.recordings.thumbnail_status is
'The status of its thumbnail; null if none is made. NO_PICTURE: no picture of the video is suitable.';
create index recordings_consultation_idx on resguardo.recordings (consultation_id, doctor_id, patient_id);
create index recordings_doctor_idx on resguardo.recordings (doctor_id, medium, created_at desc, id desc);
create index recordings_doctor_status_idx on resguardo.recordings (doctor_id, status, created_at desc, id desc)
where medium = 'VIDEO';
create index recordings_changed_idx on resguardo.recordings (doctor_id, updated_at desc, id desc)
where medium = 'VIDEO';
create index recordings_sound_changed_idx on resguardo.recordings (doctor_id, updated_at desc, id desc)
where medium <> 'VIDEO';
create index recordings_patient_idx on resguardo.recordings (patient_id, medium, created_at desc, id desc);
create index recordings_doctor_patient_idx
on resguardo.recordings (doctor_id, patient_id, created_at desc, id desc) where medium = 'VIDEO';
create index recordings_room_idx on resguardo.recordings (room_name);
create index recordings_video_idx on resguardo.recordings (video_id, consultation_id);
create index recordings_participant_idx on resguardo.recordings (participant_id, consultation_id);
create unique index recordings_track_key on resguardo.recordings (video_id, track_sid) where medium = 'MICROPHONE';
create unique index recordings_speakers_key on resguardo.recordings (video_id) where medium = 'SPEAKERS';
create index recordings_unfinished_idx on resguardo.recordings (status_at)
where status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING', 'LOST');
create unique index recordings_one_live_key on resguardo.recordings (consultation_id)
where medium = 'VIDEO' and status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING');
create index recordings_due_idx on resguardo.recordings (due_at, id) where due_at is not null;
create index recordings_retention_policy_idx on resguardo.recordings (retention_policy);
create index recordings_missing_idx on resguardo.recordings (missing_since) where missing_since is not null;

-- Law 5: a finished recording never returns to an earlier status. Law 7: a recording becomes DELETED only after its
-- encryption keys were destroyed. If a doctor stops a recording before it has begun, the trigger sets the recording's
-- error code, because a doctor may change only the recording's status.
create function private.guard_recording() returns trigger
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
    if current_setting('role') = 'clinician'
        and new.status in ('STOPPING', 'ABORTED') and old.status in ('REQUESTED', 'STARTING')
    then
        new.error := 'stopped_by_request';
    end if;
    if new.status = 'DELETED' and old.status <> 'DELETED' and not exists (
        select from resguardo.deletions as d
        where d.recording_id = coalesce(new.video_id, new.id) and d.status = 'DELETING' and d.shredded_at is not null
    ) then
        raise exception 'recording_not_destroyed' using errcode = 'RG409';
    end if;
    if old.status in ('READY', 'FAILED', 'ABORTED', 'DELETED')
        and (
            new.egress_id, new.room_sid, new.started_at, new.ended_at, new.duration_seconds, new.size_bytes,
            new.sha256, new.truncated, new.interrupted, new.error, new.stored_at
        ) is distinct from (
            old.egress_id, old.room_sid, old.started_at, old.ended_at, old.duration_seconds, old.size_bytes,
            old.sha256, old.truncated, old.interrupted, old.error, old.stored_at
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

create trigger recordings_guard before update on resguardo.recordings
for each row execute function private.guard_recording();

create function private.audit_transition() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    step text := new.status;
begin
    if tg_op = 'UPDATE' then
        if new.status = old.status then
            return null;
        end if;
        step := old.status || '>' || new.status;
    end if;
    perform private.write_audit(
        'recording.transition', case new.status when 'FAILED' then 'FAILED' else 'ALLOWED' end,
        concat_ws(':', step, new.error), 'recording', array[new.id], array[new.patient_id],
        array[new.consultation_id], array['status'], 1, new.size_bytes
    );
    return null;
end
$$;

create trigger recordings_audit_transition after insert or update of status on resguardo.recordings
for each row execute function private.audit_transition();

create function private.recheck_consent() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform from resguardo.consultations as c where c.id = new.consultation_id for no key update;
    if private.is_live(new.status) and not private.everyone_consents(new.consultation_id) then
        raise exception 'consent_missing' using errcode = 'RG409';
    end if;
    return null;
end
$$;

create trigger recordings_recheck_consent after insert on resguardo.recordings
for each row execute function private.recheck_consent();

create trigger recordings_announce after insert or update on resguardo.recordings
for each row execute function private.announce_change();

create function private.is_live(status text) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING');
end
$$;

create function private.is_finished(status text) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return status in ('READY', 'FAILED', 'ABORTED', 'LOST');
end
$$;

create function private.has_live_recording(consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_own_consultation(consultation);
    return exists (
        select from resguardo.recordings as r
        where r.consultation_id = consultation and private.is_live(r.status)
    );
end
$$;

-- Returns why no recording of a consultation can start now, for clinicians who see the consultation, its patient and
-- compliance. The service that starts recordings uses the same rows. SPEAKERS_WITH_GUESTS counts only if LiveKit
-- routes the doctor and the patient to the two channels of a sound recording, which only the API's settings say.
create function private.recording_blockers(of_consultation uuid)
returns table (reason text, participant_id uuid, role text, recording_id uuid)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('role') = 'compliance' then
        perform private.person();
    elsif current_setting('role') = 'clinician' then
        perform private.doctor();
        if not exists (
            select from resguardo.consultations as c
            where c.id = of_consultation and private.sees_consultation(c.doctor_id, c.id)
        ) then
            raise exception 'consultation_not_found' using errcode = 'RG404';
        end if;
    else
        perform private.require_own_consultation(of_consultation);
    end if;
    return query
    select 'RECORDING_IN_PROGRESS', null::uuid, null::text, r.id
    from resguardo.recordings as r
    where r.consultation_id = of_consultation and r.medium = 'VIDEO'
        and r.status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING')
    union all
    select
        case when s.is_withdrawn then 'CONSENT_WITHDRAWN' else 'CONSENT_MISSING' end, s.participant_id,
        coalesce(s.guest_role, s.kind), null
    from resguardo.standing_consents as s
    where s.consultation_id = of_consultation and s.is_required and not s.is_given
    union all
    select 'CONSENT_MISSING', null, k.kind, null
    from unnest(array['DOCTOR', 'PATIENT']) as k (kind)
    where not exists (
        select from resguardo.participants as p where p.consultation_id = of_consultation and p.kind = k.kind
    )
    union all
    select 'SPEAKERS_WITH_GUESTS', p.id, p.guest_role, null
    from resguardo.consultations as c
    inner join resguardo.participants as p on p.consultation_id = c.id and p.kind = 'GUEST'
    where c.id = of_consultation and c.separate_speakers;
end
$$;

-- Returns the reason code that tells why a recording in the given status cannot be downloaded, such as
-- `recording_deleted`.
create function private.unready_reason(status text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    return case status
        when 'DELETED' then 'recording_deleted'
        when 'FAILED' then 'recording_failed'
        when 'ABORTED' then 'recording_aborted'
        when 'LOST' then 'recording_lost'
        else 'recording_not_ready'
    end;
end
$$;

-- Returns whether a recording may change from one status to another. A test compares the permitted changes of status
-- with TRANSITIONS in app/recordings/transitions.py.
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
        when 'LOST' then array['READY', 'DELETED']
        when 'READY' then array['DELETED']
        when 'FAILED' then array['DELETED']
        when 'ABORTED' then array['DELETED']
        else '{}'::text[]
    end);
end
$$;

-- Requests the automatic recording of a consultation: creates the recording with its object key and its job, and
-- returns its id. Returns null if the consultation is not recorded automatically, was recorded before, or lacks a
-- consent. The function locks the consultation, so that no concurrent transaction requests a second recording.
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
    insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, room_name)
    values (video, wanted.id, wanted.doctor_id, wanted.patient_id, wanted.doctor_id, wanted.room_name)
    returning * into made;
    insert into private.recording_secrets (recording_id, object_key)
    values (video, private.first_object_key(made));
    perform private.defer_job('start_recording', video);
    perform private.write_audit(
        'recording.start', 'ALLOWED', 'auto_record', 'recording', array[video], array[wanted.patient_id],
        array[wanted.id], array['status'], 1, null
    );
    return video;
end
$$;

-- Returns the published microphone tracks, as (identity, track_sid), that are to be recorded beside the video. Each
-- returned track belongs to a participant of the consultation and has no recording yet.
create function private.unrecorded_tracks(video resguardo.recordings, identities text[], track_sids text[])
returns table (participant_id uuid, track_sid text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct on (t.track_sid) p.id, t.track_sid
    from unnest(identities, track_sids) as t (identity, track_sid)
    join resguardo.participants as p on p.consultation_id = video.consultation_id and p.id::text = t.identity
    where t.track_sid ~ '^[A-Za-z0-9_-]{1,64}$'
        and not exists (
            select from resguardo.recordings as r
            where r.video_id = video.id and r.medium = 'MICROPHONE' and r.track_sid = t.track_sid
        )
    order by t.track_sid, p.id;
end
$$;

-- Requests the sound recordings beside a video that is not finished, if the consultation has `separate_speakers`. The
-- function requests one sound recording for each of the given microphone tracks. If `is_routed` is true, the function
-- requests a single sound recording, with the doctor on the left channel and the patient on the right channel.
-- Returns how many sound recordings the function requested. A video never has both kinds of sound recording: the kind
-- that was requested first stays.
--
-- The sound recording of a microphone track is FAILED at once (too_many_microphones) if eight recordings of the
-- track's participant are live, or if it is the video's hundredth sound recording. The number of sound recordings is
-- limited because each of them costs an egress, and a participant can publish any number of tracks. A recording with
-- both speakers on two channels (`is_routed`) is requested only when the doctor and the patient both have a
-- microphone. If the consultation has a guest, a SPEAKERS recording (doctor and patient, one on each channel) gets
-- the status FAILED at once, with the error speakers_with_guests.
create function private.request_sound(
    of_video uuid, identities text[], track_sids text[], sound_file text, is_routed boolean
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    most_tracks constant integer := 100;
    most_live constant integer := 8;
    video resguardo.recordings;
    wanted record;
    made resguardo.recordings;
    refusal text;
    tracks integer;
    requested uuid[] := '{}';
begin
    select v.* into video from resguardo.recordings as v where v.id = of_video and v.medium = 'VIDEO';
    if video.id is null
        or not (is_routed or exists (select from private.unrecorded_tracks(video, identities, track_sids)))
        or exists (select from resguardo.recordings as r where r.video_id = of_video and r.medium = 'SPEAKERS')
    then
        return 0;
    end if;
    perform from resguardo.consultations as c where c.id = video.consultation_id for no key update;
    select v.* into video from resguardo.recordings as v where v.id = of_video for no key update;
    if video.status not in ('REQUESTED', 'STARTING', 'RECORDING')
        or not exists (
            select from resguardo.consultations as c where c.id = video.consultation_id and c.separate_speakers
        )
        or not private.everyone_consents(video.consultation_id)
        or exists (select from resguardo.recordings as r where r.video_id = of_video and r.medium = 'SPEAKERS')
    then
        return 0;
    end if;
    select count(*) into tracks from resguardo.recordings as r where r.video_id = of_video and r.medium = 'MICROPHONE';
    for wanted in
        select 'MICROPHONE' as medium, t.participant_id, t.track_sid
        from private.unrecorded_tracks(video, identities, track_sids) as t
        where not is_routed or tracks > 0
        union all
        select 'SPEAKERS', null::uuid, null::text
        where is_routed and tracks = 0
    loop
        exit when tracks >= most_tracks;
        if wanted.medium = 'SPEAKERS' then
            refusal := case when exists (
                    select from resguardo.participants as p
                    where p.consultation_id = video.consultation_id and p.kind = 'GUEST'
                ) then 'speakers_with_guests' end;
            exit when refusal is null and (
                select count(distinct p.kind)
                from resguardo.participants as p
                where p.consultation_id = video.consultation_id and p.id::text = any(identities)
            ) < 2;
        else
            tracks := tracks + 1;
            refusal := case when tracks = most_tracks or most_live <= (
                    select count(*) from resguardo.recordings as r
                    where r.video_id = of_video and r.participant_id = wanted.participant_id
                        and private.is_live(r.status)
                ) then 'too_many_microphones' end;
        end if;
        insert into resguardo.recordings (
            id, consultation_id, doctor_id, patient_id, requested_by, room_name, medium, video_id, participant_id,
            track_sid, is_routed, status, error
        ) values (
            gen_random_uuid(), video.consultation_id, video.doctor_id, video.patient_id, video.requested_by,
            video.room_name, wanted.medium, of_video, wanted.participant_id, wanted.track_sid,
            wanted.medium = 'SPEAKERS', case when refusal is null then 'REQUESTED' else 'FAILED' end, refusal
        ) returning * into made;
        insert into private.recording_secrets (recording_id, object_key)
        values (made.id, private.first_object_key(made, sound_file));
        if refusal is null then
            perform private.defer_job('start_recording', made.id);
            requested := requested || made.id;
        end if;
    end loop;
    if requested <> '{}' then
        perform private.write_audit(
            'recording.start', 'ALLOWED', 'separate_speakers', 'recording', requested, array[video.patient_id],
            array[video.consultation_id], array['status'], cardinality(requested), null
        );
    end if;
    return cardinality(requested);
end
$$;

-- Returns the id of the recording whose video this egress recorded, for a statement that then reads or audits the
-- recording. Returns the max UUID, which is the id of no recording, for an unknown egress.
create function private.recording_id_of(of_egress_id text) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.require_person();
    if of_egress_id is null then
        return null;
    end if;
    return coalesce(
        (
            select r.id from resguardo.recordings as r
            where r.egress_id = of_egress_id and r.medium = 'VIDEO'
        ),
        'ffffffff-ffff-ffff-ffff-ffffffffffff'
    );
end
$$;
