"""What Swift keeps in memcached, kept in its one process: else each request asks anew for its account and container."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from devstack.swift.guard import Application, Environ, StartResponse

_MOST = 1000
"""Entries; there are as many as accounts and containers, which are few."""


@dataclass
class Memory:
    """As much of `swift.common.memcached.MemcacheRing` (2.38) as knowing accounts and containers takes."""

    monotonic: Callable[[], float] = time.monotonic
    _kept: dict[str, tuple[float, str]] = field(default_factory=dict, repr=False)

    def get(self, key: str, raise_on_error: bool = False) -> Any:
        """A copy of what was set, None where nothing was or its time is over."""
        expires_at, value = self._kept.get(key, (0.0, ""))
        return json.loads(value) if self.monotonic() < expires_at else None

    def set(self, key: str, value: Any, time: float = 0, raise_on_error: bool = False) -> None:
        """Keeps it for `time` seconds, where 0 means not at all."""
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[key] = (self.monotonic() + time, json.dumps(value))

    def delete(self, key: str) -> None:
        """Forgets it."""
        self._kept.pop(key, None)


@dataclass
class Remembering:
    """The filter that lends Swift the memory."""

    app: Application
    memory: Memory = field(default_factory=Memory)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["swift.cache"] = self.memory
        return self.app(environ, start_response)


def memory_factory(global_conf: dict[str, str], **local_conf: str) -> Callable[[Application], Remembering]:
    """What paste calls for `[filter:memory]`."""
    return Remembering
