"""The tables of an MP4's track, cut into slices that FFmpeg takes for the whole: loaded by the children alone.

A slice's entries stand where the table's first ones are, and their number where its number is; the rest of the box is
then no part of the table. A table that contradicts itself is refused, one of an unusual kind is shown as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from struct import iter_unpack, pack

from app.media.foreign import Object, Refused, inside

_READ_ENTRIES = 4096
_HEADS = {
    b"stts": (8, 8),
    b"stsc": (8, 12),
    b"stsz": (12, 4),
    b"stco": (8, 4),
    b"co64": (8, 8),
    b"ctts": (8, 0),
}
"""How many bytes of a box are before its entries, and of each entry, where we know how to cut them."""


@dataclass(frozen=True)
class _Table:
    start: int
    count: int
    entry_bytes: int

    def entries(self, file: Object, first: int, count: int) -> bytes:
        """As the file has them, whatever is shown."""
        return file.held(self.start + first * self.entry_bytes, count * self.entry_bytes)

    def values(self, file: Object) -> Iterator[tuple[int, ...]]:
        """Of each entry in turn."""
        for first in range(0, self.count, _READ_ENTRIES):
            some = self.entries(file, first, min(_READ_ENTRIES, self.count - first))
            yield from iter_unpack(f">{self.entry_bytes // 4}I", some)

    def show(self, file: Object, entries: bytes | bytearray) -> None:
        """Has these read for all of them."""
        file.put_instead(self.start - 4, pack(">I", len(entries) // self.entry_bytes) + entries)


@dataclass(frozen=True)
class Samples:
    """A track's tables: how long its samples are, how many each chunk holds, their sizes, and where the chunks are."""

    durations: _Table
    runs: _Table
    sizes: _Table
    chunks: _Table

    def hide(self, file: Object) -> None:
        """Shows a track without samples."""
        for table in (self.durations, self.runs, self.sizes, self.chunks):
            table.show(file, b"")

    def show_slices(self, file: Object, most: int) -> Iterator[int]:
        """At most so many samples, or a chunk, one slice after the other: each time, when its first sample begins."""
        if self.sizes.count <= most:
            yield 0
            return
        durations = _Durations(self.durations.values(file))
        chunk = sample = 0
        for runs, chunks, samples in self._slices(file, most):
            samples = min(samples, self.sizes.count - sample)
            if samples < 1:
                return
            begins = durations.end
            self.durations.show(file, durations.take(samples))
            self.runs.show(file, runs)
            self.sizes.show(file, self.sizes.entries(file, sample, samples))
            self.chunks.show(file, self.chunks.entries(file, chunk, chunks))
            yield begins
            chunk, sample = chunk + chunks, sample + samples

    def _slices(self, file: Object, most: int) -> Iterator[tuple[bytes, int, int]]:
        """Of each the runs, how many chunks they are, and of how many samples."""
        runs = bytearray()
        chunks = samples = 0
        for count, each, description in self._runs(file, most):
            if samples and samples + count * each > most:
                yield bytes(runs), chunks, samples
                runs.clear()
                chunks = samples = 0
            runs += pack(">3I", chunks + 1, each, description)
            chunks, samples = chunks + count, samples + count * each
        if samples:
            yield bytes(runs), chunks, samples

    def _runs(self, file: Object, most: int) -> Iterator[tuple[int, int, int]]:
        """How many chunks follow each other, of how many samples each, and how these are described."""
        begins, end = 1, self.chunks.count + 1
        for (first, each, description), (following, *_) in pairwise(chain(self.runs.values(file), [(end,)])):
            if begins == end:
                return
            if first != begins or following <= first or each < 1:
                raise Refused
            while begins < min(following, end):
                count = min(min(following, end) - begins, max(1, most // each))
                yield count, each, description
                begins += count


class _Durations:
    """Of samples, taken from the first one on."""

    def __init__(self, runs: Iterator[tuple[int, ...]]) -> None:
        self.end = 0
        self._runs = runs
        self._left, self._each = 0, 0

    def take(self, samples: int) -> bytes:
        """Of the next ones, of which there must be so many."""
        taken = bytearray()
        while samples:
            while not self._left:
                if (run := next(self._runs, None)) is None:
                    raise Refused
                self._left, self._each = run
            count = min(samples, self._left)
            taken += pack(">2I", count, self._each)
            self.end += count * self._each
            samples, self._left = samples - count, self._left - count
        return bytes(taken)


def samples_of(file: Object, content: int, end: int) -> Samples | None:
    """The tables of a track; None where they are not as usual, as those of uncompressed sound are not."""
    found = [
        (kind, _table(file, kind, start, after))
        for kind, _, start, after in inside(file, content, end, b"mdia", b"minf", b"stbl")
        if kind in _HEADS
    ]
    tables = dict(found)
    tables.setdefault(b"stco", tables.pop(b"co64", None))
    durations, runs, sizes, chunks = map(tables.get, (b"stts", b"stsc", b"stsz", b"stco"))
    if len(found) > 4 or not (durations and runs and sizes and chunks):
        return None
    return Samples(durations, runs, sizes, chunks)


def _table(file: Object, kind: bytes, content: int, end: int) -> _Table | None:
    """None for one that reaches past its box, and for samples that are all of one size."""
    head_bytes, entry_bytes = _HEADS[kind]
    head = file.held(content, head_bytes)
    table = _Table(content + head_bytes, int.from_bytes(head[-4:], "big"), entry_bytes)
    is_within = table.start + table.count * entry_bytes <= end
    return table if is_within and entry_bytes and not any(head[4:-4]) else None
