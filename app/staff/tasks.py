"""The jobs and the periodic tasks of staff."""

from app.jobs.periodic import PeriodicTask
from app.jobs.queue import Task, by_id
from app.staff.bans import StaffBans
from app.staff.invitations import StaffInvitations

BAN_ATTEMPTS = 24 * 60
"""A day of attempts a minute apart."""

END_SESSIONS_SECONDS = 15


def define_tasks(bans: StaffBans, invitations: StaffInvitations) -> list[Task]:
    """Return the jobs that ban suspended people, lift the bans of reinstated people, and send invitations."""
    return [
        Task("ban_user", by_id(bans.apply), attempts=BAN_ATTEMPTS, give_up=by_id(bans.give_up)),
        Task("invite_staff", by_id(invitations.send), attempts=20, give_up=by_id(invitations.give_up)),
    ]


def define_periodic_tasks(bans: StaffBans) -> list[PeriodicTask]:
    """Return the task that ends the sessions of suspended people."""
    return [PeriodicTask("end_sessions", END_SESSIONS_SECONDS, bans.end_sessions)]
