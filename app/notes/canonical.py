"""Formats a value as canonical JSON, so that equal values have equal bytes and one SHA-256. Pure.

The form is that of RFC 8785 (JSON Canonicalization Scheme): UTF-8 without spaces, with the keys of each object in
order. In addition, every text is in Unicode normalization form C. Numbers are whole, because a signed note has no
other numbers and the text of a fraction depends on the library.
"""

import json
import unicodedata
from collections.abc import Mapping
from typing import Final, TypeAlias

MAX_INTEGER: Final = 2**53 - 1
"""The largest whole number that every JSON library reads exactly."""

Json: TypeAlias = "str | int | bool | list[Json] | tuple[Json, ...] | Mapping[str, Json] | None"


def format_canonical(value: Json) -> bytes:
    """Return the value as canonical JSON. Texts are put into normalization form C.

    Raises ValueError for a fraction, a number beyond `MAX_INTEGER`, a lone surrogate, a key that is not ASCII, and a
    value that JSON lacks. No error contains a text of the value.
    """
    text = json.dumps(_normalize(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a text has half of a surrogate pair") from None


def _normalize(value: Json) -> Json:
    match value:
        case None | bool():
            return value
        case int():
            if abs(value) > MAX_INTEGER:
                raise ValueError("a number is too large")
            return value
        case str():
            return unicodedata.normalize("NFC", value)
        case list() | tuple():
            return [_normalize(one) for one in value]
        case Mapping():
            # The keys are ASCII, so that every order of the keys (by UTF-16 in RFC 8785) is the same order
            if not all(isinstance(key, str) and key.isascii() for key in value):
                raise ValueError("a key is not ASCII")
            return {key: _normalize(one) for key, one in value.items()}
    raise ValueError(f"a value is of the type {type(value).__name__}")
