"""Stores mails in place of sending them, for tests and the demo.

The outbox keeps the newest mails in memory. Like GoTrue, the outbox has an hourly limit of mails. Once the limit is
reached, requests that need a mail fail. GoTrue sends a mail inside the request's database transaction, so the
transaction is rolled back if the mail server refuses the mail or is slow. An `Order` simulates a mail server that
refuses mails or is slow.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from devstack.gotrue.refusals import Refusal

KEPT = 1000
_WINDOW = timedelta(hours=1)

KINDS: Final = {
    "refuse": "the mail server does not take the mail: 500",
    "refuse_late": "it takes the mail, which goes out, and then breaks the connection: 500",
    "slow": "it takes the mail, which goes out, after `seconds`: 504 if Auth's request limit is shorter",
}
_OF_KIND: Final = {
    "invite": "Error sending invite email",
    "recovery": "Error sending recovery email",
    "email_change": "Error sending email change email",
}


@dataclass(frozen=True)
class Mail:
    """A stored mail with a link. `token` is the code in the mail, `token_hash` is in the link, and `sent_at` is ISO
    8601.
    """

    to: str
    type: str
    token: str
    token_hash: str
    link: str
    sent_at: str


@dataclass(frozen=True)
class Order:
    """An order to apply the fault `kind` to the next `count` mails to `address`, or to any address if `address` is
    empty.
    """

    kind: str
    address: str = ""
    count: int = 1
    seconds: float = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.count < 1 or self.seconds < 0:
            raise ValueError("no such order")


class Outbox:
    """The outbox of the stand-in: the sent mails, oldest first. `limit` is the maximum number of mails in an hour
    of the stand-in's clock. `request_seconds` is the time after which Supabase Auth ends a request.
    """

    def __init__(self, limit: int, clock: Callable[[], datetime], request_seconds: float = 10) -> None:
        self._limit = limit
        self._clock = clock
        self._request_seconds = request_seconds
        self._sent: deque[tuple[datetime, Mail]] = deque(maxlen=KEPT)
        self._orders: list[Order] = []

    def order(self, order: Order) -> None:
        """Queue an order."""
        self._orders.append(order)

    def check(self) -> None:
        """Refuse with 429 over_email_send_rate_limit if the limit is reached."""
        since = self._clock() - _WINDOW
        if sum(sent_at > since for sent_at, _ in self._sent) >= self._limit:
            raise Refusal(429, "over_email_send_rate_limit", "email rate limit exceeded")

    async def send(self, to: str, kind: str, token: str, token_hash: str, link: str) -> None:
        """Store a mail. Callers must call this method inside the request's transaction, so that a refusal rolls the
        transaction back.

        Raises Refusal 500 unexpected_failure or 504 request_timeout if an order demands it.
        """
        order = self._take(to)
        if order is not None and order.kind == "refuse":
            raise Refusal(500, "unexpected_failure", _OF_KIND[kind])
        if order is not None and order.kind == "slow":
            await asyncio.sleep(min(order.seconds, self._request_seconds))
        now = self._clock()
        self._sent.append((now, Mail(to, kind, token, token_hash, link, now.isoformat())))
        if order is not None and order.kind == "refuse_late":
            raise Refusal(500, "unexpected_failure", _OF_KIND[kind])
        if order is not None and order.kind == "slow" and order.seconds >= self._request_seconds:
            message = "Processing this request timed out, please retry after a moment."
            raise Refusal(504, "request_timeout", message)

    def mails(self) -> list[dict[str, Any]]:
        """Return every stored mail as JSON."""
        return [asdict(mail) for _, mail in self._sent]

    def _take(self, to: str) -> Order | None:
        for place, order in enumerate(self._orders):
            if order.address in ("", to):
                left = [replace(order, count=order.count - 1)] if order.count > 1 else []
                self._orders[place : place + 1] = left
                return order
        return None
