"""Compares one log's copies, block after block: the published tiles, the database's leaves, and the rows of the events.
Pure. Memory stays bounded, however many leaves the log has.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from app.audit.verification.mismatches import Mismatch, Mismatches
from app.audit.verification.model import FindingName, Findings
from app.audit.verification.rows import (
    BLOCK,
    Action,
    PublishedBlock,
    SealedRow,
    StoredEvent,
)
from app.audit.verification.time_order import TimeOrder
from app.audit.verification.trees import SignedRoot, TileHashes, TreeCheck, sort_signed, subtree_root
from app.transparency_log.merkle import SubtreeRoot
from app.transparency_log.tiles import ENTRY_LEVEL, TileId

DATABASE: Final = "database"
"""The source of the checkpoint in audit.logs."""

_MOST_SUSPECTS: Final = 20_000


@dataclass(frozen=True)
class Place:
    """A row of one log that another log may explain."""

    log: str
    index: int
    event_id: UUID | None


@dataclass(frozen=True)
class Closing:
    """An event that recorded the final size and checkpoint of an earlier year's log."""

    log: str
    index: int
    row_count: int
    digest: str | None


@dataclass
class Records:
    """What the events of all logs say about the log itself. Each list is bounded. `lost_more` counts, for each log, the
    lost rows that `lost` does not list.
    """

    redactions: dict[UUID, Place] = field(default_factory=dict)
    redacted: list[Place] = field(default_factory=list)
    lost: list[Place] = field(default_factory=list)
    lost_more: dict[str, int] = field(default_factory=dict)
    adoptions: list[tuple[Place, StoredEvent]] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)

    def add_lost(self, place: Place) -> None:
        """Read a leaf without an event."""
        if len(self.lost) < _MOST_SUSPECTS:
            self.lost.append(place)
        else:
            self.lost_more[place.log] = self.lost_more.get(place.log, 0) + 1

    def add_event(self, log: str, index: int, event: StoredEvent) -> None:
        """Read an event of the log about itself. The caller has verified the event's leaf."""
        place = Place(log, index, event.event_id)
        match event.action:
            case Action.REDACT:
                for subject in event.subject_ids:
                    _append_to(self.redactions, subject, place)
            case Action.ADOPT if len(self.adoptions) < _MOST_SUSPECTS:
                self.adoptions.append((place, event))
            case Action.CLOSE_YEAR if len(self.closings) < _MOST_SUSPECTS:
                self.closings.append(Closing(log, index, event.row_count, event.digest))


@dataclass(frozen=True)
class LogState:
    """The row of audit.logs, and the number of rows of audit.leaves at the same moment. `checkpoint_size` is the size
    that the stored checkpoint names, or None if there is no checkpoint.
    """

    size: int
    frontier: bytes
    leaf_count: int
    checkpoint_size: int | None


