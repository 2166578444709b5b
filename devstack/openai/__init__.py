"""A stand-in for OpenAI: the wire formats, limits and refusals of its transcriptions, with speech recognition on this
machine, and of its Responses and Chat Completions, which the product's extractive writer answers.

The stand-in for OpenAI really recognises English speech. The stand-in uses a real Whisper if `make whisper` has
installed it (`whisper`), and otherwise pocketsphinx, whose model is in its wheel. The quality of pocketsphinx's
transcripts says nothing about a vendor's quality. `diarized_json` does not distinguish voices: every segment is
speaker A, or A and B in turn by an order. The stand-in is for development and tests only.

The module `orders` describes the faults that the stand-in can cause. `python -m devstack.openai --config FILE` runs
the stand-in (`OpenAIConfig`), and `create_openai_app` builds it for tests.
"""

from devstack.openai.app import create_openai_app
from devstack.openai.config import OpenAIConfig
from devstack.openai.orders import Order, Orders
from devstack.openai.stand_in import Call, LanguageCall, OpenAIStandIn

__all__ = ["Call", "LanguageCall", "OpenAIConfig", "OpenAIStandIn", "Order", "Orders", "create_openai_app"]
