"""Helpers for tests of exports of the audit log."""

from datetime import timedelta
from typing import Literal
from uuid import UUID, uuid4

from tests.api.harness import ApiHarness, Person

_EXPORT = """
  id requestedBy { id } format status percentDone eventCount sha256 sizeBytes
  createdAt finishedAt expiresAt secretRevealedAt problem { code message }
"""
AUDIT_EXPORTS = f"""
query ($first: Int, $after: String, $filter: AuditExportFilter) {{
  auditExports(first: $first, after: $after, filter: $filter) {{
    edges {{ cursor node {{ {_EXPORT} }} }} pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
EXPORT_AUDIT_EVENTS = f"""
mutation ($wanted: ExportAuditEventsInput!) {{
  exportAuditEvents(input: $wanted) {{ auditExport {{ {_EXPORT} }} }}
}}
"""
ISSUE_AUDIT_EXPORT_URL = """
mutation ($exportId: ID!) {
  issueAuditExportUrl(input: {auditExportId: $exportId}) {
    auditExportUrl { url expiresAt expiresInSeconds instructions }
  }
}
"""
REVEAL_AUDIT_EXPORT_SECRET = f"""
mutation ($exportId: ID!) {{
  revealAuditExportSecret(input: {{auditExportId: $exportId}}) {{ auditExport {{ {_EXPORT} }} secret }}
}}
"""
SECRET = "ABCD-EFGH-JKLM-NPQR-STUV"


async def insert_audit_export(
    harness: ApiHarness, officer: Person | UUID, status: Literal["RUNNING", "READY"] = "READY"
) -> UUID:
    """Return the id of an export that an officer asked for. The helper inserts it with SQL, at the given status."""
    export, now = uuid4(), harness.practice.now()
    harness.practice.insert(
        "resguardo.audit_exports",
        id=export,
        requested_by=officer if isinstance(officer, UUID) else officer.user_id,
        format="NDJSON",
        filter="(,,,,,,,,,,)",
        status=status,
        event_count=3,
        **{
            "sha256": "ab" * 32,
            "content_event_id": uuid4(),
            "size_bytes": 1000,
            "finished_at": now,
            "expires_at": now + timedelta(days=7),
        }
        if status == "READY"
        else {},
    )
    harness.practice.insert(
        "private.audit_export_files",
        export_id=export,
        object_key=f"exports/{export}/{uuid4()}.zip",
        secret=SECRET,
    )
    return export
