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
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, NoReturn

import av
import av.audio.codeccontext  # this and its like: PyAV would load them later, when nothing can be opened any more
import av.subtitles.codeccontext
import av.subtitles.stream
import av.video.codeccontext
from av.container import InputContainer
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

    def read(self, size: int) -> bytes:
        """`size` bytes from the position, fewer only at the object's end."""
        end = min(self._position + size, self.size_bytes)
        pieces = []
        while self._position < end:
            number, start = divmod(self._position, self._block_bytes)
            pieces.append(self._block(number)[start : start + end - self._position])
            self._position += len(pieces[-1])
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position, whence as of `lseek`."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

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
