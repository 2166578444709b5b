"""Reads the audit log for compliance officers, and adds rows that count rejected requests. This module never
changes an existing audit row.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from app.audit.model import (
    AuditCount,
    AuditEvent,
    AuditFilter,
    AuditGrouping,
    AuditInterval,
    AuditSummary,
    build_summary,
    split_range,
)
from app.identity import permissions
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries

Rejection = Literal["request.reject", "webhook.reject"]
_sql = Queries(Path(__file__).with_name("queries.sql"))
_events = TypeAdapter(list[AuditEvent])


class Audit:
    """The service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, asker: Asker, request: PageRequest, wanted: AuditFilter, fields: Sequence[str]
    ) -> Page[AuditEvent]:
        """Return a page of the audit log, newest first, for compliance officers only. The database also writes an
        audit row that says that the officer read these fields of this page.
        """
        access = permissions.LIST_AUDIT_EVENTS.on()
        parameters = {**request.parameters, **wanted.parameters}
        async with self._database.as_user(asker, access) as tx:
            rows = await tx.all(_sql["read_audit"], {**parameters, "fields": list(fields)})
        return Page.of(_events.validate_python(rows), request)

    async def summarize(
        self,
        asker: Asker,
        wanted: AuditFilter,
        interval: AuditInterval,
        grouping: AuditGrouping,
        fields: Sequence[str],
    ) -> AuditSummary:
        """Return how many audit rows match the filter in each interval, for compliance officers only. The database
        also writes an audit row. Raises InvalidInput (bad_summary_range, summary_too_large).
        """
        starts_at = split_range(wanted.recorded, interval)
        about = {"unit": interval.value, "group_by": grouping.value, "fields": list(fields)}
        async with self._database.as_user(asker, permissions.SUMMARIZE_AUDIT_EVENTS.on()) as tx:
            rows = await tx.all(_sql["summarize_audit"], {**wanted.parameters, **about})
        return build_summary(interval, grouping, starts_at, (AuditCount(**row) for row in rows))

    async def record_rejections(self, kind: str, address: str | None, count: int) -> None:
        """Write one audit row that counts the requests that one address sent without a valid token or signature."""
        async with self._database.as_service("count_rejections") as tx:
            await tx.run(_sql["record_rejections"], {"action": kind, "address": address, "count": count})
