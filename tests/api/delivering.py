"""Helpers for tests of outgoing webhooks and of the register of business associate agreements."""

from typing import Any, Literal
from uuid import UUID, uuid4

from tests.api.harness import ApiHarness

AGREEMENT = {"service": "OTHER", "vendor": "Backups Inc.", "version": "2026-01", "signatory": "A. Person"} | {
    "signedOn": "2026-01-31"
}
"""The input of `recordVendorAgreement`."""


def insert_delivery(
    harness: ApiHarness, status: Literal["PENDING", "DELIVERED", "FAILED"] = "FAILED", **given: Any
) -> UUID:
    """Return the id of a delivery with one attempt. The helper inserts the rows with SQL. The worker of the tests does
    not send the delivery, because the worker has no endpoints.
    """
    delivery, now = uuid4(), harness.practice.now()
    endpoint = f"siem-{delivery.hex[:8]}"
    harness.practice.insert(
        "private.webhook_endpoints", name=endpoint, url_digest="0" * 64, event_types=["note.signed"]
    )
    ended = {} if status == "PENDING" else {"finished_at": now, "next_attempt_at": None}
    failed = {"error": "endpoint_busy", "status_code": 503} if status == "FAILED" else {}
    harness.practice.insert(
        "resguardo.webhook_deliveries",
        **{
            "id": delivery,
            "message_id": uuid4(),
            "endpoint": endpoint,
            "event_type": "note.signed",
            "entity_type": "signed_note",
            "entity_ids": [uuid4()],
            "status": status,
            "attempt_count": 1,
            **ended,
            **failed,
            **given,
        },
    )
    harness.practice.insert(
        "resguardo.webhook_attempts",
        delivery_id=delivery,
        number=1,
        started_at=now,
        duration_ms=250,
        **failed,
    )
    return delivery
