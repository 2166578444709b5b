"""The job queue: procrastinate in the schema `jobs`. What a task does is given from above; this knows how it is run.

A job's argument is one id. It runs with no open transaction, is tried again with growing pauses, and at the end of its
tries hands the reason to `give_up`, so that nothing fails silently.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job

from app.errors import AppError
from app.failures import describe_failure

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 60
LONGEST_ASKED_PAUSE_SECONDS = 3600
"""What a vendor that names a time is believed."""

QUEUE = "default"
STARTS_QUEUE = "starts"
"""Of what waits for LiveKit to begin, up to a minute: whoever withdraws consent does not wait behind it."""

MEDIA_QUEUE = "media"
"""Of what reads whole objects, minutes of work: nothing urgent waits behind it."""

WORDS_QUEUE = "words"
"""Of what waits for a speech service, as long as somebody spoke: nothing else waits behind it."""

HEARTBEAT_SECONDS = 5
STALLED_SECONDS = 20
"""So long without a heartbeat, a worker is taken for dead and its jobs are given to another."""


class JobFailed(Exception):
    """What the queue gets to see of an error: its code, and nothing that a vendor or the database said.

    `retry_after_seconds` is how long whoever refused wants to be left alone, 0 where nothing was said.
    """

    def __init__(self, reason: str, retry_after_seconds: int = 0) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class NotGivenUp(JobFailed):
    """The tries are over and saying so failed: the job goes on until it is said."""


@dataclass(frozen=True)
class Task:
    """What is done for one id, how often it is tried (None: for ever), and what is said at the end of the tries.

    `queue` is the one that the database puts it into.
    """

    name: str
    run: Callable[[str], Awaitable[None]]
    attempts: int | None = 12
    queue: str = QUEUE
    give_up: Callable[[str, str], Awaitable[None]] | None = None


class GrowingPauses(BaseRetryStrategy):
    """Tries again after 1, 2, 4, ... seconds, at most a minute apart, or when a vendor said, at most an hour later."""

    def __init__(self, attempts: int | None) -> None:
        self.attempts = attempts

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """None at the last attempt, unless it ended by a shutdown; `job.attempts` counts the earlier ones."""
        is_cut_short = isinstance(exception, (NotGivenUp, asyncio.CancelledError))
        is_last = self.attempts is not None and job.attempts + 1 >= self.attempts
        if is_last and not is_cut_short:
            return None
        asked = exception.retry_after_seconds if isinstance(exception, JobFailed) else 0
        pause = min(2 ** min(job.attempts, 10), LONGEST_PAUSE_SECONDS)
        return RetryDecision(retry_in={"seconds": max(pause, min(asked, LONGEST_ASKED_PAUSE_SECONDS))})


def make_queue(database_url: str, tasks: Iterable[Task]) -> App:
    """The procrastinate app of one worker; it opens a pool of its own when it is opened."""
    connector = PsycopgConnector(
        conninfo=database_url,
        timeout=5,  # seconds for a connection: with a database that is away, a signal still ends the worker soon
        kwargs={"options": "-c search_path=jobs", "application_name": "resguardo-queue"},
    )
    queue = App(connector=connector)
    for task in tasks:
        queue.task(name=task.name, queue=task.queue, retry=GrowingPauses(task.attempts), pass_context=True)(
            _runner(task)
        )
    _retry_stalled_jobs(queue)
    return queue


def _runner(task: Task) -> Callable[..., Awaitable[None]]:
    async def run(context: JobContext, id: str) -> None:  # noqa: A002 - the name of the argument in the queue
        try:
            await task.run(id)
        except Exception as error:  # noqa: BLE001 - the loop's edge: whatever it was is retried, then given up
            reason = error.reason if isinstance(error, AppError) else "internal_error"
            _log_failure(task, id, error, reason)
            is_last = task.attempts is not None and context.job.attempts + 1 >= task.attempts
            if is_last and task.give_up is not None:
                await _say_given_up(task, task.give_up, id, reason)
            raise JobFailed(reason, _asked_pause(error)) from None

    return run


def _asked_pause(error: Exception) -> int:
    asked = error.detail.get("retry_after_seconds") if isinstance(error, AppError) else None
    return asked if isinstance(asked, int) else 0


async def _say_given_up(
    task: Task, give_up: Callable[[str, str], Awaitable[None]], argument: str, reason: str
) -> None:
    try:
        await give_up(argument, reason)
    except Exception as error:  # noqa: BLE001 - the loop's edge, as above
        _log_failure(task, argument, error, "internal_error")
        raise NotGivenUp(reason) from None


def _log_failure(task: Task, argument: str, error: Exception, reason: str) -> None:
    what = reason if isinstance(error, AppError) else describe_failure(error)
    log.warning("job failed: task=%s id=%s %s", task.name, argument, what)


def _retry_stalled_jobs(queue: App) -> None:
    @queue.periodic(cron="* * * * * */10")  # the sixth field is of seconds
    @queue.task(name="retry_stalled_jobs", queue=QUEUE, queueing_lock="retry_stalled_jobs", pass_context=True)
    async def retry_stalled_jobs(context: JobContext, timestamp: int) -> None:
        """A worker that died left its jobs behind: give them to another."""
        for job in await queue.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_SECONDS):
            try:
                await queue.job_manager.retry_job(job)
            except ConnectorException:
                log.warning("stalled job not retried: task=%s job=%s", job.task_name, job.id)
