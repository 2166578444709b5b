"""Checks that need more than one log: the closing of a year, redactions, and rows that a restore lost."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Protocol

from app.audit.verification.checkpoints import compose_origin, year_of
from app.audit.verification.comparison import Closing, Records
from app.audit.verification.model import FindingName, Findings
from app.audit.verification.published import PublishedLog
from app.audit.verification.store import SealedRows, StoredLog
from app.transparency_log.checkpoints import Checkpoint
from app.transparency_log.errors import TransparencyLogError
from app.transparency_log.tiles import root_from_tiles, tiles_for_root


class _Copy(Protocol):
    @property
    def log(self) -> PublishedLog: ...

    @property
    def size(self) -> int: ...


def report_redactions(records: Records, findings: Findings) -> None:
    """Name each event without content: REDACTED if a sealed event says so, and EDITED if not."""
    for place in records.redacted:
        is_recorded = place.event_id is not None and place.event_id in records.redactions
        findings.add(
            FindingName.REDACTED if is_recorded else FindingName.EDITED,
            place.log,
            index=place.index,
            event_id=place.event_id,
            detail="" if is_recorded else "it was emptied, and no sealed event records a redaction",
        )


def report_losses(records: Records, findings: Findings) -> None:
    """Name each leaf whose event is unknown: ADOPTED if the adoptions lost as many, and DELETED if not."""
    recorded = sum(max(event.row_count, 0) for _, event in records.adoptions)
    lost = len(records.lost) + sum(records.lost_more.values())
    name = FindingName.ADOPTED if lost <= recorded else FindingName.DELETED
    detail = "" if name is FindingName.ADOPTED else f"only {recorded} lost rows are recorded"
    for place in records.lost:
        findings.add(name, place.log, index=place.index, detail=detail)
    for log, count in records.lost_more.items():
        findings.add(name, log, count=count, detail=detail)
    if not records.lost:
        for place, _ in records.adoptions:
            findings.add(FindingName.ADOPTED, place.log, index=place.index, event_id=place.event_id)


async def check_closings(
    records: Records,
    copies: Mapping[str, _Copy],
    database: SealedRows | None,
    logs: Sequence[StoredLog],
    findings: Findings,
) -> None:
    """Compare each closed log with the digest that a later log recorded when it was closed."""
    first_sizes: dict[str, int] = {}
    for closing in records.closings:
        origin = await _find_closed(closing, copies, database, logs)
        if origin is None:
            previous = year_of(closing.log) - 1
            name = compose_origin(closing.log.split("/")[1] if "/" in closing.log else "", previous)
            findings.add(
                FindingName.CLOSED_YEAR_CHANGED,
                name,
                index=closing.row_count,
                detail=f"index {closing.index} of {closing.log} recorded another digest",
            )
        else:
            first_sizes[origin] = min(closing.row_count, first_sizes.get(origin, closing.row_count))
    sizes = {log.origin: log.size for log in logs} | {
        origin: copy.size for origin, copy in copies.items() if database is None
    }
    for origin, closed in first_sizes.items():
        for index in range(closed, min(sizes.get(origin, 0), closed + 1000)):
            findings.add(FindingName.CLOSED_YEAR_GREW, origin, index=index)


async def _find_closed(
    closing: Closing, copies: Mapping[str, _Copy], database: SealedRows | None, logs: Sequence[StoredLog]
) -> str | None:
    """Return the origin of the log whose checkpoint had the digest of the closing, or None."""
    size = closing.row_count
    for log in logs:
        if database is not None and log.origin != closing.log and log.size >= size:
            root = await database.root(log.log_year, size)
            if _matches(closing, log.origin, size, root):
                return log.origin
    for origin, copy in copies.items():
        if origin == closing.log or copy.size < size:
            continue
        if _matches(closing, origin, size, await _published_root(copy.log, size)):
            return origin
    return None


def _matches(closing: Closing, origin: str, size: int, root: bytes | None) -> bool:
    if root is None:
        return False
    try:
        body = Checkpoint(origin, size, root).format()
    except TransparencyLogError:
        return False
    return sha256(body).hexdigest() == closing.digest


async def _published_root(log: PublishedLog, size: int) -> bytes | None:
    contents = {tile: await log.tile(tile) or b"" for tile in tiles_for_root(size)}
    try:
        return root_from_tiles(size, contents)
    except TransparencyLogError:
        return None
