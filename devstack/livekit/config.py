"""The configuration of the stand-in as a separate process."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class LiveKitConfig(BaseModel):
    """The configuration, read from a JSON file. Without `media`, the video of every room is one grey second.
    `audio` is the Ogg with the room's sound; without `audio`, the room is silent for the length of its video. If
    there is no `webhook_url`, the stand-in sends no webhooks. `scale` is how long one second of LiveKit's own
    delays takes (see `Pace`).
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
    """Read the configuration. Raises OSError, or pydantic.ValidationError, whose text never contains the secret."""
    return LiveKitConfig.model_validate_json(path.read_bytes())
