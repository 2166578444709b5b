"""The job of thumbnails."""

from app.jobs.queue import MEDIA_QUEUE, Task, by_id
from app.thumbnails.maker import ThumbnailMaker


def define_tasks(thumbnails: ThumbnailMaker) -> list[Task]:
    """Return the job that makes a thumbnail."""
    return [
        Task("make_thumbnail", by_id(thumbnails.make), give_up=by_id(thumbnails.give_up), queue=MEDIA_QUEUE)
    ]
