"""Checks the boxes of an MP4 file (ISO/IEC 14496-12) before FFmpeg reads the file. Only the child processes that
read media files load this module.

FFmpeg reports no error for a truncated MP4 file. If a data reference in an MP4 file names another file, FFmpeg
reads the samples from that other file. With some edit lists, FFmpeg also plays parts of the track that the edit
list leaves out (FFmpeg 8, tried 2026-11-29 with an empty edit that is not the first). Because FFmpeg does not check
the boxes well enough, the child process reads the boxes itself. The child refuses truncated files and references to
other files, and applies the edit lists.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from app.media.untrusted_files import Object, ObjectRefused

Box = tuple[bytes, int, int]
"""The kind of a box, the start of its content, and its end."""

_HEADER_BYTES = 8
_LONG_HEADER_BYTES = 16
_IS_LONG = 1
_MAX_BOXES = 100_000
_MAX_REFERENCE_CONTENT_BYTES = 8
"""The version and flags of a data reference, and four bytes of padding. A longer reference names a file."""

_SELF_CONTAINED = 1
_MAX_EDITS = 10_000
_CONTAINERS = {b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"udta", b"mvex", b"edts"}
_COMPRESSED = b"cmov"


class Boxes:
    """The top-level boxes of an MP4 file. Each box is read once, and no box after the requested one is read."""

    def __init__(self, file: Object) -> None:
        self._file = file
        self._next = 0
        self._count = 0

    def walk(self, until: int) -> Iterator[Box]:
        """Yield the boxes that begin before `until`, up to the first bytes that are not a box.

        The method does not change the current position of the file object. Raises ObjectRefused for a box that ends
        after the end of the file.
        """
        while self._next < min(until, self._file.size_bytes):
            position = self._file.tell()
            box = _read(self._file, self._next, self._file.size_bytes)
            self._file.seek(position)
            if box is None:
                self._next = self._file.size_bytes
                return
            self._count += 1
            self._next = box[2]
            if self._next > self._file.size_bytes or self._count > _MAX_BOXES:
                raise ObjectRefused
            yield box


@dataclass(frozen=True)
class Edit:
    """A stretch of a track that a player plays, with its times in seconds.

    `start` is the position of the stretch in the played sound. `media_start` is the position of the stretch in the
    track, or None if the stretch is silence. `length` is None if the stretch extends to the end of the track.
    """

    start: float
    media_start: float | None
    length: float | None


@dataclass(frozen=True)
class Movie:
    """The parsed `moov` box of an MP4. `edits` contains the edit list of each track that has one, by the track's
    id.
    """

    is_fragmented: bool
    edits: dict[int, tuple[Edit, ...]]


def read_movie(file: Object) -> Movie:
    """Read and check the boxes of the MP4 file before FFmpeg reads them. Raises ObjectRefused if a box ends after
    the end of the file, if the movie's data is or may be in another file, or if an edit list is unreadable.
    """
    edits: dict[int, tuple[Edit, ...]] | None = None
    is_fragmented = False
    for kind, content, end in Boxes(file).walk(file.size_bytes):
        if kind == b"moov" and edits is None:
            _refuse_outside_data(file, content, end)
            edits = _read_tracks(file, content, end)
        is_fragmented = is_fragmented or kind == b"moof"
        if is_fragmented and edits is not None:
            break
    file.seek(0)
    edits = edits or {}
    if is_fragmented:
        edits = {track: _to_the_end(of_track) for track, of_track in edits.items()}
    return Movie(is_fragmented, edits)


def _to_the_end(edits: tuple[Edit, ...]) -> tuple[Edit, ...]:
    """Return the edits of a track, with the last edit extended to the end of the track. The program that wrote a
    fragmented movie did not know the end of the track when it wrote the edit list.
    """
    *before, last = edits
    return (*before, Edit(last.start, last.media_start, None))


def _read_tracks(file: Object, start: int, end: int) -> dict[int, tuple[Edit, ...]]:
    scale = 0
    edits = {}
    for kind, content, box_end in _boxes(file, start, end):
        if kind == b"mvhd":
            scale = _after_times(file, content)
        if kind == b"trak":
            track, its_edits = _read_track(file, content, box_end, scale)
            if its_edits:
                edits[track] = its_edits
    return edits


def _read_track(file: Object, start: int, end: int, movie_scale: int) -> tuple[int, tuple[Edit, ...]]:
    track = media_scale = 0
    edit_list: tuple[int, int] | None = None
    for kind, content, box_end in _all_boxes(file, start, end):
        if kind == b"tkhd":
            track = _after_times(file, content)
        elif kind == b"mdhd":
            media_scale = _after_times(file, content)
        elif kind == b"elst" and edit_list is None:
            edit_list = content, box_end
    if edit_list is None:
        return track, ()
    if not (movie_scale and media_scale):
        raise ObjectRefused
    return track, tuple(_read_edits(file, *edit_list, movie_scale, media_scale))


def _read_edits(file: Object, content: int, end: int, movie_scale: int, media_scale: int) -> Iterator[Edit]:
    file.seek(content)
    head = file.read(8)
    is_long, count = head[0] == 1, int.from_bytes(head[4:], "big")
    number_bytes = 8 if is_long else 4
    entry_bytes = 2 * number_bytes + 4
    if count > _MAX_EDITS or content + 8 + count * entry_bytes > end:
        raise ObjectRefused
    start = 0
    for number in range(count):
        entry = file.read(entry_bytes)
        length = int.from_bytes(entry[:number_bytes], "big")
        media_start = int.from_bytes(entry[number_bytes : 2 * number_bytes], "big", signed=True)
        rate = int.from_bytes(entry[-4:], "big", signed=True)
        is_silent = media_start < 0 or rate == 0
        yield Edit(
            start / movie_scale,
            None if is_silent else media_start / media_scale,
            None if length == 0 and number == count - 1 else length / movie_scale,
        )
        start += length


def _after_times(file: Object, content: int) -> int:
    """Return the number after the two timestamps of an `mvhd`, `mdhd` or `tkhd` box; the timestamps have 32 or 64
    bits.
    """
    file.seek(content)
    head = file.read(24)
    at = 20 if head[:1] == b"\1" else 12
    return int.from_bytes(head[at : at + 4], "big")


def _all_boxes(file: Object, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two positions of the file, and the boxes inside those boxes."""
    for kind, content, box_end in _boxes(file, start, end):
        yield kind, content, box_end
        if kind in _CONTAINERS:
            yield from _all_boxes(file, content, box_end)
        if kind == b"meta":  # QuickTime writes no version in this box, and other writers do
            yield from _all_boxes(file, content, box_end)
            yield from _all_boxes(file, content + 4, box_end)


