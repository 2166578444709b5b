"""The ledger of deletions in the bucket. Each certificate is one object, `ledger/<subject>/<number>.json`, which is
written once and never changed. The subject is the destroyed recording or signed note.

`restore_check.py` uses the ledger to find the destroyed recordings that a restored database brought back. A bucket
lock protects the ledger's objects, and this module never deletes or overwrites them.
"""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.bucket.object_keys import LEDGER, compose_ledger_key, compose_ledger_prefix, parse_ledger_key
from app.certificates.signing import MAX_FILE_BYTES, SignedCertificate, check, compute_key_id, read_signed
from app.errors import AppError, Conflict, UpstreamFailed
from app.integrations.storage.client import Storage


@dataclass(frozen=True)
class LedgerPage:
    """A page of the ledger: the recording id and the number of each entry. `foreign_keys` counts the object keys
    under `ledger/` that do not have the form of an entry's key.
    """

    entries: tuple[tuple[UUID, int], ...]
    foreign_keys: int


class Ledger:
    """The ledger of one deployment. The signature of each entry is checked with our current public key and our
    earlier public keys.
    """

    def __init__(self, storage: Storage, keys: Collection[Ed25519PublicKey], *, deployment: str) -> None:
        self._storage = storage
        self._deployment = deployment
        self._keys = {compute_key_id(key): key for key in keys}

    async def enter(self, signed: SignedCertificate) -> bool:
        """Write a signed certificate to the ledger, unless an earlier attempt has written the same file. Return
        False if an entry with this number exists and belongs to an earlier destruction.

        Raises Conflict (ledger_entry_foreign) if none of our keys signed the existing entry. Raises UpstreamFailed,
        Timeout.
        """
        of = signed.certificate
        if await self._storage.put_new(
            compose_ledger_key(of.subject_id, of.number), signed.file, "application/json"
        ):
            return True
        return await self.read(of.subject_id, of.number) == signed.file

    async def read(self, subject_id: UUID, number: int) -> bytes:
        """Return the signed file of a ledger entry, after checking that one of our keys signed it. Raises Conflict
        (ledger_entry_foreign), UpstreamFailed, Timeout.
        """
        try:
            file = await self._storage.get_small(compose_ledger_key(subject_id, number), MAX_FILE_BYTES)
        except UpstreamFailed as error:
            if error.reason != "storage_object_too_large":
                raise
            raise Conflict("ledger_entry_foreign", subject_id=str(subject_id)) from error
        try:
            by = read_signed(file or b"").signature.key_id
            of = check(file or b"", self._keys[by])
        except (AppError, KeyError) as error:
            raise Conflict("ledger_entry_foreign", subject_id=str(subject_id)) from error
        if (of.deployment, of.subject_id, of.number) != (self._deployment, subject_id, number):
            raise Conflict("ledger_entry_foreign", subject_id=str(subject_id))
        return file or b""

    async def entries_of(self, subject_id: UUID) -> list[bytes]:
        """Return the ledger entries of a recording or of a signed note in the order of their numbers.

        Raises Conflict (ledger_entry_foreign) if none of our keys signed an entry, or if the entries' numbers have
        a gap. Raises UpstreamFailed, Timeout.
        """
        numbers: list[int] = []
        async for page in self._pages(compose_ledger_prefix(subject_id)):
            numbers += [number for _, number in page.entries]
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            raise Conflict("ledger_entry_foreign", subject_id=str(subject_id))
        return [await self.read(subject_id, number) for number in sorted(numbers)]

    def pages(self) -> AsyncIterator[LedgerPage]:
        """Yield the recording ids and numbers of all ledger entries, one page at a time."""
        return self._pages(LEDGER)

    async def _pages(self, prefix: str) -> AsyncIterator[LedgerPage]:
        async for page in self._storage.list_objects(prefix):
            entries = [parse_ledger_key(one.key) for one in page.objects]
            yield LedgerPage(
                entries=tuple(entry for entry in entries if entry is not None),
                foreign_keys=entries.count(None),
            )
