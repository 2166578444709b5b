"""A track's tables in slices: together they tell what the whole tells, and a contradiction is refused."""

from collections.abc import Iterator
from itertools import accumulate, groupby, pairwise
from struct import calcsize, iter_unpack, pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.media.foreign import Object, Refused, inside
from app.media.samples import Samples, samples_of

BLOCK_BYTES = 100
Sample = tuple[int, int, int, int]
"""How long and how large it is, where its chunk begins, and how that is described."""


class Stored(Object):
    """An object in memory."""

    def __init__(self, content: bytes) -> None:
        super().__init__(len(content), BLOCK_BYTES, kept_blocks=2)
        self._content = content

    def _ask(self, number: int) -> bytes:
        return self._content[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]


def _box(kind: bytes, content: bytes) -> bytes:
    return pack(">I4s", 8 + len(content), kind) + content


def _table(kind: bytes, *entries: tuple[int, ...], form: str = "I", count: int | None = None) -> bytes:
    head = bytes(8) if kind == b"stsz" else bytes(4)
    values = b"".join(pack(f">{len(entry)}{form}", *entry) for entry in entries)
    return _box(kind, head + pack(">I", len(entries) if count is None else count) + values)


def _track(*tables: bytes) -> Stored:
    return Stored(_box(b"mdia", _box(b"minf", _box(b"stbl", b"".join(tables)))))


def _samples(file: Stored) -> Samples | None:
    return samples_of(file, 0, file.size_bytes)


def _entries(file: Stored, kind: bytes, form: str) -> list[tuple[int, ...]]:
    """Of a table, as whoever reads the object finds it."""
    head = 12 if kind == b"stsz" else 8
    for one, _, content, end in inside(file, 0, file.size_bytes, b"mdia", b"minf", b"stbl"):
        if one == kind:
            file.seek(content)
            box = file.read(end - content)
            count = int.from_bytes(box[head - 4 : head], "big")
            return list(iter_unpack(form, box[head : head + count * calcsize(form)]))
    raise AssertionError(kind)


def _told(file: Stored) -> list[Sample]:
    """What the tables say of each sample."""
    durations = [each for count, each in _entries(file, b"stts", ">2I") for _ in range(count)]
    offsets = [offset for (offset,) in _entries(file, b"co64", ">Q")]
    runs = [*_entries(file, b"stsc", ">3I"), (len(offsets) + 1, 0, 0)]
    chunks = [
        (offsets[number - 1], description)
        for (first, each, description), (following, *_) in pairwise(runs)
        for number in range(first, following)
        for _ in range(each)
    ]
    sizes = [size for (size,) in _entries(file, b"stsz", ">I")]
    return [(d, size, *chunk) for d, size, chunk in zip(durations, sizes, chunks, strict=True)]


def _runs(values: list[tuple[int, ...]]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """How many are equal, one after the other."""
    for value, some in groupby(values):
        yield len(list(some)), value


@st.composite
def tracks(draw: st.DrawFn) -> Stored:
    """With chunks of one sample to many, described in two ways, of steady and of changing durations and sizes."""
    chunks = draw(
        st.lists(st.tuples(st.integers(1, 4) | st.just(30), st.integers(1, 2)), min_size=1, max_size=40)
    )
    total = sum(each for each, _ in chunks)
    durations = draw(st.lists(st.integers(0, 3) | st.just(1024), min_size=total, max_size=total))
    firsts = accumulate((count for count, _ in _runs(list(chunks))), initial=1)
    return _track(
        _table(b"stts", *((count, each) for count, (each,) in _runs([(one,) for one in durations]))),
        _table(
            b"stsc", *((first, *run) for first, (_, run) in zip(firsts, _runs(list(chunks)), strict=False))
        ),
        _table(b"stsz", *((100 + number,) for number in range(total))),
        _table(b"co64", *((2**33 + number,) for number in range(len(chunks))), form="Q"),
    )


@given(tracks(), st.integers(1, 50))
def test_slices_tell_together_what_the_whole_tells(file: Stored, most: int) -> None:
    whole = _told(file)
    samples = _samples(file)
    assert samples is not None

    told: list[Sample] = []
    for begins in samples.show_slices(file, most):
        part = _told(file)
        assert begins == sum(duration for duration, *_ in told)
        assert 0 < len(part) <= most or len({offset for *_, offset, _ in part}) == 1
        told += part

    assert told == whole


@given(tracks())
def test_a_hidden_track_has_no_samples(file: Stored) -> None:
    samples = _samples(file)
    assert samples is not None
    samples.hide(file)
    assert _told(file) == []


STTS = _table(b"stts", (9, 1024))
STSC = _table(b"stsc", (1, 3, 1))
STSZ = _table(b"stsz", *((5,) for _ in range(9)))
STCO = _table(b"stco", (0,), (50,), (90,))


@pytest.mark.parametrize(
    "tables",
    [
        (STTS, STSC, STSZ),
        (STTS, STSC, STSZ, STCO, STCO),
        (STTS, STSC, STSZ, STCO, _table(b"ctts", (9, 1))),
        (STTS, STSC, _box(b"stsz", pack(">3I", 0, 4, 9)), STCO),
        (STTS, STSC, _table(b"stsz", count=2**32 - 1), STCO),
        (_table(b"stts", (9, 1024), count=2), STSC, STSZ, STCO),
        (STTS, STSC, STSZ, _box(b"stco", bytes(3))),
    ],
)
def test_tables_that_are_not_as_usual_are_left_as_they_are(tables: tuple[bytes, ...]) -> None:
    assert _samples(_track(*tables)) is None


@pytest.mark.parametrize(
    ("durations", "runs"),
    [
        (((9, 1024),), ((2, 3, 1),)),
        (((9, 1024),), ((1, 0, 1),)),
        (((9, 1024),), ((1, 1, 1), (1, 3, 1))),
        (((9, 1024),), ((1, 1, 1), (3, 1, 1), (2, 3, 1))),
        (((2, 1024),), ((1, 3, 1),)),
    ],
)
def test_tables_that_contradict_themselves_are_refused(
    durations: tuple[tuple[int, ...], ...], runs: tuple[tuple[int, ...], ...]
) -> None:
    file = _track(_table(b"stts", *durations), _table(b"stsc", *runs), STSZ, STCO)
    samples = _samples(file)
    assert samples is not None
    with pytest.raises(Refused):
        list(samples.show_slices(file, 2))


def test_chunks_that_claim_more_samples_than_there_are_end_with_the_last() -> None:
    file = _track(STTS, _table(b"stsc", (1, 2**32 - 1, 1)), STSZ, STCO)
    samples = _samples(file)
    assert samples is not None
    assert list(samples.show_slices(file, 2)) == [0]
    assert len(_entries(file, b"stsz", ">I")) == 9
