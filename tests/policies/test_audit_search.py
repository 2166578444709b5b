"""Tests that the search in the audit log finds exactly the events that match, and that the summary counts them."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from app.audit.indexing import AuditIndex
from app.audit.model import AuditInterval
from app.postgres.database import Database as Pool
from tests.databases import Cluster

pytestmark = pytest.mark.anyio

Row = dict[str, Any]
START: Final = datetime(2027, 12, 30, tzinfo=UTC)
EVENTS: Final = 2_600
"""Two blocks, and 552 events without a block."""

FILTER_FIELDS: Final = (
    *(
        "actor_id",
        "action",
        "outcomes",
        "purposes",
        "patient_id",
        "consultation_id",
        "recording_id",
        "address",
    ),
    *("session_fingerprint", "since", "until"),
)
INSERT: Final[LiteralString] = """
insert into audit.events (
    id, recorded_at, actor_id, actor_role, session_fingerprint, action, operation, outcome, purpose, basis, entities,
    patient_ids, consultation_ids, address, policy_version
) values (
    %(id)s, %(recorded_at)s, %(actor_id)s, 'clinician', %(session)s, %(action)s, 'R', %(outcome)s, %(purpose)s, 'self',
    jsonb_build_array(
        jsonb_build_object('type', 'recording', 'ids', to_jsonb(%(recordings)s::uuid[])),
        jsonb_build_object('type', 'patient', 'ids', to_jsonb(%(patients)s::uuid[]))
    ), %(patients)s, %(consultations)s, %(address)s, 'test'
)"""
FILTER: Final[LiteralString] = (
    "row(%(actor_id)s::uuid, %(action)s::text, %(outcomes)s::text[], %(purposes)s::text[], %(patient_id)s::uuid,"
    " %(consultation_id)s::uuid, %(recording_id)s::uuid, %(address)s::inet, %(session_fingerprint)s::text,"
    " %(since)s::timestamptz, %(until)s::timestamptz)::private.audit_filter"
)
FIND: Final[LiteralString] = (
    "select e.id, e.recorded_at from private.find_audit_events("  # noqa: S608
    + FILTER
    + ", %(before_at)s, %(before_id)s, %(page_size)s) as e"
)
COUNT: Final[LiteralString] = (
    "select c.starts_at, c.value, c.event_count from private.count_audit_events("  # noqa: S608
    + FILTER
    + ", %(unit)s, %(by)s) as c"
)


def make_events(chance: random.Random, count: int) -> list[Row]:
    """Return random events in the order of their inserts. Some are recorded a moment, some a week before the others."""
    people = [UUID(int=number) for number in range(1, 4)]
    events = []
    for number in range(count):
        late = chance.choice([0] * 20 + [90, 700_000])
        events.append(
            {
                "id": UUID(int=chance.getrandbits(128)),
                "recorded_at": START + timedelta(seconds=number * 117 // 2 - late),
                "actor_id": chance.choice([*people, people[0], None]),
                "session": chance.choice(["aa" * 32, "bb" * 32, None]),
                "action": chance.choice(["recording.read", "recording.read", "hold.place", "x" * 300]),
                "outcome": chance.choice(["ALLOWED"] * 8 + ["DENIED", "ABSENT"]),
                "purpose": chance.choice(["TREATMENT", "LEGAL"]),
                "patients": chance.sample(people, chance.choice([0, 1, 1, 2])),
                "consultations": chance.sample(people, chance.choice([0, 1])),
                "recordings": chance.sample(people, chance.choice([0, 1, 2])),
                "address": chance.choice(["192.0.2.7", "2001:db8::7", None]),
            }
        )
    return events


def is_match(event: Row, wanted: Row) -> bool:
    """Return whether the event matches the filter."""
    checks: dict[str, Callable[[Any], bool]] = {
        "actor_id": lambda value: event["actor_id"] == value,
        "action": lambda value: event["action"] == value,
        "outcomes": lambda value: event["outcome"] in value,
        "purposes": lambda value: event["purpose"] in value,
        "patient_id": lambda value: value in event["patients"],
        "consultation_id": lambda value: value in event["consultations"],
        "recording_id": lambda value: value in event["recordings"],
        "address": lambda value: event["address"] == value,
        "session_fingerprint": lambda value: event["session"] == value,
        "since": lambda value: event["recorded_at"] >= value,
        "until": lambda value: event["recorded_at"] < value,
    }
    return all(checks[name](value) for name, value in wanted.items() if value is not None)


def make_filter(chance: random.Random, density: float) -> Row:
    """Return a random filter, in which each field is set with this probability."""
    person = UUID(int=chance.randint(1, 4))
    since = START + timedelta(minutes=chance.randint(-9_000, 2_500))
    values: Row = {
        "actor_id": person,
        "action": chance.choice(["recording.read", "hold.place", "hold.release", "x" * 300]),
        "outcomes": chance.choice([["ALLOWED"], ["DENIED"], ["DENIED", "ABSENT"], ["FAILED", "DENIED"], []]),
        "purposes": chance.choice([["LEGAL"], ["LEGAL", "TREATMENT"], ["PAYMENT"]]),
        "patient_id": UUID(int=chance.randint(1, 4)),
        "consultation_id": UUID(int=chance.randint(1, 3)),
        "recording_id": UUID(int=chance.randint(1, 3)),
        "address": chance.choice(["192.0.2.7", "2001:db8::7", "192.0.2.8"]),
        "session_fingerprint": chance.choice(["aa" * 32, "cc" * 32]),
        "since": since,
        "until": since + timedelta(minutes=chance.randint(0, 3_000)),
    }
    return {name: value if chance.random() < density else None for name, value in values.items()}


@pytest.fixture(scope="module")
def log(cluster: Cluster) -> Iterator[tuple[psycopg.Connection[Row], list[Row]]]:
    """Return the owner's connection to an audit log with random events, and the events."""
    events = make_events(random.Random(7), EVENTS)  # noqa: S311
    with cluster.clone("newer") as database, ExitStack() as stack:
        owner = stack.enter_context(
            psycopg.connect(database.owner_url, autocommit=True, row_factory=dict_row)
        )
        owner.execute("set timezone = 'Asia/Kathmandu'")
        for start in (0, 1_300):
            with owner.cursor() as cursor:
                cursor.executemany(INSERT, events[start : start + 1_300])
            assert _extend(owner) == 1
        yield owner, events


