"""What Resguardo asks LiveKit to record, as its requests: the video of a room, or its speakers apart.

Pure. Refuses object keys that LiveKit would change: it appends the extension of the file type where it is
missing, fills braces in, and cleans paths (`pkg/config/output_file.go` of livekit/egress, read 2026-11-21).
"""

from dataclasses import dataclass, field
from typing import Final, Protocol

from livekit.protocol.egress import (
    AudioMixing,
    EncodedFileOutput,
    EncodedFileType,
    EncodingOptions,
    RoomCompositeEgressRequest,
    S3Upload,
)

KEY_FRAME_INTERVAL_SECONDS: Final = 2.0


class S3Credentials(Protocol):
    """What an upload signs with; `app.integrations.storage.Credentials` is one."""

    @property
    def access_key_id(self) -> str: ...
    @property
    def secret_access_key(self) -> str: ...
    @property
    def session_token(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class S3Target:
    """Where LiveKit uploads to. The credentials must outlive the consultation and the upload that follows
    it.
    """

    endpoint_url: str
    region: str
    bucket: str
    credentials: S3Credentials = field(repr=False)
    force_path_style: bool = True


def video(room_name: str, object_key: str, upload: S3Target) -> RoomCompositeEgressRequest:
    """Everybody in one MP4. Raises ValueError for a key LiveKit would change."""
    output = _output(EncodedFileType.MP4, ".mp4", object_key, upload)
    encoding = EncodingOptions(key_frame_interval=KEY_FRAME_INTERVAL_SECONDS)
    return RoomCompositeEgressRequest(room_name=room_name, file_outputs=[output], advanced=encoding)


def speakers(room_name: str, object_key: str, upload: S3Target) -> RoomCompositeEgressRequest:
    """The sound alone as an Ogg of two channels, which people take in turn as they join. Raises as `video`.

    No layout: with one LiveKit records from a browser and ignores the mixing (`ShouldUseSDKSource` in
    `pkg/config/pipeline.go` of livekit/egress, read 2026-11-21).
    """
    output = _output(EncodedFileType.OGG, ".ogg", object_key, upload)
    return RoomCompositeEgressRequest(
        room_name=room_name,
        audio_only=True,
        audio_mixing=AudioMixing.DUAL_CHANNEL_ALTERNATE,
        file_outputs=[output],
    )


def _output(
    file_type: EncodedFileType, extension: str, object_key: str, upload: S3Target
) -> EncodedFileOutput:
    if not object_key.endswith(extension) or object_key.startswith(("/", ".")) or set(object_key) & set("{}"):
        raise ValueError(f"an object key of a recording is relative, ends in {extension} and holds no braces")
    s3 = S3Upload(
        access_key=upload.credentials.access_key_id,
        secret=upload.credentials.secret_access_key,
        session_token=upload.credentials.session_token or "",
        region=upload.region,
        endpoint=upload.endpoint_url,
        bucket=upload.bucket,
        force_path_style=upload.force_path_style,
        content_disposition="attachment",
    )
    return EncodedFileOutput(file_type=file_type, filepath=object_key, disable_manifest=True, s3=s3)
