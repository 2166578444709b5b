"""Tests of the ports on which the dev stack listens. The dev stack uses the requested ports, or else the ports of
its previous start.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from devstack.children import free_port
from devstack.ports import FILE, PortRefused, Ports, choose, keep


@contextmanager
def _listening(port: int) -> Iterator[None]:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


def test_ports_stay_the_same_across_starts(tmp_path: Path) -> None:
    first = choose(tmp_path, {})
    assert len(set(asdict(first).values())) == 4
    keep(tmp_path, first)
    assert choose(tmp_path, {}) == first


def test_port_that_is_asked_for_is_taken_and_the_others_stay(tmp_path: Path) -> None:
    keep(tmp_path, first := choose(tmp_path, {}))
    wanted = free_port()
    assert choose(tmp_path, {"auth": wanted}) == Ports(first.api, wanted, first.store, first.livekit)
    moved = choose(tmp_path, {"auth": first.api})
    assert moved.auth == first.api
    assert moved.api not in (first.api, first.auth, first.store, first.livekit)


def test_port_of_the_last_start_that_is_in_use_is_replaced(tmp_path: Path) -> None:
    keep(tmp_path, first := choose(tmp_path, {}))
    with _listening(first.store):
        again = choose(tmp_path, {})
    assert again.store != first.store
    assert (again.api, again.auth, again.livekit) == (first.api, first.auth, first.livekit)


@pytest.mark.parametrize(
    ("name", "option"),
    [("api", "--port"), ("auth", "--auth-port"), ("store", "--store-port"), ("livekit", "--livekit-port")],
)
def test_port_that_is_asked_for_and_in_use_is_refused_by_its_option(
    tmp_path: Path, name: str, option: str
) -> None:
    wanted = free_port()
    with (
        _listening(wanted),
        pytest.raises(PortRefused, match=rf"^port {wanted} \({option}\) is in use by another program$"),
    ):
        choose(tmp_path, {name: wanted})


def test_port_that_is_asked_for_twice_is_refused(tmp_path: Path) -> None:
    wanted = free_port()
    with pytest.raises(PortRefused, match=rf"^port {wanted} \(--store-port\) is asked for twice$"):
        choose(tmp_path, {"api": wanted, "store": wanted})


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"api": "x", "auth": 0, "store": 99999}', '{"api": null}']
)
def test_file_of_ports_that_is_damaged_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert all(0 < port < 65_536 for port in asdict(choose(tmp_path, {})).values())
