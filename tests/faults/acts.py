"""The actions of people in a consultation during a fault, and the faults that the LiveKit stand-in is ordered to
cause.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from tests.faults.fault import Act
from tests.faults.visit import Visit

ACTIVE, ENDING, ENDED = 1, 2, 3
NEVER = 100_000.0
_START_SECONDS = 150.0


async def record(visit: Visit, seconds: float = 0.5) -> None:
    """The doctor starts a recording, and stops it after LiveKit has recorded for `seconds`."""
    await visit.start()
    await visit.until_recorded(ACTIVE, _START_SECONDS)
    await asyncio.sleep(seconds)
    await visit.stop()


def ordered(*kinds: str, **changes: Any) -> Act:
    """Return the act of an ordinary recording during which LiveKit causes these faults."""

    async def act(visit: Visit) -> None:
        await visit.open()
        for kind in kinds:
            visit.order(kind, **changes)
        await record(visit)

    return act


def ordered_without_stop(*kinds: str, **changes: Any) -> Act:
    """Return an act in which the doctor starts a recording and does not stop it, while LiveKit causes these faults."""

    async def act(visit: Visit) -> None:
        await visit.open()
        for kind in kinds:
            visit.order(kind, **changes)
        await visit.start()

    return act


def then_again(first: Act, end: str, seconds: float = 100) -> Act:
    """Return an act in which the doctor records the consultation again after the first recording has ended."""

    async def act(visit: Visit) -> None:
        await first(visit)
        await visit.until(end, seconds)
        visit.livekit.orders.clear()
        begun = len(visit.egresses())
        await visit.start()
        await visit.until_true(lambda: len(visit.egresses()) > begun)
        await visit.until_recorded(ACTIVE)
        await visit.stop()

    return act


async def zombie(visit: Visit) -> None:
    await ordered_without_stop("die")(visit)
    await visit.until_recorded(ACTIVE)
    await visit.until("RECORDING")
    visit.leave()


async def recorded_while(visit: Visit) -> None:
    await visit.open()
    await visit.start()
    await visit.until_recorded(ACTIVE)
    await visit.until("RECORDING")


async def node_dies(visit: Visit) -> None:
    """Kill the recorder's node while all people stay in the room."""
    await recorded_while(visit)
    visit.livekit.recorder.die(visit.egresses()[-1].info.egress_id)


async def host_crashes(visit: Visit) -> None:
    """Crash the LiveKit server together with the egress service and its recorder. The people join the room again,
    and LiveKit lists the dead recorder among the participants.
    """
    await recorded_while(visit)
    await visit.livekit.crash(with_recorders=True)
    visit.come_again()


async def host_crashes_and_nobody_comes_back(visit: Visit) -> None:
    await recorded_while(visit)
    await visit.livekit.crash(with_recorders=True)


async def server_crashes(visit: Visit) -> None:
    """Crash the LiveKit server alone. The recorder survives the crash, and joins the room again, as the people do."""
    await recorded_while(visit)
    room = visit.livekit.rooms
    recorder = visit.egresses()[-1].info.egress_id
    await asyncio.sleep(3)
    await visit.livekit.crash()
    visit.come_again()
    await visit.until_true(lambda: not room.is_ghost(visit.room, recorder))
    await asyncio.sleep(3)
    await visit.stop()


async def dies_after_its_upload(visit: Visit) -> None:
    await visit.open()
    await record(visit)
    egress = await visit.until_recorded(ENDING)
    assert egress is not None
    if egress.info.status == ENDING:
        visit.livekit.recorder.die(egress.info.egress_id)
    await visit.until("STOPPING")
    await visit.time_passes(timedelta(minutes=31))


async def stopped_before_it_began(visit: Visit) -> None:
    await visit.open()
    visit.order("refuse_stop", code="failed_precondition", count=3)
    await visit.start()
    await visit.until_recorded(0)
    await visit.stop()


async def ends_with_its_room(visit: Visit) -> None:
    await visit.open()
    visit.order("drop", event="egress_ended")
    visit.order("drop", event="egress_updated", count=5)
    await visit.start()
    await visit.until_recorded(ACTIVE)
    visit.leave()


async def auto_recorded_unheard(visit: Visit) -> None:
    visit.harness.livekit.room("")
    await visit.open(recordsAutomatically=True)
    visit.order("drop_all")
    await visit.until_recorded(ACTIVE)
    await visit.until("RECORDING")
    visit.started = [str(row.id) for row in await visit.rows()]
    visit.leave()


async def room_is_empty(visit: Visit) -> None:
    await visit.open()
    visit.leave()
    await visit.until_true(lambda: not visit.livekit.rooms.find([]))
    await visit.start()


async def over_the_limit(visit: Visit) -> None:
    await visit.open()
    await visit.start()
    await visit.until_recorded(ACTIVE)
    await visit.until("RECORDING")
    await visit.time_passes(timedelta(hours=4, minutes=1))


async def stopped_twice(visit: Visit) -> None:
    await visit.open()
    await record(visit)
    await visit.stop()


async def object_comes_after_it_was_given_up(visit: Visit) -> None:
    await visit.open()
    visit.order("upload_late", seconds=70)
    await record(visit)
    await visit.until("VERIFYING")
    await visit.time_passes(timedelta(minutes=11))


