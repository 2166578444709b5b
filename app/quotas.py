"""How much one person may do in an hour, from `policies/quotas.toml`."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from app.packaged import repository_path

QUOTAS_FILE = repository_path("policies/quotas.toml")


@dataclass(frozen=True)
class Quotas:
    """Uses per person and clock hour."""

    urls: int
    subtitles: int
    pages: int
    invitations: int


def load_quotas(path: Path = QUOTAS_FILE) -> Quotas:
    """Reads the file. Raises ValueError where a quota is missing, unknown or not a positive integer."""
    per_hour = tomllib.loads(path.read_text(encoding="utf-8")).get("per_person_and_hour", {})
    if set(per_hour) != {"urls", "subtitles", "pages", "invitations"} or any(
        type(quota) is not int or quota < 1 for quota in per_hour.values()
    ):
        raise ValueError(
            f"{path.name}: [per_person_and_hour] needs urls, subtitles, pages and invitations, "
            "each a positive whole number"
        )
    return Quotas(**per_hour)
