"""Limits how many requests of one client address are open at once, before the API reads them.

The limit bounds the resources that one client address can occupy, such as slow request bodies, fetches of token
keys, and waiting operations. The API applies the limit on a client address before it knows which person sends the
request. `app/concurrency.py` later limits the operations of each person.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.concurrency import Bounds, ConcurrencyLimit, network_of
from app.errors import RateLimited
from app.http.client_address import Network, find_client_address
from app.http.error_responses import render_app_error

CONNECTING_PER_ADDRESS = 32
"""The number of WebSockets of one address that may be open before `connection_init` has identified a person."""

Connecting = Callable[[Scope], AbstractAsyncContextManager[None]]
"""Holds a slot while a WebSocket connects. Raises RateLimited."""


class AddressLimit:
    """ASGI middleware: answers 429 if a client address already has `requests` open requests. None means no limit.

    Requests are counted separately for each first segment of the path. If requests to one path flood the API, the
    API therefore still accepts LiveKit's webhooks and health checks from the same address. A request counts as open
    until its answer begins. WebSockets do not count.
    """

    def __init__(self, app: ASGIApp, requests: int | None, trusted_proxies: Sequence[Network]) -> None:
        self._app = app
        self._trusted_proxies = trusted_proxies
        self._limit = None if requests is None else _limit(requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or self._limit is None:
            await self._app(scope, receive, send)
            return
        segment = scope["path"].split("/", 2)[1:2]
        key = (*segment, network_of(find_client_address(scope, self._trusted_proxies)))
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(self._limit.slot(key))
            except RateLimited as error:
                await render_app_error(scope, error)(scope, receive, send)
                return

            async def released(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await held.aclose()
                await send(message)

            await self._app(scope, receive, released)


def connecting_limit(
    trusted_proxies: Sequence[Network], connections: int = CONNECTING_PER_ADDRESS
) -> Connecting:
    """Return a limit on the open WebSockets of each client address. A WebSocket counts as open for its client
    address until the API has identified its person.
    """
    limit = _limit(connections)
    return lambda scope: limit.slot(network_of(find_client_address(scope, trusted_proxies)))


def _limit(running_per_key: int) -> ConcurrencyLimit:
    return ConcurrencyLimit("too_many_at_once", Bounds(running_per_key))
