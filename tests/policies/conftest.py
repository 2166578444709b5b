"""Fixtures of the policy tests: a seeded database and its people."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.databases import Cluster, Database
from tests.policies.actors import Connection
from tests.policies.seed import seed


@pytest.fixture
def practice(database: Database) -> Database:
    """Return a new database for one test that contains the practice of `actors`."""
    seed(database.superuser_url)
    return database


@pytest.fixture(scope="module")
def finished(cluster: Cluster) -> Iterator[dict[str, Connection]]:
    """Return connections of the worker and a superuser to a shared seeded database. Each test rolls back its
    changes.
    """
    with cluster.clone("newer") as database:
        seed(database.superuser_url)
        with (
            psycopg.connect(database.worker_url, autocommit=True) as worker,
            psycopg.connect(database.superuser_url, autocommit=True) as superuser,
        ):
            yield {"worker": worker, "superuser": superuser}
