"""The job of breach assessments."""

from app.breaches.counter import BreachCounter
from app.jobs.queue import Task, by_id


def define_tasks(counter: BreachCounter) -> list[Task]:
    """Return the job that reads the affected patients of an assessment."""
    return [Task("count_breach", by_id(counter.count), give_up=by_id(counter.give_up))]
