"""The child process that decodes the sound of an untrusted file: run by path in an isolated interpreter, never
imported by the app.

It gets no environment, and loads only the project's modules that open the file (`app/media/untrusted_files.py`,
`app/media/mp4_boxes.py`) and place sound on a timeline (`app/media/timeline.py`). It decodes every audio track from the
beginning at 16 kHz, and holds only the chunks that it is cutting. The channels of all tracks are numbered from 0,
in the order of the tracks.

For the task `hear` it repeatedly writes `{"channel": c, "heard": n}` and n bytes: one byte for each 30 ms of that
channel, with its loudness and whether it is speech. The last line also contains `"sound": {...}`. For the task
`cut` it reads the ranges of samples, and writes `{"chunk": number, "heard": h, "size_bytes": n}` for each, followed
by h bytes for the chunk's own frames, and n bytes of FLAC.
"""

import ctypes
import io
import json
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import av.audio.resampler
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard

sys.path.insert(
    0, str(Path(__file__).parents[2])
)  # an isolated interpreter has no script directory on its path

from app.media.loudness import FRAME_SAMPLES, LoudnessMeter
from app.media.mp4_boxes import Boxes, Movie, read_movie
from app.media.timeline import RATE, SAMPLE_BYTES, Allowance, Planes, Track, samples_of
from app.media.turns import MAX_CHANNELS
from app.media.untrusted_files import (
    AUDIO,
    Object,
    ObjectRefused,
    confine,
    is_one_of,
    open_container,
    receive,
    report_refusals,
    send,
)

_SENT_BYTES = 2000
_MAX_MISSING = RATE // 4
"""A span may end this much after the sound, because it is slightly longer than its speech."""

_MAX_CHANNELS_OF_A_TRACK = 8
_ENCODED_BYTES = 5 * RATE * SAMPLE_BYTES
_KEPT_BLOCKS = 2
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class _Play:
    """Samples of a track and their place in the played sound. `length` is None for the rest of the track."""

    start: int
    media_start: int
    length: int | None

    def end(self, media_samples: int) -> int:
        """Return its end in the played sound, for a track with this many samples."""
        rest = max(0, media_samples - self.media_start)
        return self.start + (rest if self.length is None else min(self.length, rest))


_WHOLE = (_Play(0, 0, None),)


def main() -> None:
    """Run the child. Arguments: task, container, size and block size in bytes, address space in bytes, and three
    for the allowance.
    """
    task, container = sys.argv[1:3]
    size_bytes, block_bytes, memory_bytes, *numbers = map(int, sys.argv[3:])
    allowance = Allowance(*numbers)
    _return_freed_memory()
    confine(allowance.cpu_seconds, allowance.max_cpu_seconds, memory_bytes)
    file = Object(size_bytes, block_bytes, _KEPT_BLOCKS)
    report_refusals(lambda: (_measure if task == "measure" else _cut)(file, container, allowance))


