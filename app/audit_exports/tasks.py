"""The job and the periodic task of exports of the audit log."""

from app.audit_exports.exporter import AuditExporter
from app.jobs.periodic import PeriodicTask
from app.jobs.queue import MEDIA_QUEUE, Task, by_id

EXPORT_ATTEMPTS = 60
"""The number of attempts, at most a minute apart."""

EXPIRE_SECONDS = 300


def define_tasks(exports: AuditExporter) -> list[Task]:
    """Return the job that makes an export."""
    return [
        Task(
            "export_audit_events",
            by_id(exports.export),
            attempts=EXPORT_ATTEMPTS,
            give_up=by_id(exports.give_up),
            queue=MEDIA_QUEUE,
        )
    ]


def define_periodic_tasks(exports: AuditExporter) -> list[PeriodicTask]:
    """Return the periodic task that deletes expired exports."""
    return [PeriodicTask("keep_audit_exports", EXPIRE_SECONDS, exports.run_once)]
