"""`--only` starts only the deployments that its faults need."""

import pytest

from tests.faults.calamities import CALAMITIES
from tests.faults.suite import parts


@pytest.mark.parametrize(
    ("only", "deployed"),
    [
        ("", {"livekit", "ground"}),
        ("egress_ended is lost", {"livekit"}),
        ("random channels", {"livekit"}),
        ("routed sound", {"ground"}),
        ("kill -9 of the worker after commit 1 of verify_recording", {"ground"}),
        ("Postgres restarts under load, at the stop", {"ground"}),
        ("no such fault", set()),
    ],
)
def test_only_what_has_the_name_is_deployed(only: str, deployed: set[str]) -> None:
    assert set(parts(only)) == deployed


def test_calamity_keeps_the_moments_that_are_named() -> None:
    kept = [moment.name for one in CALAMITIES for moment in one.matching("under load, at the stop").moments]
    assert kept == ["at the stop"]
