"""What three functions knew while migrations defined them anew again and again, the tables know that they read now.

`operation_of` knew every action, `record_access` every action that only functions write themselves, and `defer_job`
every task. Whoever adds one adds a row.
"""

import re

import pytest

from app.access_policies import MIGRATIONS_DIRECTORY

KNEW = {
    "operation_of": (r"when '([a-z_.]+)'", "audit_actions", r"\('([a-z_.]+)'"),
    "record_access": (r"'([a-z]+\.[a-z_]+)'", "audit_actions", r"\('([a-z_.]+)', '.', true\)"),
    "defer_job": (r"(?<!exception )'([a-z]+_[a-z_]+)'", "tasks", r"\('([a-z_]+)'"),
}
TABLES = "20261121165000_named_things.sql"


def _matches(pattern: str, *, until: str) -> list[str]:
    """In the migrations before this one, oldest first."""
    paths = sorted(path for path in MIGRATIONS_DIRECTORY.glob("*.sql") if path.name < until)
    of = re.compile(pattern, re.DOTALL | re.MULTILINE)
    return [text for path in paths for text in of.findall(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("function", KNEW)
def test_table_has_what_the_function_knew(function: str) -> None:
    in_function, table, in_rows = KNEW[function]
    definitions = _matches(rf"^create (?:or replace )?function private\.{function}\(.*?^\$\$;$", until=TABLES)
    inserts = _matches(rf"^insert into private\.{table} .*?;$", until="9")
    assert definitions
    assert inserts
    knew = {name for text in definitions for name in re.findall(in_function, text)}
    assert knew
    assert knew - {name for text in inserts for name in re.findall(in_rows, text)} == set()
