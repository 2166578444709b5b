"""What tests of several modules here ask for."""

import os
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.abc import Process


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Process]]:
    """The children that the test started; none may outlive it, and each is reaped."""
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
