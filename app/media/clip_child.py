"""The child process that cuts a clip out of an untrusted file, and encodes it anew. The app never imports this
module, but runs the module's file by its path in an isolated interpreter.

The child decodes the file from the key frame before the clip, and encodes only the frames and the samples inside the
bounds, as VP9 and Opus in WebM. No packet of the file is copied, so the clip contains nothing from outside the bounds.
While it works, the child writes `{"percent": n}`. Then it writes `{"clip": {...}, "size_bytes": n}` and the n bytes of
the clip.
"""

import io
import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.audio.resampler  # PyAV would otherwise load these modules later, when nothing can be opened any more
import av.video.reformatter
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

sys.path.insert(
    0, str(Path(__file__).parents[2])
)  # an isolated interpreter has no script directory on its path

from app.media.mp4_boxes import read_movie
from app.media.untrusted_files import (
    AUDIO,
    VIDEO,
    Object,
    ObjectRefused,
    confine,
    is_one_of,
    open_container,
    report_refusals,
    send,
)

_KEPT_BLOCKS = 8
_MS = Fraction(1, 1000)
_RATE = 48_000
_PREROLL_SECONDS = 0.5
"""The decoder of AAC and Opus needs some packets before the first sample that it decodes exactly."""

_BLACK_SECONDS = 0.1
"""If the first picture inside the bounds appears later than this, the clip begins with a black picture. The recording
shows a picture at this time that appeared before the start, so the clip must not show it.
"""

_UNKNOWN_END_SECONDS = 0.5
"""If the file states no duration, its end may be this much after its last picture or sound."""

_JITTER_SECONDS = 0.02
"""Timestamps of sound that differ by at most this much from the number of samples are continuous sound."""

_MAX_SIDE = 1920
_KEY_FRAME_SECONDS = 2
_SENT_BYTES = 1024 * 1024
_VIDEO_OPTIONS = {"deadline": "realtime", "cpu-used": "8", "crf": "34", "lag-in-frames": "0", "row-mt": "0"}
_AUDIO_BIT_RATE = 96_000


def main() -> None:
    """Run the child process. The child's arguments are the container format, the bounds of the clip in milliseconds,
    the size of the object, the size of a block in bytes, the limit of CPU seconds, the limit of the address space in
    bytes, and the largest size of the clip in bytes.
    """
    container = sys.argv[1]
    start_ms, end_ms, size_bytes, block_bytes, cpu_seconds, memory_bytes, most_bytes = map(int, sys.argv[2:])
    confine(cpu_seconds, cpu_seconds + 1, memory_bytes)
    file = Object(size_bytes, block_bytes, _KEPT_BLOCKS)
    report_refusals(lambda: _cut(file, container, start_ms, end_ms, most_bytes))


def _cut(file: Object, container: str, start_ms: int, end_ms: int, most_bytes: int) -> None:
    is_fragmented = container == "mp4" and read_movie(file).is_fragmented
    with open_container(file, container) as media:
        video = next((one for one in media.streams.video if is_one_of(one, VIDEO)), None)
        audio = next((one for one in media.streams.audio if is_one_of(one, AUDIO)), None)
        streams = [one for one in (video, audio) if one is not None]
        if not streams:
            raise ObjectRefused
        written = _BoundedFile(most_bytes)
        size = None if video is None else (video.codec_context.width, video.codec_context.height)
        clip = ClipWriter(written, start_ms, end_ms, size, has_audio=audio is not None)
        for frame in _frames(media, streams, start_ms, end_ms):
            clip.add(frame)
        found = clip.end()
        if media.duration is None or is_fragmented:
            file_end_ms = start_ms + found["last_ms"] + int(1000 * _UNKNOWN_END_SECONDS)
        else:
            file_end_ms = math.ceil(Fraction(1000 * ((media.start_time or 0) + media.duration), av.time_base))
        found["last_ms"] = max(0, min(file_end_ms, end_ms) - start_ms)
    content = written.getbuffer()
    send({"clip": found, "size_bytes": len(content)})
    for start in range(0, len(content), _SENT_BYTES):
        sys.stdout.buffer.write(content[start : start + _SENT_BYTES])
    sys.stdout.buffer.flush()


