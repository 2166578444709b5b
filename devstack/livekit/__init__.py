"""A stand-in for LiveKit: rooms, egresses and signed webhooks over LiveKit's own wire protocol, with faults on
request.

The stand-in refuses what livekit-server and livekit/egress refuse (read 2026-11-21). The stand-in for LiveKit
transports no media: the picture and the sound of a room come from files. The stand-in is for development and tests
only.

The module `orders` describes the faults that the stand-in can cause, and the module `controls` the routes under
`/stand-in`.

`python -m devstack.livekit --config FILE` runs the stand-in (`LiveKitConfig`), and `create_livekit_app` builds it
for tests.
"""

from devstack.livekit.config import LiveKitConfig
from devstack.livekit.orders import Order
from devstack.livekit.pace import Pace
from devstack.livekit.server import create_livekit_app
from devstack.livekit.services import LiveKitStandIn
from devstack.livekit.webhooks import Signed, signed

__all__ = ["LiveKitConfig", "LiveKitStandIn", "Order", "Pace", "Signed", "create_livekit_app", "signed"]
