"""The jobs that carry out approved proposals."""

from app.jobs.queue import Task, by_id
from app.officer_proposals.reassignments import Reassignments
from app.officer_proposals.second_factors import SecondFactorResets

RESET_ATTEMPTS = 24 * 60
"""The number of attempts. At one attempt per minute, the job tries for a day."""


REASSIGN_ATTEMPTS = 24 * 60
"""The number of attempts. The job is retried while recordings are not finished or the database is down."""


def define_tasks(resets: SecondFactorResets, reassignments: Reassignments) -> list[Task]:
    """Return the jobs that remove second factors and reassign consultations."""
    return [
        Task(
            "reassign_consultations",
            by_id(reassignments.run),
            attempts=REASSIGN_ATTEMPTS,
            give_up=by_id(reassignments.give_up),
        ),
        Task(
            "reset_second_factor",
            by_id(resets.reset),
            attempts=RESET_ATTEMPTS,
            give_up=by_id(resets.give_up),
        ),
    ]
