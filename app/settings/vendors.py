"""The settings of each vendor."""

import re
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from app.settings.base import DeploymentSettings, divided, split_server_url, split_url
from app.settings.database_url import SettingProblem
from app.settings.model_ends import require_current_model


class SupabaseSettings(DeploymentSettings):
    """The settings of the Supabase project whose Auth service signs the tokens."""

    supabase_url: str = Field(
        description="The address of the Supabase project: https://<project ref>.supabase.co"
    )

    @property
    def auth_url(self) -> str:
        """Return the address of Supabase Auth."""
        return self.supabase_url.rstrip("/") + "/auth/v1"

    @property
    def jwks_url(self) -> str:
        """Return the address of Supabase Auth's signing keys."""
        return f"{self.auth_url}/.well-known/jwks.json"

    @model_validator(mode="after")
    def _check_supabase(self) -> Self:
        self._require_tls("SUPABASE_URL", self.supabase_url, ("https",))
        return self


class BucketSettings(DeploymentSettings):
    """The private bucket. Each process has its own bucket key, with only the rights that the process needs."""

    r2_account_id: str | None = Field(
        None, pattern=r"^[0-9a-f]{32}$", description="The id of the Cloudflare account."
    )
    r2_bucket_name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="The name of the private bucket."
    )
    r2_jurisdiction: str | None = Field(
        None,
        pattern=r"^(eu|fedramp)$",
        description="The jurisdiction of the bucket, if it has one: `eu` or `fedramp`.",
    )
    r2_endpoint_url: str | None = Field(
        None, description="The address of a stand-in for R2. Allowed only in development."
    )
    s3_endpoint_url: str | None = Field(
        None, description="The address of another S3 server than R2 (AWS, MinIO, versitygw): see docs/s3.md."
    )
    s3_region: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}$",
        description="The bucket's region on the server at S3_ENDPOINT_URL. Required with S3_ENDPOINT_URL.",
    )
    s3_force_path_style: bool = Field(
        True,
        description="The form of an object's address on the server at S3_ENDPOINT_URL. `true`: "
        "https://server/bucket/key. `false`: https://bucket.server/key.",
    )
    r2_public_url: str | None = Field(
        None, description="Must stay unset. A process with this setting does not start."
    )

    @field_validator("r2_public_url")
    @classmethod
    def _refuse_public_url(cls, value: str | None) -> None:
        if value is not None:
            raise SettingProblem(
                "must not be set: a public address would serve recordings to anybody, past consent, expiry and the "
                "audit log; they are reached by short-lived presigned URLs alone"
            )

    @property
    def is_r2(self) -> bool:
        """Return whether the bucket is on Cloudflare R2, or on a test server that replaces R2."""
        return self.s3_endpoint_url is None

    @model_validator(mode="after")
    def _check_s3(self) -> Self:
        if self.s3_endpoint_url is None:
            if self.s3_region is not None or not self.s3_force_path_style:
                raise SettingProblem(
                    "S3_ENDPOINT_URL: is missing, and S3_REGION or S3_FORCE_PATH_STYLE is set"
                )
            if "." in self.r2_bucket_name:
                raise SettingProblem("R2_BUCKET_NAME: a bucket of R2 has no dot in its name")
            return self
        if self.r2_endpoint_url is not None or self.r2_jurisdiction is not None:
            raise SettingProblem("S3_ENDPOINT_URL: not together with R2_ENDPOINT_URL or R2_JURISDICTION")
        if self.s3_region is None:
            raise SettingProblem("S3_REGION: is needed with S3_ENDPOINT_URL")
        self._require_tls("S3_ENDPOINT_URL", self.s3_endpoint_url, ("https",))
        self._require_host(self.s3_endpoint_url)
        return self

    def _require_host(self, url: str) -> None:
        host = split_server_url("S3_ENDPOINT_URL", url).hostname or ""
        if self.s3_force_path_style:
            return
        if "." in self.r2_bucket_name:
            raise SettingProblem(
                "S3_FORCE_PATH_STYLE: must be true for a bucket with a dot in its name: no certificate covers "
                "bucket.server then"
            )
        if host.startswith(f"{self.r2_bucket_name}."):
            raise SettingProblem(
                "S3_ENDPOINT_URL: must not begin with the bucket's name, which is put before it"
            )

    @model_validator(mode="after")
    def _check_endpoint(self) -> Self:
        if self.r2_endpoint_url is not None and self.is_production:
            raise SettingProblem(
                "R2_ENDPOINT_URL: only in development; production derives it from R2_ACCOUNT_ID"
            )
        if self.r2_endpoint_url is not None:
            self._require_tls("R2_ENDPOINT_URL", self.r2_endpoint_url, ("https",))
        elif self.r2_account_id is None and self.is_r2:
            raise SettingProblem("R2_ACCOUNT_ID: is missing")
        return self


