"""Tests of the start and stop of recordings with a real database and object store. Whatever fails, no consultation
is recorded twice, and Resguardo reports every lost recording.
"""

import asyncio
import base64
import hashlib
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import httpx
import pytest
from livekit.protocol.egress import EgressInfo, RoomCompositeEgressRequest

from app.errors import AppError, Conflict, Timeout, UpstreamFailed
from app.failures import describe_failure
from app.integrations.livekit.client import (
    EgressSnapshot,
    LiveKit,
    LiveKitRefused,
    ParticipantSnapshot,
    S3Target,
)
from app.integrations.storage.caller import Credentials
from app.integrations.storage.objects import StoredObject
from app.integrations.storage.r2_credentials import recorder_credentials
from app.postgres.selection import Selection
from app.recordings.egress_start import AMBIGUOUS_START
from app.recordings.model import RecordingStatus
from app.recordings.tasks import RecordingJobs
from app.recordings.transitions import mark_failed
from devstack.livekit import Pace
from devstack.object_store import ObjectStore
from tests.databases import Database
from tests.integration.recording_harness import (
    DOCTOR,
    KEY,
    KEYRING,
    PACE,
    SECRET,
    RecordingHarness,
    asker,
    opened,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.anyio

STATUS = Selection.of("status")
A_MINUTE_AND_MORE = AMBIGUOUS_START + timedelta(seconds=1)
TABLES = """
select format('%I.%I', n.nspname, c.relname)
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname in ('resguardo', 'audit', 'private', 'jobs') and c.relkind = 'r'
"""


@pytest.fixture
async def harness(database: Database, object_store: ObjectStore) -> AsyncIterator[RecordingHarness]:
    async with opened(database, object_store) as made:
        yield made


@pytest.fixture
async def hasty(harness: RecordingHarness) -> AsyncIterator[LiveKit]:
    """Yield a LiveKit client with a short timeout for a start."""
    async with LiveKit(harness.livekit_url, KEY, SECRET, start_timeout_seconds=0.2) as livekit:
        yield livekit


async def _ask_in_vain(harness: RecordingHarness, hasty: LiveKit, recording_id: UUID) -> None:
    """Request the start of an egress, while LiveKit neither answers the request nor starts the egress."""
    harness.order("hang_start", seconds=60)
    with pytest.raises(Timeout):
        await harness.jobs_of(hasty).starter.start(recording_id)


def _s3(harness: RecordingHarness) -> "S3Client":
    return harness.storage._s3.client


async def test_recording_goes_from_request_to_ready_with_the_digest_of_its_object(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.completed()
    await harness.jobs.verifier.verify(recording_id)
    recording = await harness.read(recording_id)
    url = harness.storage.presign_get(
        await harness.object_key(recording_id), expires_in_seconds=60, filename="x.mp4"
    )
    async with httpx.AsyncClient(trust_env=False) as http:
        content = (await http.get(url)).content
    assert recording.status is RecordingStatus.READY
    assert recording.sha256 == hashlib.sha256(content).hexdigest()
    assert recording.size_bytes == len(content) > 0
    assert recording.error is None


async def test_each_transition_leaves_its_audit_row(harness: RecordingHarness) -> None:
    recording_id = await harness.completed()
    await harness.jobs.verifier.verify(recording_id)
    assert harness.transitions(recording_id) == [
        "REQUESTED",
        "REQUESTED>STARTING",
        "STARTING>RECORDING",
        "RECORDING>STOPPING",
        "STOPPING>VERIFYING",
        "VERIFYING>READY",
    ]


async def test_each_step_of_a_recording_queues_the_next_job(harness: RecordingHarness) -> None:
    await harness.completed()
    tasks = [name for name in harness.queued() if name != "follow_egress"]
    assert tasks == ["start_recording", "stop_recording", "verify_recording"]


async def test_intent_is_committed_before_livekit_is_asked(
    harness: RecordingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = await harness.request()
    committed: list[tuple[str, str]] = []
    start = harness.stand_in.recorder.start

    def spy(request: RoomCompositeEgressRequest) -> EgressInfo:
        query = (
            "select r.status, s.object_key from resguardo.recordings r"
            " join private.recording_secrets s on s.recording_id = r.id where r.id = %s"
        )
        committed.extend(harness.rows(query, recording_id))
        assert request.file_outputs[0].filepath == committed[0][1]
        return start(request)

    monkeypatch.setattr(harness.stand_in.recorder, "start", spy)
    await harness.jobs.starter.start(recording_id)
    assert [status for status, _ in committed] == ["STARTING"]


async def test_start_whose_answer_was_lost_is_adopted_and_not_repeated(harness: RecordingHarness) -> None:
    recording_id = await harness.request()
    harness.order("start_but_answer_503")
    with pytest.raises(UpstreamFailed, match="livekit_unavailable"):
        await harness.jobs.starter.start(recording_id)
    assert (await harness.read(recording_id)).egress_id is None
    await harness.jobs.starter.start(recording_id)
    (egress,) = await harness.egresses()
    assert (await harness.read(recording_id)).egress_id == egress.egress_id
    await harness.until(recording_id, RecordingStatus.RECORDING)


async def test_start_that_hangs_is_adopted_when_it_turns_up(
    harness: RecordingHarness, hasty: LiveKit
) -> None:
    recording_id = await harness.request()
    harness.order("hang_start", seconds=0.4)
    jobs = harness.jobs_of(hasty)
    with pytest.raises(Timeout, match="livekit_timeout"):
        await jobs.starter.start(recording_id)
    with pytest.raises(UpstreamFailed, match="egress_start_unknown"):
        await jobs.starter.start(recording_id)
    await harness.until_egress()
    await jobs.starter.start(recording_id)
    (egress,) = await harness.egresses()
    assert (await harness.read(recording_id)).egress_id == egress.egress_id


async def test_definite_refusal_fails_with_its_reason_and_frees_the_consultation(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.request()
    harness.order("refuse_start", code="resource_exhausted")
    await harness.jobs.starter.start(recording_id)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.FAILED, "livekit_at_capacity")
    assert await harness.egresses() == []
    await harness.recording()


async def test_refused_list_is_no_refusal_of_the_start(harness: RecordingHarness, hasty: LiveKit) -> None:
    recording_id = await harness.request()
    await _ask_in_vain(harness, hasty, recording_id)
    async with LiveKit(harness.livekit_url, KEY, "another-secret-of-more-than-32-bytes") as wrong:
        with pytest.raises(LiveKitRefused):
            await harness.jobs_of(wrong).starter.start(recording_id)
    assert (await harness.read(recording_id)).status is RecordingStatus.STARTING
    harness.ahead = A_MINUTE_AND_MORE
    await harness.jobs.starter.start(recording_id)
    assert len(await harness.egresses()) == 1


async def test_start_while_livekit_does_not_say_who_is_in_the_room_asks_nothing(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.request()
    async with LiveKit("http://127.0.0.1:1", KEY, SECRET) as nowhere:
        with pytest.raises(UpstreamFailed, match="livekit_unavailable"):
            await harness.jobs_of(nowhere).starter.start(recording_id)
    assert (await harness.read(recording_id)).status is RecordingStatus.REQUESTED
    await harness.jobs.starter.start(recording_id)
    assert (await harness.read(recording_id)).egress_id is not None


async def test_start_is_repeated_only_after_a_minute_of_none(
    harness: RecordingHarness, hasty: LiveKit
) -> None:
    recording_id = await harness.request()
    await _ask_in_vain(harness, hasty, recording_id)
    harness.ahead = AMBIGUOUS_START - timedelta(seconds=5)
    with pytest.raises(UpstreamFailed, match="egress_start_unknown"):
        await harness.jobs.starter.start(recording_id)
    assert len(harness.asked_for) == 1
    harness.ahead = A_MINUTE_AND_MORE
    await harness.jobs.starter.start(recording_id)
    assert len(await harness.egresses()) == 1


async def test_second_start_counts_its_own_minute(
    harness: RecordingHarness, hasty: LiveKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = await harness.request()
    jobs = harness.jobs_of(hasty)
    harness.order("hang_start", seconds=30, count=3)
    with pytest.raises(Timeout):
        await jobs.starter.start(recording_id)
    harness.ahead = A_MINUTE_AND_MORE
    before = await harness.read(recording_id)
    with pytest.raises(Timeout):
        await jobs.starter.start(recording_id)
    assert (await harness.read(recording_id)).updated_at > before.updated_at
    harness.ahead = timedelta(seconds=30)
    with pytest.raises(UpstreamFailed, match="egress_start_unknown"):
        await jobs.starter.start(recording_id)
    assert len(harness.asked_for) == 2


async def test_start_twice_at_once_makes_one_egress(harness: RecordingHarness) -> None:
    recording_id = await harness.request()
    outcomes = await asyncio.gather(
        *(harness.jobs.starter.start(recording_id) for _ in range(4)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert all(isinstance(one, UpstreamFailed) for one in refused), refused
    assert len(await harness.egresses()) == 1
    assert len(harness.asked_for) == 1


async def test_start_of_a_running_or_unknown_recording_does_nothing(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    before = await harness.read(recording_id)
    await harness.jobs.starter.start(recording_id)
    await harness.jobs.starter.start(uuid4())
    assert await harness.read(recording_id) == before
    assert len(await harness.egresses()) == 1


async def test_consent_withdrawn_before_the_start_aborts_without_asking_livekit(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.request()
    await harness.withdraw()
    await harness.jobs.starter.start(recording_id)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.ABORTED, "consent_withdrawn")
    assert await harness.egresses() == []
    assert harness.asked_for == []


@pytest.mark.parametrize("word", ["withdrawal", "stop"])
async def test_consent_is_checked_again_right_before_the_start_request(
    harness: RecordingHarness, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    recording_id = await harness.request()
    participants = harness.livekit.participants

    async def while_livekit_is_asked(room: str) -> list[ParticipantSnapshot]:
        if word == "withdrawal":
            await harness.withdraw()
        else:
            await harness.recordings.stop(asker(DOCTOR), recording_id)
        return await participants(room)

    monkeypatch.setattr(harness.livekit, "participants", while_livekit_is_asked)
    await harness.jobs.starter.start(recording_id)
    assert (await harness.read(recording_id)).status is RecordingStatus.ABORTED
    assert harness.asked_for == []


async def test_refused_second_start_keeps_the_egress_of_the_first(
    harness: RecordingHarness, hasty: LiveKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = await harness.request()
    await _ask_in_vain(harness, hasty, recording_id)
    harness.ahead = A_MINUTE_AND_MORE
    first, start = await harness.object_key(recording_id), harness.livekit.start_room_composite

    async def late(*, room_name: str, object_key: str, upload: S3Target) -> EgressSnapshot:
        await start(room_name=room_name, object_key=first, upload=upload)
        await harness.reconciler.run_once()
        harness.order("refuse_start", code="resource_exhausted")
        return await start(room_name=room_name, object_key=object_key, upload=upload)

    monkeypatch.setattr(harness.livekit, "start_room_composite", late)
    await harness.jobs.starter.start(recording_id)
    recording = await harness.read(recording_id)
    assert recording.status in (RecordingStatus.STARTING, RecordingStatus.RECORDING)
    assert (recording.egress_id is not None, recording.error) == (True, None)
    assert await harness.object_key(recording_id) == first
    await harness.jobs.starter.give_up(recording_id, "egress_start_unknown")
    assert (await harness.read(recording_id)).error is None


async def test_consent_withdrawn_while_recording_stops_it(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    await harness.withdraw()
    assert harness.queued()[-1] == "enforce_consent"
    await harness.jobs.consent.enforce(harness.consultation.id)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.STOPPING, "consent_withdrawn")
    assert harness.queued()[-1] == "stop_recording"
    await harness.jobs.updates.stop(recording_id)
    await harness.until(recording_id, RecordingStatus.VERIFYING)


async def test_valid_consent_stops_no_recording(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    before = await harness.read(recording_id)
    await harness.jobs.consent.enforce(harness.consultation.id)
    assert await harness.read(recording_id) == before


async def test_consent_withdrawn_while_a_start_is_unknown_ends_what_turns_up(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.request()
    harness.order("start_but_answer_503")
    with pytest.raises(UpstreamFailed):
        await harness.jobs.starter.start(recording_id)
    await harness.withdraw()
    await harness.jobs.consent.enforce(harness.consultation.id)
    await harness.jobs.updates.stop(recording_id)
    assert harness.queued().count("stop_recording") == 1
    await harness.jobs.starter.start(recording_id)
    assert (await harness.read(recording_id)).status is RecordingStatus.STOPPING
    assert harness.queued().count("stop_recording") == 2
    await harness.jobs.updates.stop(recording_id)
    await harness.until_egress("complete", "aborted")


async def test_stop_of_a_start_without_an_egress_aborts_after_a_minute(
    harness: RecordingHarness, hasty: LiveKit
) -> None:
    recording_id = await harness.request()
    await _ask_in_vain(harness, hasty, recording_id)
    await harness.recordings.stop(asker(DOCTOR), recording_id)
    with pytest.raises(UpstreamFailed, match="egress_start_unknown"):
        await harness.jobs.starter.start(recording_id)
    harness.ahead = A_MINUTE_AND_MORE
    await harness.jobs.starter.start(recording_id)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.ABORTED, "stopped_by_request")
    await harness.jobs.updates.stop(recording_id)
    assert await harness.egresses() == []


async def test_stop_before_livekit_was_asked_aborts_and_never_asks(harness: RecordingHarness) -> None:
    recording_id = await harness.request()
    await harness.recordings.stop(asker(DOCTOR), recording_id)
    await harness.jobs.starter.start(recording_id)
    await harness.jobs.updates.stop(recording_id)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.ABORTED, "stopped_by_request")
    assert harness.asked_for == []
    assert await harness.egresses() == []


async def test_stop_while_a_start_is_unknown_is_told_of_what_turns_up_and_never_begins(
    database: Database, object_store: ObjectStore
) -> None:
    slow = Pace(start_delay_seconds=5, record_seconds=PACE.record_seconds)
    async with opened(database, object_store, slow) as harness:
        recording_id = await harness.request()
        harness.order("start_but_answer_503")
        with pytest.raises(UpstreamFailed):
            await harness.jobs.starter.start(recording_id)
        await harness.recordings.stop(asker(DOCTOR), recording_id)
        await harness.jobs.starter.start(recording_id)
        await harness.jobs.updates.stop(recording_id)
        (egress,) = await harness.egresses()
        await harness.hint(egress.egress_id, "egress_ended", "EGRESS_ABORTED")
        recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.ABORTED, "stopped_by_request")


async def test_stop_that_crosses_a_start_which_livekit_refuses_is_told_as_the_stop(
    harness: RecordingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = await harness.request()

    async def stopped_meanwhile(**_: object) -> None:
        await harness.recordings.stop(asker(DOCTOR), recording_id)
        raise LiveKitRefused("livekit_refused")

    monkeypatch.setattr(harness.jobs.updates._livekit, "start_room_composite", stopped_meanwhile)
    await harness.jobs.starter.start(recording_id)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.ABORTED, "stopped_by_request")


async def test_stop_that_comes_too_late_for_a_start_is_no_error_of_the_recording(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.request()
    harness.order("start_but_answer_503")
    with pytest.raises(UpstreamFailed):
        await harness.jobs.starter.start(recording_id)
    await harness.recordings.stop(asker(DOCTOR), recording_id)
    assert (await harness.read(recording_id)).error == "stopped_by_request"
    await harness.until_egress("active")
    await harness.jobs.starter.start(recording_id)
    await harness.jobs.updates.stop(recording_id)
    egress = await harness.until_egress("complete")
    await harness.hint(egress.egress_id, "egress_ended", "EGRESS_COMPLETE")
    await harness.jobs.verifier.verify(recording_id)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.READY, None)


@pytest.mark.parametrize("is_known", [True, False])
async def test_consent_withdrawn_while_starting_is_told_whatever_livekit_says_of_it(
    database: Database, object_store: ObjectStore, is_known: bool
) -> None:
    slow = Pace(start_delay_seconds=5, record_seconds=PACE.record_seconds)
    async with opened(database, object_store, slow) as harness:
        recording_id = await harness.request()
        if is_known:
            await harness.jobs.starter.start(recording_id)
        else:
            harness.order("start_but_answer_503")
            with pytest.raises(UpstreamFailed):
                await harness.jobs.starter.start(recording_id)
        await harness.withdraw()
        await harness.jobs.consent.enforce(harness.consultation.id)
        await harness.recordings.stop(asker(DOCTOR), recording_id)
        await harness.jobs.starter.start(recording_id)
        await harness.jobs.updates.stop(recording_id)
        (egress,) = await harness.egresses()
        await harness.hint(egress.egress_id, "egress_ended", "EGRESS_ABORTED")
        recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.ABORTED, "consent_withdrawn")


async def test_stop_twice_is_one_stop(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    for _ in range(2):
        recording = await harness.recordings.stop(asker(DOCTOR), recording_id, STATUS)
        assert recording["status"] == "STOPPING"
    assert harness.queued().count("stop_recording") == 1
    await harness.jobs.updates.stop(recording_id)
    await harness.jobs.updates.stop(recording_id)
    await harness.until(recording_id, RecordingStatus.VERIFYING)
    await harness.jobs.updates.stop(recording_id)
    assert (await harness.recordings.stop(asker(DOCTOR), recording_id, STATUS))["status"] == "VERIFYING"


async def test_stop_of_an_ended_egress_applies_the_list(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    harness.stand_in.rooms.delete(harness.consultation.room_name)
    await harness.until_egress("complete")
    await harness.recordings.stop(asker(DOCTOR), recording_id)
    await harness.jobs.updates.stop(recording_id)
    assert (await harness.read(recording_id)).status is RecordingStatus.VERIFYING


async def test_second_recording_is_refused_while_one_is_live(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    with pytest.raises(Conflict, match="live_recording_exists") as refusal:
        await harness.request()
    assert refusal.value.detail == {"recording_id": str(recording_id)}


async def test_forged_end_of_a_running_egress_changes_nothing(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    before = await harness.read(recording_id)
    (egress,) = await harness.egresses()
    await harness.hint(egress.egress_id, "egress_ended", "EGRESS_COMPLETE")
    await harness.hint(egress.egress_id, "egress_ended", "EGRESS_FAILED")
    assert await harness.read(recording_id) == before


async def test_event_of_an_unknown_egress_changes_nothing(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    before = await harness.read(recording_id)
    await harness.hint("EG_nobodyknows", "egress_ended", "EGRESS_COMPLETE")
    await harness.hint("", "egress_ended", "EGRESS_FAILED")
    await harness.jobs.updates.apply_event("EV_nobodyknows")
    assert await harness.read(recording_id) == before


async def test_event_twice_is_taken_once(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    (egress,) = await harness.egresses()
    event_id = await harness.receive(egress.egress_id, "egress_updated", "EGRESS_ACTIVE")
    await harness.receive(egress.egress_id, "egress_updated", "EGRESS_ACTIVE", event_id)
    received = "select count(*) from private.livekit_events where event_id = %s"
    assert harness.rows(received, event_id) == [(1,)]
    before = await harness.read(recording_id)
    for _ in range(2):
        await harness.jobs.updates.apply_event(event_id)
    assert await harness.read(recording_id) == before


async def test_events_in_another_order_have_the_same_result(harness: RecordingHarness) -> None:
    recording_id = await harness.request()
    await harness.jobs.starter.start(recording_id)
    (egress,) = await harness.egresses()
    early = [
        await harness.receive(egress.egress_id, event, status)
        for event, status in (("egress_started", "EGRESS_STARTING"), ("egress_updated", "EGRESS_ACTIVE"))
    ]
    await harness.recordings.stop(asker(DOCTOR), recording_id)
    await harness.until_egress("active")
    await harness.jobs.updates.stop(recording_id)
    await harness.until_egress("complete")
    await harness.hint(egress.egress_id, "egress_ended", "EGRESS_COMPLETE")
    ended = await harness.read(recording_id)
    assert ended.status is RecordingStatus.VERIFYING
    for event_id in reversed(early):
        await harness.jobs.updates.apply_event(event_id)
    assert await harness.read(recording_id) == ended
    await harness.jobs.verifier.verify(recording_id)
    assert (await harness.read(recording_id)).status is RecordingStatus.READY


async def test_event_before_the_answer_of_the_start_is_applied(harness: RecordingHarness) -> None:
    recording_id = await harness.request()
    harness.order("start_but_answer_503")
    with pytest.raises(UpstreamFailed):
        await harness.jobs.starter.start(recording_id)
    (egress,) = await harness.egresses()
    await harness.hint(egress.egress_id, "egress_started", "EGRESS_STARTING")
    assert (await harness.read(recording_id)).egress_id == egress.egress_id


async def test_egress_of_another_application_is_left_alone(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    target = await harness._target("someone/else.mp4")
    other = await harness.livekit.start_room_composite(
        room_name=harness.consultation.room_name, object_key="someone/else.mp4", upload=target
    )
    before = await harness.read(recording_id)
    await harness.hint(other.egress_id)
    assert await harness.read(recording_id) == before


async def test_failed_upload_fails_with_its_reason(harness: RecordingHarness) -> None:
    recording_id = await harness.recording()
    harness.order("fail_upload")
    await harness.recordings.stop(asker(DOCTOR), recording_id)
    await harness.jobs.updates.stop(recording_id)
    egress = await harness.until_egress("failed")
    await harness.hint(egress.egress_id, "egress_ended", "EGRESS_FAILED")
    assert harness.transitions(recording_id)[-1] == "STOPPING>VERIFYING:egress_upload_failed"
    await harness.jobs.verifier.verify(recording_id)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.FAILED, "egress_upload_failed")
    await harness.recording()


async def test_egress_stopped_before_it_began_is_aborted(
    database: Database, object_store: ObjectStore
) -> None:
    slow = Pace(start_delay_seconds=5, record_seconds=PACE.record_seconds)
    async with opened(database, object_store, slow) as harness:
        recording_id = await harness.request()
        await harness.jobs.starter.start(recording_id)
        await harness.recordings.stop(asker(DOCTOR), recording_id)
        await harness.jobs.updates.stop(recording_id)
        (egress,) = await harness.egresses()
        await harness.hint(egress.egress_id, "egress_ended", "EGRESS_ABORTED")
        recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.ABORTED, "stopped_by_request")


async def test_missing_object_is_asked_for_again_and_lost_at_the_end(harness: RecordingHarness) -> None:
    recording_id = await harness.completed()
    _s3(harness).delete_object(Bucket=harness.object_store.bucket, Key=await harness.object_key(recording_id))
    for _ in range(2):
        with pytest.raises(UpstreamFailed, match="object_missing"):
            await harness.jobs.verifier.verify(recording_id)
    assert (await harness.read(recording_id)).status is RecordingStatus.VERIFYING
    harness.ahead = timedelta(minutes=11)
    await harness.jobs.verifier.verify(recording_id)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.LOST, "object_missing")


@pytest.mark.parametrize("content", [b"", b"not what LiveKit reported"])
async def test_object_of_another_size_fails(harness: RecordingHarness, content: bytes) -> None:
    recording_id = await harness.completed()
    key = await harness.object_key(recording_id)
    _s3(harness).put_object(Bucket=harness.object_store.bucket, Key=key, Body=content)
    await harness.jobs.verifier.verify(recording_id)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.FAILED, "object_size_differs")
    assert recording.sha256 is None


async def test_verify_again_changes_nothing(harness: RecordingHarness) -> None:
    recording_id = await harness.completed()
    await asyncio.gather(*(harness.jobs.verifier.verify(recording_id) for _ in range(3)))
    ready = await harness.read(recording_id)
    assert ready.status is RecordingStatus.READY
    await harness.jobs.verifier.verify(recording_id)
    assert await harness.read(recording_id) == ready
    assert harness.transitions(recording_id).count("VERIFYING>READY") == 1


async def test_verified_recording_has_the_time_at_which_the_bucket_stored_it(
    harness: RecordingHarness,
) -> None:
    recording_id = await harness.completed()
    await harness.jobs.verifier.verify(recording_id)
    stored_at = (await harness.read(recording_id)).stored_at
    pages = harness.storage.list_objects("keep/")
    [stored] = [one async for page in pages for one in page.objects if str(recording_id) in one.key]
    assert stored_at is not None
    assert abs(stored_at - stored.last_modified) < timedelta(seconds=1)


async def test_verification_after_the_end_changes_nothing(
    harness: RecordingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = await harness.completed()
    sha256 = harness.storage.sha256

    async def given_up_meanwhile(key: str, stored: StoredObject) -> str:
        await harness.jobs.transitions.apply(
            recording_id, lambda current, _: mark_failed(current, "storage_timeout")
        )
        return await sha256(key, stored)

    monkeypatch.setattr(harness.storage, "sha256", given_up_meanwhile)
    await harness.jobs.verifier.verify(recording_id)
    assert (await harness.read(recording_id)).error == "storage_timeout"


async def test_finished_recording_is_never_moved(harness: RecordingHarness) -> None:
    recording_id = await harness.completed()
    await harness.jobs.verifier.verify(recording_id)
    ready = await harness.read(recording_id)
    (egress,) = await harness.egresses()
    await harness.jobs.starter.start(recording_id)
    await harness.jobs.updates.stop(recording_id)
    await harness.jobs.starter.give_up(recording_id, "livekit_timeout")
    await harness.hint(egress.egress_id, "egress_ended", "EGRESS_FAILED")
    await harness.recordings.stop(asker(DOCTOR), recording_id)
    assert await harness.read(recording_id) == ready


@pytest.mark.parametrize("fault", [None, "fail_upload"])
async def test_recorder_credentials_are_in_no_row_and_no_log(
    database: Database, object_store: ObjectStore, caplog: pytest.LogCaptureFixture, fault: str | None
) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "app")
    async with opened(database, object_store, separate_speakers=True) as harness:
        if fault is not None:
            harness.order(fault, count=2)
        recording_id = await harness.recording()
        (sound,) = await harness.sound_of(recording_id)
        media = (recording_id, sound.id)
        await harness.jobs.starter.start(sound.id)
        await harness.until(sound.id, RecordingStatus.RECORDING)
        await harness.recordings.stop(asker(DOCTOR), recording_id)
        for each in media:
            await harness.jobs.updates.stop(each)
            await harness.until(each, RecordingStatus.VERIFYING)
            await harness.jobs.verifier.verify(each)
        assert [key.rpartition("/")[2] for key in harness.asked_for] == [
            "video.mp4",
            f"microphone-{sound.id}.mp4",
        ]
        errors = [(await harness.read(each)).error for each in media]
        assert errors == [None if fault is None else "egress_upload_failed"] * 2
        recorder = harness.object_store.recorder
        secrets = (recorder.access_key_id, recorder.secret_access_key, SECRET)
        rows = [
            str(row)
            for (table,) in harness.rows(TABLES)
            for row in harness.rows(f"select t::text from {table} as t")  # noqa: S608 - table names from the catalogue
        ]
        assert all(any(str(each) in row for row in rows) for each in media)
        assert not [text for text in (*rows, caplog.text) for secret in secrets if secret in text]


@pytest.mark.parametrize("fault", ["refuse_start", "start_but_answer_503", "hang_start", "no server"])
async def test_recorder_credentials_are_in_no_error(
    database: Database,
    object_store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    caplog.set_level(logging.DEBUG, "app")
    parent, made = Credentials("parent-key-id", "5f" * 32), list[Credentials]()

    async def target(object_key: str) -> S3Target:
        made.append(
            recorder_credentials(
                account_id="023e105f4ecef8ad9ca31a8372d0c353",
                bucket=object_store.bucket,
                parent=parent,
                endpoint_host="127.0.0.1",
                object_key=object_key,
                expires_in_seconds=3600,
                now=datetime.now(UTC),
            )
        )
        return S3Target(object_store.endpoint_url, object_store.region, object_store.bucket, made[-1])

    async with AsyncExitStack() as stack:
        harness = await stack.enter_async_context(opened(database, object_store, separate_speakers=True))
        recording_id = await harness.request()
        await harness.request_sound(recording_id)
        (sound,) = await harness.sound_of(recording_id)
        if fault != "no server":
            harness.order(fault, seconds=1, count=2)
        url = "http://127.0.0.1:1" if fault == "no server" else harness.livekit_url
        slow = await stack.enter_async_context(LiveKit(url, KEY, SECRET, start_timeout_seconds=0.2))
        monkeypatch.setattr(slow, "participants", harness.livekit.participants)
        jobs = RecordingJobs(
            harness.worker, slow, harness.storage, target, keyring=KEYRING, clock=harness.clock
        )
        told = [caplog.text]
        for each in (sound.id, recording_id):
            try:
                await jobs.starter.start(each)
            except AppError as error:
                told += [str(error), repr(error), str(error.detail), describe_failure(error)]
                told += traceback.format_exception(error)
            recording = await harness.read(each)
            assert recording.status is not RecordingStatus.REQUESTED
            told.append(repr(recording))
    assert (len(made), len(told) > 3) == (2, fault != "refuse_start")
    secrets = [parent.access_key_id, parent.secret_access_key]
    for one in made:
        assert one.session_token is not None
        token = base64.b64decode(one.session_token).decode().removeprefix("jwt/")
        secrets += [one.secret_access_key, one.session_token, token]
    assert not [text for text in (*told, caplog.text) for secret in secrets if secret in text]


async def test_start_without_a_key_for_the_recorder_fails_with_the_reason(
    harness: RecordingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = await harness.request()

    async def refused(_: str) -> S3Target:
        raise UpstreamFailed("recorder_role_refused")

    monkeypatch.setattr(harness.jobs.starter, "_recorder_target", refused)
    await harness.jobs.starter.start(recording_id)
    recording = await harness.read(recording_id)
    assert (recording.status, recording.error) == (RecordingStatus.FAILED, "recorder_role_refused")
    assert await harness.egresses() == []
