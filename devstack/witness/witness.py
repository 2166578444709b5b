"""Decides about one request, and keeps the newest cosigned checkpoint of each log in a file."""

import base64
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.transparency_log.checkpoints import (
    Checkpoint,
    Ed25519Cosigner,
    MlDsa44Cosigner,
    verify_note,
)
from app.transparency_log.errors import NoteError, ProofError, SignatureError, TransparencyLogError
from app.transparency_log.merkle import verify_consistency
from app.transparency_log.notes import SignedNote, VerifierKey, decode_base64

MOST_PROOF_LINES: Final = 63
_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """An answer other than 200. `size` is the remembered size of a 409."""

    def __init__(self, status: int, size: int | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.size = size


@dataclass(frozen=True)
class Request:
    """A parsed `add-checkpoint` request."""

    old_size: int
    proof: tuple[bytes, ...]
    note: SignedNote
    origin: str


class WitnessRecord:
    """The newest cosigned note of each log, in one file that is replaced atomically and synced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.notes: dict[str, bytes] = {}
        if path.exists():
            self.notes = {origin: note.encode() for origin, note in json.loads(path.read_text()).items()}

    def newest(self, origin: str) -> Checkpoint | None:
        """Return the newest cosigned checkpoint of a log, or None."""
        note = self.notes.get(origin)
        return None if note is None else Checkpoint.parse(SignedNote.parse(note).text)

    def keep(self, origin: str, note: bytes) -> None:
        """Store a cosigned note durably."""
        self.notes[origin] = note
        draft = self._path.with_suffix(".draft")
        with draft.open("w") as file:
            json.dump({name: one.decode() for name, one in self.notes.items()}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class TestWitness:
    """A witness of the logs whose keys `find_log_keys` returns. An empty result means that the origin is unknown."""

    __test__ = False

    def __init__(
        self,
        cosigners: Sequence[Ed25519Cosigner | MlDsa44Cosigner],
        record: WitnessRecord,
        find_log_keys: Callable[[str], Sequence[VerifierKey]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cosigners = cosigners
        self.record = record
        self._find_log_keys = find_log_keys
        self._clock = clock
        self._lock = threading.Lock()

    @property
    def vkeys(self) -> list[str]:
        """Return the verifier keys of the witness."""
        return [one.verifier_key.format() for one in self._cosigners]

    def add_checkpoint(self, body: bytes) -> bytes:
        """Return the signature lines for a request. Raises Refusal."""
        request = _parse(body)
        checkpoint = self._verify_log(request)
        if request.old_size > checkpoint.size:
            raise Refusal(400)
        with self._lock:
            newest = self.record.newest(checkpoint.origin)
            size = 0 if newest is None else newest.size
            if request.old_size != size:
                raise Refusal(409, size)
            _require_consistent(request, newest, checkpoint)
            now = int(self._clock())
            signatures = [one.cosign(request.note.text, now) for one in self._cosigners]
            self.record.keep(checkpoint.origin, request.note.with_signatures(signatures).format())
        return "".join(one.format() for one in signatures).encode()

    def find_checkpoint(self, origin_hash: str) -> bytes | None:
        """Return the newest cosigned note of the log with this origin, of which the SHA-256 is given in hex."""
        for origin, note in self.record.notes.items():
            if hashlib.sha256(origin.encode()).hexdigest() == origin_hash:
                return note
        return None

    def _verify_log(self, request: Request) -> Checkpoint:
        keys = self._find_log_keys(request.origin)
        if not keys:
            raise Refusal(404)
        try:
            verify_note(request.note, keys)
        except SignatureError as error:
            raise Refusal(403) from error
        try:
            return Checkpoint.parse(request.note.text)
        except NoteError as error:
            # `Checkpoint` refuses size 0 with another root than the empty tree's, for which the status is 422.
            is_empty = request.note.text.split(b"\n")[1:2] == [b"0"]
            raise Refusal(422 if is_empty else 400) from error


def _parse(body: bytes) -> Request:
    head, separator, note = body.partition(b"\n\n")
    try:
        lines = head.decode().split("\n")
        old = _OLD.fullmatch(lines[0])
        if not separator or old is None or len(lines) > 1 + MOST_PROOF_LINES:
            raise Refusal(400)
        proof = tuple(decode_base64(line) for line in lines[1:])
        signed = SignedNote.parse(note)
    except (UnicodeDecodeError, TransparencyLogError) as error:
        raise Refusal(400) from error
    if any(len(one) != 32 for one in proof):
        raise Refusal(400)
    return Request(int(old[1]), proof, signed, signed.text.partition(b"\n")[0].decode())


def _require_consistent(request: Request, newest: Checkpoint | None, checkpoint: Checkpoint) -> None:
    if newest is None or newest.size == 0:
        if request.proof:
            raise Refusal(422)
        return
    try:
        verify_consistency(newest.size, newest.root, checkpoint.size, checkpoint.root, request.proof)
    except ProofError as error:
        raise Refusal(422) from error


def make_witness(config: Mapping[str, Any]) -> TestWitness:
    """Return the witness of a configuration: its name, the base64 of its seed, the file of its record, and the
    verifier keys of its logs.
    """
    seed = base64.b64decode(config["seed"])
    keys = [VerifierKey.parse(one) for one in config["logs"]]
    return TestWitness(
        [Ed25519Cosigner.from_seed(config["name"], seed)],
        WitnessRecord(Path(config["record"])),
        lambda origin: [key for key in keys if key.name == origin],
    )
