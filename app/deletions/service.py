"""Services for deletions: request and cancel a deletion, list deletions, and read certificates. The worker destroys
recordings with `destroyer.py`.
"""

from collections.abc import Sequence
from uuid import UUID

from app.deletions import store
from app.deletions.model import DeletionFilter, DeletionReason, KeptCertificate
from app.errors import NotFound
from app.identity import permissions
from app.postgres.composer import Row
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.selection import Selection

_PLAIN = Selection()


class Deletions:
    """The service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(
        self, asker: Asker, recording_id: UUID, reason: DeletionReason, selection: Selection = _PLAIN
    ) -> Row:
        """Request the deletion of a recording, which the worker destroys after the grace period of the retention
        policy. If the call is repeated, it returns the existing deletion. The audit row of the request names what
        `selection` shows of the deletion and of its recording.

        Raises NotFound, Conflict (recording_held, recording_not_finished, recording_deleted).
        """
        access = permissions.DELETE_RECORDING.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            deletion_id = await store.request(tx, recording_id, reason)
            return await store.show(tx, deletion_id, selection, access.action)

    async def undo(self, asker: Asker, recording_id: UUID, selection: Selection = _PLAIN) -> Row:
        """Cancel a requested deletion before its grace period ends. Safe to repeat. The audit row names what
        `selection` shows of the deletion and of its recording.

        Raises NotFound, Conflict (deletion_not_undoable).
        """
        access = permissions.UNDO_DELETION.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            deletion_id = await store.undo(tx, recording_id)
            return await store.show(tx, deletion_id, selection, access.action)

    async def page(
        self, asker: Asker, request: PageRequest, wanted: DeletionFilter, selection: Selection
    ) -> Page[Row]:
        """Return a page of deletions, newest first. A doctor gets the deletions of their own recordings, and a
        compliance officer gets all deletions.
        """
        access = permissions.LIST_DELETIONS.on()
        async with self._database.as_user(asker, access) as tx:
            return await store.list_page(tx, request, wanted, selection)

    async def list_certificates(
        self, asker: Asker, recording_id: UUID, request: PageRequest, fields: Sequence[str]
    ) -> Page[KeptCertificate]:
        """Return a page of the certificates of a recording in the order of their numbers. The page is empty if the
        recording is not destroyed. The audit row names `fields`. Raises NotFound.
        """
        access = permissions.READ_CERTIFICATES.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            found = await store.list_certificates(tx, recording_id, request, fields)
            if found is None:
                raise NotFound("certificate_not_found")
            return found

    async def list_note_certificates(
        self, asker: Asker, recording_id: UUID, request: PageRequest, fields: Sequence[str]
    ) -> Page[KeptCertificate]:
        """Return a page of the certificates of the signed note on a recording in the order of their numbers. The page
        is empty if the note is not destroyed. The audit row names `fields`. Raises NotFound.
        """
        access = permissions.READ_CERTIFICATES.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            found = await store.list_note_certificates(tx, recording_id, request, fields)
            if found is None:
                raise NotFound("certificate_not_found")
            return found
