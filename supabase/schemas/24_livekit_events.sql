-- The inbox of LiveKit's webhook deliveries, which stores only ids and times.

create table private.livekit_events (
    event_id text primary key constraint livekit_events_event_id_is_id check (event_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    event text not null constraint livekit_events_event_is_name check (event ~ '^[a-z][a-z_]{0,63}$'),
    egress_id text constraint livekit_events_egress_id_is_id check (egress_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    room_name text,
    occurred_at timestamptz not null,
    received_at timestamptz not null default clock_timestamp()
);
comment on table private.livekit_events is
'The inbox of LiveKit''s events, ids only. An event only makes the worker read LiveKit''s own lists.';

-- Law 5: stores the event of a LiveKit webhook and queues its job in one transaction. Returns true if LiveKit's event
-- is new; the function then queues the event's job. After an egress event, the job reads LiveKit's list of egresses.
-- After an event of a room that is recorded, or that may still be recorded automatically, the job reads the room's
-- participants. No job is queued for an event of a room without a recording, because the job that starts a recording
-- reads the room's participants itself.
--
-- If a job that will read the same list from LiveKit is already waiting, no second job is queued. A participant who
-- joins and leaves many times therefore adds many events to the inbox, but few jobs to the queue. The check for a
-- waiting job needs no lock: a worker starts a job only after the job's new status is committed, so a job that is
-- still `todo` will read LiveKit's list after the current event. A job that failed and waits for its next attempt
-- does not count as a waiting job.
create function private.receive_livekit_event(
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
    room constant text := case when of_room_name ~ '^[A-Za-z0-9_-]{1,128}$' then of_room_name end;
    turn constant text := task || ':' || coalesce(room, of_egress_id, of_event_id);
begin
    insert into private.livekit_events (event_id, event, egress_id, room_name, occurred_at)
    values (of_event_id, of_event, of_egress_id, room, at)
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
