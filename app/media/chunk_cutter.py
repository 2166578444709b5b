"""Cuts chunks of sound from the decoded samples of a channel, and encodes them as FLAC.

Only the child process `sound_child.py` loads this module.
"""

import io
from collections import deque
from collections.abc import Sequence
from fractions import Fraction

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer

from app.media.loudness import LoudnessMeter
from app.media.sound_tracks import Play
from app.media.timeline import RATE, SAMPLE_BYTES
from app.media.untrusted_files import ObjectRefused, send

_MAX_MISSING = RATE // 4
"""A span may end this much after the sound, because it is slightly longer than its speech."""

_ENCODED_BYTES = 5 * RATE * SAMPLE_BYTES


class ChunkCutter:
    """Cuts the chunks of sound from one channel. `waiting` contains the chunks whose first sample has not been
    decoded yet, in reverse order of their start.
    """

    def __init__(self) -> None:
        self.waiting: list[Chunk] = []
        self._begun: list[Chunk] = []

    @property
    def is_done(self) -> bool:
        return not (self.waiting or self._begun)

    def take(self, at: int, plane: bytes) -> None:
        """Take samples from the decoder, and send the parent process each chunk that they complete."""
        while self.waiting and self.waiting[-1].media_start < at + len(plane) // SAMPLE_BYTES:
            self._begun.append(self.waiting.pop())
        for chunk in self._begun:
            chunk.take(at, plane)
        self._give()

    def end(self) -> None:
        """Send the parent process the remaining chunks. Raises ObjectRefused if the sound ended before the end of a
        chunk.
        """
        if self.waiting or any(chunk.missing > _MAX_MISSING for chunk in self._begun):
            raise ObjectRefused
        for chunk in self._begun:
            chunk.fill_up()
        self._give()

    def _give(self) -> None:
        complete = [chunk for chunk in self._begun if not chunk.missing]
        for chunk in sorted(complete, key=lambda chunk: chunk.media_end):
            self._begun.remove(chunk)
            chunk.give()


def split_by_edits(plays: Sequence[Play], start: int, end: int) -> list["ChunkPart"]:
    """Return the parts of a chunk that together contain the played samples between two positions. Raises
    ObjectRefused if no sound is played between `start` and `end`, or if `end` is later than the end of the played
    sound.
    """
    parts = []
    for play in plays:
        first = max(start, play.start)
        last = end if play.length is None else min(end, play.start + play.length)
        if first >= last:
            continue
        if first > start:
            parts.append(ChunkPart(None, first - start))
        parts.append(ChunkPart(play.media_start + first - play.start, last - first))
        start = last
    if not parts or end - start > _MAX_MISSING:
        raise ObjectRefused
    if start < end:
        parts.append(ChunkPart(None, end - start))
    return parts


class ChunkPart:
    """The part of a chunk whose samples are contiguous in the audio track. If a chunk part does not come from the
    track, its samples are silence.
    """

    def __init__(self, media_start: int | None, samples: int) -> None:
        self.media_start = media_start
        self.samples = samples
        self.missing = 0 if media_start is None else samples
        self.waiting = bytearray(samples * SAMPLE_BYTES if media_start is None else 0)

    def take(self, at: int, plane: bytes) -> None:
        """Take the samples of this part of a chunk from the next decoded samples of the track."""
        if self.media_start is None or not self.missing:
            return
        start = max(0, self.media_start + self.samples - self.missing - at)
        end = max(start, min(len(plane) // SAMPLE_BYTES, self.media_start + self.samples - at))
        self.missing -= end - start
        self.waiting += plane[start * SAMPLE_BYTES : end * SAMPLE_BYTES]


class Chunk:
    """A chunk that is being cut and encoded."""

    def __init__(self, number: int, parts: Sequence[ChunkPart]) -> None:
        self._number = number
        self._parts = deque(parts)
        places = [part for part in parts if part.media_start is not None]
        self.media_start = min(part.media_start or 0 for part in places)
        self.media_end = max((part.media_start or 0) + part.samples for part in places)
        self._encoded = 0
        self._meter = LoudnessMeter()
        self._file = io.BytesIO()
        self._flac: OutputContainer | None = None

    @property
    def missing(self) -> int:
        """Return how many samples of the chunk have not been decoded yet."""
        return sum(part.missing for part in self._parts)

    def take(self, at: int, plane: bytes) -> None:
        """Take the chunk's samples from the next decoded samples of the track."""
        for part in self._parts:
            part.take(at, plane)
        self._encode(_ENCODED_BYTES)

    def fill_up(self) -> None:
        """Fill up the chunk's missing samples with silence."""
        for part in self._parts:
            part.waiting += bytes(part.missing * SAMPLE_BYTES)
            part.missing = 0

    def give(self) -> None:
        """Send the chunk to the parent process."""
        self._encode(1)
        flac, stream = self._output()
        flac.mux(stream.encode(None))
        flac.close()
        frames = self._meter.frames()
        with self._file.getbuffer() as content:
            send(
                {"chunk": self._number, "frame_bytes": len(frames), "size_bytes": len(content)},
                frames,
                content,
            )

    def _output(self) -> tuple[OutputContainer, AudioStream]:
        if self._flac is None:
            self._flac = av.open(self._file, "w", format="flac")
            self._flac.add_stream("flac", rate=RATE, layout="mono", format="s16")
        return self._flac, self._flac.streams.audio[0]

    def _encode(self, least_bytes: int) -> None:
        """Encode the chunk's samples from its beginning to the first missing sample, if they have at least
        `least_bytes` bytes.
        """
        while self._parts:
            part = self._parts[0]
            if len(part.waiting) >= least_bytes or (part.waiting and not part.missing):
                self._encode_some(bytes(part.waiting))
                part.waiting.clear()
            if part.missing:
                return
            self._parts.popleft()

    def _encode_some(self, samples: bytes) -> None:
        self._meter.add_samples(samples)
        flac, stream = self._output()
        frame = AudioFrame(format="s16", layout="mono", samples=len(samples) // SAMPLE_BYTES)
        frame.planes[0].update(samples)
        frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        frame.pts = self._encoded
        self._encoded += frame.samples
        flac.mux(stream.encode(frame))
