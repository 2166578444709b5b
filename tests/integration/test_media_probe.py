"""Tests that the media probe describes real recordings correctly, and that a hostile file cannot make the probe do
anything else.
"""

import ctypes
import gzip
import io
import os
import resource
import signal
import socket
import sys
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import av
import pytest
from anyio.abc import Process
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from app.errors import UpstreamFailed
from app.media import child_process
from app.media import probe as probing
from app.media.probe import BLOCK_BYTES, LIMITS, Container, MediaInfo, MediaRefused, probe

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("children")]

HEADACHE = Path(__file__).parent.parent / "fixtures" / "headache.mp4"
"""A file with ftyp, free, mdat and moov in LiveKit's order."""


@pytest.fixture(scope="module")
def headache() -> bytes:
    return HEADACHE.read_bytes()


class Contacts:
    """A listener on the loopback interface that counts connections."""

    def __init__(self) -> None:
        self.count = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.count += 1
                peer.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def contacts() -> Iterator[Contacts]:
    listening = Contacts()
    yield listening
    listening.close()


class Stored:
    """A stored object that this test holds in memory, and that records every read of the object. Each read of the
    object except the first also calls `meanwhile`.
    """

    def __init__(self, content: bytes, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        self.content = content
        self.ranges: list[tuple[int, int]] = []
        self._meanwhile = meanwhile

    async def read_range(self, start: int, length: int) -> bytes:
        self.ranges.append((start, length))
        if self._meanwhile is not None and len(self.ranges) > 1:
            await self._meanwhile()
        return self.content[start : start + length]

    async def probe(self, container: Container = "mp4", **options: Any) -> MediaInfo:
        return await probe(self.read_range, len(self.content), container, **options)


async def _refusal(content: bytes, container: Container = "mp4", **options: Any) -> str:
    with pytest.raises(MediaRefused) as refused:
        await Stored(content).probe(container, **options)
    assert refused.value.detail == {}
    return refused.value.reason


def _remuxed(movflags: str) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "remuxed.mp4"
        with av.open(str(HEADACHE)) as source, av.open(target, "w", options={"movflags": movflags}) as copy:
            streams = {stream.index: copy.add_stream_from_template(stream) for stream in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    copy.mux(packet)
        return target.read_bytes()


def _ogg(channels: str = "stereo") -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="ogg") as file:
        stream = file.add_stream("libopus", rate=48_000, layout=channels)
        for number in range(100):
            frame = av.AudioFrame(format="s16", layout=channels, samples=960)
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
            frame.sample_rate, frame.pts, frame.time_base = 48_000, number * 960, Fraction(1, 48_000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return target.getvalue()


async def test_probe_describes_a_recording_of_livekit(headache: bytes) -> None:
    stored = Stored(headache)

    media = await stored.probe()

    assert media.duration_seconds == pytest.approx(128.47, abs=0.01)
    assert media == MediaInfo("mp4", media.duration_seconds, has_video=True, has_audio=True, audio_channels=1)
    assert stored.ranges == [(0, BLOCK_BYTES), (2 * BLOCK_BYTES, len(headache) - 2 * BLOCK_BYTES)]


async def test_probe_describes_a_recording_with_its_index_first() -> None:
    stored = Stored(_remuxed("faststart"))

    assert (await stored.probe()).duration_seconds == pytest.approx(128.47, abs=0.01)
    assert len(stored.ranges) == 1


async def test_probe_accepts_metadata_in_another_encoding(headache: bytes) -> None:
    written = b"Lavf59.27.100"
    assert written in headache

    assert (await Stored(headache.replace(written, b"\xff" * len(written))).probe()).has_video


@pytest.mark.parametrize(("channels", "count"), [("stereo", 2), ("mono", 1)])
async def test_probe_describes_an_ogg_and_its_channels(channels: str, count: int) -> None:
    media = await Stored(_ogg(channels)).probe("ogg")

    assert media.duration_seconds == pytest.approx(2.0, abs=0.05)
    assert media == MediaInfo("ogg", media.duration_seconds, False, True, audio_channels=count)


def _black(stream: VideoStream) -> Iterator["av.Packet[VideoStream]"]:
    """Yield the packets of one second of black video."""
    for number in range(25):
        frame = av.VideoFrame(stream.width, stream.height, str(stream.pix_fmt))
        frame.pts, frame.time_base = number, Fraction(1, 25)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _silence(stream: AudioStream) -> Iterator["av.Packet[AudioStream]"]:
    """Yield the encoded packets of one second of silence. Each frame has the number of samples that the codec
    requires.
    """
    frame = av.AudioFrame(format="s16", layout="stereo", samples=48_000)
    frame.planes[0].update(bytes(frame.planes[0].buffer_size))
    frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
    size = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(stream.format, "stereo", 48_000, frame_size=size)
    for piece in (*resampler.resample(frame), *resampler.resample(None), None):
        yield from stream.encode(piece)


def _encoded(video: str | None, audio: str | None, pixels: str = "yuv420p") -> bytes:
    """Return an MP4 file with one second of black video and one second of silence in the given codecs."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4", options={"strict": "experimental"}) as file:
        packets: list[Iterator[av.Packet[Any]]] = []
        if video is not None:
            picture = cast("VideoStream", file.add_stream(video, rate=25))
            picture.width, picture.height, picture.pix_fmt = 160, 120, pixels
            packets.append(_black(picture))
        if audio is not None:
            sound = cast("AudioStream", file.add_stream(audio, rate=48_000))
            sound.layout = "stereo"
            packets.append(_silence(sound))
        for packet in chain(*packets):
            file.mux(packet)
    return target.getvalue()


SOUNDS = ["aac", "opus", "libmp3lame", "flac", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le"]


@pytest.mark.parametrize("video", ["libx264", "mpeg4", "libvpx-vp9"])
async def test_probe_opens_an_mp4_with_an_accepted_video_codec(video: str) -> None:
    media = await Stored(_encoded(video, "aac")).probe()
    assert (media.has_video, media.has_audio, media.audio_channels) == (True, True, 2)


@pytest.mark.parametrize("audio", SOUNDS)
async def test_probe_opens_an_mp4_with_an_accepted_audio_codec(audio: str) -> None:
    assert (await Stored(_encoded("mpeg4", audio)).probe()).audio_channels == 2
    alone = await Stored(_encoded(None, audio)).probe()
    assert (alone.has_video, alone.has_audio, alone.audio_channels) == (False, True, 2)


@pytest.mark.parametrize(
    ("video", "pixels"), [("mjpeg", "yuvj420p"), ("mpeg2video", "yuv420p"), ("png", "rgb24")]
)
async def test_mp4_with_an_unaccepted_video_codec_is_refused(video: str, pixels: str) -> None:
    """The probe refuses Motion JPEG and PNG, because audio files contain cover images in these codecs, while a
    recording of a person never uses them.
    """
    assert await _refusal(_encoded(video, None, pixels)) == "media_unreadable"


async def test_sound_in_an_unaccepted_codec_does_not_count() -> None:
    media = await Stored(_encoded("mpeg4", "pcm_f32le")).probe()
    assert (media.has_video, media.has_audio, media.audio_channels) == (True, False, None)
    assert await _refusal(_encoded(None, "pcm_f32le")) == "media_unreadable"


@pytest.mark.parametrize("movflags", ["frag_keyframe", "frag_keyframe+empty_moov+default_base_moof"])
async def test_probe_reads_a_fragmented_mp4_no_further_than_its_first_fragments(movflags: str) -> None:
    stored = Stored(_remuxed(movflags))

    media = await stored.probe()

    assert media == MediaInfo("mp4", None, has_video=True, has_audio=True, audio_channels=1)
    assert len(stored.ranges) == 1


async def test_probe_of_a_large_recording_reads_little_of_it(headache: bytes) -> None:
    moov = headache.index(b"moov") - 4
    mdat = headache.index(b"mdat") - 4
    added = 600 * 1024 * 1024
    mdat_size = (moov - mdat + added).to_bytes(4)
    read = 0

    async def read_range(start: int, length: int) -> bytes:
        nonlocal read
        read += length
        return b"".join(
            [
                (headache[:mdat] + mdat_size + headache[mdat + 4 : moov])[start : start + length],
                bytes(max(0, min(start + length, moov + added) - max(start, moov))),
                headache[max(moov, start - added) : max(moov, start + length - added)],
            ]
        )

    media = await probe(read_range, len(headache) + added, "mp4")

    assert media.duration_seconds == pytest.approx(128.47, abs=0.01)
    assert read <= 4 * BLOCK_BYTES


def _archive_of(headache: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("recording.mp4", headache)
    return target.getvalue()


def _tar_of(headache: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo("recording.mp4")
        member.size = len(headache)
        archive.addfile(member, io.BytesIO(headache))
    return target.getvalue()


DISGUISES: dict[str, Callable[[bytes, int], bytes]] = {
    "hls": lambda _, port: (
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:%d/secret.ts\n#EXT-X-ENDLIST\n"
        % port
    ),
    "dash": lambda _, port: b'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1:%d/</BaseURL></MPD>' % port,
    "concat": lambda _, port: b"ffconcat version 1.0\nfile 'http://127.0.0.1:%d/a.mp4'\n" % port,
    "concat_local": lambda _, __: b"ffconcat version 1.0\nfile '%s'\n" % os.fsencode(HEADACHE),
    "sdp": lambda _, port: (
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        b"m=video %d RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n" % port
    ),
    "zip": lambda headache, _: _archive_of(headache),
    "tar": lambda headache, _: _tar_of(headache),
    "gzip": lambda headache, _: gzip.compress(headache[:100_000]),
    "html": lambda _, port: b"<!doctype html><html><img src='http://127.0.0.1:%d/'></html>" % port,
    "one_byte": lambda _, __: b"\0",
    "zeros": lambda _, __: bytes(3 * BLOCK_BYTES),
    "noise": lambda _, __: os.urandom(100_000),
    "ftyp_alone": lambda headache, _: headache[:32],
    "ftyp_then_hls": lambda headache, port: headache[:32] + b"#EXTM3U\nhttp://127.0.0.1:%d/a.ts\n" % port,
    "ftyp_then_noise": lambda headache, _: headache[:32] + os.urandom(100_000),
    "moov_missing": lambda headache, _: headache[: len(headache) // 2],
    "moov_cut": lambda headache, _: headache[:-40_000],
    "mdat_cut": lambda _, __: _remuxed("faststart")[:-100_000],
    "media_overwritten": lambda headache, _: _with_media(headache, bytes),
}


def _with_media(headache: bytes, content: Callable[[int], bytes]) -> bytes:
    start, end = headache.index(b"mdat") + 4, headache.index(b"moov") - 4
    return headache[:start] + content(end - start) + headache[end:]


@pytest.mark.parametrize("container", ["mp4", "ogg"])
@pytest.mark.parametrize("disguise", DISGUISES)
async def test_file_of_another_format_is_refused(
    headache: bytes, contacts: Contacts, disguise: str, container: Container
) -> None:
    content = DISGUISES[disguise](headache, contacts.port)

    assert await _refusal(content, container) == "media_unreadable"
    assert contacts.count == 0


@pytest.mark.parametrize("container", ["mp4", "ogg"])
@pytest.mark.parametrize("disguise", DISGUISES)
async def test_file_of_another_format_is_refused_by_the_child_alone(
    headache: bytes,
    contacts: Contacts,
    children: list[Process],
    monkeypatch: pytest.MonkeyPatch,
    disguise: str,
    container: Container,
) -> None:
    monkeypatch.setattr(child_process, "_MAGIC", {"mp4": (0, b""), "ogg": (0, b"")})
    content = DISGUISES[disguise](headache, contacts.port)

    assert await _refusal(content, container) == "media_unreadable"
    assert contacts.count == 0
    assert len(children) == 1


async def test_ffmpeg_itself_opens_a_playlists_files(
    headache: bytes, contacts: Contacts, tmp_path: Path
) -> None:
    playlist = tmp_path / "recording.m3u8"
    playlist.write_bytes(DISGUISES["hls"](headache, contacts.port))

    def open_as_anybody_would() -> None:
        with suppress(av.error.FFmpegError):
            av.open(playlist, options={"protocol_whitelist": "file,http,tcp"}).close()

    await anyio.to_thread.run_sync(open_as_anybody_would)

    assert contacts.count > 0, "FFmpeg opens no URL by itself, so the tests above prove nothing"


@pytest.mark.parametrize("container", ["mp4", "ogg"])
async def test_empty_object_is_refused_without_reading(container: Container) -> None:
    stored = Stored(b"")
    with pytest.raises(MediaRefused):
        await stored.probe(container)
    assert stored.ranges == []


async def test_mp4_named_ogg_and_the_reverse_are_refused(headache: bytes, children: list[Process]) -> None:
    assert await _refusal(headache, "ogg") == "media_unreadable"
    assert await _refusal(_ogg(), "mp4") == "media_unreadable"
    assert children == []


async def test_mp4_named_ogg_and_the_reverse_are_refused_by_the_child_alone(
    headache: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "_MAGIC", {"mp4": (0, b""), "ogg": (0, b"")})

    assert await _refusal(headache, "ogg") == "media_unreadable"
    assert await _refusal(_ogg(), "mp4") == "media_unreadable"


def _box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4) + kind + content


def _replaced(boxes: bytes, kind: bytes, content: bytes) -> bytes:
    """Return the MP4 file with new content in every box of the given kind, and with correct sizes of the boxes
    around them.
    """
    result = b""
    while boxes:
        size = int.from_bytes(boxes[:4])
        inner = boxes[8:size]
        if boxes[4:8] == kind:
            inner = content
        elif boxes[4:8] in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
            inner = _replaced(inner, kind, content)
        result += _box(boxes[4:8], inner)
        boxes = boxes[size:]
    return result


def _with_reference(headache: bytes, target: str) -> bytes:
    """Return an MP4 file that takes its media from a second file. A Macintosh alias record (version 2) contains the
    absolute path of the second file.
    """
    path = os.fsencode(target)
    named = (2).to_bytes(2) + len(path).to_bytes(2) + path + bytes(len(path) % 2)
    alias = (
        bytes(10)
        + bytes([1])
        + b"v".ljust(27, b"\0")
        + bytes(12)
        + bytes([1])
        + b"f".ljust(63, b"\0")
        + bytes(16)
        + bytes(4)
        + bytes(16)
        + named
        + b"\xff\xff\0\0"
    )
    return _replaced(headache, b"dref", bytes(4) + (1).to_bytes(4) + _box(b"alis", bytes(4) + alias))


async def test_mp4_with_media_in_another_file_is_refused(headache: bytes) -> None:
    assert await Stored(_replaced(headache, b"udta", b"")).probe(), (
        "`_replaced` alone makes the file unreadable"
    )

    assert await _refusal(_with_reference(headache, str(HEADACHE))) == "media_unreadable"


_SELF_CONTAINED = bytes([0, 0, 0, 1])
_ITSELF = _box(b"url ", _SELF_CONTAINED)


def _references(*entries: bytes, count: int | None = None) -> bytes:
    return bytes(4) + (len(entries) if count is None else count).to_bytes(4) + b"".join(entries)


REFERENCES: dict[str, bytes] = {
    "http": _references(_box(b"url ", bytes(4) + b"http://127.0.0.1:1/a.mp4\0")),
    "file": _references(_box(b"url ", bytes(4) + b"file:///etc/passwd\0")),
    "tcp": _references(_box(b"url ", bytes(4) + b"tcp://127.0.0.1:1\0")),
    "relative": _references(_box(b"url ", bytes(4) + b"a.mp4\0")),
    "no address": _references(_box(b"url ", bytes(4))),
    "a name": _references(_box(b"urn ", bytes(4) + b"urn:a\0http://127.0.0.1:1/a.mp4\0")),
    "itself, with an address": _references(_box(b"url ", _SELF_CONTAINED + b"http://127.0.0.1:1/a.mp4\0")),
    "an unknown kind": _references(_box(b"rsrc", bytes(4) + b"elsewhere")),
    "the second of two": _references(_ITSELF, _box(b"url ", bytes(4) + b"http://127.0.0.1:1/a.mp4\0")),
    "fewer than claimed": _references(_ITSELF, count=2),
    "more than claimed": _references(_ITSELF, _ITSELF, count=1),
}


@pytest.mark.parametrize("name", REFERENCES)
async def test_a_data_reference_to_anything_but_the_file_itself_is_refused(
    headache: bytes, name: str
) -> None:
    assert await _refusal(_replaced(headache, b"dref", REFERENCES[name])) == "media_unreadable"


async def test_data_references_to_the_file_itself_are_accepted(headache: bytes) -> None:
    assert await Stored(_replaced(headache, b"dref", _references(_ITSELF, _ITSELF))).probe()


@pytest.mark.parametrize("around", [b"udta", b"meta", b"edts"])
async def test_a_data_reference_in_an_unusual_place_is_refused(headache: bytes, around: bytes) -> None:
    """FFmpeg reads a data reference (a `dref` box) at any position in the file, so the probe must refuse the box at
    every position.
    """
    hidden = _box(around, (bytes(4) if around == b"meta" else b"") + _box(b"dref", REFERENCES["http"]))
    moov = headache.index(b"moov") - 4
    size = int.from_bytes(headache[moov : moov + 4]) + len(hidden)
    assert moov + size - len(hidden) == len(headache)
    assert await _refusal(headache[:moov] + size.to_bytes(4) + headache[moov + 4 :] + hidden) == (
        "media_unreadable"
    )


async def test_a_compressed_index_is_refused(headache: bytes) -> None:
    """The probe refuses an MP4 file whose index is compressed, because the probe could not inspect a data reference
    in such an index.
    """
    moov = headache.index(b"moov") - 4
    compressed = _box(
        b"cmov", _box(b"dcom", b"zlib") + _box(b"cmvd", bytes(4) + zlib.compress(headache[moov:]))
    )
    assert await _refusal(headache[:moov] + _box(b"moov", compressed)) == "media_unreadable"


async def test_ffmpeg_itself_follows_a_data_reference(headache: bytes) -> None:
    attack = io.BytesIO(_with_reference(headache, str(HEADACHE)))
    with av.open(attack, "r", options={"enable_drefs": "1", "use_absolute_path": "1"}) as media:
        assert next(media.decode(video=0)) is not None, (
            "FFmpeg follows no data reference, so the tests above prove nothing"
        )


HUGE: dict[str, tuple[bytes, int, bytes]] = {
    "moov": (b"moov", -4, b"\xff\xff\xff\xff"),
    "moov_64_bit": (b"moov", -4, b"\0\0\0\1moov\x7f" + b"\xff" * 7),
    "mdat_64_bit": (b"mdat", -4, b"\0\0\0\1mdat\x7f" + b"\xff" * 7),
    "stsz_count": (b"stsz", 12, b"\x7f\xff\xff\xff"),
    "stts_count": (b"stts", 8, b"\x7f\xff\xff\xff"),
    "stsd_size": (b"stsd", -4, b"\x7f\xff\xff\xff"),
}


@pytest.mark.parametrize("box", HUGE)
async def test_huge_size_inside_the_file_is_handled(headache: bytes, box: str) -> None:
    kind, offset, patch = HUGE[box]
    at = headache.index(kind) + offset
    stored = Stored(headache[:at] + patch + headache[at + len(patch) :])

    with suppress(MediaRefused):
        await stored.probe()

    assert len(stored.ranges) <= 4


async def test_child_has_no_secret_and_can_open_nothing(
    headache: bytes, children: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_SECRET_ACCESS_KEY", "not for children")
    seen: dict[str, object] = {}

    async def look() -> None:
        child = Path(f"/proc/{children[0].pid}")
        seen["environment"] = (child / "environ").read_bytes()
        seen["directory"] = str((child / "cwd").readlink())
        seen["descriptors"] = sorted(path.name for path in (child / "fd").iterdir())
        seen["nowhere"] = str((child / "fd" / "2").readlink())
        for limit in ("NOFILE", "FSIZE", "NPROC", "CORE", "CPU", "AS"):
            seen[limit] = resource.prlimit(children[0].pid, getattr(resource, f"RLIMIT_{limit}"))

    await Stored(headache, look).probe()

    assert seen == {
        "environment": b"",
        "directory": "/",
        "descriptors": ["0", "1", "2"],
        "nowhere": "/dev/null",
        "NOFILE": (0, 0),
        "FSIZE": (0, 0),
        "NPROC": (0, 0),
        "CORE": (0, 0),
        "CPU": (LIMITS.cpu_seconds, LIMITS.cpu_seconds + 1),
        "AS": (LIMITS.memory_bytes, LIMITS.memory_bytes),
    }


PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4
TAKEN_OVER = """
import os, socket, sys
sys.path.insert(0, {root!r})
from app.media.untrusted_files import confine
confine(20, 21, 1024**3)
os.close(2)
for attempt in (lambda: open("/dev/null", "rb"), socket.socket, lambda: os.dup(1)):
    try:
        attempt()
    except OSError:
        continue
    os.abort()
print(json.dumps({{"media": MEDIA}}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the dumpable flag")
async def test_compromised_child_cannot_inspect_its_parent(headache: bytes) -> None:
    """While the probe's child process runs, the parent process is not dumpable, so that the child cannot read its
    memory. The test checks only the dumpable flag of the parent process, because a child that runs as root could
    inspect the parent in spite of the flag.
    """
    prctl = ctypes.CDLL(None).prctl
    seen: list[int] = []

    async def look() -> None:
        seen.append(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0))

    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    await Stored(headache, look).probe()
    assert seen == [0]


async def test_compromised_child_cannot_reuse_closed_descriptors(
    headache: bytes, child_does: Callable[[str], None]
) -> None:
    child_does(TAKEN_OVER.format(root=str(HEADACHE.parents[2])))
    assert (await Stored(headache).probe()).has_video


async def test_too_little_memory_is_media_too_slow(headache: bytes) -> None:
    little = replace(LIMITS, memory_bytes=64 * 1024 * 1024)
    assert await _refusal(headache, limits=little) == "media_too_slow"


async def test_too_much_reading_is_media_too_slow(headache: bytes) -> None:
    assert await _refusal(headache, limits=replace(LIMITS, read_bytes=BLOCK_BYTES)) == "media_too_slow"


MEDIA = {"duration_seconds": 1.5, "has_video": True, "has_audio": False, "audio_channels": None}
"""A valid answer of the child process."""


@pytest.fixture
def child_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that replaces the probe's child process by another program."""

    def does(code: str) -> None:
        (tmp_path / "child.py").write_text(f"import json, os, signal, sys, time\nMEDIA = {MEDIA}\n{code}\n")
        monkeypatch.setattr(probing, "_CHILD", tmp_path / "child.py")

    return does


async def test_valid_answer_of_the_child_is_accepted(
    headache: bytes, child_does: Callable[[str], None]
) -> None:
    child_does("print(json.dumps({'media': MEDIA}))")
    assert await Stored(headache).probe() == MediaInfo("mp4", 1.5, True, False, None)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "media_unreadable"),
        ("os.abort()", "media_unreadable"),
        ("os.kill(os.getpid(), signal.SIGBUS)", "media_unreadable"),
        ("os.kill(os.getpid(), signal.SIGFPE)", "media_unreadable"),
        ("os.kill(os.getpid(), signal.SIGILL)", "media_unreadable"),
        ("print(json.dumps({'block': 1}), flush=True); os.kill(os.getpid(), signal.SIGSEGV)", "media_unreadable"),
        ("os.kill(os.getpid(), signal.SIGXCPU)", "media_too_slow"),
        ("print('hello')", "media_unreadable"),
        ("print('x' * 100_000)", "media_unreadable"),
        ("print(json.dumps({'refused': 'PHI'}))", "media_unreadable"),
        ("print(json.dumps({'block': -1}))", "media_unreadable"),
        ("print(json.dumps({'block': 3}))", "media_unreadable"),
        ("print(json.dumps({'block': 10**30}))", "media_unreadable"),
        ("print(json.dumps({'media': MEDIA | {'duration_seconds': float('nan')}}))", "media_unreadable"),
        ("print(json.dumps({'media': MEDIA | {'duration_seconds': 0.0}}))", "media_unreadable"),
        ("print(json.dumps({'media': MEDIA | {'title': 'PHI'}}))", "media_unreadable"),
        ("while True: print(json.dumps({'block': 1}), flush=True); sys.stdin.buffer.read(1024**2)", "media_too_slow"),
    ],
)  # fmt: skip
async def test_crash_or_invalid_answer_of_the_child_refuses_the_object(
    headache: bytes, child_does: Callable[[str], None], code: str, reason: str
) -> None:
    child_does(code)
    assert await _refusal(headache, limits=replace(LIMITS, read_bytes=20 * BLOCK_BYTES)) == reason


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("sys.exit(3)", 3),
        ("print(json.dumps({'block': 1}), flush=True); sys.stdin.close(); sys.exit(4)", 4),
    ],
)
async def test_child_that_is_ended_from_outside_can_be_retried(
    headache: bytes, child_does: Callable[[str], None], code: str, status: int
) -> None:
    child_does(code)
    with pytest.raises(UpstreamFailed) as failed:
        await Stored(headache).probe()
    assert (failed.value.reason, failed.value.detail) == ("media_probe_ended", {"status": status})
    assert failed.value.retryable


