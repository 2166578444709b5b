"""A stand-in for LiveKit: rooms, recordings and signed webhooks over its own wire protocol, with faults to
order.

It speaks what livekit-server and livekit/egress speak (read 2026-11-21), as strictly, and carries no media:
what a room "showed" and sounded like are files that it is given. For development and tests only.

Orders for faults are listed in `orders` (one table), the routes under `/stand-in` in `controls`.

`python -m app.devstack.livekit --config FILE` runs it (`LiveKitConfig`); `create_livekit_app` builds it for
tests.
"""

from app.devstack.livekit.config import LiveKitConfig
from app.devstack.livekit.orders import Order
from app.devstack.livekit.recorder import Pace
from app.devstack.livekit.server import create_livekit_app
from app.devstack.livekit.services import LiveKitStandIn
from app.devstack.livekit.webhooks import Signed, signed

__all__ = ["LiveKitConfig", "LiveKitStandIn", "Order", "Pace", "Signed", "create_livekit_app", "signed"]
