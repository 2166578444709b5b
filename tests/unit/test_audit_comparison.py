"""The comparison of the database's leaves with the published tiles, on logs in memory."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from app.audit.verification.comparison import DATABASE, LogComparison, LogState, Place, Records
from app.audit.verification.cross_checks import report_losses
from app.audit.verification.model import FindingName, Findings
from app.audit.verification.rows import Action, PublishedBlock, SealedRow, StoredEvent
from app.audit.verification.trees import SignedRoot
from app.transparency_log.merkle import Frontier

LOG = "resguardo/practice/2026"
START = datetime(2026, 11, 30, tzinfo=UTC)


@dataclass
class Copies:
    """The published copy and the database's copy of one log."""

    size: int
    tiles: list[bytes]
    rows: dict[int, SealedRow]
    signed: list[SignedRoot]
    entries: list[bytes] = field(default_factory=list)
    published_size: int = 0
    upper: dict[tuple[int, int], bytes] = field(default_factory=dict)
    tile_hashes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    state: LogState | None = None
    unqueued: list[StoredEvent] = field(default_factory=list)
    missing_tiles: set[int] = field(default_factory=set)
    records: Records = field(default_factory=Records)

    def leaves(self) -> list[bytes]:
        """Return the database's leaves."""
        return [self.rows[index].leaf for index in sorted(self.rows)]

    def sign(self, size: int, source: str = DATABASE) -> None:
        """Sign the database's tree, as somebody with the log's key can."""
        root = Frontier().extend(self.leaves()[:size]).root
        self.signed = [one for one in self.signed if one.source != source] + [SignedRoot(size, root, source)]

    def edit(self, index: int, *, event: bytes | None = None, leaf: bytes | None = None) -> None:
        """Change the row of the event, the leaf, or both."""
        row = self.rows[index]
        if event is not None and row.event is not None:
            row = replace(row, event=replace(row.event, leaf=event))
        self.rows[index] = replace(row, leaf=leaf or row.leaf)


def make_event(index: int, at: datetime | None = None, action: str = "recording.read") -> StoredEvent:
    """Return an event that has not changed since it was sealed."""
    return StoredEvent(
        event_id=UUID(int=index + 1),
        recorded_at=at or START + timedelta(seconds=index),
        action=action,
        leaf=hashlib.sha256(b"leaf %d" % index).digest(),
        is_redacted=False,
        row_count=1,
        byte_count=None,
        digest=None,
        subject_ids=(),
    )


def make_row(index: int, event: StoredEvent) -> SealedRow:
    """Return the sealed row of an event."""
    return SealedRow(index, event.event_id, event.recorded_at, event.leaf or b"", event)


def make_copies(size: int = 700, published: int = 690, checkpoints: tuple[int, ...] = (300, 512)) -> Copies:
    """Return a log of which the first `published` leaves are published."""
    events = [make_event(index) for index in range(size)]
    leaves = [event.leaf or b"" for event in events]
    frontier, completed = Frontier().extend_with_roots(leaves)
    hashes = {(one.level, one.index): one.hash for one in completed}
    signed = [
        SignedRoot(at, Frontier().extend(leaves[:at]).root, "bucket") for at in (*checkpoints, published)
    ]
    signed.append(SignedRoot(size, frontier.root, DATABASE))
    return Copies(
        size=size,
        tiles=leaves[:published],
        entries=leaves[:published],
        rows={index: make_row(index, event) for index, event in enumerate(events)},
        signed=signed,
        published_size=published,
        upper={place: one for place, one in hashes.items() if (place[1] + 1) * 256 ** place[0] <= published},
        tile_hashes=hashes,
        state=LogState(size, frontier.to_bytes(), size, size),
    )


