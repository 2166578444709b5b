"""Fixtures for tests of the migration runner: Supabase projects to which no migration has been applied."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from devstack.supabase_project import Grants, ProjectUrls, create_project, drop_project
from tests.databases import Cluster


@pytest.fixture
def new_project(cluster: Cluster, grants: Grants) -> Iterator[Callable[[], ProjectUrls]]:
    """Yield a function that creates empty Supabase projects, and drop these projects at the end of the test."""
    with ExitStack() as drops:

        def make() -> ProjectUrls:
            name = f"empty_{secrets.token_hex(8)}"
            drops.callback(drop_project, cluster.superuser_url, name)
            return create_project(
                cluster.superuser_url, name, grants=grants, owner_password=cluster.password("owner")
            )

        yield make


@pytest.fixture
def project(new_project: Callable[[], ProjectUrls]) -> ProjectUrls:
    """Return one empty project."""
    return new_project()
