"""Publishes the logs to the bucket, and to the second bucket.

A publication stores entry bundles, tiles, the checkpoint with its cosignatures, and the copy of the newest checkpoint,
in this order. A process that dies in between is followed by one that stores the same objects again: they are written
with `If-None-Match: *`, and an object with the same bytes counts as stored.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from app.alerts.model import AlertKind
from app.alerts.service import Alerts
from app.audit.publishing import store
from app.audit.publishing.adoption import Adoption
from app.audit.publishing.bucket_log import BucketLog
from app.audit.publishing.cosigners import Cosigners
from app.audit.publishing.model import PublishedLog, format_tile, list_tiles_to_publish
from app.audit.sealing.model import LogKeys
from app.errors import Conflict
from app.integrations.storage.client import Storage
from app.postgres.database import Database
from app.transparency_log.checkpoints import Checkpoint
from app.transparency_log.errors import TransparencyLogError
from app.transparency_log.merkle import HASH_BYTES
from app.transparency_log.notes import SignedNote
from app.transparency_log.tiles import TILE_WIDTH, TileId, root_from_tiles, tiles_for_root

log = logging.getLogger(__name__)

TILES_AT_ONCE: Final = 16
PUBLICATIONS_AT_ONCE: Final = 200
"""How many checkpoints the second bucket gets in one run, if it lacks more."""


class TilePublisher:
    """Stores the tiles and entry bundles of a log in a bucket."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(self, of: PublishedLog, bucket: BucketLog, size: int, published: int) -> None:
        """Store the tiles and the entry bundles that the bucket lacks for the tree of `size` leaves. Raises Conflict
        (audit_log_differs) if the bucket has a tile of level 0 with other bytes.
        """
        bundles, tiles = list_tiles_to_publish(size, published)
        await self._put(of, bucket, bundles, published)
        await self._put(of, bucket, tiles, published)

    async def _put(
        self, of: PublishedLog, bucket: BucketLog, tiles: Sequence[TileId], published: int
    ) -> None:
        for start in range(0, len(tiles), TILES_AT_ONCE):
            batch = tiles[start : start + TILES_AT_ONCE]
            async with self._database.as_service("publish_audit_log") as tx:
                contents = await store.read_tiles(tx, of.log_year, batch)
            stored = await asyncio.gather(
                *(
                    self._put_one(of, bucket, tile, format_tile(tile, content), published)
                    for tile, content in zip(batch, contents, strict=True)
                )
            )
            if any(tile.level == 0 and not one for tile, one in zip(batch, stored, strict=True)):
                raise Conflict(
                    "audit_log_differs", year=of.log_year, what="a tile in the bucket has other bytes"
                )

    async def _put_one(
        self, of: PublishedLog, bucket: BucketLog, tile: TileId, content: bytes | None, published: int
    ) -> bool:
        if content is None:
            bucket.is_different = True
            log.warning("the database lacks hashes of the audit log %s: %s", of.origin, tile.path)
            return tile.level != 0
        is_stored = await bucket.put_tile(tile, content)
        if not is_stored:
            bucket.is_different = True
            log.warning("a bucket has other bytes of the audit log %s: %s", of.origin, tile.path)
        return is_stored or (tile.level == 0 and await _is_foreign(bucket, tile, content, published))


async def _is_foreign(bucket: BucketLog, tile: TileId, content: bytes, published: int) -> bool:
    """Return whether the bucket's tile contradicts leaves that are already published. Nothing can replace such a tile,
    and no later publication needs it.
    """
    covered = max(published - tile.index * TILE_WIDTH, 0) * HASH_BYTES
    theirs = await bucket.get_hashes(tile)
    return covered > 0 and (theirs or b"")[:covered] != content[:covered]


