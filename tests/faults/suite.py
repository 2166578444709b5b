"""`make faults` runs every fault of `catalogue.py`, every failure of `deployment_failures.py`, and a kill at every
commit (`kills.py`).

Two deployments run at once. The first of the two deployments is for LiveKit's faults, which take minutes of
waiting. The first deployment records each microphone with an egress of its own. The kills and the deployment
failures use the second deployment, which records the speakers with one egress that routes them to channels.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.faults import harness, kills, table
from tests.faults.catalogue import FAULTS, ROUTED_FAULTS
from tests.faults.deployment_failures import DEPLOYMENT_FAILURES, DeploymentFailure
from tests.faults.fault import Fault, Tell, Verdict
from tests.faults.harness import FaultHarness
from tests.faults.judge import tried
from tests.faults.visit import Visit

AT_ONCE = 16
_SETTINGS = {"livekit": {}, "infrastructure": {"LIVEKIT_EGRESS_ROUTES": "true"}}
Part = Callable[[FaultHarness, Tell], Awaitable[list[Verdict]]]


async def run_faults(faults: Sequence[Fault], hurt: FaultHarness, tell: Tell) -> list[Verdict]:
    """Run the faults concurrently, each with its own consultation."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(fault: Fault) -> Verdict:
        async with places:
            verdict = await tried(Visit(hurt), fault)
        tell(verdict)
        return verdict

    return list(await asyncio.gather(*map(one, faults)))


async def run(console: Console, only: str = "") -> int:
    """Run the faults whose name contains `only`. Return the exit code."""
    tell = partial(table.progress, console)
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_deployed(Path(directory) / name, part, tell, _SETTINGS[name]))
                for name, part in parts(only).items()
            ]
    return table.show(console, [verdict for task in tasks for verdict in task.result()])


def parts(only: str) -> dict[str, Part]:
    """Return, for each deployment, the part of the fault suite to run on it. The result leaves out a deployment for
    which there is nothing to run.
    """
    faults = [fault for fault in FAULTS if only in fault.name]
    failures = [one for failure in DEPLOYMENT_FAILURES if (one := failure.matching(only)).moments]
    wanted: dict[str, Part] = {}
    if faults:
        wanted["livekit"] = partial(run_faults, faults)
    routed = [fault for fault in ROUTED_FAULTS if only in fault.name]
    if routed or failures or kills.is_meant(only):
        wanted["infrastructure"] = partial(_run_infrastructure, only, routed, failures)
    return wanted


async def _run_infrastructure(
    only: str, routed: Sequence[Fault], failures: Sequence[DeploymentFailure], hurt: FaultHarness, tell: Tell
) -> list[Verdict]:
    verdicts = await run_faults(routed, hurt, tell)
    if kills.is_meant(only):
        deaths = [death for death in await kills.deaths(hurt) if only in death.name]
        verdicts += await kills.run_deaths(hurt, deaths, tell)
    for failure in failures:
        verdicts += await failure.met(hurt, tell)
    return verdicts


async def _deployed(directory: Path, part: Part, tell: Tell, settings: Mapping[str, str]) -> list[Verdict]:
    async with harness.opened(directory, **settings) as hurt:
        return await part(hurt, tell)
