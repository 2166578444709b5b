"""Deletes the archives under `exports/` that belong neither to a copy for an access request nor to an export of the
audit log. An attempt to make an archive that crashed, or that a later attempt has replaced, leaves such an archive.

The methods need the worker's database role.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.bucket import store
from app.bucket.object_keys import EXPORTS, compose_exports_prefix, parse_export_key
from app.integrations.storage.client import Storage
from app.postgres.database import Database

log = logging.getLogger(__name__)

QUARANTINE: Final = timedelta(days=1)
"""The minimum age at which an object in `exports/` that belongs to nothing is swept. An archive in preparation is
always younger.
"""

_REASON: Final = "keep_exports"


class ExportedArchives:
    """The service. If the worker repeats a method or runs it twice at once, the result is the same."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage

    async def clear(self, export_id: UUID) -> int:
        """Delete the archives of one access request or one export of the audit log that its row does not name, whatever
        their age. Return how many were deleted.
        """
        swept = 0
        async for page in self._storage.list_objects(compose_exports_prefix(export_id)):
            swept += await self._sweep([one.key for one in page.objects])
        return swept

    async def sweep(self, now: datetime) -> int:
        """Delete the archives that are older than `QUARANTINE` and that no row of the database names. Return how many
        were deleted.
        """
        swept = 0
        async for page in self._storage.list_objects(EXPORTS):
            seen_at = min(now, page.listed_at)
            swept += await self._sweep(
                [one.key for one in page.objects if seen_at - one.last_modified >= QUARANTINE]
            )
        return swept

    async def abort_uploads(self, now: datetime) -> int:
        """Abort the uploads of archives that began longer than `QUARANTINE` ago. Return how many were aborted."""
        aborted = 0
        async for page in self._storage.list_uploads(EXPORTS):
            for upload in page.uploads:
                if min(now, page.listed_at) - upload.initiated_at >= QUARANTINE:
                    aborted += await self._storage.abort_upload(upload.key, upload.upload_id)
        return aborted

    async def _sweep(self, keys: Sequence[str]) -> int:
        async with self._database.as_service(_REASON) as tx:
            unknown = await store.find_unknown_export_keys(tx, keys)
        return sum([await self._sweep_one(key) for key in sorted(unknown)])

    async def _sweep_one(self, key: str) -> bool:
        export_id = parse_export_key(key)
        if export_id is None:
            log.warning("an object in exports/ is not ours, so a person must decide")
            return False
        async with self._database.as_service(_REASON) as tx:
            if not await store.may_sweep_export(tx, export_id, key):
                return False
        await self._storage.delete(key)
        log.info("archive that belongs to nothing deleted: export=%s", export_id)
        return True
