"""If a setting is missing or invalid, the process does not start. The error for an invalid setting contains the
setting's name, and never its value.
"""

import pickle
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from app.settings import (
    ApiSettings,
    DeploymentSettings,
    Environment,
    MigrationSettings,
    SettingsError,
    WorkerSettings,
    load,
)
from app.transparency_log.notes import SignatureType, VerifierKey
from tests.unit.environments import (
    AUDIT_SEED,
    ENVIRONMENTS,
    KINDS,
    PASSWORD,
    ROOT_KEYS,
    SECRET,
    SEED,
    secret_names,
    set_environment,
)

Load = Callable[..., DeploymentSettings]
OPTIONAL = {"ENVIRONMENT"}
REQUIRED = [(kind, name) for kind in KINDS for name in ENVIRONMENTS[kind] if name not in OPTIONAL]
REFUSED = [
    (ApiSettings, "API_DATABASE_URL", "postgresql://resguardo_api:word@db/x", "sslmode"),
    (ApiSettings, "API_DATABASE_URL", "postgresql://resguardo_api:word@db/x?sslmode=prefer", "sslmode"),
    (ApiSettings, "API_DATABASE_URL", "postgresql://postgres:word@db/x?sslmode=require", "resguardo_api"),
    (ApiSettings, "API_DATABASE_URL", "postgresql://resguardo_api@db/x?sslmode=require", "password"),
    (ApiSettings, "API_DATABASE_URL", "postgresql://resguardo_api:word@db?sslmode=require", "database"),
    (ApiSettings, "API_DATABASE_URL", "mysql://resguardo_api:word@db/x?sslmode=require", "postgresql://"),
    (ApiSettings, "API_DATABASE_URL", "word", "postgresql://"),
    (WorkerSettings, "WORKER_DATABASE_URL", "postgresql://resguardo_api:word@db/x?sslmode=require", "worker"),
    (MigrationSettings, "DATABASE_URL", "postgresql://postgres:word@db/x", "sslmode"),
    (MigrationSettings, "API_DATABASE_URL", "postgresql://postgres:word@db/x?sslmode=require", "log in as"),
    (ApiSettings, "SUPABASE_URL", "http://word.supabase.co", "https://"),
    (ApiSettings, "SUPABASE_URL", "http://localhost:54321", "https://"),
    (ApiSettings, "LIVEKIT_URL", "ws://word.livekit.cloud", "wss://"),
    (ApiSettings, "LIVEKIT_URL", "http://127.0.0.1:7880", "wss://"),
    (ApiSettings, "LIVEKIT_API_SECRET", "too-short-word", "32"),
    (ApiSettings, "R2_ENDPOINT_URL", "https://word.example", "only in development"),
    (ApiSettings, "R2_ACCOUNT_ID", "word", "pattern"),
    (ApiSettings, "R2_BUCKET_NAME", "Word_Bucket", "pattern"),
    (ApiSettings, "R2_JURISDICTION", "word", "pattern"),
    (ApiSettings, "R2_PUBLIC_URL", "https://word.example", "presigned"),
    (WorkerSettings, "R2_PUBLIC_URL", "https://word.example", "presigned"),
    (ApiSettings, "DEPLOYMENT", "Word Practice", "pattern"),
    (ApiSettings, "ENVIRONMENT", "word", "production"),
    (ApiSettings, "ALLOWED_ORIGINS", "https://app.example,*", "wildcard"),
    (ApiSettings, "ALLOWED_ORIGINS", "https://*.word.example", "wildcard"),
    (ApiSettings, "ALLOWED_ORIGINS", "https://word.example/path", "path"),
    (ApiSettings, "TRUSTED_PROXIES", "10.0.0.0/8,word", "network"),
    (ApiSettings, "URL_LIFETIME_SECONDS", "901", "900"),
    (ApiSettings, "URL_LIFETIME_SECONDS", "0", "1"),
    (ApiSettings, "TOTP_MAX_AGE_SECONDS", "59", "60"),
    (ApiSettings, "BODY_LIMIT_BYTES", "10485760", "1048576"),
    (WorkerSettings, "WORKER_CONCURRENCY", "0", "1"),
    (WorkerSettings, "RECONCILE_SECONDS", "0", "1"),
    (WorkerSettings, "CERTIFICATE_SIGNING_KEY", "word", "32 bytes in base64"),
    (WorkerSettings, "CERTIFICATE_SIGNING_KEY", "d29yZA==", "32 bytes in base64"),
    (WorkerSettings, "CERTIFICATE_SIGNING_KEY", "wörd", "32 bytes in base64"),
    (WorkerSettings, "AUDIT_SIGNING_KEY", "word", "32 bytes in base64"),
    (WorkerSettings, "AUDIT_SIGNING_KEY", "d29yZA==", "32 bytes in base64"),
    (WorkerSettings, "AUDIT_SIGNING_KEY", SEED, "CERTIFICATE_SIGNING_KEY"),
    (WorkerSettings, "AUDIT_SIGNING_KEY", ROOT_KEYS.partition(":")[2], "ROOT_KEYS"),
    (WorkerSettings, "AUDIT_FORMER_KEYS", "word+00000000+AQ==", "verifier keys"),
    (WorkerSettings, "BACKUP_RETENTION_DAYS", "-1", "0"),
    (WorkerSettings, "ROOT_KEYS", "word", "id:key"),
    (WorkerSettings, "ROOT_KEYS", "word:d29yZA==", "32 random bytes"),
    (WorkerSettings, "ROOT_KEYS", f"{ROOT_KEYS},{ROOT_KEYS}", "number 2"),
    (WorkerSettings, "BACKUP_RETENTION_DAYS", "3651", "3650"),
    (WorkerSettings, "AUDIT_PUBLISH_SECONDS", "59", "60"),
    (WorkerSettings, "AUDIT_PUBLISH_SECONDS", "3601", "3600"),
    (WorkerSettings, "AUDIT_WITNESS_KEY", "word", "verifier keys"),
    (WorkerSettings, "AUDIT_WITNESS_KEY", "word+00000000+BOkyeRrm", "verifier keys"),
    (WorkerSettings, "AUDIT_BUCKET", "Word_Bucket", "pattern"),
]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    """Return a function that loads settings from a complete set of environment variables. Each argument of the
    returned function changes one variable, or removes the variable if the argument is None.
    """
    monkeypatch.chdir(tmp_path)

    def load_with(kind: type[DeploymentSettings], **changes: str | None) -> DeploymentSettings:
        environment: dict[str, str | None] = {**ENVIRONMENTS[kind], **changes}
        set_environment(
            monkeypatch, {name: value for name, value in environment.items() if value is not None}
        )
        return load(kind)

    return load_with


