"""The state machine, which runs actions of people, LiveKit, the network, the worker and the clock in any order.

The oracle checks every step (`oracle.py`). At the end of a sequence, the machine heals all faults, lets time pass,
and runs jobs and passes until no state changes. At the end of a sequence, every recording must have ended. Every
rule of the state machine is a step that can also happen in production.
"""

from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.errors import AppError, Conflict, Forbidden, NotFound
from app.recordings.model import RecordingStatus
from tests.faults.cloud import Crashed, Disturbance, Egress, Told
from tests.faults.machine_services import GUEST, STRANGER, MachineServices, Stage
from tests.faults.oracle import (
    judge,
    judge_ask,
    judge_death,
    judge_end,
    judge_found_again,
    judge_sound,
    judge_withdrawal,
    recordings,
)
from tests.integration.recording_harness import DOCTOR, asker

FAULTS = (
    *(("start", how) for how in ("answer lost", "late", "unanswered", "refused")),
    *(("stop", how) for how in ("lost", "unanswered")),
    *(("list", how) for how in ("stale", "partial", "empty", "unavailable")),
    *(("rooms", how) for how in ("empty", "unavailable")),
    ("participants", "unavailable"),
    ("bucket", "down"),
    *[("all", "heals")] * 4,
)
SPANS = [timedelta(seconds=value) for value in (5, 21, 62, 100, 200, 400, 1000, 2000, 15_000, 90_000)]
ENDS = (
    "complete",
    "complete late",
    "complete never",
    "complete short",
    "complete other",
    "limit_reached",
    "failed",
    "failed with",
    "failed late",
    "aborted with",
)
LETTING_GO = [
    timedelta(seconds=value)
    for value in (62, 62, 15_000, 62, 330, 330, 1000, 62, 62, 2000, 62, 90_000, 62, 62, 62)
]
MEANWHILE = ("doctor stops", "patient withdraws", "stranger enters", "pass", "livekit goes on", "others work")
LAST_ATTEMPT = 11

number = st.integers(0, 7)
disturbances = st.none() | st.builds(
    Disturbance, st.integers(1, 10), st.sampled_from(("crash", "crash", "fail", "fail", *MEANWHILE))
)


