"""Types of outgoing webhooks, and the message as Standard Webhooks 1.0.0 defines it. Pure."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID


class WebhookDeliveryStatus(StrEnum):
    """The status of the delivery of one message to one endpoint."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class ClaimedDelivery:
    """A delivery whose attempt has begun. `attempt` is the number of the attempt. `created_at` is when the event
    happened.
    """

    delivery_id: UUID
    attempt: int
    message_id: UUID
    event_type: str
    entity_type: str
    entity_ids: Sequence[UUID]
    created_at: datetime


def compose_body(delivery: ClaimedDelivery) -> bytes:
    """Return the body of the message, which is the same for all attempts. It has ids only."""
    at = delivery.created_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    data = {"entityType": delivery.entity_type, "ids": [str(one) for one in delivery.entity_ids]}
    message = {"type": delivery.event_type, "timestamp": at, "data": data}
    return json.dumps(message, separators=(",", ":")).encode()


def sign(secrets: Iterable[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature`: one `v1` signature (HMAC-SHA256) for each secret."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def make_headers(secrets: Iterable[bytes], message_id: UUID, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of Standard Webhooks. `timestamp` is the time of the attempt."""
    name = f"msg_{message_id.hex}"
    return {
        "webhook-id": name,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secrets, name, timestamp, body),
    }
