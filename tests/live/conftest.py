"""Fixtures of the live tests: one API, worker and LiveKit server for all tests, and a consultation for each test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.databases import Cluster
from tests.live import harness, server
from tests.live.harness import Case, Live


@pytest.fixture(scope="session")
def live(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return the running harness."""
    if not server.binary().exists():
        pytest.fail("there is no LiveKit server: run `make live`, which installs it")
    with harness.running(cluster, tmp_path_factory.mktemp("live")) as running:
        yield running


@pytest.fixture
async def case(anyio_backend: str, live: Live) -> AsyncIterator[Case]:
    """Return a new consultation without any consent."""
    async with harness.opened_case(live) as case:
        yield case
