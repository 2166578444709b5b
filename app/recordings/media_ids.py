"""Identifies a recording by a medium and an id, which are also in the object key that the recording's egress
writes. Pure.
"""

from uuid import UUID

from app.bucket.object_keys import parse_egress_file, parse_recording_key
from app.recordings.model import Medium, Recording

MediaId = tuple[UUID, Medium]
"""A recording by its medium and an id: the own id of a microphone recording, otherwise the id of the video."""


def media_of_key(object_key: str | None) -> MediaId | None:
    """Return the medium and the id of the recording to which the object belongs, or None if Resguardo did not give
    this object key to LiveKit.
    """
    key = parse_recording_key(object_key or "")
    file = parse_egress_file(key.file) if key is not None else None
    if key is None or file is None:
        return None
    return file.microphone_id or key.video_id, Medium(file.medium)


def media_of(recording: Recording) -> MediaId:
    """Return the medium of a recording, and the id that is in the recording's object key."""
    video_id = recording.video_id if recording.medium is Medium.SPEAKERS else None
    return video_id or recording.id, recording.medium


def sound_type(object_key: str) -> str | None:
    """Return the content type of a sound object, or None for a video. LiveKit stores a sound object in MP4 with the
    content type `video/mp4`.
    """
    media = media_of_key(object_key)
    if media is None or media[1] is Medium.VIDEO:
        return None
    return "audio/ogg" if object_key.endswith(".ogg") else "audio/mp4"


def playback_type(object_key: str) -> str:
    """Return the content type with which a browser plays the object. A playback URL states it, so that no object is
    ever shown as a page.
    """
    return sound_type(object_key) or ("video/webm" if object_key.endswith(".webm") else "video/mp4")
