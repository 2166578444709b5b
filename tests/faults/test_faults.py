"""Runs a few faults of `make faults` within a minute: LiveKit misbehaves, the API and the worker die, and Postgres
is down.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults import harness, kills
from tests.faults.catalogue import FAULTS
from tests.faults.deployment_failures import POSTGRES_RESTARTS
from tests.faults.fault import Verdict
from tests.faults.harness import FaultHarness
from tests.faults.kills import Death
from tests.faults.suite import run_faults

pytestmark = pytest.mark.anyio

A_FEW = (
    "the upload fails, the file is gone",
    "no webhook at all",
    "the start acts and is answered 503",
    "the start is refused for want of capacity; the doctor records again",
    "forged ends, signed with the right key",
    "failed, though the object was stored",
    "LiveKit's clock was an hour ahead and is set right",
)
DEATHS = (
    Death("resguardo_worker", "move_recording to READY", 1, "before"),
    Death("resguardo_worker", "move_recording to READY", 1, "after"),
    Death("resguardo_api", "start_recording", 1, "before"),
    Death("resguardo_api", "start_recording", 1, "after"),
)


@pytest.fixture
async def hurt() -> AsyncIterator[FaultHarness]:
    """Return a deployment in a directory outside pytest's temporary directory, because a second pytest run would
    take the Postgres user's access to that directory away.
    """
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        async with harness.opened(Path(directory) / "harness") as made:
            yield made


def _say_nothing(_: Verdict) -> None:
    return


async def test_recordings_are_not_lost_doubled_or_stuck_after_a_few_faults(hurt: FaultHarness) -> None:
    faults = [fault for fault in FAULTS if fault.name in A_FEW]
    found = await asyncio.gather(
        run_faults(faults, hurt, _say_nothing),
        kills.run_deaths(hurt, DEATHS, _say_nothing),
        POSTGRES_RESTARTS.met(hurt, _say_nothing),
    )
    verdicts = [verdict for some in found for verdict in some]
    assert [one for one in verdicts if not one.is_as_expected] == []
    assert len(verdicts) == len(A_FEW) + len(DEATHS) + len(POSTGRES_RESTARTS.moments)
