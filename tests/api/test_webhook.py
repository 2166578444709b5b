"""Tests of LiveKit's webhook in both forms: `POST /webhooks/livekit` and `processLivekitWebhook`."""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import jwt
import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from app.deployment import mark_database
from devstack.livekit.webhooks import sign
from tests.api import documents
from tests.api.harness import DEPLOYMENT, LIVEKIT_KEY, LIVEKIT_SECRET, ApiHarness, from_address
from tests.databases import Cluster

pytestmark = pytest.mark.anyio

PATH = "/webhooks/livekit"


def _event(**given: object) -> dict[str, Any]:
    return {
        "event": "egress_ended",
        "id": f"EV_{uuid4().hex[:12]}",
        "createdAt": str(int(time.time())),
        "egressInfo": {
            "egressId": f"EG_{uuid4().hex[:12]}",
            "roomName": "tests_room",
            "status": "EGRESS_COMPLETE",
            "roomComposite": {"roomName": "tests_room", "fileOutputs": [{"s3": {"secret": "s3-SECRET"}}]},
        },
    } | given


def _bytes(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event).encode()


def _headers(body: bytes, secret: str = LIVEKIT_SECRET) -> dict[str, str]:
    return sign(body, LIVEKIT_KEY, secret)


async def _post(harness: ApiHarness, body: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
    return await harness.http.post(PATH, content=body, headers=_headers(body) if headers is None else headers)


async def _inbox(harness: ApiHarness, event: Mapping[str, Any]) -> list[dict[str, Any]]:
    return await harness.rows("select * from private.livekit_events where event_id = %s", event["id"])


def _refused(response: httpx.Response) -> tuple[int, str, str]:
    (error,) = response.json()["errors"]
    assert error["extensions"]["requestId"] == response.headers["x-request-id"]
    return response.status_code, error["extensions"]["code"], error["extensions"]["reason"].lower()


async def test_inbox_contains_only_the_ids_of_an_event_after_200(harness: ApiHarness) -> None:
    event = _event()
    response = await _post(harness, _bytes(event))
    assert (response.status_code, response.json()) == (200, {"duplicate": False})
    (row,) = await _inbox(harness, event)
    assert (row["event"], row["egress_id"]) == ("egress_ended", event["egressInfo"]["egressId"])
    assert row["room_name"] == "tests_room"
    assert set(row) == {"event_id", "event", "egress_id", "room_name", "occurred_at", "received_at"}
    (job,) = await harness.rows(
        "select args from jobs.procrastinate_jobs where args ->> 'id' = %s", event["id"]
    )
    assert job["args"] == {"id": event["id"]}


async def test_repeated_event_is_a_duplicate_with_one_job(harness: ApiHarness) -> None:
    body = _bytes(event := _event())
    headers = _headers(body)
    assert [(await _post(harness, body, headers)).json()["duplicate"] for _ in range(3)] == [
        False,
        True,
        True,
    ]
    assert len(await _inbox(harness, event)) == 1
    jobs = "select id from jobs.procrastinate_jobs where args ->> 'id' = %s"
    assert len(await harness.rows(jobs, event["id"])) == 1


async def test_concurrent_equal_events_are_stored_once(harness: ApiHarness) -> None:
    body = _bytes(_event())
    answers = await asyncio.gather(*(_post(harness, body) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert sorted(answer.json()["duplicate"] for answer in answers) == [False, True, True, True]


def _token(body: bytes, **changed: object) -> dict[str, str]:
    now = int(time.time())
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    claims = {"iss": LIVEKIT_KEY, "nbf": now, "exp": now + 300, "sha256": digest} | changed
    return {"authorization": jwt.encode(claims, LIVEKIT_SECRET, algorithm="HS256")}


BODY = _bytes(_event())
BAD_SIGNATURES: dict[str, Callable[[], dict[str, str]]] = {
    "none": dict,
    "garbage": lambda: {"authorization": "x.y.z"},
    "other secret": lambda: _headers(BODY, "another-secret-of-thirty-two-bytes-or-more"),
    "other issuer": lambda: _token(BODY, iss="APIother"),
    "stale": lambda: _token(BODY, exp=int(time.time()) - 120),
    "lives too long": lambda: _token(BODY, exp=int(time.time()) + 86_400),
    "not yet": lambda: _token(BODY, nbf=int(time.time()) + 200),
    "of another body": lambda: _headers(_bytes(_event())),
    "without hash": lambda: _token(BODY, sha256=""),
}
"""Functions that sign when the test runs. A token signed when pytest collects the tests may have expired by then on
a slow machine.
"""


@pytest.mark.parametrize("kind", BAD_SIGNATURES)
async def test_bad_signature_is_401_and_stores_nothing(harness: ApiHarness, kind: str) -> None:
    response = await _post(harness, BODY, BAD_SIGNATURES[kind]())
    assert _refused(response) == (401, "UNAUTHENTICATED", "webhook_signature")
    assert not await _inbox(harness, json.loads(BODY))


def _altered(**changed: object) -> bytes:
    event = _event()
    event["egressInfo"] |= changed
    return _bytes(event)


BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "not UTF-8": (b'{"event": "\xff"}', "webhook_body"),
    "not JSON": (b"hello", "webhook_body"),
    "empty": (b"", "webhook_body"),
    "a list": (b"[]", "webhook_body"),
    "unknown status": (_altered(status="EGRESS_PAUSED"), "webhook_status"),
    "status a number": (_altered(status=3), "webhook_status"),
    "no id": (_bytes(_event(id=None)), "webhook_body"),
    "odd id": (_bytes(_event(id="'; drop table x")), "webhook_body"),
    "no egress": (_bytes(_event(egressInfo=None)), "webhook_body"),
    "room with a NUL": (_altered(roomName="a\0b"), "webhook_body"),
    "too large": (_bytes(_event(pad="x" * 70_000)), "webhook_too_large"),
}


@pytest.mark.parametrize("kind", BAD_BODIES)
async def test_bad_body_with_a_good_signature_is_400(harness: ApiHarness, kind: str) -> None:
    body, reason = BAD_BODIES[kind]
    assert _refused(await _post(harness, body)) == (400, "INVALID_INPUT", reason)


async def test_body_of_10_megabytes_is_413(harness: ApiHarness) -> None:
    response = await _post(harness, b"x" * 10_000_000)
    assert response.status_code == 413
    assert response.json()["errors"][0]["extensions"]["code"] == "PAYLOAD_TOO_LARGE"


async def test_bad_signatures_write_one_audit_row_per_address(harness: ApiHarness) -> None:
    async with harness.another_api() as http, from_address(http, "198.51.102.1") as client:
        for _ in range(5):
            assert (await client.post(PATH, content=b"{}")).status_code == 401
    (row,) = await harness.rows("select * from audit.events where address = '198.51.102.1'")
    assert (row["action"], row["outcome"], row["row_count"]) == ("webhook.reject", "DENIED", 5)


async def test_answer_is_5xx_only_if_the_commit_fails(harness: ApiHarness) -> None:
    body = _bytes(event := _event())
    await harness.rows("alter table private.livekit_events rename to away")
    try:
        response = await _post(harness, body)
    finally:
        await harness.rows("alter table private.away rename to livekit_events")
    assert response.status_code >= 500
    assert event["id"] not in response.text
    assert (await _post(harness, body)).json() == {"duplicate": False}


async def test_answer_is_5xx_while_the_database_is_down(cluster: Cluster, harness: ApiHarness) -> None:
    body = _bytes(_event())
    with cluster.clone("newer") as lost:
        await asyncio.to_thread(mark_database, lost.owner_url, DEPLOYMENT)
        async with harness.another_api(api_database_url=SecretStr(lost.api_url)) as http:
            name = sql.Identifier(lost.name)
            await harness.superuser.execute(sql.SQL("alter database {} allow_connections false").format(name))
            await harness.rows(
                "select pg_terminate_backend(pid, 20000) from pg_stat_activity where datname = %s", lost.name
            )
            response = await http.post(PATH, content=body, headers=_headers(body))
    assert response.status_code >= 500


async def test_mutation_stores_an_event_like_the_route(harness: ApiHarness) -> None:
    gateway, body = harness.stranger(), _bytes(event := _event())
    variables = {"body": body.decode(), "authorization": _headers(body)["authorization"]}
    assert await gateway.ask(documents.WEBHOOK, **variables) is False
    assert await gateway.ask(documents.WEBHOOK, **variables) is True
    assert (await _post(harness, body)).json() == {"duplicate": True}
    assert len(await _inbox(harness, event)) == 1


async def test_mutation_refuses_what_the_route_refuses(harness: ApiHarness) -> None:
    gateway = harness.stranger()
    for signed in BAD_SIGNATURES.values():
        variables = {"body": BODY.decode(), "authorization": signed().get("authorization", "")}
        assert await gateway.refused(documents.WEBHOOK, **variables) == (
            "UNAUTHENTICATED",
            "webhook_signature",
        )
    for body, reason in BAD_BODIES.values():
        if body.isascii():
            variables = {"body": body.decode(), "authorization": _headers(body)["authorization"]}
            assert await gateway.refused(documents.WEBHOOK, **variables) == ("INVALID_INPUT", reason)


async def test_read_only_database_refuses_reads_and_webhooks_as_retryable_and_readiness_says_so(
    harness: ApiHarness, request: pytest.FixtureRequest
) -> None:
    doctor = await harness.clinician()
    cluster: Cluster = request.getfixturevalue("cluster")
    name = sql.Identifier(harness.database.name)
    readonly = sql.SQL("alter role resguardo_api in database {} set default_transaction_read_only = on")
    body = _bytes(_event())
    async with harness.another_api() as http:
        with psycopg.connect(cluster.superuser_url, autocommit=True) as connection:
            connection.execute(readonly.format(name))
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where datname = %s and usename = 'resguardo_api'",
                (harness.database.name,),
            )
            try:
                read = (await replace(doctor, http=http).send(documents.VIEWER)).error
                hook = await http.post(PATH, content=body, headers=_headers(body))
                ready = await http.get("/health/ready")
            finally:
                undone = sql.SQL(
                    "alter role resguardo_api in database {} reset default_transaction_read_only"
                )
                connection.execute(undone.format(name))
                connection.execute(
                    "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                    " where datname = %s and usename = 'resguardo_api'",
                    (harness.database.name,),
                )
        assert (read.code, read.reason) == ("UPSTREAM_FAILED", "database_read_only")
        assert read.extensions["retryable"] is True
        assert "Each access is logged" in read.message
        assert (hook.status_code, hook.json()["reason"]) == (503, "database_read_only")
        assert (ready.status_code, ready.json()["reason"]) == (503, "database_read_only")
        again = await http.post(PATH, content=body, headers=_headers(body))
        assert (again.status_code, again.json()) == (200, {"duplicate": False})
