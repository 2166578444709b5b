"""Resguardo detects if one of its database roles has changed its own settings, and `resguardo migrate` repairs
these settings. `resguardo migrate --revoke-temp` revokes the TEMP privilege from PUBLIC and from Resguardo's roles,
and grants it to the listed roles.

The tests use a Postgres server of their own, because all databases of a server share its roles, with their settings
and passwords.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from app import cli
from app.postgres.database import Database
from app.texts import operator_message
from devstack import postgres
from devstack.supabase_project import ProjectUrls, create_project, with_login
from tests.unit.environments import set_environment

Migrate = Callable[..., Result]
ROLES: tuple[LiteralString, ...] = ("clinician", "compliance", "patient", "resguardo_api", "resguardo_worker")
PASSWORD = SecretStr("as-it-is-configured")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectUrls]:
    with postgres.running(tmp_path_factory.mktemp("server"), durable=False) as server:
        yield create_project(server, "practice", grants="newer", owner_password=SecretStr("owner"))


@pytest.fixture
def environment(project: ProjectUrls) -> dict[str, str]:
    return {
        "ENVIRONMENT": "development",
        "DEPLOYMENT": "practice",
        "DATABASE_URL": project.owner_url,
        "API_DATABASE_URL": with_login(project.owner_url, "practice", "resguardo_api", PASSWORD),
        "WORKER_DATABASE_URL": with_login(project.owner_url, "practice", "resguardo_worker", PASSWORD),
    }


@pytest.fixture
def migrate(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Migrate:
    """Return a function that runs `resguardo migrate`. Before the fixture returns, it runs `resguardo migrate`
    once.
    """
    monkeypatch.chdir(tmp_path)
    set_environment(monkeypatch, environment)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.cli, ["migrate", *arguments])

    assert run().exit_code == 0
    return run


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _changed(environment: dict[str, str]) -> list[str]:
    with psycopg.connect(environment["WORKER_DATABASE_URL"]) as worker:
        row = worker.execute("select changed from private.access_standing()").fetchone()
    assert row is not None
    return list(row[0])


def _role_settings(project: ProjectUrls) -> list[str]:
    with psycopg.connect(project.superuser_url) as connection:
        rows = connection.execute(
            "select s.setrole::regrole::text, s.setconfig::text from pg_db_role_setting as s"
            " where s.setrole::regrole::text = any(%s)",
            [list(ROLES)],
        )
        return [f"{role} {config}" for role, config in rows]


@pytest.mark.parametrize("where", ["", " in database practice"])
@pytest.mark.parametrize("role", ROLES)
def test_setting_of_a_role_is_seen_and_taken_away(
    project: ProjectUrls, environment: dict[str, str], migrate: Migrate, role: str, where: str
) -> None:
    _execute(project.superuser_url, f"alter role {role}{where} set statement_timeout = '1ms'")
    try:
        with psycopg.connect(project.owner_url) as owner:
            row = owner.execute("select changed from private.access_standing()").fetchone()
        told = f"settings of {role}" + (" in this database" if where else "")
        assert row == ([told],)
        result = migrate()
        assert result.exit_code == 0, result.output
        assert f"was changed by hand {told}" in result.output
        assert _role_settings(project) == []
        assert _changed(environment) == []
    finally:
        _execute(project.superuser_url, f"alter role {role}{where} reset all")


@pytest.mark.parametrize("setting", ["role = 'clinician'", "search_path = pg_temp", "work_mem = '64kB'"])
def test_setting_that_a_login_gave_itself_is_seen_and_taken_away(
    project: ProjectUrls, environment: dict[str, str], migrate: Migrate, setting: str
) -> None:
    _execute(environment["API_DATABASE_URL"], f"alter role resguardo_api set {setting}")
    assert _changed(environment) == ["settings of resguardo_api"]
    assert migrate().exit_code == 0
    assert _role_settings(project) == []
    assert _changed(environment) == []


@pytest.mark.parametrize("whose", ["database practice", "role all", "role all in database practice"])
def test_setting_for_the_whole_database_is_seen_and_left_to_its_owner(
    project: ProjectUrls, environment: dict[str, str], migrate: Migrate, whose: str
) -> None:
    _execute(project.superuser_url, f"alter {whose} set datestyle = 'German, DMY'")
    try:
        told = "settings of everybody" + ("" if whose == "role all" else " in this database")
        assert _changed(environment) == [told]
        result = migrate()
        assert f"was changed by hand {told}" in result.output
        assert _changed(environment) == []
    finally:
        _execute(project.superuser_url, f"alter {whose} reset all")


@pytest.mark.parametrize("change", ["connection limit 0", "valid until '2020-01-01'"])
def test_limit_of_a_login_is_seen(
    project: ProjectUrls, environment: dict[str, str], migrate: Migrate, change: str
) -> None:
    assert migrate().exit_code == 0
    _execute(project.superuser_url, f"alter role resguardo_api {change}")
    try:
        assert _changed(environment) == ["role resguardo_api"]
    finally:
        _execute(project.superuser_url, "alter role resguardo_api connection limit -1 valid until 'infinity'")
        assert migrate().exit_code == 0


def test_password_that_a_login_gave_itself_is_replaced(environment: dict[str, str], migrate: Migrate) -> None:
    url = environment["API_DATABASE_URL"]
    _execute(url, "alter role resguardo_api password 'of-the-thief'")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    assert migrate().exit_code == 0
    psycopg.connect(url).close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url.replace(PASSWORD.get_secret_value(), "of-the-thief"))


def _keeps_temp(project: ProjectUrls, role: str) -> bool:
    with psycopg.connect(project.superuser_url) as connection:
        row = connection.execute("select has_database_privilege(%s, 'practice', 'TEMP')", [role]).fetchone()
    assert row is not None
    return bool(row[0])


@pytest.fixture
def with_temp(project: ProjectUrls) -> Iterator[None]:
    """After the test, grant the TEMP privilege to PUBLIC again, as in a new database."""
    yield
    with psycopg.connect(project.superuser_url, autocommit=True) as connection:
        connection.execute("grant temporary on database practice to public")
        for role in ("authenticator", "authenticated"):
            connection.execute(
                sql.SQL("revoke temporary on database practice from {}").format(sql.Identifier(role))
            )


@pytest.mark.usefixtures("with_temp")
def test_migrate_leaves_temp_alone_unless_asked(project: ProjectUrls, migrate: Migrate) -> None:
    result = migrate()
    assert "TEMP" not in result.output
    assert all(_keeps_temp(project, role) for role in (*ROLES, "authenticator"))


@pytest.mark.usefixtures("with_temp")
def test_revoke_temp_takes_it_from_our_roles_and_says_who_keeps_it(
    project: ProjectUrls, environment: dict[str, str], migrate: Migrate
) -> None:
    result = migrate("--revoke-temp", "--keep-temp", "authenticator", "--keep-temp", "authenticated")
    assert result.exit_code == 0, result.output
    assert not any(_keeps_temp(project, role) for role in ROLES)
    kept = re.search(r"TEMP is kept by: (.*)", result.output)
    assert kept is not None
    assert set(kept[1].split(", ")) >= {"authenticated", "authenticator", project.owner}
    assert not {*ROLES, "anon", "service_role"} & set(kept[1].split(", "))
    with psycopg.connect(environment["API_DATABASE_URL"]) as api, pytest.raises(psycopg.Error) as refusal:
        api.execute("create temp table t (n int)")
    assert refusal.value.sqlstate == "42501"
    assert _changed(environment) == []


@pytest.mark.usefixtures("with_temp")
def test_revoked_temp_stays_revoked_and_a_new_grant_is_reported(
    project: ProjectUrls, environment: dict[str, str], migrate: Migrate
) -> None:
    assert migrate("--revoke-temp").exit_code == 0
    assert migrate().exit_code == 0
    assert not _keeps_temp(project, "resguardo_api")
    _execute(project.superuser_url, "grant temporary on database practice to public")
    assert _changed(environment) == [f"database rights of {role}" for role in ROLES]


@pytest.mark.usefixtures("with_temp")
def test_revoke_temp_keeps_it_for_nobody_who_is_not_there_or_is_ours(
    project: ProjectUrls, migrate: Migrate
) -> None:
    for role, reason in (("nobody_here", "temp_role_unknown"), ("resguardo_api", "temp_role_is_ours")):
        result = migrate("--revoke-temp", "--keep-temp", role)
        assert result.exit_code == 1
        assert result.output.splitlines()[-2:] == [
            f"INVALID_INPUT {reason} role={role}",
            f"  {operator_message(reason)}",
        ]
        assert operator_message(reason) != operator_message("no such reason")
    assert _keeps_temp(project, "resguardo_api")


def test_keep_temp_without_revoke_temp_is_refused(migrate: Migrate) -> None:
    result = migrate("--keep-temp", "authenticator")
    assert result.exit_code == 2
    assert "--revoke-temp" in result.output


@pytest.mark.usefixtures("with_temp")
def test_revoke_temp_fails_if_the_owner_may_not_revoke_it(project: ProjectUrls, migrate: Migrate) -> None:
    """If the database owner may not revoke TEMP from PUBLIC, Postgres reports a warning and no error. `resguardo
    migrate --revoke-temp` must therefore check whether PUBLIC still has the TEMP privilege.
    """
    owner = sql.Identifier(project.owner)
    with psycopg.connect(project.superuser_url, autocommit=True) as connection:
        connection.execute("alter database practice owner to supabase_admin")
        try:
            result = migrate("--revoke-temp")
        finally:
            connection.execute(sql.SQL("alter database practice owner to {}").format(owner))
    assert result.exit_code == 1
    assert f"temp_not_revoked\n  {operator_message('temp_not_revoked')}" in result.output


@pytest.mark.parametrize(
    "setting", ["role = 'clinician'", "search_path = pg_temp", "datestyle = 'German'", "row_security = off"]
)
def test_setting_that_a_login_gave_itself_changes_no_transaction_of_the_product(
    environment: dict[str, str], migrate: Migrate, setting: str
) -> None:
    url = environment["API_DATABASE_URL"]
    _execute(url, f"alter role resguardo_api set {setting}")

    async def ask() -> object:
        database = Database(url, application="test", max_size=1)
        await database.open()
        try:
            async with database.as_service("health") as tx:
                return await tx.value("select private.deployment_name()")
        finally:
            await database.close()

    try:
        assert asyncio.run(ask()) == "practice"
    finally:
        assert migrate().exit_code == 0
