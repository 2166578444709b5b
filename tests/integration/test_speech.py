"""Tests of our speech client with the OpenAI stand-in, which really recognizes speech, and with servers that answer
wrongly.
"""

import asyncio
import gzip
import json
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from app.errors import AppError, Conflict, InvalidInput, RateLimited, Timeout, UpstreamFailed
from app.integrations import openai_client, vendor_clients
from app.integrations.speech import client as speech
from app.integrations.speech.client import Speech, SpeechAnswer
from app.integrations.speech.flac import duration_ms
from app.media.sound_plans import Cut
from app.settings import SpeechApi, WorkerSettings, load
from app.texts import operator_message
from devstack.openai import OpenAIStandIn, Order, create_openai_app
from devstack.openai.app import MAX_BYTES
from devstack.openai.forms import parse_form
from devstack.openai.starting import openai_environment, running
from tests.integration.recording_harness import served
from tests.integration.spoken import silence_flac, turn_flac, turns, word_error_rate
from tests.unit.environments import ENVIRONMENTS, set_environment

pytestmark = pytest.mark.anyio

KEY = "sk-that-nobody-may-see"
SECRET = "vendor-words-that-nobody-may-see"
MODELS = {
    SpeechApi.TEXT: "gpt-transcribe",
    SpeechApi.VERBOSE_JSON: "whisper-1",
    SpeechApi.DIARIZED_JSON: "gpt-4o-transcribe-diarize",
}
TURN = turns()[1]
SHORT_TURN = turns()[2]
SILENCE = silence_flac(1)


@asynccontextmanager
async def _listening(api: SpeechApi = SpeechApi.TEXT) -> AsyncIterator[tuple[Speech, OpenAIStandIn]]:
    app = create_openai_app(KEY)
    async with served(app) as url, _client(url, api) as client:
        yield client, app.state.stand_in


@asynccontextmanager
async def _client(url: str, api: SpeechApi = SpeechApi.TEXT, **changes: Any) -> AsyncIterator[Speech]:
    of: dict[str, Any] = {"api_key": KEY, "model": MODELS[api], "api": api, "base_url": f"{url}/v1"}
    client = Speech(**{**of, **changes})
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def _answering(handle: Callable[[Request], Awaitable[Response]]) -> AsyncIterator[str]:
    async with served(Starlette(routes=[Route("/{rest:path}", handle, methods=["POST", "GET"])])) as url:
        yield url


async def _failure(client: Speech, flac: bytes = SILENCE) -> AppError:
    with pytest.raises(AppError) as failure:
        await client.transcribe(flac, language="en")
    return failure.value


def _text(recognized: SpeechAnswer) -> str:
    return " ".join(one.text for one in recognized.segments)


async def test_turns_are_transcribed_with_few_wrong_words() -> None:
    said = turns()[:8]
    async with _listening() as (client, _):
        recognized = [await client.transcribe(turn_flac(turn), language="en") for turn in said]
    rate = word_error_rate([(turn.text, _text(one)) for turn, one in zip(said, recognized, strict=True)])
    assert rate <= 0.2, f"{rate:.1%}"
    assert {one.language for one in recognized} == {"en"}


@pytest.mark.parametrize(
    ("api", "cut"), list(zip(SpeechApi, (Cut.TURNS, Cut.TURNS, Cut.WINDOWS), strict=True))
)
async def test_each_answer_becomes_segments_within_the_chunk(api: SpeechApi, cut: Cut) -> None:
    length_ms = round((TURN.end - TURN.start + 0.2) * 1000)
    async with _listening(api) as (client, stand_in):
        stand_in.orders.add(Order("two_speakers"))
        recognized = await client.transcribe(turn_flac(TURN), language="en")
    assert client.cut is cut
    assert word_error_rate([(TURN.text, _text(recognized))]) <= 0.2
    assert all(0 <= one.start_ms < one.end_ms <= length_ms + 1 for one in recognized.segments)
    assert [one.speaker for one in recognized.segments][:1] == [
        "A" if api is SpeechApi.DIARIZED_JSON else None
    ]
    if api is SpeechApi.TEXT:
        assert [(one.start_ms, abs(one.end_ms - length_ms) <= 1) for one in recognized.segments] == [
            (0, True)
        ]


