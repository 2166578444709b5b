"""Tests that the words of a patient's reports are complete, that a page costs no more in a long audit log, and that the
next page continues where a page ended.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
import pytest

from app.texts.patient_reports import load_report_texts
from benchmarks.audit_log import fill
from tests.databases import Cluster, Database
from tests.policies.acting import superuser
from tests.policies.actors import Connection
from tests.policies.seed import seed

TEXTS = load_report_texts()
EVENTS = 100_000
FIRST = 25
PAGE: LiteralString = (
    "select (f.event).id, (f.event).recorded_at, f.reached_at"
    " from private.find_patient_report(%(patient)s, null, %(before_at)s, %(before_id)s, %(page_size)s) as f"
)
EXPLAIN: LiteralString = "explain (analyze, buffers, format json) " + PAGE
PATIENTS: Final = {
    "busy": UUID(int=1_000_000),
    "ordinary": UUID(int=1_000_007),
    "rare": UUID(int=1_009_999),
    "absent": UUID(int=77),
}
BLOCKS_PER_ROW = 20
BLOCKS_OF_A_WALK = 40
"""The maximum number of blocks that Postgres reads for the bitmaps of all actions and outcomes in one block of the
search index.
"""

WALKED_BY_THE_BUSY = 20
"""A page of the busy patient is full after a few blocks of the search index."""


def _column(database: Database, query: LiteralString) -> set[str]:
    with superuser(database) as reader:
        return {str(value) for (value,) in reader.execute(query).fetchall()}


def test_every_audit_action_is_shown_or_has_a_reason_why_not(database: Database) -> None:
    """A new audit action needs its words in app/texts/patient_reports.toml, or a place in a list with a reason."""
    known = _column(database, "select action from private.audit_actions")
    assert known == set(TEXTS.actions) | set(TEXTS.actions_not_shown)


def test_database_shows_the_actions_that_have_words(database: Database) -> None:
    for shown, has_words in (("ALWAYS", True), ("REFUSED", False)):
        query: LiteralString = "select action from private.patient_report_actions where shown = %s"
        with superuser(database) as reader:
            named = {str(action) for (action,) in reader.execute(query, [shown]).fetchall()}
        assert named == {action for action, words in TEXTS.actions.items() if ("did" in words) == has_words}
    assert all("tried" in words for words in TEXTS.actions.values())


def _allowed(database: Database, constraint: str) -> set[str]:
    with superuser(database) as reader:
        row = reader.execute(
            "select pg_get_constraintdef(oid) from pg_constraint where conname = %s limit 1", [constraint]
        ).fetchone()
    assert row is not None
    return set(re.findall(r"'([A-Z_]+)'", row[0]))


def test_every_purpose_and_outcome_has_words_or_a_reason(database: Database) -> None:
    assert set(TEXTS.purposes) == _allowed(database, "events_purpose_is_known")
    assert {*TEXTS.outcomes, *TEXTS.outcomes_not_shown} == _allowed(database, "events_outcome_is_known")


def test_every_basis_has_words_or_a_reason(database: Database) -> None:
    """The functions that write audit rows name the bases of people, and private.audit_terms those of services."""
    registered = _column(database, "select term from private.audit_terms where kind = 'basis'")
    sources = _column(
        database,
        "select prosrc from pg_proc where proname in ('write_audit_of_entities', 'basis_of_clinician')",
    )
    of_people = set(re.findall(r"(?:then|else|return|,) '([a-z_]+)'", " ".join(sources))) - {"unregistered"}
    assert {"treating_clinician", "shared", "emergency", "compliance_review", "self", "refused"} <= of_people
    assert registered | of_people <= {*TEXTS.bases, *TEXTS.bases_not_shown}


@pytest.fixture(scope="module")
def log(cluster: Cluster) -> Iterator[Connection]:
    """Return a superuser's connection to a database whose audit log has many events, all of them in blocks."""
    with cluster.clone("newer") as database:
        seed(database.superuser_url)
        fill(database.superuser_url, EVENTS)
        with psycopg.connect(database.superuser_url, autocommit=True) as connection:
            connection.execute(
                "insert into resguardo.patients (id, external_id) select p, p::text from unnest(%s::uuid[]) as p",
                [list(PATIENTS.values())],
            )
            yield connection


