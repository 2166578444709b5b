"""The worker's tasks for access requests: make encrypted copies, delete expired copies, and report overdue
requests.

Each attempt to make a copy writes an object with a new name. The database stores the object's name before the
upload begins. An attempt fulfils the access request only if the object name in the database is still the name of
this attempt's object. If an attempt crashes, the next attempt replaces the stored secret, so nobody can open the
object of the crashed attempt. If an attempt crashed, the worker deletes the attempt's object after a day.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

import anyio.to_thread
from psycopg.rows import DictRow

from app.access_requests import store
from app.access_requests.archive import stream_archive
from app.access_requests.exported_notes import compose_texts
from app.access_requests.model import ExportedFile, ExportedText, ExportPlan
from app.bucket.exported_archives import ExportedArchives
from app.deployment import require_own_bucket
from app.encrypted_zip import new_secret
from app.errors import AppError, Conflict, NotFound
from app.integrations.storage.client import Storage
from app.keys.keyring import Keyring
from app.postgres.database import Database

log = logging.getLogger(__name__)
ComposeNotes = Callable[[Keyring, Sequence[DictRow]], tuple[ExportedText, ...]]
"""Decrypts and verifies signed notes, and returns their files for the copy."""

_READ_BYTES: Final = 8 * 1024 * 1024
_FILENAME: Final = "recordings.zip"


@dataclass(frozen=True)
class ExportsReport:
    """The counts of one pass: deleted copies, deleted objects and aborted uploads that belong to nothing, and
    overdue requests.
    """

    ended: int
    swept: int
    aborted: int


class Exports:
    """Makes and deletes the encrypted copies for access requests. If the worker repeats a pass or runs two passes
    at once, the result is the same as that of one pass.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        keyring: Keyring,
        compose_notes: ComposeNotes,
        *,
        deployment: str,
    ) -> None:
        self._compose_notes = compose_notes
        self._database = database
        self._storage = storage
        self._archives = ExportedArchives(database, storage)
        self._keyring = keyring
        self._deployment = deployment

    async def export(self, request_id: UUID) -> None:
        """Make the encrypted copy for an access request, or do nothing if the request is not APPROVED.

        The copy omits a file that is missing or differs from its digest. The copy's read-me names the recordings of
        the omitted files. Raises UpstreamFailed, Timeout, Conflict (recording_not_finished,
        recording_being_deleted), and NotFound or Conflict for an object that is being moved. The job then retries.
        """
        secret = new_secret()
        planned = await self._plan(request_id, secret)
        if planned is None:
            return
        plan, size = await self._upload(request_id, planned, secret)
        if plan.left_out:
            log.warning("copy is not whole: access_request=%s left_out=%d", request_id, plan.left_out)
            # An object of an earlier attempt that crashed may contain a recording that this copy omits. If the object
            # stayed, the destruction of that recording would not delete it.
            await self._archives.clear(request_id)
        async with self._database.as_service("export_access_request") as tx:
            is_kept = await store.finish_export(tx, request_id, plan, size)
        if not is_kept:
            await self._storage.delete(plan.object_key)

    async def give_up(self, request_id: UUID, reason: str) -> None:
        """Store the failure of the copy in the request, and log it."""
        async with self._database.as_service("export_access_request") as tx:
            await store.fail_export(tx, request_id, reason)
        log.warning("no copy could be made: access_request=%s %s", request_id, reason)

    async def run_once(self) -> ExportsReport:
        """Run one pass. Raises Conflict (bucket_unmarked, bucket_of_another_deployment), UpstreamFailed, Timeout."""
        await require_own_bucket(self._storage, self._deployment)
        async with self._database.as_service("keep_exports") as tx:
            ended = await store.list_ended_exports(tx)
            now = await store.read_clock(tx)
        return ExportsReport(
            ended=sum([await self._end(request_id, key) for request_id, key in ended]),
            swept=await self._archives.sweep(now),
            aborted=await self._archives.abort_uploads(now),
        )

    async def _plan(self, request_id: UUID, secret: str) -> ExportPlan | None:
        """Return the plan of the copy with only the files that exist in the bucket. If an object is missing, look
        up its key and the object once more, because the object may have been moved after the key was read. A move
        first stores the new key in the database and then deletes the old object.
        """
        seen: set[str] = set()
        while True:
            async with self._database.as_service("export_access_request") as tx:
                plan = await store.begin_export(tx, request_id, secret)
                notes = [] if plan is None else await store.read_exported_notes(tx, request_id)
                signed = [] if plan is None else await store.read_signed_notes(tx, request_id)
            if plan is None:
                return None
            texts = await anyio.to_thread.run_sync(compose_texts, self._keyring, notes)
            files = await anyio.to_thread.run_sync(self._compose_notes, self._keyring, signed)
            found = await self._check_objects(replace(plan, texts=texts, signed_notes=files))
            gone = {one.recording_key for one in plan.files if one.recording_id in found.missing}
            if gone <= seen:
                return found
            await require_own_bucket(self._storage, self._deployment)
            seen |= gone

    async def _check_objects(self, plan: ExportPlan) -> ExportPlan:
        found = plan
        for file in plan.files:
            stored = await self._storage.head(file.recording_key)
            if stored is None:
                found = found.without_missing(file.recording_id)
            elif stored.size_bytes != file.size_bytes:
                found = found.without_broken(file.recording_id)
        return found

    async def _upload(self, request_id: UUID, plan: ExportPlan, secret: str) -> tuple[ExportPlan, int]:
        """Upload the copy. If a file in the bucket differs from its digest, start the upload again without that
        file. Return the final plan of the copy, and the copy's size in bytes.
        """
        while True:
            try:
                return plan, await self._storage.put_stream(
                    plan.object_key,
                    stream_archive(request_id, plan, self._read, secret=secret),
                    "application/zip",
                    filename=_FILENAME,
                )
            except Conflict as error:
                if error.reason != "export_mismatch":
                    raise
                plan = plan.without_broken(UUID(str(error.detail["recording_id"])))

    async def _read(self, file: ExportedFile) -> AsyncIterator[bytes]:
        stored = await self._storage.head(file.recording_key)
        if stored is None:
            raise NotFound("storage_object_missing")
        for start in range(0, stored.size_bytes, _READ_BYTES):
            length = min(_READ_BYTES, stored.size_bytes - start)
            yield await self._storage.read_range(file.recording_key, start, length, etag=stored.etag)

    async def _end(self, request_id: UUID, key: str) -> bool:
        """Delete the object of an expired or withdrawn copy, check that the object is gone, and mark the copy as
        expired. If the deletion of a copy's object fails, the next pass tries again.
        """
        try:
            await self._storage.delete(key)
            if await self._storage.head(key) is not None:
                log.warning("export still there after its deletion: access_request=%s", request_id)
                return False
        except AppError as error:
            log.warning("export not ended: access_request=%s %s", request_id, error.summary)
            return False
        async with self._database.as_service("keep_exports") as tx:
            return await store.expire_export(tx, request_id, key)
