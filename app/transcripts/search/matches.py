"""Matches decrypted transcripts against a query, ranks them, and cuts snippets. Pure.

The module searches the stored normalized words (`transcript_format.read_normalized_words`) as bytes. To find the
characters that a snippet highlights, the module normalizes the text of one turn again.
"""

import math
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

from app.transcripts.model import Speaker, Turn
from app.transcripts.search.normalization import normalize_text
from app.transcripts.search.query_terms import Query

SNIPPET_CHARACTERS: Final = 160

_MOST_HITS: Final = 16
_FAR_BYTES: Final = 4000
_SATURATION: Final = 1.2
_NEAR_BYTES: Final = 40
_BYTES_OF_A_WORD: Final = 6
_LEAD_CHARACTERS: Final = 40
_MOST_ACCENTS: Final = 4
_CUT: Final = "…"

Span = tuple[int, int]
Key = TypeVar("Key")


@dataclass(frozen=True)
class Match:
    """The result for a transcript that has every term of the query. `turn_number` is the turn in which the terms of
    the query are closest together. `distance` is the number of bytes of normalized words from the first to the last
    of the terms where they are closest together. `counts` contains how often the transcript has each term, and
    `size_bytes` is the length of its normalized words.
    """

    turn_number: int
    distance: int
    counts: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True)
class Snippet:
    """The snippet of a search hit: at most 160 characters of a turn, in parts. The texts of the parts in order are the
    text of the snippet.
    """

    turn_number: int
    start_ms: int
    end_ms: int
    speaker: Speaker
    parts: tuple["SnippetPart", ...] = field(repr=False)
    is_uncertain: bool = False
    participant_id: UUID | None = None

    @property
    def text(self) -> str:
        """Return the text of the snippet."""
        return "".join(part.text for part in self.parts)


@dataclass(frozen=True)
class SnippetPart:
    """A part of a snippet, which matches a term of the query or lies between two matches."""

    text: str = field(repr=False)
    is_match: bool


def match_transcript(normalized: bytes, query: Query) -> Match | None:
    """Return how the normalized words of a transcript match the query, or None if a term is missing."""
    counts = []
    for needle in query.needles:
        count = normalized.count(needle)
        if not count:
            return None
        counts.append(count)
    start, end = _find_closest(normalized, query.needles, counts)
    return Match(normalized.count(b"\n", 0, start), end - start, tuple(counts), len(normalized))


def find_turns(normalized: bytes, query: Query) -> tuple[int, ...]:
    """Return the numbers of the turns that have at least one term of the query, in order. If the transcript lacks
    one of the query's terms, return no turn numbers.
    """
    if any(needle not in normalized for needle in query.needles):
        return ()
    lines = normalized.split(b"\n")
    return tuple(
        number for number, line in enumerate(lines) if any(needle in line for needle in query.needles)
    )


def rank_matches(found: Sequence[tuple[Key, Match]]) -> list[tuple[Key, Match]]:
    """Rank the matches of one query, and return them with the best first. Matches with an equal score keep their
    order. A rare term counts more than a frequent term, and each hit of a term counts less than the hit before it.
    The score of a transcript up to doubles if the query's terms are close together in it.
    """
    if not found:
        return []
    matches = [each for _, each in found]
    size = sum(each.size_bytes for each in matches)
    totals = [sum(counts) for counts in zip(*(each.counts for each in matches), strict=True)]
    weights = [math.log1p(size / _BYTES_OF_A_WORD / total) for total in totals]
    scores = [_score(each, weights, size / len(matches)) for each in matches]
    order = sorted(range(len(found)), key=lambda place: -scores[place])
    return [found[place] for place in order]


def cut_snippet(turn: Turn, query: Query) -> Snippet:
    """Return a part of a turn's text: the place where the query's terms are closest together, or the turn's
    beginning if the turn has no term.
    """
    hits = _find_hits(turn.text, query)
    start, end = _choose_range(turn.text, _find_focus(hits))
    lead = _CUT if start > 0 else ""
    text = lead + turn.text[start:end] + (_CUT if end < len(turn.text) else "")
    shift = start - len(lead)
    ranges = _merge(
        (max(first, start) - shift, min(last, end) - shift)
        for found in hits
        for first, last in found
        if first < end and last > start
    )
    return Snippet(
        turn.number,
        turn.start_ms,
        turn.end_ms,
        turn.speaker,
        _divide(text, ranges),
        turn.is_uncertain,
        turn.participant_id,
    )