class LogComparison:
    """Compares the copies of one log. The caller adds the blocks in their order, and calls `finish` at the end.

    `signed` are the roots of all checkpoints with a valid signature of the log, wherever they were found.
    `published_hashes` are the hashes in the published tiles above level 0, and `database_hashes` those in
    audit.tile_hashes; None means that this copy is not part of the verification.
    """

    def __init__(
        self,
        log: str,
        signed: Collection[SignedRoot],
        findings: Findings,
        records: Records,
        *,
        published_size: int | None = None,
        published_hashes: TileHashes | None = None,
        database_hashes: TileHashes | None = None,
    ) -> None:
        roots = sort_signed(signed)
        self._log = log
        self._findings = findings
        self._records = records
        self._published_size = published_size
        self._published_hashes = published_hashes
        self._database_hashes = database_hashes
        self._published = self._database = TreeCheck(roots)
        self._has_diverged = False
        self._mismatches = Mismatches()
        self._missing: dict[bytes, int] = {}
        self._order = TimeOrder(log, findings)
        self._rows_end = 0

    def add_block(
        self, number: int, published: PublishedBlock | None, rows: Mapping[int, SealedRow], rows_end: int
    ) -> None:
        """Compare the leaves from 256 * `number` on. `rows` are the database's rows of this block by their indexes,
        and `rows_end` is the end of the indexes that the database must have, or 0 if no database is compared.
        """
        start = number * BLOCK
        hashes = self._choose(published, rows) if published is not None else ()
        end = min(start + BLOCK, max(rows_end, start))
        leaves = [rows[index].leaf if index in rows else None for index in range(start, end)]
        self._extend_trees(start, hashes, leaves)
        for index in range(start, end):
            expected = hashes[index - start] if hashes and index - start < len(hashes) else None
            self._compare_row(index, expected, rows.get(index))
        self._rows_end = max(self._rows_end, end if end > start else 0)

    def skip(self, start: int, end: int) -> None:
        """Report that no copy has the database's leaves from `start` to before `end`."""
        if start < end:
            self._findings.add(FindingName.LEAF_REMOVED, self._log, index=start, count=end - start)
            self._rows_end = end

    def add_unqueued_event(self, event: StoredEvent) -> None:
        """Read an event that has no leaf and does not wait for one."""
        index = self._missing.pop(event.leaf, None) if event.leaf is not None else None
        if index is not None:
            self._findings.add(FindingName.LEAF_REMOVED, self._log, index=index, event_id=event.event_id)
        else:
            self._findings.add(FindingName.NEVER_QUEUED, self._log, event_id=event.event_id)

    def finish(self, state: LogState | None) -> None:
        """Report what only the whole log shows."""
        self._order.finish()
        self._mismatches.report(self._log, self._findings)
        for index in self._missing.values():
            self._findings.add(
                FindingName.DELETED, self._log, index=index, detail="the event and its leaf are gone"
            )
        self._report_published_roots()
        if state is not None:
            self._report_database(state)

    def _choose(self, block: PublishedBlock, rows: Mapping[int, SealedRow]) -> tuple[bytes, ...] | None:
        """Return the published leaf hashes of the block, and report the objects that have others. If the objects
        differ, the hash of the level above or the next signed root decides.
        """
        start = block.number * BLOCK
        stored = {index: row.leaf for index, row in rows.items() if index < start + block.width}
        database = tuple(stored.values()) if len(stored) == block.width else None
        copies = {
            one: None
            for one in (block.tile, block.entries, database)
            if one is not None and len(one) == block.width
        }
        chosen = self._decide(block, list(copies))
        self._report_object(TileId(0, block.number, block.width), block.tile, chosen)
        self._report_object(TileId(ENTRY_LEVEL, block.number, block.width), block.entries, chosen)
        return chosen

    def _decide(self, block: PublishedBlock, copies: Sequence[tuple[bytes, ...]]) -> tuple[bytes, ...] | None:
        if len(copies) < 2:
            return copies[0] if copies else None
        if block.width == BLOCK and self._published_hashes is not None:
            root = self._published_hashes.get((1, block.number))
            for copy in copies if root is not None else ():
                if subtree_root(copy) == root:
                    return copy
        for copy in copies:
            if self._published.agrees(copy):
                return copy
        return copies[0]

    def _report_object(
        self, tile: TileId, content: tuple[bytes, ...] | None, chosen: tuple[bytes, ...] | None
    ) -> None:
        if content is None:
            self._findings.add(
                FindingName.TILE_MISSING, self._log, index=tile.index * BLOCK, detail=tile.path
            )
        elif content != chosen:
            self._findings.add(
                FindingName.TILE_CHANGED, self._log, index=tile.index * BLOCK, detail=tile.path
            )

    def _extend_trees(
        self, start: int, hashes: tuple[bytes, ...] | None, leaves: Sequence[bytes | None]
    ) -> None:
        known = hashes or ()
        if tuple(leaves) == known and known and self._published is self._database:
            self._published, completed = self._published.extend(known)
            self._database = self._published
            self._report_upper(completed)
            self._report_tile_hashes(completed)
            return
        own = [leaf if leaf is not None else _at(known, place) for place, leaf in enumerate(leaves)]
        if not self._has_diverged and any(
            leaf != _at(known, place) for place, leaf in enumerate(own) if place < len(known)
        ):
            self._has_diverged = True
        if self._published_size is not None and start < self._published_size:
            if hashes is None:
                self._published = self._published.lose()
            else:
                self._published, completed = self._published.extend(hashes)
                self._report_upper(completed)
        if leaves:
            gap = own.index(None) if None in own else len(own)
            before = self._database
            self._database, completed = before.extend([leaf for leaf in own[:gap] if leaf is not None])
            self._report_tile_hashes(completed)
            if gap < len(own):
                self._database = self._database.lose()

    def _report_upper(self, completed: Sequence[SubtreeRoot]) -> None:
        for one in completed if self._published_hashes is not None else ():
            found = self._published_hashes.get((one.level, one.index)) if self._published_hashes else None
            if found != one.hash:
                self._findings.add(
                    FindingName.TILE_MISSING if found is None else FindingName.TILE_CHANGED,
                    self._log,
                    index=one.index * BLOCK**one.level,
                    detail=f"{TileId(one.level, one.index // BLOCK).path}, hash {one.index % BLOCK}",
                )

    def _report_tile_hashes(self, completed: Sequence[SubtreeRoot]) -> None:
        for one in completed if self._database_hashes is not None else ():
            found = self._database_hashes.get((one.level, one.index)) if self._database_hashes else None
            if found != one.hash:
                self._findings.add(
                    FindingName.TILE_HASH_CHANGED,
                    self._log,
                    index=one.index * BLOCK**one.level,
                    detail=f"level {one.level}, number {one.index}" + ("" if found else ", missing"),
                )

    def _compare_row(self, index: int, expected: bytes | None, row: SealedRow | None) -> None:
        if row is None:
            if expected is None or len(self._missing) >= _MOST_SUSPECTS:
                self._findings.add(FindingName.LEAF_REMOVED, self._log, index=index)
            else:
                self._missing[expected] = index
            return
        event = row.event
        self._read_time(index, row)
        if expected not in (None, row.leaf):
            hash_now = event.leaf if event is not None else None
            self._mismatches.add(Mismatch(index, row.event_id, expected or b"", row.leaf, hash_now))
        elif event is None:
            self._read_missing_event(index, row)
        elif event.is_redacted:
            _append(self._records.redacted, Place(self._log, index, row.event_id))
        elif event.leaf != row.leaf:
            self._mismatches.add(Mismatch(index, row.event_id, row.leaf, row.leaf, event.leaf))
        else:
            self._records.add_event(self._log, index, event)

    def _read_time(self, index: int, row: SealedRow) -> None:
        recorded_at = row.recorded_at if row.event is None else row.event.recorded_at
        if row.event is not None and row.event.recorded_at != row.recorded_at:
            self._findings.add(
                FindingName.LEAF_CHANGED,
                self._log,
                index=index,
                event_id=row.event_id,
                detail="another time than the event",
            )
        action = row.event.action if row.event is not None and row.event.leaf == row.leaf else ""
        if recorded_at is None:
            return
        if action == Action.NOTE_CLOCK:
            self._order.add_leap(index, row.event_id, recorded_at)
        elif action == Action.MARK_HOUR:
            self._order.add_mark(index, recorded_at)
        self._order.add(index, row.event_id, recorded_at)

    def _read_missing_event(self, index: int, row: SealedRow) -> None:
        if row.event_id is None:
            self._records.add_lost(Place(self._log, index, None))
        else:
            self._findings.add(FindingName.DELETED, self._log, index=index, event_id=row.event_id)

    def _report_published_roots(self) -> None:
        """Name the reason why the published tree does not have a signed root."""
        elsewhere = {(one.size, one.root) for one in self._database.differing}
        is_shared = self._rows_end > 0 and not self._has_diverged
        for one in self._published.differing:
            if one.source == DATABASE:
                self._findings.add(FindingName.RE_SIGNED, self._log, index=one.size, detail=_describe(one))
            elif one.size <= self._published.agreed_size or is_shared:
                self._findings.add(FindingName.SPLIT_VIEW, self._log, index=one.size, detail=_describe(one))
            elif self._is_in_database(one, elsewhere):
                self._findings.add(
                    FindingName.TILE_CHANGED,
                    self._log,
                    index=self._published.agreed_size,
                    detail=f"the database's tree has the signed root of size {one.size}",
                )
            else:
                self._findings.add(FindingName.ROOT_DIFFERS, self._log, index=one.size, detail=_describe(one))

    def _is_in_database(self, one: SignedRoot, elsewhere: Collection[tuple[int, bytes]]) -> bool:
        return self._database.size >= one.size and (one.size, one.root) not in elsewhere

    def _report_database(self, state: LogState) -> None:
        published = self._published_size or 0
        if state.leaf_count < published:
            self._add_rolled_back(state.leaf_count, published)
        if state.leaf_count > state.size:
            self._findings.add(
                FindingName.LEAF_CHANGED,
                self._log,
                index=state.size,
                count=state.leaf_count - state.size,
                detail="a leaf beyond the size of the log",
            )
        if state.checkpoint_size is None and state.size > 0:
            self._findings.add(
                FindingName.CHECKPOINT_MISSING, self._log, index=state.size, detail="the database's"
            )
        elif state.checkpoint_size is not None and state.checkpoint_size != state.size:
            self._findings.add(
                FindingName.ROOT_DIFFERS,
                self._log,
                index=state.size,
                detail=f"the stored checkpoint has the size {state.checkpoint_size}",
            )
        self._report_frontier(state)
        self._report_database_roots(published)

    def _report_frontier(self, state: LogState) -> None:
        computed = self._database.frontier
        if computed is None or computed.size != state.size or computed.to_bytes() == state.frontier:
            return
        if not self._has_diverged:
            self._findings.add(
                FindingName.ROOT_DIFFERS, self._log, index=state.size, detail="the stored frontier"
            )

    def _report_database_roots(self, published: int) -> None:
        """Name the signed roots that the database's tree does not have and the published tree does not cover."""
        for one in self._database.differing:
            if one.source == DATABASE and one.size > published:
                name = FindingName.RE_SIGNED if self._has_diverged else FindingName.ROOT_DIFFERS
                self._findings.add(name, self._log, index=one.size, detail=_describe(one))
            elif one.source != DATABASE and one.size > published:
                self._findings.add(FindingName.SPLIT_VIEW, self._log, index=one.size, detail=_describe(one))
        last = self._database.signed[-1] if self._database.signed else None
        if last is not None and last.source != DATABASE and last.size > max(published, self._rows_end):
            self._add_rolled_back(self._rows_end, last.size)
        if self._has_diverged:
            self._report_signed_divergence(published)

    def _report_signed_divergence(self, published: int) -> None:
        """Name the signed roots of the database's tree that the published tree does not reach. The database's tree
        contradicts the published one, so each of these roots does, too.
        """
        for one in self._database.signed:
            if published < one.size <= self._database.size and one not in self._database.differing:
                name = FindingName.RE_SIGNED if one.source == DATABASE else FindingName.SPLIT_VIEW
                self._findings.add(name, self._log, index=one.size, detail=_describe(one))

    def _add_rolled_back(self, end: int, size: int) -> None:
        self._findings.add(
            FindingName.ROLLED_BACK,
            self._log,
            index=end,
            count=size - end,
            detail=f"the leaves {end} to {size - 1} are missing",
        )


def _describe(one: SignedRoot) -> str:
    return f"the checkpoint of size {one.size} ({one.source})"


def _at(hashes: Sequence[bytes], place: int) -> bytes | None:
    return hashes[place] if place < len(hashes) else None


def _append(places: list[Place], place: Place) -> None:
    if len(places) < _MOST_SUSPECTS:
        places.append(place)


def _append_to(places: dict[UUID, Place], subject: UUID, place: Place) -> None:
    if len(places) < _MOST_SUSPECTS:
        places.setdefault(subject, place)
