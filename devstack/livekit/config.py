"""What the stand-in is told when it runs as a process of its own."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class LiveKitConfig(BaseModel):
    """Read from a JSON file. Without `media` the room shows one grey second; without `audio` (an Ogg) it is
    silent for as long as it shows something; without `webhook_url` nobody is told. `scale` is as in `Pace`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int
    api_key: str
    api_secret: SecretStr
    webhook_url: str | None = None
    media: Path | None = None
    audio: Path | None = None
    start_delay_seconds: float = 0.2
    record_seconds: float | None = None
    scale: float = Field(default=0.05, ge=0)


def load_config(path: Path) -> LiveKitConfig:
    """Raises OSError or pydantic.ValidationError, which never quotes the secret."""
    return LiveKitConfig.model_validate_json(path.read_bytes())
