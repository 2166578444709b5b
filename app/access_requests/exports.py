"""The worker's part: makes the encrypted copies, ends them after their time, and tells what is overdue.

Each attempt writes an object of its own name, which is committed before the first byte; the request is fulfilled by
the one attempt whose object it still names. What a crash leaves in `exports/` can be opened by nobody, for its secret
went with the attempt, and is swept after a day.
"""

import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.access_requests import store
from app.access_requests.archive import archive
from app.access_requests.model import ExportedFile, ExportPlan, new_secret
from app.db import Database
from app.deployment import require_own_bucket
from app.errors import AppError, Conflict, NotFound
from app.integrations.storage import Storage

log = logging.getLogger(__name__)

PREFIX: Final = "exports/"
QUARANTINE: Final = timedelta(days=1)
"""How old an object is that no copy has, before it is swept: a copy that is being made is no older."""

_READ_BYTES: Final = 8 * 1024 * 1024
_FILENAME: Final = "recordings.zip"
_UUID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_KEY: Final = re.compile(f"exports/({_UUID})/{_UUID}[.]zip")


@dataclass(frozen=True)
class ExportsReport:
    """What one pass did: copies ended, objects and uploads swept that no copy has, requests overdue."""

    ended: int
    swept: int
    aborted: int
    overdue: int


class Exports:
    """Two at once, or one killed between any two lines and run again, come to the same."""

    def __init__(self, database: Database, storage: Storage, *, deployment: str) -> None:
        self._database = database
        self._storage = storage
        self._deployment = deployment

    async def export(self, request_id: UUID) -> None:
        """Makes the copy of an APPROVED request; of any other nothing.

        What is gone, or is not what its digest says, is left out, and named in it. Raises UpstreamFailed, Timeout,
        Conflict (recording_not_finished, recording_being_deleted), and NotFound or Conflict of an object that is being
        moved: the job then runs again.
        """
        secret = new_secret()
        planned = await self._plan(request_id, secret)
        if planned is None:
            return
        plan, size = await self._upload(request_id, planned, secret)
        if plan.left_out:
            log.error("copy is not whole: access_request=%s left_out=%d", request_id, plan.left_out)
            await self._clear(request_id)
        async with self._database.as_service("export_access_request") as tx:
            is_kept = await store.finish_export(tx, request_id, plan, size)
        if not is_kept:
            await self._storage.delete(plan.object_key)

    async def give_up(self, request_id: UUID, reason: str) -> None:
        """Says on the request that no copy could be made, and in the log."""
        async with self._database.as_service("export_access_request") as tx:
            await store.fail_export(tx, request_id, reason)
        log.error("no copy could be made: access_request=%s %s", request_id, reason)

    async def run_once(self) -> ExportsReport:
        """One pass. Raises Conflict (bucket_unmarked, bucket_of_another_deployment), UpstreamFailed, Timeout."""
        await require_own_bucket(self._storage, self._deployment)
        async with self._database.as_service("keep_exports") as tx:
            overdue = await store.overdue(tx)
            ended = await store.ended_exports(tx)
            now = await store.clock(tx)
        for request_id in overdue:
            log.error("overdue: access_request=%s", request_id)
        return ExportsReport(
            ended=sum([await self._end(request_id, key) for request_id, key in ended]),
            swept=await self._sweep(now),
            aborted=await self._abort_uploads(now),
            overdue=len(overdue),
        )

    async def _plan(self, request_id: UUID, secret: str) -> ExportPlan | None:
        """What is there. What is not is looked for twice, for where it is may have changed after it was read: an object
        that moves is deleted in its old place after the database knows the new one.
        """
        seen: set[str] = set()
        while True:
            async with self._database.as_service("export_access_request") as tx:
                plan = await store.begin_export(tx, request_id, secret)
            if plan is None:
                return None
            found = await self._found(plan)
            gone = {one.recording_key for one in plan.files if one.recording_id in found.missing}
            if gone <= seen:
                return found
            await require_own_bucket(self._storage, self._deployment)
            seen |= gone

    async def _found(self, plan: ExportPlan) -> ExportPlan:
        found = plan
        for file in plan.files:
            stored = await self._storage.head(file.recording_key)
            if stored is None:
                found = found.without_missing(file.recording_id)
            elif stored.size_bytes != file.size_bytes:
                found = found.without_broken(file.recording_id)
        return found

    async def _upload(self, request_id: UUID, plan: ExportPlan, secret: str) -> tuple[ExportPlan, int]:
        """What was stored in the end, and its size in bytes: anew, as often as a file turns out not to be whole."""
        while True:
            try:
                return plan, await self._storage.put_stream(
                    plan.object_key,
                    archive(request_id, plan, self._read, secret=secret),
                    "application/zip",
                    filename=_FILENAME,
                )
            except Conflict as error:
                if error.reason != "export_mismatch":
                    raise
                plan = plan.without_broken(UUID(str(error.detail["recordingId"])))

    async def _clear(self, request_id: UUID) -> None:
        """An attempt that crashed may have left an object with what this copy does not have: whoever destroys that does
        not look here any more once this one is finished.
        """
        async for page in self._storage.list_objects(f"{PREFIX}{request_id}/"):
            async with self._database.as_service("keep_exports") as tx:
                unknown = await store.unknown_export_keys(tx, [one.key for one in page.objects])
            for key in sorted(unknown):
                await self._sweep_one(key)

    async def _read(self, file: ExportedFile) -> AsyncIterator[bytes]:
        stored = await self._storage.head(file.recording_key)
        if stored is None:
            raise NotFound("storage_object_missing")
        for start in range(0, stored.size_bytes, _READ_BYTES):
            length = min(_READ_BYTES, stored.size_bytes - start)
            yield await self._storage.read_range(file.recording_key, start, length, etag=stored.etag)

    async def _end(self, request_id: UUID, key: str) -> bool:
        """Deletes the object, sees that it is gone, and says so; what cannot be done now waits for the next pass."""
        try:
            await self._storage.delete(key)
            if await self._storage.head(key) is not None:
                log.error("export still there after its deletion: access_request=%s", request_id)
                return False
        except AppError as error:
            log.warning("export not ended: access_request=%s %s", request_id, error.summary)
            return False
        async with self._database.as_service("keep_exports") as tx:
            return await store.expire_export(tx, request_id, key)

    async def _sweep(self, now: datetime) -> int:
        swept = 0
        async for page in self._storage.list_objects(PREFIX):
            seen_at = min(now, page.listed_at)
            old = [one.key for one in page.objects if seen_at - one.last_modified >= QUARANTINE]
            async with self._database.as_service("keep_exports") as tx:
                unknown = await store.unknown_export_keys(tx, old)
            for key in sorted(unknown):
                swept += await self._sweep_one(key)
        return swept

    async def _sweep_one(self, key: str) -> bool:
        match = _KEY.fullmatch(key)
        if match is None:
            log.warning("an object in exports/ is not ours: left to people")
            return False
        async with self._database.as_service("keep_exports") as tx:
            if not await store.may_sweep(tx, UUID(match[1]), key):
                return False
        await self._storage.delete(key)
        log.info("export of nobody swept: access_request=%s", match[1])
        return True

    async def _abort_uploads(self, now: datetime) -> int:
        aborted = 0
        async for page in self._storage.list_uploads(PREFIX):
            for upload in page.uploads:
                if min(now, page.listed_at) - upload.initiated_at >= QUARANTINE:
                    aborted += await self._storage.abort_upload(upload.key, upload.upload_id)
        return aborted
