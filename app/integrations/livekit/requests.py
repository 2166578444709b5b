"""Builds the egress requests for LiveKit: the video of a room, one microphone, or two speakers.

Pure. This module refuses object keys that LiveKit would change. LiveKit changes some object keys: it appends a
missing extension, replaces braces, and cleans paths (`pkg/config/output_file.go` of livekit/egress, read
2026-11-21).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from livekit.protocol.egress import (
    AudioChannel,
    AudioConfig,
    AudioRoute,
    EncodedFileOutput,
    EncodedFileType,
    EncodingOptions,
    FileOutput,
    MediaSource,
    Output,
    RoomCompositeEgressRequest,
    S3Upload,
    StartEgressRequest,
    StorageConfig,
    TrackCompositeEgressRequest,
)
from livekit.protocol.models import AudioCodec

KEY_FRAME_INTERVAL_SECONDS: Final = 2.0

AUDIO_BITRATE_KBPS: Final = 64
"""Six hours then take 173 MB, which transcription can read. LiveKit's default of 128 would take 346 MB."""

AAC_FREQUENCY_HZ: Final = 44_100
"""With AAC at 48 kHz, egress 1.9.1 writes the start of a turn up to 0.94 s early (measured 2026-11-29)."""

_TYPES: Final = {".mp4": EncodedFileType.MP4, ".ogg": EncodedFileType.OGG}
_SOUND: Final[Mapping[str, EncodingOptions]] = {
    ".mp4": EncodingOptions(
        audio_codec=AudioCodec.AAC, audio_frequency=AAC_FREQUENCY_HZ, audio_bitrate=AUDIO_BITRATE_KBPS
    ),
    ".ogg": EncodingOptions(audio_codec=AudioCodec.OPUS, audio_bitrate=AUDIO_BITRATE_KBPS),
}
"""The encoding of sound for each file type. LiveKit always writes Opus at 48 kHz."""


class S3Credentials(Protocol):
    """The credentials that sign an upload, such as `app.integrations.storage.client.Credentials`."""

    @property
    def access_key_id(self) -> str: ...
    @property
    def secret_access_key(self) -> str: ...
    @property
    def session_token(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class S3Target:
    """The S3 bucket and credentials with which LiveKit uploads a recording. LiveKit uploads the recording after the
    consultation has ended, so the credentials must still be valid at that time.
    """

    endpoint_url: str
    region: str
    bucket: str
    credentials: S3Credentials = field(repr=False)
    force_path_style: bool = True


def video(room_name: str, object_key: str, upload: S3Target) -> RoomCompositeEgressRequest:
    """Return the egress request that records the room into one MP4. Raises ValueError for an object key that
    LiveKit would change.
    """
    output = _output(_extension(object_key, ".mp4"), object_key, upload)
    encoding = EncodingOptions(key_frame_interval=KEY_FRAME_INTERVAL_SECONDS)
    return RoomCompositeEgressRequest(room_name=room_name, file_outputs=[output], advanced=encoding)


def microphone(
    room_name: str, track_sid: str, object_key: str, upload: S3Target
) -> TrackCompositeEgressRequest:
    """Return the egress request that records the sound of one track. The object key's extension (`.mp4`, `.ogg`)
    selects the file type. Raises like `video`.

    The request names only the audio track, because LiveKit would also wait for a video track if the request named
    one.
    """
    if not track_sid:
        raise ValueError("a microphone is recorded by the SID of its track")
    extension = _extension(object_key, *_SOUND)
    return TrackCompositeEgressRequest(
        room_name=room_name,
        audio_track_id=track_sid,
        file_outputs=[_output(extension, object_key, upload)],
        advanced=_SOUND[extension],
    )


def speakers(
    room_name: str, doctor_identity: str, patient_identity: str, object_key: str, upload: S3Target
) -> StartEgressRequest:
    """Return the egress request that records two people's sound into one Ogg file, with the doctor on the left
    channel and the patient on the right. Raises like `video`.

    Each route in the request records all audio tracks of one participant. LiveKit waits up to 30 s until both
    people have published (`matchesAudioRoute`, `awaitMediaTracks` in `pkg/pipeline/source/sdk.go` of
    livekit/egress, read 2026-11-29).
    """
    if not doctor_identity or not patient_identity or doctor_identity == patient_identity:
        raise ValueError("two speakers are recorded by two identities")
    extension = _extension(object_key, ".ogg")
    routes = [
        AudioRoute(participant_identity=doctor_identity, channel=AudioChannel.AUDIO_CHANNEL_LEFT),
        AudioRoute(participant_identity=patient_identity, channel=AudioChannel.AUDIO_CHANNEL_RIGHT),
    ]
    file = FileOutput(file_type=_TYPES[extension], filepath=object_key, disable_manifest=True)
    return StartEgressRequest(
        room_name=room_name,
        media=MediaSource(audio=AudioConfig(routes=routes)),
        advanced=_SOUND[extension],
        outputs=[Output(file=file, storage=StorageConfig(s3=_s3(upload)))],
    )


def _extension(object_key: str, *allowed: str) -> str:
    """Return which of the file extensions in `allowed` the object key ends with. Raises ValueError for an object
    key that LiveKit would change.
    """
    found = next((extension for extension in allowed if object_key.endswith(extension)), None)
    if found is None or object_key.startswith(("/", ".")) or set(object_key) & set("{}"):
        expected = " or ".join(allowed)
        raise ValueError(f"an object key of a recording is relative, ends in {expected} and holds no braces")
    return found


def _output(extension: str, object_key: str, upload: S3Target) -> EncodedFileOutput:
    return EncodedFileOutput(
        file_type=_TYPES[extension], filepath=object_key, disable_manifest=True, s3=_s3(upload)
    )


def _s3(upload: S3Target) -> S3Upload:
    return S3Upload(
        access_key=upload.credentials.access_key_id,
        secret=upload.credentials.secret_access_key,
        session_token=upload.credentials.session_token or "",
        region=upload.region,
        endpoint=upload.endpoint_url,
        bucket=upload.bucket,
        force_path_style=upload.force_path_style,
        content_disposition="attachment",
    )
