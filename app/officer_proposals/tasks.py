"""The jobs that carry out approved proposals at Supabase Auth."""

from app.jobs.queue import Task, by_id
from app.officer_proposals.second_factors import SecondFactorResets

RESET_ATTEMPTS = 24 * 60
"""A day of attempts a minute apart."""


def define_tasks(resets: SecondFactorResets) -> list[Task]:
    """Return the job that removes second factors."""
    return [
        Task(
            "reset_second_factor",
            by_id(resets.reset),
            attempts=RESET_ATTEMPTS,
            give_up=by_id(resets.give_up),
        )
    ]
