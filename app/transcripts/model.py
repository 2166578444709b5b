"""Turns and transcripts. Pure, no I/O. Words exist here in memory alone and are in no repr."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.errors import NotFound
from app.integrations.speech_answers import NO_FIGURES, Figures

MAX_TURN_CHARACTERS: Final = 30_000
"""Twenty minutes, the longest piece that is sent, of the fastest speech."""


class Speaker(StrEnum):
    """Who speaks: by whose microphone it was, or by a doctor's word; else UNKNOWN. Guests are named by their role."""

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
    """What one speaker said at a stretch. `number` counts from 0; times are from the recording's beginning.

    `label` is one voice of the recording as a small integer, by which a doctor can rename it: a participant's, if the
    microphones were recorded apart; else a channel's, or one that a vendor told apart; None where nothing tells voices
    apart. `participant_id` is the participant into whose microphone it was said, None where that is not known and where
    a doctor said who speaks. Two guests of one role have different ones.
    An unintelligible turn has no words: somebody spoke, and nobody knows what was said. A turn without words that is
    not unintelligible is empty: its piece was transcribed again and had no speech. It keeps its number, not shown.
    An uncertain turn has words that its speech model was not sure of, by its `figures`, and that nobody corrected.
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
        """Whether there is nothing to show."""
        return not self.text and not self.is_unintelligible


@dataclass(frozen=True)
class Transcript:
    """Turns by number; `language` is a code of ISO 639 that most pieces were told to be in, or None.

    Numbers are in order of start, but for turns that a retry added: those have the numbers after the last.
    """

    turns: tuple[Turn, ...]
    language: str | None = None

    @property
    def in_order(self) -> tuple[Turn, ...]:
        """The turns that can be shown, in order of start."""
        shown = (turn for turn in self.turns if not turn.is_empty)
        return tuple(sorted(shown, key=lambda turn: turn.start_ms))

    def turn(self, number: int) -> Turn:
        """The turn of that number. Raises NotFound (turn_unknown)."""
        if not 0 <= number < len(self.turns):
            raise NotFound("turn_unknown")
        return self.turns[number]


@dataclass(frozen=True)
class SearchFilter:
    """Where is searched; None is everywhere. Sensitive kinds are left out unless they are asked for."""

    patient_id: UUID | None = None
    consultation_id: UUID | None = None
    recording_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    with_sensitive: bool = False
