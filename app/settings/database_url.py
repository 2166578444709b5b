"""Parses a database URL strictly, because a library could quote a malformed URL, with its password, in an error.

An error about a URL names the problem and never repeats a part of the URL. If the password contains an unencoded
`@` or `/`, a library could take a part of the password for a host or a port, and print it in a connection error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

SHAPE: Final = "must be postgresql://<role>:<password>@<host>:<port>/<database>"
_ENCODE: Final = (
    "must have each special character of the role and the password percent-encoded "
    "(% is %25, @ is %40, / is %2F, ? is %3F, # is %23, [ is %5B, ] is %5D, a space is %20)"
)
_LOCATION = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]+)(?::[0-9]{1,5})?"
_URL = re.compile(
    r"(?:postgres|postgresql)://"
    r"(?:(?P<role>[^:@/?#\[\]]+)(?::(?P<password>[^@/?#\[\]]*))?@)?"
    rf"(?P<hosts>(?:{_LOCATION}(?:,{_LOCATION})*)?)"
    r"/(?P<database>[^@/?#\[\]:]+)"
    r"(?:\?(?P<query>[^#?\[\]@]*))?"
)
_ELSEWHERE: Final = frozenset({"user", "password", "dbname", "port"})
"""The parameters that may only appear before the `?` of the URL."""

_SET_AFTER_CONNECTING: Final = frozenset({"options", "client_encoding"})
_NO_PLACE: Final = frozenset({"service", "servicefile", "replication"})
_LARGEST_PORT: Final = 65_535


class SettingProblem(ValueError):  # noqa: N818 - it is what is wrong, and is collected, not raised at anybody
    """The error for a wrong value of a setting. The text of the problem contains no part of the setting's value."""


@dataclass(frozen=True)
class DatabaseUrl:
    """The parts of a database URL that the settings check. `parameters` are the parameters after the `?` of the
    URL.
    """

    role: str | None
    password: str | None = field(repr=False)
    parameters: Mapping[str, str]


def read_database_url(value: str) -> DatabaseUrl:
    """Return the parts of a database URL, if libpq reads the same parts from it. Raises SettingProblem."""
    if not value.isascii() or not value.isprintable() or " " in value:
        raise SettingProblem(_ENCODE)
    if not re.match(r"postgres(ql)?://", value):
        raise SettingProblem(SHAPE)
    found = _URL.fullmatch(value)
    if found is None:
        raise SettingProblem(f"{SHAPE}, and {_ENCODE}")
    role, password, database = (_decoded(found[name]) for name in ("role", "password", "database"))
    parameters = _parameters(found["query"] or "")
    _check_hosts(found["hosts"], parameters)
    _require_same(value, {"user": role, "password": password or None, "dbname": database})
    return DatabaseUrl(role, password, parameters)


def _decoded(text: str | None) -> str | None:
    if text is None:
        return None
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", text):
        raise SettingProblem(_ENCODE)
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise SettingProblem(f"{_ENCODE}, as UTF-8") from None


def _parameters(query: str) -> dict[str, str]:
    """Return the parameters after the `?` of a database URL. Raises SettingProblem unless every parameter is known
    to libpq, has a value, and appears once.
    """
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    found: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, equals, raw = pair.partition("=")
        if name in _SET_AFTER_CONNECTING:
            raise SettingProblem(
                "must not have `options` or `client_encoding`: a pooler may refuse them, and each process makes its "
                "settings after connecting. A Supabase pooler finds the project by the role: <role>.<project ref>"
            )
        if name not in known or name in _ELSEWHERE | _NO_PLACE or name in found or not equals:
            raise SettingProblem(
                "must have after the `?` only parameters that libpq knows, each once with a value, such as "
                "sslmode=verify-full and sslrootcert=<file>"
            )
        found[name] = _decoded(raw) or ""
    return found


def _check_hosts(hosts: str, parameters: Mapping[str, str]) -> None:
    _decoded(hosts)
    if not hosts and not (parameters.get("host") or parameters.get("hostaddr")):
        raise SettingProblem(SHAPE)
    for port in re.findall(r":([0-9]{1,5})(?:,|$)", hosts):
        if not 1 <= int(port) <= _LARGEST_PORT:
            raise SettingProblem(f"must have a port of 1 to {_LARGEST_PORT}")


def _require_same(value: str, ours: Mapping[str, str | None]) -> None:
    """Raise SettingProblem if libpq reads other values from the URL than this parser, because libpq would then
    connect to another server or as another user.
    """
    try:
        theirs = conninfo_to_dict(value)
    except (psycopg.Error, ValueError):
        raise SettingProblem(f"{SHAPE}, and {_ENCODE}") from None
    if any(theirs.get(name) != part for name, part in ours.items()):
        raise SettingProblem(f"{SHAPE}, and {_ENCODE}")
