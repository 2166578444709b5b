-- The inbox of LiveKit's webhook deliveries, with ids only.

create table private.livekit_events (
    event_id text primary key constraint livekit_events_event_id_is_id check (event_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    event text not null constraint livekit_events_event_is_name check (event ~ '^[a-z][a-z_]{0,63}$'),
    egress_id text constraint livekit_events_egress_id_is_id check (egress_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    room_name text,
    occurred_at timestamptz not null,
    received_at timestamptz not null default clock_timestamp()
);
comment on table private.livekit_events is
'The inbox: what LiveKit told us, ids only. An event is a hint to look at LiveKit''s own list.';

-- Law 5: the webhook's one transaction. True where the event is new; its job is queued with it: to read LiveKit's list
-- after news of an egress, and to see who is there after news of a room that is recorded, or still to be by itself; a
-- start that follows looks for itself. Where a job already waits to look at the same, none is queued: somebody who
-- comes and goes fills the inbox, but not the queue. That needs no lock: a worker has its job once the fetch is
-- committed, so what is still seen as `todo` here asks LiveKit later than now, and now is later than what LiveKit tells
-- of. A job that failed before, and waits for its next try, does not count.
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
