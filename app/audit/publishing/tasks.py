"""The periodic tasks that publish the audit log."""

from typing import Final

from app.audit.publishing.publisher import Publisher, SecondBucket
from app.jobs.periodic import PeriodicTask

PUBLISH_SECONDS: Final = 5
"""The interval at which the publisher looks for a log that is due. AUDIT_PUBLISH_SECONDS says when one is due."""

SECOND_SECONDS: Final = 30


def define_periodic_tasks(publisher: Publisher, second: SecondBucket | None) -> list[PeriodicTask]:
    """Return the task that publishes to the bucket and, if there is a second bucket, the task that publishes to it."""
    tasks = [PeriodicTask("publish_audit_log", PUBLISH_SECONDS, publisher.run)]
    if second is not None:
        tasks.append(PeriodicTask("publish_audit_log_again", SECOND_SECONDS, second.run))
    return tasks
