"""The worker's periodic tasks, as the simulation runs them. Each function of this module is one pass of one
process.
"""

from uuid import UUID

from app.access_requests.exports import Exports
from app.bucket.missing_objects import MissingObjects
from app.bucket.orphaned_objects import OrphanedObjects
from app.deletions.destroyer import Destroyer
from app.deletions.ledger import Ledger
from app.deletions.note_destroyer import NoteDestroyer
from app.deletions.restore_check import RestoreCheck
from app.errors import Conflict
from app.holds.bucket_protection import BucketProtection
from app.notes.exported_notes import compose_note_files
from tests.simulation.harness import DEPLOYMENT, KEYRING, SIGNER, Pass, SimulationHarness
from tests.simulation.oracle import QUARANTINE
from tests.simulation.process import Doors, Process


def destroyer(harness: SimulationHarness, process: Process) -> Destroyer:
    storage = harness.storage.through(process)
    return Destroyer(
        Doors(harness.worker, process),
        storage,
        SIGNER,
        Ledger(storage, (SIGNER.public_key,), deployment=DEPLOYMENT),
        deployment=DEPLOYMENT,
        backup_retention_days=35,
    )


async def destroy(harness: SimulationHarness, process: Process) -> None:
    """Destroy due recordings, and then due signed notes."""
    await destroyer(harness, process).run_once()
    storage = harness.storage.through(process)
    notes = NoteDestroyer(
        Doors(harness.worker, process),
        storage,
        SIGNER,
        Ledger(storage, (SIGNER.public_key,), deployment=DEPLOYMENT),
        deployment=DEPLOYMENT,
        backup_retention_days=35,
    )
    await notes.run_once()


async def protect(harness: SimulationHarness, process: Process) -> None:
    """Protect the objects that must be kept longer because of a legal hold or a longer retention term. If the move
    of an object fails, the pass fails, and the task runs again soon, as in the worker.
    """
    storage = harness.storage.through(process)
    await BucketProtection(Doors(harness.worker, process), storage, None, deployment=DEPLOYMENT).run_once()
    if await harness.value("select exists (select from private.object_moves)"):
        raise Conflict("object_still_moving")


async def keep_exports(harness: SimulationHarness, process: Process) -> None:
    """Delete the expired copies that were made for access requests."""
    storage = harness.storage.through(process)
    await Exports(
        Doors(harness.worker, process), storage, KEYRING, compose_note_files, deployment=DEPLOYMENT
    ).run_once()


def export(request_id: UUID) -> Pass:
    """Return a pass that makes the requested copy for a patient's access request."""

    async def work(harness: SimulationHarness, process: Process) -> None:
        storage = harness.storage.through(process)
        await Exports(
            Doors(harness.worker, process), storage, KEYRING, compose_note_files, deployment=DEPLOYMENT
        ).export(request_id)

    return work


async def sweep(harness: SimulationHarness, process: Process) -> None:
    """Sweep orphaned objects."""
    storage = harness.storage.through(process)
    await OrphanedObjects(Doors(harness.worker, process), storage, quarantine=QUARANTINE).run_once()


async def look_for_missing(harness: SimulationHarness, process: Process) -> None:
    """Search for missing objects."""
    doors, storage = Doors(harness.worker, process), harness.storage.through(process)
    await MissingObjects(doors, storage, deployment=DEPLOYMENT, quarantine=QUARANTINE).run_once()


async def check_restore(harness: SimulationHarness, process: Process) -> None:
    """Destroy again the recordings that a restore brought back."""
    doors, storage = Doors(harness.worker, process), harness.storage.through(process)
    ledger = Ledger(storage, (SIGNER.public_key,), deployment=DEPLOYMENT)
    await RestoreCheck(doors, storage, ledger, deployment=DEPLOYMENT).run(repeat=True)
