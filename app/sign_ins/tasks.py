"""The periodic task of sign-ins."""

from app.jobs.periodic import PeriodicTask
from app.sign_ins.service import SignInReader

READ_SECONDS = 5


def define_periodic_tasks(sign_ins: SignInReader) -> list[PeriodicTask]:
    """Return the task that copies the events of Supabase Auth into the audit log."""
    return [PeriodicTask("read_sign_ins", READ_SECONDS, sign_ins.read)]
