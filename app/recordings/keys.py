"""Object keys: `<place>/<consultation>/<video>/<file>`. Pure. A key contains no names.

The place is `r/d90` for objects that are kept 90 days, which the bucket's own rule deletes later, or `keep`, which
has no rule.

The file of a microphone track contains the id of its own row, `microphone-<id>.mp4`, because a video can have many.

Each new request to LiveKit for the same recording uses another file name, `video-2.mp4` after `video.mp4`, so a
late egress of an earlier request overwrites nothing. The object of an import is `import.mp4`, so it never looks
like LiveKit's; this module does not parse such a key.
"""

import re
from typing import Final
from uuid import UUID

from app.recordings.model import Medium, Recording

PREFIXES: Final = ("r/", "keep/")
"""The prefixes under which the bucket stores the objects of recordings."""

_ID = "[0-9a-f-]{36}"
_KEY = re.compile(
    rf"(?:keep|r/[a-z0-9_]+)/{_ID}/(?P<video>{_ID})/"
    rf"(?P<name>video|speakers|microphone-(?P<part>{_ID}))"
    r"(?:-(?P<ask>[0-9]{1,3}))?\.(?P<type>mp4|ogg)"
)
_TYPES = {"video": ("mp4",), "speakers": ("ogg",)}
_SOUND_TYPES = ("mp4", "ogg")

MediaId = tuple[UUID, Medium]
"""A recording by its medium and an id: the own id of a microphone recording, otherwise the id of the video."""


def media_of_key(object_key: str | None) -> MediaId | None:
    """Return the recording to which the object belongs, or None for a key that we did not give to LiveKit."""
    match = _KEY.fullmatch(object_key or "")
    if match is None or match["type"] not in _TYPES.get(match["name"], _SOUND_TYPES):
        return None
    try:
        if match["part"]:
            return UUID(match["part"]), Medium.MICROPHONE
        return UUID(match["video"]), Medium.VIDEO if match["name"] == "video" else Medium.SPEAKERS
    except ValueError:
        return None


def media_of(recording: Recording) -> MediaId:
    """Return the medium and the id of a recording."""
    video_id = recording.video_id if recording.medium is Medium.SPEAKERS else None
    return video_id or recording.id, recording.medium


def next_key(object_key: str) -> str:
    """Return the key of the next request. Raises ValueError for a key that does not belong to a recording."""
    match = _KEY.fullmatch(object_key)
    if match is None:
        raise ValueError("not the key of a recording")
    place = object_key[: match.end("name")]
    return f"{place}-{int(match['ask'] or 1) + 1}.{match['type']}"


def sound_type(object_key: str) -> str | None:
    """Return the content type of a sound object, or None for a video. LiveKit stores sound in MP4 as `video/mp4`."""
    media = media_of_key(object_key)
    if media is None or media[1] is Medium.VIDEO:
        return None
    return "audio/ogg" if object_key.endswith(".ogg") else "audio/mp4"
