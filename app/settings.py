"""What is configured: read once from the environment (and `.env`), frozen.

Each process reads only what it needs: the API has no secret of the worker's, the worker none of the owner's. A missing
or malformed setting stops the start with its name and never its value.
"""

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Self, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Network = IPv4Network | IPv6Network
_Loaded = TypeVar("_Loaded", bound="DeploymentSettings")

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class SettingsError(Exception):
    """Some settings are missing or wrong. The message has a line for each: its name, what is wrong, never its value."""


class Environment(StrEnum):
    """Where a process runs."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class DeploymentSettings(BaseSettings):
    """What every process reads."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    environment: Environment = Field(
        Environment.PRODUCTION,
        description="`production` or `development`, which allows plain HTTP on loopback, introspection and GraphiQL.",
    )
    deployment: str = Field(
        pattern=r"^[a-z][a-z0-9-]{1,38}[a-z0-9]$",
        description="The mark of this practice, borne by its database, its bucket and each of its rooms.",
    )

    @property
    def is_production(self) -> bool:
        """Whether the strict rules hold."""
        return self.environment is Environment.PRODUCTION

    def _require_tls(self, name: str, url: str, schemes: tuple[str, ...]) -> None:
        parts = urlsplit(url)
        if parts.scheme in schemes or (not self.is_production and parts.hostname in LOOPBACK):
            return
        raise ValueError(f"{name}: must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")

    def _require_database_login(self, name: str, url: SecretStr, role: str | None) -> None:
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in ("postgres", "postgresql") or not parts.path.strip("/"):
            raise ValueError(f"{name}: must be postgresql://<role>:<password>@<host>:<port>/<database>")
        if role is not None and (parts.username or "").split(".")[0] != role:
            raise ValueError(f"{name}: must log in as {role}")
        if role is not None and not parts.password:
            raise ValueError(f"{name}: must have a password")
        sslmode = parse_qs(parts.query).get("sslmode", [""])[0]
        if self.is_production and sslmode not in ("require", "verify-ca", "verify-full"):
            raise ValueError(f"{name}: must have sslmode=verify-full (or require)")


class BusinessAssociateSettings(DeploymentSettings):
    """HIPAA: no PHI reaches a vendor before its business associate agreement is signed."""

    baa_supabase: bool = Field(False, description="`true` once the BAA with Supabase is signed.")
    baa_cloudflare: bool = Field(False, description="`true` once the BAA with Cloudflare is signed.")
    baa_livekit: bool = Field(
        False, description="`true` once the BAA with LiveKit is signed, or it is self-hosted."
    )
    baa_openai: bool = Field(False, description="`true` once the BAA with OpenAI is signed.")

    @model_validator(mode="after")
    def _require_agreements(self) -> Self:
        missing = [
            vendor
            for vendor in ("supabase", "cloudflare", "livekit", "openai")
            if self.is_production and not getattr(self, f"baa_{vendor}")
        ]
        if missing:
            names = ", ".join(f"BAA_{vendor.upper()}" for vendor in missing)
            raise ValueError(
                f"{names}: production needs this vendor's business associate agreement affirmed (true)"
            )
        return self


class SupabaseSettings(DeploymentSettings):
    """The project whose Auth signs the tokens."""

    supabase_url: str = Field(description="https://<project ref>.supabase.co")

    @property
    def issuer(self) -> str:
        """The `iss` of the project's tokens."""
        return self.supabase_url.rstrip("/") + "/auth/v1"

    @model_validator(mode="after")
    def _check_supabase(self) -> Self:
        self._require_tls("SUPABASE_URL", self.supabase_url, ("https",))
        return self


class BucketSettings(DeploymentSettings):
    """The private bucket; keys are per process, each with the rights it needs."""

    r2_account_id: str | None = Field(None, pattern=r"^[0-9a-f]{32}$", description="Cloudflare's account id.")
    r2_bucket_name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", description="The name of the private bucket."
    )
    r2_jurisdiction: str | None = Field(
        None, pattern=r"^(eu|fedramp)$", description="`eu` or `fedramp`, for a bucket bound to one."
    )
    r2_endpoint_url: str | None = Field(None, description="Another S3 server than R2, in development only.")
    r2_public_url: str | None = Field(None, description="Must stay unset; a set one stops the start.")

    @field_validator("r2_public_url")
    @classmethod
    def _refuse_public_url(cls, value: str | None) -> None:
        if value is not None:
            raise ValueError(
                "must not be set: a public address would serve recordings to anybody, past consent, expiry and the "
                "audit log; they are reached by short-lived presigned URLs alone"
            )

    @model_validator(mode="after")
    def _check_endpoint(self) -> Self:
        if self.r2_endpoint_url is not None and self.is_production:
            raise ValueError("R2_ENDPOINT_URL: only in development; production derives it from R2_ACCOUNT_ID")
        if self.r2_endpoint_url is not None:
            self._require_tls("R2_ENDPOINT_URL", self.r2_endpoint_url, ("https",))
        elif self.r2_account_id is None:
            raise ValueError("R2_ACCOUNT_ID: is missing")
        return self


