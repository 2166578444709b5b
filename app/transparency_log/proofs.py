"""C2SP tlog-proof: one file that proves, offline, that a log contains an entry. Resguardo calls this file a receipt."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Self

from app.transparency_log.errors import NoteError, ProofError
from app.transparency_log.merkle import HASH_BYTES, verify_inclusion
from app.transparency_log.notes import SignedNote, decode_base64
from app.transparency_log.policies import Policy, VerifiedCheckpoint

FILE_EXTENSION: Final = ".tlog-proof"
_HEADER: Final = "c2sp.org/tlog-proof@v1"
_MOST_HASHES: Final = 63
_LARGEST_EXTRA: Final = 65_536
_LARGEST_BYTES: Final = 2_000_000
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True)
class TransparencyProof:
    """The proof of the entry `index`, from the leaf's sibling up, with the checkpoint. `extra` is the event's salt
    in a receipt of ours; nothing authenticates it until the leaf hash is computed from it.
    """

    index: int
    hashes: tuple[bytes, ...]
    note: SignedNote
    extra: bytes | None = field(default=None, repr=False)

    def format(self) -> bytes:
        """Return the file."""
        return "\n".join((*self._head(), "", "")).encode() + self.note.format()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the proof of a file. Raises ProofError and NoteError."""
        head, separator, note = content.partition(b"\n\n")
        if len(content) > _LARGEST_BYTES or not separator:
            raise ProofError("the proof is malformed")
        try:
            lines = head.decode().split("\n")
            extra = decode_base64(lines.pop(1)[6:]) if lines[1:] and lines[1].startswith("extra ") else None
            hashes = tuple(decode_base64(line) for line in lines[2:])
        except (UnicodeDecodeError, NoteError):
            raise ProofError("the proof is malformed") from None
        if lines[0] != _HEADER or len(lines) < 2 or len(extra or b"") > _LARGEST_EXTRA:
            raise ProofError("the proof is malformed")
        if len(hashes) > _MOST_HASHES or any(len(one) != HASH_BYTES for one in hashes):
            raise ProofError("a hash of the proof is malformed")
        name, _, index = lines[1].partition(" ")
        if name != "index" or not _INDEX.fullmatch(index):
            raise ProofError("the index of the proof is malformed")
        return cls(int(index), hashes, SignedNote.parse(note), extra)

    def verify(self, leaf: bytes, policy: Policy) -> VerifiedCheckpoint:
        """Verify that the log contains the leaf hash `leaf` at the index of the proof, under a policy. Raises
        ProofError, NoteError, SignatureError and QuorumError.
        """
        verified = policy.evaluate(self.note)
        checkpoint = verified.checkpoint
        verify_inclusion(leaf, self.index, checkpoint.size, self.hashes, checkpoint.root)
        return verified

    def _head(self) -> Iterator[str]:
        yield _HEADER
        if self.extra is not None:
            yield f"extra {base64.b64encode(self.extra).decode()}"
        yield f"index {self.index}"
        yield from (base64.b64encode(one).decode() for one in self.hashes)
