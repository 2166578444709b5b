"""The settings that every process reads, and the error for wrong settings."""

from base64 import b64decode
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.settings.database_url import DatabaseUrl, SettingProblem, read_database_url

Network = IPv4Network | IPv6Network

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class SettingsError(Exception):
    """Raised if settings are missing or wrong. The message has one line for each wrong setting: the setting's name
    and the problem, never the value.
    """


class Environment(StrEnum):
    """The environment in which a process runs: production, or development."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class DeploymentSettings(BaseSettings):
    """The settings that every process reads."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    environment: Environment = Field(
        Environment.PRODUCTION,
        description="`production` or `development`. Development allows plain HTTP on loopback, introspection and "
        "GraphiQL.",
    )
    deployment: str = Field(
        pattern=r"^[a-z][a-z0-9-]{1,38}[a-z0-9]$",
        description="The name of this deployment. The database and the bucket are marked with it, and the name of "
        "each LiveKit room begins with it.",
    )

    @property
    def is_production(self) -> bool:
        """Return whether the strict rules for a production environment apply."""
        return self.environment is Environment.PRODUCTION

    def _require_tls(self, name: str, url: str, schemes: tuple[str, ...]) -> None:
        parts = split_url(name, url)
        if parts.scheme in schemes or (not self.is_production and parts.hostname in LOOPBACK):
            return
        raise SettingProblem(f"{name}: must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")

    def _require_database_login(self, name: str, url: SecretStr, role: str | None) -> None:
        try:
            read = read_database_url(url.get_secret_value())
        except SettingProblem as problem:
            raise SettingProblem(f"{name}: {problem}") from None
        self._require_role(name, read, role)
        if self.is_production and read.parameters.get("sslmode") not in (
            "require",
            "verify-ca",
            "verify-full",
        ):
            raise SettingProblem(f"{name}: must have sslmode=verify-full (or require)")

    @staticmethod
    def _require_role(name: str, read: DatabaseUrl, role: str | None) -> None:
        """Raise an error unless the login in a database URL is the expected role. For a pooler, the login in the
        URL may also consist of the role, a dot and the Supabase project's name.
        """
        if role is not None and (read.role or "").split(".")[0] != role:
            raise SettingProblem(f"{name}: must log in as {role}")
        if role is not None and not read.password:
            raise SettingProblem(f"{name}: must have a password")


def check_database_url(name: str, url: str | None) -> str | None:
    """Check a database URL. Return the URL unchanged, or None if it is empty. Raises SettingsError. The
    SettingsError contains no part of the URL.
    """
    try:
        return url if url and read_database_url(url) else None
    except SettingProblem as problem:
        raise SettingsError(f"{name}: {problem}") from None


def split_url(name: str, url: str) -> SplitResult:
    """Split a URL into its parts. If the URL is malformed, the function raises SettingProblem instead of the
    library's own error, which quotes the URL.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise SettingProblem(f"{name}: is not a URL") from None
    return parts


def split_server_url(name: str, url: str) -> SplitResult:
    """Split the URL of an S3 server into its parts. Raises SettingProblem unless the URL is a host alone."""
    parts = split_url(name, url)
    if not parts.hostname or "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise SettingProblem(f"{name}: is a host alone, without bucket, path, credentials or query")
    return parts


def is_key(value: str) -> bool:
    """Return whether the value is 32 bytes in base64."""
    try:
        return len(b64decode(value, validate=True)) == 32
    except ValueError:
        return False


def divided(value: object) -> object:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value
