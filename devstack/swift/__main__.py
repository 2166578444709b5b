"""Patches sockets and threads for eventlet before anything else is imported, and then runs the store (`server.py`)."""

import eventlet  # type: ignore[import-untyped]  # ships no types

eventlet.monkey_patch(
    all=False, socket=True, select=True, thread=True
)  # the same patches that Swift's own servers apply

from devstack.swift.server import main  # noqa: E402  # eventlet asks to be first

main()
