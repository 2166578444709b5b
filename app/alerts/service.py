"""The one mechanism that reports problems to operators and compliance. Every alert is a row, so an alert survives the
process that found its cause. If the database is down when a cause is found, a later run opens the alert, as long as the
cause lasts.
"""

import logging
from collections.abc import Iterable, Sequence
from uuid import UUID

import psycopg

from app.alerts import store
from app.alerts.model import FROM_ROWS, AlertKind, AlertStatus, ChangedAlerts, Finding, OpenAlerts
from app.errors import Timeout
from app.identity import permissions
from app.postgres.composer import Row
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.selection import Selection

log = logging.getLogger(__name__)

_PLAIN = Selection()


class Alerts:
    """Opens and closes alerts, as the worker. Each method is safe to repeat, and to run twice at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(
        self, kind: AlertKind, key: str = "", entity_type: str | None = None, ids: Sequence[UUID] = ()
    ) -> None:
        """Open the alert of this kind and key. If it is open, store that its cause was found again. Raises AppError."""
        async with self._database.as_service("keep_alerts") as tx:
            is_new = await store.open_alert(tx, kind, Finding(key, entity_type, ids))
        if is_new:
            _log(kind, ChangedAlerts([key], []))

    async def close(self, kind: AlertKind, key: str = "") -> None:
        """Close the alert of this kind and key, if it is open. Raises AppError."""
        async with self._database.as_service("keep_alerts") as tx:
            await store.close_alert(tx, kind, key)

    async def replace(self, kind: AlertKind, findings: Iterable[Finding]) -> None:
        """Open an alert of this kind for each finding, and close all other alerts of the kind. The first 20 findings
        get an alert each, and the rest share the alert with the key `more`. Raises AppError.
        """
        async with self._database.as_service("keep_alerts") as tx:
            changed = await store.replace_alerts(tx, kind, findings)
        _log(kind, changed)

    async def watch_leader(self) -> None:
        """Open or close the alert that no worker leads. Raises AppError."""
        async with self._database.as_service("keep_alerts") as tx:
            await store.watch_leader(tx)

    async def evaluate(self) -> None:
        """Open and close the alerts with causes that the stored rows show, and the alert about a missing leader. If the
        statement of one kind fails, the method still evaluates the other kinds. Raises AppError and psycopg.Error.
        """
        await self.watch_leader()
        failure: Timeout | psycopg.Error | None = None
        for kind in FROM_ROWS:
            try:
                async with self._database.as_service("keep_alerts") as tx:
                    changed = await store.evaluate_alerts(tx, kind)
                _log(kind, changed)
            except (Timeout, psycopg.Error) as error:
                failure = error
        if failure is not None:
            raise failure


def _log(kind: AlertKind, changed: ChangedAlerts) -> None:
    """Log each alert that was opened as an error, so that an operator who reads only the log sees every alert."""
    for key in changed.opened:
        log.error("alert opened: %s %s", kind, key)
    for key in changed.closed:
        log.info("alert closed: %s %s", kind, key)


class AlertReads:
    """The reads of alerts that the API offers to compliance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        asker: Asker,
        request: PageRequest,
        kinds: Sequence[AlertKind] | None,
        statuses: Sequence[AlertStatus] | None,
        selection: Selection = _PLAIN,
    ) -> Page[Row]:
        """Return a page of alerts, newest first. A filter that is None selects all alerts."""
        async with self._database.as_user(asker, permissions.LIST_ALERTS.on()) as tx:
            return await store.list_page(tx, request, kinds, statuses, selection)


async def report_unreadable_transcripts(database: Database, recording_ids: Sequence[UUID]) -> None:
    """Open the alert about transcripts that a search could not decrypt, as the API. Raises AppError."""
    async with database.as_service("keep_alerts") as tx:
        await store.report_unreadable_transcripts(tx, recording_ids)


async def count_open(database: Database) -> list[OpenAlerts]:
    """Return the open alerts of each kind that has open alerts, as the API or the worker. Raises AppError."""
    async with database.as_service("keep_alerts") as tx:
        return await store.count_open(tx)
