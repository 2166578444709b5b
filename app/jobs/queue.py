"""The job queue, which is the library procrastinate with its tables in the schema `jobs`. Each feature, such as
`app/recordings`, defines its tasks in its `tasks.py`.

A job has one argument, an id. A job runs without an open transaction, and is retried with growing pauses. After the
last failed attempt, a job passes the error's reason to `give_up`, so that no job fails silently. The pauses are
durations that the database adds to its own time (`JobTable`), because a worker's clock can be wrong by years.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Concatenate, LiteralString, ParamSpec
from uuid import UUID

from procrastinate import App, JobContext
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager, get_channel_for_queues

from app.errors import AppError
from app.failures import describe_failure
from app.jobs.connector import QueueConnector
from app.jobs.retries import GrowingPauses, JobFailed, NotGivenUp, Retry, is_last_attempt
from app.postgres.database import Transaction
from app.postgres.queries import Queries

P = ParamSpec("P")

log = logging.getLogger(__name__)
_sql = Queries(Path(__file__).with_name("queries.sql"))

QUEUE = "default"
STARTS_QUEUE = "starts"
"""The queue of jobs that wait for LiveKit to start, up to a minute each. It is separate so that a withdrawal of
consent does not wait behind them.
"""

MEDIA_QUEUE = "media"
"""The queue of jobs that read whole objects for minutes. It is separate so that urgent jobs do not wait behind
them.
"""

TRANSCRIPTION_QUEUE = "transcription"
"""The queue of jobs that wait for a speech service, for as long as the recorded speech. It is separate so that
other jobs do not wait behind them.
"""

LANGUAGE_QUEUE = "language"
"""The queue of jobs that wait for a language service, for minutes. It is separate so that other jobs do not wait behind
them.
"""

HEARTBEAT_SECONDS = 5
STALLED_SECONDS = 20
"""A worker without a heartbeat for this long counts as dead, and its jobs return to the queue (repair.py)."""


@dataclass(frozen=True)
class Task:
    """A task of the queue: `run` is called with one id, and `give_up` after the last failed attempt. `attempts` is
    the maximum number of attempts; None means no limit. `queue` is the queue into which the database puts the
    task's jobs.
    """

    name: str
    run: Callable[[str], Awaitable[None]]
    attempts: int | None = 12
    queue: str = QUEUE
    give_up: Callable[[str, str], Awaitable[None]] | None = None


async def defer_job(tx: Transaction, task: LiteralString, argument: UUID) -> None:
    """Queue a job within the transaction `tx`. The job runs after the commit, or never if the transaction is rolled
    back.
    """
    await tx.run(_sql["defer_job"], {"task": task, "id": argument})


def by_id(
    run: Callable[Concatenate[UUID, P], Awaitable[None]],
) -> Callable[Concatenate[str, P], Awaitable[None]]:
    """Return a function that calls `run` and takes the id as text, because the queue stores ids as text."""

    async def run_with_text(argument: str, /, *others: P.args, **named: P.kwargs) -> None:
        await run(UUID(argument), *others, **named)

    return run_with_text


class JobTable(JobManager):
    """The rows of the job queue. The times in the rows come from the database's clock. Only the worker that still
    owns a job can end the job.

    If a worker was frozen for longer than `STALLED_SECONDS`, a second worker has taken over its job. The frozen
    worker's late result is then logged and ignored, and the second worker ends the job.
    """

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Put the job back into the queue. The job runs again after the pause that the task's `Retry` asks for, or
        at once if `retry_at` is None.
        """
        pause = timedelta() if retry_at is None else retry_at - Retry.BEGINNING
        changes = {"priority": priority, "queue": queue, "lock": lock}
        await self._end(job, "retry_job", pause=pause, **changes)

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """End the job."""
        await self._end(job, "finish_job", status=status.value, delete_job=delete_job)

    async def update_heartbeat(self, worker_id: int) -> None:
        """Send a heartbeat. After a failed heartbeat, the worker continues to send heartbeats; procrastinate's own
        method would stop.
        """
        try:
            await super().update_heartbeat(worker_id)
        except ConnectorException:
            log.warning("heartbeat not written")

    async def _end(self, job: Job, query: LiteralString, **values: object) -> None:
        ended = await self.connector.execute_query_all_async(
            _sql[query], job_id=job.id, worker_id=job.worker_id, **values
        )
        if not ended:
            log.warning("another worker has the job: task=%s job=%s", job.task_name, job.id)


def make_queue(database_url: str, tasks: Iterable[Task]) -> App:
    """Return the procrastinate app of one worker. When the procrastinate app is opened, its connection pool is
    opened too.
    """
    connector = QueueConnector(
        database_url,
        list(get_channel_for_queues((QUEUE, STARTS_QUEUE, MEDIA_QUEUE, TRANSCRIPTION_QUEUE, LANGUAGE_QUEUE))),
    )
    queue = App(connector=connector)
    queue.job_manager = JobTable(queue.connector)
    for task in tasks:
        queue.task(name=task.name, queue=task.queue, retry=GrowingPauses(task.attempts), pass_context=True)(
            _runner(task)
        )
    return queue


def _runner(task: Task) -> Callable[..., Awaitable[None]]:
    async def run(context: JobContext, id: str) -> None:  # noqa: A002 - the name of the argument in the queue
        try:
            await task.run(id)
        except Exception as error:  # noqa: BLE001 - the loop's edge: whatever it was is retried, then given up
            reason = error.reason if isinstance(error, AppError) else "internal_error"
            _log_failure(task, id, error)
            failed = JobFailed(
                reason,
                retry_after_seconds=_read_number(error, "retry_after_seconds") or 0,
                most_attempts=_read_number(error, "most_attempts"),
            )
            if task.give_up is not None and is_last_attempt(context.job, task.attempts, failed):
                await _give_up(task, task.give_up, id, reason)
            raise failed from None

    return run


def _read_number(error: Exception, name: str) -> int | None:
    asked = error.detail.get(name) if isinstance(error, AppError) else None
    return asked if isinstance(asked, int) else None


async def _give_up(
    task: Task, give_up: Callable[[str, str], Awaitable[None]], argument: str, reason: str
) -> None:
    try:
        await give_up(argument, reason)
    except Exception as error:  # noqa: BLE001 - the loop's edge, as above
        _log_failure(task, argument, error)
        raise NotGivenUp(reason) from None


def _log_failure(task: Task, argument: str, error: Exception) -> None:
    what = error.summary if isinstance(error, AppError) else describe_failure(error)
    log.warning("job failed: task=%s id=%s %s", task.name, argument, what)
