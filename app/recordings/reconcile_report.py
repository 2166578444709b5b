"""The result of one pass of the reconciler. If an error concerns only one recording, the pass logs the error and
continues with the others.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.errors import AppError
from app.failures import describe_failure

log = logging.getLogger(__name__)


@dataclass
class ReconcileReport:
    """Counts what one pass of the reconciler has done."""

    egresses: int = 0
    unfinished: int = 0
    moved: int = 0
    overdue: int = 0
    strays_stopped: int = 0
    missing: int = 0
    lost: int = 0
    stopped_for_consent: int = 0
    started_by_themselves: int = 0
    sound_requested: int = 0
    problems: int = 0

    @asynccontextmanager
    async def log_errors(self, what: str) -> AsyncIterator[None]:
        """Log an error of one recording and continue with the others. The next pass of the reconciler tries the
        recording again.
        """
        try:
            yield
        except AppError as error:
            self.problems += 1
            log.warning("reconcile: %s: %s", what, error.summary)
        except Exception as error:  # noqa: BLE001 - the loop's edge: the pass must reach the other recordings
            self.problems += 1
            log.error("reconcile: %s: %s", what, describe_failure(error))  # noqa: TRY400 - it could quote a row
