"""Tests that compare the bucket's access log with the issued URLs: a read without an issued URL is a finding."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from app.fetches.model import Fetch, parse_event
from app.fetches.service import FetchLogs, ImportedLog
from app.postgres.database import Database as Pool
from tests.alerts import evaluated_alerts
from tests.databases import Database

pytestmark = pytest.mark.anyio

BUCKET, OWN_KEY = "recordings", "worker-key"
NOW = datetime.now(UTC).replace(second=30, microsecond=0) - timedelta(hours=1)


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    pool = Pool(database.worker_url, application="test-fetches")
    yield pool
    await pool.close()


@pytest.fixture
def logs(pool: Pool) -> FetchLogs:
    return FetchLogs(pool, bucket=BUCKET, own_key=OWN_KEY)


def _line(entity: UUID, at: datetime = NOW, **changed: Any) -> bytes:
    event = {
        "$metadata": {"timestamp": int(at.timestamp() * 1000), "service": BUCKET, "namespace": "r2"},
        "action": "GetObject",
        "actor": {"type": "service", "id": "x", "accessKeyId": "reader-key"},
        "bucket": BUCKET,
        "interface": "S3",
        "requestMetadata": {"ip": "192.0.2.7", "userAgent": "Mozilla"},
        "resource": {"type": "object", "key": f"r/d90/{uuid4()}/{entity}/video.mp4"},
    }
    return json.dumps(event | changed).encode() + b"\n"


def _rows(database: Database, sql: LiteralString, *values: object) -> list[dict[str, Any]]:
    with psycopg.connect(database.superuser_url, row_factory=dict_row) as connection:
        connection.execute("set session_replication_role = replica")
        cursor = connection.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def _issue(database: Database, entity: UUID, at: datetime, outcome: str = "ALLOWED") -> None:
    _rows(
        database,
        "insert into audit.events (recorded_at, actor_role, action, operation, outcome, purpose, basis,"
        " policy_version, entities) values (%s, 'clinician', 'recording.play', 'R', %s, 'TREATMENT', 'x', '1',"
        " jsonb_build_array(jsonb_build_object('type', 'recording', 'ids', jsonb_build_array(%s::text))))",
        at,
        outcome,
        entity,
    )


async def test_read_of_an_issued_url_is_no_finding(database: Database, logs: FetchLogs) -> None:
    recording = uuid4()
    _issue(database, recording, NOW - timedelta(minutes=14))
    done = await logs.import_lines([_line(recording)])
    assert (done.line_count, done.fetch_count, done.finding_count) == (1, 1, 0)


@pytest.mark.parametrize("minutes", [-30, 10, None])
async def test_read_without_an_issued_url_is_a_finding_and_an_alert(
    database: Database, pool: Pool, logs: FetchLogs, minutes: int | None
) -> None:
    recording = uuid4()
    _issue(database, uuid4(), NOW)
    if minutes is not None:
        _issue(database, recording, NOW + timedelta(minutes=minutes))
    done = await logs.import_lines([_line(recording)])
    assert done.finding_count == 1
    assert ("FETCH_NOT_ISSUED", str(recording)) in await evaluated_alerts(database, pool)
    _rows(database, "update private.fetches set fetched_at = now() - interval '31 days'")
    assert "FETCH_NOT_ISSUED" not in dict(await evaluated_alerts(database, pool))


async def test_refused_url_is_no_issued_url(database: Database, logs: FetchLogs) -> None:
    recording = uuid4()
    _issue(database, recording, NOW, "DENIED")
    assert (await logs.import_lines([_line(recording)])).finding_count == 1


async def test_read_of_a_public_bucket_is_a_finding_although_a_url_was_issued(
    database: Database, logs: FetchLogs
) -> None:
    recording = uuid4()
    _issue(database, recording, NOW)
    for interface in ("Public", "API", "Workers", "Something"):
        done = await logs.import_lines([_line(recording, interface=interface)])
        assert done.finding_count == 1, interface


async def test_issued_url_that_nobody_used_is_no_finding(
    database: Database, pool: Pool, logs: FetchLogs
) -> None:
    _issue(database, uuid4(), NOW)
    read = uuid4()
    _issue(database, read, NOW)
    assert (await logs.import_lines([_line(read)])).finding_count == 0
    assert "FETCH_NOT_ISSUED" not in dict(await evaluated_alerts(database, pool))


async def test_log_that_is_imported_twice_is_stored_once(database: Database, logs: FetchLogs) -> None:
    recording = uuid4()
    lines = [_line(recording, NOW + timedelta(seconds=n)) for n in range(20)] + [_line(uuid4())]
    first = await logs.import_lines(lines)
    again = await logs.import_lines(lines)
    assert (first.fetch_count, first.finding_count) == (again.fetch_count, again.finding_count) == (2, 2)
    assert len(_rows(database, "select f.entity_id from private.fetches as f")) == 2
    assert len(_rows(database, "select l.sha256 from private.fetch_logs as l")) == 1
    events = _rows(database, "select row_count from audit.events where action = 'fetch.import'")
    assert [event["row_count"] for event in events] == [21, 21]


@pytest.mark.parametrize(
    "changed",
    [
        {"action": "HeadObject"},
        {"action": "PutObject"},
        {"actor": {"accessKeyId": OWN_KEY}},
        {"resource": {"key": "audit/resguardo/demo/2026/tile/0/000"}},
        {"resource": {"key": "deployment"}},
        {"resource": {"key": "r/d90/Mrs Jones/video.mp4"}},
        {"resource": None},
        {"bucket": "another"},
    ],
)
async def test_other_event_is_no_fetch(database: Database, logs: FetchLogs, changed: dict[str, Any]) -> None:
    done = await logs.import_lines([_line(uuid4(), **changed)])
    assert (done.line_count, done.unreadable_count, done.fetch_count) == (1, 0, 0)
    assert _rows(database, "select f.entity_id from private.fetches as f") == []


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b"1",
        b'{"bucket": "recordings"}',
        b'{"bucket": "recordings", "$metadata.timestamp": "yesterday"}',
        b'{"bucket": "recordings", "$metadata.timestamp": true}',
        b'{"bucket": "recordings", "$metadata.timestamp": 1e300}',
        b'{"bucket": "recordings", "$metadata.timestamp": NaN}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'"' + b"x" * 70_000 + b'"',
    ],
)
async def test_line_that_is_no_event_is_counted_and_left_out(logs: FetchLogs, line: bytes) -> None:
    done = await logs.import_lines([line, b"\n", _line(uuid4())])
    assert (done.line_count, done.unreadable_count, done.fetch_count) == (2, 1, 1)


async def test_empty_log_covers_no_period(database: Database, logs: FetchLogs) -> None:
    assert await logs.import_lines([]) == ImportedLog()
    assert _rows(database, "select l.sha256 from private.fetch_logs as l") == []


def test_event_with_dotted_names_is_read_like_a_nested_one() -> None:
    request, copy = uuid4(), uuid4()
    event = {
        "$metadata.timestamp": NOW.timestamp() * 1000,
        "action": "GetObject",
        "actor.accessKeyId": "reader-key",
        "bucket": BUCKET,
        "interface": "s3",
        "requestMetadata.ip": "not an address, Mrs Jones",
        "resource.key": f"exports/{request}/{copy}.zip",
    }
    parsed = parse_event(json.dumps(event).encode(), bucket=BUCKET, own_key=OWN_KEY)
    assert parsed is not None
    assert parsed.fetch == Fetch("export", request, NOW.replace(second=0), "none", "S3")
