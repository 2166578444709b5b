"""The worker's rounds, each as a pass of one process."""

from uuid import UUID

from app.access_requests.exports import Exports
from app.deletions.destroyer import Destroyer
from app.deletions.ledger import Ledger
from app.deletions.restore import RestoreCheck
from app.errors import Conflict
from app.holds.protection import Protection
from app.recordings.missing import MissingObjects
from app.recordings.sweeper import Sweeper
from tests.simulation.oracle import QUARANTINE
from tests.simulation.process import Doors, Process
from tests.simulation.world import DEPLOYMENT, SIGNER, Pass, World


def destroyer(world: World, process: Process) -> Destroyer:
    storage = world.storage.through(process)
    return Destroyer(
        Doors(world.worker, process),
        storage,
        SIGNER,
        Ledger(storage, (SIGNER.public_key,), deployment=DEPLOYMENT),
        deployment=DEPLOYMENT,
        backup_retention_days=35,
    )


async def destroy(world: World, process: Process) -> None:
    """What is due."""
    await destroyer(world, process).run_once()


async def protect(world: World, process: Process) -> None:
    """What is held or outgrown; fails where a move has: it comes again soon then, as the worker's round does."""
    storage = world.storage.through(process)
    await Protection(Doors(world.worker, process), storage, None, deployment=DEPLOYMENT).run_once()
    if await world.value("select exists (select from private.object_moves)"):
        raise Conflict("object_still_moving")


async def keep_exports(world: World, process: Process) -> None:
    """Copies whose end has come."""
    storage = world.storage.through(process)
    await Exports(Doors(world.worker, process), storage, deployment=DEPLOYMENT).run_once()


def export(request_id: UUID) -> Pass:
    """Makes the copy of a request."""

    async def work(world: World, process: Process) -> None:
        storage = world.storage.through(process)
        await Exports(Doors(world.worker, process), storage, deployment=DEPLOYMENT).export(request_id)

    return work


async def sweep(world: World, process: Process) -> None:
    """Objects that no recording has."""
    storage = world.storage.through(process)
    await Sweeper(Doors(world.worker, process), storage, quarantine=QUARANTINE).run_once()


async def look_for_missing(world: World, process: Process) -> None:
    """Recordings without an object."""
    doors, storage = Doors(world.worker, process), world.storage.through(process)
    await MissingObjects(doors, storage, deployment=DEPLOYMENT, quarantine=QUARANTINE).run_once()


async def check_restore(world: World, process: Process) -> None:
    """What a restore undid goes again."""
    doors, storage = Doors(world.worker, process), world.storage.through(process)
    ledger = Ledger(storage, (SIGNER.public_key,), deployment=DEPLOYMENT)
    await RestoreCheck(doors, storage, ledger, deployment=DEPLOYMENT).run(repeat=True)
