"""The service with which compliance reads the deliveries of outgoing webhooks, and asks the worker to send a message
again. The worker sends messages with `sender.py`.
"""

from collections.abc import Sequence
from uuid import UUID

from app.identity import permissions
from app.outgoing_webhooks import store
from app.outgoing_webhooks.model import WebhookDeliveryStatus
from app.postgres.composer import Row
from app.postgres.database import Asker, Database
from app.postgres.paging import Page, PageRequest
from app.postgres.selection import Selection

_PLAIN = Selection()


class OutgoingWebhooks:
    """The operations on deliveries that the API offers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        asker: Asker,
        request: PageRequest,
        statuses: Sequence[WebhookDeliveryStatus] | None,
        selection: Selection = _PLAIN,
    ) -> Page[Row]:
        """Return a page of deliveries, newest first. If `statuses` is None, it contains deliveries of every status."""
        async with self._database.as_user(asker, permissions.LIST_WEBHOOK_DELIVERIES.on()) as tx:
            return await store.list_page(tx, request, statuses, selection)

    async def redeliver(self, asker: Asker, delivery_id: UUID, selection: Selection = _PLAIN) -> Row:
        """Ask the worker to send a message to its endpoint again, with the same id. Raises NotFound
        (webhook_delivery_not_found) and Conflict (endpoint_removed).
        """
        access = permissions.REDELIVER_WEBHOOK.on(delivery_id)
        async with self._database.as_user(asker, access) as tx:
            await store.redeliver(tx, delivery_id)
            return await store.show(tx, delivery_id, selection, access.action)
