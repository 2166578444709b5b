"""Reads the state and the tiles of logs, and stores publications and adopted leaves.

All functions of this module need the worker's database role.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from psycopg.rows import DictRow

from app.audit.publishing.model import LogSizes, PublishedLog
from app.postgres.database import Transaction
from app.postgres.queries import Queries
from app.transparency_log.tiles import TileId

_sql: Final = Queries(Path(__file__).with_name("queries.sql"))

TILES_AT_ONCE: Final = 64


async def list_published_logs(tx: Transaction, publish_seconds: int) -> list[PublishedLog]:
    """Return each log that has a checkpoint, the earliest year first."""
    rows = await tx.all(_sql["list_published_logs"], {"publish_seconds": publish_seconds})
    return [PublishedLog(**row) for row in rows]


async def list_log_sizes(tx: Transaction) -> list[LogSizes]:
    """Return the size of each log, the earliest year first. The last log is that of the current year or a later one."""
    return [LogSizes(**row) for row in await tx.all(_sql["list_log_sizes"])]


async def read_tiles(tx: Transaction, log_year: int, tiles: Sequence[TileId]) -> list[bytes | None]:
    """Return the hashes or entries of tiles, at most `TILES_AT_ONCE`. A tile that the log lacks is None."""
    rows = await tx.all(
        _sql["read_tiles"],
        {
            "log_year": log_year,
            "levels": [tile.level for tile in tiles],
            "indexes": [tile.index for tile in tiles],
            "widths": [tile.width for tile in tiles],
        },
    )
    return [row["content"] for row in rows]


async def read_proof_tiles(tx: Transaction, log_year: int, tiles: Iterable[TileId]) -> Mapping[TileId, bytes]:
    """Return the content of the tiles of a proof by their names, without those that the log lacks."""
    names = list(tiles)
    contents: list[bytes | None] = []
    for start in range(0, len(names), TILES_AT_ONCE):
        contents += await read_tiles(tx, log_year, names[start : start + TILES_AT_ONCE])
    return {name: one for name, one in zip(names, contents, strict=True) if one is not None}


async def record_publication(tx: Transaction, log_year: int, size: int, note: bytes) -> None:
    """Store that the bucket has this checkpoint."""
    await tx.run(_sql["record_publication"], {"log_year": log_year, "size": size, "note": note.decode()})


async def record_second_publication(tx: Transaction, log_year: int, size: int) -> None:
    """Store that the second bucket has the checkpoint with this size."""
    await tx.run(_sql["record_second_publication"], {"log_year": log_year, "size": size})


async def list_publications(tx: Transaction, log_year: int, after_size: int, limit: int) -> list[int]:
    """Return the sizes of published checkpoints after one size, the smallest first."""
    rows = await tx.all(
        _sql["list_publications"], {"log_year": log_year, "after_size": after_size, "most": limit}
    )
    return [row["size"] for row in rows]


async def list_overdue_logs(
    tx: Transaction, overdue_seconds: int, *, has_second: bool
) -> tuple[list[str], list[str]]:
    """Return the origins of the logs that have grown and of which the bucket, and the second bucket, have got no
    checkpoint for this many seconds.
    """
    rows = await tx.all(
        _sql["overdue_publications"], {"overdue_seconds": overdue_seconds, "has_second": has_second}
    )
    return (
        [row["origin"] for row in rows if not row["is_second"]],
        [row["origin"] for row in rows if row["is_second"]],
    )


async def read_leaves(tx: Transaction, log_year: int, first_index: int, limit: int) -> list[DictRow]:
    """Return leaves from an index on: index, event_id, recorded_at and leaf_hash."""
    return await tx.all(
        _sql["read_leaves"], {"log_year": log_year, "first_index": first_index, "most": limit}
    )


async def read_unsealed(
    tx: Transaction, log_year: int, after_at: object, after_id: object, limit: int
) -> list[DictRow]:
    """Return unsealed events of a year after one event, as rows of audit.events."""
    return await tx.all(
        _sql["read_unsealed"],
        {"log_year": log_year, "after_at": after_at, "after_id": after_id, "most": limit},
    )


async def adopt_leaves(tx: Transaction, log_year: int, adoption: Mapping[str, Any]) -> None:
    """Replace leaves of a log by leaves of the bucket. Raises Conflict (audit_log_moved)."""
    await tx.run(_sql["adopt_leaves"], {"log_year": log_year, **adoption})
