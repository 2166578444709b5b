"""The periodic tasks of deletions."""

from app.deletions.destroyer import Destroyer
from app.deletions.note_destroyer import NoteDestroyer
from app.jobs.periodic import PeriodicTask

DESTROY_SECONDS = 60
DESTROY_NOTES_SECONDS = 300


def define_periodic_tasks(destroyer: Destroyer, notes: NoteDestroyer) -> list[PeriodicTask]:
    """Return the periodic tasks that destroy recordings whose deletion is due, and signed notes whose term is over."""
    return [
        PeriodicTask("destroy_due", DESTROY_SECONDS, destroyer.run_once),
        PeriodicTask("destroy_due_notes", DESTROY_NOTES_SECONDS, notes.run_once),
    ]
