"""The errors of the package. Each message is a fixed sentence without a part of the rejected content."""


class TransparencyLogError(ValueError):
    """The content is not what its format or its signer says."""


class ProofError(TransparencyLogError):
    """A proof is malformed, or it does not lead to the root."""


class TileError(TransparencyLogError):
    """A tile, its path or an entry bundle is malformed, or a required tile is missing."""


class NoteError(TransparencyLogError):
    """A signed note, a checkpoint or a verifier key is malformed."""


class SignatureError(TransparencyLogError):
    """A known key's signature is wrong, or no known key has signed."""


class PolicyError(TransparencyLogError):
    """A policy file is malformed."""


class QuorumError(TransparencyLogError):
    """The witnesses that cosigned the checkpoint do not reach the quorum of the policy."""


class EventError(TransparencyLogError):
    """The canonical form cannot represent the row of an audit event."""
