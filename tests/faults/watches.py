"""Who waits for a commit of one consultation, and what a transaction was for, by what was said in it."""

import re
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

Moment = Literal["before", "after"]
FETCH, FINISH = "procrastinate_fetch_job", "procrastinate_finish_job"
_PURPOSE = re.compile(
    rb"procrastinate_(?:fetch|finish|retry)_job|(?:consultation|consent|recording)\.[a-z_]+"
    rb"|start_recording|stop_recording|verify_recording|enforce_consent|recording_controller|follow_egress"
    rb"|watch_room|reconcile|livekit_webhook"
)
_TASK = re.compile(rb"start_recording|stop_recording|verify_recording|follow_egress|watch_room")
_WRITTEN = re.compile(
    rb"update resguardo\.recordings\s.*?\0\0\0[\x04-\x09]"
    rb"(STARTING|RECORDING|STOPPING|VERIFYING|READY|FAILED|ABORTED|LOST)",
    re.DOTALL,
)
_FETCHED = re.compile(rb"(\d+)\0\0\0\x05doing")
_ENDS = ((2, "!hih"), (4, "!hii"), (8, "!hiq"))


@dataclass(eq=False)
class Watch:
    """Kills a process at the `number`-th boundary of a purpose; 0 only counts, by purpose, what is passed.

    A purpose is what a transaction says of itself: the reason of a service or a person's action, with the status that
    it writes, or a step of the queue and the task. The queue ends a job by its number alone, known since the fetch.
    """

    login: str
    moment: Moment
    kill: Callable[[], None] = lambda: None
    purpose: str = ""
    number: int = 0
    names: set[bytes] = field(default_factory=set)
    tasks: dict[bytes, str] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)
    has_fired: bool = False

    def know(self, *texts: str) -> None:
        """Names by which the consultation is known from now on; a UUID is known in each of its forms."""
        for text in texts:
            self.names.add(text.encode())
            try:
                self.names.add(UUID(text).bytes)
            except ValueError:
                continue

    def learn(self, said: bytes) -> None:
        """Knows the end of a job of the consultation once it was fetched: Bind's three values, the first its number."""
        task, job = _TASK.search(said), _FETCHED.search(said)
        if task and job and self._names_it(said):
            number = int(job[1])
            size, form = next(one for one in _ENDS if number < 1 << (8 * one[0] - 1))
            self.tasks[struct.pack(form, 3, size, number)] = task[0].decode()

    def passes(self, said: bytes) -> bool:
        """Counts a boundary of a transaction in which that was said; whether it is the one."""
        purpose = self._purpose(said)
        if self.has_fired or purpose is None:
            return False
        self.passed[purpose] += 1
        self.has_fired = purpose == self.purpose and self.passed[purpose] == self.number
        return self.has_fired

    def _purpose(self, said: bytes) -> str | None:
        """What a transaction was for; None where it was not about the consultation."""
        found = _PURPOSE.search(said)
        purpose = found[0].decode() if found else None
        if purpose == FINISH:
            task = next((self.tasks[end] for end in self.tasks if end in said), None)
            return f"{FINISH} of {task}" if task else None
        if not self._names_it(said):
            return None
        if purpose == FETCH and (fetched := _TASK.search(said)):
            return f"{FETCH} of {fetched[0].decode()}"
        written = _WRITTEN.search(said)
        return f"{purpose} to {written[1].decode()}" if purpose and written else purpose

    def _names_it(self, said: bytes) -> bool:
        return any(name in said for name in self.names)
