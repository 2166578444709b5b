"""The pauses between the attempts of a job, and how many attempts a job has.

Pauses are durations. The database adds the pauses to its own clock, because a worker's clock can be wrong by years.
"""

import asyncio
from datetime import UTC, datetime, timedelta

from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.jobs import Job

LONGEST_PAUSE_SECONDS = 60
LONGEST_ASKED_PAUSE_SECONDS = 3600
"""The longest pause that a vendor may ask for."""


class JobFailed(Exception):
    """The error of a job as the queue stores it: only the error's code, and no text from a vendor or the database.

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
    """Raised if the last attempt of a job failed and `give_up` failed too: the job is retried until `give_up`
    succeeds.
    """


class Retry(RetryDecision):
    """The retry of a job after a pause. Procrastinate accepts only a date, so the pause is passed as the date
    `BEGINNING` plus the pause.
    """

    BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

    def __init__(self, pause: timedelta) -> None:
        super().__init__(retry_at=self.BEGINNING + pause)
        self.pause = pause


class GrowingPauses(BaseRetryStrategy):
    """Retries a job after 1, 2, 4, ... seconds, at most a minute apart. If a vendor asked for a longer pause than
    the normal one, the job is retried after the vendor's pause, but after at most an hour.
    """

    def __init__(self, attempts: int | None) -> None:
        self.attempts = attempts

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> Retry | None:
        """Return the next retry, or None after the last attempt. A job is always retried if a shutdown ended its
        last attempt, or if `give_up` failed after its last attempt. `job.attempts` does not yet count the attempt
        that has just failed.
        """
        is_cut_short = isinstance(exception, (NotGivenUp, asyncio.CancelledError))
        if is_last_attempt(job, self.attempts, exception) and not is_cut_short:
            return None
        asked = exception.retry_after_seconds if isinstance(exception, JobFailed) else 0
        pause = min(2 ** min(job.attempts, 10), LONGEST_PAUSE_SECONDS)
        return Retry(timedelta(seconds=max(pause, min(asked, LONGEST_ASKED_PAUSE_SECONDS))))


def is_last_attempt(job: Job, attempts: int | None, failed: BaseException) -> bool:
    """Return whether the job has used all attempts that its task or the error `failed` allows."""
    allowed = failed.most_attempts if isinstance(failed, JobFailed) else None
    return any(most is not None and job.attempts + 1 >= most for most in (attempts, allowed))
