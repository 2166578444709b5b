"""The service with which compliance officers export the audit log. The worker makes the archives in `exporter.py`.

Only the officer who asked for an export gets its URL and its secret. The database enforces this.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.audit.model import AuditFilter
from app.audit_exports import store
from app.audit_exports.exporter import FILE_NAME
from app.audit_exports.model import AuditExportFormat, AuditExportStatus, AuditExportUrl
from app.idempotency.service import RepeatableCall
from app.identity import permissions
from app.integrations.storage.client import Storage
from app.postgres.composer import Row
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.selection import Selection

_PLAIN = Selection()


class AuditExports:
    """The operations on exports that the API offers. `url_lifetime_seconds` is 1 to 900. The newest TOTP code of the
    caller may be at most `totp_max_age_seconds` old, as for a download.
    """

    def __init__(
        self, database: Database, storage: Storage, *, url_lifetime_seconds: int, totp_max_age_seconds: int
    ) -> None:
        self._database = database
        self._storage = storage
        self._url_lifetime_seconds = url_lifetime_seconds
        self._totp_max_age_seconds = totp_max_age_seconds

    async def page(
        self,
        asker: Asker,
        request: PageRequest,
        statuses: Sequence[AuditExportStatus] | None,
        selection: Selection = _PLAIN,
    ) -> Page[Row]:
        """Return a page of the exports of all officers, newest first. If `statuses` is None, the page contains exports
        of every status.
        """
        async with self._database.as_user(asker, permissions.LIST_AUDIT_EXPORTS.on()) as tx:
            return await store.list_page(tx, request, statuses, selection)

    async def request(
        self,
        asker: Asker,
        wanted: AuditFilter,
        form: AuditExportFormat,
        selection: Selection = _PLAIN,
        *,
        idempotency_key: str | None = None,
    ) -> Row:
        """Ask for an export of the events that the filter selects, and queue the job that makes it. A repeated call
        with the same `idempotency_key` returns the export of the first call as it is now.

        Raises InvalidInput (bad_idempotency_key), NotFound (audit_filter_not_found), Forbidden
        (totp_stale), RateLimited (quota_exports), and Conflict (audit_export_in_progress, idempotency_key_reused).
        """
        call = RepeatableCall("exportAuditEvents", idempotency_key, form.value, _describe(wanted))
        access = permissions.EXPORT_AUDIT_EVENTS.on()
        async with self._database.as_user(asker, access) as tx:
            earlier = await call.claim(tx)
            if earlier is not None:
                return await store.find(tx, earlier, selection)
            export_id = await store.request(tx, wanted, form, self._totp_max_age_seconds)
            await call.settle(tx, export_id)
            return await store.show(tx, export_id, selection, access.action)

    async def issue_url(self, asker: Asker, export_id: UUID) -> AuditExportUrl:
        """Return a presigned URL of the archive. The database commits the audit row before this process signs the URL.

        Raises NotFound, Forbidden (totp_stale, audit_export_of_another), Conflict (audit_export_not_ready), RateLimited
        (quota_urls).
        """
        access = permissions.ISSUE_AUDIT_EXPORT_URL.on(export_id)
        async with self._database.as_user(asker, access) as tx:
            key = await store.release_key(tx, export_id, self._totp_max_age_seconds)
        lifetime = self._url_lifetime_seconds
        url = self._storage.presign_get(key, expires_in_seconds=lifetime, filename=FILE_NAME)
        return AuditExportUrl(url, datetime.now(UTC) + timedelta(seconds=lifetime), lifetime)

    async def reveal_secret(
        self, asker: Asker, export_id: UUID, selection: Selection = _PLAIN
    ) -> tuple[Row, str]:
        """Return the export and the secret of its archive, once. Revealing the secret also erases it from the database.

        Raises NotFound, Forbidden (totp_stale, audit_export_of_another), Conflict (audit_export_not_ready,
        export_secret_gone).
        """
        access = permissions.REVEAL_AUDIT_EXPORT_SECRET.on(export_id)
        async with self._database.as_user(asker, access) as tx:
            secret = await store.reveal_secret(tx, export_id, self._totp_max_age_seconds)
            shown = await store.show(tx, export_id, selection, access.action, besides=["secret"])
        return shown, secret


def _describe(wanted: AuditFilter) -> str:
    """Return the filter as text that is the same for equal filters."""
    values = {
        name: sorted(value) if isinstance(value, list) else value for name, value in wanted.parameters.items()
    }
    return json.dumps(values, sort_keys=True, default=str)
