"""LiveKit's words for an egress that ended before it began, as reasons of ours."""

import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus

from app.integrations.livekit_snapshots import egress

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
