"""Finds the topics of a consultation and divides it into chapters. Pure."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from app.insights.drafts import Chapter, Topic
from app.insights.extract.clauses import MIN_WORDS, Clause
from app.insights.extract.vocabulary import CLINICAL, LEANING, VOCABULARIES
from app.insights.model import Citation

MAX_TOPICS: Final = 8
MAX_CHAPTERS: Final = 12
_CHAPTER_MS: Final = 120_000
_CHAPTER_CLAUSES: Final = 12
_BLOCK: Final = 10
_MAX_PHRASE: Final = 3
_TITLE_WORDS: Final = 8
_MIN_COUNT: Final = 3


@dataclass(frozen=True)
class _Phrase:
    """Some neighbouring content words of a clause, their text, and the citation of the clause."""

    keys: tuple[str, ...] = field(repr=False)
    text: str = field(repr=False)
    citation: Citation


def find_topics(clauses: Sequence[Clause]) -> list[Topic]:
    """Return the topics, most important first, at most `MAX_TOPICS`."""
    return [Topic(phrase.text, phrase.citation) for phrase in _rank(clauses, Counter(), MAX_TOPICS)]


def find_chapters(clauses: Sequence[Clause]) -> list[Chapter]:
    """Return the chapters, in order. The first chapter begins with the first clause.

    A chapter begins at a turn where the words before and after it differ most. The title is the most important phrase
    of the chapter, or the chapter's first words if it has no such phrase. Each
    citation quotes a clause of at least `MIN_WORDS` words; a chapter without one is left out.
    """
    if not clauses:
        return []
    cuts = [0, *_cuts(clauses), len(clauses)]
    parts = [clauses[start:end] for start, end in pairwise(cuts)]
    spread = Counter(key for part in parts for key in {key for clause in part for key in clause.keys})
    found = (_chapter(part, spread if len(parts) > 1 else Counter()) for part in parts)
    return [chapter for chapter in found if chapter is not None]


def _chapter(part: Sequence[Clause], spread: Counter[str]) -> Chapter | None:
    ranked = _rank(part, spread, 1)
    first = part[0]
    if ranked:
        return Chapter(ranked[0].text, first.start_ms, ranked[0].citation)
    quoted = next((clause for clause in part if clause.word_count >= MIN_WORDS), None)
    if quoted is None:
        return None
    title = quoted.text[: quoted.spans[:_TITLE_WORDS][-1][1]]
    return Chapter(title, first.start_ms, _cite(quoted))


def _cite(clause: Clause) -> Citation:
    return Citation(clause.turn_number, clause.text)


def _cuts(clauses: Sequence[Clause]) -> list[int]:
    """Return the positions in `clauses` at which a chapter begins, without the first."""
    minutes = (clauses[-1].end_ms - clauses[0].start_ms) // _CHAPTER_MS
    most = min(MAX_CHAPTERS, minutes, len(clauses) // _CHAPTER_CLAUSES) - 1
    if most < 1:
        return []
    words = [_content(clause) for clause in clauses]
    places = [
        place
        for place in range(_BLOCK // 2, len(clauses) - _BLOCK // 2)
        if clauses[place].turn_number != clauses[place - 1].turn_number
    ]
    likeness = {
        place: _cosine(_sum(words[max(0, place - _BLOCK) : place]), _sum(words[place : place + _BLOCK]))
        for place in places
    }
    found: list[int] = []
    apart = max(_CHAPTER_CLAUSES // 2, len(clauses) // (3 * (most + 1)))
    for place in sorted(places, key=lambda place: (likeness[place], place)):
        if all(abs(place - other) >= apart for other in (0, *found, len(clauses))):
            found.append(place)
        if len(found) == most:
            break
    return sorted(found)


def _content(clause: Clause) -> Counter[str]:
    words = VOCABULARIES[clause.language]
    return Counter(
        key for key in clause.keys if key not in words.conversation and key not in words.note_words
    )


def _sum(counts: Sequence[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


def _cosine(one: Counter[str], other: Counter[str]) -> float:
    shared = sum(count * other[key] for key, count in one.items() if key in other)
    norm = math.hypot(*one.values()) * math.hypot(*other.values())
    return shared / norm if norm else 0.0


def _rank(clauses: Sequence[Clause], spread: Counter[str], most: int) -> list[_Phrase]:
    """Return the most important phrases, at most `most`. A word is in one of them only.

    `spread` counts the chapters in which a word occurs, because a word of all chapters distinguishes none.
    """
    first: dict[tuple[str, ...], _Phrase] = {}
    counts: Counter[tuple[str, ...]] = Counter()
    for clause in clauses:
        for phrase in _phrases(clause):
            if clause.word_count >= MIN_WORDS:
                first.setdefault(phrase.keys, phrase)
            counts[phrase.keys] += 1

    def score(keys: tuple[str, ...]) -> float:
        clinical = sum(key in CLINICAL for key in keys)
        rarity = sum(1 / (1 + max(0, spread[key] - 1)) for key in keys) / len(keys)
        return counts[keys] * (0.3 + clinical) * rarity * (1 if len(keys) == 1 or counts[keys] > 1 else 0.6)

    found: list[_Phrase] = []
    used: set[str] = set()
    for keys in sorted(first, key=lambda keys: (-score(keys), len(keys), keys)):
        if len(found) == most:
            break
        if used.isdisjoint(keys) and (counts[keys] >= _MIN_COUNT or any(key in CLINICAL for key in keys)):
            found.append(first[keys])
            used.update(keys)
    return found


def _phrases(clause: Clause) -> Iterator[_Phrase]:
    words = VOCABULARIES[clause.language]
    run: list[tuple[str, int, int]] = []
    for key, (start, end) in zip(clause.keys, clause.spans, strict=True):
        is_content = (
            key.isalpha() and len(key) > 2 and key not in words.conversation and key not in words.note_words
        )
        is_content = is_content and key not in LEANING
        if not is_content or (run and clause.text[run[-1][2] : start].strip()):
            run = []
        if is_content:
            run.append((key, start, end))
            for size in range(1, min(_MAX_PHRASE, len(run)) + 1):
                part = run[-size:]
                text = clause.text[part[0][1] : part[-1][2]]
                yield _Phrase(tuple(key for key, _, _ in part), text, _cite(clause))
