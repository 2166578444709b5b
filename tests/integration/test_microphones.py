"""Tests of the sound recordings beside a video. A video has one sound recording for each microphone track, or a
single one with the doctor on the left channel and the patient on the right. The stand-ins for LiveKit and the
bucket run in memory (tests/faults/cloud.py). These tests use a real Postgres database.
"""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest

from app.errors import AppError, Conflict
from app.recordings import store
from app.recordings.model import SoundMode
from tests.databases import Database
from tests.faults.cloud import Crashed, Disturbance
from tests.faults.machine_services import GUEST, STRANGER, MachineServices, Stage, running_services
from tests.faults.oracle import Row, recordings
from tests.integration.recording_harness import DOCTOR, asker

T = TypeVar("T")
A_MINUTE_AND_MORE = timedelta(seconds=62)
ROUTED = SoundMode(is_routed=True)


@pytest.fixture
def standing(database: Database) -> Iterator[MachineServices]:
    with running_services(database) as made:
        yield made


class Visit:
    """A consultation in which everybody has consented to the recording. The doctor and the patient are in the
    consultation's LiveKit room.
    """

    def __init__(
        self,
        standing: MachineServices,
        sound: SoundMode | None = None,
        *,
        has_guest: bool = True,
        **wished: bool,
    ) -> None:
        self.stage = Stage(standing, sound)
        self.cloud = self.stage.cloud
        self.stage.register(has_guest=has_guest, **{"separate_speakers": True, **wished})
        for who in ("patient", "doctor"):
            self.run(self.stage.say(who, gives=True))
            self.enter(who)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.stage.services.run(coroutine)

    def enter(self, who: str, *, is_publisher: bool = True) -> None:
        self.cloud.enter(self.stage.room, self.identity(who), is_publisher=is_publisher)

    def identity(self, who: str) -> str:
        return str(self.stage.people.get(who, who))

    def request(self) -> UUID:
        recording = self.run(self.stage.recordings.start(asker(DOCTOR), self.stage.consultation.id))
        return UUID(recording["id"])

    def record(self) -> UUID:
        """Start a video recording, and the sound recordings that belong to it. Return the id of the consultation's
        video recording.
        """
        video = self.request()
        self.work()
        self.go_on()
        return video

    def go_on(self) -> None:
        """Let LiveKit do everything that is due, run the reconciler once, and run all jobs. The method `go_on`
        delivers no webhook event of LiveKit to the worker.
        """
        self.cloud.goes_on()
        self.look()
        self.work()

    def look(self) -> None:
        self.run(self.stage.reconciler.run_once())

    def work(self) -> None:
        for _ in range(40):
            jobs = self.stage.jobs()
            if not jobs:
                return
            self.run(self.stage.work(jobs[0]))

    def stop(self, video: UUID) -> None:
        self.run(self.stage.recordings.stop(asker(DOCTOR), video))
        self.work()

    def deliver_news(self) -> None:
        """Deliver every waiting webhook event of LiveKit, newest first."""
        for one in reversed(self.cloud.told):
            self.run(self.stage.deliver(one))
        self.work()

    async def meanwhile(self, what: str) -> None:
        """Do `what` (such as stopping the recording as the doctor) between two of the worker's calls, at the point
        that the test chose.
        """
        match what:
            case "pass":
                await self.stage.another_reconciler().run_once()
            case "others work":
                for job in self.stage.jobs():
                    await self.stage.work(job)
            case "doctor stops":
                await self.stage.recordings.stop(asker(DOCTOR), recordings(self.stage)[0].id)

    def disturbed(self, run: Callable[[], None], disturbance: Disturbance) -> None:
        """Call `run`, and let `disturbance` (a crash, a failure or an action of somebody else) happen between two
        of the worker's calls.
        """
        self.cloud.faults.plan(disturbance)
        with suppress(AppError, Crashed):
            run()
        self.cloud.faults.plan(None)
        self.stage.reconciler = self.stage.another_reconciler()

    def rows(self, medium: str = "MICROPHONE") -> list[Row]:
        return [row for row in recordings(self.stage) if row.medium == medium]

    def statuses(self, medium: str = "MICROPHONE") -> list[str]:
        return sorted(row.status for row in self.rows(medium))

    def tracks(self) -> set[str]:
        """Return the SIDs of the microphone tracks that are published now."""
        return {sid for sids in self.cloud.rooms_open[self.stage.room].microphones.values() for sid in sids}

    def asked(self) -> list[str]:
        """Return the SIDs of the tracks that LiveKit was asked to record."""
        return [one.track_sid for one in self.cloud.egresses.values() if one.track_sid]

    def participants(self) -> set[tuple[UUID, str]]:
        query = "select participant_id, track_sid from resguardo.recordings where medium = 'MICROPHONE'"
        return set(self.stage.services.rows(query))


