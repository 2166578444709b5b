"""Two simulated years: the actions of people, the periodic tasks of the worker, and all failures, at their times."""

import asyncio
import heapq
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final, LiteralString, cast
from uuid import UUID

from tests.simulation.facts import By, Recording, Wrong
from tests.simulation.harness import Pass, SimulationHarness
from tests.simulation.people import People, spread
from tests.simulation.rounds import check_restore, destroy, keep_exports, look_for_missing, protect, sweep

START: Final = datetime(2103, 6, 1, 9, tzinfo=UTC)
"""A date after every real run, because rows also contain the machine's time. The period includes a 29 February."""
DAYS: Final = 731
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_YEAR: Final = timedelta(days=365)
_MOST_DEATHS: Final = 10
"""The maximum number of consecutive deaths. A pass can always die at a step that every pass reaches."""
_MOST_ATTEMPTS: Final = 500
Act = Callable[[], Awaitable[None]]
_MEDIA = "(select r.id from resguardo.recordings as r where %s in (r.id, r.video_id))"
_BACKUP = tuple(
    (
        cast("Any", f"select json_agg(t) from {table} as t where t.{column} in {_MEDIA}"),  # noqa: S608
        cast("Any", f"insert into {table} select * from json_populate_recordset(null::{table}, %s)"),  # noqa: S608
    )
    for table, column in (
        ("resguardo.recordings", "id"),
        ("private.recording_secrets", "recording_id"),
        ("private.recording_keys", "recording_id"),
    )
)
_FORGET: tuple[LiteralString, ...] = (
    "delete from resguardo.certificates where recording_id = %s",
    "delete from resguardo.deletions where recording_id = %s",
    "set session_replication_role = replica",
    "delete from resguardo.insights where recording_id = %s",
    "delete from resguardo.transcripts where recording_id = %s",
    "delete from resguardo.recordings where %s in (id, video_id)",
)


@dataclass(frozen=True)
class Scale:
    """The size of a simulation. `step` is the time between two passes of the worker. `outage` is the maximum length
    of an outage of the bucket.

    The simulation runs each periodic task that only polls once in `rare` days.
    """

    consultations: int
    step: timedelta
    outage: timedelta
    idle_passes: float
    rare: int

    @classmethod
    def of(cls, consultations: int) -> "Scale":
        if consultations >= 1000:
            return cls(consultations, 6 * _HOUR, 10 * _HOUR, 0.2, 1)
        return cls(consultations, 15 * _HOUR, 3 * _HOUR, 0.02, 5)


