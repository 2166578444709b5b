"""A foreign stream's sound laid on its file's timeline: loaded by the children alone, never by the app.

Timestamps are the file's word, so what they may cost is bounded: silence is made as it is handed on, the processor is
granted as sound is heard, and a timeline that is too long ends.
"""

import errno
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import av.audio.fifo
import av.audio.resampler
from av.audio.codeccontext import AudioCodecContext
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.packet import Packet

from app.media.foreign import Refused, Sound

RATE = 16_000
SAMPLE_BYTES = 2
_SILENCE_SAMPLES = 5 * RATE
_MOST_LOST = 0.1
"""Of the packets, or of the frames: a transcript that lacked more would look whole."""

_TOGETHER = 48_000
"""So many samples, or a second of them, are resampled at once: of Opus' 960 each time it costs nearly as much as the
decoding does."""

_RATES = range(8_000, 384_001)
"""What microphones have: fewer would be a bomb, for one frame could claim to be hours."""

_TOLERANCE_SECONDS = 0.1
"""As far as timestamps may stray before they mean a gap."""

Planes = tuple[bytes, ...]
"""As many samples of each channel, 16 bits each."""


@dataclass(frozen=True)
class Allowance:
    """What of the processor a recording may take, more as more of it has been heard, and how long it may be."""

    cpu_seconds: int
    cpu_seconds_per_hour: int
    hours: int

    @property
    def most_cpu_seconds(self) -> int:
        """For the longest recording."""
        return self.cpu_seconds + self.hours * self.cpu_seconds_per_hour

    def grow(self, samples: int) -> None:
        """To what so much sound may take; raises MemoryError if it is too much."""
        if samples > self.hours * 3600 * RATE:
            raise MemoryError
        allowed = self.cpu_seconds + samples * self.cpu_seconds_per_hour // (3600 * RATE)
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, self.most_cpu_seconds))


class Timeline:
    """A stream's sound from the beginning of the file's timeline, without a gap.

    Frames that follow each other are resampled as one; a gap, or a change of format, begins anew. The silence of a
    gap, which a file may claim to be hours, is handed on piece by piece and never held as a whole.
    """

    def __init__(self, channels: int, allowance: Allowance) -> None:
        self._channels = channels
        self._allowance = allowance
        self._at = 0
        self._due = 0.0
        self._kind: tuple[str, str, int] | None = None
        self._waiting, self._resampler = self._fresh()

    def samples(self, sound: Sound | None) -> Iterator[tuple[int, Planes]]:
        """Which sample comes first, and samples, from the first to the last; nothing without a stream.

        Refuses one of which too much is in the past of what came before: it would be left out.
        """
        if sound is None:
            return
        frames = past = 0
        for frame in _frames(*sound):
            frames += 1
            time = self._due if frame.pts is None else float(frame.time or 0)
            if time < self._due - _TOLERANCE_SECONDS:
                past += self._kind is not None
                continue
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if kind != self._kind or time > self._due + _TOLERANCE_SECONDS:
                yield from self._begin(kind, time)
            self._due += frame.samples / frame.sample_rate
            frame.pts = None  # those that stray a little would not be taken
            self._waiting.write(frame)
            if self._waiting.samples >= min(_TOGETHER, frame.sample_rate):
                yield from self._given(self._resampler.resample(self._waiting.read()))
        if past > frames * _MOST_LOST:
            raise Refused
        yield from self._rest()

    def _rest(self) -> Iterator[tuple[int, Planes]]:
        if (waiting := self._waiting.read()) is not None:
            yield from self._given(self._resampler.resample(waiting))
        yield from self._given(self._resampler.resample(None))

    def _begin(self, kind: tuple[str, str, int], time: float) -> Iterator[tuple[int, Planes]]:
        yield from self._rest()
        if kind[2] not in _RATES:
            raise Refused
        start = round(time * RATE)
        if self._kind is None:
            self._at = min(0, start)
        while self._at < start:
            silence = bytes(min(_SILENCE_SAMPLES, start - self._at) * SAMPLE_BYTES)
            yield self._next((silence,) * self._channels)
        self._kind, self._due = kind, max(time, self._due)
        self._waiting, self._resampler = self._fresh()

    def _given(self, frames: list[AudioFrame]) -> Iterator[tuple[int, Planes]]:
        for frame in frames:
            size = frame.samples * SAMPLE_BYTES
            at, planes = self._next(tuple(bytes(memoryview(plane)[:size]) for plane in frame.planes))
            if at + samples_of(planes) > 0:
                early = max(0, -at)
                yield at + early, tuple(plane[early * SAMPLE_BYTES :] for plane in planes)

    def _next(self, planes: Planes) -> tuple[int, Planes]:
        at, self._at = self._at, self._at + samples_of(planes)
        self._allowance.grow(self._at)
        return at, planes

    def _fresh(self) -> tuple[AudioFifo, AudioResampler]:
        return AudioFifo(), AudioResampler("s16p", "stereo" if self._channels == 2 else "mono", RATE)


def _frames(coming: Iterator["Packet[Any]"], context: AudioCodecContext) -> Iterator[AudioFrame]:
    """What can be decoded: the timeline puts silence for the rest. Refuses a stream of which too much cannot."""
    packets = lost = 0
    for packet in coming:
        packets += 1
        lost += packet.is_discard  # of fragments: no later than what came before
        try:
            yield from context.decode(packet)
        except av.error.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError from error
            lost += 1
    if lost > packets * _MOST_LOST:
        raise Refused


def samples_of(planes: Planes) -> int:
    """How many, of each channel."""
    return len(planes[0]) // SAMPLE_BYTES
