"""Writes the sound files of a room's participants. Each participant's voice is one channel of the stand-in's sound.

The files have the formats of livekit/egress: AAC in MP4 or Opus in Ogg, two channels, from any second of the sound
to any other, with silence before and after.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.filter import Graph
from av.filter.context import FilterContext
from livekit.protocol.egress import EncodedFileType

from devstack.livekit.media import Media, probe_sound
from devstack.livekit.requests import SoundEncoding

_FRAME_SAMPLES: Final = {EncodedFileType.MP4: 1024, EncodedFileType.OGG: 960}
_CODECS: Final = {EncodedFileType.MP4: ("aac", "mp4"), EncodedFileType.OGG: ("libopus", "ogg")}


@dataclass(frozen=True, slots=True)
class Cut:
    """A part of the stand-in's sound. Times are seconds from the beginning of the sound.

    `voices` are the source's channels on the file's left and right channel; None, or a channel that the source
    lacks, is silence. The file begins at the second `start` of the sound; if `start` is negative, the file begins
    with silence. The voices fall silent at the second `end`, or, if `end` is None, at the end of the sound. After
    that, `tail` seconds of silence follow.
    """

    voices: tuple[int | None, int | None]
    start: float
    end: float | None
    tail: float


def write(path: Path, source: Media, cut: Cut, encoding: SoundEncoding) -> Media:
    """Write the stretch `cut` of the sound `source` as a file to `path`. The function blocks. Raises
    av.FFmpegError.
    """
    codec, container_format = _CODECS[encoding.file_type]
    with av.open(str(path), mode="w", format=container_format) as container:
        stream = container.add_stream(codec, rate=encoding.frequency, layout="stereo")
        if not isinstance(stream, AudioStream):
            raise TypeError(f"{codec} writes no sound")
        stream.bit_rate = encoding.bitrate_kbps * 1000
        position = 0
        for frame in _frames(source, cut, encoding):
            frame.pts, frame.time_base = position, Fraction(1, encoding.frequency)
            position += frame.samples
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return probe_sound(path, encoding.file_type)


def _frames(source: Media, cut: Cut, encoding: SoundEncoding) -> Iterator[AudioFrame]:
    length = (source.duration_seconds if cut.end is None else cut.end) - cut.start
    if cut.voices == (None, None) or length <= 0 or cut.start >= source.duration_seconds:
        yield from _silence(max(length, 0) + cut.tail, encoding)
        return
    with av.open(str(source.path)) as container:
        stream = container.streams.audio[0]
        graph = Graph()
        voices = [_expression(voice, stream.codec_context.layout.nb_channels) for voice in cut.voices]
        nodes = [graph.add_abuffer(template=stream), *_chain(graph, voices, cut, length, encoding)]
        graph.link_nodes(*nodes).configure()
        for decoded in container.decode(stream):
            try:
                graph.push(decoded)
            except av.EOFError:  # all wanted samples have been taken
                break
            yield from _ready(graph)
        else:
            graph.push(None)
        yield from _ready(graph)


def _expression(voice: int | None, channels: int) -> str:
    """Return a channel of the source in the language of the filter `pan`."""
    return "0*c0" if voice is None or voice >= channels else f"c{voice}"


def _chain(
    graph: Graph, voices: Sequence[str], cut: Cut, length: float, encoding: SoundEncoding
) -> Sequence[FilterContext]:
    left, right = voices
    begin = max(cut.start, 0)
    samples = "fltp" if encoding.file_type == EncodedFileType.MP4 else "s16"
    shape = f"sample_fmts={samples}:sample_rates={encoding.frequency}:channel_layouts=stereo"
    filters = [
        ("pan", f"stereo|c0={left}|c1={right}"),
        ("atrim", f"start={begin}:end={max(cut.start + length, begin)}"),
        ("asetpts", "PTS-STARTPTS"),
        ("adelay", f"{round(max(-cut.start, 0) * 1000)}:all=1"),
        *([("apad", f"pad_dur={cut.tail}")] if cut.tail > 0 else []),
        ("aformat", shape),
        ("asetnsamples", f"n={_FRAME_SAMPLES[encoding.file_type]}:p=0"),
        ("abuffersink", None),
    ]
    return [graph.add(name, args) for name, args in filters]


def _ready(graph: Graph) -> Iterator[AudioFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        if isinstance(frame, AudioFrame):
            yield frame


def _silence(seconds: float, encoding: SoundEncoding) -> Iterator[AudioFrame]:
    samples = _FRAME_SAMPLES[encoding.file_type]
    for _ in range(max(1, math.ceil(seconds * encoding.frequency / samples))):
        frame = AudioFrame(
            format="fltp" if encoding.file_type == EncodedFileType.MP4 else "s16",
            layout="stereo",
            samples=samples,
        )
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate = encoding.frequency
        yield frame