async def forged(visit: Visit) -> None:
    """Send forged webhooks with a valid signature, of a failed egress and of a complete egress, while the egress
    continues.
    """
    await visit.open()
    await visit.start()
    egress = await visit.until_recorded(ACTIVE)
    assert egress is not None
    for number, status in enumerate(("EGRESS_FAILED", "EGRESS_ABORTED", "EGRESS_COMPLETE")):
        said = {
            "event": "egress_ended",
            "id": f"EV_forged_{number}_{visit.id[:8]}",
            "createdAt": "4102444800",
            "egressInfo": {
                "egressId": egress.info.egress_id,
                "roomName": visit.room,
                "status": status,
                "updatedAt": "4102444800000000000",
                "fileResults": [{"filename": egress.output.filepath, "size": "1"}],
            },
        }
        while await visit.livekit.notifier.forge(said) != 200:  # noqa: ASYNC110 - repeated until it is taken
            await asyncio.sleep(0.5)
    await asyncio.sleep(5)
    assert visit.live() == ["video"]
    await visit.stop()


async def livekits_clock_was_ahead(visit: Visit) -> None:
    await visit.open()
    visit.order("drop_all")
    await visit.start()
    egress = await visit.until_recorded(ACTIVE)
    assert egress is not None
    egress.info.updated_at += 3600 * 1_000_000_000
    await visit.until("RECORDING")
    await asyncio.sleep(3)
    await visit.stop()


def database_clock_moves(by: timedelta) -> Act:
    """Return an act that shifts all timestamps of the consultation, as if the database's clock had jumped."""

    async def act(visit: Visit) -> None:
        await visit.open()
        await visit.start()
        await visit.until("STARTING")  # a start job whose row changes between its two transactions gives up
        await visit.time_passes(by)
        await visit.until_recorded(ACTIVE)
        await visit.time_passes(by)
        await visit.stop()
        await visit.time_passes(by)

    return act


async def one_sound_is_not_uploaded(visit: Visit) -> None:
    """The doctor starts a recording with separate speakers, and LiveKit fails to upload one of the sound files."""
    await visit.open(recordsSpeakersSeparately=True)
    await visit.start()
    await visit.until_true(lambda: len(visit.live()) > 1)
    await visit.until_recorded(ACTIVE)
    sound, *others = await visit.sounds()
    await visit.until_heard(1 + len(others))
    visit.order("fail_upload", file=sound.object_key.rpartition("/")[2])
    await visit.stop()


def random_channels(order: Sequence[str]) -> Act:
    """Return the act in which the three participants publish their microphones in this order.

    During the recording, the participants publish their microphones again, in the opposite order. LiveKit loses one
    webhook about a track, and refuses to start one sound recording. The doctor then starts a second recording while
    LiveKit still finishes the sound files of the first.
    """

    async def act(visit: Visit) -> None:
        await visit.register(recordsSpeakersSeparately=True)
        await visit.invite()
        visit.enter()
        await visit.start()
        await visit.until_recorded(0)
        visit.order("refuse_start")
        visit.order("drop", event="track_published")
        people = {}
        for kind in order:
            visit.livekit.rooms.publish(visit.room, visit.participants[kind])
            people[visit.microphone(kind)] = kind
        await visit.until_recorded(ACTIVE)
        await visit.until_heard(len(order) - 1)
        for kind in reversed(order):
            visit.livekit.rooms.republish(visit.room, visit.participants[kind])
            people[visit.microphone(kind)] = kind
        await visit.until_heard(2 * len(order) - 1)
        await _record_again_beside_old_sound(visit)
        await visit.until_heard(3 * len(order) - 1)
        await visit.stop()
        await visit.until_over()
        await _names_everybody(visit, people)

    return act


async def _record_again_beside_old_sound(visit: Visit) -> None:
    """The doctor stops the recording, and starts a new one as soon as the video is READY. With the stand-in's
    delays at 5 times their length, a sound recording ends about 15 s after its video.
    """
    visit.order("scale", seconds=5)
    before = visit.egresses()
    await visit.stop()
    await visit.until_true(lambda: all(one.info.status >= ENDING for one in before))
    visit.livekit.orders.clear("scale")
    await visit.until("READY")
    live = [row for row in await visit.sounds() if row.status in ("RECORDING", "STOPPING")]
    assert live, "every sound of the first recording has ended"
    await visit.start()


async def _names_everybody(visit: Visit, people: Mapping[str, str]) -> None:
    """Assert that each video has one row for each microphone, and that each object has the voice of the row's
    participant.
    """
    sounds = await visit.sounds()
    recorded = {one.output.filepath: one for one in visit.egresses()}
    videos = [row.id for row in await visit.rows() if row.medium == "VIDEO"]
    found = Counter((row.video_id, row.track_sid) for row in sounds)
    newest = [visit.microphone(kind) for kind in ("DOCTOR", "PATIENT", "GUEST")]
    wanted = [*((videos[0], sid) for sid in people), *((videos[1], sid) for sid in newest)]
    assert found == Counter(wanted), f"other microphones are recorded: {found}"
    for row in sounds:
        identity = visit.participants[people[str(row.track_sid)]]
        assert str(row.participant_id) == identity, f"the part names somebody else: {row}"
        if row.status == "READY":
            voice = visit.livekit.rooms.channel(visit.room, identity)
            sound = recorded[row.object_key].sound
            assert sound is not None, f"the room is recorded: {row}"
            assert sound.sources.track_sid == row.track_sid, f"another track is recorded: {row}"
            assert sound.voices == (voice, voice), f"somebody else is heard: {row}"
