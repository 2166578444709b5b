"""Names what was done to rows whose hashes are not the expected ones. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from app.audit.verification.model import FindingName, Findings

MAX_MISMATCHES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An index at which not all hashes are equal: the `expected` leaf hash (the published one, or the one in
    audit.leaves if nothing is published), the one in audit.leaves, and the one of the event's row. None means that
    there is no such row, or that the row has no canonical form.
    """

    index: int
    event_id: UUID | None
    expected: bytes
    leaf: bytes | None
    event: bytes | None


@dataclass
class Mismatches:
    """Collects the mismatches of one log. It keeps at most MAX_MISMATCHES, and counts all of them."""

    kept: list[Mismatch] = field(default_factory=list)
    count: int = 0

    def add(self, mismatch: Mismatch) -> None:
        """Add a mismatch."""
        self.count += 1
        if len(self.kept) < MAX_MISMATCHES:
            self.kept.append(mismatch)

    def report(self, log: str, findings: Findings) -> None:
        """Add one finding for each mismatch, or more."""
        expected = {one.expected: one.index for one in self.kept}
        leaves = {one.leaf: one.index for one in self.kept if one.leaf is not None}
        for one in self.kept:
            for name, detail in _name(one, expected, leaves):
                findings.add(name, log, index=one.index, event_id=one.event_id, detail=detail)
        if self.count > len(self.kept):
            rest = self.count - len(self.kept)
            findings.add(
                FindingName.LEAF_CHANGED, log, detail=f"{rest} more indexes differ, not analysed", count=rest
            )


def _name(
    one: Mismatch, expected: dict[bytes, int], leaves: dict[bytes, int]
) -> Sequence[tuple[FindingName, str]]:
    if one.leaf is None:
        return ((FindingName.LEAF_REMOVED, ""),)
    if one.leaf == one.expected:
        return (_name_event(one, expected),)
    names = [(FindingName.LEAF_CHANGED, "")]
    if one.leaf in expected:
        names = [(FindingName.REORDERED, f"the published log has this leaf at index {expected[one.leaf]}")]
        if one.expected not in leaves:
            names.append((FindingName.DELETED, "the published leaf of this index is nowhere in the database"))
    elif one.expected in leaves:
        names.append((FindingName.INSERTED, ""))
    elif one.event is not None and one.event != one.expected:
        names.append(_name_event(one, expected))
    return names


def _name_event(one: Mismatch, expected: dict[bytes, int]) -> tuple[FindingName, str]:
    place = expected.get(one.event) if one.event is not None else None
    if place is not None and place != one.index:
        return FindingName.REORDERED, f"the row is the event of index {place}"
    return FindingName.EDITED, "" if one.event is not None else "the row has no canonical form"
