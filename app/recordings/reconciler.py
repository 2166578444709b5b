"""Reads LiveKit's list periodically and moves each recording to the listed state (law 5).

The reconciler finds everything that a webhook would have reported, so losing all webhooks loses nothing. If
LiveKit's list cannot be read, a pass concludes nothing. An egress must be missing several times before its
recording is LOST. Rooms of other deployments in the same LiveKit project are ignored.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, LiteralString
from uuid import UUID

from app.errors import AppError
from app.failures import describe_failure
from app.integrations.livekit.client import EgressSnapshot, LiveKit, ParticipantSnapshot
from app.integrations.storage.client import Storage
from app.postgres.clock import database_time
from app.postgres.database import Database
from app.recordings import store
from app.recordings.controller import Clock, RecordingController
from app.recordings.deadlines import Deadlines, apply_deadline
from app.recordings.media_ids import MediaId, media_of, media_of_key
from app.recordings.model import Recording, RecordingStatus, foremost_error, mark_lost
from app.recordings.room_watch import is_recorder
from app.recordings.transition_effects import stop_sound_if_video_ended

log = logging.getLogger(__name__)

MISSES: Final = 3
"""The number of consecutive passes in which an egress must be missing before its recording is LOST."""

UNLISTED: Final = timedelta(seconds=40)
RECORDER_GONE: Final = timedelta(minutes=5)
"""How long the recorder's room must be gone, or the recorder must be gone from its room."""

RECORDER_SILENT: Final = timedelta(seconds=60)
"""How long the recording process must not answer while LiveKit's server has no connection to it."""

ASKED_AT_ONCE: Final = 20
"""The number of recorders that are asked at once. A dead recorder takes 6 s."""

STOP_PAUSE: Final = timedelta(seconds=60)
LONGEST_STOP_PAUSE: Final = timedelta(hours=1)
"""The longest pause between stops. An egress that does not end is asked again in the next pass, and then after 1,
2, 4, ... minutes. LiveKit lists the egress of a dead node without end, and each stop request for it takes 3 s.
"""


@dataclass
class ReconcileReport:
    """The counts of one pass."""

    egresses: int = 0
    unfinished: int = 0
    moved: int = 0
    overdue: int = 0
    strays_stopped: int = 0
    missing: int = 0
    lost: int = 0
    stopped_for_consent: int = 0
    started_by_themselves: int = 0
    sound_requested: int = 0
    problems: int = 0


@dataclass(frozen=True)
class _MissingEgress:
    since: datetime
    passes: int


