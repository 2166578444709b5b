"""Resguardo stores concurrent webhook events in one transaction, and answers each webhook separately."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
import pytest

from app.errors import UpstreamFailed
from app.integrations.livekit.client import WebhookEvent
from app.postgres.database import Database as Pool
from app.recordings.webhook_inbox import MOST_AT_ONCE, WebhookInbox
from tests.databases import Database

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
RECEIVED = (
    "select event_id, event, egress_id, room_name, occurred_at from private.livekit_events order by event_id"
)
TRANSACTIONS = "select count(distinct xmin::text) from private.livekit_events"


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    made = Pool(database.api_url, application="test", max_size=4)
    await made.open()
    yield made
    await made.close()


def _event(event_id: str, room_name: str | None = "room", egress_id: str | None = None) -> WebhookEvent:
    return WebhookEvent(event_id, "room_started", egress_id, room_name, None, NOON)


def _rows(database: Database, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database.superuser_url) as connection:
        return connection.execute(query.encode()).fetchall()


async def test_events_that_wait_together_are_committed_together(database: Database, pool: Pool) -> None:
    inbox, number = WebhookInbox(pool), 3 * MOST_AT_ONCE // 2
    answers = await asyncio.gather(*(inbox.receive(_event(f"EV_{one:03}")) for one in range(number)))
    assert answers == [True] * number
    assert [row[0] for row in _rows(database, RECEIVED)] == [f"EV_{one:03}" for one in range(number)]
    assert _rows(database, TRANSACTIONS) == [(2,)]


async def test_room_name_of_another_application_is_not_stored(database: Database, pool: Pool) -> None:
    inbox = WebhookInbox(pool)
    await asyncio.gather(
        inbox.receive(_event("EV_2", None, "EG_1")),
        inbox.receive(_event("EV_1", "söme, {room}")),
        inbox.receive(_event("EV_3", "room-3")),
    )
    assert _rows(database, RECEIVED) == [
        ("EV_1", "room_started", None, None, NOON),
        ("EV_2", "room_started", "EG_1", None, NOON),
        ("EV_3", "room_started", None, "room-3", NOON),
    ]


async def test_event_that_comes_again_is_new_once(pool: Pool) -> None:
    inbox = WebhookInbox(pool)
    assert await asyncio.gather(*(inbox.receive(_event("EV_1")) for _ in range(3))) == [True, False, False]
    assert await inbox.receive(_event("EV_1")) is False


async def test_same_events_in_two_processes_cause_no_deadlock(database: Database, pool: Pool) -> None:
    both, ids = (WebhookInbox(pool), WebhookInbox(pool)), [f"EV_{one:03}" for one in range(40)]
    answers = await asyncio.gather(
        *(both[0].receive(_event(one)) for one in ids),
        *(both[1].receive(_event(one)) for one in reversed(ids)),
    )
    assert sum(answers) == len(ids) == len(_rows(database, RECEIVED))


async def test_cancelled_caller_does_not_cancel_other_events(database: Database, pool: Pool) -> None:
    inbox = WebhookInbox(pool)
    asking = [asyncio.create_task(inbox.receive(_event(f"EV_{one}"))) for one in range(3)]
    await asyncio.sleep(0)
    asking[1].cancel()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert (answers[0], answers[2]) == (True, True)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert await inbox.receive(_event("EV_3")) is True


async def test_failed_commit_fails_all_its_events_and_the_next_commit_is_tried(
    database: Database, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, opened = WebhookInbox(pool), pool.as_service_once

    def away(reason: str) -> None:
        monkeypatch.setattr(pool, "as_service_once", opened)
        raise UpstreamFailed("database_unavailable")

    monkeypatch.setattr(pool, "as_service_once", away)
    answers = await asyncio.gather(
        *(inbox.receive(_event(f"EV_{one}")) for one in range(2)), return_exceptions=True
    )
    assert [str(answer) for answer in answers] == ["database_unavailable"] * 2
    assert _rows(database, RECEIVED) == []
    assert await inbox.receive(_event("EV_1")) is True


async def test_event_behind_a_frozen_commit_fails_at_its_deadline(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, opened, goes_on = WebhookInbox(pool), pool.as_service_once, asyncio.Event()

    @asynccontextmanager
    async def frozen(reason: LiteralString) -> AsyncIterator[Any]:
        await goes_on.wait()
        async with opened(reason) as tx:
            yield tx

    monkeypatch.setattr("app.recordings.webhook_inbox.WAIT_SECONDS", 0.05)
    monkeypatch.setattr(pool, "as_service_once", frozen)
    answers = await asyncio.gather(
        *(inbox.receive(_event(f"EV_{one}")) for one in range(3)), return_exceptions=True
    )
    assert [str(answer) for answer in answers] == ["database_slow"] * 3
    goes_on.set()
    monkeypatch.setattr("app.recordings.webhook_inbox.WAIT_SECONDS", 30)
    assert await inbox.receive(_event("EV_9")) is True
