"""Measures how many slips the checker of insights flags, and how many true lines.

The slips are planted in the lines of reference notes. The citation of a line is chosen once, on the unaltered line:
the turn most similar to it, with its answer. A slip is caught if the altered line gets a flag of its kind. Lines with a
number or a side that the cited turns lack are reported apart. Fixed seeds determine all random choices.
"""

import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from app.insights.flags.checker import Checker, flag_lines
from app.insights.flags.numbers import lacks_number
from app.insights.flags.sides import lacks_side
from app.insights.flags.words import is_drug
from app.insights.model import Flag, Line
from app.insights.reading import read_passage
from app.transcripts.model import Speaker, Turn
from benchmarks.slip_citations import Citer, split_note
from benchmarks.slip_planting import CATCHING_FLAGS, Kind, plant_slips

MIN_NUMBERS: Final = 99.0
MIN_SIDES: Final = 95.0
MIN_NEGATIONS: Final = 80.0
MAX_FLAGS: Final = 7.0
MAX_POINTS_IN_SPANISH: Final = 5.0
NUMBERS: Final = (Kind.OTHER_NUMBER, Kind.DIGIT, Kind.FACTOR_OF_TEN)
SIDES: Final = (Kind.SIDE,)
NEGATIONS: Final = (Kind.NEGATION_ADDED, Kind.NEGATION_DROPPED)

_SEED: Final = 16
_SPANISH: Final = Path(__file__).parent / "data" / "consultas.json"


class Noted(Protocol):
    """A dialogue with a reference note."""

    @property
    def turns(self) -> Sequence[Turn]: ...
    @property
    def note(self) -> str: ...


@dataclass(frozen=True)
class NotedDialogue:
    """A dialogue with a reference note."""

    turns: tuple[Turn, ...] = field(repr=False)
    note: str = field(repr=False)


@dataclass
class Tally:
    """The counts of lines and of slips, by kind."""

    line_count: int = 0
    flagged_count: int = 0
    flags: Counter[Flag] = field(default_factory=Counter)
    planted: Counter[Kind] = field(default_factory=Counter)
    caught: Counter[Kind] = field(default_factory=Counter)

    def percent_caught(self, *kinds: Kind) -> float:
        """Return the percentage of the slips of these kinds that were caught, or 100 if none was planted."""
        planted = sum(self.planted[kind] for kind in kinds)
        return 100 * sum(self.caught[kind] for kind in kinds) / planted if planted else 100.0

    @property
    def percent_flagged(self) -> float:
        """The percentage of unaltered lines that have a flag."""
        return 100 * self.flagged_count / self.line_count if self.line_count else 0.0


@dataclass(frozen=True)
class SlipReport:
    """The counts of all lines and of the rest: the lines without those that are reported apart."""

    dialogue_count: int
    every: Tally
    rest: Tally
    milliseconds: float

    @property
    def percentages(self) -> dict[str, float]:
        """The percentages of the rest, by their names in the last line of the benchmark."""
        return {
            "numbers": self.rest.percent_caught(*NUMBERS),
            "sides": self.rest.percent_caught(*SIDES),
            "negations": self.rest.percent_caught(*NEGATIONS),
            "flags": self.rest.percent_flagged,
        }

    @property
    def is_held(self) -> bool:
        """Whether the percentages of the rest, rounded as they are printed, keep the targets."""
        found = {name: round(percentage, 1) for name, percentage in self.percentages.items()}
        return (
            found["numbers"] >= MIN_NUMBERS
            and found["sides"] >= MIN_SIDES
            and found["negations"] >= MIN_NEGATIONS
            and found["flags"] <= MAX_FLAGS
        )


def read_spanish() -> list[NotedDialogue]:
    """Return the ten invented Spanish consultations with their notes."""
    speakers = {"M": Speaker.DOCTOR, "P": Speaker.PATIENT}
    return [
        NotedDialogue(
            tuple(
                Turn(number, number * 1000, number * 1000 + 900, speakers[said[0]], said[3:])
                for number, said in enumerate(consultation["turns"])
            ),
            "\n".join(consultation["note"]),
        )
        for consultation in json.loads(_SPANISH.read_text(encoding="utf-8"))["consultations"]
    ]


