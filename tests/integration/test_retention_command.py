"""Tests of the command `resguardo retention`, and of the first retention policy, which `resguardo migrate` puts
into force.
"""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from app import cli
from app.deployment import mark_database
from app.errors import InvalidInput
from app.retention.proposals import RETENTION_FILE, adopt_first_policy, read_policy_file
from app.texts import operator_message
from tests.databases import Database
from tests.unit.environments import set_environment

Run = Callable[..., Result]
IN_FORCE = (
    "select name, source, activated_at is not null from resguardo.retention_policies where status = 'ACTIVE'"
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, database: Database) -> Run:
    """Return a function that runs the command `resguardo retention` with the owner's login to the test database."""
    mark_database(database.owner_url, "first")
    environment = {"ENVIRONMENT": "development", "DEPLOYMENT": "first", "DATABASE_URL": database.owner_url}

    def invoke(*arguments: str) -> Result:
        set_environment(monkeypatch, environment)
        return CliRunner().invoke(cli.cli, ["retention", *arguments])

    return invoke


def _file(directory: Path, *changes: tuple[str, str]) -> str:
    text = RETENTION_FILE.read_text(encoding="utf-8")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = directory / "retention.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_file_is_adopted_once_as_it_is(database: Database, tmp_path: Path) -> None:
    adopted = adopt_first_policy(database.owner_url)
    assert adopted is not None
    other = Path(_file(tmp_path, ('name = "2026-11"', 'name = "other"'), ("= 90", "= 1")))
    assert adopt_first_policy(database.owner_url, other) is None
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute(IN_FORCE.encode()).fetchall()
        audited = connection.execute(
            "select action, basis, reason from audit.events where action like 'retention.%' order by recorded_at"
        ).fetchall()
    assert rows == [(adopted.name, RETENTION_FILE.read_text(encoding="utf-8"), True)]
    assert audited == [
        ("retention.propose", "retention_adopt", "policy_1"),
        ("retention.activate", "retention_adopt", "policy_1"),
    ]


def test_a_proposal_shows_what_it_changes_and_who_must_approve(
    run: Run, database: Database, tmp_path: Path
) -> None:
    adopt_first_policy(database.owner_url)
    shorter = run(
        "propose",
        _file(
            tmp_path, ('name = "2026-11"', 'name = "2027-01"'), ("recording_days = 90", "recording_days = 30")
        ),
    )
    assert (shorter.exit_code, shorter.output.splitlines()) == (
        0,
        [
            "proposed 2 2027-01",
            "  default.recording_days: 90 -> 30 shorter",
            "it leaves alone what is recorded already",
            "2 compliance officer(s) must approve it: approveRetentionPolicy",
        ],
    )
    longer = run("propose", _file(tmp_path, ('name = "2026-11"', 'name = "2027-02"'), ("= 18", "= 21")))
    assert longer.output.splitlines()[1:] == [
        "  minors.until_age_years: 18 -> 21",
        "it leaves alone what is recorded already",
        "1 compliance officer(s) must approve it: approveRetentionPolicy",
    ]


def test_the_same_version_is_not_proposed_twice(run: Run, database: Database) -> None:
    adopt_first_policy(database.owner_url)
    again = run("propose")
    assert (again.exit_code, again.output) == (
        1,
        f"CONFLICT retention_policies_name_key\n  {operator_message('retention_policies_name_key')}\n",
    )


def test_a_bad_file_is_refused_with_its_place_and_proposes_nothing(
    run: Run, database: Database, tmp_path: Path
) -> None:
    bad = run("propose", _file(tmp_path, ('# jurisdiction = "US-TX"', 'jurisdiction = "US-TX"')))
    assert bad.exit_code == 1
    assert bad.output.splitlines()[0] == (
        "INVALID_INPUT retention_below_floor place=minors.until_age_years given=18 floor=21"
    )
    with psycopg.connect(database.owner_url) as connection:
        assert connection.execute("select count(*) from resguardo.retention_policies").fetchone() == (0,)


def test_show_tells_what_is_in_force_and_what_is_proposed(
    run: Run, database: Database, tmp_path: Path
) -> None:
    assert run("show").output == "no policy is in force, and none is proposed: nothing is ever due\n"
    adopt_first_policy(database.owner_url)
    run("propose", _file(tmp_path, ('name = "2026-11"', 'name = "2027-01"'), ("= 90", "= 120")))
    lines = run("show").output.splitlines()
    assert lines[0] == "ACTIVE 1 2026-11, 0 approval(s)"
    assert "  default: recordings 90 days, signed notes 2557 days" in lines
    assert "PROPOSED 2 2027-01, 0 approval(s)" in lines


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"#" * 64_001])
def test_file_that_is_no_policy_is_refused(run: Run, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "retention.toml"
    if content is not None:
        path.write_bytes(content)
    refused = run("propose", str(path))
    assert (refused.exit_code, refused.output.splitlines()[0].split(" place=")[0]) == (
        1,
        "INVALID_INPUT retention_malformed",
    )


def test_a_missing_file_names_no_directory(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_policy_file(tmp_path / "retention.toml")
    assert refused.value.detail == {"place": "retention.toml"}
