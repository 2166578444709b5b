"""Tests of outgoing webhooks, with a real database and the test receiver of the dev stack, which verifies each message
with the library of Standard Webhooks. They test the content of messages, the retries, and the refused addresses.
"""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from time import time
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from app.integrations.webhook_endpoints.client import EndpointClient
from app.outgoing_webhooks.sender import WebhookSender, register_endpoints
from app.postgres.database import Database as Pool
from app.public_addresses import Address
from app.settings.outgoing_webhooks import WEBHOOK_EVENT_TYPES, WebhookEndpoint
from devstack.webhook_receiver.receiver import Answer, WebhookReceiver
from tests.databases import Database

pytestmark = pytest.mark.anyio

KEY = b"k" * 24
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
NOTE = UUID(int=7)
DAY = 86_400
WITHOUT_ALERTS = tuple(one for one in WEBHOOK_EVENT_TYPES if one != "alert.opened")
"""The event types of most tests. They exclude alerts, because an alert about the endpoint is itself a message to it."""


@dataclass
class WebhookHarness:
    """A worker that sends webhooks to one receiver, which is its endpoint `siem`."""

    database: Database
    worker: Pool
    receiver: WebhookReceiver
    endpoint: WebhookEndpoint
    sender: WebhookSender

    def rows(self, statement: LiteralString, *values: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.database.superuser_url, row_factory=dict_row) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def announce(self, event_type: str = "note.signed", *ids: UUID) -> None:
        """Announce an event, as a function of the schema `private` does."""
        self.rows("select private.announce(%s, 'signed_note', %s)", event_type, list(ids) or [NOTE])

    def delivery(self) -> dict[str, Any]:
        """Return the newest delivery."""
        return self.rows("select * from resguardo.webhook_deliveries order by created_at desc limit 1")[0]

    def state(self) -> tuple[object, ...]:
        row = self.delivery()
        return row["status"], row["attempt_count"], row["status_code"], row["error"]

    def pass_time(self, seconds: float) -> None:
        """Move every stored time of outgoing webhooks into the past."""
        with psycopg.connect(self.database.superuser_url) as connection:
            for table, column in (
                ("resguardo.webhook_deliveries", "next_attempt_at"),
                ("resguardo.webhook_deliveries", "give_up_at"),
                ("resguardo.webhook_deliveries", "finished_at"),
                ("resguardo.webhook_deliveries", "created_at"),
                ("private.webhook_endpoints", "paused_until"),
                ("private.webhook_endpoints", "failing_since"),
            ):
                connection.execute(
                    sql.SQL("update {0} set {1} = {1} - make_interval(secs => %s)").format(
                        sql.Identifier(*table.split(".")), sql.Identifier(column)
                    ),
                    [seconds],
                )

    async def send(self) -> int:
        return await self.sender.send_due(self.endpoint)


def _endpoint(url: str, *event_types: str, name: str = "siem") -> WebhookEndpoint:
    return WebhookEndpoint(name, url, (KEY,), event_types or WITHOUT_ALERTS)


@asynccontextmanager
async def _client(url: str, **options: Any) -> AsyncIterator[EndpointClient]:
    client = EndpointClient(url, **{"allows_loopback": True, "timeout_seconds": 2.0, **options})
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
async def harness(database: Database) -> AsyncIterator[WebhookHarness]:
    receiver = WebhookReceiver(SECRET)
    worker = Pool(database.worker_url, application="test")
    async with receiver.running(), _client(receiver.url) as client:
        endpoint = _endpoint(receiver.url)
        await register_endpoints(worker, [endpoint])
        yield WebhookHarness(
            database,
            worker,
            receiver,
            endpoint,
            WebhookSender(worker, [endpoint], {"siem": client}, clock=time),
        )
    await worker.close()