class Publisher:
    """Publishes the newest checkpoint of each log that has grown, at most one in `publish_seconds`.

    Before a publication, the log is compared with the bucket, and what the bucket has is adopted.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        adoption: Adoption,
        cosigners: Cosigners,
        keys: Callable[[int], LogKeys],
        *,
        publish_seconds: int,
    ) -> None:
        self._database = database
        self._storage = storage
        self._adoption = adoption
        self._cosigners = cosigners
        self._keys = keys
        self._publish_seconds = publish_seconds
        self._alerts = Alerts(database)
        self._tiles = TilePublisher(database)

    async def run(self) -> None:
        """Publish each log that is due. Raises UpstreamFailed, Timeout, and Conflict (audit_log_differs) if the log is
        not what its checkpoint says, or the bucket has other bytes. The next run tries again.
        """
        due = {one.log_year for one in await self._list_logs() if one.is_due}
        if not due:
            return
        await self._adoption.run(due)
        for one in await self._list_logs():
            if one.is_due:
                await self._publish_or_alert(one)

    async def _list_logs(self) -> list[PublishedLog]:
        async with self._database.as_service("publish_audit_log") as tx:
            return await store.list_published_logs(tx, self._publish_seconds)

    async def _publish_or_alert(self, of: PublishedLog) -> None:
        """Publish a log. Open an alert if the log is not published because it differs, and close it if it is."""
        bucket = BucketLog(self._storage, of.origin)
        try:
            await self._publish(of, bucket)
        except Conflict as error:
            if error.reason == "audit_log_differs":
                await self._alerts.open(AlertKind.AUDIT_LOG_UNPUBLISHED, str(of.log_year))
            raise
        await self._alerts.close(AlertKind.AUDIT_LOG_UNPUBLISHED, str(of.log_year))
        if bucket.is_different:
            await self._alerts.open(AlertKind.AUDIT_BUCKET_DIFFERS, f"{of.log_year}:bucket")

    async def _publish(self, of: PublishedLog, bucket: BucketLog) -> None:
        note = await self._verify(of)
        published = await bucket.confirm_published(of.published_size)
        await self._tiles.publish(of, bucket, of.size, published)
        cosigned = await self._cosigners.cosign(of, note)
        kept = await bucket.put_checkpoint(of.size, cosigned.format())
        self._require_same(of, note, kept)
        await bucket.put_latest(kept)
        async with self._database.as_service("publish_audit_log") as tx:
            await store.record_publication(tx, of.log_year, of.size, kept)

    async def _verify(self, of: PublishedLog) -> SignedNote:
        """Return the log's newest checkpoint. Raises Conflict (audit_log_differs) unless our key signed it and the
        stored tiles have its root.
        """
        async with self._database.as_service("publish_audit_log") as tx:
            tiles = await store.read_proof_tiles(tx, of.log_year, tiles_for_root(of.size))
        try:
            checkpoint = self._keys(of.log_year).read_checkpoint(of.checkpoint.encode())
            is_same = checkpoint == Checkpoint(of.origin, of.size, root_from_tiles(of.size, tiles))
        except TransparencyLogError:
            is_same = False
        if not is_same:
            log.warning(
                "the audit log %s is not published: its leaves are not those of its checkpoint", of.origin
            )
            raise Conflict(
                "audit_log_differs", year=of.log_year, what="the leaves are not those of the checkpoint"
            )
        return SignedNote.parse(of.checkpoint.encode())

    def _require_same(self, of: PublishedLog, note: SignedNote, kept: bytes) -> None:
        """Raise Conflict (audit_log_differs) unless the checkpoint that the bucket keeps under this size is ours. An
        earlier attempt may have stored it with other cosignatures.
        """
        try:
            self._keys(of.log_year).read_checkpoint(kept)
            is_same = SignedNote.parse(kept).text == note.text
        except TransparencyLogError:
            is_same = False
        if not is_same:
            log.warning(
                "the bucket has another checkpoint of the audit log %s at %d leaves", of.origin, of.size
            )
            raise Conflict("audit_log_differs", year=of.log_year, what="the bucket has another checkpoint")


class SecondBucket:
    """Gives each published checkpoint, with its tiles, to the second bucket. An outage of the second bucket delays
    nothing else. Objects with other bytes in the second bucket are reported and stay.
    """

    def __init__(self, database: Database, first: Storage, second: Storage, *, deployment: str) -> None:
        self._database = database
        self._first = first
        self._second = second
        self._deployment = deployment
        self._alerts = Alerts(database)
        self._tiles = TilePublisher(database)
        self._is_claimed = False

    async def run(self) -> None:
        """Publish the checkpoints that the second bucket lacks, at most `PUBLICATIONS_AT_ONCE` of each log.

        Raises Conflict (storage_of_another_deployment), UpstreamFailed (storage_overwrites and others), Timeout.
        """
        if not self._is_claimed:
            await self._second.claim(self._deployment)
            self._is_claimed = True
        async with self._database.as_service("publish_audit_log") as tx:
            logs = await store.list_published_logs(tx, 0)
        for one in logs:
            await self._catch_up(one)

    async def _catch_up(self, of: PublishedLog) -> None:
        if of.second_size == of.published_size:
            return
        first, second = BucketLog(self._first, of.origin), BucketLog(self._second, of.origin)
        published = await second.confirm_published(of.second_size)
        async with self._database.as_service("publish_audit_log") as tx:
            sizes = await store.list_publications(tx, of.log_year, published, PUBLICATIONS_AT_ONCE)
        for size in sizes:
            note = await first.get_checkpoint(size)
            if note is None:
                first.is_different = True
                log.warning("the bucket lacks a published checkpoint of %s: %d leaves", of.origin, size)
            elif size <= of.size:
                await self._publish(of, second, size, published, note)
                published = size
        for bucket, name in ((first, "bucket"), (second, "second")):
            if bucket.is_different:
                await self._alerts.open(AlertKind.AUDIT_BUCKET_DIFFERS, f"{of.log_year}:{name}")

    async def _publish(
        self, of: PublishedLog, bucket: BucketLog, size: int, published: int, note: bytes
    ) -> None:
        try:
            await self._tiles.publish(of, bucket, size, published)
        except Conflict:
            bucket.is_different = True
            log.warning("the second bucket differs from the audit log %s", of.origin)
        if await bucket.put_checkpoint(size, note) != note:
            bucket.is_different = True
            log.warning("the second bucket has another checkpoint of %s at %d leaves", of.origin, size)
        await bucket.put_latest(note)
        async with self._database.as_service("publish_audit_log") as tx:
            await store.record_second_publication(tx, of.log_year, size)
