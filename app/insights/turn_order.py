"""Finds turns by their number, and their neighbours in order of start. Pure.

The number of a turn is not its place: turns that a retry of the transcription adds have the last numbers.
"""

from collections.abc import Iterable

from app.insights.questions import find_answer
from app.transcripts.model import Turn


class TurnOrder:
    """The turns that are shown to a reader, in order of start."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        shown = (turn for turn in turns if not turn.is_empty)
        self.turns = sorted(shown, key=lambda turn: (turn.start_ms, turn.number))
        self._places = {turn.number: place for place, turn in enumerate(self.turns)}

    def find(self, number: int) -> Turn | None:
        """Return the turn with the number, or None if no shown turn has it."""
        place = self._places.get(number)
        return None if place is None else self.turns[place]

    def find_before(self, number: int) -> Turn | None:
        """Return the turn before the one with the number, or None if there is none."""
        place = self._places.get(number, 0)
        return self.turns[place - 1] if place else None

    def find_answer(self, number: int) -> Turn | None:
        """Return the turn that answers the one with the number (`questions.find_answer`)."""
        place = self._places.get(number)
        return None if place is None else find_answer(self.turns, place)
