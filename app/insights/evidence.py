"""Verifies that the quotes of lines are in the turns that they cite. Pure.

A quote is compared word by word. Case, spaces, punctuation and fillers such as `uh` make no difference. A line with a
quote that is not in its turn is dropped, so that no reader sees a line without evidence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.insights.model import Citation, Line
from app.insights.quotes import locate_quote, split_words, without_fillers
from app.insights.turn_order import TurnOrder
from app.transcripts.model import Speaker, Turn

FEWEST_WORDS: Final = 3
"""The length limit of a quote that is not an answer."""


@dataclass(frozen=True)
class VerifiedLines:
    """The lines of which every quote is in its turn, in their order, and the number of lines that were dropped."""

    lines: tuple[Line, ...]
    dropped_count: int


def verify_lines(lines: Iterable[Line], turns: Iterable[Turn]) -> VerifiedLines:
    """Return the lines with evidence, and count the others. `turns` are the turns of the transcript.

    The quotes of a returned line are the words of the transcript, letter by letter.
    """
    evidence = Evidence(turns)
    verified, dropped_count = [], 0
    for line in lines:
        kept = evidence.verify(line)
        if kept is None:
            dropped_count += 1
        else:
            verified.append(kept)
    return VerifiedLines(tuple(verified), dropped_count)


def has_evidence(line: Line, turns: Sequence[Turn]) -> bool:
    """Return whether `Evidence.verify` keeps the line."""
    return Evidence(turns).verify(line) is not None


class Evidence:
    """Verifies lines about one transcript."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        self._order = TurnOrder(turns)

    def verify(self, line: Line) -> Line | None:
        """Return the line with its quotes as the transcript has them, or None if it lacks evidence.

        The line has a text and at least one citation, and every quote is in its turn and long enough: it has at least
        three words, of which fillers do not count. An answer may be shorter if the line also cites the question
        before it.
        """
        if not line.text.strip() or not line.citations:
            return None
        cited = {citation.turn_number for citation in line.citations}
        verified = [self._verify(citation, cited) for citation in line.citations]
        found = tuple(citation for citation in verified if citation is not None)
        return replace(line, citations=found) if len(found) == len(verified) else None

    def find_speaker(self, line: Line) -> Speaker:
        """Return the speaker of the cited turns, or UNKNOWN if the turns have several speakers or an unknown one. A
        line of an unknown speaker is attributed to nobody.
        """
        turns = [self._order.find(citation.turn_number) for citation in line.citations]
        speakers = {turn.speaker if turn else Speaker.UNKNOWN for turn in turns}
        return speakers.pop() if len(speakers) == 1 else Speaker.UNKNOWN

    def _verify(self, citation: Citation, cited: set[int]) -> Citation | None:
        turn = self._order.find(citation.turn_number)
        place = locate_quote(citation.quote, turn.text) if turn else None
        if turn is None or place is None:
            return None
        words = split_words(citation.quote)
        if len(without_fillers(words)) < FEWEST_WORDS and not self._is_answer(turn, cited):
            return None
        return Citation(turn.number, turn.text[place[0] : place[1]])

    def _is_answer(self, turn: Turn, cited: set[int]) -> bool:
        return any(self._order.find_answer(question) is turn for question in cited)


def find_speaker(line: Line, turns: Sequence[Turn]) -> Speaker:
    """Return the speaker of the cited turns (`Evidence.find_speaker`)."""
    return Evidence(turns).find_speaker(line)


def repeats_quote(line: Line) -> bool:
    """Return whether the line says word by word what one of its quotes says, or what all of them say in order, and no
    more.
    """
    words = _keys(line.text)
    quotes = [_keys(citation.quote) for citation in line.citations]
    return words in quotes or words == [word for quote in quotes for word in quote]


def _keys(text: str) -> list[str]:
    return [word.key for word in without_fillers(split_words(text))]
