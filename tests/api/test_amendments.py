"""Tests of requests to amend a patient's record (45 CFR 164.526) through the API."""

import asyncio
from datetime import date, timedelta
from uuid import UUID, uuid4

import pytest

from tests.api.amending import (
    ACCEPT_AMENDMENT,
    AMENDMENTS,
    DENY_AMENDMENT,
    DISPUTE_AMENDMENT,
    EXTEND_AMENDMENT,
    INCLUDE_AMENDMENT,
    REBUT_AMENDMENT,
    RECORD_AMENDMENT,
    REQUEST_AMENDMENT,
    amendment_input,
    insert_amendment,
)
from tests.api.harness import ApiHarness, Case, Person
from tests.api.shown import named_in

pytestmark = pytest.mark.anyio


async def _today(harness: ApiHarness) -> date:
    (row,) = await harness.rows("select private.today() as today")
    today: date = row["today"]
    return today


async def _listed(person: Person, case: Case) -> list[str]:
    answer = await person.send(AMENDMENTS, filter={"consultation": {"id": case.id}})
    return [edge["node"]["id"] for edge in answer.body["data"]["amendments"]["edges"]]


async def test_record_shows_an_accepted_amendment_to_patient_doctor_and_compliance(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    recording = str(await harness.recording(case))
    given = amendment_input(case, part="TRANSCRIPT", recordingId=recording, idempotencyKey=str(uuid4()))
    asked = await case.patient.ask(REQUEST_AMENDMENT, amendment=given)
    assert (asked["status"], asked["channel"], asked["recordingId"]) == ("OPEN", "LOGIN", recording)
    today = await _today(harness)
    assert (asked["receivedOn"], asked["dueOn"]) == (str(today), str(today + timedelta(days=60)))
    again = await case.patient.ask(REQUEST_AMENDMENT, amendment=given)
    assert again == asked
    accepted = await officer.ask(ACCEPT_AMENDMENT, amendmentId=asked["id"], persons="Dr. Roe, the insurer")
    assert accepted["status"] == "ACCEPTED"
    assert accepted["decidedBy"] == {"id": str(officer.user_id)}
    said = [(one["kind"], one["text"], one["personsToInform"]) for one in accepted["statements"]]
    assert said == [
        ("REQUEST", "It was the left knee", None),
        ("AMENDMENT", "The left knee", "Dr. Roe, the insurer"),
    ]
    for person in (case.patient, case.doctor, officer):
        answer = await person.send(AMENDMENTS, filter={"consultation": {"id": case.id}})
        assert "errors" not in answer.body, answer.body
        (edge,) = answer.body["data"]["amendments"]["edges"]
        assert edge["node"] == accepted
        (row,) = [one for one in await harness.audit(answer.request_id) if one["action"] == "amendment.list"]
        assert named_in(row)["amendment"] == {asked["id"]}


async def test_other_doctor_and_other_patient_see_nothing_and_the_refusal_is_audited(
    harness: ApiHarness, case: Case
) -> None:
    other = await harness.case()
    amendment = await insert_amendment(harness, case, "DENIED")
    for person in (other.doctor, other.patient):
        answer = await person.send(AMENDMENTS, filter={"consultation": {"id": case.id}})
        assert answer.body["data"]["amendments"]["edges"] == []
        (row,) = [one for one in await harness.audit(answer.request_id) if one["action"] == "amendment.list"]
        assert row["outcome"] == "DENIED"
        assert amendment not in await _listed(person, other)
    refused = ("NOT_FOUND", "amendment_not_found")
    assert await other.patient.refused(DISPUTE_AMENDMENT, amendmentId=amendment) == refused
    assert await other.patient.refused(INCLUDE_AMENDMENT, amendmentId=amendment) == refused
    stranger = amendment_input(case)
    assert await other.patient.refused(REQUEST_AMENDMENT, amendment=stranger) == (
        "NOT_FOUND",
        "consultation_not_found",
    )
    foreign = amendment_input(other, part="TRANSCRIPT", recordingId=str(await harness.recording(case)))
    assert await other.patient.refused(REQUEST_AMENDMENT, amendment=foreign) == (
        "NOT_FOUND",
        "consultation_not_found",
    )


async def test_patient_answers_a_denial_and_the_practice_rebuts_it(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    asked = await case.patient.ask(REQUEST_AMENDMENT, amendment=amendment_input(case))
    amendment = asked["id"]
    not_denied = ("CONFLICT", "amendment_not_denied")
    assert await case.patient.refused(DISPUTE_AMENDMENT, amendmentId=amendment) == not_denied
    assert await case.patient.refused(INCLUDE_AMENDMENT, amendmentId=amendment) == not_denied
    denied = await officer.ask(DENY_AMENDMENT, amendmentId=amendment)
    assert (denied["status"], denied["denialGround"]) == ("DENIED", "ACCURATE_AND_COMPLETE")
    assert await officer.refused(REBUT_AMENDMENT, amendmentId=amendment) == (
        "CONFLICT",
        "amendment_not_disputed",
    )
    included = await case.patient.ask(INCLUDE_AMENDMENT, amendmentId=amendment)
    assert included["inclusionAskedAt"] is not None
    assert await officer.ask(INCLUDE_AMENDMENT, amendmentId=amendment) == included
    await case.patient.ask(DISPUTE_AMENDMENT, amendmentId=amendment)
    rebutted = await officer.ask(REBUT_AMENDMENT, amendmentId=amendment)
    kinds = [(one["kind"], one["text"]) for one in rebutted["statements"]]
    assert kinds == [
        ("REQUEST", "It was the left knee"),
        ("DENIAL", "The record is right"),
        ("DISAGREEMENT", "I disagree"),
        ("REBUTTAL", "We looked again"),
    ]
    stated = ("CONFLICT", "amendment_stated_already")
    assert await case.patient.refused(DISPUTE_AMENDMENT, amendmentId=amendment) == stated
    assert await officer.refused(REBUT_AMENDMENT, amendmentId=amendment) == stated


async def test_deadline_is_extended_once_and_an_overdue_request_is_a_cause_of_an_alert(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    amendment = await insert_amendment(harness, case)
    assert await officer.refused(EXTEND_AMENDMENT, amendmentId=amendment, days=31) == (
        "INVALID_INPUT",
        "bad_extension",
    )
    extended = await officer.ask(EXTEND_AMENDMENT, amendmentId=amendment)
    assert extended["dueOn"] == str(await _today(harness) + timedelta(days=90))
    assert extended["extension"]["reason"] == "VOLUME"
    again = await officer.refused(EXTEND_AMENDMENT, amendmentId=amendment)
    assert again == ("CONFLICT", "extended_already")
    late = await insert_amendment(harness, case)
    await harness.rows(
        "update resguardo.amendments as a set received_on = a.received_on - 61, due_on = a.due_on - 61"
        " where a.id = %s returning id",
        UUID(late),
    )
    assert await officer.refused(EXTEND_AMENDMENT, amendmentId=late) == ("CONFLICT", "past_due")
    causes = await harness.rows("select key from private.find_alert_causes('AMENDMENT_OVERDUE')")
    keys = {one["key"] for one in causes}
    assert late in keys
    assert amendment not in keys
    assert (await officer.ask(ACCEPT_AMENDMENT, amendmentId=late))["status"] == "ACCEPTED"
    causes = await harness.rows("select key from private.find_alert_causes('AMENDMENT_OVERDUE')")
    assert late not in {one["key"] for one in causes}


async def test_two_officers_decide_at_once_and_one_gets_a_conflict(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    amendment = await insert_amendment(harness, case)
    other = await harness.staff("compliance")
    answers = await asyncio.gather(
        officer.send(ACCEPT_AMENDMENT, amendmentId=amendment),
        other.send(DENY_AMENDMENT, amendmentId=amendment),
    )
    errors = [one.error for one in answers if one.body.get("errors")]
    assert [(one.code, one.reason) for one in errors] == [("CONFLICT", "amendment_decided")]


async def test_letter_of_a_representative_is_recorded_with_its_day(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    today = await _today(harness)
    letter = amendment_input(case, receivedOn=str(today - timedelta(days=10)), isByRepresentative=True)
    recorded = await officer.ask(RECORD_AMENDMENT, letter=letter)
    assert (recorded["channel"], recorded["isByRepresentative"]) == ("WRITTEN", True)
    assert recorded["dueOn"] == str(today + timedelta(days=50))
    for days in (-1, 91):
        wrong = letter | {"receivedOn": str(today - timedelta(days=days))}
        assert await officer.refused(RECORD_AMENDMENT, letter=wrong) == ("CONFLICT", "bad_amendment_date")


@pytest.mark.parametrize(
    "wrong", [{"text": " "}, {"text": "x" * 10_001}, {"text": "a\x00b"}, {"part": "TRANSCRIPT"}]
)
async def test_request_without_text_or_recording_is_refused(case: Case, wrong: dict[str, object]) -> None:
    refused = await case.patient.refused(REQUEST_AMENDMENT, amendment=amendment_input(case) | wrong)
    assert refused == ("INVALID_INPUT", "bad_amendment")


async def test_text_is_stored_encrypted(harness: ApiHarness, case: Case) -> None:
    asked = await case.patient.ask(REQUEST_AMENDMENT, amendment=amendment_input(case))
    (row,) = await harness.rows(
        "select t.ciphertext from private.patient_texts as t"
        " inner join private.amendment_statements as s on s.id = t.id where s.amendment_id = %s",
        UUID(asked["id"]),
    )
    assert b"knee" not in bytes(row["ciphertext"])


async def test_list_has_pages(harness: ApiHarness, case: Case, officer: Person) -> None:
    made = [await insert_amendment(harness, case) for _ in range(3)]
    found: list[str] = []
    after = None
    while True:
        answer = await officer.send(
            AMENDMENTS, first=2, after=after, filter={"consultation": {"id": case.id}}
        )
        page = answer.body["data"]["amendments"]
        found += [edge["node"]["id"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert sorted(found) == sorted(made)
    assert len(found) == 3
