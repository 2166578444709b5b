"""Recordings: started, listed, stopped and uploaded, in the states and words of livekit-server and
livekit/egress.

A room composite waits in STARTING until somebody publishes, is ACTIVE until it is stopped, its room closes or
the media ends, uploads in ENDING, and ends COMPLETE, FAILED (400, upload) or ABORTED (412, never began). Only
one MP4 to S3 is understood. The storage keys that were handed over are kept for the upload and never shown
(read 2026-11-21).
"""

import asyncio
import posixpath
import time
from dataclasses import dataclass, field
from typing import Final

from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    EncodedFileOutput,
    EncodedFileType,
    FileInfo,
    ListEgressRequest,
    ListEgressResponse,
    RoomCompositeEgressRequest,
)

from app.devstack.livekit.media import Media, UploadFailedError, upload
from app.devstack.livekit.orders import Orders
from app.devstack.livekit.rooms import Rooms
from app.devstack.livekit.twirp import TwirpError, new_id
from app.devstack.livekit.webhooks import Notifier

_ENDED: Final = EgressStatus.EGRESS_COMPLETE
_NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast things go. `record_seconds` is when the media ends; None: at its own length."""

    start_delay_seconds: float = 0.2
    record_seconds: float | None = None
    upload_backoff_seconds: float = 0.2


@dataclass(slots=True)
class Recording:
    """One egress: what may be shown of it, what to upload, and whether its node has died."""

    info: EgressInfo
    output: EncodedFileOutput
    publishing: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    is_dead: bool = False


class Recorder:
    """Every recording that was started since the stand-in was, by egress id; `media` must be set before."""

    media: Media

    def __init__(self, rooms: Rooms, notifier: Notifier, orders: Orders, pace: Pace) -> None:
        self._rooms = rooms
        self._notifier = notifier
        self._orders = orders
        self._pace = pace
        self._recordings: dict[str, Recording] = {}
        self._tasks: list[asyncio.Task[None]] = []
        rooms.on_publish = self._room_publishes
        rooms.on_close = self._room_closed

    def start(self, request: RoomCompositeEgressRequest) -> EgressInfo:
        """Begin to record; `egress_started` may reach the receiver before this answer. Raises TwirpError."""
        room = self._rooms.snapshot(request.room_name)
        output = _output(request)
        now = time.time_ns()
        info = EgressInfo(
            egress_id=new_id("EG_"),
            room_id=room.sid,
            room_name=room.name,
            status=EgressStatus.EGRESS_STARTING,
            started_at=now,
            updated_at=now,
            room_composite=redacted(request),
            file_results=[FileInfo(filename=output.filepath)],
        )
        recording = Recording(info, output)
        self._recordings[info.egress_id] = recording
        self._notifier.egress("egress_started", info)
        self._rooms.join_recorder(room.name, info.egress_id)
        if room.num_publishers:
            recording.publishing.set()
        self._tasks.append(asyncio.create_task(self._record(recording)))
        return info

    def list(self, request: ListEgressRequest) -> ListEgressResponse:
        """Raises TwirpError `not_found` for an unknown id, as LiveKit does; for an unknown room there are
        none.
        """
        if request.egress_id:
            return ListEgressResponse(items=[self._find(request.egress_id).info])
        found = [
            one.info
            for one in self._recordings.values()
            if request.room_name in ("", one.info.room_name)
            and (not request.active or one.info.status < _ENDED)
        ]
        return ListEgressResponse(items=found)

    def stop(self, egress_id: str) -> EgressInfo:
        """Raises TwirpError: `not_found`, `failed_precondition` when it has ended, `deadline_exceeded` when
        dead.
        """
        recording = self._find(egress_id)
        if recording.info.status >= _ENDED:
            name = EgressStatus.Name(recording.info.status)
            raise TwirpError("failed_precondition", f"egress with status {name} cannot be stopped")
        if recording.is_dead:
            raise TwirpError("deadline_exceeded", "request timed out")
        self._end(recording, "StopEgress API")
        return recording.info

    async def aclose(self) -> None:
        """Stop all recordings where they are, without an end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _find(self, egress_id: str) -> Recording:
        if egress_id not in self._recordings:
            raise TwirpError("not_found", "egress does not exist")
        return self._recordings[egress_id]

    def _room_publishes(self, name: str) -> None:
        for one in self._recordings.values():
            if one.info.room_name == name:
                one.publishing.set()

    def _room_closed(self, name: str) -> None:
        for one in self._recordings.values():
            if one.info.room_name == name and one.info.status < _ENDED and not one.is_dead:
                self._end(one, "Source closed")

    def _end(self, recording: Recording, reason: str) -> None:
        info = recording.info
        if recording.stopping.is_set():
            return
        recording.stopping.set()
        info.details = f"End reason: {reason}"
        if info.status == EgressStatus.EGRESS_STARTING:
            info.error, info.error_code = "Stop called before pipeline could start", 412
            self._update(recording, EgressStatus.EGRESS_ABORTED)
        else:
            self._update(recording, EgressStatus.EGRESS_ENDING)

    async def _record(self, recording: Recording) -> None:
        await self._begin(recording)
        if recording.is_dead or recording.info.status >= _ENDED:
            return
        seconds = self._pace.record_seconds
        try:
            async with asyncio.timeout(self.media.duration_seconds if seconds is None else seconds):
                await recording.stopping.wait()
        except TimeoutError:
            self._end(recording, "Source closed")
        await self._finish(recording)

    async def _begin(self, recording: Recording) -> None:
        ready = asyncio.ensure_future(recording.publishing.wait())
        stopped = asyncio.ensure_future(recording.stopping.wait())
        try:
            await asyncio.sleep(self._pace.start_delay_seconds)
            await asyncio.wait((ready, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            stopped.cancel()
        if not recording.stopping.is_set():
            recording.info.file_results[0].started_at = time.time_ns()
            self._update(recording, EgressStatus.EGRESS_ACTIVE)
            if self._orders.take("die"):
                recording.is_dead = True
                self._rooms.leave_recorder(recording.info.room_name, recording.info.egress_id)

    async def _finish(self, recording: Recording) -> None:
        info, file = recording.info, recording.info.file_results[0]
        file.ended_at = time.time_ns()
        broken = self._orders.take("fail_upload") is not None
        backoff = self._pace.upload_backoff_seconds
        try:
            file.location = await asyncio.to_thread(
                upload, self.media, recording.output, backoff_seconds=backoff, broken=broken
            )
        except UploadFailedError as error:
            info.error, info.error_code = str(error), 400
            self._update(recording, EgressStatus.EGRESS_FAILED)
            return
        file.size = self.media.size_bytes
        file.duration = int(self.media.duration_seconds * _NANOSECONDS)
        self._update(recording, EgressStatus.EGRESS_COMPLETE)

    def _update(self, recording: Recording, status: EgressStatus) -> None:
        info = recording.info
        info.status, info.updated_at = status, time.time_ns()
        if status >= _ENDED:
            info.ended_at = info.updated_at
            self._rooms.leave_recorder(info.room_name, info.egress_id)
        self._notifier.egress("egress_ended" if status >= _ENDED else "egress_updated", info)


def redacted(request: RoomCompositeEgressRequest) -> RoomCompositeEgressRequest:
    """A copy whose storage keys are replaced by their names (`egress/redact.go` of livekit/protocol)."""
    copy = RoomCompositeEgressRequest()
    copy.CopyFrom(request)
    for output in copy.file_outputs:
        for name in ("access_key", "secret", "session_token"):
            if getattr(output.s3, name):
                setattr(output.s3, name, f"{{{name}}}")
    return copy


def _output(request: RoomCompositeEgressRequest) -> EncodedFileOutput:
    if len(request.file_outputs) != 1 or request.file_outputs[0].WhichOneof("output") != "s3":
        raise TwirpError("invalid_argument", "request has missing or invalid field: output")
    if request.audio_only and request.video_only:
        raise TwirpError(
            "invalid_argument", "request has missing or invalid field: audio_only and video_only"
        )
    output = EncodedFileOutput()
    output.CopyFrom(request.file_outputs[0])
    if not output.s3.bucket or not output.s3.access_key or not output.s3.secret:
        raise TwirpError("invalid_argument", "request has missing or invalid field: s3")
    if output.file_type not in (EncodedFileType.DEFAULT_FILETYPE, EncodedFileType.MP4):
        raise TwirpError("invalid_argument", "request has missing or invalid field: file_type")
    output.filepath = _stored_path(output.filepath, request.room_name)
    return output


def _stored_path(filepath: str, room_name: str) -> str:
    """Where the file will lie: cleaned, named if it has no name, and always ending in `.mp4`."""
    is_folder = not filepath or filepath.endswith("/")
    path = posixpath.normpath(filepath).lstrip("./") if filepath else ""
    if is_folder:
        path = posixpath.join(path, f"{room_name}-{time.strftime('%Y-%m-%dT%H%M%S')}")
    return path if path.endswith(".mp4") else f"{path}.mp4"
