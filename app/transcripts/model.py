"""Turns and transcripts. Pure. Text is only in memory here, and no repr contains it."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.errors import NotFound
from app.integrations.speech.answers import NO_FIGURES, Figures

MAX_TURN_CHARACTERS: Final = 30_000
"""The length limit of a turn: twenty minutes, the longest chunk, of the fastest speech."""


class Speaker(StrEnum):
    """The speaker, known by the microphone or named by a doctor, or UNKNOWN. Guests are named by their role."""

    DOCTOR = "DOCTOR"
    PATIENT = "PATIENT"
    INTERPRETER = "INTERPRETER"
    COMPANION = "COMPANION"
    REPRESENTATIVE = "REPRESENTATIVE"
    CLINICIAN = "CLINICIAN"
    STUDENT = "STUDENT"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Turn:
    """Speech of one speaker without an interruption. `number` counts from 0. Times are from the recording's
    beginning.

    `label` identifies one voice of the recording by a small integer, by which a doctor can name it: a participant's
    voice if the microphones were recorded apart, otherwise a channel or a voice that the service distinguished. It
    is None if voices cannot be distinguished. `participant_id` is the owner of the microphone, or None if that is
    unknown or a doctor has named the speaker. Two guests with one role have different ids.

    An unintelligible turn has no text, because the speech service could not understand it. A turn without text that
    is not unintelligible is empty: its chunk was transcribed again and contained no speech. It keeps its number and
    is not shown. An uncertain turn has text of which the speech model was not sure, by its `figures`, and that
    nobody has corrected.
    """

    number: int
    start_ms: int
    end_ms: int
    speaker: Speaker
    text: str = field(repr=False)
    label: int | None = None
    is_unintelligible: bool = False
    is_uncertain: bool = False
    figures: Figures = NO_FIGURES
    participant_id: UUID | None = None

    @property
    def is_empty(self) -> bool:
        """Return whether the turn has nothing to show."""
        return not self.text and not self.is_unintelligible


@dataclass(frozen=True)
class Transcript:
    """Turns by number. `language` is the code of ISO 639 that most chunks reported, or None.

    Numbers are in order of start, except those of turns that a retry added, which follow the last number.
    """

    turns: tuple[Turn, ...]
    language: str | None = None

    @property
    def in_order(self) -> tuple[Turn, ...]:
        """Return the turns that can be shown, in order of start."""
        shown = (turn for turn in self.turns if not turn.is_empty)
        return tuple(sorted(shown, key=lambda turn: turn.start_ms))

    def turn(self, number: int) -> Turn:
        """Return the turn with that number. Raises NotFound (turn_unknown)."""
        if not 0 <= number < len(self.turns):
            raise NotFound("turn_unknown")
        return self.turns[number]


@dataclass(frozen=True)
class SearchFilter:
    """A filter for searches; None means everywhere. Sensitive consultations are left out unless they are requested."""

    patient_id: UUID | None = None
    consultation_id: UUID | None = None
    recording_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    with_sensitive: bool = False
