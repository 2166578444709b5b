"""Where a request came from, as far as it can be known.

`X-Forwarded-For` is written by whoever likes to: an entry counts only if the hop that added it is a trusted proxy.
uvicorn's own reading of the header must be off (`proxy_headers=False`), since it would replace the peer's address.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.datastructures import Headers
from starlette.types import Scope

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def client_address(scope: Scope, trusted_proxies: Sequence[Network]) -> str | None:
    """The address of the client: the nearest hop that is not a trusted proxy.

    An entry that is no address ends the walk, since nobody vouches for what is left of it: the last known hop is
    the answer then. IPv4 addresses mapped into IPv6 are given as IPv4, without port or zone. None where the peer
    has no address (a Unix socket).
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
