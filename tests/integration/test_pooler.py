"""Resguardo works with a pooler in session mode. Resguardo refuses a pooler in transaction or statement mode.
Resguardo detects the pool mode for every order in which the pooler chooses its server sessions.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from app.deployment import require_own_database
from app.errors import Conflict
from app.postgres.connections import connect
from app.postgres.database import Database as Pool
from app.postgres.pooler import require_session
from app.texts import operator_message
from devstack.children import free_port
from tests.databases import Database
from tests.pooler import PICKS, Mode, Pooler

pytestmark = pytest.mark.anyio

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")


@pytest.mark.parametrize("picks", PICKS)
@pytest.mark.parametrize("most", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_pooler_that_keeps_no_session_is_refused(
    database: Database, mode: Mode, picks: str, most: int
) -> None:
    async with Pooler(database.api_url, mode, picks, most).running() as url:
        if mode == "transaction":
            await _warm(url, most)
        with pytest.raises(Conflict, match="pooler_keeps_no_session"):
            await require_session(url)


async def _warm(url: str, most: int) -> None:
    """Open and close several connections through the pooler, so that the pooler has several server sessions to
    choose from.
    """
    clients = [await connect(url, application="test", autocommit=False) for _ in range(most)]
    for client in clients:
        await client.execute("select 1")
    for client in clients:
        await client.close()


async def test_pooler_that_keeps_sessions_is_taken_and_gets_no_options(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c search_path=elsewhere")
    pooler = Pooler(database.api_url, "session")
    async with pooler.running() as url:
        await require_session(url)
        api = Pool(url, application="test", max_size=2)
        await api.open()
        async with api.as_service("test") as tx:
            assert await tx.value("select current_setting('search_path')") == "pg_catalog, pg_temp"
        await api.close()
    assert pooler.started
    assert all("options" not in start for start in pooler.started)


async def test_start_over_a_pooler_that_keeps_no_session_is_refused(database: Database) -> None:
    """Every command that opens the database, such as `serve`, `worker` and `check`, calls `require_own_database`
    first.
    """
    async with Pooler(database.worker_url, "transaction").running() as url:
        pool = Pool(url, application="test", max_size=1)
        with pytest.raises(Conflict, match="pooler_keeps_no_session") as refused:
            await require_own_database(pool, "any")
        await pool.close()
    assert not refused.value.retryable, "a retry cannot help, because only the operator can change the URL"
    assert "5432" in operator_message(refused.value.reason)


async def test_pooler_with_much_traffic_is_refused(database: Database) -> None:
    async with Pooler(database.api_url, "transaction", "any", most=6).running() as url:
        others = [asyncio.create_task(_keep_asking(url)) for _ in range(4)]
        with pytest.raises(Conflict, match="pooler_keeps_no_session"):
            await require_session(url)
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def _keep_asking(url: str) -> None:
    async with await connect(url, application="test", autocommit=True) as connection:
        while True:
            await connection.execute("select 1")


async def test_direct_connection_to_postgres_is_accepted(database: Database) -> None:
    await require_session(database.api_url)


@pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")
@pytest.mark.parametrize("round_robin", [0, 1])
@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
async def test_pgbouncer_is_refused_unless_it_keeps_sessions(
    database: Database, tmp_path: Path, mode: Mode, round_robin: int
) -> None:
    with _pgbouncer(database, tmp_path, mode, round_robin) as url:
        if mode == "session":
            await require_session(url)
        else:
            with pytest.raises(Conflict, match="pooler_keeps_no_session"):
                await require_session(url)


@contextmanager
def _pgbouncer(database: Database, directory: Path, mode: Mode, round_robin: int) -> Iterator[str]:
    """Run the real pgbouncer in the pool mode `mode`, with the default values of most other settings. Yield the
    database URL with which the API's login connects through pgbouncer.
    """
    parts, port = urlsplit(database.api_url), free_port()
    password = unquote(parts.password or "")
    for each in (directory, *directory.parents):
        each.chmod(each.stat().st_mode | 0o011)
    (directory / "users.txt").write_text(f'"{parts.username}" "{password}"\n')
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={parts.hostname} port={parts.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nauth_type = plain\nauth_file = {directory}/users.txt\npool_mode = {mode}\n"
        f"server_round_robin = {round_robin}\nunix_socket_dir =\n"
    )
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([str(PGBOUNCER), *user, "-q", str(directory / "pgbouncer.ini")])
    try:
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
        yield parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()
    finally:
        process.terminate()
        process.wait(20)
