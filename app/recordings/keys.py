"""The keys of objects: `<place>/<consultation>/<video>/<file>`. Pure, and they name nobody.

The place is `r/d90` for what is kept 90 days, which the bucket's own rule empties after us, or `keep`, which has none.

The file of a microphone track is named after its own row, `microphone-<id>.mp4`: a video has as many as were published.

Each time that LiveKit is asked anew for the same recording it gets another file name, `video-2.mp4` after `video.mp4`:
an egress of an earlier ask that turns up late overwrites nothing. What is imported is an `import.mp4`, so that it is
never taken for what LiveKit recorded: here such a key names nothing.
"""

import re
from uuid import UUID

from app.recordings.model import Medium, Recording

_ID = "[0-9a-f-]{36}"
_KEY = re.compile(
    rf"(?:keep|r/[a-z0-9_]+)/{_ID}/(?P<video>{_ID})/"
    rf"(?P<name>video|speakers|microphone-(?P<part>{_ID}))"
    r"(?:-(?P<ask>[0-9]{1,3}))?\.(?P<type>mp4|ogg)"
)
_TYPES = {"video": ("mp4",), "speakers": ("ogg",)}
_SOUND_TYPES = ("mp4", "ogg")

MediaId = tuple[UUID, Medium]
"""A recording by what was recorded, and by an id: a microphone track's own, else the video's."""


def media_of_key(object_key: str | None) -> MediaId | None:
    """The recording that the object belongs to; None for a key that LiveKit did not get from us."""
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
    """The same of a recording."""
    video_id = recording.beside if recording.medium is Medium.SPEAKERS else None
    return video_id or recording.id, recording.medium


def next_key(object_key: str) -> str:
    """The key of the next ask. Raises ValueError for a key that is not of a recording of ours."""
    match = _KEY.fullmatch(object_key)
    if match is None:
        raise ValueError("not the key of a recording")
    place = object_key[: match.end("name")]
    return f"{place}-{int(match['ask'] or 1) + 1}.{match['type']}"


def sound_type(object_key: str) -> str | None:
    """The content type of a sound's object, None for a video's: LiveKit stores the sound in an MP4 as `video/mp4`."""
    media = media_of_key(object_key)
    if media is None or media[1] is Medium.VIDEO:
        return None
    return "audio/ogg" if object_key.endswith(".ogg") else "audio/mp4"
