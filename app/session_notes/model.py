"""The types of session notes and of psychotherapy notes. Pure. The `repr` of a note does not contain its text, which
exists only in memory.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.errors import InvalidInput
from app.texts.unsafe_characters import has_unsafe_characters, remove_unsafe_characters

MAX_NOTE_CHARACTERS: Final = 2_000
"""The length limit of a line."""

MAX_SECONDS: Final = 86_400
"""The latest time in a recording whose duration is not known yet."""


class NoteKind(StrEnum):
    """The kind of a note. Psychotherapy notes (45 CFR 164.501) have tables of their own."""

    SESSION = "SESSION"
    PSYCHOTHERAPY = "PSYCHOTHERAPY"


@dataclass(frozen=True)
class Note:
    """One line of notes on a recording, in its newest version. `start_ms` is the time in the recording that the line
    is about, or None.
    """

    id: UUID
    recording_id: UUID
    author_id: UUID
    start_ms: int | None
    version: int
    text: str = field(repr=False)
    written_at: datetime
    changed_at: datetime
    changed_by: UUID


def check_text(text: str) -> str:
    """Return the text of a line in NFC, with single spaces between words.

    Raises InvalidInput (session_note_characters, session_note_too_long, session_note_empty).
    """
    if has_unsafe_characters(text):
        raise InvalidInput("session_note_characters")
    line = remove_unsafe_characters(text)
    if max(len(text), len(line)) > MAX_NOTE_CHARACTERS:
        raise InvalidInput("session_note_too_long", maximum=MAX_NOTE_CHARACTERS)
    if not line:
        raise InvalidInput("session_note_empty")
    return line


def to_milliseconds(
    start_seconds: float | None, duration_seconds: float | None, before: int | None = None
) -> int | None:
    """Return the time in a recording in milliseconds, or None for None. `duration_seconds` is None while the
    recording's duration is not known. Raises InvalidInput (session_note_time) for a time outside the recording, unless
    the line already has this time (`before`): the recording may have ended earlier than expected.
    """
    if start_seconds is None:
        return None
    if not 0 <= start_seconds <= MAX_SECONDS:
        raise InvalidInput("session_note_time")
    start_ms = round(start_seconds * 1000)
    if duration_seconds is not None and start_seconds > duration_seconds and start_ms != before:
        raise InvalidInput("session_note_time")
    return start_ms
