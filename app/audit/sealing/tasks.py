"""The periodic tasks that seal the audit log."""

from typing import Final

from app.audit.sealing.sealer import LogCounts, Sealer
from app.jobs.periodic import PeriodicTask

SEAL_SECONDS: Final = 2
COUNT_SECONDS: Final = 3600


def define_periodic_tasks(sealer: Sealer, counts: LogCounts) -> list[PeriodicTask]:
    """Return the task that seals events, and the task that counts them."""
    return [
        PeriodicTask("seal_audit_log", SEAL_SECONDS, sealer.run, sealer.begin),
        PeriodicTask("count_audit_log", COUNT_SECONDS, counts.run),
    ]
