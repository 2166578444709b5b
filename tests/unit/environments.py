"""Provides a complete set of environment variables for each of Resguardo's processes. A test can remove or change
some of these variables.
"""

from base64 import b64encode
from collections.abc import Mapping

import pytest
from pydantic import SecretStr

from app.settings import (
    ApiSettings,
    DeploymentSettings,
    MigrationSettings,
    OwnerSettings,
    StaffSettings,
    WorkerSettings,
    load,
)

PASSWORD = "word-that-nobody-may-see"
SECRET = "secret-that-nobody-may-see-either"
SEED = b64encode(b"a seed that nobody may see, too.").decode()
AUDIT_SEED = b64encode(b"a log seed that nobody may see..").decode()
ROOT_KEYS = "root-1:" + b64encode(b"root key that nobody may see, 32").decode()
KINDS: tuple[type[DeploymentSettings], ...] = (
    ApiSettings,
    WorkerSettings,
    MigrationSettings,
    StaffSettings,
    OwnerSettings,
)

_COMMON = {
    "ENVIRONMENT": "production",
    "DEPLOYMENT": "test-practice",
}
_VENDORS = {
    "SUPABASE_URL": "https://project.supabase.co",
    "R2_ACCOUNT_ID": "0123456789abcdef0123456789abcdef",
    "R2_BUCKET_NAME": "recordings",
    "LIVEKIT_URL": "wss://project.livekit.cloud",
    "LIVEKIT_API_KEY": "key",
    "LIVEKIT_API_SECRET": SECRET,
}


def _database(role: str) -> str:
    return f"postgresql://{role}:{PASSWORD}@db.example:5432/postgres?sslmode=verify-full"


ENVIRONMENTS: Mapping[type[DeploymentSettings], Mapping[str, str]] = {
    ApiSettings: {
        **_COMMON,
        **_VENDORS,
        "API_DATABASE_URL": _database("resguardo_api"),
        "R2_READER_ACCESS_KEY_ID": "reader",
        "R2_READER_SECRET_ACCESS_KEY": SECRET,
        "ROOT_KEYS": ROOT_KEYS,
    },
    WorkerSettings: {
        **_COMMON,
        **_VENDORS,
        "WORKER_DATABASE_URL": _database("resguardo_worker"),
        "SUPABASE_SECRET_KEY": SECRET,
        "R2_ACCESS_KEY_ID": "writer",
        "R2_SECRET_ACCESS_KEY": SECRET,
        "CERTIFICATE_SIGNING_KEY": SEED,
        "AUDIT_SIGNING_KEY": AUDIT_SEED,
        "ROOT_KEYS": ROOT_KEYS,
    },
    MigrationSettings: {
        **_COMMON,
        "DATABASE_URL": _database("postgres"),
        "API_DATABASE_URL": _database("resguardo_api"),
        "WORKER_DATABASE_URL": _database("resguardo_worker"),
    },
    StaffSettings: {
        **_COMMON,
        "SUPABASE_URL": "https://project.supabase.co",
        "DATABASE_URL": _database("postgres"),
        "SUPABASE_SECRET_KEY": SECRET,
    },
    OwnerSettings: {**_COMMON, "DATABASE_URL": _database("postgres")},
}


def names() -> set[str]:
    """Return the name of every setting's environment variable."""
    return {name.upper() for kind in KINDS for name in kind.model_fields}


def secret_names() -> set[str]:
    """Return the names of all settings whose value is a secret."""
    return {
        name.upper()
        for kind in KINDS
        for name, field in kind.model_fields.items()
        if SecretStr in (field.annotation, *getattr(field.annotation, "__args__", ()))
    }


def set_environment(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    """Set the given environment variables, and remove the variables of all other settings."""
    for name in names():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def worker_settings(monkeypatch: pytest.MonkeyPatch, **changes: str) -> WorkerSettings:
    """Load the worker's settings from a complete set of environment variables, in which `changes` replaces some
    values.
    """
    set_environment(monkeypatch, {**ENVIRONMENTS[WorkerSettings], **changes})
    return load(WorkerSettings)
