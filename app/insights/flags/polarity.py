"""Finds which words of a text are denied. Pure.

A negation denies the words after it, up to the end of its sentence or a word such as `but`. A question denies or
affirms nothing by itself: its words get the polarity of the answer. The words after `any` or `if` are neither denied
nor affirmed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest
from typing import Final

from app.insights.flags import polarity_words as known
from app.insights.questions import asks_question
from app.insights.reading import Passage, Token

_MOST_WORDS_SPOKEN: Final = 10
_MOST_WORDS_WRITTEN: Final = 30
_MOST_WORDS_OPEN: Final = 14
_MOST_WORDS_BACK: Final = 6
_MOST_WORDS_ASKED: Final = 20
_MOST_WORDS_BETWEEN: Final = 12
_MOST_WORDS_BEFORE_DENIED: Final = 4
_MOST_WORDS_TO_FURTHER: Final = 2
_MOST_WORDS_TO_CONDITION: Final = 8
_FIRST_WORDS: Final = 6


class Polarity(Enum):
    """Whether a speaker affirms or denies a word. DENIED_CLEARLY is the polarity of a word directly after a negation,
    or of a word of a question that was answered by no. OPEN is neither.
    """

    AFFIRMED = 1
    DENIED = 2
    DENIED_CLEARLY = 3
    OPEN = 4

    @property
    def is_denied(self) -> bool:
        """Return whether the word is denied."""
        return self in (Polarity.DENIED, Polarity.DENIED_CLEARLY)


@dataclass(frozen=True)
class Exchange:
    """A quote and the text that answers it, or None if it asks no question or nobody answers."""

    quote: Passage
    answer: Passage | None = None


def mark_line(line: Passage) -> list[bool | None]:
    """Return for each token of a line whether the line denies it, or None if a qualified negation concerns it."""
    marks: list[bool | None] = [*_mark(line, _MOST_WORDS_WRITTEN, is_spoken=False)]
    for place, token in enumerate(line.tokens):
        if token.raw in known.NEGATIONS and _is_qualified(line.tokens, place):
            for at in _scope(line, place, _MOST_WORDS_WRITTEN, is_spoken=False):
                marks[at] = marks[at] or None
    return marks


def denies_statement(line: Passage) -> bool:
    """Return whether a line denies a whole statement by a word such as `not`."""
    return any(
        token.raw in known.VERB_NEGATIONS and not _is_qualified(line.tokens, place)
        for place, token in enumerate(line.tokens)
    )


def mark_exchange(exchange: Exchange) -> list[Polarity]:
    """Return the polarity of each token of the quote.

    If the quote asks a question, the words of the question have the polarity of the answer, unless the answer repeats
    them.
    """
    quote = exchange.quote
    denied = _mark(quote, _MOST_WORDS_SPOKEN, is_spoken=True)
    is_open = _find_open_words(quote, denied)
    asked = _find_question(quote) if asks_question(quote.text) else range(0)
    answer = read_answer(exchange.answer) if exchange.answer else None
    repeated = {token.stem for token in exchange.answer.tokens} if exchange.answer else frozenset()
    marks = []
    for at, token in enumerate(quote.tokens):
        is_denied: bool | None = None if at in is_open else denied[at]
        if at in asked and token.stem in repeated and not answer:
            is_denied = None
        elif at in asked and not is_denied:
            is_denied = answer
        marks.append(_polarity(is_denied, is_clear=at in asked or _is_near_negation(quote.tokens, at)))
    return marks


def read_answer(answer: Passage) -> bool | None:
    """Return True if the answer is no, False if it is another answer, and None if it has no words."""
    words = [token.raw for token in answer.tokens[:_FIRST_WORDS]]
    if "but" in words:
        words = words[: words.index("but")]
    for word, following in zip_longest(words, words[1:]):
        if word in known.NO:
            return True
        if word in known.YES:
            return following in known.NO
    if not known.NEGATIONS.isdisjoint(words):
        return True
    return False if answer.tokens else None


def _polarity(is_denied: bool | None, *, is_clear: bool) -> Polarity:
    if is_denied is None:
        return Polarity.OPEN
    if not is_denied:
        return Polarity.AFFIRMED
    return Polarity.DENIED_CLEARLY if is_clear else Polarity.DENIED


def _is_near_negation(tokens: Sequence[Token], at: int) -> bool:
    before = tokens[max(0, at - _MOST_WORDS_BEFORE_DENIED) : at]
    return any(token.raw in known.NEGATIONS for token in before)


def _find_open_words(quote: Passage, denied: Sequence[bool]) -> set[int]:
    return {
        at
        for place, token in enumerate(quote.tokens)
        if _is_open(quote.tokens, place) and not denied[place]
        for at in _scope(quote, place, _MOST_WORDS_OPEN, is_spoken=True)
        if not denied[at]
    }


def _is_open(tokens: Sequence[Token], place: int) -> bool:
    """Return whether the words after this one are left open, as after `any`, `if` and `looking for`."""
    is_looked_for = tokens[place].raw == "for" and place > 0 and tokens[place - 1].raw in known.LOOKS
    return tokens[place].raw in known.OPEN or is_looked_for


def _find_question(quote: Passage) -> range:
    """Return the positions of the last question of a quote. The range is empty if the quote only asks for consent, as
    in `okay?`.
    """
    mark = quote.text.rfind("?")
    asked = [at for at, token in enumerate(quote.tokens) if mark < 0 or token.end <= mark]
    if not asked or (mark >= 0 and quote.tokens[asked[-1]].raw in known.CONSENT):
        return range(0)
    first = _find_first_sentence(quote, asked)
    if mark < 0 or asked[-1] - first > _MOST_WORDS_ASKED:
        first = _find_first_words(quote.tokens, asked)
    return range(first, asked[-1] + 1)


def _find_first_sentence(quote: Passage, asked: Sequence[int]) -> int:
    """Return the position at which the last sentence begins, or the first of several questions in a row, as in `any
    pain? fever?`.
    """
    first = asked[-1]
    for at in reversed(asked):
        if quote.tokens[at].sentence != quote.tokens[first].sentence:
            gap = quote.text[quote.tokens[at].end : quote.tokens[first].start]
            if gap.strip() != "?" or asked[-1] - at > _MOST_WORDS_ASKED:
                break
        first = at
    return first


def _find_first_words(tokens: Sequence[Token], asked: Sequence[int]) -> int:
    """Return the position at which the last question begins in a text without punctuation."""
    recent = asked[-_MOST_WORDS_ASKED:]
    begins = [at for at in recent if _begins_question(tokens, at)] or [
        at for at in recent if tokens[at].raw in known.ANY
    ]
    first = begins[-1] if begins else asked[-1] + 1
    for at in reversed(begins):
        if first - at <= _MOST_WORDS_BETWEEN:
            first = at
    return first


def _begins_question(tokens: Sequence[Token], at: int) -> bool:
    raw = tokens[at].raw
    before = tokens[at - 1].raw if at else ""
    is_inverted = _raw(tokens, at + 1) in known.ASKED and before not in known.SUBJECTS
    return raw in known.ASKS or (raw in known.AUXILIARIES and is_inverted)


def _mark(passage: Passage, most: int, *, is_spoken: bool) -> list[bool]:
    tokens = passage.tokens
    marks = [False] * len(tokens)
    for place, token in enumerate(tokens):
        if token.raw not in known.NEGATIONS:
            continue
        is_degree = _raw(tokens, place + 1) in known.DEGREES
        if is_degree or (_is_answer(tokens, place) if is_spoken else _is_qualified(tokens, place)):
            continue
        scope = _scope(passage, place, most, is_spoken=is_spoken)
        for at in scope:
            marks[at] = True
        if _denies_words_before(tokens, place, scope, is_spoken=is_spoken):
            for at in range(max(0, place - _MOST_WORDS_BACK), place):
                marks[at] = marks[at] or tokens[at].sentence == token.sentence
    return marks


def _is_qualified(tokens: Sequence[Token], place: int) -> bool:
    """Return whether the negation denies no more than a degree, an alternative, a condition or further things, as in
    `not only`, `with or without`, `if it does not improve` and `no other pain`.
    """
    if _raw(tokens, place + 1) in known.DEGREES:
        return True
    following = {token.raw for token in tokens[place + 1 : place + 1 + _MOST_WORDS_TO_FURTHER]}
    before = tokens[max(0, place - _MOST_WORDS_TO_CONDITION) : place]
    is_condition = any(
        token.raw in known.CONDITIONS and token.sentence == tokens[place].sentence for token in before
    )
    is_alternative = place > 0 and tokens[place - 1].raw in known.OR
    return is_condition or is_alternative or not known.FURTHER.isdisjoint(following)


def _denies_words_before(tokens: Sequence[Token], place: int, scope: range, *, is_spoken: bool) -> bool:
    """Return whether the negation denies the words before it, as in `the test was negative` and `it is not seen`."""
    denied = [tokens[at].raw for at in scope if tokens[at].is_content]
    if tokens[place].raw in known.NEGATIONS_AFTER:
        return not denied
    return not is_spoken and tokens[place].raw in known.VERB_NEGATIONS and known.SHOWS.issuperset(denied)


def _is_answer(tokens: Sequence[Token], place: int) -> bool:
    """Return whether `no` begins an answer, so that it does not deny the words after it: `no , i am fine`."""
    is_first = place == 0 or tokens[place - 1].sentence != tokens[place].sentence
    return is_first and tokens[place].raw == "no" and _raw(tokens, place + 1) in known.AFTER_ANSWER


def _scope(passage: Passage, place: int, most: int, *, is_spoken: bool) -> range:
    """Return the positions of the words that a negation at the position `place` denies."""
    tokens = passage.tokens
    stop, is_filled = place + 1, tokens[place].raw in known.WHOLE
    while stop < min(len(tokens), place + 1 + most):
        if tokens[stop].sentence != tokens[place].sentence or _ends_clause(passage, stop):
            break
        if is_spoken and is_filled and (_begins_sentence(tokens, stop) or _is_subject(tokens, stop)):
            break
        if not is_spoken and _begins_clause(passage, stop):
            break
        is_filled = is_filled or (tokens[stop].is_content and tokens[stop].raw not in known.THINKS)
        stop += 1
    return range(place + 1, stop)


def _ends_clause(passage: Passage, at: int) -> bool:
    raw = passage.tokens[at].raw
    is_link = raw in known.AND and _raw(passage.tokens, at + 1) in known.CLAUSE_STARTS
    return raw in known.CLAUSE_ENDS or is_link


def _begins_sentence(tokens: Sequence[Token], at: int) -> bool:
    return tokens[at].raw in known.SENTENCE_STARTS and tokens[at - 1].raw not in known.BEFORE_OBJECT


def _is_subject(tokens: Sequence[Token], at: int) -> bool:
    """Return whether a verb follows the word, as in the dictated findings `no rash skin is moist`."""
    return _raw(tokens, at + 1) in known.VERBS


def _begins_clause(passage: Passage, at: int) -> bool:
    gap = passage.text[passage.tokens[at - 1].end : passage.tokens[at].start]
    return gap.strip() == "," and passage.tokens[at].raw in known.CLAUSE_STARTS


def _raw(tokens: Sequence[Token], at: int) -> str:
    return tokens[at].raw if at < len(tokens) else ""
