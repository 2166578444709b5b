"""C2SP tlog-policy: which logs and witnesses a verifier trusts, and how many witnesses must have cosigned."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from app.transparency_log.checkpoints import Checkpoint, VerifiedSignature, verify_note
from app.transparency_log.errors import NoteError, PolicyError, QuorumError, SignatureError
from app.transparency_log.notes import SignatureType, SignedNote, VerifierKey

NO_QUORUM: Final = "none"
_LOG_TYPES: Final = (SignatureType.ED25519, SignatureType.ML_DSA_44_COSIGNATURE)
_WITNESS_TYPES: Final = (SignatureType.ED25519_COSIGNATURE, SignatureType.ML_DSA_44_COSIGNATURE)
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Witness:
    """A witness. `url` is None in a policy for offline verification."""

    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True)
class Group:
    """Witnesses and groups by name. The group has witnessed a checkpoint if `threshold` of its members have."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class VerifiedCheckpoint:
    """A checkpoint that meets a policy. `log_key` is the key of the log that signed it."""

    checkpoint: Checkpoint
    log_key: VerifierKey
    cosignatures: tuple[VerifiedSignature, ...]


@dataclass(frozen=True)
class Policy:
    """The content of a policy file. `quorum` is the name of a witness or a group, or NO_QUORUM."""

    logs: tuple[VerifierKey, ...]
    witnesses: Mapping[str, Witness] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    quorum: str = NO_QUORUM

    def evaluate(self, note: SignedNote) -> VerifiedCheckpoint:
        """Return the checkpoint of a note that one of the logs signed under its own origin and enough witnesses
        cosigned. Raises NoteError, SignatureError and QuorumError.
        """
        checkpoint = Checkpoint.parse(note.text)
        logs = [key for key in self.logs if key.name == checkpoint.origin]
        witnesses = {one.key: name for name, one in self.witnesses.items()}
        verified = verify_note(note, (*logs, *witnesses))
        log_keys = [one.key for one in verified if one.key in logs]
        if not log_keys:
            raise SignatureError("no log of the policy has signed the checkpoint")
        cosignatures = tuple(one for one in verified if one.key in witnesses)
        if not self.has_quorum({witnesses[one.key] for one in cosignatures}):
            raise QuorumError("the cosignatures do not reach the quorum of the policy")
        return VerifiedCheckpoint(checkpoint, log_keys[0], cosignatures)

    def has_quorum(self, names: set[str]) -> bool:
        """Say whether the cosignatures of the witnesses with these names reach the quorum."""
        reached = set(names)
        for name, group in self.groups.items():
            if len(reached.intersection(group.members)) >= group.threshold:
                reached.add(name)
        return self.quorum == NO_QUORUM or self.quorum in reached

    def format(self) -> str:
        """Return the policy file."""
        lines = [f"log {key.format()}" for key in self.logs]
        for name, one in self.witnesses.items():
            lines.append(" ".join(filter(None, ("witness", name, one.key.format(), one.url))))
        for name, group in self.groups.items():
            lines.append(f"group {name} {group.threshold} {' '.join(group.members)}")
        return "\n".join([*lines, f"quorum {self.quorum}", ""])

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the policy of a file. Raises PolicyError."""
        if _CONTROL.search(content):
            raise PolicyError("the policy has a control character")
        reader = _Reader()
        for line in content.decode(errors="surrogateescape").split("\n"):
            words = re.findall(r"[^ \t]+", line)
            if words and not words[0].startswith("#"):
                reader.read(words)
        if reader.quorum is None:
            raise PolicyError("the policy has no quorum")
        return cls(tuple(reader.logs), reader.witnesses, reader.groups, reader.quorum)


class _Reader:
    """Reads the lines of a policy file, one after the other."""

    def __init__(self) -> None:
        self.logs: list[VerifierKey] = []
        self.witnesses: dict[str, Witness] = {}
        self.groups: dict[str, Group] = {}
        self.quorum: str | None = None
        self._members: set[str] = set()

    def read(self, words: list[str]) -> None:
        """Read one line. Raises PolicyError."""
        readers: dict[str, Callable[[list[str]], None]] = {
            "log": self._read_log,
            "witness": self._read_witness,
            "group": self._read_group,
            "quorum": self._read_quorum,
        }
        if words[0] not in readers:
            raise PolicyError("a line of the policy is unknown")
        readers[words[0]](words[1:])

    def _read_log(self, words: list[str]) -> None:
        if len(words) not in (1, 2):
            raise PolicyError("a log line is malformed")
        key = _parse_key(words[0], _LOG_TYPES)
        if key.public_key in {one.public_key for one in self.logs}:
            raise PolicyError("two logs have the same key")
        self.logs.append(key)

    def _read_witness(self, words: list[str]) -> None:
        if len(words) not in (2, 3):
            raise PolicyError("a witness line is malformed")
        key = _parse_key(words[1], _WITNESS_TYPES)
        if key.public_key in {one.key.public_key for one in self.witnesses.values()}:
            raise PolicyError("two witnesses have the same key")
        self._define(words[0])
        self.witnesses[words[0]] = Witness(key, words[2] if len(words) == 3 else None)

    def _read_group(self, words: list[str]) -> None:
        if len(words) < 3:
            raise PolicyError("a group line is malformed")
        name, wanted, *members = words
        threshold = {"any": 1, "all": len(members)}.get(wanted)
        if threshold is None:
            threshold = int(wanted) if re.fullmatch(r"[1-9][0-9]{0,3}", wanted, re.ASCII) else 0
        if not 1 <= threshold <= len(members):
            raise PolicyError("the threshold of a group is malformed")
        for member in members:
            if member not in self._defined or member in self._members:
                raise PolicyError("a member of a group is undefined or used twice")
            self._members.add(member)
        self._define(name)
        self.groups[name] = Group(threshold, tuple(members))

    def _read_quorum(self, words: list[str]) -> None:
        if len(words) != 1 or self.quorum is not None:
            raise PolicyError("a quorum line is malformed")
        if words[0] != NO_QUORUM and words[0] not in self._defined:
            raise PolicyError("the quorum is undefined")
        self.quorum = words[0]

    @property
    def _defined(self) -> set[str]:
        return {*self.witnesses, *self.groups}

    def _define(self, name: str) -> None:
        if name == NO_QUORUM or name in self._defined:
            raise PolicyError("a name is reserved or defined twice")


def _parse_key(vkey: str, types: tuple[SignatureType, ...]) -> VerifierKey:
    try:
        key = VerifierKey.parse(vkey)
    except (NoteError, UnicodeError):
        raise PolicyError("a key of the policy is malformed") from None
    if key.type not in types:
        raise PolicyError("a key of the policy has the type of another role")
    return key
