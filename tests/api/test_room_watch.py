"""Tests of automatic recordings, and of law 6 (no recording without everyone's consent) when people join a room.
The tests use the real webhook route and the real job queue.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from livekit.protocol.models import ParticipantInfo

from app.texts import LANGUAGES, recording_error_text
from devstack.livekit import Order
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person
from tests.api.importing import import_recording
from tests.api.socket_client import open_socket

pytestmark = pytest.mark.anyio

JOINED = "participant_joined"


@contextmanager
def _ordered(harness: ApiHarness, *orders: Order) -> Iterator[None]:
    for order in orders:
        harness.livekit.orders.add(order)
    try:
        yield
    finally:
        harness.livekit.orders.clear()


async def _enter(harness: ApiHarness, case: Case, *people: Person) -> None:
    """Let the given people join the LiveKit room with join tokens from the API."""
    for person in people:
        token = (await person.ask(documents.JOIN, consultationId=case.id))["joinToken"]["token"]
        async with httpx.AsyncClient(trust_env=False) as http:
            entered = await http.post(f"{harness.livekit_url}/stand-in/join", json={"token": token})
        assert entered.status_code == 200


def _admit(harness: ApiHarness, case: Case, identity: str) -> None:
    """Let a participant into the LiveKit room without a join token from the API."""
    harness.livekit.rooms.admit(_room(case), identity, publishes=False)


def _room(case: Case) -> str:
    return str(case.consultation["roomName"])


async def _settle(harness: ApiHarness) -> None:
    """Wait until every webhook has arrived, and run the jobs that the webhooks queued."""
    await harness.livekit.notifier.idle()
    await harness.work()


async def _recordings(case: Case) -> list[Any]:
    page = await case.doctor.ask(documents.RECORDINGS, filter={"consultation": {"id": case.id}})
    return [edge["node"] for edge in page["edges"]]


async def _recorded(harness: ApiHarness, case: Case) -> str:
    """Start a recording with the doctor and the patient in the room. Return the id of the started recording."""
    await case.consent()
    await _enter(harness, case, case.doctor, case.patient)
    started = await case.doctor.ask(documents.START, consultationId=case.id)
    await harness.until(case.doctor, started["id"], "RECORDING")
    return str(started["id"])


async def test_registration_with_other_recording_options_is_a_conflict(harness: ApiHarness) -> None:
    case = await harness.case(recordsAutomatically=True, recordsSpeakersSeparately=True)
    found = await case.doctor.ask(documents.CONSULTATION, id=case.id)
    assert (found["recordsAutomatically"], found["recordsSpeakersSeparately"]) == (True, True)
    again = await case.doctor.ask(documents.REGISTER, consultation=case.registration)
    assert again["id"] == case.id
    for other in ({"recordsAutomatically": False}, {"recordsSpeakersSeparately": False}):
        refused = await case.doctor.refused(documents.REGISTER, consultation={**case.registration, **other})
        assert refused == ("CONFLICT", "external_id_taken")
    assert await case.doctor.ask(documents.CONSULTATION, id=case.id) == found


@pytest.mark.parametrize("kind", [None, "duplicate", "renew", "reorder"])
async def test_recording_starts_automatically_when_doctor_and_patient_are_present(
    harness: ApiHarness, kind: str | None
) -> None:
    case = await harness.case(recordsAutomatically=True)
    await case.consent()
    orders = [] if kind is None else [Order(kind, event=JOINED, count=2)]
    with _ordered(harness, *orders):
        await _enter(harness, case, case.doctor)
        await _settle(harness)
        assert await _recordings(case) == []
        await _enter(harness, case, case.patient)
        await _settle(harness)
        (recording,) = await _recordings(case)
    await harness.until(case.doctor, recording["id"], "RECORDING")
    await case.doctor.ask(documents.STOP, recordingId=recording["id"])
    await harness.until(case.doctor, recording["id"], "READY")
    await _enter(harness, case, case.patient)
    await _settle(harness)
    await harness.services.reconciler.run_once()
    assert [one["id"] for one in await _recordings(case)] == [recording["id"]]
    (row,) = await harness.rows(
        "select actor_id, reason from audit.events"
        " where action = 'recording.start' and entities -> 0 -> 'ids' ? %s",
        recording["id"],
    )
    assert (row["actor_id"], row["reason"]) == (None, "auto_record")


async def test_only_one_of_two_concurrent_checks_starts_the_recording(harness: ApiHarness) -> None:
    case = await harness.case(recordsAutomatically=True, recordsSpeakersSeparately=True)
    await case.consent()
    with _ordered(harness, Order("drop_all")):
        await _enter(harness, case, case.doctor, case.patient)
    looks = await asyncio.gather(
        *(harness.services.recording_jobs.rooms.check_room(_room(case)) for _ in range(4))
    )
    assert looks.count("auto_record") == 1
    assert set(looks) <= {None, "auto_record", "separate_speakers"}
    rows = await harness.rows(
        "select medium from resguardo.recordings where consultation_id = %s order by medium desc", case.id
    )
    assert [row["medium"] for row in rows] == ["VIDEO", "MICROPHONE", "MICROPHONE"]


async def test_recording_starts_automatically_only_after_every_consent(
    harness: ApiHarness,
) -> None:
    case = await harness.case(recordsAutomatically=True)
    await _enter(harness, case, case.doctor, case.patient)
    await _settle(harness)
    await harness.services.reconciler.run_once()
    assert await _recordings(case) == []
    await case.consent()
    await harness.services.reconciler.run_once()
    (recording,) = await _recordings(case)
    await harness.until(case.doctor, recording["id"], "RECORDING")


async def test_no_recording_starts_automatically_after_a_withdrawal_and_a_new_consent(
    harness: ApiHarness,
) -> None:
    case = await harness.case(recordsAutomatically=True)
    await case.consent()
    await _enter(harness, case, case.doctor, case.patient)
    await _settle(harness)
    (recording,) = await _recordings(case)
    await harness.until(case.doctor, recording["id"], "RECORDING")
    await case.patient.ask(documents.WITHDRAW_CONSENT, participantId=case.participant("PATIENT"))
    await harness.until(case.doctor, recording["id"], "READY")
    transcription = (await case.doctor.ask(documents.RECORDING, id=recording["id"]))["transcription"]
    assert (transcription["status"], transcription["problem"]["code"]) == ("OFF", "CONSENT_WITHDRAWN")
    await case.consent()
    await harness.services.reconciler.run_once()
    assert [one["id"] for one in await _recordings(case)] == [recording["id"]]


async def test_recording_starts_automatically_beside_an_import(harness: ApiHarness) -> None:
    case = await harness.case(recordsAutomatically=True)
    await case.consent()
    imported = await import_recording(harness, case)
    await _enter(harness, case, case.doctor, case.patient)
    await _settle(harness)
    (recording,) = [one for one in await _recordings(case) if one["id"] != imported["id"]]
    await harness.until(case.doctor, recording["id"], "RECORDING")


async def test_no_recording_starts_automatically_without_the_option(harness: ApiHarness, case: Case) -> None:
    await case.consent()
    await _enter(harness, case, case.doctor, case.patient)
    await _settle(harness)
    await harness.services.reconciler.run_once()
    assert await _recordings(case) == []


async def test_no_recording_starts_automatically_with_a_stranger_in_the_room(harness: ApiHarness) -> None:
    case = await harness.case(recordsAutomatically=True)
    await case.consent()
    _admit(harness, case, "somebody")
    await _enter(harness, case, case.doctor, case.patient)
    await _settle(harness)
    assert await _recordings(case) == []


async def test_recording_starts_automatically_without_any_webhook(harness: ApiHarness) -> None:
    case = await harness.case(recordsAutomatically=True)
    await case.consent()
    with _ordered(harness, Order("drop_all")):
        await _enter(harness, case, case.doctor, case.patient)
        await _settle(harness)
    assert await _recordings(case) == []
    await harness.services.reconciler.run_once()
    (recording,) = await _recordings(case)
    await harness.until(case.doctor, recording["id"], "RECORDING")


async def _guest(harness: ApiHarness, case: Case) -> str:
    """Return the id of an invited guest to whom the API refused a join token."""
    invited = await case.doctor.ask(documents.INVITE, consultationId=case.id, role="COMPANION")
    refused = await harness.stranger().refused(
        documents.JOIN_AS_GUEST, invitation=invited["invitation"]["secret"]
    )
    assert refused == ("CONFLICT", "consent_missing_to_join")
    return str(invited["participant"]["id"])


@pytest.mark.parametrize(
    ("kind", "is_heard"),
    [("guest", True), ("guest", False), ("stranger", True), ("stranger", False), ("withdrawal", True)],
)
async def test_recording_stops_and_the_subscribed_doctor_gets_the_reason(
    harness: ApiHarness, case: Case, kind: str, is_heard: bool
) -> None:
    recording = await _recorded(harness, case)
    error = {
        "guest": "consent_missing",
        "stranger": "unknown_participant",
        "withdrawal": "consent_withdrawn",
    }[kind]
    async with open_socket(harness.api_url, origin=None) as client:
        await client.init(case.doctor)
        await client.subscribe(documents.RECORDING_CHANGED, consultationId=case.id)
        assert (await client.event())["problem"] is None
        with _ordered(harness, *([] if is_heard else [Order("drop", event=JOINED)])):
            if kind == "withdrawal":
                await case.patient.ask(documents.WITHDRAW_CONSENT, participantId=case.participant("PATIENT"))
            else:
                _admit(harness, case, await _guest(harness, case) if kind == "guest" else "somebody")
            await _settle(harness)
            if not is_heard:
                await harness.services.reconciler.run_once()
        told = await client.event()
        problem = {"code": error.upper(), "message": recording_error_text(error, "en")}
        assert (told["id"], told["status"], told["problem"]) == (recording, "STOPPING", problem)
    ready = await harness.until(case.doctor, recording, "READY")
    assert ready["problem"] == problem


async def test_error_is_told_in_the_readers_language(harness: ApiHarness, case: Case) -> None:
    recording = await _recorded(harness, case)
    _admit(harness, case, "somebody")
    await _settle(harness)
    for language in LANGUAGES:
        answer = await case.doctor.send(documents.RECORDING, in_language=language, id=recording)
        told = answer.data["recording"]
        assert told["problem"] == {
            "code": "UNKNOWN_PARTICIPANT",
            "message": recording_error_text("unknown_participant", language),
        }


async def _media_files(case: Case, recording: str) -> list[Any]:
    return list((await case.doctor.ask(documents.RECORDING, id=recording))["mediaFiles"])


async def test_recorders_are_not_strangers(harness: ApiHarness) -> None:
    case = await harness.case(recordsSpeakersSeparately=True)
    recording = await _recorded(harness, case)
    parts = await harness.rows("select id from resguardo.recordings where video_id = %s", recording)
    async with asyncio.timeout(20):
        while any(file["status"] != "RECORDING" for file in await _media_files(case, recording)):
            await _settle(harness)
    await harness.services.reconciler.run_once()
    inside = harness.livekit.rooms.participants(_room(case))
    recorders = [one.identity for one in inside if one.kind == ParticipantInfo.Kind.EGRESS]
    assert len(recorders) == 1 + len(parts) == 3
    assert all(identity.startswith("EG_") for identity in recorders)
    found = await case.doctor.ask(documents.RECORDING, id=recording)
    assert (found["status"], found["problem"]) == ("RECORDING", None)


async def test_participant_who_claims_to_be_a_recorder_is_a_stranger(harness: ApiHarness, case: Case) -> None:
    recording = await _recorded(harness, case)
    _admit(harness, case, "EG_" + uuid4().hex[:12])
    await _settle(harness)
    ready = await harness.until(case.doctor, recording, "READY")
    assert ready["problem"]["code"] == "UNKNOWN_PARTICIPANT"


@pytest.mark.parametrize("room", ["another_{}", "tests_{}"], ids=["another deployment", "no consultation"])
async def test_event_of_an_unknown_room_queues_no_job(harness: ApiHarness, room: str) -> None:
    name = room.format(uuid4())
    harness.livekit.rooms.admit(name, "somebody")
    await harness.livekit.notifier.idle()
    inbox = await harness.rows("select event from private.livekit_events where room_name = %s", name)
    assert {JOINED, "track_published"} <= {row["event"] for row in inbox}
    assert await harness.rows("select id from jobs.procrastinate_jobs where lock = %s", f"room:{name}") == []
