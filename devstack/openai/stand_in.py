"""The state of the stand-in: its key, the open orders, and its calls without their text."""

import hmac
from dataclasses import dataclass, field
from hashlib import sha256

import anyio
from starlette.responses import Response

from devstack.openai.answers import answer, refuse
from devstack.openai.asked import Asked, check_length
from devstack.openai.orders import Orders
from devstack.openai.recogniser import SpeechRecogniser, UnreadableError, decode, seconds
from devstack.openai.refusals import Refusal, invalid


@dataclass(frozen=True)
class Call:
    """A transcription request that the stand-in has started to answer. `sha256` is the digest of the file. If two
    calls have the same digest, the product sent, and paid for, the same sound twice.
    """

    model: str
    response_format: str
    seconds: float
    sha256: str


@dataclass
class OpenAIStandIn:
    """One project. Tests read `calls` and add `orders`."""

    api_key: str = field(repr=False)
    recogniser: SpeechRecogniser
    orders: Orders = field(default_factory=Orders)
    calls: list[Call] = field(default_factory=list)
    _turn: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))

    def authenticate(self, authorization: str) -> None:
        """Raise Refusal unless the `Authorization` header contains the API key as bearer token."""
        scheme, _, given = authorization.partition(" ")
        if scheme != "Bearer" or not given:
            raise Refusal(401, "You didn't provide an API key.")
        if not hmac.compare_digest(given.encode(), self.api_key.encode()):
            raise Refusal(401, f"Incorrect API key provided: {given[:8]}***.", code="invalid_api_key")

    async def transcribe(self, request: Asked) -> Response:
        """Transcribe the sound in a thread. The stand-in transcribes only one request's sound at a time. Raises
        Refusal.
        """
        try:
            samples = await anyio.to_thread.run_sync(decode, request.content, request.suffix)
        except UnreadableError as error:
            raise invalid("Audio file might be corrupted or unsupported", "file") from error
        length = seconds(samples)
        check_length(request, length)
        digest = sha256(request.content).hexdigest()
        self.calls.append(Call(request.model, request.response_format, length, digest))
        order = self.orders.take()
        if order is not None:
            await refuse(order)
        said = await anyio.to_thread.run_sync(
            self.recogniser.recognise, samples, limiter=self._turn, abandon_on_cancel=False
        )
        return answer(request, said, length, order)
