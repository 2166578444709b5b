"""Sends the messages of outgoing webhooks, as the worker.

Each endpoint has a periodic task of its own, so a slow endpoint does not delay the others. A message is sent at least
once: if the worker ends between the request and the transaction that stores its result, the message is sent again, with
the same `webhook-id`.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from psycopg.types.json import Jsonb

from app.integrations.webhook_endpoints.client import EndpointClient
from app.outgoing_webhooks.model import ClaimedDelivery, compose_body, make_headers
from app.postgres.database import Database
from app.postgres.queries import Queries
from app.settings.outgoing_webhooks import WebhookEndpoint

log: Final = logging.getLogger(__name__)
_sql = Queries(Path(__file__).with_name("queries.sql"))

MOST_AT_ONCE: Final = 5
"""The maximum number of messages that the worker sends to one endpoint at the same time."""


async def register_endpoints(database: Database, endpoints: Sequence[WebhookEndpoint]) -> None:
    """Tell the database which endpoints receive which types of events. The database learns no URL and no secret."""
    values = {
        "names": [one.name for one in endpoints],
        "url_digests": [hashlib.sha256(one.url.encode()).hexdigest() for one in endpoints],
        "types": Jsonb({one.name: one.event_types for one in endpoints}),
    }
    async with database.as_service("start_up") as tx:
        await tx.run(_sql["register_endpoints"], values)


class WebhookSender:
    """Sends the due messages of each endpoint. `clock` returns the Unix time, which the signature covers."""

    def __init__(
        self,
        database: Database,
        endpoints: Sequence[WebhookEndpoint],
        clients: Mapping[str, EndpointClient],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._clients = clients
        self._clock = clock
        self.endpoints = tuple(endpoints)

    async def send_due(self, endpoint: WebhookEndpoint) -> int:
        """Send the due messages of an endpoint until none is due, and return the number of attempts."""
        made = 0
        while claimed := await self._claim(endpoint):
            ended = await asyncio.gather(
                *(self._attempt(endpoint, delivery) for delivery in claimed), return_exceptions=True
            )
            for error in ended:
                if error is not None:
                    raise error
            made += len(claimed)
        return made

    async def clear_old(self) -> int:
        """End the deliveries that are too old, and delete those that ended long ago."""
        cleared = 0
        while changed := await self._clear():
            cleared += changed
        return cleared

    async def _clear(self) -> int:
        async with self._database.as_service("send_webhooks") as tx:
            return int(await tx.value(_sql["clear_deliveries"]))

    async def _claim(self, endpoint: WebhookEndpoint) -> list[ClaimedDelivery]:
        values = {"endpoint": endpoint.name, "most": MOST_AT_ONCE}
        async with self._database.as_service("send_webhooks") as tx:
            return [ClaimedDelivery(**row) for row in await tx.all(_sql["claim_deliveries"], values)]

    async def _attempt(self, endpoint: WebhookEndpoint, delivery: ClaimedDelivery) -> None:
        body = compose_body(delivery)
        headers = make_headers(endpoint.secrets, delivery.message_id, int(self._clock()), body)
        answer = await self._clients[endpoint.name].post(body, headers)
        values = {
            "delivery_id": delivery.delivery_id,
            "attempt": delivery.attempt,
            "duration_ms": answer.duration_ms,
            "status_code": answer.status_code,
            "error": answer.error,
            "is_overloaded": answer.is_overloaded,
            "retry_after_seconds": answer.retry_after_seconds,
        }
        async with self._database.as_service("send_webhooks") as tx:
            status = await tx.value(_sql["settle_attempt"], values)
        if answer.error is not None:
            log.warning(
                "webhook not delivered: endpoint=%s delivery=%s attempt=%d status=%s %s",
                endpoint.name,
                delivery.delivery_id,
                delivery.attempt,
                status,
                answer.error,
            )
