"""Tests that the stand-in for OpenAI's transcription API refuses every request that OpenAI's documentation forbids,
and that its error answers have OpenAI's format.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from starlette.applications import Starlette

from devstack.openai import create_openai_app
from devstack.openai.app import MAX_BYTES
from devstack.openai.config import OpenAIConfig, load_config, save_config
from devstack.openai.recogniser import RATE, Recogniser, decode
from tests.integration.recording_harness import served
from tests.integration.spoken import silence_flac, turn_flac, turns, word_error_rate

pytestmark = pytest.mark.anyio

KEY = "sk-that-nobody-may-see"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
TRANSCRIPTIONS = "/v1/audio/transcriptions"
DIARIZE = "gpt-4o-transcribe-diarize"
SILENCE = silence_flac(0.2)
ON_TIME = {"model": "whisper-1", "response_format": "verbose_json"}


@pytest.fixture
def app() -> Starlette:
    return create_openai_app(KEY)


@pytest.fixture
async def http(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://openai.test") as client:
        yield client


async def _asked(
    http: httpx.AsyncClient, fields: dict[str, Any], content: bytes = SILENCE, name: str = "piece.flac"
) -> tuple[int, Any]:
    files = {"file": (name, content)}
    answer = await http.post(TRANSCRIPTIONS, data=fields, files=files, headers=AUTHORIZED)
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("fields", "status", "param", "code"),
    [
        ({"model": "whisper-9"}, 404, None, "model_not_found"),
        ({}, 404, None, "model_not_found"),
        (
            {"model": "gpt-transcribe", "response_format": "verbose_json"},
            400,
            "response_format",
            "unsupported_value",
        ),
        ({"model": DIARIZE, "response_format": "verbose_json"}, 400, "response_format", "unsupported_value"),
        (
            {"model": "whisper-1", "response_format": "diarized_json"},
            400,
            "response_format",
            "unsupported_value",
        ),
        ({"model": "whisper-1", "language": "english"}, 400, "language", "invalid_value"),
        ({"model": "whisper-1", "languages[]": "en"}, 400, "languages", "invalid_value"),
        ({"model": "gpt-transcribe", "languages[]": ["en", "xx1"]}, 400, "language", "invalid_value"),
        ({"model": "whisper-1", "language": ["en", "es"]}, 400, "language", "invalid_value"),
        ({"model": "whisper-1", "speed": "fast"}, 400, "speed", "unknown_parameter"),
        ({"model": DIARIZE, "prompt": "Names"}, 400, "prompt", "invalid_value"),
        ({"model": DIARIZE, "chunking_strategy": "none"}, 400, "chunking_strategy", "invalid_value"),
        ({"model": DIARIZE, "chunking_strategy": '{"type": "x"}'}, 400, "chunking_strategy", "invalid_value"),
        (
            {"model": "whisper-1", "timestamp_granularities[]": "word"},
            400,
            "timestamp_granularities",
            "invalid_value",
        ),
        ({**ON_TIME, "timestamp_granularities[]": "letter"}, 400, "timestamp_granularities", "invalid_value"),
    ],
)
async def test_unknown_form_is_refused(
    http: httpx.AsyncClient, fields: dict[str, Any], status: int, param: str | None, code: str
) -> None:
    answered, body = await _asked(http, fields)
    assert (answered, set(body), set(body["error"])) == (
        status,
        {"error"},
        {"message", "type", "param", "code"},
    )
    assert (body["error"]["param"], body["error"]["code"]) == (param, code)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("piece.txt", SILENCE, None),
        ("piece", SILENCE, None),
        ("piece.flac", b"not sound", "invalid_value"),
        ("piece.flac", SILENCE[:20], "invalid_value"),
        ("piece.wav", SILENCE, "invalid_value"),
        ("piece.flac", silence_flac(0.09), "audio_too_short"),
    ],
)
async def test_file_that_does_not_match_its_name_is_refused(
    http: httpx.AsyncClient, name: str, content: bytes, code: str | None
) -> None:
    status, body = await _asked(http, {"model": "whisper-1"}, content, name)
    assert (status, body["error"]["code"]) == (400, code)


@pytest.mark.parametrize(
    ("seconds", "fields", "status"),
    [
        (29.9, {}, 200),
        (30.1, {}, 400),
        (1399, {"chunking_strategy": "auto"}, 200),
        (1401, {"chunking_strategy": "auto"}, 400),
    ],
)
async def test_diarization_has_a_maximum_duration(
    http: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    fields: dict[str, str],
    status: int,
) -> None:
    monkeypatch.setattr(Recogniser, "recognise", lambda *_: ())
    asked = {"model": DIARIZE, "response_format": "diarized_json", **fields}
    assert (await _asked(http, asked, silence_flac(seconds)))[0] == status


@pytest.mark.parametrize(("size", "status"), [(MAX_BYTES - 1000, 400), (MAX_BYTES, 413)])
async def test_form_may_be_as_large_as_the_limit(http: httpx.AsyncClient, size: int, status: int) -> None:
    answered, body = await _asked(http, {"model": "whisper-1"}, bytes(size))
    assert answered == status
    assert body["error"]["type"] == ("server_error" if status == 413 else "invalid_request_error")


@pytest.mark.parametrize(
    "authorization", ["", "Bearer ", "Bearer sk-wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer sk-\u00e9"]
)
async def test_wrong_key_is_refused_everywhere(http: httpx.AsyncClient, authorization: str) -> None:
    headers = [(b"Authorization", authorization.encode("latin-1"))] if authorization else []
    for method, path in (("GET", "/v1/models"), ("POST", TRANSCRIPTIONS), ("POST", "/stand-in/orders")):
        answer = await http.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert KEY not in answer.text


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1',
        ),
    ],
)
async def test_body_without_a_form_is_refused(
    http: httpx.AsyncClient, content_type: str, body: bytes
) -> None:
    headers = {**AUTHORIZED, "Content-Type": content_type}
    assert (await http.post(TRANSCRIPTIONS, content=body, headers=headers)).status_code == 400


async def test_orders_are_used_up_one_by_one(http: httpx.AsyncClient, app: Starlette) -> None:
    order = {"order": "fail", "count": 2, "seconds": 0}
    posted = await http.post("/stand-in/orders", json=order, headers=AUTHORIZED)
    assert posted.status_code == 204
    assert (await _asked(http, {"model": "whisper-1"}))[0] == 500
    assert (await http.get("/stand-in/orders", headers=AUTHORIZED)).json() == [{**order, "count": 1}]
    assert (await http.delete("/stand-in/orders", headers=AUTHORIZED)).status_code == 204
    assert app.state.stand_in.orders.still_open() == []
    (call,) = (await http.get("/stand-in/calls", headers=AUTHORIZED)).json()
    assert (call["model"], call["response_format"], call["seconds"]) == ("whisper-1", "json", 0.2)
    wrong: list[object] = [{"order": "no such"}, {"order": "fail", "count": 0}, {"kind": "fail"}, []]
    for one in wrong:
        assert (await http.post("/stand-in/orders", json=one, headers=AUTHORIZED)).status_code == 400


async def test_openai_client_lists_the_models_during_a_transcription(app: Starlette) -> None:
    async with served(app) as url:
        client = openai.AsyncOpenAI(
            api_key=KEY,
            base_url=f"{url}/v1",
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
        )
        file = ("piece.flac", turn_flac(turns()[2]))
        listening = asyncio.create_task(client.audio.transcriptions.create(model="gpt-transcribe", file=file))
        while not app.state.stand_in.calls:  # noqa: ASYNC110 - the stand-in has no event to wait for
            await asyncio.sleep(0.005)
        models = [model.id async for model in client.models.list()]
        assert not listening.done()
        transcribed = await listening
        await client.close()
    assert "gpt-transcribe" in models
    assert transcribed.text


async def test_long_sound_is_transcribed_where_somebody_speaks() -> None:
    first, second = (decode(turn_flac(turn), "flac") for turn in turns()[1:3])
    pause = bytes(2 * 40 * RATE)
    said = Recogniser().recognise(first + pause + second)
    late = [one for one in said if one.start > 30]
    begins = len(first + pause) / 2 / RATE
    assert abs(late[0].start - begins) < 0.5
    early = " ".join(one.text for one in said if one.start < 30)
    assert word_error_rate([(turns()[1].text, early)]) <= 0.3


def test_config_is_read_back_and_hides_its_key(tmp_path: Any) -> None:
    config = OpenAIConfig(KEY, port=1)
    save_config(config, tmp_path / "openai.json")
    assert load_config(tmp_path / "openai.json") == config
    assert (tmp_path / "openai.json").stat().st_mode & 0o077 == 0
    assert KEY not in repr(config)
