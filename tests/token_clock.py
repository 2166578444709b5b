"""Sets the clock of token checks. PyJWT reads the system time itself, and has no parameter for a clock."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import Self

import pytest


@contextmanager
def token_clock(seconds: Callable[[], float]) -> Iterator[None]:
    """Let PyJWT and `app.identity.tokens` read the Unix time from `seconds` while the block runs."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(seconds(), tz)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jwt.api_jwt.datetime", Clock)
        patch.setattr("app.identity.tokens.datetime", Clock)
        yield
