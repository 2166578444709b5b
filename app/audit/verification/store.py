"""Reads the sealed rows of the database, through the functions that the worker's login may call."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg

from app.audit.verification.rows import SealedRow, StoredEvent
from app.postgres.database import Database, Transaction
from app.postgres.queries import Queries
from app.transparency_log.errors import TransparencyLogError
from app.transparency_log.tiles import TileId, root_from_tiles, tiles_for_root

_sql: Final = Queries(Path(__file__).with_name("queries.sql"))
_MOST_HASHES: Final = 20_000
_MOST_SCANNED: Final = 10_000
_MOST_IDS: Final = 1000
_COUNT_MILLISECONDS: Final = 50_000
_BEFORE_ALL: Final = datetime(1, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class StoredLog:
    """The row of audit.logs. `leaf_count` is one more than the largest index in audit.leaves."""

    log_year: int
    origin: str
    size: int
    frontier: bytes
    checkpoint: str | None
    closed_size: int | None
    leaf_count: int


@dataclass(frozen=True)
class LogCounts:
    """The numbers of a year's events, leaves with an event, and unsealed events, counted at one moment."""

    event_count: int
    leaf_count: int
    unsealed_count: int

    @property
    def is_balanced(self) -> bool:
        """Return whether each event has a leaf or waits for one."""
        return self.event_count == self.leaf_count + self.unsealed_count


@dataclass(frozen=True)
class FoundLeaf:
    """The leaf of an event, and a checkpoint that covers it. `is_published` says whether the checkpoint is in the
    bucket, with the cosignatures of the witnesses.
    """

    log_year: int
    index: int
    checkpoint: str
    is_published: bool


class SealedRows:
    """Reads the sealed rows of one database, in short transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def logs(self) -> list[StoredLog]:
        """Return the logs of all years."""
        async with self._database.as_service("verify_audit_log") as tx:
            return [StoredLog(**_plain(row)) for row in await tx.all(_sql["read_logs"])]

    async def rows(self, year: int, first: int, end: int) -> dict[int, SealedRow]:
        """Return the leaves from `first` to before `end` with their events, by their indexes."""
        page = {"year": year, "first_index": first, "end_index": end}
        async with self._database.as_service("verify_audit_log") as tx:
            leaves = await tx.all(_sql["read_leaves"], page)
            events = await _events(tx, page, [row["event_id"] for row in leaves])
        return {
            row["index"]: SealedRow(
                row["index"],
                row["event_id"],
                row["recorded_at"],
                bytes(row["leaf_hash"]),
                events.get(row["event_id"]),
            )
            for row in leaves
        }

    async def tile_hashes(self, year: int) -> dict[tuple[int, int], bytes]:
        """Return the hashes of the log's tiles above level 0, by level and index."""
        found: dict[tuple[int, int], bytes] = {}
        after = (0, -1)
        while True:
            async with self._database.as_service("verify_audit_log") as tx:
                rows = await tx.all(
                    _sql["read_tile_hashes"],
                    {
                        "year": year,
                        "after_level": after[0],
                        "after_index": after[1],
                        "max_rows": _MOST_HASHES,
                    },
                )
            found |= {(row["level"], row["index"]): bytes(row["hash"]) for row in rows}
            if len(rows) < _MOST_HASHES:
                return found
            after = (rows[-1]["level"], rows[-1]["index"])

    async def publications(self, year: int) -> tuple[list[int], int]:
        """Return the sizes of the published checkpoints, and the largest size that the second bucket has."""
        sizes, second = list[int](), 0
        while True:
            async with self._database.as_service("verify_audit_log") as tx:
                rows = await tx.all(
                    _sql["list_publications"],
                    {"year": year, "after_size": sizes[-1] if sizes else -1, "max_rows": _MOST_HASHES},
                )
            sizes += [row["size"] for row in rows]
            second = max((row["size"] for row in rows if row["is_in_second"]), default=second)
            if len(rows) < _MOST_HASHES:
                return sizes, second

    async def root(self, year: int, size: int) -> bytes | None:
        """Return the root of the log's first `size` leaves, or None if the database lacks hashes."""
        try:
            async with self._database.as_service("verify_audit_log") as tx:
                return root_from_tiles(size, await read_tiles(tx, year, tiles_for_root(size)))
        except TransparencyLogError:
            return None

    async def unqueued(self, year: int) -> AsyncIterator[StoredEvent]:
        """Yield the events of a year that have no leaf and do not wait for one."""
        after_at, after_id = _BEFORE_ALL, UUID(int=0)
        while True:
            async with self._database.as_service("verify_audit_log") as tx:
                page = await tx.one(
                    _sql["find_unqueued"],
                    {"year": year, "after_at": after_at, "after_id": after_id, "max_rows": _MOST_SCANNED},
                )
                ids = [] if page is None else list(page["event_ids"] or ())
                events = await _find_events(tx, ids)
            for event in events:
                yield event
            if page is None or page["last_at"] is None:
                return
            after_at, after_id = page["last_at"], page["last_id"]

    async def queued_without_event(self) -> Sequence[UUID]:
        """Return ids that wait for a leaf, but whose event is gone: at most 1,000."""
        async with self._database.as_service("verify_audit_log") as tx:
            return list(await tx.value(_sql["find_queued_without_event"], {"max_rows": _MOST_IDS}))

    async def overdue(self) -> tuple[int, Sequence[UUID]]:
        """Return how many events have been unsealed for more than 60 seconds, and the ids of the oldest."""
        async with self._database.as_service("verify_audit_log") as tx:
            row = await tx.one(_sql["overdue_events"])
        return (0, ()) if row is None else (row["overdue_count"], row["event_ids"])

    async def years(self) -> list[int]:
        """Return the years from the earliest to the latest event."""
        async with self._database.as_service("verify_audit_log") as tx:
            return [row["log_year"] for row in await tx.all(_sql["audit_years"])]

    async def counts(self, year: int) -> LogCounts:
        """Count the events, leaves and unsealed events of a year."""
        async with self._database.as_service("verify_audit_log") as tx:
            await tx.run(_sql["allow_count_time"], {"milliseconds": str(_COUNT_MILLISECONDS)})
            row = await tx.one(_sql["count_log"], {"year": year})
        return LogCounts(**row) if row is not None else LogCounts(0, 0, 0)


