"""Makes exports of the audit log in the worker, and deletes expired ones.

One attempt streams the archive: it reads the events in pages and writes them into the file of events. It then records
the digest of that file in the audit log, waits until this record is sealed and published, and adds its receipt.

Each attempt writes an object with a new name and a new secret, which the database stores before the upload begins. An
attempt ends without an export if a later attempt has begun, or if the officer who asked for the export may not have it
any more. The worker deletes an archive that no row names.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import anyio.to_thread

from app.audit.verification.receipts import Receipt, make_receipt
from app.audit_exports import store
from app.audit_exports.archive import README, RECEIPT, RECEIPT_EVENT, compose_readme
from app.audit_exports.event_files import FILE_NAMES, format_events, format_header
from app.audit_exports.model import MOST_EVENTS, BegunExport, WrittenContent, compute_percent
from app.bucket.exported_archives import ExportedArchives
from app.deployment import require_own_bucket
from app.encrypted_zip import ArchiveFile, new_secret, stream_archive, yield_once
from app.errors import AppError, Conflict
from app.integrations.storage.client import Storage
from app.postgres.database import Database

log = logging.getLogger(__name__)

ReadReceipt = Callable[[UUID], Awaitable[Receipt | None]]
"""Returns the receipt of an audit event, or None if the event is not sealed yet."""

PAGE_SIZE: Final = 1000
SEAL_SECONDS: Final = 120
"""How long an attempt waits until its own event is sealed and published. If the event is not sealed by then, the job is
retried.
"""

POLL_SECONDS: Final = 1.0
COMPRESSION: Final = 6
"""The level of Deflate. The file of events is text."""

FILE_NAME: Final = "audit-events.zip"
ENDED: Final = "audit_export_ended"
TOO_LARGE: Final = "audit_export_too_large"
_MAKE: Final = "export_audit_events"
_KEEP: Final = "keep_audit_exports"


@dataclass(frozen=True)
class AuditExportsReport:
    """The number of exports that one pass has ended."""

    ended: int


class Receipts:
    """Makes the receipts of sealed events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, event_id: UUID) -> Receipt | None:
        """Return the receipt of an event, or None if the event is not sealed yet. Raises Conflict
        (audit_event_differs).
        """
        try:
            async with self._database.as_service(_MAKE) as tx:
                return await make_receipt(tx, event_id)
        except Conflict as error:
            if error.reason == "audit_event_not_sealed":
                return None
            raise


