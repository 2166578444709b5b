"""Tests of Resguardo's processes: they end soon after a signal, and they reconnect after the database was down."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from psycopg import sql

from app.consents.model import ShownText
from app.consents.service import Consents
from app.consents.texts import CURRENT_VERSION, consent_texts
from app.consultations.model import Registration, Sensitivity
from app.consultations.service import Consultations
from app.integrations.livekit.client import LiveKit
from app.keys.keyring import Keyring
from app.postgres.database import Database
from devstack.children import child
from devstack.stack import Stack
from tests.databases import Cluster
from tests.integration import small_stack
from tests.integration.recording_harness import DOCTOR, PATIENT, asker, seed_people
from tests.registered import RegisteredConsultation

STOP_SECONDS = 8


@pytest.fixture
def running_stack(cluster: Cluster, tmp_path: Path) -> Iterator[Stack]:
    with small_stack.running(cluster, tmp_path) as made:
        yield made


@pytest.fixture
def start(running_stack: Stack, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Return a function that starts `resguardo` with these arguments. The started process writes its log to `<first
    argument>.log`.
    """
    with ExitStack() as stack:

        def run(*arguments: str, ready_url: str | None = None) -> subprocess.Popen[bytes]:
            return stack.enter_context(
                child(
                    "app.cli",
                    arguments,
                    log=tmp_path / f"{arguments[0]}.log",
                    environment=running_stack.environment,
                    ready_url=ready_url,
                )
            )

        yield run