@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(600)",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
        "print(json.dumps({'block': 1}), flush=True); time.sleep(600)",
        "os.close(1); time.sleep(600)",
    ],
)
async def test_hanging_child_is_killed(headache: bytes, child_does: Callable[[str], None], code: str) -> None:
    child_does(code)
    with anyio.fail_after(10):
        with pytest.raises(UpstreamFailed, match="media_probe_ended"):
            await _refusal(headache, limits=replace(LIMITS, seconds=0.3))


async def test_cancelled_probe_leaves_no_child_process(headache: bytes, children: list[Process]) -> None:
    async with anyio.create_task_group() as tasks:

        async def cancel() -> None:
            tasks.cancel_scope.cancel()
            await anyio.sleep_forever()

        tasks.start_soon(Stored(headache, cancel).probe)

    assert [process.returncode for process in children] == [-signal.SIGKILL]


async def test_errors_of_the_store_are_passed_on(headache: bytes, children: list[Process]) -> None:
    raised = UpstreamFailed("storage_unreachable", operation="read_range")

    async def fail() -> None:
        raise raised

    with pytest.raises(UpstreamFailed) as failed:
        await Stored(headache, fail).probe()

    assert failed.value is raised
    assert len(children) == 1


async def test_short_answer_of_the_store_is_a_failure(headache: bytes) -> None:
    async def read_range(start: int, length: int) -> bytes:
        return headache[start : start + length][: length - (start > 0)]

    with pytest.raises(UpstreamFailed) as failed:
        await probe(read_range, len(headache), "mp4")
    assert failed.value.reason == "storage_failed"
