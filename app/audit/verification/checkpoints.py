"""Reads checkpoints under a policy. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.audit.verification.trees import SignedRoot
from app.errors import InvalidInput
from app.transparency_log.checkpoints import SEED_BYTES, Checkpoint, Ed25519Signer
from app.transparency_log.errors import NoteError, PolicyError, SignatureError
from app.transparency_log.notes import SignedNote, VerifierKey
from app.transparency_log.policies import NO_QUORUM, Group, Policy, Witness

_WITNESSES: Final = "witnesses"


@dataclass(frozen=True)
class ReadCheckpoint:
    """A checkpoint whose signature by the log is valid. `is_cosigned` says whether the witnesses of the policy's quorum
    cosigned it. `cosigned_at` is the POSIX time of the latest cosignature, or None.
    """

    checkpoint: Checkpoint
    is_cosigned: bool
    cosigned_at: int | None

    def signed_root(self, source: str) -> SignedRoot:
        """Return the size and root, with the place where the checkpoint was found."""
        return SignedRoot(self.checkpoint.size, self.checkpoint.root, source)


class CheckpointReader:
    """Reads checkpoints under one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._without_quorum = replace(policy, quorum=NO_QUORUM)
        self._witness_names = {one.key: name for name, one in policy.witnesses.items()}

    @property
    def origins(self) -> Sequence[str]:
        """Return the origins of the logs that the policy names."""
        return sorted({key.name for key in self._policy.logs})

    def read(self, content: bytes, origin: str) -> ReadCheckpoint | str:
        """Return the checkpoint of a signed note, or what is wrong with the note."""
        try:
            note = SignedNote.parse(content)
            verified = self._without_quorum.evaluate(note)
        except NoteError:
            return "malformed"
        except SignatureError:
            return "no valid signature of the log, or a wrong cosignature"
        if verified.checkpoint.origin != origin:
            return "the checkpoint of another log"
        names = {self._witness_names[one.key] for one in verified.cosignatures}
        times = [one.time for one in verified.cosignatures if one.time is not None]
        return ReadCheckpoint(verified.checkpoint, self._policy.has_quorum(names), max(times, default=None))


def parse_policy(content: bytes) -> Policy:
    """Return the policy of a file. Raises InvalidInput (audit_policy_malformed)."""
    try:
        policy = Policy.parse(content)
    except PolicyError as error:
        raise InvalidInput("audit_policy_malformed") from error
    if not policy.logs:
        raise InvalidInput("audit_policy_malformed")
    return policy


def compose_origin(deployment: str, year: int) -> str:
    """Return the origin of a year's log."""
    return f"resguardo/{deployment}/{year}"


def year_of(origin: str) -> int:
    """Return the year of an origin, or 0 if the origin is not one of ours."""
    last = origin.rpartition("/")[2]
    return int(last) if last.isdecimal() and len(last) == 4 else 0


def make_policy(
    deployment: str,
    years: Iterable[int],
    seed: bytes,
    former_keys: Iterable[str],
    witness_keys: Iterable[str],
) -> Policy:
    """Return the policy of a deployment: one key for the log of each year, the earlier keys, and the witnesses, of
    which more than half must have cosigned a checkpoint.
    """
    if len(seed) != SEED_BYTES:
        raise InvalidInput("audit_policy_malformed")
    keys = [Ed25519Signer.from_seed(compose_origin(deployment, year), seed).verifier_key for year in years]
    keys += [VerifierKey.parse(one) for one in former_keys]
    witnesses = {key.name: Witness(key) for key in map(VerifierKey.parse, witness_keys)}
    logs = tuple(dict.fromkeys(keys))
    if len(witnesses) < 2:
        return Policy(logs, witnesses, {}, next(iter(witnesses), NO_QUORUM))
    group = Group(len(witnesses) // 2 + 1, tuple(witnesses))
    return Policy(logs, witnesses, {_WITNESSES: group}, _WITNESSES)
