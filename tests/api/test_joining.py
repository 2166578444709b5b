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
from app.integrations.livekit.client import LiveKit, RoomSnapshot
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
        assert answer["participant"] == {"id": participant, "kind": "GUEST", "guestRole": "INTERPRETER"}
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
    assert room["consultation"] == {"id": case.id, "externalId": case.consultation["externalId"]}
    assert room["name"] == case.consultation["roomName"]
    assert room["participantCount"] == 1
    assert room["sid"].startswith("RM_")
    assert abs(datetime.fromisoformat(room["createdAt"]).timestamp() - time.time()) < 10
    assert await other_doctor.ask(documents.ACTIVE_ROOMS) == []


async def test_active_rooms_are_named_in_one_audit_row(
    harness: ApiHarness, case: Case, other_doctor: Person
) -> None:
    other, unopened = await harness.case(case.doctor), await harness.case(case.doctor)
    for one in (case, other, unopened):
        await _join(case.doctor, one)
    for one in (case, other):
        harness.livekit.rooms.admit(one.consultation["roomName"], "somebody")
    document = """
    {
      rooms: activeRooms {
        sid consultation { patient { externalId } recordings(first: 1) { edges { node { id } } } }
      }
    }
    """
    recording = await harness.recording(case)
    answer = await case.doctor.send(document)
    assert {one["consultation"]["patient"]["externalId"] for one in answer.value} == {
        one.registration["patientExternalId"] for one in (case, other)
    }
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["row_count"]) == ("rooms.list", "ALLOWED", 2)
    assert {one["type"]: set(one["ids"]) for one in row["entities"]} == {
        "room": {case.id, other.id},
        "consultation": {case.id, other.id},
        "patient": {case.patient_id, other.patient_id},
        "recording": {str(recording)},
    }
    assert row["fields"] == [
        "consultation.patient.externalId",
        "consultation.recordings.edges.node.id",
        "sid",
    ]
    assert {str(one) for one in row["patient_ids"]} == {case.patient_id, other.patient_id}


async def test_active_rooms_need_the_role_of_a_doctor(case: Case, officer: Person) -> None:
    for person in (case.patient, officer):
        assert await person.refused(documents.ACTIVE_ROOMS) == ("FORBIDDEN", "wrong_role")


