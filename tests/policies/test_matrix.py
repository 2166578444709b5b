"""Tests every cell of `policies/matrix.md` on a real Postgres, once with the default grants of older Supabase
projects and once with those of newer projects.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, cast

import psycopg
import pytest
from psycopg import sql

from devstack.supabase_project import Grants
from tests.databases import Cluster, Database
from tests.policies.actors import ACTORS, ROLES, Actor, Connection, actor, url_of
from tests.policies.matrix import MATRIX, Cell, read_cells, read_columns, read_functions, read_legend
from tests.policies.probes import Population, answer, population_of
from tests.policies.seed import seed

TEXT = MATRIX.read_text(encoding="utf-8")
CELLS = read_cells(TEXT)
FUNCTIONS = read_functions(TEXT)
RELATIONS = sorted({cell.relation for cell in CELLS})


class Connections:
    """A seeded database with a connection for each actor."""

    def __init__(self, database: Database, stack: ExitStack) -> None:
        self._stack = stack
        self._database = database
        self._connections: dict[str, Connection] = {}
        self.superuser = self._connect(database.superuser_url)
        self.relations = [
            name
            for (name,) in self.superuser.execute(
                "select c.oid::regclass::text from pg_class as c where c.relkind in ('r', 'p', 'v', 'm', 'f')"
                " and c.relnamespace::regnamespace::text in ('resguardo', 'audit', 'private', 'jobs')"
            )
        ]
        self.populations: dict[str, Population] = {
            name: population_of(self.superuser, name) for name in self.relations
        }

    def as_actor(self, who: Actor) -> Connection:
        url = url_of(self._database, who)
        if url not in self._connections:
            self._connections[url] = self._connect(url)
        return self._connections[url]

    def _connect(self, url: str) -> Connection:
        return self._stack.enter_context(psycopg.connect(url, autocommit=True))

    def named(self, relation: str) -> list[str]:
        """Return the tables and views with this name. If the name ends in `<year>`, return all partitions of the
        table.
        """
        pattern = re.escape(relation).replace("<year>", "[0-9]{4}")
        return [name for name in self.relations if re.fullmatch(pattern, name)]


@pytest.fixture(scope="module", params=["older", "newer"])
def connections(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Connections]:
    with cluster.clone(cast("Grants", request.param)) as database, ExitStack() as stack:
        seed(database.superuser_url)
        yield Connections(database, stack)


def _id(cells: list[Cell]) -> str:
    return f"{cells[0].relation}-{cells[0].actor}".replace(" ", "-")


ROWS = [
    [cell for cell in CELLS if cell.relation == relation and cell.actor == who.name]
    for relation in RELATIONS
    for who in ACTORS
]


@pytest.mark.parametrize("cells", ROWS, ids=_id)
def test_every_cell_is_as_written(connections: Connections, cells: list[Cell]) -> None:
    who = actor(cells[0].actor)
    wrong: list[str] = []
    for name in connections.named(cells[0].relation):
        for cell in cells:
            got = answer(connections.as_actor(who), who, name, cell.operation, connections.populations[name])
            if got != cell.answer:
                wrong.append(f"{who.name}, {cell.operation} on {name}: {got}, not {cell.answer}")
    assert not wrong, "\n".join(wrong)


def test_every_relation_is_in_the_file_and_exists(connections: Connections) -> None:
    named = {name: relation for relation in RELATIONS for name in connections.named(relation)}
    assert set(connections.relations) == set(named)
    assert set(RELATIONS) == set(named.values())


def test_every_relation_is_asked_for_every_command() -> None:
    for relation in RELATIONS:
        asked = {cell.operation for cell in CELLS if cell.relation == relation}
        assert {"select", "insert", "update", "delete"} <= asked, relation


def test_every_answer_is_explained() -> None:
    assert {cell.answer for cell in CELLS} == read_legend(TEXT)


def test_every_relation_has_rows_to_be_seen(connections: Connections) -> None:
    empty = [name for name, there in connections.populations.items() if not there.everything]
    assert all(re.fullmatch("audit.events_[0-9]{4}", name) for name in empty)
    assert "audit.events_2026" not in empty


def test_every_function_is_in_the_file_and_exists(connections: Connections) -> None:
    assert sorted(_functions(connections.superuser)) == sorted(FUNCTIONS)


@pytest.mark.parametrize("role", ROLES)
def test_every_function_can_be_called_by_those_named(connections: Connections, role: str) -> None:
    """The test calls each function in the schema `private` with null for every argument. If the call fails with any
    error except "permission denied", the role may call the function.
    """
    wrong = [
        name
        for name, call in _functions(connections.superuser).items()
        if _may_call(connections.superuser, role, call) != (role in FUNCTIONS[name])
    ]
    assert not wrong, f"{role} may call what it should not, or may not what it should: {wrong}"


def test_columns_that_may_be_written_are_those_named(connections: Connections) -> None:
    """The database grants rights on single columns exactly as `policies/matrix.md` lists them."""
    rows = connections.superuser.execute(
        "select c.oid::regclass::text, lower(g.privilege_type), g.grantee::regrole::text, array_agg(a.attname::text)"
        " from pg_class as c join pg_attribute as a on a.attrelid = c.oid, aclexplode(a.attacl) as g"
        " where c.relnamespace::regnamespace::text in ('resguardo', 'audit', 'private', 'jobs') group by 1, 2, 3"
    )
    granted = {(table, command, role): frozenset(columns) for table, command, role, columns in rows}
    assert granted == read_columns(TEXT)


def _functions(superuser: Connection) -> dict[str, sql.Composed]:
    """Return, for each function in the schema `private`, a statement that calls it with null for every argument.
    The helper fails if two functions have the same name.
    """
    rows: list[tuple[Any, ...]] = superuser.execute(
        "select p.proname, array(select format_type(t, null) from unnest(p.proargtypes) as t)"
        " from pg_proc as p where p.pronamespace = 'private'::regnamespace"
    ).fetchall()
    assert len({name for name, _ in rows}) == len(rows)
    return {
        name: sql.SQL("select private.{}({})").format(
            sql.Identifier(name), sql.SQL(", ").join(sql.SQL("null::") + sql.SQL(kind) for kind in kinds)
        )
        for name, kinds in rows
    }


def _may_call(superuser: Connection, role: str, call: sql.Composed) -> bool:
    try:
        with superuser.transaction(force_rollback=True):
            superuser.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
            superuser.execute(call)
    except psycopg.errors.InsufficientPrivilege as error:
        message = error.diag.message_primary or ""
        return not message.startswith(("permission denied for function", "permission denied for schema"))
    except psycopg.Error:
        return True
    return True
