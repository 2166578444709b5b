"""Fixtures for several modules of the integration tests."""

import os
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.abc import Process

from app.integrations.livekit.client import S3Target
from devstack import object_store


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Process]]:
    """Yield the list of child processes that the test starts. The fixture fails if a child process is still
    running, or was not reaped, when the test ends.
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


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object_store.ObjectStore]:
    """Yield an object store that all tests of one module share. The LiveKit stand-in uploads recordings to this
    object store.
    """
    with object_store.running(tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def target(store: object_store.ObjectStore) -> S3Target:
    """Return the upload target of an egress request: the bucket of `store` with the recorder's credentials."""
    return S3Target(store.endpoint_url, "us-east-1", store.bucket, store.recorder)
