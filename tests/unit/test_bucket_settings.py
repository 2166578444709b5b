"""Tests of the settings for the bucket's rules: which values are refused, and which client each API key enables."""

import pytest

from app.integrations import vendor_clients
from app.settings import SettingsError, WorkerSettings, load
from tests.unit.environments import ENVIRONMENTS, set_environment, worker_settings

KEYS = {
    "CLOUDFLARE_API_TOKEN": "token-that-nobody-may-see",
    "R2_ADMIN_ACCESS_KEY_ID": "admin",
    "R2_ADMIN_SECRET_ACCESS_KEY": "secret-that-nobody-may-see",
}


def test_without_keys_there_are_no_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = worker_settings(monkeypatch)
    assert (vendor_clients.make_cloudflare(settings), vendor_clients.make_storage_rules(settings)) == (
        None,
        None,
    )
    assert settings.former_public_urls == settings.allowed_origins == ()
    assert vendor_clients.bucket_url(settings) == (
        "https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com/recordings"
    )


def test_with_keys_there_are_clients_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = worker_settings(monkeypatch, **KEYS)
    rules = vendor_clients.make_storage_rules(settings)
    assert vendor_clients.make_cloudflare(settings) is not None
    assert rules is not None
    rules.close()
    assert "nobody-may-see" not in repr(settings)


def test_lists_are_divided_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = worker_settings(
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
        worker_settings(monkeypatch, **changes)
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


S3 = {
    "R2_ACCOUNT_ID": "",
    "S3_ENDPOINT_URL": "https://s3.eu-central-1.amazonaws.com",
    "S3_REGION": "eu-central-1",
    "S3_RECORDER_ROLE_ARN": "arn:aws:iam::123456789012:role/recorder",
}


def test_another_s3_server_is_taken_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = worker_settings(monkeypatch, **S3)
    assert settings.is_production
    assert not settings.is_r2
    assert vendor_clients.bucket_url(settings) == "https://s3.eu-central-1.amazonaws.com/recordings"
    storage = vendor_clients.make_worker_storage(settings)
    url = storage.presign_get("k", expires_in_seconds=60, filename="a.mp4")
    storage.close()
    assert url.startswith("https://s3.eu-central-1.amazonaws.com/recordings/k?")
    assert "%2Feu-central-1%2Fs3%2Faws4_request" in url


def test_bucket_is_in_the_host_without_path_style(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = worker_settings(monkeypatch, **S3, S3_FORCE_PATH_STYLE="false")
    assert vendor_clients.bucket_url(settings) == "https://recordings.s3.eu-central-1.amazonaws.com"
    storage = vendor_clients.make_worker_storage(settings)
    url = storage.presign_get("k", expires_in_seconds=60, filename="a.mp4")
    storage.close()
    assert url.startswith("https://recordings.s3.eu-central-1.amazonaws.com/k?")
    other = vendor_clients.make_worker_storage(settings, other_style=True)
    assert "/recordings/k?" in other.presign_get("k", expires_in_seconds=60, filename="a.mp4")
    other.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"S3_REGION": ""}, "S3_REGION: is needed"),
        ({"S3_REGION": "EU (Frankfurt)"}, "S3_REGION"),
        ({"S3_ENDPOINT_URL": ""}, "S3_ENDPOINT_URL: is missing"),
        ({"S3_ENDPOINT_URL": "http://s3.example.org"}, "S3_ENDPOINT_URL: must begin with https://"),
        ({"S3_ENDPOINT_URL": "http://127.0.0.1:9000"}, "S3_ENDPOINT_URL: must begin with https://"),
        ({"S3_ENDPOINT_URL": "https://s3.example.org/recordings"}, "S3_ENDPOINT_URL: is a host alone"),
        ({"S3_ENDPOINT_URL": "https://nobody:may-see@s3.example.org"}, "S3_ENDPOINT_URL"),
        ({"S3_ENDPOINT_URL": "https://s3.example.org?key=nobody-may-see"}, "S3_ENDPOINT_URL"),
        ({"S3_RECORDER_ROLE_ARN": ""}, "S3_RECORDER_ROLE_ARN, or R2_RECORDER_ACCESS_KEY_ID"),
        ({"S3_RECORDER_ROLE_ARN": "recorder"}, "S3_RECORDER_ROLE_ARN"),
        (
            {"R2_RECORDER_ACCESS_KEY_ID": "recorder", "R2_RECORDER_SECRET_ACCESS_KEY": "x"},
            "S3_RECORDER_ROLE_ARN: needs S3_ENDPOINT_URL, and goes without",
        ),
        (
            {
                "S3_RECORDER_ROLE_ARN": "",
                "R2_RECORDER_ACCESS_KEY_ID": "writer",
                "R2_RECORDER_SECRET_ACCESS_KEY": "x",
                "R2_ACCESS_KEY_ID": "writer",
            },
            "R2_RECORDER_ACCESS_KEY_ID: must not be the worker's key",
        ),
        ({"R2_JURISDICTION": "eu"}, "S3_ENDPOINT_URL: not together with"),
        ({"CLOUDFLARE_API_TOKEN": "token-that-nobody-may-see"}, "CLOUDFLARE_API_TOKEN: not together with"),
        (
            {"S3_FORCE_PATH_STYLE": "false", "R2_BUCKET_NAME": "org.practice.recordings"},
            "S3_FORCE_PATH_STYLE: must be true",
        ),
        (
            {"S3_FORCE_PATH_STYLE": "false", "S3_ENDPOINT_URL": "https://recordings.s3.example.org"},
            "S3_ENDPOINT_URL: must not begin with the bucket's name",
        ),
    ],
)
def test_wrong_setting_of_another_server_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        worker_settings(monkeypatch, **{**S3, **changes})
    assert said in str(refused.value)
    assert "may-see" not in str(refused.value)


def test_bucket_with_a_dot_is_one_of_another_server_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_settings(monkeypatch, **S3, R2_BUCKET_NAME="org.practice.recordings").r2_bucket_name
    with pytest.raises(SettingsError, match="R2_BUCKET_NAME: a bucket of R2 has no dot"):
        worker_settings(monkeypatch, R2_BUCKET_NAME="org.practice.recordings")


@pytest.mark.anyio
async def test_recorder_gets_the_servers_region_and_style(monkeypatch: pytest.MonkeyPatch) -> None:
    key = {"R2_RECORDER_ACCESS_KEY_ID": "recorder", "R2_RECORDER_SECRET_ACCESS_KEY": "x"}
    settings = worker_settings(
        monkeypatch, **{**S3, "S3_RECORDER_ROLE_ARN": "", "S3_FORCE_PATH_STYLE": "false", **key}
    )
    target = await vendor_clients.make_recorder_target(settings, "r/1.mp4")
    assert (target.endpoint_url, target.region, target.force_path_style) == (
        "https://s3.eu-central-1.amazonaws.com",
        "eu-central-1",
        False,
    )
    assert target.credentials.access_key_id == "recorder"
