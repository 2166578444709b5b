"""Tests that the API refuses a flood of requests from one caller, and serves all other callers during the flood.

Each test holds a lock on the row or the table that the requests of the flood need, and releases the lock at the
end. If a request finished before the test released the lock, the API served it during the flood, whatever the speed
of the machine.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, LiteralString
from uuid import uuid4

import httpx
import psycopg
import pytest
from starlette.requests import Request
from starlette.types import Message

from app.errors import UpstreamFailed
from app.http import health
from app.http.address_limit import AddressLimit, connecting_limit
from app.http.metrics import Metrics
from app.http.websocket_connections import SubscriptionEndpoint
from app.http.websocket_sessions import Connected
from app.jobs.leader_watch import LeaderWatch
from app.main import create_app
from app.postgres.database import Database as Pool
from app.transcripts import encryption
from app.transcripts.search import service as search_service
from tests.api import documents
from tests.api.harness import Answer, ApiHarness, Case, Person, from_address
from tests.api.small_api import small_schema
from tests.api.socket_client import ORIGIN, open_socket, serve_app
from tests.api.speaking import store_transcript
from tests.api.test_webhook import _bytes, _event, _post

pytestmark = pytest.mark.anyio

RUNNING, WAITING, FLOOD = 4, 60, 200
SERVED_SECONDS = 8
"""Shorter than the 10 s after which a statement that waits for a lock, or a request that waits for a connection,
fails.
"""


@asynccontextmanager
async def held(
    harness: ApiHarness, lock: LiteralString, *values: object
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Hold a database lock that the API's SQL statements need, until the `async with` block or the transaction
    ends.
    """
    async with await psycopg.AsyncConnection.connect(harness.database.superuser_url) as connection:
        await connection.execute(lock, values)
        yield connection


@asynccontextmanager
async def flooding(
    requests: list[Coroutine[Any, Any, Any]], holding: psycopg.AsyncConnection[Any] | None = None
) -> AsyncIterator[list["asyncio.Task[Any]"]]:
    """Send all requests of a flood at once. At the end of the `async with` block, release the lock and wait for all
    requests.
    """
    tasks = [asyncio.create_task(request) for request in requests]
    try:
        yield tasks
    finally:
        if holding is not None:
            await holding.rollback()
        await asyncio.gather(*tasks, return_exceptions=True)


async def waiting(harness: ApiHarness) -> int:
    """Return how many SQL statements of the API wait for a lock."""
    (row,) = await harness.rows(
        "select count(*) as waiting from pg_stat_activity where datname = current_database()"
        " and application_name = 'resguardo-api' and wait_event_type = 'Lock'"
    )
    return int(row["waiting"])


async def until_waiting(harness: ApiHarness, number: int) -> None:
    """Wait until `number` SQL statements of the API wait for a lock."""
    async with asyncio.timeout(SERVED_SECONDS):
        while await waiting(harness) < number:  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(0.01)


def reasons(answers: list[Answer]) -> Counter[str | None]:
    return Counter(answer.error.reason if "errors" in answer.body else "answered" for answer in answers)


async def test_flood_of_one_doctor_is_refused_and_other_callers_are_served(
    harness: ApiHarness, case: Case, other_doctor: Person
) -> None:
    another = await harness.case(other_doctor)
    flood = [case.doctor.send(documents.JOIN, consultationId=case.id) for _ in range(FLOOD)]
    lock: LiteralString = "select 1 from resguardo.consultations where id = %s for update"
    async with held(harness, lock, case.id) as holding, flooding(flood, holding) as tasks:
        await until_waiting(harness, RUNNING)
        async with asyncio.timeout(SERVED_SECONDS):
            assert (await other_doctor.ask(documents.VIEWER))["role"] == "CLINICIAN"
            assert (await other_doctor.ask(documents.JOIN, consultationId=another.id))["joinToken"]["token"]
            assert (await case.patient.ask(documents.VIEWER))["role"] == "PATIENT"
            assert (await _post(harness, _bytes(_event()))).status_code == 200
            assert (await harness.http.get("/health/ready")).status_code == 200
        assert sum(not task.done() for task in tasks) == RUNNING + WAITING
    answers = [task.result() for task in tasks]
    assert reasons(answers) == {"answered": RUNNING + WAITING, "too_many_at_once": FLOOD - RUNNING - WAITING}
    for answer in answers:
        if "errors" in answer.body:
            assert answer.error.code == "RATE_LIMITED"
            assert answer.error.extensions["retryable"] is True
            assert answer.response.headers["retry-after"] == str(answer.error.details["retryAfterSeconds"])
            assert await harness.audit(answer.request_id) == []
    assert (await case.doctor.ask(documents.JOIN, consultationId=case.id))["joinToken"]["token"]


