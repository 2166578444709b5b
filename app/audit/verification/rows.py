"""The rows of the database and the published blocks that a verification compares. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.transparency_log.errors import EventError
from app.transparency_log.events import (
    CANONICAL_VERSION,
    SALT_COLUMN,
    VERSION_COLUMN,
    compute_entry,
    format_canonical_event,
)
from app.transparency_log.merkle import leaf_hash

BLOCK: Final = 256
"""The number of leaves of a full tile."""


class Action(StrEnum):
    """The actions with which the log records changes of itself."""

    ADOPT = "audit_log.adopt"
    CLOSE_YEAR = "audit_log.close_year"
    MARK_HOUR = "audit_log.mark_hour"
    NOTE_CLOCK = "audit_log.note_clock"
    REDACT = "audit_log.redact"


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A row of audit.events. `leaf` is the leaf hash of the row as it is now, or None if the row has no canonical
    form. `subject_ids` are the ids that the row's entities name.
    """

    event_id: UUID
    recorded_at: datetime
    action: str
    leaf: bytes | None
    is_redacted: bool
    row_count: int
    byte_count: int | None
    digest: str | None
    subject_ids: tuple[UUID, ...]

    @classmethod
    def of_row(cls, row: Mapping[str, object]) -> "StoredEvent":
        """Return the event of a row of audit.events."""
        action, recorded_at = str(row["action"]), row["recorded_at"]
        row_count, byte_count, digest = row["row_count"], row["byte_count"], row["digest"]
        return cls(
            event_id=UUID(str(row["id"])),
            recorded_at=recorded_at
            if isinstance(recorded_at, datetime)
            else datetime.max.replace(tzinfo=UTC),
            action=action,
            leaf=compute_leaf(row),
            is_redacted=row[SALT_COLUMN] == b"",
            row_count=row_count if isinstance(row_count, int) else 0,
            byte_count=byte_count if isinstance(byte_count, int) else None,
            digest=str(digest) if digest is not None else None,
            subject_ids=_entity_ids(row["entities"]) if action == Action.REDACT else (),
        )

    @classmethod
    def unreadable(cls, event_id: UUID) -> "StoredEvent":
        """Return an event whose row has a value that Python cannot represent, such as an infinite time."""
        return cls(event_id, datetime.max.replace(tzinfo=UTC), "", None, False, 0, None, None, ())


@dataclass(frozen=True, slots=True)
class SealedRow:
    """A row of audit.leaves with its event, if the event is there. `event_id` and `recorded_at` are None if a restore
    lost the event.
    """

    index: int
    event_id: UUID | None
    recorded_at: datetime | None
    leaf: bytes
    event: StoredEvent | None


@dataclass(frozen=True, slots=True)
class PublishedBlock:
    """The published leaf hashes of one block: those of the tile, and those of the entries in the entry bundle. None
    means that the object is missing. The empty tuple means that the object is malformed.
    """

    number: int
    width: int
    tile: tuple[bytes, ...] | None
    entries: tuple[bytes, ...] | None


def compute_leaf(row: Mapping[str, object]) -> bytes | None:
    """Return the leaf hash of a row of audit.events, or None if the row has no canonical form of version 1."""
    salt = row[SALT_COLUMN]
    if row[VERSION_COLUMN] != CANONICAL_VERSION or not isinstance(salt, bytes):
        return None
    try:
        return leaf_hash(compute_entry(salt, format_canonical_event(row)))
    except EventError:
        return None


def _entity_ids(entities: object) -> tuple[UUID, ...]:
    found = []
    for entity in entities if isinstance(entities, list) else []:
        ids = entity.get("ids") if isinstance(entity, dict) else None
        for one in ids if isinstance(ids, list) else ():
            try:
                found.append(UUID(str(one)))
            except ValueError:
                continue
    return tuple(found)
