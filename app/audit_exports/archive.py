"""Composes the files of an export's archive besides the file of events: the receipt, the event that the receipt proves,
and the read-me, which certifies what the export contains. Pure.
"""

import json
from typing import Final
from uuid import UUID

from app.audit.verification.receipts import Receipt
from app.audit_exports.model import BegunExport, WrittenContent
from app.texts import LANGUAGES, audit_export_words

README: Final = "README.txt"
RECEIPT: Final = "receipt.tlog-proof"
RECEIPT_EVENT: Final = "receipt-event.json"


def compose_readme(
    export_id: UUID,
    deployment: str,
    begun: BegunExport,
    written: WrittenContent,
    event_id: UUID,
    receipt: Receipt,
) -> str:
    """Return the text of the read-me, in English and then in Spanish."""
    facts = {
        "deployment": deployment,
        "export_id": export_id,
        "requested_by": begun.requested_by,
        "requested_at": begun.requested_at.isoformat(),
        "filter": json.dumps(begun.filter, sort_keys=True),
        "file_name": written.file_name,
        "event_count": written.event_count,
        "size_bytes": written.size_bytes,
        "sha256": written.sha256,
        "event_id": event_id,
        "origin": receipt.origin,
        "index": receipt.index,
        "size": receipt.size,
        "receipt": RECEIPT,
        "receipt_event": RECEIPT_EVENT,
    }
    parts = ["readme"] if receipt.is_published else ["readme", "readme_unpublished"]
    return "\n\n".join(
        audit_export_words(language)[part].format(**facts) for language in LANGUAGES for part in parts
    )
