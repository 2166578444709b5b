"""Tests of `resguardo staff add` and of its output. With `resguardo staff add`, the database owner adds the first
compliance officer of a practice.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any, LiteralString
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from typer.testing import CliRunner, Result

from app import cli
from app.texts import operator_message
from devstack.stack import Stack
from tests.databases import Cluster
from tests.integration import small_stack
from tests.unit.environments import set_environment

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def running_stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with small_stack.running(cluster, tmp_path_factory.mktemp("running_stack")) as made:
        yield made


@pytest.fixture
def environment(running_stack: Stack) -> dict[str, str]:
    """Return only the environment variables that `StaffSettings` reads."""
    names = ("ENVIRONMENT", "DEPLOYMENT", "SUPABASE_URL", "SUPABASE_SECRET_KEY")
    return {
        **{name: running_stack.environment[name] for name in names},
        "DATABASE_URL": running_stack.project.owner_url,
    }


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Run:
    monkeypatch.chdir(tmp_path)

    def invoke(environment: dict[str, str], *arguments: str) -> Result:
        set_environment(monkeypatch, environment)
        return CliRunner().invoke(cli.cli, arguments)

    return invoke


@pytest.fixture
def email() -> str:
    return f"officer-{uuid4().hex[:8]}@example.org"


def _rows(running_stack: Stack, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(running_stack.project.superuser_url) as connection:
        return connection.execute(query, values).fetchall()


def _login(running_stack: Stack, email: str) -> UUID:
    ((found,),) = _rows(running_stack, "select id from auth.users where email = %s", email)
    return UUID(str(found))


def test_first_officer_is_created_and_the_next_step_printed(
    run: Run, running_stack: Stack, environment: dict[str, str], email: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        result = run(environment, "staff", "add", email, "--role", "compliance")
    login = _login(running_stack, email)
    assert result.exit_code == 0, result.output
    assert f"added {login} as compliance" in result.output
    assert "follow the link" in result.output
    assert email not in result.output + caplog.text
    assert _rows(running_stack, "select role, status from resguardo.staff where user_id = %s", login) == [
        ("compliance", "active")
    ]
    (row,) = _rows(
        running_stack,
        "select actor_id, actor_role, basis, outcome from audit.events"
        " where action = 'staff.add' and "
        "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
        " = array[%s::uuid]",
        login,
    )
    assert row == (None, running_stack.project.owner, "staff_add", "ALLOWED")
    outbox = httpx.get(
        f"{running_stack.supabase_url}/stand-in/outbox", headers={"apikey": running_stack.secret_key}
    ).json()
    assert [mail["to"] for mail in outbox["mails"]].count(email) == 1


def test_existing_member_is_refused_without_the_address(
    run: Run, environment: dict[str, str], email: str
) -> None:
    assert run(environment, "staff", "add", email, "--role", "compliance").exit_code == 0
    again = run(environment, "staff", "add", email.upper(), "--role", "clinician")
    assert again.exit_code == 1
    assert "CONFLICT already_staff" in again.output
    assert "member of staff" in again.output
    assert email not in again.output.lower()


@pytest.mark.parametrize(
    ("changed", "arguments", "code", "said"),
    [
        ({}, ("nobody", "--role", "compliance"), 1, "INVALID_INPUT bad_email"),
        ({}, ("a@example.org", "--role", "patient"), 2, "--role"),
        ({}, ("a@example.org",), 2, "--role"),
        (
            {"DEPLOYMENT": "another"},
            ("a@example.org", "--role", "compliance"),
            1,
            "database_of_another_deployment",
        ),
        (
            {"SUPABASE_SECRET_KEY": "sb_secret_wrong"},
            ("a@example.org", "--role", "compliance"),
            1,
            "supabase_key_refused",
        ),
        (
            {"SUPABASE_SECRET_KEY": ""},
            ("a@example.org", "--role", "compliance"),
            2,
            "SUPABASE_SECRET_KEY: is missing",
        ),
    ],
)
def test_addition_that_cannot_be_says_why_and_makes_nobody(
    run: Run,
    running_stack: Stack,
    environment: dict[str, str],
    changed: dict[str, str],
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    before = _rows(running_stack, "select count(*) from resguardo.staff")
    result = run({**environment, **changed}, "staff", "add", *arguments)
    assert result.exit_code == code, result.output
    assert said in result.output
    assert "a@example.org" not in result.output
    assert _rows(running_stack, "select count(*) from resguardo.staff") == before
    assert _rows(running_stack, "select 1 from private.staff_invitations where status = 'PENDING'") == []


@pytest.mark.parametrize(
    "reason", ["already_staff", "login_unconfirmed", "login_is_patient", "supabase_mail_limit"]
)
def test_every_refusal_has_a_remedy(reason: str) -> None:
    assert operator_message(reason) != operator_message("no such reason")
