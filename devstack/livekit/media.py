"""Provides the media file that a room shows, and uploads media files as livekit/egress does.

The upload uses only the credentials, endpoint, region, bucket and path style of the request. A file above 5 MiB is
uploaded in parts, five at a time. The upload tries a failed request up to five times, unless the store's error is
permanent (livekit/storage `s3.go`, read 2026-11-21). The requests look like those of the AWS SDK for Go, which adds
the operation's name to the query of some requests (seen 2026-11-29).
"""

import math
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av
import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from livekit.protocol.egress import EncodedFileOutput, EncodedFileType, S3Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART_BYTES: Final = 5 * 1024 * 1024
ATTEMPTS: Final = 5
VIDEO_TYPE: Final = "video/mp4"
AUDIO_TYPE: Final = "audio/ogg"
SAMPLE_RATE: Final = 48_000
_FRAME_SAMPLES: Final = 960
_LENIENT: Final[dict[str, Any]] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
"""A title that is not UTF-8 is no reason to fail. PyAV 19 has no such argument (read there 2026-11-21)."""


class UploadFailedError(Exception):
    """The object was not stored, and the local copy is deleted."""


@dataclass(frozen=True, slots=True)
class Media:
    """A file with its content type, size and duration."""

    path: Path
    content_type: str
    size_bytes: int
    duration_seconds: float


def probe(path: Path) -> Media:
    """Read an MP4's duration. Raises OSError, or av.FFmpegError (a ValueError) if the file is not an MP4."""
    return _probe(path, "mp4", VIDEO_TYPE)


def probe_audio(path: Path) -> Media:
    """Read an Ogg's duration. Raises like `probe`."""
    return _probe(path, "ogg", AUDIO_TYPE)


def probe_sound(path: Path, file_type: EncodedFileType) -> Media:
    """Read the duration of a sound file. LiveKit gives an MP4 that contains only sound the content type `video/mp4`
    too.
    """
    return probe_audio(path) if file_type == EncodedFileType.OGG else probe(path)


def generate(path: Path) -> Media:
    """Write one grey second as an MP4."""
    with av.open(str(path), mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height = 64, 64
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode())
    return probe(path)


def generate_silence(path: Path, duration_seconds: float) -> Media:
    """Write silence in two channels as an Ogg of Opus that is `duration_seconds` long, or one frame longer."""
    with av.open(str(path), mode="w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="stereo")
        for number in range(math.ceil(duration_seconds * SAMPLE_RATE / _FRAME_SAMPLES)):
            frame = av.AudioFrame(format="s16", layout="stereo", samples=_FRAME_SAMPLES)
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
            frame.sample_rate, frame.pts = SAMPLE_RATE, number * _FRAME_SAMPLES
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return probe_audio(path)


def location(output: EncodedFileOutput) -> str:
    """Return the file's URL as LiveKit reports it: `https://` before the endpoint, even if the endpoint begins with
    a scheme. The function does not check whether an object exists at this URL.
    """
    return f"https://{output.s3.endpoint}/{output.s3.bucket}/{output.filepath}"


def upload(media: Media, output: EncodedFileOutput, *, backoff_seconds: float, broken: bool = False) -> None:
    """Upload the file `media` to the destination `output`. The function blocks. If `broken` is true, every attempt
    to upload fails.

    Raises UploadFailedError.
    """
    with tempfile.TemporaryDirectory(prefix="egress-") as directory:
        local = Path(directory) / Path(output.filepath).name
        shutil.copyfile(media.path, local)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _put(local, media.content_type, output, broken=broken)
            except (ClientError, BotoCoreError, S3UploadFailedError) as error:
                if attempt == ATTEMPTS:
                    raise UploadFailedError(f"S3 upload failed: {error}") from error
            else:
                return
            time.sleep(backoff_seconds * 2 ** (attempt - 1))


def _probe(path: Path, container_format: str, content_type: str) -> Media:
    with av.open(str(path), format=container_format, **_LENIENT) as container:
        duration_seconds = (container.duration or 0) / av.time_base
    return Media(path, content_type, path.stat().st_size, duration_seconds)


def _put(local: Path, content_type: str, output: EncodedFileOutput, *, broken: bool) -> None:
    if broken:
        raise S3UploadFailedError("StatusCode: 503, by order")
    s3 = output.s3
    extra = {
        "ContentType": content_type,
        "ContentDisposition": s3.content_disposition or "inline",
        "Metadata": dict(s3.metadata),
    }
    if s3.tagging:
        extra["Tagging"] = s3.tagging
    transfer = TransferConfig(
        multipart_threshold=PART_BYTES + 1, multipart_chunksize=PART_BYTES, max_concurrency=5
    )
    client = _client(s3)
    try:
        client.upload_file(str(local), s3.bucket, output.filepath, ExtraArgs=extra, Config=transfer)
    finally:
        client.close()


def _client(s3: S3Upload) -> "S3Client":
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        s3={"addressing_style": "path" if s3.force_path_style else "virtual"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint or None,
        region_name=s3.region or "us-east-1",
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret,
        aws_session_token=s3.session_token or None,
        config=config,
    )
    client.meta.events.register("before-sign.s3", _as_go_asks)
    return client


def _as_go_asks(request: AWSRequest, operation_name: str, **_: object) -> None:
    url, _mark, query = (request.url or "").partition("?")
    names = [one if "=" in one else f"{one}=" for one in query.split("&") if one]
    if operation_name in ("PutObject", "UploadPart"):
        names.append(f"x-id={operation_name}")
    request.url = f"{url}?{'&'.join(sorted(names))}" if names else url
