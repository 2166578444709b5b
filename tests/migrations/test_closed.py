"""The migrations alone, applied by `supabase db push`, give no access. Only `resguardo migrate` gives access."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from app.postgres.access_policies import MIGRATIONS_DIRECTORY
from app.postgres.migrations import migrate
from devstack.supabase_project import Grants, ProjectUrls

ROLES = [
    *("public", "anon", "authenticated", "service_role", "authenticator"),
    *("clinician", "compliance", "patient", "resguardo_api", "resguardo_worker"),
]
OPEN: dict[str, LiteralString] = {
    "schema": (
        "select n.nspname from pg_namespace as n where n.nspname in {schemas}"
        " and has_schema_privilege(%(role)s, n.oid, 'USAGE, CREATE')"
    ),
    "table": (
        "select c.oid::regclass::text from pg_class as c where c.relnamespace::regnamespace::text in {schemas}"
        " and c.relkind in ('r', 'p', 'v') and (has_any_column_privilege(%(role)s, c.oid,"
        " 'SELECT, INSERT, UPDATE, REFERENCES') or has_table_privilege(%(role)s, c.oid, 'DELETE, TRUNCATE, TRIGGER'))"
    ),
    "sequence": (
        "select c.oid::regclass::text from pg_class as c where c.relnamespace::regnamespace::text in {schemas}"
        " and case when c.relkind = 'S' then has_sequence_privilege(%(role)s, c.oid, 'USAGE, SELECT, UPDATE') end"
    ),
    "function": (
        "select p.oid::regprocedure::text from pg_proc as p where p.pronamespace::regnamespace::text in {schemas}"
        " and has_function_privilege(%(role)s, p.oid, 'EXECUTE')"
    ),
}
SCHEMAS = "('resguardo', 'audit', 'private', 'jobs')"


@pytest.fixture(params=["older", "newer"])
def grants(request: pytest.FixtureRequest) -> Grants:
    return "older" if request.param == "older" else "newer"


@pytest.fixture
def reader(project: ProjectUrls) -> Iterator[psycopg.Connection]:
    migrate(project.owner_url, MIGRATIONS_DIRECTORY)
    with psycopg.connect(project.superuser_url) as connection:
        yield connection


@pytest.mark.parametrize("kind", OPEN)
def test_nobody_may_use_anything_before_the_access_is_applied(reader: psycopg.Connection, kind: str) -> None:
    query = OPEN[kind].replace("{schemas}", SCHEMAS).encode()
    allowed = {role: reader.execute(query, {"role": role}).fetchall() for role in ROLES}
    assert {role: found for role, found in allowed.items() if found} == {}
    owner = reader.execute(
        "select nspowner::regrole::text from pg_namespace where nspname = 'private'"
    ).fetchone()
    assert owner
    assert reader.execute(query, {"role": owner[0]}).fetchall()


def test_row_security_is_on_and_no_policy_opens_it_before_the_access_is_applied(
    reader: psycopg.Connection,
) -> None:
    tables = reader.execute(
        "select c.relname, c.relrowsecurity from pg_class as c"
        " where c.relnamespace = 'resguardo'::regnamespace and c.relkind in ('r', 'p')"
    ).fetchall()
    assert tables
    assert [name for name, is_secured in tables if not is_secured] == []
    policies = "select policyname from pg_policies where schemaname in {schemas}".replace(
        "{schemas}", SCHEMAS
    )
    assert reader.execute(policies.encode()).fetchall() == []


def test_migrations_grant_nothing_to_roles_of_the_cluster() -> None:
    """A migration grants nothing to roles, because a role belongs to the whole cluster and could use the grant from
    its other databases.
    """
    texts = [path.read_text(encoding="utf-8") for path in MIGRATIONS_DIRECTORY.glob("*.sql")]
    assert texts
    assert [
        line for text in texts for line in text.splitlines() if re.match(r"\s*(grant|create policy)\b", line)
    ] == []


@pytest.mark.parametrize("path", sorted(MIGRATIONS_DIRECTORY.glob("*.sql")), ids=lambda path: path.name)
def test_migration_is_one_that_the_supabase_cli_can_push(path: Path) -> None:
    """A migration contains no psql commands, because the Supabase CLI sends each statement to the server in one
    transaction.
    """
    outside_bodies = re.sub(r"\$(\w*)\$.*?\$\1\$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    refused = r"^\\|^\s*(begin|commit|rollback|start transaction|end|vacuum)\b[^;]*;|\bconcurrently\b|\bfrom stdin\b"
    assert re.findall(refused, outside_bodies, re.IGNORECASE | re.MULTILINE) == []