async def test_event_is_sent_once_with_ids_only(harness: WebhookHarness) -> None:
    harness.announce("note.signed", NOTE)
    assert await harness.send() == 1
    assert await harness.send() == 0
    (one,) = harness.receiver.received
    row = harness.delivery()
    assert one.id == f"msg_{row['message_id'].hex}"
    assert one.message == {
        "type": "note.signed",
        "timestamp": row["created_at"]
        .astimezone(UTC)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z"),
        "data": {"entityType": "signed_note", "ids": [str(NOTE)]},
    }
    assert harness.state() == ("DELIVERED", 1, 204, None)
    (attempt,) = harness.rows("select * from resguardo.webhook_attempts")
    assert (attempt["number"], attempt["status_code"], attempt["error"]) == (1, 204, None)
    assert attempt["duration_ms"] is not None


async def test_event_of_a_transaction_that_is_rolled_back_is_not_sent(harness: WebhookHarness) -> None:
    with psycopg.connect(harness.database.superuser_url) as connection:
        connection.execute("select private.announce('note.signed', 'signed_note', %s)", [[NOTE]])
        connection.rollback()
    assert await harness.send() == 0


async def test_endpoint_receives_only_the_types_that_it_names(harness: WebhookHarness) -> None:
    await register_endpoints(harness.worker, [_endpoint(harness.receiver.url, "case.opened")])
    harness.announce("note.signed")
    harness.announce("case.opened")
    assert await harness.send() == 1
    assert [one.message["type"] for one in harness.receiver.received] == ["case.opened"]


async def test_announcing_without_endpoints_does_nothing(harness: WebhookHarness) -> None:
    await register_endpoints(harness.worker, [])
    harness.announce("note.signed")
    assert harness.rows("select from resguardo.webhook_deliveries") == []


async def test_unknown_type_of_event_is_refused(harness: WebhookHarness) -> None:
    with pytest.raises(psycopg.errors.RaiseException):
        harness.announce("note.read")


async def test_the_settings_and_the_database_know_the_same_types(harness: WebhookHarness) -> None:
    (row,) = harness.rows("select private.webhook_event_types() as types")
    assert sorted(row["types"]) == sorted(WEBHOOK_EVENT_TYPES)


async def test_message_of_many_ids_has_the_first_hundred(harness: WebhookHarness) -> None:
    harness.announce("deletion.done", *(uuid4() for _ in range(101)))
    await harness.send()
    assert len(harness.receiver.received[0].message["data"]["ids"]) == 100


async def test_failed_message_is_sent_again_for_days_and_then_fails(harness: WebhookHarness) -> None:
    """The pauses are those of Standard Webhooks: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h."""
    harness.receiver.answers = [Answer(500)] * 10
    harness.announce()
    waited = []
    for attempt in range(1, 11):
        assert await harness.send() == 1
        status, count, code, error = harness.state()
        assert (count, code, error) == (attempt, 500, "endpoint_refused")
        if attempt < 10:
            assert status == "PENDING"
            due = harness.delivery()["next_attempt_at"]
            (now,) = harness.rows("select private.now() as now")
            waited.append((due - now["now"]).total_seconds())
            harness.pass_time(waited[-1] + 1)
    expected = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert all(0.9 * want <= got <= 1.11 * want for got, want in zip(waited, expected, strict=True)), waited
    assert sum(waited) > 3 * DAY
    assert harness.state() == ("FAILED", 10, 500, "endpoint_refused")
    assert await harness.send() == 0
    (alert,) = harness.rows("select kind, key, status from resguardo.alerts")
    assert tuple(alert.values()) == ("WEBHOOK_ENDPOINT_FAILING", "siem", "OPEN")
    ids = {row["number"] for row in harness.rows("select number from resguardo.webhook_attempts")}
    assert ids == set(range(1, 11))


