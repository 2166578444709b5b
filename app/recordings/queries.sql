-- name: find_by_egress
-- Returns the id of the recording whose video this egress recorded, or the max UUID for an unknown egress.
select private.recording_id_of(%(egress_id)s);

-- name: insert_recording
-- Inserts a requested video of a consultation.
insert into resguardo.recordings (id, consultation_id, doctor_id, patient_id, requested_by, room_name)
values (%(id)s, %(consultation_id)s, %(doctor_id)s, %(patient_id)s, private.uid(), %(room_name)s);

-- name: read_blockers
-- Returns why no recording of a consultation can start now; no row if a recording can start.
select
    b.reason,
    b.participant_id,
    b.role,
    b.recording_id
from private.recording_blockers(%(consultation_id)s) as b;

-- name: assign_object_key
-- Sets the first object key of the caller's own recording.
select private.assign_object_key(%(id)s);

-- name: release_object_key
-- Returns the object key of a recording: null if the recording is hidden from the caller, an empty text if the
-- recording is not READY.
select private.release_object_key(
    %(action)s, %(id)s, %(totp_max_age_seconds)s, %(file_id)s, %(viewing_id)s, %(is_renewal)s
);

-- name: read_lifetime
-- Returns for how many seconds a playback URL of a recording may be valid: as long as the caller's access to the
-- recording lasts, and at most the given number. Also returns whether the recording is of a consultation of the
-- sensitivity SUBSTANCE_USE.
select
    floor(
        extract(
            epoch from least(
                private.access_ends_at(r.consultation_id), t.at + make_interval(secs => %(most)s)
            ) - t.at
        )
    )::integer as seconds,
    exists(
        select from resguardo.consultations as c
        where c.id = r.consultation_id and c.sensitivity = 'SUBSTANCE_USE'
    ) as has_notice
from resguardo.recordings as r
cross join (select clock_timestamp() as at) as t
where r.id = %(id)s;

-- name: read_unready_reason
-- Returns why a recording has no object to open.
select private.unready_reason(r.status) from resguardo.recordings as r where r.id = %(id)s;

-- name: lock_recording
-- Locks and returns a recording.
select r.* from resguardo.recordings as r where r.id = %(id)s for update;

-- name: lock_live_recordings
-- Locks and returns the live recordings of a consultation, the video first.
select r.*
from resguardo.recordings as r
where r.consultation_id = %(consultation_id)s and r.status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING')
order by r.medium desc, r.id asc
for update;

-- name: lock_live_sound
-- Locks and returns the live sound recordings of a video.
select r.*
from resguardo.recordings as r
where r.video_id = %(id)s and r.status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING')
order by r.medium desc, r.id asc
for update;

-- name: find_recording
-- Returns the id of a recording of the given medium: the recording with the given id, or the one that belongs to the
-- video with this id.
select r.id
from resguardo.recordings as r
where (r.id = %(media_id)s or r.video_id = %(media_id)s) and r.medium = %(medium)s;

-- name: list_unfinished
-- Returns the recordings that are neither finished nor LOST, oldest first.
select r.*
from resguardo.recordings as r
where r.status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING', 'VERIFYING')
order by r.created_at asc, r.medium desc;

-- name: update_status
-- Sets the status of a recording.
update resguardo.recordings set status = %(status)s where id = %(id)s;

-- name: update_recording
-- Sets all columns of a recording that the worker may change.
update resguardo.recordings
set
    status = %(status)s,
    room_sid = %(room_sid)s,
    egress_id = %(egress_id)s,
    egress_updated_at = %(egress_updated_at)s,
    started_at = %(started_at)s,
    ended_at = %(ended_at)s,
    duration_seconds = %(duration_seconds)s,
    size_bytes = %(size_bytes)s,
    sha256 = %(sha256)s,
    truncated = %(truncated)s,
    interrupted = %(interrupted)s,
    recorder_sid = %(recorder_sid)s,
    error = %(error)s,
    stored_at = %(stored_at)s
where id = %(id)s;

-- name: request_thumbnail
-- Queues the job that makes the thumbnail of a READY video, if the video may have one.
select private.request_thumbnail(%(id)s);

-- name: read_object_key
-- Returns the object key of a recording to the worker; null for an unknown recording.
select private.read_object_key(%(id)s);

-- name: find_watched_consultation
-- Returns the consultation of a room that is being recorded or may still be recorded automatically.
select c.id
from resguardo.consultations as c
where
    c.room_name = %(room_name)s
    and (
        c.auto_record and not exists (
            select from resguardo.recordings as r where r.consultation_id = c.id and r.source = 'EGRESS'
        )
        or exists (
            select
            from resguardo.recordings as r
            where r.consultation_id = c.id and r.status in ('REQUESTED', 'STARTING', 'RECORDING', 'STOPPING')
        )
    );

-- name: change_object_key
-- Gives an unfinished recording a new object key.
select private.change_object_key(%(id)s, %(key)s);

-- name: request_recording
-- Requests the automatic recording of a consultation and returns the recording's id; null if no automatic recording
-- may be requested.
select private.request_recording(%(consultation_id)s);

-- name: request_sound
-- Requests the sound recordings beside a video and returns how many it requested.
select private.request_sound(
    %(video_id)s, %(identities)s::text[], %(track_sids)s::text[], %(sound_file)s, %(is_routed)s
);

-- name: record_stray
-- Writes the audit row for the stop of a stray egress, which belongs to no recording.
select private.record_service('egress.stop_stray', 'ALLOWED', %(reason)s, 'consultation', %(consultation_id)s);

