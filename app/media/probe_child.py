"""The child process that examines an untrusted file. The app never imports this module, but runs the module's file
by its path in an isolated interpreter. The child process gets no environment, and loads only
`app/media/untrusted_files.py` and `app/media/mp4_boxes.py` of the project. The last line that the child writes is
`{"media": {...}}` or `{"refused": reason}`.
"""

import sys
from contextlib import suppress
from itertools import islice
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

sys.path.insert(
    0, str(Path(__file__).parents[2])
)  # an isolated interpreter has no script directory on its path

from app.media.mp4_boxes import read_movie
from app.media.untrusted_files import (
    AUDIO,
    VIDEO,
    Object,
    ObjectRefused,
    confine,
    is_one_of,
    open_container,
    report_refusals,
    send,
)

_MAX_PACKETS = 500
_KEPT_BLOCKS = 6


def main() -> None:
    """Run the child process. The child's arguments are the container format, the size of the object, the size of a
    block in bytes, the limit of CPU seconds, and the limit of the address space in bytes.
    """
    container = sys.argv[1]
    size_bytes, block_bytes, cpu_seconds, memory_bytes = map(int, sys.argv[2:])
    confine(cpu_seconds, cpu_seconds + 1, memory_bytes)
    report_refusals(lambda: send({"media": _media(Object(size_bytes, block_bytes, _KEPT_BLOCKS), container)}))


def _media(file: Object, container: str) -> dict[str, object]:
    is_fragmented = container == "mp4" and read_movie(file).is_fragmented
    with open_container(file, container) as media:
        if media.duration is not None and media.duration <= 0:
            raise ObjectRefused
        video = [stream for stream in media.streams.video if is_one_of(stream, VIDEO)]
        audio = [stream for stream in media.streams.audio if is_one_of(stream, AUDIO)]
        _decode_a_frame(media, [*video, *audio])
        return {
            "duration_seconds": media.duration / av.time_base
            if media.duration and not is_fragmented
            else None,
            "has_video": bool(video),
            "has_audio": bool(audio),
            "audio_channels": audio[0].codec_context.channels if audio else None,
        }


def _decode_a_frame(media: InputContainer, streams: list[VideoStream | AudioStream]) -> None:
    """Decode one frame of the file's first stream. The probe refuses a video from which no picture can be decoded,
    but accepts a video whose sound begins late.
    """
    if not streams:
        raise ObjectRefused
    streams[0].codec_context.thread_count = 1
    for packet in islice(media.demux(streams[0]), _MAX_PACKETS):
        with suppress(av.error.InvalidDataError):  # a stream may begin with frames that refer to missing ones
            if packet.decode():
                return
    raise ObjectRefused


if __name__ == "__main__":
    main()
