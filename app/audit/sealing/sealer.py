"""The sealer: a periodic task of the leader that gives every unsealed event a leaf, and signs checkpoints.

A batch is one transaction, so a sealer that dies has either sealed a batch or has done nothing. Two sealers take
turns at the row of the log.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg

from app.alerts.model import AlertKind, Finding
from app.alerts.service import Alerts
from app.audit.sealing.checks import count_differences
from app.audit.sealing.model import BATCH, LogKeys, NewLeaf, StoredLog, compute_leaf, seal
from app.errors import AppError, Conflict
from app.failures import describe_failure
from app.postgres.database import Database, Transaction
from app.postgres.queries import Queries
from app.transparency_log.checkpoints import Checkpoint
from app.transparency_log.errors import EventError, TransparencyLogError
from app.transparency_log.notes import VerifierKey

log = logging.getLogger(__name__)
_sql = Queries(Path(__file__).with_name("queries.sql"))

REPEAT_SECONDS: Final = 60
"""The interval at which the sealer repeats a log line and writes an open alert again."""

_KINDS: Final = (AlertKind.AUDIT_LOG_DIFFERS, AlertKind.AUDIT_SEALING_FAILED)
_DIFFERENCES: Final = {
    "audit_log_differs",
    "audit_log_moved",
    "leaves_pkey",
    "leaves_event_key",
    "tile_hashes_pkey",
}
"""The reasons that show that the stored rows of a log do not belong together."""


@dataclass(frozen=True)
class _Position:
    """The last unsealed event that the sealer read in this run."""

    recorded_at: datetime
    event_id: UUID


_START: Final = _Position(datetime.min.replace(tzinfo=UTC), UUID(int=0))


class Sealer:
    """Seals the audit log.

    `reconcile` makes the database's logs agree with the published logs. The sealer awaits it before it seals for the
    first time after `begin`, and after a log was found to differ. `clock` returns seconds and never goes back.
    """

    def __init__(
        self,
        database: Database,
        seed: bytes,
        former_keys: Iterable[VerifierKey] = (),
        *,
        deployment: str,
        clock: Callable[[], float],
        reconcile: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._database = database
        self._seed = seed
        self._former_keys = tuple(former_keys)
        self._deployment = deployment
        self._clock = clock
        self._reconcile = reconcile
        self._is_reconciled = reconcile is None
        self._sealed: dict[int, Checkpoint] = {}
        self._logged_at: dict[str, float] = {}
        self._alerts = SealingAlerts(Alerts(database), clock)

    def begin(self) -> None:
        """Forget what this process knows of the logs, because another worker may have led in between."""
        self._is_reconciled = self._reconcile is None
        self._sealed.clear()
        self._alerts.begin()

    def keys(self, year: int) -> LogKeys:
        """Return the keys of the log of a year."""
        return LogKeys.derive(self._seed, self._former_keys, deployment=self._deployment, year=year)

    async def run(self) -> None:
        """Seal all unsealed events, and write the events of the log about itself. If rows that
        somebody changed make one step fail, the other steps still run, and an alert is open until they run again.
        Raises AppError.
        """
        for step in (
            self._reconcile_first,
            self._note_clock,
            self._seal_years,
            self._write_own_events,
            self._discard_queued_twice,
        ):
            with self._isolated(step.__name__):
                await step()
        await self._alerts.write()

    @contextmanager
    def _isolated(self, name: str) -> Iterator[None]:
        """Report an error of the block that only tampered rows can cause, and continue after the block."""
        try:
            yield
        except (psycopg.Error, TransparencyLogError) as error:
            self._alerts.add(AlertKind.AUDIT_SEALING_FAILED, name)
            self._log(name, "a step of the sealer failed: %s", describe_failure(error))

    async def _seal_years(self) -> None:
        async with self._database.as_service("seal_audit_log") as tx:
            years = [row["log_year"] for row in await tx.all(_sql["unsealed_years"])]
        for year in years:
            with self._isolated(f"year {year}"):
                try:
                    await self.seal_year(year)
                except Conflict as error:
                    if error.reason not in _DIFFERENCES:
                        raise
                    self._is_reconciled = self._reconcile is None
                    what = error.detail.get("what", error.reason)
                    self._alerts.add(AlertKind.AUDIT_LOG_DIFFERS, str(year))
                    self._log(f"differs {year}", "the audit log of %d is not sealed: %s", year, what)

    async def seal_year(self, year: int) -> None:
        """Seal the unsealed events of one year, in batches of one transaction each. An event without a canonical form
        is left unsealed. Raises Conflict (audit_log_differs) and the other AppErrors of a transaction.
        """
        position: _Position | None = _START
        while position is not None:
            async with self._database.as_service("seal_audit_log") as tx:
                position, checkpoint = await self._seal_batch(tx, year, position)
            if checkpoint is not None:
                self._sealed[year] = checkpoint

    async def _seal_batch(
        self, tx: Transaction, year: int, after: _Position
    ) -> tuple[_Position | None, Checkpoint | None]:
        """Seal a batch. Return the position of its last event if more events may follow, and the new checkpoint."""
        row = await tx.one(_sql["lock_log"], {"log_year": year})
        rows = await tx.all(
            _sql["read_unsealed"],
            {"log_year": year, "after_at": after.recorded_at, "after_id": after.event_id, "batch": BATCH},
        )
        leaves = self._compute_leaves(rows)
        last = _Position(rows[-1]["recorded_at"], rows[-1]["id"]) if len(rows) == BATCH else None
        if row is None or not leaves:
            return last, None
        keys = self.keys(year)
        sealed = seal(StoredLog(**row).open(keys, self._sealed.get(year)), leaves, keys)
        await tx.run(_sql["seal_events"], {"log_year": year, **sealed.parameters})
        return last, sealed.checkpoint

    def _compute_leaves(self, rows: Iterable[dict[str, Any]]) -> list[NewLeaf]:
        leaves = []
        for row in rows:
            try:
                leaves.append(compute_leaf(row))
            except EventError:
                self._log("form", "an event of the audit log has no canonical form: %s", row["id"])
        return leaves

    async def _reconcile_first(self) -> None:
        """Compare the logs with the published logs once. If the bucket is unreachable, seal anyway, and try again in
        the next run.
        """
        if self._is_reconciled or self._reconcile is None:
            return
        try:
            await self._reconcile()
        except AppError as error:
            log.warning("the audit log is not compared with the bucket: %s", error.summary)
            return
        self._is_reconciled = True
        self._sealed.clear()  # the publisher may have changed the logs, too

    async def _note_clock(self) -> None:
        async with self._database.as_service("seal_audit_log") as tx:
            seconds = await tx.value(_sql["note_clock"])
        if seconds is not None:
            log.warning("the database's clock went back by %d s", seconds)

    async def _write_own_events(self) -> None:
        async with self._database.as_service("seal_audit_log") as tx:
            await tx.run(_sql["mark_hour"])
        async with self._database.as_service("seal_audit_log") as tx:
            for row in await tx.all(_sql["close_years"]):
                log.info("the audit log of %d is closed", row["log_year"])
        await self._note_clock()

    async def _discard_queued_twice(self) -> None:
        async with self._database.as_service("seal_audit_log") as tx:
            await tx.run(_sql["discard_queued_twice"])

    def _log(self, about: str, message: str, *arguments: object) -> None:
        """Log details that the alert does not contain, at most once a minute for each subject."""
        now = self._clock()
        if now - self._logged_at.get(about, now - REPEAT_SECONDS) >= REPEAT_SECONDS:
            self._logged_at[about] = now
            log.warning(message, *arguments)


class SealingAlerts:
    """The alerts of a sealer: each run adds what it found, and then writes it. Because the sealer runs every two
    seconds, unchanged findings are written only once a minute.
    """

    def __init__(self, alerts: Alerts, clock: Callable[[], float]) -> None:
        self._alerts = alerts
        self._clock = clock
        self._found: dict[AlertKind, set[str]] = {}
        self._written: dict[AlertKind, tuple[set[str], float]] = {}
        self.begin()

    def begin(self) -> None:
        """Forget what was written, because another worker may have led in between."""
        self._found = {kind: set() for kind in _KINDS}
        self._written.clear()

    def add(self, kind: AlertKind, key: str) -> None:
        """Add a finding of this run."""
        self._found[kind].add(key)

    async def write(self) -> None:
        """Open the alerts of the findings of this run, and close the others. Raises AppError."""
        found, self._found = self._found, {kind: set() for kind in _KINDS}
        now = self._clock()
        for kind, keys in found.items():
            written, written_at = self._written.get(kind, (None, now))
            if keys != written or (keys and now - written_at >= REPEAT_SECONDS):
                await self._alerts.replace(kind, map(Finding, sorted(keys)))
                self._written[kind] = keys, now


class LogCounts:
    """Compares the number of events with the number of leaves and unsealed events."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._alerts = Alerts(database)

    async def run(self) -> None:
        """Open an alert for each year in which the counts differ. Raises AppError."""
        differences = await count_differences(self._database)
        for difference in differences.values():
            log.warning("%s", difference)
        await self._alerts.replace(
            AlertKind.AUDIT_LOG_COUNTS_DIFFER, [Finding(str(year)) for year in differences]
        )
