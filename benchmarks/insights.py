"""Measures insights without a language model: `make bench-insights` (docs/benchmarks.md).

DATA=DIR names the data folder (`insight_data`). Without one, the benchmark says that it has no data.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.insight_data import Dialogue, find_data, read_consultations, read_dialogues
from benchmarks.insight_questions import describe_questions, measure_questions, read_all
from benchmarks.insight_slips import (
    describe_slips,
    format_percentages,
    is_close,
    measure_slips,
    read_spanish,
)
from benchmarks.insight_writer import measure_drafts, measure_highlights, measure_milliseconds

MIN_ROUGE_1: Final = 41.0
MIN_VERBATIM: Final = 100.0
MIN_HIGHLIGHTS: Final = 60.0


def _measure(folder: Path, out: Console) -> bool:
    dialogues = read_dialogues(folder)
    consultations = read_consultations(folder)
    if not dialogues or not consultations:
        out.print(
            f"bench-insights: the data folder has {len(dialogues)} dialogues and {len(consultations)} consultations"
        )
        return False
    drafts = measure_drafts(dialogues)
    highlights = measure_highlights(consultations)
    milliseconds = measure_milliseconds(
        [each.turns for each in dialogues] + [each.turns for each in consultations]
    )
    out.print(
        f"note drafts of {len(dialogues)} dialogues: ROUGE-1 {drafts.rouge_1:.1f}, {drafts.words:.0f} words each, "
        f"{drafts.verbatim:.1f}% of {drafts.lines} lines verbatim"
    )
    for name, part in _by_file(dialogues):
        out.print(f"  {name}: ROUGE-1 {measure_drafts(part).rouge_1:.1f} of {len(part)} dialogues")
    out.print(
        f"{highlights.count} highlights of {len(consultations)} consultations: {highlights.covered:.1f}% said in "
        f"ten moments, which take {highlights.time:.1f}% of the time"
    )
    out.print(
        f"  in ten random moments {highlights.by_chance:.1f}%, in the whole consultation {highlights.said_at_all:.1f}%"
    )
    out.print(f"the writer takes {milliseconds:.0f} ms a consultation (median)")
    slips, spanish = measure_slips(dialogues), measure_slips(read_spanish())
    for line in (*describe_slips("the checker", slips), *describe_slips("the checker in Spanish", spanish)):
        out.print(line)
    for line in describe_questions(measure_questions(read_all(folder))):
        out.print(line)
    is_written = (
        drafts.rouge_1 >= MIN_ROUGE_1
        and drafts.verbatim >= MIN_VERBATIM
        and highlights.covered >= MIN_HIGHLIGHTS
    )
    is_held = is_written and slips.is_held and is_close(spanish, slips)
    out.print(f"bench-insights: {'held' if is_held else 'MISSED'}")
    out.print(
        f"rouge1 {drafts.rouge_1:.1f} verbatim {drafts.verbatim:.4g} highlights {highlights.covered:.0f} "
        f"{format_percentages(slips)}"
    )
    return is_held


def _by_file(dialogues: Sequence[Dialogue]) -> list[tuple[str, list[Dialogue]]]:
    """Return the dialogues of each file of ACI-Bench, by the file's name."""
    grouped = groupby(dialogues, key=lambda dialogue: dialogue.name.partition("/")[0])
    return [(name, list(part)) for name, part in grouped]


def main() -> int:
    """Run the benchmark. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a folder with aci-bench and primock57")
    folder = find_data(parser.parse_args().data)
    out = Console(highlight=False, width=160)
    if folder is None:
        out.print(
            "bench-insights: no data: name a folder with aci-bench and primock57 (make bench-insights DATA=DIR)"
        )
        return 0
    return 0 if _measure(folder, out) else 1


if __name__ == "__main__":
    sys.exit(main())
