"""The child that hears a foreign file: run by path in an isolated interpreter, never imported by the app.

It is given no environment, and knows of the project only what it opens the file with (`app/media/foreign.py`) and what
its timeline is (`app/media/timeline.py`). It decodes the first audio stream from the beginning, at 16 kHz, and never
holds more than what it is cutting out.

Asked to `hear`, it says `{"heard": n}` and n bytes, again and again: a byte for each 30 ms of each channel in turn,
how loud and whether it is speech; the last time also `"sound": {...}`. Asked to `cut`, it reads which samples are
wanted, and says `{"piece": number, "size_bytes": n}` and n bytes of FLAC for each, in the order of their ends.
"""

import ctypes
import io
import json
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import log2
from pathlib import Path

import av
import av.audio.resampler
import webrtcvad  # type: ignore[import-untyped]  # comes without types
from av.audio.frame import AudioFrame

sys.path.insert(0, str(Path(__file__).parents[2]))  # an isolated interpreter looks beside no program

from app.media.foreign import (
    Object,
    Refused,
    Sound,
    confine,
    decodable,
    heard,
    judged,
    opened,
    tell,
)
from app.media.mp4 import sound_of_mp4
from app.media.timeline import RATE, SAMPLE_BYTES, Allowance, Planes, Timeline, samples_of

_FRAME_BYTES = RATE * 30 // 1000 * SAMPLE_BYTES
_SILENCE = bytes(_FRAME_BYTES)
_SPEECH = 0x80
_LOUDEST = 0x7F
_STEPS = 8
"""Of loudness, to its double."""

_EVERY = 4
"""Of so many samples one tells how loud they are."""

_STRICTEST = 3
_TOLD_BYTES = 2000
_TAKEN_BYTES = 50 * _FRAME_BYTES
_ENCODED_BYTES = 5 * RATE * SAMPLE_BYTES
_KEPT_BLOCKS = 2
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class _Wanted:
    """Samples of a channel, or of all mixed."""

    channel: int | None
    start: int
    end: int


def main() -> None:
    """Arguments: task, container, size and block size in bytes, address space in bytes, the allowance's three."""
    task, container = sys.argv[1:3]
    size_bytes, block_bytes, memory_bytes, *numbers = map(int, sys.argv[3:])
    allowance = Allowance(*numbers)
    _give_memory_back()
    confine(allowance.cpu_seconds, allowance.most_cpu_seconds, memory_bytes)
    file = Object(size_bytes, block_bytes, _KEPT_BLOCKS)
    judged(lambda: (_hear if task == "hear" else _cut)(file, container, allowance))


def _give_memory_back() -> None:
    """Has glibc give what is large back at once: else it keeps room for pieces that are gone, more with every hour."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _hear(file: Object, container: str, allowance: Allowance) -> None:
    with _sound(file, container) as sound:
        channels = 2 if sound is not None and sound[1].channels == 2 else 1
        ears = [_Ear() for _ in range(channels)]
        told = bytearray()
        samples = 0
        for at, planes in Timeline(channels, allowance).samples(sound):
            samples = at + samples_of(planes)
            told += _in_turn([ear.hear(plane) for ear, plane in zip(ears, planes, strict=True)])
            if len(told) >= _TOLD_BYTES:
                tell({"heard": len(told)}, told)
                told.clear()
        told += _in_turn([ear.end() for ear in ears])
        tell(
            {"heard": len(told), "sound": {"channels": channels if samples else 0, "samples": samples}}, told
        )


def _cut(file: Object, container: str, allowance: Allowance) -> None:
    spans = json.loads(heard(int(sys.stdin.buffer.readline())))
    waiting = deque(enumerate(_Wanted(*span) for span in spans))
    channels = 1 if waiting[0][1].channel is None else 2
    begun: list[_Piece] = []
    with _sound(file, container) as sound:
        for at, planes in Timeline(channels, allowance).samples(sound):
            while waiting and waiting[0][1].start < at + samples_of(planes):
                begun.append(_Piece(*waiting.popleft()))
            for piece in begun:
                piece.take(at, planes)
            for piece in sorted((one for one in begun if one.is_complete), key=lambda one: one.wanted.end):
                begun.remove(piece)
                piece.give()
            if not begun and not waiting:
                return
    raise Refused


@contextmanager
def _sound(file: Object, container: str) -> Iterator[Sound | None]:
    """The file's first stream of sound that we can decode, None without one; refuses a file of nothing."""
    if container == "mp4":
        with sound_of_mp4(file) as sound:
            yield sound
        return
    with opened(file, container) as media:
        stream = decodable(media)
        yield None if stream is None else (media.demux(stream), stream.codec_context)


