"""A seeded database, and transactions of its people."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.databases import Cluster, Database
from tests.policies.seed import seed
from tests.policies.world import Connection


@pytest.fixture
def practice(database: Database) -> Database:
    """A database of the test's own with the practice of `world` in it."""
    seed(database.superuser_url)
    return database


@pytest.fixture(scope="module")
def finished(cluster: Cluster) -> Iterator[dict[str, Connection]]:
    """The worker and a superuser in a seeded database that nobody changes: each test rolls back."""
    with cluster.clone("newer") as database:
        seed(database.superuser_url)
        with (
            psycopg.connect(database.worker_url, autocommit=True) as worker,
            psycopg.connect(database.superuser_url, autocommit=True) as superuser,
        ):
            yield {"worker": worker, "superuser": superuser}
