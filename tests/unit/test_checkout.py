"""Commands that need the development stack end with a clear error if only the wheel is installed."""

import sys

import pytest
from typer.testing import CliRunner

from app.cli import cli


@pytest.mark.parametrize(
    ("arguments", "command", "module"),
    [
        (["demo", "--once"], "resguardo demo", "devstack.showing"),
        (["demo", "join", "a-consultation"], "resguardo demo join", "devstack.joining"),
        (["drill", "restore", "--dump", "d", "--escrow", "e"], "resguardo drill", "devstack.restoring"),
    ],
)
def test_command_says_in_one_line_that_it_needs_a_checkout_without_the_development_stack(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, "devstack", None)
    monkeypatch.delitem(sys.modules, module, raising=False)
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1
    assert result.output == (
        f"{command} needs a checkout of the repository: an installed wheel has no development stack\n"
    )
