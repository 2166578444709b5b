"""Makes sockets and threads green before anything else is imported, then runs the store (`server.py`)."""

import eventlet  # type: ignore[import-untyped]  # ships no types

eventlet.monkey_patch(all=False, socket=True, select=True, thread=True)  # what Swift's own servers patch

from devstack.swift.server import main  # noqa: E402  # eventlet asks to be first

main()