def _frames(
    media: InputContainer, streams: list[VideoStream | AudioStream], start_ms: int, end_ms: int
) -> Iterator[VideoFrame | AudioFrame]:
    """Yield the decoded frames from the last key frame before the clip, until each stream has passed the end."""
    for stream in streams:
        stream.codec_context.thread_count = 1
    position = max(0.0, start_ms / 1000 - _PREROLL_SECONDS)
    if position > 0:
        media.seek(int(position * av.time_base), backward=True)
    running: set[Stream] = set(streams)
    progress = _Progress(start_ms, end_ms)
    for packet in media.demux(streams):
        if packet.stream not in running:
            continue
        for frame in _decode(packet):
            at_ms = 1000 * (frame.time or 0)
            if at_ms >= end_ms:
                running.discard(packet.stream)
                break
            progress.report(at_ms)
            yield frame
        if not running:
            return


class _Progress:
    """Reports how much of the clip is decoded."""

    def __init__(self, start_ms: int, end_ms: int) -> None:
        self._start_ms = start_ms
        self._length_ms = end_ms - start_ms
        self._percent = 0

    def report(self, at_ms: float) -> None:
        percent = int(99 * (at_ms - self._start_ms) / self._length_ms)
        if percent > self._percent:
            self._percent = percent
            send({"percent": percent})


def _decode(packet: "Packet[Any]") -> list[VideoFrame | AudioFrame]:
    """Return the frames of a packet that have a time. A stream may have damaged packets, or begin with frames that
    refer to missing ones.
    """
    try:
        frames = packet.decode()
    except av.error.InvalidDataError:
        return []
    return [one for one in frames if isinstance(one, (VideoFrame, AudioFrame)) and one.time is not None]


