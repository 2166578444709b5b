"""The mails that the stand-in would have sent, for tests and the demo: nothing leaves this machine.

It keeps the newest in memory. An hour's limit holds as GoTrue's does: beyond it nothing is done that needs a
mail.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from app.devstack.gotrue.refusals import Refusal

KEPT = 1000
_WINDOW = timedelta(hours=1)


@dataclass(frozen=True)
class Mail:
    """A mail with a link: `token` is the code in it, `token_hash` what the link bears; `sent_at` is ISO 8601."""

    to: str
    type: str
    token: str
    token_hash: str
    sent_at: str


class Outbox:
    """What was sent, oldest first; `limit` is per hour of the stand-in's clock."""

    def __init__(self, limit: int, clock: Callable[[], datetime]) -> None:
        self._limit = limit
        self._clock = clock
        self._sent: deque[tuple[datetime, Mail]] = deque(maxlen=KEPT)

    def check(self) -> None:
        """Refuses 429 over_email_send_rate_limit."""
        since = self._clock() - _WINDOW
        if sum(sent_at > since for sent_at, _ in self._sent) >= self._limit:
            raise Refusal(429, "over_email_send_rate_limit", "email rate limit exceeded")

    def send(self, to: str, kind: str, token: str, token_hash: str) -> None:
        """Keeps a mail."""
        now = self._clock()
        self._sent.append((now, Mail(to, kind, token, token_hash, now.isoformat())))

    def mails(self) -> list[dict[str, str]]:
        """Every mail kept, as JSON."""
        return [asdict(mail) for _, mail in self._sent]
