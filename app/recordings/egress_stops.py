"""Stops egresses that should not run: stray egresses, which belong to no recording, and egresses that should have
ended.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, LiteralString
from uuid import UUID

from app.errors import AppError
from app.integrations.livekit.client import EgressSnapshot, LiveKit
from app.postgres.database import Database
from app.recordings import store
from app.recordings.reconcile_report import ReconcileReport

log = logging.getLogger(__name__)

STOP_PAUSE: Final = timedelta(seconds=60)
LONGEST_STOP_PAUSE: Final = timedelta(hours=1)
"""The longest pause between stops. An egress that does not end is asked again in the next pass, and then after 1,
2, 4, ... minutes. LiveKit lists the egress of a dead node without end, and each stop request for it takes 3 s.
"""


@dataclass(frozen=True)
class _RequestedStop:
    """The stop requests for one egress: the time of the last one, and how many there were."""

    asked_at: datetime
    times: int

    def is_due(self, now: datetime) -> bool:
        """Return whether the pause after the last stop request is over. The second stop request follows the first
        without a pause.
        """
        growing = STOP_PAUSE * ((1 << min(self.times - 1, 10)) // 2)
        return now - self.asked_at >= min(growing, LONGEST_STOP_PAUSE)


class EgressStops:
    """Asks LiveKit to stop egresses, with growing pauses between the requests. A worker that becomes the leader
    does not know the stop requests of the former leader.
    """

    def __init__(self, database: Database, livekit: LiveKit) -> None:
        self._database = database
        self._livekit = livekit
        self._requested: dict[str, _RequestedStop] = {}

    def forget(self) -> None:
        """Clear the memory of stop requests, for a process that has just become the leader."""
        self._requested = {}

    def keep_only(self, running: set[str]) -> None:
        """Delete the memory of stop requests for egresses that have ended."""
        self._requested = {key: value for key, value in self._requested.items() if key in running}

    async def stop_stray(
        self, egress: EgressSnapshot, reason: LiteralString, now: datetime, report: ReconcileReport
    ) -> None:
        """Report a stray egress, which belongs to no recording, only once. While the egress runs, ask LiveKit to
        stop it, with growing pauses between the requests.
        """
        before = self._requested.get(egress.egress_id)
        if egress.status == "ending" or (before is not None and not before.is_due(now)):
            return
        if all(one.is_over for one in await self._livekit.list_egress(egress_id=egress.egress_id)):
            return  # it ended during this pass
        if before is None:
            async with self._database.as_service("reconcile") as tx:
                await store.record_stray(tx, _parse_consultation_id(egress.room_name), reason)
            log.warning("an egress runs without an intent: egress=%s %s", egress.egress_id, reason)
        report.strays_stopped += await self.stop(egress.egress_id, now, report)

    async def stop(self, egress_id: str, now: datetime, report: ReconcileReport) -> bool:
        """Ask LiveKit to stop an egress, unless the pause after the last stop request is still running. Return
        whether LiveKit accepted the stop request. If the first stop request for this egress fails, the method
        raises its error. If a later stop request fails, its error is counted, but neither raised nor logged.
        """
        before = self._requested.get(egress_id)
        if before is not None and not before.is_due(now):
            return False
        self._requested[egress_id] = _RequestedStop(now, 1 if before is None else before.times + 1)
        try:
            return await self._livekit.stop_egress(egress_id) == "stopping"
        except AppError:
            if before is None:
                raise
            report.problems += 1
            return False


def _parse_consultation_id(room_name: str) -> UUID | None:
    try:
        return UUID(room_name[-36:])
    except ValueError:
        return None
