"""What people do with deletions: ask, take back, look, and read the proof. The worker's part is in `destroyer.py`."""

from uuid import UUID

from app import permissions
from app.db import Asker, Database
from app.deletions import store
from app.deletions.model import Deletion, DeletionFilter, DeletionReason, KeptCertificate
from app.errors import NotFound
from app.paging import Page, PageRequest
from app.quotas import Quotas


class Deletions:
    """The service."""

    def __init__(self, database: Database, *, quotas: Quotas) -> None:
        self._database = database
        self._quotas = quotas

    async def request(self, asker: Asker, recording_id: UUID, reason: DeletionReason) -> Deletion:
        """A recording goes once the policy's grace period is over; asked again, it is the same deletion.

        Raises NotFound, Conflict (recording_held, recording_not_finished, recording_deleted).
        """
        access = permissions.DELETE_RECORDING.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            return await store.request(tx, recording_id, reason)

    async def undo(self, asker: Asker, recording_id: UUID) -> Deletion:
        """Takes it back within the grace period; again it changes nothing.

        Raises NotFound, Conflict (deletion_not_undoable).
        """
        access = permissions.UNDO_DELETION.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            return await store.undo(tx, recording_id)

    async def page(self, asker: Asker, request: PageRequest, wanted: DeletionFilter) -> Page[Deletion]:
        """One's own recordings' deletions, for compliance all, newest first."""
        access = permissions.LIST_DELETIONS.on()
        async with self._database.as_user(asker, access) as tx:
            rows = await store.list_page(tx, request, wanted, self._quotas.pages)
        return Page.of(rows, request)

    async def certificates(self, asker: Asker, recording_id: UUID) -> list[KeptCertificate]:
        """The certificates of a recording, the first one first; none unless it is destroyed. Raises NotFound."""
        access = permissions.READ_CERTIFICATES.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            found = await store.certificates(tx, recording_id, self._quotas.pages)
            if found is None:
                raise NotFound("certificate_not_found")
            return found
