"""Reads the events of R2's Data Access Logs. Pure."""

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from app.bucket.object_keys import parse_export_key, parse_recording_key

LARGEST_LINE_BYTES: Final = 65_536
NO_ADDRESS: Final = "none"
_INTERFACES: Final = {"s3": "S3", "api": "API", "workers": "WORKERS", "public": "PUBLIC"}
OTHER_INTERFACE: Final = "OTHER"


class FetchEvaluation(StrEnum):
    """Whether an imported access log covers a part of a period. Without such a log, the fetches are unknown."""

    EVALUATED = "EVALUATED"
    NOT_EVALUATED = "NOT_EVALUATED"


@dataclass(frozen=True)
class Fetch:
    """The reads of one object in one minute from one address. `entity_type` is recording or export."""

    entity_type: str
    entity_id: UUID
    fetched_at: datetime
    address: str
    interface: str


@dataclass(frozen=True)
class LoggedEvent:
    """One line of the access log. `fetch` is None if the event is no read of a recording or an export, or if the worker
    itself read the object.
    """

    at: datetime
    fetch: Fetch | None


@dataclass(frozen=True)
class FetchReport:
    """The report of fetches in a period."""

    evaluation: FetchEvaluation
    first_event_at: datetime | None
    last_event_at: datetime | None
    issued_count: int
    fetched_count: int
    finding_count: int
    findings: tuple[Fetch, ...]


def parse_event(line: bytes, *, bucket: str, own_key: str) -> LoggedEvent | None:
    """Return the event of a line, or None if the line is about another bucket. `own_key` is the worker's access key.
    Raises ValueError if the line is no event.
    """
    if len(line) > LARGEST_LINE_BYTES:
        raise ValueError("the line is too long")
    event = json.loads(line)
    if not isinstance(event, dict):
        raise ValueError("the line is no object")  # noqa: TRY004 - the caller catches one error
    if _read(event, "bucket") != bucket:
        return None
    at = _read_time(_read(event, "$metadata.timestamp"))
    return LoggedEvent(at, _find_fetch(event, at, own_key))


def _find_fetch(event: Mapping[str, Any], at: datetime, own_key: str) -> Fetch | None:
    key = _read(event, "resource.key")
    if _read(event, "action") != "GetObject" or not isinstance(key, str):
        return None
    interface = _INTERFACES.get(str(_read(event, "interface")).lower(), OTHER_INTERFACE)
    if interface == "S3" and _read(event, "actor.accessKeyId") == own_key:
        return None
    recording, export = parse_recording_key(key), parse_export_key(key)
    if recording is None and export is None:
        return None
    return Fetch(
        "recording" if recording is not None else "export",
        recording.video_id if recording is not None else _require(export),
        at.replace(second=0, microsecond=0),
        _read_address(_read(event, "requestMetadata.ip")),
        interface,
    )


def _require(export: UUID | None) -> UUID:
    if export is None:
        raise ValueError("the key is no key of an export")
    return export


def _read(event: Mapping[str, Any], name: str) -> Any:
    """Return a field of an event. A log file has either nested objects, or flat names with a dot for nested fields."""
    if name in event:
        return event[name]
    head, _, rest = name.partition(".")
    inner = event.get(head)
    return _read(inner, rest) if rest and isinstance(inner, Mapping) else None


def _read_time(value: Any) -> datetime:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("the event has no time")  # noqa: TRY004 - the caller catches one error
    try:
        return datetime.fromtimestamp(value / 1000, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError("the time of the event is out of range") from error


def _read_address(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        return NO_ADDRESS
