"""A function that several migrations define anew keeps what the earlier ones taught it.

`operation_of` knows every action, `record_access` keeps every action that only functions write to themselves, and
`defer_job` knows every task: the last definition has all of them, whichever files were written side by side.
"""

import re

import pytest

from app.access_policies import MIGRATIONS_DIRECTORY

WORDS = {
    "operation_of": r"when '([a-z_.]+)'",
    "record_access": r"'([a-z]+\.[a-z_]+)'",
    "defer_job": r"'([a-z]+_[a-z_]+)'",
}


def _definitions(function: str) -> list[str]:
    """Oldest first."""
    pattern = re.compile(
        rf"^create (?:or replace )?function private\.{function}\(.*?^\$\$;$", re.DOTALL | re.MULTILINE
    )
    paths = sorted(MIGRATIONS_DIRECTORY.glob("*.sql"))
    return [text for path in paths for text in pattern.findall(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("function", WORDS)
def test_last_definition_has_what_the_earlier_ones_had(function: str) -> None:
    *earlier, last = [set(re.findall(WORDS[function], text)) for text in _definitions(function)]
    assert earlier
    assert all(earlier), "the search finds nothing"
    assert set().union(*earlier) - last == set()
