"""Fixtures for all tests, such as a new, migrated database for each test."""

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

# No deadline, because the duration of an example depends on the load of the machine.
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
    """Restore the default handler of SIGINT. A shell that runs pytest in the background lets pytest and its
    children ignore SIGINT (POSIX sh, 2.11).
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that no process still runs one of them after the other processes have ended."""
    items.sort(key=lambda item: item.path.stem not in _LONG)


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of pytest-xdist workers: 1.5 for each processor, because many tests wait for a process or a
    timeout.
    """
    return (os.cpu_count() or 2) * 3 // 2


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Return the backend of `@pytest.mark.anyio`: asyncio only, because psycopg and the job queue need it."""
    return "asyncio"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return the Postgres server of the test run. All pytest-xdist workers share the server."""
    own = tmp_path_factory.getbasetemp()
    run = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with shared_cluster(run / "cluster") as running:
        yield running


@pytest.fixture
def grants() -> Grants:
    """Return the grants that a project gives on new objects in `public`. A test parametrizes this fixture to run
    with both the older and the newer default grants.
    """
    return "newer"


@pytest.fixture
def database(cluster: Cluster, grants: Grants, request: pytest.FixtureRequest) -> Iterator[Database]:
    """Return a new database for one test, with all migrations and access statements applied and the logins'
    passwords set.

    At the end, the fixture fails if the audit log contains a term that is not registered.
    """
    with cluster.clone(grants) as fresh:
        yield fresh
        if request.node.get_closest_marker("writes_unregistered_terms") is None:
            assert unregistered_terms(fresh) == [], "register them in private.audit_terms"


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """Return an object store. Each pytest-xdist worker has one store, and each test uses its own object keys."""
    with stores.running(tmp_path_factory.mktemp("object_store")) as store:
        yield store


@pytest.fixture(scope="session")
def store_to_empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """Return a second object store, of which a test may delete all objects."""
    with stores.running(tmp_path_factory.mktemp("store_to_empty")) as store:
        yield store


@pytest.fixture
def emptied_store(store_to_empty: ObjectStore) -> ObjectStore:
    """Return an object store with an empty bucket, for tests that inspect the whole bucket and mark it themselves."""
    empty_bucket(store_to_empty)
    return store_to_empty
