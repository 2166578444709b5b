"""Compares a line with its quotes, and flags the differences that the doctor should check. Pure.

The checker compares words, and knows no model. It therefore also flags some true lines, and does not find every error.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from app.insights.evidence import repeats_quote
from app.insights.flags.context import differs_in_person, differs_in_time
from app.insights.flags.negations import differs_in_negation
from app.insights.flags.numbers import differs_in_number
from app.insights.flags.polarity import Exchange
from app.insights.flags.sides import differs_in_side
from app.insights.flags.words import has_unquoted_drug, is_weakly_supported
from app.insights.model import Citation, Flag, FlaggedLine, Line
from app.insights.orders import find_orders
from app.insights.questions import begins_with_answer
from app.insights.quotes import locate_quote
from app.insights.reading import Passage, read_passage
from app.insights.turn_order import TurnOrder
from app.transcripts.model import Turn

_FLAGS_OF_QUOTES: Final = (
    (Flag.NUMBER, differs_in_number),
    (Flag.SIDE, differs_in_side),
    (Flag.RARE_WORD, has_unquoted_drug),
    (Flag.PERSON, differs_in_person),
    (Flag.TIME, differs_in_time),
    (Flag.WEAK_SUPPORT, is_weakly_supported),
)


def flag_lines(lines: Iterable[Line], turns: Sequence[Turn]) -> tuple[FlaggedLine, ...]:
    """Return the lines with their flags. The quotes of the lines must be verified (`evidence.verify_lines`). `turns`
    are the turns of the transcript.
    """
    checker = Checker(turns)
    return tuple(FlaggedLine(line, checker.flag(line)) for line in lines)


class Checker:
    """Flags the lines about one transcript. It reads each quote once, and keeps its words as long as it lives."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._order = TurnOrder(turns)
        self._passages: dict[str, Passage] = {}
        self._orders = frozenset().union(*(_ordered_words(turn.text) for turn in self._order.turns))

    def flag(self, line: Line) -> frozenset[Flag]:
        """Return the flags of a line. A line that repeats its quotes word by word has only INSTRUCTION."""
        flags = {Flag.INSTRUCTION} if self._follows_order(line) else set()
        if repeats_quote(line):
            return frozenset(flags)
        text = read_passage(line.text)
        citations = sorted(line.citations, key=lambda citation: citation.turn_number)
        quotes = [self._read(citation.quote) for citation in citations]
        flags |= {flag for flag, differs in _FLAGS_OF_QUOTES if differs(text, quotes)}
        if differs_in_negation(text, self._pair(citations)):
            flags.add(Flag.NEGATION)
        return frozenset(flags)

    def _follows_order(self, line: Line) -> bool:
        """Return whether the line quotes an order to a writer, or has a content word of such an order that its quotes
        do not contain.
        """
        if not self._orders:
            return False
        quoted = {token.stem for citation in line.citations for token in self._read(citation.quote).tokens}
        own = {token.stem for token in read_passage(line.text).tokens if token.is_content}
        return bool((own & self._orders) - quoted) or any(
            self._quotes_order(citation) for citation in line.citations
        )

    def _quotes_order(self, citation: Citation) -> bool:
        turn = self._order.find(citation.turn_number)
        place = locate_quote(citation.quote, turn.text) if turn else None
        if turn is None or place is None:
            return False
        return any(start < place[1] and place[0] < end for start, end in find_orders(turn.text))

    def _read(self, quote: str) -> Passage:
        if quote not in self._passages:
            self._passages[quote] = read_passage(quote)
        return self._passages[quote]

    def _pair(self, citations: Sequence[Citation]) -> list[Exchange]:
        """Return the quotes with their answers. If a quote is an answer that is cited without its question, the
        question is returned, too.
        """
        cited = {citation.turn_number for citation in citations}
        exchanges = []
        for citation in citations:
            before = self._order.find_before(citation.turn_number)
            if before and before.number not in cited and begins_with_answer(citation.quote):
                answer = self._order.find_answer(before.number)
                if answer is not None:
                    exchanges.append(Exchange(self._read(before.text), self._read(citation.quote)))
            answer = self._order.find_answer(citation.turn_number)
            exchanges.append(
                Exchange(self._read(citation.quote), self._read(answer.text) if answer else None)
            )
        return exchanges


def _ordered_words(text: str) -> frozenset[str]:
    """Return the stems of the content words in orders to a writer."""
    orders = (read_passage(text[start:end]) for start, end in find_orders(text))
    return frozenset(token.stem for order in orders for token in order.tokens if token.is_content)
