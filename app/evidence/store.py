"""Reads the rows of evidence packs. Every function needs the worker's role."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from psycopg.rows import DictRow

from app.evidence.model import Range
from app.postgres.database import Database, Transaction
from app.postgres.queries import Queries

_sql = Queries(Path(__file__).with_name("queries.sql"))
_MAKE: Final = "make_evidence"
_FIRST: Final = (datetime(1900, 1, 1, tzinfo=UTC), UUID(int=0))


async def has_section(database: Database, section: str) -> bool:
    """Return whether this version has a section."""
    async with database.as_service(_MAKE) as tx:
        return bool(await tx.value(_sql["has_section"], {"section": section}))


async def read_section(database: Database, section: str, wanted: Range) -> AsyncIterator[dict[str, Any]]:
    """Yield the rows of a section, oldest first. Each page is a transaction of its own."""
    after: tuple[datetime, UUID] | None = _FIRST
    while after is not None:
        values = {
            "section": section,
            "since": wanted.since,
            "until": wanted.until,
            "after_at": after[0],
            "after_id": after[1],
        }
        async with database.as_service(_MAKE) as tx:
            rows = await tx.all(_sql["read_section"], values)
        for row in rows:
            yield row["content"]
        after = (rows[-1]["at"], rows[-1]["id"]) if rows else None


async def read_coverage(tx: Transaction, wanted: Range) -> list[DictRow]:
    """Return every kind of audit event with the time of its newest event."""
    return await tx.all(_sql["read_coverage"], {"since": wanted.since, "until": wanted.until})


async def record_pack(tx: Transaction, pack_id: UUID, sha256: str, file_count: int, size_bytes: int) -> UUID:
    """Record a pack in the audit log, and return the id of the audit event."""
    values = {"id": pack_id, "sha256": sha256, "file_count": file_count, "size_bytes": size_bytes}
    event_id: UUID = await tx.value(_sql["record_pack"], values)
    return event_id
