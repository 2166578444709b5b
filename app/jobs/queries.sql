-- name: defer_job
-- Queues a job that runs a task for one id.
select private.defer_job(%(task)s, %(id)s);

-- name: retry_job
-- Puts a job that this worker ran back into the queue, and returns the job's id; no row if a different worker now has
-- the job.
with mine as materialized (
    select j.id
    from jobs.procrastinate_jobs as j
    where
        j.id = %(job_id)s
        and j.status = 'doing'
        and coalesce(j.worker_id, %(worker_id)s::bigint) = %(worker_id)s::bigint
    for update
)

select
    m.id,
    jobs.procrastinate_retry_job_v2(
        m.id, clock_timestamp() + %(pause)s::interval,
        %(priority)s::integer, %(queue)s::varchar, %(lock)s::varchar
    )
from mine as m;

-- name: finish_job
-- Ends a job that this worker runs, and returns the job's id; no row if a different worker now has the job.
with mine as materialized (
    select j.id
    from jobs.procrastinate_jobs as j
    where
        j.id = %(job_id)s
        and j.status = 'doing'
        and coalesce(j.worker_id, %(worker_id)s::bigint) = %(worker_id)s::bigint
    for update
)

select m.id, jobs.procrastinate_finish_job_v1(m.id, %(status)s::jobs.procrastinate_job_status, %(delete_job)s)
from mine as m;

-- name: mend_heartbeats
-- Sets a worker's heartbeat to the current time if a wrong clock has dated the heartbeat far in the future.
update jobs.procrastinate_workers as w
set last_heartbeat = clock_timestamp()
where w.last_heartbeat > clock_timestamp() + %(stalled)s::interval;

-- name: return_stalled_jobs
-- Puts the running jobs of dead workers back into the queue; returns the id and task of each job.
with stalled as materialized (
    select j.id, j.task_name
    from jobs.procrastinate_jobs as j
    left join jobs.procrastinate_workers as w on j.worker_id = w.id
    where
        j.status = 'doing'
        and (w.id is null or w.last_heartbeat < clock_timestamp() - %(stalled)s::interval)
    order by j.id
    for update of j skip locked
)

select
    s.id,
    s.task_name,
    jobs.procrastinate_retry_job_v2(s.id, clock_timestamp(), null, null, null)
from stalled as s;

-- name: pull_jobs_back
-- Makes each job due now that is scheduled later than the longest retry pause allows; returns the id and task of each
-- such job.
update jobs.procrastinate_jobs as j
set scheduled_at = clock_timestamp()
where j.status = 'todo' and j.scheduled_at > clock_timestamp() + %(longest_pause)s::interval
returning j.id, j.task_name;

-- name: take_lease
-- Takes the leader's lease and returns the lease's number; no row while a different worker leads.
select t.number, t.seconds_unled, t.lapsed_leader from private.take_lease(%(leader)s, %(former_number)s::bigint) as t;

-- name: renew_lease
-- Renews the lease and returns whether this worker still holds it.
select private.renew_lease(%(number)s);

-- name: give_lease_back
-- Ends this worker's lease, so that another worker can take it at once.
select private.give_lease_back(%(number)s);

-- name: last_led
-- Returns when a worker was last the leader, and how many seconds ago that was.
select l.led_until, l.seconds from private.last_led() as l;

-- name: watch_leader
-- Opens or closes the alert that no worker leads, and returns the same as last_led.
select l.led_until, l.seconds from private.watch_leader(%(most_seconds)s) as l;