@pytest.mark.parametrize(
    ("order", "kind", "reason"),
    [
        ("fail", UpstreamFailed, "speech_failed"),
        ("nonsense", UpstreamFailed, "speech_nonsense"),
        ("half_json", UpstreamFailed, "speech_nonsense"),
        ("empty_segments", UpstreamFailed, "speech_nonsense"),
        ("flood", UpstreamFailed, "speech_nonsense"),
        ("loop", UpstreamFailed, "speech_nonsense"),
        ("refuse", InvalidInput, "speech_refused"),
    ],
)
async def test_fault_has_its_reason_and_is_not_retried(order: str, kind: type[AppError], reason: str) -> None:
    async with _listening(SpeechApi.VERBOSE_JSON) as (client, stand_in):
        stand_in.orders.add(Order(order))
        failure = await _failure(client, turn_flac(SHORT_TURN))
        assert (type(failure), failure.reason) == (kind, reason)
        assert len(stand_in.calls) == 1


@pytest.mark.parametrize("order", ["times_outside", "backwards"])
async def test_text_with_impossible_times_is_kept_within_the_chunk(order: str) -> None:
    flac = turn_flac(SHORT_TURN)
    async with _listening(SpeechApi.VERBOSE_JSON) as (client, stand_in):
        expected = await client.transcribe(flac, language=None)
        stand_in.orders.add(Order(order))
        recognized = await client.transcribe(flac, language=None)
    assert [one.text for one in recognized.segments] == [one.text for one in expected.segments] != []
    assert all(0 <= one.start_ms <= one.end_ms <= duration_ms(flac) for one in recognized.segments)


@pytest.mark.parametrize("order", ["invented", "late_start", None])
@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "whisper-1"])
async def test_invented_text_is_uncertain_and_other_text_is_not(order: str | None, model: str) -> None:
    api = SpeechApi.VERBOSE_JSON if model == "whisper-1" else SpeechApi.TEXT
    app = create_openai_app(KEY)
    async with served(app) as url, _client(url, api, model=model) as client:
        if order:
            app.state.stand_in.orders.add(Order(order))
        recognized = await client.transcribe(turn_flac(TURN), language=None)
    assert {one.is_uncertain for one in recognized.segments} == {order == "invented"}
    assert all(one.figures.avg_logprob is not None for one in recognized.segments)


async def test_text_without_figures_is_not_uncertain() -> None:
    async with _listening() as (client, stand_in):
        stand_in.orders.add(Order("invented"))
        (segment,) = (await client.transcribe(turn_flac(TURN), language=None)).segments
    assert (segment.is_uncertain, segment.figures.avg_logprob) == (False, None)


async def test_busy_service_states_the_retry_time() -> None:
    async with _listening() as (client, stand_in):
        stand_in.orders.add(Order("rate_limit", seconds=17))
        failure = await _failure(client)
    assert isinstance(failure, RateLimited)
    assert (failure.reason, failure.detail) == ("speech_busy", {"retry_after_seconds": 17})


async def test_hanging_service_is_a_timeout() -> None:
    app = create_openai_app(KEY)
    async with served(app) as url, _client(url, timeout_seconds=0.3) as client:
        app.state.stand_in.orders.add(Order("hang", seconds=0.5))
        failure = await _failure(client)
    assert isinstance(failure, Timeout)
    assert failure.reason == "speech_timeout"


