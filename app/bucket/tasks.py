"""The periodic tasks of the bucket."""

from app.bucket.service import BucketPolicies
from app.jobs.periodic import PeriodicTask

CHECK_SECONDS = 3600


def define_periodic_tasks(policies: BucketPolicies) -> list[PeriodicTask]:
    """Return the task that compares the bucket's settings with the policies."""
    return [PeriodicTask("check_bucket", CHECK_SECONDS, policies.run_once)]
