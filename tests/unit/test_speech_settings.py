"""Tests of the settings that select the speech model and its address."""

from datetime import date
from pathlib import Path

import pytest

from app.integrations import vendor_clients
from app.settings import SettingsError, SpeechApi, model_ends
from app.settings.language import DEFAULT_LANGUAGE_MODEL
from app.settings.vendors import DEFAULT_SPEECH_MODEL
from tests.unit.environments import worker_settings


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # The directory has no .env


@pytest.mark.parametrize(
    ("changes", "api", "model"),
    [
        ({}, SpeechApi.TEXT, "gpt-transcribe"),
        ({"SPEECH_API": "verbose_json", "WHISPER_MODEL": "whisper-1"}, SpeechApi.VERBOSE_JSON, "whisper-1"),
        ({"SPEECH_API": "verbose_json", "WHISPER_MODEL": "large-v3"}, SpeechApi.VERBOSE_JSON, "large-v3"),
    ],
)
def test_answer_format_is_that_of_the_model_unless_set(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], api: SpeechApi, model: str
) -> None:
    settings = worker_settings(monkeypatch, **changes)
    assert (settings.speech_api, settings.speech_model) == (api, model)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SPEECH_API", "srt"),
        ("SPEECH_TIMEOUT_SECONDS", "0"),
        ("SPEECH_TIMEOUT_SECONDS", "inf"),
        ("OPENAI_BASE_URL", "http://speech.example/v1"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        ("OPENAI_BASE_URL", "speech.example"),
        ("OPENAI_BASE_URL", "https:///v1"),
        ("OPENAI_BASE_URL", "https://somebody:secret@speech.example/v1"),
        ("OPENAI_BASE_URL", "https://speech.example/v1?key=secret"),
        ("OPENAI_BASE_URL", "https://speech.example/v1#part"),
        ("OPENAI_API_KEY", "sk-any\n"),
        ("OPENAI_API_KEY", "sk-señal"),
    ],
)
def test_invalid_setting_prevents_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        worker_settings(monkeypatch, **{name: value})
    assert str(refusal.value).startswith(f"{name}: ")
    assert value not in str(refusal.value)


def test_nothing_is_transcribed_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vendor_clients.make_speech(worker_settings(monkeypatch)) is None
    assert vendor_clients.make_speech(worker_settings(monkeypatch, OPENAI_API_KEY="sk-any")) is not None


@pytest.mark.parametrize("api", ["verbose_json", "diarized_json"])
def test_format_with_models_that_end_within_a_year_has_no_default(
    monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    with pytest.raises(SettingsError, match=f"^WHISPER_MODEL: is needed with SPEECH_API={api}$"):
        worker_settings(monkeypatch, SPEECH_API=api)


def test_ended_speech_model_is_refused_with_the_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_ends, "today", lambda: date(2027, 2, 26))
    with pytest.raises(
        SettingsError, match=r"^WHISPER_MODEL: selects a model that OpenAI ended on 2027-02-26"
    ):
        worker_settings(monkeypatch, WHISPER_MODEL="gpt-4o-transcribe")
    assert worker_settings(monkeypatch).speech_model == "gpt-transcribe"
    worker_settings(monkeypatch, WHISPER_MODEL="whisper-1", OPENAI_BASE_URL="https://speech.example/v1")
    monkeypatch.setattr(model_ends, "today", lambda: date(2027, 2, 25))
    worker_settings(monkeypatch, WHISPER_MODEL="gpt-4o-transcribe")


def test_no_default_model_ends_within_a_year() -> None:
    for default in (DEFAULT_SPEECH_MODEL, DEFAULT_LANGUAGE_MODEL):
        assert default not in model_ends.MODEL_ENDS
