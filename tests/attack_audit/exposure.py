"""Measures how long an event of the attacked system can be changed without a trace."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg

from app.audit.sealing.tasks import SEAL_SECONDS
from app.settings.audit import AuditPublishingSettings
from tests.attack_audit.attack import UndetectableAttack
from tests.attack_audit.system import System
from tests.databases import Database

MEASURED_SECONDS: Final = 12.0
_WRITE_SECONDS: Final = 0.05
_WRITE: Final = (
    "select private.write_audit('recording.read', 'ALLOWED', null, 'recording', array[gen_random_uuid()],"
    " array[gen_random_uuid()], array[gen_random_uuid()], '{}', 1, null)"
)
_UNSEALED: Final = "select extract(epoch from private.now() - min(u.recorded_at)) from audit.unsealed as u"


@dataclass(frozen=True)
class Exposures:
    """The longest time for which an event was unsealed while a worker sealed, and the default interval of the
    publications.
    """

    seal_seconds: float
    publish_seconds: int

    def describe(self, attack: UndetectableAttack) -> str:
        """Return the exposure of an attack, in words."""
        if attack.limit == "seal_lag":
            return f"{self.seal_seconds:.1f} s: {attack.exposure}"
        if attack.limit == "publication":
            return f"{self.publish_seconds + self.seal_seconds:.1f} s: {attack.exposure}"
        return attack.exposure


def measure_exposures(system: System) -> Exposures:
    """Let a worker seal at its interval, and write events meanwhile."""
    publish_seconds = AuditPublishingSettings.model_fields["audit_publish_seconds"].default
    with system.copy() as database, _sealing(system, database):
        return Exposures(_longest_lag(database), publish_seconds)


@contextmanager
def _sealing(system: System, database: Database) -> Iterator[None]:
    ended = threading.Event()

    def seal() -> None:
        while not ended.wait(SEAL_SECONDS):
            system.seal(database)

    thread = threading.Thread(target=seal)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _longest_lag(database: Database) -> float:
    longest = 0.0
    deadline = time.monotonic() + MEASURED_SECONDS
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            connection.execute(_WRITE)
            time.sleep(_WRITE_SECONDS)
            row = connection.execute(_UNSEALED).fetchone()
            longest = max(longest, float(row[0] or 0) if row else 0.0)
    return longest
