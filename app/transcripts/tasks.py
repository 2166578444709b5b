"""The jobs and the periodic tasks of transcripts."""

from app.jobs.periodic import PeriodicTask
from app.jobs.queue import TRANSCRIPTION_QUEUE, Task, by_id
from app.transcripts.transcription.service import Transcriber

TRANSCRIPTION_ATTEMPTS = 120
"""About two hours of attempts, because a speech service may be busy for one hour."""

RESUME_SECONDS = 600


def define_tasks(transcriber: Transcriber) -> list[Task]:
    """Return the job that transcribes a recording."""
    return [
        Task(
            "transcribe_recording",
            by_id(transcriber.transcribe),
            attempts=TRANSCRIPTION_ATTEMPTS,
            give_up=by_id(transcriber.give_up),
            queue=TRANSCRIPTION_QUEUE,
        )
    ]


def define_periodic_tasks(transcriber: Transcriber) -> list[PeriodicTask]:
    """Return the periodic task that queues a job for each unfinished transcription without a job."""
    return [PeriodicTask("resume_transcriptions", RESUME_SECONDS, transcriber.resume)]
