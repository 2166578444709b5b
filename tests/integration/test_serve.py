"""Tests of `resguardo serve` and of a separate process that only receives webhooks: each of the two processes works
without the other.
"""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import Popen

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.alerts.model import AlertKind
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


@contextmanager
def _measured(
    running_stack: Stack, directory: Path, *options: str, **settings: str
) -> Iterator[tuple[str, str]]:
    """Run an API with metrics. Yield the URL of the API and the URL of its metrics."""
    url, port = _new_url(), str(free_port())
    with child(
        "app.cli",
        ["serve", "--port", url.rpartition(":")[2], *options],
        log=directory / "metrics.log",
        environment=running_stack.environment | {"METRICS_PORT": port} | settings,
        ready_url=f"{url}/health/ready",
    ):
        yield url, f"http://127.0.0.1:{port}/metrics"


def test_metrics_are_apart_from_the_port_that_a_proxy_forwards(running_stack: Stack, tmp_path: Path) -> None:
    with _measured(running_stack, tmp_path) as (url, metrics):
        assert httpx.get(metrics).status_code == 200
        for path in ("/metrics", "/metrics/", "//metrics", "/%6detrics"):
            for headers in ({}, {"Host": "localhost"}, {"X-Forwarded-For": "127.0.0.1"}):
                assert httpx.get(f"{url}{path}", headers=headers).status_code == 404
        for path in ("/graphql", "/health/ready", "/webhooks/livekit"):
            assert httpx.get(metrics.replace("/metrics", path)).status_code == 404


def test_metrics_listen_on_loopback_unless_a_setting_says_otherwise(
    running_stack: Stack, tmp_path: Path
) -> None:
    with _measured(running_stack, tmp_path) as (_, metrics), pytest.raises(httpx.ConnectError):
        httpx.get(metrics.replace("127.0.0.1", "127.0.0.2"))
    with _measured(running_stack, tmp_path, METRICS_HOST="127.0.0.2") as (_, metrics):
        assert httpx.get(metrics.replace("127.0.0.1", "127.0.0.2")).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(metrics)


def test_process_for_webhooks_has_no_metrics(running_stack: Stack, tmp_path: Path) -> None:
    with (
        _measured(running_stack, tmp_path, "--only-webhooks") as (_, metrics),
        pytest.raises(httpx.ConnectError),
    ):
        httpx.get(metrics)


def test_process_whose_metrics_port_is_taken_refuses_to_start(running_stack: Stack, tmp_path: Path) -> None:
    with _measured(running_stack, tmp_path) as (_, metrics):
        second = subprocess.run(
            [sys.executable, "-m", "app.cli", "serve", "--port", str(free_port())],
            env=running_stack.environment
            | {
                "METRICS_PORT": metrics.rpartition(":")[2].removesuffix("/metrics"),
                "PATH": os.environ["PATH"],
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert second.returncode != 0
    assert "metrics_port_taken" in second.stdout + second.stderr


def test_metrics_count_the_leader_and_the_open_alerts(running_stack: Stack, tmp_path: Path) -> None:
    with _measured(running_stack, tmp_path) as (_, metrics):
        before = httpx.get(metrics)
        with psycopg.connect(running_stack.environment["WORKER_DATABASE_URL"], autocommit=True) as worker:
            worker.execute("select private.take_lease('test', null)")
            for key in ("a", "b"):
                worker.execute("select private.store_alert('JOB_FAILED', %s, null, '{}')", [key])
        after = _samples(httpx.get(metrics).text)
        with psycopg.connect(running_stack.environment["WORKER_DATABASE_URL"], autocommit=True) as worker:
            worker.execute("select private.replace_alerts('JOB_FAILED', '[]')")
        closed = _samples(httpx.get(metrics).text)
    assert before.headers["content-type"].startswith("text/plain; version=0.0.4")
    earlier = _samples(before.text)
    assert earlier["resguardo_leader_present", ""] == 0
    assert math.isnan(earlier["resguardo_unled_seconds", ""])
    assert {kind for name, kind in earlier if name == "resguardo_open_alerts"} == set(AlertKind)
    assert (after["resguardo_leader_present", ""], after["resguardo_unled_seconds", ""]) == (1, 0)
    assert earlier["resguardo_open_alerts", "JOB_FAILED"] == 0
    assert after["resguardo_open_alerts", "JOB_FAILED"] == 2
    assert closed["resguardo_open_alerts", "JOB_FAILED"] == 0


def _samples(text: str) -> dict[tuple[str, str], float]:
    """Return the value of each sample by its name and its label `kind`, as Prometheus's own parser reads them."""
    families = list(text_string_to_metric_families(text))
    assert {family.type for family in families} == {"gauge"}
    assert all(family.documentation for family in families)
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, sample.labels.get("kind", "")): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


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
