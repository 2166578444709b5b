"""Tests of the egress requests for a single microphone and for two speakers."""

import pytest
from livekit.protocol.egress import AudioChannel, EncodedFileType
from livekit.protocol.models import AudioCodec

from app.integrations.livekit.requests import S3Target, microphone, speakers
from app.integrations.storage.caller import Credentials

TARGET = S3Target("http://127.0.0.1:1", "auto", "bucket", Credentials("key-id", "secret", "token"))


def test_microphone_request_has_only_aac_at_44_khz() -> None:
    request = microphone("room", "TR_1", "r/m.mp4", TARGET)
    (output,) = request.file_outputs
    assert (request.room_name, request.audio_track_id, request.video_track_id) == ("room", "TR_1", "")
    assert (output.file_type, output.filepath, output.disable_manifest) == (
        EncodedFileType.MP4,
        "r/m.mp4",
        True,
    )
    assert (output.s3.bucket, output.s3.session_token) == ("bucket", "token")
    assert request.WhichOneof("options") == "advanced"
    encoding = request.advanced
    assert (encoding.audio_codec, encoding.audio_frequency, encoding.audio_bitrate) == (
        AudioCodec.AAC,
        44_100,
        64,
    )


def test_microphone_request_with_an_ogg_key_has_opus() -> None:
    request = microphone("room", "TR_1", "r/m.ogg", TARGET)
    assert request.file_outputs[0].file_type == EncodedFileType.OGG
    assert (request.advanced.audio_codec, request.advanced.audio_frequency) == (AudioCodec.OPUS, 0)


@pytest.mark.parametrize("key", ["r/m", "r/m.opus", "r/{time}.mp4", "/r/m.mp4", "../m.ogg", "r/m.MP4", ""])
def test_microphone_is_refused_when_livekit_would_change_the_key(key: str) -> None:
    with pytest.raises(ValueError, match="object key"):
        microphone("room", "TR_1", key, TARGET)


def test_microphone_is_refused_without_a_track() -> None:
    with pytest.raises(ValueError, match="track"):
        microphone("room", "", "r/m.mp4", TARGET)


def test_speakers_are_routed_by_identity() -> None:
    request = speakers("room", "doctor", "patient", "r/speakers.ogg", TARGET)
    routes = [(route.participant_identity, route.channel) for route in request.media.audio.routes]
    assert routes == [
        ("doctor", AudioChannel.AUDIO_CHANNEL_LEFT),
        ("patient", AudioChannel.AUDIO_CHANNEL_RIGHT),
    ]
    (output,) = request.outputs
    assert (output.file.file_type, output.file.filepath) == (EncodedFileType.OGG, "r/speakers.ogg")
    assert (output.file.disable_manifest, output.storage.s3.secret) == (True, "secret")
    assert not request.media.audio.capture_all
    assert request.media.WhichOneof("video") is None


@pytest.mark.parametrize("people", [("", "patient"), ("doctor", ""), ("same", "same")])
def test_speakers_are_refused_without_two_identities(people: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="two identities"):
        speakers("room", *people, "r/speakers.ogg", TARGET)


def test_speakers_are_refused_when_livekit_would_change_the_key() -> None:
    with pytest.raises(ValueError, match="object key"):
        speakers("room", "doctor", "patient", "r/speakers.mp4", TARGET)