WITNESS = VerifierKey("w.example", SignatureType.ED25519_COSIGNATURE, bytes(32)).format()
LOG_KEY = VerifierKey("w.example", SignatureType.ED25519, bytes(32)).format()
SECOND_BUCKET = {
    "AUDIT_BUCKET_ENDPOINT_URL": "https://s3.example",
    "AUDIT_BUCKET": "second",
    "AUDIT_BUCKET_ACCESS_KEY_ID": "other",
    "AUDIT_BUCKET_SECRET_ACCESS_KEY": SECRET,
}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"AUDIT_WITNESS_URL": "https://w.example"}, "AUDIT_WITNESS_URL, AUDIT_WITNESS_KEY"),
        ({"AUDIT_WITNESS_KEY": WITNESS}, "AUDIT_WITNESS_URL, AUDIT_WITNESS_KEY"),
        (
            {"AUDIT_WITNESS_URL": "http://w.example", "AUDIT_WITNESS_KEY": WITNESS},
            "AUDIT_WITNESS_URL",
        ),
        (
            {"AUDIT_WITNESS_URL": "https://a:word@w.example", "AUDIT_WITNESS_KEY": WITNESS},
            "AUDIT_WITNESS_URL",
        ),
        (
            {
                "AUDIT_WITNESS_URL": "https://w.example,https://v.example",
                "AUDIT_WITNESS_KEY": f"{WITNESS},{WITNESS}",
            },
            "AUDIT_WITNESS_KEY",
        ),
        ({"AUDIT_WITNESS_URL": "https://w.example", "AUDIT_WITNESS_KEY": LOG_KEY}, "AUDIT_WITNESS_KEY"),
        *(({**SECOND_BUCKET, name: None}, name) for name in SECOND_BUCKET),
        ({**SECOND_BUCKET, "AUDIT_BUCKET_ACCESS_KEY_ID": "writer"}, "AUDIT_BUCKET_ACCESS_KEY_ID"),
        (
            {
                **SECOND_BUCKET,
                "AUDIT_BUCKET_ENDPOINT_URL": "https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com",
                "AUDIT_BUCKET": "recordings",
            },
            "AUDIT_BUCKET",
        ),
        ({**SECOND_BUCKET, "AUDIT_BUCKET_ENDPOINT_URL": "http://s3.example"}, "AUDIT_BUCKET_ENDPOINT_URL"),
        (
            {**SECOND_BUCKET, "AUDIT_BUCKET_ENDPOINT_URL": "https://s3.example/second"},
            "AUDIT_BUCKET_ENDPOINT_URL",
        ),
    ],
)
def test_settings_of_the_published_audit_log_belong_together(
    loaded: Load, changes: dict[str, str | None], named: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        loaded(WorkerSettings, **changes)
    assert str(refusal.value).partition(": ")[0] == named
    assert "word" not in str(refusal.value)


def test_witnesses_and_a_second_bucket_are_optional(loaded: Load) -> None:
    settings = loaded(
        WorkerSettings,
        AUDIT_WITNESS_URL="https://w.example/witness",
        AUDIT_WITNESS_KEY=WITNESS,
        **SECOND_BUCKET,
    )
    assert isinstance(settings, WorkerSettings)
    assert settings.audit_witness_key == (WITNESS,)
    assert settings.has_second_audit_bucket
    plain = loaded(WorkerSettings)
    assert isinstance(plain, WorkerSettings)
    assert not plain.has_second_audit_bucket


@pytest.mark.parametrize("kind", KINDS)
def test_complete_environment_is_taken(loaded: Load, kind: type[DeploymentSettings]) -> None:
    settings = loaded(kind)
    assert settings.deployment == "test-practice"
    assert settings.is_production


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize(("kind", "name"), REQUIRED)
def test_missing_or_empty_setting_stops_the_start_with_its_name(
    loaded: Load, kind: type[DeploymentSettings], name: str, value: str | None
) -> None:
    with pytest.raises(SettingsError) as refusal:
        loaded(kind, **{name: value})
    assert str(refusal.value) == f"{name}: is missing"


@pytest.mark.parametrize(("kind", "name", "value", "why"), REFUSED)
def test_wrong_setting_stops_the_start_with_its_name_and_why(
    loaded: Load, kind: type[DeploymentSettings], name: str, value: str, why: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        loaded(kind, **{name: value})
    told = str(refusal.value)
    assert {line.partition(": ")[0] for line in told.splitlines()} == {name}
    assert why in told
    assert "word" not in told.lower().replace("password", "")


def test_every_missing_setting_is_named_at_once(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {})
    with pytest.raises(SettingsError) as refusal:
        load(ApiSettings)
    named = {line.partition(":")[0] for line in str(refusal.value).splitlines()}
    assert named == {
        name for kind, name in REQUIRED if kind is ApiSettings and name != "R2_ACCOUNT_ID"
    }  # A development deployment works without the account


HIDDEN = (PASSWORD, SECRET, SEED, AUDIT_SEED, ROOT_KEYS, ROOT_KEYS.split(":")[1])


@pytest.mark.parametrize("kind", KINDS)
def test_secrets_are_in_no_repr_and_no_refusal(loaded: Load, kind: type[DeploymentSettings]) -> None:
    settings = loaded(kind)
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert not any(secret in shown for secret in HIDDEN)
    with pytest.raises(SettingsError) as refusal:
        loaded(kind, DEPLOYMENT=None)
    told = (
        f"{refusal.value!r} {refusal.value} {refusal.value.__cause__!r} {refusal.value.__suppress_context__}"
    )
    assert not any(secret in told for secret in HIDDEN)


def test_secrets_are_all_kept_as_secrets() -> None:
    assert secret_names() == {
        "API_DATABASE_URL",
        "AUDIT_BUCKET_SECRET_ACCESS_KEY",
        "AUDIT_SIGNING_KEY",
        "CERTIFICATE_SIGNING_KEY",
        "CLOUDFLARE_API_TOKEN",
        "DATABASE_URL",
        "LANGUAGE_API_KEY",
        "LIVEKIT_API_SECRET",
        "OPENAI_API_KEY",
        "OUTGOING_WEBHOOK_SECRETS",
        "OUTGOING_WEBHOOK_URLS",
        "R2_ADMIN_SECRET_ACCESS_KEY",
        "R2_READER_SECRET_ACCESS_KEY",
        "R2_RECORDER_SECRET_ACCESS_KEY",
        "R2_SECRET_ACCESS_KEY",
        "ROOT_KEYS",
        "SUPABASE_SECRET_KEY",
        "WORKER_DATABASE_URL",
    }


def test_public_url_is_refused_with_the_reason(loaded: Load) -> None:
    with pytest.raises(SettingsError, match="R2_PUBLIC_URL: must not be set: a public address would serve"):
        loaded(ApiSettings, R2_PUBLIC_URL="https://pub.example")


def test_production_needs_an_agreement_for_each_service_that_receives_phi(loaded: Load) -> None:
    always = {"DATABASE", "STORAGE", "VIDEO"}
    for kind in (ApiSettings, WorkerSettings):
        assert loaded(kind).agreement_services == always  # type: ignore[attr-defined] # both kinds have it
        with_speech = loaded(kind, OPENAI_API_KEY="sk-key")
        assert with_speech.agreement_services == always | {"SPEECH"}  # type: ignore[attr-defined] # as above


def test_production_is_the_default(loaded: Load) -> None:
    assert loaded(ApiSettings, ENVIRONMENT=None).environment is Environment.PRODUCTION


def test_development_takes_plain_http_on_loopback(loaded: Load) -> None:
    settings = loaded(
        ApiSettings,
        ENVIRONMENT="development",
        R2_ACCOUNT_ID=None,
        R2_ENDPOINT_URL="http://127.0.0.1:9000",
        SUPABASE_URL="http://localhost:54321",
        LIVEKIT_URL="ws://[::1]:7880",
        API_DATABASE_URL="postgresql://resguardo_api:word@127.0.0.1/demo",
    )
    assert not settings.is_production


@pytest.mark.parametrize("name", ["R2_ENDPOINT_URL", "SUPABASE_URL", "LIVEKIT_URL"])
def test_development_still_refuses_plain_http_beyond_loopback(loaded: Load, name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: must begin with"):
        loaded(ApiSettings, ENVIRONMENT="development", **{name: "http://127.0.0.1.example.org"})


def test_worker_of_another_store_needs_the_recorder(loaded: Load) -> None:
    changes = {"ENVIRONMENT": "development", "R2_ENDPOINT_URL": "http://127.0.0.1:9000"}
    with pytest.raises(SettingsError, match=r"^R2_RECORDER_ACCESS_KEY_ID, R2_RECORDER_SECRET_ACCESS_KEY: "):
        loaded(WorkerSettings, **changes)
    loaded(WorkerSettings, **changes, R2_RECORDER_ACCESS_KEY_ID="r", R2_RECORDER_SECRET_ACCESS_KEY="s")


def test_pooler_login_with_the_project_behind_a_dot_is_the_role(loaded: Load) -> None:
    url = "postgresql://resguardo_api.projectref:word@pooler.example:5432/postgres?sslmode=require"
    loaded(ApiSettings, API_DATABASE_URL=url)


def test_lists_are_split_at_commas(loaded: Load) -> None:
    settings = loaded(
        ApiSettings,
        ALLOWED_ORIGINS="https://a.example, https://b.example,",
        TRUSTED_PROXIES="10.0.0.0/8, 192.0.2.1",
    )
    assert isinstance(settings, ApiSettings)
    assert settings.allowed_origins == ("https://a.example", "https://b.example")
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("192.0.2.1/32"))


def test_settings_are_frozen(loaded: Load) -> None:
    settings = loaded(ApiSettings)
    with pytest.raises(ValueError, match="frozen"):
        settings.deployment = "another"  # type: ignore[misc]  # what is tried
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own bytes


def test_file_is_read_and_the_environment_wins(
    loaded: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("DEPLOYMENT=from-file\nR2_BUCKET_NAME=from-file\nUNKNOWN=ignored\n")
    settings = loaded(ApiSettings, DEPLOYMENT=None)
    assert isinstance(settings, ApiSettings)
    assert (settings.deployment, settings.r2_bucket_name) == ("from-file", "recordings")


def test_login_passwords_are_unquoted(loaded: Load) -> None:
    settings = loaded(
        MigrationSettings, API_DATABASE_URL="postgresql://resguardo_api:a%2Fb%40c@db/x?sslmode=require"
    )
    assert isinstance(settings, MigrationSettings)
    passwords = {role: secret.get_secret_value() for role, secret in settings.login_passwords.items()}
    assert passwords == {"resguardo_api": "a/b@c", "resguardo_worker": PASSWORD}
