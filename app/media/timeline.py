"""Places the sound of one track on its file's timeline. Only the child processes load this module.

Timestamps come from the file and may lie, so this module bounds what they may cost. It makes silence as the silence is
handed on, grants the processor as sound is heard, and ends a timeline that is too long.
"""

import errno
import resource
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import av.audio.fifo
import av.audio.resampler
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet

from app.media.foreign import Refused
from app.media.turns import MAX_CHANNELS

RATE = 16_000
SAMPLE_BYTES = 2
_SILENCE_SAMPLES = 5 * RATE
_MAX_LOST = 0.1
"""Of the packets, or of the frames: a transcript that lacked more would look whole."""

_MIN_FOUND = 0.9
"""Of the duration that the index states: FFmpeg takes the first sample that it cannot find for the end."""

_TOGETHER = 48_000
"""So many samples, or a second of them, are resampled at once: of Opus' 960 each time it costs nearly as much as the
decoding does."""

_RATES = range(8_000, 384_001)
"""The sampling rates of microphones. At a lower rate one frame could claim to last for hours."""

_TOLERANCE_SECONDS = 0.1
"""Timestamps may stray so far before they mean a gap."""

_CHANNELS_AT_ONE_PRICE = 4

Planes = tuple[bytes, ...]
"""As many samples of each channel, 16 bits each."""


@dataclass
class Allowance:
    """How much processor time a recording may take, more as more of it is heard, and how long it may be.

    `channels` is how many channels the child hears: up to four cost what one does.
    """

    cpu_seconds: int
    cpu_seconds_per_hour: int
    hours: int
    channels: int = 1
    _samples: int = 0

    @property
    def max_cpu_seconds(self) -> int:
        """More than the longest recording with the most channels may take: the kernel kills at this limit.

        At the lower limit it sends SIGXCPU first, which says why the process ended.
        """
        most = self.hours * self.cpu_seconds_per_hour * (MAX_CHANNELS // _CHANNELS_AT_ONE_PRICE)
        return self.cpu_seconds + most + 1

    def grow(self, samples: int) -> None:
        """Grants what so much sound may take. Raises MemoryError if the sound is too long."""
        if samples > self.hours * 3600 * RATE:
            raise MemoryError
        self._samples = max(self._samples, samples)
        priced = max(self.channels, _CHANNELS_AT_ONE_PRICE)
        granted = self._samples * self.cpu_seconds_per_hour * priced // (3600 * RATE * _CHANNELS_AT_ONE_PRICE)
        resource.setrlimit(resource.RLIMIT_CPU, (self.cpu_seconds + granted, self.max_cpu_seconds))


class Track:
    """One track's sound from the beginning of the file's timeline, without a gap.

    `layout` is what it is resampled to. `are_discards_lost` says that FFmpeg marks a packet to be discarded because its
    time is wrong (in fragments), and not because an edit list leaves it out. Frames that follow each other are
    resampled as one; a gap, or a change of format, begins anew. The silence of a gap, which a file may claim to be
    hours, is handed on piece by piece and never held as a whole.
    """

    def __init__(
        self, stream: AudioStream, layout: str, allowance: Allowance, *, are_discards_lost: bool
    ) -> None:
        self._context = stream.codec_context
        self._stated = stream.duration or 0
        self._layout = layout
        self._allowance = allowance
        self._are_discards_lost = are_discards_lost
        self._at = 0
        self._due = 0.0
        self._kind: tuple[str, str, int] | None = None
        self._packets = self._lost = self._frames = self._past = self._found = 0
        self._waiting, self._resampler = self._fresh()
        self._channels = len(self._resampler.layout.channels)

    @property
    def has_lost_too_much(self) -> bool:
        """Whether a transcript of this track would lack too much: what cannot be decoded, or comes twice."""
        return self._lost > self._packets * _MAX_LOST or self._past > self._frames * _MAX_LOST

    @property
    def ends_too_early(self) -> bool:
        """Whether the track, which is no track of fragments, has fewer samples than its index states."""
        return self._found < self._stated * _MIN_FOUND

    def take(self, packet: "Packet[Any]") -> Iterator[tuple[int, Planes]]:
        """The number of the first sample, and samples, from the first to the last. A packet that cannot be decoded is
        silence.
        """
        self._packets += 1
        self._found += packet.duration or 0
        self._lost += packet.is_discard and self._are_discards_lost
        try:
            frames = self._context.decode(packet)
        except av.error.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError from error
            self._lost += 1
            return
        for frame in frames:
            yield from self._placed(frame)

    def end(self) -> Iterator[tuple[int, Planes]]:
        """The samples that are left."""
        if (waiting := self._waiting.read()) is not None:
            yield from self._given(self._resampler.resample(waiting))
        yield from self._given(self._resampler.resample(None))

    def _placed(self, frame: AudioFrame) -> Iterator[tuple[int, Planes]]:
        self._frames += 1
        time = self._due if frame.pts is None else float(frame.time or 0)
        if time < self._due - _TOLERANCE_SECONDS:
            self._past += self._kind is not None
            return
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind or time > self._due + _TOLERANCE_SECONDS:
            yield from self._begin(kind, time)
        self._due += frame.samples / frame.sample_rate
        frame.pts = None  # those that stray a little would not be taken
        self._waiting.write(frame)
        if self._waiting.samples >= min(_TOGETHER, frame.sample_rate):
            yield from self._given(self._resampler.resample(self._waiting.read()))

    def _begin(self, kind: tuple[str, str, int], time: float) -> Iterator[tuple[int, Planes]]:
        yield from self.end()
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
            at, planes = self._next(self._planes(frame))
            if at + samples_of(planes) > 0:
                early = max(0, -at)
                yield at + early, tuple(plane[early * SAMPLE_BYTES :] for plane in planes)

    def _planes(self, frame: AudioFrame) -> Planes:
        """The samples of each channel.

        The resampler interleaves them: PyAV 18.1 and 19.0 cannot read a frame of eight planes.
        """
        content = bytes(memoryview(frame.planes[0])[: frame.samples * self._channels * SAMPLE_BYTES])
        if self._channels == 1:
            return (content,)
        samples = array("h", content)
        return tuple(samples[number :: self._channels].tobytes() for number in range(self._channels))

    def _next(self, planes: Planes) -> tuple[int, Planes]:
        at, self._at = self._at, self._at + samples_of(planes)
        self._allowance.grow(self._at)
        return at, planes

    def _fresh(self) -> tuple[AudioFifo, AudioResampler]:
        return AudioFifo(), AudioResampler("s16", self._layout, RATE)


def samples_of(planes: Planes) -> int:
    """How many, of each channel."""
    return len(planes[0]) // SAMPLE_BYTES
