"""A fault, and the verdict on what became of the recording that it met."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults.visit import Visit

Act = Callable[[Visit], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """`act` is what people do and what goes wrong meanwhile. `expected` is the outcome, or several by ` | `.

    `source` names the complaint or the rule that it is for; `patience` in seconds is counted from when `act` has ended.
    """

    name: str
    source: str
    expected: str
    act: Act
    patience: float = 150

    @property
    def must_be_kept(self) -> bool:
        """Whether a recording has to be READY in the end."""
        return all("READY" in one for one in self.expected.split(" | "))

    @property
    def may_end_lost(self) -> bool:
        """Whether LOST may be an end, and is not only on the way to one."""
        return any(one.startswith("LOST ") and "then" not in one for one in self.expected.split(" | "))


@dataclass(frozen=True)
class Verdict:
    """How a fault ended. `outcome` is of the videos, oldest first; `seconds` from the end of the act to that end."""

    fault: Fault
    outcome: str
    seconds: float
    lost: bool
    doubled: bool
    stuck: bool

    @property
    def is_as_expected(self) -> bool:
        """Whether it came out as it should."""
        is_one_of_them = self.outcome in self.fault.expected.split(" | ")
        return is_one_of_them and not (self.lost or self.doubled or self.stuck)


Tell = Callable[[Verdict], None]
