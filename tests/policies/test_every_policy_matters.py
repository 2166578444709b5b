"""Tests that every row policy is necessary: if a policy is dropped or its condition becomes `true`, the database's
answer for at least one cell of the access matrix changes.

Each test changes one policy, repeats the probes of the affected cells, and rolls its transaction back.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from tests.databases import Cluster
from tests.policies.actors import Connection, actor
from tests.policies.matrix import MATRIX, Cell, read_cells
from tests.policies.probes import Population, answer, population_of
from tests.policies.seed import seed

CELLS = read_cells(MATRIX.read_text(encoding="utf-8"))
READERS = {
    "resguardo.participants": ["resguardo.standing_consents"],
    "resguardo.consents": ["resguardo.standing_consents"],
}


@dataclass(frozen=True)
class Policy:
    """A row policy, read from `pg_policies`. `using` and `check` are the policy's expressions as Postgres prints
    them, or None.
    """

    name: str
    table: str
    role: str
    using: str | None
    check: str | None

    @property
    def changes(self) -> dict[str, sql.Composed]:
        """Return the statements that weaken the policy, by a description of the change. A statement that would
        change nothing is left out.
        """
        name, table = sql.Identifier(self.name), sql.Identifier(*self.table.split("."))
        alter = sql.SQL("alter policy {} on {} ").format(name, table)
        using, check = sql.SQL("using (true) "), sql.SQL("with check (true)")
        changes = {"dropped": sql.SQL("drop policy {} on {}").format(name, table)}
        if {self.using, self.check} - {None, "true"}:
            parts = [part for part, old in ((using, self.using), (check, self.check)) if old is not None]
            changes["made true"] = alter + sql.SQL("").join(parts)
        if self.using not in (None, "true") and self.check is not None:
            changes["check made true"] = alter + check
        return changes


@pytest.fixture(scope="module")
def superuser(cluster: Cluster) -> Iterator[Connection]:
    """Return a superuser's connection to a database with the test practice. Only a superuser can change a policy
    and take the role of every actor in one transaction.
    """
    with cluster.clone("newer") as database:
        seed(database.superuser_url)
        with psycopg.connect(database.superuser_url, autocommit=True) as connection:
            yield connection


def test_every_policy_matters(superuser: Connection) -> None:
    policies = _policies(superuser)
    idle = [
        f"{policy.name} {how}: no cell changes"
        for policy in policies
        for how, change in policy.changes.items()
        if not _a_cell_differs(superuser, policy, change)
    ]
    assert policies
    assert not idle, "\n".join(idle)


def test_no_cell_differs_where_nothing_was_changed(superuser: Connection) -> None:
    """If no policy is changed, every probe gets the answer that the matrix expects. If an answer changes in a test
    that changes a policy, the changed policy is therefore the cause.
    """
    for policy in _policies(superuser):
        assert not _a_cell_differs(superuser, policy, sql.SQL("select 1").format()), policy.name


def _policies(superuser: Connection) -> list[Policy]:
    rows = superuser.execute(
        "select policyname, schemaname || '.' || tablename, roles::text[], qual, with_check from pg_policies"
        " where schemaname in ('resguardo', 'audit', 'private', 'jobs') order by 1"
    ).fetchall()
    for name, _, roles, *_ in rows:
        assert len(roles) == 1, f"{name} is for {roles}"
    return [Policy(name, table, roles[0], using, check) for name, table, roles, using, check in rows]


def _a_cell_differs(superuser: Connection, policy: Policy, change: sql.Composed) -> bool:
    relations = [policy.table, *READERS.get(policy.table, [])]
    there = {name: population_of(superuser, name) for name in relations}
    touched = [cell for cell in CELLS if cell.relation in relations and actor(cell.actor).role == policy.role]
    assert touched
    with _rolled_back(superuser):
        superuser.execute(change)
        return any(_got(superuser, cell, there) != cell.answer for cell in touched)


def _got(superuser: Connection, cell: Cell, there: dict[str, Population]) -> str:
    return answer(superuser, actor(cell.actor), cell.relation, cell.operation, there[cell.relation])


@contextmanager
def _rolled_back(connection: Connection) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        yield
