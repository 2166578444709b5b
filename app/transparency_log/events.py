"""The canonical form of an audit event, version 1, and the log entry that commits to it.

The canonical form is the RFC 8785 JSON of the row: every column except SALT_COLUMN and VERSION_COLUMN, by its name.
The salt stays outside, so that nobody can guess a deleted event from its leaf hash.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from typing import Final
from uuid import UUID

import rfc8785

from app.transparency_log.errors import EventError

CANONICAL_VERSION: Final = 1
SALT_COLUMN: Final = "salt"
VERSION_COLUMN: Final = "canonical_version"
BIGINT_COLUMNS: Final = frozenset({"byte_count"})
"""The columns with the type bigint. Their numbers are decimal text, because RFC 8785 numbers end at 2^53."""

ADDRESS_COLUMNS: Final = frozenset({"address"})
"""The columns with the type inet."""

SALT_BYTES: Final = 16
_LARGEST_NUMBER: Final = 2**53 - 1


def format_canonical_event(row: Mapping[str, object]) -> bytes:
    """Return the canonical form of a row of audit.events. The values have the types that psycopg reads. An address
    may be text, too. Raises EventError for a value of another type.
    """
    columns = {name: _column(name, value) for name, value in row.items() if name not in _OUTSIDE}
    try:
        return rfc8785.dumps(columns)
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError):
        raise EventError("the canonical form cannot represent the row") from None


def compute_entry(salt: bytes, canonical: bytes) -> bytes:
    """Return the log entry: the SHA-256 of the salt and the canonical form. The tree's leaf hash is `leaf_hash` of
    this entry.
    """
    if len(salt) != SALT_BYTES:
        raise EventError("the salt does not have 16 bytes")
    return sha256(salt + canonical).digest()


_OUTSIDE: Final = frozenset({SALT_COLUMN, VERSION_COLUMN})
_Json = None | bool | int | float | str | list["_Json"] | dict[str, "_Json"]


def _column(name: str, value: object) -> _Json:
    if value is None:
        return None
    if name in BIGINT_COLUMNS and isinstance(value, int):
        return str(value)
    if name in ADDRESS_COLUMNS:
        return _format_address(value)
    return _json(value)


def _json(value: object) -> _Json:
    """Return the JSON value of a column or of a part of it. A number that RFC 8785 cannot represent becomes text."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if abs(value) <= _LARGEST_NUMBER else str(value)
        case float():
            return value if abs(value) < float("inf") else str(value)
        case UUID():
            return str(value)
        case datetime():
            return _format_time(value)
        case Mapping():
            return {str(name): _json(one) for name, one in value.items()}
        case Sequence() if not isinstance(value, (bytes, bytearray, memoryview)):
            return [_json(one) for one in value]
        case _:
            raise EventError("the canonical form cannot represent the row")


def _format_time(value: datetime) -> str:
    if value.tzinfo is None:
        raise EventError("a time of the row has no time zone")
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _format_address(value: object) -> str:
    """Return the host without its netmask, as Postgres's function `host` does. Python's text of an IPv4 address inside
    IPv6 depends on the version of Python.
    """
    if not isinstance(value, (str, IPv4Address, IPv4Interface, IPv6Address, IPv6Interface)):
        raise EventError("the canonical form cannot represent the row")
    try:
        host = ip_interface(str(value)).ip
    except ValueError:
        raise EventError("the canonical form cannot represent the row") from None
    if isinstance(host, IPv6Address):
        if host.ipv4_mapped:
            return f"::ffff:{host.ipv4_mapped}"
        if 0xFFFF < int(host) < 2**32:
            return f"::{IPv4Address(int(host))}"
    return str(host)
