"""The periodic task of the audit log's search index."""

from typing import Final

from app.audit.indexing import AuditIndex
from app.jobs.periodic import PeriodicTask

INDEX_SECONDS: Final = 2


def define_periodic_tasks(index: AuditIndex) -> list[PeriodicTask]:
    """Return the task that makes blocks of new audit events."""
    return [PeriodicTask("index_audit_events", INDEX_SECONDS, index.extend)]
