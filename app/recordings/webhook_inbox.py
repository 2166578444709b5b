"""The inbox of LiveKit's webhook events. Events that arrive at the same time are stored in a common transaction.
While a transaction stores events, newly arriving events wait. The next transaction stores up to 100 waiting events
with one statement and one flush to disk. A caller gets its answer when its own event is committed, or when the
transaction has failed.
"""

import asyncio
from typing import Final

from app.errors import Timeout
from app.integrations.livekit.client import WebhookEvent
from app.postgres.database import Database
from app.recordings import store

MOST_AT_ONCE: Final = 100
WAIT_SECONDS = 15.0


class WebhookInbox:
    """The webhook inbox of one API process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[WebhookEvent, asyncio.Future[bool]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def receive(self, event: WebhookEvent) -> bool:
        """Return True once the event is committed, or False if the event was already in the inbox. Raises
        UpstreamFailed, Timeout. If the event is not committed within `WAIT_SECONDS`, the method raises Timeout
        (database_slow), and LiveKit sends the event again.
        """
        is_new: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, is_new))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_all())
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await is_new
        except TimeoutError as error:
            raise Timeout("database_slow") from error

    async def _commit_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            waiting = {event.event_id: event for event, _ in batch}
            try:
                new = await self._commit(list(waiting.values()))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever waits, and the next ones try anew
                for _, is_new in batch:
                    if not is_new.done():
                        is_new.set_exception(error)
                continue
            for event, is_new in batch:
                if not is_new.done():
                    is_new.set_result(event.event_id in new)
                new.discard(event.event_id)

    async def _commit(self, events: list[WebhookEvent]) -> set[str]:
        async with self._database.as_service_once("livekit_webhook") as tx:
            return await store.receive_events(tx, events)