async def test_retried_message_keeps_its_id_and_gets_a_new_time(harness: WebhookHarness) -> None:
    harness.receiver.answers = [Answer(503)]
    harness.announce()
    await harness.send()
    harness.pass_time(10)
    await harness.send()
    (one,) = harness.receiver.received
    assert one.id == f"msg_{harness.delivery()['message_id'].hex}"
    assert abs(int(one.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    assert harness.state() == ("DELIVERED", 2, 204, None)
    assert harness.rows("select failing_since from private.webhook_endpoints")[0]["failing_since"] is None


async def test_delivered_message_closes_the_alert(harness: WebhookHarness) -> None:
    harness.receiver.answers = [Answer(500), Answer(500)]
    harness.announce()
    await harness.send()
    harness.pass_time(2 * 3600)
    await harness.send()
    assert [row["status"] for row in harness.rows("select status from resguardo.alerts")] == ["OPEN"]
    harness.pass_time(2 * 3600)
    await harness.send()
    assert [row["status"] for row in harness.rows("select status from resguardo.alerts")] == ["CLOSED"]


async def test_alert_about_an_endpoint_is_one_message_to_it(harness: WebhookHarness) -> None:
    """The alert stays open while its own message fails, so no further message is made."""
    await register_endpoints(harness.worker, [_endpoint(harness.receiver.url, *WEBHOOK_EVENT_TYPES)])
    harness.receiver.answers = [Answer(500)] * 40
    harness.announce()
    for _ in range(20):
        await harness.send()
        harness.pass_time(90_000)
    rows = harness.rows("select event_type, status from resguardo.webhook_deliveries order by event_type")
    assert [tuple(row.values()) for row in rows] == [("alert.opened", "FAILED"), ("note.signed", "FAILED")]


async def test_overloaded_endpoint_gets_nothing_until_its_pause_ends(harness: WebhookHarness) -> None:
    harness.receiver.answers = [Answer(429, {"Retry-After": "600"})]
    harness.announce()
    assert await harness.send() == 1
    harness.announce()
    assert await harness.send() == 0, "another message waits, too"
    harness.pass_time(599)
    assert await harness.send() == 0
    harness.pass_time(70)
    assert await harness.send() == 2
    assert len(harness.receiver.received) == 2


async def test_date_in_retry_after_counts_from_the_date_of_the_answer(harness: WebhookHarness) -> None:
    dates = {"Date": "Mon, 30 Nov 2020 12:00:00 GMT", "Retry-After": "Mon, 30 Nov 2020 13:00:00 GMT"}
    harness.receiver.answers = [Answer(503, dates)]
    harness.announce()
    await harness.send()
    (row,) = harness.rows("select paused_until - private.now() as pause from private.webhook_endpoints")
    assert 3590 < row["pause"].total_seconds() <= 3600


async def test_absurd_pause_is_at_most_a_day(harness: WebhookHarness) -> None:
    harness.receiver.answers = [Answer(503, {"Retry-After": "999999999"})]
    harness.announce()
    await harness.send()
    (row,) = harness.rows("select paused_until - private.now() as pause from private.webhook_endpoints")
    assert row["pause"].total_seconds() <= DAY


async def test_failing_endpoint_gets_one_message_at_a_time(harness: WebhookHarness) -> None:
    for _ in range(8):
        harness.announce()
    harness.receiver.answers = [Answer(503)] * 5
    assert await harness.send() == 5
    harness.receiver.answers = [Answer(503)]
    harness.pass_time(301)
    assert await harness.send() == 1
    harness.pass_time(301)
    assert await harness.send() == 8
    assert len(harness.receiver.received) == 8


async def test_endpoint_that_is_gone_gets_nothing_until_its_url_changes(harness: WebhookHarness) -> None:
    harness.receiver.answers = [Answer(410)]
    harness.announce()
    await harness.send()
    assert harness.state() == ("PENDING", 1, 410, "endpoint_gone")
    (event,) = harness.rows("select reason from audit.events where action = 'webhook.disable'")
    assert event["reason"] == "endpoint_gone"
    harness.announce()
    harness.pass_time(3600)
    await register_endpoints(harness.worker, [harness.endpoint])
    assert await harness.send() == 0
    await register_endpoints(harness.worker, [_endpoint(harness.receiver.url + "?new")])
    assert await harness.send() == 2


async def test_worker_that_ends_during_an_attempt_sends_the_message_again(harness: WebhookHarness) -> None:
    harness.announce()
    async with harness.worker.as_service("send_webhooks") as tx:
        assert await tx.all("select * from private.claim_webhook_deliveries('siem', 5)")
    assert await harness.send() == 0
    harness.pass_time(121)
    assert await harness.send() == 1
    assert harness.state() == ("DELIVERED", 2, 204, None)


async def test_late_result_of_an_earlier_attempt_changes_nothing(harness: WebhookHarness) -> None:
    harness.announce()
    async with harness.worker.as_service("send_webhooks") as tx:
        (claimed,) = await tx.all("select * from private.claim_webhook_deliveries('siem', 5)")
    harness.pass_time(121)
    await harness.send()
    settle: LiteralString = (
        "select private.settle_webhook_attempt(%(id)s, 1, 9, 500, 'endpoint_refused', false, 0)"
    )
    async with harness.worker.as_service("send_webhooks") as tx:
        assert await tx.value(settle, {"id": claimed["delivery_id"]}) is None
    assert harness.state() == ("DELIVERED", 2, 204, None)


async def test_two_workers_send_each_message_once(harness: WebhookHarness) -> None:
    for _ in range(20):
        harness.announce()
    made = await asyncio.gather(*(harness.send() for _ in range(4)))
    assert sum(made) == 20
    assert len({one.id for one in harness.receiver.received}) == 20


@pytest.mark.parametrize("years", [-3, 3])
async def test_wrong_time_of_the_database_ends_no_delivery(harness: WebhookHarness, years: int) -> None:
    """A due time and a pause that were stored with a wrong clock do not delay a delivery for years."""
    harness.receiver.answers = [Answer(503)]
    harness.announce()
    await harness.send()
    harness.pass_time(-years * 365 * DAY)
    assert await harness.send() == 1
    assert harness.state()[0] == "DELIVERED"


async def test_message_that_waits_for_a_week_fails(harness: WebhookHarness) -> None:
    harness.announce()
    harness.pass_time(7 * DAY + 1)
    await harness.sender.clear_old()
    assert harness.state() == ("FAILED", 0, None, "endpoint_not_tried")


async def test_messages_of_a_removed_endpoint_fail(harness: WebhookHarness) -> None:
    harness.announce()
    await register_endpoints(harness.worker, [])
    await harness.sender.clear_old()
    assert harness.state() == ("FAILED", 0, None, "endpoint_removed")


async def test_ended_deliveries_are_deleted_after_90_days(harness: WebhookHarness) -> None:
    harness.announce()
    await harness.send()
    harness.pass_time(89 * DAY)
    assert await harness.sender.clear_old() == 0
    harness.pass_time(2 * DAY)
    assert await harness.sender.clear_old() == 1
    assert harness.rows("select from resguardo.webhook_attempts") == []


async def test_registering_writes_an_audit_row_only_if_something_changed(harness: WebhookHarness) -> None:
    await register_endpoints(harness.worker, [harness.endpoint])
    counted = harness.rows("select count(*) as n from audit.events where action = 'webhook.configure'")
    assert counted == [{"n": 1}]
    await register_endpoints(harness.worker, [_endpoint(harness.receiver.url, "case.opened")])
    counted = harness.rows("select count(*) as n from audit.events where action = 'webhook.configure'")
    assert counted == [{"n": 2}]


async def _resolved(*addresses: str) -> list[Address]:
    return [ip_address(address) for address in addresses]


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], ["fd00:ec2::254"]],
)
async def test_name_with_an_address_of_the_inside_is_not_connected(
    harness: WebhookHarness, addresses: list[str]
) -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[Address]:
        asked.append(host)
        return await _resolved(*addresses)

    url = harness.receiver.url.replace("127.0.0.1", "siem.example.org")
    async with _client(url, allows_loopback=False, resolve=resolve) as client:
        answer = await client.post(b"{}", {})
    assert (answer.error, answer.status_code, asked) == (
        "endpoint_address_forbidden",
        None,
        ["siem.example.org"],
    )
    assert harness.receiver.refused == 0


