"""In each `queries.sql` file, every SQL statement has a unique name, and no SQL text precedes the first name."""

from pathlib import Path

import pytest

from app.postgres.queries import Queries

APP = Path(__file__).parents[2] / "app"


def _file(directory: Path, text: str) -> Path:
    path = directory / "queries.sql"
    path.write_text(text)
    return path


def test_statements_are_found_by_name_without_their_semicolon(tmp_path: Path) -> None:
    queries = Queries(_file(tmp_path, "-- name: one\nselect 1;\n\n-- name: two\n-- why\nselect\n    2;\n"))
    assert queries["one"] == "select 1"
    assert queries["two"] == "-- why\nselect\n    2"


def test_unknown_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="three"):
        Queries(_file(tmp_path, "-- name: one\nselect 1;\n"))["three"]


@pytest.mark.parametrize(
    "text",
    [
        "select 0;\n-- name: one\nselect 1;\n",
        "-- name: one\nselect 1;\n-- name: one\nselect 2;\n",
        "-- name: One\nselect 1;\n",
    ],
)
def test_statement_without_a_name_of_its_own_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"queries\.sql: statements must have names of their own"):
        Queries(_file(tmp_path, text))


@pytest.mark.parametrize("path", sorted(APP.rglob("queries.sql")), ids=lambda path: path.parent.name)
def test_every_statement_of_ours_is_used_by_its_noun(path: Path) -> None:
    Queries(path)
    names = {
        line.removeprefix("-- name: ") for line in path.read_text().splitlines() if line.startswith("-- name")
    }
    code = "".join(module.read_text() for module in path.parent.glob("*.py"))
    assert {name for name in names if f'"{name}"' not in code} == set()
