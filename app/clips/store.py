"""Reads and writes the database rows of clips. The caller opens the transaction in which a function runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter

from app.clips.model import Bounds
from app.errors import NotFound
from app.identity import permissions
from app.postgres.composer import EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.queries import Queries
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_CLIP: Final = EntityRead(
    entities=ENTITIES,
    entity="clip",
    where="r.id = %(id)s",
    action=permissions.CREATE_CLIP.action,
    asked="%(id)s",
)


@dataclass(frozen=True)
class BegunClip:
    """An attempt to make a clip: the object to cut, the bounds, and the number of the attempt. `earlier_key` is the
    object key that the attempt before used, or None.
    """

    recording_id: UUID
    object_key: str
    size_bytes: int
    start_ms: int
    end_ms: int
    run: int
    earlier_key: str | None


_begun = TypeAdapter(BegunClip)


async def request(tx: Transaction, recording_id: UUID, bounds: Bounds, totp_max_age_seconds: int) -> UUID:
    """Request a clip with the database role of its doctor, and return its id. The transaction must then call `show`, or
    its commit writes the audit row. Raises NotFound, and Forbidden, RateLimited or Conflict as `private.request_clip`.
    """
    requested: UUID | None = await tx.value(
        _sql["request_clip"],
        {
            "recording_id": recording_id,
            "start_ms": bounds.start_ms,
            "end_ms": bounds.end_ms,
            "totp_max_age_seconds": totp_max_age_seconds,
        },
    )
    if requested is None:
        raise NotFound("recording_not_found")
    return requested


async def show(tx: Transaction, clip_id: UUID, selection: Selection) -> Row:
    """Return the clip that the transaction has requested, and write the audit row of the request."""
    found = await _CLIP.show(tx, selection, {"id": clip_id}, action=_CLIP.action, is_counted=False)
    if found is None:
        raise NotFound("recording_not_found")
    return found


async def begin(tx: Transaction, clip_id: UUID) -> BegunClip | None:
    """Begin an attempt to make a clip. Return None if the clip needs no work. Needs the worker's role, like all
    functions below.
    """
    row = await tx.one(_sql["begin_clip"], {"id": clip_id})
    return None if row is None else _begun.validate_python(row)


async def report(tx: Transaction, clip_id: UUID, run: int, percent: int) -> bool:
    """Store how much of the clip is encoded. Return False if the attempt must end."""
    return bool(await tx.value(_sql["report_clip"], {"id": clip_id, "run": run, "percent": percent}))


async def begin_storing(tx: Transaction, clip_id: UUID, run: int) -> str | None:
    """Return the object key for the finished clip, or None if the attempt must end."""
    key = await tx.value(_sql["begin_storing_clip"], {"id": clip_id, "run": run})
    return None if key is None else str(key)


async def finish(tx: Transaction, clip_id: UUID, run: int, key: str, sha256: str, size_bytes: int) -> bool:
    """Make a stored clip READY. Return False if the attempt must end; the stored object then belongs to nothing."""
    values = {"id": clip_id, "run": run, "key": key, "sha256": sha256, "size_bytes": size_bytes}
    return bool(await tx.value(_sql["finish_clip"], values))


async def fail(tx: Transaction, clip_id: UUID, run: int | None, reason: str) -> None:
    """Set the clip to FAILED, if this attempt is the newest. If `run` is None, it is."""
    await tx.run(_sql["fail_clip"], {"id": clip_id, "run": run, "reason": reason})
