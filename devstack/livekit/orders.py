"""Orders, with which a test or a demo makes the stand-in for LiveKit cause faults. Each time the stand-in carries
out an order, the order's `count` goes down by one.

`KINDS` describes each kind. An order applies to the next `count` matching requests, webhooks or egresses. `event`
limits an order for webhooks to one type of notification. `file` limits an order for egresses to those whose file
path ends with it, which distinguishes the egresses of one room. Some faults need no order: a request to a route of
the stand-in causes them at once (`devstack.livekit.controls`).
"""

from dataclasses import asdict, dataclass, replace
from typing import Final

from pydantic import BaseModel, ConfigDict

from devstack.livekit.twirp import STATUSES

WEBHOOK_KINDS: Final = {
    "drop": "it is never sent",
    "drop_all": "none is sent until the orders are cleared; never used up",
    "delay": "it is sent `seconds` later, and its queue waits for it",
    "duplicate": "the same bytes are sent twice",
    "renew": "the same transition is sent again under a new id",
    "reorder": "it is sent after the next one of its queue",
    "blank_egress_id": "it carries an empty egress id, as after a failed auto-egress",
    "unknown_status": "it carries a status that LiveKit does not have",
}

CALL_KINDS: Final = {
    "refuse_start": "StartEgress answers Twirp `code` and does nothing",
    "hang_start": "StartEgress acts and answers only after `seconds`, when the caller may be gone",
    "answer_start_late": "StartEgress acts at once and answers after `seconds`: webhooks come before it",
    "start_but_answer_503": "StartEgress acts and answers unavailable",
    "no_recorder": "StartEgress answers unavailable after the 22 s that LiveKit looks for a recording service",
    "late_start": "StartEgress answers unavailable at once, and acts `seconds` later",
    "list_unavailable": "ListEgress answers unavailable",
    "list_empty": "ListEgress answers an empty list, by id too, whatever runs",
    "stop_times_out": "StopEgress answers deadline_exceeded, and the recording goes on",
    "stop_but_times_out": "StopEgress stops the recording and answers deadline_exceeded",
    "refuse_stop": "StopEgress answers Twirp `code`, and the recording goes on",
    "rooms_unavailable": "a call of RoomService answers unavailable",
}

RECORDING_KINDS: Final = {
    "no_start_signal": "it stays STARTING although people publish, until it is stopped or its room closes",
    "fail_start": "it ends FAILED, 412 `Start signal not received`, out of STARTING",
    "abort_start": "it ends ABORTED, 412 `Start signal not received`, out of STARTING",
    "die": "its node dies as it becomes ACTIVE: it is that for ever, a stop times out, its recorder leaves",
    "handler_dies": "its process dies as it becomes ACTIVE: FAILED, 500 `internal error`, without details or a start",
    "forget": "its row is gone as it becomes ACTIVE: not_found by id and in no list; all else goes on",
    "limit_reached": "it ends LIMIT_REACHED, 413, `seconds` after it became ACTIVE, with a whole file",
    "fail_upload": "every attempt to upload fails: FAILED, 400, no object",
    "fail_after_upload": "it ends FAILED, 400, without a size, although its object is stored",
    "upload_late": "it ends COMPLETE, and its object is stored `seconds` later",
    "size_differs": "it ends COMPLETE with a size one byte larger than its object",
}

PACE_KINDS: Final = {
    "scale": "each second of LiveKit's own delays takes `seconds` (1: as slow as the real one); never used up",
}

KINDS: Final = WEBHOOK_KINDS | CALL_KINDS | RECORDING_KINDS | PACE_KINDS
_LASTING: Final = frozenset(("drop_all", "scale"))


@dataclass(frozen=True, slots=True)
class Order:
    """An order to cause the fault `kind` in the next `count` matching requests, webhooks or egresses."""

    kind: str
    event: str | None = None
    count: int = 1
    seconds: float = 0
    code: str = "resource_exhausted"
    file: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.count < 1 or self.seconds < 0 or self.code not in STATUSES:
            raise ValueError("no such order")
        if (self.event is not None and self.kind not in WEBHOOK_KINDS) or (
            self.file is not None and self.kind not in RECORDING_KINDS
        ):
            raise ValueError("an order is narrowed by what it does not act on")

    def fits(self, event: str | None, file: str | None) -> bool:
        return self.event in (None, event) and (self.file is None or (file or "").endswith(self.file))


class Orders:
    """The open orders, oldest first."""

    def __init__(self) -> None:
        self._open: list[Order] = []

    def add(self, order: Order) -> None:
        self._open.append(order)

    def still_open(self) -> list[Order]:
        """Return the open orders with their remaining counts."""
        return list(self._open)

    def clear(self, kind: str | None = None) -> None:
        """Cancel the open orders of one kind, or all."""
        self._open = [order for order in self._open if kind not in (None, order.kind)]

    def standing(self, kind: str) -> Order | None:
        """Return the newest open order of this kind. Callers use the method only for kinds whose orders stay open
        until they are cancelled.
        """
        return next((order for order in reversed(self._open) if order.kind == kind), None)

    def take(self, *kinds: str, event: str | None = None, file: str | None = None) -> Order | None:
        """Find the oldest matching open order among `kinds`, and lower its remaining count by one."""
        for index, order in enumerate(self._open):
            if order.kind in kinds and order.fits(event, file):
                if order.kind not in _LASTING:
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
    file: str | None = None


def parse(body: bytes) -> Order:
    """Parse an order from JSON (`order` is its kind). Raises ValueError for invalid input."""
    raw = _OrderJson.model_validate_json(body)
    return Order(raw.order, raw.event, raw.count, raw.seconds, raw.code, raw.file)


def as_json(order: Order) -> dict[str, object]:
    """Return an order in the form that `parse` reads."""
    return {"order" if name == "kind" else name: value for name, value in asdict(order).items()}
