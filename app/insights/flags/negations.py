"""Compares what a line denies with what its quotes deny. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from app.insights.flags import polarity_words as known
from app.insights.flags.polarity import Exchange, Polarity, denies_statement, mark_exchange, mark_line
from app.insights.reading import Passage, Token
from app.transcripts.numbers import vocabulary as numbers

_LEAST_DENIED: Final = 0.9
_SHARE_DENIED: Final = 0.8
_LEAST_AFFIRMED: Final = 1.2
_SHARE_AFFIRMED: Final = 0.3
_LONGEST_LABEL: Final = 40
_LEAD: Final = 0.3
_REACH: Final = 3.0
_MOST_WORDS_AWAY: Final = 8
_UNITS: Final = frozenset(numbers.UNITS.values())
_CLAUSE_MARKS: Final = frozenset(",.;:(")
_CLAUSE_WORDS: Final = frozenset(
    [
        "but",
        "however",
        "and",
        "which",
        "although",
        "because",
        "since",
        "as",
        "that",
        "y",
        "pero",
        "que",
        "aunque",
        "porque",
    ]
)


@dataclass(frozen=True)
class _Compared:
    """A word of a line, and how well the places where the quotes deny it and affirm it fit, or 0 if there is none."""

    key: str
    clause: int
    is_denied: bool
    denied: float
    affirmed: float
    is_denied_clearly: bool
    is_vague: bool

    @property
    def is_said(self) -> bool:
        return self.denied > 0 or self.affirmed > 0


def differs_in_negation(line: Passage, exchanges: Sequence[Exchange]) -> bool:
    """Return whether the line denies words that the quotes affirm, or affirms words that they deny."""
    marks = [mark_exchange(exchange) for exchange in exchanges]
    compared = list(_compare(line, exchanges, marks))
    if _denies_affirmed([word for word in compared if word.is_denied]):
        return True
    is_nothing_denied = not any(mark.is_denied for own in marks for mark in own)
    if is_nothing_denied and denies_statement(line):
        return True
    if _has(line, known.NO_STATEMENT):
        return False
    if _lacks_negation(line):
        return True
    denied = {word.key for word in compared if word.is_denied}
    affirmed = [word for word in compared if word.key not in denied]
    clauses = {word.clause for word in affirmed}
    return any(_affirms_denied([each for each in affirmed if each.clause == number]) for number in clauses)


def _lacks_negation(line: Passage) -> bool:
    """Return whether the line affirms words that only a denial contains, as in `reports any pain` and in `wheezes or
    rhonchi`. A line without a negation joins findings by `and`.
    """
    marks, end = mark_line(line), line.text.find(":")
    return any(
        marks[at] is False
        and token.start > end
        and (_is_left_open(line.tokens, at) or _is_alternative(line.tokens, at))
        for at, token in enumerate(line.tokens)
    )


def _is_left_open(tokens: Sequence[Token], at: int) -> bool:
    is_joined = at > 0 and tokens[at - 1].raw in known.AND
    is_kind = any(token.raw in known.KINDS for token in tokens[at + 1 : at + 2])
    return tokens[at].raw in known.LEFT_OPEN and not (is_joined or is_kind or _allows_open(tokens[:at]))


def _is_alternative(tokens: Sequence[Token], at: int) -> bool:
    """Return whether the word joins two findings as alternatives."""
    if tokens[at].raw != "or" or not 0 < at < len(tokens) - 1 or _allows_open(tokens):
        return False
    sides = (tokens[at - 1], tokens[at + 1])
    return all(token.is_content or token.raw in known.LEFT_OPEN | known.FURTHER for token in sides)


def _allows_open(before: Sequence[Token]) -> bool:
    return any(token.raw in known.ALLOWS_OPEN for token in before)


def _denies_affirmed(words: Sequence[_Compared]) -> bool:
    words = _choose(words)
    against = sum(word.affirmed for word in words if word.affirmed > word.denied)
    total = against + sum(word.denied for word in words if word.denied >= word.affirmed)
    return against >= _LEAST_DENIED and against > total * _SHARE_DENIED


def _affirms_denied(words: Sequence[_Compared]) -> bool:
    words = _choose(words)
    against = sum(word.denied for word in words if word.denied > word.affirmed + _LEAD)
    total = against + sum(word.affirmed for word in words if word.affirmed >= word.denied)
    if against >= _LEAST_AFFIRMED and against > total * _SHARE_AFFIRMED:
        return True
    return any(word.is_denied_clearly and not word.affirmed and not word.is_vague for word in words)


def _choose(words: Sequence[_Compared]) -> list[_Compared]:
    """Return the words that the quotes have, without vague words if there are others."""
    said = [word for word in words if word.is_said]
    return [word for word in said if not word.is_vague] or said


def _compare(
    line: Passage, exchanges: Sequence[Exchange], marks: Sequence[Sequence[Polarity]]
) -> Iterator[_Compared]:
    is_denied, clauses = mark_line(line), _number_clauses(line)
    label_end = _find_label_end(line)
    places = {_key(token): at for at, token in enumerate(line.tokens) if _counts(token)}
    for at, token in enumerate(line.tokens):
        is_own_denied = is_denied[at]
        if is_own_denied is None or not _counts(token) or token.start < label_end:
            continue
        denied = affirmed = 0.0
        is_clear = False
        for exchange, own in zip(exchanges, marks, strict=True):
            for place, each in enumerate(exchange.quote.tokens):
                if own[place] is Polarity.OPEN or _key(each) != _key(token):
                    continue
                fit = _fit(places, at, exchange.quote, place)
                if own[place].is_denied:
                    denied = max(denied, fit)
                    is_clear = is_clear or own[place] is Polarity.DENIED_CLEARLY
                else:
                    affirmed = max(affirmed, fit)
        yield _Compared(_key(token), clauses[at], is_own_denied, denied, affirmed, is_clear, _is_vague(token))


def _fit(places: dict[str, int], at: int, quote: Passage, place: int) -> float:
    """Return 1 for the word alone, and more for each other word of the line near it in the line and in the quote."""
    fit = 1.0
    for near in range(max(0, place - _MOST_WORDS_AWAY), min(len(quote.tokens), place + _MOST_WORDS_AWAY + 1)):
        own = places.get(_key(quote.tokens[near]), at)
        if near != place and own != at:
            fit += 1 / (1 + abs(near - place) / _REACH) / (1 + abs(own - at) / _REACH)
    return fit


def _find_label_end(line: Passage) -> int:
    """Return the offset at which the label of a line ends, as in `Neck: Supple.`, or 0 if it has none."""
    end = line.text.find(":")
    return end if 0 < end <= _LONGEST_LABEL and not line.text[end + 1 : end + 2].isdigit() else 0


def _number_clauses(line: Passage) -> list[int]:
    number, clauses, end = 0, [], 0
    for token in line.tokens:
        gap = line.text[end : token.start]
        number += token.raw in _CLAUSE_WORDS or not _CLAUSE_MARKS.isdisjoint(gap)
        clauses.append(number)
        end = token.end
    return clauses


def _has(line: Passage, words: frozenset[str]) -> bool:
    return any(token.raw in words for token in line.tokens)


def _key(token: Token) -> str:
    return token.word if token.is_number else token.stem


def _counts(token: Token) -> bool:
    return (token.is_content or token.is_number) and token.raw not in known.NEGATIONS


def _is_vague(token: Token) -> bool:
    return token.is_number or token.word in _UNITS or token.raw in known.VAGUE
