"""A stand-in for LiveKit: rooms, recordings and signed webhooks over its own wire protocol, with faults to
order.

It speaks what livekit-server and livekit/egress speak (read 2026-11-21), as strictly, and carries no media:
what a room "showed" and sounded like are files that it is given. For development and tests only.

Orders for faults are listed in `orders` (one table), the routes under `/stand-in` in `controls`.

`python -m devstack.livekit --config FILE` runs it (`LiveKitConfig`); `create_livekit_app` builds it for
tests.
"""

from devstack.livekit.config import LiveKitConfig
from devstack.livekit.orders import Order
from devstack.livekit.pace import Pace
from devstack.livekit.server import create_livekit_app
from devstack.livekit.services import LiveKitStandIn
from devstack.livekit.webhooks import Signed, signed

__all__ = ["LiveKitConfig", "LiveKitStandIn", "Order", "Pace", "Signed", "create_livekit_app", "signed"]
