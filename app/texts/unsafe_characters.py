"""Cleans text that comes from outside. The result is one line of plain text in NFC, with single spaces, and without
characters that control a display or a parser.

The module accepts every text: it drops unwanted characters or replaces them with a space. The module keeps letters
of right-to-left scripts, and drops direction marks. Invisible characters are dropped, except the two joiners that
some scripts and emoji need.
"""

import re
import unicodedata
from typing import Final

_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_DIRECTIONS: Final = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_INVISIBLE: Final = (
    r"\u00ad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f"
)
_SURROGATES: Final = r"\ud800-\udfff"

_BREAK: Final = re.compile(rf"[\s{_CONTROLS}]+")
_REMOVED: Final = re.compile(f"[{_DIRECTIONS}{_INVISIBLE}]")
_SURROGATE: Final = re.compile(f"[{_SURROGATES}]")
_VISIBLE: Final = re.compile(r"[^\s\u200c\u200d\ufe00-\ufe0f]")
_UNSAFE: Final = re.compile(f"[{_CONTROLS}{_DIRECTIONS}{_SURROGATES}]")


def remove_unsafe_characters(text: str) -> str:
    """Return the text on one line, or an empty string if it has no visible character.

    A lone surrogate (half of a surrogate pair) becomes U+FFFD, so that the line can be encoded.
    """
    kept = _REMOVED.sub("", _SURROGATE.sub("\ufffd", text))
    line = _BREAK.sub(" ", unicodedata.normalize("NFC", kept)).strip(" ")
    return line if _VISIBLE.search(line) else ""


def has_unsafe_characters(text: str) -> bool:
    """Return whether the text has control characters (including line breaks), direction marks, or lone surrogates."""
    return _UNSAFE.search(text) is not None
