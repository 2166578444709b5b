"""The description of the input field `idempotencyKey`, which several mutations have."""

from typing import Final

IDEMPOTENCY_KEY: Final = (
    "With this key, the client can safely repeat the call. The key is a random UUID, for example, and has 1 to "
    "128 printable characters. For 24 hours, a call of the same person with the same key and the same input "
    "takes effect once. A call with the same key and a different input is refused with "
    "`IDEMPOTENCY_KEY_REUSED`."
)
