"""The jobs and the periodic tasks of insights."""

from app.insights.writer import InsightsWriter
from app.jobs.periodic import PeriodicTask
from app.jobs.queue import LANGUAGE_QUEUE, Task, by_id

WRITING_ATTEMPTS = 120
"""About two hours of attempts, because a language service may be busy for one hour."""

RESUME_SECONDS = 600


def define_tasks(writer: InsightsWriter) -> list[Task]:
    """Return the job that writes the insights into a recording."""
    return [
        Task(
            "write_insights",
            by_id(writer.write),
            attempts=WRITING_ATTEMPTS,
            give_up=by_id(writer.give_up),
            queue=LANGUAGE_QUEUE,
        )
    ]


def define_periodic_tasks(writer: InsightsWriter) -> list[PeriodicTask]:
    """Return the periodic task that queues a job for all unfinished insights without a job."""
    return [PeriodicTask("resume_insights", RESUME_SECONDS, writer.resume)]
