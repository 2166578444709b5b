"""Failures of a whole deployment during recordings: Postgres restarts, the object store or LiveKit is unreachable,
the leader process stops, or the worker's clock jumps.

Each failure happens while consultations are at different moments. A file is lost only if the recorder itself gives
up the upload, because LiveKit then deletes its file (egress#329).
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import psycopg

from devstack.stack import DATABASE
from devstack.supabase_project import with_database
from tests.faults.acts import ACTIVE, ENDED
from tests.faults.catalogue import UPLOAD_FAILED
from tests.faults.fault import Act, Fault, Tell, Verdict
from tests.faults.harness import FaultHarness, _moved
from tests.faults.judge import tried
from tests.faults.visit import Visit
from tests.pooler import Pooler

_PATIENCE_SECONDS = 300
_START_SECONDS = 150
_STORE_AWAY_SECONDS = 60
_LIVEKIT_AWAY_SECONDS = 20
_DATABASE_SECONDS = 20
_LEADER_FROZEN_SECONDS = 60
_FOLLOWED_SECONDS = 30
_WRONG_CLOCK_SECONDS = 30
_ASKERS = "select pid from pg_stat_activity where application_name = 'resguardo-worker-leader'"
_LEADER = "select leader, number from private.leadership where leader is not null and expires_at > clock_timestamp()"


@dataclass(frozen=True)
class Moment:
    """A moment of a consultation at which a failure happens: the acts long before the failure, just before it, and
    after it.
    """

    name: str
    before: Act
    last: Act
    after: Act
    expected: str = "READY"


@dataclass(frozen=True)
class DeploymentFailure:
    """A failure of the deployment, which happens while `visits` consultations are at each of the given moments."""

    name: str
    befall: Callable[[FaultHarness], Awaitable[None]]
    moments: Sequence[Moment]
    visits: int = 1

    def matching(self, only: str) -> "DeploymentFailure":
        """Return this failure with only those moments whose full name (failure and moment) contains `only`."""
        return replace(self, moments=[moment for moment in self.moments if only in self._met_at(moment)])

    async def met(self, harness: FaultHarness, tell: Tell) -> list[Verdict]:
        """Let every consultation proceed to its moment, and then cause the failure."""
        met = [(Visit(harness), moment) for moment in self.moments for _ in range(self.visits)]
        await asyncio.gather(*(_come_near(visit, moment) for visit, moment in met))
        await asyncio.gather(*(moment.last(visit) for visit, moment in met))
        happening = asyncio.ensure_future(self.befall(harness))

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


async def _restart_postgres(harness: FaultHarness) -> None:
    await harness.restart_postgres()


async def _take_the_store_away(harness: FaultHarness) -> None:
    with harness.store_wire.broken():
        await asyncio.sleep(_STORE_AWAY_SECONDS)


async def _take_livekit_away(harness: FaultHarness) -> None:
    with harness.livekit_wire.broken(), harness.webhook_wire.broken():
        await asyncio.sleep(_LIVEKIT_AWAY_SECONDS)


async def _freeze_the_leader(harness: FaultHarness) -> None:
    """Freeze the leader while a second worker runs. The second worker must lead within 30 s, and the first worker
    must not lead any more when it continues.
    """
    with tempfile.TemporaryDirectory(prefix="second-worker-") as directory:
        async with harness.another_worker(Path(directory)) as other:
            first = await _until_led(harness, f"/{harness.worker.pid}", _FOLLOWED_SECONDS)
            await _until_connected(harness)
            harness.worker.stand_still()
            try:
                second = await _until_led(harness, f"/{other.pid}", _FOLLOWED_SECONDS)
                await asyncio.sleep(_LEADER_FROZEN_SECONDS - _FOLLOWED_SECONDS)
            finally:
                harness.worker.go_on()
            await asyncio.sleep(10)
            assert first < second == await _until_led(harness, f"/{other.pid}", 1), (
                "the frozen one leads again"
            )
    await _until_led(harness, f"/{harness.worker.pid}", _FOLLOWED_SECONDS)


async def _until_led(harness: FaultHarness, by: str, seconds: float) -> int:
    """Wait until a worker whose name ends with `by` is the leader. Return the number of this leader's lease."""
    async with asyncio.timeout(seconds):
        while True:
            for leader, number in await harness.postgres.rows(_LEADER):
                if leader.endswith(by):
                    return int(number)
            await asyncio.sleep(0.2)


