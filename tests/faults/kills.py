"""Kills the API and the worker with `kill -9` before and after every commit of a consultation.

A first consultation without a kill shows which commits exist. After the first consultation, each commit gets a
consultation of its own. Several consultations run at once, and each kill of a process affects all of them.
Transactions that only poll are endless, so the suite tests only the first few of each kind.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

from tests.faults.fault import Fault, Tell, Verdict
from tests.faults.harness import FaultHarness
from tests.faults.judge import tried
from tests.faults.visit import Visit
from tests.faults.watches import FETCH, FINISH, Moment, Watch

_KILL = "kill -9"
_AT_ONCE = 12
_PATIENCE_SECONDS = 300
_TRIES = 3
_MOST = {
    "livekit_webhook": 4,
    "move_recording": 3,
    "reconcile": 2,
    "watch_room": 3,
    "follow_egress": 2,
    **{f"{step} of {task}": 1 for step in (FETCH, FINISH) for task in ("watch_room", "follow_egress")},
}
_PROCESSES = {"resguardo_api": "API", "resguardo_worker": "worker"}


@dataclass(frozen=True)
class Death:
    """A kill of the process that uses this database login, before or after its `number`-th commit with the given
    purpose.
    """

    login: str
    purpose: str
    number: int
    moment: Moment

    @property
    def name(self) -> str:
        """Return the name that the table of results shows for this kill."""
        process = _PROCESSES[self.login]
        return f"{_KILL} of the {process} {self.moment} commit {self.number} of {self.purpose}"


def is_meant(only: str) -> bool:
    """Return whether `only` can match the name of a kill. The names of the kills are unknown before the first
    consultation.
    """
    return only in _KILL or only.startswith(_KILL)


async def deaths(harness: FaultHarness) -> list[Death]:
    """Return two kills for each commit of one consultation: one before the commit and one after it."""
    watches = tuple(Watch(login, "after") for login in _PROCESSES)
    with harness.database_wire.watched(*watches):
        await tried(Visit(harness, watches), Fault("nobody dies", "issue", "READY", _consult))
    return [
        Death(watch.login, purpose, number, moment)
        for watch in watches
        for purpose, number in _commits(watch.passed)
        for moment in get_args(Moment)
    ]


async def run_deaths(harness: FaultHarness, wanted: Iterable[Death], tell: Tell) -> list[Verdict]:
    """Run a consultation for each kill. If a consultation never reaches the commit at which its kill should happen,
    the function returns no verdict for this kill.
    """
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(death: Death) -> Verdict | None:
        async with places:
            verdict = await _died(harness, death)
        if verdict is not None:
            tell(verdict)
        return verdict

    verdicts = await asyncio.gather(*map(one, wanted))
    return [verdict for verdict in verdicts if verdict is not None]


async def _died(harness: FaultHarness, death: Death) -> Verdict | None:
    process = {"API": harness.api, "worker": harness.worker}[_PROCESSES[death.login]]
    for _ in range(_TRIES):
        watch = Watch(death.login, death.moment, process.kill, death.purpose, death.number)
        with harness.database_wire.watched(watch):
            verdict = await tried(
                Visit(harness, (watch,)), Fault(death.name, "issue", "READY", _consult, _PATIENCE_SECONDS)
            )
        if watch.has_fired or not verdict.is_as_expected:
            return verdict
    return None


async def _consult(visit: Visit) -> None:
    await visit.open()
    await visit.start()
    await visit.until("RECORDING", _PATIENCE_SECONDS)
    await visit.stop()


def _commits(passed: Counter[str]) -> Iterator[tuple[str, int]]:
    for purpose, count in passed.items():
        for number in range(1, min(count, _MOST.get(purpose, count)) + 1):
            yield purpose, number
