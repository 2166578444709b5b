"""What a start of a room composite asks for: checked as livekit/egress checks it, and what of it may be
shown.

Files to S3 only, an MP4 of the room or an Ogg of its sound; what LiveKit could do besides is refused as
`unimplemented`, not as invalid. A layout beside `audio_mixing` is not refused: LiveKit then records from a
browser and mixes as if nothing had been asked (`ShouldUseSDKSource`, `pkg/config/pipeline.go` and
`output_file.go` of livekit/egress at e948d1e, read 2026-11-21).
"""

import posixpath
import time
from typing import Final, NoReturn

from livekit.protocol.egress import (
    EgressSourceType,
    EncodedFileOutput,
    EncodedFileType,
    RoomCompositeEgressRequest,
)

from devstack.livekit.twirp import TwirpError

_EXTENSIONS: Final = {EncodedFileType.MP4: ".mp4", EncodedFileType.OGG: ".ogg"}
_REPLACED: Final = frozenset((".raw", ".ogg", ".mp3", ".ivf", ".mp4", ".ts", ".webm", ".m3u8", ".jpeg"))
_SECRETS: Final = ("access_key", "secret", "session_token")


def redacted(request: RoomCompositeEgressRequest) -> RoomCompositeEgressRequest:
    """A copy whose storage keys are replaced by their names (`egress/redact.go` of livekit/protocol)."""
    copy = RoomCompositeEgressRequest()
    copy.CopyFrom(request)
    for output in (*copy.file_outputs, *([copy.file] if copy.HasField("file") else [])):
        for name in _SECRETS:
            if getattr(output.s3, name):
                setattr(output.s3, name, f"{{{name}}}")
    return copy


def output_of(request: RoomCompositeEgressRequest) -> EncodedFileOutput:
    """What is to be written where: `file_type` and `filepath` as they will be. Raises TwirpError."""
    if request.audio_only and request.video_only:
        _refuse("audio_only and video_only")
    asked = _only_file(request)
    if asked.WhichOneof("output") != "s3":
        _refuse("output")
    output = EncodedFileOutput()
    output.CopyFrom(asked)
    if not output.s3.bucket or not output.s3.access_key or not output.s3.secret:
        _refuse("s3")
    output.file_type = _file_type(request, asked.file_type)
    output.filepath = _stored_path(asked.filepath, request.room_name, _EXTENSIONS[output.file_type])
    return output


def source_of(request: RoomCompositeEgressRequest) -> EgressSourceType:
    """Sound alone needs no browser, unless a layout or a page of one's own is asked for."""
    if request.audio_only and not request.layout and not request.custom_base_url:
        return EgressSourceType.EGRESS_SOURCE_TYPE_SDK
    return EgressSourceType.EGRESS_SOURCE_TYPE_WEB


def _only_file(request: RoomCompositeEgressRequest) -> EncodedFileOutput:
    if len(request.file_outputs) > 1:
        _refuse("multiple file outputs")
    if request.stream_outputs or request.segment_outputs or request.image_outputs:
        raise TwirpError("unimplemented", "the stand-in writes files only")
    if request.file_outputs:
        return request.file_outputs[0]
    if not request.HasField("file"):
        _refuse("output")
    return request.file


def _file_type(request: RoomCompositeEgressRequest, asked: EncodedFileType) -> EncodedFileType:
    if asked == EncodedFileType.DEFAULT_FILETYPE:
        return EncodedFileType.OGG if request.audio_only else EncodedFileType.MP4
    if not request.audio_only and asked in (EncodedFileType.OGG, EncodedFileType.MP3):
        raise TwirpError("invalid_argument", "no supported codec is compatible with all outputs")
    if asked not in _EXTENSIONS or (request.audio_only and asked == EncodedFileType.MP4):
        raise TwirpError("unimplemented", "the stand-in writes an MP4 of a room and an Ogg of its sound")
    return asked


def _stored_path(filepath: str, room_name: str, extension: str) -> str:
    """Where the file will lie: cleaned, named if it has no name, and with the extension of its type."""
    is_folder = not filepath or filepath.endswith("/")
    path = posixpath.normpath(filepath).lstrip("./") if filepath else ""
    if is_folder:
        path = posixpath.join(path, f"{room_name}-{time.strftime('%Y-%m-%dT%H%M%S')}")
    if path.endswith(extension):
        return path
    stem, existing = posixpath.splitext(path)
    return (stem if existing in _REPLACED else path) + extension


def _refuse(field: str) -> NoReturn:
    raise TwirpError("invalid_argument", f"request has missing or invalid field: {field}")
