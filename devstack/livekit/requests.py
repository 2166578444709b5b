"""Validates an egress request like livekit/egress, and removes the storage keys from the copy that ListEgress
shows.

Only files on S3 are supported: an MP4 of the room, or the sound of the room, of one track or of routed participants
as MP4 or Ogg. Other features of LiveKit are refused as `unimplemented`, not as invalid. A layout beside
`audio_mixing` is not refused, because LiveKit then records from a browser and ignores the mixing
(`ShouldUseSDKSource`, `pkg/config/pipeline.go` and `output_file.go` of livekit/egress at e948d1e, read 2026-11-29).
"""

import posixpath
import time
from dataclasses import dataclass
from typing import Final, NoReturn

from livekit.protocol.egress import (
    AudioChannel,
    AudioMixing,
    EgressInfo,
    EgressSourceType,
    EncodedFileOutput,
    EncodedFileType,
    EncodingOptions,
    EncodingOptionsPreset,
    Output,
    RoomCompositeEgressRequest,
    S3Upload,
    StartEgressRequest,
    TrackCompositeEgressRequest,
)
from livekit.protocol.models import AudioCodec

from devstack.livekit.twirp import TwirpError, from_a_service

StartRequest = RoomCompositeEgressRequest | TrackCompositeEgressRequest | StartEgressRequest

DEFAULT_BITRATE_KBPS: Final = 128
DEFAULT_FREQUENCY: Final = 44_100
OPUS_FREQUENCY: Final = 48_000

_EXTENSIONS: Final = {EncodedFileType.MP4: ".mp4", EncodedFileType.OGG: ".ogg"}
_SOUND_CODECS: Final = {EncodedFileType.MP4: AudioCodec.AAC, EncodedFileType.OGG: AudioCodec.OPUS}
_REPLACED: Final = frozenset((".raw", ".ogg", ".mp3", ".ivf", ".mp4", ".ts", ".webm", ".m3u8", ".jpeg"))
_SECRETS: Final = ("access_key", "secret", "session_token")


@dataclass(frozen=True, slots=True)
class SoundEncoding:
    """The encoding of sound. `frequency` is in Hz."""

    file_type: EncodedFileType
    frequency: int
    bitrate_kbps: int


@dataclass(frozen=True, slots=True)
class Route:
    """A route that puts sound on a channel of the file: all tracks of the participant `identity`, or the one track
    with this SID.
    """

    identity: str
    track_sid: str
    channel: AudioChannel


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of an egress that does not record the room: one audio track (`track_sid`), or the tracks that the
    routes match.
    """

    track_sid: str = ""
    routes: tuple[Route, ...] = ()


def keep(request: StartRequest, info: EgressInfo) -> None:
    """Store the request in `info`, with the storage keys replaced by their names (`egress/redact.go` of
    livekit/protocol).
    """
    match request:
        case RoomCompositeEgressRequest():
            info.room_composite.CopyFrom(request)
            _redact_files(info.room_composite)
        case TrackCompositeEgressRequest():
            info.track_composite.CopyFrom(request)
            _redact_files(info.track_composite)
        case StartEgressRequest():
            info.egress.CopyFrom(request)
            _redact_storage(info.egress)
            for output in info.egress.outputs:
                _redact_storage(output)


def require_room_name(request: StartRequest) -> None:
    """Raise TwirpError without a room name, because there is no token without a room (`pkg/config/pipeline.go`)."""
    if not request.room_name:
        _refuse("token or api key/secret")


def output_of(request: StartRequest) -> EncodedFileOutput:
    """Return the output file, with its final `file_type` and `filepath`. Raises TwirpError."""
    _require_encoding(request)
    is_sound = _is_sound(request)
    output = _only_file(request)
    if output.WhichOneof("output") != "s3":
        _refuse("output")
    if not output.s3.bucket or not output.s3.access_key or not output.s3.secret:
        _refuse("s3")
    output.file_type = _file_type(output.file_type, request.advanced.audio_codec, is_sound=is_sound)
    if (
        isinstance(request, RoomCompositeEgressRequest)
        and is_sound
        and output.file_type == EncodedFileType.MP4
    ):
        _unimplemented("the sound of a room as MP4")
    output.filepath = _stored_path(output.filepath, request.room_name, _EXTENSIONS[output.file_type])
    return output


def sources_of(request: StartRequest) -> Sources | None:
    """Return the sources of a sound recording, or None if the request records the room."""
    match request:
        case TrackCompositeEgressRequest():
            return Sources(track_sid=request.audio_track_id)
        case StartEgressRequest():
            routes = request.media.audio.routes
            return Sources(
                routes=tuple(Route(one.participant_identity, one.track_id, one.channel) for one in routes)
            )
        case RoomCompositeEgressRequest():
            return None


def encoding_of(request: StartRequest, file_type: EncodedFileType) -> SoundEncoding:
    """Return the sound encoding that the request demands, with livekit/egress's defaults. Opus always has 48 kHz
    (`newAudioCapsFilter`).
    """
    asked = request.advanced
    frequency = asked.audio_frequency or DEFAULT_FREQUENCY
    return SoundEncoding(
        file_type,
        OPUS_FREQUENCY if file_type == EncodedFileType.OGG else frequency,
        asked.audio_bitrate or DEFAULT_BITRATE_KBPS,
    )


def source_of(request: StartRequest) -> EgressSourceType:
    """Return the source type that LiveKit reports for this egress. Sound alone needs no browser, unless a layout or
    a custom page is requested.
    """
    if not isinstance(request, RoomCompositeEgressRequest):
        return EgressSourceType.EGRESS_SOURCE_TYPE_SDK
    if request.audio_only and not request.layout and not request.custom_base_url:
        return EgressSourceType.EGRESS_SOURCE_TYPE_SDK
    return EgressSourceType.EGRESS_SOURCE_TYPE_WEB


def is_alternating(request: StartRequest) -> bool:
    """Return whether the recording puts tracks on the left and the right channel in turn."""
    return (
        isinstance(request, RoomCompositeEgressRequest)
        and source_of(request) == EgressSourceType.EGRESS_SOURCE_TYPE_SDK
        and request.audio_mixing == AudioMixing.DUAL_CHANNEL_ALTERNATE
    )


def _redact_files(request: RoomCompositeEgressRequest | TrackCompositeEgressRequest) -> None:
    for output in (*request.file_outputs, *([request.file] if request.HasField("file") else [])):
        if output.HasField("s3"):
            _redact(output.s3)


def _redact_storage(asked: StartEgressRequest | Output) -> None:
    if asked.HasField("storage"):
        _redact(asked.storage.s3)


def _redact(s3: S3Upload) -> None:
    for name in _SECRETS:
        if getattr(s3, name):
            setattr(s3, name, f"{{{name}}}")


def _require_encoding(request: StartRequest) -> None:
    if request.preset == EncodingOptionsPreset.PASSTHROUGH:
        if isinstance(request, StartEgressRequest):
            _unimplemented("passthrough")
        _refuse("preset")
    advanced: EncodingOptions = request.advanced
    for name in ("width", "height"):
        asked = getattr(advanced, name)
        if asked > 0 and (asked < 16 or asked % 2):
            _refuse(name)
    if advanced.depth not in (0, 8, 16, 24):
        _refuse("depth")


def _is_sound(request: StartRequest) -> bool:
    """Return whether the request asks for sound alone. Raises TwirpError if the request names nothing to record, or
    media that the stand-in does not record.
    """
    match request:
        case RoomCompositeEgressRequest():
            if request.audio_only and request.video_only:
                _refuse("audio_only and video_only")
            return request.audio_only
        case TrackCompositeEgressRequest():
            if request.video_track_id:
                _unimplemented("a track of video")
            if not request.audio_track_id:
                _refuse("audio_track_id or video_track_id")
        case StartEgressRequest():
            _require_routes(request)
    return True


def _require_routes(request: StartEgressRequest) -> None:
    if request.WhichOneof("source") != "media":
        _unimplemented("a template or a page") if request.WhichOneof("source") else _refuse("source")
    media = request.media
    if media.WhichOneof("video") or media.audio.capture_all:
        _unimplemented("video, or the sound of everybody")
    if not media.audio.routes:
        _refuse("audio or video")
    if any(route.WhichOneof("match") == "participant_kind" for route in media.audio.routes):
        _unimplemented("a route by kind")


def _only_file(request: StartRequest) -> EncodedFileOutput:
    """Return a copy of the request's only file output, including its storage."""
    if isinstance(request, StartEgressRequest):
        return _only_output(request)
    if len(request.file_outputs) > 1:
        _refuse("multiple file outputs")
    if request.stream_outputs or request.segment_outputs or request.image_outputs:
        _unimplemented("other outputs than files")
    if not request.file_outputs and not request.HasField("file"):
        _refuse("output")
    output = EncodedFileOutput()
    output.CopyFrom(request.file_outputs[0] if request.file_outputs else request.file)
    return output


