"""Prints the table of attacks and findings, and the line of counts below the table."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.attack_audit.attack import UndetectableAttack, Verdict


def show_progress(console: Console, verdict: Verdict) -> None:
    """Print one line as soon as the verdict on an attack is known."""
    mark = "[green]✓[/]" if verdict.is_detected else "[red]✗[/]"
    named = ", ".join(sorted({finding.name for finding in verdict.findings})) or "nothing"
    console.print(f"{mark} {escape(verdict.attack.name)}: {escape(named)} [dim]{verdict.seconds:.1f} s[/]")


def show(
    console: Console,
    verdicts: Sequence[Verdict],
    undetectable: Sequence[tuple[UndetectableAttack, str, bool]],
) -> int:
    """Print the tables and, as the last line, the counts. Return the exit code: 0 if every attack was detected and
    every undetectable attack went unnoticed, and otherwise 1.

    `undetectable` contains, for each undetectable attack, the exposure and whether the audit noticed the attack. An
    audit that notices such an attack shows that the list of undetectable attacks is wrong.
    """
    _show_detected(console, verdicts)
    console.print()
    console.print("What no such log can show, and how long the attacker has:")
    _show_undetectable(console, undetectable)
    for attack, _, is_noticed in undetectable:
        if is_noticed:
            console.print(f"listed as undetectable, but noticed: {escape(attack.name)}")
    undetected = sum(not verdict.is_detected for verdict in verdicts)
    console.print(
        f"attack-audit: {len(verdicts)} attacks, undetected {undetected}, undetectable {len(undetectable)}"
    )
    return 1 if undetected or not verdicts or any(is_noticed for _, _, is_noticed in undetectable) else 0


def _show_detected(console: Console, verdicts: Sequence[Verdict]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "", "attack", "attacker holds", "finding", "evidence", "named by", "after"):
        table.add_column(heading, overflow="fold")
    for number, verdict in enumerate(verdicts, 1):
        attack = verdict.attack
        named_by = sorted({one.source for one in verdict.findings if one.name == attack.finding})
        words = (attack.name, attack.holds, attack.finding, attack.evidence, ", ".join(named_by))
        mark = "[green]✓[/]" if verdict.is_detected else "[red]✗[/]"
        table.add_row(str(number), mark, *map(escape, words), f"{verdict.seconds:.1f} s")
    console.print(table)


def _show_undetectable(
    console: Console, undetectable: Sequence[tuple[UndetectableAttack, str, bool]]
) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("attack", "attacker holds", "exposure"):
        table.add_column(heading, overflow="fold")
    for attack, exposure, _ in undetectable:
        table.add_row(*map(escape, (attack.name, attack.holds, exposure)))
    console.print(table)
