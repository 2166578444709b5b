"""The periodic task of the review of the audit log."""

from typing import Final

from app.jobs.periodic import PeriodicTask
from app.review.evaluation import ReviewEvaluation

REVIEW_SECONDS: Final = 30


def define_periodic_tasks(evaluation: ReviewEvaluation) -> list[PeriodicTask]:
    """Return the task that evaluates the rules for new audit events."""
    return [PeriodicTask("review_audit_log", REVIEW_SECONDS, evaluation.run_once)]
