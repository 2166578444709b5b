"""Destroys recordings that are due or whose deletion was requested, checks that their objects are gone, and stores
a certificate of each destruction.

A batch takes four transactions, with calls to the bucket between them. The first transaction claims due deletions,
but never the deletion of a held recording (law 7). The second transaction stores which objects of the recordings
are in the bucket. The third transaction destroys the data keys, after the bucket answered 404 for every object. The
fourth transaction stores the certificates, which are already in the ledger. If the process dies, the next pass
claims the same deletions again and completes them with the same result. If a deletion fails, the worker logs the
failure and retries the deletion at least once an hour until it succeeds. The destroyer deletes only the objects of
claimed deletions. If the bucket's mark names a different deployment, the destroyer deletes nothing.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from app.certificates.model import MAX_OBJECTS
from app.certificates.signing import CertificateSigner
from app.deletions import store
from app.deletions.certificate_builder import build_certificate
from app.deletions.ledger import Ledger
from app.deletions.model import Claim, DeletionGround, FoundObject, GoneObject
from app.deployment import require_own_bucket
from app.errors import AppError, Conflict, Timeout, UpstreamFailed
from app.integrations.storage.client import MARK_KEY, Storage
from app.postgres.database import Database

log = logging.getLogger(__name__)
T = TypeVar("T")

BATCH: Final = 100
"""The number of deletions that share the transactions and are in memory at once."""

HANDS: Final = 10
"""The number of concurrent calls to the store, which is the number of its connections."""

ATTEMPT_SECONDS: Final = 600
"""The time limit of an attempt, shorter than the 15-minute lease of a claim. A process that was frozen for longer
deletes nothing more.
"""

REASON: Final = "destroy_recordings"


@dataclass(frozen=True)
class DestructionReport:
    """The counts of one pass of the destroyer. `failed` deletions are retried."""

    destroyed: int
    failed: int


class Destroyer:
    """Destroys recordings, one pass at a time. For the times in certificates, the destroyer reads the database's
    time once and adds the seconds that `time.monotonic` has counted since.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        signer: CertificateSigner,
        ledger: Ledger,
        *,
        deployment: str,
        backup_retention_days: int,
    ) -> None:
        self._database = database
        self._storage = storage
        self._signer = signer
        self._ledger = ledger
        self._deployment = deployment
        self._backup_retention_days = backup_retention_days

    async def run_once(self) -> DestructionReport:
        """Destroy all due recordings, one batch at a time.

        Raises Conflict (bucket_unmarked, bucket_of_another_deployment), UpstreamFailed, Timeout. If a pass of the
        destroyer fails, the next pass does the remaining work.
        """
        total = DestructionReport(0, 0)
        while (batch := await self.run_batch()) != DestructionReport(0, 0):
            total = DestructionReport(total.destroyed + batch.destroyed, total.failed + batch.failed)
        return total

    async def run_batch(self) -> DestructionReport:
        """Destroy at most one batch of due recordings. Raises like `run_once`."""
        claims, clock = await self._claim()
        destroyed = await self._destroy(claims, clock) if claims else 0
        return DestructionReport(destroyed, len(claims) - destroyed)

    async def _claim(self) -> tuple[list[Claim], Callable[[], datetime]]:
        """Check the bucket's mark and claim a batch of deletions. The mark must exist, because a HEAD request gives
        the same answer for a missing object and for a missing bucket. The second returned value is a function that
        returns the database's time without a query to the database.
        """
        await require_own_bucket(self._storage, self._deployment)
        by_clock = await read_store_time(self._storage)
        async with self._database.as_service(REASON) as tx:
            claims, now = await store.claim(tx, by_clock, BATCH), await store.read_database_time(tx)
        began = time.monotonic()
        return claims, lambda: now + timedelta(seconds=time.monotonic() - began)

    async def _destroy(self, claims: Sequence[Claim], clock: Callable[[], datetime]) -> int:
        """Destroy the claimed recordings, and return how many got a certificate."""
        deadline = time.monotonic() + ATTEMPT_SECONDS
        found = await self._run_for_each(claims, self._list_objects_of)
        async with self._database.as_service(REASON) as tx:
            ours = await store.keep_inventory(
                tx, _select(claims, found), [one for objects in found.values() for one in objects or ()]
            )
        gone = await self._run_for_each(
            [claim for claim in _select(claims, found) if claim.deletion_id in ours],
            lambda claim: self._delete(claim, found[claim.deletion_id] or (), deadline, clock),
        )
        async with self._database.as_service(REASON) as tx:
            facts = await store.shred_keys(
                tx, _select(claims, gone), [one for objects in gone.values() for one in objects]
            )
        documents = await self._run_for_each(
            _select(claims, facts), lambda claim: self._certify(claim, facts[claim.deletion_id])
        )
        async with self._database.as_service(REASON) as tx:
            await store.finish(tx, documents)
        return len(documents)

    async def _run_for_each(
        self, claims: Iterable[Claim], work: Callable[[Claim], Awaitable[T | None]]
    ) -> dict[UUID, T]:
        """Call `work` with each claimed deletion. Return the results by deletion, and store the reason of each
        failure.
        """
        done: dict[UUID, T] = {}
        hands = asyncio.Semaphore(HANDS)

        async def one(claim: Claim) -> None:
            try:
                async with hands:
                    outcome = await work(claim)
                if outcome is not None:
                    done[claim.deletion_id] = outcome
            except AppError as error:
                await self._fail(claim, error.reason)

        async with asyncio.TaskGroup() as group:
            for claim in claims:
                group.create_task(one(claim))
        return done

    async def _list_objects_of(self, claim: Claim) -> list[FoundObject] | None:
        """Return the objects that a deletion must remove from the bucket. Return None if the deletion was
        cancelled, because its recording was marked as missing and the object was found. Raises Conflict
        (too_many_objects) if there are more objects than a certificate can list.
        """
        found = [
            FoundObject(claim.deletion_id, one.key, one.size_bytes, one.etag)
            for prefix in claim.prefixes
            async for page in self._storage.list_objects(prefix)
            for one in page.objects
        ]
        for key in sorted(set(claim.object_keys) - {one.key for one in found}):
            stored = await self._storage.head(key)
            if stored is not None:
                found.append(FoundObject(claim.deletion_id, key, stored.size_bytes, stored.etag))
        if len(found) > MAX_OBJECTS:
            raise Conflict("too_many_objects")
        if claim.ground is DeletionGround.MISSING and {one.key for one in found} & set(claim.object_keys):
            async with self._database.as_service(REASON) as tx:
                await store.call_off_missing(tx, claim.deletion_id)
            return None
        return found

    async def _delete(
        self, claim: Claim, found: Sequence[FoundObject], deadline: float, clock: Callable[[], datetime]
    ) -> list[GoneObject]:
        """Delete the objects of a deletion, and check with a HEAD request that each object is gone. Raises Conflict
        (object_still_there) if an object still exists after it was deleted, for example because of a lock. Raises
        Conflict (object_appeared) if an object appeared after the objects were listed. Raises Timeout
        (attempt_overdue) if this attempt takes so long that another attempt may have begun.
        """
        keys = {one.key for one in found}
        gone = []
        for prefix in claim.prefixes:
            async for page in self._storage.list_uploads(prefix):
                for upload in page.uploads:
                    await self._storage.abort_upload(upload.key, upload.upload_id)
        for key in sorted(keys | set(claim.object_keys)):
            if time.monotonic() > deadline:
                raise Timeout("attempt_overdue")
            if key in keys:
                await self._storage.delete(key)
            deleted_at = clock()
            if await self._storage.head(key) is not None:
                raise Conflict("object_still_there") if key in keys else Conflict("object_appeared")
            gone.append(GoneObject(claim.deletion_id, key, deleted_at, clock()))
        return gone

    async def _certify(self, claim: Claim, facts: dict[str, object]) -> str:
        """Sign the certificate and write it to the ledger. Raises Conflict (certificate_impossible) if the facts
        contradict each other. Raises Conflict (ledger_number_taken) if the ledger already has an entry with the
        certificate's number. The existing entry proves an earlier destruction, which a restored database does not
        know. The next attempt to destroy the recording uses the next free number.
        """
        try:
            certificate = build_certificate(
                facts, deployment=self._deployment, backup_retention_days=self._backup_retention_days
            )
            signed = self._signer.sign(certificate)
        except ValueError as error:
            raise Conflict("certificate_impossible") from error
        if not await self._ledger.enter(signed):
            earlier = [entry.decode() for entry in await self._ledger.entries_of(claim.recording_id)]
            async with self._database.as_service(REASON) as tx:
                await store.keep_earlier_certificates(tx, claim.deletion_id, earlier)
            raise Conflict("ledger_number_taken")
        return signed.file.decode()

    async def _fail(self, claim: Claim, reason: str) -> None:
        async with self._database.as_service(REASON) as tx:
            attempts = await store.fail(tx, claim, reason)
        log.warning(
            "deletion failed: deletion=%s recording=%s attempt=%d %s",
            claim.deletion_id,
            claim.recording_id,
            attempts,
            reason,
        )


async def read_store_time(storage: Storage) -> datetime:
    """Return the time by the bucket's clock. Raises UpstreamFailed, Timeout."""
    async for page in storage.list_objects(MARK_KEY, page_size=1):
        return page.listed_at
    raise UpstreamFailed("storage_failed", operation="list_objects")


def _select(claims: Sequence[Claim], some: Collection[UUID]) -> list[Claim]:
    return [claim for claim in claims if claim.deletion_id in some]
