"""The quotas of `policies/quotas.toml`: how often a person may make each kind of request in an hour. `resguardo
migrate` copies the quotas into a database table, and the database enforces the quotas in this table.
"""

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from app.errors import InvalidInput
from app.packaged import repository_path
from app.postgres.owner import as_owner

QUOTAS_FILE: Final = repository_path("policies/quotas.toml")

_MAX: Final = 2**31 - 1  # of Postgres's integer
_APPLY: Final = (
    "insert into private.quotas as q (meter, per_hour) values (%s, %s)"
    " on conflict (meter) do update set per_hour = excluded.per_hour where q.per_hour <> excluded.per_hour"
)


@dataclass(frozen=True)
class Quotas:
    """The quotas: how many requests of each kind one person may make in one clock hour."""

    urls: int
    subtitles: int
    pages: int
    invitations: int


def load_quotas(path: Path = QUOTAS_FILE) -> Quotas:
    """Reads the file. Raises InvalidInput (quotas_malformed) if a quota is missing, unknown or not a positive
    integer.
    """
    try:
        per_hour = tomllib.loads(path.read_text(encoding="utf-8")).get("per_person_and_hour", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("quotas_malformed") from error
    if (
        not isinstance(per_hour, dict)
        or set(per_hour) != {meter.name for meter in fields(Quotas)}
        or not all(map(_is_quota, per_hour.values()))
    ):
        raise InvalidInput("quotas_malformed")
    return Quotas(**per_hour)


def _is_quota(value: object) -> bool:
    return type(value) is int and 1 <= value <= _MAX


def apply_quotas(owner_url: str, quotas: Quotas) -> None:
    """Writes the quotas into the database, as its owner. The new quotas apply from the next request on."""
    with as_owner(owner_url) as connection:
        for meter, per_hour in asdict(quotas).items():
            connection.execute(_APPLY, (meter, per_hour))
