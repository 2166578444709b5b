"""Tests of review cases through the API: who sees a case, and who decides it."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api.harness import Answer, ApiHarness, Case, Person
from tests.api.reviewing import (
    APPROVE_RULES,
    ASSIGN_REVIEW_CASE,
    RECORD_DISPOSITION,
    REJECT_RULES,
    REVIEW_CASE,
    REVIEW_CASES,
    REVIEW_RULES,
    open_case,
    propose_rules,
)
from tests.api.shown import named_in, shown_in

pytestmark = pytest.mark.anyio


async def _audited(harness: ApiHarness, answer: Answer) -> list[tuple[Any, ...]]:
    return [(row["action"], row["outcome"], row["reason"]) for row in await harness.audit(answer.request_id)]


async def test_officer_reads_a_case_with_its_events_and_the_audit_row_names_them(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    opened = await open_case(
        harness, case.doctor, patient_id=case.patient_id, consultation_id=case.id, event_count=30
    )
    answer = await officer.send(REVIEW_CASE, caseId=opened, firstEvents=20)
    found = answer.value
    assert (found["rule"], found["status"], found["subject"]) == (
        "DENIED_BURST",
        "OPEN",
        {"id": str(case.doctor.user_id)},
    )
    assert (found["eventCount"], found["listedEventCount"], found["hasMorePatients"]) == (30, 30, False)
    assert (found["patientIds"], found["consultationIds"]) == ([case.patient_id], [case.id])
    assert (found["disposition"], found["dispositionText"], found["decidedBy"]) == (None, None, None)
    events = [edge["node"] for edge in found["events"]["edges"]]
    assert len(events) == 20
    assert found["events"]["pageInfo"]["hasNextPage"]
    assert {(one["action"], one["outcome"], tuple(one["patientIds"])) for one in events} == {
        ("recording.read", "DENIED", (case.patient_id,))
    }
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("review_case.read", "ALLOWED")
    assert named_in(row) == shown_in(answer)
    assert (row["patient_ids"], row["consultation_ids"]) == ([UUID(case.patient_id)], [UUID(case.id)])


async def test_list_is_filtered_and_names_the_patients_in_its_audit_row(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    opened = [await open_case(harness, case.doctor, patient_id=case.patient_id) for _ in range(3)]
    wanted = {"subjectId": str(case.doctor.user_id), "rules": ["DENIED_BURST"], "statuses": ["OPEN"]}
    answer = await officer.send(REVIEW_CASES, filter=wanted, first=2)
    assert [edge["node"]["id"] for edge in answer.value["edges"]] == opened[:0:-1]
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["row_count"], row["patient_ids"]) == (
        "review_case.list",
        2,
        [UUID(case.patient_id)],
    )
    rest = await officer.ask(
        REVIEW_CASES, filter=wanted, first=2, after=answer.value["pageInfo"]["endCursor"]
    )
    assert [edge["node"]["id"] for edge in rest["edges"]] == opened[:1]
    others: list[dict[str, Any]] = [
        {"rules": ["SELF", "VOLUME"]},
        {"rules": ["SELF"], "statuses": None},
        {"statuses": ["DECIDED"]},
        {"statuses": []},
    ]
    for other in others:
        assert (await officer.ask(REVIEW_CASES, filter={**wanted, **other}))["edges"] == []


async def test_disposition_ends_the_case_and_a_repeated_call_changes_nothing(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    opened = await open_case(harness, case.doctor)
    answer = await officer.send(RECORD_DISPOSITION, caseId=opened, text="  A  locum. ")
    decided = answer.value
    assert (decided["status"], decided["disposition"], decided["dispositionText"], decided["decidedBy"]) == (
        "DECIDED",
        "APPROPRIATE",
        "A locum.",
        {"id": str(officer.user_id)},
    )
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["operation"]) == ("review_case.decide", "ALLOWED", "U")
    assert "A locum" not in str(row)
    again = await officer.ask(RECORD_DISPOSITION, caseId=opened, text="A locum.")
    assert again == decided
    assert await officer.refused(RECORD_DISPOSITION, caseId=opened, disposition="POLICY_VIOLATION") == (
        "CONFLICT",
        "review_case_decided",
    )
    assert not (await harness.rows("select private.has_open_case(%s) as it", case.doctor.user_id))[0]["it"]


async def test_two_officers_who_decide_at_once_give_one_decision(harness: ApiHarness, case: Case) -> None:
    officers = [await harness.staff("compliance") for _ in range(2)]
    opened = await open_case(harness, case.doctor)
    answers = await asyncio.gather(
        *(
            officer.send(RECORD_DISPOSITION, caseId=opened, text=f"By {n}.")
            for n, officer in enumerate(officers)
        )
    )
    refused = [answer for answer in answers if answer.body.get("errors")]
    assert len(refused) == 1
    assert refused[0].error.reason == "review_case_decided"
    (winner,) = [answer.value for answer in answers if answer not in refused]
    shown = await officers[0].ask(REVIEW_CASE, caseId=opened)
    assert (shown["dispositionText"], shown["decidedBy"]) == (winner["dispositionText"], winner["decidedBy"])


async def test_subject_of_a_case_neither_sees_nor_decides_nor_assigns_it(harness: ApiHarness) -> None:
    subject, other = await harness.staff("compliance"), await harness.staff("compliance")
    opened = await open_case(harness, subject)
    for document, action in (
        (REVIEW_CASE, "review_case.read"),
        (RECORD_DISPOSITION, "review_case.decide"),
        (ASSIGN_REVIEW_CASE, "review_case.assign"),
    ):
        answer = await subject.send(document, caseId=opened)
        assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "review_case_not_found")
        assert "own activity" in answer.error.message
        unknown = await subject.send(document, caseId=str(uuid4()))
        assert (unknown.error.code, unknown.error.message) == (answer.error.code, answer.error.message)
        assert await _audited(harness, answer) == [(action, "DENIED", "not_found")]
        assert await _audited(harness, unknown) == [(action, "ABSENT", "not_found")]
    own = {"subjectId": str(subject.user_id)}
    assert (await subject.ask(REVIEW_CASES, filter=own))["edges"] == []
    assert len((await other.ask(REVIEW_CASES, filter=own))["edges"]) == 1
    assert await other.refused(ASSIGN_REVIEW_CASE, caseId=opened, officerId=str(subject.user_id)) == (
        "CONFLICT",
        "reviewer_is_subject",
    )


async def test_case_is_assigned_to_an_active_officer_and_to_nobody(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    other = await harness.staff("compliance")
    opened = await open_case(harness, case.doctor)
    for _ in range(2):
        assigned = await officer.ask(ASSIGN_REVIEW_CASE, caseId=opened, officerId=str(other.user_id))
        assert assigned["assignedTo"] == {"id": str(other.user_id)}
    for nobody in ((await harness.clinician()).user_id, uuid4()):
        assert await officer.refused(ASSIGN_REVIEW_CASE, caseId=opened, officerId=str(nobody)) == (
            "CONFLICT",
            "officer_unknown",
        )
    found = await officer.ask(REVIEW_CASES, filter={"assignedToId": str(other.user_id)})
    assert [edge["node"]["id"] for edge in found["edges"]] == [opened]
    freed = await officer.ask(ASSIGN_REVIEW_CASE, caseId=opened)
    assert freed["assignedTo"] is None
    await officer.ask(RECORD_DISPOSITION, caseId=opened)
    assert await officer.refused(ASSIGN_REVIEW_CASE, caseId=opened) == ("CONFLICT", "review_case_decided")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "disposition_empty"),
        ("   ", "disposition_empty"),
        ("a\nb", "disposition_characters"),
        ("x" * 2001, "disposition_too_long"),
        ("a\u0000b", "disposition_characters"),
        ("a\u202eb", "disposition_characters"),
    ],
)
async def test_bad_text_of_a_disposition_is_refused(
    harness: ApiHarness, case: Case, officer: Person, text: str, reason: str
) -> None:
    opened = await open_case(harness, case.doctor)
    assert await officer.refused(RECORD_DISPOSITION, caseId=opened, text=text) == ("INVALID_INPUT", reason)
    assert (await officer.ask(REVIEW_CASE, caseId=opened))["status"] == "OPEN"


async def test_disposition_text_has_up_to_2000_characters(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    opened = await open_case(harness, case.doctor)
    decided = await officer.ask(RECORD_DISPOSITION, caseId=opened, text="ñ" * 2000)
    assert decided["dispositionText"] == "ñ" * 2000


async def test_officer_who_was_suspended_decides_nothing(harness: ApiHarness, case: Case) -> None:
    officer = await harness.staff("compliance")
    opened = await open_case(harness, case.doctor)
    await harness.rows(
        "update resguardo.staff set status = 'suspended', suspended_at = now() where user_id = %s returning id",
        officer.user_id,
    )
    answer = await officer.send(RECORD_DISPOSITION, caseId=opened)
    assert answer.error.code == "UNAUTHENTICATED"
    (row,) = await harness.rows("select status from resguardo.review_cases where id = %s", opened)
    assert row["status"] == "OPEN"


async def test_rules_are_approved_by_two_officers(harness: ApiHarness) -> None:
    first, second = await harness.staff("compliance"), await harness.staff("compliance")
    proposed = await propose_rules(harness)
    approved = await first.send(APPROVE_RULES, policyId=proposed)
    assert (approved.value["status"], approved.value["approvedBy"]) == (
        "PROPOSED",
        [{"id": str(first.user_id)}],
    )
    assert await _audited(harness, approved) == [("review_rule.approve", "ALLOWED", f"policy_{proposed}")]
    assert await first.refused(APPROVE_RULES, policyId=proposed) == ("CONFLICT", "review_same_officer")
    try:
        assert (await second.ask(APPROVE_RULES, policyId=proposed))["status"] == "ACTIVE"
        shown = await second.send(REVIEW_RULES)
        assert [(one["rule"], one["status"], one["isMatchingTooMuch"]) for one in shown.value["rules"]] == [
            ("SELF", "OFF", False)
        ]
        assert (proposed, "ACTIVE") in {(one["id"], one["status"]) for one in shown.value["policies"]}
        assert await _audited(harness, shown) == [("review_rule.list", "ALLOWED", None)]
        assert await first.refused(REJECT_RULES, policyId=proposed) == ("CONFLICT", "review_policy_settled")
        assert await first.refused(REJECT_RULES, policyId="x") == ("INVALID_INPUT", "bad_id")
    finally:
        await harness.rows(
            "update resguardo.review_policies set status = 'SUPERSEDED' where status = 'ACTIVE' returning id"
        )


async def test_rejected_rules_do_not_come_into_force(harness: ApiHarness) -> None:
    first, second = await harness.staff("compliance"), await harness.staff("compliance")
    proposed = await propose_rules(harness)
    await first.ask(APPROVE_RULES, policyId=proposed)
    assert (await second.ask(REJECT_RULES, policyId=proposed))["status"] == "REJECTED"
    assert await second.refused(APPROVE_RULES, policyId=proposed) == ("CONFLICT", "review_policy_settled")


async def test_possible_breach_opens_one_assessment(harness: ApiHarness, case: Case, officer: Person) -> None:
    opened = await open_case(harness, case.doctor, patient_id=case.patient_id)
    for _ in range(2):
        await officer.ask(RECORD_DISPOSITION, caseId=opened, disposition="POSSIBLE_BREACH")
    found = await harness.rows(
        "select subject_id, status from resguardo.breach_assessments where case_id = %s", UUID(opened)
    )
    assert [(one["subject_id"], one["status"]) for one in found] == [(case.doctor.user_id, "OPEN")]
