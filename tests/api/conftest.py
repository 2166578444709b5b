"""Fixtures of the API tests: the running API and the people who use it."""

from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import pytest

from devstack.object_store import ObjectStore
from tests.api.harness import ApiHarness, Case, Person, opened
from tests.api.small_api import serve, small_app
from tests.api.speaking import store_transcript
from tests.databases import Cluster


@pytest.fixture(scope="session")
async def harness(
    anyio_backend: str, cluster: Cluster, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiHarness]:
    """Return the harness with the running API, its database and its object store, which all tests of one pytest
    process share.
    """
    with cluster.clone("newer") as database:
        async with opened(database, object_store, tmp_path_factory.mktemp("auth")) as harness:
            yield harness


@pytest.fixture
async def case(harness: ApiHarness) -> Case:
    """Return a new consultation in which nobody has consented yet."""
    return await harness.case()


@pytest.fixture
async def doctor(case: Case) -> Person:
    """Return the doctor of the consultation in the fixture `case`."""
    return case.doctor


@pytest.fixture
async def patient(case: Case) -> Person:
    """Return the patient of the consultation in the fixture `case`."""
    return case.patient


@pytest.fixture
async def other_doctor(harness: ApiHarness) -> Person:
    """Return an active clinician who is not the doctor of the consultation."""
    return await harness.clinician()


@pytest.fixture
async def officer(harness: ApiHarness) -> Person:
    """Return an active compliance officer."""
    return await harness.staff("compliance")


@pytest.fixture
async def recording(harness: ApiHarness, case: Case) -> UUID:
    """Return a READY recording, with a transcript, of the consultation in the fixture `case`."""
    made = await harness.recording(case)
    await store_transcript(harness, made)
    return made


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """Yield the URL of a server with the schema of `small_api.py` and production settings."""
    with serve(small_app(is_production=True)) as url:
        yield url
