"""Tests of the subscription `recordingChanged` over real sockets: which events it sends, who may subscribe, and
when its connection ends.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from starlette.types import Message
from websockets.exceptions import InvalidStatus

from app.http.websocket_connections import SubscriptionEndpoint
from app.http.websocket_sessions import Connected, SocketLimits
from app.main import create_app
from app.postgres.database import Asker, Database
from app.postgres.selection import Selection
from app.recordings.change_feed import ChangeFeed
from app.recordings.changes import Subscriptions
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person
from tests.api.shown import named_in
from tests.api.small_api import Context, small_schema
from tests.api.socket_client import ORIGIN, Socket, open_socket, serve_app

pytestmark = pytest.mark.anyio

WATCH = documents.RECORDING_CHANGED
LISTENERS = """
select a.pid from pg_stat_activity as a
where a.application_name = 'resguardo-api-listen' and a.datname = current_database()
"""
KILL_LISTENERS = """
select pg_terminate_backend(a.pid, 5000) as done from pg_stat_activity as a
where a.application_name = 'resguardo-api-listen' and a.datname = current_database()
"""


@asynccontextmanager
async def _api(harness: ApiHarness, **limits: Any) -> AsyncIterator[str]:
    settings = harness.settings.model_copy(update={"allowed_origins": (ORIGIN,)})
    async with serve_app(create_app(settings, socket_limits=SocketLimits(**limits))) as url:
        yield url


@pytest.fixture(scope="module")
async def api(harness: ApiHarness) -> AsyncIterator[str]:
    """Yield the URL of an API that checks a session only before it sends an event. An API with this setting closes
    the WebSocket of an ended session only when an event occurs.
    """
    async with _api(harness, recheck_seconds=3600, message_bytes=4096) as url:
        yield url


@pytest.fixture(scope="module")
async def watchful(harness: ApiHarness) -> AsyncIterator[str]:
    """Yield the URL of an API that checks every session every 20 ms."""
    async with _api(harness, recheck_seconds=0.02, init_seconds=0.3) as url:
        yield url


@pytest.fixture
async def case(harness: ApiHarness) -> Case:
    """Return a consultation in which every participant has consented."""
    return await _consented(await harness.case())


async def _consented(case: Case) -> Case:
    await case.consent()
    return case


@asynccontextmanager
async def _watching(url: str, case: Case, person: Person | None = None) -> AsyncIterator[Socket]:
    async with open_socket(url) as client:
        await client.init(person or case.doctor)
        await client.subscribe(WATCH, consultationId=case.id)
        yield client


async def _become(harness: ApiHarness, recording: UUID, status: str) -> float:
    """Change the status of the recording in the database and commit the change. Return the time of the monotonic
    clock just after the commit.
    """
    await harness.rows("update resguardo.recordings set status = %s where id = %s", status, recording)
    return time.monotonic()


async def _pages(harness: ApiHarness, person: Person) -> int:
    rows = await harness.rows(
        "select sum(used)::int as used from private.usage where meter = 'pages' and person_id = %s",
        person.user_id,
    )
    return int(rows[0]["used"] or 0)


async def test_subscriber_receives_the_newest_recording_and_then_every_change(
    harness: ApiHarness, case: Case, api: str
) -> None:
    recording = await harness.recording(case, "REQUESTED")
    pages = await _pages(harness, case.doctor)
    async with _watching(api, case) as client:
        first = await client.event()
        assert (first["id"], first["status"]) == (str(recording), "REQUESTED")
        assert first["consultation"]["id"] == case.id
        for status in ("STARTING", "RECORDING", "STOPPING", "VERIFYING", "READY"):
            committed = await _become(harness, recording, status)
            assert (await client.event())["status"] == status
            print(f"{status} told {1000 * (time.monotonic() - committed):.1f} ms after the commit")  # noqa: T201 - measured, not asserted
        rows = await harness.audit(client.request_id)
    assert [(row["action"], row["entities"][0]["type"], row["outcome"]) for row in rows] == [
        *[("recording.watch", "recording", "ALLOWED")] * 6,
    ]
    assert {row["actor_id"] for row in rows} == {case.doctor.user_id}
    named = {one["type"]: one["ids"] for one in rows[-1]["entities"]}
    assert (named["recording"], named["consultation"]) == ([str(recording)], [case.id])
    assert rows[-1]["patient_ids"] == [UUID(case.patient_id)]
    assert "status" in rows[-1]["fields"]
    assert await _pages(harness, case.doctor) == pages + 1


async def test_subscriber_of_a_consultation_without_recordings_receives_the_first_one(
    case: Case, api: str
) -> None:
    async with _watching(api, case) as client:
        await client.require_no_message()
        started = await case.doctor.ask(documents.START, consultationId=case.id)
        assert await client.event() == started


async def test_change_of_an_older_recording_is_sent(harness: ApiHarness, case: Case, api: str) -> None:
    older = await harness.recording(case, "VERIFYING")
    newer = await harness.recording(case, "RECORDING")
    async with _watching(api, case) as client:
        assert (await client.event())["id"] == str(newer)
        await _become(harness, older, "READY")
        told = await client.event()
        assert (told["id"], told["status"]) == (str(older), "READY")


async def test_progress_of_a_clip_is_sent(harness: ApiHarness, case: Case, api: str) -> None:
    await case.consent()
    recording = await harness.recording(case)
    watch = """
    subscription ($consultationId: ID!) {
      recordingChanged(consultationId: $consultationId) { id clips { status percentDone } }
    }
    """
    async with open_socket(api) as client:
        await client.init(case.doctor)
        await client.subscribe(watch, consultationId=case.id)
        assert (await client.event())["clips"] == []
        await case.doctor.ask(documents.CREATE_CLIP, recordingId=str(recording), start=0, end=1)
        assert (await client.event())["clips"] == [{"status": "PENDING", "percentDone": 0}]
        await harness.rows(
            "update resguardo.clips set status = 'RUNNING', run = 1 where recording_id = %s", recording
        )
        assert (await client.event())["clips"] == [{"status": "RUNNING", "percentDone": 0}]
        await harness.rows("update resguardo.clips set percent_done = 40 where recording_id = %s", recording)
        assert (await client.event())["clips"] == [{"status": "RUNNING", "percentDone": 40}]


async def test_progress_of_the_transcription_is_sent(harness: ApiHarness, case: Case, api: str) -> None:
    recording = await harness.recording(case, "VERIFYING")
    async with _watching(api, case) as client:
        assert (await client.event())["transcription"] is None
        await _become(harness, recording, "READY")
        assert (await client.event())["transcription"]["status"] == "PENDING"
        for done in (0, 1):
            await harness.rows(
                "update resguardo.transcripts set status = 'RUNNING', chunks_total = 2, chunks_done = %s"
                " where recording_id = %s",
                done,
                recording,
            )
            told = (await client.event())["transcription"]
            assert (told["status"], told["chunksDone"], told["chunkCount"]) == ("RUNNING", done, 2)
        await client.require_no_message()


async def test_change_that_is_rolled_back_or_of_another_consultation_is_not_sent(
    harness: ApiHarness, case: Case, api: str
) -> None:
    recording = await harness.recording(case, "REQUESTED")
    other = await harness.recording(await _consented(await harness.case(case.doctor)), "REQUESTED")
    async with _watching(api, case) as client:
        await client.event()
        async with await psycopg.AsyncConnection.connect(harness.database.superuser_url) as changing:
            await changing.execute(
                "update resguardo.recordings set status = 'STARTING' where id = %s", (recording,)
            )
            await changing.rollback()
        await _become(harness, other, "STARTING")
        await _become(harness, recording, "ABORTED")
        assert (await client.event())["status"] == "ABORTED"
        await client.require_no_message()


async def test_forged_notification_sends_nothing(harness: ApiHarness, case: Case, api: str) -> None:
    first = await harness.recording(case, "RECORDING")
    async with _watching(api, case) as client:
        await client.event()
        for payload in (case.id, f"{case.id} {case.doctor.user_id}", "no id", ""):
            await harness.rows("select pg_notify('resguardo_changes', %s)", payload)
        recording = await harness.recording(case, "VERIFYING")
        assert (await client.event())["id"] == str(recording)
        rows = await harness.audit(client.request_id)
        assert [(named_in(row)["recording"], row["row_count"]) for row in rows] == [
            ({str(first)}, 1),
            ({str(recording)}, 1),
        ]


async def test_slow_reader_receives_the_last_of_a_hundred_changes(harness: ApiHarness, case: Case) -> None:
    recording = await harness.recording(case, "RECORDING")
    database = Database(harness.database.api_url, application="resguardo-api")
    claims = {
        "sub": str(case.doctor.user_id),
        "session_id": str(case.doctor.session_id),
        "aal": "aal2",
        "exp": int(time.time()) + 600,
    }
    await database.open()
    try:
        async with ChangeFeed(database.dedicated.listen) as feed:
            service = Subscriptions(database, feed)
            watching = service.watch_recordings(
                Asker(claims, uuid4(), None), UUID(case.id), Selection.of("id", "durationSeconds", "status")
            )
            async with asyncio.timeout(20), aclosing(watching) as changes:
                assert (await anext(changes))["duration_seconds"] is None
                for number in range(1, 101):
                    await harness.rows(
                        "update resguardo.recordings set duration_seconds = %s where id = %s",
                        number,
                        recording,
                    )
                assert (await anext(changes))["duration_seconds"] == 100
                await _become(harness, recording, "STOPPING")
                assert (await anext(changes))["status"] == "STOPPING"
    finally:
        await database.close()


async def test_change_during_a_lost_database_connection_is_sent_after_reconnecting(
    harness: ApiHarness, case: Case, api: str
) -> None:
    recording = await harness.recording(case, "REQUESTED")
    async with _watching(api, case) as client:
        await client.event()
        for status in ("STARTING", "RECORDING"):
            assert await harness.rows(KILL_LISTENERS)
            await _become(harness, recording, status)
            assert (await client.event())["status"] == status


async def test_hidden_and_unknown_consultations_get_the_same_answer_in_both_languages(
    harness: ApiHarness, case: Case, other_doctor: Person, api: str
) -> None:
    await harness.recording(case)
    for language, sentence in (
        ("en", "This consultation does not exist, or you may not see it. Reload the list and choose again."),
        ("es", "No existe esta consulta, o usted no puede verla. Actualice la lista y elija de nuevo."),
    ):
        async with open_socket(api) as client:
            await client.init(other_doctor, acceptLanguage=language)
            told = []
            for wanted in (case.id, str(uuid4())):
                await client.subscribe(WATCH, consultationId=wanted)
                told.append(await client.error())
            assert told[0] == told[1]
            assert told[0]["message"] == sentence
            assert told[0]["extensions"] == {
                "code": "NOT_FOUND",
                "reason": "CONSULTATION_NOT_FOUND",
                "retryable": False,
                "requestId": client.request_id,
                "details": None,
            }
            rows = await harness.audit(client.request_id)
            assert [row["outcome"] for row in rows] == ["DENIED", "ABSENT"]


@pytest.mark.parametrize("role", ["patient", "compliance"])
async def test_other_roles_may_connect_and_not_subscribe(
    harness: ApiHarness, case: Case, officer: Person, watchful: str, role: str
) -> None:
    person = case.patient if role == "patient" else officer
    async with _watching(watchful, case, person) as client:
        error = await client.error()
        assert (error["extensions"]["code"], error["extensions"]["reason"]) == (
            "FORBIDDEN",
            "WRONG_ROLE",
        )
        await asyncio.sleep(0.1)
        await client.require_no_message()


async def test_caller_without_a_valid_session_cannot_connect(
    harness: ApiHarness, case: Case, api: str
) -> None:
    doctor = case.doctor
    signed_out = await harness.with_session(doctor)
    await harness.end_session(signed_out)
    expired = replace(
        doctor, token=harness.token(doctor.user_id, doctor.session_id, exp=int(time.time()) - 60)
    )
    delegated = replace(doctor, token=harness.token(doctor.user_id, doctor.session_id, client_id=""))
    early = replace(doctor, token=harness.token(doctor.user_id, doctor.session_id, iat=int(time.time()) + 90))
    for person, expected in (
        (harness.stranger(), (4401, "TOKEN_MISSING")),
        (replace(doctor, token="none"), (4401, "TOKEN_MALFORMED")),
        (delegated, (4401, "SESSION_DELEGATED")),
        (early, (1013, "TOKEN_CLOCK")),
        (expired, (4403, "TOKEN_EXPIRED")),
        (signed_out, (4401, "SESSION_OVER")),
        (await harness.with_session(doctor, aal="aal1"), (4403, "SECOND_FACTOR_NEEDED")),
        (await harness.user(), (4403, "NOT_REGISTERED")),
    ):
        async with open_socket(api) as client:
            await client.send_init(person)
            assert await client.wait_for_close() == expected


@pytest.mark.parametrize(
    "payload",
    [
        {"authorization": "{}"},
        {"Authorization": "{}"},
        {"AUTHORIZATION": "{}"},
        {"headers": {"Authorization": "{}"}},
        {"headers": {"authorization": "{}", "apikey": "sb_publishable_x"}},
        {"authorization": None, "headers": {"Authorization": "{}"}},
        {"authorization": "", "Authorization": "{}"},
        {"headers": None, "Authorization": "{}"},
        {"headers": ["Authorization"], "authorization": "  {}  "},
    ],
    ids=json.dumps,
)
async def test_connection_init_accepts_the_authorization_in_every_usual_place(
    case: Case, api: str, payload: dict[str, Any]
) -> None:
    filled = json.loads(json.dumps(payload).replace("{}", f"Bearer {case.doctor.token}"))
    async with open_socket(api) as client:
        await client.send_message(type="connection_init", payload=filled)
        assert await client.receive() == {"type": "connection_ack"}


@pytest.mark.parametrize(
    "payload",
    [{}, {"headers": {}}, {"Authorization": 7}, {"headers": {"Authorization": ["Bearer x"]}}],
    ids=json.dumps,
)
async def test_connection_init_without_an_authorization_is_refused(api: str, payload: dict[str, Any]) -> None:
    async with open_socket(api) as client:
        await client.send_message(type="connection_init", payload=payload)
        assert await client.wait_for_close() == (4401, "TOKEN_MISSING")


async def test_event_after_the_session_ended_is_not_sent_and_ends_the_connection(
    harness: ApiHarness, case: Case, api: str
) -> None:
    recording = await harness.recording(case, "REQUESTED")
    async with _watching(api, case) as client:
        await client.event()
        await harness.end_session(case.doctor)
        await _become(harness, recording, "STARTING")
        assert (await client.error())["extensions"]["reason"] == "SESSION_OVER"
        assert await client.wait_for_close() == (4401, "SESSION_OVER")
        rows = await harness.audit(client.request_id)
        assert (rows[-1]["outcome"], rows[-1]["reason"]) == ("DENIED", "session_over")


async def test_connection_of_an_ended_session_ends_without_an_event(
    harness: ApiHarness, case: Case, watchful: str
) -> None:
    await harness.recording(case)
    async with _watching(watchful, case) as client:
        await client.event()
        await harness.end_session(case.doctor)
        assert await client.wait_for_close() == (4401, "SESSION_OVER")


async def test_connection_of_a_suspended_doctor_ends_without_an_event(
    harness: ApiHarness, case: Case, officer: Person, watchful: str
) -> None:
    await harness.recording(case)
    async with _watching(watchful, case) as client:
        await client.event()
        await officer.ask(documents.SUSPEND, userId=str(case.doctor.user_id))
        code, reason = await client.wait_for_close()
        assert (code, reason in ("SESSION_OVER", "STAFF_SUSPENDED")) == (4401, True)


async def test_token_that_expires_ends_the_connection_at_once(
    harness: ApiHarness, case: Case, api: str
) -> None:
    expires_at = int(time.time()) + 2
    token = harness.token(case.doctor.user_id, case.doctor.session_id, exp=expires_at)
    await harness.recording(case)
    async with _watching(api, case, replace(case.doctor, token=token)) as client:
        await client.event()
        assert await client.wait_for_close() == (4403, "TOKEN_EXPIRED")
        assert time.time() >= expires_at


async def test_ended_subscription_sends_nothing_and_its_id_is_reusable(
    harness: ApiHarness, case: Case, api: str
) -> None:
    recording = await harness.recording(case, "REQUESTED")
    async with _watching(api, case) as client:
        await client.event()
        await client.send_message(id="1", type="complete")
        await _become(harness, recording, "STARTING")
        await client.require_no_message()
        await client.subscribe(WATCH, consultationId=case.id)
        assert (await client.event())["status"] == "STARTING"


async def test_subscribing_counts_against_the_quota_of_pages(
    harness: ApiHarness, case: Case, api: str
) -> None:
    await harness.spend(case.doctor, "pages", 1200)
    async with _watching(api, case) as client:
        assert (await client.error())["extensions"]["reason"] == "QUOTA_PAGES"


@pytest.mark.parametrize(
    "query",
    [
        documents.VIEWER,
        "mutation { stopRecording(recordingId: 1) { id } }",
        "query A { viewer { role } }",
    ],
)
async def test_only_subscriptions_are_accepted(case: Case, api: str, query: str) -> None:
    async with open_socket(api) as client:
        await client.init(case.doctor, acceptLanguage="es-MX")
        await client.subscribe(query)
        error = await client.error()
        assert error["extensions"]["reason"] == "SUBSCRIPTIONS_ONLY"
        assert error["message"].startswith("Esta conexión acepta solo")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"query": "fragment F on Recording { id }"}, "OPERATION_NOT_FOUND"),
        (
            {"query": "subscription A { recordingsChanged { id } }", "operationName": "B"},
            "OPERATION_NOT_FOUND",
        ),
        ({"query": "subscription { recordingsChanged { id } }", "operationName": ""}, "OPERATION_NOT_FOUND"),
        (
            {
                "query": "subscription A { recordingsChanged { id } } subscription B { recordingsChanged { id } }"
            },
            "TOO_MANY_OPERATIONS",
        ),
        (
            {
                "query": "subscription A { recordingsChanged { id } } query B { viewer { role } }",
                "operationName": "B",
            },
            "TOO_MANY_OPERATIONS",
        ),
    ],
)
async def test_document_without_exactly_the_named_operation_is_refused_as_over_http(
    case: Case, api: str, payload: dict[str, Any], reason: str
) -> None:
    async with open_socket(api) as client:
        await client.init(case.doctor)
        await client.send_message(id="1", type="subscribe", payload=payload)
        told = (await client.error())["extensions"]
    body = payload | {"query": payload["query"].replace("subscription", "query")}
    headers = {"Authorization": f"Bearer {case.doctor.token}"}
    answer = await case.doctor.http.post("/graphql", json=body, headers=headers)
    (error,) = answer.json()["errors"]
    expected = error["extensions"] | {"requestId": told["requestId"]}
    assert (told, told["reason"]) == (expected, reason)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("subscription { recordingChanged(consultationId: 1) { id } }", "INVALID_INPUT"),
        ("subscription { recordingChanged(consultationId: 1) { mediaFiles { id } } }", "INVALID_INPUT"),
        ("subscription { recordingChanged(consultationId: 1) { nothing } }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription { recordingChanged(", "GRAPHQL_PARSE_FAILED"),
        (
            f"subscription {{ recordingChanged(consultationId: 1) {{ {' '.join(f'a{n}: id' for n in range(31))} }} }}",
            "TOO_COMPLEX",
        ),
        (f"subscription {{ recordingChanged(consultationId: 1) {{ {'id ' * 261} }} }}", "TOO_COMPLEX"),
        (
            f"subscription {{ recordingChanged(consultationId: 1) {{ {'id ' * 700} }} }}",
            "TOO_COMPLEX",
        ),
    ],
)
async def test_limits_and_rules_of_documents_apply_to_subscriptions(
    case: Case, api: str, query: str, code: str
) -> None:
    async with open_socket(api) as client:
        await client.init(case.doctor)
        await client.subscribe(query)
        assert (await client.error())["extensions"]["code"] == code
        await client.require_no_message()


async def test_subscriptions_of_a_connection_are_limited(case: Case, api: str) -> None:
    async with open_socket(api) as client:
        await client.init(case.doctor)
        for number in range(11):
            await client.subscribe(WATCH, str(number), consultationId=case.id)
        error = await client.error("10")
        assert error["extensions"]["code"] == "RATE_LIMITED"
        assert error["extensions"]["reason"] == "TOO_MANY_SUBSCRIPTIONS"


async def test_subscription_with_only_a_hash_is_an_error_of_the_operation(case: Case, api: str) -> None:
    async with open_socket(api) as client:
        await client.init(case.doctor)
        extensions = {"persistedQuery": {"version": 1, "sha256Hash": "ab" * 32}}
        await client.send_message(id="1", type="subscribe", payload={"extensions": extensions})
        error = await client.error()
        assert error["message"] == "PersistedQueryNotSupported"
        assert error["extensions"]["code"] == "PERSISTED_QUERY_NOT_SUPPORTED"
        await client.subscribe(WATCH, "1", consultationId=case.id)
        await client.require_no_message()


async def test_error_of_a_bad_variable_of_a_subscription_names_its_place(case: Case, api: str) -> None:
    async with open_socket(api) as client:
        await client.init(case.doctor)
        await client.subscribe(WATCH, consultationId={"name": "Ana Torres"})
        error = await client.error()
        assert error["extensions"]["details"]["inputPath"] == "$consultationId"
        assert error["extensions"]["details"]["expectedType"] == "ID!"
        assert "Ana" not in str(error)


async def test_connections_of_a_person_are_limited(harness: ApiHarness, case: Case) -> None:
    async with _api(harness, connections_per_person=1) as url:
        async with open_socket(url) as first, open_socket(url) as second, open_socket(url) as another:
            await first.init(case.doctor)
            await second.send_init(case.doctor)
            assert await second.wait_for_close() == (4429, "TOO_MANY_CONNECTIONS")
            await another.init(await harness.clinician())
        async with open_socket(url) as again:
            await again.init(case.doctor)


SUBSCRIBE = {"id": "1", "type": "subscribe", "payload": {"query": "subscription { a }"}}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("not JSON", 4400),
        ('{"type": NaN}', 4400),
        ("[" * 3000, 4400),
        (b"{}", 4400),
        ("[]", 4400),
        ('{"type": ["ping"]}', 4400),
        ('{"type": "start"}', 4400),
        (json.dumps({"type": "x" * 4000}), 4400),
        ('{"type": "complete"}', 4400),
        (json.dumps(SUBSCRIBE | {"id": ["1"]}), 4400),
        (json.dumps(SUBSCRIBE | {"id": "1" * 65}), 4400),
        (json.dumps(SUBSCRIBE | {"payload": "query"}), 4400),
        (json.dumps(SUBSCRIBE | {"payload": {"query": 1}}), 4400),
        (json.dumps(SUBSCRIBE | {"payload": {"query": "{ a }", "variables": []}}), 4400),
        (json.dumps(SUBSCRIBE | {"payload": {"query": "{ a }", "extensions": "x"}}), 4400),
        (json.dumps(SUBSCRIBE | {"payload": {"query": "{ a }", "operationName": 1}}), 4400),
        (json.dumps({"type": "ping", "payload": {"filler": "x" * 5000}}), 1009),
        ('{"type": "connection_init"}', 4429),
    ],
)
async def test_bad_message_ends_the_connection(case: Case, api: str, message: str | bytes, code: int) -> None:
    async with open_socket(api) as client:
        await client.init(case.doctor)
        await client.connection.send(message)
        assert (await client.wait_for_close())[0] == code


async def test_second_subscription_with_the_same_id_ends_the_connection(case: Case, api: str) -> None:
    async with _watching(api, case) as client:
        await client.subscribe(WATCH, consultationId=case.id)
        assert (await client.wait_for_close())[0] == 4409


async def test_close_reason_with_a_long_id_fits_into_its_frame(case: Case, api: str) -> None:
    async with open_socket(api) as client:
        await client.init(case.doctor)
        for _ in range(2):
            await client.subscribe(WATCH, "\N{SNOWMAN}" * 64, consultationId=case.id)
        code, reason = await client.wait_for_close()
        assert (code, reason.startswith("Subscriber for")) == (4409, True)


async def test_null_payload_of_connection_init_is_treated_as_empty(api: str) -> None:
    async with open_socket(api) as client:
        await client.send_message(type="connection_init", payload=None)
        assert await client.wait_for_close() == (4401, "TOKEN_MISSING")


async def test_subscribing_before_connection_init_ends_the_connection(case: Case, api: str) -> None:
    async with open_socket(api) as client:
        await client.require_no_message()
        await client.subscribe(WATCH, consultationId=case.id)
        assert (await client.wait_for_close())[0] == 4401


async def test_bad_init_payload_ends_the_connection(api: str) -> None:
    async with open_socket(api) as client:
        await client.send_message(type="connection_init", payload="token")
        assert (await client.wait_for_close())[0] == 4400


async def test_connection_without_connection_init_is_closed(watchful: str) -> None:
    async with open_socket(watchful) as client:
        assert (await client.wait_for_close())[0] == 4408


async def test_legacy_subprotocol_and_other_origins_are_refused(case: Case, api: str) -> None:
    async with open_socket(api, protocol="graphql-ws") as client:
        assert (await client.wait_for_close())[0] == 4406
    for origin in ("https://evil.example", "null", api):
        with pytest.raises(InvalidStatus) as refused:
            async with open_socket(api, origin=origin):
                pass
        assert refused.value.response.status_code == 403
    async with open_socket(api, origin=None) as client:
        await client.init(case.doctor)


async def test_query_string_of_a_websocket_is_not_logged(
    case: Case, api: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), caplog.at_level(logging.INFO, logger="uvicorn.error"):
        async with open_socket(api, query=f"?token={case.doctor.token}") as client:
            await client.init(case.doctor)
    assert "[accepted]" in caplog.text
    assert "token" not in caplog.text


async def test_stopping_api_ends_its_connections_and_stops_listening(harness: ApiHarness, case: Case) -> None:
    before = await _listeners(harness)
    async with AsyncExitStack() as clients:
        async with _api(harness) as url:
            client = await clients.enter_async_context(_watching(url, case))
            await client.require_no_message()
            await _until_listeners(harness, before + 1)
        assert (await client.wait_for_close())[0] == 1012
    await _until_listeners(harness, before)


async def _listeners(harness: ApiHarness) -> int:
    return len(await harness.rows(LISTENERS))


async def _until_listeners(harness: ApiHarness, number: int) -> None:
    async with asyncio.timeout(20):
        while await _listeners(harness) != number:  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(0.01)


async def test_client_that_does_not_read_is_disconnected() -> None:
    stuck = asyncio.Event()
    said = iter([{"type": "connection_init"}, SUBSCRIBE | {"payload": {"query": "subscription { ticks }"}}])

    async def connect(*_: object) -> Connected:
        return Connected(Context("en", None), 1, time.time() + 60, "en", recheck=stuck.wait)  # type: ignore[arg-type]

    async def receive() -> Message:
        message = next(said, None)
        if message is None:
            await stuck.wait()
        return {"type": "websocket.receive", "text": json.dumps(message)}

    async def send(message: Message) -> None:
        if '"next"' in message.get("text", ""):
            await stuck.wait()

    endpoint = SubscriptionEndpoint(small_schema(), connect=connect, limits=SocketLimits(send_seconds=0.01))
    connecting = iter([{"type": "websocket.connect"}])

    async def received() -> Message:
        return next(connecting, None) or await receive()

    scope = {"type": "websocket", "headers": [], "subprotocols": ["graphql-transport-ws"]}
    async with asyncio.timeout(10):
        await endpoint(scope, received, send)