@pytest.fixture
def open_visit(standing: MachineServices) -> Callable[..., Visit]:
    return lambda *given, **wished: Visit(standing, *given, **wished)


OpenVisit = Callable[..., Visit]


def test_each_microphone_is_recorded_beside_the_video(open_visit: OpenVisit) -> None:
    visit = open_visit()
    video = visit.record()
    assert visit.statuses() == ["RECORDING", "RECORDING"]
    assert visit.participants() == {
        (visit.stage.people[who], sid)
        for who in ("doctor", "patient")
        for sid in visit.cloud.rooms_open[visit.stage.room].microphones[visit.identity(who)]
    }
    for row in visit.rows():
        assert row.video_id == video
        assert (row.object_key or "").endswith(f"/{video}/microphone-{row.id}.mp4")


def test_whole_consultation_ends_with_every_part_ready(open_visit: OpenVisit) -> None:
    visit = open_visit()
    visit.stop(visit.record())
    visit.go_on()
    assert visit.statuses() == ["READY", "READY"]
    assert visit.statuses("VIDEO") == ["READY"]


def test_consultation_without_separate_speakers_records_the_video_alone(open_visit: OpenVisit) -> None:
    visit = open_visit(separate_speakers=False)
    visit.record()
    assert visit.rows() == []


def test_automatic_recording_records_the_microphones(open_visit: OpenVisit) -> None:
    visit = open_visit(auto_record=True)
    visit.look()
    visit.work()
    visit.go_on()
    assert visit.statuses() == ["RECORDING", "RECORDING"]


def test_microphone_published_while_recording_is_recorded_by_its_event(open_visit: OpenVisit) -> None:
    visit = open_visit()
    visit.run(visit.stage.say(GUEST, gives=True))
    visit.record()
    visit.enter(GUEST)
    visit.deliver_news()
    assert len(visit.rows()) == 3
    assert visit.stage.people[GUEST] in {who for who, _ in visit.participants()}


def test_microphone_whose_event_was_lost_is_recorded_by_the_next_pass(open_visit: OpenVisit) -> None:
    visit = open_visit()
    visit.record()
    visit.cloud.publish(visit.stage.room, visit.identity("patient"))
    visit.look()
    visit.work()
    assert len(visit.rows()) == 3


def test_microphone_published_again_is_another_recording(
    open_visit: OpenVisit,
) -> None:
    visit = open_visit()
    video = visit.record()
    new = visit.cloud.publish(visit.stage.room, visit.identity("patient"))  # Before the old track ends
    visit.deliver_news()
    (old,) = visit.cloud.rooms_open[visit.stage.room].microphones[visit.identity("patient")][:1]
    visit.cloud.rooms_open[visit.stage.room].microphones[visit.identity("patient")].remove(old)
    for egress in visit.cloud.egresses.values():
        if egress.track_sid == old:
            visit.cloud.change(egress, "ending")
    visit.go_on()
    visit.go_on()
    by_track = {row.track_sid: row.status for row in visit.rows()}
    assert (by_track[old], by_track[new]) == ("READY", "RECORDING")
    assert len({row.object_key for row in visit.rows()}) == 3
    visit.stop(video)
    visit.go_on()
    assert visit.statuses() == ["READY"] * 3


