"""Corrections with which a doctor changes the text or the speaker of a turn. A correction does not delete the
transcribed text. Pure.

A correction changes the text or the speaker of a turn, never its times. A stored correction never changes; a later
correction of the same turn replaces its effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app.errors import Conflict, InvalidInput
from app.integrations.speech.answers import NO_FIGURES
from app.texts.unsafe_characters import has_unsafe_characters, remove_unsafe_characters
from app.transcripts.model import MAX_TURN_CHARACTERS, Speaker, Transcript, Turn


@dataclass(frozen=True)
class Rewording:
    """A correction that replaces the text of a turn. `version` counts the text corrections of one turn from 1."""

    turn_number: int
    version: int
    text: str = field(repr=False)

    def applied(self, turn: Turn) -> Turn:
        """Return the turn with the corrected text, or the unchanged turn if this correction is of a different turn.
        The text of a corrected turn counts as certain, and has no confidence values of the speech service.
        """
        if turn.number != self.turn_number:
            return turn
        return replace(turn, text=self.text, is_unintelligible=False, is_uncertain=False, figures=NO_FIGURES)


@dataclass(frozen=True)
class Attribution:
    """A correction that names the speaker of a voice. `turn_number` is the number of one turn that this voice
    speaks. If `label` is None, the correction names the speaker of that turn alone.
    """

    turn_number: int
    label: int | None
    speaker: Speaker

    def is_of(self, turn: Turn) -> bool:
        """Return whether this attribution names the speaker of the given turn."""
        return turn.number == self.turn_number if self.label is None else turn.label == self.label

    def applied(self, turn: Turn) -> Turn:
        """Return the turn with the named speaker, or the unchanged turn if this attribution does not apply to it.
        The correction names the speaker's role, but not which participant the speaker is.
        """
        return replace(turn, speaker=self.speaker, participant_id=None) if self.is_of(turn) else turn


Correction = Rewording | Attribution


def apply_corrections(original: Transcript, corrections: Sequence[Correction]) -> Transcript:
    """Return the transcript with the corrections applied in order.

    Raises NotFound (turn_unknown), and Conflict (correction_order) if a version of a correction is missing or out
    of order.
    """
    turns = list(original.turns)
    versions: dict[int, int] = {}
    for correction in corrections:
        turn = original.turn(correction.turn_number)
        if isinstance(correction, Attribution):
            turns = [correction.applied(each) for each in turns]
            continue
        if correction.version != versions.get(turn.number, 0) + 1:
            raise Conflict("correction_order")
        versions[turn.number] = correction.version
        turns[turn.number] = correction.applied(turns[turn.number])
    return replace(original, turns=tuple(turns))


def make_rewording(
    original: Transcript,
    corrections: Sequence[Correction],
    turn_number: int,
    text: str,
    *,
    expected_text: str | None = None,
) -> Rewording | None:
    """Check a corrected text, and return the correction that must be appended to the earlier corrections.

    Returns None if the turn already has the corrected text, whatever text the caller expected. Raises the errors of
    `check_text`, NotFound (turn_unknown), and Conflict (turn_changed) if the turn does not have the expected text.
    """
    now = apply_corrections(original, corrections).turn(turn_number).text
    words = check_text(text)
    if words == now:
        return None
    if expected_text is not None and now not in (expected_text, remove_unsafe_characters(expected_text)):
        raise Conflict("turn_changed")
    before = (each for each in corrections if isinstance(each, Rewording))
    return Rewording(turn_number, 1 + sum(each.turn_number == turn_number for each in before), words)


def make_attribution(
    original: Transcript,
    corrections: Sequence[Correction],
    turn_number: int,
    speaker: Speaker,
    *,
    only_this_turn: bool,
) -> Attribution | None:
    """Return the attribution (which names the speaker of a turn, or of all turns of the same voice) that must be
    appended to the earlier corrections.

    Returns None if all turns of the attribution already have the named speaker. Raises NotFound (turn_unknown).
    """
    label = None if only_this_turn else original.turn(turn_number).label
    made = Attribution(turn_number, label, speaker)
    now = apply_corrections(original, corrections)
    is_unchanged = all(turn.speaker is speaker for turn in now.turns if made.is_of(turn))
    return None if is_unchanged else made


def check_text(text: str) -> str:
    """Return the corrected text in NFC, with single spaces between words.

    Raises InvalidInput (correction_too_long, correction_characters, correction_empty).
    """
    if has_unsafe_characters(text):
        raise InvalidInput("correction_characters")
    words = remove_unsafe_characters(text)
    if max(len(text), len(words)) > MAX_TURN_CHARACTERS:
        raise InvalidInput("correction_too_long", maximum=MAX_TURN_CHARACTERS)
    if not words:
        raise InvalidInput("correction_empty")
    return words
