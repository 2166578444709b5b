"""From what is stored to words, and back: each ciphertext opened at its own place, with its recording's own key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from app.keys.keyring import Keyring
from app.transcripts import places
from app.transcripts.blind import IndexKey, blind_transcript
from app.transcripts.corrections import Correction, corrected
from app.transcripts.model import Transcript
from app.transcripts.store import Sealed
from app.transcripts.stored import correction_bytes, correction_of, transcript_of


@dataclass(frozen=True)
class Unsealed:
    """A transcript's bytes as `stored.transcript_bytes` made them, and its corrections."""

    words: bytes = field(repr=False)
    corrections: tuple[Correction, ...]


def unseal(keyring: Keyring, sealed: Sealed) -> Unsealed:
    """Raises Conflict (field_unreadable, root_key_unknown, data_key_wrong, transcript_malformed)."""
    key = keyring.unwrap(sealed.wrapped, sealed.root_key_id)
    corrections = (
        correction_of(key.decrypt(places.of_correction(sealed.recording_id, number), one))
        for number, one in enumerate(sealed.corrections, start=1)
    )
    return Unsealed(key.decrypt(places.of_words(sealed.recording_id), sealed.words), tuple(corrections))


@dataclass(frozen=True)
class Readable:
    """A transcript as it was heard, its corrections, and as it was corrected last."""

    heard: Transcript = field(repr=False)
    corrections: tuple[Correction, ...]
    transcript: Transcript = field(repr=False)


def read(keyring: Keyring, sealed: Sealed) -> Readable:
    """All of it. Raises what `unseal` and `corrected` raise."""
    unsealed = unseal(keyring, sealed)
    heard = transcript_of(unsealed.words)
    return Readable(heard, unsealed.corrections, corrected(heard, unsealed.corrections))


@dataclass(frozen=True)
class SealedCorrection:
    """A correction, encrypted at its place, with the numbers by which the transcript is found from then on."""

    number: int
    sealed: bytes = field(repr=False)
    terms: frozenset[int] = field(repr=False)


def correct(
    keyring: Keyring,
    index_key: IndexKey,
    sealed: Sealed,
    make: Callable[[Transcript, Sequence[Correction]], Correction | None],
) -> tuple[Readable, SealedCorrection | None]:
    """The transcript with the correction that `make` makes on top; if it makes none, the transcript as it is.

    Raises what `read` and `make` raise.
    """
    before = read(keyring, sealed)
    made = make(before.heard, before.corrections)
    if made is None:
        return before, None
    corrections = (*before.corrections, made)
    now = Readable(before.heard, corrections, corrected(before.heard, corrections))
    place = places.of_correction(sealed.recording_id, len(corrections))
    key = keyring.unwrap(sealed.wrapped, sealed.root_key_id)
    encrypted = key.encrypt(place, correction_bytes(made))
    return now, SealedCorrection(len(corrections), encrypted, blind_transcript(index_key, now.transcript))
