"""The findings of a verification of the audit log. Pure.

A finding has a name, a sentence, and the places in the log that it concerns. A FAILURE means that somebody changed the
log, or that the log did not do its work. A NOTICE names a change that the log itself records, such as a redaction.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from uuid import UUID

MAX_PLACES: Final = 1000
"""The maximum number of places that one finding lists. `Finding.count` counts all of them."""


class FindingName(StrEnum):
    """The name of a finding."""

    DELETED = "deleted"
    EDITED = "edited"
    INSERTED = "inserted"
    REORDERED = "reordered"
    BACKDATED = "backdated"
    UNSEALED_TOO_LONG = "unsealed_too_long"
    NEVER_QUEUED = "never_queued"
    COUNT_DIFFERS = "count_differs"
    LEAF_CHANGED = "leaf_changed"
    LEAF_REMOVED = "leaf_removed"
    TILE_HASH_CHANGED = "tile_hash_changed"
    ROOT_DIFFERS = "root_differs"
    ROLLED_BACK = "rolled_back"
    RE_SIGNED = "re_signed"
    CLOSED_YEAR_GREW = "closed_year_grew"
    CLOSED_YEAR_CHANGED = "closed_year_changed"
    CHECKPOINT_FORGED = "checkpoint_forged"
    CHECKPOINT_MISSING = "checkpoint_missing"
    NOT_COSIGNED = "not_cosigned"
    SPLIT_VIEW = "split_view"
    TILE_CHANGED = "tile_changed"
    TILE_MISSING = "tile_missing"
    NOT_PUBLISHED = "not_published"
    LOG_MISSING = "log_missing"
    UNREADABLE = "unreadable"
    ADOPTED = "adopted_after_a_restore"
    REDACTED = "redacted"
    CLOCK_LEAP = "clock_leap"
    HOURS_MISSING = "hours_missing"
    COSIGNED_LATER = "cosigned_later"
    WITNESS_SILENT = "witness_silent"


NOTICES: Final = frozenset(
    {
        FindingName.ADOPTED,
        FindingName.REDACTED,
        FindingName.CLOCK_LEAP,
        FindingName.HOURS_MISSING,
        FindingName.COSIGNED_LATER,
        FindingName.WITNESS_SILENT,
    }
)

SENTENCES: Final[Mapping[FindingName, str]] = {
    FindingName.DELETED: "The event was sealed, and its row is gone from audit.events.",
    FindingName.EDITED: "The row in audit.events is not the row that was sealed.",
    FindingName.INSERTED: "The row was put into the past: at its index, the published log has another leaf.",
    FindingName.REORDERED: "The leaf is at another index than in the published log.",
    FindingName.BACKDATED: "The event claims an earlier time than events that were sealed before it.",
    FindingName.UNSEALED_TOO_LONG: "The event was recorded more than 60 seconds ago, and no leaf seals it.",
    FindingName.NEVER_QUEUED: "The event has no leaf and does not wait for one: nothing will ever seal it.",
    FindingName.COUNT_DIFFERS: "The number of events is not the number of leaves with a row plus unsealed events.",
    FindingName.LEAF_CHANGED: "The row in audit.leaves is not the leaf that was sealed.",
    FindingName.LEAF_REMOVED: "The row in audit.leaves is gone.",
    FindingName.TILE_HASH_CHANGED: "The hash in audit.tile_hashes is not the hash of its leaves.",
    FindingName.ROOT_DIFFERS: "The root of the leaves is not the root in the signed checkpoint.",
    FindingName.ROLLED_BACK: "The database's log is shorter than the published log.",
    FindingName.RE_SIGNED: "The log's key signed a tree in the database that contradicts the published log.",
    FindingName.CLOSED_YEAR_GREW: "The leaf was added to the log of a year that was already closed.",
    FindingName.CLOSED_YEAR_CHANGED: "The closed log is not the log whose digest the next year's log recorded.",
    FindingName.CHECKPOINT_FORGED: "The checkpoint has no valid signature of the log.",
    FindingName.CHECKPOINT_MISSING: "The checkpoint was published, and it is gone.",
    FindingName.NOT_COSIGNED: "The checkpoint lacks the cosignatures that the policy requires.",
    FindingName.SPLIT_VIEW: "The log's key signed two trees that contradict each other.",
    FindingName.TILE_CHANGED: "The published tile is not the tile that the checkpoints sign.",
    FindingName.TILE_MISSING: "The published tile is gone.",
    FindingName.NOT_PUBLISHED: "The log has leaves that no checkpoint outside of the database covers.",
    FindingName.LOG_MISSING: "The log of a year is gone.",
    FindingName.UNREADABLE: "The object or the row is malformed.",
    FindingName.ADOPTED: "A restore of the database lost the row. The log recorded the loss.",
    FindingName.REDACTED: "The content of the row was redacted. The log recorded the redaction.",
    FindingName.CLOCK_LEAP: "The database's clock leapt. The log recorded the leap.",
    FindingName.HOURS_MISSING: "The sealer marked no hour for more than two hours. The log shows nothing of them.",
    FindingName.COSIGNED_LATER: "The checkpoint lacks cosignatures, and a later cosigned checkpoint covers it.",
    FindingName.WITNESS_SILENT: "The witness did not say which checkpoint it remembers.",
}


@dataclass(frozen=True, slots=True)
class Place:
    """One place in a log that a finding concerns. `detail` says what is special about this place."""

    index: int | None = None
    event_id: UUID | None = None
    detail: str = ""

    def __str__(self) -> str:
        parts = (
            f"index {self.index}" if self.index is not None else "",
            f"event {self.event_id}" if self.event_id is not None else "",
            self.detail,
        )
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Finding:
    """All places of one log with the same problem. `places` has at most MAX_PLACES of the `count` places."""

    name: FindingName
    log: str
    places: tuple[Place, ...]
    count: int

    @property
    def is_failure(self) -> bool:
        """Return whether the finding is more than a change that the log itself records."""
        return self.name not in NOTICES

    @property
    def sentence(self) -> str:
        """Return what the finding means."""
        return SENTENCES[self.name]

    def as_json(self) -> dict[str, object]:
        """Return the finding as a JSON object."""
        return {
            "name": self.name.value,
            "is_failure": self.is_failure,
            "log": self.log,
            "sentence": self.sentence,
            "count": self.count,
            "indexes": [place.index for place in self.places if place.index is not None],
            "event_ids": [str(place.event_id) for place in self.places if place.event_id is not None],
            "details": [place.detail for place in self.places if place.detail],
        }


class Findings:
    """Collects the findings of a verification in bounded memory."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, FindingName], list[Place]] = {}
        self._counts: dict[tuple[str, FindingName], int] = {}

    def add(
        self,
        name: FindingName,
        log: str,
        *,
        index: int | None = None,
        event_id: UUID | None = None,
        detail: str = "",
        count: int = 1,
    ) -> None:
        """Add one place. `count` is the number of places that it stands for."""
        key = (log, name)
        self._counts[key] = self._counts.get(key, 0) + count
        places = self._places.setdefault(key, [])
        if len(places) < MAX_PLACES:
            places.append(Place(index, event_id, detail))

    def has(self, log: str, names: Iterable[FindingName]) -> bool:
        """Return whether the log has a finding with one of the names."""
        return any((log, name) in self._counts for name in names)

    def all(self) -> tuple[Finding, ...]:
        """Return the findings, failures first, in the order of their logs."""
        found = [
            Finding(name, log, tuple(places), self._counts[log, name])
            for (log, name), places in self._places.items()
        ]
        order = list(FindingName)
        return tuple(sorted(found, key=lambda one: (not one.is_failure, one.log, order.index(one.name))))


@dataclass(frozen=True)
class LogSummary:
    """The numbers of one verified log. A size is None if that copy of the log was not read."""

    origin: str
    database_size: int | None = None
    published_size: int | None = None
    checkpoints: int = 0


@dataclass(frozen=True)
class Report:
    """The result of a verification."""

    findings: tuple[Finding, ...]
    logs: tuple[LogSummary, ...] = field(default=())

    @property
    def is_clean(self) -> bool:
        """Return whether no finding is a failure."""
        return not any(finding.is_failure for finding in self.findings)

    def as_json(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        return {
            "is_clean": self.is_clean,
            "logs": [
                {
                    "origin": log.origin,
                    "database_size": log.database_size,
                    "published_size": log.published_size,
                    "checkpoints": log.checkpoints,
                }
                for log in self.logs
            ],
            "findings": [finding.as_json() for finding in self.findings],
        }
