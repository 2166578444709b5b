"""A doctor's corrections: what a turn says now and who speaks in it, over what was heard, which stays. Pure, no I/O.

A correction changes words or a speaker, never times, and none is ever taken back or changed: the next one is put on
top.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app.errors import Conflict, InvalidInput
from app.texts.plain import is_steering, plain
from app.transcripts.model import MAX_TURN_CHARACTERS, Speaker, Transcript, Turn


@dataclass(frozen=True)
class Rewording:
    """The words of a turn from then on; `version` counts the rewordings of that turn from 1."""

    turn_number: int
    version: int
    text: str = field(repr=False)


@dataclass(frozen=True)
class Attribution:
    """Who a voice is from then on, shown by one of its turns; that turn alone where `label` tells no voice."""

    turn_number: int
    label: int | None
    speaker: Speaker

    def is_of(self, turn: Turn) -> bool:
        """Whether it says who speaks in this turn."""
        return turn.number == self.turn_number if self.label is None else turn.label == self.label

    def applied(self, turn: Turn) -> Turn:
        """The turn with this speaker, if it is of the turn: then a role is known, and no participant."""
        return replace(turn, speaker=self.speaker, participant_id=None) if self.is_of(turn) else turn


Correction = Rewording | Attribution


def corrected(heard: Transcript, corrections: Sequence[Correction]) -> Transcript:
    """What was heard, with the corrections applied in their order.

    Raises NotFound (turn_unknown), and Conflict (correction_order) where a version is missing or out of place.
    """
    turns = list(heard.turns)
    versions: dict[int, int] = {}
    for correction in corrections:
        turn = heard.turn(correction.turn_number)
        if isinstance(correction, Attribution):
            turns = [correction.applied(each) for each in turns]
            continue
        if correction.version != versions.get(turn.number, 0) + 1:
            raise Conflict("correction_order")
        versions[turn.number] = correction.version
        turns[turn.number] = replace(
            turns[turn.number], text=correction.text, is_unintelligible=False, is_uncertain=False
        )
    return replace(heard, turns=tuple(turns))


def reworded(
    heard: Transcript, corrections: Sequence[Correction], turn_number: int, text: str
) -> Rewording | None:
    """The rewording that a doctor makes, checked and plain, to be appended to the corrections before.

    None if the turn has these words already. Raises what `checked` raises, and NotFound (turn_unknown).
    """
    now = corrected(heard, corrections).turn(turn_number).text
    words = checked(text)
    if words == now:
        return None
    before = (each for each in corrections if isinstance(each, Rewording))
    return Rewording(turn_number, 1 + sum(each.turn_number == turn_number for each in before), words)


def attributed(
    heard: Transcript,
    corrections: Sequence[Correction],
    turn_number: int,
    speaker: Speaker,
    *,
    only_this_turn: bool,
) -> Attribution | None:
    """The attribution that a doctor makes of a turn or of all that its voice says, to be appended to those before.

    None if the speaker has all these turns already. Raises NotFound (turn_unknown).
    """
    label = None if only_this_turn else heard.turn(turn_number).label
    made = Attribution(turn_number, label, speaker)
    now = corrected(heard, corrections)
    is_unchanged = all(turn.speaker is speaker for turn in now.turns if made.is_of(turn))
    return None if is_unchanged else made


def checked(text: str) -> str:
    """The words in NFC with single spaces.

    Raises InvalidInput (correction_too_long, correction_characters, correction_empty).
    """
    if is_steering(text):
        raise InvalidInput("correction_characters")
    words = plain(text)
    if max(len(text), len(words)) > MAX_TURN_CHARACTERS:
        raise InvalidInput("correction_too_long", longest=MAX_TURN_CHARACTERS)
    if not words:
        raise InvalidInput("correction_empty")
    return words
