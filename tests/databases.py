"""The Postgres server of the tests, and a new database for each test.

A test run has one cluster: embedded, or the external server that `DATABASE_URL` names with a superuser's URL. The
first pytest-xdist worker that needs the cluster starts it, and stops it after all other workers have finished with
it. For each variant of default grants, there is one migrated template database, to which nobody is connected. Each
test gets a clone of a template.

`PG_BIN` names the binaries of another Postgres for the embedded cluster (`devstack/postgres.py`).
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psycopg
from psycopg import sql
from pydantic import SecretStr

from app.deployment import prepare_database
from devstack.postgres import running
from devstack.supabase_project import (
    Grants,
    create_project,
    drop_project,
    project_owner,
    project_urls,
    with_login,
)

MIGRATIONS = Path(__file__).parent.parent / "supabase" / "migrations"
API_ROLE = "resguardo_api"
WORKER_ROLE = "resguardo_worker"
ROOM_BYTES = 4 << 30


@dataclass(frozen=True)
class Database:
    """A migrated database of one test, with a URL for each login. The URLs contain passwords."""

    name: str
    grants: Grants
    owner: str
    superuser_url: str = field(repr=False)
    owner_url: str = field(repr=False)
    auth_admin_url: str = field(repr=False)
    api_url: str = field(repr=False)
    worker_url: str = field(repr=False)


@dataclass(frozen=True)
class Cluster:
    """A running server, and the directory that coordinates the workers of one test run."""

    superuser_url: str = field(repr=False)
    meeting_place: Path

    def password(self, role: str) -> SecretStr:
        """Return a password that depends only on the role and the server. Since every pytest-xdist worker and every
        test run sets the same passwords, none of them breaks a login that another one uses on the same server.
        """
        return SecretStr(hashlib.sha256(f"{role} {self.superuser_url}".encode()).hexdigest())

    @cached_property
    def owner(self) -> str:
        with psycopg.connect(self.superuser_url) as connection:
            return project_owner(connection)

    def template(self, grants: Grants) -> str:
        """Return the name of the migrated template. The first caller of this method creates the template."""
        run = hashlib.sha256(str(self.meeting_place).encode()).hexdigest()[:8]
        name = f"resguardo_template_{grants}_{run}"
        made = self.meeting_place / f"template.{grants}"
        with _locked(self.meeting_place / "lock"):
            if not made.exists():
                self._make_template(name, grants)
                made.touch()
        return name

    def _make_template(self, name: str, grants: Grants) -> None:
        drop_project(self.superuser_url, name)
        urls = create_project(self.superuser_url, name, grants=grants, owner_password=self.password("owner"))
        prepare_database(urls.owner_url, {role: self.password(role) for role in (API_ROLE, WORKER_ROLE)})
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            close = sql.SQL("alter database {} allow_connections false")
            connection.execute(close.format(sql.Identifier(name)))

    @contextmanager
    def clone(self, grants: Grants) -> Iterator[Database]:
        """Create a copy of the template. At the end of the block, drop the copy together with its remaining
        sessions.

        Postgres clones the content of a database, but not the settings and grants of the database itself.
        """
        template, name, owner = self.template(grants), f"test_{secrets.token_hex(8)}", self.owner
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            # Measured 2026-11-21 on 18.4: file_copy 33 ms and 10 ms to drop, wal_log 33-59 and 40.
            statement = sql.SQL("create database {} template {} owner {} strategy file_copy")
            connection.execute(statement.format(*map(sql.Identifier, (name, template, owner))))
        try:
            yield self._database(name, grants, owner)
        finally:
            drop_project(self.superuser_url, name)

    def _database(self, name: str, grants: Grants, owner: str) -> Database:
        urls = project_urls(self.superuser_url, name, owner=owner, owner_password=self.password("owner"))
        api, worker = (
            with_login(self.superuser_url, name, role, self.password(role))
            for role in (API_ROLE, WORKER_ROLE)
        )
        return Database(
            name,
            grants,
            owner,
            urls.superuser_url,
            urls.owner_url,
            urls.auth_admin_url,
            api_url=api,
            worker_url=worker,
        )

    def drop_templates(self) -> None:
        """Drop the templates. On an external server, only the roles remain after the tests."""
        for made in self.meeting_place.glob("template.*"):
            grants: Grants = "older" if made.suffix == ".older" else "newer"
            drop_project(self.superuser_url, self.template(grants))
            made.unlink()  # A later host of this run starts a new server, and creates the templates again.


def unregistered_terms(database: Database) -> list[tuple[str, str]]:
    """Return the action and the column of each term in the audit log that is not registered. Return an empty list
    if a test has locked or dropped the log.

    The check leaves out the column `basis`, because tests act as services whose names are not registered.
    """
    with (
        suppress(psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable, psycopg.OperationalError),
        psycopg.connect(database.superuser_url, options="-c lock_timeout=1s") as connection,
    ):
        rows = connection.execute(
            "select e.action, w.place from audit.events as e cross join lateral (values ('reason', e.reason),"
            " ('entities', e.entities::text), ('fields', array_to_string(e.fields, ' '))) as w (place, words)"
            " where w.words like '%unregistered%' group by 1, 2 order by 1, 2"
        )
        return [(str(action), str(place)) for action, place in rows]
    return []


@contextmanager
def shared_cluster(meeting_place: Path) -> Iterator[Cluster]:
    """Yield the cluster of the test run. The first process that enters the block runs the server, and stops it
    after all other processes have left the block.
    """
    meeting_place.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as hosting, (meeting_place / "guests").open("a") as guests:
        # A guest holds a shared lock. The host waits for an exclusive lock, which it gets after all guests have
        # left.
        fcntl.flock(guests, fcntl.LOCK_SH)
        address = meeting_place / "superuser.url"
        with _locked(meeting_place / "lock"):
            is_host = not address.exists()
            if is_host:
                url = hosting.enter_context(_server())
                address.touch(mode=0o600)
                address.write_text(url)
        cluster = Cluster(address.read_text(), meeting_place)
        try:
            yield cluster
        finally:
            if is_host:
                fcntl.flock(guests, fcntl.LOCK_EX)
                address.unlink()
                cluster.drop_templates()


@contextmanager
def _server() -> Iterator[str]:
    if external := os.environ.get("DATABASE_URL"):
        yield external
        return
    with (
        tempfile.TemporaryDirectory(prefix="resguardo-postgres-", dir=in_memory()) as home,
        running(Path(home), durable=False) as url,
    ):
        yield url


def in_memory() -> Path | None:
    """Return a directory in memory with enough space for a test run, or None if the machine has none.

    On ext4 (Linux 6.18), creating the 700 files of a database takes 20 ms. On ext4, creating the files takes 350 ms
    if about 700 files were removed in the last seconds, and each test removes as many. In a directory in memory,
    creating the files of a database always takes 20 ms.
    """
    shared = Path("/dev/shm")  # noqa: S108 - the directory made in it is for this user alone
    if not os.access(shared, os.W_OK) or shutil.disk_usage(shared).free < ROOM_BYTES:
        return None
    return shared


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
