"""The configuration of the stand-in."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class GotrueConfig:
    """The configuration. `url` is the project's address for clients, and `<url>/auth/v1` is the `iss` of its
    tokens.

    `database_url` is the database's URL with the login `supabase_auth_admin`. `data_dir` contains the signing key.
    The API gateway accepts the publishable and the secret key in the header `apikey`. A client may use a refresh
    token again within `reuse_interval_seconds` after its first use. A request that waits for the mail server fails
    after `request_seconds`. The links in mails redirect people to `site_url`. `access_token_hook` is
    `pg-functions://postgres/<schema>/<function>`, as in GOTRUE_HOOK_CUSTOM_ACCESS_TOKEN_URI, and so are `password_hook`
    and `second_factor_hook`. `audit_entries` is false if GOTRUE_AUDIT_LOG_DISABLE_POSTGRES is true.
    """

    url: str
    database_url: str = field(repr=False)
    publishable_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 9999
    token_seconds: int = 3600
    reuse_interval_seconds: int = 10
    challenge_seconds: int = 300
    factor_seconds: int = 300
    mail_link_seconds: int = 86400
    mail_pause_seconds: int = 60
    mails_per_hour: int = 1000
    request_seconds: float = 10
    site_url: str = "http://127.0.0.1:3000"
    access_token_hook: str | None = None
    password_hook: str | None = None
    second_factor_hook: str | None = None
    audit_entries: bool = True

    @property
    def issuer(self) -> str:
        """Return the `iss` of every token."""
        return f"{self.url.rstrip('/')}/auth/v1"


def save_config(config: GotrueConfig, path: Path) -> None:
    """Write the configuration for a child process, readable only by its owner."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json.dumps({**asdict(config), "data_dir": str(config.data_dir)}))


def load_config(path: Path) -> GotrueConfig:
    """Read a configuration that `save_config` wrote."""
    values = json.loads(path.read_text())
    return GotrueConfig(**{**values, "data_dir": Path(values["data_dir"])})
