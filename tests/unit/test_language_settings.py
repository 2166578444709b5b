"""Tests of the settings that select the language service, its model, and the agreement with its vendor."""

from datetime import date
from pathlib import Path

import pytest

from app.insights.language_choice import make_language
from app.insights.writing.extractive import ExtractiveWriter
from app.integrations.language.client import ChatLanguage, ResponsesLanguage
from app.settings import ApiSettings, Environment, SettingsError, load, model_ends
from app.settings.services import VendorService
from tests.unit.environments import ENVIRONMENTS, set_environment, worker_settings

KEY = "sk-that-nobody-may-see"
SERVICE = {
    "LANGUAGE_BASE_URL": "https://language.example/v1",
    "LANGUAGE_API_KEY": KEY,
    "OPENAI_MODEL": "a-model",
}


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # The directory has no .env


def test_no_language_service_is_configured_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_language(worker_settings(monkeypatch)) is None


def test_language_service_is_the_speech_service_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    language = make_language(worker_settings(monkeypatch, OPENAI_API_KEY=KEY))
    assert isinstance(language, ResponsesLanguage)
    assert (language.vendor, language.model) == ("api.openai.com", "gpt-6-sol")


@pytest.mark.parametrize(
    ("changes", "kind", "vendor", "model"),
    [
        (
            {"LANGUAGE_API": "chat", **SERVICE},
            ChatLanguage,
            "language.example",
            "a-model",
        ),
        ({"LANGUAGE_API": "extract"}, ExtractiveWriter, "resguardo", "resguardo-extract"),
        ({"LANGUAGE_API": "extract", **SERVICE}, ExtractiveWriter, "resguardo", "resguardo-extract"),
    ],
)
def test_settings_select_the_language_service(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], kind: type, vendor: str, model: str
) -> None:
    language = make_language(worker_settings(monkeypatch, **changes))
    assert isinstance(language, kind)
    assert language is not None
    assert (language.vendor, language.model) == (vendor, model)


def test_another_speech_service_has_no_default_language_model(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"OPENAI_BASE_URL": "https://speech.example/v1", "OPENAI_API_KEY": KEY}
    assert make_language(worker_settings(monkeypatch, **other)) is None
    language = make_language(worker_settings(monkeypatch, **other, OPENAI_MODEL="a-model"))
    assert language is not None
    assert language.vendor == "speech.example"


def test_extractive_writer_is_never_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in Environment:
        settings = worker_settings(monkeypatch, ENVIRONMENT=environment)
        assert settings.language_api.value == "responses"


def test_agreement_is_needed_only_for_another_service(monkeypatch: pytest.MonkeyPatch) -> None:
    other = worker_settings(monkeypatch, **SERVICE)
    assert VendorService.LANGUAGE in other.agreement_services
    extract = worker_settings(monkeypatch, **{**SERVICE, "LANGUAGE_API": "extract"})
    assert VendorService.LANGUAGE not in extract.agreement_services
    for same in (
        {**SERVICE, "OPENAI_BASE_URL": "https://language.example/other"},
        {**SERVICE, "LANGUAGE_BASE_URL": "https://api.openai.com/v1"},
    ):
        assert VendorService.LANGUAGE not in worker_settings(monkeypatch, **same).agreement_services


@pytest.mark.parametrize(
    ("model", "end"), [("gpt-4-turbo", "2026-10-23"), ("gpt-5", "2026-12-11"), ("gpt-4o", "2027-01-14")]
)
def test_ended_model_is_refused_with_the_date(monkeypatch: pytest.MonkeyPatch, model: str, end: str) -> None:
    monkeypatch.setattr(model_ends, "today", lambda: date.fromisoformat(end))
    with pytest.raises(SettingsError, match=f"^OPENAI_MODEL: selects a model that OpenAI ended on {end}"):
        worker_settings(monkeypatch, OPENAI_MODEL=model)
    worker_settings(monkeypatch, **{**SERVICE, "OPENAI_MODEL": model})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"LANGUAGE_API": "completions"}, "LANGUAGE_API"),
        ({"LANGUAGE_TIMEOUT_SECONDS": "0"}, "LANGUAGE_TIMEOUT_SECONDS"),
        ({**SERVICE, "LANGUAGE_BASE_URL": "http://language.example/v1"}, "LANGUAGE_BASE_URL"),
        ({**SERVICE, "LANGUAGE_BASE_URL": "https://a:b@language.example/v1"}, "LANGUAGE_BASE_URL"),
        ({**SERVICE, "LANGUAGE_API_KEY": "sk-señal"}, "LANGUAGE_API_KEY"),
        ({**SERVICE, "LANGUAGE_API_KEY": ""}, "LANGUAGE_API_KEY"),
        ({**SERVICE, "OPENAI_MODEL": ""}, "OPENAI_MODEL"),
    ],
)
def test_invalid_setting_prevents_the_start(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        worker_settings(monkeypatch, **changes)
    assert str(refusal.value).startswith(f"{named}: ")
    assert KEY not in str(refusal.value)


def test_api_has_the_settings_of_the_language_service(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {**ENVIRONMENTS[ApiSettings], "OPENAI_API_KEY": KEY})
    settings = load(ApiSettings)
    assert make_language(settings) is not None
    assert KEY not in repr(settings)
