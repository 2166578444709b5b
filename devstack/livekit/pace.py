"""How fast the stand-in is: LiveKit's own delays as they were measured, each of them scaled.

The figures are those of livekit-server 1.13.5 with livekit/egress 1.9.1, measured on 2026-11-29, in seconds.
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
"""From a stop to the end. A recording of sound has as much silence at its end."""
UNPUBLISHED_END_SECONDS: Final = (0.2, 0.9)
SOURCE_WAIT_SECONDS: Final = 30.0
"""How long a recorder waits for a track or a participant that is not there."""
NO_RECORDER_SECONDS: Final = (21.0, 25.0)
"""How long LiveKit looks for a recording service."""
SILENT_SECONDS: Final = 3.0
"""How long LiveKit waits for the process or the connection that a request is for."""
REJOIN_SECONDS: Final = 7.0
"""From the return of a crashed server to the recorder's return into its room."""
DEAD_NODE_SECONDS: Final = (20.0, 23.0)
"""How long the recorder of a dead node is listed in its room."""
BROWSER_LEAVES_SECONDS: Final = 20.0
"""How long a browser recorder is listed in its room after its end."""
BROWSER_JOINS_SECONDS: Final = 1.3
"""From the arrival of a browser recorder in its room to ACTIVE."""
START_TIME_SECONDS: Final = (0.1, 0.4)
"""From `egress_started` to the moment that the recorder calls its start."""
COUNTED_SECONDS: Final = 5.0
"""How long `num_participants` of a room lags behind."""
LOST_PARTICIPANT_SECONDS: Final = 21.0
"""From the death of a participant's device to LiveKit's noticing it."""

VIDEO_LEAD_SECONDS: Final = 0.9
SOUND_LEAD_SECONDS: Final = 0.09
"""How far a file's zero lies before the `started_at` that LiveKit reports."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Pace:
    """`scale` is how long a second of LiveKit's own delays takes; 1 is as slow as the real one.

    A video starts after `start_delay_seconds` at the earliest. `record_seconds` is when the media ends; None: at
    its own length.
    """

    start_delay_seconds: float = 0.2
    record_seconds: float | None = None
    upload_backoff_seconds: float = 0.2
    scale: float = 0.05


class Delays:
    """LiveKit's delays, scaled by the pace, or by the order `scale` while one is open."""

    def __init__(self, pace: Pace, orders: Orders, chance: random.Random) -> None:
        self._pace = pace
        self._orders = orders
        self._chance = chance

    def seconds(self, real: float | Span) -> float:
        """How long LiveKit's `real` seconds take here; of a span, any time within it."""
        order = self._orders.standing("scale")
        scale = self._pace.scale if order is None else order.seconds
        return scale * (self._chance.uniform(*real) if isinstance(real, tuple) else real)

    async def wait(self, real: float | Span) -> None:
        await asyncio.sleep(self.seconds(real))