def _wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _rows(running_stack: Stack, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(running_stack.project.superuser_url) as connection:
        return connection.execute(query.encode(), parameters or None).fetchall()


def _job_is_done(running_stack: Stack) -> bool:
    """Queue a job for a recording that does not exist, and wait until the worker has finished the job."""
    argument = uuid4()
    _rows(running_stack, "select private.defer_job('verify_recording', %s)", argument)
    query = "select status::text from jobs.procrastinate_jobs where args ->> 'id' = %s"
    _wait_until(
        lambda: _rows(running_stack, query, str(argument)) == []
    )  # The queue deletes a job that succeeded
    return True


def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> int:
    process.send_signal(number)
    return process.wait(STOP_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_ends_soon_after_a_signal_and_signs_off(
    running_stack: Stack, start: Callable[..., subprocess.Popen[bytes]], number: signal.Signals
) -> None:
    worker = start("worker")
    assert _job_is_done(running_stack)
    assert _end(worker, number) == 0
    assert _rows(running_stack, "select id from jobs.procrastinate_workers") == []


def test_worker_seals_each_event_within_ten_seconds(
    running_stack: Stack, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Events of another process are sealed while the worker runs, and so is the mark of this hour."""
    start("worker")
    marks = (
        "select from audit.events as e join audit.leaves as l on l.event_id = e.id and l.recorded_at = e.recorded_at"
        " where e.action = 'audit_log.mark_hour'"
    )
    _wait_until(lambda: len(_rows(running_stack, marks)) == 1)
    for _ in range(3):
        with psycopg.connect(running_stack.environment["API_DATABASE_URL"]) as api:
            api.execute("select private.record_rejections('request.reject', '192.0.2.1', 1)")
        _wait_until(lambda: _rows(running_stack, "select count(*) from audit.unsealed") == [(0,)], seconds=10)


def test_worker_ends_soon_while_its_bucket_does_not_answer(
    running_stack: Stack, start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    with psycopg.connect(running_stack.environment["WORKER_DATABASE_URL"], autocommit=True) as other_leader:
        other_leader.execute("select private.take_lease('another', null)")
        worker = start("worker")
        assert _job_is_done(running_stack)
        with _standing_still(_store_of(tmp_path)):
            other_leader.execute("select private.give_lease_back(1)")
            _wait_until(lambda: "this worker leads: " in (tmp_path / "worker.log").read_text())
            time.sleep(1)  # By then, the periodic tasks wait for the bucket, for longer than STOP_SECONDS
            assert _end(worker, signal.SIGTERM) == 0
    assert _rows(running_stack, "select id from jobs.procrastinate_workers") == []


def test_frozen_leader_is_replaced_and_does_not_lead_after_it_continues(
    running_stack: Stack, start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """While the leading worker is frozen, the test ends its lease, so that the second worker becomes the leader
    without waiting for the lease to expire.
    """
    first, first_log = start("worker"), tmp_path / "first.log"
    _wait_until(lambda: _leader(running_stack) == first.pid)
    (tmp_path / "worker.log").rename(first_log)
    second = start("worker")
    _wait_until(lambda: _askers(running_stack) == 2)
    with _standing_still(first.pid):
        _rows(running_stack, "update private.leadership set expires_at = clock_timestamp() returning number")
        _wait_until(lambda: _leader(running_stack) == second.pid)
    _wait_until(lambda: "this worker does not lead: lead_lost" in first_log.read_text())
    assert "the leader did not renew its lease: leader=" in (tmp_path / "worker.log").read_text()
    assert _leader(running_stack) == second.pid
    assert _end(second, signal.SIGTERM) == 0
    _wait_until(lambda: _leader(running_stack) == first.pid)
    assert _end(first, signal.SIGTERM) == 0
    assert _leader(running_stack) is None


def test_worker_wrongly_taken_for_dead_continues_with_new_jobs(
    running_stack: Stack, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    worker = start("worker")
    assert _job_is_done(running_stack)
    _rows(running_stack, "delete from jobs.procrastinate_workers returning id")
    assert _job_is_done(running_stack)
    assert _end(worker, signal.SIGTERM) == 0


def _leader(running_stack: Stack) -> int | None:
    query = (
        "select leader from private.leadership where leader is not null and expires_at > clock_timestamp()"
    )
    found = _rows(running_stack, query)
    return int(found[0][0].rpartition("/")[2]) if found else None


def _askers(running_stack: Stack) -> int:
    query = (
        "select count(*) from pg_stat_activity"
        " where application_name = 'resguardo-worker-leader' and datname = current_database()"
    )
    return int(_rows(running_stack, query)[0][0])


def test_worker_reconnects_after_the_database_was_down(
    cluster: Cluster, running_stack: Stack, start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    ready_url = f"{running_stack.api_url}/health/ready"
    api = start("serve", "--port", str(urlsplit(running_stack.api_url).port), ready_url=ready_url)
    worker = start("worker")
    assert _job_is_done(running_stack)
    _take_away(cluster, running_stack)
    assert httpx.get(ready_url, timeout=20).status_code == 503
    _wait_until(lambda: "the worker waits: database_" in (tmp_path / "worker.log").read_text())
    _give_back(cluster, running_stack)
    assert _job_is_done(running_stack)
    _wait_until(lambda: httpx.get(ready_url, timeout=20).status_code == 200)
    assert _end(worker, signal.SIGTERM) == 0
    assert _end(api, signal.SIGTERM) in (0, -signal.SIGTERM)
    log = (tmp_path / "worker.log").read_text() + (tmp_path / "serve.log").read_text()
    for name in ("API_DATABASE_URL", "WORKER_DATABASE_URL"):
        assert str(urlsplit(running_stack.environment[name]).password) not in log


def test_recording_of_which_every_webhook_is_dropped_is_finished_by_the_worker(
    running_stack: Stack, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    _ordered(running_stack, "drop_all")
    with ThreadPoolExecutor(1) as thread:  # The calling thread may already run an event loop
        consultation = thread.submit(asyncio.run, _arranged(running_stack)).result()
    running_stack.environment["RECONCILE_SECONDS"] = "1"
    worker = start("worker")
    query = "select id, status from resguardo.recordings where consultation_id = %s"
    _wait_until(lambda: [row[1] for row in _rows(running_stack, query, consultation)] == ["RECORDING"])
    ((recording, _),) = _rows(running_stack, query, consultation)
    update = "update resguardo.recordings set status = 'STOPPING' where id = %s returning id"
    _rows(running_stack, update, recording)
    _rows(running_stack, "select private.defer_job('stop_recording', %s)", recording)
    _wait_until(lambda: _rows(running_stack, query, consultation) == [(recording, "READY")])
    assert _rows(running_stack, "select event_id from private.livekit_events") == []
    assert _end(worker, signal.SIGTERM) == 0


def _store_of(directory: Path) -> int:
    running = small_stack.processes_of(directory / "store").items()
    (pid,) = (pid for pid, command in running if "devstack.swift" in command)
    return pid


@contextmanager
def _standing_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _ordered(running_stack: Stack, kind: str) -> None:
    headers = {"Authorization": f"Bearer {running_stack.livekit_api_secret}"}
    url = f"{running_stack.livekit_url}/stand-in/orders"
    httpx.post(url, json={"order": kind}, headers=headers, trust_env=False).raise_for_status()


async def _arranged(running_stack: Stack) -> UUID:
    """Register a consultation with automatic recording, all consents, and all participants in the room."""
    seed_people(running_stack.project)
    environment = running_stack.environment
    api = Database(environment["API_DATABASE_URL"], application="test", max_size=2)
    key, secret = environment["LIVEKIT_API_KEY"], environment["LIVEKIT_API_SECRET"]
    await api.open()
    async with (
        LiveKit(running_stack.livekit_url, key, secret) as livekit,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        consultations = Consultations(
            api,
            livekit,
            Keyring.parse(environment["ROOT_KEYS"]),
            livekit_url="ws://127.0.0.1",
            deployment=environment["DEPLOYMENT"],
        )
        made = await RegisteredConsultation.register(consultations, asker(DOCTOR), _registration())
        text = consent_texts()[CURRENT_VERSION, "en"]
        shown = ShownText(text.version, text.language, text.sha256)
        for participant in made.participants:
            person = asker(DOCTOR if participant.kind == "DOCTOR" else PATIENT)
            await Consents(api).give(person, participant.id, shown, None)
            _, join = await consultations.join(person, made.id)
            entered = await http.post(
                f"{running_stack.livekit_url}/stand-in/join", json={"token": join.token}
            )
            entered.raise_for_status()
    await api.close()
    return made.id


def _registration() -> Registration:
    return Registration(
        external_id="consultation-1",
        doctor_id=None,
        patient_external_id="patient-1",
        patient_user_id=PATIENT,
        scheduled_at=datetime(2026, 11, 21, 12, tzinfo=UTC),
        kind="follow_up",
        sensitivity=Sensitivity.ORDINARY,
        auto_record=True,
        separate_speakers=False,
    )


OUTAGES = {
    "database_read_only": ("set default_transaction_read_only = on", "reset default_transaction_read_only"),
    "database_connections_used_up": ("connection limit 0", "connection limit -1"),
}


@pytest.mark.parametrize("when", ["at the start", "later"])
@pytest.mark.parametrize("reason", OUTAGES)
def test_outage_of_any_kind_is_waited_for_by_the_same_process(
    cluster: Cluster,
    running_stack: Stack,
    start: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
    reason: str,
    when: str,
) -> None:
    worker = start("worker") if when == "later" else None
    if worker is not None:
        assert _job_is_done(running_stack)
    begins, ends = OUTAGES[reason]
    _alter(cluster, running_stack, begins)
    worker = worker or start("worker")
    _wait_until(lambda: f"the worker waits: {reason}" in (tmp_path / "worker.log").read_text())
    _alter(cluster, running_stack, ends)
    assert _job_is_done(running_stack)
    log = (tmp_path / "worker.log").read_text()
    assert log.count(f"the worker waits: {reason}") == 1
    assert log.count("the worker works again") == 1
    assert "Traceback" not in log
    assert _end(worker, signal.SIGTERM) == 0


def _alter(cluster: Cluster, running_stack: Stack, how: str) -> None:
    """Run `alter database` with the change `how`, and end all existing sessions of Resguardo's database logins."""
    name = urlsplit(running_stack.project.owner_url).path.removeprefix("/")
    with psycopg.connect(cluster.superuser_url, autocommit=True) as connection:
        connection.execute(sql.SQL("alter database {} ").format(sql.Identifier(name)) + sql.SQL(how))
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = %s and usename like 'resguardo%%'",
            (name,),
        )


def _take_away(cluster: Cluster, running_stack: Stack) -> None:
    name = urlsplit(running_stack.project.owner_url).path.removeprefix("/")
    with psycopg.connect(cluster.superuser_url, autocommit=True) as connection:
        connection.execute(sql.SQL("alter database {} allow_connections false").format(sql.Identifier(name)))
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s", (name,)
        )


def _give_back(cluster: Cluster, running_stack: Stack) -> None:
    name = urlsplit(running_stack.project.owner_url).path.removeprefix("/")
    with psycopg.connect(cluster.superuser_url, autocommit=True) as connection:
        connection.execute(sql.SQL("alter database {} allow_connections true").format(sql.Identifier(name)))