async def test_room_whose_consultation_is_no_longer_visible_is_not_shown(
    harness: ApiHarness, case: Case, other_doctor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consultation gets another doctor while LiveKit answers."""
    await _join(case.doctor, case)
    harness.livekit.rooms.admit(case.consultation["roomName"], "somebody")
    rooms = LiveKit.rooms

    async def move(self: LiveKit, names: list[str]) -> list[RoomSnapshot]:
        listed = await rooms(self, names)
        await harness.rows("alter table resguardo.participants disable trigger all")
        await harness.rows("set session_replication_role = replica")
        await harness.rows(
            "update resguardo.consultations set doctor_id = %s where id = %s", other_doctor.user_id, case.id
        )
        return listed

    monkeypatch.setattr(LiveKit, "rooms", move)
    answer = await case.doctor.send(documents.ACTIVE_ROOMS)
    await harness.rows("set session_replication_role = origin")
    await harness.rows("alter table resguardo.participants enable trigger all")
    assert answer.value == []
    (row,) = await harness.audit(answer.request_id)
    assert (row["outcome"], row["row_count"], row["patient_ids"]) == ("ALLOWED", 0, [])


async def test_active_rooms_beyond_the_quota_ask_nothing_of_livekit(
    harness: ApiHarness, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _join(case.doctor, case)
    await harness.spend(case.doctor, "pages", 1200)
    monkeypatch.setattr(LiveKit, "rooms", None)
    answer = await case.doctor.send(documents.ACTIVE_ROOMS)
    assert (answer.error.code, answer.error.reason) == ("RATE_LIMITED", "quota_pages")
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["reason"]) == ("rooms.list", "DENIED", "quota_pages")


async def test_each_join_and_each_invitation_counts_and_writes_one_audit_row_that_names_the_participant(
    harness: ApiHarness, case: Case
) -> None:
    invited = await case.doctor.send(
        "mutation ($id: ID!) { inviteGuest(input: { consultationId: $id, role: STUDENT }) {"
        " participant { id ...P } consultation { participants { id } recordingBlockers { reason } }"
        " invitation { secret } } }"
        " fragment P on Participant { kind hasConsented joinedAt }",
        id=case.id,
    )
    joined = await case.patient.send(
        "mutation ($id: ID!) { joinConsultation(input: { consultationId: $id }) {"
        " it: participant { joinedAt mustConsent } joinToken { token expiresAt } } }",
        id=case.id,
    )
    secret = invited.value["invitation"]["secret"]
    entered = await harness.stranger().send(documents.JOIN_AS_GUEST, invitation=secret)
    guest = invited.value["participant"]["id"]
    assert invited.value["participant"] == {
        "id": guest,
        "kind": "GUEST",
        "hasConsented": False,
        "joinedAt": None,
    }
    assert guest in [one["id"] for one in invited.value["consultation"]["participants"]]
    assert joined.value["it"]["joinedAt"] is not None
    expected = [
        (
            invited,
            "guest.invite",
            guest,
            [
                *(
                    "consultation.participants.id",
                    "consultation.recordingBlockers.reason",
                    "hasConsented",
                    "id",
                ),
                *("invitation.secret", "joinedAt", "kind"),
            ],
        ),
        (
            joined,
            "consultation.join",
            case.participant("PATIENT"),
            ["joinToken.expiresAt", "joinToken.token", "joinedAt", "mustConsent"],
        ),
        (
            entered,
            "guest.join",
            guest,
            [
                *(
                    "guestRole",
                    "id",
                    "joinToken.expiresAt",
                    "joinToken.expiresInSeconds",
                    "joinToken.roomName",
                ),
                *("joinToken.token", "joinToken.url", "kind"),
            ],
        ),
    ]
    for answer, action, participant, fields in expected:
        (row,) = await harness.audit(answer.request_id)
        assert (row["action"], row["outcome"], row["row_count"]) == (action, "ALLOWED", 1)
        assert row["entities"][0]["type"] == "participant"
        assert participant in row["entities"][0]["ids"]
        assert row["fields"] == fields
        assert [str(one) for one in row["patient_ids"]] == [case.patient_id]
        assert [str(one) for one in row["consultation_ids"]] == [case.id]


@pytest.mark.parametrize("field", ["hasConsented", "joinedAt", "mustConsent"])
async def test_guest_reads_only_what_a_guest_may_read_and_keeps_the_invitation(
    harness: ApiHarness, case: Case, field: str
) -> None:
    guest, stranger = await _invite(case), harness.stranger()
    secret = guest["invitation"]["secret"]
    document = (
        f"mutation ($invitation: String!) {{ joinAsGuest(input: {{ invitation: $invitation }}) {{"
        f" participant {{ id ...F }} joinToken {{ token }} }} }} fragment F on Participant {{ x: {field} }}"
    )
    answer = await stranger.send(document, invitation=secret)
    assert (answer.error.code, answer.error.reason) == ("FORBIDDEN", "field_not_for_guests")
    assert answer.body["data"] == {"joinAsGuest": None}
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["reason"]) == ("guest.join", "DENIED", "field_not_for_guests")
    assert await stranger.refused(document, invitation=base64.urlsafe_b64encode(bytes(32)).decode()) == (
        "NOT_FOUND",
        "invitation_unknown",
    )
    found = await stranger.ask(documents.JOIN_AS_GUEST, invitation=secret)
    assert found["participant"]["id"] == guest["participant"]["id"]


async def test_active_rooms_leave_out_a_room_after_a_crash_of_livekit(
    harness: ApiHarness, case: Case
) -> None:
    room = case.consultation["roomName"]
    for identity in ("somebody", "somebody else"):
        harness.livekit.rooms.admit(room, identity)
    await case.doctor.ask(documents.JOIN, consultationId=case.id)
    assert [one["participantCount"] for one in await case.doctor.ask(documents.ACTIVE_ROOMS)] == [2]
    await harness.livekit.crash()
    assert [one.name for one in harness.livekit.rooms.find([room])] == [room]
    assert await case.doctor.ask(documents.ACTIVE_ROOMS) == []
    harness.livekit.rooms.admit(room, "somebody")
    assert [one["participantCount"] for one in await case.doctor.ask(documents.ACTIVE_ROOMS)] == [1]


async def test_active_rooms_fail_if_livekit_is_unreachable(harness: ApiHarness, case: Case) -> None:
    await _join(case.doctor, case)
    async with harness.another_api(livekit_url="http://127.0.0.1:1") as http:
        doctor = Person(http, case.doctor.user_id, case.doctor.session_id, case.doctor.token)
        answer = await doctor.send(documents.ACTIVE_ROOMS)
    assert (answer.error.code, answer.error.reason) == ("UPSTREAM_FAILED", "livekit_unavailable")
    assert answer.error.extensions["retryable"] is True
    assert "127.0.0.1" not in answer.response.text
