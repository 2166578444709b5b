"""A project created by the dev stack has the same schema as a project created by Supabase's own migrations."""

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from app.errors import Conflict
from devstack.supabase_project import create_project, drop_project
from tests.databases import Cluster, Database


def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def test_owner_is_no_superuser_and_bypasses_rls(database: Database) -> None:
    query = """select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls
               from pg_roles where rolname = current_user"""
    assert _rows(database.owner_url, query) == [(False, True, True, True, True)]


def test_api_roles_bypass_rls_only_as_service_role(database: Database) -> None:
    query = """select rolname, rolcanlogin, rolbypassrls from pg_roles
               where rolname in ('anon', 'authenticated', 'service_role', 'authenticator') order by rolname"""
    assert _rows(database.superuser_url, query) == [
        ("anon", False, False),
        ("authenticated", False, False),
        ("authenticator", True, False),
        ("service_role", False, True),
    ]


def test_auth_tables_have_rls_and_belong_to_the_auth_admin(database: Database) -> None:
    query = """select relname, relowner::regrole::text, relrowsecurity from pg_class
               where relnamespace = 'auth'::regnamespace and relkind = 'r' order by relname"""
    tables = [
        "audit_log_entries",
        "identities",
        "mfa_amr_claims",
        "mfa_challenges",
        "mfa_factors",
        "refresh_tokens",
        "sessions",
        "users",
    ]
    assert _rows(database.owner_url, query) == [(table, "supabase_auth_admin", True) for table in tables]


def test_owner_may_pass_on_select_alone_and_make_nothing_in_auth(database: Database) -> None:
    query = """select has_table_privilege('auth.users', 'select with grant option'),
                      has_table_privilege('auth.users', 'insert'),
                      has_table_privilege('auth.users', 'insert with grant option'),
                      has_schema_privilege('auth', 'create'),
                      pg_has_role('supabase_auth_admin', 'member')"""
    assert _rows(database.owner_url, query) == [(True, True, False, False, False)]


def test_auth_functions_read_the_claims(database: Database) -> None:
    with psycopg.connect(database.owner_url) as connection:
        sub = "11111111-1111-4111-8111-111111111111"
        claims = json.dumps({"sub": sub, "role": "anon"})
        connection.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
        found = connection.execute("select auth.uid()::text, auth.role(), auth.email(), auth.jwt() ->> 'sub'")
        assert found.fetchone() == (sub, "anon", None, sub)
        connection.commit()
        assert connection.execute("select auth.uid(), auth.jwt()").fetchone() == (None, None)


@pytest.mark.parametrize(("grants", "is_granted"), [("older", True), ("newer", False)])
def test_new_public_objects_are_granted_on_older_projects_only(database: Database, is_granted: bool) -> None:
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("create table public.made (); create sequence public.numbers")
        for role in ("anon", "authenticated", "service_role"):
            found = connection.execute(
                """select has_table_privilege(%(role)s, 'public.made', 'select, insert, update, delete'),
                          has_sequence_privilege(%(role)s, 'public.numbers', 'usage, select')""",
                {"role": role},
            )
            assert found.fetchone() == (is_granted, is_granted)


def test_projects_made_at_once_do_not_collide_over_roles(cluster: Cluster) -> None:
    names = [f"parallel_{secrets.token_hex(4)}" for _ in range(4)]

    def make(name: str) -> str:
        password = cluster.password("owner")
        return create_project(cluster.superuser_url, name, grants="newer", owner_password=password).owner_url

    try:
        with ThreadPoolExecutor(len(names)) as pool:
            for url in pool.map(make, names):
                assert _rows(url, "select count(*) from auth.users") == [(0,)]
    finally:
        for name in names:
            drop_project(cluster.superuser_url, name)


def test_existing_database_is_refused(cluster: Cluster, database: Database) -> None:
    with pytest.raises(Conflict, match="database_exists"):
        create_project(
            cluster.superuser_url, database.name, grants="newer", owner_password=cluster.password("owner")
        )
