"""Reads and writes the rows of outgoing webhooks for compliance. The caller opens the transaction in which a function
runs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

from app.errors import NotFound
from app.identity import permissions
from app.outgoing_webhooks.model import WebhookDeliveryStatus
from app.postgres.composer import EntityList, EntityRead, Row
from app.postgres.database import Transaction
from app.postgres.entities import ENTITIES
from app.postgres.paging import Page, PageRequest
from app.postgres.queries import Queries
from app.postgres.selection import Selection

_sql = Queries(Path(__file__).with_name("queries.sql"))
_DELIVERY: Final = EntityRead(
    entities=ENTITIES,
    entity="webhook_delivery",
    where="r.id = %(id)s",
    action=permissions.REDELIVER_WEBHOOK.action,
)
_DELIVERIES: Final = EntityList(
    entities=ENTITIES,
    entity="webhook_delivery",
    one_of={"statuses": "r.status = v.value"},
    action=permissions.LIST_WEBHOOK_DELIVERIES.action,
    time="created_at",
)


async def list_page(
    tx: Transaction,
    request: PageRequest,
    statuses: Sequence[WebhookDeliveryStatus] | None,
    selection: Selection,
) -> Page[Row]:
    """Write the audit row and return a page of deliveries, newest first. Raises RateLimited (quota_pages)."""
    wanted = None if statuses is None else list(dict.fromkeys(statuses))
    return await _DELIVERIES.page(tx, request, {"statuses": wanted}, selection)


async def show(tx: Transaction, delivery_id: UUID, selection: Selection, action: LiteralString) -> Row:
    """Return a delivery that the transaction has changed, and write the audit row of the change."""
    found = await _DELIVERY.show(tx, selection, {"id": delivery_id}, action=action, is_counted=False)
    if found is None:
        raise NotFound("webhook_delivery_not_found")
    return found


async def redeliver(tx: Transaction, delivery_id: UUID) -> None:
    """Ask the worker to send a message again. The transaction must then call `show`. Raises NotFound
    (webhook_delivery_not_found) and Conflict (endpoint_removed).
    """
    if await tx.value(_sql["redeliver"], {"id": delivery_id}) is None:
        raise NotFound("webhook_delivery_not_found")
