"""Finds the client address of a request.

Any client can send `X-Forwarded-For`, so an entry in this header counts only if a trusted proxy added it. The
server uvicorn must not process `X-Forwarded-For` itself (`proxy_headers=False`), because uvicorn would replace the
address of the peer.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.datastructures import Headers
from starlette.types import Scope

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def find_client_address(scope: Scope, trusted_proxies: Sequence[Network]) -> str | None:
    """Return the address of the client, which is the hop nearest to the API that is not a trusted proxy.

    If an entry of `X-Forwarded-For` is not an address, the function returns the last hop before that entry. No
    trusted proxy confirms the entries to the left of that entry. An IPv4 address that is mapped into IPv6 is
    returned as IPv4, without port or zone. Returns None if the peer of the connection has no address (a Unix
    socket).
    """
    peer = scope.get("client")
    current = _parse(peer[0]) if peer else None
    if current is None:
        return None
    forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for"))
    for entry in reversed(forwarded.split(",") if forwarded else []):
        if not _is_trusted(current, trusted_proxies):
            break
        earlier = _parse(entry)
        if earlier is None:
            break
        current = earlier
    return str(current)


def _is_trusted(address: Address, trusted_proxies: Sequence[Network]) -> bool:
    return any(address in network for network in trusted_proxies)


def _parse(text: str) -> Address | None:
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