-- name: read_event
-- Returns the egress id and the room name that a webhook event contains.
select e.egress_id, e.room_name from private.livekit_events as e where e.event_id = %(event_id)s;

-- name: receive_events
-- Stores webhook events and returns the ids of the new ones, as one array; null if none is new.
select
    array_agg(e.event_id) filter (
        where private.receive_livekit_event(e.event_id, e.event, e.egress_id, e.room_name, e.occurred_at)
    ) as received
from unnest(
    %(event_ids)s::text[], %(events)s::text[], %(egress_ids)s::text[], %(room_names)s::text[], %(times)s::timestamptz[]
) as e (event_id, event, egress_id, room_name, occurred_at);

-- name: watch_consultation
-- Returns the consultation that a subscription watches; no row if the consultation is hidden from the caller.
select c.id, c.patient_id from resguardo.consultations as c where c.id = %(consultation_id)s;

-- name: consultation_version
-- Returns a text that changes whenever a consultation, its participants or its consents change; no row if the
-- consultation is hidden from the caller.
select
    concat_ws(
        ' ', c::text, (
            select string_agg(concat(p.id, p.joined_at), ' ' order by p.id)
            from resguardo.participants as p
            where p.consultation_id = c.id
        ), (select count(*) from resguardo.consents as n where n.consultation_id = c.id)
    ) as version
from resguardo.consultations as c
where c.id = %(consultation_id)s;

-- name: videos_of_consultation
-- Returns the ids of the videos of a consultation, oldest first.
select r.id
from resguardo.recordings as r
where r.consultation_id = %(consultation_id)s and r.medium = 'VIDEO'
order by r.created_at, r.id;

-- name: last_changed_videos
-- Returns the videos of the calling doctor that changed last, newest change first. A change of a sound recording, a
-- transcript, insights, a clip or a deletion is a change of its video. The statement reads each kind of change from an
-- index in the order of time, and of several changes of sound beside one video only the newest.
with recursive sounds as (
    (
        select s.video_id, s.updated_at, s.id, array[s.video_id] as seen
        from resguardo.recordings as s
        where s.doctor_id = (select private.doctor()) and s.medium <> 'VIDEO'
        order by s.updated_at desc, s.id desc
        limit 1
    )
    union all
    select n.video_id, n.updated_at, n.id, p.seen || n.video_id
    from sounds as p
    cross join
        lateral (
            select s.video_id, s.updated_at, s.id
            from resguardo.recordings as s
            where
                s.doctor_id = (select private.doctor()) and s.medium <> 'VIDEO'
                and (s.updated_at, s.id) < (p.updated_at, p.id) and s.video_id <> all(p.seen)
            order by s.updated_at desc, s.id desc
            limit 1
        ) as n
    where cardinality(p.seen) < (select %(most)s::bigint)
),

changes as (
    (
        select r.id, r.updated_at as changed_at
        from resguardo.recordings as r
        where r.doctor_id = (select private.doctor()) and r.medium = 'VIDEO'
        order by r.updated_at desc, r.id desc
        limit (select %(most)s::bigint)
    )
    union all
    (
        select t.recording_id, t.changed_at
        from resguardo.transcripts as t
        where t.doctor_id = (select private.doctor())
        order by t.changed_at desc, t.recording_id desc
        limit (select %(most)s::bigint)
    )
    union all
    (
        select i.recording_id, i.changed_at
        from resguardo.insights as i
        where i.doctor_id = (select private.doctor())
        order by i.changed_at desc, i.recording_id desc
        limit (select %(most)s::bigint)
    )
    union all
    (
        select c.recording_id, c.changed_at
        from resguardo.clips as c
        where c.doctor_id = (select private.doctor())
        order by c.changed_at desc, c.recording_id desc
        limit (select %(most)s::bigint)
    )
    union all
    (
        select d.recording_id, d.changed_at
        from resguardo.deletions as d
        where d.doctor_id = (select private.doctor())
        order by d.changed_at desc, d.id desc
        limit (select %(most)s::bigint)
    )
    union all
    select s.video_id, s.updated_at from sounds as s
),

latest as (
    select c.id, max(c.changed_at) as changed_at
    from changes as c
    group by c.id
    order by changed_at desc, c.id desc
    limit (select %(most)s::bigint)
)

select r.id
from latest as l
inner join resguardo.recordings as r on r.id = l.id
order by l.changed_at desc, r.id desc;

-- name: versions
-- Returns the given videos in the given order. With each video comes a text that changes whenever the video, its sound
-- recordings, its transcript, its insights, its clips or its deletion change.
select
    r.id,
    concat_ws(' ', r.updated_at, (
        select string_agg(s.updated_at::text, ' ' order by s.id)
        from resguardo.recordings as s
        where s.video_id = r.id
    ), (
        select concat(t.changed_at, ' ', t.chunks_done) from resguardo.transcripts as t where t.recording_id = r.id
    ), (
        select concat(i.changed_at, ' ', i.parts_done) from resguardo.insights as i where i.recording_id = r.id
    ), (
        select max(c.changed_at) from resguardo.clips as c where c.recording_id = r.id
    ), (
        select max(d.changed_at) from resguardo.deletions as d where d.recording_id = r.id
    )) as version
from unnest(%(ids)s::uuid[]) with ordinality as w (id, place)
inner join resguardo.recordings as r on r.id = w.id and r.medium = 'VIDEO'
order by w.place;
