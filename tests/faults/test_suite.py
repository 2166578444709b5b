"""With `--only`, the fault suite starts only the deployments that the selected faults need."""

import pytest

from tests.faults.deployment_failures import DEPLOYMENT_FAILURES
from tests.faults.suite import parts


@pytest.mark.parametrize(
    ("only", "deployed"),
    [
        ("", {"livekit", "infrastructure"}),
        ("egress_ended is lost", {"livekit"}),
        ("random channels", {"livekit"}),
        ("routed sound", {"infrastructure"}),
        ("kill -9 of the worker after commit 1 of verify_recording", {"infrastructure"}),
        ("Postgres restarts under load, at the stop", {"infrastructure"}),
        ("no such fault", set()),
    ],
)
def test_suite_starts_only_the_deployments_of_the_named_faults(only: str, deployed: set[str]) -> None:
    assert set(parts(only)) == deployed


def test_failure_keeps_only_the_named_moments() -> None:
    kept = [
        moment.name
        for one in DEPLOYMENT_FAILURES
        for moment in one.matching("under load, at the stop").moments
    ]
    assert kept == ["at the stop"]
