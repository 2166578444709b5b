"""Verifies the audit log: the database, the published copies, or all of them against each other."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from app.audit.verification.checkpoints import CheckpointReader, ReadCheckpoint, year_of
from app.audit.verification.comparison import DATABASE, LogComparison, LogState, Records
from app.audit.verification.cross_checks import check_closings, report_losses, report_redactions
from app.audit.verification.model import FindingName, Findings, LogSummary, Report
from app.audit.verification.published import Published, PublishedLog
from app.audit.verification.rows import BLOCK, SealedRow
from app.audit.verification.store import SealedRows, StoredLog
from app.audit.verification.trees import SignedRoot, contradictions, sort_signed
from app.audit.verification.witnesses import Witnessed, ask_witnesses
from app.integrations.witness.client import Witness
from app.transparency_log.policies import Policy

PUBLISHED_AFTER: Final = timedelta(seconds=3600 + 600)
"""The age at which an event must be in a published checkpoint: the longest interval between two publications, and ten
minutes.
"""

_BLOCKS: Final = 8
"""The number of blocks that are read at once."""

_CHECKPOINTS: Final = 32
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class VerificationOrder:
    """What a verification compares. The first published copy is compared with the database. `kept` are checkpoints
    that an auditor kept from an earlier verification. The witnesses are asked which checkpoints they remember.
    """

    policy: Policy
    database: SealedRows | None
    published: Sequence[Published]
    kept: Sequence[bytes] = ()
    witnesses: Sequence[Witness] = ()


@dataclass
class _Copy:
    """The checkpoints of one published copy of a log."""

    log: PublishedLog
    roots: list[SignedRoot] = field(default_factory=list)
    sizes: set[int] = field(default_factory=set)
    not_cosigned: list[int] = field(default_factory=list)
    last_cosigned: int = -1

    @property
    def size(self) -> int:
        return max((one.size for one in self.roots), default=0)


async def verify(order: VerificationOrder, on_progress: Progress = lambda log, done, total: None) -> Report:
    """Verify the logs of a deployment, and return what was found. Raises UpstreamFailed and Timeout if the database
    or a bucket cannot be read.
    """
    verification = _Verification(order, on_progress)
    return await verification.run()


class _Verification:
    """One run of `verify`."""

    def __init__(self, order: VerificationOrder, on_progress: Progress) -> None:
        self._order = order
        self._on_progress = on_progress
        self._reader = CheckpointReader(order.policy)
        self._findings = Findings()
        self._records = Records()
        self._summaries: list[LogSummary] = []
        self._copies: dict[str, _Copy] = {}
        self._witnessed: dict[str, list[Witnessed]] = {}
        self._publications: dict[str, tuple[list[int], int]] = {}

    async def run(self) -> Report:
        """Verify each log, and then what only all logs together show."""
        kept = self._read_kept()
        await self._read_publications()
        await self._ask_witnesses()
        published = {origin: await self._read_copies(origin) for origin in self._reader.origins}
        logs = await self._order.database.logs() if self._order.database is not None else []
        stored = {log.origin: log for log in logs if year_of(log.origin) == log.log_year}
        for log in logs:
            if stored.get(log.origin) is not log:
                self._findings.add(
                    FindingName.UNREADABLE,
                    f"the year {log.log_year}",
                    detail="the origin in audit.logs is not that of the year",
                )
        for origin in sorted(set(stored) - set(published)):
            self._findings.add(
                FindingName.CHECKPOINT_FORGED, origin, detail="the policy has no key of this log"
            )
        for origin in sorted({*published, *stored}, key=lambda one: (year_of(one), one)):
            copies = published.get(origin, [])
            if origin in stored or any(copy.sizes for copy in copies) or origin in kept:
                await self._verify_log(origin, copies, stored.get(origin), kept.get(origin, []))
        if self._order.database is not None:
            await self._check_database(self._order.database, logs)
        await check_closings(self._records, self._copies, self._order.database, logs, self._findings)
        report_redactions(self._records, self._findings)
        report_losses(self._records, self._findings)
        return Report(self._findings.all(), tuple(self._summaries))

    def _read_kept(self) -> dict[str, list[SignedRoot]]:
        """Return the kept checkpoints by origin."""
        kept: dict[str, list[SignedRoot]] = {}
        for content in self._order.kept:
            for origin in self._reader.origins:
                read = self._reader.read(content, origin)
                if isinstance(read, ReadCheckpoint):
                    kept.setdefault(origin, []).append(read.signed_root("the kept checkpoint"))
                    break
            else:
                self._findings.add(FindingName.CHECKPOINT_FORGED, "", detail="the kept checkpoint")
        return kept

    async def _ask_witnesses(self) -> None:
        """Ask the witnesses before the bucket and the database are read, which are then at least as large."""
        for origin in self._reader.origins if self._order.published and self._order.witnesses else ():
            newest = await PublishedLog(self._order.published[0], origin).latest()
            if newest is not None:
                self._witnessed[origin] = await ask_witnesses(self._order.witnesses, newest)

    def _check_witnessed(self, origin: str, size: int) -> None:
        """Report a witness that remembers a larger log or another tree."""
        for one in self._witnessed.get(origin, ()):
            if one.size is None:
                self._findings.add(FindingName.WITNESS_SILENT, origin, detail=one.witness)
            elif one.is_other_tree:
                detail = f"{one.witness} cosigned another tree of size {one.size}"
                self._findings.add(FindingName.SPLIT_VIEW, origin, index=one.size, detail=detail)
            elif one.size > size:
                detail = f"{one.witness} cosigned the size {one.size}"
                self._findings.add(
                    FindingName.ROLLED_BACK, origin, index=size, count=one.size - size, detail=detail
                )

    async def _read_publications(self) -> None:
        """Read which checkpoints the database says are published, before the buckets are listed."""
        database = self._order.database
        for origin in self._reader.origins if database is not None else ():
            self._publications[origin] = await database.publications(year_of(origin)) if database else ([], 0)

    def _check_publications(self, copies: Sequence[_Copy], origin: str) -> None:
        """Report the checkpoints that were published and are not in the buckets."""
        sizes, second = self._publications.get(origin, ([], 0))
        live = [copy for copy in copies if copy.log.source.is_live]
        for copy, last in zip(live, (sizes[-1] if sizes else 0, second), strict=False):
            for size in sizes:
                if size <= last and size not in copy.sizes:
                    self._missing(copy, size, "the database recorded its publication")

    async def _read_copies(self, origin: str) -> list[_Copy]:
        """Read the checkpoints of each published copy. The last copy is listed first, because the worker publishes to
        the first copy first.
        """
        copies = [_Copy(PublishedLog(source, origin)) for source in self._order.published]
        for copy in reversed(copies):
            copy.sizes = set(await copy.log.source.checkpoint_sizes(origin))
        for copy in copies:
            await self._read_checkpoints(copy)
        self._check_publications(copies, origin)
        first = copies[0] if copies else None
        for other in copies[1:]:
            for size in sorted(other.sizes - first.sizes) if first is not None else ():
                self._missing(copies[0], size, f"{other.log.source.label} has it")
        return copies

    async def _read_checkpoints(self, copy: _Copy) -> None:
        sizes = sorted(copy.sizes)
        for start in range(0, len(sizes), _CHECKPOINTS):
            part = sizes[start : start + _CHECKPOINTS]
            contents = await asyncio.gather(*(copy.log.checkpoint(size) for size in part))
            for size, content in zip(part, contents, strict=True):
                self._read_checkpoint(copy, size, content)
            self._on_progress(f"{copy.log.origin}: checkpoints", start + len(part), len(sizes))
        for size in copy.not_cosigned:
            is_covered = size < copy.last_cosigned
            self._findings.add(
                FindingName.COSIGNED_LATER if is_covered else FindingName.NOT_COSIGNED,
                copy.log.origin,
                index=size,
                detail=f"the checkpoint of size {size} in {copy.log.source.label}",
            )
        if sizes:
            await self._read_latest(copy, sizes)

    def _read_checkpoint(self, copy: _Copy, size: int, content: bytes | None) -> None:
        if content is None:
            self._missing(copy, size, "")
            return
        read = self._reader.read(content, copy.log.origin)
        if isinstance(read, ReadCheckpoint) and read.checkpoint.size != size:
            read = f"it has the size {read.checkpoint.size}"
        if isinstance(read, str):
            self._forged(copy.log.origin, f"the checkpoint of size {size} in {copy.log.source.label}: {read}")
            return
        copy.roots.append(read.signed_root(copy.log.source.label))
        if read.is_cosigned:
            copy.last_cosigned = size
        else:
            copy.not_cosigned.append(size)

    async def _read_latest(self, copy: _Copy, sizes: Sequence[int]) -> None:
        """Check the copy of the newest checkpoint that clients of tlog-tiles read. It may be one publication behind."""
        content = await copy.log.latest()
        if content is None:
            if copy.log.source.is_live:
                self._missing(copy, sizes[-1], "under audit-latest/")
            return
        read = self._reader.read(content, copy.log.origin)
        if isinstance(read, str):
            self._forged(copy.log.origin, f"the newest checkpoint in {copy.log.source.label}: {read}")
            return
        size = read.checkpoint.size
        copy.roots.append(read.signed_root(f"{copy.log.source.label}, audit-latest"))
        if size not in copy.sizes and await copy.log.checkpoint(size) is None:
            self._missing(copy, size, "audit-latest/ has it")
        elif len(sizes) > 1 and size < sizes[-2]:
            self._findings.add(
                FindingName.ROLLED_BACK,
                copy.log.origin,
                index=size,
                count=sizes[-1] - size,
                detail=f"audit-latest/ names the old size {size}",
            )

    def _missing(self, copy: _Copy, size: int, detail: str) -> None:
        where = f"the checkpoint of size {size} in {copy.log.source.label}"
        self._findings.add(
            FindingName.CHECKPOINT_MISSING,
            copy.log.origin,
            index=size,
            detail=f"{where}{': ' if detail else ''}{detail}",
        )

    def _forged(self, origin: str, detail: str) -> None:
        self._findings.add(FindingName.CHECKPOINT_FORGED, origin, detail=detail)

    async def _verify_log(
        self, origin: str, copies: Sequence[_Copy], stored: StoredLog | None, kept: Sequence[SignedRoot]
    ) -> None:
        """Verify one log: the first copy with the database, and each other copy for itself."""
        checkpoint = self._read_stored(stored) if stored is not None else None
        own = [checkpoint.signed_root(DATABASE)] if checkpoint is not None else []
        signed = [*own, *kept, *(root for copy in copies for root in copy.roots)]
        for one in contradictions(sort_signed(signed)):
            self._findings.add(
                FindingName.SPLIT_VIEW,
                origin,
                index=one.size,
                detail=f"two roots of size {one.size} ({one.source})",
            )
        first = copies[0] if copies else None
        if first is not None:
            self._copies[origin] = first
        state = None if stored is None else _state_of(stored, checkpoint)
        if stored is None and self._order.database is not None:
            self._findings.add(FindingName.LOG_MISSING, origin, detail="the database has no log of this year")
        await self._compare(origin, first, state, signed)
        for copy in copies[1:]:
            await self._compare(f"{origin} in {copy.log.source.label}", copy, None, copy.roots)
        if stored is not None:
            self._check_witnessed(origin, max(stored.size, first.size if first is not None else 0))
        self._summaries.append(
            LogSummary(
                origin,
                None if state is None else state.size,
                None if first is None else first.size,
                sum(len(copy.roots) for copy in copies),
            )
        )

    def _read_stored(self, stored: StoredLog) -> ReadCheckpoint | None:
        if stored.checkpoint is None:
            return None
        read = self._reader.read(stored.checkpoint.encode(), stored.origin)
        if isinstance(read, str):
            self._forged(stored.origin, f"the checkpoint in the database: {read}")
            return None
        return read

    async def _compare(
        self, name: str, copy: _Copy | None, state: LogState | None, signed: Sequence[SignedRoot]
    ) -> None:
        database = self._order.database if state is not None else None
        year = year_of(name)
        size = copy.size if copy is not None else 0
        comparison = LogComparison(
            name,
            signed,
            self._findings,
            self._records,
            published_size=None if copy is None else size,
            published_hashes=None if copy is None else await copy.log.tile_hashes(size),
            database_hashes=None if database is None else await database.tile_hashes(year),
        )
        rows_end = 0 if state is None else state.size
        count = (max(size, rows_end) + BLOCK - 1) // BLOCK
        first = 0
        while first < count:
            end = min(first + _BLOCKS, count)
            blocks = [] if copy is None else await copy.log.blocks(first, end, size)
            published = {block.number: block for block in blocks}
            rows = {} if database is None else await database.rows(year, first * BLOCK, end * BLOCK)
            for number in range(first, end):
                own = {index: rows[index] for index in _indexes(number) if index in rows and index < rows_end}
                comparison.add_block(number, published.get(number), own, rows_end)
            self._check_published(name, copy, rows, size)
            self._on_progress(name, end, count)
            first = end
            following = min(rows, default=count * BLOCK)
            if _is_empty(blocks) and following >= end * BLOCK:  # a wrong size can be as large as a bigint
                first = min(following // BLOCK, count)
                comparison.skip(end * BLOCK, min(first * BLOCK, rows_end))
        if database is not None:
            async for event in database.unqueued(year):
                comparison.add_unqueued_event(event)
        comparison.finish(state)

    def _check_published(
        self, name: str, copy: _Copy | None, rows: dict[int, SealedRow], published: int
    ) -> None:
        """Report old leaves that no published checkpoint covers."""
        if copy is None or not copy.log.source.is_live:
            return
        due = datetime.now(UTC) - PUBLISHED_AFTER
        late = [
            row
            for index, row in rows.items()
            if index >= published and row.recorded_at is not None and row.recorded_at < due
        ]
        if late:
            self._findings.add(
                FindingName.NOT_PUBLISHED if published else FindingName.LOG_MISSING,
                name,
                index=min(row.index for row in late),
                count=len(late),
                detail=f"{copy.log.source.label} ends at size {published}",
            )

    async def _check_database(self, database: SealedRows, logs: Sequence[StoredLog]) -> None:
        """Report what concerns the database as a whole: events that wait too long or were never counted."""
        overdue, event_ids = await database.overdue()
        for event_id in event_ids:
            self._findings.add(FindingName.UNSEALED_TOO_LONG, "the queue", event_id=event_id)
        if overdue > len(event_ids):
            self._findings.add(FindingName.UNSEALED_TOO_LONG, "the queue", count=overdue - len(event_ids))
        for event_id in await database.queued_without_event():
            self._findings.add(
                FindingName.DELETED, "the queue", event_id=event_id, detail="it was not sealed yet"
            )
        for year in sorted({*await database.years(), *(log.log_year for log in logs)}):
            counts = await database.counts(year)
            if not counts.is_balanced:
                self._findings.add(
                    FindingName.COUNT_DIFFERS,
                    f"the year {year}",
                    detail=f"{counts.event_count} events, {counts.leaf_count} leaves with a row, "
                    f"{counts.unsealed_count} unsealed",
                )


def _state_of(stored: StoredLog, checkpoint: ReadCheckpoint | None) -> LogState:
    size = (
        None
        if stored.checkpoint is None
        else (stored.size if checkpoint is None else checkpoint.checkpoint.size)
    )
    return LogState(stored.size, bytes(stored.frontier), stored.leaf_count, size)


def _indexes(number: int) -> range:
    return range(number * BLOCK, (number + 1) * BLOCK)


def _is_empty(blocks: Sequence[object]) -> bool:
    return all(
        getattr(block, "tile", None) is None and getattr(block, "entries", None) is None for block in blocks
    )
