"""`resguardo reconcile`: one pass over LiveKit's list, the bucket and the due deletions."""

from dataclasses import asdict

from app.settings import WorkerSettings
from app.worker.services import open_services


async def reconcile_once(settings: WorkerSettings) -> list[str]:
    """Run one pass over recordings, due deletions and the bucket, and return the counts as lines of text. Raises
    SettingsError and AppError.
    """
    async with open_services(settings) as services:
        passed = await services.reconciler.run_once()
        found_again = await services.lost_objects.run_once()
        swept = await services.orphaned_objects.run_once()
        destroyed = await services.destroyer.run_once()
    found = asdict(passed) | {"found_again": found_again} | asdict(swept)
    found |= {"destroyed": destroyed.destroyed, "destructions_failed": destroyed.failed}
    return [f"{name.replace('_', ' ')}: {count}" for name, count in found.items()]
