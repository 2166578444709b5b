"""Tests of the command `resguardo review`, and of the first rules, which `resguardo migrate` puts into force."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from typer.testing import CliRunner, Result

from app import cli
from app.deployment import mark_database
from app.review.proposals import adopt_first_rules
from tests.databases import Database
from tests.practice import Practice
from tests.unit.environments import set_environment

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, database: Database) -> Run:
    """Return a function that runs the command `resguardo review` with the owner's login to the test database."""
    mark_database(database.owner_url, "first")
    environment = {"ENVIRONMENT": "development", "DEPLOYMENT": "first", "DATABASE_URL": database.owner_url}

    def invoke(*arguments: str) -> Result:
        set_environment(monkeypatch, environment)
        return CliRunner().invoke(cli.cli, ["review", *arguments])

    return invoke


def test_first_rules_are_adopted_once_and_a_version_is_proposed(
    run: Run, database: Database, tmp_path: Path
) -> None:
    adopted = adopt_first_rules(database.owner_url)
    assert adopted is not None
    assert adopt_first_rules(database.owner_url) is None
    again = run("propose")
    assert again.exit_code != 0
    changed = tmp_path / "review.toml"
    text = Path("policies/review.toml").read_text(encoding="utf-8")
    changed.write_text(text.replace(f'name = "{adopted.name}"', 'name = "next"'), encoding="utf-8")
    proposed = run("propose", str(changed))
    assert proposed.exit_code == 0, proposed.output
    with psycopg.connect(database.superuser_url) as connection:
        rows = connection.execute("select name, status from resguardo.review_policies order by id").fetchall()
    assert rows == [(adopted.name, "ACTIVE"), ("next", "PROPOSED")]
    changed.write_text("name = 1", encoding="utf-8")
    assert run("propose", str(changed)).exit_code != 0


def test_pairs_are_imported_and_an_unknown_id_imports_nothing(
    run: Run, database: Database, tmp_path: Path
) -> None:
    with psycopg.connect(database.superuser_url) as connection:
        practice = Practice(connection)
        member = practice.user()
        practice.member(member)
        practice.patient(uuid4(), external_id="mrn-1")
    file = tmp_path / "pairs.csv"
    header = "staff_user_id,patient_external_id,relation\n"
    file.write_text(f"{header}{member},mrn-1,SELF\n", encoding="utf-8")
    imported = run("import-pairs", str(file), "--relation", "SELF", "--relation", "HOUSEHOLD")
    assert imported.exit_code == 0, imported.output
    file.write_text(f"{header}{member},mrn-2,SELF\n", encoding="utf-8")
    refused = run("import-pairs", str(file), "--relation", "SELF")
    assert refused.exit_code != 0
    assert "mrn-2" not in refused.output
    other = run("import-pairs", str(file), "--relation", "SURNAME")
    assert other.exit_code != 0
    with psycopg.connect(database.superuser_url) as connection:
        pairs = connection.execute(
            "select relation, pair_count from private.related_imports order by 1"
        ).fetchall()
        audited = connection.execute(
            "select row_count, basis from audit.events where action = 'review_rule.import_pairs'"
        ).fetchall()
    assert pairs == [("HOUSEHOLD", 0), ("SELF", 1)]
    assert audited == [(1, "import_related_pairs")]
