"""The periodic task that opens and closes alerts, and the alert about periodic tasks that fail."""

from collections.abc import Callable
from typing import Final

from app.alerts.model import AlertKind
from app.alerts.service import Alerts
from app.jobs.periodic import PeriodicTask

EVALUATE_SECONDS: Final = 60
PATIENCE_SECONDS: Final = 300
"""The time after which a task that fails because of a service opens its alert. A bug opens the alert at once."""

REPEAT_SECONDS: Final = 60
"""The interval at which the alert of a task that keeps failing is written again."""


def define_periodic_tasks(alerts: Alerts) -> list[PeriodicTask]:
    """Return the task that evaluates the alerts."""
    evaluation = Evaluation(alerts)
    return [PeriodicTask("keep_alerts", EVALUATE_SECONDS, evaluation.run, evaluation.begin)]


class Evaluation:
    """Evaluates the alerts, but not in the first run of a new leader. A new leader must first do the work that waited
    while no worker led, such as sealing events. Without the delay, this work would open alerts.
    """

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts
        self._is_first = True

    def begin(self) -> None:
        """Note that this process has become the leader."""
        self._is_first = True

    async def run(self) -> None:
        """Evaluate the alerts. Raises as `Alerts.evaluate`."""
        if self._is_first:
            self._is_first = False
            await self._alerts.watch_leader()
        else:
            await self._alerts.evaluate()


class FailingTasks:
    """Opens the alert TASK_FAILING for each periodic task of this process that keeps failing, and closes it when the
    task has run. `clock` returns seconds and never goes back.
    """

    def __init__(self, alerts: Alerts, *, clock: Callable[[], float]) -> None:
        self._alerts = alerts
        self._clock = clock
        self._failing_since: dict[str, float] = {}
        self._written_at: dict[str, float] = {}
        self._closed: set[str] = set()

    def begin(self) -> None:
        """Forget what this process knows, because another worker may have led in between."""
        self._failing_since.clear()
        self._written_at.clear()
        self._closed.clear()

    async def report_success(self, task: str) -> None:
        """Close the alert of a task after its first run, and after its first run that follows a failure. Raises
        AppError, after which the next run closes the alert.
        """
        self._failing_since.pop(task, None)
        if task not in self._closed:
            await self._alerts.close(AlertKind.TASK_FAILING, task)
            self._closed.add(task)
            self._written_at.pop(task, None)

    async def report_failure(self, task: str, *, is_bug: bool) -> None:
        """Open the alert of a task that has a bug, or that has failed for `PATIENCE_SECONDS`. Raises AppError, after
        which the next failure opens the alert.
        """
        now = self._clock()
        since = self._failing_since.setdefault(task, now)
        self._closed.discard(task)
        if not is_bug and now - since < PATIENCE_SECONDS:
            return
        if now - self._written_at.get(task, now - REPEAT_SECONDS) >= REPEAT_SECONDS:
            await self._alerts.open(AlertKind.TASK_FAILING, task)
            self._written_at[task] = now
