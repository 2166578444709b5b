"""Measures the extractive writer: ROUGE-1 of note drafts, verbatim lines, and highlights that its moments say."""

import random
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.insights.drafts import Insights
from app.insights.extract.highlights import MAX_HIGHLIGHTS, MAX_MOMENT_MS
from app.insights.extract.insights import extract_insights
from app.insights.model import Line
from app.transcripts.model import Turn
from benchmarks.insight_data import Consultation, Dialogue
from benchmarks.rouge import rouge_1, tokens

_EMPTY: Final = frozenset(
    tokens(
        "a an the of in on at to for and or with by is was no not nil has have been present some need days day hx "
        "history"
    )
)
Range = tuple[int, int]


@dataclass(frozen=True)
class DraftFigures:
    """The figures of note drafts, in percent. `words` is the mean number of words of a draft."""

    rouge_1: float
    verbatim: float
    lines: int
    words: float


@dataclass(frozen=True)
class HighlightFigures:
    """The share of highlights that are said, in percent: in the writer's moments, in as many random moments of the
    longest duration, and in the whole consultation. A note's shorthand, such as `SOB`, is hardly ever said. `time` is
    the mean share of a consultation that the moments take, in percent.
    """

    covered: float
    by_chance: float
    said_at_all: float
    time: float
    count: int


def measure_drafts(dialogues: Sequence[Dialogue]) -> DraftFigures:
    """Return the figures of the note drafts of the dialogues."""
    scores: list[float] = []
    sizes: list[int] = []
    verdicts: list[bool] = []
    for dialogue in dialogues:
        insights = extract_insights(dialogue.turns)
        text = "\n".join(line.text for line in insights.note.lines)
        scores.append(rouge_1(text, dialogue.note))
        sizes.append(len(text.split()))
        verdicts.extend(is_verbatim(line, dialogue.turns) for line in _all_lines(insights))
    return DraftFigures(
        100 * statistics.fmean(scores),
        100 * statistics.fmean(verdicts) if verdicts else 0.0,
        len(verdicts),
        statistics.fmean(sizes),
    )


def is_verbatim(line: Line, turns: Sequence[Turn]) -> bool:
    """Return whether the line is nothing but its quotes, and each quote is a part of its turn, letter by letter."""
    texts = {turn.number: turn.text for turn in turns}
    is_quoted = all(each.quote and each.quote in texts.get(each.turn_number, "") for each in line.citations)
    return bool(line.citations) and is_quoted and line.text == " ".join(each.quote for each in line.citations)


def measure_highlights(consultations: Sequence[Consultation]) -> HighlightFigures:
    """Return how many of the highlights are said.

    A moment says a highlight if it says at least half of the highlight's content words. A word is said in a moment if
    its place in the turn, interpolated by time, is in the moment.
    """
    results: list[tuple[bool, bool, bool]] = []
    shares: list[float] = []
    for consultation in consultations:
        turns = consultation.turns
        duration_ms = max(turn.end_ms for turn in turns)
        moments = [(each.start_ms, each.end_ms) for each in extract_insights(turns).highlights]
        shares.append(sum(end - start for start, end in moments) / duration_ms)
        heard = _heard(turns, moments)
        chance = _heard(turns, _random_moments(consultation.name, duration_ms))
        everything = _heard(turns, [(0, duration_ms)])
        results.extend(
            (
                _is_said(phrase, heard),
                _is_said(phrase, chance),
                _is_said(phrase, everything),
            )
            for phrase in consultation.highlights
        )
    covered, by_chance, said_at_all = (
        100 * statistics.fmean(column) for column in zip(*results, strict=True)
    )
    return HighlightFigures(covered, by_chance, said_at_all, 100 * statistics.fmean(shares), len(results))


def measure_milliseconds(consultations: Iterable[Sequence[Turn]]) -> float:
    """Return the median time of the writer for one consultation."""
    taken = []
    for turns in consultations:
        began = time.perf_counter()
        extract_insights(turns)
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def _all_lines(insights: Insights) -> list[Line]:
    return [
        *insights.note.lines,
        *insights.summary,
        *insights.key_points,
        *(item.line for item in insights.action_items),
        *(highlight.line for highlight in insights.highlights),
    ]


def _random_moments(name: str, duration_ms: int) -> list[Range]:
    drawing = random.Random(name)  # noqa: S311 - the same each time
    starts = (drawing.randrange(max(1, duration_ms - MAX_MOMENT_MS)) for _ in range(MAX_HIGHLIGHTS))
    return [(start, start + MAX_MOMENT_MS) for start in starts]


def _heard(turns: Sequence[Turn], moments: Iterable[Range]) -> list[frozenset[str]]:
    """Return the stemmed words that are said in each moment."""
    found = []
    for start_ms, end_ms in moments:
        words: set[str] = set()
        for turn in turns:
            if turn.end_ms >= start_ms and turn.start_ms <= end_ms:
                words.update(_words_between(turn, start_ms, end_ms))
        found.append(frozenset(words))
    return found


def _words_between(turn: Turn, start_ms: int, end_ms: int) -> set[str]:
    said = turn.text.split()
    step = (turn.end_ms - turn.start_ms) / max(1, len(said))
    return {
        token
        for place, word in enumerate(said)
        if start_ms <= turn.start_ms + step * (place + 0.5) <= end_ms
        for token in tokens(word)
    }


def _is_said(phrase: str, heard: Sequence[frozenset[str]]) -> bool:
    words = tokens(phrase)
    content = [word for word in words if word not in _EMPTY and not word.isdigit()] or words
    return any(2 * sum(word in said for word in content) >= len(content) for said in heard)