Place = tuple[datetime | None, UUID | None]


def _values(patient: UUID, place: Place = (None, None), first: int = FIRST) -> dict[str, object]:
    return {"patient": patient, "before_at": place[0], "before_id": place[1], "page_size": first + 1}


def _blocks(log: Connection, patient: UUID, place: Place) -> int:
    """Return how many blocks Postgres reads for one page of the report."""
    row = log.execute(EXPLAIN, _values(patient, place)).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


@pytest.mark.parametrize("mode", ["auto", "force_generic_plan"])
@pytest.mark.parametrize("name", PATIENTS)
def test_page_reads_no_more_blocks_than_its_rows_and_the_patients_blocks_need(
    log: Connection, mode: str, name: str
) -> None:
    """The number of blocks that Postgres reads grows with the rows of the page and with the blocks of the search index
    that concern the patient, and not with the number of events in the log.
    """
    log.execute(f"set plan_cache_mode = {mode}".encode())
    patient = PATIENTS[name]
    ((counted,),) = log.execute(
        "select count(*) from audit.event_bitmaps where attribute = 'patient' and value = %s", [str(patient)]
    ).fetchall()
    walked = WALKED_BY_THE_BUSY if name == "busy" else counted
    least = min(
        _blocks(log, PATIENTS["absent"], (None, None)) for _ in range(3)
    )  # the events without a block
    most = least + BLOCKS_PER_ROW * FIRST + BLOCKS_OF_A_WALK * walked
    for place in ((None, None), (datetime(2028, 1, 1, tzinfo=UTC), UUID(int=0))):
        assert min(_blocks(log, patient, place) for _ in range(3)) <= most


def _expected(log: Connection, patient: UUID) -> list[UUID]:
    """Return the ids of the events that the patient reads about, without the search index."""
    rows = log.execute(
        "select e.id from audit.events as e inner join private.patient_report_actions as a on a.action = e.action"
        " where e.patient_ids @> array[%s]"
        " and (e.outcome = 'DENIED' or (e.outcome = 'ALLOWED' and a.shown = 'ALWAYS'))"
        " order by e.recorded_at desc, e.id desc",
        [patient],
    ).fetchall()
    return [event for (event,) in rows]


def _read_all(log: Connection, patient: UUID, first: int) -> tuple[list[UUID], int]:
    """Read the report page by page, and return the ids of its entries and the number of the short pages."""
    found: list[UUID] = []
    short = 0
    place: Place = (None, None)
    while True:
        rows = log.execute(PAGE, _values(patient, place, first)).fetchall()
        reached = rows.pop()[2] if rows and rows[-1][0] is None else None
        found += [row[0] for row in rows[:first]]
        if len(rows) > first:
            place = (rows[first - 1][1], rows[first - 1][0])
        elif reached is not None:
            assert place[0] is None or reached < place[0], "each page goes on"
            short += 1
            place = (reached, UUID(int=2**128 - 1))
        else:
            return found, short


@pytest.mark.parametrize("name", PATIENTS)
def test_pages_have_every_event_that_the_patient_reads_about_once(log: Connection, name: str) -> None:
    found, short = _read_all(log, PATIENTS[name], 100)
    assert found == _expected(log, PATIENTS[name])
    assert short == 0


def test_walk_that_ends_early_continues_where_it_ended(log: Connection) -> None:
    """With a bound of 3 blocks in place of 2,000, a rare patient's pages are short, and together they are complete."""
    (row,) = log.execute("select pg_get_functiondef('private.find_patient_report'::regproc)").fetchall()
    source = str(row[0])
    assert "walked >= 2000" in source
    log.execute(source.replace("walked >= 2000", "walked >= 3").encode())
    try:
        for name in ("ordinary", "rare", "busy"):
            found, short = _read_all(log, PATIENTS[name], 50)
            assert found == _expected(log, PATIENTS[name])
            assert (short > 0) == (name != "busy")
    finally:
        log.execute(source.encode())
