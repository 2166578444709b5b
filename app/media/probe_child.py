"""The child that opens a foreign file with FFmpeg: run by path in an isolated interpreter, never imported by the app.

It knows nothing of the project and is given no environment. Before it sees the first foreign byte it has taken from
itself more time and memory than it needs, and the means to open anything: no further file descriptor can be made,
so neither a file nor a socket. It asks its parent for blocks of the object, a JSON line on standard output each,
and reads them from standard input: `{"block": 7}`. Its last line is `{"media": {...}}` or `{"refused": reason}`.

FFmpeg opens what a playlist, a concat list, an SDP file or an MP4's data reference names (PyAV 18.1 and FFmpeg 8, tried
2026-11-21). So the demuxer is forced, external references are off, and opening anything but the object raises.
"""

import json
import os
import resource
import sys
from collections import OrderedDict
from contextlib import suppress
from itertools import islice
from typing import Any, NoReturn

import av
import av.audio.codeccontext  # this and its like: PyAV would load them later, when nothing can be opened any more
import av.subtitles.codeccontext
import av.subtitles.stream
import av.video.codeccontext
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

_VIDEO = {"h264", "hevc", "mpeg4", "vp8", "vp9", "av1"}
_PCM = {"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"}
_AUDIO = {"aac", "opus", "mp3", "vorbis", "flac", "ac3", "eac3", "alac", *_PCM}
_OTHER_NAMES = {"av1": "libdav1d", "mp3": "mp3float"}
_DECODERS = ",".join(_OTHER_NAMES.get(codec, codec) for codec in sorted(_VIDEO | _AUDIO))
_DEMUXERS = {"mp4": "mov,mp4,m4a,3gp,3g2,mj2", "ogg": "ogg"}
_OPTIONS = {
    "protocol_whitelist": "",
    "codec_whitelist": _DECODERS,
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

_MAX_PACKETS = 500
_MAX_BOXES = 64
_HEADER_BYTES = 8
_IS_LONG = 1
_CACHED_BLOCKS = 6
_STANDARD_STREAMS = 3


class _Refused(Exception):  # noqa: N818 - the child's one verdict but the media itself
    """FFmpeg opened the object, or tried something else, and it is not what we take."""


class _Object:
    """The object as PyAV reads it: the blocks asked of the parent, a few of them kept."""

    def __init__(self, size_bytes: int, block_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._block_bytes = block_bytes
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
            if len(self._blocks) == _CACHED_BLOCKS:
                self._blocks.popitem(last=False)
            self._blocks[number] = self._ask(number)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _ask(self, number: int) -> bytes:
        length = min(self._block_bytes, self.size_bytes - number * self._block_bytes)
        _tell({"block": number})
        block = sys.stdin.buffer.read(length)
        if len(block) < length:
            os._exit(0)  # the parent is gone, or has had enough
        return block


def main() -> None:
    """Arguments: container, size and block size in bytes, CPU seconds, address space in bytes."""
    container = sys.argv[1]
    size_bytes, block_bytes, cpu_seconds, memory_bytes = map(int, sys.argv[2:])
    _confine(cpu_seconds, memory_bytes)
    try:
        _tell({"media": _media(_Object(size_bytes, block_bytes), container)})
    except MemoryError:
        _tell({"refused": "media_too_slow"})
    except (av.error.FFmpegError, _Refused, ArithmeticError, LookupError, ValueError):
        _tell({"refused": "media_unreadable"})


def _confine(cpu_seconds: int, memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_STANDARD_STREAMS, _STANDARD_STREAMS))


def _media(file: _Object, container: str) -> dict[str, object]:
    options = {**_OPTIONS, "format_whitelist": _DEMUXERS[container]}
    with av.open(
        file, "r", format=container, container_options=options, io_open=_refuse_to_open, **_LENIENT
    ) as media:
        if media.duration is not None and media.duration <= 0:
            raise _Refused
        video = [stream for stream in media.streams.video if _is_one_of(stream, _VIDEO)]
        audio = [stream for stream in media.streams.audio if _is_one_of(stream, _AUDIO)]
        _decode_a_frame(media, [*video, *audio])
        is_stated = container != "mp4" or not _is_fragmented(file)
        return {
            "duration_seconds": media.duration / av.time_base if media.duration and is_stated else None,
            "has_video": bool(video),
            "has_audio": bool(audio),
            "audio_channels": audio[0].codec_context.channels if audio else None,
        }


def _is_one_of(stream: Stream, codecs: set[str]) -> bool:
    return stream.codec_context is not None and stream.codec_context.codec.canonical_name in codecs


def _decode_a_frame(media: InputContainer, streams: list[VideoStream | AudioStream]) -> None:
    """Of the first stream: a video without a picture is none, whereas its sound may begin late."""
    if not streams:
        raise _Refused
    streams[0].codec_context.thread_count = 1
    for packet in islice(media.demux(streams[0]), _MAX_PACKETS):
        with suppress(av.error.InvalidDataError):  # a stream may begin amid what it refers to
            if packet.decode():
                return
    raise _Refused


def _is_fragmented(file: _Object) -> bool:
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
            raise _Refused
    return False


def _refuse_to_open(_url: str, _flags: int, _options: dict[str, str]) -> NoReturn:
    raise _Refused


def _tell(message: dict[str, object]) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
