"""The settings of the bucket's rules: what is refused, and which keys lead to which client."""

import pytest

from app.integrations import configured
from app.settings import SettingsError, WorkerSettings, load
from tests.unit.environments import ENVIRONMENTS, set_environment

KEYS = {
    "CLOUDFLARE_API_TOKEN": "token-that-nobody-may-see",
    "R2_ADMIN_ACCESS_KEY_ID": "admin",
    "R2_ADMIN_SECRET_ACCESS_KEY": "secret-that-nobody-may-see",
}


def loaded(monkeypatch: pytest.MonkeyPatch, **changes: str) -> WorkerSettings:
    set_environment(monkeypatch, {**ENVIRONMENTS[WorkerSettings], **changes})
    return load(WorkerSettings)


def test_without_keys_there_are_no_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch)
    assert (configured.cloudflare(settings), configured.storage_rules(settings)) == (None, None)
    assert settings.former_public_urls == settings.allowed_origins == ()
    assert configured.bucket_url(settings) == (
        "https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com/recordings"
    )


def test_with_keys_there_are_clients_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, **KEYS)
    rules = configured.storage_rules(settings)
    assert configured.cloudflare(settings) is not None
    assert rules is not None
    rules.close()
    assert "nobody-may-see" not in repr(settings)


def test_lists_are_divided_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(
        monkeypatch,
        FORMER_PUBLIC_URLS="https://pub-1.r2.dev, http://media.example.org/x/",
        ALLOWED_ORIGINS="https://a.example, https://b.example",
    )
    assert settings.former_public_urls == ("https://pub-1.r2.dev", "http://media.example.org/x/")
    assert settings.allowed_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"R2_ADMIN_ACCESS_KEY_ID": "admin"}, "R2_ADMIN_ACCESS_KEY_ID"),
        ({"R2_ADMIN_SECRET_ACCESS_KEY": "secret"}, "R2_ADMIN_ACCESS_KEY_ID"),
        ({"CLOUDFLARE_API_URL": "https://elsewhere.example"}, "CLOUDFLARE_API_URL"),
        ({"FORMER_PUBLIC_URLS": "pub-1.r2.dev"}, "FORMER_PUBLIC_URLS"),
        ({"FORMER_PUBLIC_URLS": "file:///etc/passwd"}, "FORMER_PUBLIC_URLS"),
        ({"ALLOWED_ORIGINS": "*"}, "ALLOWED_ORIGINS"),
        ({"ALLOWED_ORIGINS": "https://app.example.org/path"}, "ALLOWED_ORIGINS"),
        (
            {"ENVIRONMENT": "development", "CLOUDFLARE_API_URL": "http://10.0.0.1/client/v4"},
            "CLOUDFLARE_API_URL",
        ),
    ],
)
def test_what_is_wrong_stops_the_start_by_its_name(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        loaded(monkeypatch, **changes)
    assert str(refused.value).startswith(named)


def test_a_token_without_an_account_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**ENVIRONMENTS[WorkerSettings], "ENVIRONMENT": "development"}
    del environment["R2_ACCOUNT_ID"]
    local = {
        "R2_ENDPOINT_URL": "http://127.0.0.1:9000",
        "R2_RECORDER_ACCESS_KEY_ID": "recorder",
        "R2_RECORDER_SECRET_ACCESS_KEY": "secret",
    }
    set_environment(monkeypatch, {**environment, **local, **KEYS})
    with pytest.raises(SettingsError, match="R2_ACCOUNT_ID: is needed"):
        load(WorkerSettings)
