"""The job and the periodic task of note drafts."""

from app.jobs.periodic import PeriodicTask
from app.jobs.queue import LANGUAGE_QUEUE, Task, by_id
from app.notes.sections import NoteSectionWriter

SECTION_ATTEMPTS = 120
"""About two hours of attempts, because a language service may be busy for one hour."""

RESUME_SECONDS = 600


def define_tasks(writer: NoteSectionWriter) -> list[Task]:
    """Return the job that writes the sections of a draft again."""
    return [
        Task(
            "write_note_section",
            by_id(writer.write),
            attempts=SECTION_ATTEMPTS,
            give_up=by_id(writer.give_up),
            queue=LANGUAGE_QUEUE,
        )
    ]


def define_periodic_tasks(writer: NoteSectionWriter) -> list[PeriodicTask]:
    """Return the periodic task that queues a job for each unfinished section without a job."""
    return [PeriodicTask("resume_note_sections", RESUME_SECONDS, writer.resume)]