class AuditExporter:
    """The service. The job and the pass are safe to repeat, and to run twice at once."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        read_receipt: ReadReceipt,
        *,
        deployment: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        seal_seconds: float = SEAL_SECONDS,
    ) -> None:
        self._database = database
        self._storage = storage
        self._archives = ExportedArchives(database, storage)
        self._read_receipt = read_receipt
        self._deployment = deployment
        self._sleep = sleep
        self._seal_seconds = seal_seconds

    async def export(self, export_id: UUID) -> None:
        """Make an export. If the export is not being made any more, delete the archives that it has left.

        Raises UpstreamFailed, Timeout, and Conflict (audit_export_unsealed). The job then retries.
        """
        secret = new_secret()
        async with self._database.as_service(_MAKE) as tx:
            begun = await store.begin(tx, export_id, secret)
        if begun is not None:
            await self._make(export_id, begun, secret)
        await self._archives.clear(export_id)

    async def give_up(self, export_id: UUID, reason: str) -> None:
        """Set the export to FAILED after the last attempt of its job, and log it."""
        async with self._database.as_service(_MAKE) as tx:
            await store.fail(tx, export_id, reason)
        log.warning("no export of the audit log could be made: audit_export=%s %s", export_id, reason)

    async def run_once(self) -> AuditExportsReport:
        """Delete the archives of expired exports. Raises Conflict (bucket_unmarked, bucket_of_another_deployment),
        UpstreamFailed, Timeout.
        """
        await require_own_bucket(self._storage, self._deployment)
        async with self._database.as_service(_KEEP) as tx:
            ended = await store.list_ended(tx)
        return AuditExportsReport(ended=sum([await self._end(export_id, key) for export_id, key in ended]))

    async def _make(self, export_id: UUID, begun: BegunExport, secret: str) -> None:
        archive = stream_archive(
            self._files(export_id, begun), made_at=begun.requested_at, secret=secret, compression=COMPRESSION
        )
        try:
            size = await self._storage.put_stream(
                begun.object_key, archive, "application/zip", filename=FILE_NAME
            )
        except Conflict as error:
            if error.reason == TOO_LARGE:
                await self.give_up(export_id, error.reason)
            elif error.reason != ENDED:
                raise
            return
        async with self._database.as_service(_MAKE) as tx:
            is_kept = await store.finish(tx, export_id, begun, size)
        if not is_kept:
            await self._storage.delete(begun.object_key)

    async def _files(self, export_id: UUID, begun: BegunExport) -> AsyncIterator[ArchiveFile]:
        """Yield the files of the archive. Each file is read to its end before the next one is asked for."""
        content = _Content(self._database, export_id, begun)
        yield ArchiveFile(FILE_NAMES[begun.format], content.chunks())
        written = content.written()
        async with self._database.as_service(_MAKE) as tx:
            event_id = await store.record_content(tx, export_id, begun.run, written)
        if event_id is None:
            raise Conflict(ENDED)
        receipt = await self._await_receipt(export_id, begun, written, event_id)
        yield ArchiveFile(RECEIPT, yield_once(receipt.proof))
        yield ArchiveFile(RECEIPT_EVENT, yield_once(receipt.event))
        readme = compose_readme(export_id, self._deployment, begun, written, event_id, receipt)
        yield ArchiveFile(README, yield_once(readme.encode()))

    async def _await_receipt(
        self, export_id: UUID, begun: BegunExport, written: WrittenContent, event_id: UUID
    ) -> Receipt:
        """Return the receipt of the event that records the content, as soon as a published checkpoint covers the event.
        If the time is over before that, return a receipt under a checkpoint that is not published yet.

        Raises Conflict (audit_export_unsealed) if the event is not sealed in time.
        """
        sealed: Receipt | None = None
        for _ in range(int(self._seal_seconds / POLL_SECONDS)):
            sealed = await self._read_receipt(event_id) or sealed
            if sealed is not None and sealed.is_published:
                return sealed
            await self._sleep(POLL_SECONDS)
            await _report(self._database, export_id, begun.run, 99, written.event_count)
        if sealed is None:
            raise Conflict("audit_export_unsealed")
        return sealed

    async def _end(self, export_id: UUID, key: str) -> bool:
        """Delete the archive of an expired export, check that it is gone, and mark the export as expired. If the
        deletion fails, the next pass tries again.
        """
        try:
            await self._storage.delete(key)
            if await self._storage.head(key) is not None:
                log.warning("export still there after its deletion: audit_export=%s", export_id)
                return False
        except AppError as error:
            log.warning("export not ended: audit_export=%s %s", export_id, error.summary)
            return False
        async with self._database.as_service(_KEEP) as tx:
            return await store.expire(tx, export_id)


async def _report(database: Database, export_id: UUID, run: int, percent: int, event_count: int) -> None:
    """Store the progress of an attempt. Raises Conflict (audit_export_ended) after the commit, because the transaction
    may have stopped the export.
    """
    async with database.as_service(_MAKE) as tx:
        is_going_on = await store.report(tx, export_id, run, percent, event_count)
    if not is_going_on:
        raise Conflict(ENDED)


class _Content:
    """The file of events of one attempt, and what was written of it."""

    def __init__(self, database: Database, export_id: UUID, begun: BegunExport) -> None:
        self._database = database
        self._export_id = export_id
        self._begun = begun
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self._event_count = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the file in chunks. Raises Conflict (audit_export_ended, audit_export_too_large)."""
        yield self._count(format_header(self._begun.format))
        before = (self._begun.requested_at, UUID(int=0))
        while True:
            chunk, before_next = await self._read_page(before)
            if before_next is None:
                return
            before = before_next
            yield self._count(chunk)

    def written(self) -> WrittenContent:
        """Return what was written."""
        return WrittenContent(
            FILE_NAMES[self._begun.format], self._digest.hexdigest(), self._size_bytes, self._event_count
        )

    async def _read_page(self, before: tuple[datetime, UUID]) -> tuple[bytes, tuple[datetime, UUID] | None]:
        run, percent = self._begun.run, compute_percent(self._begun, before[0])
        await _report(self._database, self._export_id, run, percent, self._event_count)
        async with self._database.as_service(_MAKE) as tx:
            events = await store.read_events(tx, self._export_id, run, before, PAGE_SIZE)
            places = await store.find_places(tx, events)
        if not events:
            return b"", None
        self._event_count += len(events)
        if self._event_count > MOST_EVENTS:
            raise Conflict(TOO_LARGE)
        chunk = await anyio.to_thread.run_sync(format_events, self._begun.format, events, places)
        return chunk, (events[-1]["recorded_at"], events[-1]["id"])

    def _count(self, chunk: bytes) -> bytes:
        self._digest.update(chunk)
        self._size_bytes += len(chunk)
        return chunk
