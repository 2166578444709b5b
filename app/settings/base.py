"""What every process reads, and how any setting is refused."""

from base64 import b64decode
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Network = IPv4Network | IPv6Network

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


def is_key(value: str) -> bool:
    """Whether it is 32 bytes in base64."""
    try:
        return len(b64decode(value, validate=True)) == 32
    except ValueError:
        return False


def divided(value: object) -> object:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value
