"""Decrypts stored transcripts and encrypts corrections, with the recording's own data key.

`transcriber.py` encrypts new transcripts.
"""

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
    """The decrypted bytes of a transcript (`stored.transcript_bytes`) and its corrections."""

    words: bytes = field(repr=False)
    corrections: tuple[Correction, ...]


def unseal(keyring: Keyring, sealed: Sealed) -> Unsealed:
    """Decrypt. Raises Conflict (field_unreadable, root_key_unknown, data_key_wrong, transcript_malformed)."""
    key = keyring.unwrap(sealed.wrapped, sealed.root_key_id)
    corrections = (
        correction_of(key.decrypt(places.of_correction(sealed.recording_id, number), one))
        for number, one in enumerate(sealed.corrections, start=1)
    )
    return Unsealed(key.decrypt(places.of_words(sealed.recording_id), sealed.words), tuple(corrections))


@dataclass(frozen=True)
class Readable:
    """A transcript as it was transcribed, its corrections, and its corrected form."""

    heard: Transcript = field(repr=False)
    corrections: tuple[Correction, ...]
    transcript: Transcript = field(repr=False)


def read(keyring: Keyring, sealed: Sealed) -> Readable:
    """Decrypt and parse everything. Raises the errors of `unseal` and `corrected`."""
    unsealed = unseal(keyring, sealed)
    heard = transcript_of(unsealed.words)
    return Readable(heard, unsealed.corrections, corrected(heard, unsealed.corrections))


@dataclass(frozen=True)
class SealedCorrection:
    """A correction, encrypted at its place, with the index numbers of the corrected transcript."""

    number: int
    sealed: bytes = field(repr=False)
    terms: frozenset[int] = field(repr=False)


def correct(
    keyring: Keyring,
    index_key: IndexKey,
    sealed: Sealed,
    make: Callable[[Transcript, Sequence[Correction]], Correction | None],
) -> tuple[Readable, SealedCorrection | None]:
    """Return the transcript with the correction that `make` returns, or unchanged if it returns none.

    Raises the errors of `read` and `make`.
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