def test_mute_sends_no_request(open_visit: OpenVisit) -> None:
    visit = open_visit()
    visit.record()
    before = len(visit.cloud.asks)
    for _ in range(3):  # A muted track stays in the list and sends no event
        visit.look()
        visit.work()
    assert len(visit.cloud.asks) == before


def test_track_that_ended_before_its_start_is_not_requested(open_visit: OpenVisit) -> None:
    visit = open_visit()
    visit.record()
    visit.cloud.publish(visit.stage.room, visit.identity("patient"))
    visit.look()
    visit.cloud.unpublish(visit.stage.room, visit.identity("patient"))
    asked = len(visit.cloud.asks)
    visit.work()
    assert len(visit.cloud.asks) == asked
    assert [row.error for row in visit.rows() if row.status == "ABORTED"] == ["microphone_gone"]


def test_track_that_livekit_does_not_find_harms_nothing(open_visit: OpenVisit) -> None:
    visit = open_visit()
    video = visit.request()
    visit.run(visit.stage.work(visit.stage.jobs()[0]))  # The video
    visit.run(visit.stage.work(visit.stage.jobs()[0]))  # One microphone, requested and not yet started
    (egress,) = (one for one in visit.cloud.egresses.values() if one.track_sid)
    for sids in visit.cloud.rooms_open[visit.stage.room].microphones.values():
        if egress.track_sid in sids:
            sids.remove(egress.track_sid)
    visit.stage.advance(timedelta(seconds=31))
    visit.go_on()
    visit.go_on()
    assert sorted((row.status, row.error) for row in visit.rows()) == [
        ("ABORTED", "microphone_gone"),
        ("RECORDING", None),
    ]
    visit.stop(video)
    visit.go_on()
    assert visit.statuses("VIDEO") == ["READY"]


@pytest.mark.parametrize("at", range(1, 13))
@pytest.mark.parametrize("kind", ["crash", "fail", "pass", "others work", "doctor stops"])
def test_microphone_is_recorded_once_after_any_disturbance(open_visit: OpenVisit, at: int, kind: str) -> None:
    visit = open_visit()
    visit.request()
    visit.cloud.faults.meanwhile = visit.meanwhile
    for run in (visit.work, visit.look):
        visit.disturbed(run, Disturbance(at, kind))
    for _ in range(4):
        visit.stage.advance(A_MINUTE_AND_MORE)
        visit.go_on()
    asked = visit.asked()
    assert len(asked) == len(set(asked))
    if kind != "doctor stops":
        assert set(asked) == visit.tracks()
        assert visit.statuses() == ["RECORDING", "RECORDING"]
    assert not [row for row in recordings(visit.stage) if row.status in ("REQUESTED", "STARTING")]


@pytest.mark.parametrize("fault", ["answer lost", "late"])
def test_ambiguous_start_of_a_microphone_is_adopted_and_not_repeated(
    open_visit: OpenVisit, fault: str
) -> None:
    visit = open_visit()
    visit.request()
    visit.run(visit.stage.work(visit.stage.jobs()[0]))
    visit.cloud.fault["start"] = fault
    visit.work()
    visit.cloud.heal()
    for _ in range(3):
        visit.stage.advance(timedelta(seconds=20))
        visit.go_on()
    assert visit.statuses() == ["RECORDING", "RECORDING"]
    assert len(visit.asked()) == len(set(visit.asked())) == 2


def test_unlisted_start_of_a_microphone_is_requested_again_after_a_minute_with_another_key(
    open_visit: OpenVisit,
) -> None:
    visit = open_visit()
    visit.request()
    visit.run(visit.stage.work(visit.stage.jobs()[0]))
    visit.cloud.fault["start"] = "unanswered"
    visit.work()
    for _ in range(4):
        visit.stage.advance(A_MINUTE_AND_MORE)
        visit.go_on()
    assert visit.statuses() == ["RECORDING", "RECORDING"]
    again = [row for row in visit.rows() if (row.object_key or "").endswith("-2.mp4")]
    assert len(again) == 1


