"""Types of the exports of the audit log. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

MOST_EVENTS: Final = 10_000_000
"""The largest export: about 8 GB of NDJSON, before the archive compresses it."""


class AuditExportStatus(StrEnum):
    """The status of an export of the audit log. STOPPED means that the officer who asked for it was suspended or got
    another role. EXPIRED means that the worker deleted the archive after 7 days.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    READY = "READY"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    EXPIRED = "EXPIRED"


class AuditExportFormat(StrEnum):
    """The format of the file of events."""

    NDJSON = "NDJSON"
    CSV = "CSV"


@dataclass(frozen=True)
class AuditExportUrl:
    """A presigned URL that downloads the archive. Everyone who has the URL can download the archive until the URL
    expires, but nobody can open the archive without its secret.
    """

    url: str = field(repr=False)
    expires_at: datetime
    expires_in_seconds: int


@dataclass(frozen=True)
class BegunExport:
    """An attempt to make an export. `run` is the number of the attempt. `requested_at` is also the end of the range of
    time of the events, and no event is older than `oldest_at`. `filter` has the fields of the filter that are set.
    """

    object_key: str = field(repr=False)
    run: int
    format: AuditExportFormat
    filter: dict[str, Any]
    requested_by: UUID
    requested_at: datetime
    oldest_at: datetime


@dataclass(frozen=True)
class Place:
    """The place of an event: the origin of its log, and the index of its leaf in the log's tree. The index is None if
    the event is not sealed yet.
    """

    origin: str
    index: int | None


@dataclass(frozen=True)
class WrittenContent:
    """The file of events that an attempt has written."""

    file_name: str
    sha256: str
    size_bytes: int
    event_count: int


def compute_percent(begun: BegunExport, reached: datetime) -> int:
    """Return how much of an export's range of time is read, from 0 to 99 percent. Events are read from the newest to
    the oldest, and `reached` is the time of the last event.
    """
    whole = (begun.requested_at - begun.oldest_at).total_seconds()
    done = (begun.requested_at - reached).total_seconds()
    return max(0, min(99, int(100 * done / whole))) if whole > 0 else 99
