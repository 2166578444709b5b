"""The child process that makes a thumbnail of an untrusted file. The app never imports this module, but runs the
module's file by its path in an isolated interpreter.

The child decodes some ten pictures that are spread over the file, mostly key frames, and about one second of video
after each. It leaves out pictures that are black, white or of one colour, and pictures of a fade, and chooses the one
with the most contrast. The child writes `{"size_bytes": n}` and the n bytes of a JPEG; n is 0 if it chose no picture.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.video.reformatter  # PyAV would otherwise load it later, when nothing can be opened any more
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

sys.path.insert(
    0, str(Path(__file__).parents[2])
)  # an isolated interpreter has no script directory on its path

from app.media.untrusted_files import (
    VIDEO,
    Object,
    ObjectRefused,
    confine,
    is_one_of,
    open_container,
    report_refusals,
    send,
)

_KEPT_BLOCKS = 6
_CANDIDATES = 10
_SECONDS_AFTER = 1.0
"""The child compares a picture with those of this time after it, to see whether the picture fades."""

_MOST_FRAMES = 3000
_MOST_WIDTH, _MOST_HEIGHT = 320, 180
_MOST_BYTES = 48 * 1024
_QUALITIES = (4, 10, 31)
"""FFmpeg's quality scale of JPEG, best first. A worse one is used only if the JPEG would be too large."""

_SMALL_WIDTH, _SMALL_HEIGHT = 64, 36
_LEAST_MEAN, _MOST_MEAN = 24.0, 231.0
_LEAST_DEVIATION = 10.0
_CHANGED = 2
_FADING_SHARE = 0.3
_STEADY_SHARE = 0.8


@dataclass(frozen=True)
class Candidate:
    """A picture, and the luminance of few pixels of the picture and of the pictures within a second after it."""

    frame: VideoFrame
    luminance: list[bytes]

    @property
    def deviation(self) -> float:
        """Return the standard deviation of the picture's luminance."""
        pixels = self.luminance[0]
        mean = sum(pixels) / len(pixels)
        return float((sum((one - mean) ** 2 for one in pixels) / len(pixels)) ** 0.5)

    @property
    def is_suitable(self) -> bool:
        """Return whether the picture is neither black, white nor of one colour, and is not part of a fade."""
        mean = sum(self.luminance[0]) / len(self.luminance[0])
        is_seen = _LEAST_MEAN <= mean <= _MOST_MEAN and self.deviation >= _LEAST_DEVIATION
        return is_seen and not is_fading(self.luminance)


def is_fading(luminance: list[bytes]) -> bool:
    """Return whether the pictures fade: a large part of the pixels changes at a steady rate, from the first picture
    to the last. That is so in a fade from or to black or white, and in a fade from one scene to another, but hardly
    where something moves.
    """
    if len(luminance) < 3:
        return False
    first, middle, last = luminance[0], luminance[len(luminance) // 2], luminance[-1]
    changed = steady = 0
    share = (len(luminance) // 2) / (len(luminance) - 1)
    for begin, between, end in zip(first, middle, last, strict=True):
        change = end - begin
        if abs(change) >= _CHANGED:
            changed += 1
            steady += abs(between - begin - change * share) <= max(1.0, abs(change) / 4)
    return changed >= _FADING_SHARE * len(first) and steady >= _STEADY_SHARE * changed


def main() -> None:
    """Run the child process. The child's arguments are the container format, the duration in milliseconds, the size
    of the object, the size of a block in bytes, the limit of CPU seconds, and the limit of the address space in bytes.
    """
    container = sys.argv[1]
    duration_ms, size_bytes, block_bytes, cpu_seconds, memory_bytes = map(int, sys.argv[2:])
    confine(cpu_seconds, cpu_seconds + 1, memory_bytes)
    report_refusals(lambda: _make(Object(size_bytes, block_bytes, _KEPT_BLOCKS), container, duration_ms))


def _make(file: Object, container: str, duration_ms: int) -> None:
    with open_container(file, container) as media:
        video = next((one for one in media.streams.video if is_one_of(one, VIDEO)), None)
        if video is None:
            raise ObjectRefused
        video.codec_context.thread_count = 1
        suitable = [one for one in _candidates(media, video, duration_ms) if one.is_suitable]
        chosen = max(suitable, key=lambda one: one.deviation, default=None)
    jpeg = b"" if chosen is None else _encode(chosen.frame)
    send({"size_bytes": len(jpeg)}, jpeg)


def _candidates(media: InputContainer, video: VideoStream, duration_ms: int) -> Iterator[Candidate]:
    """Yield pictures spread over the file: the key frame before each of some times, or, if an earlier time has the
    same key frame, the picture at the time itself.
    """
    left = _MOST_FRAMES
    seen: set[float] = set()
    for number in range(_CANDIDATES):
        target = duration_ms / 1000 * (number + 0.5) / _CANDIDATES
        media.seek(int(target * av.time_base), backward=True)
        chosen: VideoFrame | None = None
        luminance: list[bytes] = []
        is_first = True
        for frame in _frames(media, video):
            left -= 1
            if left <= 0:
                return
            time = frame.time or 0.0
            if chosen is None:
                is_new = time not in seen and (is_first or time >= target)
                is_first = False
                if not is_new:
                    continue
                seen.add(time)
                chosen = frame
            elif time - (chosen.time or 0.0) > _SECONDS_AFTER:
                break
            luminance.append(_luminance(frame))
        if chosen is not None:
            yield Candidate(chosen, luminance)


def _frames(media: InputContainer, video: VideoStream) -> Iterator[VideoFrame]:
    """Yield the decoded pictures from the present position. A damaged packet has none."""
    for packet in media.demux(video):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        yield from (one for one in frames if isinstance(one, VideoFrame) and one.time is not None)


def _luminance(frame: VideoFrame) -> bytes:
    """Return the luminance of few pixels that are spread over the picture."""
    plane = frame.reformat(
        _SMALL_WIDTH, _SMALL_HEIGHT, format="gray", interpolation=av.video.reformatter.Interpolation.AREA
    ).planes[0]
    content, width = bytes(plane), plane.line_size
    return b"".join(content[row * width : row * width + _SMALL_WIDTH] for row in range(_SMALL_HEIGHT))


def _encode(frame: VideoFrame) -> bytes:
    """Return the picture as a JPEG without metadata, in its own shape and at most as large as a thumbnail may be."""
    scale = min(1.0, _MOST_WIDTH / frame.width, _MOST_HEIGHT / frame.height)
    width, height = (max(2, int(side * scale) // 2 * 2) for side in (frame.width, frame.height))
    jpeg = b""
    for quality in _QUALITIES:
        options = {"flags": "+bitexact", "qmin": str(quality), "qmax": str(quality)}
        codec = av.codec.CodecContext.create("mjpeg", "w")
        codec.width, codec.height, codec.pix_fmt = width, height, "yuvj420p"
        codec.time_base, codec.thread_count, codec.options = Fraction(1, 25), 1, options
        picture = frame.reformat(width, height, format="yuvj420p")
        picture.pts, picture.time_base = 0, Fraction(1, 25)
        picture.pict_type = av.video.frame.PictureType.NONE
        jpeg = b"".join(bytes(packet) for part in (picture, None) for packet in codec.encode(part))
        if len(jpeg) <= _MOST_BYTES:
            return jpeg
    return jpeg


if __name__ == "__main__":
    main()
