"""Finds the source of a sound recording: whether it is published, whose voice it is, and its place in the sound."""

import time
from typing import Final

from livekit.protocol.egress import AudioChannel

from devstack.livekit.requests import Sources
from devstack.livekit.rooms import Rooms
from devstack.livekit.rows import ENDED, Recording, Rows, Sound
from devstack.livekit.sound import Cut

_NANOSECONDS: Final = 1_000_000_000


class RoomSources:
    """Finds the audio sources of each sound recording in the rooms that are open now."""

    def __init__(self, rooms: Rooms, rows: Rows) -> None:
        self._rooms = rooms
        self._rows = rows

    def missing(self, recording: Recording) -> str | None:
        """Return what the egress still waits for, named as in LiveKit's errors, or None if every source is
        published.
        """
        name = recording.info.room_name
        publishing = {one.identity for one in self._rooms.participants(name) if one.is_publisher}
        if recording.sound is None:
            return None if publishing else "participant"
        sources = recording.sound.sources
        tracks = [sources.track_sid, *(route.track_sid for route in sources.routes)]
        for track_sid in filter(None, tracks):
            if self._rooms.publisher(name, track_sid) is None:
                return f"track {track_sid}"
        for route in sources.routes:
            if route.identity and route.identity not in publishing:
                return f"participant {route.identity}"
        return None

    def voices(self, name: str, sources: Sources) -> tuple[int | None, int | None]:
        """Return which channels of the stand-in's sound are on the left and the right channel of the file."""
        if sources.track_sid:
            voice = self._voice(name, self._rooms.publisher(name, sources.track_sid))
            return voice, voice
        return (
            self._routed(name, sources, AudioChannel.AUDIO_CHANNEL_LEFT),
            self._routed(name, sources, AudioChannel.AUDIO_CHANNEL_RIGHT),
        )

    def cut(self, recording: Recording, one: Sound, tail: float) -> Cut:
        """Return the part of the stand-in's sound that the recording contains. The sound began with the video of
        the room.
        """
        zero = recording.zero_ns or 0
        videos = [
            video.zero_ns
            for video in self._rows.of_room(recording.info.room_name)
            if video.sound is None
            and video.zero_ns is not None
            and (video.info.status < ENDED or video.info.ended_at > zero)
        ]
        start = (zero - max(videos, default=zero)) / _NANOSECONDS
        if one.muted_ns is None:
            return Cut(one.voices, start, None, tail)
        spoken = (one.muted_ns - zero) / _NANOSECONDS
        silent = max(0.0, (time.time_ns() - one.muted_ns) / _NANOSECONDS - tail)
        return Cut(one.voices, start, start + spoken, silent + tail)

    def _routed(self, name: str, sources: Sources, channel: AudioChannel) -> int | None:
        for route in sources.routes:
            if route.channel in (channel, AudioChannel.AUDIO_CHANNEL_BOTH):
                return self._voice(name, route.identity or self._rooms.publisher(name, route.track_sid))
        return None

    def _voice(self, name: str, identity: str | None) -> int | None:
        return self._rooms.channel(name, identity) if identity else None
