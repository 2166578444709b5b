"""Formats and parses a signed note: the canonical JSON that the doctor's signature freezes. Pure.

`format_note` gives equal notes equal bytes (`canonical.py`), and `parse_note` accepts only these bytes. The SHA-256 of
the bytes is in the audit log. The random salt inside the note keeps a reader of the log from guessing a short note,
and the hashes of quotes are inside the note alone, because a short quote can be guessed from its hash.
"""

import hashlib
import json
import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from app.errors import Conflict
from app.insights.drafts import Section
from app.insights.model import Flag
from app.notes.canonical import Json, format_canonical
from app.notes.model import LineAuthor, Resolution, Writer
from app.transcripts.model import Speaker

NOTE_FORMAT: Final = 1
SALT_BYTES: Final = 32
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


class NoteKind(StrEnum):
    """A signed note, or an addendum: later lines that belong to a signed note."""

    NOTE = "NOTE"
    ADDENDUM = "ADDENDUM"


class QuotesKept(StrEnum):
    """Whether the signed note keeps the quotes of its lines.

    KEPT: the note keeps them.
    NOT_PERMITTED: a consent to keep quotes was missing or withdrawn at the signature, so the note has no citation.
    """

    KEPT = "KEPT"
    NOT_PERMITTED = "NOT_PERMITTED"


@dataclass(frozen=True)
class SignedCitation:
    """A quote of one turn of the transcript. The times count from the recording's beginning."""

    turn_number: int
    start_ms: int
    end_ms: int
    speaker: Speaker
    quote: str = field(repr=False)

    @property
    def quote_sha256(self) -> str:
        """Return the SHA-256 of the quote in normalization form C and in UTF-8, in hex."""
        return hashlib.sha256(unicodedata.normalize("NFC", self.quote).encode()).hexdigest()


@dataclass(frozen=True)
class SignedFlag:
    """A flag of a line, and how the doctor resolved it."""

    flag: Flag
    resolution: Resolution


@dataclass(frozen=True)
class SignedLine:
    """A line of a signed note."""

    text: str = field(repr=False)
    author: LineAuthor
    citations: tuple[SignedCitation, ...] = ()
    flags: tuple[SignedFlag, ...] = ()


@dataclass(frozen=True)
class SignedRemoval:
    """A flag of a line that the doctor removed before the signature."""

    section: Section
    flag: Flag


@dataclass(frozen=True)
class SignedCoverage:
    """What the draft could be compared with when it was signed.

    `insights` is the status of the insights, such as READY or STALE. `covered_seconds` is the part of the recording
    that the transcript covers. `uncited_turns` has the numbers of the turns with a number, a dose, an allergy or a
    medication that no line cites.
    """

    insights: str
    transcript: str
    covered_seconds: int
    duration_seconds: int | None
    is_truncated: bool
    is_interrupted: bool
    unused_track_count: int
    unintelligible_turn_count: int
    unknown_speaker_turn_count: int
    uncited_turns: tuple[int, ...]
    quotes: QuotesKept = QuotesKept.KEPT


@dataclass(frozen=True, kw_only=True)
class SignedNote:
    """A signed note, or an addendum to one. `version` counts the signed versions of one note from 1.

    `previous_sha256` is the SHA-256 of the version before, or None for the first. An addendum has only the lines that
    it adds, in `addendum`. `recording_sha256` is the SHA-256 of the video file, or None if it was never measured.
    `writer` is the model that wrote the lines of the author WRITER.
    """

    kind: NoteKind
    version: int
    previous_sha256: str | None
    recording_id: UUID
    recording_sha256: str | None
    consultation_id: UUID
    patient_id: UUID
    author_id: UUID
    signed_at: datetime
    writer: Writer | None = None
    sections: Mapping[Section, tuple[SignedLine, ...]] = field(default_factory=dict, repr=False)
    removed: tuple[SignedRemoval, ...] = ()
    coverage: SignedCoverage | None = None
    addendum: tuple[str, ...] = field(default=(), repr=False)
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(SALT_BYTES), repr=False)

    @property
    def quote_count(self) -> int:
        """Return how many quotes of the recording the note keeps."""
        return sum(len(line.citations) for lines in self.sections.values() for line in lines)


def format_note(note: SignedNote) -> bytes:
    """Return the note as canonical JSON. Raises ValueError for a value that canonical JSON cannot have."""
    return format_canonical(
        {
            "format": NOTE_FORMAT,
            "kind": note.kind.value,
            "version": note.version,
            "previousSha256": note.previous_sha256,
            "salt": note.salt.hex(),
            "recordingId": str(note.recording_id),
            "recordingSha256": note.recording_sha256,
            "consultationId": str(note.consultation_id),
            "patientId": str(note.patient_id),
            "authorId": str(note.author_id),
            "signedAt": note.signed_at.astimezone(UTC).strftime(_TIME),
            "writer": _writer_row(note.writer),
            "sections": {
                section.value: [_line_row(line) for line in note.sections.get(section, ())]
                for section in Section
            },
            "removedFlags": [
                {
                    "section": one.section.value,
                    "flag": one.flag.value,
                    "resolution": Resolution.REMOVED.value,
                }
                for one in note.removed
            ],
            "coverage": _coverage_row(note.coverage),
            "addendum": list(note.addendum),
        }
    )


