"""A fault of the fault suite, and the verdict on the recording during which it happened."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults.visit import Visit

Act = Callable[[Visit], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """A fault. `act` performs the actions of people and causes the failure. `expected` is the outcome, or several
    outcomes separated by ` | `.

    `source` names the LiveKit issue that describes the fault, or the rule that the fault tests. `patience` is the
    maximum number of seconds that a recording may take to end after `act` has returned.
    """

    name: str
    source: str
    expected: str
    act: Act
    patience: float = 150

    @property
    def must_be_kept(self) -> bool:
        """Return whether every expected outcome includes a READY recording."""
        return all("READY" in one for one in self.expected.split(" | "))

    @property
    def may_end_lost(self) -> bool:
        """Return whether an expected outcome ends with LOST. An expected outcome such as "LOST then READY" does not
        count as READY.
        """
        return any(one.startswith("LOST ") and "then" not in one for one in self.expected.split(" | "))


@dataclass(frozen=True)
class Verdict:
    """The verdict on a recording after a fault. `outcome` lists the outcomes of the video recordings, oldest first,
    and then of the sound recordings. `seconds` is the time from the end of the act to the end of the recording.
    """

    fault: Fault
    outcome: str
    seconds: float
    lost: bool
    doubled: bool
    stuck: bool

    @property
    def is_as_expected(self) -> bool:
        """Return whether the outcome is an expected one and no recording is lost, doubled or stuck."""
        is_one_of_them = self.outcome in self.fault.expected.split(" | ")
        return is_one_of_them and not (self.lost or self.doubled or self.stuck)


Tell = Callable[[Verdict], None]
