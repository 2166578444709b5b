"""Services for imports: the doctor declares a recording, uploads it and completes the import.

The API's bucket key can only read. The worker therefore signs each upload URL (`upload_signer.py`), and the API
waits for the URL. The worker verifies the uploaded file later, like the file of a recording from LiveKit.
"""

import asyncio
import time
from datetime import timedelta
from uuid import UUID

from app.consents import service as consents
from app.consultations import service as consultations
from app.errors import NotFound, Timeout
from app.identity import permissions
from app.integrations.storage.presigned_urls import upload_headers
from app.jobs.queue import defer_job
from app.postgres.clock import database_time
from app.postgres.composer import Row
from app.postgres.database import Asker, Database
from app.postgres.selection import Selection
from app.recording_imports import store
from app.recording_imports.model import ImportRequest, ImportStatus

PATIENCE_SECONDS = 5.0
"""How long the API waits for the worker's signature."""

_FRESH = timedelta(minutes=1)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.25
_PLAIN = Selection()


class Imports:
    """The service for doctors."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, asker: Asker, wanted: ImportRequest, selection: Selection = _PLAIN) -> Row:
        """Store a new import and return it with its signed upload. If an import with the same declaration is pending,
        return that import.

        Raises InvalidInput, NotFound, Conflict (consent_missing, with the participants), RateLimited (quota_urls), and
        Timeout (import_not_prepared) if the worker has not signed in time. After a Timeout, the caller may repeat
        the call.
        """
        wanted = wanted.normalize()
        shown = await self._open(asker, wanted, selection)
        url, expires_in_seconds = await self._wait_for_url(asker, UUID(shown["id"]))
        headers = upload_headers(wanted.content_type, wanted.size_bytes)
        return shown | {
            "status": ImportStatus.AWAITING_UPLOAD,
            "upload_url": url,
            "upload_headers": [{"name": name, "value": value} for name, value in headers.items()],
            "expires_in_seconds": expires_in_seconds,
        }

    async def complete(self, asker: Asker, import_id: UUID, selection: Selection = _PLAIN) -> Row:
        """Create the recording of a completed import, and queue the recording's verification. Return the import, with
        its recording if that is selected. A second call for the same import returns the same recording.

        Raises NotFound, Conflict (import_expired), Conflict (consent_missing, with the participants).
        """
        access = permissions.COMPLETE_IMPORT.on(import_id)
        async with self._database.as_user(asker, access) as tx:
            found = await store.read(tx, import_id)
            if found is None:
                return _require_found(await store.show(tx, import_id, _PLAIN, access.action, meter="pages"))
            await consents.lock_consultation(tx, found.consultation_id)
            if found.status is not ImportStatus.COMPLETED:
                await consents.require_consent(tx, found.consultation_id)
            await store.complete(tx, import_id)
            return _require_found(await store.show(tx, import_id, selection, access.action, meter="pages"))

    async def _open(self, asker: Asker, wanted: ImportRequest, selection: Selection) -> Row:
        access = permissions.IMPORT_RECORDING.on(wanted.consultation_id)
        async with self._database.as_user(asker, access) as tx:
            consultation = await consultations.lock(tx, wanted.consultation_id, access.action)
            wanted.require_past(await database_time(tx))
            await consents.require_consent(tx, consultation.id)
            import_id = await store.find_pending(tx, wanted, _FRESH)
            if import_id is None:
                import_id = await store.insert(
                    tx, wanted, doctor_id=consultation.doctor_id, patient_id=consultation.patient_id
                )
                await defer_job(tx, "prepare_import", import_id)
            return _require_found(await store.show(tx, import_id, selection, access.action, meter="urls"))

    async def _wait_for_url(self, asker: Asker, import_id: UUID) -> tuple[str, int]:
        access = permissions.ISSUE_UPLOAD_URL.on(import_id)
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        while True:
            async with self._database.as_user(asker, access) as tx:
                released = await store.release_upload_url(tx, import_id)
            if released is not None:
                return released
            if time.monotonic() + pause > deadline:
                raise Timeout("import_not_prepared")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _require_found(found: Row | None) -> Row:
    if found is None:
        raise NotFound("import_not_found")
    return found
