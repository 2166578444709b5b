"""The configuration of the stand-in."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Jurisdiction = Literal["default", "eu", "fedramp"]


@dataclass(frozen=True)
class CloudflareConfig:
    """A Cloudflare account with one bucket. The API token `token` may read and write the configuration, and
    `reading_token` may only read it.
    """

    account_id: str
    bucket: str
    token: str = field(repr=False)
    reading_token: str | None = field(default=None, repr=False)
    jurisdiction: Jurisdiction = "default"
    host: str = "127.0.0.1"
    port: int = 9997


def save_config(config: CloudflareConfig, path: Path) -> None:
    """Write the configuration for a child process, readable only by its owner."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json.dumps(asdict(config)))


def load_config(path: Path) -> CloudflareConfig:
    """Read a configuration that `save_config` wrote."""
    return CloudflareConfig(**json.loads(path.read_text()))
