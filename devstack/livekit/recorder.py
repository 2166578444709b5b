"""Recordings: started, listed, stopped and uploaded, in the states and words of livekit-server and
livekit/egress.

A room composite waits in STARTING until somebody publishes, is ACTIVE until it is stopped, its room closes or
the media ends, uploads in ENDING, and ends COMPLETE, FAILED (400, upload), ABORTED (412, never began) or
LIMIT_REACHED (413, whole file, no ENDING before). A room may have several at once. The storage keys that were
handed over are kept for the upload and never shown (`pkg/pipeline/controller.go` of livekit/egress and
`livekit_egress.go` of livekit/protocol, read 2026-11-21). What goes wrong by order is in
`orders.RECORDING_KINDS`.
"""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Final

from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    EncodedFileType,
    FileInfo,
    RoomCompositeEgressRequest,
)

from devstack.livekit.media import Media, UploadFailedError, location, upload
from devstack.livekit.orders import Order, Orders
from devstack.livekit.requests import output_of, redacted, source_of
from devstack.livekit.rooms import Rooms
from devstack.livekit.rows import ENDED, Recording, Rows
from devstack.livekit.twirp import TwirpError, new_id
from devstack.livekit.webhooks import Notifier

_NANOSECONDS: Final = 1_000_000_000
_NOT_BEGUN: Final = "Start signal not received"
"""LiveKit ends such a recording ABORTED (egress#911, egress#858); FAILED is for those who expect no more."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast things go. `record_seconds` is when the media ends; None: at its own length."""

    start_delay_seconds: float = 0.2
    record_seconds: float | None = None
    upload_backoff_seconds: float = 0.2


class Recorder:
    """Every recording that was started since the stand-in was, by egress id; `media` and `audio` must be set
    before.
    """

    media: Media
    audio: Media

    def __init__(self, rooms: Rooms, notifier: Notifier, orders: Orders, pace: Pace) -> None:
        self._rooms = rooms
        self._notifier = notifier
        self._orders = orders
        self._pace = pace
        self.rows = Rows()
        self._tasks: list[asyncio.Task[None]] = []
        rooms.on_publish = self._room_publishes
        rooms.on_close = self._room_closed

    def start(self, request: RoomCompositeEgressRequest) -> EgressInfo:
        """Begin to record; `egress_started` may reach the receiver before this answer. Raises TwirpError."""
        room = self._rooms.snapshot(request.room_name)
        output = output_of(request)
        now = time.time_ns()
        info = EgressInfo(
            egress_id=new_id("EG_"),
            room_id=room.sid,
            room_name=room.name,
            source_type=source_of(request),
            status=EgressStatus.EGRESS_STARTING,
            started_at=now,
            updated_at=now,
            room_composite=redacted(request),
            file_results=[FileInfo(filename=output.filepath)],
            file=FileInfo(filename=output.filepath),
        )
        is_audio = output.file_type == EncodedFileType.OGG
        recording = Recording(info, output, self.audio if is_audio else self.media)
        self.rows.add(recording)
        self._notifier.egress("egress_started", info)
        self._rooms.join_recorder(room.name, info.egress_id)
        if room.num_publishers:
            recording.publishing.set()
        self._spawn(self._record(recording))
        return info

    def start_later(self, request: RoomCompositeEgressRequest, seconds: float) -> None:
        """Begin to record in `seconds`, if the room is there by then; nobody is told that it was refused."""

        async def begin() -> None:
            await asyncio.sleep(seconds)
            try:
                self.start(request)
            except TwirpError:
                return

        self._spawn(begin())

    def stop(self, egress_id: str) -> EgressInfo:
        """Raises TwirpError: `not_found`, `failed_precondition` when it has ended, `deadline_exceeded` when
        dead.
        """
        recording = self.rows.running(egress_id)
        if recording.is_dead:
            raise TwirpError("deadline_exceeded", "request timed out")
        self._end(recording, "StopEgress API")
        return recording.info

    def die(self, egress_id: str) -> None:
        """Let the node of a recording die now: it is listed as it is for ever. Raises TwirpError."""
        recording = self.rows.running(egress_id)
        recording.is_dead = True
        self._rooms.leave_recorder(recording.info.room_name, egress_id)

    def forget(self, egress_id: str) -> None:
        """Lose the row of a recording; what records goes on and can still be stopped. Raises TwirpError."""
        self.rows.row(egress_id).is_forgotten = True

    async def aclose(self) -> None:
        """Stop all recordings where they are, without an end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    def _take(self, recording: Recording, *kinds: str) -> Order | None:
        return self._orders.take(*kinds, file=recording.output.filepath)

    def _room_publishes(self, name: str) -> None:
        for one in self.rows.of_room(name):
            one.publishing.set()

    def _room_closed(self, name: str) -> None:
        for one in self.rows.of_room(name):
            if one.info.status < ENDED and not one.is_dead:
                self._end(one, "Source closed")

    def _end(self, recording: Recording, reason: str) -> None:
        info = recording.info
        if recording.stopping.is_set():
            return
        recording.stopping.set()
        info.details = f"End reason: {reason}"
        if info.status == EgressStatus.EGRESS_STARTING:
            self._end_with(
                recording, EgressStatus.EGRESS_ABORTED, 412, "Stop called before pipeline could start"
            )
        elif not recording.is_limited:
            self._update(recording, EgressStatus.EGRESS_ENDING)

    async def _record(self, recording: Recording) -> None:
        await self._begin(recording)
        if recording.info.status == EgressStatus.EGRESS_ACTIVE:
            self._strike(recording)
        if recording.info.status < ENDED:
            await self._last(recording)
        if recording.info.status < ENDED and not recording.is_dead:
            await self._finish(recording)

    async def _begin(self, recording: Recording) -> None:
        await asyncio.sleep(self._pace.start_delay_seconds)
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
        signals = [recording.stopping]
        if not self._take(recording, "no_start_signal"):
            signals.append(recording.publishing)
        await _any(signals)
        if not recording.stopping.is_set() and not recording.is_dead:
            recording.info.file_results[0].started_at = time.time_ns()
            self._update(recording, EgressStatus.EGRESS_ACTIVE)

    def _strike(self, recording: Recording) -> None:
        if self._take(recording, "die"):
            self.die(recording.info.egress_id)
        if self._take(recording, "forget"):
            recording.is_forgotten = True
        if order := self._take(recording, "limit_reached"):
            recording.limit_seconds = order.seconds

    async def _last(self, recording: Recording) -> None:
        """Wait for the end: a stop, the limit, or the end of the media; a dead recording has none."""
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
        file.ended_at = time.time_ns()
        try:
            if late := self._take(recording, "upload_late"):
                self._spawn(self._upload_later(recording, late.seconds))
            else:
                await self._upload(recording)
        except UploadFailedError as error:
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
        file.duration = int(recording.media.duration_seconds * _NANOSECONDS)
        if recording.is_limited:
            self._end_with(recording, EgressStatus.EGRESS_LIMIT_REACHED, 413, "Session limit reached")
        else:
            self._update(recording, EgressStatus.EGRESS_COMPLETE)

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
            self._rooms.leave_recorder(info.room_name, info.egress_id)
        self._notifier.egress("egress_ended" if status >= ENDED else "egress_updated", info)


async def _any(signals: list[asyncio.Event]) -> None:
    waiting = [asyncio.ensure_future(signal.wait()) for signal in signals]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
