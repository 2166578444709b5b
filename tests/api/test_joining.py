"""Tests of joining a consultation's room as the doctor, as the patient, or with a guest's invitation, and of the
list of open rooms.
"""

import asyncio
import base64
import json
import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from app.consultations.service import INVITATION_LIFETIME
from tests.api import documents
from tests.api.harness import LIVEKIT_KEY, LIVEKIT_SECRET, ApiHarness, Case, Person, consent_input

pytestmark = pytest.mark.anyio


async def _invite(case: Case, role: str = "INTERPRETER") -> Any:
    return await case.doctor.ask(documents.INVITE, consultationId=case.id, role=role)


async def _join(person: Person, case: Case) -> Any:
    return await person.ask(documents.JOIN, consultationId=case.id)


async def _enter(harness: ApiHarness, token: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        entered = await http.post(f"{harness.livekit_url}/stand-in/join", json={"token": token})
    assert entered.status_code == 200


def _claims(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, LIVEKIT_SECRET, algorithms=["HS256"], issuer=LIVEKIT_KEY)
    return claims


@pytest.mark.parametrize("kind", ["DOCTOR", "PATIENT", "GUEST"])
async def test_join_token_is_for_one_room_for_two_hours_and_contains_no_name(
    harness: ApiHarness, case: Case, kind: str
) -> None:
    if kind == "GUEST":
        guest = await _invite(case)
        participant = guest["participant"]["id"]
        answer = await harness.stranger().ask(
            documents.JOIN_AS_GUEST, invitation=guest["invitation"]["secret"]
        )
        assert answer["participantId"] == participant
    else:
        participant = case.participant(kind)
        answer = await _join(case.doctor if kind == "DOCTOR" else case.patient, case)
        assert (answer["participant"]["id"], answer["participant"]["kind"]) == (participant, kind)
    joined = answer["joinToken"]
    claims = _claims(joined["token"])
    assert claims["sub"] == participant
    assert json.loads(claims["metadata"]) == {"consultationId": case.id}
    assert "name" not in claims
    assert claims["exp"] - claims["nbf"] == 7200
    expires_at = datetime.fromisoformat(joined["expiresAt"]).timestamp()
    assert abs(expires_at - time.time() - 7200) < 10
    assert joined["expiresInSeconds"] == 7200
    granted = {name: value for name, value in claims["video"].items() if value}
    assert granted == {
        "room": case.consultation["roomName"],
        "roomJoin": True,
        "canPublish": True,
        "canSubscribe": True,
        "canPublishData": True,
    }
    assert joined["roomName"] == case.consultation["roomName"]
    assert joined["url"] == harness.livekit_url
    for secret in (case.registration["externalId"], case.registration["patientExternalId"]):
        assert str(secret) not in json.dumps(claims)


async def test_join_is_stored_with_the_participant(case: Case) -> None:
    joined = await _join(case.patient, case)
    found = await case.doctor.ask(documents.CONSULTATION, id=case.id)
    assert joined["participant"] in found["participants"]
    assert [(one["kind"], one["joinedAt"] is not None) for one in found["participants"]] == [
        ("DOCTOR", False),
        ("PATIENT", True),
    ]


async def test_joining_a_hidden_or_unknown_consultation_is_not_found(
    harness: ApiHarness, case: Case, other_doctor: Person
) -> None:
    for person in (other_doctor, (await harness.case()).patient):
        for wanted in (case.id, str(uuid4())):
            refused = await person.refused(documents.JOIN, consultationId=wanted)
            assert refused == ("NOT_FOUND", "consultation_not_found")


async def test_join_during_a_recording_needs_the_callers_consent(harness: ApiHarness, case: Case) -> None:
    await case.consent()
    await harness.recording(case, "RECORDING")
    await case.patient.ask(documents.WITHDRAW_CONSENT, participantId=case.participant("PATIENT"))
    refused = await case.patient.refused(documents.JOIN, consultationId=case.id)
    assert refused == ("CONFLICT", "consent_missing_to_join")
    await case.consent()
    assert (await _join(case.patient, case))["joinToken"]["token"]


async def test_invitation_is_accepted_once(harness: ApiHarness, case: Case) -> None:
    guest = await _invite(case, "COMPANION")
    stranger = harness.stranger()
    await stranger.ask(documents.JOIN_AS_GUEST, invitation=guest["invitation"]["secret"])
    refused = await stranger.refused(documents.JOIN_AS_GUEST, invitation=guest["invitation"]["secret"])
    assert refused == ("NOT_FOUND", "invitation_unknown")
    found = await case.doctor.ask(documents.CONSULTATION, id=case.id)
    assert [(one["guestRole"], one["id"]) for one in found["participants"] if one["kind"] == "GUEST"] == [
        ("COMPANION", guest["participant"]["id"])
    ]


async def test_invitation_expires_by_the_databases_clock(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    class AYearAhead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override] # of the parent's kind
            return datetime.now(tz) + timedelta(days=365)

    monkeypatch.setattr("app.consultations.service.datetime", AYearAhead)
    invitation = (await _invite(case))["invitation"]
    assert invitation["expiresInSeconds"] == INVITATION_LIFETIME.total_seconds()
    expires_at = datetime.fromisoformat(invitation["expiresAt"])
    assert abs(expires_at - datetime.now(UTC) - INVITATION_LIFETIME) < timedelta(minutes=1)


async def test_concurrent_uses_of_an_invitation_accept_one(harness: ApiHarness, case: Case) -> None:
    guest, stranger = await _invite(case), harness.stranger()
    answers = await asyncio.gather(
        *(stranger.send(documents.JOIN_AS_GUEST, invitation=guest["invitation"]["secret"]) for _ in range(4))
    )
    assert sorted("errors" in answer.body for answer in answers) == [False, True, True, True]


async def test_expired_invitation_is_not_found(harness: ApiHarness, case: Case) -> None:
    guest = await _invite(case)
    await harness.rows(
        "update private.invitations set expires_at = now() where participant_id = %s",
        guest["participant"]["id"],
    )
    refused = await harness.stranger().refused(
        documents.JOIN_AS_GUEST, invitation=guest["invitation"]["secret"]
    )
    assert refused == ("NOT_FOUND", "invitation_unknown")


@pytest.mark.parametrize(
    "invitation",
    ["", "é", "not base64!", "A" * 10_000, base64.urlsafe_b64encode(bytes(32)).decode(), "AAAA"],
)
async def test_invented_invitation_is_not_found(harness: ApiHarness, invitation: str) -> None:
    refused = await harness.stranger().refused(documents.JOIN_AS_GUEST, invitation=invitation)
    assert refused == ("NOT_FOUND", "invitation_unknown")


async def test_invitation_during_a_recording_is_accepted_only_after_the_guests_consent_is_attested(
    harness: ApiHarness, case: Case
) -> None:
    await case.consent()
    guest, stranger = await _invite(case), harness.stranger()
    await harness.recording(case, "RECORDING")
    answer = await stranger.send(documents.JOIN_AS_GUEST, invitation=guest["invitation"]["secret"])
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "consent_missing_to_join")
    assert answer.error.message == (
        "The room is being recorded, and only people who have consented may join. Ask this person for consent first."
    )
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("guest.join", "FAILED")
    consent = consent_input(guest["participant"]["id"])
    await case.doctor.ask(documents.RECORD_CONSENT, consent=consent)
    assert (await stranger.ask(documents.JOIN_AS_GUEST, invitation=guest["invitation"]["secret"]))[
        "joinToken"
    ]["token"]


