"""Tests of the translation of LiveKit's egress and participant records into our types."""

from typing import Any

import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus, StartEgressRequest
from livekit.protocol.models import ParticipantInfo, TrackInfo, TrackSource, TrackType

from app.integrations.livekit.requests import S3Target, microphone, speakers, video
from app.integrations.livekit.snapshots import egress, participant
from app.integrations.storage.caller import Credentials

TARGET = S3Target("http://127.0.0.1:1", "auto", "bucket", Credentials("key-id", "secret", "token"))

NOT_RECEIVED = "Start signal not received"
STOP_CALLED = "Stop called before pipeline could start"


@pytest.mark.parametrize("status", [EgressStatus.EGRESS_ABORTED, EgressStatus.EGRESS_FAILED])
@pytest.mark.parametrize(
    ("error", "details", "reason"),
    [
        (NOT_RECEIVED, "End reason: StopEgress API", "stopped_before_start"),
        (STOP_CALLED, "End reason: StopEgress API", "stopped_before_start"),
        (f"twirp error unknown: {NOT_RECEIVED}", "End reason: StopEgress API", "stopped_before_start"),
        (NOT_RECEIVED, "End reason: Source closed", "room_closed_before_start"),
        (STOP_CALLED, "End reason: Source closed", "room_closed_before_start"),
        (NOT_RECEIVED, "End reason: Failure", "start_not_received"),
        (NOT_RECEIVED, "", "start_not_received"),
        (STOP_CALLED, "", "stopped_before_start"),
        ("Session limit reached before start signal", "End reason: StopEgress API", "limit_before_start"),
        ("upload failed", "End reason: StopEgress API", "upload_failed"),
    ],
)
def test_reason_of_an_egress_that_never_began_names_who_ended_it(
    status: EgressStatus, error: str, details: str, reason: str
) -> None:
    info = EgressInfo(egress_id="EG_1", status=status, error=error, error_code=412, details=details)
    assert egress(info).error_reason == reason


@pytest.mark.parametrize("error", ["", "some words that are not known"])
def test_aborted_egress_whose_error_is_not_known_names_who_ended_it(error: str) -> None:
    info = EgressInfo(status=EgressStatus.EGRESS_ABORTED, error=error, details="End reason: StopEgress API")
    assert egress(info).error_reason == "stopped_before_start"
    info.status = EgressStatus.EGRESS_FAILED
    assert egress(info).error_reason == ("failed" if error else None)


def test_stopped_egress_without_an_error_has_no_reason() -> None:
    info = EgressInfo(
        egress_id="EG_1", status=EgressStatus.EGRESS_COMPLETE, details="End reason: StopEgress API"
    )
    assert egress(info).error_reason is None


def test_participant_lists_only_published_microphones() -> None:
    tracks = [
        TrackInfo(sid="TR_mic", source=TrackSource.MICROPHONE, muted=True),
        TrackInfo(sid="TR_cam", source=TrackSource.CAMERA, type=TrackType.VIDEO),
        TrackInfo(sid="TR_odd", source=TrackSource.MICROPHONE, type=TrackType.VIDEO),
        TrackInfo(sid="TR_screen", source=TrackSource.SCREEN_SHARE_AUDIO),
        TrackInfo(sid="TR_unknown"),
        TrackInfo(sid="TR_again", source=TrackSource.MICROPHONE),
    ]
    assert participant(ParticipantInfo(identity="p", tracks=tracks)).microphones == ("TR_mic", "TR_again")
    assert participant(ParticipantInfo(identity="p")).microphones == ()


@pytest.mark.parametrize(
    "request_of_ours",
    [
        {"room_composite": video("room", "r/x.mp4", TARGET)},
        {"track_composite": microphone("room", "TR_1", "r/x.mp4", TARGET)},
        {"egress": speakers("room", "doctor", "patient", "r/x.ogg", TARGET)},
    ],
    ids=lambda request: next(iter(request)),
)
def test_egress_of_each_kind_has_its_object_key(request_of_ours: dict[str, Any]) -> None:
    key = egress(EgressInfo(egress_id="EG_1", **request_of_ours)).object_key
    assert key is not None
    assert key.startswith("r/x.")


def test_egress_of_another_program_has_no_object_key() -> None:
    assert egress(EgressInfo(egress_id="EG_1", track={"room_name": "room"})).object_key is None
    assert egress(EgressInfo(egress_id="EG_1", egress=StartEgressRequest(outputs=[{}]))).object_key is None
    assert egress(EgressInfo(egress_id="EG_1")).object_key is None