async def test_root_fields_count_as_operations(
    harness: ApiHarness, doctor: Person, other_doctor: Person
) -> None:
    query = "{" + " ".join(f'f{n}: recording(by: {{id: "{uuid4()}"}}) {{ id }}' for n in range(10)) + "}"
    flood = [doctor.send(query) for _ in range(30)]
    async with (
        held(harness, "lock table resguardo.recordings in access exclusive mode") as holding,
        flooding(flood, holding) as tasks,
    ):
        await until_waiting(harness, RUNNING)
        async with asyncio.timeout(SERVED_SECONDS):
            assert (await other_doctor.ask(documents.VIEWER))["role"] == "CLINICIAN"
        assert await waiting(harness) == RUNNING
    codes = Counter(error["extensions"]["code"] for task in tasks for error in task.result().body["errors"])
    assert set(codes) == {"NOT_FOUND", "RATE_LIMITED"}


async def test_operations_with_bad_input_count_against_the_same_limit(
    harness: ApiHarness, doctor: Person, other_doctor: Person
) -> None:
    flood = [doctor.send("query ($id: ID!) { recording(by: {id: $id}) { id } }") for _ in range(FLOOD)]
    lock: LiteralString = "lock table resguardo.staff in access exclusive mode"
    async with held(harness, lock) as holding, flooding(flood, holding) as tasks:
        await until_waiting(harness, RUNNING)
        assert await waiting(harness) == RUNNING
    assert {task.result().error.code for task in tasks} == {"INVALID_INPUT", "RATE_LIMITED"}
    assert (await other_doctor.ask(documents.VIEWER))["role"] == "CLINICIAN"


@pytest.mark.parametrize("is_from_many_addresses", [False, True])
async def test_flood_of_invalid_subtitle_links_is_refused_and_counted_and_delays_nobody(
    harness: ApiHarness, other_doctor: Person, is_from_many_addresses: bool
) -> None:
    table: LiteralString = "lock table private.subtitle_links in access exclusive mode"
    network = "198.18.7" if is_from_many_addresses else "198.18.6"
    async with harness.another_api(guest_operations=4) as http:
        clients = [
            from_address(http, f"{network}.{number % 250 if is_from_many_addresses else 1}")
            for number in range(300)
        ]
        person = Person(http, other_doctor.user_id, other_doctor.session_id, other_doctor.token)
        flood = [client.get(f"/subtitles/{uuid4().hex * 2}.vtt") for client in clients]
        async with held(harness, table) as holding, flooding(flood, holding) as tasks:
            await until_waiting(harness, 4 if is_from_many_addresses else 2)
            async with asyncio.timeout(SERVED_SECONDS):
                assert (await person.ask(documents.VIEWER))["role"] == "CLINICIAN"
            assert sum(task.done() for task in tasks) >= 200
        answers: list[httpx.Response] = [task.result() for task in tasks]
        counted = Counter(answer.status_code for answer in answers)
        assert set(counted) == {404, 503 if is_from_many_addresses else 429}
        for answer in answers:
            if answer.status_code != 404:
                (error,) = answer.json()["errors"]
                assert error["extensions"]["code"] == "RATE_LIMITED"
                assert answer.headers["retry-after"] == str(
                    error["extensions"]["details"]["retryAfterSeconds"]
                )
    rows = await harness.rows(
        "select row_count, reason from audit.events where action = 'request.reject'"
        " and address << cast(%s as inet)",
        f"{network}.0/24",
    )
    assert sum(row["row_count"] for row in rows) == counted[404]


@pytest.mark.parametrize(
    "path",
    [
        "/subtitles/x.vtt",
        f"/subtitles/{'0' * 64}.txt",
        f"/subtitles/{'a' * 63}.srt",
        f"/subtitles/{'a' * 64}.vtt",
        f"/thumbnails/{'a' * 64}.jpg",
    ],
)
async def test_unknown_subtitle_link_is_counted_like_a_bad_invitation(harness: ApiHarness, path: str) -> None:
    address = f"198.19.{('vtt', 'srt', 'txt', 'jpg').index(path[-3:]) + 1}.{len(path)}"
    async with harness.another_api() as http, from_address(http, address) as client:
        assert (await client.get(path)).status_code == 404
        stranger = Person(client, uuid4(), uuid4(), None)
        assert (await stranger.refused(documents.JOIN_AS_GUEST, invitation="x" * 44))[0] == "NOT_FOUND"
    (row,) = await harness.rows(
        "select row_count from audit.events where action = 'request.reject' and address = cast(%s as inet)",
        address,
    )
    assert row["row_count"] == 2


