"""The child process that decodes the sound of an untrusted file. The app never imports this module, but runs the
module's file by its path in an isolated interpreter.

The child process gets no environment. The child decodes every audio track from the beginning at 16 kHz
(`sound_tracks.py`), and holds only the chunks that it is cutting (`chunk_cutter.py`). The channels of all tracks
are numbered from 0, in the order of the tracks.

For the task `measure`, the child repeatedly writes `{"channel": c, "frame_bytes": n}` and n bytes. Each byte
describes 30 ms of that channel: the loudness of the sound, and whether it is speech. The last message of the task
`measure` also contains `"sound": {...}`. For the task `cut`, the child reads the ranges of samples from its
standard input. For each range of samples, the child writes `{"chunk": number, "frame_bytes": f, "size_bytes": n}`,
then f bytes for the frames of the chunk, and n bytes of FLAC.
"""

import ctypes
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).parents[2])
)  # an isolated interpreter has no script directory on its path

from app.media.chunk_cutter import Chunk, ChunkCutter, split_by_edits
from app.media.loudness import FRAME_SAMPLES, LoudnessMeter
from app.media.sound_tracks import WHOLE_TRACK, Play, open_sound
from app.media.timeline import Allowance, samples_of
from app.media.untrusted_files import Object, confine, receive, report_refusals, send

_SENT_BYTES = 2000
_KEPT_BLOCKS = 2
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1024 * 1024


def main() -> None:
    """Run the child process. The child's arguments are the task, the container format, the size of the object, the
    size of a block in bytes, the limit of the address space in bytes, and the three numbers of `Allowance`.
    """
    task, container = sys.argv[1:3]
    size_bytes, block_bytes, memory_bytes, *numbers = map(int, sys.argv[3:])
    allowance = Allowance(*numbers)
    _return_freed_memory()
    confine(allowance.cpu_seconds, allowance.max_cpu_seconds, memory_bytes)
    file = Object(size_bytes, block_bytes, _KEPT_BLOCKS)
    report_refusals(lambda: (_measure if task == "measure" else _cut)(file, container, allowance))


def _return_freed_memory() -> None:
    """Make glibc return large freed blocks of memory to the operating system, so that chunks that were already sent
    use no memory.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _measure(file: Object, container: str, allowance: Allowance) -> None:
    with open_sound(file, container, allowance) as sound:
        meters = [LoudnessMeter() for _ in range(sound.channels)]
        media_samples = [0] * sound.channels
        for first, at, planes in sound.samples():
            for number, plane in enumerate(planes, first):
                meters[number].add_samples(plane)
                media_samples[number] = at + samples_of(planes)
        samples = 0
        for number, meter in enumerate(meters):
            plays = sound.plays(number)
            end = max((play.end(media_samples[number]) for play in plays), default=0)
            allowance.grow(end)
            _send_frames(number, _reorder_by_edits(meter.frames(), plays, end, media_samples[number]))
            samples = max(samples, end)
        found = {
            "channels": sound.channels if samples else 0,
            "samples": samples,
            "unused_channels": sound.damaged_channels,
            "unused_tracks": sound.unused_tracks,
        }
        send({"channel": 0, "frame_bytes": 0, "sound": found})


def _reorder_by_edits(frames: bytes, plays: Sequence[Play], end: int, media_samples: int) -> bytes:
    """Return the loudness frames of a track in the order in which its sound is played, `end` samples in total."""
    if plays == WHOLE_TRACK:
        return frames
    played = bytearray(-(-end // FRAME_SAMPLES))
    for play in plays:
        start, stop = play.start // FRAME_SAMPLES, -(-play.end(media_samples) // FRAME_SAMPLES)
        media_start = play.media_start // FRAME_SAMPLES
        some = frames[media_start : media_start + stop - start]
        played[start : start + len(some)] = some
    return bytes(played)


def _send_frames(channel: int, frames: bytes) -> None:
    for start in range(0, len(frames), _SENT_BYTES):
        sent = frames[start : start + _SENT_BYTES]
        send({"channel": channel, "frame_bytes": len(sent)}, sent)


def _cut(file: Object, container: str, allowance: Allowance) -> None:
    spans = json.loads(receive(int(sys.stdin.buffer.readline())))
    with open_sound(file, container, allowance) as sound:
        cutters: dict[int, ChunkCutter] = defaultdict(ChunkCutter)
        for number, (channel, start, end) in enumerate(spans):
            cutters[channel].waiting.append(Chunk(number, split_by_edits(sound.plays(channel), start, end)))
        for cutter in cutters.values():
            cutter.waiting.sort(key=lambda chunk: chunk.media_start, reverse=True)
        for first, at, planes in sound.samples(set(cutters)):
            for channel, plane in enumerate(planes, first):
                cutters[channel].take(at, plane)
            if all(cutter.is_done for cutter in cutters.values()):
                return
        for cutter in cutters.values():
            cutter.end()


if __name__ == "__main__":
    main()
