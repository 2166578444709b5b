"""The keys of objects: `<place>/<consultation>/<video>/<file>`. Pure, and they name nobody.

The place is `r/d90` for what is kept 90 days, which the bucket's own rule empties after us, or `keep`, which has none.

Each time that LiveKit is asked anew for the same recording it gets another file name, `video-2.mp4` after `video.mp4`:
an egress of an earlier ask that turns up late overwrites nothing. What is imported is an `import.mp4`, so that it is
never taken for what LiveKit recorded: here such a key names nothing.
"""

import re
from uuid import UUID

from app.recordings.model import Medium, Recording

_KEY = re.compile(
    r"(?:keep|r/[a-z0-9_]+)/[0-9a-f-]{36}/([0-9a-f-]{36})/(video|speakers)(?:-([0-9]{1,3}))?\.(mp4|ogg)"
)
_MEDIA = {("video", "mp4"): Medium.VIDEO, ("speakers", "ogg"): Medium.SPEAKERS}

MediaId = tuple[UUID, Medium]
"""A recording by the id of its video and what was recorded."""


def media_of_key(object_key: str | None) -> MediaId | None:
    """Whose object it is; None for a key that is not of a recording of ours."""
    match = _KEY.fullmatch(object_key or "")
    medium = _MEDIA.get((match[2], match[4])) if match else None
    try:
        return (UUID(match[1]), medium) if match and medium else None
    except ValueError:
        return None


def media_of(recording: Recording) -> MediaId:
    """The same of a recording."""
    return recording.beside or recording.id, recording.medium


def next_key(object_key: str) -> str:
    """The key of the next ask. Raises ValueError for a key that is not of a recording of ours."""
    match = _KEY.fullmatch(object_key)
    if match is None:
        raise ValueError("not the key of a recording")
    folder = object_key[: match.start(2)]
    return f"{folder}{match[2]}-{int(match[3] or 1) + 1}.{match[4]}"