class RecordingMachine(RuleBasedStateMachine):
    """A state machine for the recordings of one consultation."""

    def __init__(self, services: MachineServices) -> None:
        super().__init__()
        self.services = services
        self.stage = Stage(services)
        self.cloud = self.stage.cloud
        self.cloud.faults.meanwhile = self._meanwhile
        self.cloud.on_ask = self._judge_ask
        self.last_seen: dict[UUID, str] = {}
        self.is_broken = False
        self.is_open = self.wants_sound = False
        self.interruptions = 0
        self.end, self.at_last = "complete", "nothing"
        self.present: tuple[str, ...] = ()

    def _do(self, coroutine: Coroutine[Any, Any, object]) -> None:
        self.is_broken = True
        self.services.run(coroutine)
        self.is_broken = False

    # The beginning of a sequence.

    @initialize(
        wished=st.fixed_dictionaries({"auto_record": st.booleans(), "separate_speakers": st.booleans()}),
        depth=st.sampled_from((4, 3, 3, 5, 5, 6, 2, 1, 0)),
        present=st.sampled_from((("doctor", "patient"), ("doctor", "patient"), ("doctor",))),
        then=st.sampled_from((*["nothing"] * 6, "patient withdraws", "stranger enters")),
        start=st.sampled_from((None, None, None, "answer lost", "late", "unanswered")),
        end=st.sampled_from(("complete", *ENDS)),
        at_last=st.sampled_from(("nothing", "everyone leaves", "patient withdraws", "stranger enters")),
    )
    def begin(
        self,
        wished: dict[str, bool],
        depth: int,
        present: tuple[str, ...],
        then: str,
        start: str | None,
        end: str,
        at_last: str,
    ) -> None:
        """Register a consultation, and do the first `depth` steps of a recording. LiveKit causes the fault `start`
        when the product first starts an egress.

        At the end of the sequence, the action `at_last` happens, and each egress that still records ends in the way
        that `end` names.
        """
        self.stage.register(**wished)
        self.is_open, self.wants_sound = True, wished["separate_speakers"]
        if start is not None:
            self.cloud.fault["start"] = start
        self.end, self.at_last = end, at_last
        self.present = present
        self._do(self._begin(depth))
        self._do(self._meanwhile(then))

    async def _begin(self, depth: int) -> None:
        steps = (self._everyone_consents, self._they_enter, self._start, self._work_all, self._records)
        for step in steps[:depth]:
            await step()
        if depth > 5:
            await self._stop(0)
            await self._work_all()

    async def _everyone_consents(self) -> None:
        for who in ("patient", "doctor"):
            await self.stage.say(who, gives=True)

    async def _they_enter(self) -> None:
        for who in self.present:
            self.cloud.enter(self.stage.room, str(self.stage.people[who]), is_publisher=True)

    async def _records(self) -> None:
        self.cloud.goes_on()
        await self.stage.reconciler.run_once()

    # Actions of people.

    @rule(how_many=st.integers(1, 2))
    def doctor_starts(self, how_many: int) -> None:
        """The doctor starts a recording. The API refuses the start if a consent is missing (law 6). If the doctor
        starts again, the API returns the existing recording.
        """
        for _ in range(how_many):
            self._do(self._start())

    async def _start(self) -> None:
        is_missing = any(needed and not given for needed, given in self.stage.standing().values())
        try:
            await self.stage.recordings.start(asker(DOCTOR), self.stage.consultation.id)
        except (Forbidden, Conflict) as error:
            if error.reason not in ("consent_missing", "live_recording_exists"):
                raise
            return
        assert not is_missing, "an intent without everybody's consent"

    @rule(which=number)
    def doctor_stops(self, which: int) -> None:
        """The doctor stops any video, finished or unfinished. The service refuses to stop a sound by itself."""
        self._do(self._stop(which))

    async def _stop(self, which: int) -> None:
        rows = recordings(self.stage)
        if not rows:
            return
        stopped = rows[which % len(rows)]
        if stopped.medium == "VIDEO":
            await self.stage.recordings.stop(asker(DOCTOR), stopped.id)
        else:
            with pytest.raises(NotFound, match="recording_not_found"):
                await self.stage.recordings.stop(asker(DOCTOR), stopped.id)

    @rule(who=st.sampled_from(("patient", "doctor", GUEST)), gives=st.sampled_from((True, True, False)))
    def somebody_says(self, who: str, gives: bool) -> None:
        """A participant gives or withdraws consent."""
        self._do(self._say(who, gives=gives))

    async def _say(self, who: str, *, gives: bool) -> None:
        with suppress(AppError):
            await self.stage.say(who, gives=gives)

    @rule(
        who=st.sampled_from(("doctor", "patient", GUEST, STRANGER)),
        how=st.sampled_from(("publishes", "publishes anew", "listens", "leaves")),
    )
    def somebody_moves(self, who: str, how: str) -> None:
        """One of these happens in the room: a person joins with a token that Resguardo issued, a stranger joins
        with another token, or a person leaves. The room closes after the last person has left.
        """
        identity = str(self.stage.people.get(who, who))
        if how == "leaves":
            self.cloud.leave(self.stage.room, identity)
        elif how == "publishes anew" and identity in self.stage.people_in_room():
            self.cloud.publish(self.stage.room, identity)
            self.cloud.unpublish(self.stage.room, identity)
            self.cloud.publish(self.stage.room, identity)
        else:
            self.cloud.enter(self.stage.room, identity, is_publisher=how == "publishes")

    # Events in LiveKit and in the network.

    def _an_egress(self, which: int) -> Egress | None:
        found = list(self.cloud.egresses.values())
        return found[which % len(found)] if found else None

    @precondition(lambda self: any(one.is_live for one in self.cloud.egresses.values()))
    @rule(
        which=number,
        what=st.sampled_from(("goes on", "goes on", "ends", "aborts", "fails", "limit", "dies", "vanishes")),
    )
    def egress_lives(self, which: int, what: str) -> None:
        """Let an egress that is recording or starting continue, end, fail, die or vanish from the list."""
        live = [one for one in self.cloud.egresses.values() if one.is_live]
        egress = live[which % len(live)]
        is_starting = egress.snapshot.status == "starting"
        match what:
            case "goes on" | "ends" | "limit" if is_starting:
                self.cloud.change(egress, "active")
            case "ends":
                self.cloud.change(egress, "ending")
            case "aborts" if is_starting:
                self.cloud.change(egress, "aborted", error_reason="start_not_received")
            case "fails":
                self.cloud.end(egress, "failed")
            case "limit":
                self.cloud.end(egress, "limit_reached")
            case "dies":
                egress.is_dead = True
            case "vanishes":
                egress.is_dead = egress.is_forgotten = True

    @precondition(lambda self: any(one.snapshot.status == "ending" for one in self.cloud.egresses.values()))
    @rule(how=st.sampled_from(ENDS))
    def egress_ends(self, how: str) -> None:
        """End an egress. When an egress ends, its object appears, is late, is missing, is truncated, or has a wrong
        format.
        """
        ending = [one for one in self.cloud.egresses.values() if one.snapshot.status == "ending"]
        self.cloud.end(ending[0], how)

    @precondition(lambda self: self.cloud.turns_up_late or self.cloud.uploads_late)
    @rule()
    def what_is_late_comes(self) -> None:
        """Deliver each late egress, which LiveKit started although it answered with an error, and each late object."""
        for egress in list(self.cloud.turns_up_late):
            self.cloud.turn_up(egress)
        for egress in list(self.cloud.uploads_late):
            self.cloud.upload(egress)

    @precondition(lambda self: any(one.is_dead for one in self.cloud.egresses.values()))
    @rule()
    def dead_egress_has_uploaded(self) -> None:
        """An egress whose node is dead turns out to have uploaded its object: the node died after the upload, or a
        second node resumed the egress.
        """
        for egress in self.cloud.egresses.values():
            if egress.is_dead and not egress.is_uploaded:
                self.cloud.upload(egress)

    @rule(fault=st.sampled_from(FAULTS))
    def network_changes(self, fault: tuple[str, str]) -> None:
        """Set a network fault, which lasts until all faults are healed, or heal all faults. A fault of `start`
        applies only once.
        """
        call, how = fault
        if call == "all":
            self.cloud.heal()
        elif call == "bucket":
            self.cloud.bucket.is_down = True
        else:
            self.cloud.fault[call] = how

    @precondition(lambda self: self.cloud.told)
    @rule(which=st.integers(0, 15), how_many=st.integers(1, 2))
    def event_comes(self, which: int, how_many: int) -> None:
        """Deliver LiveKit's events in any order, any number of times."""
        told = self.cloud.told[-1 - which % len(self.cloud.told)]
        for _ in range(how_many):
            self._do(self.stage.deliver(told))

    @precondition(lambda self: self.is_open)
    @rule(
        which=number,
        status=st.sampled_from(("EGRESS_COMPLETE", "EGRESS_FAILED", "EGRESS_ABORTED")),
        of=st.sampled_from(("known", "unknown", "empty")),
    )
    def forged_event_comes(self, which: int, status: str, of: str) -> None:
        """Deliver an event with a valid signature that says that an egress has ended, although it has not."""
        egress = self._an_egress(which)
        known = None if egress is None else egress.snapshot.egress_id
        egress_id = {"known": known, "unknown": "EG_unknown", "empty": None}[of]
        forged = Told(self.cloud.next_event_id(), "egress_ended", egress_id, self.stage.room, status)
        self._do(self.stage.deliver(forged))

    # Actions of the worker.

    @rule(which=number, disturbance=disturbances)
    def job_runs(self, which: int, disturbance: Disturbance | None) -> None:
        """Run any of the jobs that the queue allows to run."""
        jobs = self.stage.jobs()
        if jobs:
            self._do(self._disturbed(self._work(which % len(jobs)), disturbance))

    async def _work(self, which: int) -> None:
        await self.stage.work(self.stage.jobs()[which])

    @rule(disturbance=disturbances)
    def first_job_runs(self, disturbance: Disturbance | None) -> None:
        """Run the oldest job among those that the queue allows to run."""
        self.job_runs(0, disturbance)

    @rule()
    def jobs_run(self) -> None:
        """Run all due jobs."""
        self._do(self._work_all())

    async def _work_all(self) -> None:
        for _ in range(20):
            jobs = self.stage.jobs()
            if not jobs:
                return
            await self.stage.work(jobs[0])

    @rule(which=number)
    def job_has_been_tried_often(self, which: int) -> None:
        """Set a job's number of attempts so that its next attempt is the last one, as if all earlier attempts had
        failed.
        """
        jobs = self.stage.jobs(due=False)
        if jobs:
            self.services.do(
                "update jobs.procrastinate_jobs set attempts = %s where id = %s",
                LAST_ATTEMPT,
                jobs[which % len(jobs)].id,
            )

    @rule(disturbance=disturbances, is_another=st.booleans())
    def pass_is_made(self, disturbance: Disturbance | None, is_another: bool) -> None:
        """Run the reconciler once, either as the current leader or as a new leader that replaces a crashed one."""
        self._do(self._disturbed(self._pass(is_another=is_another), disturbance))

    async def _pass(self, *, is_another: bool) -> None:
        if is_another:
            self.stage.reconciler = self.stage.another_reconciler()
        with suppress(AppError):
            await self.stage.reconciler.run_once()
        with suppress(AppError):
            await self.stage.lost.run_once()

    @precondition(lambda self: self.wants_sound)
    @rule(is_another=st.booleans())
    def every_microphone_is_recorded(self, is_another: bool) -> None:
        """Once LiveKit answers again and the reconciler has run, every microphone must be recorded, even if events
        were lost.
        """
        self._do(self._heard(is_another=is_another))

    async def _heard(self, *, is_another: bool) -> None:
        self.cloud.heal()
        await self._pass(is_another=is_another)
        if self.stage.objection() is None:
            judge_sound(recordings(self.stage), self.cloud, self.stage.room, self.stage.standing())

    @rule(by=st.sampled_from(SPANS))
    def time_passes(self, by: timedelta) -> None:
        """Let time pass, from seconds to a day."""
        self.stage.advance(by)

    @precondition(lambda self: self.is_open)
    @rule()
    def without_consent_nothing_goes_on(self) -> None:
        """Once LiveKit answers again and the jobs and passes have run, no egress may record without the required
        consents.
        """
        self._do(self._stopped_for_consent())

    async def _stopped_for_consent(self) -> None:
        if self.stage.objection() is None:
            return
        self.cloud.heal()
        for _ in range(3):
            self.stage.advance(timedelta(seconds=62))
            await self._work_all()
            await self._pass(is_another=False)
            await self._work_all()
        judge_withdrawal(self.cloud, self.stage.objection())

    # Actions in the middle of a job or a pass.

    async def _disturbed(self, run: Coroutine[Any, Any, None], disturbance: Disturbance | None) -> None:
        self.cloud.faults.plan(disturbance)
        try:
            await run
        except Crashed:
            self.stage.reconciler = self.stage.another_reconciler()
        finally:
            self.cloud.faults.plan(None)

    async def _meanwhile(self, what: str) -> None:
        match what:
            case "doctor stops":
                await self._stop(0)
            case "patient withdraws":
                await self._say("patient", gives=False)
            case "stranger enters" | "everyone leaves":
                self._room_changes(what)
            case "pass":
                with suppress(AppError):
                    await self.stage.another_reconciler().run_once()
            case "livekit goes on":
                await self._livekit_goes_on()
            case "others work":
                await self._others_work()

    def _room_changes(self, what: str) -> None:
        if what == "stranger enters":
            self.cloud.enter(self.stage.room, STRANGER, is_publisher=True)
            return
        for identity in self.stage.people_in_room():
            self.cloud.leave(self.stage.room, identity)

    async def _livekit_goes_on(self) -> None:
        for egress in list(self.cloud.turns_up_late):
            self.cloud.turn_up(egress)
        self.cloud.goes_on()
        for told in self.cloud.told[-2:]:
            await self.stage.deliver(told)

    async def _others_work(self) -> None:
        for job in self.stage.jobs():
            await self.stage.work(job)

    def _judge_ask(self, room_name: str, object_key: str) -> None:
        """Judge a start request at the moment when LiveKit receives it. The machine keeps a violation until the end
        of the step, because the job queue would catch an exception that is raised in a job.
        """
        try:
            judge_ask(object_key, self.cloud, self.stage.refusal, self.stage.objection)
        except AssertionError as broken:
            self.stage.broken.append(broken)

    # Checks of the results.

    @invariant()
    def laws_hold(self) -> None:
        """Check the laws after every step."""
        if not self.is_open:
            return
        self.is_broken = True
        for broken in self.stage.broken:
            raise broken
        rows = recordings(self.stage)
        judge(rows, self.last_seen, self.cloud)
        if self.cloud.faults.interruptions == self.interruptions:
            judge_death(rows, self.last_seen, self.cloud)
        self.interruptions = self.cloud.faults.interruptions
        self.last_seen = {row.id: row.status for row in rows}
        self.is_broken = False

    def teardown(self) -> None:
        """End the sequence of steps, and check the last laws, unless a step has already failed."""
        if self.is_open and not self.is_broken:
            self.services.run(self._let_go())

    async def _let_go(self) -> None:
        self.cloud.heal()
        await self._meanwhile(self.at_last)
        if any(one.is_live for one in self.cloud.egresses.values()):
            await self._stopped_for_consent()
        for span in LETTING_GO:
            self.stage.advance(span)
            self.cloud.goes_on(self.end)
            await self._work_all()
            await self._pass(is_another=False)
            await self._work_all()
            before = self.last_seen
            self.laws_hold()
            if self._is_quiet() and self.last_seen == before:
                break
        await self._new_leader_looks()
        judge_end(recordings(self.stage), self.cloud)
        await self._old_news_comes()
        await self._lost_turns_up()

    def _is_quiet(self) -> bool:
        is_over = all(RecordingStatus(row.status).is_terminal for row in recordings(self.stage))
        return is_over and not any(one.is_live for one in self.cloud.egresses.values())

    async def _new_leader_looks(self) -> None:
        self.stage.lost.forget()
        await self.stage.lost.run_once()
        await self._work_all()
        self.laws_hold()

    async def _old_news_comes(self) -> None:
        """Deliver LiveKit's latest egress events again. They must change nothing."""
        for told in [told for told in self.cloud.told if told.egress_id][-2:]:
            await self.stage.deliver(replace(told, event_id=self.cloud.next_event_id()))
        await self._work_all()
        self.laws_hold()

    async def _lost_turns_up(self) -> None:
        """Store the objects of all LOST recordings and run the reconciler's pass. These LOST recordings must then
        become READY.
        """
        lost = [row.egress_id for row in recordings(self.stage) if row.status == "LOST" and row.egress_id]
        if not lost:
            return
        for egress_id in lost:
            egress = self.cloud.egresses[egress_id]
            egress.content = self.cloud.whole(egress)
            self.cloud.upload(egress)
        await self._new_leader_looks()
        judge_found_again(recordings(self.stage))
