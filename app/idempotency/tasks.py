"""The periodic task of idempotency keys."""

from app.idempotency.service import IdempotencyKeys
from app.jobs.periodic import PeriodicTask

DELETE_SECONDS = 600


def define_periodic_tasks(keys: IdempotencyKeys) -> list[PeriodicTask]:
    """Return the task that deletes old idempotency keys."""
    return [PeriodicTask("delete_idempotency_keys", DELETE_SECONDS, keys.delete_old)]
