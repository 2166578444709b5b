"""Lists the information that left the system: downloads, exports, copies and disclosures. The list comes from the audit
log.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from app.audit.model import AuditEvent
from app.identity import permissions
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.references import PatientBy, TimeRange, patient_parameters
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_events = TypeAdapter(list[AuditEvent])


class ReleasedCopyKind(StrEnum):
    """How information left the system."""

    DOWNLOAD = "DOWNLOAD"
    SUBTITLES = "SUBTITLES"
    NOTE_PDF = "NOTE_PDF"
    ACCESS_COPY = "ACCESS_COPY"
    AUDIT_EXPORT = "AUDIT_EXPORT"
    ACCOUNTING = "ACCOUNTING"
    DISCLOSURE = "DISCLOSURE"
    SPEECH_SERVICE = "SPEECH_SERVICE"
    LANGUAGE_SERVICE = "LANGUAGE_SERVICE"


_KINDS: Final = {
    permissions.ISSUE_DOWNLOAD_URL.action: ReleasedCopyKind.DOWNLOAD,
    permissions.ISSUE_SUBTITLE_URLS.action: ReleasedCopyKind.SUBTITLES,
    permissions.READ_SIGNED_NOTES.action: ReleasedCopyKind.NOTE_PDF,
    "access_request.export": ReleasedCopyKind.ACCESS_COPY,
    permissions.ISSUE_EXPORT_URL.action: ReleasedCopyKind.ACCESS_COPY,
    permissions.ISSUE_AUDIT_EXPORT_URL.action: ReleasedCopyKind.AUDIT_EXPORT,
    permissions.ISSUE_ACCOUNTING.action: ReleasedCopyKind.ACCOUNTING,
    permissions.RECORD_DISCLOSURE.action: ReleasedCopyKind.DISCLOSURE,
    "transcript.begin": ReleasedCopyKind.SPEECH_SERVICE,
    "insights.begin": ReleasedCopyKind.LANGUAGE_SERVICE,
    permissions.ASK_TRANSCRIPT.action: ReleasedCopyKind.LANGUAGE_SERVICE,
    "note_draft.begin": ReleasedCopyKind.LANGUAGE_SERVICE,
}


@dataclass(frozen=True)
class ReleasedCopy:
    """An event by which information left the system."""

    kind: ReleasedCopyKind
    event: AuditEvent


class ReleasedCopies:
    """The service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        asker: Asker,
        request: PageRequest,
        patient: PatientBy | None,
        released: TimeRange | None,
        selection: Selection,
    ) -> Page[ReleasedCopy]:
        """Return a page of the events by which information left the system, newest first: about one patient, or all.
        Raises RateLimited.
        """
        released = released or TimeRange()
        values = {
            **request.parameters,
            **patient_parameters(patient),
            "since": released.since,
            "until": released.until,
            "fields": list(selection.paths),
        }
        async with self._database.as_user(asker, permissions.LIST_RELEASED_COPIES.on()) as tx:
            rows = await tx.all(_sql["read_released_copies"], values)
        events = _events.validate_python(rows)
        return Page.of([ReleasedCopy(_KINDS[event.action], event) for event in events], request)
