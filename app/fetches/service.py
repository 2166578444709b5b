"""Compares the bucket's access log with the issued URLs: the import of a log, and the report for compliance."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from app.errors import InvalidInput
from app.fetches.model import Fetch, FetchEvaluation, FetchReport, parse_event
from app.identity import permissions
from app.postgres.database import Asker, Database
from app.postgres.queries import Queries

_sql: Final = Queries(Path(__file__).with_name("queries.sql"))

BATCH: Final = 200
"""The number of fetches that one transaction stores."""

MAX_REPORT_DAYS: Final = 366


@dataclass
class ImportedLog:
    """The counts of an imported file. `fetch_count` counts an object once for each minute and address."""

    line_count: int = 0
    unreadable_count: int = 0
    fetch_count: int = 0
    finding_count: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None


class FetchLogs:
    """Imports files of the access log, as the worker. `own_key` is the worker's access key. The import ignores reads
    with this key.
    """

    def __init__(self, database: Database, *, bucket: str, own_key: str) -> None:
        self._database = database
        self._bucket = bucket
        self._own_key = own_key

    async def import_lines(self, lines: Iterable[bytes]) -> ImportedLog:
        """Import a file with one JSON event in each line. A file that was imported before changes nothing. A line that
        is no event is counted and ignored. Raises AppError.
        """
        done, digest, batch = ImportedLog(), hashlib.sha256(), set[Fetch]()
        for line in lines:
            digest.update(line)
            if not line.strip():
                continue
            done.line_count += 1
            self._read_line(line, done, batch)
            if len(batch) >= BATCH:
                await self._store(batch, done)
                batch.clear()
        if batch:
            await self._store(batch, done)
        if done.first_at is not None:
            async with self._database.as_service("import_fetches") as tx:
                await tx.run(
                    _sql["finish_log"],
                    {
                        "sha256": digest.hexdigest(),
                        "first_at": done.first_at,
                        "last_at": done.last_at,
                        "line_count": done.line_count,
                    },
                )
        return done

    def _read_line(self, line: bytes, done: ImportedLog, batch: set[Fetch]) -> None:
        try:
            event = parse_event(line, bucket=self._bucket, own_key=self._own_key)
        except (ValueError, RecursionError):
            done.unreadable_count += 1
            return
        if event is None:
            return
        done.first_at = event.at if done.first_at is None else min(done.first_at, event.at)
        done.last_at = event.at if done.last_at is None else max(done.last_at, event.at)
        if event.fetch is not None:
            batch.add(event.fetch)

    async def _store(self, batch: Iterable[Fetch], done: ImportedLog) -> None:
        rows = [
            {
                "entity_type": one.entity_type,
                "entity_id": str(one.entity_id),
                "fetched_at": one.fetched_at.isoformat(),
                "address": one.address,
                "interface": one.interface,
            }
            for one in batch
        ]
        async with self._database.as_service("import_fetches") as tx:
            done.finding_count += await tx.value(_sql["store_fetches"], {"rows": Jsonb(rows)})
        done.fetch_count += len(rows)


class FetchReports:
    """The report of fetches that the API offers to compliance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, asker: Asker, since: datetime, until: datetime) -> FetchReport:
        """Return the report of fetches in a period of at most 366 days. Raises InvalidInput (fetch_period), RateLimited
        (quota_pages).
        """
        if not timedelta() < until - since <= timedelta(days=MAX_REPORT_DAYS):
            raise InvalidInput("fetch_period", maximum=MAX_REPORT_DAYS)
        async with self._database.as_user(asker, permissions.REPORT_FETCHES.on()) as tx:
            row = await tx.one(_sql["report_fetches"], {"since": since, "until": until})
        return _report(row or {})


def _report(row: dict[str, Any]) -> FetchReport:
    return FetchReport(
        evaluation=FetchEvaluation.EVALUATED if row["is_evaluated"] else FetchEvaluation.NOT_EVALUATED,
        first_event_at=row["first_event_at"],
        last_event_at=row["last_event_at"],
        issued_count=row["issued_count"],
        fetched_count=row["fetched_count"],
        finding_count=row["finding_count"],
        findings=tuple(
            Fetch(
                one["entity_type"],
                UUID(one["entity_id"]),
                datetime.fromisoformat(one["fetched_at"]),
                one["address"],
                one["interface"],
            )
            for one in row["findings"]
        ),
    )