def _return_freed_memory() -> None:
    """Make glibc return large blocks at once. Otherwise it keeps memory of finished chunks, more with every hour."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _measure(file: Object, container: str, allowance: Allowance) -> None:
    with _open_sound(file, container, allowance) as sound:
        meters = [LoudnessMeter() for _ in range(sound.channels)]
        media_samples = [0] * sound.channels
        for first, at, planes in sound.samples():
            for number, plane in enumerate(planes, first):
                meters[number].add_samples(plane)
                media_samples[number] = at + samples_of(planes)
        samples = 0
        for number, meter in enumerate(meters):
            plays = sound.plays(number)
            end = max((play.end(media_samples[number]) for play in plays), default=0)
            allowance.grow(end)
            _send_frames(number, _reorder_by_edits(meter.frames(), plays, end, media_samples[number]))
            samples = max(samples, end)
        found = {
            "channels": sound.channels if samples else 0,
            "samples": samples,
            "unused_channels": sound.damaged_channels,
            "unused_tracks": sound.unused_tracks,
        }
        send({"channel": 0, "frame_bytes": 0, "sound": found})


def _reorder_by_edits(frames: bytes, plays: Sequence[_Play], end: int, media_samples: int) -> bytes:
    """Return the frames of a track in the order in which they are played, `end` samples in total."""
    if plays == _WHOLE:
        return frames
    played = bytearray(-(-end // FRAME_SAMPLES))
    for play in plays:
        start, stop = play.start // FRAME_SAMPLES, -(-play.end(media_samples) // FRAME_SAMPLES)
        media_start = play.media_start // FRAME_SAMPLES
        some = frames[media_start : media_start + stop - start]
        played[start : start + len(some)] = some
    return bytes(played)


def _send_frames(channel: int, frames: bytes) -> None:
    for start in range(0, len(frames), _SENT_BYTES):
        sent = frames[start : start + _SENT_BYTES]
        send({"channel": channel, "frame_bytes": len(sent)}, sent)


def _cut(file: Object, container: str, allowance: Allowance) -> None:
    spans = json.loads(receive(int(sys.stdin.buffer.readline())))
    with _open_sound(file, container, allowance) as sound:
        cutters: dict[int, _Cutter] = defaultdict(_Cutter)
        for number, (channel, start, end) in enumerate(spans):
            cutters[channel].waiting.append(_Chunk(number, _parts(sound.plays(channel), start, end)))
        for cutter in cutters.values():
            cutter.waiting.sort(key=lambda chunk: chunk.media_start, reverse=True)
        for first, at, planes in sound.samples(set(cutters)):
            for channel, plane in enumerate(planes, first):
                cutters[channel].take(at, plane)
            if all(cutter.is_done for cutter in cutters.values()):
                return
        for cutter in cutters.values():
            cutter.end()


class _Cutter:
    """The chunks of one channel: those that wait, in reverse order of their start, and those that have begun."""

    def __init__(self) -> None:
        self.waiting: list[_Chunk] = []
        self._begun: list[_Chunk] = []

    @property
    def is_done(self) -> bool:
        return not (self.waiting or self._begun)

    def take(self, at: int, plane: bytes) -> None:
        """Take samples, and send the parent the chunks that they complete."""
        while self.waiting and self.waiting[-1].media_start < at + len(plane) // SAMPLE_BYTES:
            self._begun.append(self.waiting.pop())
        for chunk in self._begun:
            chunk.take(at, plane)
        self._give()

    def end(self) -> None:
        """Send the remaining chunks. Raises Refused if the sound ended before a chunk."""
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


def _parts(plays: Sequence[_Play], start: int, end: int) -> list["_Part"]:
    """Return the parts of which the played samples between two positions consist. Raises Refused if nothing is
    played there, or if `end` is later than the end of the played sound.
    """
    parts = []
    for play in plays:
        first = max(start, play.start)
        last = end if play.length is None else min(end, play.start + play.length)
        if first >= last:
            continue
        if first > start:
            parts.append(_Part(None, first - start))
        parts.append(_Part(play.media_start + first - play.start, last - first))
        start = last
    if not parts or end - start > _MAX_MISSING:
        raise ObjectRefused
    if start < end:
        parts.append(_Part(None, end - start))
    return parts


@dataclass
class _AudioTrack:
    """One track, the number of its first channel, and its number of channels."""

    track: Track
    first: int
    channels: int
    plays: tuple[_Play, ...]
    is_damaged: bool = False


class _Sound:
    """The audio tracks of one file. `channels` counts those of all tracks that can be decoded."""

    def __init__(
        self, file: Object, media: InputContainer, movie: Movie | None, allowance: Allowance
    ) -> None:
        if not media.streams:
            raise ObjectRefused
        self._file, self._media = file, media
        self._is_movie, self._is_fragmented = movie is not None, movie is not None and movie.is_fragmented
        self._tracks: dict[int, _AudioTrack] = {}
        streams = [stream for stream in media.streams.audio if is_one_of(stream, AUDIO)]
        self._undecodable = len(media.streams.audio) - len(streams)
        self.channels = 0
        for stream, layout in zip(streams, _layouts(streams), strict=True):
            stream.codec_context.thread_count = 1
            track = Track(stream, layout.name, allowance, are_discards_lost=self._is_fragmented)
            self._tracks[stream.index] = _AudioTrack(
                track, self.channels, layout.nb_channels, _plays(movie, stream)
            )
            self.channels += layout.nb_channels
        allowance.channels = self.channels

    def plays(self, channel: int) -> tuple[_Play, ...]:
        """Return what is played of the channel's track. Raises Refused for a channel that the file does not have."""
        for one in self._tracks.values():
            if one.first <= channel < one.first + one.channels:
                return one.plays
        raise ObjectRefused

    @property
    def unused_tracks(self) -> int:
        """Return the number of tracks that cannot be decoded or are too damaged."""
        return self._undecodable + sum(one.is_damaged for one in self._tracks.values())

    @property
    def damaged_channels(self) -> list[int]:
        """Return the channels of damaged tracks."""
        damaged = (one for one in self._tracks.values() if one.is_damaged)
        return [number for one in damaged for number in range(one.first, one.first + one.channels)]

    def samples(self, only: AbstractSet[int] | None = None) -> Iterator[tuple[int, int, Planes]]:
        """Yield the number of a track's first channel, the number of the first sample, and samples of each of its
        channels.

        `only` omits the tracks without one of these channels. Raises Refused if every track is damaged, or if the
        file ends earlier than its index says.
        """
        wanted = {
            index: one
            for index, one in self._tracks.items()
            if only is None or not only.isdisjoint(range(one.first, one.first + one.channels))
        }
        for stream in self._media.streams:
            if stream.index not in wanted:
                stream.discard = Discard.all
        if not wanted:
            return
        boxes = Boxes(self._file)
        for packet in self._media.demux([self._media.streams[index] for index in wanted]):
            if self._is_fragmented:
                _require_whole_boxes(boxes, packet.pos or 0)
            yield from _read_track(wanted[packet.stream.index], partial(_take, packet))
        for one in wanted.values():
            yield from _read_track(one, Track.end)
            one.is_damaged = one.is_damaged or one.track.has_lost_too_much
        self._require_complete(wanted.values(), boxes)

    def _require_complete(self, tracks: Collection[_AudioTrack], boxes: Boxes) -> None:
        if all(one.is_damaged for one in tracks):
            raise ObjectRefused
        if self._is_fragmented:
            _require_whole_boxes(boxes, self._file.size_bytes)
        elif self._is_movie and any(one.track.ends_too_early for one in tracks if not one.is_damaged):
            raise ObjectRefused