def _find_closest(normalized: bytes, needles: Sequence[bytes], counts: Sequence[int]) -> Span:
    """Return a short stretch of the normalized words that contains a hit of each term. To find a short stretch with
    all terms, the function looks around each of the first 16 hits of the rarest term.
    """
    rarest = needles[counts.index(min(counts))]
    others = [needle for needle in needles if needle is not rarest]
    at = normalized.find(rarest)
    if not others:
        return at, at
    best, looked_at = (at, at + _FAR_BYTES), 0
    while at >= 0 and looked_at < _MOST_HITS:
        start, end = _extend_stretch(normalized, (at, at + len(rarest)), others)
        if end - start < best[1] - best[0]:
            best = (start, end)
        at = normalized.find(rarest, at + len(rarest) - 1)
        looked_at += 1
    return best


def _extend_stretch(normalized: bytes, hit: Span, others: Sequence[bytes]) -> Span:
    """Return the stretch that contains the given hit of one term, and the nearest hit of every other term."""
    first, last = hit
    for needle in others:
        before = normalized.rfind(needle, max(0, hit[0] - _FAR_BYTES), hit[0] + 1)
        after = normalized.find(needle, hit[0], hit[1] + _FAR_BYTES)
        if before < 0 and after < 0:
            return hit[0], hit[0] + _FAR_BYTES
        is_before = after < 0 or (before >= 0 and hit[0] - before < after - hit[0])
        nearest = before if is_before else after
        first, last = min(first, nearest), max(last, nearest + len(needle))
    return first, last


def _find_hits(text: str, query: Query) -> list[list[Span]]:
    """Return where each term of the query is in the text, for the terms that the text contains."""
    read = normalize_text(text)
    found = read.words
    normalized = [word.normalized for word in found]
    hits = []
    for term in query.terms:
        last = len(term) - 1
        said = [
            (found[place].start, found[place + last].end)
            for place in range(len(found) - last)
            if normalized[place] == term[0] and tuple(normalized[place : place + last + 1]) == term
        ]
        named = [(word.start, word.end) for word in read.aliases if word.normalized == " ".join(term)]
        hits.append(sorted({*said, *named}))
    return [each for each in hits if each]


def _find_focus(hits: Sequence[Sequence[Span]]) -> Span:
    """Return a short stretch of a turn's text with a hit of each term. The function chooses the stretch by the rule
    of `_find_closest`.
    """
    rarest = min(hits, key=len, default=[])
    stretches = (
        (min(start for start, _ in near), max(end for _, end in near))
        for hit in rarest[:_MOST_HITS]
        for near in ([_find_nearest(found, hit) for found in hits],)
    )
    return min(stretches, key=lambda stretch: stretch[1] - stretch[0], default=(0, 0))


def _find_nearest(found: Sequence[Span], hit: Span) -> Span:
    place = bisect_left(found, hit)
    return min(found[max(0, place - 1) : place + 1], key=lambda each: abs(each[0] - hit[0]))


def _score(found: Match, weights: Sequence[float], usual_size: float) -> float:
    dampened = _SATURATION * (0.25 + 0.75 * found.size_bytes / usual_size)
    base = sum(
        weight * count / (count + dampened) for weight, count in zip(weights, found.counts, strict=True)
    )
    is_several = len(found.counts) > 1
    return base * (1 + (1 / (1 + found.distance / _NEAR_BYTES) if is_several else 0))


def _choose_range(text: str, focus: Span) -> Span:
    """Return the range of characters that a snippet shows: the stretch with the hits and some text before it, cut
    between words if possible.
    """
    if len(text) <= SNIPPET_CHARACTERS:
        return 0, len(text)
    room = SNIPPET_CHARACTERS - 2 * len(_CUT)
    start = min(max(0, focus[0] - _LEAD_CHARACTERS), len(text) - room)
    if start > 0:
        space = text.find(" ", start - 1, focus[0])
        start = _before_accents(text, space + 1 if space >= 0 else start)
    end = min(start + room, len(text))
    if end < len(text):
        space = text.rfind(" ", focus[1], end + 1)
        end = space if space > start else _before_accents(text, end)
    return start, end


def _before_accents(text: str, place: int) -> int:
    """Return the position, or, if it separates a letter from its accents, the position before that letter."""
    whole = place
    while 0 < whole < len(text) and unicodedata.combining(text[whole]) and place - whole < _MOST_ACCENTS:
        whole -= 1
    return whole


def _divide(text: str, matches: Iterable[Span]) -> tuple[SnippetPart, ...]:
    """Return the parts of a text. A letter and the accents after it belong to one part."""
    parts: list[SnippetPart] = []
    done = 0
    for start, end in matches:
        end = _after_accents(text, end)
        parts += (SnippetPart(text[done:start], is_match=False), SnippetPart(text[start:end], is_match=True))
        done = end
    parts.append(SnippetPart(text[done:], is_match=False))
    return tuple(part for part in parts if part.text)


def _after_accents(text: str, place: int) -> int:
    while place < len(text) and unicodedata.combining(text[place]):
        place += 1
    return place


def _merge(ranges: Iterable[Span]) -> tuple[Span, ...]:
    merged: list[Span] = []
    for start, end in sorted(ranges):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)
