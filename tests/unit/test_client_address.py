"""Tests of how the API finds the client's address of a request in the headers that proxies add."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.client_address import find_client_address

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


def _address(peer: str | None, *forwarded: str) -> str | None:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    return find_client_address(
        {"type": "http", "client": (peer, 1) if peer is not None else None, "headers": headers}, PROXIES
    )


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        ("203.0.113.9", ("198.51.100.1",), "203.0.113.9"),
        ("10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("1.1.1.1, 198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("1.1.1.1, 198.51.100.1, 10.9.9.9",), "198.51.100.1"),
        ("10.0.0.1", ("1.1.1.1", "198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", ("10.0.0.3, 10.0.0.2",), "10.0.0.3"),
        ("10.0.0.1", ("1.1.1.1, unknown",), "10.0.0.1"),
        ("10.0.0.1", ("1.1.1.1, <script>, 198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("198.51.100.1:4711",), "198.51.100.1"),
        ("10.0.0.1", ("[2001:4860::8]:4711",), "2001:4860::8"),
        ("10.0.0.1", ("2001:4860::8",), "2001:4860::8"),
        ("10.0.0.1", ("::ffff:198.51.100.1",), "198.51.100.1"),
        ("::ffff:10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("2001:db8::1", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("fe80::1%eth0",), "fe80::1"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        (None, ("198.51.100.1",), None),
        ("", ("198.51.100.1",), None),
    ],
)
def test_address_is_the_nearest_untrusted_hop(
    peer: str | None, forwarded: tuple[str, ...], expected: str | None
) -> None:
    assert _address(peer, *forwarded) == expected


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=80))
def test_address_cannot_be_chosen_by_what_is_left_of_a_proxys_own_entry(forged: str) -> None:
    assert _address("10.0.0.1", f"{forged}, 198.51.100.1") == "198.51.100.1"


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=80))
def test_address_is_an_address_whatever_the_header_says(header: str) -> None:
    address = _address("10.0.0.1", header)
    assert address is not None
    assert str(ip_address(address)) == address
