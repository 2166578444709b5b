"""Fixtures of the policy tests: a database with the practice of `actors`, and connections to it."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.databases import Cluster, Database
from tests.policies.actors import Connection
from tests.policies.seed import seed


@pytest.fixture
def practice(database: Database) -> Database:
    """Return a new database, for one test only, that contains the practice of `actors.py`."""
    seed(database.superuser_url)
    return database


@pytest.fixture(scope="module")
def finished(cluster: Cluster) -> Iterator[dict[str, Connection]]:
    """Return two connections, of the worker and of a superuser, to a seeded database that the tests of a module
    share. Each test rolls its changes back.
    """
    with cluster.clone("newer") as database:
        seed(database.superuser_url)
        with (
            psycopg.connect(database.worker_url, autocommit=True) as worker,
            psycopg.connect(database.superuser_url, autocommit=True) as superuser,
        ):
            yield {"worker": worker, "superuser": superuser}
