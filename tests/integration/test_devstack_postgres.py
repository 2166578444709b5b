"""The embedded Postgres accepts no login without a password, and leaves no process and no file behind."""

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from app.errors import Conflict, InvalidInput
from devstack import postgres
from devstack.postgres import running
from tests.databases import Cluster, Database


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pg")


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with running(home, durable=False) as superuser_url:
        yield superuser_url


def _connect(url: str, **changes: str) -> None:
    psycopg.connect(make_conninfo(url, connect_timeout=10, **changes)).close()


def test_login_over_tcp_refuses_a_wrong_password(url: str) -> None:
    _connect(url)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        _connect(url, password="wrong")


def test_login_over_the_socket_refuses_a_wrong_password(home: Path, url: str) -> None:
    socket = str(home / "cluster")
    _connect(url, host=socket)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        _connect(url, host=socket, password="wrong")


def test_login_without_a_password_is_refused(home: Path, url: str) -> None:
    port = str(urlsplit(url).port)
    for host in ("127.0.0.1", str(home / "cluster")):
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            _connect(f"dbname=postgres user=supabase_admin port={port}", host=host)


def test_password_is_kept_in_a_file_for_its_user_alone(home: Path, url: str) -> None:
    assert (home / "superuser.password").stat().st_mode & 0o777 == 0o600
    assert (home / "superuser.password").read_text() == urlsplit(url).password


def test_bootstrap_superuser_leaves_the_name_postgres_free(url: str) -> None:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "select current_user, exists (select from pg_roles where rolname = 'postgres')"
        )
        assert found.fetchone() == ("supabase_admin", False)


def test_second_start_in_the_same_directory_is_refused(home: Path, url: str) -> None:
    with pytest.raises(Conflict, match="cluster_in_use"), running(home):
        pass


def test_second_start_keeps_data_and_password(tmp_path: Path) -> None:
    with running(tmp_path, durable=False) as first, psycopg.connect(first) as connection:
        connection.execute("create table kept ()")
    with running(tmp_path, durable=False) as second, psycopg.connect(second) as connection:
        connection.execute("select from kept")
        assert urlsplit(first).password == urlsplit(second).password


def test_durability_is_given_up_only_when_asked(tmp_path: Path, url: str) -> None:
    with psycopg.connect(url) as connection:
        assert connection.execute("show fsync").fetchone() == ("off",)
    with running(tmp_path) as durable, psycopg.connect(durable) as connection:
        assert connection.execute("show fsync").fetchone() == ("on",)


def test_cluster_of_another_major_version_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, durable=False):
        pass
    (tmp_path / "cluster" / "PG_VERSION").write_text("14\n")
    with pytest.raises(Conflict, match="cluster_version"), running(tmp_path):
        pass


def test_postgres_stops_when_its_process_is_killed(tmp_path: Path) -> None:
    program = textwrap.dedent(
        f"""
        import pathlib, sys
        from devstack.postgres import running
        with running(pathlib.Path({str(tmp_path)!r}), durable=False) as url:
            print(url, flush=True)
            sys.stdin.read()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        orphan = parent.stdout.readline().strip()
        _connect(orphan)
        parent.send_signal(signal.SIGKILL)
    _wait_until_gone(tmp_path / "cluster" / "postmaster.pid")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        _connect(orphan)
    with running(tmp_path, durable=False) as again:
        _connect(again)


def _wait_until_gone(path: Path) -> None:
    deadline = time.monotonic() + 30
    while path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_postgres_is_stopped_by_a_signal_that_comes_while_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(cluster: Path, process: subprocess.Popen[bytes]) -> bool:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(postgres, "_is_ready", interrupted)
    with pytest.raises(KeyboardInterrupt), running(tmp_path, durable=False):
        pytest.fail("the server started in spite of the interrupt")
    assert [process.poll() is not None for process in started] == [True]


def test_postgres_is_stopped_by_a_signal_that_comes_while_its_process_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    spawn = postgres._spawn

    def interrupted(*arguments: Any) -> subprocess.Popen[bytes]:
        started.append(spawn(*arguments))
        signal.raise_signal(signal.SIGINT)
        return started[0]

    monkeypatch.setattr(postgres, "_spawn", interrupted)
    with pytest.raises(KeyboardInterrupt), running(tmp_path, durable=False):
        pytest.fail("the server started in spite of the signal")
    assert [process.poll() is not None for process in started] == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_missing_binaries_are_named(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidInput, match="postgres_binaries_missing"),
        running(tmp_path, binaries=tmp_path / "none"),
    ):
        pass


def test_each_test_gets_a_database_of_its_own(cluster: Cluster, database: Database) -> None:
    with cluster.clone(database.grants) as other, psycopg.connect(other.owner_url) as connection:
        connection.execute("create schema left_over")
        connection.commit()
        with psycopg.connect(database.owner_url) as here:
            assert here.execute("select to_regnamespace('left_over')").fetchone() == (None,)


@pytest.mark.parametrize("grants", ["older", "newer"])
def test_logins_are_themselves_and_no_superusers(database: Database) -> None:
    for login, name in ((database.api_url, "resguardo_api"), (database.worker_url, "resguardo_worker")):
        with psycopg.connect(login) as connection:
            assert connection.execute("select current_user, current_setting('is_superuser')").fetchone() == (
                name,
                "off",
            )
        with pytest.raises(psycopg.OperationalError):
            _connect(login, password="wrong")
