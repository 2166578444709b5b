"""The jobs and the periodic tasks of imports."""

from app.jobs.periodic import PeriodicTask
from app.jobs.queue import Task, by_id
from app.recording_imports.upload_signer import UploadSigner

EXPIRE_SECONDS = 60


def define_tasks(uploads: UploadSigner) -> list[Task]:
    """Return the job that signs the upload of an import."""
    return [Task("prepare_import", by_id(uploads.prepare))]


def define_periodic_tasks(uploads: UploadSigner) -> list[PeriodicTask]:
    """Return the task that ends expired imports."""
    return [PeriodicTask("expire_imports", EXPIRE_SECONDS, uploads.expire)]
