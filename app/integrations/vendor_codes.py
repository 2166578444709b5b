"""A vendor's own error code, if it is safe to repeat.

A vendor's message is never repeated: it may quote a key, an address or a person's words. Its code is repeated only if
it looks like an identifier, so that operators can search the vendor's documentation for it.
"""

import re
from typing import Final

_MOST_DIGITS: Final = 4
"""More of them are a key or an id: the longest code known is XAmzContentSHA256Mismatch."""

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{1,63}")


def vendor_code(given: object) -> dict[str, str]:
    """The detail `vendor_code` of an AppError; empty if `given` is no identifier of at most 64 characters."""
    if not isinstance(given, str) or _CODE.fullmatch(given) is None:
        return {}
    return {"vendor_code": given} if sum(map(str.isdigit, given)) <= _MOST_DIGITS else {}
