"""Splits the turns of a consultation into clauses, from which the extractive writer chooses its quotes. Pure.

A clause is a contiguous part of one turn's text, so that each quote is verbatim. The text of a speech service may have
no punctuation; a long sentence is therefore also split before words that begin a clause.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.insights.extract.spans import WORD, WordKeys, split_text
from app.insights.extract.vocabulary import (
    AFFIRMATIONS,
    BACKCHANNELS,
    CLOSERS,
    ENGLISH,
    OPENERS,
    TAG_QUESTIONS,
    UNCERTAIN_OPENERS,
    VOCABULARIES,
)
from app.insights.orders import find_orders
from app.insights.vocabulary import FILLERS
from app.transcripts.model import Speaker, Turn

MIN_WORDS: Final = 3
"""The smallest number of words of a quote that is not an answer."""
_SIGN: Final = re.compile(r"\s?[%\u00b0]")
_QUESTION_START: Final = re.compile(
    r"(?:and |or |so |but |y |o )?(?:"
    r"(?:do|does|did|have|has|had|are|is|was|were|can|could|when|where|which|who)(?:n't| n't)? "
    r"(?:you|your|there|it|any|that|this|he|she|they|the|do|did|does|is|are|was|were)"
    r"|any|how (?:do|does|did|is|are|was|were|about|long|often|many|much|bad|old)|how's|what's|what (?:do|did|is|are"
    r"|kind|about|brings?|other|type|was|were)|why|tell me|cómo|qué|cuál|cuándo|cuánt[oa]s?|dónde"
    r"|tiene(?! que)|ha tenido|le duele|alguna?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class Clause:
    """A part of one turn. `start` and `end` count characters of the turn's text. `position` counts the clauses of the
    consultation from 0. `keys` are the normalized words, in order, and `spans` their places in `text`. `start_ms` and
    `end_ms` count from the recording's beginning and are interpolated within the turn.
    """

    position: int
    turn_number: int
    speaker: Speaker
    language: str
    start: int
    end: int
    text: str = field(repr=False)
    keys: tuple[str, ...] = field(repr=False)
    spans: tuple[tuple[int, int], ...] = field(repr=False)
    is_question: bool
    start_ms: int
    end_ms: int

    @property
    def word_count(self) -> int:
        """The number of words, without fillers. The `n't` of `do n't` is no word of its own."""
        return sum(key != "nt" and key not in FILLERS for key in self.keys)

    @property
    def is_backchannel(self) -> bool:
        """Return whether the clause only shows attention, such as `mm-hmm, okay`."""
        return all(key in BACKCHANNELS for key in self.keys)


def split_clauses(turns: Sequence[Turn], language: str | None = None) -> list[Clause]:
    """Return the clauses of the turns, in order. Unintelligible and empty turns have none, and
    speech that gives orders to a writer has none.

    `language` is the consultation's language, which counts for a turn that is too short to show its own. A language
    other than English and Spanish is read as English.
    """
    keys = WordKeys()
    found: list[Clause] = []
    before = language if language in VOCABULARIES else None
    for turn in turns:
        if not turn.text.strip():
            continue
        spoken = _turn_language(turn.text, keys) or before or ENGLISH.language
        before = language if language in VOCABULARIES else spoken
        found.extend(_turn_clauses(turn, spoken, keys, len(found)))
    return found


def _turn_language(text: str, keys: WordKeys) -> str | None:
    """Return the language whose markers are more frequent, or None if the text does not tell."""
    counts: Counter[str] = Counter()
    for word in WORD.findall(text.lower()):
        key = keys[word]
        counts.update(name for name, words in VOCABULARIES.items() if key in words.markers)
    ranked = counts.most_common(2)
    if not ranked or ranked[0][1] < 2 or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


_Word = tuple[int, int, str]
"""The start and end of a word in the text, and its normalized form."""


def _turn_clauses(turn: Turn, language: str, keys: WordKeys, position: int) -> Iterator[Clause]:
    text = turn.text
    orders = find_orders(text)
    for start, end in split_text(text, keys):
        if any(first < end and start < last for first, last in orders):
            continue
        words = [
            (match.start(), match.end(), keys[match[0].lower()]) for match in WORD.finditer(text, start, end)
        ]
        kept = _trim(words, text, is_reply=not text[:start].strip())
        if not kept:
            continue
        is_question = _is_question(text, kept[0][0], kept[-1][1], end, keys)
        if is_question and len(kept) < MIN_WORDS:
            kept = words[: words.index(kept[-1]) + 1]
        first, last = _quoted(text, kept, (start, end), is_question=is_question)
        yield Clause(
            position,
            turn.number,
            turn.speaker,
            language,
            first,
            last,
            text[first:last],
            tuple(key for _, _, key in kept if key),
            tuple((begin - first, stop - first) for begin, stop, key in kept if key),
            is_question,
            _time(turn, first),
            _time(turn, last),
        )
        position += 1


def _quoted(text: str, kept: Sequence[_Word], span: tuple[int, int], *, is_question: bool) -> tuple[int, int]:
    """Return where the words begin and end, with a percent or degree sign and with question marks."""
    first, last = kept[0][0], kept[-1][1]
    if sign := _SIGN.match(text, last, span[1]):
        last = sign.end()
    if first > span[0] and text[first - 1] == "\u00bf":
        first -= 1
    if is_question and (mark := text.find("?", last, span[1])) >= 0:
        last = mark + 1
    return first, last


def _time(turn: Turn, offset: int) -> int:
    return turn.start_ms + (turn.end_ms - turn.start_ms) * offset // max(1, len(turn.text))


def _is_question(text: str, first: int, last: int, end: int, keys: WordKeys) -> bool:
    if "?" not in text[last:end]:
        return bool(_QUESTION_START.match(text, first))
    tail = WORD.findall(text, last, end) or WORD.findall(text, first, last)[-1:]
    return keys[tail[-1].lower()] not in TAG_QUESTIONS or bool(_QUESTION_START.match(text, first))


def _trim(words: list[_Word], text: str, *, is_reply: bool) -> list[_Word]:
    """Return the words without openers and closers. If nothing else is said, return all words. A reply, at the
    beginning of a turn, keeps its `yeah`.
    """
    first, last = 0, len(words)
    while first < last and words[first][2] in OPENERS:
        is_last = first + 1 == last
        is_part = not is_last and words[first + 1][2] not in OPENERS and not _is_apart(text, words, first)
        if (is_reply and words[first][2] in AFFIRMATIONS) or (
            words[first][2] in UNCERTAIN_OPENERS and is_part
        ):
            break
        first += 1
    while last > first and words[last - 1][2] in CLOSERS:
        last -= 1
    return words[first:last] or words


def _is_apart(text: str, words: list[_Word], first: int) -> bool:
    return bool(text[words[first][1] : words[first + 1][0]].strip())
