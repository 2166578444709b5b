"""The job queue: procrastinate in the schema `jobs`. Each noun defines its tasks in its `tasks.py`.

A job has one argument, an id. A job runs without an open transaction, and is retried with growing pauses. After its
last attempt it passes the reason to `give_up`, so that no job fails silently. Pauses are durations, and the
database adds them to its own clock (`JobTable`), because a worker's clock can be wrong by years.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Concatenate, LiteralString, ParamSpec
from uuid import UUID

from procrastinate import App, BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager, get_channel_for_queues

from app.errors import AppError
from app.failures import describe_failure
from app.jobs.connector import QueueConnector
from app.postgres.database import Transaction
from app.postgres.queries import Queries

P = ParamSpec("P")

log = logging.getLogger(__name__)
_sql = Queries(Path(__file__).with_name("queries.sql"))

LONGEST_PAUSE_SECONDS = 60
LONGEST_ASKED_PAUSE_SECONDS = 3600
"""The longest pause that a vendor may ask for."""

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

HEARTBEAT_SECONDS = 5
STALLED_SECONDS = 20
"""A worker without a heartbeat for this long counts as dead, and its jobs return to the queue (repair.py)."""


class JobFailed(Exception):
    """The error of a job as the queue sees it: its code, and no text of a vendor or the database.

    `retry_after_seconds` is the pause that the vendor asked for, or 0. `most_attempts` is the maximum number of
    attempts after this error, or None if only the task's own limit counts.
    """

    def __init__(
        self, reason: str, retry_after_seconds: int = 0, *, most_attempts: int | None = None
    ) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds
        self.most_attempts = most_attempts


class NotGivenUp(JobFailed):
    """The last attempt failed and `give_up` failed too: the job is retried until `give_up` succeeds."""


@dataclass(frozen=True)
class Task:
    """A task: what is done for one id, the maximum number of attempts (None: no limit), and what happens after the
    last one.

    `queue` is the queue into which the database puts its jobs.
    """

    name: str
    run: Callable[[str], Awaitable[None]]
    attempts: int | None = 12
    queue: str = QUEUE
    give_up: Callable[[str, str], Awaitable[None]] | None = None


async def defer_job(tx: Transaction, task: LiteralString, argument: UUID) -> None:
    """Queue a job within this transaction. It runs after the commit, and not at all after a rollback."""
    await tx.run(_sql["defer_job"], {"task": task, "id": argument})


def by_id(
    run: Callable[Concatenate[UUID, P], Awaitable[None]],
) -> Callable[Concatenate[str, P], Awaitable[None]]:
    """Return `run` as a function that takes the id as text, as the queue stores it."""

    async def run_with_text(argument: str, /, *others: P.args, **named: P.kwargs) -> None:
        await run(UUID(argument), *others, **named)

    return run_with_text


class Retry(RetryDecision):
    """A retry after a pause. Procrastinate passes a date: it is the pause added to `BEGINNING`, not a time of day."""

    BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

    def __init__(self, pause: timedelta) -> None:
        super().__init__(retry_at=self.BEGINNING + pause)
        self.pause = pause


class GrowingPauses(BaseRetryStrategy):
    """Retries after 1, 2, 4, ... seconds, at most a minute apart, or after the pause that a vendor asked for, at
    most an hour.
    """

    def __init__(self, attempts: int | None) -> None:
        self.attempts = attempts

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> Retry | None:
        """Return None at the last attempt, unless a shutdown ended it. `job.attempts` counts the earlier attempts."""
        is_cut_short = isinstance(exception, (NotGivenUp, asyncio.CancelledError))
        if _is_last(job, self.attempts, exception) and not is_cut_short:
            return None
        asked = exception.retry_after_seconds if isinstance(exception, JobFailed) else 0
        pause = min(2 ** min(job.attempts, 10), LONGEST_PAUSE_SECONDS)
        return Retry(timedelta(seconds=max(pause, min(asked, LONGEST_ASKED_PAUSE_SECONDS))))


class JobTable(JobManager):
    """The rows of the queue: dated by the database's clock, and ended only by the worker that still owns the job.

    If a worker was frozen for longer than `STALLED_SECONDS`, another worker owns its job. The late result of the
    frozen worker is logged and ignored, and the other worker ends the job.
    """

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Return the job to the queue after the pause of a `Retry` (None: at once)."""
        pause = timedelta() if retry_at is None else retry_at - Retry.BEGINNING
        changes = {"priority": priority, "queue": queue, "lock": lock}
        await self._end(job, "retry_job", pause=pause, **changes)

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """End the job."""
        await self._end(job, "finish_job", status=status.value, delete_job=delete_job)

    async def update_heartbeat(self, worker_id: int) -> None:
        """Send a heartbeat. A failed heartbeat is repeated at the next one; procrastinate itself would send no
        more.
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
    """Return the procrastinate app of one worker. Opening the app opens its pool."""
    connector = QueueConnector(
        database_url, list(get_channel_for_queues((QUEUE, STARTS_QUEUE, MEDIA_QUEUE, TRANSCRIPTION_QUEUE)))
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
                retry_after_seconds=_number(error, "retry_after_seconds") or 0,
                most_attempts=_number(error, "most_attempts"),
            )
            if task.give_up is not None and _is_last(context.job, task.attempts, failed):
                await _say_given_up(task, task.give_up, id, reason)
            raise failed from None

    return run


def _is_last(job: Job, attempts: int | None, failed: BaseException) -> bool:
    """Return whether the job has used its attempts: those of its task, or the fewer that this error allows."""
    allowed = failed.most_attempts if isinstance(failed, JobFailed) else None
    return any(most is not None and job.attempts + 1 >= most for most in (attempts, allowed))


def _number(error: Exception, name: str) -> int | None:
    asked = error.detail.get(name) if isinstance(error, AppError) else None
    return asked if isinstance(asked, int) else None


async def _say_given_up(
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