async def test_name_that_resolves_differently_the_second_time_is_not_resolved_again(
    harness: WebhookHarness,
) -> None:
    """The client connects to the address that it has checked (DNS rebinding)."""
    answers = [["127.0.0.1"], ["169.254.169.254"]]

    async def resolve(host: str, port: int) -> list[Address]:
        return await _resolved(*answers.pop(0))

    url = harness.receiver.url.replace("127.0.0.1", "siem.example.org")
    async with _client(url, resolve=resolve) as client:
        answer = await client.post(b"{}", {})
    assert (answer.status_code, harness.receiver.refused, len(answers)) == (401, 1, 1)


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_other_spellings_of_loopback_are_refused(harness: WebhookHarness, host: str) -> None:
    url = harness.receiver.url.replace("127.0.0.1", host)
    async with _client(url, allows_loopback=False) as client:
        answer = await client.post(b"{}", {})
    assert answer.error in ("endpoint_address_forbidden", "endpoint_unresolved")
    assert harness.receiver.refused == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_to_the_inside_is_not_followed(harness: WebhookHarness, status: int) -> None:
    inside = WebhookReceiver(SECRET)
    async with inside.running():
        harness.receiver.answers = [Answer(status, {"Location": inside.url})]
        harness.announce()
        await harness.send()
    assert harness.state() == ("PENDING", 1, status, "endpoint_redirects")
    assert (inside.received, inside.refused) == ([], 0)