class Play:
    """One run of the simulation, on a practice that has just opened."""

    def __init__(
        self, harness: SimulationHarness, scale: Scale, *, end: datetime = START + DAYS * _DAY
    ) -> None:
        self.harness = harness
        self.oracle = harness.oracle
        self.dice = harness.dice
        self.scale = scale
        self.end = end
        self.people = People(harness, self.later)
        self._agenda: list[tuple[datetime, int, Act]] = []
        self._number = count()
        self._backups: dict[UUID, list[str]] = {}
        self._unrest = 0

    def later(self, wait: timedelta, act: Act) -> None:
        self._at(self.oracle.now + wait, act)

    def _at(self, time: datetime, act: Act) -> None:
        heapq.heappush(self._agenda, (time, next(self._number), act))

    def plan(self) -> None:
        """Schedule, at random times, every action that does not follow from an earlier action."""
        many, people = self.scale.consultations, self.people
        for how_many, act in (
            (many, people.visit),
            (max(4, many // 20), people.hold),
            (max(4, many // 25), people.ask_for_copy),
            (max(4, many // 15), people.ask_to_delete),
            (15 // self.scale.rare + 3, people.change_policy),
            (15 // self.scale.rare, self.jump),
            (40 // self.scale.rare, self.fail_bucket),
            (max(2, many // 300), self.have_accident),
            (max(2, many // 100), self.back_up),
        ):
            for time in spread(self.dice.uniform, START, DAYS - 1, how_many):
                self._at(time, act)
        rare = self.scale.rare
        self._every(rare * _DAY, lambda: self.round("protect", protect))
        self._every(rare * 3 * _DAY, lambda: self.round("keep_exports", keep_exports))
        self._every(rare * 5 * _DAY, lambda: self.round("sweep", sweep))
        self._every(rare * 4 * _DAY, lambda: self.round("missing", look_for_missing))
        self._every(_DAY, self.apply_bucket_rule)
        self._every(30 * _DAY, self.harness.look_for_left)
        self._every(self.scale.step, self.destroy_due)

    def _every(self, wait: timedelta, act: Act) -> None:
        time = START + wait
        while time < self.end:
            self._at(time, act)
            time += wait

    async def run(self, told: Callable[[float], None]) -> None:
        """Simulate the two years, and then a month in which no process dies and the sweep removes the remaining
        objects and rows.
        """
        await self.people.change_policy(is_first=True)
        self.plan()
        while self._agenda and self._agenda[0][0] <= self.end:
            time, _, act = heapq.heappop(self._agenda)
            if time > self.oracle.now:
                await self.harness.move_to(time)
            await act()
            told((self.oracle.now - START) / (self.end - START))
        await self._end_quietly()

    async def _end_quietly(self) -> None:
        self.harness.weather.is_calm = True
        await self.harness.observe()
        self._agenda.clear()
        for day in range(34):
            await self.harness.move_to(self.oracle.now + _DAY)
            rounds = [("protect", protect), ("keep_exports", keep_exports), ("sweep", sweep)]
            for name, work in rounds if day % 4 == 1 else []:
                await self.harness.run(name, work, may_die=False)
            if self.oracle.wants_a_pass():
                await self.harness.run("destroy", destroy, may_die=False)
            await self.harness.observe()
            if self.oracle.has_due_notes():
                await self.harness.run("keep_exports", keep_exports, may_die=False)
            await self.apply_bucket_rule()
            self.oracle.judge_overdue()
        await self.harness.look_for_left(is_end=True)

    # The worker.

    async def destroy_due(self) -> None:
        """Run a pass of the destroyer if a recording must be destroyed, and sometimes also if none must be."""
        if self.oracle.wants_a_pass() or self.dice.random() < self.scale.idle_passes:
            await self._destroy()
        if self.oracle.has_due_notes():
            await self.round("keep_exports", keep_exports)
        self.oracle.judge_overdue()
        for recording_id in [one for one in self._backups if self.oracle.recordings[one].is_deleted]:
            await self._restore(recording_id)

    async def _destroy(self) -> None:
        harness, may_die = self.harness, self._unrest < 2 and self.dice.random() < 0.5
        due = self.oracle.due_soon(timedelta(0))
        jobs = [harness.run("destroy", destroy, may_die=may_die)]
        if self.dice.random() < 0.1:
            jobs.append(harness.beside("destroy", destroy))
        if self.dice.random() < 0.1:
            jobs.append(harness.beside("protect", protect))
        jobs += [self._race(one) for one in due[:1] if self.dice.random() < 0.1 and self._is_alone(one)]
        results = await asyncio.gather(*jobs)
        await harness.observe()
        is_done = results[0] and not self.oracle.has_unfinished()
        self._unrest = 0 if is_done else self._unrest + 1
        if not is_done:
            self.later(_HOUR + timedelta(minutes=5), self._destroy_again)

    async def _destroy_again(self) -> None:
        if self.oracle.wants_a_pass():
            await self._destroy()

    async def _race(self, recording: Recording) -> bool:
        await self.people.hold_at_once(recording)
        return True

    def _is_alone(self, recording: Recording) -> bool:
        same = [one for one in self.oracle.living.values() if one.consultation == recording.consultation]
        return len(same) == 1

    async def round(self, name: str, work: Pass) -> None:
        """Run a periodic task of the worker. If the task's process dies or the task fails, the simulation runs the
        task again after an hour.
        """
        if not await self.harness.run(name, work, may_die=self.dice.random() < 0.3):
            self.later(_HOUR, lambda: self._again(name, work))
        await self.harness.observe()

    async def _again(self, name: str, work: Pass) -> None:
        if not await self.harness.run(name, work, may_die=False):
            self.later(2 * _HOUR, lambda: self._again(name, work))

    # Failures.

    async def fail_bucket(self) -> None:
        """Let the bucket be unreachable for a random time."""
        self.harness.weather.outage_until = self.oracle.now + self.dice.random() * self.scale.outage

    async def jump(self) -> None:
        """Shift the clock of the database or of the bucket by a year, for one hour. No recording may be destroyed
        early, and recordings that end in this hour keep their full term.
        """
        harness, way = self.harness, self.dice.randrange(4)
        harness.jump = (-_YEAR, _YEAR, timedelta(0), timedelta(0))[way]
        harness.storage.store_time = self.oracle.now + (-_YEAR if way == 3 else _YEAR) if way >= 2 else None
        await harness.move_to(self.oracle.now)
        await self.people.visit()
        for name, work in (("destroy", destroy), ("sweep", sweep), ("missing", look_for_missing)):
            await harness.run(name, work, may_die=False)
            await harness.observe()
        harness.jump, harness.storage.store_time = timedelta(0), None
        await harness.move_to(self.oracle.now + _HOUR)

    async def have_accident(self) -> None:
        """Delete all objects of a recording, as an accident outside of Resguardo."""
        keys = [key for key, content in self.oracle.bucket.items() if content.is_medium]
        if not keys:
            return
        (of,) = list(self.oracle.bucket[self.dice.choice(keys)].recordings)[:1]
        for key, content in list(self.oracle.bucket.items()):
            if content.recordings == {of}:
                await self.harness.raw.delete_as(By.ACCIDENT, key)

    async def apply_bucket_rule(self) -> None:
        """Apply the bucket's lifecycle rule: delete every object a week after the retention term of its class has
        ended, even if a legal hold covers the object.
        """
        for key, content in list(self.oracle.bucket.items()):
            if key.startswith("r/d"):
                days = int(key.split("/")[1][1:])
                if self.oracle.now - content.at >= (days + 7) * _DAY:
                    await self.harness.raw.delete_as(By.BUCKET, key)

    async def back_up(self) -> None:
        """Save the rows of a recording and its sounds, to restore them after the destruction."""
        living = [
            one for one in self.oracle.living.values() if one.wrapped_key and one.id not in self._backups
        ]
        if living:
            one = self.dice.choice(living)
            self._backups[one.id] = [
                json.dumps(await self.harness.value(read, one.id)) for read, _ in _BACKUP
            ]

    async def _restore(self, recording_id: UUID) -> None:
        """Restore the saved rows, and run the check of the certificate ledger that must follow a restore."""
        backup, harness = self._backups.pop(recording_id), self.harness
        if self.oracle.is_held(self.oracle.recordings[recording_id]) or "null" in backup:
            return
        for statement in _FORGET:
            await harness.rows(statement, *([recording_id] if "%s" in statement else []))
        for (_, write), row in zip(_BACKUP, backup, strict=True):
            await harness.rows(write, row)
        await harness.rows("set session_replication_role = origin")
        self.oracle.restored(recording_id)
        for attempt in range(_MOST_ATTEMPTS):
            if await harness.run("restore", check_restore, may_die=attempt < _MOST_DEATHS):
                return
            await harness.move_to(self.oracle.now + timedelta(minutes=20))
        raise RuntimeError("the look at the ledger does not come to its end") from harness.refusal

    def last_line(self) -> str:
        """Return the line of text with the number of violations of each kind. In the line of counts, every number
        except the number of deletions must be 0.
        """
        early = f", early {self.oracle.count(Wrong.EARLY)}" if self.oracle.count(Wrong.EARLY) else ""
        return (
            f"simulate: {self.oracle.deletions} deletions, held lost {self.oracle.count(Wrong.HELD)}{early}, "
            f"overdue {self.oracle.count(Wrong.OVERDUE)}, certificates bad {self.oracle.count(Wrong.CERTIFICATE)}, "
            f"left behind {self.oracle.count(Wrong.LEFT)}"
        )
