"""Finds events whose time contradicts their place in the log. Pure."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.audit.verification.model import FindingName, Findings

TOLERANCE: Final = timedelta(seconds=120)
"""How much earlier an event may be than the events before it. A transaction lasts at most 60 seconds."""

LEAP: Final = timedelta(seconds=60)
"""The difference from which the sealer records a leap of the clock."""

_MOST_PENDING: Final = 5000
HOUR_GAP: Final = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class _Early:
    index: int
    event_id: UUID | None
    recorded_at: datetime
    behind: timedelta


class TimeOrder:
    """Reads the events of one log in the order of their indexes. An event that is earlier than its place stays
    pending for a while: if the sealer then records a leap of the clock, the leap explains the event.
    """

    def __init__(self, log: str, findings: Findings) -> None:
        self._log = log
        self._findings = findings
        self._newest: datetime | None = None
        self._pending: deque[_Early] = deque()
        self._marked_at: datetime | None = None

    def add(self, index: int, event_id: UUID | None, recorded_at: datetime) -> None:
        """Read one event."""
        newest = self._newest
        if newest is not None and recorded_at < newest - TOLERANCE:
            self._pending.append(_Early(index, event_id, recorded_at, newest - recorded_at))
            if len(self._pending) > _MOST_PENDING:
                self._report(self._pending.popleft())
        elif newest is None or recorded_at > newest:
            self._newest = recorded_at

    def add_leap(self, index: int, event_id: UUID | None, recorded_at: datetime) -> None:
        """Read an event with which the sealer recorded that the clock went back."""
        newest = self._newest
        if newest is None or newest <= recorded_at + LEAP / 2:
            return
        seconds = round((newest - recorded_at).total_seconds())
        self._findings.add(
            FindingName.CLOCK_LEAP, self._log, index=index, event_id=event_id, detail=f"{seconds} seconds"
        )
        for early in self._pending:
            if abs(early.recorded_at - recorded_at) > TOLERANCE:
                self._report(early)
        self._pending.clear()
        self._newest = recorded_at

    def add_mark(self, index: int, recorded_at: datetime) -> None:
        """Read an event with which the sealer marked an hour."""
        if self._marked_at is not None and recorded_at - self._marked_at > HOUR_GAP:
            self._findings.add(
                FindingName.HOURS_MISSING,
                self._log,
                index=index,
                detail=f"after {self._marked_at:%Y-%m-%d %H:%M} UTC",
            )
        self._marked_at = recorded_at

    def finish(self) -> None:
        """Report the events that no leap explains."""
        while self._pending:
            self._report(self._pending.popleft())

    def _report(self, early: _Early) -> None:
        self._findings.add(
            FindingName.BACKDATED,
            self._log,
            index=early.index,
            event_id=early.event_id,
            detail=f"{round(early.behind.total_seconds())} seconds",
        )
