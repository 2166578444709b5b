"""The settings of each process."""

from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import NoDecode
from pydantic_settings import SettingsError as SourceError

from app.settings.audit import AuditPublishingSettings, AuditSealingSettings
from app.settings.base import DeploymentSettings, Network, SettingsError, divided, is_key
from app.settings.database_url import SettingProblem, read_database_url
from app.settings.keys import KeySettings
from app.settings.language import LanguageSettings
from app.settings.outgoing_webhooks import OutgoingWebhookSettings
from app.settings.vendors import (
    BucketRuleSettings,
    BucketSettings,
    BucketWriterSettings,
    LiveKitSettings,
    SoundFile,
    SpeechSettings,
    SupabaseSettings,
    WebAppSettings,
)

NO_ISSUER = "none"

_Loaded = TypeVar("_Loaded", bound=DeploymentSettings)


class ApiSettings(
    SupabaseSettings,
    BucketSettings,
    LiveKitSettings,
    WebAppSettings,
    LanguageSettings,
    KeySettings,
):
    """The settings of `resguardo serve`."""

    api_database_url: SecretStr = Field(
        description="The database URL of the API's login: postgresql://resguardo_api:..."
    )
    api_database_connections: int = Field(
        12,
        ge=2,
        le=200,
        description="The maximum number of database connections of one `resguardo serve`. One of them listens for "
        "changes of recordings.",
    )
    r2_reader_access_key_id: str = Field(
        min_length=1, description="The API's key for the bucket, with the permission Object Read only."
    )
    r2_reader_secret_access_key: SecretStr = Field(
        min_length=1, description="The secret of R2_READER_ACCESS_KEY_ID."
    )
    supabase_jwt_issuer: str | None = Field(
        None,
        min_length=1,
        description="The `iss` of the project's tokens, if it is not <SUPABASE_URL>/auth/v1. `none`: the tokens of a "
        "self-hosted Auth have no `iss`.",
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="The addresses or networks of your proxies, comma-separated. The API believes X-Forwarded-For "
        "only if one of them sends it.",
    )
    url_lifetime_seconds: int = Field(
        300, ge=1, le=900, description="The number of seconds for which a download URL is valid."
    )
    totp_max_age_seconds: int = Field(
        43200,
        ge=60,
        description="The maximum age of the session's newest TOTP code when a person asks for a download URL.",
    )
    body_limit_bytes: int = Field(
        262_144, ge=16_384, le=1_048_576, description="The maximum size of a request body."
    )
    operations_per_person: int = Field(
        4,
        ge=1,
        le=64,
        description="The maximum number of operations of one person that a process runs at once. Further operations "
        "wait.",
    )
    guest_operations: int = Field(
        4,
        ge=1,
        le=64,
        description="The maximum number of operations without a token that a process runs at once: those of guests "
        "with an invitation, and of subtitle and thumbnail links.",
    )
    requests_per_address: int = Field(
        512,
        ge=8,
        le=65_536,
        description="The maximum number of open requests of one client address in a process.",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description=(
            "The address at which `resguardo serve` answers `GET /metrics`. The metrics need no token. If this is not "
            "a loopback address, everyone who reaches the address can read the metrics."
        ),
    )
    metrics_port: int = Field(
        9464,
        ge=0,
        le=65_535,
        description="The port of METRICS_HOST. 0: no metrics. Two API processes on one machine need two ports.",
    )
    r2_price_gb_month: float = Field(
        0.015,
        ge=0,
        le=1000,
        description="For the storage report: the price of 10^9 stored bytes for a month, in US dollars.",
    )
    r2_price_class_a_million: float = Field(
        4.5,
        ge=0,
        le=1000,
        description="For the storage report: the price of a million writes and listings (class A), in US dollars.",
    )
    r2_price_class_b_million: float = Field(
        0.36,
        ge=0,
        le=1000,
        description="For the storage report: the price of a million reads (class B), in US dollars.",
    )
    r2_prices_as_of: str = Field(
        "2026",
        pattern=r"^[0-9]{4}(-[0-9]{2}){0,2}$",
        description="The date on which somebody looked up these prices of R2: a year, a month or a day.",
    )
    livekit_price_egress_minute: float = Field(
        0.01,
        ge=0,
        le=1000,
        description="For the cost report: the price of a minute of egress, in US dollars.",
    )
    speech_price_minute: float = Field(
        0.006,
        ge=0,
        le=1000,
        description="For the cost report: the price of a minute of transcribed sound, in US dollars.",
    )
    language_price_input_million: float = Field(
        10,
        ge=0,
        le=100_000,
        description="For the cost report: the price of a million tokens that the language model reads, in US dollars.",
    )
    language_price_cached_million: float = Field(
        10,
        ge=0,
        le=100_000,
        description="For the cost report: the price of a million tokens that the language model reads from its prompt "
        "cache, in US dollars.",
    )
    language_price_output_million: float = Field(
        10,
        ge=0,
        le=100_000,
        description="For the cost report: the price of a million tokens that the language model writes, in US dollars.",
    )
    patient_report_names: Literal["role", "name"] = Field(
        "role",
        description=(
            "How a patient's report names the people who looked at the record: `role` (such as `Your doctor`), or "
            "`name` for the name that compliance has published, with the role."
        ),
    )
    prices_as_of: str = Field(
        "2025",
        pattern=r"^[0-9]{4}(-[0-9]{2}){0,2}$",
        description="The date on which somebody looked up these prices of egress, speech and language: a year, a month "
        "or a day.",
    )

    @property
    def issuer(self) -> str | None:
        """Return the `iss` claim of the Supabase project's tokens, or None if these tokens have no such claim."""
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
    SupabaseSettings,
    AuditSealingSettings,
    AuditPublishingSettings,
    BucketWriterSettings,
    BucketRuleSettings,
    LiveKitSettings,
    SpeechSettings,
    LanguageSettings,
    OutgoingWebhookSettings,
    KeySettings,
):
    """The settings of `resguardo worker`."""

    worker_database_url: SecretStr = Field(
        description="The database URL of the worker's login: postgresql://resguardo_worker:..."
    )
    worker_database_connections: int = Field(
        12,
        ge=6,
        le=200,
        description="The maximum number of database connections of one `resguardo worker`. Four of them belong to the "
        "job queue.",
    )
    livekit_sound_file: SoundFile = Field(
        SoundFile.MP4,
        description="The format of a microphone's file. `mp4` (AAC): for an egress service up to 1.10. `ogg` (Opus): "
        "for an egress service from 1.11 on whose AAC drifts (docs/sound.md).",
    )
    thumbnails: bool = Field(
        False,
        description="`true`: the worker makes a thumbnail of each video that becomes READY, except of sensitive "
        "consultations and without a consent to a text that names clips. `false`: it makes none, and those that exist "
        "stay until their recordings are destroyed.",
    )
    supabase_secret_key: SecretStr = Field(
        min_length=1,
        description="The secret key of the Supabase project (sb_secret_...), which invites and bans staff.",
    )
    r2_recorder_access_key_id: str | None = Field(
        None,
        description="The recorder's write-only key for a bucket that is not on R2. On R2 the worker makes a key for "
        "each recording.",
    )
    r2_recorder_secret_access_key: SecretStr | None = Field(
        None, description="The secret of R2_RECORDER_ACCESS_KEY_ID."
    )
    s3_recorder_role_arn: str | None = Field(
        None,
        pattern=r"^arn:[a-z0-9-]+:iam::[A-Za-z0-9]*:role/[\w+=,.@/-]{1,128}$",
        description="With S3_ENDPOINT_URL: the role from which the worker derives a key for one object for the "
        "recorder, such as arn:aws:iam::123456789012:role/recorder.",
    )
    certificate_signing_key: SecretStr = Field(
        description="The seed with which the worker signs certificates. `resguardo certificate new-key` makes one."
    )
    certificate_former_public_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="The public keys of earlier seeds in base64, comma-separated. The worker continues to accept "
        "ledger entries that were signed with those seeds.",
    )
    backup_retention_days: int = Field(
        35,
        ge=0,
        le=3650,
        description="The maximum number of days for which a backup of the database is kept.",
    )
    worker_concurrency: int = Field(
        4, ge=1, le=64, description="The maximum number of jobs that a worker runs at once."
    )
    reconcile_seconds: float = Field(
        20,
        ge=1,
        le=60,
        description="The interval at which the reconciler compares unfinished recordings with LiveKit's list and the "
        "bucket.",
    )
    orphan_quarantine_days: int = Field(
        30,
        ge=1,
        le=365,
        description="The age at which the sweep deletes an object that belongs to no recording.",
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
        audit_key = self.audit_signing_key.get_secret_value()
        if audit_key == self.certificate_signing_key.get_secret_value():
            raise SettingProblem("AUDIT_SIGNING_KEY: must not be CERTIFICATE_SIGNING_KEY")
        if any(audit_key == key.partition(":")[2] for key in self.root_keys.get_secret_value().split(",")):
            raise SettingProblem("AUDIT_SIGNING_KEY: must not be one of ROOT_KEYS")
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
    """The settings of `resguardo migrate`: the database URL of the owner, and the database URLs of the API's and
    the worker's logins, whose passwords the command sets.
    """

    database_url: SecretStr = Field(
        description="The database URL of the owner (Supabase: postgres), for the owner's commands only."
    )
    api_database_url: SecretStr = Field(description="As above.")
    worker_database_url: SecretStr = Field(description="As above.")
    require_session_mac: bool | None = Field(
        None,
        description="`true`: the database accepts a session only with a MAC of the Custom Access Token hook "
        "(docs/sessions.md). `false`: it also accepts a session without a MAC. Empty: `resguardo migrate` "
        "changes nothing.",
    )

    @model_validator(mode="after")
    def _check_logins(self) -> Self:
        self._require_database_login("DATABASE_URL", self.database_url, None)
        self._require_database_login("API_DATABASE_URL", self.api_database_url, "resguardo_api")
        self._require_database_login("WORKER_DATABASE_URL", self.worker_database_url, "resguardo_worker")
        return self

    @property
    def login_passwords(self) -> dict[str, SecretStr]:
        """Return the password of each login role, taken from the role's database URL."""
        urls = {"resguardo_api": self.api_database_url, "resguardo_worker": self.worker_database_url}
        return {
            role: SecretStr(read_database_url(url.get_secret_value()).password or "")
            for role, url in urls.items()
        }


class OwnerSettings(DeploymentSettings):
    """The settings of `resguardo retention` and `resguardo agreements`: the database URL of the owner."""

    database_url: SecretStr = Field(description="As above.")

    @model_validator(mode="after")
    def _check_database(self) -> Self:
        self._require_database_login("DATABASE_URL", self.database_url, None)
        return self


class StaffSettings(SupabaseSettings):
    """The settings of `resguardo staff add`: the database URL of the owner, and the Supabase key that may send
    invitations.
    """

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
    """Return one line with a setting's name and what is wrong with its value. The line does not contain pydantic's
    own error text if that text may quote the setting's value.
    """
    name = "".join(str(part).upper() for part in problem["loc"][:1])
    cause = problem.get("ctx", {}).get("error")
    if problem["type"] == "missing":
        text = "is missing"
    elif problem["type"] in _TOLD_AS_THEY_ARE:
        text = problem["msg"]
    else:
        text = str(cause) if isinstance(cause, SettingProblem) else "is malformed"
    return f"{name}: {text}" if name else text
