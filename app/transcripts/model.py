"""The types of turns and transcripts. Pure. The `repr` of turns and transcripts does not contain their text, which
exists only in memory.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.errors import NotFound
from app.integrations.speech.answers import NO_FIGURES, Figures
from app.postgres.references import (
    ConsultationBy,
    PatientBy,
    TimeRange,
    consultation_parameters,
    patient_parameters,
)

MAX_TURN_CHARACTERS: Final = 30_000
"""The length limit of a turn: twenty minutes, the longest chunk, of the fastest speech."""


class Speaker(StrEnum):
    """The speaker of a turn is identified by the microphone, named by a doctor, or UNKNOWN. If a guest speaks, the
    speaker is the guest's role, such as INTERPRETER.
    """

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
    """Speech of one speaker without an interruption. `number` counts from 0. The start and end of a turn count from
    the recording's beginning.

    `label` is a small integer that identifies one voice of the recording, so that a doctor can name the voice's
    speaker. If each microphone was recorded separately, each voice of the recording is one participant. If the
    microphones were recorded together, a voice is a channel of the file, or a voice that the speech service
    distinguished. `label` is None if voices cannot be distinguished. `participant_id` is the participant whose
    microphone recorded the turn, or None if this participant is unknown or a doctor has named the speaker. If two
    guests have the same role, their turns have different participant ids.

    An unintelligible turn has no text, because the speech service could not understand it. A turn is empty if it
    has no text and is not unintelligible. A turn becomes empty if its chunk is transcribed again and turns out to
    contain no speech. An empty turn keeps its number, but is not shown to a reader. An uncertain turn has text that
    nobody has corrected, and for which the speech model reported a low confidence in `figures`.
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
        """Return whether the turn is empty, so that it is not shown to a reader."""
        return not self.text and not self.is_unintelligible

    @property
    def confidence(self) -> float | None:
        """Return the speech service's confidence in the text, from 0 to 1: the geometric mean of the probabilities of
        its tokens. Return None if the service gave none, or if the text is a doctor's.
        """
        logprob = self.figures.avg_logprob
        return None if logprob is None or not self.text else math.exp(min(0.0, logprob))


@dataclass(frozen=True)
class Transcript:
    """A transcript: its turns, ordered by number. `language` is the ISO 639 code of the language that the speech
    service detected in most chunks, or None if it detected none.

    The turns of a transcript are numbered in order of start. If a retry of the transcription adds turns, they get
    the next free numbers.
    """

    turns: tuple[Turn, ...]
    language: str | None = None

    @property
    def in_order(self) -> tuple[Turn, ...]:
        """Return the turns that are shown to a reader, in order of start."""
        shown = (turn for turn in self.turns if not turn.is_empty)
        return tuple(sorted(shown, key=lambda turn: turn.start_ms))

    @property
    def full_text(self) -> str:
        """Return the text of the shown turns, with one line for each turn that has text."""
        return "\n".join(turn.text for turn in self.in_order if turn.text)

    @property
    def word_count(self) -> int:
        """Return the number of words of the text. Words are separated by spaces, and have a letter or a digit."""
        return sum(any(map(str.isalnum, word)) for word in self.full_text.split())

    def turn(self, number: int) -> Turn:
        """Return the turn that has the given number. Raises NotFound (turn_unknown)."""
        if not 0 <= number < len(self.turns):
            raise NotFound("turn_unknown")
        return self.turns[number]


@dataclass(frozen=True)
class SearchFilter:
    """The filter of a search; a field that is None does not restrict the search. A search leaves out sensitive
    consultations unless the caller requests them.
    """

    patient: PatientBy | None = None
    consultation: ConsultationBy | None = None
    recording_id: UUID | None = None
    scheduled: TimeRange | None = None
    with_sensitive: bool = False

    @property
    def parameters(self) -> dict[str, object]:
        """Return the parameters of the statement that searches."""
        return {
            **patient_parameters(self.patient),
            **consultation_parameters(self.consultation),
            "recording_id": self.recording_id,
            "since": self.scheduled.since if self.scheduled else None,
            "until": self.scheduled.until if self.scheduled else None,
            "with_sensitive": self.with_sensitive,
        }
