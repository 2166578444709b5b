"""Sends webhooks like LiveKit's notifier, and applies the orders that lose, delay or change webhooks.

Webhooks about an egress wait in the egress's queue, and all other webhooks in their room's queue. Each queue has
200 places. A notification that has waited more than 30 s is dropped. The notifier signs each notification when it
first sends it. After 429, 5xx (except 501) or a broken connection, the notifier sends the same bytes again, up to
five times in total. Every HTTP answer that causes no resend counts as a delivery
(`webhook/resource_url_notifier.go` of livekit/protocol and go-retryablehttp 0.7.8, read 2026-11-21).
"""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx
import jwt
from google.protobuf.json_format import MessageToJson
from livekit.protocol.egress import EgressInfo
from livekit.protocol.models import ParticipantInfo, Room, TrackInfo
from livekit.protocol.webhook import WebhookEvent

from devstack.livekit.orders import Orders
from devstack.livekit.twirp import new_id

CONTENT_TYPE: Final = "application/webhook+json"
MAX_AGE_SECONDS: Final = 30
MAX_DEPTH: Final = 200
RETRIES: Final = 4
ANSWER_TIMEOUT_SECONDS: Final = 300
"""LiveKit waits without a limit, but a stand-in must be able to stop."""
RETRY_WAIT_MAX_SECONDS: Final = 30
TOKEN_LIFE_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification and the time at which it was queued (monotonic seconds)."""

    event: WebhookEvent
    queued_at: float = field(default_factory=time.monotonic)


class Notifier:
    """Sends notifications to one URL, or sends none if there is no URL."""

    def __init__(
        self,
        url: str | None,
        api_key: str,
        api_secret: str,
        orders: Orders,
        *,
        retry_wait_seconds: float = 1,
    ) -> None:
        self._url = url
        self._api_key = api_key
        self._api_secret = api_secret
        self._orders = orders
        self._retry_wait_seconds = retry_wait_seconds
        self._queues: dict[str, asyncio.Queue[Notification]] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._client = httpx.AsyncClient(
            timeout=ANSWER_TIMEOUT_SECONDS, headers={"user-agent": "Go-http-client/1.1"}, trust_env=False
        )

    def egress(self, event: str, info: EgressInfo) -> None:
        """Queue a notification with the current state of an egress. Each egress has its own queue."""
        copy = EgressInfo()
        copy.CopyFrom(info)
        self._enqueue(info.egress_id, WebhookEvent(event=event, egress_info=copy))

    def room(
        self,
        event: str,
        room: Room,
        participant: ParticipantInfo | None = None,
        track: TrackInfo | None = None,
    ) -> None:
        """Queue a notification about a room, a participant or a track."""
        self._enqueue(room.name, WebhookEvent(event=event, room=room, participant=participant, track=track))

    async def forge(self, notification: Mapping[str, object]) -> int | None:
        """Sign `notification` and send it once, bypassing all queues and orders. Return None if the receiver did
        not answer.
        """
        if self._url is None:
            return None
        forged = signed(notification, self._api_key, self._api_secret)
        try:
            answer = await self._client.post(self._url, content=forged.body, headers=forged.headers)
        except httpx.TransportError:
            return None
        return answer.status_code

    async def idle(self) -> None:
        """Wait until every queued notification has been sent or given up."""
        for queue in list(self._queues.values()):
            await queue.join()

    async def restart(self) -> None:
        """Drop all queued, delayed and retried notifications, as a restart of the LiveKit server does."""
        workers = self._workers[:]
        self._queues.clear()
        self._workers.clear()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def aclose(self) -> None:
        """Stop. Queued notifications are lost."""
        await self.restart()
        await self._client.aclose()

    def _enqueue(self, key: str, event: WebhookEvent) -> None:
        event.id = new_id("EV_")
        event.created_at = int(time.time())
        if self._url is None or self._orders.take("drop", "drop_all", event=event.event):
            return
        if key not in self._queues:
            self._queues[key] = asyncio.Queue(MAX_DEPTH)
            self._workers.append(asyncio.create_task(self._work(self._queues[key], self._url)))
        if not self._queues[key].full():
            self._queues[key].put_nowait(Notification(event))

    async def _work(self, queue: asyncio.Queue[Notification], url: str) -> None:
        held: list[WebhookEvent] = []
        while True:
            notification = await queue.get()
            event = notification.event
            if time.monotonic() - notification.queued_at <= MAX_AGE_SECONDS:
                if self._orders.take("reorder", event=event.event):
                    held.append(event)
                else:
                    await self._deliver(url, event)
                    for late in held:
                        await self._deliver(url, late)
                    held.clear()
            queue.task_done()

    async def _deliver(self, url: str, event: WebhookEvent) -> None:
        if delay := self._orders.take("delay", event=event.event):
            await asyncio.sleep(delay.seconds)
        body = self._body(event)
        headers = sign(body, self._api_key, self._api_secret)
        await self._post(url, body, headers)
        if self._orders.take("duplicate", event=event.event):
            await self._post(url, body, headers)
        if self._orders.take("renew", event=event.event):
            event.id = new_id("EV_")
            body = self._body(event)
            await self._post(url, body, sign(body, self._api_key, self._api_secret))

    def _body(self, event: WebhookEvent) -> bytes:
        if self._orders.take("blank_egress_id", event=event.event):
            event.egress_info.egress_id = ""
        text = MessageToJson(event, indent=None)
        if self._orders.take("unknown_status", event=event.event):
            text = text.replace('"status": "EGRESS_', '"status": "EGRESS_NEVER_HEARD_OF_', 1)
        return text.encode()

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        for attempt in range(RETRIES + 1):
            if attempt:
                wait = self._retry_wait_seconds * 2 ** (attempt - 1)
                await asyncio.sleep(min(wait, RETRY_WAIT_MAX_SECONDS))
            try:
                answer = await self._client.post(url, content=body, headers=headers)
            except httpx.TransportError:
                continue
            if answer.status_code != 429 and (answer.status_code < 500 or answer.status_code == 501):
                return


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed notification: the body and the headers of its request."""

    body: bytes
    headers: dict[str, str]


def signed(notification: WebhookEvent | Mapping[str, object], api_key: str, api_secret: str) -> Signed:
    """Return this notification, signed as LiveKit signs. The content may be any JSON.

    If a WebhookEvent has no id or no time, the function adds it. A mapping in LiveKit's JSON (`egressInfo`,
    `createdAt`) stays unchanged, and may contain values that are invalid in a WebhookEvent.
    """
    if isinstance(notification, WebhookEvent):
        event = WebhookEvent(id=new_id("EV_"), created_at=int(time.time()))
        event.MergeFrom(notification)
        text = MessageToJson(event, indent=None)
    else:
        text = json.dumps(notification)
    body = text.encode()
    return Signed(body, sign(body, api_key, api_secret))


def sign(body: bytes, api_key: str, api_secret: str) -> dict[str, str]:
    """Return the headers of a notification: a bare JWT that contains the hash of the body and is valid for five
    minutes.
    """
    now = int(time.time())
    claims = {
        "iss": api_key,
        "iat": now,
        "nbf": now,
        "exp": now + TOKEN_LIFE_SECONDS,
        "sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
    }
    token = jwt.encode(claims, api_secret, algorithm="HS256")
    return {"authorization": token, "content-type": CONTENT_TYPE}
