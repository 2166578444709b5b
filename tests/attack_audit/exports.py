"""An export that the practice hands to the auditor."""

import hashlib
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from app.transparency_log.events import format_canonical_event

_LINES = (
    "select l.origin as log, f.index as leaf_index, e.* from audit.leaves as f"
    " join audit.logs as l on l.log_year = f.log_year join audit.events as e on e.id = f.event_id"
    " where f.log_year = %s order by f.index limit 100"
)


def write_export(superuser_url: str, year: int, path: Path) -> str:
    """Write an export of a hundred events. Return the SHA-256 of the file."""
    with psycopg.connect(superuser_url, row_factory=dict_row) as connection, path.open("wb") as file:
        for row in connection.execute(_LINES, [year]):
            origin, index, salt = row.pop("log"), row.pop("leaf_index"), bytes(row["salt"]).hex()
            head = f'{{"log":"{origin}","index":{index},"salt":"{salt}","event":'
            file.write(head.encode() + format_canonical_event(row) + b"}\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()
