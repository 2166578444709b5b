"""Orders, with which a test or a demo makes the stand-in for OpenAI cause faults. An order applies to the next
`count` transcriptions, and then ends. An order whose kind begins with `language_` applies to the next `count` answers
of the language model.
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
    "language_rate_limit": "429 with `retry-after: seconds`",
    "language_quota": "429 with the code `insufficient_quota`",
    "language_fail": "500",
    "language_hang": "it says nothing for `seconds`, then 500",
    "language_slow": "it answers correctly after `seconds`",
    "language_reject": "400, whatever was sent",
    "language_nonsense": "200 and a web page",
    "language_refusal": "200 with a refusal of the model",
    "language_filter": "200, ended by the content filter",
    "language_incomplete": "200 with the first half of the JSON, ended at the token limit",
    "language_cut_json": "200 with the first half of the JSON, which calls itself complete",
    "language_commentary": "200 with commentary before the final answer",
    "language_unknown_turns": "200 with citations of turns that do not exist",
    "language_altered_quotes": "200 with a word in each quote that nobody said",
    "language_claims": "200 with lines that nobody said, as if the transcript had commanded them",
}
"""The faults that an order can demand."""

_LANGUAGE: Final = "language_"


@dataclass(frozen=True, slots=True)
class Order:
    """An order to the stand-in: answer the next `count` requests with the fault `kind`."""

    kind: str
    count: int = 1
    seconds: float = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.count < 1 or self.seconds < 0:
            raise ValueError("no such order")

    @property
    def is_of_language(self) -> bool:
        """Return whether the order applies to answers of the language model."""
        return self.kind.startswith(_LANGUAGE)


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

    def take(self, *, of_language: bool = False) -> Order | None:
        """Return the oldest open order of transcription or of the language model, and lower its remaining count."""
        for place, order in enumerate(self._open):
            if order.is_of_language is of_language:
                rest = [replace(order, count=order.count - 1)] if order.count > 1 else []
                self._open[place : place + 1] = rest
                return order
        return None


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
