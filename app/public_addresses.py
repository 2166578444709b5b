"""Decides to which IP addresses a webhook may be sent, so that nobody can use a webhook to reach the internal network
(server-side request forgery, SSRF).

An allowed IPv4 address is global. An allowed IPv6 address is in 2000::/3, the only block that is assigned to global
unicast, and contains no IPv4 address, because a gateway would send the request on to that address.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

Address = IPv4Address | IPv6Address

_FORBIDDEN_V4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers; also the metadata address of Alibaba Cloud
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # the platform address of Azure
        "169.254.0.0/16",  # link-local; also the metadata address of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; also the metadata address of Oracle Cloud
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT relays
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved; also broadcast
    )
)
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_FORBIDDEN_V6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; also Teredo, which contains an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which contains an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)


def is_public(address: Address) -> bool:
    """Return whether a webhook may be sent to the address."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _FORBIDDEN_V4)
    return address in _GLOBAL_V6 and not any(address in network for network in _FORBIDDEN_V6)
