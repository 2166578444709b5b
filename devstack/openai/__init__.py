"""A stand-in for OpenAI's transcriptions: its wire format, limits and refusals, with speech recognition on this
machine.

The stand-in really recognises English speech. The stand-in uses pocketsphinx, whose model is in its wheel and whose
quality says nothing about a vendor, or a real Whisper if `make whisper` has installed it (`whisper`).
`diarized_json` does not distinguish voices: every segment is speaker A, or A and B in turn by an order. The
stand-in is for development and tests only.

`orders` lists the faults. `python -m devstack.openai --config FILE` runs it (`OpenAIConfig`), and
`create_openai_app` builds it for tests.
"""

from devstack.openai.app import create_openai_app
from devstack.openai.config import OpenAIConfig
from devstack.openai.orders import Order, Orders
from devstack.openai.stand_in import Call, OpenAIStandIn

__all__ = ["Call", "OpenAIConfig", "OpenAIStandIn", "Order", "Orders", "create_openai_app"]
