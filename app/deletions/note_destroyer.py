"""Destroys signed notes whose retention term has passed, and stores a certificate of each destruction.

One transaction deletes the ciphertexts of the due notes, and the data key of each patient without further notes. It
destroys no note under a legal hold or an access request (law 7). Then each certificate is signed and written to the
ledger, and a second transaction stores the certificates. If the process dies in between, the next pass makes the same
certificates again. A note has no object in the bucket.
"""

import logging
from datetime import datetime
from typing import Final
from uuid import UUID

from app.certificates.signing import CertificateSigner
from app.deletions import store
from app.deletions.certificate_builder import build_certificate
from app.deletions.destroyer import BATCH, REASON, DestructionReport, read_store_time
from app.deletions.ledger import Ledger
from app.deletions.model import DestroyedNote
from app.deployment import require_own_bucket
from app.errors import AppError, Conflict
from app.integrations.storage.client import Storage
from app.postgres.database import Database

log = logging.getLogger(__name__)
_NOTHING: Final = DestructionReport(0, 0)


class NoteDestroyer:
    """Destroys due signed notes, one pass at a time."""

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
        """Destroy all due notes, one batch at a time.

        Raises Conflict (bucket_unmarked, bucket_of_another_deployment), UpstreamFailed, Timeout. If a pass fails, the
        next pass does the remaining work.
        """
        total = _NOTHING
        while (batch := await self.run_batch()) != _NOTHING:
            total = DestructionReport(total.destroyed + batch.destroyed, total.failed + batch.failed)
        return total

    async def run_batch(self) -> DestructionReport:
        """Destroy at most one batch of due notes. Raises like `run_once`."""
        await require_own_bucket(self._storage, self._deployment)
        by_clock: datetime = await read_store_time(self._storage)
        async with self._database.as_service(REASON) as tx:
            destroyed = await store.destroy_due_notes(tx, by_clock, BATCH)
        documents: dict[UUID, str] = {}
        for note in destroyed:
            try:
                documents[note.note_id] = await self._certify(note)
            except AppError as error:
                await self._fail(note, error.reason)
        if documents:
            async with self._database.as_service(REASON) as tx:
                await store.finish_note_destructions(tx, documents)
        return DestructionReport(len(documents), len(destroyed) - len(documents))

    async def _certify(self, note: DestroyedNote) -> str:
        """Sign the certificate and write it to the ledger. Raises Conflict (certificate_impossible,
        ledger_number_taken) like the certificate of a recording.
        """
        try:
            certificate = build_certificate(
                note.facts, deployment=self._deployment, backup_retention_days=self._backup_retention_days
            )
            signed = self._signer.sign(certificate)
        except ValueError as error:
            raise Conflict("certificate_impossible") from error
        if not await self._ledger.enter(signed):
            earlier = [entry.decode() for entry in await self._ledger.entries_of(note.note_id)]
            async with self._database.as_service(REASON) as tx:
                await store.keep_earlier_note_certificates(tx, note.note_id, earlier)
            raise Conflict("ledger_number_taken")
        return signed.file.decode()

    async def _fail(self, note: DestroyedNote, reason: str) -> None:
        async with self._database.as_service(REASON) as tx:
            attempts = await store.fail_note_destruction(tx, note, reason)
        log.warning(
            "destruction of a signed note failed: signed_note=%s attempt=%d %s",
            note.note_id,
            attempts,
            reason,
        )
