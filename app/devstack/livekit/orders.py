"""Orders: the faults that a test or a demo asks the stand-in for, each used up as it is carried out.

Kinds, and what they act on: - webhooks (`event` narrows to one type): `drop`, `delay` (holds up its queue for
`seconds`), `duplicate` (the same bytes twice), `renew` (the same transition again under a new id), `reorder`
(sent after the next one of its queue), `blank_egress_id`, `unknown_status`; - starts: `refuse_start` (answers
Twirp `code`), `hang_start` (acts only after `seconds`, when the caller may be gone), `start_but_answer_503`;
- recordings: `die` (the next to become active stays so for ever), `fail_upload`.
"""

from dataclasses import dataclass, replace
from typing import Final

from pydantic import BaseModel, ConfigDict

WEBHOOK_KINDS: Final = (
    "drop",
    "delay",
    "duplicate",
    "renew",
    "reorder",
    "blank_egress_id",
    "unknown_status",
)
KINDS: Final = (
    *WEBHOOK_KINDS,
    "refuse_start",
    "hang_start",
    "start_but_answer_503",
    "die",
    "fail_upload",
)


@dataclass(frozen=True, slots=True)
class Order:
    """Do `kind` to the next `count` things it fits."""

    kind: str
    event: str | None = None
    count: int = 1
    seconds: float = 0
    code: str = "resource_exhausted"

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.count < 1 or self.seconds < 0:
            raise ValueError("no such order")


class Orders:
    """The orders still open, oldest first."""

    def __init__(self) -> None:
        self._open: list[Order] = []

    def add(self, order: Order) -> None:
        self._open.append(order)

    def take(self, *kinds: str, event: str | None = None) -> Order | None:
        """Use up one of the oldest open order among `kinds` that fits `event`."""
        for index, order in enumerate(self._open):
            if order.kind in kinds and order.event in (None, event):
                left = order.count - 1
                self._open[index : index + 1] = [replace(order, count=left)] if left else []
                return order
        return None


class _OrderJson(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    order: str
    event: str | None = None
    count: int = 1
    seconds: float = 0
    code: str = "resource_exhausted"


def parse(body: bytes) -> Order:
    """Read an order from JSON (`order` is its kind); raises ValueError when it is not one."""
    raw = _OrderJson.model_validate_json(body)
    return Order(kind=raw.order, event=raw.event, count=raw.count, seconds=raw.seconds, code=raw.code)
