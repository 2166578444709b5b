"""An in-process replacement for Swift's memcached. Without this cache, Swift would look up the account and the
container of each request again.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from devstack.swift.guard import Application, Environ, StartResponse

_MOST = 1000
"""The maximum number of entries. There are only a few accounts and containers."""


@dataclass
class Memory:
    """The part of `swift.common.memcached.MemcacheRing` (2.38) that caches accounts and containers."""

    monotonic: Callable[[], float] = time.monotonic
    _kept: dict[str, tuple[float, str]] = field(default_factory=dict, repr=False)

    def get(self, key: str, raise_on_error: bool = False) -> Any:
        """Return a copy of the value that is stored under the key, or None if there is none or it has expired."""
        expires_at, value = self._kept.get(key, (0.0, ""))
        return json.loads(value) if self.monotonic() < expires_at else None

    def set(self, key: str, value: Any, time: float = 0, raise_on_error: bool = False) -> None:
        """Store a value for `time` seconds, or do nothing if `time` is 0."""
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[key] = (self.monotonic() + time, json.dumps(value))

    def delete(self, key: str) -> None:
        """Delete a value."""
        self._kept.pop(key, None)


@dataclass
class Remembering:
    """The filter that gives Swift's servers the cache of this module."""

    app: Application
    memory: Memory = field(default_factory=Memory)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["swift.cache"] = self.memory
        return self.app(environ, start_response)


def memory_factory(global_conf: dict[str, str], **local_conf: str) -> Callable[[Application], Remembering]:
    """Return the filter for paste's `[filter:memory]`."""
    return Remembering
