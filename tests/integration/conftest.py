"""Fixtures for several modules of the integration tests."""

import os
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.abc import Process


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Process]]:
    """Yield the list of child processes that the test starts. Fails if a child is still running or not reaped at
    the end.
    """
    started: list[Process] = []
    open_process = anyio.open_process

    async def remembered(*arguments: Any, **options: Any) -> Process:
        started.append(await open_process(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(anyio, "open_process", remembered)
    yield started
    for process in started:
        assert process.returncode is not None
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)
