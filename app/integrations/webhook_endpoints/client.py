"""Sends one message to one webhook endpoint: a POST that follows no redirect, uses no proxy, and reads no body.

The client resolves the host name itself, checks every address of the answer, and connects to a checked address. The
client does not resolve the name again between the check and the connection, so a changed DNS answer (DNS rebinding) has
no effect. The certificate is still checked against the host name.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Final, TypeAlias

import httpcore
import httpx

from app.public_addresses import Address, is_public

TIMEOUT_SECONDS: Final = 20.0
"""The time for one attempt, as Standard Webhooks recommends: 15 to 30 s."""

_BUSY: Final = (429, 502, 503, 504)
_MOST_ADDRESSES: Final = 4
Resolve: TypeAlias = Callable[[str, int], Awaitable[list[Address]]]
"""Returns the addresses of a host name. Raises OSError."""


class ForbiddenAddressError(Exception):
    """Raised if a host name has an address to which no webhook may be sent."""


@dataclass(frozen=True)
class Answer:
    """The result of an attempt. `error` is None if the endpoint accepted the message. `status_code` is None if the
    endpoint sent no answer. `is_overloaded` says that other messages to this endpoint must wait, too.
    """

    duration_ms: int
    status_code: int | None = None
    error: str | None = None
    is_overloaded: bool = False
    retry_after_seconds: int = 0


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host name, as the operating system resolves it."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(one[4][0]).partition("%")[0]) for one in found))


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only. `is_allowed` decides which addresses are allowed."""

    def __init__(self, is_allowed: Callable[[Address], bool], resolve: Resolve) -> None:
        self._is_allowed = is_allowed
        self._resolve = resolve
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore names the parameter
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve the host name, check all its addresses, and connect to the first that answers."""
        addresses = await self._resolve(host.strip("[]"), port)
        if not all(self._is_allowed(address) for address in addresses):
            raise ForbiddenAddressError
        failed: Exception = httpcore.ConnectError("the host name has no address")
        for address in addresses[:_MOST_ADDRESSES]:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore names the parameter
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raise an error, because no endpoint is a Unix socket."""
        raise ForbiddenAddressError

    async def sleep(self, seconds: float) -> None:
        """Wait between two attempts to connect."""
        await self._network.sleep(seconds)


class EndpointClient:
    """The client of one endpoint. `allows_loopback` is true in development only. The caller closes the client."""

    def __init__(
        self,
        url: str,
        *,
        allows_loopback: bool = False,
        timeout_seconds: float = TIMEOUT_SECONDS,
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        def is_allowed(address: Address) -> bool:
            return is_public(address) or (allows_loopback and address.is_loopback)

        self._url = url
        self._timeout_seconds = timeout_seconds
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or httpx.create_ssl_context(trust_env=False),
            max_connections=10,
            keepalive_expiry=30,
            network_backend=_CheckedNetwork(is_allowed, resolve),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a message, and return the result. The method returns network errors in the result and does not raise
        them.
        """
        started = time.monotonic()
        code: int | None = None
        error: str | None
        answered: dict[bytes, bytes] = {}
        try:
            async with asyncio.timeout(self._timeout_seconds):
                code, answered = await self._post(body, headers)
            error = _find_error(code)
        except (TimeoutError, httpcore.TimeoutException):
            error = "endpoint_timeout"
        except ForbiddenAddressError:
            error = "endpoint_address_forbidden"
        except socket.gaierror:
            error = "endpoint_unresolved"
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError, ValueError) as failure:
            is_tls = isinstance(failure.__cause__, ssl.SSLError)
            error = "endpoint_tls_failed" if is_tls else "endpoint_unreachable"
        return Answer(
            duration_ms=round((time.monotonic() - started) * 1000),
            status_code=code,
            error=error,
            is_overloaded=error is not None and (code is None or code in _BUSY),
            retry_after_seconds=0 if error is None else _read_retry_after(answered),
        )

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[bytes, bytes]]:
        total = (
            self._timeout_seconds
        )  # connecting ends sooner, because httpcore leaves a cancelled TLS handshake open
        async with self._pool.stream(
            "POST",
            self._url,
            headers=[("Content-Type", "application/json"), ("User-Agent", "resguardo"), *headers.items()],
            content=body,
            extensions={"timeout": {**dict.fromkeys(("read", "write", "pool"), total), "connect": total / 3}},
        ) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers}


def _find_error(code: int) -> str | None:
    if 200 <= code <= 299:
        return None
    if 300 <= code <= 399:
        return "endpoint_redirects"
    if code == 410:
        return "endpoint_gone"
    return "endpoint_busy" if code in _BUSY else "endpoint_refused"


def _read_retry_after(headers: Mapping[bytes, bytes]) -> int:
    """Return the pause in the header Retry-After, in seconds, or 0. The function compares a date in Retry-After with
    the answer's header Date, so a wrong clock of this machine has no effect.
    """
    asked = headers.get(b"retry-after", b"").decode("latin-1").strip()
    if asked.isascii() and asked.isdigit() and len(asked) <= 9:
        return int(asked)
    try:
        until = parsedate_to_datetime(asked)
        given = headers.get(b"date", b"").decode("latin-1")
        now = parsedate_to_datetime(given) if given else datetime.now(UTC)
        return max(0, round((until - now).total_seconds()))
    except (ValueError, TypeError, OverflowError):
        return 0