def test_concurrent_passes_request_each_microphone_once(standing: MachineServices) -> None:
    visit = Visit(standing)
    video = visit.request()

    async def request_twice() -> list[int]:
        """Request the same sound recordings in two transactions, one after the other, so that the second
        transaction finds the rows that the first one inserted.
        """
        microphones = [
            (identity, sid)
            for identity, sids in visit.cloud.rooms_open[visit.stage.room].microphones.items()
            for sid in sids
        ]
        counts = []
        async with standing.worker.as_service("watch_room") as first:
            counts.append(await store.request_sound(first, video, microphones, SoundMode()))
        async with standing.worker.as_service("watch_room") as second:
            counts.append(await store.request_sound(second, video, microphones[::-1], SoundMode()))
        return counts

    assert visit.run(request_twice()) == [2, 0]
    assert len(visit.rows()) == 2


def test_microphone_of_an_unknown_person_is_not_recorded(open_visit: OpenVisit) -> None:
    """The worker stops the video recording if an unknown person is in the room (law 6 of the product). The worker
    inserts no recording of the unknown person's microphone into the database.
    """
    visit = open_visit()
    video = visit.record()

    async def request() -> int:
        async with visit.stage.services.worker.as_service("watch_room") as tx:
            others = [
                (STRANGER, "TR_other"),
                (str(uuid4()), "TR_uuid"),
                ("", "TR_empty"),
                ("x" * 500, "TR_x"),
            ]
            return await store.request_sound(tx, video, others, SoundMode())

    assert visit.run(request()) == 0
    visit.enter(STRANGER)
    visit.look()
    visit.work()
    assert len(visit.rows()) == 2
    assert not any(row.status == "RECORDING" for row in recordings(visit.stage))


def test_invalid_track_id_is_not_recorded(open_visit: OpenVisit) -> None:
    visit = open_visit()
    video = visit.record()

    async def request() -> int:
        async with visit.stage.services.worker.as_service("watch_room") as tx:
            doctor = visit.identity("doctor")
            odd = [(doctor, sid) for sid in ("", "TR_'; --", "x" * 65, "TR_\n", "TR/../x")]
            return await store.request_sound(tx, video, odd, SoundMode())

    assert visit.run(request()) == 0


def test_same_track_of_two_people_is_recorded_once(open_visit: OpenVisit) -> None:
    visit = open_visit()
    video = visit.record()

    async def request() -> int:
        async with visit.stage.services.worker.as_service("watch_room") as tx:
            same = [(visit.identity(who), "TR_same") for who in ("doctor", "patient", "doctor")]
            return await store.request_sound(tx, video, same, SoundMode())

    assert visit.run(request()) == 1


@pytest.mark.parametrize("when", ["before the row", "before the start", "while recording"])
def test_law_6_withdrawn_consent_ends_each_microphone(open_visit: OpenVisit, when: str) -> None:
    visit = open_visit()
    video = visit.request()
    if when == "before the start":
        visit.run(visit.stage.work(visit.stage.jobs()[0]))
        assert visit.statuses() == ["REQUESTED", "REQUESTED"]
    if when == "while recording":
        visit.work()
        visit.go_on()
    visit.run(visit.stage.say("patient", gives=False))
    asked = len(visit.asked())
    visit.work()
    visit.go_on()
    assert len(visit.asked()) == asked
    assert {row.error for row in visit.rows()} <= {"consent_withdrawn"}
    assert not [one for one in visit.cloud.egresses.values() if one.is_live]

    async def request() -> int:
        async with visit.stage.services.worker.as_service("watch_room") as tx:
            return await store.request_sound(tx, video, [(visit.identity("doctor"), "TR_new")], SoundMode())

    assert visit.run(request()) == 0


def test_microphones_are_stopped_with_the_video(open_visit: OpenVisit) -> None:
    visit = open_visit()
    video = visit.record()
    visit.stop(video)
    assert set(visit.statuses()) <= {"STOPPING", "VERIFYING"}
    visit.cloud.publish(visit.stage.room, visit.identity("doctor"))
    visit.look()
    assert len(visit.rows()) == 2


