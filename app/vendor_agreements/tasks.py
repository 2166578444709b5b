"""The periodic task of the register of business associate agreements."""

from app.jobs.periodic import PeriodicTask
from app.vendor_agreements.service import AgreementWatch

WATCH_SECONDS = 3600


def define_periodic_tasks(watch: AgreementWatch) -> list[PeriodicTask]:
    """Return the task that opens an alert before an agreement expires."""
    return [PeriodicTask("watch_agreements", WATCH_SECONDS, watch.run_once)]
