"""Composes and parses the keys of the objects in the bucket. Pure.

| key | object |
|---|---|
| `r/<retention class>/<consultation>/<video>/<file>` | a recording with a fixed retention class, such as `d90` |
| `keep/<consultation>/<video>/<file>` | a recording that no rule of the bucket deletes |
| `exports/<access request>/<copy>.zip` | the encrypted copy of an access request |
| `exports/<audit export>/<copy>.zip` | the encrypted archive of an export of the audit log |
| `ledger/<video>/<number>.json` | the certificate of a destroyed recording |
| `audit/<origin>/tile/...` | a tile or an entry bundle of the audit log (app/transparency_log/tiles.py) |
| `audit/<origin>/checkpoints/<size>` | the published checkpoint of the audit log at this size |
| `audit-latest/<origin>/checkpoint` | the newest checkpoint of the audit log, which each publication overwrites |
| `deployment` | the mark: the name of the deployment to which the bucket belongs |

The origin of an audit log is `resguardo/<deployment>/<year>`. A lock covers `audit/`, and no lock covers
`audit-latest/`.

A key contains no person's name. The database assigns the keys of recordings, imports and exports with the functions
in supabase/schemas/22_object_keys.sql. A test checks that the SQL functions and this module compose the same keys.

LiveKit uploads the files `video.mp4`, `speakers.ogg` and `microphone-<id of the recording>.mp4` (or `.ogg`). If
LiveKit is asked again to record the same recording, the file gets a new name, such as `video-2.mp4`. A late upload
of the earlier egress therefore overwrites nothing. The file of an imported recording is `import.mp4`, a name that
LiveKit never uploads.

A clip of a recording is `clip-<id of the clip>.webm`, in the folder of the recording. The file of a later attempt to
make the clip has a new name, such as `clip-<id of the clip>-2.webm`.
"""

import re
from dataclasses import dataclass, replace
from typing import Final, Literal, cast
from uuid import UUID

RECORDINGS: Final = "r/"
KEPT: Final = "keep/"
EXPORTS: Final = "exports/"
LEDGER: Final = "ledger/"
AUDIT: Final = "audit/"
AUDIT_LATEST: Final = "audit-latest/"
MARK: Final = "deployment"

RECORDING_PREFIXES: Final = (RECORDINGS, KEPT)
"""The prefixes under which the bucket stores the objects of recordings."""

KEEP: Final = "keep"
"""The retention class of the recordings under `keep/`."""

_ID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_RECORDING: Final = re.compile(
    rf"(?:r/(?P<retention_class>[a-z0-9_-]+)|keep)/(?P<consultation>{_ID})/(?P<video>{_ID})/(?P<file>[^/]+)"
)
_EGRESS_FILE: Final = re.compile(
    rf"(?P<name>video|speakers|microphone-(?P<microphone>{_ID}))(?:-(?P<request>[0-9]{{1,3}}))?\.(?P<type>mp4|ogg)"
)
_TYPES: Final = {"video": ("mp4",), "speakers": ("ogg",)}
_MICROPHONE_TYPES: Final = ("mp4", "ogg")
_EXPORT: Final = re.compile(rf"exports/({_ID})/{_ID}\.zip")
_CHECKPOINT: Final = re.compile(r"audit/(?P<origin>.+)/checkpoints/(?P<size>0|[1-9][0-9]{0,18})")
_LEDGER_ENTRY: Final = re.compile(rf"ledger/({_ID})/([1-9][0-9]{{0,5}})\.json")


@dataclass(frozen=True)
class RecordingKey:
    """The parsed key of one object of a recording. In the key of a video, `video_id` is the video's own id. In the
    key of a sound, `video_id` is the id of the video beside which the sound was recorded.
    """

    retention_class: str
    consultation_id: UUID
    video_id: UUID
    file: str

    def __str__(self) -> str:
        place = KEPT if self.retention_class == KEEP else f"{RECORDINGS}{self.retention_class}/"
        return f"{place}{self.consultation_id}/{self.video_id}/{self.file}"


@dataclass(frozen=True)
class EgressFile:
    """The name of a file that LiveKit uploads. `request` is 1 for the first request to LiveKit to record this
    recording, 2 for the second.
    """

    medium: Literal["VIDEO", "SPEAKERS", "MICROPHONE"]
    microphone_id: UUID | None = None
    type: Literal["mp4", "ogg"] = "mp4"
    request: int = 1

    def __str__(self) -> str:
        name = self.medium.lower() if self.microphone_id is None else f"microphone-{self.microphone_id}"
        return f"{name}{'' if self.request == 1 else f'-{self.request}'}.{self.type}"