def _only_output(request: StartEgressRequest) -> EncodedFileOutput:
    if not request.outputs:
        _refuse("output")
    for one in request.outputs:
        if one.WhichOneof("config") is None:
            _refuse("output config")
        if one.WhichOneof("config") != "file":
            _unimplemented("other outputs than files")
    if len(request.outputs) > 1:
        _refuse("multiple file outputs")
    (asked,) = request.outputs
    storage = asked.storage if asked.HasField("storage") else request.storage
    output = EncodedFileOutput(
        file_type=asked.file.file_type,
        filepath=asked.file.filepath,
        disable_manifest=asked.file.disable_manifest,
    )
    if storage.HasField("s3"):
        output.s3.CopyFrom(storage.s3)
    return output


def _file_type(asked: EncodedFileType, codec: AudioCodec, *, is_sound: bool) -> EncodedFileType:
    if asked == EncodedFileType.DEFAULT_FILETYPE:
        asked = EncodedFileType.OGG if is_sound and codec != AudioCodec.AAC else EncodedFileType.MP4
    if not is_sound and asked in (EncodedFileType.OGG, EncodedFileType.MP3):
        raise TwirpError("invalid_argument", "no supported codec is compatible with all outputs")
    if asked not in _EXTENSIONS or codec == AudioCodec.AC_MP3:
        _unimplemented("MP3")
    if is_sound and codec not in (AudioCodec.DEFAULT_AC, _SOUND_CODECS[asked]):
        if asked == EncodedFileType.MP4:
            _unimplemented("Opus in MP4")
        raise TwirpError("invalid_argument", "format audio/ogg incompatible with codec audio/aac")
    return asked


def _stored_path(filepath: str, room_name: str, extension: str) -> str:
    """Return the final path of the file: cleaned, with a name, and with the extension of its type."""
    is_folder = not filepath or filepath.endswith("/")
    path = posixpath.normpath(filepath).lstrip("./") if filepath else ""
    if is_folder:
        path = posixpath.join(path, f"{room_name}-{time.strftime('%Y-%m-%dT%H%M%S')}")
    if path.endswith(extension):
        return path
    stem, existing = posixpath.splitext(path)
    return (stem if existing in _REPLACED else path) + extension


def _refuse(field: str) -> NoReturn:
    raise from_a_service("invalid_argument", f"request has missing or invalid field: {field}")


def _unimplemented(what: str) -> NoReturn:
    raise TwirpError("unimplemented", f"the stand-in does not record or write {what}")
