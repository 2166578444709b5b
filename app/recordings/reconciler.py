"""Reads LiveKit's list of egresses periodically and brings each recording into the state that the list shows (law
5).

The reconciler finds every change that a webhook would have reported, so no change is lost if all webhooks are lost.
If LiveKit's list cannot be read, a pass applies only the deadlines. An egress must be missing in several passes
before its recording is LOST. Rooms of other deployments in the same LiveKit project are ignored.
"""

import logging
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from uuid import UUID

from app.errors import AppError
from app.integrations.livekit.client import EgressSnapshot, LiveKit, ParticipantSnapshot
from app.integrations.storage.client import Storage
from app.postgres.clock import database_time
from app.postgres.database import Database
from app.recordings import store
from app.recordings.deadlines import Deadlines, apply_deadline
from app.recordings.egress_liveness import EgressLiveness
from app.recordings.egress_stops import STOP_PAUSE, EgressStops
from app.recordings.egress_updates import EgressUpdates
from app.recordings.media_ids import MediaId, media_of, media_of_key
from app.recordings.model import Recording, RecordingStatus
from app.recordings.reconcile_report import ReconcileReport
from app.recordings.room_watch import RoomWatch, is_recorder
from app.recordings.transition_writer import Clock, TransitionWriter, stop_sound_if_video_ended
from app.recordings.transitions import foremost_error, mark_lost

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pass:
    """What the reconciler has read from LiveKit in one pass.

    `listed` contains the egresses by their ids. `alive` says for each recording whether its recorder lives; None
    means that LiveKit does not say. `people` contains the people in each room; None means that LiveKit did not
    answer.
    """

    now: datetime
    listed: dict[str, EgressSnapshot]
    rooms: set[str]
    alive: dict[UUID, bool | None]
    report: ReconcileReport
    people: dict[str, list[ParticipantSnapshot] | None] = field(default_factory=dict)


