"""The settings of each process."""

from typing import Annotated, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import NoDecode
from pydantic_settings import SettingsError as SourceError

from app.settings.base import DeploymentSettings, Network, SettingsError, divided, is_key
from app.settings.database_url import SettingProblem, read_database_url
from app.settings.keys import KeySettings
from app.settings.vendors import (
    BucketRuleSettings,
    BucketSettings,
    BucketWriterSettings,
    BusinessAssociateSettings,
    LiveKitSettings,
    SoundFile,
    SpeechSettings,
    SupabaseSettings,
    WebAppSettings,
)

NO_ISSUER = "none"

_Loaded = TypeVar("_Loaded", bound=DeploymentSettings)


class ApiSettings(
    BusinessAssociateSettings,
    SupabaseSettings,
    BucketSettings,
    LiveKitSettings,
    WebAppSettings,
    KeySettings,
):
    """The settings of `resguardo serve`."""

    api_database_url: SecretStr = Field(
        description="postgresql://resguardo_api:...; the database as the API."
    )
    api_database_connections: int = Field(
        12,
        ge=2,
        le=200,
        description="How many connections to the database one `resguardo serve` opens at most; one of them listens.",
    )
    r2_reader_access_key_id: str = Field(min_length=1, description="The API's bucket key: Object Read only.")
    r2_reader_secret_access_key: SecretStr = Field(
        min_length=1, description="Belongs to R2_READER_ACCESS_KEY_ID."
    )
    supabase_jwt_issuer: str | None = Field(
        None,
        min_length=1,
        description="The `iss` of the project's tokens if it is not <SUPABASE_URL>/auth/v1; `none` for a self-hosted "
        "Auth whose tokens have no `iss`.",
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        (), description="Addresses or networks whose X-Forwarded-For is believed, comma-separated."
    )
    url_lifetime_seconds: int = Field(300, ge=1, le=900, description="How long a download URL is good for.")
    totp_max_age_seconds: int = Field(
        43200, ge=60, description="How old the session's TOTP code may be when a download URL is asked for."
    )
    body_limit_bytes: int = Field(262_144, ge=16_384, le=1_048_576, description="The largest request body.")
    operations_per_person: int = Field(
        4, ge=1, le=64, description="How many operations of one person run at once in a process; more wait."
    )
    guest_operations: int = Field(
        4,
        ge=1,
        le=64,
        description="The same of all callers without a token: guests by invitation, and links to subtitles.",
    )
    requests_per_address: int = Field(
        512,
        ge=8,
        le=65_536,
        description="How many requests of one client address are open at once in a process.",
    )
    r2_price_gb_month: float = Field(
        0.015, ge=0, le=1000, description="For the storage report: US dollars for 10^9 bytes a month."
    )
    r2_price_class_a_million: float = Field(
        4.5, ge=0, le=1000, description="The same for a million writes and listings (class A)."
    )
    r2_price_class_b_million: float = Field(
        0.36, ge=0, le=1000, description="The same for a million reads (class B)."
    )
    r2_prices_as_of: str = Field(
        "2026",
        pattern=r"^[0-9]{4}(-[0-9]{2}){0,2}$",
        description="When these prices were looked up: a year, a month or a day.",
    )

    @property
    def issuer(self) -> str | None:
        """Return the `iss` of the project's tokens, or None if they have none."""
        if self.supabase_jwt_issuer is None:
            return self.auth_url
        return None if self.supabase_jwt_issuer == NO_ISSUER else self.supabase_jwt_issuer

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_proxies(cls, value: object) -> object:
        return divided(value)

    @model_validator(mode="after")
    def _check_database(self) -> Self:
        self._require_database_login("API_DATABASE_URL", self.api_database_url, "resguardo_api")
        return self


