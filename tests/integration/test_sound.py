"""Tests of the sound reader with real recordings and with hostile files: which speech it detects, and which chunks
it cuts.
"""

import io
import json
import os
import resource
import signal
import statistics
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, suppress
from dataclasses import replace
from fractions import Fraction
from math import inf
from operator import add
from pathlib import Path
from typing import Any, cast

import anyio
import av
import pytest
from anyio.abc import Process
from av.audio.stream import AudioStream

from app.errors import UpstreamFailed
from app.media import sound
from app.media.probe import Container, MediaRefused
from app.media.sound import BLOCK_BYTES, LIMITS, Limits, cut_chunks, measure_sound
from app.media.sound_plans import MAX_TURN_MS, MAX_WINDOW_MS, Cut, Plan, Span, plan_file
from tests.integration import spoken

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("children")]

FIXTURES = Path(__file__).parent.parent / "fixtures"
CHANNELS = {"doctor": 0, "patient": 1}
RATE = 16_000


@pytest.fixture(scope="module")
def headache() -> bytes:
    return (FIXTURES / "headache.mp4").read_bytes()


@pytest.fixture(scope="module")
def dual() -> bytes:
    return (FIXTURES / "headache.dual.ogg").read_bytes()


class Stored:
    """A stored object that this test holds in memory, and that records every read of the object. Each read of the
    object except the first also calls `meanwhile`.
    """

    def __init__(self, content: bytes, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        self.content = content
        self.read_bytes = 0
        self._meanwhile = meanwhile

    async def read_range(self, start: int, length: int) -> bytes:
        if self._meanwhile is not None and self.read_bytes:
            await self._meanwhile()
        self.read_bytes += length
        return self.content[start : start + length]

    async def plan(self, container: Container = "mp4", cut: Cut = Cut.TURNS, **options: Any) -> Plan:
        return plan_file(await measure_sound(self.read_range, len(self.content), container, **options), cut)

    def chunks(
        self, spans: tuple[Span, ...], container: Container = "mp4", **options: Any
    ) -> AsyncIterator[tuple[Span, bytes]]:
        return cut_chunks(self.read_range, len(self.content), container, spans, **options)


async def _refusal(content: bytes, container: Container = "mp4", **options: Any) -> str:
    with pytest.raises(MediaRefused) as refused:
        await Stored(content).plan(container, **options)
    assert refused.value.detail == {}
    return refused.value.reason


def _remuxed(
    content: bytes, shifted: Callable[[float], float], until: float = inf, /, **options: str
) -> bytes:
    """Return the file, with the times of its sound shifted by the given number of seconds, and cut off at `until`.
    If the file is a video, its pictures do not change.
    """
    target = io.BytesIO()
    with (
        av.open(io.BytesIO(content), "r") as source,
        av.open(target, "w", format="mp4", options=options) as copy,
    ):
        streams = {stream.index: copy.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            if packet.pts * packet.time_base >= until:
                continue
            if packet.stream.type == "audio":
                moved = round(shifted(float(packet.pts * packet.time_base)) / packet.time_base)
                packet.dts += moved
                packet.pts += moved
            packet.stream = streams[packet.stream.index]
            copy.mux(packet)
    return target.getvalue()


def _encoded(
    samples: bytes, *, layout: str = "mono", codec: str = "aac", kind: str = "mp4", rate: int = RATE
) -> bytes:
    """Encode the given interleaved 16-bit samples, and return the sound file."""
    target = io.BytesIO()
    with av.open(target, "w", format=kind, options={"strict": "experimental"}) as file:
        stream = cast("AudioStream", file.add_stream(codec, rate=rate, layout=layout))
        channels = stream.codec_context.channels
        frame = av.AudioFrame(format="s16", layout=layout, samples=len(samples) // 2 // channels)
        frame.planes[0].update(samples)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(stream.format, layout, stream.codec_context.rate, frame_size=size)
        for part in (*resampler.resample(frame), *resampler.resample(None), None):
            file.mux(stream.encode(part))
    return target.getvalue()


def _samples(flac: bytes) -> bytes:
    with av.open(io.BytesIO(flac), "r", format="flac") as file:
        context = file.streams.audio[0].codec_context
        assert (context.rate, context.channels) == (RATE, 1)
        return b"".join(
            bytes(frame.planes[0])[: frame.samples * 2]
            for packet in file.demux()
            for frame in cast("list[av.AudioFrame]", packet.decode())
        )


@pytest.fixture(scope="module")
def speech(headache: bytes) -> bytes:
    """Return the audio samples of twenty seconds of recorded speech."""
    resampler = av.AudioResampler("s16", "mono", RATE)
    with av.open(io.BytesIO(headache), "r") as file:
        frames = [new for old in file.decode(audio=0) for new in resampler.resample(old)]
    return b"".join(bytes(frame.planes[0])[: frame.samples * 2] for frame in frames)[: 20 * RATE * 2]


def _interleaved(*channels: bytes) -> bytes:
    joined = array("h", bytes(len(channels) * len(channels[0])))
    for number, one in enumerate(channels):
        joined[number :: len(channels)] = array("h", one)
    return joined.tobytes()


@pytest.mark.parametrize(("name", "container"), [("headache.mp4", "mp4"), ("headache.dual.ogg", "ogg")])
async def test_plan_finds_every_turn_of_a_consultation_where_it_begins(
    name: str, container: Container
) -> None:
    turns = json.loads((FIXTURES / "headache.ref.json").read_text())["turns"]

    found = await Stored((FIXTURES / name).read_bytes()).plan(container)

    distances = []
    for turn in turns:
        channel = CHANNELS[turn["speaker"]] if container == "ogg" else None
        start_ms, end_ms = turn["start"] * 1000, turn["end"] * 1000
        spans = [span for span in found.spans if span.channel == channel]
        distances.append(min(abs(span.start_ms - start_ms) for span in spans))
        covered = sum(max(0, min(one.end_ms, end_ms) - max(one.start_ms, start_ms)) for one in spans)
        assert covered >= 0.99 * (end_ms - start_ms)
    assert statistics.median(distances) <= 150
    assert len(found.spans) == len(turns)
    assert found.duration_ms == pytest.approx(128_440, abs=20)
    assert found.channels == (2 if container == "ogg" else 1)
    assert list(found.spans) == sorted(found.spans, key=lambda span: span.start_ms)


async def test_windows_are_few_and_contain_every_turn(headache: bytes) -> None:
    turns = (await Stored(headache).plan()).spans
    [window] = (await Stored(headache).plan(cut=Cut.WINDOWS)).spans

    assert (window.channel, window.start_ms, window.end_ms) == (None, turns[0].start_ms, turns[-1].end_ms)


async def test_two_channels_are_cut_in_turns_although_windows_are_requested(dual: bytes) -> None:
    assert await Stored(dual).plan("ogg", Cut.WINDOWS) == await Stored(dual).plan("ogg")


def _with_trace(samples: bytes, other: bytes, decibels: float) -> bytes:
    """Return the sound of a microphone that also records a second person's voice, which is `decibels` softer,
    arrives 30 ms later, and has an echo.
    """
    late, echo = 30 * RATE // 1000, 40 * RATE // 1000
    share = 10 ** (-decibels / 20)
    trace = [share * sample for sample in memoryview(other).cast("h")]
    mixed: list[float] = list(memoryview(samples).cast("h"))
    for number in range(3):
        delay = late + number * echo
        mixed[delay:] = map(add, mixed[delay:], trace)
        trace = [sample / 2 for sample in trace]
    return array("h", [max(-32_768, min(32_767, int(sample))) for sample in mixed]).tobytes()


@pytest.mark.parametrize(("decibels", "cut"), [(26, Cut.TURNS), (26, Cut.WINDOWS), (14, Cut.TURNS)])
async def test_speech_that_both_microphones_record_is_planned_once(decibels: float, cut: Cut) -> None:
    left, right = (samples[: 40 * RATE * 2] for samples in spoken.channels())
    clean, crossed = (
        _encoded(_interleaved(*pair), layout="stereo", codec="pcm_s16le")
        for pair in (
            (left, right),
            (_with_trace(left, right, decibels), _with_trace(right, left, decibels)),
        )
    )
    expected = (await Stored(clean).plan()).spans

    found = (await Stored(crossed).plan(cut=cut)).spans

    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.channel == other.channel
        assert abs(one.start_ms - other.start_ms) <= 300
        assert abs(one.end_ms - other.end_ms) <= 500


async def test_chunks_match_the_planned_spans_to_the_sample(headache: bytes) -> None:
    stored = Stored(headache)
    found = (await stored.plan()).spans
    whole = Span(None, 0, 128_000)
    [(_, flac)] = [one async for one in stored.chunks((whole,))]
    samples = _samples(flac)
    assert len(samples) == 128_000 * 32

    cut = [one async for one in stored.chunks(found)]

    assert tuple(span for span, _ in cut) == found
    for span, flac in cut:
        assert _samples(flac) == samples[span.start_ms * 32 : span.end_ms * 32]


async def test_unrequested_chunks_are_skipped_and_reading_stops_early(dual: bytes) -> None:
    stored = Stored(dual)
    found = (await stored.plan("ogg")).spans
    every = {span: flac async for span, flac in stored.chunks(found, "ogg")}

    some = {span: flac async for span, flac in stored.chunks(found[3:9:2], "ogg")}

    assert some == {span: every[span] for span in found[3:9:2]}
    assert [one async for one in stored.chunks((), "ogg")] == []


async def test_chunks_come_in_the_order_of_their_ends_where_both_speak(dual: bytes) -> None:
    spans = (Span(0, 1_000, 9_000, 0), Span(1, 2_000, 3_000, 1), Span(1, 4_000, 10_000, 1))
    assert [span async for span, _ in Stored(dual).chunks(spans, "ogg")] == [spans[1], spans[0], spans[2]]


async def test_reading_waits_until_a_chunk_is_taken(headache: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "BLOCK_BYTES", 256 * 1024)
    long = _remuxed(headache, lambda _: 0.0, movflags="frag_keyframe+empty_moov+default_base_moof")
    stored = Stored(long)
    spans = tuple(Span(None, start, start + 1_000) for start in range(1_000, 120_000, 20_000))
    async with aclosing(cast("Any", stored.chunks(spans))) as cut:
        await anext(cut)
        read_bytes = stored.read_bytes
        await anyio.sleep(0.5)
        assert stored.read_bytes == read_bytes < len(long)


@pytest.mark.parametrize("movflags", ["", "frag_keyframe", "frag_keyframe+empty_moov+default_base_moof"])
async def test_sound_that_begins_late_keeps_its_times(headache: bytes, movflags: str) -> None:
    begun = (await Stored(headache).plan()).spans
    late = Stored(_remuxed(headache, lambda _: 5.0, **({"movflags": movflags} if movflags else {})))

    with av.open(io.BytesIO(late.content), "r") as file:
        _, second, *_ = (float(frame.time or 0) for frame in file.decode(audio=0))
    shift_ms = 1000 * (second - 1024 / 48_000)

    found = await late.plan()

    assert shift_ms == pytest.approx(5_000, abs=150)
    assert len(found.spans) == len(begun)
    for one, other in zip(found.spans, begun, strict=True):
        assert one.start_ms == pytest.approx(other.start_ms + shift_ms, abs=100)
    assert late.read_bytes <= len(late.content) + BLOCK_BYTES


async def test_gap_in_the_sound_is_silence_and_uses_no_memory(
    headache: bytes, children: list[Process]
) -> None:
    begun = (await Stored(headache).plan()).spans
    two_hours = 7_200.0
    torn = _remuxed(headache, lambda time: 0.0 if time < 60 else two_hours)
    peaks: list[int] = []

    async def look() -> None:
        status = await anyio.Path(f"/proc/{children[-1].pid}/status").read_text()
        peaks.append(int(status.partition("VmHWM:")[2].split()[0]) // 1024)

    stored = Stored(torn)
    found = (await stored.plan()).spans
    [(_, flac)] = [one async for one in Stored(torn, look).chunks((found[-1],))]

    assert [span.start_ms for span in found[-3:]] == pytest.approx(
        [span.start_ms + 7_200_000 for span in begun[-3:]], abs=150
    )
    assert len(_samples(flac)) == 32 * (found[-1].end_ms - found[-1].start_ms)
    assert all(peak < 150 for peak in peaks)


async def test_a_movie_without_sound_has_no_channels(headache: bytes) -> None:
    target = io.BytesIO()
    with av.open(io.BytesIO(headache), "r") as source, av.open(target, "w", format="mp4") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    stored = Stored(target.getvalue())

    assert await stored.plan() == Plan(0, 0, ())
    with pytest.raises(MediaRefused):
        _ = [one async for one in stored.chunks((Span(None, 0, 1_000),))]


@pytest.mark.parametrize(("layout", "channels"), [("mono", 1), ("stereo", 2)])
async def test_silence_has_no_spans(layout: str, channels: int) -> None:
    silence = _encoded(bytes(10 * RATE * 2 * channels), layout=layout)
    found = await Stored(silence).plan()
    assert (found.channels, found.spans) == (channels, ())
    assert found.duration_ms == pytest.approx(10_000, abs=150)


async def test_speech_on_one_of_eight_channels_is_cut_from_that_channel(speech: bytes) -> None:
    silence = bytes(len(speech))
    eight = _encoded(
        _interleaved(silence, silence, silence, silence, speech, silence, silence, silence),
        layout="7.1",
        codec="pcm_s16le",
    )
    found = await Stored(eight).plan()

    assert found.channels == 1
    assert [(span.channel, span.source) for span in found.spans] == [(None, 4)] * 4
    assert len([one async for one in Stored(eight).chunks(found.spans)]) == 4


async def test_two_voices_on_two_of_six_channels_are_both_cut(speech: bytes) -> None:
    half = len(speech) // 2
    first, second = speech[:half] + bytes(half), bytes(half) + speech[half:]
    silence = bytes(2 * half)
    six = _encoded(
        _interleaved(silence, first, silence, second, silence, silence), layout="5.1", codec="pcm_s16le"
    )
    found = await Stored(six).plan()

    assert {(span.channel, span.source) for span in found.spans} == {(1, 1), (3, 3)}


@pytest.mark.parametrize(("codec", "kind"), [("aac", "mp4"), ("libopus", "ogg")])
async def test_two_channels_with_the_same_sound_are_one(speech: bytes, codec: str, kind: str) -> None:
    """LiveKit writes two equal channels if it mixes the sound of the whole room, and also if it ignores the option
    `audio_mixing` (egress 1121, read 2026-11-21).
    """
    same = _encoded(_interleaved(speech, speech), layout="stereo", codec=codec, kind=kind)

    found = await Stored(same).plan(cast("Container", kind))

    assert (found.channels, [span.channel for span in found.spans]) == (1, [None] * 4)


async def test_different_channels_of_a_movie_are_kept_apart(speech: bytes) -> None:
    left = _encoded(_interleaved(speech, bytes(len(speech))), layout="stereo")
    assert {span.channel for span in (await Stored(left).plan()).spans} == {0}


async def test_monologue_is_cut_into_chunks_of_acceptable_size(speech: bytes) -> None:
    breathless = _encoded(speech[32 * 1_100 : 32 * 1_900] * 100)
    spans = (await Stored(breathless).plan()).spans
    assert len(spans) >= 3
    assert all(span.end_ms - span.start_ms <= MAX_TURN_MS for span in spans)


async def test_incompressible_noise_stays_within_the_size_limit() -> None:
    """The test encodes noise that is a tenth as long as the longest window, and requires that its size is at most a
    tenth of the maximum size of a chunk.
    """
    noise = Stored(_encoded(os.urandom(81 * RATE * 2), codec="pcm_s16le"))
    [(_, flac)] = [one async for one in noise.chunks((Span(None, 0, 80_000),))]
    assert 2_500_000 < len(flac) < sound.MAX_CHUNK_BYTES // 10


def _broken(headache: bytes, share: float) -> bytes:
    """Return the file, changed so that the given share of its sound packets cannot be decoded."""
    content = bytearray(headache)
    with av.open(io.BytesIO(headache), "r") as file:
        packets = [packet for packet in file.demux(audio=0) if packet.pos is not None and packet.size]
        for packet in packets[100 : 100 + round(share * len(packets))]:
            start = packet.pos or 0
            content[start : start + packet.size] = b"\xff" * packet.size
    return bytes(content)


async def test_few_undecodable_packets_are_silence(headache: bytes) -> None:
    begun = (await Stored(headache).plan()).spans
    found = (await Stored(_broken(headache, 0.05)).plan()).spans
    assert [span.start_ms for span in found[-15:]] == pytest.approx(
        [span.start_ms for span in begun[-15:]], abs=30
    )


async def test_too_many_undecodable_packets_are_refused(headache: bytes) -> None:
    assert await _refusal(_broken(headache, 0.5)) == "media_unreadable"


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "index_missing": lambda headache: headache[: len(headache) // 2],
    "index_cut": lambda headache: headache[:-20_000],
    "beginning_alone": lambda headache: headache[:32],
    "noise": lambda headache: headache[:32] + os.urandom(100_000),
    "playlist": lambda headache: headache[:32] + b"#EXTM3U\nhttp://127.0.0.1:1/a.ts\n",
    "ogg_noise": lambda _: b"OggS" + os.urandom(100_000),
}


@pytest.mark.parametrize("damage", DAMAGED)
async def test_damaged_media_are_refused(headache: bytes, damage: str) -> None:
    content = DAMAGED[damage](headache)
    assert await _refusal(content) == "media_unreadable"
    assert await _refusal(content, "ogg") == "media_unreadable"
    with pytest.raises(MediaRefused):
        _ = [one async for one in Stored(content).chunks((Span(None, 0, 1_000),))]


async def test_a_timeline_that_is_too_long_is_media_too_slow(headache: bytes) -> None:
    years = _remuxed(headache, lambda time: 0.0 if time < 60 else 30_000.0)
    assert await _refusal(years, limits=replace(LIMITS, hours=1)) == "media_too_slow"


def _silence(seconds: int, *, rate: int = RATE, layout: str = "mono", kind: str = "mp4") -> bytes:
    """Return a FLAC file with silence, which contains the same small packet many times."""
    block = 65_535
    target = io.BytesIO()
    with av.open(target, "w", format=kind, options={"strict": "experimental"}) as file:
        options = {"frame_size": str(block)}
        stream = file.add_stream("flac", rate=rate, options=options, layout=layout, format="s16")
        frame = av.AudioFrame(format="s16", layout=layout, samples=block)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        [packet, *_] = [*stream.encode(frame), *stream.encode(None)]
        content = bytes(packet)
        for number in range(-(-seconds * rate // block)):
            copy = av.Packet(content)
            copy.pts = copy.dts = number * block
            copy.duration, copy.time_base, copy.stream = block, Fraction(1, rate), stream
            file.mux(copy)
    return target.getvalue()


def _peak_megabytes(process: Process) -> float:
    """Return the peak memory, in megabytes, of a child process that has answered and that the parent has not reaped
    yet.
    """
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


DEAF = """
import sys
sys.path.insert(0, {root!r})
from app.media import loudness, sound_child
loudness.webrtcvad.Vad.is_speech = lambda *_: False
sound_child.main()
"""


async def test_six_hours_are_measured_within_memory(
    children: list[Process], child_does: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test replaces the speech detector by a faster one, because the real detector would take most of the
    test's time and does not affect the memory.
    """
    child_does(DEAF.format(root=str(FIXTURES.parents[1])))
    peaks: list[float] = []

    async def look() -> None:
        peaks.append(_peak_megabytes(children[-1]))

    monkeypatch.setattr(sound, "BLOCK_BYTES", 16 * 1024)
    long = _silence(6 * 3_600 - 60)
    found = await Stored(long, look).plan(cut=Cut.WINDOWS)

    assert (found.channels, found.spans) == (1, ())
    assert found.duration_ms == pytest.approx((6 * 3_600 - 60) * 1_000, abs=5_000)
    assert len(peaks) > 4
    assert max(peaks) < 150


async def test_hours_of_sound_in_few_bytes_are_media_too_slow() -> None:
    bomb = _silence(30 * 3_600, rate=8_000)
    assert len(bomb) < 1_000_000
    assert await _refusal(bomb, limits=replace(LIMITS, hours=2)) == "media_too_slow"


async def test_implausible_sample_rate_is_refused() -> None:
    """The file of this test states such a low sample rate that one packet of it lasts eleven minutes."""
    assert await _refusal(_silence(3_600, rate=100)) == "media_unreadable"


async def test_excessive_processor_time_is_media_too_slow() -> None:
    little = replace(LIMITS, cpu_seconds=1, cpu_seconds_per_hour=0)
    assert await _refusal(_silence(5 * 3_600), limits=little) == "media_too_slow"


async def test_sound_before_the_beginning_is_left_out(headache: bytes) -> None:
    begun = (await Stored(headache).plan()).spans
    early = _remuxed(headache, lambda _: -10.0, movflags="frag_keyframe+empty_moov+default_base_moof")
    found = (await Stored(early).plan()).spans
    assert len(begun) - 4 <= len(found) <= len(begun)


async def test_timestamp_jump_moves_only_the_sound_after_it(headache: bytes) -> None:
    fragmented = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    whole = (await Stored(_remuxed(headache, lambda _: 0.0, **fragmented)).plan()).spans
    jumped = _remuxed(headache, lambda time: 0.0 if time < 60 else 45.0, **fragmented)

    found = (await Stored(jumped).plan()).spans

    assert [span.start_ms for span in found[-3:]] == pytest.approx(
        [span.start_ms + 45_000 for span in whole[-3:]], abs=150
    )
    before = [span for span in whole if span.end_ms < 58_000]
    assert list(found[: len(before)]) == before


def _with_a_fragment_minutes_late(dual: bytes, share: float) -> bytes:
    """Return a copy of the MP4 in which the timestamp of one fragment is several minutes too late. The moved
    fragment is the first one after the given share of the file.
    """
    content = _remuxed(dual, lambda _: 0.0, movflags="empty_moov", frag_duration="700000")
    at = content.index(b"tfdt", int(share * len(content))) + 8
    later = int.from_bytes(content[at : at + 8], "big") + 600 * 48_000
    return content[:at] + later.to_bytes(8, "big") + content[at + 8 :]


async def test_timestamp_that_moves_little_sound_into_the_past_is_accepted(dual: bytes) -> None:
    begun = [span for span in (await Stored(dual).plan("ogg")).spans if span.end_ms < 115_000]
    found = (await Stored(_with_a_fragment_minutes_late(dual, 0.95)).plan()).spans
    assert [span.channel for span in found[: len(begun)]] == [span.channel for span in begun]
    assert [span.start_ms for span in found[: len(begun)]] == pytest.approx(
        [span.start_ms for span in begun], abs=30
    )


async def test_timestamp_that_moves_most_sound_into_the_past_is_refused(dual: bytes) -> None:
    assert await _refusal(_with_a_fragment_minutes_late(dual, 0.25)) == "media_unreadable"


async def test_two_recordings_in_one_file_are_refused(dual: bytes) -> None:
    """If a file contains two recordings, the times of the second start again at 0, so that its sound would be lost."""
    assert await _refusal(dual + dual, "ogg") == "media_unreadable"


async def test_fragments_of_which_ffmpeg_drops_many_samples_are_refused(headache: bytes) -> None:
    """In the file of this test, a third of the fragments are not later than the fragment before them. FFmpeg 8
    itself wrote such a file (2026-11-22).
    """
    assert await _refusal(_remuxed(headache, lambda _: 0.0, movflags="frag_every_frame+empty_moov")) == (
        "media_unreadable"
    )


async def test_truncated_fragmented_movie_is_refused(headache: bytes) -> None:
    whole = _remuxed(headache, lambda _: 0.0, movflags="frag_keyframe+empty_moov+default_base_moof")
    for end in (len(whole) // 3, len(whole) * 2 // 3, len(whole) - 5):
        assert await _refusal(whole[:end]) == "media_unreadable"


async def test_movie_with_chunks_after_its_end_is_refused(headache: bytes) -> None:
    """If an MP4 file lacks a chunk of its sound, FFmpeg assumes that the sound ends there."""
    chunks = headache.rindex(b"stco") + 12
    for number in (0, 60):
        at = chunks + 4 * number
        assert await _refusal(headache[:at] + (2**31).to_bytes(4, "big") + headache[at + 4 :]) == (
            "media_unreadable"
        )


CLAIMS: dict[str, tuple[bytes, bytes]] = {
    "samples": (b"stsz", (2**32 - 1).to_bytes(4, "big")),
    "chunks": (b"stco", (2**32 - 1).to_bytes(4, "big")),
    "durations": (b"stts", (2**32 - 1).to_bytes(4, "big")),
}


@pytest.mark.parametrize("claim", CLAIMS)
async def test_index_with_excessive_sizes_is_limited_to_the_file(
    headache: bytes, children: list[Process], claim: str
) -> None:
    box, count = CLAIMS[claim]
    at = headache.rindex(box) + (12 if box == b"stsz" else 8)
    claimed = headache[:at] + count + headache[at + 4 :]
    with anyio.fail_after(20), suppress(MediaRefused):
        assert (await Stored(claimed).plan()).duration_ms < 200_000


def _descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


async def test_no_descriptor_stays_open(headache: bytes, dual: bytes) -> None:
    await Stored(headache).plan()
    before = _descriptors()
    for content in (headache, dual, headache[:32] + os.urandom(1_000)):
        with suppress(MediaRefused):
            await Stored(content).plan()
    assert _descriptors() == before


async def test_span_after_the_end_is_refused(headache: bytes) -> None:
    with pytest.raises(MediaRefused):
        _ = [one async for one in Stored(headache).chunks((Span(None, 128_000, 130_000),))]


@pytest.mark.parametrize(
    "spans",
    [
        (Span(None, -1, 10),),
        (Span(None, 10, 10),),
        (Span(2, 0, 10, 1),),
        (Span(None, 0, 10, 16),),
        (Span(None, 0, MAX_WINDOW_MS + 1),),
        (Span(0, 0, 10), Span(None, 20, 30)),
        (Span(0, 0, 10), Span(0, 9, 30)),
        (Span(0, 5, 10, 0), Span(1, 0, 30, 1)),
    ],
)
async def test_spans_of_no_plan_raise_value_error(spans: tuple[Span, ...], children: list[Process]) -> None:
    with pytest.raises(ValueError, match=r"span|channel|order"):
        _ = [one async for one in Stored(b"").chunks(spans)]
    assert children == []


async def test_child_has_no_secret_and_can_open_nothing(
    dual: bytes, children: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_SECRET_ACCESS_KEY", "not for children")
    monkeypatch.setattr(sound, "BLOCK_BYTES", 256 * 1024)
    seen: dict[str, object] = {}

    async def look() -> None:
        child = Path(f"/proc/{children[-1].pid}")
        seen["environment"] = (child / "environ").read_bytes()
        seen["directory"] = str((child / "cwd").readlink())
        seen["descriptors"] = sorted(path.name for path in (child / "fd").iterdir())
        for limit in ("NOFILE", "FSIZE", "NPROC", "CORE", "AS"):
            seen[limit] = resource.prlimit(children[-1].pid, getattr(resource, f"RLIMIT_{limit}"))
        soft, hard = resource.prlimit(children[-1].pid, resource.RLIMIT_CPU)
        seen["CPU"] = LIMITS.cpu_seconds <= soft <= LIMITS.cpu_seconds + 5 and hard < 3_600

    stored = Stored(dual, look)
    expected = {
        "environment": b"",
        "directory": "/",
        "descriptors": ["0", "1", "2"],
        "NOFILE": (0, 0),
        "FSIZE": (0, 0),
        "NPROC": (0, 0),
        "CORE": (0, 0),
        "AS": (LIMITS.memory_bytes, LIMITS.memory_bytes),
        "CPU": True,
    }
    await stored.plan("ogg")
    assert seen == expected
    seen.clear()
    _ = [one async for one in Stored(dual, look).chunks((Span(0, 100_000, 101_000),), "ogg")]
    assert seen == expected


async def test_too_little_memory_is_media_too_slow(headache: bytes) -> None:
    little = replace(LIMITS, memory_bytes=64 * 1024 * 1024)
    assert await _refusal(headache, limits=little) == "media_too_slow"


async def test_too_much_reading_is_media_too_slow(headache: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "BLOCK_BYTES", 256 * 1024)
    little = replace(LIMITS, read_times=0, read_bytes=1024 * 1024)
    assert await _refusal(headache, limits=little) == "media_too_slow"


PREFACE = """
import json, os, signal, sys, time
SOUND = {"channels": 1, "samples": 480, "unused_channels": [], "unused_tracks": 0}
def say(**line):
    if "frame_bytes" in line and "chunk" not in line:
        line.setdefault("channel", 0)
    print(json.dumps(line), flush=True)
"""


@pytest.fixture
def child_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that replaces the sound reader's child process by another program."""

    def does(code: str) -> None:
        (tmp_path / "child.py").write_text(f"{PREFACE}\n{code}\n")
        monkeypatch.setattr(sound, "_CHILD", tmp_path / "child.py")

    return does


def _movie(*tracks: bytes) -> bytes:
    """Return an MP4 file that has one audio track for each of the given sound files, in their order."""
    target = io.BytesIO()
    with ExitStack() as opened, av.open(target, "w", format="mov") as file:
        sources = [opened.enter_context(av.open(io.BytesIO(track), "r")) for track in tracks]
        streams = [file.add_stream_from_template(source.streams.audio[0]) for source in sources]
        packets = [
            (float(packet.dts * packet.time_base), number, packet)
            for number, source in enumerate(sources)
            for packet in source.demux(audio=0)
            if packet.dts is not None and packet.time_base is not None
        ]
        for _, number, packet in sorted(packets, key=lambda one: one[:2]):
            packet.stream = streams[number]
            file.mux(packet)
    return target.getvalue()


def _undecodable(seconds: int) -> bytes:
    """Return a sound file that contains a tone in a codec that the reader does not support."""
    target = io.BytesIO()
    with av.open(target, "w", format="mov") as file:
        stream = file.add_stream("pcm_mulaw", rate=8_000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=8_000 * seconds)
        frame.planes[0].update(array("h", [8_000, -8_000] * 4_000 * seconds).tobytes())
        frame.sample_rate, frame.pts, frame.time_base = 8_000, 0, Fraction(1, 8_000)
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return target.getvalue()


async def test_every_track_with_speech_is_planned() -> None:
    doctor, patient = (samples[: 40 * RATE * 2] for samples in spoken.channels())
    stereo = await Stored(_encoded(_interleaved(doctor, patient), layout="stereo")).plan()

    found = await Stored(_movie(_encoded(doctor), _encoded(patient))).plan()

    assert (found.channels, found.unused_tracks) == (2, 0)
    assert [span.source for span in found.spans] == [span.source for span in stereo.spans]
    assert [span.start_ms for span in found.spans] == pytest.approx(
        [span.start_ms for span in stereo.spans], abs=60
    )


@pytest.mark.parametrize("others", [1, 2])
async def test_silent_tracks_before_the_speech_change_nothing(speech: bytes, others: int) -> None:
    silence = _encoded(bytes(len(speech)))
    alone = await Stored(_movie(_encoded(speech))).plan()

    found = await Stored(_movie(*[silence] * others, _encoded(speech))).plan()

    assert [(span.start_ms, span.end_ms) for span in found.spans] == [
        (span.start_ms, span.end_ms) for span in alone.spans
    ]
    assert {span.source for span in found.spans} == {others}


async def test_the_same_speech_on_two_tracks_is_planned_once(speech: bytes) -> None:
    alone = await Stored(_movie(_encoded(speech))).plan()
    found = await Stored(_movie(_encoded(speech), _encoded(speech))).plan()
    assert found == alone


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_track_that_cannot_be_decoded_is_reported(speech: bytes, is_first: bool) -> None:
    tracks = [_encoded(speech), _undecodable(20)]
    alone = await Stored(_movie(_encoded(speech))).plan()

    found = await Stored(_movie(*reversed(tracks) if is_first else tracks)).plan()

    assert found == replace(alone, unused_tracks=1)


async def test_too_damaged_track_is_reported(speech: bytes) -> None:
    """The file of this test has two audio tracks: the first one is damaged, and the second one can be decoded."""
    movie = bytearray(_movie(_encoded(speech), _encoded(speech)))
    with av.open(io.BytesIO(bytes(movie)), "r") as file:
        packets = [packet for packet in file.demux(audio=0) if packet.pos is not None and packet.size]
    for packet in packets[: len(packets) // 2]:
        start = packet.pos or 0
        movie[start : start + packet.size] = b"\xff" * packet.size

    found = await Stored(bytes(movie)).plan()

    assert (found.channels, found.unused_tracks) == (1, 1)
    assert [span.source for span in found.spans] == [1] * 4


async def test_sound_that_cannot_be_decoded_does_not_count_as_silence(speech: bytes) -> None:
    silence = _encoded(bytes(len(speech)))
    assert (await Stored(_movie(silence)).plan()).unused_tracks == 0
    assert (await Stored(_movie(_undecodable(20))).plan()).unused_tracks == 1
    found = await Stored(_movie(silence, _undecodable(20))).plan()
    assert (found.spans, found.unused_tracks) == ((), 1)


async def _loudest(stored: Stored, spans: tuple[Span, ...]) -> list[int]:
    return [max(map(abs, memoryview(_samples(flac)).cast("h"))) async for _, flac in stored.chunks(spans)]


@pytest.mark.parametrize("layout", ["stereo", "two tracks"])
async def test_a_channel_that_cancels_another_one_does_not_silence_the_chunks(
    speech: bytes, layout: str
) -> None:
    inverted = array("h", [max(-32_767, -sample) for sample in array("h", speech)]).tobytes()
    both = (
        _encoded(_interleaved(speech, inverted), layout="stereo", codec="pcm_s16le")
        if layout == "stereo"
        else _movie(_encoded(speech), _encoded(inverted))
    )
    stored = Stored(both)
    found = await stored.plan()

    assert len(found.spans) == 4
    assert all(loudest > 1_000 for loudest in await _loudest(stored, found.spans))


Edits = list[tuple[float, float | None]]
"""The edits of an edit list: the duration, and the start in the track, or None for silence. In seconds."""

EDITS: dict[str, Edits] = {
    "the beginning left out": [(60, 20)],
    "the end left out": [(14, 0)],
    "the middle left out": [(10, 0), (20, 40)],
    "another order": [(10, 20), (10, 0)],
    "the same twice": [(10, 0), (10, 0)],
    "silence first": [(5, None), (30, 0)],
    "silence twice": [(3, None), (2, None), (20, 0)],
    "silence in the middle": [(10, 0), (5, None), (10, 20)],
    "silence last": [(10, 0), (60, None)],
    "parts that overlap": [(10, 0), (10, 5)],
    "longer than the track": [(20, 0), (90, 120)],
    "the rest": [(10, 40), (0, 100)],
    "many": [(2, 4 * number) for number in range(30)],
}


def _box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def _boxes(content: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    while content:
        size = int.from_bytes(content[:4], "big")
        found.append((content[4:8], content[8:size]))
        content = content[size:]
    return found


def _edited(movie: bytes, edits: Edits, *, version: int = 0) -> bytes:
    """Return the MP4 file with the given edit list for its sound track. The given MP4 file must have its index at
    the end.
    """
    result = b""
    for kind, content in _boxes(movie):
        if kind == b"moov":
            scale = int.from_bytes(dict(_boxes(content))[b"mvhd"][12:16], "big")
            content = b"".join(
                _box(inner, _with_edits(track, edits, scale, version) if inner == b"trak" else track)
                for inner, track in _boxes(content)
            )
        result += _box(kind, content)
    return result


def _with_edits(track: bytes, edits: Edits, movie_scale: int, version: int) -> bytes:
    boxes = dict(_boxes(track))
    media = dict(_boxes(boxes[b"mdia"]))
    if media[b"hdlr"][8:12] != b"soun":
        return track
    scale = int.from_bytes(media[b"mdhd"][12:16], "big")
    size = 8 if version else 4
    entries = b"".join(
        round(length * movie_scale).to_bytes(size, "big")
        + (-1 if start is None else round(start * scale)).to_bytes(size, "big", signed=True)
        + b"\0\1\0\0"
        for length, start in edits
    )
    boxes[b"edts"] = _box(b"elst", bytes([version, 0, 0, 0]) + len(edits).to_bytes(4, "big") + entries)
    return b"".join(_box(kind, boxes[kind]) for kind in (b"tkhd", b"edts", b"mdia"))


def _is_speech(plan: Plan, time: float) -> bool:
    return any(span.start_ms <= 1000 * time < span.end_ms for span in plan.spans)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("name", EDITS)
async def test_only_sound_that_an_edit_list_plays_is_planned(
    headache: bytes, name: str, version: int
) -> None:
    whole = await Stored(_edited(headache, [(0, 0)])).plan()
    stored = Stored(_edited(headache, EDITS[name], version=version))

    found = await stored.plan()

    wrong = total = 0
    start = 0.0
    for length, media_start in EDITS[name]:
        for step in range(round((length or 28) / 0.03)):
            time = step * 0.03
            expected = media_start is not None and _is_speech(whole, media_start + time)
            wrong += expected != _is_speech(found, start + time)
            total += 1
        start += length
    assert wrong <= 0.04 * total
    assert len([one async for one in stored.chunks(found.spans)]) == len(found.spans)


async def test_chunks_contain_the_samples_that_an_edit_list_plays(headache: bytes) -> None:
    whole = Stored(_edited(headache, [(0, 0)]))
    edited = Stored(_edited(headache, [(5, 20), (2, None), (5, 10)]))

    [(_, expected)] = [one async for one in whole.chunks((Span(None, 0, 30_000),))]
    [(_, flac)] = [one async for one in edited.chunks((Span(None, 0, 12_000),))]

    samples = _samples(expected)
    assert _samples(flac) == (
        samples[20_000 * 32 : 25_000 * 32] + bytes(2_000 * 32) + samples[10_000 * 32 : 15_000 * 32]
    )


@pytest.mark.parametrize("count", [2, 10_001, 2**32 - 1])
async def test_edit_list_with_a_false_count_is_refused(headache: bytes, count: int) -> None:
    edited = _edited(headache, [(10, 0)])
    at = edited.index(b"elst") + 8
    assert await _refusal(edited[:at] + count.to_bytes(4, "big") + edited[at + 4 :]) == "media_unreadable"


async def test_an_edit_list_of_years_is_media_too_slow(headache: bytes) -> None:
    assert await _refusal(_edited(headache, [(1_000_000, None), (10, 0)])) == "media_too_slow"


async def test_valid_answer_of_the_child_is_accepted(
    headache: bytes, child_does: Callable[[str], None]
) -> None:
    child_does("say(frame_bytes=1, sound=SOUND); sys.stdout.buffer.write(b'0'); sys.stdout.flush()")
    assert await Stored(headache).plan() == Plan(30, 1, ())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "media_unreadable"),
        ("os.kill(os.getpid(), signal.SIGXCPU)", "media_too_slow"),
        ("print('x' * 100_000)", "media_unreadable"),
        ("say(frame_bytes=2, sound=SOUND); print('0', flush=True)", "media_unreadable"),
        ("say(frame_bytes=0, sound=SOUND)", "media_unreadable"),
        ("say(frame_bytes=10**9)", "media_unreadable"),
        ("say(frame_bytes=-1)", "media_unreadable"),
        ("while True: say(frame_bytes=0)", "media_unreadable"),
        ("say(frame_bytes=0, sound=SOUND | {'channels': 17})", "media_unreadable"),
        ("say(frame_bytes=1, channel=1, sound=SOUND); print('0', flush=True)", "media_unreadable"),
        ("say(frame_bytes=0, channel=16)", "media_unreadable"),
        ("say(frame_bytes=0, sound=SOUND | {'title': 'PHI'})", "media_unreadable"),
        ("say(chunk=0, frame_bytes=0, size_bytes=1)", "media_unreadable"),
        ("say(frame_bytes=1); os.kill(os.getpid(), signal.SIGSEGV)", "media_unreadable"),
        ("while True: say(frame_bytes=60_000); sys.stdout.buffer.write(bytes(60_000))", "media_too_slow"),
        ("while True: say(block=0); sys.stdin.buffer.read(2_938_863)", "media_too_slow"),
    ],
)  # fmt: skip
async def test_crash_or_invalid_answer_of_the_child_refuses_the_object(
    headache: bytes, child_does: Callable[[str], None], code: str, reason: str
) -> None:
    child_does(code)
    assert await _refusal(headache, limits=replace(LIMITS, read_bytes=5 * BLOCK_BYTES)) == reason


@pytest.mark.parametrize(
    "code",
    [
        "say(chunk=1, frame_bytes=0, size_bytes=1)",
        "say(chunk=0, frame_bytes=0, size_bytes=10**9)",
        "say(chunk=0, frame_bytes=0, size_bytes=0)",
        "say(chunk=0, frame_bytes=0, size_bytes=1); sys.stdout.write('x'); say(chunk=0, frame_bytes=0, size_bytes=1)",
        "say(frame_bytes=0)",
    ],
)
async def test_invalid_chunk_of_the_child_refuses_the_object(
    headache: bytes, child_does: Callable[[str], None], code: str
) -> None:
    child_does(code)
    spans = (Span(None, 0, 1_000), Span(None, 1_000, 2_000))[: 1 if "=1, " in code else 2]
    with pytest.raises(MediaRefused, match="media_unreadable"):
        _ = [one async for one in Stored(headache).chunks(spans)]


@pytest.mark.parametrize("code", ["sys.exit(3)", "say(frame_bytes=5); sys.exit(3)"])
async def test_child_that_is_ended_from_outside_can_be_retried(
    headache: bytes, child_does: Callable[[str], None], code: str
) -> None:
    child_does(code)
    with pytest.raises(UpstreamFailed) as failed:
        await Stored(headache).plan()
    assert (failed.value.reason, failed.value.detail) == ("media_sound_ended", {"status": 3})


@pytest.mark.parametrize("limits", [replace(LIMITS, seconds=0.3), replace(LIMITS, silent_seconds=0.3)])
@pytest.mark.parametrize("code", ["time.sleep(600)", "say(frame_bytes=5); time.sleep(600)"])
async def test_hanging_child_is_killed(
    headache: bytes, child_does: Callable[[str], None], code: str, limits: Limits
) -> None:
    child_does(code)
    with anyio.fail_after(10), pytest.raises(UpstreamFailed, match="media_sound_ended"):
        await Stored(headache).plan(limits=limits)


async def test_cancelled_plan_leaves_no_child_process(
    headache: bytes, children: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "BLOCK_BYTES", 256 * 1024)
    async with anyio.create_task_group() as tasks:

        async def cancel() -> None:
            tasks.cancel_scope.cancel()
            await anyio.sleep_forever()

        tasks.start_soon(Stored(headache, cancel).plan)

    assert [process.returncode for process in children] == [-signal.SIGKILL]


async def test_unexhausted_chunks_leave_no_child_process(dual: bytes, children: list[Process]) -> None:
    spans = tuple(Span(0, start, start + 10_000) for start in range(0, 120_000, 10_000))
    async with aclosing(cast("Any", Stored(dual).chunks(spans, "ogg"))) as cut:
        assert (await anext(cut))[0] == spans[0]
    assert [process.returncode for process in children] == [-signal.SIGKILL]


async def test_errors_of_the_store_are_passed_on(headache: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "BLOCK_BYTES", 256 * 1024)
    raised = UpstreamFailed("storage_unreachable", operation="read_range")

    async def fail() -> None:
        raise raised

    with pytest.raises(UpstreamFailed) as failed:
        await Stored(headache, fail).plan()

    assert failed.value is raised
