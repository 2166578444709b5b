"""Opens an untrusted file in a child process. Only the child processes that read media files load this module.

Before the child process reads the first byte of the file, it limits its own time and memory, and gives up the right
to open anything. The child process cannot create a new file descriptor, not even after it has closed one, so it can
open neither a file nor a socket. The child requests each block of the object with a JSON line on standard output,
`{"block": 7}`, and reads the block from standard input.

FFmpeg opens any file that a playlist, a concat list, an SDP file or an MP4 data reference names (PyAV 18.1 and
FFmpeg 8, tried 2026-11-21). To prevent FFmpeg from opening other files, this module selects the demuxer, switches
external references off, and raises an error if FFmpeg opens anything except the object.
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
import av.audio.codeccontext  # PyAV would otherwise load these modules later, when nothing can be opened any more
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
    # Otherwise the mov demuxer reads every fragment of a fragmented MP4 when it opens it.
    "fflags": "+ignidx",
    "max_streams": "16",
    "probesize": "4194304",
    "threads": "1",
}
_LENIENT: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
"""A title that is not UTF-8 is no reason to refuse a file. PyAV 19 has no such argument (read there 2026-11-21)."""


class ObjectRefused(Exception):  # noqa: N818 - a result of the child, not an error of the program
    """This process refuses the object because its content is not acceptable, or because FFmpeg tried to open
    anything except the object.
    """


class Object:
    """The file object that PyAV reads. The file's content comes in blocks from the parent process, and a few blocks
    are cached.
    """

    def __init__(self, size_bytes: int, block_bytes: int, kept_blocks: int) -> None:
        self.size_bytes = size_bytes
        self._block_bytes = block_bytes
        self._kept_blocks = kept_blocks
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def read(self, size: int) -> bytes:
        """Return `size` bytes from the current position, or fewer at the end of the object."""
        end = min(self._position + size, self.size_bytes)
        pieces = []
        while self._position < end:
            number, start = divmod(self._position, self._block_bytes)
            pieces.append(self._block(number)[start : start + end - self._position])
            self._position += len(pieces[-1])
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the current position in the object, with `whence` as in `lseek`."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the position."""
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
        send({"block": number})
        return receive(length)


def confine(cpu_seconds: int, most_cpu_seconds: int, memory_bytes: int) -> None:
    """Limit the rights and the resources of this process. After the call, the process can raise its own limit of
    processor time up to `most_cpu_seconds`.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, most_cpu_seconds))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def open_container(file: Object, container: str, **others: str) -> InputContainer:
    """Open the object as a file of the given container format, and pass the given options to the demuxer. Raises
    FFmpegError or ObjectRefused.
    """
    options = {**_OPTIONS, **others, "format_whitelist": _DEMUXERS[container]}
    media: InputContainer = av.open(
        file, "r", format=container, container_options=options, io_open=_refuse_to_open, **_LENIENT
    )
    return media


def is_one_of(stream: Stream, codecs: AbstractSet[str]) -> bool:
    """Return whether the stream has one of these codecs."""
    return stream.codec_context is not None and stream.codec_context.codec.canonical_name in codecs


def send(message: dict[str, object], *contents: bytes | memoryview) -> None:
    """Write a JSON line to the parent process, and then the bytes whose number the line states."""
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    for content in contents:
        sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def receive(size_bytes: int) -> bytes:
    """Read the given number of bytes from the parent process. End this process if its parent process has ended or
    has closed the pipe.
    """
    content = sys.stdin.buffer.read(size_bytes)
    if len(content) < size_bytes:
        os._exit(0)
    return content


def report_refusals(work: Callable[[], None]) -> None:
    """Run `work`, and report to the parent process if the object is refused."""
    try:
        work()
    except MemoryError:
        send({"refused": "media_too_slow"})
    except (av.error.FFmpegError, ObjectRefused, ArithmeticError, LookupError, ValueError):
        send({"refused": "media_unreadable"})


def _refuse_to_open(_url: str, _flags: int, _options: dict[str, str]) -> NoReturn:
    raise ObjectRefused
