"""A stand-in for OpenAI's transcriptions: its wire format, its limits and refusals over recognition on this machine.

It really recognises English speech: with pocketsphinx, whose model is in its wheel, badly enough to be no measure of
any vendor; or with a real Whisper, if `make whisper` has installed it (`whisper`). `diarized_json` hears nobody apart:
everything is speaker A, or A and B in turn by order. For development and tests only.

Orders for faults are listed in `orders`; `python -m devstack.openai --config FILE` runs it (`OpenAIConfig`),
`create_openai_app` builds it for tests.
"""

from devstack.openai.app import create_openai_app
from devstack.openai.config import OpenAIConfig
from devstack.openai.orders import Order, Orders
from devstack.openai.stand_in import Call, OpenAIStandIn

__all__ = ["Call", "OpenAIConfig", "OpenAIStandIn", "Order", "Orders", "create_openai_app"]
