"""The check of the published audit log for `resguardo check`: cheap, and only of the newest checkpoints."""

from collections.abc import Sequence

from app.audit.verification.checkpoints import CheckpointReader, ReadCheckpoint, year_of
from app.audit.verification.published import Published, PublishedLog
from app.audit.verification.store import SealedRows
from app.errors import Conflict
from app.transparency_log.policies import Policy


async def require_consistent_checkpoints(
    rows: SealedRows, policy: Policy, published: Sequence[Published]
) -> None:
    """Compare the newest checkpoint in the database, and the newest one in each bucket, with the database's tree.
    Raises Conflict (audit_log_differs). `resguardo audit verify` compares everything.
    """
    reader = CheckpointReader(policy)
    newest = {
        (origin, source.label): await _read_newest(PublishedLog(source, origin), reader)
        for source in published
        for origin in reader.origins
    }
    logs = {log.origin: log for log in await rows.logs()}
    for origin, log in logs.items():
        if log.checkpoint is not None:
            stored = reader.read(log.checkpoint.encode(), origin)
            await _require_root(rows, origin, stored, log.size, "the database's checkpoint")
    for (origin, label), read in newest.items():
        if read is not None:
            size = logs[origin].size if origin in logs else 0
            await _require_root(rows, origin, read, size, f"the newest checkpoint in {label}")


async def _read_newest(log: PublishedLog, reader: CheckpointReader) -> ReadCheckpoint | str | None:
    """Return the immutable checkpoint that the copy of the newest checkpoint names. Nothing trusts the copy alone."""
    latest = await log.latest()
    if latest is None:
        return None
    read = reader.read(latest, log.origin)
    if isinstance(read, str):
        return read
    content = await log.checkpoint(read.checkpoint.size)
    return "it is missing" if content is None else reader.read(content, log.origin)


async def _require_root(
    rows: SealedRows, origin: str, read: ReadCheckpoint | str, size: int, what: str
) -> None:
    """Raise Conflict unless the checkpoint is signed, and the database's tree has its root."""
    if isinstance(read, str):
        raise Conflict("audit_log_differs", year=year_of(origin), what=f"{what}: {read}")
    signed = read.checkpoint
    if signed.size > size:
        raise Conflict(
            "audit_log_differs", year=year_of(origin), what=f"{what}: the database's log is shorter"
        )
    if await rows.root(year_of(origin), signed.size) != signed.root:
        raise Conflict(
            "audit_log_differs", year=year_of(origin), what=f"{what}: the database has another tree"
        )
