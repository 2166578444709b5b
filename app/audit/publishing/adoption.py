"""Compares the logs of the database with the bucket, and adopts the bucket's leaves.

The bucket is ahead of the database, or differs from it, after the database was restored from a backup. The bucket's
objects are locked, and receipts refer to them, so the bucket wins: the leaves that only the database has go back to the
queue, the bucket's leaves take their places, and the sealer seals the queued events after them. A leaf whose event the
backup lacks has no event any more, and `resguardo audit verify` names it.

The tiles are compared, and not the checkpoints, because a process can die after it stored tiles and before it stored
the checkpoint. The entry bundle of a tile is always stored before the tile.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from app.alerts.model import AlertKind
from app.alerts.service import Alerts
from app.audit.publishing import store
from app.audit.publishing.bucket_log import BucketLog
from app.audit.publishing.model import (
    BucketLeaf,
    LogSizes,
    SealedEvent,
    compose_adoption,
    find_difference,
)
from app.audit.sealing.model import LogKeys, compute_leaf
from app.errors import Conflict, Timeout
from app.integrations.storage.client import Storage
from app.postgres.database import Database
from app.transparency_log.errors import EventError
from app.transparency_log.merkle import Frontier
from app.transparency_log.tiles import TILE_WIDTH, TileId, frontier_from_tiles, tiles_for_root

log = logging.getLogger(__name__)

ADOPTED_AT_ONCE: Final = 64
"""The number of tiles whose leaves one transaction adopts."""

EVENTS_AT_ONCE: Final = 1000
BRIEF_SECONDS: Final = 5.0
ATTEMPTS: Final = 5


class Adoption:
    """Makes the database's logs agree with the bucket. `keys` returns the keys of the log of a year."""

    def __init__(self, database: Database, storage: Storage, keys: Callable[[int], LogKeys]) -> None:
        self._database = database
        self._storage = storage
        self._keys = keys
        self._alerts = Alerts(database)
        self._turn = asyncio.Lock()

    async def run(self, years: Collection[int] | None = None) -> bool:
        """Compare the logs of these years, or all logs, with the bucket. Return whether leaves were adopted.

        Raises UpstreamFailed, Timeout, and Conflict (audit_log_moved) if another worker sealed at the same time.
        """
        async with self._turn:
            changed = False
            async with self._database.as_service("publish_audit_log") as tx:
                logs = await store.list_log_sizes(tx)
            for sizes in logs:
                if years is None or sizes.log_year in years:
                    changed |= await self._reconcile(sizes.log_year)
            return changed

    async def find_differences(self) -> dict[str, int]:
        """Return, for each log that differs from the bucket, its origin and the index of the first leaf that differs or
        that only the bucket has. Changes nothing. Raises UpstreamFailed, Timeout.
        """
        async with self._database.as_service("publish_audit_log") as tx:
            logs = await store.list_log_sizes(tx)
        found = {}
        for sizes in logs:
            keys = self._keys(sizes.log_year)
            first = await self._compare(sizes, BucketLog(self._storage, keys.origin), keys)
            if first is not None:
                found[keys.origin] = first
        return found

    async def run_briefly(self) -> None:
        """Compare all logs with the bucket for at most `BRIEF_SECONDS`, so that a bucket that does not answer does not
        hold up the sealer. Raises as `run` does.
        """
        try:
            async with asyncio.timeout(BRIEF_SECONDS):
                await self.run()
        except TimeoutError as error:
            raise Timeout("storage_timeout", operation="compare_audit_log") from error

    async def _reconcile(self, log_year: int) -> bool:
        """Compare one log with the bucket. If the sealer seals at the same time, begin again."""
        for _ in range(ATTEMPTS):
            async with self._database.as_service("publish_audit_log") as tx:
                found = await store.list_log_sizes(tx)
            sizes = next(one for one in found if one.log_year == log_year)
            try:
                return await self._reconcile_once(sizes)
            except Conflict as error:
                if error.reason != "audit_log_moved":
                    raise
        raise Conflict("audit_log_moved")

    async def _reconcile_once(self, sizes: LogSizes) -> bool:
        keys = self._keys(sizes.log_year)
        bucket = BucketLog(self._storage, keys.origin)
        first = await self._compare(sizes, bucket, keys)
        if bucket.is_different:
            await self._alerts.open(AlertKind.AUDIT_BUCKET_DIFFERS, f"{sizes.log_year}:bucket")
        if first is None:
            return False
        events = await self._read_events(sizes.log_year, first)
        adopted = lost = 0
        size, index = sizes.size, first
        while leaves := await self._read_leaves(bucket, index):
            adoption = compose_adoption(
                keys, await self._read_tree(sizes.log_year, index), size, leaves, events
            )
            async with self._database.as_service("publish_audit_log") as tx:
                await store.adopt_leaves(tx, sizes.log_year, adoption)
            adopted += len(leaves)
            lost += sum(leaf.hash not in events for leaf in leaves)
            index += len(leaves)
            size = index
        log.warning(
            "the database had another audit log %s than the bucket, from leaf %d on: %d leaves adopted from the "
            "bucket, %d of them without an event; was the database restored?",
            keys.origin,
            first,
            adopted,
            lost,
        )
        return True

    async def _compare(self, sizes: LogSizes, bucket: BucketLog, keys: LogKeys) -> int | None:
        """Return the index of the first leaf that the bucket has otherwise, or that only the bucket has. Leaves that a
        signed checkpoint in the bucket covers come from the tiles of this checkpoint alone: somebody with a key to the
        bucket can add a wider tile.
        """
        if await self._compare_tiles(sizes, bucket) is None:
            return None
        bucket.covered = await bucket.find_covered_size(keys)
        return await self._compare_tiles(sizes, bucket)

    async def _compare_tiles(self, sizes: LogSizes, bucket: BucketLog) -> int | None:
        """Compare the database's leaves with the bucket's tiles of level 0. The comparison begins with the tile in
        which the newest published checkpoint ends.
        """
        index = await bucket.confirm_published(sizes.published_size) // TILE_WIDTH
        while (tile := await bucket.find_leaf_tile(index)) is not None:
            theirs = await bucket.get_hashes(tile)
            if theirs is None:
                bucket.is_different = True
                log.warning("the bucket has an object that is not a tile: %s", tile.path)
                return None
            ours = b""
            width = min(TILE_WIDTH, max(sizes.size - index * TILE_WIDTH, 0))
            if width:
                async with self._database.as_service("publish_audit_log") as tx:
                    ours = (await store.read_tiles(tx, sizes.log_year, [TileId(0, index, width)]))[0] or b""
            place = find_difference(ours, theirs)
            if place is not None:
                return index * TILE_WIDTH + place
            if not tile.is_full:
                return None
            index += 1
        return None

    async def _read_leaves(self, bucket: BucketLog, first: int) -> list[BucketLeaf]:
        """Return leaves of the bucket from an index on, those of at most `ADOPTED_AT_ONCE` tiles."""
        found: list[BucketLeaf] = []
        index = first // TILE_WIDTH
        for number in range(index, index + ADOPTED_AT_ONCE):
            tile = await bucket.find_leaf_tile(number)
            leaves = None if tile is None else await bucket.get_leaves(tile)
            found += leaves or []
            if tile is None or leaves is None or not tile.is_full:
                break
        return found[first - index * TILE_WIDTH :]

    async def _read_tree(self, log_year: int, size: int) -> Frontier:
        async with self._database.as_service("publish_audit_log") as tx:
            tiles = await store.read_proof_tiles(tx, log_year, tiles_for_root(size))
        return frontier_from_tiles(size, tiles)

    async def _read_events(self, log_year: int, first_index: int) -> dict[bytes, SealedEvent]:
        """Return the events of the leaves from an index on, and the unsealed events, by their leaf hashes."""
        events: dict[bytes, SealedEvent] = {}
        index: int | None = first_index
        while index is not None:
            async with self._database.as_service("publish_audit_log") as tx:
                rows = await store.read_leaves(tx, log_year, index, EVENTS_AT_ONCE)
            events |= {
                row["leaf_hash"]: SealedEvent(row["event_id"], row["recorded_at"])
                for row in rows
                if row["event_id"] is not None
            }
            index = rows[-1]["index"] + 1 if len(rows) == EVENTS_AT_ONCE else None
        after: tuple[datetime, UUID] | None = (datetime.min.replace(tzinfo=UTC), UUID(int=0))
        while after is not None:
            async with self._database.as_service("publish_audit_log") as tx:
                rows = await store.read_unsealed(tx, log_year, *after, EVENTS_AT_ONCE)
            for row in rows:
                try:
                    leaf = compute_leaf(row)
                except EventError:
                    continue
                events[leaf.leaf_hash] = SealedEvent(leaf.event_id, leaf.recorded_at)
            after = (rows[-1]["recorded_at"], rows[-1]["id"]) if len(rows) == EVENTS_AT_ONCE else None
        return events
