"""Watches the commits of one consultation, and derives the purpose of a transaction from its messages."""

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
    rb"|start_recording|stop_recording|verify_recording|enforce_consent|move_recording|follow_egress"
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
    """Kills a process at the `number`-th boundary of a purpose. If `number` is 0, the watch kills nothing and only
    counts the commits by purpose.

    The purpose of a transaction consists of the action of a service or a person and the status that it writes, or
    of a step of the job queue and the task. When the queue ends a job, its message contains only the job's number,
    so the watch remembers the number from the message that fetched the job.
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
        """Add names by which the messages of the consultation are recognised. A UUID is recognized in each of its
        forms.
        """
        for text in texts:
            self.names.add(text.encode())
            try:
                self.names.add(UUID(text).bytes)
            except ValueError:
                continue

    def learn(self, said: bytes) -> None:
        """Remember the number of a fetched job that concerns the consultation, encoded as the Bind message that
        ends the job will contain it.
        """
        task, job = _TASK.search(said), _FETCHED.search(said)
        if task and job and self._names_it(said):
            number = int(job[1])
            size, form = next(one for one in _ENDS if number < 1 << (8 * one[0] - 1))
            self.tasks[struct.pack(form, 3, size, number)] = task[0].decode()

    def passes(self, said: bytes) -> bool:
        """Count a boundary of a transaction that consists of these messages. Return whether the watch must kill the
        process at this boundary.
        """
        purpose = self._purpose(said)
        if self.has_fired or purpose is None:
            return False
        self.passed[purpose] += 1
        self.has_fired = purpose == self.purpose and self.passed[purpose] == self.number
        return self.has_fired

    def _purpose(self, said: bytes) -> str | None:
        """Return the purpose of a transaction, or None if the transaction does not concern the watched
        consultation.
        """
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