def is_close(spanish: SlipReport, english: SlipReport) -> bool:
    """Return whether no percentage of the Spanish notes is over five points worse than that of the English notes."""
    worse = [
        english.percentages[name] - spanish.percentages[name] for name in ("numbers", "sides", "negations")
    ]
    worse.append(spanish.percentages["flags"] - english.percentages["flags"])
    return max(worse) <= MAX_POINTS_IN_SPANISH


def measure_slips(dialogues: Iterable[Noted]) -> SlipReport:
    """Plant slips in the notes of the dialogues, and count the flags."""
    every, rest = Tally(), Tally()
    milliseconds = []
    for number, dialogue in enumerate(dialogues):
        lines = list(_cite_lines(dialogue))
        milliseconds.append(_measure_milliseconds(lines, dialogue.turns))
        checker = Checker(dialogue.turns)
        numbers, drugs = _find_numbers(dialogue.turns), _find_drugs(dialogue.turns)
        for place, line in enumerate(lines):
            chooser = random.Random(f"{_SEED} {number} {place}")  # noqa: S311 - a fixed seed
            tallies = [every] if _is_apart(line) else [every, rest]
            flags = checker.flag(line)
            for tally in tallies:
                tally.line_count += 1
                tally.flagged_count += bool(flags)
                tally.flags.update(flags)
            for slip in plant_slips(line.text, numbers, drugs, chooser):
                found = checker.flag(Line(slip.text, line.citations))
                for tally in tallies:
                    tally.planted[slip.kind] += 1
                    tally.caught[slip.kind] += not found.isdisjoint(CATCHING_FLAGS[slip.kind])
    return SlipReport(
        len(milliseconds), every, rest, statistics.median(milliseconds) if milliseconds else 0.0
    )


def describe_slips(name: str, report: SlipReport) -> Iterator[str]:
    """Yield the lines of the benchmark about a report."""
    every, rest = report.every, report.rest
    yield (
        f"{name}: {every.line_count} lines of {report.dialogue_count} notes, "
        f"{every.line_count - rest.line_count} of them apart (the cited turns lack their number or side); "
        f"{report.milliseconds:.0f} ms a consultation (median)"
    )
    for title, kinds in (("numbers", NUMBERS), ("sides", SIDES), ("negations", NEGATIONS)):
        yield (
            f"  {title}: {rest.percent_caught(*kinds):.1f}% of {sum(rest.planted[kind] for kind in kinds)} caught, "
            f"{every.percent_caught(*kinds):.1f}% of {sum(every.planted[kind] for kind in kinds)} on all lines"
        )
    for kind in Kind:
        yield (
            f"    {kind.value}: {rest.percent_caught(kind):.1f}% of {rest.planted[kind]}, "
            f"{every.percent_caught(kind):.1f}% of {every.planted[kind]} on all lines"
        )
    counts = ", ".join(f"{flag.value} {rest.flags[flag]}" for flag in Flag)
    yield (
        f"  unaltered lines flagged: {rest.percent_flagged:.1f}% of {rest.line_count} ({counts}), "
        f"{every.percent_flagged:.1f}% of {every.line_count} on all lines"
    )


def format_percentages(report: SlipReport) -> str:
    """Return the checker's part of the last line of the benchmark."""
    return " ".join(f"{name} {percentage:.1f}" for name, percentage in report.percentages.items())


def _cite_lines(dialogue: Noted) -> Iterator[Line]:
    citer = Citer(dialogue.turns)
    for text in split_note(dialogue.note):
        yield Line(text, citer.cite(text))


def _is_apart(line: Line) -> bool:
    text, quotes = read_passage(line.text), [read_passage(citation.quote) for citation in line.citations]
    return lacks_number(text, quotes) or lacks_side(text, quotes)


def _measure_milliseconds(lines: Sequence[Line], turns: Sequence[Turn]) -> float:
    start = time.perf_counter()
    flag_lines(lines, turns)
    return (time.perf_counter() - start) * 1000


def _find_numbers(turns: Sequence[Turn]) -> list[float]:
    tokens = (token for turn in turns for token in read_passage(turn.text).tokens)
    return sorted({float(token.word) for token in tokens if token.is_number})


def _find_drugs(turns: Sequence[Turn]) -> list[str]:
    tokens = (token for turn in turns for token in read_passage(turn.text).tokens)
    return sorted({token.raw for token in tokens if is_drug(token.raw)})
