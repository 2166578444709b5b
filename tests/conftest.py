"""Fixtures that every test may ask for: async tests on asyncio, and a fresh, migrated database."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from devstack import object_store as stores
from devstack.object_store import ObjectStore
from devstack.supabase_project import Grants
from tests.buckets import empty_bucket
from tests.databases import Cluster, Database, shared_cluster, unregistered_terms

# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


_LONG = (
    "test_simulate",
    "test_web_developer",
    "test_demo",
    "test_faults",
    "test_recording_machine",
    "test_worker",
)


def pytest_configure() -> None:
    """A shell that runs this in the background has it ignore SIGINT, and with it whatever a test starts (sh, 2.11)."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no process is left with it while the others have ended."""
    items.sort(key=lambda item: item.path.stem not in _LONG)


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are processors: many tests wait, for a process or for a time."""
    return (os.cpu_count() or 2) * 3 // 2


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """What `@pytest.mark.anyio` runs on: asyncio alone, as psycopg and the job queue do."""
    return "asyncio"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The run's Postgres, shared by all pytest-xdist workers."""
    own = tmp_path_factory.getbasetemp()
    run = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with shared_cluster(run / "cluster") as running:
        yield running


@pytest.fixture
def grants() -> Grants:
    """What a project grants on new objects in `public`; parametrize it directly to test both kinds of
    project.
    """
    return "newer"


@pytest.fixture
def database(cluster: Cluster, grants: Grants, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database of the test's own, with all migrations and access applied and the logins' passwords set.

    Whatever the product wrote into the audit log must be of registered terms.
    """
    with cluster.clone(grants) as fresh:
        yield fresh
        if request.node.get_closest_marker("writes_unregistered_terms") is None:
            assert unregistered_terms(fresh) == [], "register them in private.audit_terms"


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An object store, one for each pytest-xdist worker; tests keep to keys of their own."""
    with stores.running(tmp_path_factory.mktemp("object_store")) as store:
        yield store


@pytest.fixture(scope="session")
def store_to_empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """Another one, of which no test may expect anything."""
    with stores.running(tmp_path_factory.mktemp("store_to_empty")) as store:
        yield store


@pytest.fixture
def emptied_store(store_to_empty: ObjectStore) -> ObjectStore:
    """A store with nothing in its bucket, for tests that judge all of it, and bear a mark of their own."""
    empty_bucket(store_to_empty)
    return store_to_empty
