"""The sound of an MP4, of which FFmpeg is shown one slice after the other: loaded by the children alone.

FFmpeg keeps an index of every sample that it is shown, some 40 bytes each: of twelve hours of sound 80 MB, of their
pictures 150 MB. So it is shown one track, and of a long one so many samples at a time, each time as if they were all.
One decoder hears them all, so nothing is lost or doubled where a slice ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from app.media.foreign import Box, Object, Refused, Sound, boxes, decodable, inside, is_fragmented, opened
from app.media.samples import Samples, samples_of

MOST_SAMPLES = 2**18
"""Of a slice, which ends with a chunk or a fragment: 90 minutes of AAC, of which FFmpeg's index takes 10 MB."""

_MOST_TRACKS = 16
_LEAST_FOUND = 0.9
_FREE = b"free"


@contextmanager
def sound_of_mp4(file: Object) -> Iterator[Sound | None]:
    """The first track of sound that we can decode, None without one; refuses a file of nothing, or that ends early."""
    is_fragmented(file)
    tracks = [box for box in inside(file, 0, file.size_bytes, b"moov") if box[0] == b"trak"]
    if not tracks:
        raise Refused
    sounds = [track for track in tracks if _is_sound(file, track)]
    for _, start, *_ in tracks:
        file.put_instead(start + 4, _FREE)
    for track in sounds[:_MOST_TRACKS]:
        kind, start, *_ = track
        slices = _slices(file, track)
        file.put_instead(start + 4, kind)
        slices.show_next()
        with _opened(file) as media:
            if (stream := decodable(media)) is not None:
                yield _packets(file, media, stream, slices), stream.codec_context
                return
        file.put_instead(start + 4, _FREE)
    yield None


def _is_sound(file: Object, track: Box) -> bool:
    for kind, _, content, _ in inside(file, *track[2:], b"mdia"):
        if kind == b"hdlr":
            return file.held(content + 8, 4) == b"soun"
    return False


def _opened(file: Object) -> InputContainer:
    file.seek(0)
    # For edits FFmpeg would copy its index; without them it heeds when the sound begins, not what was cut.
    return opened(file, "mp4", advanced_editlist="0")


def _packets(
    file: Object, media: InputContainer, stream: AudioStream, slices: "_Slices"
) -> Iterator["Packet[Any]"]:
    yield from _placed(media, stream, slices)
    end: Packet[Any] = Packet()
    end.time_base = stream.time_base or end.time_base
    media.close()
    while slices.show_next():
        with _opened(file) as media:
            if (following := decodable(media)) is None:
                raise Refused
            for number, packet in enumerate(_placed(media, following, slices)):
                yield packet if number else _uncut(packet)
    yield end


def _placed(media: InputContainer, stream: AudioStream, slices: "_Slices") -> Iterator["Packet[Any]"]:
    for packet in media.demux(stream):
        is_the_end = packet.dts is None and not packet.size
        if is_the_end or not slices.place(packet):
            break
        yield packet
    slices.end(stream.duration or 0)


def _uncut(packet: "Packet[Any]") -> "Packet[Any]":
    """Without the mark that sound is to be left out, as it is of a track's beginning."""
    copy: Packet[Any] = Packet(bytes(packet))
    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
    for one in packet.iter_sidedata():
        if one.data_type != "skip_samples":
            copy.set_sidedata(one)
    return copy


class _Slices(Protocol):
    def show_next(self) -> bool:
        """Has FFmpeg see the next slice when it opens the file, if there is one."""

    def place(self, packet: "Packet[Any]") -> bool:
        """Puts the packet where it is in the whole track; False if the next slice begins with it."""

    def end(self, duration: int) -> None:
        """Refuses a slice, said to be so long, that was not found to its end: FFmpeg takes what there is for all."""


def _slices(file: Object, track: Box) -> _Slices:
    samples = samples_of(file, *track[2:])
    fragment = next((box for box in boxes(file, 0, file.size_bytes) if box[0] == b"moof"), None)
    if fragment is not None:
        return _Fragments(file, samples, fragment)
    edits = [start for kind, start, *_ in boxes(file, *track[2:]) if kind == b"edts"]
    return _Tables(file, samples, edits)


class _Tables:
    """What the movie itself tells of a track: FFmpeg takes each slice for the beginning."""

    def __init__(self, file: Object, samples: Samples | None, edits: list[int]) -> None:
        self._file = file
        self._edits = edits
        self._begins = iter([0]) if samples is None else samples.show_slices(file, MOST_SAMPLES)
        self._first: int | None = None
        self._late = self._found = 0

    def show_next(self) -> bool:
        if (begins := next(self._begins, None)) is None:
            return False
        if self._first is not None:
            self._late = self._first + begins
            for start in self._edits:
                self._file.put_instead(start + 4, _FREE)
        return True

    def place(self, packet: "Packet[Any]") -> bool:
        self._found += packet.duration or 0
        if self._first is None:
            self._first = packet.dts
        if packet.dts is not None:
            packet.dts += self._late
        if packet.pts is not None:
            packet.pts += self._late
        return True

    def end(self, duration: int) -> None:
        """As of all slices; a packet lasts until the next one, as an index has it."""
        if self._found < duration * _LEAST_FOUND:
            raise Refused
        self._found = 0


class _Fragments:
    """What a movie's fragments tell of a track, each with its time, after what the movie itself tells."""

    def __init__(self, file: Object, samples: Samples | None, first: Box) -> None:
        self._file = file
        self._samples = samples if _has_times(file, first) else None
        self._first = self._after = first[1]
        self._boxes = boxes(file, self._first, file.size_bytes, most=file.size_bytes)
        self._is_begun = False
        self._packets = 0
        self._next: int | None = None

    def show_next(self) -> bool:
        if not self._is_begun:
            self._is_begun = True
            return True
        if self._next is None or self._samples is None:
            return False
        self._samples.hide(self._file)
        if size := self._next - self._first:
            self._file.put_instead(self._first, b"\0\0\0\1" + _FREE + size.to_bytes(8, "big"))
        self._packets, self._next = 0, None
        return True

    def place(self, packet: "Packet[Any]") -> bool:
        self._packets += 1
        begins = self._begun(packet.pos or 0)
        if begins is None or self._packets <= MOST_SAMPLES or self._samples is None:
            return True
        self._next = begins
        return False

    def end(self, duration: int) -> None:
        """As of all slices; the last fragments tell how long the sound is, so they must not end amid a box."""
        if self._next is None:
            after = max((after for *_, after in self._boxes), default=self._after)
            if after < self._file.size_bytes:
                raise Refused

    def _begun(self, position: int) -> int | None:
        """The last fragment that begins before it, if none was seen there before."""
        begun, at = None, self._file.tell()
        while self._after <= position:
            box = next(self._boxes, None)
            if box is None:
                break
            kind, start, _, self._after = box
            begun = start if kind == b"moof" else begun
        self._file.seek(at)
        return begun


def _has_times(file: Object, fragment: Box) -> bool:
    return any(kind == b"tfdt" for kind, *_ in inside(file, *fragment[2:], b"traf"))