async def test_connection_timeout_is_not_counted_as_paid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If no connection is made in time, the request was never sent and costs nothing. The transcription therefore
    retries it like a request that failed for any other temporary reason.
    """
    monkeypatch.setattr(openai_client, "_CONNECT_SECONDS", 0.2)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with _client(f"https://127.0.0.1:{port}") as client:
            failure = await _failure(client)
    assert (type(failure), failure.reason) == (UpstreamFailed, "speech_failed")


async def test_slow_answer_is_a_timeout() -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    async def handle(_: Request) -> Response:
        return StreamingResponse(drip())

    async with _answering(handle) as url, _client(url, timeout_seconds=0.3) as client, asyncio.timeout(10):
        assert (await _failure(client)).reason == "speech_timeout"


@pytest.mark.parametrize(
    ("status", "headers", "kind", "reason", "detail"),
    [
        (400, {}, InvalidInput, "speech_refused", {"status": 400}),
        (401, {}, Conflict, "speech_key_refused", {"status": 401}),
        (403, {}, Conflict, "speech_key_refused", {"status": 403}),
        (404, {}, InvalidInput, "speech_refused", {"status": 404}),
        (408, {}, UpstreamFailed, "speech_failed", {"status": 408}),
        (413, {}, InvalidInput, "speech_refused", {"status": 413}),
        (422, {}, InvalidInput, "speech_refused", {"status": 422}),
        (429, {}, RateLimited, "speech_busy", {}),
        (429, {"retry-after": "999999"}, RateLimited, "speech_busy", {"retry_after_seconds": 3600}),
        (429, {"retry-after": "9" * 5000}, RateLimited, "speech_busy", {"retry_after_seconds": 3600}),
        (429, {"retry-after": "315360000"}, RateLimited, "speech_busy", {"retry_after_seconds": 3600}),
        (429, {"retry-after": "Sun, 22 Nov 2037 08:49:37 GMT"}, RateLimited, "speech_busy", {}),
        (429, {"retry-after": "NaN"}, RateLimited, "speech_busy", {}),
        (429, {"retry-after": "1e9"}, RateLimited, "speech_busy", {}),
        (429, {"retry-after": ""}, RateLimited, "speech_busy", {}),
        (429, {"retry-after": SECRET}, RateLimited, "speech_busy", {}),
        (429, {"retry-after": "-1"}, RateLimited, "speech_busy", {}),
        (500, {}, UpstreamFailed, "speech_failed", {"status": 500}),
        (
            503,
            {"retry-after": "1"},
            UpstreamFailed,
            "speech_failed",
            {"status": 503, "retry_after_seconds": 1},
        ),
        (204, {}, UpstreamFailed, "speech_failed", {"status": 204}),
    ],
)
async def test_refusal_has_a_reason_without_the_vendors_text(
    caplog: pytest.LogCaptureFixture,
    status: int,
    headers: dict[str, str],
    kind: type[AppError],
    reason: str,
    detail: dict[str, int],
) -> None:
    asked: list[str] = []

    async def handle(request: Request) -> Response:
        asked.append(request.url.path)
        await request.body()
        body = (
            json.dumps({"error": {"message": SECRET, "type": SECRET, "code": SECRET}})
            if status != 204
            else ""
        )
        return Response(body, status, headers)

    caplog.set_level(logging.INFO)
    async with _answering(handle) as url, _client(url) as client:
        failure = await _failure(client)
    assert (type(failure), failure.reason, failure.detail) == (kind, reason, detail)
    assert asked == ["/v1/audio/transcriptions"]
    told = "".join(traceback.format_exception(failure)) + caplog.text + repr(failure) + repr(client)
    assert not [secret for secret in (SECRET, KEY, url) if secret in told]


async def test_redirect_is_not_followed() -> None:
    visited: list[str] = []

    async def elsewhere(request: Request) -> Response:
        visited.append(request.headers.get("authorization", ""))
        return JSONResponse({"text": "words"})

    async with _answering(elsewhere) as other:

        async def handle(_: Request) -> Response:
            return RedirectResponse(other, 307)

        async with _answering(handle) as url, _client(url) as client:
            assert (await _failure(client)).reason == "speech_failed"
    assert visited == []


async def test_form_has_only_fields_that_the_model_supports(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ORG_ID", "PROJECT_ID", "ADMIN_KEY", "API_KEY", "BASE_URL", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"OPENAI_{name}", SECRET)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer {SECRET}\nX-Spy: {SECRET}")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    forms: list[dict[str, list[str]]] = []
    headers: list[dict[str, str]] = []

    async def handle(request: Request) -> Response:
        form = parse_form(request.headers["content-type"], await request.body())
        assert form.files == {"file": ("chunk.flac", SILENCE)}
        forms.append(form.fields)
        headers.append(dict(request.headers))
        return JSONResponse({"text": "", "segments": []})

    async with _answering(handle) as url:
        for api in SpeechApi:
            async with _client(url, api) as client:
                await client.transcribe(SILENCE, language="es")
        for model in ("self-hosted", "gpt-4o-mini-transcribe"):
            async with _client(url, model=model) as client:
                await client.transcribe(SILENCE, language=None)
    assert forms == [
        {"model": ["gpt-transcribe"], "response_format": ["json"], "languages[]": ["es"]},
        {
            "model": ["whisper-1"],
            "response_format": ["verbose_json"],
            "timestamp_granularities[]": ["segment"],
            "language": ["es"],
        },
        {
            "model": ["gpt-4o-transcribe-diarize"],
            "response_format": ["diarized_json"],
            "chunking_strategy": ["auto"],
            "language": ["es"],
        },
        {"model": ["self-hosted"], "response_format": ["json"]},
        {"model": ["gpt-4o-mini-transcribe"], "response_format": ["json"], "include[]": ["logprobs"]},
    ]
    assert {one["authorization"] for one in headers} == {f"Bearer {KEY}"}
    assert SECRET not in json.dumps(headers)
    assert not [name for one in headers for name in one if name not in openai_client._OWN_HEADERS]


@pytest.mark.parametrize("spoilt", ["gzip", "large", "cut"])
async def test_answer_that_is_not_plain_json_of_a_bounded_size_is_refused(spoilt: str) -> None:
    async def handle(request: Request) -> Response:
        await request.body()
        if spoilt == "gzip":
            return Response(gzip.compress(b'{"text": ""}'), headers={"content-encoding": "gzip"})
        if spoilt == "large":
            return Response(b'{"text": ""' + b" " * speech._MAX_ANSWER_BYTES + b"}")
        return StreamingResponse(_broken())

    async def _broken() -> AsyncIterator[bytes]:
        yield b'{"text": "'
        raise ConnectionResetError

    async with _answering(handle) as url, _client(url) as client:
        failure = await _failure(client)
    assert failure.reason == "speech_nonsense"


async def test_service_that_is_absent_or_speaks_no_http_failed() -> None:
    visits: list[asyncio.StreamReader] = []

    async def garble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(reader)
        writer.write(f"{SECRET}\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(garble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with _client(f"http://127.0.0.1:{port}") as client:
            failure = await _failure(client)
    assert (failure.reason, len(visits)) == ("speech_failed", 1)
    assert SECRET not in "".join(traceback.format_exception(failure))
    async with _client("http://127.0.0.1:1") as client:
        assert (await _failure(client)).reason == "speech_failed"


async def test_chunk_that_is_too_short_or_too_large_is_not_sent() -> None:
    async with _client("http://127.0.0.1:1") as client:
        assert await client.transcribe(silence_flac(0.09), language=None) == SpeechAnswer(())
        for flac in (silence_flac(1201), SILENCE.ljust(speech.MAX_CHUNK_BYTES + 1), b"RIFF" + SILENCE, b""):
            assert (await _failure(client, flac)).reason == "speech_refused"


async def test_largest_chunk_is_sent_whole() -> None:
    async def handle(request: Request) -> Response:
        body = await request.body()
        form = parse_form(request.headers["content-type"], body)
        is_taken = len(body) <= MAX_BYTES == 25 * 1024 * 1024
        return JSONResponse({"text": str(len(form.files["file"][1]) if is_taken else "")})

    async with _answering(handle) as url, _client(url) as client:
        recognized = await client.transcribe(SILENCE.ljust(speech.MAX_CHUNK_BYTES), language="en")
    assert _text(recognized) == str(speech.MAX_CHUNK_BYTES)


async def test_stand_in_as_a_process_is_reached_by_its_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    environment = openai_environment()
    set_environment(
        monkeypatch, {**ENVIRONMENTS[WorkerSettings], "ENVIRONMENT": "development", **environment}
    )
    with running(environment, tmp_path):
        client = vendor_clients.make_speech(load(WorkerSettings))
        assert client is not None
        recognized = await client.transcribe(turn_flac(SHORT_TURN), language="en")
        await client.aclose()
    assert word_error_rate([(SHORT_TURN.text, _text(recognized))]) <= 0.5


@pytest.mark.parametrize(
    ("status", "error", "kind", "reason"),
    [
        (429, {"type": "insufficient_quota", "code": "insufficient_quota"}, Conflict, "speech_quota"),
        (429, {"type": "insufficient_quota", "code": None}, Conflict, "speech_quota"),
        (400, {"code": "billing_hard_limit_reached"}, Conflict, "speech_quota"),
        (429, {"code": "billing_not_active"}, Conflict, "speech_quota"),
        (402, {}, Conflict, "speech_quota"),
        (401, {"code": "account_deactivated"}, Conflict, "speech_account_suspended"),
        (401, {"code": "invalid_api_key"}, Conflict, "speech_key_refused"),
        (401, {"code": "ip_not_authorized"}, Conflict, "speech_address_refused"),
        (403, {"code": "unsupported_country_region_territory"}, Conflict, "speech_address_refused"),
        (403, {"code": "insufficient_permissions"}, Conflict, "speech_access_denied"),
        (403, {"code": "model_not_found"}, InvalidInput, "speech_model_unknown"),
        (404, {"code": "model_not_found"}, InvalidInput, "speech_model_unknown"),
        (
            400,
            {"code": "unsupported_value", "param": "response_format"},
            InvalidInput,
            "speech_format_unsupported",
        ),
        (429, {"type": "tokens", "code": "rate_limit_exceeded"}, RateLimited, "speech_busy"),
        (503, {"code": "slow_down"}, RateLimited, "speech_busy"),
    ],
)
async def test_refusal_of_the_service_has_its_own_reason(
    status: int, error: dict[str, str | None], kind: type[AppError], reason: str
) -> None:
    async def handle(request: Request) -> Response:
        await request.body()
        return JSONResponse({"error": {"message": SECRET, **error}}, status)

    async with _answering(handle) as url, _client(url) as client:
        failure = await _failure(client)
    assert (type(failure), failure.reason) == (kind, reason)
    assert SECRET not in repr(failure) + failure.summary
    assert operator_message(reason) != operator_message("no such reason")


async def test_unknown_refusal_keeps_the_vendors_code() -> None:
    async def handle(request: Request) -> Response:
        await request.body()
        return JSONResponse({"error": {"message": SECRET, "type": "x_error", "code": "audio_too_odd"}}, 400)

    async with _answering(handle) as url, _client(url) as client:
        failure = await _failure(client)
    assert failure.summary == "speech_refused (audio_too_odd)"


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"error": "x"}', b"null", b"\xff", b'{"error": {"code": 7}}']
)
async def test_refusal_without_a_document_has_the_reason_of_its_status(body: bytes) -> None:
    async def handle(request: Request) -> Response:
        await request.body()
        return Response(body, 400)

    async with _answering(handle) as url, _client(url) as client:
        failure = await _failure(client)
    assert (failure.reason, failure.detail) == ("speech_refused", {"status": 400})


async def test_refusal_with_an_endless_body_is_translated_by_its_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openai_client, "_REFUSAL_SECONDS", 0.2)

    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    async def handle(request: Request) -> Response:
        await request.body()
        return StreamingResponse(drip(), 401)

    async with _answering(handle) as url, _client(url) as client, asyncio.timeout(10):
        assert (await _failure(client)).reason == "speech_key_refused"
