"""Tests that a failed root field hides no other root field of the operation, and that every root field leaves its
audit row.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.anyio

FAILING = {
    "not found": ('it: transcript(recordingId: "{id}") {{ __typename }}', "NOT_FOUND"),
    "forbidden": ("it: auditEvents {{ __typename }}", "FORBIDDEN"),
    "invalid input": ("it: consultations(first: 0) {{ __typename }}", "INVALID_INPUT"),
    "invalid id": ('it: transcript(recordingId: "7") {{ __typename }}', "INVALID_INPUT"),
}


@pytest.mark.parametrize("kind", FAILING)
async def test_failing_query_keeps_the_data_of_its_siblings_and_their_audit_rows(
    harness: ApiHarness, case: Case, kind: str
) -> None:
    field, code = FAILING[kind]
    query = f"{{ recordings {{ edges {{ node {{ id }} }} }} {field.format(id=uuid4())} }}"
    recording = await harness.recording(case)
    answer = await case.doctor.send(query)
    assert answer.error.code == code
    assert answer.body["data"]["it"] is None
    assert [edge["node"]["id"] for edge in answer.body["data"]["recordings"]["edges"]] == [str(recording)]
    rows = {(row["action"], row["outcome"]) for row in await harness.audit(answer.request_id)}
    assert ("recording.list", "ALLOWED") in rows


async def test_rate_limited_query_keeps_the_data_of_its_siblings(
    harness: ApiHarness, other_doctor: Person
) -> None:
    await harness.spend(other_doctor, "pages", 1200)
    answer = await other_doctor.send("{ viewer { __typename } recordings { edges { cursor } } }")
    assert (answer.error.code, answer.error.reason) == ("RATE_LIMITED", "quota_pages")
    assert answer.body["data"] == {"viewer": {"__typename": "Viewer"}, "recordings": None}
    assert answer.error.details["retryAfterSeconds"] >= 1


async def test_bad_argument_of_one_field_keeps_the_data_of_the_other_fields(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    query = "query ($n: Int = 1) { recordings { edges { node { id } } } it: auditEvents(first: $n) { __typename } }"
    answer = await case.doctor.send(query, n=None)
    assert answer.error.code == "FORBIDDEN"
    assert answer.body["errors"][0]["path"] == ["it"]
    assert answer.body["data"]["it"] is None
    assert [edge["node"]["id"] for edge in answer.body["data"]["recordings"]["edges"]] == [str(recording)]
    rows = {(row["action"], row["outcome"]) for row in await harness.audit(answer.request_id)}
    assert rows == {("recording.list", "ALLOWED"), ("audit.list", "DENIED")}


async def test_reason_is_written_in_capitals_and_every_error_has_the_same_extensions(case: Case) -> None:
    for query in (
        "{ auditEvents { __typename } }",
        "{ nothing }",
        "{ recordings(",
        '{ consentText(language: "X") }',
    ):
        answer = await case.doctor.send(query)
        for error in answer.body["errors"]:
            extensions = error["extensions"]
            assert list(extensions) == ["code", "reason", "retryable", "requestId", "details"]
            assert extensions["reason"] is None or extensions["reason"].isupper()
            assert extensions["requestId"] == answer.request_id
            assert "Syntax Error" not in error["message"]


async def test_refused_mutation_keeps_the_data_and_the_effect_of_the_mutation_before_it(
    harness: ApiHarness, case: Case
) -> None:
    document = """
    mutation ($consultationId: ID!, $unknown: ID!) {
      first: switchTranscription(input: { consultationId: $consultationId, isTranscribed: false }) {
        consultation { id isTranscribed }
      }
      second: retryTranscription(input: { recordingId: $unknown }) { __typename }
    }
    """
    answer = await case.doctor.send(document, consultationId=case.id, unknown=str(uuid4()))
    assert (answer.error.code, answer.body["errors"][0]["path"]) == ("NOT_FOUND", ["second"])
    changed = {"consultation": {"id": case.id, "isTranscribed": False}}
    assert answer.body["data"] == {"first": changed, "second": None}
    [row] = await harness.rows("select transcribe from resguardo.consultations where id = %s", case.id)
    assert row["transcribe"] is False
    rows = {(row["action"], row["outcome"]) for row in await harness.audit(answer.request_id)}
    assert rows >= {("consultation.switch_transcription", "ALLOWED"), ("transcript.retry", "ABSENT")}


@pytest.mark.parametrize(
    ("is_frozen", "refusal"),
    [
        (False, ("UPSTREAM_FAILED", "livekit_unavailable")),
        (True, ("TIMEOUT", "livekit_timeout")),
    ],
    ids=["down", "frozen"],
)
async def test_vendor_that_does_not_answer_keeps_the_data_of_the_database(
    harness: ApiHarness, case: Case, is_frozen: bool, refusal: tuple[str, str]
) -> None:
    recording = await harness.recording(case)
    await case.doctor.ask(documents.JOIN, consultationId=case.id)
    async with _vendor(is_frozen=is_frozen) as url, harness.another_api(livekit_url=url) as http:
        doctor = Person(http, case.doctor.user_id, case.doctor.session_id, case.doctor.token)
        answer = await doctor.send("{ recordings { edges { node { id } } } activeRooms { sid } }")
    assert (answer.error.code, answer.error.reason) == refusal
    assert answer.body["errors"][0]["path"] == ["activeRooms"]
    edges = [{"node": {"id": str(recording)}}]
    assert answer.body["data"] == {"recordings": {"edges": edges}, "activeRooms": None}
    rows = {(row["action"], row["outcome"], row["reason"]) for row in await harness.audit(answer.request_id)}
    assert rows == {("recording.list", "ALLOWED", None), ("rooms.list", "FAILED", refusal[1])}


@pytest.mark.parametrize(
    ("is_frozen", "refusal"),
    [
        (False, ("UPSTREAM_FAILED", "storage_unreachable")),
        (True, ("TIMEOUT", "storage_timeout")),
    ],
    ids=["down", "frozen"],
)
async def test_bucket_that_does_not_answer_keeps_the_data_of_the_database(
    harness: ApiHarness,
    case: Case,
    is_frozen: bool,
    refusal: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.integrations.storage.caller._READ_SECONDS", 0.5)
    recording = str(await harness.recording(case))
    document = """
    query ($id: ID!) {
      recording(by: { id: $id }) { id status }
      storedObject(recordingId: $id) { exists }
      recordings { edges { node { id } } }
    }
    """
    store = urlsplit(harness.store.endpoint_url)
    proxy = Proxy((str(store.hostname), store.port or 80))
    async with AsyncExitStack() as stack:
        listening = await stack.enter_async_context(AsyncExitStack())
        await listening.enter_async_context(proxy.running())
        url = f"http://127.0.0.1:{proxy.port}"
        http = await stack.enter_async_context(harness.another_api(r2_endpoint_url=url))
        doctor = Person(http, case.doctor.user_id, case.doctor.session_id, case.doctor.token)
        if is_frozen:
            stack.enter_context(proxy.frozen())
        else:
            await listening.aclose()
        answer = await doctor.send(document, id=recording)
        issued = await doctor.send(documents.ISSUE_URL, recordingId=recording, purposeOfUse="TREATMENT")
    assert (answer.error.code, answer.error.reason) == refusal
    assert answer.body["errors"][0]["path"] == ["storedObject"]
    assert answer.body["data"] == {
        "recording": {"id": recording, "status": "READY"},
        "storedObject": None,
        "recordings": {"edges": [{"node": {"id": recording}}]},
    }
    rows = [
        (row["action"], row["outcome"], row["entities"]) for row in await harness.audit(answer.request_id)
    ]
    shown = [{"type": "recording", "ids": [recording]}]
    assert sorted(rows, key=lambda row: row[0]) == [
        ("recording.list", "ALLOWED", shown),
        ("recording.read", "ALLOWED", shown),
        ("recording.read_storage", "ALLOWED", shown),
    ]
    assert issued.value["url"].startswith(url), "a URL is signed without a request to the bucket"


@asynccontextmanager
async def _vendor(*, is_frozen: bool) -> AsyncIterator[str]:
    """Yield the URL of a server that never answers, or of a port that refuses every connection."""
    if not is_frozen:
        yield "http://127.0.0.1:1"
        return
    released = asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        released.set()
        server.close()
