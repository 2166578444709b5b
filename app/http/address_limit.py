"""How many requests of one client address are open at once, before anything is read or asked of anybody.

It bounds what a single address can tie up: bodies that come slowly, tokens whose key is being fetched, work that waits.
Who asks is known only later, where `app/concurrency.py` bounds what each person runs.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.concurrency import Bounds, ConcurrencyLimit, network_of
from app.errors import RateLimited
from app.http.client_address import Network, client_address
from app.http.refusals import app_error_refusal

CONNECTING_PER_ADDRESS = 32
"""WebSockets of one address on which nobody has said yet who connects."""

Connecting = Callable[[Scope], AbstractAsyncContextManager[None]]
"""Holds a slot while a WebSocket connects. Raises RateLimited."""


class AddressLimit:
    """ASGI middleware: answers 429 to a request of an address that has `requests` open already; None: no bound.

    Each first segment of a path is counted apart, so that a flood of one kind does not shed LiveKit's webhooks or the
    health checks that come from the same address. A request counts until its answer begins; WebSockets do not count.
    """

    def __init__(self, app: ASGIApp, requests: int | None, trusted_proxies: Sequence[Network]) -> None:
        self._app = app
        self._trusted_proxies = trusted_proxies
        self._limit = None if requests is None else _limit(requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http" or self._limit is None:
            await self._app(scope, receive, send)
            return
        segment = scope["path"].split("/", 2)[1:2]
        key = (*segment, network_of(client_address(scope, self._trusted_proxies)))
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(self._limit.slot(key))
            except RateLimited as error:
                await app_error_refusal(scope, error)(scope, receive, send)
                return

            async def released(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await held.aclose()
                await send(message)

            await self._app(scope, receive, released)


def connecting_limit(
    trusted_proxies: Sequence[Network], connections: int = CONNECTING_PER_ADDRESS
) -> Connecting:
    """Bounds the WebSockets of each address on which nobody has said yet who connects."""
    limit = _limit(connections)
    return lambda scope: limit.slot(network_of(client_address(scope, trusted_proxies)))


def _limit(running_per_key: int) -> ConcurrencyLimit:
    return ConcurrencyLimit("too_many_at_once", Bounds(running_per_key))