def hash_note(formatted: bytes) -> str:
    """Return the SHA-256 of a formatted note, in hex, as the audit log has it."""
    return hashlib.sha256(formatted).hexdigest()


def parse_note(formatted: bytes) -> SignedNote:
    """Return the note. Raises Conflict (signed_note_malformed, signed_note_format_unknown).

    The note is malformed if its bytes are not those that `format_note` makes of it, or if the hash of a quote is not
    that of the quote.
    """
    try:
        read = json.loads(formatted.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Conflict("signed_note_malformed") from None
    if not isinstance(read, dict) or type(read.get("format")) is not int:
        raise Conflict("signed_note_malformed")
    if read["format"] != NOTE_FORMAT:
        raise Conflict("signed_note_format_unknown", version=read["format"])
    try:
        note = _parse_note(read)
        if format_note(note) == formatted:
            return note
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise Conflict("signed_note_malformed")


def _parse_note(read: Mapping[str, Any]) -> SignedNote:
    salt = bytes.fromhex(read["salt"])
    hashes = [one for one in (read["previousSha256"], read["recordingSha256"]) if one is not None]
    if len(salt) != SALT_BYTES or not all(_SHA256.fullmatch(one) for one in hashes):
        raise ValueError("a hash or the salt has the wrong length")
    return SignedNote(
        kind=NoteKind(read["kind"]),
        version=_whole(read["version"]),
        previous_sha256=read["previousSha256"],
        recording_id=UUID(read["recordingId"]),
        recording_sha256=read["recordingSha256"],
        consultation_id=UUID(read["consultationId"]),
        patient_id=UUID(read["patientId"]),
        author_id=UUID(read["authorId"]),
        signed_at=datetime.strptime(read["signedAt"], _TIME).replace(tzinfo=UTC),
        writer=read["writer"] and Writer(_text(read["writer"]["vendor"]), _text(read["writer"]["model"])),
        sections={
            section: tuple(_parse_line(row) for row in read["sections"][section.value]) for section in Section
        },
        removed=tuple(
            SignedRemoval(Section(row["section"]), Flag(row["flag"])) for row in read["removedFlags"]
        ),
        coverage=_parse_coverage(read["coverage"]),
        addendum=tuple(_text(text) for text in read["addendum"]),
        salt=salt,
    )


def _writer_row(writer: Writer | None) -> Json:
    return None if writer is None else {"vendor": writer.vendor, "model": writer.model}


def _line_row(line: SignedLine) -> dict[str, Json]:
    return {
        "text": line.text,
        "author": line.author.value,
        "citations": [
            {
                "turn": one.turn_number,
                "startMs": one.start_ms,
                "endMs": one.end_ms,
                "speaker": one.speaker.value,
                "quote": one.quote,
                "quoteSha256": one.quote_sha256,
            }
            for one in line.citations
        ],
        "flags": [{"flag": one.flag.value, "resolution": one.resolution.value} for one in line.flags],
    }


def _parse_line(row: Mapping[str, Any]) -> SignedLine:
    return SignedLine(
        _text(row["text"]),
        LineAuthor(row["author"]),
        tuple(
            SignedCitation(
                _whole(one["turn"]),
                _whole(one["startMs"]),
                _whole(one["endMs"]),
                Speaker(one["speaker"]),
                _text(one["quote"]),
            )
            for one in row["citations"]
        ),
        tuple(SignedFlag(Flag(one["flag"]), Resolution(one["resolution"])) for one in row["flags"]),
    )


def _coverage_row(coverage: SignedCoverage | None) -> Json:
    if coverage is None:
        return None
    return {
        "insights": coverage.insights,
        "transcript": coverage.transcript,
        "coveredSeconds": coverage.covered_seconds,
        "durationSeconds": coverage.duration_seconds,
        "isTruncated": coverage.is_truncated,
        "isInterrupted": coverage.is_interrupted,
        "unusedTrackCount": coverage.unused_track_count,
        "unintelligibleTurnCount": coverage.unintelligible_turn_count,
        "unknownSpeakerTurnCount": coverage.unknown_speaker_turn_count,
        "uncitedTurns": list(coverage.uncited_turns),
        "quotes": coverage.quotes.value,
    }


def _parse_coverage(row: Mapping[str, Any] | None) -> SignedCoverage | None:
    if row is None:
        return None
    duration = row["durationSeconds"]
    return SignedCoverage(
        _text(row["insights"]),
        _text(row["transcript"]),
        _whole(row["coveredSeconds"]),
        None if duration is None else _whole(duration),
        _truth(row["isTruncated"]),
        _truth(row["isInterrupted"]),
        _whole(row["unusedTrackCount"]),
        _whole(row["unintelligibleTurnCount"]),
        _whole(row["unknownSpeakerTurnCount"]),
        tuple(_whole(number) for number in row["uncitedTurns"]),
        QuotesKept(row["quotes"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("no whole number")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("no truth value")
    return value
