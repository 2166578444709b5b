"""Tests that reading a page of the audit log costs no more if the log is long, for each filter and each pair of
filters.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, LiteralString

import psycopg
import pytest

from app.audit.model import AuditFilter
from benchmarks.audit_log import FILTERS, fill, pairs
from tests.databases import Cluster
from tests.policies.actors import Connection, actor, enter
from tests.policies.seed import seed

EVENTS = 100_000
FIRST = 50
BLOCKS_PER_ROW = 10
"""A row of one filter costs a block of its own, and blocks of an index if another index has found it."""

BLOCKS_PER_ROW_OF_A_PAIR = 60
"""The rows of the narrower filter that the other filter excludes cost blocks, too."""

PAGE: LiteralString = (
    "private.read_audit(%(before_at)s, %(before_id)s, %(actor_id)s, %(action)s, %(outcomes)s::text[], %(patient_id)s,"
    " %(consultation_id)s, %(since)s, %(until)s, %(page_size)s, '{}')"
)
COMPOSE: LiteralString = "select " + PAGE.replace("read_audit", "compose_audit_page").replace(", '{}')", ")")
EXPLAIN_READ: LiteralString = "explain (analyze, buffers, format json) select * from " + PAGE  # noqa: S608
PREPARE = "prepare page (timestamptz, uuid, uuid, text, text[], uuid, uuid, timestamptz, timestamptz) as "
EXECUTE: LiteralString = (
    "explain (analyze, buffers, format json) execute page (%(before_at)s, %(before_id)s, %(actor_id)s,"
    " %(action)s, %(outcomes)s::text[], %(patient_id)s, %(consultation_id)s, %(since)s, %(until)s)"
)
Log = dict[str, Connection]


@pytest.fixture(scope="module")
def log(cluster: Cluster) -> Iterator[Log]:
    """Return two connections, of a superuser and of the API, to a shared database whose audit log has many rows."""
    with cluster.clone("newer") as database, ExitStack() as stack:
        seed(database.superuser_url)
        fill(database.superuser_url, EVENTS)
        connections = {
            "superuser": stack.enter_context(psycopg.connect(database.superuser_url, autocommit=True)),
            "api": stack.enter_context(psycopg.connect(database.api_url, autocommit=True)),
        }
        connections["superuser"].execute("update private.quotas set per_hour = 1000000")
        yield connections


@pytest.mark.parametrize("is_pair", [False, True], ids=["one filter", "pairs of filters"])
def test_page_reads_no_more_blocks_than_its_rows_need(log: Log, *, is_pair: bool) -> None:
    # The blocks of the session check, the quota and the audit row, and of an index of each partition
    least = max(_blocks(log["api"], AuditFilter()) for _ in range(3))
    each_row = BLOCKS_PER_ROW_OF_A_PAIR if is_pair else BLOCKS_PER_ROW
    filters = pairs() if is_pair else FILTERS
    blocks = {name: _blocks(log["api"], wanted) for name, wanted in filters.items()}
    assert {name: count for name, count in blocks.items() if count > least + each_row * FIRST} == {}


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_select_of_a_page_scans_no_partition(log: Log, mode: str) -> None:
    """`read_audit()` has Postgres plan each query for its filter values. Even a generic plan for a page of the
    audit log never scans a whole partition, although it may sort rows.
    """
    faults = {}
    with log["superuser"].transaction(force_rollback=True):
        log["superuser"].execute("set local enable_seqscan = off")  # as read_audit() does
        log["superuser"].execute(f"set local plan_cache_mode = {mode}".encode())
        least = _read_blocks(_plan(log["superuser"], AuditFilter()))
        for name, wanted in {**FILTERS, **pairs()}.items():
            plan = _plan(log["superuser"], wanted)
            blocks = _read_blocks(plan)
            is_wide = mode == "force_custom_plan" and blocks > least + BLOCKS_PER_ROW_OF_A_PAIR * FIRST
            if "Seq Scan" in _nodes(plan) or is_wide:
                faults[name] = (blocks, set(_nodes(plan)))
    assert faults == {}


def _blocks(api: Connection, wanted: AuditFilter) -> int:
    """Return the total number of blocks that Postgres reads when a compliance officer calls `read_audit()`."""
    with api.transaction():
        enter(api, actor("compliance"))
        row = api.execute(EXPLAIN_READ, _values(wanted)).fetchone()
    assert row is not None
    return _read_blocks(row[0][0]["Plan"])


def _read_blocks(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def _plan(connection: Connection, wanted: AuditFilter) -> dict[str, Any]:
    """Run the query that reads a page of the audit log, and return its query plan."""
    row = connection.execute(COMPOSE, _values(wanted)).fetchone()
    assert row is not None
    connection.execute((PREPARE + row[0]).encode())
    explained = psycopg.ClientCursor(connection).execute(EXECUTE, _values(wanted)).fetchone()
    connection.execute("deallocate page")
    assert explained is not None
    plan: dict[str, Any] = explained[0][0]["Plan"]
    return plan


def _nodes(plan: dict[str, Any]) -> Iterator[str]:
    """Yield the type of each node of a query plan."""
    yield plan["Node Type"]
    for inner in plan.get("Plans", []):
        yield from _nodes(inner)


def _values(wanted: AuditFilter) -> dict[str, Any]:
    return {"before_at": None, "before_id": None, "page_size": FIRST + 1, **wanted.parameters}
