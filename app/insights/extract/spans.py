"""Cuts the text of a turn into spans: its sentences, and the clauses of long sentences. Pure."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from app.insights.extract.vocabulary import CONDITIONS, LEANING, NEGATIONS, word_key

WORD: Final = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_LONG_SENTENCE: Final = 9
_SHORTEST_PART: Final = 4

_SCOPE: Final = 8
_GOVERNORS: Final = NEGATIONS | CONDITIONS

_ABBREVIATION: Final = re.compile(
    r"\b(?:dr|dra|mr|mrs|ms|st|vs|sr|sra|approx|[ap]|[ap]\.m)\s?$", re.IGNORECASE
)
_END: Final = re.compile(r"[.?!;\u2026]+(?=\s|$)")
_NUMBER_AFTER: Final = re.compile(
    r"\s(?:\d|(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|cero|uno|dos|tres|cuatro|cinco|seis|siete"
    r"|ocho|nueve)\b)",
    re.IGNORECASE,
)
_SUBJECT: Final = (
    r"(?:i|you|we|he|she|it|they|there|that|this|your|my|the|i'm|i've|i'd|i'll|we're|we've|we'll|you're|you've|you'll"
    r"|it's|there's|that's|let's)"
)
_JOIN: Final = re.compile(
    r",?\s+(?=(?:how(?:'s| is| are| about| long| often| many)|do you|are you|have you|did you|is there|are there"
    rf"|okay|alright|all right|but|because|so|and then|and also|and how|and do|and did|and are|and is|and have"
    rf"|and any|and on|and what|and {_SUBJECT}"
    r"|pero|porque|entonces|así que|y (?:también|luego|después|además|no|me|le|se|el|la|los|las"
    r"|mi|su|tengo|tiene|estoy|está|voy|va))(?![\w'\u2019]))",
    re.IGNORECASE,
)
_BARE: Final = re.compile(
    r",?\s+(?=(?:what(?:'s| is| are)|any|there is|there are|there's|i'm(?! sorry)|i've|i'd|i'll|we'll|we're|we've"
    r"|you're|you've|it's|let's|let me"
    r"|i (?:have|had|think|feel|felt|am|was|want|wan|would|do|did|see|saw|take|took|know)"
    r"|we (?:will|can|should|are|have|did|do)|you (?:have|are|do|can|should|will|need)|your \w+ (?:is|are|looks?)"
    r"|cómo|cuánto|cuándo|tiene|ha tenido|le voy|vamos a|me duele|no tengo|tengo|estoy)"
    r"(?![\w'\u2019]))",
    re.IGNORECASE,
)


class WordKeys:
    """The normalized forms of words. It normalizes each distinct word once."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}

    def __getitem__(self, word: str) -> str:
        key = self._keys.get(word)
        if key is None:
            key = self._keys[word] = word_key(word)
        return key


def split_text(text: str, keys: WordKeys) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each span, in characters of the text.

    A sentence of more than nine words is cut before a conjunction with a clause of its own, and before some subjects.
    It is not cut after a word that leans on the next one, nor before a subject if a negation or a condition is near.
    """
    start = 0
    for match in _END.finditer(text):
        if match[0] == "." and _is_inner_point(text, match.start(), match.end()):
            continue
        yield from _parts(text, start, match.end(), keys)
        start = match.end()
    if text[start:].strip():
        yield from _parts(text, start, len(text), keys)


def _is_inner_point(text: str, start: int, end: int) -> bool:
    """Return whether the point belongs to an abbreviation or stands between two numbers, as in `seven . four`."""
    if start and not text[start - 1].isspace() and _ABBREVIATION.search(text, max(0, start - 8), start):
        return end < len(text)
    before = text[max(0, start - 8) : start].split()
    return bool(
        before
        and text[start - 1].isspace()
        and _NUMBER_AFTER.match(f" {before[-1]}")
        and _NUMBER_AFTER.match(text, end)
    )


def _parts(text: str, start: int, end: int, keys: WordKeys) -> Iterator[tuple[int, int]]:
    """Yield the parts of a sentence: the sentence itself if it is short."""
    matches = list(WORD.finditer(text, start, end))
    if len(matches) <= _LONG_SENTENCE:
        yield start, end
        return
    starts = [match.start() for match in matches]
    joins = {match.end() for match in _JOIN.finditer(text, start, end)}
    bare = {match.end() for match in _BARE.finditer(text, start, end)}
    at, used = start, 0
    for cut in sorted(joins | bare):
        until = bisect_left(starts, cut)
        if min(until - used, len(starts) - until) < _SHORTEST_PART:
            continue
        left = [matches[index][0] for index in range(max(used, until - _SCOPE), until)]
        if keys[left[-1].lower()] in LEANING or (cut not in joins and _governs(left, keys)):
            continue
        yield at, cut
        at, used = cut, until
    yield at, end


def _governs(words: Sequence[str], keys: WordKeys) -> bool:
    """Return whether the words may change the meaning of the words after them: a negation or a condition does."""
    return any(keys[word.lower()] in _GOVERNORS for word in words)
