"""The quotas of `policies/quotas.toml`: how often a person may make each kind of request in an hour, and how many
tokens language models may use for a doctor in a day. `resguardo migrate` copies them into database tables, and the
database enforces them.
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

_APPLY_BUDGET: Final = (
    "insert into private.language_budget as b (tokens_per_day) values (%s)"
    " on conflict (singleton) do update set tokens_per_day = excluded.tokens_per_day"
    " where b.tokens_per_day <> excluded.tokens_per_day"
)


@dataclass(frozen=True)
class Quotas:
    """The quotas: how many requests of each kind one person may make in one clock hour."""

    urls: int
    playbacks: int
    subtitles: int
    pages: int
    invitations: int
    questions: int
    exports: int
    emergencies: int


@dataclass(frozen=True)
class LanguageBudget:
    """How many tokens (input and output) language models may use for one doctor and day."""

    tokens: int


def load_language_budget(path: Path = QUOTAS_FILE) -> LanguageBudget:
    """Reads the file. Raises InvalidInput (quotas_malformed) if the budget is missing, unknown or not a positive
    integer.
    """
    return LanguageBudget(**_read_table(path, "language_per_doctor_and_day", frozenset({"tokens"})))


def load_quotas(path: Path = QUOTAS_FILE) -> Quotas:
    """Reads the file. Raises InvalidInput (quotas_malformed) if a quota is missing, unknown or not a positive
    integer.
    """
    meters = frozenset(meter.name for meter in fields(Quotas))
    return Quotas(**_read_table(path, "per_person_and_hour", meters))


def _read_table(path: Path, name: str, keys: frozenset[str]) -> dict[str, int]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get(name, {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("quotas_malformed") from error
    if not isinstance(table, dict) or set(table) != keys or not all(map(_is_quota, table.values())):
        raise InvalidInput("quotas_malformed")
    return table


def _is_quota(value: object) -> bool:
    return type(value) is int and 1 <= value <= _MAX


def apply_quotas(owner_url: str, quotas: Quotas) -> None:
    """Writes the quotas into the database, as its owner. The new quotas apply from the next request on."""
    with as_owner(owner_url) as connection:
        for meter, per_hour in asdict(quotas).items():
            connection.execute(_APPLY, (meter, per_hour))


def apply_language_budget(owner_url: str, budget: LanguageBudget) -> None:
    """Writes the budget into the database, as its owner. The new budget applies from the next request on."""
    with as_owner(owner_url) as connection:
        connection.execute(_APPLY_BUDGET, (budget.tokens,))