class WorkerSettings(
    BusinessAssociateSettings,
    SupabaseSettings,
    BucketWriterSettings,
    BucketRuleSettings,
    LiveKitSettings,
    SpeechSettings,
    KeySettings,
):
    """The settings of `resguardo worker`."""

    worker_database_url: SecretStr = Field(
        description="postgresql://resguardo_worker:...; the same, as the worker."
    )
    worker_database_connections: int = Field(
        12,
        ge=6,
        le=200,
        description="How many connections to the database one `resguardo worker` opens at most; four are the queue's.",
    )
    livekit_sound_file: SoundFile = Field(
        SoundFile.MP4,
        description="The file of a microphone's sound, by the version of the egress service: `mp4` (AAC) up to 1.10; "
        "`ogg` (Opus) for those from 1.11 on whose AAC drifts (docs/sound.md).",
    )
    supabase_secret_key: SecretStr = Field(min_length=1, description="sb_secret_...; bans and invites staff.")
    r2_recorder_access_key_id: str | None = Field(
        None, description="A write-only key for stores other than R2; on R2 one is made for each recording."
    )
    r2_recorder_secret_access_key: SecretStr | None = Field(None, description="Belongs to the one above.")
    s3_recorder_role_arn: str | None = Field(
        None,
        pattern=r"^arn:[a-z0-9-]+:iam::[A-Za-z0-9]*:role/[\w+=,.@/-]{1,128}$",
        description="arn:aws:iam::...:role/...; with S3_ENDPOINT_URL: the role that a key for one object is made from.",
    )
    certificate_signing_key: SecretStr = Field(
        description="The seed that signs certificates; `resguardo certificate new-key` makes one."
    )
    certificate_former_public_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="The public keys of the seeds before it, in base64, comma-separated: their entries count on.",
    )
    backup_retention_days: int = Field(
        35, ge=0, le=3650, description="How long a backup of the database is kept, at the longest."
    )
    worker_concurrency: int = Field(4, ge=1, le=64, description="How many jobs run at once.")
    reconcile_seconds: float = Field(
        20,
        ge=1,
        le=60,
        description="How often LiveKit's list and the bucket are compared with what is known.",
    )
    orphan_quarantine_days: int = Field(
        30, ge=1, le=365, description="How old an object of no recording must be before it is deleted."
    )

    @field_validator("certificate_signing_key")
    @classmethod
    def _check_seed(cls, value: SecretStr) -> SecretStr:
        if not is_key(value.get_secret_value()):
            raise SettingProblem("must be 32 bytes in base64: make one with `resguardo certificate new-key`")
        return value

    @field_validator("certificate_former_public_keys", mode="before")
    @classmethod
    def _split_public_keys(cls, value: object) -> object:
        return divided(value)

    @field_validator("certificate_former_public_keys")
    @classmethod
    def _check_public_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(is_key(key) for key in value):
            raise SettingProblem("must be public keys, each 32 bytes in base64, comma-separated")
        return value

    @model_validator(mode="after")
    def _check_worker(self) -> Self:
        self._require_database_login("WORKER_DATABASE_URL", self.worker_database_url, "resguardo_worker")
        has_key = bool(self.r2_recorder_access_key_id and self.r2_recorder_secret_access_key)
        if self.s3_recorder_role_arn is not None and (has_key or self.is_r2):
            raise SettingProblem(
                "S3_RECORDER_ROLE_ARN: needs S3_ENDPOINT_URL, and goes without R2_RECORDER_ACCESS_KEY_ID"
            )
        if self.r2_endpoint_url is not None and not has_key:
            raise SettingProblem(
                "R2_RECORDER_ACCESS_KEY_ID, R2_RECORDER_SECRET_ACCESS_KEY: needed where R2_ENDPOINT_URL is set"
            )
        if not self.is_r2 and not has_key and self.s3_recorder_role_arn is None:
            raise SettingProblem(
                "S3_RECORDER_ROLE_ARN, or R2_RECORDER_ACCESS_KEY_ID and R2_RECORDER_SECRET_ACCESS_KEY: needed with "
                "S3_ENDPOINT_URL"
            )
        if has_key and self.r2_recorder_access_key_id == self.r2_access_key_id:
            raise SettingProblem(
                "R2_RECORDER_ACCESS_KEY_ID: must not be the worker's key, which reads and deletes every recording"
            )
        return self