def _extend(owner: psycopg.Connection[Row]) -> int:
    made = 0
    while owner.execute("select private.index_audit_events() as made").fetchone() == {"made": True}:
        made += 1
    return made


def test_search_finds_exactly_the_matching_events_newest_first(
    log: tuple[psycopg.Connection[Row], list[Row]],
) -> None:
    owner, events = log
    chance = random.Random(11)  # noqa: S311
    for _ in range(400):
        wanted = make_filter(chance, chance.choice([0.05, 0.15, 0.3, 0.6]))
        expected = sorted(
            ((event["recorded_at"], event["id"]) for event in events if is_match(event, wanted)), reverse=True
        )
        size, before = chance.choice([1, 7, 51, 101]), (None, None)
        for place in range(0, min(len(expected), 5 * size) + 1, size):
            parameters = {**wanted, "before_at": before[0], "before_id": before[1], "page_size": size}
            page = [(row["recorded_at"], row["id"]) for row in owner.execute(FIND, parameters)]
            assert page == expected[place : place + size], wanted
            before = page[-1] if page else (None, None)
            if not page:
                break


@pytest.mark.parametrize("interval", AuditInterval)
def test_summary_counts_the_matching_events_of_each_interval(
    log: tuple[psycopg.Connection[Row], list[Row]], interval: AuditInterval
) -> None:
    owner, events = log
    chance = random.Random(13)  # noqa: S311
    for _ in range(40):
        wanted = make_filter(chance, chance.choice([0, 0.1, 0.3]))
        wanted["since"] = START + timedelta(seconds=chance.randint(-800_000, 100_000))
        wanted["until"] = wanted["since"] + timedelta(seconds=chance.randint(1, 900_000))
        by, column = chance.choice(
            [("action", "action"), ("outcome", "outcome"), ("purpose", "purpose"), ("actor", "actor_id")]
        )
        expected: Counter[tuple[datetime, str | None]] = Counter()
        for event in events:
            if is_match(event, wanted):
                start = interval.start(event["recorded_at"])
                expected[start, None] += 1
                if event[column] is not None:
                    expected[start, str(event[column])[:200]] += 1
        rows = owner.execute(COUNT, {**wanted, "unit": interval.value, "by": by}).fetchall()
        assert {(row["starts_at"], row["value"]): row["event_count"] for row in rows} == expected, (
            wanted,
            by,
        )


