"""Prints the table of faults and outcomes, and the line of counts below the table."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.faults.fault import Verdict

_WRONGS = ("lost", "doubled", "stuck")


def progress(console: Console, verdict: Verdict) -> None:
    """Print one line of the table as soon as the verdict on a fault is known."""
    name, outcome = escape(verdict.fault.name), escape(verdict.outcome)
    console.print(f"{_mark(verdict)} {name}: {outcome} [dim]{verdict.seconds:.0f} s[/]")


def show(console: Console, verdicts: Sequence[Verdict]) -> int:
    """Print the table of results and, as the last line, the counts. Return the exit code: 0 if no result is lost,
    doubled, stuck or unexpected, and otherwise 1.
    """
    table = Table(box=None, pad_edge=False)
    for heading in ("", "fault", "from", "should become", "became", "after"):
        table.add_column(heading, overflow="fold")
    for one in verdicts:
        words = (one.fault.name, one.fault.source, one.fault.expected, one.outcome, f"{one.seconds:.0f} s")
        table.add_row(_mark(one), *map(escape, words))
    console.print(table)
    unexpected = [one for one in verdicts if not one.is_as_expected]
    if unexpected:
        console.print(f"not as expected: {len(unexpected)}")
    counts = ", ".join(f"{wrong} {sum(getattr(one, wrong) for one in verdicts)}" for wrong in _WRONGS)
    console.print(f"faults: {len(verdicts)}, {counts}")
    return 1 if unexpected or not verdicts else 0


def _mark(verdict: Verdict) -> str:
    if verdict.is_as_expected:
        return "[green]✓[/]"
    return f"[red]✗ {' '.join(wrong for wrong in _WRONGS if getattr(verdict, wrong))}[/]"
