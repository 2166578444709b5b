"""Parses JSON strictly: only UTF-8, complete characters, and nesting within Python's recursion limit are accepted.

A number that is too large for Python's `float` or `int` becomes infinity, which every scalar of the schema refuses.
A client therefore gets the same error for such a number as for any other wrong value.
"""

import json

_MAX_DIGITS = 400
"""More digits than the largest `float` has, and fewer than `int` accepts (4,300)."""


def decode_json(body: bytes) -> object:
    """Return the value of a JSON document. Raises ValueError if the document is not strict JSON."""
    try:
        text = body.decode("utf-8")
        decoded: object = json.loads(text, parse_constant=_refuse_constant, parse_int=_whole_number)
        if "\\u" in text:
            _require_unicode(decoded)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return decoded


def _require_unicode(decoded: object) -> None:
    """Raise UnicodeEncodeError if a text in the JSON value contains half a surrogate pair. Postgres does not accept
    half a surrogate pair in a text.
    """
    json.dumps(decoded, ensure_ascii=False).encode("utf-8")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _whole_number(text: str) -> int | float:
    return int(text) if len(text) <= _MAX_DIGITS else float(text)
