"""Tests of the speech recognizers that the OpenAI stand-in uses: pocketsphinx, and Whisper if `make whisper` has
installed it.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest

from app.integrations.speech.client import Speech
from app.settings import SpeechApi
from devstack.openai import Order, create_openai_app, whisper
from devstack.openai.recogniser import Recogniser, SpeechRecogniser
from tests.integration.recording_harness import served
from tests.integration.spoken import flac, silence_flac, turn_flac, turns, word_error_rate
from tests.integration.talking import start_errors, talk, transcribed

pytestmark = pytest.mark.anyio

KEY = "sk-that-nobody-may-see"
AUTHORIZED: Final = {"Authorization": f"Bearer {KEY}"}
DIARIZE: Final = "gpt-4o-transcribe-diarize"
_loaded: dict[str, SpeechRecogniser] = {}


@pytest.fixture(params=["pocketsphinx", "whisper"])
def recogniser(request: pytest.FixtureRequest) -> SpeechRecogniser:
    if request.param == "whisper" and not whisper.is_installed():
        pytest.skip("Whisper is not installed: `make whisper` installs it")
    if request.param not in _loaded:
        _loaded[request.param] = whisper.Whisper() if request.param == "whisper" else Recogniser()
    return _loaded[request.param]


@pytest.fixture
async def url(recogniser: SpeechRecogniser) -> AsyncIterator[str]:
    async with served(create_openai_app(KEY, recogniser)) as served_at:
        yield served_at


async def _answer(url: str, fields: dict[str, Any], content: bytes) -> tuple[int, Any]:
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        answer = await client.post(
            "/v1/audio/transcriptions",
            data=fields,
            files={"file": ("piece.flac", content)},
            headers=AUTHORIZED,
        )
    return answer.status_code, answer.json()


async def test_segments_have_times_and_figures_short(url: str) -> None:
    turn = turns()[3]
    fields = {"model": "whisper-1", "response_format": "verbose_json", "timestamp_granularities[]": "segment"}
    status, body = await _answer(url, {**fields, "language": "en"}, turn_flac(turn))

    assert status == 200
    assert set(body) == {"task", "language", "duration", "text", "segments", "usage"}
    assert (body["task"], body["language"]) == ("transcribe", "english")
    assert body["duration"] == pytest.approx(turn.end - turn.start + 0.2, abs=0.01)
    assert word_error_rate([(turn.text, body["text"])]) <= 0.25
    assert "".join(one["text"] for one in body["segments"]).split() == body["text"].split()
    for number, one in enumerate(body["segments"]):
        assert one["id"] == number
        assert 0 <= one["start"] < one["end"] <= 30
        assert -1 < one["avg_logprob"] < 0
        assert 0 <= one["no_speech_prob"] < 0.5
        assert 0.3 < one["compression_ratio"] < 2.4


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ({"model": "whisper-1"}, {"text", "usage"}),
        ({"model": "gpt-4o-transcribe", "include[]": "logprobs"}, {"text", "logprobs", "usage"}),
        ({"model": "gpt-transcribe"}, {"text", "languages", "usage"}),
        ({"model": DIARIZE, "response_format": "diarized_json"}, None),
    ],
)
async def test_each_format_has_its_fields(url: str, fields: dict[str, str], keys: set[str] | None) -> None:
    turn = turns()[2]
    status, body = await _answer(url, fields, turn_flac(turn))
    assert status == 200
    assert word_error_rate([(turn.text, body["text"])]) <= 0.5
    if keys is None:
        assert {one["speaker"] for one in body["segments"]} == {"A"}
    else:
        assert set(body) == keys
    assert all(one["logprob"] < 0 for one in body.get("logprobs", ()))


@pytest.mark.parametrize("content", [silence_flac(3), flac(bytes(32_000) + b"\1\0" * 16_000)])
async def test_silence_has_no_word_that_is_not_marked(url: str, content: bytes) -> None:
    speech = Speech(api_key=KEY, model="whisper-1", api=SpeechApi.VERBOSE_JSON, base_url=f"{url}/v1")
    try:
        recognized = await speech.transcribe(content, language="en")
    finally:
        await speech.aclose()
    assert all(one.is_uncertain for one in recognized.segments)


@pytest.mark.parametrize(
    ("content", "code"), [(b"not sound", "invalid_value"), (silence_flac(0.09), "audio_too_short")]
)
async def test_undecodable_sound_is_refused(url: str, content: bytes, code: str) -> None:
    status, body = await _answer(url, {"model": "whisper-1"}, content)
    assert (status, body["error"]["code"]) == (400, code)


async def test_wrong_key_transcribes_nothing(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        for path in ("/v1/models", "/stand-in/recogniser"):
            assert (await client.get(path, headers={"Authorization": "Bearer sk-wrong"})).status_code == 401


async def test_stand_in_says_what_hears_short(url: str, recogniser: SpeechRecogniser) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        answer = await client.get("/stand-in/recogniser", headers=AUTHORIZED)
    assert answer.json() == {"name": recogniser.name}


@pytest.mark.parametrize("order", ["invented", "loop", "late_start"])
async def test_orders_falsify_real_transcriptions(recogniser: SpeechRecogniser, order: str) -> None:
    app = create_openai_app(KEY, recogniser)
    app.state.stand_in.orders.add(Order(order))
    async with served(app) as url:
        _, body = await _answer(
            url, {"model": "whisper-1", "response_format": "verbose_json"}, turn_flac(turns()[2])
        )
    (segment,) = body["segments"]
    assert (segment["avg_logprob"] < -0.95) == (order == "invented")
    assert (segment["compression_ratio"] > 2.4) == (order == "loop")
    assert (segment["start"] > 0.5) == (order == "late_start")


@pytest.mark.parametrize("api", SpeechApi)
async def test_conversation_is_transcribed_with_correct_times(url: str, api: SpeechApi) -> None:
    models = {SpeechApi.TEXT: "gpt-transcribe", SpeechApi.VERBOSE_JSON: "whisper-1"}
    pauses = (1.0, 0.6, 6.0, 0.5, 15.0)
    sound = talk(6, lambda turn: pauses[turn % len(pauses)])
    speech = Speech(api_key=KEY, model=models.get(api, DIARIZE), api=api, base_url=f"{url}/v1")
    try:
        transcript, sent = await transcribed(sound, speech)
    finally:
        await speech.aclose()
    errors = start_errors(sound, transcript)
    said, recognized = (
        " ".join(parts) for parts in ([one[2] for one in sound.said], [one.text for one in transcript.turns])
    )
    print(f"{api.value}: median {errors.median:.2f} s, most {errors.seconds[-1]:.2f} s, {sent} requests")  # noqa: T201
    assert errors.unheard == 0
    assert (errors.median <= 0.1, errors.percentile_99 <= 0.5) == (True, True), errors
    assert word_error_rate([(said, recognized)]) <= 0.2
    assert not any(turn.is_uncertain or turn.is_unintelligible for turn in transcript.turns)


def test_whisper_whose_weights_were_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if not whisper.is_installed():
        pytest.skip("Whisper is not installed: `make whisper` installs it")
    monkeypatch.setitem(whisper._SHA256, "model.bin", "0" * 64)
    with pytest.raises(whisper.ChangedWeightsError, match=r"model\.bin"):
        whisper.Whisper().load()


def test_same_sound_has_the_same_answer_from_whisper() -> None:
    if not whisper.is_installed():
        pytest.skip("Whisper is not installed: `make whisper` installs it")
    samples = talk(2, lambda _: 1.0).samples
    assert whisper.Whisper().recognise(samples) == whisper.Whisper().recognise(samples)
