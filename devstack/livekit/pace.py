"""The speed of the stand-in: LiveKit's measured delays, scaled.

The delays below, in seconds, were measured on 2026-11-29 with livekit-server 1.13.5 and livekit/egress 1.9.1.
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Final

from devstack.livekit.orders import Orders

VIDEO_START_SECONDS: Final = (3.0, 10.0)
SOUND_START_SECONDS: Final = (0.3, 0.9)
VIDEO_END_SECONDS: Final = (0.7, 1.5)
SOUND_END_SECONDS: Final = (4.0, 4.3)
"""The time from a stop to the end. A sound recording has as much silence at its end."""
UNPUBLISHED_END_SECONDS: Final = (0.2, 0.9)
SOURCE_WAIT_SECONDS: Final = 30.0
"""How long a recorder waits for a missing track or participant."""
NO_RECORDER_SECONDS: Final = (21.0, 25.0)
"""How long LiveKit looks for an egress service."""
SILENT_SECONDS: Final = 3.0
"""How long LiveKit waits for the process or the connection to which a request is addressed."""
REJOIN_SECONDS: Final = 7.0
"""The time from the return of a crashed server to the return of the recorder into its room."""
DEAD_NODE_SECONDS: Final = (20.0, 23.0)
"""How long the recorder of a dead node stays listed in its room."""
BROWSER_LEAVES_SECONDS: Final = 20.0
"""How long a browser recorder stays listed in its room after its end."""
BROWSER_JOINS_SECONDS: Final = 1.3
"""The time from the arrival of a browser recorder in its room to ACTIVE."""
START_TIME_SECONDS: Final = (0.1, 0.4)
"""The time from `egress_started` to the moment that the recorder reports as its start."""
COUNTED_SECONDS: Final = 5.0
"""How long `num_participants` of a room is out of date."""
LOST_PARTICIPANT_SECONDS: Final = 21.0
"""The time from the death of a participant's device until LiveKit notices it."""

VIDEO_LEAD_SECONDS: Final = 0.9
SOUND_LEAD_SECONDS: Final = 0.09
"""How long before LiveKit's `started_at` the sound of a file begins."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace. `scale` is how long one second of LiveKit's own delays takes; 1 is the real speed.

    The recording of a video starts at least `start_delay_seconds` after the request. `record_seconds` is the length
    after which a recording's media end. If it is None, the media end after the length of the stand-in's files.
    """

    start_delay_seconds: float = 0.2
    record_seconds: float | None = None
    upload_backoff_seconds: float = 0.2
    scale: float = 0.05


class Delays:
    """LiveKit's delays, scaled by the pace, or by an open order `scale`."""

    def __init__(self, pace: Pace, orders: Orders, chance: random.Random) -> None:
        self._pace = pace
        self._orders = orders
        self._chance = chance

    def seconds(self, real: float | Span) -> float:
        """Return how many seconds a delay of LiveKit takes in the stand-in. If `real` is a range, choose a random
        delay in the range.
        """
        order = self._orders.standing("scale")
        scale = self._pace.scale if order is None else order.seconds
        return scale * (self._chance.uniform(*real) if isinstance(real, tuple) else real)

    async def wait(self, real: float | Span) -> None:
        await asyncio.sleep(self.seconds(real))