def test_redacted_event_is_found_by_no_attribute_that_the_redaction_cleared(
    log: tuple[psycopg.Connection[Row], list[Row]],
) -> None:
    owner, events = log
    for place in (700, EVENTS - 1):
        event = events[place]
        with owner.transaction(force_rollback=True):
            owner.execute(
                "select private.unindex_event(e) from audit.events as e where e.id = %s", [event["id"]]
            )
            bitmaps = owner.execute(
                "select count(*) as n from audit.event_blocks as b, audit.event_bitmaps as t"
                " where %(id)s = any(b.event_ids) and t.block = b.number"
                " and get_bit(t.bits, array_position(b.event_ids, %(id)s) - 1) = 1",
                event,
            ).fetchone()
            empty = owner.execute(
                "select from audit.event_bitmaps as t where bit_count(t.bits) = 0"
            ).fetchone()
        assert (bitmaps, empty) == ({"n": 3 if place == 700 else 0}, None), (
            "action, outcome and purpose remain"
        )


@pytest.mark.parametrize("is_committed", [False, True])
def test_second_indexer_waits_for_the_first_and_readers_see_each_event_once(
    cluster: Cluster, *, is_committed: bool
) -> None:
    """A worker that dies before its commit has no effect, and the next worker makes the same block."""
    events = make_events(random.Random(17), 1_100)  # noqa: S311
    wanted = dict.fromkeys((*FILTER_FIELDS, "before_at", "before_id"), None) | {
        "purposes": ["LEGAL", "TREATMENT"],
        "page_size": 1_001,
    }
    with cluster.clone("newer") as database, ExitStack() as stack:
        one, two, reader = (
            stack.enter_context(psycopg.connect(database.owner_url, row_factory=dict_row)) for _ in range(3)
        )
        with one.cursor() as cursor:
            cursor.executemany(INSERT, events)
        one.commit()
        expected = [row["id"] for row in reader.execute(FIND, wanted)]
        reader.commit()
        assert len(expected) == len(set(expected)) == 1_001
        assert one.execute("select private.index_audit_events() as made").fetchone() == {"made": True}
        with ThreadPoolExecutor() as pool:
            second = pool.submit(two.execute, "select private.index_audit_events() as made")
            assert [row["id"] for row in reader.execute(FIND, wanted)] == expected
            reader.commit()
            if is_committed:
                one.commit()
            else:
                one.rollback()
            assert second.result().fetchone() == {"made": not is_committed}
            two.commit()
        assert [row["id"] for row in reader.execute(FIND, wanted)] == expected
        kept = reader.execute(
            "select (select count(*) from audit.unindexed) as unindexed, count(*) as blocks from audit.event_blocks"
        ).fetchone()
        assert kept == {"unindexed": 76, "blocks": 1}


def test_events_with_entities_of_an_unexpected_shape_are_indexed(cluster: Cluster) -> None:
    """Only an owner of the database can write such events. They must not keep other events out of the index."""
    with cluster.clone("newer") as database, psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute(
            "insert into audit.events (recorded_at, actor_role, action, operation, outcome, purpose, basis, entities,"
            " policy_version) select clock_timestamp(), 'x', 'x', 'R', 'ALLOWED', 'LEGAL', 'x',"
            " (array['7', '{}', '[[1]]', '[{\"ids\": 7}]', '[{\"type\": 7, \"ids\": [null, {}]}]', 'null'])[n % 6 + 1]"
            "::jsonb, 'x' from generate_series(1, 1024) as n"
        )
        assert owner.execute("select private.index_audit_events()").fetchone() == (True,)


async def test_worker_makes_blocks_until_fewer_than_1024_events_are_left(cluster: Cluster) -> None:
    with cluster.clone("newer") as database:
        with psycopg.connect(database.owner_url) as owner, owner.cursor() as cursor:
            cursor.executemany(INSERT, make_events(random.Random(19), 2_048))  # noqa: S311
        pool = Pool(database.worker_url, application="test")
        await pool.open()
        try:
            assert [await AuditIndex(pool).extend() for _ in range(2)] == [2, 0]
        finally:
            await pool.close()


def test_summary_of_more_than_5000_blocks_is_refused(cluster: Cluster) -> None:
    wanted = dict.fromkeys(FILTER_FIELDS) | {"since": START, "until": START + timedelta(days=9)}
    with cluster.clone("newer") as database, psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute(
            "insert into audit.event_blocks select n, %(at)s, %(at)s, %(at)s, array[%(at)s::timestamptz], array[%(id)s]"
            " from generate_series(1, 5000) as n",
            {"at": START, "id": UUID(int=1)},
        )
        assert owner.execute(COUNT, {**wanted, "unit": "day", "by": "action"}).fetchall() != []
        owner.execute(
            "insert into audit.event_blocks select 5001, %(at)s, %(at)s, %(at)s, '{}', '{}'", {"at": START}
        )
        with pytest.raises(psycopg.Error, match="summary_too_large"):
            owner.execute(COUNT, {**wanted, "unit": "day", "by": "action"})
