"""Tests of `resguardo serve` and of a separate process that only receives webhooks: each of the two processes works
without the other.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen

import httpx
import psycopg
import pytest

from benchmarks.notifications import notification
from devstack.children import child, free_port
from devstack.livekit.webhooks import CONTENT_TYPE, sign
from devstack.stack import Stack
from tests.databases import API_ROLE, Cluster
from tests.integration import small_stack


@pytest.fixture(scope="module")
def running_stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with small_stack.running(cluster, tmp_path_factory.mktemp("running_stack")) as made:
        yield made


def _serving(
    running_stack: Stack, url: str, directory: Path, *options: str
) -> AbstractContextManager[Popen[bytes]]:
    return child(
        "app.cli",
        ["serve", "--port", url.rpartition(":")[2], *options],
        log=directory / f"{url.rpartition(':')[2]}.log",
        environment=running_stack.environment,
        ready_url=f"{url}/health/ready",
    )


def _new_url() -> str:
    return f"http://127.0.0.1:{free_port()}"


def _notify(running_stack: Stack, url: str, body: bytes) -> httpx.Response:
    signed = sign(
        body, running_stack.environment["LIVEKIT_API_KEY"], running_stack.environment["LIVEKIT_API_SECRET"]
    )
    return httpx.post(
        f"{url}/webhooks/livekit", content=body, headers={"Content-Type": CONTENT_TYPE} | signed
    )


def _sessions(running_stack: Stack) -> set[str]:
    """Return the application names of the database connections that the API's login has open."""
    query = (
        "select application_name from pg_stat_activity where datname = current_database() and usename = %s"
    )
    with psycopg.connect(running_stack.project.superuser_url) as connection:
        return {name for (name,) in connection.execute(query, (API_ROLE,)).fetchall()}


def test_metrics_say_whether_a_worker_leads(running_stack: Stack, tmp_path: Path) -> None:
    url = _new_url()
    with _serving(running_stack, url, tmp_path):
        before = httpx.get(f"{url}/metrics")
        with psycopg.connect(running_stack.environment["WORKER_DATABASE_URL"], autocommit=True) as worker:
            worker.execute("select private.take_lease('test', null)")
        after = httpx.get(f"{url}/metrics")
    assert before.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert _samples(before.text) == {"resguardo_leader_present": "0", "resguardo_unled_seconds": "NaN"}
    assert _samples(after.text) == {"resguardo_leader_present": "1", "resguardo_unled_seconds": "0.000"}


def _samples(text: str) -> dict[str, str]:
    return dict(line.split() for line in text.splitlines() if not line.startswith("#"))


def test_process_for_webhooks_has_the_webhook_and_nothing_else(running_stack: Stack, tmp_path: Path) -> None:
    url = _new_url()
    with _serving(running_stack, url, tmp_path, "--only-webhooks"):
        answer = _notify(running_stack, url, notification("room_started", "demo_any"))
        assert (answer.status_code, answer.json()) == (200, {"duplicate": False})
        assert httpx.post(f"{url}/webhooks/livekit", content=b"{}").status_code == 401
        assert httpx.post(f"{url}/graphql", json={"query": "{ viewer { id } }"}).status_code == 404
        assert httpx.get(f"{url}/health/live").status_code == 200
        assert _sessions(running_stack) == {"resguardo-api"}, (
            "the process has no connection that listens for notifications"
        )


def test_terminated_process_ends_by_itself_and_leaves_no_session(
    running_stack: Stack, tmp_path: Path
) -> None:
    url = _new_url()
    with _serving(running_stack, url, tmp_path, "--only-webhooks") as process:
        _notify(running_stack, url, notification("room_started", "demo_any"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) in (0, -signal.SIGTERM)
    deadline = time.monotonic() + 10
    while _sessions(running_stack) and time.monotonic() < deadline:
        time.sleep(0.05)  # The server's side of a closed connection ends after the client's side
    assert _sessions(running_stack) == set()


def test_either_process_serves_the_webhook_while_the_other_is_dead(
    running_stack: Stack, tmp_path: Path
) -> None:
    all_url, webhooks_url = _new_url(), _new_url()
    known, new = (notification("room_started", "demo_any") for _ in range(2))
    with _serving(running_stack, all_url, tmp_path) as everything:
        with _serving(running_stack, webhooks_url, tmp_path, "--only-webhooks") as webhooks:
            assert _notify(running_stack, webhooks_url, known).json() == {"duplicate": False}
            webhooks.kill()
            webhooks.wait(timeout=20)
            assert _notify(running_stack, all_url, known).json() == {"duplicate": True}
        with _serving(running_stack, webhooks_url, tmp_path, "--only-webhooks"):
            everything.kill()
            everything.wait(timeout=20)
            assert _notify(running_stack, webhooks_url, new).json() == {"duplicate": False}
