"""What befalls a whole deployment: Postgres restarted, the store away, LiveKit out of reach, while people record.

Each calamity meets consultations at different moments. Only an upload that the recorder itself gives up is gone:
LiveKit deletes its file then (egress#329).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from tests.faults.acts import ACTIVE, ENDED
from tests.faults.catalogue import UPLOAD_FAILED
from tests.faults.fault import Act, Fault, Tell, Verdict
from tests.faults.judge import tried
from tests.faults.visit import Visit
from tests.faults.world import World

_PATIENCE_SECONDS = 300
_START_SECONDS = 150
_STORE_AWAY_SECONDS = 60
_LIVEKIT_AWAY_SECONDS = 20


@dataclass(frozen=True)
class Moment:
    """What people do before, what they do last before it happens, and what after."""

    name: str
    before: Act
    last: Act
    after: Act
    expected: str = "READY"


@dataclass(frozen=True)
class Calamity:
    """What befalls the deployment while `visits` consultations are at each of these moments."""

    name: str
    befall: Callable[[World], Awaitable[None]]
    moments: Sequence[Moment]
    visits: int = 1

    def matching(self, only: str) -> "Calamity":
        """With the moments alone in whose name this is."""
        return replace(self, moments=[moment for moment in self.moments if only in self._met_at(moment)])

    async def met(self, world: World, tell: Tell) -> list[Verdict]:
        """Every consultation comes to its moment, then it happens."""
        met = [(Visit(world), moment) for moment in self.moments for _ in range(self.visits)]
        await asyncio.gather(*(_come_near(visit, moment) for visit, moment in met))
        await asyncio.gather(*(moment.last(visit) for visit, moment in met))
        happening = asyncio.ensure_future(self.befall(world))

        async def one(visit: Visit, moment: Moment) -> Verdict:
            name = f"{self.name}, {moment.name}"
            verdict = await tried(
                visit, Fault(name, "issue", moment.expected, moment.after, _PATIENCE_SECONDS)
            )
            tell(verdict)
            return verdict

        verdicts = await asyncio.gather(*(one(visit, moment) for visit, moment in met))
        await happening
        return verdicts

    def _met_at(self, moment: Moment) -> str:
        return f"{self.name}, {moment.name}"


async def _come_near(visit: Visit, moment: Moment) -> None:
    await visit.open()
    await moment.before(visit)


async def _restart_postgres(world: World) -> None:
    await world.restart_postgres()


async def _take_the_store_away(world: World) -> None:
    with world.store_wire.broken():
        await asyncio.sleep(_STORE_AWAY_SECONDS)


async def _take_livekit_away(world: World) -> None:
    with world.livekit_wire.broken(), world.webhook_wire.broken():
        await asyncio.sleep(_LIVEKIT_AWAY_SECONDS)


async def _nothing(_: Visit) -> None:
    return


async def _start(visit: Visit) -> None:
    await visit.start()


async def _record(visit: Visit) -> None:
    await visit.start()
    await visit.until_recorded(ACTIVE, _START_SECONDS)
    await visit.until("RECORDING")


async def _stop(visit: Visit) -> None:
    await visit.until_recorded(ACTIVE, _START_SECONDS)
    await visit.stop()


async def _start_and_stop(visit: Visit) -> None:
    await visit.start()
    await _stop(visit)


async def _stop_and_upload(visit: Visit) -> None:
    await visit.stop()
    await visit.until_recorded(ENDED)


async def _stop_once_it_is_back(visit: Visit) -> None:
    await asyncio.sleep(_STORE_AWAY_SECONDS + 10)
    await visit.stop()


_BEFORE_THE_START = Moment("before the start", _nothing, _nothing, _start_and_stop)
_AT_THE_START = Moment("at the start", _nothing, _start, _stop)
_WHILE_IT_RECORDS = Moment("while it records", _record, _nothing, _stop)
_AT_THE_STOP = Moment("at the stop", _record, _stop, _nothing)
_ALL_ALONG = (_BEFORE_THE_START, _AT_THE_START, _WHILE_IT_RECORDS, _AT_THE_STOP)

POSTGRES_RESTARTS = Calamity("Postgres restarts", _restart_postgres, _ALL_ALONG)
POSTGRES_RESTARTS_UNDER_LOAD = Calamity(
    "Postgres restarts under load", _restart_postgres, _ALL_ALONG, visits=4
)
CALAMITIES = (
    POSTGRES_RESTARTS_UNDER_LOAD,
    Calamity(f"LiveKit is out of reach for {_LIVEKIT_AWAY_SECONDS} s", _take_livekit_away, _ALL_ALONG),
    Calamity(
        "the object store is away for a minute",
        _take_the_store_away,
        (
            Moment("while it records", _record, _nothing, _stop_once_it_is_back),
            Moment("at the upload", _record, _nothing, _stop, f"READY | {UPLOAD_FAILED}"),
            Moment("once it is uploaded", _record, _stop_and_upload, _nothing),
        ),
    ),
)
