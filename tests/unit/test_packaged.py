"""Tests of the paths at which Resguardo finds its migrations and its access policies. The command `make test-wheel`
installs Resguardo's wheel and runs Resguardo from it.
"""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app import packaged
from app.cli import cli
from app.packaged import repository_path

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name", ["policies/access", "policies/quotas.toml", "supabase/migrations", "tools/verify_audit.py"]
)
def test_files_are_read_where_they_are_in_a_checkout(name: str) -> None:
    assert repository_path(name) == ROOT / name
    assert repository_path(name).exists()


def test_copies_are_read_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app" / "data").mkdir(parents=True)
    monkeypatch.setattr(packaged, "_PACKAGE", tmp_path / "app")
    assert repository_path("policies/access") == tmp_path / "app" / "data" / "policies" / "access"


def test_no_other_module_reads_beside_its_package() -> None:
    """If Resguardo is installed from a wheel, the directory around the package is not a checkout of the repository.
    Only five modules may use the directory beside the package: the demo, which needs a checkout, and four child
    processes, which use the directory as their import path.
    """
    beside = re.compile(r"\.parent\.parent\.parent|\.parents\[2\]|\.\./")
    product = [path for top in ("app", "graphql_schema") for path in (ROOT / top).rglob("*.py")]
    looking = {path.name for path in product if beside.search(path.read_text(encoding="utf-8"))}
    assert looking == {"demo.py", "clip_child.py", "probe_child.py", "sound_child.py", "thumbnail_child.py"}


def test_version_option_names_the_installed_version() -> None:
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.output) == (0, f"resguardo {version('resguardo')}\n")
