"""Writes audit events as NDJSON or CSV. Pure.

A line of NDJSON is `{"log":"<origin>","index":<index>,"salt":"<hex>","event":<canonical JSON>}`. The event comes last
and is its canonical form byte for byte, so a verifier computes the leaf hash of the event from the salt and these
bytes. The index and the salt are null if the event was not sealed when the line was written. The salt is empty
if the event was redacted.

A row of CSV has the log, the index, and the columns of the event. A list of words is separated by spaces, and another
value that is not one word is JSON. CSV has no salt, because a verifier cannot restore the canonical form from it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from app.audit_exports.model import AuditExportFormat, Place
from app.csv_files import format_csv, guard_cell
from app.transparency_log.events import SALT_COLUMN, format_canonical_event

FILE_NAMES: Final = {
    AuditExportFormat.NDJSON: "audit-events.ndjson",
    AuditExportFormat.CSV: "audit-events.csv",
}
COLUMNS: Final = (
    "recorded_at",
    "occurred_at",
    "id",
    "actor_id",
    "actor_role",
    "action",
    "operation",
    "outcome",
    "reason",
    "purpose",
    "basis",
    "entities",
    "patient_ids",
    "consultation_ids",
    "fields",
    "row_count",
    "byte_count",
    "digest",
    "session_fingerprint",
    "aal",
    "address",
    "request_id",
    "policy_version",
)
"""The columns of an event in CSV, in this order. A test compares them with the columns of the canonical form."""

Event = Mapping[str, Any]


def format_header(form: AuditExportFormat) -> bytes:
    """Return the beginning of the file."""
    return format_csv([["log", "index", *COLUMNS]]) if form is AuditExportFormat.CSV else b""


def format_events(form: AuditExportFormat, events: Sequence[Event], places: Mapping[UUID, Place]) -> bytes:
    """Return the lines of the events. `places` has the place of each event by the event's id."""
    if form is AuditExportFormat.CSV:
        return format_csv([_csv_row(event, places[event["id"]]) for event in events])
    return b"".join(_ndjson_line(event, places[event["id"]]) for event in events)


def _ndjson_line(event: Event, place: Place) -> bytes:
    salt = None if place.index is None else event[SALT_COLUMN].hex()
    members = {"log": place.origin, "index": place.index, "salt": salt}
    head = json.dumps(members, separators=(",", ":"))[:-1]
    return b'%b,"event":%b}\n' % (head.encode(), format_canonical_event(event))


def _csv_row(event: Event, place: Place) -> list[str]:
    values = json.loads(format_canonical_event(event))
    return [_cell(place.origin), _cell(place.index), *(_cell(values[name]) for name in COLUMNS)]


def _cell(value: object) -> str:
    match value:
        case None:
            text = ""
        case str():
            text = value
        case list() if all(isinstance(one, str) for one in value):
            text = " ".join(value)
        case _:
            text = json.dumps(value, separators=(",", ":"))
    return guard_cell(text)