async def test_invitation_is_stored_as_a_hash(harness: ApiHarness, case: Case) -> None:
    guest = await _invite(case)
    secret = base64.urlsafe_b64decode(guest["invitation"]["secret"])
    (row,) = await harness.rows(
        "select secret_sha256, sha256(%s) as expected from private.invitations where participant_id = %s",
        secret,
        guest["participant"]["id"],
    )
    assert row["secret_sha256"] == row["expected"]
    assert len(secret) == 32


async def test_only_the_doctor_of_the_consultation_invites(
    harness: ApiHarness, case: Case, other_doctor: Person
) -> None:
    variables = {"consultationId": case.id, "role": "STUDENT"}
    assert await other_doctor.refused(documents.INVITE, **variables) == (
        "NOT_FOUND",
        "consultation_not_found",
    )
    assert await case.patient.refused(documents.INVITE, **variables) == ("FORBIDDEN", "wrong_role")
    assert (await case.doctor.refused(documents.INVITE, consultationId=case.id, role="SPY"))[0] == (
        "INVALID_INPUT"
    )


async def test_active_rooms_are_the_doctors_rooms_that_livekit_lists(
    harness: ApiHarness, case: Case, other_doctor: Person
) -> None:
    assert await case.doctor.ask(documents.ACTIVE_ROOMS) == []
    await _join(case.doctor, case)
    assert await case.doctor.ask(documents.ACTIVE_ROOMS) == [], "a token alone opens no room"
    await _enter(harness, (await _join(case.patient, case))["joinToken"]["token"])
    (room,) = await case.doctor.ask(documents.ACTIVE_ROOMS)
    assert room["consultationId"] == case.id
    assert room["name"] == case.consultation["roomName"]
    assert room["numParticipants"] == 1
    assert room["sid"].startswith("RM_")
    assert abs(datetime.fromisoformat(room["createdAt"]).timestamp() - time.time()) < 10
    assert await other_doctor.ask(documents.ACTIVE_ROOMS) == []


async def test_active_rooms_leave_out_a_room_after_a_crash_of_livekit(
    harness: ApiHarness, case: Case
) -> None:
    room = case.consultation["roomName"]
    for identity in ("somebody", "somebody else"):
        harness.livekit.rooms.admit(room, identity)
    await case.doctor.ask(documents.JOIN, consultationId=case.id)
    assert [one["numParticipants"] for one in await case.doctor.ask(documents.ACTIVE_ROOMS)] == [2]
    await harness.livekit.crash()
    assert [one.name for one in harness.livekit.rooms.find([room])] == [room]
    assert await case.doctor.ask(documents.ACTIVE_ROOMS) == []
    harness.livekit.rooms.admit(room, "somebody")
    assert [one["numParticipants"] for one in await case.doctor.ask(documents.ACTIVE_ROOMS)] == [1]


async def test_active_rooms_fail_if_livekit_is_unreachable(harness: ApiHarness, case: Case) -> None:
    await _join(case.doctor, case)
    async with harness.another_api(livekit_url="http://127.0.0.1:1") as http:
        doctor = Person(http, case.doctor.user_id, case.doctor.session_id, case.doctor.token)
        answer = await doctor.send(documents.ACTIVE_ROOMS)
    assert (answer.error.code, answer.error.reason) == ("UPSTREAM_FAILED", "livekit_unavailable")
    assert answer.error.extensions["retryable"] is True
    assert "127.0.0.1" not in answer.response.text
