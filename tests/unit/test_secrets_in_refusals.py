"""The error for a malformed setting contains only the setting's name. Neither Resguardo nor a library that it uses
prints any part of a setting's value.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import DeploymentSettings, MigrationSettings, SettingsError, load
from tests.unit.environments import ENVIRONMENTS, KINDS, set_environment

CANARY = "s3cretWord"
WHOLE = "s3cretWordAndMore"
DATABASE_URLS = ("API_DATABASE_URL", "WORKER_DATABASE_URL", "DATABASE_URL")
ROLES = {
    "API_DATABASE_URL": "resguardo_api",
    "WORKER_DATABASE_URL": "resguardo_worker",
    "DATABASE_URL": "postgres",
}
TAIL = "?sslmode=verify-full"
MALFORMED_URLS = {
    "an @ in the password": "postgresql://{role}:pw@s3cretWord@db.example:5432/postgres" + TAIL,
    "a / in the password": "postgresql://{role}:pw/s3cretWord@db.example:5432/postgres" + TAIL,
    "a # in the password": "postgresql://{role}:pw#s3cretWord@db.example:5432/postgres" + TAIL,
    "a ? in the password": "postgresql://{role}:pw?s3cretWord@db.example:5432/postgres" + TAIL,
    "a [ in the password": "postgresql://{role}:[s3cretWord@db.example:5432/postgres" + TAIL,
    "brackets around the password": "postgresql://{role}:[s3cretWord]@db.example:5432/postgres" + TAIL,
    "a bracket alone": "postgresql://{role}:s3cretWord]@db.example/postgres" + TAIL,
    "a space": "postgresql://{role}:s3cret Word@db.example/postgres" + TAIL,
    "a space before": " postgresql://{role}:s3cretWord@db.example/postgres" + TAIL,
    "a line feed behind": "postgresql://{role}:s3cretWord@db.example/postgres" + TAIL + "\n",
    "a bare percent sign": "postgresql://{role}:s3cretWord%@db.example/postgres" + TAIL,
    "a bad percent-encoding": "postgresql://{role}:s3cretWord%zz@db.example/postgres" + TAIL,
    "an encoded NUL": "postgresql://{role}:s3cretWord%00@db.example/postgres" + TAIL,
    "an encoding that is not UTF-8": "postgresql://{role}:s3cretWord%ff@db.example/postgres" + TAIL,
    "a letter that is not ASCII": "postgresql://{role}:s3cretWordé@db.example/postgres" + TAIL,
    "a letter that folds": "postgresql://{role}:s3cretWord℀@db.example/postgres" + TAIL,
    "bytes that are not UTF-8": "postgresql://{role}:s3cretWord\udcff@db.example/postgres" + TAIL,
    "quotes around it": "'postgresql://{role}:s3cretWord@db.example/postgres" + TAIL + "'",
    "keywords and values": "host=db.example user={role} password=s3cretWord dbname=postgres sslmode=require",
    "a bad keyword and value": "host=db.example user={role} s3cretWord",
    "the password alone": "s3cretWord",
    "another scheme": "mysql://{role}:s3cretWord@db.example/postgres" + TAIL,
    "a scheme of SQLAlchemy": "postgresql+psycopg://{role}:s3cretWord@db.example/postgres" + TAIL,
    "no scheme": "//{role}:s3cretWord@db.example/postgres" + TAIL,
    "a port that is a word": "postgresql://{role}:pw@db.example:s3cretWord/postgres" + TAIL,
    "a port that is too large": "postgresql://{role}:s3cretWord@db.example:65536/postgres" + TAIL,
    "no port behind the colon": "postgresql://{role}:s3cretWord@db.example:/postgres" + TAIL,
    "two ports": "postgresql://{role}:s3cretWord@db.example:1:2/postgres" + TAIL,
    "no host": "postgresql://{role}:s3cretWord@/postgres" + TAIL,
    "no database": "postgresql://{role}:s3cretWord@db.example" + TAIL,
    "an empty database": "postgresql://{role}:s3cretWord@db.example/" + TAIL,
    "an unknown parameter": "postgresql://{role}:pw@db.example/postgres" + TAIL + "&s3cretWord=1",
    "a parameter without a value": "postgresql://{role}:pw@db.example/postgres" + TAIL + "&s3cretWord",
    "the password as a parameter": "postgresql://{role}@db.example/postgres" + TAIL + "&password=s3cretWord",
    "another role as a parameter": "postgresql://{role}:s3cretWord@db.example/postgres" + TAIL + "&user=x",
    "start-up options": "postgresql://{role}:s3cretWord@db.example/postgres"
    + TAIL
    + "&options=-cx%3Ds3cretWord",
    "a parameter twice": "postgresql://{role}:s3cretWord@db.example/postgres" + TAIL + "&sslmode=disable",
    "a fragment": "postgresql://{role}:pw@db.example/postgres" + TAIL + "#s3cretWord",
    "an IPv6 address that is none": "postgresql://{role}:pw@[s3cretWord]:5432/postgres" + TAIL,
}
EVERY_SETTING = [(kind, name.upper()) for kind in KINDS for name in kind.model_fields]
NASTY = (
    WHOLE,
    f"https://{WHOLE}:[pw@host",
    f"//[{WHOLE}]",
    f"{WHOLE}\udcff",
    f'{{"{WHOLE}": ',
    f"{WHOLE}:{WHOLE},{WHOLE}",
    f"10.0.0.0/8,{WHOLE}",
    f"https://{WHOLE}℀.example",
    f"https://host:{WHOLE}/path",
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # The directory has no developer's .env


def _kinds_with(name: str) -> Iterator[type[DeploymentSettings]]:
    return (kind for kind in KINDS if name in ENVIRONMENTS[kind])


@pytest.mark.parametrize("name", DATABASE_URLS)
@pytest.mark.parametrize("how", MALFORMED_URLS)
def test_malformed_database_url_is_refused_by_its_name_and_quoted_nowhere(
    name: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in _kinds_with(name):
        url = MALFORMED_URLS[how].format(role=ROLES[name])
        set_environment(monkeypatch, {**ENVIRONMENTS[kind], name: url})
        with pytest.raises(SettingsError) as refused:
            load(kind)
        assert name in str(refused.value)
        assert CANARY not in str(refused.value)
        assert "Word" not in str(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres:pw@db.example/postgres?sslmode=require",
        "postgres://postgres.abcdefghij:p%40w%2F%3A:x@aws-0-eu.pooler.supabase.com:5432/postgres?sslmode=require",
        "postgres://postgres:pw@db.example/postgres?sslmode=verify-full&sslrootcert=/etc/ca.crt",
        "postgresql://postgres:pw@[2001:db8::1]:5432/postgres?sslmode=require&connect_timeout=3",
        "postgresql://postgres:pw@a.example:5432,b.example:5433/postgres?sslmode=require&target_session_attrs=any",
        "postgresql://postgres:pw@/postgres?sslmode=require&host=/run/postgresql",
        "postgresql://postgres:p%C3%A9%25w@db-1.example/my%20database?sslmode=require&application_name=mine",
    ],
)
def test_well_formed_database_url_is_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in _kinds_with("DATABASE_URL"):
        set_environment(monkeypatch, {**ENVIRONMENTS[kind], "DATABASE_URL": url})
        assert load(kind).model_dump()["database_url"].get_secret_value() == url


@pytest.mark.parametrize(("kind", "name"), EVERY_SETTING)
@pytest.mark.parametrize("value", NASTY)
def test_no_setting_is_quoted_when_it_is_refused(
    kind: type[DeploymentSettings], name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, {**ENVIRONMENTS[kind], name: value})
    said = _refusal(kind)
    assert CANARY not in said
    assert not said or name in said


def _refusal(kind: type[DeploymentSettings]) -> str:
    """Load the settings, and return the error's text, or "" if the settings are valid."""
    try:
        load(kind)
    except SettingsError as refused:
        return str(refused)
    return ""


def test_file_that_is_no_text_is_refused_and_quoted_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, {})
    (tmp_path / ".env").write_bytes(f"API_DATABASE_URL=postgresql://x:{CANARY}".encode() + b"\xff@db/x\n")
    with pytest.raises(SettingsError) as refused:
        load(MigrationSettings)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    "command", [["serve"], ["worker"], ["migrate"], ["check"], ["keys", "status"], ["demo", "--once"]]
)
@pytest.mark.parametrize("how", ["an @ in the password", "a [ in the password", "bytes that are not UTF-8"])
def test_command_with_malformed_database_urls_prints_no_part_of_them(
    command: list[str], how: str, tmp_path: Path
) -> None:
    environment = {name: value for kind in KINDS for name, value in ENVIRONMENTS[kind].items()}
    environment |= {name: MALFORMED_URLS[how].format(role=ROLES[name]) for name in DATABASE_URLS}
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *command],
        env={"PATH": os.defpath, **environment},
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in (1, 2)
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert "DATABASE_URL" in said
    assert CANARY not in said
    assert "Word" not in said
    assert "Traceback" not in said
