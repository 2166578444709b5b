"""Extracts a vendor's error code if it is safe to repeat.

Our errors never repeat a vendor's message, because it may quote a key, an address or a person's words. Our errors
repeat a vendor's error code only if it looks like an identifier. With the vendor's error code, operators can search
in the vendor's documentation.
"""

import re
from typing import Final

_MOST_DIGITS: Final = 4
"""A code with more digits could be a key or an id. The longest known code is XAmzContentSHA256Mismatch."""

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{1,63}")


def vendor_code(given: object) -> dict[str, str]:
    """Return `given` as the detail `vendor_code` of an AppError, or no detail if `given` is not an identifier of at
    most 64 characters.
    """
    if not isinstance(given, str) or _CODE.fullmatch(given) is None:
        return {}
    return {"vendor_code": given} if sum(map(str.isdigit, given)) <= _MOST_DIGITS else {}