def compare(copies: Copies, *, with_tiles: bool = True, with_database: bool = True) -> Findings:
    """Compare the copies."""
    findings = Findings()
    comparison = LogComparison(
        LOG,
        copies.signed,
        findings,
        copies.records,
        published_size=copies.published_size if with_tiles else None,
        published_hashes=copies.upper if with_tiles else None,
        database_hashes=copies.tile_hashes if with_database else None,
    )
    rows_end = copies.state.size if copies.state is not None and with_database else 0
    ends = [rows_end, copies.published_size if with_tiles else 0]
    for number in range((max(ends) + 255) // 256):
        start = number * 256
        width = min(256, copies.published_size - start)
        published = None
        if with_tiles and width > 0:
            is_missing = number in copies.missing_tiles
            published = PublishedBlock(
                number,
                width,
                None if is_missing else tuple(copies.tiles[start : start + width]),
                None if is_missing else tuple(copies.entries[start : start + width]),
            )
        rows = {index: row for index, row in copies.rows.items() if start <= index < start + 256}
        comparison.add_block(number, published, rows if with_database else {}, rows_end)
    for event in copies.unqueued:
        comparison.add_unqueued_event(event)
    comparison.finish(copies.state if with_database else None)
    return findings


def names(findings: Findings) -> dict[str, list[int | None]]:
    """Return the indexes of each finding."""
    return {one.name.value: [place.index for place in one.places] for one in findings.all()}


@pytest.mark.parametrize(
    ("size", "published"), [(0, 0), (1, 0), (1, 1), (256, 256), (257, 256), (700, 690), (70_000, 69_000)]
)
def test_copies_that_agree_have_no_findings(size: int, published: int) -> None:
    copies = make_copies(size, published, tuple(at for at in (1, 256, 300, 65_536) if at < published))
    assert names(compare(copies)) == {}
    assert names(compare(copies, with_database=False)) == {}
    assert names(compare(copies, with_tiles=False)) == {}


OTHER = hashlib.sha256(b"other").digest()


def _delete(copies: Copies) -> None:
    copies.rows[5] = replace(copies.rows[5], event=None)


def _edit(copies: Copies) -> None:
    copies.edit(5, event=OTHER)


def _edit_with_leaf(copies: Copies) -> None:
    copies.edit(5, event=OTHER, leaf=OTHER)


def _change_leaf(copies: Copies) -> None:
    copies.edit(5, leaf=OTHER)


def _exchange_leaves(copies: Copies) -> None:
    rows = copies.rows
    rows[5], rows[300] = replace(rows[300], index=5), replace(rows[5], index=300)


def _exchange_events(copies: Copies) -> None:
    first, second = copies.rows[5], copies.rows[6]
    copies.rows[5], copies.rows[6] = replace(first, event=second.event), replace(second, event=first.event)


def _delete_and_renumber(copies: Copies) -> None:
    rows = [copies.rows[index] for index in range(copies.size) if index != 5]
    copies.rows = {index: replace(row, index=index) for index, row in enumerate(rows)}
    copies.state = LogState(copies.size - 1, b"", copies.size - 1, copies.size - 1)


def _insert(copies: Copies) -> None:
    event = replace(make_event(10_000, START + timedelta(seconds=5)), leaf=OTHER)
    rows = [copies.rows[index] for index in range(copies.size)]
    rows.insert(5, make_row(5, event))
    copies.rows = {index: replace(row, index=index) for index, row in enumerate(rows)}
    copies.state = LogState(copies.size + 1, b"", copies.size + 1, copies.size + 1)


def _remove_leaf_and_event(copies: Copies) -> None:
    del copies.rows[5]


def _remove_leaf(copies: Copies) -> None:
    event = copies.rows.pop(5).event
    copies.unqueued.append(event or make_event(5))


def _truncate(copies: Copies) -> None:
    leaves = copies.leaves()[:400]
    copies.rows = {index: row for index, row in copies.rows.items() if index < 400}
    copies.state = LogState(400, Frontier().extend(leaves).to_bytes(), 400, 400)
    copies.sign(400)


def _re_sign(copies: Copies) -> None:
    copies.edit(5, event=OTHER, leaf=OTHER)
    copies.sign(copies.size)


def _re_sign_and_publish(copies: Copies) -> None:
    _re_sign(copies)
    copies.sign(copies.size, "audit-latest")


def _re_sign_shorter(copies: Copies) -> None:
    _truncate(copies)
    copies.edit(5, event=OTHER, leaf=OTHER)
    copies.sign(400)


def _append_leaf(copies: Copies) -> None:
    copies.state = replace(copies.state or LogState(0, b"", 0, 0), leaf_count=copies.size + 1)


def _change_frontier(copies: Copies) -> None:
    copies.state = replace(copies.state or LogState(0, b"", 0, 0), frontier=OTHER)


def _remove_checkpoint(copies: Copies) -> None:
    copies.state = replace(copies.state or LogState(0, b"", 0, 0), checkpoint_size=None)


def _change_tile_hash(copies: Copies) -> None:
    copies.tile_hashes[1, 1] = OTHER


def _change_tile(copies: Copies) -> None:
    copies.tiles[5] = OTHER


def _change_tile_and_entries(copies: Copies) -> None:
    copies.tiles[5] = copies.entries[5] = OTHER


def _change_partial_tile(copies: Copies) -> None:
    copies.tiles[600] = copies.entries[600] = OTHER


def _change_entries(copies: Copies) -> None:
    copies.entries[5] = OTHER


def _change_upper_tile(copies: Copies) -> None:
    copies.upper[1, 0] = OTHER


def _remove_tile(copies: Copies) -> None:
    copies.missing_tiles.add(0)


def _sign_other_history(copies: Copies) -> None:
    copies.signed.append(SignedRoot(300, OTHER, "bucket"))


def _sign_last_other_history(copies: Copies) -> None:
    copies.signed = [one for one in copies.signed if one.size != 690] + [SignedRoot(690, OTHER, "bucket")]


def _keep_checkpoint(copies: Copies) -> None:
    copies.signed.append(SignedRoot(900, OTHER, "kept"))


def _keep_contradicting_checkpoint(copies: Copies) -> None:
    copies.signed.append(SignedRoot(695, OTHER, "kept"))


def _never_queue(copies: Copies) -> None:
    copies.unqueued.append(replace(make_event(9000), leaf=OTHER))


ATTACKS: dict[Callable[[Copies], None], Mapping[FindingName, list[int | None]]] = {
    _delete: {FindingName.DELETED: [5]},
    _edit: {FindingName.EDITED: [5]},
    _edit_with_leaf: {FindingName.LEAF_CHANGED: [5], FindingName.EDITED: [5]},
    _change_leaf: {FindingName.LEAF_CHANGED: [5]},
    _exchange_leaves: {FindingName.REORDERED: [5, 300]},
    _exchange_events: {FindingName.REORDERED: [5, 6]},
    _delete_and_renumber: {FindingName.DELETED: [5], FindingName.REORDERED: list(range(5, 689))},
    _insert: {FindingName.INSERTED: [5], FindingName.REORDERED: list(range(6, 690))},
    _remove_leaf_and_event: {FindingName.DELETED: [5]},
    _remove_leaf: {FindingName.LEAF_REMOVED: [5]},
    _truncate: {FindingName.ROLLED_BACK: [400]},
    _re_sign: {FindingName.RE_SIGNED: [700], FindingName.EDITED: [5]},
    _re_sign_and_publish: {FindingName.RE_SIGNED: [700], FindingName.SPLIT_VIEW: [700]},
    _re_sign_shorter: {FindingName.RE_SIGNED: [400], FindingName.ROLLED_BACK: [400], FindingName.EDITED: [5]},
    _append_leaf: {FindingName.LEAF_CHANGED: [700]},
    _change_frontier: {FindingName.ROOT_DIFFERS: [700]},
    _remove_checkpoint: {FindingName.CHECKPOINT_MISSING: [700]},
    _change_tile_hash: {FindingName.TILE_HASH_CHANGED: [256]},
    _change_tile: {FindingName.TILE_CHANGED: [0]},
    _change_tile_and_entries: {FindingName.TILE_CHANGED: [0, 0]},
    _change_partial_tile: {FindingName.TILE_CHANGED: [512, 512]},
    _change_entries: {FindingName.TILE_CHANGED: [0]},
    _change_upper_tile: {FindingName.TILE_CHANGED: [0]},
    _remove_tile: {FindingName.TILE_MISSING: [0, 0]},
    _sign_other_history: {FindingName.SPLIT_VIEW: [300]},
    _sign_last_other_history: {FindingName.SPLIT_VIEW: [690]},
    _keep_checkpoint: {FindingName.ROLLED_BACK: [700]},
    _keep_contradicting_checkpoint: {FindingName.SPLIT_VIEW: [695]},
    _never_queue: {FindingName.NEVER_QUEUED: [None]},
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__.strip("_"))
def test_an_attack_is_named(attack: Callable[[Copies], None]) -> None:
    copies = make_copies()
    attack(copies)
    found = names(compare(copies))
    for name, indexes in ATTACKS[attack].items():
        assert found.get(name.value) == indexes, found


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (_delete, FindingName.DELETED),
        (_edit, FindingName.EDITED),
        (_edit_with_leaf, FindingName.ROOT_DIFFERS),
        (_edit_with_leaf, FindingName.TILE_HASH_CHANGED),
        (_change_leaf, FindingName.EDITED),
        (_exchange_leaves, FindingName.ROOT_DIFFERS),
        (_remove_leaf_and_event, FindingName.LEAF_REMOVED),
        (_change_frontier, FindingName.ROOT_DIFFERS),
    ],
)
def test_an_attack_is_named_without_tiles(attack: Callable[[Copies], None], name: FindingName) -> None:
    copies = make_copies()
    attack(copies)
    assert name in names(compare(copies, with_tiles=False))


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (_change_tile, FindingName.TILE_CHANGED),
        (_change_tile_and_entries, FindingName.TILE_CHANGED),
        (_change_partial_tile, FindingName.ROOT_DIFFERS),
        (_change_entries, FindingName.TILE_CHANGED),
        (_change_upper_tile, FindingName.TILE_CHANGED),
        (_remove_tile, FindingName.TILE_MISSING),
        (_sign_other_history, FindingName.SPLIT_VIEW),
    ],
)
def test_an_attack_is_named_without_the_database(attack: Callable[[Copies], None], name: FindingName) -> None:
    copies = make_copies()
    attack(copies)
    assert name in names(compare(copies, with_database=False))