async def test_guests_of_one_address_do_not_delay_guests_of_another(harness: ApiHarness, case: Case) -> None:
    invited = await case.doctor.ask(documents.INVITE, consultationId=case.id, role="INTERPRETER")
    table: LiteralString = "lock table private.subtitle_links in access exclusive mode"
    async with (
        harness.another_api() as http,
        from_address(http, "198.18.8.1") as flooder,
        from_address(http, "198.18.8.2") as client,
    ):
        flood = [flooder.get(f"/subtitles/{uuid4().hex * 2}.vtt") for _ in range(FLOOD)]
        async with held(harness, table) as holding, flooding(flood, holding):
            await until_waiting(harness, 2)
            guest = Person(client, uuid4(), uuid4(), None)
            async with asyncio.timeout(SERVED_SECONDS):
                assert (await guest.ask(documents.JOIN_AS_GUEST, invitation=invited["invitation"]["secret"]))[
                    "joinToken"
                ]["token"]


async def test_flood_of_a_leaked_subtitle_link_uses_no_slots_of_its_doctor(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    await store_transcript(harness, recording)
    urls = await case.doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(recording))
    table: LiteralString = "lock table resguardo.transcripts in access exclusive mode"
    flood = [harness.http.get(urls["webvtt"]) for _ in range(FLOOD)]
    async with held(harness, table) as holding, flooding(flood, holding) as tasks:
        await until_waiting(harness, RUNNING)
        async with asyncio.timeout(SERVED_SECONDS):
            assert (await case.doctor.ask(documents.VIEWER))["role"] == "CLINICIAN"
        assert await waiting(harness) == RUNNING
    assert {task.result().status_code for task in tasks} <= {200, 429, 503}