def _refuse_outside_data(file: Object, start: int, end: int) -> None:
    for kind, content, box_end in _all_boxes(file, start, end):
        if kind == _COMPRESSED:
            raise ObjectRefused
        if kind == b"dref":
            _refuse_outside_references(file, content, box_end)


def _refuse_outside_references(file: Object, content: int, end: int) -> None:
    file.seek(content)
    count = int.from_bytes(file.read(8)[4:], "big")
    references = list(_boxes(file, content + 8, end))
    if len(references) != count:
        raise ObjectRefused
    for _, reference, reference_end in references:
        file.seek(reference)
        flags = int.from_bytes(file.read(4)[1:], "big")
        is_short = 4 <= reference_end - reference <= _MAX_REFERENCE_CONTENT_BYTES
        if not (flags & _SELF_CONTAINED and is_short):
            raise ObjectRefused


def _boxes(file: Object, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two positions, up to the first bytes that are not a box.

    If a box ends after `end`, the function cuts the box at `end`, as FFmpeg does.
    """
    for _ in range(_MAX_BOXES):
        box = _read(file, start, end)
        if box is None:
            return
        kind, content, start = box
        yield kind, content, min(start, end)
    raise ObjectRefused


def _read(file: Object, start: int, end: int) -> Box | None:
    """Return the box that begins at `start`, or None if the bytes there are not a box."""
    if start + _HEADER_BYTES > end:
        return None
    file.seek(start)
    header = file.read(_LONG_HEADER_BYTES)
    size, header_bytes = int.from_bytes(header[:4], "big"), _HEADER_BYTES
    if size == _IS_LONG:
        size, header_bytes = int.from_bytes(header[8:], "big"), _LONG_HEADER_BYTES
    box_end = start + size if size else end
    return (header[4:8], start + header_bytes, box_end) if box_end >= start + header_bytes else None