class _BoundedFile(io.BytesIO):
    """The clip in memory. Raises MemoryError if it becomes too large."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self._most_bytes = most_bytes

    def write(self, content: bytes) -> int:  # type: ignore[override] # FFmpeg writes bytes only
        if self.tell() + len(content) > self._most_bytes:
            raise MemoryError
        return super().write(content)


class ClipWriter:
    """Encodes the frames and samples inside the bounds. The times of the clip begin at 0."""

    def __init__(
        self, file: io.BytesIO, start_ms: int, end_ms: int, size: tuple[int, int] | None, *, has_audio: bool
    ) -> None:
        self._start = Fraction(start_ms, 1000)
        self._end = Fraction(end_ms, 1000)
        self._webm: OutputContainer = av.open(
            file, "w", format="webm", options={"fflags": "+bitexact", "cues_to_front": "0"}
        )
        self._picture = None if size is None else _Pictures(self._webm, end_ms - start_ms, *size)
        self._sound = _Sounds(self._webm) if has_audio else None
        self._last = Fraction(0)

    def add(self, frame: VideoFrame | AudioFrame) -> None:
        """Add a decoded frame of the file, of which only what lies inside the bounds becomes part of the clip."""
        if frame.pts is None or frame.time_base is None:
            return
        time = frame.pts * frame.time_base - self._start
        length = self._end - self._start
        if isinstance(frame, VideoFrame):
            if self._picture is not None:
                self._picture.add(frame, time, length)
            if time < length:
                self._last = max(self._last, time)
        elif self._sound is not None:
            self._sound.add(frame, time, length)
            self._last = max(self._last, min(length, time + Fraction(frame.samples, frame.sample_rate)))

    def end(self) -> dict[str, int]:
        """Complete the file, and return what it contains."""
        pictures = self._picture.end() if self._picture is not None else 0
        samples = self._sound.end() if self._sound is not None else 0
        if pictures or samples:
            self._webm.close()
        return {"pictures": pictures, "samples": samples, "last_ms": int(self._last * 1000)}


class _Pictures:
    """The video stream of a clip."""

    def __init__(self, webm: OutputContainer, length_ms: int, width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise ObjectRefused
        self._size = _fit(width, height)
        self._webm = webm
        self._stream: VideoStream = webm.add_stream("libvpx-vp9", rate=30, options=dict(_VIDEO_OPTIONS))
        self._stream.codec_context.thread_count = 1
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = _MS
        self._stream.codec_context.gop_size = _KEY_FRAME_SECONDS * 30
        self._length_ms = length_ms
        self._last_ms = -1
        self._count = 0

    def add(self, frame: VideoFrame, time: Fraction, length: Fraction) -> None:
        """Encode the frame if it appears inside the bounds."""
        if not 0 <= time < length:
            return
        if not self._count and time > _BLACK_SECONDS:
            self._encode(_black(*self._size), 0)
        self._encode(frame, int(time * 1000))

    def end(self) -> int:
        """Encode what is left, and return the number of pictures."""
        if not self._count:
            self._encode(_black(*self._size), 0)
        self._webm.mux(self._stream.encode(None))
        return self._count

    def _encode(self, frame: VideoFrame, at_ms: int) -> None:
        at_ms = max(at_ms, self._last_ms + 1)
        if at_ms >= self._length_ms:
            return
        picture = frame.reformat(*self._size, format="yuv420p")
        picture.pts, picture.time_base = at_ms, _MS
        picture.pict_type = av.video.frame.PictureType.NONE
        self._webm.mux(self._stream.encode(picture))
        self._last_ms = at_ms
        self._count += 1


class _Sounds:
    """The audio stream of a clip. Samples are cut at the source's own rate, before they are resampled."""

    def __init__(self, webm: OutputContainer) -> None:
        self._webm = webm
        self._stream: AudioStream = webm.add_stream("libopus", rate=_RATE, layout="stereo")
        self._stream.bit_rate = _AUDIO_BIT_RATE
        self._resampler = av.AudioResampler(format="flt", layout="stereo", rate=_RATE)
        self._source: tuple[str, int, int] | None = None
        self._written = 0
        self._encoded = 0

    def add(self, frame: AudioFrame, time: Fraction, length: Fraction) -> None:
        rate = frame.sample_rate
        source = (frame.format.name, rate, len(frame.layout.channels))
        if self._source is None:
            self._source = source
        if source != self._source:
            raise ObjectRefused
        true = at = round(time * rate)
        whole = round(length * rate)
        if self._written and abs(at - self._written) <= _JITTER_SECONDS * rate:
            at = self._written
        first = max(0, self._written - at, -true)
        last = min(frame.samples, whole - at, whole - true)
        if first >= last:
            return
        if at + first > self._written:
            self._silence(frame, at + first - self._written)
        self._encode(_samples_of(frame, first, last))
        self._written = at + last

    def end(self) -> int:
        """Encode what is left, and return the number of samples at the source's rate."""
        if self._written:
            self._put(self._resampler.resample(None))
            self._webm.mux(self._stream.encode(None))
        return self._written

    def _silence(self, like: AudioFrame, samples: int) -> None:
        """Write silence, in pieces of at most a second."""
        while samples > 0:
            some = min(samples, like.sample_rate)
            self._encode(_samples_of(like, 0, 0, silent=some))
            samples -= some
            self._written += some

    def _encode(self, frame: AudioFrame) -> None:
        self._put(self._resampler.resample(frame))

    def _put(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            frame.pts, frame.time_base = self._encoded, Fraction(1, _RATE)
            self._encoded += frame.samples
            self._webm.mux(self._stream.encode(frame))


def _samples_of(frame: AudioFrame, first: int, last: int, *, silent: int = 0) -> AudioFrame:
    """Return a frame with only these samples of a frame, or with only silence in the same format."""
    samples = silent or last - first
    cut = AudioFrame(format=frame.format.name, layout=frame.layout.name, samples=samples)
    channels = len(frame.layout.channels)
    width = frame.format.bytes * (1 if frame.format.is_planar else channels)
    blank = b"\x80" if frame.format.name.startswith("u8") else b"\0"
    for source, target in zip(frame.planes, cut.planes, strict=True):
        content = blank * (samples * width) if silent else bytes(source)[first * width : last * width]
        target.update(content + bytes(target.buffer_size - len(content)))
    cut.sample_rate = frame.sample_rate
    cut.pts = None
    return cut


def _black(width: int, height: int) -> VideoFrame:
    """Return a black picture."""
    picture = VideoFrame(width, height, "yuv420p")
    for plane, value in zip(picture.planes, (b"\x10", b"\x80", b"\x80"), strict=True):
        plane.update(value * plane.buffer_size)
    return picture


def _fit(width: int, height: int) -> tuple[int, int]:
    """Return a size with the same shape and even sides, of which none exceeds the largest side of a clip."""
    scale = min(1.0, _MAX_SIDE / max(width, height))
    return max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2)


if __name__ == "__main__":
    main()
