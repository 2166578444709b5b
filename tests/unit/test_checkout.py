"""If only Resguardo's wheel is installed, each command that needs the development stack ends with a clear error."""

import sys
from pathlib import Path

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


@pytest.mark.parametrize("arguments", [["migrations", "new", "rooms"], ["migrations", "initial"]])
def test_migrations_are_written_in_a_checkout_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]
) -> None:
    monkeypatch.setattr("app.commands.migrations.SCHEMAS_DIRECTORY", tmp_path / "schemas")
    monkeypatch.setattr("app.commands.migrations.MIGRATIONS_DIRECTORY", tmp_path)
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1
    assert result.output == (
        "resguardo migrations needs a checkout of the repository: an installed wheel has no schema files\n"
    )
    assert list(tmp_path.iterdir()) == []
