"""The SQL that grants access contains all files of `policies/access`, and a version that is computed from these
files.
"""

import re
from pathlib import Path

import pytest

from app.postgres.access_policies import ACCESS_DIRECTORY, access_sql, access_version
from app.postgres.migration_files import SCHEMAS_DIRECTORY


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "b.sql").write_text("select 2;\n")
    (tmp_path / "a.sql").write_text("select 1;\n\n")
    (tmp_path / "notes.md").write_text("not SQL")
    return tmp_path


def test_statements_are_joined_by_name_under_their_version(directory: Path) -> None:
    sql = access_sql(directory)
    assert sql.endswith("\n\nselect 1;\n\nselect 2;\n")
    assert f"return '{access_version(directory)}';" in sql
    assert "not SQL" not in sql


def test_version_follows_names_and_contents(directory: Path) -> None:
    versions = {access_version(directory)}
    (directory / "notes.md").write_text("still no SQL")
    assert access_version(directory) in versions
    (directory / "a.sql").write_text("select 1;\n")
    versions.add(access_version(directory))
    (directory / "a.sql").rename(directory / "c.sql")
    versions.add(access_version(directory))
    (directory / "c.sql").write_text("select 1;\nselect 2;\n")
    (directory / "b.sql").unlink()
    versions.add(access_version(directory))
    assert len(versions) == 4
    assert all(len(version) == 16 for version in versions)


def _home_of_each_function() -> dict[str, tuple[str, str]]:
    """Return, for each SQL function in `supabase/schemas`, the noun in the name of the function's file and the text
    of this file.
    """
    return {
        function: (path.stem[3:], text)
        for path in SCHEMAS_DIRECTORY.glob("*.sql")
        for text in [path.read_text(encoding="utf-8")]
        for function in re.findall(r"^create function private\.(\w+)", text, re.MULTILINE)
    }


def test_access_file_grants_functions_of_its_own_noun_alone() -> None:
    homes = _home_of_each_function()
    granted = [
        (path.stem, function)
        for path in ACCESS_DIRECTORY.glob("*.sql")
        for grant in re.findall(
            r"^\s*grant execute on function\b[^;]*;", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        for function in re.findall(r"private\.(\w+)\(", grant)
    ]
    assert len(granted) > 100
    strangers = [
        (noun, function)
        for noun, function in granted
        if noun != homes[function][0] and f"create table resguardo.{noun} (" not in homes[function][1]
    ]
    assert strangers == []


def test_everything_is_taken_away_before_anything_is_granted() -> None:
    first, *others = sorted(ACCESS_DIRECTORY.glob("*.sql"))
    assert first.name == "00_closed.sql"
    assert "reset_routines('private')" in first.read_text(encoding="utf-8")
    assert [
        path.name for path in others if "reset_routines('private')" in path.read_text(encoding="utf-8")
    ] == []


def test_access_files_contain_only_access_statements() -> None:
    for path in ACCESS_DIRECTORY.glob("*.sql"):
        found = re.search(r"create table|create function|alter table \S+ add|drop table", path.read_text())
        assert found is None, f"{path.name}: {found}"