@dataclass(frozen=True)
class _RequestedStop:
    """An egress that was asked to stop: when last, and how often."""

    asked_at: datetime
    times: int

    def is_due(self, now: datetime) -> bool:
        """Return whether the pause after the last request is over. There is no pause after the first request."""
        growing = STOP_PAUSE * ((1 << min(self.times - 1, 10)) // 2)
        return now - self.asked_at >= min(growing, LONGEST_STOP_PAUSE)


@dataclass
class _Memory:
    """The leader's memory between passes. A new leader starts without it, which only makes it wait longer."""

    missing: dict[UUID, _MissingEgress] = field(default_factory=dict)
    stopping: dict[str, _RequestedStop] = field(default_factory=dict)

    def keep_only(self, unfinished: set[UUID], running: set[str]) -> None:
        """Forget recordings and egresses that have ended."""
        self.missing = {key: value for key, value in self.missing.items() if key in unfinished}
        self.stopping = {key: value for key, value in self.stopping.items() if key in running}


class Reconciler:
    """Runs one pass after another, as the worker. `deployment` is the prefix of our rooms."""

    def __init__(
        self,
        database: Database,
        livekit: LiveKit,
        storage: Storage,
        controller: RecordingController,
        *,
        deployment: str,
        deadlines: Deadlines | None = None,
        clock: Clock = database_time,
    ) -> None:
        self._database = database
        self._livekit = livekit
        self._storage = storage
        self._controller = controller
        self._rooms = controller.rooms
        self._prefix = f"{deployment}_"
        self._deadlines = deadlines or Deadlines()
        self._clock = clock
        self._memory = _Memory()
        self._shows_recorders = False

    def forget(self) -> None:
        """Clear the memory, for a process that has just become the leader."""
        self._memory = _Memory()

    async def run_once(self) -> ReconcileReport:
        """Run one pass. Raises UpstreamFailed and Timeout if LiveKit or the database cannot be read.

        Deadlines take effect even if LiveKit does not answer, and nothing else is concluded then.
        """
        report = ReconcileReport()
        try:
            listed = await self._list_egresses()
            rooms = {room.name for room in await self._livekit.rooms(None) if self._is_ours(room.name)}
        except AppError:
            for recording in (await self._read())[0]:
                async with self._log_errors(report, str(recording.id)):
                    await self._end_overdue(recording, report, is_listed=False)
            raise
        unfinished, now = await self._read()
        report.egresses, report.unfinished = len(listed), len(unfinished)
        by_media = {media_of(recording): recording for recording in unfinished}
        for egress in listed:
            async with self._log_errors(report, egress.egress_id):
                await self._apply_listed(egress, by_media, now, report)
        by_id = {egress.egress_id: egress for egress in listed}
        signs = await self._ask_recorders(unfinished, by_id, report)
        people: dict[str, list[ParticipantSnapshot] | None] = {}
        for recording in unfinished:
            async with self._log_errors(report, str(recording.id)):
                await self._check_recording(
                    recording, by_id, rooms, people, signs.get(recording.id), now, report
                )
        for name in rooms | {one.room_name for one in unfinished if one.status.is_live}:
            async with self._log_errors(report, name):
                self._count_action(await self._rooms.check_room(name), report)
        running = {egress.egress_id for egress in listed if not egress.is_over}
        self._memory.keep_only({one.id for one in unfinished}, running)
        return report

    async def _list_egresses(self) -> list[EgressSnapshot]:
        """Return the egresses of our rooms, running ones first.

        The list is read before the intents. An intent is committed before LiveKit is called, so every listed egress
        of ours has its intent among those read.
        """
        listed = [one for one in await self._livekit.list_egress() if self._is_ours(one.room_name)]
        return sorted(listed, key=lambda one: one.is_over)

    def _is_ours(self, room_name: str) -> bool:
        return room_name.startswith(self._prefix)

    async def _read(self) -> tuple[list[Recording], datetime]:
        async with self._database.as_service("reconcile") as tx:
            return await store.list_unfinished(tx), await self._clock(tx)

    @asynccontextmanager
    async def _log_errors(self, report: ReconcileReport, what: str) -> AsyncIterator[None]:
        """Log an error of one recording and continue with the others. The next pass tries again."""
        try:
            yield
        except AppError as error:
            report.problems += 1
            log.warning("reconcile: %s: %s", what, error.summary)
        except Exception as error:  # noqa: BLE001 - the loop's edge: what cannot be told of one must not hide the others
            report.problems += 1
            log.error("reconcile: %s: %s", what, describe_failure(error))  # noqa: TRY400 - it could quote a row

    async def _apply_listed(
        self,
        egress: EgressSnapshot,
        by_media: dict[MediaId, Recording],
        now: datetime,
        report: ReconcileReport,
    ) -> None:
        """Apply the listed state of one egress, and stop an egress that belongs to no recording."""
        if egress.status == "unknown":
            report.problems += 1
            log.warning("an egress has a status that is not known: egress=%s", egress.egress_id)
        media = media_of_key(egress.object_key)
        before = by_media.get(media) if media is not None else None
        after = None if before is None else await self._controller.follow(egress)
        if before is not None and after is not None:
            report.moved += after.status is not before.status
        if egress.is_over:
            return
        if after is None or not after.status.is_live or after.egress_id != egress.egress_id:
            await self._stop_stray(egress, "no_intent" if after is None else "not_its_recording", now, report)
        elif after.status is RecordingStatus.STOPPING and now - after.status_at > STOP_PAUSE:
            await self._stop(egress.egress_id, now, report)

    async def _stop_stray(
        self, egress: EgressSnapshot, reason: LiteralString, now: datetime, report: ReconcileReport
    ) -> None:
        """Report a stray egress once, and ask it to stop with growing pauses while it runs."""
        before = self._memory.stopping.get(egress.egress_id)
        if egress.status == "ending" or (before is not None and not before.is_due(now)):
            return
        if all(one.is_over for one in await self._livekit.list_egress(egress_id=egress.egress_id)):
            return  # it ended during this pass
        if before is None:
            async with self._database.as_service("reconcile") as tx:
                await store.record_stray(tx, _parse_consultation_id(egress.room_name), reason)
            log.error("an egress runs without an intent: egress=%s %s", egress.egress_id, reason)
        report.strays_stopped += await self._stop(egress.egress_id, now, report)

    async def _stop(self, egress_id: str, now: datetime, report: ReconcileReport) -> bool:
        """Ask an egress to stop if the pause since the last request is over. Return whether LiveKit stops it.

        Raises the error of the first request. The error of a later request is counted and not logged again.
        """
        before = self._memory.stopping.get(egress_id)
        if before is not None and not before.is_due(now):
            return False
        self._memory.stopping[egress_id] = _RequestedStop(now, 1 if before is None else before.times + 1)
        try:
            return await self._livekit.stop_egress(egress_id) == "stopping"
        except AppError:
            if before is None:
                raise
            report.problems += 1
            return False

    async def _ask_recorders(
        self, unfinished: list[Recording], listed: dict[str, EgressSnapshot], report: ReconcileReport
    ) -> dict[UUID, bool | None]:
        """Return for each recording with a running egress whether its recorder lives, or None if LiveKit does not
        say.
        """
        turns = asyncio.Semaphore(ASKED_AT_ONCE)

        async def ask(recording: Recording, egress: EgressSnapshot) -> bool | None:
            async with turns, self._log_errors(report, str(recording.id)):
                return await self._is_alive(recording, egress)
            return None

        begun = (RecordingStatus.RECORDING, RecordingStatus.STOPPING)
        asked = {
            one.id: ask(one, listed[one.egress_id])
            for one in unfinished
            if one.status in begun and one.egress_id in listed and not listed[one.egress_id].is_over
        }
        return dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))

    async def _is_alive(self, recording: Recording, egress: EgressSnapshot) -> bool | None:
        """Ask the recording process. If it does not answer, ask LiveKit's server whether it is connected to the
        recorder.

        An ending egress refuses that question, so it gets a second stop instead, which changes nothing.
        """
        if egress.status == "ending":
            answers = await self._accepts_stop(egress.egress_id)
        else:
            answers = await self._livekit.recorder_answers(egress.egress_id)
        if answers is not False:
            return answers
        return await self._livekit.is_connected(recording.room_name, egress.egress_id)

    async def _accepts_stop(self, egress_id: str) -> bool | None:
        try:
            return await self._livekit.stop_egress(egress_id) == "stopping"
        except AppError:
            return None

    async def _check_recording(
        self,
        as_listed: Recording,
        listed: dict[str, EgressSnapshot],
        rooms: set[str],
        people_of: dict[str, list[ParticipantSnapshot] | None],
        is_alive: bool | None,
        now: datetime,
        report: ReconcileReport,
    ) -> None:
        """Check whether a recording is missing or overdue. The people of each room are read once in each pass."""
        recording = await self._read_again(as_listed)
        if recording is None:
            return
        if recording.status.is_live and recording.room_name not in people_of:
            people_of[recording.room_name] = await self._read_people(recording, report)
        people = people_of.get(recording.room_name) if recording.status.is_live else None
        if people is not None and recording.egress_id is not None:
            async with self._log_errors(report, str(recording.id)):
                egress = listed.get(recording.egress_id)
                await self._count_missing(recording, egress, people, rooms, is_alive, now, report)
        is_in_use = any(somebody.is_publisher and not is_recorder(somebody) for somebody in people or ())
        await self._end_overdue(recording, report, is_room_in_use=is_in_use)

    async def _end_overdue(self, recording: Recording, report: ReconcileReport, **told: bool) -> None:
        after = await self._controller.change(
            recording.id, lambda current, at: apply_deadline(current, at, self._deadlines, **told)
        )
        report.overdue += after is not None and after.status is not recording.status

    async def _read_again(self, recording: Recording) -> Recording | None:
        """Return the present recording. Sound whose video is no longer recorded is stopped first."""
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
        """Return the people in the room, or None if LiveKit does not answer. Deadlines take effect anyway."""
        async with self._log_errors(report, str(recording.id)):
            return await self._livekit.participants(recording.room_name)
        return None

    async def _count_missing(
        self,
        recording: Recording,
        egress: EgressSnapshot | None,
        people: list[ParticipantSnapshot],
        rooms: set[str],
        is_alive: bool | None,
        now: datetime,
        report: ReconcileReport,
    ) -> None:
        """Count a missing egress, and declare it dead after enough passes and time.

        An egress without a sign of life is missing, and one with a sign of life never is. If LiveKit does not say,
        an egress is missing if it is not listed, if it is listed as running while its room is gone, or if it is not
        in its room. The last case counts only if this LiveKit has shown a recorder before, and an egress that is
        listed in its room is then never missing. An egress that is listed as ending may have left its room to
        upload, and only its deadline ends it.
        """
        is_there = any(is_recorder(one) and one.identity == recording.egress_id for one in people)
        self._shows_recorders = self._shows_recorders or is_there
        is_absent = self._shows_recorders and recording.status in (
            RecordingStatus.RECORDING,
            RecordingStatus.STOPPING,
        )
        is_listed = egress is not None and (
            egress.is_over or egress.status == "ending" or (recording.room_name in rooms and not is_absent)
        )
        if is_alive if is_alive is not None else is_there or is_listed:
            self._memory.missing.pop(recording.id, None)
            return
        known = self._memory.missing.get(recording.id, _MissingEgress(now, 0))
        missing = replace(known, passes=known.passes + 1)
        self._memory.missing[recording.id] = missing
        report.missing += 1
        patience = RECORDER_SILENT if is_alive is False else UNLISTED if egress is None else RECORDER_GONE
        if missing.passes >= MISSES and now - missing.since >= patience:
            await self._end_dead(recording.id, report)

    async def _end_dead(self, recording_id: UUID, report: ReconcileReport) -> None:
        """Apply that the egress will never end: its upload is verified, and without an upload the recording is
        LOST.
        """
        is_there = await self._is_stored(recording_id)
        await self._controller.change(recording_id, partial(_end_dead_egress, is_there))
        report.lost += not is_there
        log.error("an egress has died: recording=%s object=%s", recording_id, is_there)

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


def _parse_consultation_id(room_name: str) -> UUID | None:
    try:
        return UUID(room_name[-36:])
    except ValueError:
        return None