def _require_whole_boxes(boxes: Boxes, until: int) -> None:
    """Raise Refused if the file ends inside a box, because FFmpeg would treat the rest as the whole file."""
    for _ in boxes.walk(until):
        pass


def _take(packet: "Packet[Any]", track: Track) -> Iterator[tuple[int, Planes]]:
    return track.take(packet)


def _read_track(
    one: _AudioTrack, give: Callable[[Track], Iterator[tuple[int, Planes]]]
) -> Iterator[tuple[int, int, Planes]]:
    """Yield what a track yields, with its first channel; nothing for a damaged track."""
    if one.is_damaged:
        return
    try:
        for at, planes in give(one.track):
            yield one.first, at, planes
    except ObjectRefused:
        one.is_damaged = True


def _layouts(streams: Sequence[AudioStream]) -> list[AudioLayout]:
    """Return the layout to which each track is resampled: unchanged, or mixed if there would be more than
    MAX_CHANNELS in total.
    """
    layouts = [stream.codec_context.layout for stream in streams]
    mono = AudioLayout("mono")
    for most in (_MAX_CHANNELS_OF_A_TRACK, 2, 1):
        layouts = [layout if 0 < layout.nb_channels <= most else mono for layout in layouts]
        if sum(layout.nb_channels for layout in layouts) <= MAX_CHANNELS:
            break
    return layouts


def _plays(movie: Movie | None, stream: AudioStream) -> tuple[_Play, ...]:
    edits = movie.edits.get(stream.id) if movie is not None else None
    if edits is None:
        return _WHOLE
    return tuple(
        _Play(
            round(edit.start * RATE),
            round(edit.media_start * RATE),
            None if edit.length is None else round(edit.length * RATE),
        )
        for edit in edits
        if edit.media_start is not None
    )


@contextmanager
def _open_sound(file: Object, container: str, allowance: Allowance) -> Iterator[_Sound]:
    movie = read_movie(file) if container == "mp4" else None
    # FFmpeg plays parts that some edit lists leave out, so it yields the whole track, and we apply the edit list.
    with open_container(file, container, ignore_editlist="1") as media:
        yield _Sound(file, media, movie, allowance)


class _Part:
    """Samples of a chunk that are contiguous in the track. Samples without a place in the track are silence."""

    def __init__(self, media_start: int | None, samples: int) -> None:
        self.media_start = media_start
        self.samples = samples
        self.missing = 0 if media_start is None else samples
        self.waiting = bytearray(samples * SAMPLE_BYTES if media_start is None else 0)

    def take(self, at: int, plane: bytes) -> None:
        """Take the part's samples from these samples, which follow the previous ones."""
        if self.media_start is None or not self.missing:
            return
        start = max(0, self.media_start + self.samples - self.missing - at)
        end = max(start, min(len(plane) // SAMPLE_BYTES, self.media_start + self.samples - at))
        self.missing -= end - start
        self.waiting += plane[start * SAMPLE_BYTES : end * SAMPLE_BYTES]


class _Chunk:
    """One chunk while it is cut and encoded."""

    def __init__(self, number: int, parts: Sequence[_Part]) -> None:
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
        """Return the number of samples that are still missing."""
        return sum(part.missing for part in self._parts)

    def take(self, at: int, plane: bytes) -> None:
        """Take the chunk's samples from these samples, which follow the previous ones."""
        for part in self._parts:
            part.take(at, plane)
        self._encode(_ENCODED_BYTES)

    def fill_up(self) -> None:
        """Use silence for the missing samples."""
        for part in self._parts:
            part.waiting += bytes(part.missing * SAMPLE_BYTES)
            part.missing = 0

    def give(self) -> None:
        """Send the chunk to the parent."""
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
        """Encode the complete samples from the beginning, once there are at least this many bytes."""
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


if __name__ == "__main__":
    main()
