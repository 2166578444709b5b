"""Egresses: started, listed, stopped and uploaded, with the states and texts of livekit-server and livekit/egress.

A room composite is STARTING until a participant publishes, and ACTIVE until it is stopped, its room closes or the
media end. An egress uploads in the status ENDING, and ends COMPLETE, FAILED (400, upload), ABORTED (412, never
began) or LIMIT_REACHED (413, complete file, no ENDING before). A track egress waits 30 s for its track, and is
FAILED (404) if the track does not come. The egress ends when its track ends. An egress that routes participants to
channels waits 30 s for these participants. A room may have several egresses at once. The recorder uses the storage
keys of the request for the upload, and never shows the keys (`pkg/pipeline/controller.go` of livekit/egress and
`livekit_egress.go` of livekit/protocol, read 2026-11-21). `orders.RECORDING_KINDS` lists the faults that an egress
can have.

The media of an egress have the length of the stand-in's files, however long the egress runs, so an egress can
record an hour in a second. If a track's egress starts while the video runs, the track's sound file begins at the
place that the video has reached, and contains the rest of the publisher's speech. If the publisher unpublishes the
track and stays, or the publisher's device dies, the file contains the publisher's speech until that moment.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Final

from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    EncodedFileType,
    FileInfo,
)
from livekit.protocol.models import Room

from devstack.livekit import pace as paces
from devstack.livekit import requests, sound
from devstack.livekit.media import Media, UploadFailedError, location, upload
from devstack.livekit.orders import Order, Orders
from devstack.livekit.pace import Delays, Pace
from devstack.livekit.requests import SoundEncoding, StartRequest
from devstack.livekit.rooms import Rooms
from devstack.livekit.rows import ENDED, Recording, Rows, Sound, refused_in_status
from devstack.livekit.sources import RoomSources
from devstack.livekit.twirp import from_a_service, new_id
from devstack.livekit.webhooks import Notifier

_NANOSECONDS: Final = 1_000_000_000
_NOT_BEGUN: Final = "Start signal not received"
"""LiveKit ends such an egress as ABORTED (egress#911, egress#858), and as FAILED for clients that expect no more."""


_SWAPPED: Final = sound.Cut((1, 0), start=0, end=None, tail=0)
_ALTERNATING: Final = SoundEncoding(
    EncodedFileType.OGG, requests.OPUS_FREQUENCY, requests.DEFAULT_BITRATE_KBPS
)
"""With alternating channels, the first track of the start takes LEFT, and chance decides which track is first."""


class Recorder:
    """All egresses since the start of the stand-in, by egress id. The stand-in must set `media` and `audio` before
    the first egress starts.
    """

    media: Media
    audio: Media

    def __init__(
        self,
        rooms: Rooms,
        notifier: Notifier,
        orders: Orders,
        pace: Pace,
        delays: Delays,
        chance: random.Random,
    ) -> None:
        self._rooms = rooms
        self._delays = delays
        self._chance = chance
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._notifier = notifier
        self._orders = orders
        self._pace = pace
        self.rows = Rows()
        self._sources = RoomSources(rooms, self.rows)
        self._tasks: list[asyncio.Task[None]] = []
        rooms.on_publish = self._room_publishes
        rooms.on_close = self._room_closed
        rooms.on_silence = self._track_silent
        rooms.on_unpublish = self._track_unpublished

    def start(self, request: StartRequest, room: Room | None = None) -> EgressInfo:
        """Start an egress. The webhook `egress_started` may arrive before the caller receives the answer. Raises
        TwirpError.

        `room` is the room as it was at the time of the request. If `room` is None, the function looks the room up
        now.
        """
        requests.require_room_name(request)
        room = room or self._rooms.snapshot(request.room_name)
        output = requests.output_of(request)
        now = time.time_ns()
        info = EgressInfo(
            egress_id=new_id("EG_"),
            room_id=room.sid,
            room_name=room.name,
            source_type=requests.source_of(request),
            status=EgressStatus.EGRESS_STARTING,
            started_at=now,
            updated_at=now,
            file_results=[FileInfo(filename=output.filepath)],
            file=FileInfo(filename=output.filepath),
        )
        requests.keep(request, info)
        is_audio = output.file_type == EncodedFileType.OGG
        recording = Recording(info, output, self.audio if is_audio else self.media)
        if (sources := requests.sources_of(request)) is not None:
            recording.sound = Sound(sources, requests.encoding_of(request, output.file_type))
        recording.is_alternating = requests.is_alternating(request)
        self.rows.add(recording)
        self._notifier.egress("egress_started", info)
        if recording.sound:
            self._join(recording)
        self._look_for_source(recording)
        self._spawn(self._record(recording))
        return info

    def start_later(self, request: StartRequest, seconds: float) -> None:
        """Start an egress after `seconds`. If the room has closed by then, the egress creates the room again.
        Raises TwirpError.
        """
        requests.require_room_name(request)
        room = self._rooms.snapshot(request.room_name)

        async def begin() -> None:
            await asyncio.sleep(seconds)
            self.start(request, room)

        self._spawn(begin())

    def stop(self, egress_id: str) -> EgressInfo:
        """Stop an egress. Raises TwirpError `not_found` if the egress is unknown, `failed_precondition` if it has
        ended, and `deadline_exceeded` if its node is dead.
        """
        recording = self.rows.running(egress_id)
        if recording.is_dead and recording.info.status >= EgressStatus.EGRESS_ENDING:
            raise refused_in_status(recording, "stopped")
        if recording.is_dead:
            raise from_a_service("deadline_exceeded", "request timed out")
        self._end(recording, "StopEgress API")
        return recording.info

    def die(self, egress_id: str) -> None:
        """Let the node of an egress die now. LiveKit then lists the egress unchanged, although its node is dead.
        Raises TwirpError.
        """
        recording = self.rows.running(egress_id)
        recording.is_dead = True
        self._leave_later(recording, paces.DEAD_NODE_SECONDS)

    def come_back(self, *, are_dead: bool = False) -> None:
        """After a crash of the server, let the recorders enter their rooms again, or mark them as dead."""
        for one in self.rows.running_now():
            if are_dead:
                one.is_dead = True
            elif not one.is_dead and one.has_joined:
                self._spawn(self._rejoin(one))

    async def _rejoin(self, recording: Recording) -> None:
        await self._delays.wait(paces.REJOIN_SECONDS)
        if recording.is_alive:
            self._join(recording)
            self._rooms.activate_recorder(recording.info.room_name, recording.info.egress_id)

    def _join(self, recording: Recording) -> None:
        recording.has_joined = True
        self._rooms.join_recorder(recording.info.room_name, recording.info.egress_id)
        if self._sources.missing(recording) is not None:
            recording.publishing.clear()

    def _leave_later(self, recording: Recording, seconds: paces.Span | float) -> None:
        """Keep the recorder listed as a participant of its room for this number of seconds, and then remove it."""

        async def leave() -> None:
            await self._delays.wait(seconds)
            self._rooms.leave_recorder(recording.info.room_name, recording.info.egress_id)

        self._spawn(leave())

    def forget(self, egress_id: str) -> None:
        """Delete the row of an egress. The egress continues to record and can still be stopped. Raises TwirpError."""
        self.rows.row(egress_id).is_forgotten = True

    async def aclose(self) -> None:
        """Stop the tasks of all egresses immediately, without setting a final status."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._directory is not None:
            self._directory.cleanup()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    def _take(self, recording: Recording, *kinds: str) -> Order | None:
        return self._orders.take(*kinds, file=recording.output.filepath)

    def _room_publishes(self, name: str) -> None:
        for one in self.rows.of_room(name):
            self._look_for_source(one)

    def _look_for_source(self, recording: Recording) -> None:
        if self._sources.missing(recording) is None:
            recording.publishing.set()

    def _sounds(self, name: str, track_sid: str) -> list[tuple[Recording, Sound]]:
        """Return the unfinished sound recordings of one track."""
        return [
            (one, one.sound)
            for one in self.rows.of_room(name)
            if one.sound and one.sound.sources.track_sid == track_sid and one.info.status < ENDED
        ]

    def _track_silent(self, name: str, track_sid: str, has_left: bool) -> None:
        for _, one in self._sounds(name, track_sid):
            if not has_left and one.muted_ns is None:
                one.muted_ns = time.time_ns()

    def _track_unpublished(self, name: str, track_sid: str) -> None:
        for recording, _ in self._sounds(name, track_sid):
            recording.publishing.clear()
            if recording.info.status == EgressStatus.EGRESS_ACTIVE and not recording.is_dead:
                self._spawn(self._end_with_track(recording))

    async def _end_with_track(self, recording: Recording) -> None:
        await self._delays.wait(paces.UNPUBLISHED_END_SECONDS)
        if recording.info.status == EgressStatus.EGRESS_ACTIVE and not recording.is_dead:
            self._end(recording, "Source closed")

    def _room_closed(self, name: str) -> None:
        for one in self.rows.of_room(name):
            if one.is_alive and one.has_joined:
                self._end(one, "Source closed")

    def _end(self, recording: Recording, reason: str) -> None:
        info = recording.info
        if recording.stopping.is_set():
            return
        recording.stopping.set()
        info.details = f"End reason: {reason}"
        if recording.sound:
            recording.sound.is_stopped = reason == "StopEgress API"
        if info.status == EgressStatus.EGRESS_STARTING:
            self._end_with(recording, EgressStatus.EGRESS_ABORTED, 412, _NOT_BEGUN)
        elif not recording.is_limited:
            self._update(recording, EgressStatus.EGRESS_ENDING)

    async def _record(self, recording: Recording) -> None:
        await self._begin(recording)
        if recording.info.status == EgressStatus.EGRESS_ACTIVE:
            self._strike(recording)
        if recording.info.status < ENDED:
            await self._last(recording)
        if recording.is_alive:
            await self._finish(recording)

    async def _come(self, recording: Recording) -> None:
        """Simulate the start of an egress: its process starts, a browser (if the egress needs one) enters the room,
        and the recorder becomes ready.
        """
        took = self._delays.seconds(paces.START_TIME_SECONDS)
        await asyncio.sleep(took)
        if not recording.is_alive:
            return
        recording.info.started_at = time.time_ns()
        if recording.sound:
            await asyncio.sleep(max(self._delays.seconds(paces.SOUND_START_SECONDS) - took, 0))
            return
        lead = self._delays.seconds(paces.BROWSER_JOINS_SECONDS)
        video = max(self._pace.start_delay_seconds, self._delays.seconds(paces.VIDEO_START_SECONDS))
        await asyncio.sleep(max(video - took - lead, 0))
        if recording.is_alive:
            self._join(recording)
            await asyncio.sleep(lead)

    async def _begin(self, recording: Recording) -> None:
        await self._come(recording)
        if recording.stopping.is_set() or recording.is_dead:
            return
        if order := self._take(recording, "fail_start", "abort_start"):
            recording.stopping.set()
            self._end_with(
                recording,
                EgressStatus.EGRESS_FAILED if order.kind == "fail_start" else EgressStatus.EGRESS_ABORTED,
                412,
                _NOT_BEGUN,
            )
            return
        if not await self._source_arrives(recording) or recording.stopping.is_set() or recording.is_dead:
            return
        self._activate(recording)

    async def _source_arrives(self, recording: Recording) -> bool:
        """Wait until a track or a participant exists that the egress can record, or until the egress is stopped.

        Return False if a track or a participant did not arrive within 30 s; the egress is then FAILED.
        """
        signals, seconds = [recording.stopping], None
        if not self._take(recording, "no_start_signal"):
            signals.append(recording.publishing)
            seconds = self._delays.seconds(paces.SOURCE_WAIT_SECONDS) if recording.sound else None
        if await _any(signals, seconds) or recording.is_dead:
            return True
        recording.stopping.set()
        missing = self._sources.missing(recording) or "track"
        self._end_with(recording, EgressStatus.EGRESS_FAILED, 404, f"{missing} not found")
        return False

    def _activate(self, recording: Recording) -> None:
        now, name, one = time.time_ns(), recording.info.room_name, recording.sound
        lead = paces.SOUND_LEAD_SECONDS if one else paces.VIDEO_LEAD_SECONDS
        recording.zero_ns = now - int(self._delays.seconds(lead) * _NANOSECONDS)
        if one:
            one.voices = self._sources.voices(name, one.sources)
        recording.info.file_results[0].started_at = now
        self._rooms.activate_recorder(name, recording.info.egress_id)
        self._update(recording, EgressStatus.EGRESS_ACTIVE)

    def _strike(self, recording: Recording) -> None:
        if self._take(recording, "die"):
            self.die(recording.info.egress_id)
        if self._take(recording, "handler_dies"):
            self._lose_process(recording)
        if self._take(recording, "forget"):
            recording.is_forgotten = True
        if order := self._take(recording, "limit_reached"):
            recording.limit_seconds = order.seconds

    def _lose_process(self, recording: Recording) -> None:
        info = recording.info
        info.file_results[0].ClearField("started_at")
        info.error, info.error_code = "internal error", 500
        recording.stopping.set()
        self._update(recording, EgressStatus.EGRESS_FAILED)

    async def _last(self, recording: Recording) -> None:
        """Wait until the egress is stopped, reaches its time limit, or reaches the end of the media. An egress
        whose node is dead never ends.
        """
        length, limit = self._pace.record_seconds, recording.limit_seconds
        length = recording.media.duration_seconds if length is None else length
        try:
            async with asyncio.timeout(length if limit is None else min(length, limit)):
                await recording.stopping.wait()
        except TimeoutError:
            if not recording.is_dead:
                recording.is_limited = limit is not None and limit <= length
                self._end(recording, "Session limit reached" if recording.is_limited else "Source closed")

    async def _finish(self, recording: Recording) -> None:
        file = recording.info.file_results[0]
        tail = await self._drain(recording)
        duration = int(max(recording.media.duration_seconds - tail, 0) * _NANOSECONDS)
        file.ended_at = time.time_ns()
        try:
            if late := self._take(recording, "upload_late"):
                self._spawn(self._upload_later(recording, late.seconds))
            else:
                await self._upload(recording)
        except UploadFailedError as error:
            file.duration = duration
            self._end_with(recording, EgressStatus.EGRESS_FAILED, 400, str(error))
            return
        if recording.is_dead:
            return
        if self._take(recording, "fail_after_upload"):
            self._end_with(
                recording, EgressStatus.EGRESS_FAILED, 400, "S3 upload failed: by order, when it was stored"
            )
            return
        file.location = location(recording.output)
        file.size = recording.media.size_bytes + bool(self._take(recording, "size_differs"))
        file.duration = duration
        if recording.is_limited:
            self._end_with(recording, EgressStatus.EGRESS_LIMIT_REACHED, 413, "Session limit reached")
        else:
            self._update(recording, EgressStatus.EGRESS_COMPLETE)

    async def _drain(self, recording: Recording) -> float:
        """Let the recording pipeline finish and write the recorded sound. Return how many seconds of the sound
        LiveKit does not count in the recording's duration.
        """
        one = recording.sound
        if one is None:
            if recording.info.details == "End reason: StopEgress API":
                await self._delays.wait(paces.VIDEO_END_SECONDS)
            if recording.is_alternating and self._chance.random() < 0.5:
                recording.media = await self._write(recording, _SWAPPED, _ALTERNATING)
            return 0
        tail = self._delays.seconds(paces.SOUND_END_SECONDS) if one.is_stopped else 0
        await asyncio.sleep(tail)
        recording.media = await self._write(recording, self._sources.cut(recording, one, tail), one.encoding)
        return tail

    async def _write(self, recording: Recording, cut: sound.Cut, encoding: SoundEncoding) -> Media:
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="livekit-", ignore_cleanup_errors=True)
        suffix = Path(recording.output.filepath).suffix
        path = Path(self._directory.name) / f"{recording.info.egress_id}{suffix}"
        return await asyncio.to_thread(sound.write, path, self.audio, cut, encoding)

    async def _upload(self, recording: Recording) -> None:
        broken = self._take(recording, "fail_upload") is not None
        backoff = self._pace.upload_backoff_seconds
        await asyncio.to_thread(
            upload, recording.media, recording.output, backoff_seconds=backoff, broken=broken
        )

    async def _upload_later(self, recording: Recording, seconds: float) -> None:
        await asyncio.sleep(seconds)
        try:
            await self._upload(recording)
        except UploadFailedError:
            return

    def _end_with(self, recording: Recording, status: EgressStatus, code: int, text: str) -> None:
        info = recording.info
        info.error, info.error_code = text, code
        info.details = info.details or "End reason: Failure"
        self._update(recording, status)

    def _update(self, recording: Recording, status: EgressStatus) -> None:
        info = recording.info
        info.status, info.updated_at = status, time.time_ns()
        info.file.CopyFrom(info.file_results[0])
        if status >= ENDED:
            info.ended_at = info.updated_at
            if recording.sound:
                self._rooms.leave_recorder(info.room_name, info.egress_id)
            else:
                self._leave_later(recording, paces.BROWSER_LEAVES_SECONDS)
        self._notifier.egress("egress_ended" if status >= ENDED else "egress_updated", info)


async def _any(signals: list[asyncio.Event], seconds: float | None = None) -> bool:
    """Wait for one of the signals for at most `seconds`. Return False if no signal came within `seconds`."""
    waiting = [asyncio.ensure_future(signal.wait()) for signal in signals]
    try:
        done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for one in waiting:
            one.cancel()
