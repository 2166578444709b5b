"""After a restore of the database, finds the recordings that are destroyed according to the ledger but not
according to the database, and destroys these recordings again. An entry of the ledger is used only if its signature
is valid. A restore of the database brings back rows and wrapped data keys, but no objects of the bucket. When a
destruction is repeated, the restored data keys are therefore destroyed again. The certificate of a repeated
destruction says that the destruction is a repetition.
"""

from dataclasses import dataclass, field
from uuid import UUID

from app.bucket.object_keys import KEPT
from app.deletions import store
from app.deletions.ledger import Ledger
from app.deployment import require_own_bucket
from app.errors import Conflict
from app.integrations.storage.client import Storage
from app.postgres.database import Database

REASON = "restore_check"


@dataclass
class RestoreReport:
    """The result, by recording.

    `undone` recordings are destroyed according to the ledger, but not DELETED in the database. `repeated` lists the
    undone recordings that are being destroyed again, and `held` lists those that a legal hold protects. `unknown`
    recordings are in the ledger but not in the database, because they were created after the backup. `foreign`
    recordings have a ledger entry that none of our keys signed or that was changed later. `moved` counts the
    objects under keep/ whose keys the check stored again for their recordings. The lists contain the ids of
    recordings and of signed notes; `notes` says which of them are signed notes.
    """

    entries: int = 0
    undone: list[UUID] = field(default_factory=list)
    repeated: list[UUID] = field(default_factory=list)
    held: list[UUID] = field(default_factory=list)
    unknown: list[UUID] = field(default_factory=list)
    foreign: list[UUID] = field(default_factory=list)
    foreign_keys: int = 0
    moved: int = 0
    notes: set[UUID] = field(default_factory=set)

    @property
    def is_clean(self) -> bool:
        """Return whether the destruction has begun again for every destroyed recording that the restore brought
        back, and whether every ledger entry belongs to this deployment.
        """
        return not (set(self.undone) - set(self.repeated)) and not self.foreign and not self.foreign_keys


class RestoreCheck:
    """Compares the ledger of deletions in the bucket with a restored database. Safe to repeat."""

    def __init__(self, database: Database, storage: Storage, ledger: Ledger, *, deployment: str) -> None:
        self._database = database
        self._storage = storage
        self._ledger = ledger
        self._deployment = deployment

    async def run(self, *, repeat: bool) -> RestoreReport:
        """Compare the whole ledger with the database. If `repeat` is true, begin to destroy the recordings that the
        restore brought back.

        Raises Conflict (bucket_unmarked, bucket_of_another_deployment), UpstreamFailed, Timeout.
        """
        await require_own_bucket(self._storage, self._deployment)
        report = RestoreReport()
        async for page in self._ledger.pages():
            report.entries += len(page.entries)
            report.foreign_keys += page.foreign_keys
            await self._compare({recording_id for recording_id, _ in page.entries}, report, repeat=repeat)
        if repeat:
            report.moved = await self._find_moved()
        return report

    async def _find_moved(self) -> int:
        """Store the new keys of objects that were moved to keep/ after the backup, before the sweep treats these
        objects as orphaned. Return the number of objects whose keys were stored.
        """
        found = 0
        async for page in self._storage.list_objects(KEPT):
            sizes = {one.key: one.size_bytes for one in page.objects}
            async with self._database.as_service(REASON) as tx:
                for key in sorted(await store.find_unknown_object_keys(tx, list(sizes))):
                    found += await store.find_moved_object(tx, key, sizes[key])
        return found

    async def _compare(self, recordings: set[UUID], report: RestoreReport, *, repeat: bool) -> None:
        recordings -= set(report.undone) | set(report.unknown) | set(report.foreign)
        async with self._database.as_service(REASON) as tx:
            restored = await store.find_restored(tx, sorted(recordings))
            notes = await store.find_restored_notes(tx, sorted(recordings))
        for note_id, (is_destroyed, is_held, is_begun) in notes.items():
            if not is_destroyed:
                report.notes.add(note_id)
                await self._compare_note(note_id, report, is_held=is_held, is_begun=is_begun, repeat=repeat)
        for recording_id, (status, is_held, is_begun) in restored.items():
            try:
                documents = [entry.decode() for entry in await self._ledger.entries_of(recording_id)]
            except Conflict:
                report.foreign.append(recording_id)
                continue
            if status is None:
                report.unknown.append(recording_id)
                continue
            report.undone.append(recording_id)
            if is_held:
                report.held.append(recording_id)
            elif is_begun or (repeat and await self._repeat(recording_id, documents)):
                report.repeated.append(recording_id)

    async def _compare_note(
        self, note_id: UUID, report: RestoreReport, *, is_held: bool, is_begun: bool, repeat: bool
    ) -> None:
        try:
            documents = [entry.decode() for entry in await self._ledger.entries_of(note_id)]
        except Conflict:
            report.foreign.append(note_id)
            return
        report.undone.append(note_id)
        if is_held:
            report.held.append(note_id)
        elif is_begun or (repeat and await self._repeat_note(note_id, documents)):
            report.repeated.append(note_id)

    async def _repeat_note(self, note_id: UUID, documents: list[str]) -> bool:
        async with self._database.as_service(REASON) as tx:
            return await store.repeat_note(tx, note_id, documents)

    async def _repeat(self, recording_id: UUID, documents: list[str]) -> bool:
        async with self._database.as_service(REASON) as tx:
            return await store.repeat(tx, recording_id, documents)
