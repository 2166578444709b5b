"""JSON in its one canonical form: the JSON Canonicalization Scheme (RFC 8785), for what certificates are made of.

Strings, whole numbers, lists, objects and null alone: floats and booleans are refused, and with them all of the scheme
that is hard to do alike in two languages.
"""

import json
from collections.abc import Mapping, Sequence
from typing import cast

Plain = str | int | None | Sequence["Plain"] | Mapping[str, "Plain"]
"""What there is in a certificate, once it is JSON."""

_MOST_DIGITS = 20
MAX_INTEGER = 2**53 - 1
"""The largest whole number that is the same in every JSON reader (RFC 8785, 3.2.2.3)."""


def canonical(value: Plain) -> bytes:
    """The bytes: keys sorted, no white space, UTF-8. Raises ValueError for what has no canonical form here."""
    _require_plain(value)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def parsed(content: bytes) -> Plain:
    """What canonical JSON says. Raises ValueError unless the bytes are the very ones that `canonical` makes of it."""
    try:
        value = json.loads(content, parse_int=_integer, parse_float=_refused, parse_constant=_refused)
        if canonical(value) != content:
            raise ValueError("not in canonical form")
    except RecursionError:
        raise ValueError("nested too deep") from None
    return cast("Plain", value)


def _require_plain(value: object) -> None:
    if isinstance(value, dict):
        if not all(isinstance(key, str) and key.isascii() for key in value):
            raise ValueError("keys are ASCII, so that every order of them is the same")
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _require_plain(item)
    elif not (value is None or isinstance(value, str) or _is_whole(value)):
        raise ValueError("nothing that has a place here")


def _is_whole(value: object) -> bool:
    return type(value) is int and abs(value) <= MAX_INTEGER


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError("too large")
    return int(digits)


def _refused(_: str) -> float:
    raise ValueError("a float")