class Reconciler:
    """Runs the reconciler's passes, as the worker. `deployment` is the prefix of our room names."""

    def __init__(
        self,
        database: Database,
        livekit: LiveKit,
        storage: Storage,
        updates: EgressUpdates,
        transitions: TransitionWriter,
        rooms: RoomWatch,
        *,
        deployment: str,
        deadlines: Deadlines | None = None,
        clock: Clock = database_time,
    ) -> None:
        self._database = database
        self._livekit = livekit
        self._storage = storage
        self._updates = updates
        self._transitions = transitions
        self._rooms = rooms
        self._prefix = f"{deployment}_"
        self._deadlines = deadlines or Deadlines()
        self._clock = clock
        self._stops = EgressStops(database, livekit)
        self._liveness = EgressLiveness(livekit)

    def forget(self) -> None:
        """Clear the memory of earlier passes, for a process that has just become the leader."""
        self._stops.forget()
        self._liveness.forget()

    async def run_once(self) -> ReconcileReport:
        """Run one pass. Raises UpstreamFailed and Timeout if LiveKit or the database cannot be read.

        If LiveKit does not answer, a pass applies only the deadlines.
        """
        report = ReconcileReport()
        try:
            listed = await self._list_egresses()
            rooms = {room.name for room in await self._livekit.rooms(None) if self._is_ours(room.name)}
        except AppError:
            for recording in (await self._read())[0]:
                async with report.log_errors(str(recording.id)):
                    await self._end_overdue(recording, report, is_listed=False)
            raise
        unfinished, now = await self._read()
        report.egresses, report.unfinished = len(listed), len(unfinished)
        by_media = {media_of(recording): recording for recording in unfinished}
        for egress in listed:
            async with report.log_errors(egress.egress_id):
                await self._apply_listed(egress, by_media, now, report)
        by_id = {egress.egress_id: egress for egress in listed}
        alive = await self._liveness.ask_recorders(unfinished, by_id, report)
        read = _Pass(now, by_id, rooms, alive, report)
        for recording in unfinished:
            async with report.log_errors(str(recording.id)):
                await self._check_recording(recording, read)
        for name in rooms | {one.room_name for one in unfinished if one.status.is_live}:
            async with report.log_errors(name):
                self._count_action(await self._rooms.check_room(name), report)
        self._liveness.keep_only({one.id for one in unfinished})
        self._stops.keep_only({egress.egress_id for egress in listed if not egress.is_over})
        return report

    async def _list_egresses(self) -> list[EgressSnapshot]:
        """Return the egresses of our rooms, running ones first.

        The reconciler reads LiveKit's list first and then the intents in the database. The intent of a start is
        committed before LiveKit is called, so the reconciler finds the intent of each listed egress that belongs to
        this deployment.
        """
        listed = [one for one in await self._livekit.list_egress() if self._is_ours(one.room_name)]
        return sorted(listed, key=lambda one: one.is_over)

    def _is_ours(self, room_name: str) -> bool:
        return room_name.startswith(self._prefix)

    async def _read(self) -> tuple[list[Recording], datetime]:
        async with self._database.as_service("reconcile") as tx:
            return await store.list_unfinished(tx), await self._clock(tx)

    async def _apply_listed(
        self,
        egress: EgressSnapshot,
        by_media: dict[MediaId, Recording],
        now: datetime,
        report: ReconcileReport,
    ) -> None:
        """Bring the recording of one egress into the state that LiveKit lists. If the egress belongs to no
        recording, ask LiveKit to stop the egress.
        """
        if egress.status == "unknown":
            report.problems += 1
            log.warning("an egress has a status that is not known: egress=%s", egress.egress_id)
        media = media_of_key(egress.object_key)
        before = by_media.get(media) if media is not None else None
        after = None if before is None else await self._updates.apply(egress)
        if before is not None and after is not None:
            report.moved += after.status is not before.status
        if egress.is_over:
            return
        if after is None or not after.status.is_live or after.egress_id != egress.egress_id:
            await self._stops.stop_stray(
                egress, "no_intent" if after is None else "not_its_recording", now, report
            )
        elif after.status is RecordingStatus.STOPPING and now - after.status_at > STOP_PAUSE:
            await self._stops.stop(egress.egress_id, now, report)

    async def _check_recording(self, as_listed: Recording, read: _Pass) -> None:
        """Check whether a recording's egress is missing, and whether the recording is overdue. Each pass asks
        LiveKit only once for the people in a room.
        """
        recording = await self._read_again(as_listed)
        if recording is None:
            return
        if recording.status.is_live and recording.room_name not in read.people:
            read.people[recording.room_name] = await self._read_people(recording, read.report)
        people = read.people.get(recording.room_name) if recording.status.is_live else None
        if people is not None and recording.egress_id is not None:
            async with read.report.log_errors(str(recording.id)):
                await self._check_egress(recording, read.listed.get(recording.egress_id), people, read)
        is_in_use = any(somebody.is_publisher and not is_recorder(somebody) for somebody in people or ())
        await self._end_overdue(recording, read.report, is_room_in_use=is_in_use)

    async def _check_egress(
        self,
        recording: Recording,
        egress: EgressSnapshot | None,
        people: list[ParticipantSnapshot],
        read: _Pass,
    ) -> None:
        """End the recording if its egress is dead."""
        is_alive = read.alive.get(recording.id)
        is_room_listed = recording.room_name in read.rooms
        if not self._liveness.is_missing(
            recording, egress, people, is_alive=is_alive, is_room_listed=is_room_listed
        ):
            self._liveness.mark_present(recording.id)
            return
        read.report.missing += 1
        if self._liveness.is_dead(
            recording.id, is_silent=is_alive is False, is_listed=egress is not None, now=read.now
        ):
            await self._end_dead(recording.id, read.report)

    async def _end_overdue(self, recording: Recording, report: ReconcileReport, **conditions: bool) -> None:
        after = await self._transitions.apply(
            recording.id, lambda current, at: apply_deadline(current, at, self._deadlines, **conditions)
        )
        report.overdue += after is not None and after.status is not recording.status

    async def _read_again(self, recording: Recording) -> Recording | None:
        """Return the recording as it is now in the database. If the recording is the sound beside a video that is
        no longer recorded, stop the recording first.
        """
        async with self._database.as_service("reconcile") as tx:
            if recording.video_id is not None:
                video = await store.lock(tx, recording.video_id)
                sound = await store.lock(tx, recording.id)
                if video is not None and sound is not None:
                    await stop_sound_if_video_ended(tx, sound, video)
            return await store.lock(tx, recording.id)

    async def _read_people(
        self, recording: Recording, report: ReconcileReport
    ) -> list[ParticipantSnapshot] | None:
        """Return the people in the room, or None if LiveKit does not answer. The pass applies the deadlines even if
        LiveKit does not answer.
        """
        async with report.log_errors(str(recording.id)):
            return await self._livekit.participants(recording.room_name)
        return None

    async def _end_dead(self, recording_id: UUID, report: ReconcileReport) -> None:
        """End the recording of a dead egress. If the egress has uploaded an object, the worker verifies the object.
        If the egress has uploaded nothing, the recording becomes LOST.
        """
        is_there = await self._is_stored(recording_id)
        await self._transitions.apply(recording_id, partial(_end_dead_egress, is_there))
        report.lost += not is_there
        log.warning("an egress has died: recording=%s object=%s", recording_id, is_there)

    async def _is_stored(self, recording_id: UUID) -> bool:
        async with self._database.as_service("reconcile") as tx:
            key = await store.read_object_key(tx, recording_id)
        return await self._storage.head(key) is not None

    def _count_action(self, done: str | None, report: ReconcileReport) -> None:
        if done == "auto_record":
            report.started_by_themselves += 1
        elif done == "separate_speakers":
            report.sound_requested += 1
        elif done is not None:
            report.stopped_for_consent += 1


def _end_dead_egress(is_there: bool, current: Recording, _: datetime) -> Recording:
    if not current.status.is_live:
        return current
    if is_there:
        error = foremost_error(current, "egress_lost")
        return replace(current, status=RecordingStatus.VERIFYING, error=error)
    return mark_lost(current, "egress_lost")
