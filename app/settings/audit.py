"""The settings with which the worker seals the audit log and publishes it: the keys, how often, to which second
bucket, and to which witnesses.
"""

from base64 import b64decode
from typing import Annotated, Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from app.settings.base import DeploymentSettings, divided, is_key, split_server_url, split_url
from app.settings.database_url import SettingProblem
from app.settings.vendors import BucketWriterSettings
from app.transparency_log.errors import NoteError
from app.transparency_log.notes import SignatureType, VerifierKey

_SECOND_BUCKET: Final = (
    "audit_bucket_endpoint_url",
    "audit_bucket",
    "audit_bucket_access_key_id",
    "audit_bucket_secret_access_key",
)


class AuditSealingSettings(DeploymentSettings):
    """The keys with which the worker signs the checkpoints of the audit log."""

    audit_signing_key: SecretStr = Field(
        description="The seed of the keys with which the worker signs the checkpoints of the audit log. `resguardo "
        "audit new-key` makes one."
    )
    audit_former_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="The verifier keys (vkeys) that belong to earlier values of AUDIT_SIGNING_KEY, comma-separated. "
        "The worker continues to accept checkpoints that were signed with them.",
    )

    @property
    def former_log_keys(self) -> tuple[VerifierKey, ...]:
        """Return the verifier keys of AUDIT_FORMER_KEYS."""
        return tuple(VerifierKey.parse(key) for key in self.audit_former_keys)

    @property
    def audit_seed(self) -> bytes:
        """Return the seed of AUDIT_SIGNING_KEY."""
        return b64decode(self.audit_signing_key.get_secret_value())

    @field_validator("audit_signing_key")
    @classmethod
    def _check_audit_seed(cls, value: SecretStr) -> SecretStr:
        if not is_key(value.get_secret_value()):
            raise SettingProblem("must be 32 bytes in base64: make one with `resguardo audit new-key`")
        return value

    @field_validator("audit_former_keys", mode="before")
    @classmethod
    def _split_former_keys(cls, value: object) -> object:
        return divided(value)

    @field_validator("audit_former_keys")
    @classmethod
    def _check_former_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for key in value:
                VerifierKey.parse(key)
        except NoteError:
            raise SettingProblem(
                "must be verifier keys, comma-separated, each <name>+<8 hex digits>+<base64>"
            ) from None
        return value


class AuditPublishingSettings(BucketWriterSettings):
    """The settings with which the worker publishes the audit log."""

    audit_publish_seconds: int = Field(
        60,
        ge=60,
        le=3600,
        description="The number of seconds, from 60 to 3600, after which the worker publishes a new checkpoint of the "
        "audit log to the bucket, if the log has grown.",
    )
    audit_witness_url: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="The addresses of witnesses that cosign the checkpoints of the audit log (C2SP tlog-witness), "
        "comma-separated, each without /add-checkpoint.",
    )
    audit_witness_key: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="The verifier keys (vkeys) of these witnesses, comma-separated, in the same order.",
    )
    audit_bucket_endpoint_url: str | None = Field(
        None,
        description="The address of the S3 server of a second bucket, to which the worker publishes the audit log, "
        "too. Use another account than the first bucket's.",
    )
    audit_bucket: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="The name of the second bucket."
    )
    audit_bucket_region: str = Field(
        "auto",
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}$",
        description="The region of the second bucket. The default is that of R2.",
    )
    audit_bucket_access_key_id: str | None = Field(
        None, min_length=1, description="A key that reads and writes the second bucket, and no other bucket."
    )
    audit_bucket_secret_access_key: SecretStr | None = Field(
        None, min_length=1, description="The secret of AUDIT_BUCKET_ACCESS_KEY_ID."
    )

    @property
    def has_second_audit_bucket(self) -> bool:
        """Return whether a second bucket gets the audit log, too."""
        return self.audit_bucket is not None

    @field_validator("audit_witness_url", "audit_witness_key", mode="before")
    @classmethod
    def _split_witnesses(cls, value: object) -> object:
        return divided(value)

    @field_validator("audit_witness_key")
    @classmethod
    def _check_witness_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            keys = [VerifierKey.parse(one) for one in value]
        except NoteError:
            keys = []
        if len(keys) != len(value) or any(key.type is SignatureType.ED25519 for key in keys):
            raise SettingProblem(
                "must be verifier keys for cosignatures, comma-separated, each <name>+<8 hex digits>+<base64>"
            )
        if len({key.name for key in keys}) != len(keys) or len({key.public_key for key in keys}) != len(keys):
            raise SettingProblem("must name each witness once")
        return value

    @model_validator(mode="after")
    def _check_witnesses(self) -> Self:
        if len(self.audit_witness_url) != len(self.audit_witness_key):
            raise SettingProblem("AUDIT_WITNESS_URL, AUDIT_WITNESS_KEY: must have the same number of entries")
        for url in self.audit_witness_url:
            self._require_tls("AUDIT_WITNESS_URL", url, ("https",))
            parts = split_url("AUDIT_WITNESS_URL", url)
            if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
                raise SettingProblem(
                    "AUDIT_WITNESS_URL: is a host and a path, without credentials, query or fragment"
                )
        return self

    @model_validator(mode="after")
    def _check_second_bucket(self) -> Self:
        given = [name for name in _SECOND_BUCKET if getattr(self, name) is not None]
        if not given:
            return self
        if len(given) < len(_SECOND_BUCKET):
            missing = ", ".join(name.upper() for name in _SECOND_BUCKET if name not in given)
            present = ", ".join(name.upper() for name in _SECOND_BUCKET if name in given)
            raise SettingProblem(f"{missing}: needed where {present} is set")
        url = self.audit_bucket_endpoint_url or ""
        self._require_tls("AUDIT_BUCKET_ENDPOINT_URL", url, ("https",))
        host = split_server_url("AUDIT_BUCKET_ENDPOINT_URL", url).hostname or ""
        first = (self.s3_endpoint_url or self.r2_endpoint_url or "").rstrip("/")
        is_on_first_server = url.rstrip("/") == first or (
            not first and host.startswith(f"{self.r2_account_id}.")
        )
        if is_on_first_server and self.audit_bucket == self.r2_bucket_name:
            raise SettingProblem("AUDIT_BUCKET: must not be the first bucket")
        if self.audit_bucket_access_key_id == self.r2_access_key_id:
            raise SettingProblem(
                "AUDIT_BUCKET_ACCESS_KEY_ID: must not be R2_ACCESS_KEY_ID, which reaches the first bucket"
            )
        return self
