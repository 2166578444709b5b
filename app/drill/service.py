"""Runs a drill: its steps in order, with the duration and the problems of each.

After a failed step, the drill continues with the next step, unless the following steps depend on the failed step.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.certificates.signing import CertificateSigner, read_public_key
from app.deletions.ledger import Ledger
from app.deployment import require_own_bucket
from app.drill import bucket_checks, database_checks
from app.drill.database_checks import SampledRecording
from app.drill.model import DrillReport, Notes, Problem, Step
from app.errors import AppError
from app.integrations import vendor_clients
from app.keys import escrow as escrows
from app.keys.escrow import Escrow
from app.settings import BucketWriterSettings

DEFAULT_SAMPLE: Final = 20


@dataclass(frozen=True)
class DrillOrder:
    """The input of a drill: the dump to restore, the escrow file, and the number of recordings to compare."""

    dump: Path
    escrow: Path
    passphrase: str = field(repr=False)
    sample: int = DEFAULT_SAMPLE


@dataclass(frozen=True)
class DrillProgress:
    """Receives the progress of a drill: the name of a step that begins, a step that ended, and the number of
    checked recordings.
    """

    on_begin: Callable[[str], None] = lambda name: None
    on_end: Callable[[Step], None] = lambda step: None
    on_checked: Callable[[int, int], None] = lambda done, total: None


@dataclass(frozen=True)
class RestoreServer:
    """A new Postgres server with an empty database and the roles that a dump names."""

    home: Path
    url: str


class Restorer(Protocol):
    """The interface of `devstack.restoring`, which restores a dump into a Postgres server that it starts."""

    def examine(self, dump: Path, notes: Notes) -> None:
        """Examine the dump file and note its type. Raises InvalidInput."""

    def fresh_server(self) -> AbstractContextManager[RestoreServer]:
        """Run a new Postgres server, and remove the server at the end of the `with` block. Raises InvalidInput,
        UpstreamFailed.
        """

    def restore(self, server: RestoreServer, dump: Path, notes: Notes) -> None:
        """Restore the dump into the server, and note each problem of the restore. Raises InvalidInput."""


class _Stopped(Exception):  # noqa: N818 - it reads as what happened
    """Raised if a step failed and the following steps depend on it."""


@dataclass
class _StepRecorder:
    watcher: DrillProgress
    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str, *, is_essential: bool = False) -> Iterator[Notes]:
        notes, began = Notes(), time.monotonic()
        self.watcher.on_begin(name)
        try:
            yield notes
        except AppError as error:
            notes.problems.append(Problem(error.reason))
        except psycopg.Error as error:
            notes.problems.append(Problem("database_error", error.sqlstate or ""))
        made = Step(name, time.monotonic() - began, notes.found, tuple(notes.problems))
        self.steps.append(made)
        self.watcher.on_end(made)
        if is_essential and not made.is_ok:
            raise _Stopped


def run_drill(
    settings: BucketWriterSettings, order: DrillOrder, watcher: DrillProgress, restorer: Restorer
) -> DrillReport:
    """Restore the dump, compare it with the bucket, and remove the restored data. The drill's problems are in the
    report; they are not raised as errors.
    """
    return _reported(
        settings, watcher, lambda course: _restore_and_compare(course, settings, order, restorer)
    )


def compare_restored(
    settings: BucketWriterSettings, order: DrillOrder, url: str, watcher: DrillProgress
) -> DrillReport:
    """Run only those steps of the drill that compare data, on a database that is already restored. `url` must
    contain a superuser's login. Does not read `order.dump`.
    """
    return _reported(
        settings,
        watcher,
        lambda course: _compare(course, settings, order, _open_escrow(course, settings, order), url),
    )


def _reported(
    settings: BucketWriterSettings, watcher: DrillProgress, take: Callable[[_StepRecorder], None]
) -> DrillReport:
    course, began_at, began = _StepRecorder(watcher), datetime.now(UTC), time.monotonic()
    is_complete = True
    try:
        take(course)
    except _Stopped:
        is_complete = False
    return DrillReport(
        settings.deployment, began_at, time.monotonic() - began, tuple(course.steps), is_complete
    )


def _restore_and_compare(
    course: _StepRecorder, settings: BucketWriterSettings, order: DrillOrder, restorer: Restorer
) -> None:
    kept = _open_escrow(course, settings, order)
    with course.step("dump", is_essential=True) as notes:
        restorer.examine(order.dump, notes)
    with ExitStack() as stack:
        with course.step("start Postgres", is_essential=True):
            server = stack.enter_context(restorer.fresh_server())
        with course.step("restore the dump") as notes:
            restorer.restore(server, order.dump, notes)
        _compare(course, settings, order, kept, server.url)


def _compare(
    course: _StepRecorder, settings: BucketWriterSettings, order: DrillOrder, kept: Escrow, url: str
) -> None:
    with course.step("deployment", is_essential=True) as notes:
        database_checks.check_mark(url, settings.deployment, notes)
    with course.step("migrations") as notes:
        database_checks.check_migrations(url, notes)
    with course.step("policies") as notes:
        database_checks.check_policies(url, notes)
    with course.step("audit log") as notes:
        database_checks.check_audit_log(url, notes)
    with course.step("root keys") as notes:
        database_checks.check_root_keys(url, kept.keyring, notes)
    asyncio.run(_compare_with_bucket(course, settings, order, kept, url))


def _open_escrow(course: _StepRecorder, settings: BucketWriterSettings, order: DrillOrder) -> Escrow:
    with course.step("escrow", is_essential=True) as notes:
        kept = escrows.read(order.escrow, order.passphrase)
        notes.found["made_at"] = kept.made_at.isoformat()
        notes.require(kept.deployment == settings.deployment, "escrow_of_another_deployment")
    return kept


def _public_keys(kept: Escrow) -> list[Ed25519PublicKey]:
    """Return the current and the earlier public keys with which certificates are checked."""
    former = [read_public_key(key.encode()) for key in kept.certificate_former_public_keys]
    return [CertificateSigner.from_seed(kept.certificate_signing_key).public_key, *former]


async def _compare_with_bucket(
    course: _StepRecorder, settings: BucketWriterSettings, order: DrillOrder, kept: Escrow, url: str
) -> None:
    """Compare the restored database with the bucket."""
    storage = vendor_clients.make_worker_storage(settings)
    try:
        with course.step("bucket", is_essential=True):
            await require_own_bucket(storage, settings.deployment)
        with course.step("published audit log") as notes:
            await bucket_checks.check_audit_logs(storage, database_checks.read_logs(url), notes)
        gone: list[UUID] = []
        with course.step("ledger of deletions") as notes:
            ledger = Ledger(storage, _public_keys(kept), deployment=kept.deployment)
            undone = database_checks.undone_deletions(url, await bucket_checks.read_ledger(ledger, notes))
            gone += await bucket_checks.check_entries(ledger, undone, notes)
        sampled: list[SampledRecording] = []
        with course.step("data keys") as notes:
            sampled += database_checks.sample(url, order.sample, gone)
            database_checks.check_data_keys(sampled, kept.keyring, notes)
        with course.step("transcripts") as notes:
            database_checks.check_transcripts(url, sampled, kept.keyring, notes)
        with course.step("insights") as notes:
            database_checks.check_insights(sampled, kept.keyring, notes)
        with course.step("notes") as notes:
            database_checks.check_notes(url, sampled, kept.keyring, notes)
        with course.step("signed notes") as notes:
            database_checks.check_signed_notes(url, order.sample, gone, kept.keyring, notes)
        with course.step("recordings") as notes:
            await bucket_checks.check_recordings(storage, sampled, notes, course.watcher.on_checked)
    finally:
        storage.close()