class MigrationSettings(DeploymentSettings):
    """The settings of `resguardo migrate`: the owner's URL, and the URLs of the two logins whose passwords it sets."""

    database_url: SecretStr = Field(
        description="The database as its owner (Supabase: postgres); for the owner's commands only."
    )
    api_database_url: SecretStr = Field(description="As above.")
    worker_database_url: SecretStr = Field(description="As above.")
    require_session_mac: bool | None = Field(
        None,
        description="`true`: sessions count only with a MAC of the Custom Access Token hook (docs/sessions.md); "
        "`false`: without one, too. Empty leaves it as it is.",
    )

    @model_validator(mode="after")
    def _check_logins(self) -> Self:
        self._require_database_login("DATABASE_URL", self.database_url, None)
        self._require_database_login("API_DATABASE_URL", self.api_database_url, "resguardo_api")
        self._require_database_login("WORKER_DATABASE_URL", self.worker_database_url, "resguardo_worker")
        return self

    @property
    def login_passwords(self) -> dict[str, SecretStr]:
        """Return the password of each login role, from its URL."""
        urls = {"resguardo_api": self.api_database_url, "resguardo_worker": self.worker_database_url}
        return {
            role: SecretStr(read_database_url(url.get_secret_value()).password or "")
            for role, url in urls.items()
        }


class OwnerSettings(DeploymentSettings):
    """The settings of `resguardo retention`: the owner's URL."""

    database_url: SecretStr = Field(description="As above.")

    @model_validator(mode="after")
    def _check_database(self) -> Self:
        self._require_database_login("DATABASE_URL", self.database_url, None)
        return self


class StaffSettings(SupabaseSettings):
    """The settings of `resguardo staff add`: the owner's URL, and the key that invites."""

    database_url: SecretStr = Field(description="As above.")
    supabase_secret_key: SecretStr = Field(min_length=1, description="As above.")

    @model_validator(mode="after")
    def _check_database(self) -> Self:
        self._require_database_login("DATABASE_URL", self.database_url, None)
        return self


_TOLD_AS_THEY_ARE = frozenset(
    {
        "bool_parsing",
        "bool_type",
        "enum",
        "float_parsing",
        "greater_than_equal",
        "int_from_float",
        "int_parsing",
        "ip_any_network",
        "ip_v4_network",
        "ip_v6_network",
        "less_than_equal",
        "string_pattern_mismatch",
        "string_too_long",
        "string_too_short",
        "too_short",
    }
)
"""The pydantic errors whose text names the rule and nothing of the value (pydantic-core 2.x, errors.rs)."""


def load(kind: type[_Loaded]) -> _Loaded:
    """Read the settings of one process. Raises SettingsError."""
    try:
        return kind()
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    except UnicodeDecodeError:
        raise SettingsError(".env: is not a text file in UTF-8") from None
    except (SourceError, ValueError, OSError):
        raise SettingsError("a setting, or the file .env, cannot be read") from None
    raise SettingsError("\n".join(_line(problem) for problem in problems)) from None


def _line(problem: ErrorDetails) -> str:
    """Return the setting's name and its problem. A library's own text is not used, because it may quote the value."""
    name = "".join(str(part).upper() for part in problem["loc"][:1])
    cause = problem.get("ctx", {}).get("error")
    if problem["type"] == "missing":
        text = "is missing"
    elif problem["type"] in _TOLD_AS_THEY_ARE:
        text = problem["msg"]
    else:
        text = str(cause) if isinstance(cause, SettingProblem) else "is malformed"
    return f"{name}: {text}" if name else text
