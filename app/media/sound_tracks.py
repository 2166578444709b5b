"""Decodes the audio tracks of an untrusted file, and applies the edit lists of its movie.

Only the child process `sound_child.py` loads this module.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard

from app.media.mp4_boxes import Boxes, Movie, read_movie
from app.media.timeline import RATE, Allowance, Planes, Track
from app.media.turns import MAX_CHANNELS
from app.media.untrusted_files import AUDIO, Object, ObjectRefused, is_one_of, open_container

_MAX_CHANNELS_OF_A_TRACK = 8


@dataclass(frozen=True)
class Play:
    """A range of samples of an audio track, and its position in the played sound. `length` is None if the samples
    extend to the end of the track.
    """

    start: int
    media_start: int
    length: int | None

    def end(self, media_samples: int) -> int:
        """Return the position in the played sound at which these samples end, given that the track has
        `media_samples` samples.
        """
        rest = max(0, media_samples - self.media_start)
        return self.start + (rest if self.length is None else min(self.length, rest))


WHOLE_TRACK = (Play(0, 0, None),)


@dataclass
class AudioTrack:
    """One audio track of a file, the number of its first channel, and its number of channels."""

    track: Track
    first: int
    channels: int
    plays: tuple[Play, ...]
    is_damaged: bool = False


class DecodedSound:
    """The audio tracks of one file. `channels` is the total number of channels of the tracks that can be decoded."""

    def __init__(
        self, file: Object, media: InputContainer, movie: Movie | None, allowance: Allowance
    ) -> None:
        if not media.streams:
            raise ObjectRefused
        self._file, self._media = file, media
        self._is_movie, self._is_fragmented = movie is not None, movie is not None and movie.is_fragmented
        self._tracks: dict[int, AudioTrack] = {}
        streams = [stream for stream in media.streams.audio if is_one_of(stream, AUDIO)]
        self._undecodable = len(media.streams.audio) - len(streams)
        self.channels = 0
        for stream, layout in zip(streams, _layouts(streams), strict=True):
            stream.codec_context.thread_count = 1
            track = Track(stream, layout.name, allowance, are_discards_lost=self._is_fragmented)
            self._tracks[stream.index] = AudioTrack(
                track, self.channels, layout.nb_channels, _plays(movie, stream)
            )
            self.channels += layout.nb_channels
        allowance.channels = self.channels

    def plays(self, channel: int) -> tuple[Play, ...]:
        """Return the stretches of the channel's track that a player plays. Raises ObjectRefused if the file has no
        channel with this number.
        """
        for one in self._tracks.values():
            if one.first <= channel < one.first + one.channels:
                return one.plays
        raise ObjectRefused

    @property
    def unused_tracks(self) -> int:
        """Return how many audio tracks cannot be decoded or are too damaged to be used."""
        return self._undecodable + sum(one.is_damaged for one in self._tracks.values())

    @property
    def damaged_channels(self) -> list[int]:
        """Return the numbers of all channels that belong to damaged tracks."""
        damaged = (one for one in self._tracks.values() if one.is_damaged)
        return [number for one in damaged for number in range(one.first, one.first + one.channels)]

    def samples(self, only: AbstractSet[int] | None = None) -> Iterator[tuple[int, int, Planes]]:
        """Yield samples of each channel of a track, together with the number of the track's first channel and the
        number of the first sample.

        If `only` names channels, the method omits each track that has none of these channels. Raises ObjectRefused
        if every audio track is damaged, or if the file ends earlier than its index states.
        """
        wanted = {
            index: one
            for index, one in self._tracks.items()
            if only is None or not only.isdisjoint(range(one.first, one.first + one.channels))
        }
        for stream in self._media.streams:
            if stream.index not in wanted:
                stream.discard = Discard.all
        if not wanted:
            return
        boxes = Boxes(self._file)
        for packet in self._media.demux([self._media.streams[index] for index in wanted]):
            if self._is_fragmented:
                _require_whole_boxes(boxes, packet.pos or 0)
            yield from _read_track(wanted[packet.stream.index], partial(_take, packet))
        for one in wanted.values():
            yield from _read_track(one, Track.end)
            one.is_damaged = one.is_damaged or one.track.has_lost_too_much
        self._require_complete(wanted.values(), boxes)

    def _require_complete(self, tracks: Collection[AudioTrack], boxes: Boxes) -> None:
        if all(one.is_damaged for one in tracks):
            raise ObjectRefused
        if self._is_fragmented:
            _require_whole_boxes(boxes, self._file.size_bytes)
        elif self._is_movie and any(one.track.ends_too_early for one in tracks if not one.is_damaged):
            raise ObjectRefused


def _require_whole_boxes(boxes: Boxes, until: int) -> None:
    """Raise ObjectRefused if the file ends inside a box, because FFmpeg would treat the truncated file as complete."""
    for _ in boxes.walk(until):
        pass


def _take(packet: "Packet[Any]", track: Track) -> Iterator[tuple[int, Planes]]:
    return track.take(packet)


def _read_track(
    one: AudioTrack, give: Callable[[Track], Iterator[tuple[int, Planes]]]
) -> Iterator[tuple[int, int, Planes]]:
    """Yield the samples that `give` reads from a track, together with the number of the track's first channel. If
    the track is damaged, yield no samples.
    """
    if one.is_damaged:
        return
    try:
        for at, planes in give(one.track):
            yield one.first, at, planes
    except ObjectRefused:
        one.is_damaged = True


def _layouts(streams: Sequence[AudioStream]) -> list[AudioLayout]:
    """Return the channel layout to which the child resamples each track. A track keeps its channel layout, or is
    mixed into one channel if it has too many channels, or if the file would have more than MAX_CHANNELS channels in
    total.
    """
    layouts = [stream.codec_context.layout for stream in streams]
    mono = AudioLayout("mono")
    for most in (_MAX_CHANNELS_OF_A_TRACK, 2, 1):
        layouts = [layout if 0 < layout.nb_channels <= most else mono for layout in layouts]
        if sum(layout.nb_channels for layout in layouts) <= MAX_CHANNELS:
            break
    return layouts


def _plays(movie: Movie | None, stream: AudioStream) -> tuple[Play, ...]:
    edits = movie.edits.get(stream.id) if movie is not None else None
    if edits is None:
        return WHOLE_TRACK
    return tuple(
        Play(
            round(edit.start * RATE),
            round(edit.media_start * RATE),
            None if edit.length is None else round(edit.length * RATE),
        )
        for edit in edits
        if edit.media_start is not None
    )


@contextmanager
def open_sound(file: Object, container: str, allowance: Allowance) -> Iterator[DecodedSound]:
    movie = read_movie(file) if container == "mp4" else None
    # FFmpeg plays parts that some edit lists leave out, so it yields the whole track, and we apply the edit list.
    with open_container(file, container, ignore_editlist="1") as media:
        yield DecodedSound(file, media, movie, allowance)