class BucketWriterSettings(BucketSettings):
    """The settings of the bucket, with the key that may write and list. The command `resguardo drill restore` reads
    only these settings.
    """

    r2_access_key_id: str = Field(
        min_length=1, description="The worker's key for the bucket, with the permission Object Read & Write."
    )
    r2_secret_access_key: SecretStr = Field(min_length=1, description="The secret of R2_ACCESS_KEY_ID.")


class WebAppSettings(DeploymentSettings):
    """The web app. Browsers may call the API and the bucket only from the web app's pages."""

    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="The origins of the web app, comma-separated. By default no origin is allowed."
    )

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        return divided(value)

    @field_validator("allowed_origins")
    @classmethod
    def _refuse_any_origin(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any("*" in origin or split_url("ALLOWED_ORIGINS", origin).path for origin in value):
            raise SettingProblem("must name origins (https://app.example.org), without path or wildcard")
        return value


class BucketRuleSettings(BucketSettings, WebAppSettings):
    """The settings for managing the bucket's rules: the keys that read and write the rules, and the public
    addresses at which nobody may get the bucket's objects.
    """

    cloudflare_api_token: SecretStr | None = Field(
        None,
        description="A token of Cloudflare's API with the permission Workers R2 Storage Write. The worker reads and "
        "sets the bucket's locks with it, and reads the bucket's public addresses.",
    )
    cloudflare_api_url: str | None = Field(
        None, description="Another address of Cloudflare's API. Allowed only in development."
    )
    r2_admin_access_key_id: str | None = Field(
        None,
        description="A key for the lifecycle and CORS rules of the bucket, with the permission Admin Read only. To "
        "apply the rules, it needs Admin Read & Write.",
    )
    r2_admin_secret_access_key: SecretStr | None = Field(
        None, description="The secret of R2_ADMIN_ACCESS_KEY_ID."
    )
    former_public_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="The addresses at which the bucket was ever public, comma-separated. The hourly check reports "
        "each address that still serves the bucket.",
    )

    @field_validator("former_public_urls", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        return divided(value)

    @model_validator(mode="after")
    def _check_bucket_rules(self) -> Self:
        for url in self.former_public_urls:
            self._require_tls("FORMER_PUBLIC_URLS", url, ("https", "http"))
        if (self.r2_admin_access_key_id is None) != (self.r2_admin_secret_access_key is None):
            raise SettingProblem("R2_ADMIN_ACCESS_KEY_ID, R2_ADMIN_SECRET_ACCESS_KEY: both or neither")
        if self.cloudflare_api_token is not None and not self.is_r2:
            raise SettingProblem(
                "CLOUDFLARE_API_TOKEN: not together with S3_ENDPOINT_URL: Cloudflare locks buckets of R2 alone"
            )
        if self.cloudflare_api_token is not None and self.r2_account_id is None:
            raise SettingProblem("R2_ACCOUNT_ID: is needed where CLOUDFLARE_API_TOKEN is set")
        if self.cloudflare_api_url is not None and self.is_production:
            raise SettingProblem("CLOUDFLARE_API_URL: only in development")
        if self.cloudflare_api_url is not None:
            self._require_tls("CLOUDFLARE_API_URL", self.cloudflare_api_url, ("https",))
        return self


class LiveKitSettings(DeploymentSettings):
    """The settings of the LiveKit project, which provides rooms, egress and webhooks."""

    livekit_url: str = Field(
        description="The address of LiveKit: wss://<project>.livekit.cloud, or the address of your own server."
    )
    livekit_api_key: str = Field(
        min_length=1,
        description="The API key of the LiveKit project. LiveKit also signs its webhooks with this key.",
    )
    livekit_api_secret: SecretStr = Field(min_length=32, description="The secret of LIVEKIT_API_KEY.")
    livekit_egress_routes: bool = Field(
        False,
        description="`true`: one file has the doctor's sound on the left channel and the patient's on the right one. "
        "This requires egress 1.14 or later, and Resguardo then refuses to record a consultation with a "
        "guest. `false`: each microphone has a file of its own.",
    )

    @model_validator(mode="after")
    def _check_livekit(self) -> Self:
        self._require_tls("LIVEKIT_URL", self.livekit_url, ("wss", "https"))
        return self


class SoundFile(StrEnum):
    """The file type of a microphone recording."""

    MP4 = "mp4"
    OGG = "ogg"


class OpenAISettings(DeploymentSettings):
    """The settings of the OpenAI-compatible service that transcribes recordings."""

    openai_api_key: SecretStr | None = Field(
        None,
        min_length=1,
        description="The key of the speech service. Without this key the worker transcribes no recording.",
    )
    openai_base_url: str | None = Field(
        None, description="The address of another OpenAI-compatible speech service."
    )

    @field_validator("openai_api_key")
    @classmethod
    def _require_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise SettingProblem("must be visible ASCII characters without spaces: it is sent in a header")
        return value

    @model_validator(mode="after")
    def _check_openai(self) -> Self:
        if self.openai_base_url is not None:
            self._require_service("OPENAI_BASE_URL", self.openai_base_url)
        return self

    def _require_service(self, name: str, url: str) -> None:
        self._require_tls(name, url, ("https",))
        parts = split_url(name, url)
        if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            raise SettingProblem(f"{name}: is a host and a path, without credentials, query or fragment")


class SpeechApi(StrEnum):
    """What a speech model returns: text alone, text with times, or text with times and speakers."""

    TEXT = "text"
    VERBOSE_JSON = "verbose_json"
    DIARIZED_JSON = "diarized_json"


DEFAULT_SPEECH_MODEL: Final = "gpt-transcribe"
"""OpenAI's model for text. OpenAI has published no end of it (openai 3.57, `AudioModel`, checked 2026-11-30)."""


class SpeechSettings(OpenAISettings):
    """The settings of transcription."""

    speech_api: SpeechApi = Field(
        SpeechApi.TEXT,
        description="The format of the speech model's answers: `text`, `verbose_json` or `diarized_json`.",
    )
    whisper_model: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="The speech model. The default for SPEECH_API=text is gpt-transcribe. Other formats have no "
        "default, because OpenAI ends whisper-1 and gpt-4o-transcribe-diarize on 2027-02-26.",
    )
    speech_timeout_seconds: float = Field(
        300,
        ge=1,
        le=1800,
        description="The maximum duration of one request to the speech service, including the upload of the sound.",
    )

    speech_uncertain_logprob: float = Field(
        -0.95,
        ge=-100,
        le=0,
        description="A turn is marked as uncertain if its mean log probability is below this value. -100 marks no "
        "turn for this reason.",
    )

    @property
    def speech_model(self) -> str:
        """Return the name of the speech model that transcribes recordings."""
        return self.whisper_model or DEFAULT_SPEECH_MODEL

    @model_validator(mode="after")
    def _check_speech_model(self) -> Self:
        if self.whisper_model is None and self.speech_api is not SpeechApi.TEXT:
            raise SettingProblem(f"WHISPER_MODEL: is needed with SPEECH_API={self.speech_api}")
        require_current_model("WHISPER_MODEL", self.speech_model, self.openai_base_url)
        return self
