"""The state of the stand-in: its key, the open orders, and its calls without their text."""

import hmac
from dataclasses import dataclass, field, replace
from hashlib import sha256

import anyio
from starlette.responses import HTMLResponse, JSONResponse, Response

from devstack.openai.answers import answer, refuse
from devstack.openai.asked import Asked, check_length
from devstack.openai.language_answers import compose_text, count_tokens, write_completion, write_response
from devstack.openai.language_requests import LanguageAsked
from devstack.openai.orders import Order, Orders
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


@dataclass(frozen=True)
class LanguageCall:
    """A request to the language model that the stand-in has started to answer. `sha256` is the digest of the whole
    request. If two calls have the same digest, the product sent, and paid for, the same request twice. The tokens are
    0 if the stand-in charged for none.
    """

    model: str
    is_chat: bool
    is_stored: bool
    schema_name: str
    sha256: str
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@dataclass
class OpenAIStandIn:
    """One project. Tests read `calls` and add `orders`."""

    api_key: str = field(repr=False)
    recogniser: SpeechRecogniser
    orders: Orders = field(default_factory=Orders)
    calls: list[Call] = field(default_factory=list)
    language_calls: list[LanguageCall] = field(default_factory=list)
    _prefixes: set[str] = field(default_factory=set)
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

    async def write(self, asked: LanguageAsked) -> Response:
        """Answer a request to the language model. Raises Refusal."""
        request = asked.request
        beginning = (
            f"{asked.model}\n{request.instructions}\n{sorted(request.schema.items())}\n{request.transcript}"
        )
        prefix = sha256(beginning.encode("utf-8", "surrogatepass")).hexdigest()
        digest = sha256(f"{prefix}\n{request.task}".encode("utf-8", "surrogatepass")).hexdigest()
        call = LanguageCall(asked.model, asked.is_chat, asked.is_stored, request.schema_name, digest)
        self.language_calls.append(call)
        order = self.orders.take(of_language=True)
        kind = order.kind if order else ""
        if order is not None:
            await _refuse(order)
        if kind == "language_nonsense":
            return HTMLResponse("<!doctype html><title>Welcome</title><p>It works!")
        text = await anyio.to_thread.run_sync(compose_text, asked, kind)
        tokens = count_tokens(asked, text, is_cached=asked.is_cacheable and prefix in self._prefixes)
        self._prefixes.add(prefix)
        self.language_calls[self.language_calls.index(call)] = replace(
            call, input_tokens=tokens.input, cached_tokens=tokens.cached, output_tokens=tokens.output
        )
        write = write_completion if asked.is_chat else write_response
        return JSONResponse(write(asked, text, tokens, kind))


async def _refuse(order: Order) -> None:
    """Wait for the order's delay, and raise the Refusal that it demands, if it demands one."""
    if order.kind in ("language_hang", "language_slow"):
        await anyio.sleep(order.seconds)
    match order.kind:
        case "language_rate_limit":
            wait = {"retry-after": str(round(order.seconds))}
            raise Refusal(429, "Rate limit reached", kind="tokens", code="rate_limit_exceeded", headers=wait)
        case "language_quota":
            message = "You exceeded your current quota, please check your plan and billing details."
            raise Refusal(429, message, kind="insufficient_quota", code="insufficient_quota")
        case "language_fail" | "language_hang":
            raise Refusal(500, "The server had an error while processing your request.", kind="server_error")
        case "language_reject":
            raise Refusal(400, "Invalid prompt", code="invalid_prompt")
