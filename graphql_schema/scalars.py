"""The scalars that GraphQL lacks, and the conversion of ids."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final, NewType
from urllib.parse import urlsplit
from uuid import UUID

import strawberry
from strawberry.types.scalar import ScalarDefinition

from app.errors import InvalidInput

MAX_BIG_INT: Final = 2**53 - 1
"""The largest whole number that JavaScript and every JSON parser read exactly (RFC 8259, section 6)."""

_DATE_TIME: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_SCHEMES: Final = frozenset({"http", "https", "ws", "wss"})

BigInt = NewType("BigInt", int)
Url = NewType("Url", str)


def _whole_number(value: object) -> int:
    """Return a whole number of at most `MAX_BIG_INT`. A float without a fraction, such as `5e3`, is accepted. Raises
    ValueError for any other value, including text.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_BIG_INT:
        raise ValueError("not a whole number of at most 53 bits")
    return value


def _parse_date_time(value: object) -> datetime:
    """Return the moment that an RFC 3339 text names. Raises ValueError for any other value, such as a time without
    an offset.
    """
    if not isinstance(value, str) or _DATE_TIME.fullmatch(value) is None:
        raise ValueError("not a date and time of RFC 3339 with an offset")
    return datetime.fromisoformat(value.upper())


def _write_date_time(value: object) -> str:
    """Return a moment as RFC 3339 text in UTC. The moment is a datetime with a time zone, or the text of a
    timestamp in a JSON value of Postgres. Raises ValueError for any other value.
    """
    moment = value if isinstance(value, datetime) else _parse_date_time(value)
    if moment.tzinfo is None:
        raise ValueError("not a moment")
    return moment.astimezone(UTC).isoformat()


def _parse_date(value: object) -> date:
    """Return the day that a full-date of RFC 3339 names. Raises ValueError for any other value."""
    if not isinstance(value, str) or _DATE.fullmatch(value) is None:
        raise ValueError("not a date of RFC 3339")
    return date.fromisoformat(value)


def _write_date(value: object) -> str:
    """Return a day as a full-date of RFC 3339. The day is a date, or the text of a date in a JSON value of Postgres.
    Raises ValueError for any other value.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    return _parse_date(value).isoformat()


def _absolute_url(value: object) -> str:
    """Return an absolute URL. Raises ValueError for any other value. The error does not contain the URL."""
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        parts = None
    if not isinstance(value, str) or parts is None or parts.scheme not in _SCHEMES or not parts.netloc:
        raise ValueError("not an absolute URL")
    return value


SCALARS: Final[Mapping[object, ScalarDefinition]] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description=(
            "A BigInt is a whole number from -9007199254740991 to 9007199254740991 (2^53 - 1), such as a size "
            "in bytes. The API writes it as a JSON number, which JavaScript reads exactly. As an input, it is "
            "a number without a fraction: the API refuses `1.9`, `true` and every text."
        ),
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259#section-6",
        serialize=_whole_number,
        parse_value=_whole_number,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description=(
            "A DateTime is a date and a time of day with an offset from UTC, such as `2026-11-21T15:00:00Z`. "
            "The API writes every DateTime in UTC with at most six fractional digits. As an input, a DateTime "
            "may have any offset, and the API refuses a time without an offset."
        ),
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339#section-5.6",
        serialize=_write_date_time,
        parse_value=_parse_date_time,
    ),
    date: strawberry.scalar(
        name="Date",
        description="A Date is a day of the calendar without a time of day, such as `2026-11-21`.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339#section-5.6",
        serialize=_write_date,
        parse_value=_parse_date,
    ),
    Url: strawberry.scalar(
        name="URL",
        description=(
            "A URL is an absolute address with the scheme `https` or `wss`, or in development `http` or `ws`. "
            "A client uses the URL as it is and does not build parts of it."
        ),
        specified_by_url="https://url.spec.whatwg.org/",
        serialize=_absolute_url,
        parse_value=_absolute_url,
    ),
}
"""The scalars of the schema by their Python types, for Strawberry's configuration."""


def parse_id(value: strawberry.ID) -> UUID:
    """Return the UUID that a GraphQL id represents. Raises InvalidInput (bad_id)."""
    if _UUID.fullmatch(value) is None:
        raise InvalidInput("bad_id")
    return UUID(value)


def parse_optional_id(value: strawberry.ID | None) -> UUID | None:
    """Return the UUID that a GraphQL id represents, or None for None."""
    return None if value is None else parse_id(value)


def to_id(value: UUID) -> strawberry.ID:
    """Return the GraphQL id that represents a UUID."""
    return strawberry.ID(str(value))


def to_optional_id(value: UUID | None) -> strawberry.ID | None:
    """Return the GraphQL id that represents a UUID, or None for None."""
    return None if value is None else to_id(value)


def big(value: int | None) -> BigInt | None:
    """Return a whole number as a BigInt, or None for None."""
    return None if value is None else BigInt(value)
