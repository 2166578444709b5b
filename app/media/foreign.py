"""What a child process opens a foreign file with: loaded by the children alone, never by the app.

Before a child sees the first foreign byte it has taken from itself more time and memory than it needs, and the means to
open anything: no further file descriptor can be made, not even in place of one that it closes, so neither a file nor a
socket. It asks its parent for blocks of the object, a JSON line on standard output each, and reads them from standard
input: `{"block": 7}`.

FFmpeg opens what a playlist, a concat list, an SDP file or an MP4's data reference names (PyAV 18.1 and FFmpeg 8, tried
2026-11-21). So the demuxer is forced, external references are off, and opening anything but the object raises.
"""

import json
import os
import resource
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, NoReturn

import av
import av.audio.codeccontext  # this and its like: PyAV would load them later, when nothing can be opened any more
import av.subtitles.codeccontext
import av.subtitles.stream
import av.video.codeccontext
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

VIDEO = {"h264", "hevc", "mpeg4", "vp8", "vp9", "av1"}
_PCM = {"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"}
AUDIO = {"aac", "opus", "mp3", "vorbis", "flac", "ac3", "eac3", "alac", *_PCM}
_OTHER_NAMES = {"av1": "libdav1d", "mp3": "mp3float"}
_DEMUXERS = {"mp4": "mov,mp4,m4a,3gp,3g2,mj2", "ogg": "ogg"}
_OPTIONS = {
    "protocol_whitelist": "",
    "codec_whitelist": ",".join(_OTHER_NAMES.get(codec, codec) for codec in sorted(VIDEO | AUDIO)),
    "enable_drefs": "0",
    "use_absolute_path": "0",
    # Else the mov demuxer reads every fragment of a fragmented MP4 when it opens it.
    "fflags": "+ignidx",
    "max_streams": "16",
    "probesize": "4194304",
    "threads": "1",
}
_LENIENT: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
"""A title that is not UTF-8 is no reason to refuse; PyAV 19 takes no such argument (read there 2026-11-21)."""

Sound = tuple[Iterator["Packet[Any]"], AudioCodecContext]
"""The packets of a stream, and what decodes them."""

Box = tuple[bytes, int, int, int]
"""An MP4's: its kind, and where it, its content and what follows it begin."""

_MAX_BOXES = 64
_HEADER_BYTES = 8
_LANDING_BYTES = 32 * 1024
_KEPT_LANDINGS = 64
"""Where somebody jumps to first are the boxes, to which he comes again whenever he opens the object again."""

_IS_LONG = 1


class Refused(Exception):  # noqa: N818 - the child's one verdict but its answer
    """FFmpeg opened the object, or tried something else, and it is not what we take."""


class Object:
    """The object as PyAV reads it: the blocks asked of the parent, a few of them kept."""

    def __init__(self, size_bytes: int, block_bytes: int, kept_blocks: int) -> None:
        self.size_bytes = size_bytes
        self._block_bytes = block_bytes
        self._kept_blocks = kept_blocks
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._instead: dict[int, bytes] = {}
        self._landings: dict[int, bytes] = {}
        self._following = 0

    def put_instead(self, start: int, content: bytes) -> None:
        """Has these bytes read there, whatever the object holds, and in the place of others put there before."""
        self._instead[start] = content

    def read(self, size: int) -> bytes:
        """`size` bytes from the position, fewer only at the object's end."""
        end = min(self._position + size, self.size_bytes)
        pieces = []
        while self._position < end:
            pieces.append(self._shown(self._position, end))
            self._position += len(pieces[-1])
        return b"".join(pieces)

    def held(self, start: int, size: int) -> bytes:
        """What the object itself holds there, fewer bytes at its end."""
        end = min(start + size, self.size_bytes)
        pieces = []
        while start < end:
            pieces.append(self._stored(start, end))
            start += len(pieces[-1])
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position, whence as of `lseek`."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def _shown(self, start: int, end: int) -> bytes:
        """Some of the bytes between the two, from the first on."""
        for begin, other in self._instead.items():
            if begin <= start < begin + len(other):
                return other[start - begin : end - begin]
            if start < begin < end:
                end = begin
        return self._stored(start, end)

    def _stored(self, start: int, end: int) -> bytes:
        if start in self._landings:
            return self._landings[start][: end - start]
        number, at = divmod(start, self._block_bytes)
        block = self._block(number)
        if start != self._following and len(self._landings) < _KEPT_LANDINGS:
            self._landings[start] = block[at : at + _LANDING_BYTES]
        self._following = min(end, start + len(block) - at)
        return block[at : at + end - start]

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            if len(self._blocks) == self._kept_blocks:
                self._blocks.popitem(last=False)
            self._blocks[number] = self._ask(number)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _ask(self, number: int) -> bytes:
        length = min(self._block_bytes, self.size_bytes - number * self._block_bytes)
        tell({"block": number})
        return heard(length)