async def test_long_searches_of_one_doctor_leave_slots_to_others(
    harness: ApiHarness, case: Case, other_doctor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = await harness.recording(case), await harness.recording(await harness.case(other_doctor))
    await store_transcript(harness, mine)
    await store_transcript(harness, theirs)
    may_end, begun = threading.Event(), threading.Semaphore(0)
    decrypt = encryption.decrypt_transcript

    def slow(keyring: Any, encrypted: Any) -> Any:
        if encrypted.recording_id == mine:
            begun.release()
            assert may_end.wait(60)
        return decrypt(keyring, encrypted)

    monkeypatch.setattr(search_service, "decrypt_transcript", slow)
    flood = [case.doctor.send(documents.TRANSCRIPT_SEARCH, query="headaches") for _ in range(30)]
    async with flooding(flood) as tasks:
        try:
            assert await asyncio.to_thread(begun.acquire, timeout=20)
            async with asyncio.timeout(20):
                found = await other_doctor.ask(documents.TRANSCRIPT_SEARCH, query="headaches")
            assert [hit["recording"]["id"] for hit in found["hits"]] == [str(theirs)]
            assert not all(task.done() for task in tasks)
        finally:
            may_end.set()
    assert set(reasons([task.result() for task in tasks])) <= {"answered", "too_many_at_once"}


async def test_subscriptions_of_one_doctor_have_a_limit_of_concurrent_reads(
    harness: ApiHarness, case: Case, other_doctor: Person
) -> None:
    table: LiteralString = "lock table resguardo.recordings in access exclusive mode"
    app = create_app(harness.settings.model_copy(update={"allowed_origins": (ORIGIN,)}))
    async with (
        serve_app(app) as url,
        open_socket(url) as first,
        open_socket(url) as second,
        httpx.AsyncClient(base_url=url) as http,
    ):
        other = replace(other_doctor, http=http)
        for client in (first, second):
            await client.init(case.doctor)
        async with held(harness, table):
            for client in (first, second):
                for number in range(10):
                    await client.subscribe(WATCH, str(number), consultationId=case.id)
            await until_waiting(harness, RUNNING)
            async with asyncio.timeout(SERVED_SECONDS):
                assert (await other.ask(documents.VIEWER))["role"] == "CLINICIAN"
            assert await waiting(harness) == RUNNING


WATCH = (
    "subscription ($consultationId: ID!) { recordingChanged(consultationId: $consultationId) { id status } }"
)


async def test_flood_of_metrics_requests_causes_one_query(harness: ApiHarness, other_doctor: Person) -> None:
    database = Pool(harness.database.api_url, application="resguardo-api")
    metrics = Metrics(LeaderWatch(database, clock=lambda: 0.0), database)
    request = Request(_scope("127.0.0.1", "/metrics"))
    flood = [metrics(request) for _ in range(FLOOD)]
    table: LiteralString = "lock table private.leadership in access exclusive mode"
    async with held(harness, table) as holding, flooding(flood, holding) as tasks:
        await until_waiting(harness, 1)
        async with asyncio.timeout(SERVED_SECONDS):
            assert (await other_doctor.ask(documents.VIEWER))["role"] == "CLINICIAN"
        assert await waiting(harness) == 1
    await database.close()
    assert {task.result().status_code for task in tasks} == {200}


async def test_flood_of_readiness_requests_causes_one_query_and_the_next_request_another() -> None:
    class Asked:
        asked = 0

        async def require_ready(self, seconds: float) -> None:
            self.asked += 1
            await asyncio.sleep(0)
            if self.asked == 2:
                raise UpstreamFailed("database_unavailable")

    database = Asked()
    ready = health.Ready(database)  # type: ignore[arg-type]
    request = Request(_scope("203.0.113.7", "/health/ready"))
    for number, status in ((1, 200), (2, 503), (3, 200)):
        answers = await asyncio.gather(*(ready(request) for _ in range(FLOOD)))
        assert {answer.status_code for answer in answers} == {status}
        assert database.asked == number


def _scope(address: str, path: str = "/graphql", kind: str = "http") -> dict[str, Any]:
    return {"type": kind, "path": path, "headers": [], "client": (address, 1), "extensions": {}}


class Held:
    """An application whose requests start their response only when the test allows it."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()


async def test_open_requests_of_an_address_are_limited_and_an_ipv6_network_is_one_address() -> None:
    app, statuses = Held(), asyncio.Queue[int]()
    limited = AddressLimit(app, requests=8, trusted_proxies=())

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.put_nowait(message["status"])

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(limited(_scope(f"2001:db8:0:1::{number:x}"), receive, send))
            for number in range(9)
        ]
        async with asyncio.timeout(20):
            assert await statuses.get() == 429
        assert app.asked == 8
        others = (
            _scope("2001:db8:0:2::1"),
            _scope("203.0.113.7"),
            _scope("2001:db8:0:1::1", "/webhooks/livekit"),
            _scope("2001:db8:0:1::1", "/health/ready"),
        )
        tasks += [group.create_task(limited(scope, receive, send)) for scope in others]
        await asyncio.sleep(0)
        assert app.asked == 12
        app.may_answer.set()
        async with asyncio.timeout(20):
            assert [await statuses.get() for _ in range(12)] == [200] * 12
        tasks += [group.create_task(limited(_scope("2001:db8:0:1::1"), receive, send)) for _ in range(3)]
        async with asyncio.timeout(20):
            assert [await statuses.get() for _ in range(3)] == [200] * 3, (
                "an answer that has begun counts no more"
            )
        for task in tasks:
            task.cancel()


async def test_unidentified_websockets_of_an_address_are_limited() -> None:
    async def connect(*_: object) -> Connected:
        raise AssertionError("nobody says who connects")

    endpoint = SubscriptionEndpoint(small_schema(), connect=connect, connecting=connecting_limit((), 1))
    sent: asyncio.Queue[Message] = asyncio.Queue()

    async def start(address: str) -> "asyncio.Task[None]":
        arriving = iter([{"type": "websocket.connect"}])

        async def receive() -> Message:
            message = next(arriving, None)
            if message is None:
                await asyncio.Event().wait()
            return message or {}

        scope = _scope(address, kind="websocket") | {
            "subprotocols": ["graphql-transport-ws"],
            "extensions": {"websocket.http.response": {}},
        }
        return asyncio.create_task(endpoint(scope, receive, _into(sent)))

    tasks = []
    async with asyncio.timeout(20):
        for address, expected in (
            ("198.18.9.1", "accept"),
            ("198.18.9.1", "denied"),
            ("198.18.9.2", "accept"),
        ):
            tasks.append(await start(address))
            message = await sent.get()
            if expected == "accept":
                assert message["type"] == "websocket.accept"
                continue
            assert (message["type"], message["status"]) == ("websocket.http.response.start", 429)
            assert dict(message["headers"])[b"retry-after"] == b"1"
            body = await sent.get()
            assert json.loads(body["body"])["errors"][0]["extensions"]["reason"] == "TOO_MANY_AT_ONCE"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _into(queue: "asyncio.Queue[Message]") -> Any:
    async def send(message: Message) -> None:
        queue.put_nowait(message)

    return send
