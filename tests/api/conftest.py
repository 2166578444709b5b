"""The running API, and who commonly comes to it."""

from collections.abc import AsyncIterator

import pytest

from devstack.object_store import ObjectStore
from tests.api.world import Case, Person, World, opened
from tests.databases import Cluster


@pytest.fixture(scope="session")
async def world(
    anyio_backend: str, cluster: Cluster, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """One for all tests of a process."""
    with cluster.clone("newer") as database:
        async with opened(database, object_store, tmp_path_factory.mktemp("auth")) as world:
            yield world


@pytest.fixture
async def case(world: World) -> Case:
    """A consultation of its own, without any consent."""
    return await world.case()


@pytest.fixture
async def doctor(case: Case) -> Person:
    """The case's."""
    return case.doctor


@pytest.fixture
async def patient(case: Case) -> Person:
    """The case's."""
    return case.patient


@pytest.fixture
async def other_doctor(world: World) -> Person:
    """A clinician in good standing who has no part in the case."""
    return await world.clinician()


@pytest.fixture
async def officer(world: World) -> Person:
    """Compliance."""
    return await world.staff("compliance")
