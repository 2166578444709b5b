"""The periodic tasks of the bucket."""

from app.bucket.lost_objects import LostObjects
from app.bucket.missing_objects import MissingObjects
from app.bucket.orphaned_objects import OrphanedObjects
from app.bucket.service import BucketPolicies
from app.jobs.periodic import PeriodicTask

CHECK_SECONDS = 3600
SWEEP_SECONDS = 3600
FIND_LOST_SECONDS = 60
FIND_MISSING_SECONDS = 24 * 3600


def define_periodic_tasks(
    policies: BucketPolicies, orphaned: OrphanedObjects, missing: MissingObjects, lost: LostObjects
) -> list[PeriodicTask]:
    """Return the periodic tasks that compare the bucket with `policies/bucket` and with the recordings in the
    database.
    """
    return [
        PeriodicTask("check_bucket", CHECK_SECONDS, policies.run_once),
        PeriodicTask("sweep_bucket", SWEEP_SECONDS, orphaned.run_once),
        PeriodicTask("find_missing", FIND_MISSING_SECONDS, missing.run_once),
        PeriodicTask("find_lost", FIND_LOST_SECONDS, lost.run_once, lost.forget),
    ]