class LiveKitSettings(DeploymentSettings):
    """The LiveKit project: rooms, egress and webhooks."""

    livekit_url: str = Field(description="wss://<project>.livekit.cloud, or a server of one's own.")
    livekit_api_key: str = Field(min_length=1, description="The API key; it also signs the webhooks.")
    livekit_api_secret: SecretStr = Field(min_length=32, description="Belongs to LIVEKIT_API_KEY.")

    @model_validator(mode="after")
    def _check_livekit(self) -> Self:
        self._require_tls("LIVEKIT_URL", self.livekit_url, ("wss", "https"))
        return self


class OpenAISettings(DeploymentSettings):
    """The OpenAI-compatible service that will transcribe and summarise."""

    openai_api_key: SecretStr | None = Field(None, description="Asked for by `resguardo check` only, so far.")
    openai_base_url: str | None = Field(None, description="Another OpenAI-compatible service.")


class ApiSettings(BusinessAssociateSettings, SupabaseSettings, BucketSettings, LiveKitSettings):
    """`resguardo serve`."""

    api_database_url: SecretStr = Field(
        description="postgresql://resguardo_api:...; the database as the API."
    )
    r2_reader_access_key_id: str = Field(min_length=1, description="The API's bucket key: Object Read only.")
    r2_reader_secret_access_key: SecretStr = Field(
        min_length=1, description="Belongs to R2_READER_ACCESS_KEY_ID."
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins of the web app, comma-separated; none by default."
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        (), description="Addresses or networks whose X-Forwarded-For is believed, comma-separated."
    )
    url_lifetime_seconds: int = Field(300, ge=1, le=900, description="How long a download URL is good for.")
    totp_max_age_seconds: int = Field(
        43200, ge=60, description="How old the session's TOTP code may be when a download URL is asked for."
    )
    body_limit_bytes: int = Field(262_144, ge=16_384, le=1_048_576, description="The largest request body.")

    @field_validator("allowed_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value
        )

    @field_validator("allowed_origins")
    @classmethod
    def _refuse_any_origin(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any("*" in origin or urlsplit(origin).path for origin in value):
            raise ValueError("must name origins (https://app.example.org), without path or wildcard")
        return value

    @model_validator(mode="after")
    def _check_database(self) -> Self:
        self._require_database_login("API_DATABASE_URL", self.api_database_url, "resguardo_api")
        return self


class WorkerSettings(
    BusinessAssociateSettings, SupabaseSettings, BucketSettings, LiveKitSettings, OpenAISettings
):
    """`resguardo worker`."""

    worker_database_url: SecretStr = Field(
        description="postgresql://resguardo_worker:...; the same, as the worker."
    )
    supabase_secret_key: SecretStr = Field(min_length=1, description="sb_secret_...; bans and invites staff.")
    r2_access_key_id: str = Field(min_length=1, description="The worker's bucket key: Object Read & Write.")
    r2_secret_access_key: SecretStr = Field(min_length=1, description="Belongs to R2_ACCESS_KEY_ID.")
    r2_recorder_access_key_id: str | None = Field(
        None, description="A write-only key for stores other than R2; on R2 one is made for each recording."
    )
    r2_recorder_secret_access_key: SecretStr | None = Field(None, description="Belongs to the one above.")
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

    @model_validator(mode="after")
    def _check_worker(self) -> Self:
        self._require_database_login("WORKER_DATABASE_URL", self.worker_database_url, "resguardo_worker")
        if self.r2_endpoint_url is not None and not (
            self.r2_recorder_access_key_id and self.r2_recorder_secret_access_key
        ):
            raise ValueError(
                "R2_RECORDER_ACCESS_KEY_ID, R2_RECORDER_SECRET_ACCESS_KEY: needed where R2_ENDPOINT_URL is set"
            )
        return self


class MigrationSettings(DeploymentSettings):
    """`resguardo migrate`: the owner's login, and the two whose passwords it sets."""

    database_url: SecretStr = Field(
        description="The database as its owner (Supabase: postgres); for these two commands only."
    )
    api_database_url: SecretStr = Field(description="As above.")
    worker_database_url: SecretStr = Field(description="As above.")

    @model_validator(mode="after")
    def _check_logins(self) -> Self:
        self._require_database_login("DATABASE_URL", self.database_url, None)
        self._require_database_login("API_DATABASE_URL", self.api_database_url, "resguardo_api")
        self._require_database_login("WORKER_DATABASE_URL", self.worker_database_url, "resguardo_worker")
        return self

    @property
    def login_passwords(self) -> dict[str, SecretStr]:
        """The password of each login role, as its URL has it."""
        urls = {"resguardo_api": self.api_database_url, "resguardo_worker": self.worker_database_url}
        return {
            role: SecretStr(unquote(urlsplit(url.get_secret_value()).password or ""))
            for role, url in urls.items()
        }


class StaffSettings(SupabaseSettings):
    """`resguardo staff add`: the owner's login, and the key that invites."""

    database_url: SecretStr = Field(description="As above.")
    supabase_secret_key: SecretStr = Field(min_length=1, description="As above.")

    @model_validator(mode="after")
    def _check_database(self) -> Self:
        self._require_database_login("DATABASE_URL", self.database_url, None)
        return self


def load(kind: type[_Loaded]) -> _Loaded:
    """Reads the settings of one process. Raises SettingsError."""
    try:
        return kind()
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            name = "".join(str(part).upper() for part in problem["loc"][:1])
            text = (
                "is missing" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
            )
            lines.append(f"{name}: {text}" if name else text)
        raise SettingsError("\n".join(lines)) from None
