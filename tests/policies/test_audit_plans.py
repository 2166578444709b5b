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
BLOCKS_PER_ROW = 30
"""A row of one filter costs a block of its own, and blocks of an index if another index has found it."""

BLOCKS_OF_A_WALK = 30
"""The bitmaps of two filters in one block of the search index cost up to 10 blocks each, and the block itself 5."""

PAGE: LiteralString = (
    "private.read_audit(row(%(actor_id)s::uuid, %(action)s::text, %(outcomes)s::text[], %(purposes)s::text[],"
    " %(patient_id)s::uuid, %(consultation_id)s::uuid, %(recording_id)s::uuid, %(address)s::inet,"
    " %(session_fingerprint)s::text, %(since)s::timestamptz, %(until)s::timestamptz)::private.audit_filter,"
    " %(before_at)s, %(before_id)s, %(page_size)s, '{}')"
)
EXPLAIN_READ: LiteralString = "explain (analyze, buffers, format json) select * from " + PAGE  # noqa: S608
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


@pytest.mark.parametrize("mode", ["auto", "force_generic_plan"])
@pytest.mark.parametrize("is_pair", [False, True], ids=["one filter", "pairs of filters"])
def test_page_reads_no_more_blocks_than_its_rows_need(log: Log, mode: str, *, is_pair: bool) -> None:
    """The number of blocks that Postgres reads grows with the rows of the page and with the blocks of the search
    index. It does not grow with the number of events that each filter matches alone. A generic plan is no worse.
    """
    log["api"].execute(f"set plan_cache_mode = {mode}".encode())
    # The blocks of the session check, the quota, the audit row, the events without a block, and each partition's index
    least = max(_blocks(log["api"], AuditFilter(action="nobody.did")) for _ in range(3))
    most = (
        least
        + BLOCKS_PER_ROW * FIRST
        + (BLOCKS_OF_A_WALK if is_pair else BLOCKS_OF_A_WALK / 2) * EVENTS / 1024
    )
    filters = pairs() if is_pair else FILTERS
    blocks = {name: _blocks(log["api"], wanted) for name, wanted in filters.items()}
    assert {name: count for name, count in blocks.items() if count > most} == {}


def _blocks(api: Connection, wanted: AuditFilter) -> int:
    """Return the total number of blocks that Postgres reads when a compliance officer calls `read_audit()`."""
    with api.transaction():
        enter(api, actor("compliance"))
        row = api.execute(EXPLAIN_READ, _values(wanted)).fetchone()
    assert row is not None
    return _read_blocks(row[0][0]["Plan"])


def _read_blocks(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def _values(wanted: AuditFilter) -> dict[str, Any]:
    return {"before_at": None, "before_id": None, "page_size": FIRST + 1, **wanted.parameters}
