"""Tests that no process starts if its database or its bucket has no deployment mark, or has the mark of a different
deployment.
"""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from app.deployment import mark_database, require_own_bucket, require_own_database
from app.errors import Conflict
from app.integrations.storage.client import Storage
from app.postgres.database import Database as Pool
from devstack.object_store import ObjectStore
from devstack.supabase_project import with_database
from tests.databases import Database

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    made = Pool(database.api_url, application="test", max_size=1)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def bucket(emptied_store: ObjectStore) -> Iterator[Storage]:
    """Yield a storage client of an empty bucket. The empty bucket has no deployment mark."""
    storage = _storage(emptied_store)
    yield storage
    storage.close()


def _storage(store: ObjectStore) -> Storage:
    return Storage(endpoint_url=store.endpoint_url, bucket=store.bucket, credentials=store.writer)


async def test_unmarked_database_is_refused(pool: Pool) -> None:
    with pytest.raises(Conflict, match="database_unmarked"):
        await require_own_database(pool, "first")


async def test_own_database_is_taken_and_another_deployments_refused(database: Database, pool: Pool) -> None:
    mark_database(database.owner_url, "first")
    mark_database(database.owner_url, "first")
    await require_own_database(pool, "first")
    with pytest.raises(Conflict, match="database_of_another_deployment"):
        await require_own_database(pool, "second")


async def test_mark_is_not_changed_by_another_deployment(database: Database, pool: Pool) -> None:
    mark_database(database.owner_url, "first")
    with pytest.raises(Conflict, match="database_of_another_deployment"):
        mark_database(database.owner_url, "second")
    await require_own_database(pool, "first")
    with psycopg.connect(database.owner_url) as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("insert into private.deployment (name) values ('second')")


async def test_worker_sees_the_mark_too(database: Database) -> None:
    mark_database(database.owner_url, "first")
    worker = Pool(database.worker_url, application="test", max_size=1)
    await worker.open()
    try:
        await require_own_database(worker, "first")
    finally:
        await worker.close()


async def test_database_that_was_never_migrated_is_unmarked(database: Database) -> None:
    elsewhere = Pool(with_database(database.api_url, "postgres"), application="test", max_size=1)
    await elsewhere.open()
    try:
        with pytest.raises(Conflict, match="database_unmarked"):
            await require_own_database(elsewhere, "first")
    finally:
        await elsewhere.close()


async def test_bucket_is_refused_unmarked_and_of_another_deployment(bucket: Storage) -> None:
    with pytest.raises(Conflict, match="bucket_unmarked"):
        await require_own_bucket(bucket, "first")
    await bucket.claim("first")
    await bucket.claim("first")
    await require_own_bucket(bucket, "first")
    with pytest.raises(Conflict, match="storage_of_another_deployment"):
        await bucket.claim("second")
    with pytest.raises(Conflict, match="bucket_of_another_deployment"):
        await require_own_bucket(bucket, "second")
