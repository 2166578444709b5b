"""Orders, with which a test or a demo makes the stand-in for OpenAI cause faults. An order applies to the next
`count` transcriptions, and then ends.
"""

from dataclasses import asdict, dataclass, replace
from typing import Final

from pydantic import BaseModel, ConfigDict

KINDS: Final = {
    "rate_limit": "429 with `retry-after: seconds`",
    "fail": "500",
    "hang": "it says nothing for `seconds`, then 500",
    "refuse": "400, whatever was sent",
    "nonsense": "200 and a web page",
    "half_json": "200 and the first half of the answer",
    "empty_segments": "200 with the text, but no segments, or no text where there are none",
    "times_outside": "200 with each segment an hour later",
    "backwards": "200 with each segment's end before its start",
    "flood": "200 with the text a thousand times over",
    "invented": "200 with words that nobody said, of which the figures are low",
    "loop": "200 with the same word 111 times in each segment",
    "late_start": "200 with each segment's start in its middle",
    "early_start": "200 with each segment's start at the end of the one before, before the pause between them",
    "times_off": "200 with each segment `seconds` later, within the sound",
    "two_speakers": "`diarized_json` with the speakers A and B in turn",
}


@dataclass(frozen=True, slots=True)
class Order:
    """An order to the stand-in: answer the next `count` transcriptions with the fault `kind`."""

    kind: str
    count: int = 1
    seconds: float = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.count < 1 or self.seconds < 0:
            raise ValueError("no such order")


class Orders:
    """The open orders, oldest first."""

    def __init__(self) -> None:
        self._open: list[Order] = []

    def add(self, order: Order) -> None:
        """Queue an order."""
        self._open.append(order)

    def still_open(self) -> list[Order]:
        """Return the open orders with their remaining counts."""
        return list(self._open)

    def clear(self) -> None:
        """Cancel all orders."""
        self._open.clear()

    def take(self) -> Order | None:
        """Return the oldest open order, and lower its remaining count by one."""
        if not self._open:
            return None
        order = self._open[0]
        self._open[:1] = [replace(order, count=order.count - 1)] if order.count > 1 else []
        return order


class _OrderJson(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    order: str
    count: int = 1
    seconds: float = 0


def parse(body: bytes) -> Order:
    """Parse an order from JSON (`order` is its kind). Raises ValueError for invalid input."""
    raw = _OrderJson.model_validate_json(body)
    return Order(raw.order, raw.count, raw.seconds)


def as_json(order: Order) -> dict[str, object]:
    """Return an order in the form that `parse` reads."""
    return {"order" if name == "kind" else name: value for name, value in asdict(order).items()}
