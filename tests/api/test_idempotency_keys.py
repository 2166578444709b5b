"""Tests of idempotency keys: a repeated call with the same key takes effect once, returns what the first call made,
and writes its own audit row.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from app.idempotency.service import IdempotencyKeys
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person, consent_input

pytestmark = pytest.mark.anyio

REUSED = ("CONFLICT", "idempotency_key_reused")


def _key() -> str:
    return str(uuid4())


async def _invite(case: Case, key: str | None, role: str = "COMPANION") -> Any:
    return await case.doctor.ask(documents.INVITE, consultationId=case.id, role=role, idempotencyKey=key)


async def _consent(person: Person, participant_id: str, key: str | None, **given: object) -> Any:
    consent = consent_input(participant_id, **given) | {"idempotencyKey": key}
    return await person.ask(documents.RECORD_CONSENT, consent=consent)


async def _withdraw(person: Person, participant_id: str, key: str | None) -> Any:
    return await person.ask(documents.WITHDRAW_CONSENT, participantId=participant_id, idempotencyKey=key)


async def _statements(case: Case) -> list[str]:
    found = await case.doctor.ask(documents.CONSULTATION, id=case.id)
    return [consent["id"] for consent in found["consents"]]


async def _guests(case: Case) -> list[str]:
    found = await case.doctor.ask(documents.CONSULTATION, id=case.id)
    return [one["id"] for one in found["participants"] if one["kind"] == "GUEST"]


async def test_repeated_invitation_returns_the_same_guest_with_a_new_secret(
    harness: ApiHarness, case: Case
) -> None:
    key = _key()
    first = await _invite(case, key)
    await _consent(case.doctor, first["participant"]["id"], None)
    second = await _invite(case, key)
    assert await _guests(case) == [first["participant"]["id"]]
    assert second["participant"] == first["participant"] | {"hasConsented": True}
    assert second["invitation"]["secret"] != first["invitation"]["secret"]
    assert second["invitation"]["expiresInSeconds"] == 24 * 3600
    refused = await harness.stranger().refused(
        documents.JOIN_AS_GUEST, invitation=first["invitation"]["secret"]
    )
    assert refused == ("NOT_FOUND", "invitation_unknown")
    joined = await harness.stranger().ask(documents.JOIN_AS_GUEST, invitation=second["invitation"]["secret"])
    assert joined["participant"]["id"] == first["participant"]["id"]


async def test_repeated_invitation_is_refused_after_the_guest_has_joined(
    harness: ApiHarness, case: Case
) -> None:
    key = _key()
    invited = await _invite(case, key)
    await harness.stranger().ask(documents.JOIN_AS_GUEST, invitation=invited["invitation"]["secret"])
    answer = await case.doctor.send(
        documents.INVITE, consultationId=case.id, role="COMPANION", idempotencyKey=key
    )
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "invitation_redeemed")
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["reason"]) == ("guest.invite", "FAILED", "invitation_redeemed")
    assert await _guests(case) == [invited["participant"]["id"]]


async def test_invitations_without_a_key_or_with_other_keys_add_guests(case: Case) -> None:
    made = [await _invite(case, key) for key in (None, None, _key(), _key())]
    assert sorted(await _guests(case)) == sorted(one["participant"]["id"] for one in made)


async def test_repeated_consent_returns_the_first_statement(case: Case) -> None:
    participant, key = case.participant("PATIENT"), _key()
    first = await _consent(case.patient, participant, key)
    await _withdraw(case.patient, participant, None)
    assert await _consent(case.patient, participant, key) == first
    assert len(await _statements(case)) == 2
    assert (await _consent(case.patient, participant, _key()))["id"] != first["id"]


async def test_repeated_withdrawal_returns_the_first_statement(case: Case) -> None:
    participant, key, other = case.participant("PATIENT"), _key(), _key()
    await _consent(case.patient, participant, None)
    first = await _withdraw(case.patient, participant, key)
    assert await _withdraw(case.patient, participant, other) == first
    await _consent(case.patient, participant, None)
    assert await _withdraw(case.patient, participant, key) == first
    assert await _withdraw(case.patient, participant, other) == first
    found = await case.doctor.ask(documents.CONSULTATION, id=case.id)
    assert [one["hasConsented"] for one in found["participants"] if one["kind"] == "PATIENT"] == [True]
    assert len(await _statements(case)) == 3


async def test_repeated_start_returns_the_recording_as_it_is_now(harness: ApiHarness, case: Case) -> None:
    await case.consent()
    key = _key()
    first = await case.doctor.ask(documents.START, consultationId=case.id, idempotencyKey=key)
    again = await case.doctor.ask(documents.START, consultationId=case.id, idempotencyKey=key)
    assert again == first
    refused = await case.doctor.refused(documents.START, consultationId=case.id, idempotencyKey=_key())
    assert refused == ("CONFLICT", "live_recording_exists")
    await case.doctor.ask(documents.STOP, recordingId=first["id"])
    await _withdraw(case.patient, case.participant("PATIENT"), None)
    stopped = await case.doctor.ask(documents.START, consultationId=case.id, idempotencyKey=key)
    assert (stopped["id"], stopped["status"]) == (first["id"], "ABORTED")
    (jobs,) = await harness.rows(
        "select count(*) from jobs.procrastinate_jobs where task_name = 'start_recording' and args ->> 'id' = %s",
        first["id"],
    )
    assert jobs["count"] == 1


async def test_key_of_a_refused_call_can_be_used_again(case: Case) -> None:
    key = _key()
    refused = await case.doctor.refused(documents.START, consultationId=case.id, idempotencyKey=key)
    assert refused[1] == "consent_missing"
    await case.consent()
    started = await case.doctor.ask(documents.START, consultationId=case.id, idempotencyKey=key)
    assert started["status"] == "REQUESTED"


async def test_key_with_another_input_is_refused(harness: ApiHarness, case: Case) -> None:
    key, other = _key(), await harness.case(case.doctor)
    participant = case.participant("PATIENT")
    await case.consent()
    await _invite(case, key)
    await _consent(case.patient, participant, key)
    await _withdraw(case.patient, participant, key)
    await _consent(case.patient, participant, None)
    await case.doctor.ask(documents.START, consultationId=case.id, idempotencyKey=key)
    parent = {"relationship": "PARENT", "name": "Rosa Quispe"}
    consent = consent_input(participant, representative=parent) | {"idempotencyKey": key}
    for person, document, given in (
        (case.doctor, documents.INVITE, {"consultationId": other.id, "role": "COMPANION"}),
        (case.doctor, documents.INVITE, {"consultationId": case.id, "role": "STUDENT"}),
        (case.doctor, documents.START, {"consultationId": other.id}),
        (case.patient, documents.RECORD_CONSENT, {"consent": consent}),
        (
            case.patient,
            documents.WITHDRAW_CONSENT,
            {"participantId": participant, "representative": parent},
        ),
    ):
        answer = await person.send(document, **given, idempotencyKey=key)
        assert (answer.error.code, answer.error.reason) == REUSED, document
        (row,) = await harness.audit(answer.request_id)
        assert (row["outcome"], row["reason"]) == ("FAILED", "idempotency_key_reused")


async def test_key_of_one_person_means_nothing_for_another(case: Case) -> None:
    key = _key()
    first = await _consent(case.patient, case.participant("PATIENT"), key)
    second = await _consent(case.doctor, case.participant("PATIENT"), key)
    assert first["id"] != second["id"]


@pytest.mark.parametrize("key", ["", "x" * 129, "line\nbreak", "\x00"])
async def test_bad_key_is_refused(case: Case, key: str) -> None:
    bad = ("INVALID_INPUT", "bad_idempotency_key")
    consent = consent_input(case.participant("PATIENT")) | {"idempotencyKey": key}
    assert await case.patient.refused(documents.RECORD_CONSENT, consent=consent) == bad
    for document, given in (
        (documents.INVITE, {"consultationId": case.id, "role": "STUDENT"}),
        (documents.START, {"consultationId": case.id}),
        (documents.WITHDRAW_CONSENT, {"participantId": case.participant("PATIENT")}),
    ):
        assert await case.doctor.refused(document, **given, idempotencyKey=key) == bad
    assert await _statements(case) == []


@pytest.mark.parametrize("kind", ["invite", "consent", "withdraw", "start"])
async def test_concurrent_calls_with_one_key_take_effect_once(
    harness: ApiHarness, case: Case, kind: str
) -> None:
    key, participant = _key(), case.participant("PATIENT")
    if kind in ("withdraw", "start"):
        await case.consent()
    before = len(await _statements(case))
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "invite": lambda: _invite(case, key),
        "consent": lambda: _consent(case.patient, participant, key),
        "withdraw": lambda: _withdraw(case.patient, participant, key),
        "start": lambda: case.doctor.ask(documents.START, consultationId=case.id, idempotencyKey=key),
    }
    made = await asyncio.gather(*(calls[kind]() for _ in range(4)))
    ids = {one["participant"]["id"] if kind == "invite" else one["id"] for one in made}
    assert len(ids) == 1
    assert len(await _guests(case)) == (kind == "invite")
    assert len(await _statements(case)) == before + (kind in ("consent", "withdraw"))


async def test_each_repeated_call_writes_its_audit_row(harness: ApiHarness, case: Case) -> None:
    await case.consent()
    consent = consent_input(case.participant("PATIENT")) | {"idempotencyKey": "audit"}
    for person, document, given, action in (
        (case.doctor, documents.INVITE, {"consultationId": case.id, "role": "STUDENT"}, "guest.invite"),
        (case.patient, documents.RECORD_CONSENT, {"consent": consent}, "consent.give"),
        (
            case.patient,
            documents.WITHDRAW_CONSENT,
            {"participantId": case.participant("PATIENT")},
            "consent.withdraw",
        ),
        (case.doctor, documents.START, {"consultationId": case.id}, "recording.start"),
    ):
        if action == "recording.start":
            await _consent(case.patient, case.participant("PATIENT"), None)
        answers = [await person.send(document, **given, idempotencyKey="audit") for _ in range(2)]
        for answer in answers:
            rows = await harness.audit(answer.request_id)
            assert [row["outcome"] for row in rows if row["action"] == action][:1] == ["ALLOWED"], action


async def test_no_key_and_no_input_is_stored_or_logged(
    harness: ApiHarness, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    key = f"maria-lopez-{uuid4()}"
    with caplog.at_level("DEBUG"):
        await _invite(case, key)
        await _invite(case, key)
    assert "maria" not in caplog.text
    rows = await harness.rows(
        "select to_jsonb(k) as stored from private.idempotency_keys as k where k.person_id = %s",
        case.doctor.user_id,
    )
    assert len(rows) == 1
    assert "maria" not in str(rows)
    events = await harness.rows("select to_jsonb(e) as event from audit.events as e")
    assert "maria" not in str(events)


async def test_key_can_be_used_anew_after_24_hours(harness: ApiHarness, case: Case) -> None:
    key = _key()
    first = await _invite(case, key)
    keys = IdempotencyKeys(harness.services.database)
    await keys.delete_old()
    assert (await _invite(case, key))["participant"] == first["participant"]
    await harness.rows(
        "update private.idempotency_keys set created_at = now() - interval '24 hours 1 second'"
        " where person_id = %s",
        case.doctor.user_id,
    )
    await keys.delete_old()
    assert (await _invite(case, key))["participant"] != first["participant"]