def parse_recording_key(key: str) -> RecordingKey | None:
    """Parse the key of a recording's object, whatever its file name is. Return None if the key is not one of a
    recording's object.
    """
    match = _RECORDING.fullmatch(key)
    if match is None:
        return None
    return RecordingKey(
        match["retention_class"] or KEEP, UUID(match["consultation"]), UUID(match["video"]), match["file"]
    )


def parse_egress_file(file: str) -> EgressFile | None:
    """Parse the name of a file that LiveKit uploads. Return None if LiveKit uploads no file with this name."""
    match = _EGRESS_FILE.fullmatch(file)
    if match is None or match["type"] not in _TYPES.get(match["name"], _MICROPHONE_TYPES):
        return None
    medium = "MICROPHONE" if match["microphone"] else match["name"].upper()
    return EgressFile(
        cast('Literal["VIDEO", "SPEAKERS", "MICROPHONE"]', medium),
        UUID(match["microphone"]) if match["microphone"] else None,
        cast('Literal["mp4", "ogg"]', match["type"]),
        int(match["request"] or 1),
    )


def compose_next_recording_key(key: str) -> str:
    """Return the object key that the recording gets when LiveKit is asked once more to record it. Raises ValueError
    if the given key is not the key of a file that LiveKit uploads.
    """
    parsed = parse_recording_key(key)
    file = parse_egress_file(parsed.file) if parsed is not None else None
    if parsed is None or file is None:
        raise ValueError("not the key of an object that LiveKit uploads")
    return str(replace(parsed, file=str(replace(file, request=file.request + 1))))


def compose_kept_key(key: str) -> str | None:
    """Return the key that the recording's object gets when it is moved to `keep/`. Return None if the key is not
    the key of a recording's object.
    """
    parsed = parse_recording_key(key)
    return None if parsed is None else str(replace(parsed, retention_class=KEEP))


def compose_clip_file(clip_id: UUID, run: int = 1) -> str:
    """Return the name of a clip's object in the folder of its recording. `run` is the number of the attempt to make the
    clip.
    """
    return f"clip-{clip_id}{'' if run == 1 else f'-{run}'}.webm"


def compose_exports_prefix(export_id: UUID) -> str:
    """Return the prefix of the archives of one access request, or of one export of the audit log."""
    return f"{EXPORTS}{export_id}/"


def parse_export_key(key: str) -> UUID | None:
    """Return the id in the key of an archive: of the access request, or of the export of the audit log. Return None if
    the key is not one of an archive.
    """
    match = _EXPORT.fullmatch(key)
    return None if match is None else UUID(match[1])


def compose_ledger_prefix(recording_id: UUID) -> str:
    """Return the prefix under which the ledger entries of one recording are stored."""
    return f"{LEDGER}{recording_id}/"


def compose_ledger_key(recording_id: UUID, number: int) -> str:
    """Return the object key of a ledger entry. The ledger entries of one recording are numbered from 1."""
    return f"{compose_ledger_prefix(recording_id)}{number}.json"


def parse_ledger_key(key: str) -> tuple[UUID, int] | None:
    """Return the recording id and the number in the key of a ledger entry. Return None if the key is not one of a
    ledger entry.
    """
    match = _LEDGER_ENTRY.fullmatch(key)
    return None if match is None else (UUID(match[1]), int(match[2]))


def compose_audit_prefix(origin: str) -> str:
    """Return the prefix under which the tiles and the checkpoints of one audit log are stored."""
    return f"{AUDIT}{origin}/"


def compose_tile_key(origin: str, path: str) -> str:
    """Return the object key of a tile or an entry bundle. `path` is the path of tlog-tiles, such as
    `tile/0/000.p/17`.
    """
    return f"{compose_audit_prefix(origin)}{path}"


def compose_checkpoint_key(origin: str, size: int) -> str:
    """Return the object key of the published checkpoint with this tree size."""
    return f"{compose_audit_prefix(origin)}checkpoints/{size}"


def compose_latest_checkpoint_key(origin: str) -> str:
    """Return the object key of the newest checkpoint. Each publication overwrites this object."""
    return f"{AUDIT_LATEST}{origin}/checkpoint"


def parse_checkpoint_key(key: str) -> tuple[str, int] | None:
    """Return the origin and the tree size in the key of a published checkpoint. Return None if the key is not one of
    a published checkpoint.
    """
    match = _CHECKPOINT.fullmatch(key)
    return None if match is None else (match["origin"], int(match["size"]))
