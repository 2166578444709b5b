"""The configuration of the stand-in."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

RecogniserName = Literal["pocketsphinx", "whisper"]


@dataclass(frozen=True)
class OpenAIConfig:
    """One project with one key, and the name of its recogniser."""

    api_key: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 9998
    recogniser: RecogniserName = "pocketsphinx"


def save_config(config: OpenAIConfig, path: Path) -> None:
    """Write the configuration for a child process, readable only by its owner."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json.dumps(asdict(config)))


def load_config(path: Path) -> OpenAIConfig:
    """Read a configuration that `save_config` wrote."""
    return OpenAIConfig(**json.loads(path.read_text()))