def test_hundreds_of_tracks_of_one_participant_are_bounded(open_visit: OpenVisit) -> None:
    visit = open_visit()
    for _ in range(300):
        visit.cloud.publish(visit.stage.room, visit.identity("patient"))
    visit.request()
    visit.work()
    visit.go_on()
    rows = visit.rows()
    live = [row for row in rows if row.status in ("REQUESTED", "STARTING", "RECORDING")]
    assert len(rows) == 100
    assert len(live) <= 9  # Eight tracks of the patient and one of the doctor
    assert {row.error for row in rows if row.status == "FAILED"} == {"too_many_microphones"}
    assert visit.statuses("VIDEO") == ["RECORDING"]


def test_hundreds_of_participants_are_bounded(open_visit: OpenVisit) -> None:
    visit = open_visit()
    video = visit.record()
    guests = [visit.stage.invite() for _ in range(300)]

    async def request() -> int:
        async with visit.stage.services.worker.as_service("watch_room") as tx:
            tracks = [(str(guest), f"TR_{guest.hex}") for guest in guests]
            return await store.request_sound(tx, video, tracks, SoundMode())

    assert visit.run(request()) == 97
    assert len(visit.rows()) == 100
    assert visit.run(request()) == 0


def test_pass_lists_participants_equally_often_for_many_microphones(open_visit: OpenVisit) -> None:
    visit = open_visit()
    visit.record()
    asked = []

    async def count(room: str) -> list[object]:
        asked.append(room)
        return await type(visit.cloud).participants(visit.cloud, room)  # type: ignore[return-value]

    visit.cloud.participants = count  # type: ignore[assignment,method-assign]
    visit.look()
    few = len(asked)
    del visit.cloud.participants
    for _ in range(6):
        visit.cloud.publish(visit.stage.room, visit.identity("patient"))
    visit.look()
    visit.work()
    visit.go_on()
    asked.clear()
    visit.cloud.participants = count  # type: ignore[assignment,method-assign]
    visit.look()
    assert (len(visit.rows()), len(asked)) == (8, few)


def test_stopping_recordings_of_a_dead_node_end_and_free_the_consultation(open_visit: OpenVisit) -> None:
    visit = open_visit()
    video = visit.record()
    for egress in visit.cloud.egresses.values():
        egress.is_dead = True
    for _ in range(4):
        visit.stage.advance(timedelta(seconds=110))
        visit.look()
    assert visit.statuses("VIDEO") == ["LOST"]
    assert visit.statuses() == ["LOST", "LOST"]
    assert visit.record() != video
    assert visit.statuses("VIDEO") == ["LOST", "RECORDING"]


def test_stop_on_a_dead_node_ends_after_five_minutes(open_visit: OpenVisit) -> None:
    visit = open_visit()
    video = visit.record()
    for egress in visit.cloud.egresses.values():
        egress.is_dead = True
    visit.stop(video)
    for _ in range(4):
        visit.stage.advance(timedelta(seconds=110))
        visit.look()
    assert visit.statuses("VIDEO") + visit.statuses() == ["LOST"] * 3


def test_new_recording_waits_for_no_old_microphone(open_visit: OpenVisit) -> None:
    visit = open_visit()
    video = visit.record()
    for egress in visit.cloud.egresses.values():
        egress.is_dead = bool(egress.track_sid)
    visit.stop(video)
    visit.go_on()
    assert visit.statuses("VIDEO") == ["READY"]
    assert visit.statuses() == ["STOPPING", "STOPPING"]
    assert visit.request() != video
    with pytest.raises(Conflict) as refused:
        visit.request()
    assert refused.value.detail["recording_id"] not in {str(row.id) for row in visit.rows()} | {str(video)}


def test_microphone_that_fails_leaves_the_video_ready(open_visit: OpenVisit) -> None:
    visit = open_visit()
    video = visit.record()
    for egress in visit.cloud.egresses.values():
        if egress.track_sid:
            visit.cloud.end(egress, "failed")
    visit.stop(video)
    visit.go_on()
    assert (visit.statuses("VIDEO"), visit.statuses()) == (["READY"], ["FAILED", "FAILED"])


