"""Tests that the cost of a page of a list does not depend on the number of rows that are not on the page.

The tests run the SQL statements of the services on a practice with many rows, in the role of the person who
requests the page and under row level security. Postgres runs a prepared statement with a custom plan at first and
with a generic plan later, so each test checks both plans.
"""

from typing import Any

from tests.databases import Cluster
from tests.large_practice import SMALL, fill
from tests.list_reads import CASES, FIRST, Case, Reader, nodes, readers, statement
from tests.policies.actors import begin_as, claims_of

SIZE = 60_000
GROWING = {
    "access_requests",
    "consents",
    "consultations",
    "deletions",
    "insights",
    "legal_holds",
    "participants",
    "recordings",
    "transcripts",
}
DEEPER_INDEXES = 20
"""How many more buffers a page may read because the indexes of a large table have more levels."""

MOST_VISITED = 12 * FIRST
"""How many rows one part of a plan may visit: a page for each of the ten statuses of a recording."""


def test_no_page_grows_with_the_rows_that_are_not_on_it(cluster: Cluster) -> None:
    with cluster.clone("newer") as large, cluster.clone("newer") as small:
        fill(large.superuser_url, SIZE)
        fill(small.superuser_url, SMALL, others=0)
        with readers(large, small) as readers_of:
            faults = [
                f"{case.name}, {mode}, {page} page: {fault}"
                for case in CASES
                for mode in ("force_custom_plan", "force_generic_plan")
                for page in ("first", "later")
                for fault in _faults(case, *readers_of(case), mode, is_later=page == "later")
            ]
    assert not faults, "\n".join(faults)


def _faults(case: Case, many: Reader, few: Reader, mode: str, *, is_later: bool) -> list[str]:
    plan = _plan(case, many, mode, is_later=is_later)
    faults = []
    for node in nodes(plan):
        relation = node.get("Relation Name")
        rows = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        if relation in GROWING and node["Node Type"] == "Seq Scan":
            faults.append(f"reads all of {relation}")
        elif relation in GROWING and rows > MOST_VISITED:
            faults.append(f"visits {rows:.0f} rows of {relation}")
    buffers, few_buffers = _buffers(plan), _buffers(_plan(case, few, mode, is_later=False))
    if buffers > case.most * few_buffers + DEEPER_INDEXES:
        faults.append(f"reads {buffers} buffers, and {few_buffers} if there are few rows")
    return faults


def _plan(case: Case, reader: Reader, mode: str, *, is_later: bool) -> dict[str, Any]:
    """Return the query plan of the third run, because the first two runs also read Postgres's catalog."""
    page = statement(case, reader.facts, after=reader.facts.middle if is_later else None)
    with reader.connection.transaction(force_rollback=True):
        begin_as(reader.connection, claims_of(reader.user))
        reader.connection.execute("select set_config('plan_cache_mode', %s, true)", [mode])
        page.prepare(reader.connection, "page")
        plans = [page.explain(reader.connection, "page") for _ in range(3)]
    return dict(plans[-1]["Plan"])


def _buffers(plan: dict[str, Any]) -> int:
    """Return how many buffers a query plan reads from the tables that a list shows. Buffers of the audit log and of
    the quotas are not counted, because their number does not depend on the list.
    """
    read = [node for node in nodes(plan) if node.get("Relation Name") in GROWING]
    return sum(int(node["Shared Hit Blocks"]) + int(node["Shared Read Blocks"]) for node in read)
