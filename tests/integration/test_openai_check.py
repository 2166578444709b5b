"""Tests that `resguardo check` distinguishes a wrong OpenAI key from an unreachable service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.commands import checks
from app.errors import UpstreamFailed
from app.settings import WorkerSettings, load
from app.texts import operator_message
from tests.integration import openai_stand_in
from tests.unit.environments import ENVIRONMENTS, set_environment

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with openai_stand_in.running() as url:
        yield url


def _settings(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]) -> WorkerSettings:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    development = {"ENVIRONMENT": "development"}  # Development permits plain HTTP on the loopback interface
    set_environment(monkeypatch, {**ENVIRONMENTS[WorkerSettings], **development, **changes})
    return load(WorkerSettings)


async def test_right_key_is_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_url: str) -> None:
    monkeypatch.chdir(tmp_path)
    await checks._check_openai(
        _settings(monkeypatch, {"OPENAI_API_KEY": openai_stand_in.KEY, "OPENAI_BASE_URL": base_url})
    )


@pytest.mark.parametrize(
    ("key", "url", "reason"),
    [
        ("", None, "openai_missing"),
        ("sk-wrong", None, "openai_key_refused"),
        ("sk-busy", None, "openai_unreachable"),
        ("sk-poor", None, "speech_quota"),
        ("sk-over", None, "speech_account_suspended"),
        (openai_stand_in.KEY, "http://127.0.0.1:1/v1", "openai_unreachable"),
    ],
)
async def test_failure_has_a_reason_with_a_remedy_and_no_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_url: str, key: str, url: str | None, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = _settings(monkeypatch, {"OPENAI_API_KEY": key, "OPENAI_BASE_URL": url or base_url})
    with pytest.raises(UpstreamFailed) as failure:
        await checks._check_openai(settings)
    assert (failure.value.reason, failure.value.detail) == (reason, {})
    assert operator_message(reason) != operator_message("no such reason")