def test_sound_file_setting_names_and_opens_the_file(open_visit: OpenVisit) -> None:
    visit = open_visit(SoundMode(file_type="ogg"))
    visit.stop(visit.record())
    visit.go_on()
    assert visit.statuses() == ["READY", "READY"]
    assert {(row.object_key or "")[-4:] for row in visit.rows()} == {".ogg"}


# Tests with LIVEKIT_EGRESS_ROUTES=true.


def test_routes_record_one_file_with_the_doctor_left_and_the_patient_right(standing: MachineServices) -> None:
    visit = Visit(standing, ROUTED, has_guest=False)
    asked: list[tuple[str, str]] = []
    start = visit.cloud.start_speakers

    async def spy(**given: object) -> object:
        asked.append((str(given["doctor_identity"]), str(given["patient_identity"])))
        return await start(**given)  # type: ignore[arg-type]

    visit.cloud.start_speakers = spy  # type: ignore[assignment,method-assign]
    visit.stop(visit.record())
    visit.go_on()
    assert asked == [(visit.identity("doctor"), visit.identity("patient"))]
    assert visit.rows() == []
    (row,) = visit.rows("SPEAKERS")
    assert (row.status, (row.object_key or "").rpartition("/")[2]) == ("READY", "speakers.ogg")
    assert standing.rows("select is_routed from resguardo.recordings where id = %s", row.id) == [(True,)]


def test_routes_wait_for_both_microphones(standing: MachineServices) -> None:
    """If an egress records two people's tracks on separate channels and one track is missing, LiveKit ends the
    egress after 30 s.
    """
    visit = Visit(standing, ROUTED, has_guest=False)
    visit.cloud.unpublish(visit.stage.room, visit.identity("patient"))
    visit.record()
    assert visit.rows("SPEAKERS") == []
    visit.cloud.publish(visit.stage.room, visit.identity("patient"))
    visit.look()
    visit.work()
    assert visit.statuses("SPEAKERS") == ["STARTING"]


def test_routes_refuse_a_consultation_with_a_guest(standing: MachineServices) -> None:
    visit = Visit(standing, ROUTED)
    with pytest.raises(Conflict, match="speakers_with_guests"):
        visit.request()
    assert recordings(visit.stage) == []


def test_routes_of_an_automatic_recording_fail_with_a_guest(standing: MachineServices) -> None:
    visit = Visit(standing, ROUTED, auto_record=True)
    visit.look()
    visit.work()
    visit.go_on()
    visit.go_on()
    (row,) = visit.rows("SPEAKERS")
    assert (row.status, row.error, row.steps) == (
        "FAILED",
        "speakers_with_guests",
        ["FAILED:speakers_with_guests"],
    )
    assert visit.statuses("VIDEO") == ["RECORDING"]


def test_routes_continue_if_a_guest_is_invited_later(standing: MachineServices) -> None:
    visit = Visit(standing, ROUTED, has_guest=False)
    video = visit.record()
    visit.stage.invite()
    visit.run(visit.stage.say(GUEST, gives=True))
    visit.enter(GUEST)
    visit.go_on()
    assert (visit.statuses("SPEAKERS"), visit.rows()) == (["RECORDING"], [])
    visit.stop(video)
    visit.go_on()
    assert visit.statuses("SPEAKERS") == ["READY"]


@pytest.mark.parametrize(("first", "then"), [(SoundMode(), ROUTED), (ROUTED, SoundMode())])
def test_changed_setting_during_a_recording_records_nobody_twice(
    standing: MachineServices, first: SoundMode, then: SoundMode
) -> None:
    visit = Visit(standing, first, has_guest=False)
    visit.record()
    before = [(row.id, row.medium) for row in recordings(visit.stage)]
    visit.stage.recording_jobs.rooms._sound = then
    visit.look()
    visit.work()
    assert [(row.id, row.medium) for row in recordings(visit.stage)] == before
    visit.cloud.publish(visit.stage.room, visit.identity("patient"))
    visit.look()
    media = {row.medium for row in recordings(visit.stage)}
    assert media == {medium for _, medium in before}
