"""Places the sound of one track on its file's timeline. Only the child processes that read media files load this
module.

An untrusted file can contain false timestamps, so this module limits the memory and processor time that false
timestamps can cost. The module fills a gap with silence in short blocks, not all at once. The module raises the
limit of processor time only as sound is decoded, and refuses a timeline that is too long.
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

from app.media.turns import MAX_CHANNELS
from app.media.untrusted_files import ObjectRefused

RATE = 16_000
SAMPLE_BYTES = 2
_SILENCE_SAMPLES = 5 * RATE
_MAX_LOST = 0.1
"""The allowed share of lost packets or frames. A transcript that lacked more would look complete."""

_MIN_FOUND = 0.9
"""The required share of the duration in the index, because FFmpeg treats the first sample that it cannot find as
the end.
"""

_TOGETHER = 48_000
"""The number of samples, or a second of them, that are resampled at once. Resampling Opus' 960 samples each time
costs nearly as much as decoding.
"""

_RATES = range(8_000, 384_001)
"""The sampling rates of microphones. At a lower rate, one frame could claim to last for hours."""

_TOLERANCE_SECONDS = 0.1
"""Timestamps may deviate by this much before they count as a gap."""

_CHANNELS_AT_ONE_PRICE = 4

Planes = tuple[bytes, ...]
"""Equally many samples of each channel, with 16 bits each."""


@dataclass
class Allowance:
    """The processor time that a recording may take, and its maximum duration. The allowed processor time grows with
    the duration of the sound that was decoded. `channels` is the number of channels that the child measures. A
    recording with up to four channels may take as much processor time as one with a single channel.
    """

    cpu_seconds: int
    cpu_seconds_per_hour: int
    hours: int
    channels: int = 1
    _samples: int = 0

    @property
    def max_cpu_seconds(self) -> int:
        """Return the hard limit of processor time. The hard limit is higher than the processor time that the
        longest recording with the most channels may take. If a process reaches the hard limit of processor time,
        the kernel kills it. At the soft limit of processor time, which is lower than the hard limit, the kernel
        sends SIGXCPU, which shows why the process ended.
        """
        most = self.hours * self.cpu_seconds_per_hour * (MAX_CHANNELS // _CHANNELS_AT_ONE_PRICE)
        return self.cpu_seconds + most + 1

    def grow(self, samples: int) -> None:
        """Raise the process's limit of processor time in proportion to the given duration of decoded sound. Raises
        MemoryError if the decoded sound is longer than a recording may be.
        """
        if samples > self.hours * 3600 * RATE:
            raise MemoryError
        self._samples = max(self._samples, samples)
        priced = max(self.channels, _CHANNELS_AT_ONE_PRICE)
        granted = self._samples * self.cpu_seconds_per_hour * priced // (3600 * RATE * _CHANNELS_AT_ONE_PRICE)
        resource.setrlimit(resource.RLIMIT_CPU, (self.cpu_seconds + granted, self.max_cpu_seconds))


class Track:
    """The sound of one track from the beginning of the file's timeline, without gaps.

    `layout` is the channel layout to which the track is resampled. If `are_discards_lost` is true, FFmpeg discards
    packets because their times are wrong (in a fragmented file), and not because an edit list leaves them out. The
    resampler treats consecutive frames as one sound, and starts anew after a gap or after a change of the sample
    format. A file may state a gap of several hours, so the track yields the silence for a gap in short blocks.
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
        """Return whether so many packets of this track cannot be decoded, or occur twice, that a transcript of the
        track would lack too much speech.
        """
        return self._lost > self._packets * _MAX_LOST or self._past > self._frames * _MAX_LOST

    @property
    def ends_too_early(self) -> bool:
        """Return whether the track lacks samples that its index states; the check applies only to a track without
        fragments.
        """
        return self._found < self._stated * _MIN_FOUND

    def take(self, packet: "Packet[Any]") -> Iterator[tuple[int, Planes]]:
        """Yield blocks of the track's samples in order, each block with the number of its first sample. In place of
        a packet that cannot be decoded, the method yields silence.
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
        """Yield the remaining samples."""
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
        frame.pts = None  # the resampler refuses frames whose times deviate a little
        self._waiting.write(frame)
        if self._waiting.samples >= min(_TOGETHER, frame.sample_rate):
            yield from self._given(self._resampler.resample(self._waiting.read()))

    def _begin(self, kind: tuple[str, str, int], time: float) -> Iterator[tuple[int, Planes]]:
        yield from self.end()
        if kind[2] not in _RATES:
            raise ObjectRefused
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
        """Return the samples of a decoded audio frame, separately for each channel. The resampler interleaves the
        channels, because PyAV 18.1 and 19.0 cannot read a frame of eight planes.
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
    """Return how many samples each channel of the track has."""
    return len(planes[0]) // SAMPLE_BYTES