def confine(cpu_seconds: int, most_cpu_seconds: int, memory_bytes: int) -> None:
    """Takes from this process what it does not need; it may grant itself the processor up to the second number."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, most_cpu_seconds))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def opened(file: Object, container: str, **others: str) -> InputContainer:
    """The object as that container, with other options for the demuxer; raises FFmpegError or Refused."""
    options = {**_OPTIONS, **others, "format_whitelist": _DEMUXERS[container]}
    media: InputContainer = av.open(
        file, "r", format=container, container_options=options, io_open=_refuse_to_open, **_LENIENT
    )
    return media


def is_one_of(stream: Stream, codecs: AbstractSet[str]) -> bool:
    """Whether the stream is in one of these codecs."""
    return stream.codec_context is not None and stream.codec_context.codec.canonical_name in codecs


def decodable(media: InputContainer) -> AudioStream | None:
    """The first stream of sound that we decode; refuses a file without any stream."""
    if not media.streams:
        raise Refused
    for stream in media.streams.audio:
        if is_one_of(stream, AUDIO):
            stream.codec_context.thread_count = 1
            return stream
    return None


def is_fragmented(file: Object) -> bool:
    """Whether a movie fragment is among the first boxes of an MP4; refuses one whose boxes reach past its end.

    FFmpeg would read what is left of a truncated one, and tells of a fragmented one the first fragments' duration only.
    """
    start = 0
    for _ in range(_MAX_BOXES):
        file.seek(start)
        header = file.read(16)
        if header[4:8] == b"moof":
            return True
        size = int.from_bytes(header[:4], "big")
        if size == _IS_LONG:
            size = int.from_bytes(header[8:], "big")
        if size < _HEADER_BYTES:  # the last box, or none
            return False
        start += size
        if start > file.size_bytes:
            raise Refused
    return False


def boxes(file: Object, start: int, end: int, most: int = _MAX_BOXES) -> Iterator[Box]:
    """The first boxes of an MP4 between the two."""
    for _ in range(most):
        if start + _HEADER_BYTES > end:
            return
        file.seek(start)
        header = file.read(16)
        size, header_bytes = int.from_bytes(header[:4], "big"), _HEADER_BYTES
        if size == _IS_LONG:
            size, header_bytes = int.from_bytes(header[8:], "big"), 16
        following = start + size if size else end
        if size and (size < header_bytes or following > end):
            return
        yield header[4:8], start, start + header_bytes, following
        start = following


def inside(file: Object, start: int, end: int, *kinds: bytes) -> Iterator[Box]:
    """The boxes in those of these kinds, one in another, between the two."""
    for box in boxes(file, start, end):
        if not kinds:
            yield box
        elif box[0] == kinds[0]:
            yield from inside(file, *box[2:], *kinds[1:])


def tell(message: dict[str, object], content: bytes | bytearray | memoryview = b"") -> None:
    """A line to the parent, and the bytes that it announces."""
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def heard(size_bytes: int) -> bytes:
    """So many bytes from the parent; ends this process where it is gone, or has had enough."""
    content = sys.stdin.buffer.read(size_bytes)
    if len(content) < size_bytes:
        os._exit(0)
    return content


def judged(work: Callable[[], None]) -> None:
    """Does the work, and tells the parent if the object is not what we take."""
    try:
        work()
    except MemoryError:
        tell({"refused": "media_too_slow"})
    except (av.error.FFmpegError, Refused, ArithmeticError, LookupError, ValueError):
        tell({"refused": "media_unreadable"})


def _refuse_to_open(_url: str, _flags: int, _options: dict[str, str]) -> NoReturn:
    raise Refused