async def find_leaf(tx: Transaction, event_id: UUID) -> FoundLeaf | None:
    """Return the leaf of an event, or None if the event is not sealed."""
    row = await tx.one(_sql["find_leaf"], {"event_id": event_id})
    if row is None or row["index"] is None or row["checkpoint"] is None:
        return None
    return FoundLeaf(**row)


async def find_event_row(tx: Transaction, event_id: UUID, leaf: FoundLeaf | None) -> Mapping[str, Any] | None:
    """Return the row of audit.events, or None. With the event's leaf, the database reads one partition."""
    row = None
    if leaf is not None:
        page = {"year": leaf.log_year, "first_index": leaf.index, "end_index": leaf.index + 1}
        row = await tx.one(_sql["read_sealed_events"], page)
    if row is None:
        row = await tx.one(_sql["find_events"], {"ids": [event_id]})
    return None if row is None else _plain(row)


async def read_tiles(tx: Transaction, year: int, tiles: Collection[TileId]) -> dict[TileId, bytes]:
    """Return the content of tiles as the database stores them. A tile that is not there is empty."""
    wanted = list(tiles)
    rows = await tx.all(
        _sql["read_tiles"],
        {
            "year": year,
            "levels": [tile.level for tile in wanted],
            "indexes": [tile.index for tile in wanted],
            "widths": [tile.width for tile in wanted],
        },
    )
    return {tile: bytes(row["content"] or b"") for tile, row in zip(wanted, rows, strict=True)}


async def redact_event(tx: Transaction, event_id: UUID, reason: str) -> bool:
    """Redact an event, as the owner of the database. Return whether the event was redacted now."""
    return bool(await tx.value(_sql["redact_event"], {"event_id": event_id, "reason": reason}))


async def _events(
    tx: Transaction, page: Mapping[str, object], ids: Sequence[UUID | None]
) -> dict[UUID, StoredEvent]:
    """Return the events of a page of leaves. An event whose time was changed is found by its id alone."""
    try:
        rows = await tx.all(_sql["read_sealed_events"], page)
    except psycopg.DataError:  # _find_events finds out which event it is
        rows = []
    found = {row["id"]: StoredEvent.of_row(_plain(row)) for row in rows}
    missing = [one for one in ids if one is not None and one not in found]
    return found | {event.event_id: event for event in await _find_events(tx, missing)}


async def _find_events(tx: Transaction, ids: Sequence[UUID]) -> list[StoredEvent]:
    """Return the events with these ids. A row with a value that the driver cannot represent is an unreadable event, and
    does not hide the other rows.
    """
    found: list[StoredEvent] = []
    parts = [ids[start : start + _MOST_IDS] for start in range(0, len(ids), _MOST_IDS)]
    while parts:
        part = parts.pop()
        try:
            rows = await tx.all(_sql["find_events"], {"ids": list(part)})
        except psycopg.DataError:
            middle = len(part) // 2
            parts += [part[:middle], part[middle:]] if middle else []
            found += [] if middle else [StoredEvent.unreadable(part[0])]
        else:
            found += [StoredEvent.of_row(_plain(row)) for row in rows]
    return found


def _plain(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the row with `bytes` where the driver returns a memoryview."""
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items()}
