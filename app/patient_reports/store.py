"""Reads the database rows of the reports. The caller opens the transaction in which a function runs. The database
writes the audit row of each read.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from psycopg.rows import DictRow

from app.errors import NotFound
from app.patient_reports.model import (
    Entry,
    Look,
    RecordingFate,
    Relation,
    ReportedCertificate,
    ReportedRecording,
    ReportPage,
    ReportRequest,
)
from app.postgres.database import Transaction
from app.postgres.paging import Cursor, PageRequest
from app.postgres.queries import Queries

_sql = Queries(Path(__file__).with_name("queries.sql"))
_HIGHEST_ID: Final = UUID(int=2**128 - 1)


async def read_looks(
    tx: Transaction, page: PageRequest, wanted: ReportRequest, fields: Sequence[str], *, with_names: bool
) -> ReportPage[Look]:
    """Return a page of the report of who looked. Raises NotFound, InvalidInput, Conflict, RateLimited."""
    rows = await _read(tx, _sql["read_access_report"], page, wanted, fields, with_names=with_names)
    reached = rows[-1]["reached_at"]
    found = _page(rows[:-1], page, _to_look, lambda look: Cursor(look.recorded_at, look.id))
    if reached is None or found.has_next:
        return found
    return ReportPage(found.entries, has_next=True, ends_at=Cursor(reached, _HIGHEST_ID))


async def read_recordings(
    tx: Transaction, page: PageRequest, wanted: ReportRequest, fields: Sequence[str], *, with_names: bool
) -> ReportPage[ReportedRecording]:
    """Return a page of the report of what was recorded. Raises NotFound, InvalidInput, Conflict, RateLimited."""
    rows = await _read(tx, _sql["read_recording_report"], page, wanted, fields, with_names=with_names)
    return _page(rows[:-1], page, _to_recording, lambda one: Cursor(one.created_at, one.id))


async def _read(
    tx: Transaction,
    sql: LiteralString,
    page: PageRequest,
    wanted: ReportRequest,
    fields: Sequence[str],
    *,
    with_names: bool,
) -> list[DictRow]:
    rows = await tx.all(
        sql,
        {
            **page.parameters,
            **wanted.parameters,
            "with_names": with_names,
            "fields": list(fields),
        },
    )
    if not rows:
        raise NotFound(
            "consultation_not_found" if wanted.access_request_id is None else "access_request_not_found"
        )
    return rows


def _page(
    rows: list[DictRow],
    page: PageRequest,
    to_entry: Callable[[DictRow], Entry],
    place: Callable[[Entry], Cursor],
) -> ReportPage[Entry]:
    entries = tuple(to_entry(row) for row in rows[: page.first])
    return ReportPage(entries, len(rows) > page.first, place(entries[-1]) if entries else None)


def _to_look(row: DictRow) -> Look:
    values = {name: value for name, value in row.items() if name != "reached_at"}
    values["relation"] = Relation(row["relation"])
    values["consultation_ids"] = tuple(row["consultation_ids"])
    return Look(**values)


def _to_recording(row: DictRow) -> ReportedRecording:
    values = {name: value for name, value in row.items() if not name.startswith("certificate_")}
    values["fate"] = RecordingFate(values.pop("status"))
    number = row["certificate_number"]
    certificate = (
        None
        if number is None
        else ReportedCertificate(number, row["certificate_sha256"], row["certificate_json"])
    )
    return ReportedRecording(**values, certificate=certificate)
