"""The job of clips."""

from app.clips.cutter import ClipCutter
from app.jobs.queue import MEDIA_QUEUE, Task, by_id


def define_tasks(clips: ClipCutter) -> list[Task]:
    """Return the job that makes a clip."""
    return [Task("make_clip", by_id(clips.make), give_up=by_id(clips.give_up), queue=MEDIA_QUEUE)]
