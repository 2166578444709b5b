"""Types and rules of clips. Pure."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.errors import InvalidInput

MAX_CLIP_SECONDS: Final = 900
_MAX_SECONDS: Final = 1_000_000


class ClipStatus(StrEnum):
    """The status of a clip: a job is queued (PENDING), the worker makes the clip (RUNNING), the clip can be played
    (READY), or it could not be made (FAILED).
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    READY = "READY"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Bounds:
    """The bounds of a clip, in milliseconds of the recording's timeline. `end_ms` is exclusive."""

    start_ms: int
    end_ms: int


def read_bounds(start_seconds: float, end_seconds: float) -> Bounds:
    """Return the bounds of a clip, rounded to milliseconds. Raises InvalidInput (bad_clip_range) unless both are
    numbers, the start is at least 0, and the clip lasts more than 0 s and at most 15 minutes.
    """
    if not all(math.isfinite(one) and 0 <= one <= _MAX_SECONDS for one in (start_seconds, end_seconds)):
        raise InvalidInput("bad_clip_range", maximum=MAX_CLIP_SECONDS)
    bounds = Bounds(round(start_seconds * 1000), round(end_seconds * 1000))
    if not 0 < bounds.end_ms - bounds.start_ms <= MAX_CLIP_SECONDS * 1000:
        raise InvalidInput("bad_clip_range", maximum=MAX_CLIP_SECONDS)
    return bounds
