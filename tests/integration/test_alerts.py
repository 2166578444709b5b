"""Tests of the mechanism of alerts: an alert opens once, closes when its cause is gone, and never floods."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from app.alerts.model import AlertKind, Finding
from app.alerts.service import Alerts
from app.jobs.leader_watch import LeaderWatch
from app.postgres.database import Database as Pool
from tests.databases import Database

pytestmark = pytest.mark.anyio

KIND = AlertKind.JOB_FAILED


@pytest.fixture
async def alerts(database: Database) -> AsyncIterator[Alerts]:
    pool = Pool(database.worker_url, application="test-alerts")
    yield Alerts(pool)
    await pool.close()


def _rows(database: Database, sql: LiteralString, *values: object) -> list[dict[str, Any]]:
    with psycopg.connect(database.superuser_url, row_factory=dict_row) as connection:
        cursor = connection.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def _open(database: Database, kind: AlertKind = KIND) -> list[dict[str, Any]]:
    return _rows(
        database,
        "select a.* from resguardo.alerts as a where closed_at is null and kind = %s order by key",
        kind,
    )


async def test_alert_opens_once_and_keeps_its_time(database: Database, alerts: Alerts) -> None:
    recording = uuid4()
    await alerts.open(KIND, "sweep", "recording", [recording])
    (first,) = _open(database)
    await alerts.open(KIND, "sweep", "recording", [recording, uuid4()])
    (again,) = _open(database)
    assert (again["id"], again["opened_at"]) == (first["id"], first["opened_at"])
    assert again["seen_at"] > first["seen_at"]
    assert (first["entity_ids"], again["entity_count"]) == ([recording], 2)


async def test_closed_alert_stays_closed_and_opens_as_another_row(database: Database, alerts: Alerts) -> None:
    await alerts.open(KIND, "sweep")
    await alerts.close(KIND, "sweep")
    await alerts.close(KIND, "sweep")
    assert _open(database) == []
    await alerts.open(KIND, "sweep")
    assert len(_open(database)) == 1
    rows = _rows(database, "select status from resguardo.alerts where kind = %s order by opened_at", KIND)
    assert [row["status"] for row in rows] == ["CLOSED", "OPEN"]


async def test_new_alert_is_announced_once(database: Database, alerts: Alerts) -> None:
    _rows(
        database,
        "insert into private.webhook_endpoints (name, is_configured, event_types, url_digest)"
        " values ('desk', true, '{alert.opened}', repeat('ab', 32))",
    )
    for _ in range(2):
        await alerts.open(KIND, "sweep", "recording", [uuid4()])
        await alerts.replace(KIND, [Finding("sweep"), Finding("other")])
    sent = _rows(
        database, "select d.event_type, d.entity_type, d.entity_ids from resguardo.webhook_deliveries as d"
    )
    assert [(row["event_type"], row["entity_type"]) for row in sent] == [("alert.opened", "alert")] * 2
    assert {one for row in sent for one in row["entity_ids"]} == {row["id"] for row in _open(database)}


async def test_alert_opened_twice_at_once_is_one_row(database: Database, alerts: Alerts) -> None:
    await asyncio.gather(*(alerts.open(KIND, "sweep") for _ in range(8)))
    assert len(_open(database)) == 1


async def test_ids_of_an_alert_are_bounded_and_counted(database: Database, alerts: Alerts) -> None:
    await alerts.open(KIND, "sweep", "recording", [uuid4() for _ in range(250)])
    (row,) = _open(database)
    assert (len(row["entity_ids"]), row["entity_count"]) == (100, 250)


async def test_key_contains_no_text(database: Database, alerts: Alerts) -> None:
    await alerts.open(KIND, "Mrs Jones has <cancer>\n" + "x" * 300)
    (row,) = _open(database)
    assert row["key"].startswith("Mrs-Jones-has--cancer--x")
    assert len(row["key"]) == 200
    await alerts.close(KIND, "Mrs Jones has <cancer>\n" + "x" * 300)
    assert _open(database) == []


async def test_replacing_opens_the_findings_and_closes_the_rest(
    database: Database, alerts: Alerts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await alerts.open(AlertKind.TASK_FAILING, "other kind")
    await alerts.replace(KIND, [Finding("a"), Finding("b")])
    (a, b) = _open(database)
    await alerts.replace(KIND, [Finding("b"), Finding("c")])
    assert [(row["key"], row["id"] == b["id"]) for row in _open(database)] == [("b", True), ("c", False)]
    assert a["key"] == "a"
    assert len(_open(database, AlertKind.TASK_FAILING)) == 1
    await alerts.replace(KIND, [])
    assert _open(database) == []
    lines = [record.getMessage() for record in caplog.records if record.name == "app.alerts.service"]
    assert lines[1:4] == [
        "alert opened: JOB_FAILED a",
        "alert opened: JOB_FAILED b",
        "alert opened: JOB_FAILED c",
    ]
    assert "alert closed: JOB_FAILED a" in lines


async def test_many_findings_share_one_alert_beyond_the_first_twenty(
    database: Database, alerts: Alerts
) -> None:
    ids = {f"{n:03}": UUID(int=n) for n in range(300)}
    await alerts.replace(KIND, [Finding(key, "recording", [one]) for key, one in ids.items()])
    rows = {row["key"]: row for row in _open(database)}
    assert len(rows) == 21
    assert (len(rows["more"]["entity_ids"]), rows["more"]["entity_count"]) == (100, 280)
    # a cause that is found later does not replace an open alert, and the next one follows a closed alert
    del ids["000"]
    ids["!"] = UUID(int=1000)
    await alerts.replace(KIND, [Finding(key, "recording", [one]) for key, one in ids.items()])
    later = {row["key"]: row for row in _open(database)}
    assert later.keys() - rows.keys() == {"-"}
    assert later["001"]["id"] == rows["001"]["id"]
    assert later["more"]["id"] == rows["more"]["id"]
    await alerts.replace(KIND, [Finding("005")])
    assert [row["key"] for row in _open(database)] == ["005"]


async def test_api_login_opens_no_alert_by_itself(database: Database) -> None:
    with psycopg.connect(database.api_url) as api:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            api.execute("select private.open_alert('JOB_FAILED', '', null, '{}')")
        api.rollback()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            api.execute("select private.close_alert('JOB_FAILED', '')")


async def test_missing_leader_opens_an_alert_that_closes_when_a_worker_leads(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool(database.api_url, application="test-api")
    watch = LeaderWatch(pool, clock=lambda: 0.0)
    await watch.check()
    assert _open(database, AlertKind.NO_LEADER) == []
    _rows(
        database,
        "update private.leadership set leader = 'w', renewed_at = clock_timestamp() - interval '31 seconds',"
        " expires_at = clock_timestamp() - interval '16 seconds'",
    )
    await watch.check()
    (opened,) = _open(database, AlertKind.NO_LEADER)
    await watch.check()
    assert [row["id"] for row in _open(database, AlertKind.NO_LEADER)] == [opened["id"]]
    assert (await watch.read()).is_overdue
    _rows(
        database,
        "update private.leadership set renewed_at = clock_timestamp(),"
        " expires_at = clock_timestamp() + interval '15 seconds'",
    )
    await watch.check()
    assert _open(database, AlertKind.NO_LEADER) == []
    await pool.close()