def test_a_restore_that_lost_very_many_rows_is_a_notice() -> None:
    copies = make_copies(30_000, 29_000)
    copies.rows = {
        index: SealedRow(index, None, None, row.leaf, None) if index < 25_000 else row
        for index, row in copies.rows.items()
    }
    assert names(compare(copies)) == {}
    for recorded, name in ((25_000, FindingName.ADOPTED), (24_999, FindingName.DELETED)):
        adoption = replace(make_event(29_000, action=Action.ADOPT), row_count=recorded)
        copies.records.adoptions = [(Place(LOG, 29_000, adoption.event_id), adoption)]
        findings = Findings()
        report_losses(copies.records, findings)
        [found] = findings.all()
        assert (found.name, found.count) == (name, 25_000)


def test_an_event_of_the_past_is_backdated() -> None:
    copies = make_copies(10, 10, ())
    event = replace(make_event(9), recorded_at=START - timedelta(hours=1))
    copies.rows[9] = make_row(9, event)
    assert names(compare(copies)) == {"backdated": [9]}


def test_a_recorded_leap_explains_earlier_events() -> None:
    copies = make_copies(12, 12, ())
    ahead = START + timedelta(hours=1)
    for index in range(3, 6):
        copies.rows[index] = make_row(index, make_event(index, ahead))
    copies.rows[8] = make_row(8, make_event(8, action=Action.NOTE_CLOCK))
    assert names(compare(copies)) == {"clock_leap": [8]}


def test_a_leap_does_not_explain_an_event_of_the_day_before() -> None:
    copies = make_copies(12, 12, ())
    copies.rows[3] = make_row(3, make_event(3, START + timedelta(hours=1)))
    copies.rows[6] = make_row(6, make_event(6, START - timedelta(days=1)))
    copies.rows[8] = make_row(8, make_event(8, action=Action.NOTE_CLOCK))
    assert names(compare(copies)) == {"clock_leap": [8], "backdated": [6]}


def test_hours_without_a_mark_are_named() -> None:
    copies = make_copies(3, 3, ())
    for index, hour in enumerate((0, 1, 5)):
        at = START + timedelta(hours=hour)
        copies.rows[index] = make_row(index, make_event(index, at, action=Action.MARK_HOUR))
    assert names(compare(copies)) == {"hours_missing": [2]}


def test_a_hundred_thousand_leaves_take_seconds() -> None:
    copies = make_copies(100_000, 100_000, ())
    began = time.process_time()
    assert names(compare(copies)) == {}
    assert time.process_time() - began < 20
