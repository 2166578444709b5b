-- The tasks that the functions of the schema `private` may queue, and the roles of people that may queue each task.

create table private.tasks (
    name text primary key constraint tasks_name_is_slug check (name ~ '^[a-z][a-z_]{0,63}$'),
    queue text not null
    constraint tasks_queue_is_known check (queue in ('default', 'starts', 'media', 'transcription', 'language')),
    may_defer text[] not null
);
comment on column private.tasks.may_defer is
'The roles of people that may queue this task, each for their own entities only.';

insert into private.tasks (name, queue, may_defer)
values
('start_recording', 'starts', '{clinician}'),
('stop_recording', 'default', '{clinician}'),
('enforce_consent', 'default', '{clinician, patient}'),
('verify_recording', 'media', '{}'),
('ban_user', 'default', '{}'),
('reset_second_factor', 'default', '{}'),
('apply_access_review', 'default', '{}'),
('reassign_consultations', 'default', '{}'),
('invite_staff', 'default', '{}'),
('prepare_import', 'default', '{clinician}'),
('secure_held', 'default', '{}'),
('export_access_request', 'media', '{}'),
('export_audit_events', 'media', '{}'),
('count_breach', 'default', '{}'),
('transcribe_recording', 'transcription', '{}'),
('write_insights', 'language', '{}'),
('write_note_section', 'language', '{}'),
('make_clip', 'media', '{}'),
('make_thumbnail', 'media', '{}');

-- Queues a job of the given task within the caller's transaction; the job has one id as its argument. The worker
-- never runs two jobs of one task for the same id at once.
create function private.defer_job(task text, argument uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    asker constant text := current_setting('role');
begin
    if not exists (
        select from private.tasks as t
        where t.name = task and (asker not in ('clinician', 'patient') or asker = any (t.may_defer))
    ) then
        raise exception 'unknown_task' using errcode = 'RG403';
    end if;
    if asker in ('clinician', 'patient') then
        perform private.require_own_consultation(
            case task
                when 'enforce_consent' then argument
                when 'prepare_import' then (
                    select i.consultation_id from resguardo.recording_imports as i where i.id = argument
                )
                else (select r.consultation_id from resguardo.recordings as r where r.id = argument)
            end
        );
    end if;
    perform private.put_job(task, argument);
end
$$;

-- Queues a job of the given task; the job has one id as its argument. The function that calls put_job() must already
-- have checked the person's access. Jobs that have the same task and the same id run one at a time. Slow tasks (a
-- start that waits for LiveKit, reading a whole object) have a separate queue, so that urgent jobs never wait behind
-- a slow job.
create function private.put_job(task text, argument uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform jobs.procrastinate_defer_jobs_v1(array[
        row(
            (select t.queue from private.tasks as t where t.name = task),
            task, 0, task || ':' || argument, null,
            jsonb_build_object('id', argument), null
        )::jobs.procrastinate_job_to_defer_v1
    ]);
end
$$;
