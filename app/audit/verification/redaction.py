"""Redacts a sealed event, as the owner of the database."""

from enum import StrEnum
from uuid import UUID

from app.audit.verification import store
from app.postgres.database import Database


class RedactionReason(StrEnum):
    """Why an event is redacted."""

    COURT_ORDER = "court_order"
    ERASURE_REQUEST = "erasure_request"
    RECORDED_IN_ERROR = "recorded_in_error"


async def redact(database: Database, event_id: UUID, reason: RedactionReason) -> bool:
    """Clear what the event says about people, and record the redaction in the log. The leaf stays, so all proofs stay
    valid. Return False if the event was redacted before. Raises NotFound (audit_event_not_found), and Conflict
    (audit_event_not_sealed, audit_event_about_log).
    """
    async with database.as_service("redact_audit_event") as tx:
        return await store.redact_event(tx, event_id, reason.value)
