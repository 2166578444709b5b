"""The list of attacks is the list in docs/audit-attacks.md, and only a detected attack counts as detected."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from app.audit.verification.model import FindingName
from tests.attack_audit import table
from tests.attack_audit.attack import Verdict
from tests.attack_audit.auditor import Finding
from tests.attack_audit.suite import ATTACKS, SHORT
from tests.attack_audit.undetectable import UNDETECTABLE

PAGE = Path(__file__).parents[2] / "docs" / "audit-attacks.md"
OFFLINE_ONLY = {"event_changed", "export_changed"}
"""Findings about a receipt or an export, which only `tools/verify_audit.py` reads."""


def test_the_page_lists_each_attack_with_its_finding() -> None:
    _, *sections = PAGE.read_text().split("\n### ")
    rows = [line for line in "\n".join(sections).splitlines() if line.startswith("| ")]
    listed = [f"| {one.name} | {one.holds} | `{one.finding}` | {one.evidence} |" for one in ATTACKS]
    listed += [f"| {one.name} | {one.holds} | {one.exposure} |" for one in UNDETECTABLE]
    assert [row for row in rows if not row.startswith("| attack |")] == listed


def test_there_are_at_least_fifty_attacks_with_names_of_their_own() -> None:
    assert len(ATTACKS) >= 50
    names = [one.name for one in ATTACKS] + [one.name for one in UNDETECTABLE]
    assert len(set(names)) == len(names)
    assert set(SHORT) <= {one.name for one in ATTACKS}


def test_each_attack_expects_a_finding_that_a_program_can_name() -> None:
    known = {name.value for name in FindingName} | OFFLINE_ONLY
    assert {one.finding for one in ATTACKS} <= known


@pytest.mark.parametrize(
    ("named", "is_noticed", "code", "last"),
    [
        (ATTACKS[0].finding, False, 0, "attack-audit: 1 attacks, undetected 0, undetectable 1"),
        ("another_finding", False, 1, "attack-audit: 1 attacks, undetected 1, undetectable 1"),
        (ATTACKS[0].finding, True, 1, "attack-audit: 1 attacks, undetected 0, undetectable 1"),
    ],
)
def test_the_exit_code_is_one_unless_every_attack_was_named_and_every_other_went_unnoticed(
    named: str, is_noticed: bool, code: int, last: str
) -> None:
    out = StringIO()
    verdict = Verdict(ATTACKS[0], (Finding(named, "audit verify"),), 1.0)
    shown = table.show(Console(file=out, width=200), [verdict], [(UNDETECTABLE[0], "2.0 s", is_noticed)])
    assert (shown, out.getvalue().splitlines()[-1]) == (code, last)