async def _until_connected(harness: FaultHarness) -> None:
    """Wait until two workers request the leader's lease."""
    async with asyncio.timeout(60):
        while len(await harness.postgres.rows(_ASKERS)) < 2:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.2)


async def _make_read_only(harness: FaultHarness) -> None:
    """Make the database read-only, as Supabase does if the disk is 95% full."""
    await _alter_database(harness, "set default_transaction_read_only = on")
    await asyncio.sleep(_DATABASE_SECONDS)
    await _alter_database(harness, "reset default_transaction_read_only")


async def _alter_database(harness: FaultHarness, how: str) -> None:
    """Change a setting of the database, and end all existing sessions of the product's logins."""
    await harness.postgres.rows(f'alter database "{DATABASE}" {how}')
    await harness.postgres.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and usename like 'resguardo%%'",
        DATABASE,
    )


async def _fill_the_pools(harness: FaultHarness) -> None:
    """Lock a table that every statement needs, so that each process's connections are all in use and waiting."""
    url = with_database(harness.postgres.url, DATABASE)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("lock table resguardo.recordings in access exclusive mode")
        await asyncio.sleep(_DATABASE_SECONDS)


async def _put_a_pooler_between(harness: FaultHarness) -> None:
    """Put a pooler in transaction mode before the database. The worker refuses to use the pooler when it connects
    again, while the API works unchanged.
    """
    address_of_postgres = harness.database_wire.upstream
    api, worker = [
        _moved(harness.stack.environment[name], address_of_postgres[1])
        for name in ("API_DATABASE_URL", "WORKER_DATABASE_URL")
    ]
    pooler = Pooler(api, "transaction", others=[worker])
    async with pooler.running():
        harness.database_wire.upstream = ("127.0.0.1", pooler.port)
        with harness.database_wire.broken():
            pass
        await asyncio.sleep(_DATABASE_SECONDS)
        harness.database_wire.upstream = address_of_postgres
        with harness.database_wire.broken():
            pass


def _the_workers_clock_leaps(by: timedelta) -> Callable[[FaultHarness], Awaitable[None]]:
    async def befall(harness: FaultHarness) -> None:
        harness.worker_clock.write_text(str(by.total_seconds()))
        await asyncio.sleep(_WRONG_CLOCK_SECONDS)
        harness.worker_clock.write_text("0")

    return befall


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

POSTGRES_RESTARTS = DeploymentFailure("Postgres restarts", _restart_postgres, _ALL_ALONG)
POSTGRES_RESTARTS_UNDER_LOAD = DeploymentFailure(
    "Postgres restarts under load", _restart_postgres, _ALL_ALONG, visits=4
)
DEPLOYMENT_FAILURES = (
    POSTGRES_RESTARTS_UNDER_LOAD,
    DeploymentFailure(
        f"LiveKit is out of reach for {_LIVEKIT_AWAY_SECONDS} s", _take_livekit_away, _ALL_ALONG
    ),
    DeploymentFailure(f"the database is read-only for {_DATABASE_SECONDS} s", _make_read_only, _ALL_ALONG),
    DeploymentFailure(f"the pools are full for {_DATABASE_SECONDS} s", _fill_the_pools, _ALL_ALONG),
    DeploymentFailure(
        f"a pooler keeps no session for {_DATABASE_SECONDS} s", _put_a_pooler_between, _ALL_ALONG
    ),
    DeploymentFailure("the leader stands still for a minute", _freeze_the_leader, _ALL_ALONG),
    *(
        DeploymentFailure(
            f"the worker's clock leaps a year {where}",
            _the_workers_clock_leaps(by),
            (
                Moment("while it records", _record, _nothing, _stop),
                Moment("at the stop", _record, _stop, _nothing),
                Moment("once it is uploaded", _record, _stop_and_upload, _nothing),
            ),
        )
        for where, by in (("ahead", timedelta(days=365)), ("back", timedelta(days=-365)))
    ),
    DeploymentFailure(
        "the object store is away for a minute",
        _take_the_store_away,
        (
            Moment("while it records", _record, _nothing, _stop_once_it_is_back),
            Moment("at the upload", _record, _nothing, _stop, f"READY | {UPLOAD_FAILED}"),
            Moment("once it is uploaded", _record, _stop_and_upload, _nothing),
        ),
    ),
)