async def test_proxies_of_the_environment_are_not_used(
    harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = WebhookReceiver(SECRET)
    async with proxy.running():
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with _client(harness.receiver.url) as client:
            answer = await client.post(b"{}", {})
    assert (answer.status_code, harness.receiver.refused, proxy.refused) == (401, 1, 0)


async def test_endpoint_that_never_answers_ends_in_a_timeout(harness: WebhookHarness) -> None:
    async with _client(harness.receiver.url, timeout_seconds=0.3) as client:
        harness.sender._clients = {"siem": client}
        harness.receiver.answers = [Answer(None)]
        harness.announce()
        await harness.send()
    assert harness.state() == ("PENDING", 1, None, "endpoint_timeout")
    (row,) = harness.rows("select paused_until > private.now() as is_paused from private.webhook_endpoints")
    assert row["is_paused"]


async def _speak(port_of: list[int], answer: bytes) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port_of.append(server.sockets[0].getsockname()[1])
    return server


@pytest.mark.parametrize("answer", [b"", b"\x00\x01garbage\r\n\r\n", b"HTTP/1.1 200 OK", b"SSH-2.0-x\r\n"])
async def test_answer_that_is_no_http_is_a_failure(answer: bytes) -> None:
    ports: list[int] = []
    server = await _speak(ports, answer)
    async with server, _client(f"http://127.0.0.1:{ports[0]}/") as client:
        result = await client.post(b"{}", {})
    assert (result.error, result.status_code, result.is_overloaded) == ("endpoint_unreachable", None, True)


async def test_closed_port_name_without_address_and_plain_http_have_their_errors(
    harness: WebhookHarness,
) -> None:
    async with _client("http://127.0.0.1:1/") as client:
        assert (await client.post(b"{}", {})).error == "endpoint_unreachable"
    async with _client("https://no-such-name.invalid/") as client:
        assert (await client.post(b"{}", {})).error == "endpoint_unresolved"
    async with _client(harness.receiver.url.replace("http:", "https:")) as client:
        assert (await client.post(b"{}", {})).error in ("endpoint_tls_failed", "endpoint_timeout")


async def test_logs_have_no_url_and_no_secret(
    harness: WebhookHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.receiver.answers = [Answer(500)]
    harness.announce()
    with caplog.at_level(logging.DEBUG, logger="app"):
        await harness.send()
    assert "webhook not delivered: endpoint=siem" in caplog.text
    assert "127.0.0.1" not in caplog.text
    assert "whsec" not in caplog.text