class _Ear:
    """Hears one channel: a byte for each 30 ms."""

    def __init__(self) -> None:
        self._vad = webrtcvad.Vad(_STRICTEST)
        self._waiting = bytearray()

    def hear(self, plane: bytes) -> bytes:
        self._waiting += plane
        if len(self._waiting) < _TAKEN_BYTES:
            return b""
        return self._told()

    def end(self) -> bytes:
        """What is left, filled up with silence."""
        self._waiting += bytes(-len(self._waiting) % _FRAME_BYTES)
        return self._told()

    def _told(self) -> bytes:
        size = len(self._waiting) // _FRAME_BYTES * _FRAME_BYTES
        taken = bytes(self._waiting[:size])
        del self._waiting[:size]
        return bytes(
            self._frame(taken[start : start + _FRAME_BYTES]) for start in range(0, size, _FRAME_BYTES)
        )

    def _frame(self, frame: bytes) -> int:
        return _loudness(frame) | (_SPEECH if self._vad.is_speech(frame, RATE) else 0)


def _loudness(frame: bytes) -> int:
    if frame == _SILENCE:  # of which a file may claim hours for nothing
        return 0
    some = memoryview(frame).cast("h")[::_EVERY]
    return min(_LOUDEST, round(_STEPS * log2(1 + sum(map(abs, some)) / len(some))))


class _Piece:
    """One piece while it is cut out and encoded."""

    def __init__(self, number: int, wanted: _Wanted) -> None:
        self.wanted = wanted
        self._number = number
        self._waiting = bytearray()
        self._taken = self._encoded = 0
        self._file = io.BytesIO()
        self._flac = av.open(self._file, "w", format="flac")
        self._stream = self._flac.add_stream("flac", rate=RATE, layout="mono", format="s16")

    @property
    def is_complete(self) -> bool:
        return self._taken == self.wanted.end - self.wanted.start

    def take(self, at: int, planes: Planes) -> None:
        """What is wanted of these samples, which follow those before."""
        plane = planes[self.wanted.channel or 0]
        start = max(0, self.wanted.start - at)
        end = max(start, min(samples_of(planes), self.wanted.end - at))
        self._taken += end - start
        self._waiting += plane[start * SAMPLE_BYTES : end * SAMPLE_BYTES]
        if len(self._waiting) >= _ENCODED_BYTES:
            self._encode()

    def give(self) -> None:
        """To the parent."""
        self._encode()
        self._flac.mux(self._stream.encode(None))
        self._flac.close()
        with self._file.getbuffer() as content:
            tell({"piece": self._number, "size_bytes": len(content)}, content)

    def _encode(self) -> None:
        if self._waiting:
            samples = len(self._waiting) // SAMPLE_BYTES
            frame = AudioFrame(format="s16", layout="mono", samples=samples)
            frame.planes[0].update(bytes(self._waiting))
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            frame.pts = self._encoded
            self._encoded += samples
            self._flac.mux(self._stream.encode(frame))
            self._waiting.clear()


def _in_turn(channels: list[bytes]) -> bytes:
    return bytes(byte for frame in zip(*channels, strict=True) for byte in frame)


if __name__ == "__main__":
    main()
