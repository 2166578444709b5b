"""Tests of retention for compliance officers: proposals, previews, approvals, and the stored policy."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person, consultation_input
from tests.api.retaining import (
    APPROVE_POLICY,
    POLICIES,
    PREVIEW,
    REJECT_POLICY,
    STORAGE_REPORT,
    delete_policies_afterwards,
    propose_policy,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def unkept(harness: ApiHarness) -> AsyncIterator[ApiHarness]:
    """Yield the harness of the API tests, and delete its retention policies after the test."""
    async with delete_policies_afterwards(harness):
        yield harness


async def test_first_policy_needs_two_officers(unkept: ApiHarness, case: Case, officer: Person) -> None:
    recording = await unkept.recording(case)
    policy_id = await propose_policy(unkept)
    payload = await officer.ask(APPROVE_POLICY, policyId=policy_id)
    once = payload["retentionPolicy"]
    assert (once["status"], once["needsSecondApproval"], once["approvedBy"]) == (
        "PROPOSED",
        True,
        [{"id": str(officer.user_id)}],
    )
    assert payload["supersededPolicy"] is None
    other = await unkept.staff("compliance")
    payload = await other.ask(APPROVE_POLICY, policyId=policy_id)
    twice = payload["retentionPolicy"]
    assert (twice["status"], twice["approvedBy"]) == (
        "ACTIVE",
        [{"id": str(officer.user_id)}, {"id": str(other.user_id)}],
    )
    assert payload["supersededPolicy"] is None
    assert twice["activatedAt"] is not None
    [row] = await unkept.rows(
        "select due_at, retention_policy from resguardo.recordings where id = %s", recording
    )
    assert str(row["retention_policy"]) == policy_id
    assert row["due_at"] is not None


async def test_payload_of_an_approval_shows_both_policies_as_the_list_does(
    unkept: ApiHarness, case: Case, officer: Person
) -> None:
    """A normalised cache therefore needs no further read after an approval."""
    await unkept.recording(case)
    other = await unkept.staff("compliance")
    first = await propose_policy(unkept, 90)
    for who in (officer, other):
        await who.ask(APPROVE_POLICY, policyId=first)
    second = await propose_policy(unkept, 30, existing=True)

    async def listed() -> list[object]:
        return [edge["node"] for edge in (await officer.ask(POLICIES))["edges"]]

    payload = await officer.ask(APPROVE_POLICY, policyId=second)
    assert payload["retentionPolicy"]["shortenedTerms"] == ["default.recording_days"]
    assert (payload["retentionPolicy"]["status"], payload["supersededPolicy"]) == ("PROPOSED", None)
    assert (await listed())[0] == payload["retentionPolicy"]
    payload = await other.ask(APPROVE_POLICY, policyId=second)
    assert payload["retentionPolicy"]["shortenedTerms"] == []
    assert payload["supersededPolicy"]["id"] == first
    assert payload["supersededPolicy"]["status"] == "SUPERSEDED"
    assert await listed() == [payload["retentionPolicy"], payload["supersededPolicy"]]


async def test_longer_term_needs_no_second_approval(unkept: ApiHarness, case: Case, officer: Person) -> None:
    await unkept.recording(case)
    first = await propose_policy(unkept, 90)
    for who in (officer, await unkept.staff("compliance")):
        await who.ask(APPROVE_POLICY, policyId=first)
    payload = await officer.ask(APPROVE_POLICY, policyId=await propose_policy(unkept, 120))
    approved = payload["retentionPolicy"]
    assert (approved["status"], approved["needsSecondApproval"]) == ("ACTIVE", False)
    assert payload["supersededPolicy"]["id"] == first


async def test_second_approval_of_the_same_officer_is_refused(
    unkept: ApiHarness, case: Case, officer: Person
) -> None:
    await unkept.recording(case)
    policy_id = await propose_policy(unkept)
    await officer.ask(APPROVE_POLICY, policyId=policy_id)
    assert await officer.refused(APPROVE_POLICY, policyId=policy_id) == ("CONFLICT", "retention_same_officer")


async def test_policies_are_listed_newest_first_with_the_shortened_terms(
    unkept: ApiHarness, case: Case, officer: Person
) -> None:
    await unkept.recording(case)
    active = await propose_policy(unkept, 90)
    for who in (officer, await unkept.staff("compliance")):
        await who.ask(APPROVE_POLICY, policyId=active)
    later = await propose_policy(unkept, 30, existing=True)
    answer = await officer.send(POLICIES)
    newest, before = (edge["node"] for edge in answer.data["retentionPolicies"]["edges"])
    assert (newest["id"], before["id"]) == (later, active)
    assert (newest["shortenedTerms"], before["shortenedTerms"]) == (["default.recording_days"], [])
    assert newest["kinds"] == [{"kind": "psychotherapy", "recordingDays": 3650, "signedNoteDays": 3650}]
    assert (before["status"], before["recordingDays"], before["minorsUntilAgeYears"]) == ("ACTIVE", 90, 18)
    [row] = await unkept.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["row_count"]) == ("retention.list", "ALLOWED", 2)
    assert {"approvedBy.id", "kinds.recordingDays", "needsSecondApproval"} <= set(row["fields"])
    assert "unregistered" not in row["fields"]
    first = await officer.ask(POLICIES, first=1)
    assert first == {
        "edges": answer.data["retentionPolicies"]["edges"][:1],
        "pageInfo": {"hasNextPage": True, "endCursor": first["edges"][0]["cursor"]},
    }
    second = await officer.ask(POLICIES, first=1, after=first["pageInfo"]["endCursor"])
    assert second["edges"] == answer.data["retentionPolicies"]["edges"][1:]
    assert second["pageInfo"]["hasNextPage"] is False
    assert await officer.refused(POLICIES, first=101) == ("INVALID_INPUT", "bad_page_size")


async def test_preview_counts_the_deletions_of_each_month(
    unkept: ApiHarness, case: Case, officer: Person
) -> None:
    await unkept.recording(case)
    policy_id = await propose_policy(unkept)
    answer = await officer.send(PREVIEW, policyId=policy_id)
    preview = answer.data["retentionPreview"]
    assert sum(month["recordingCount"] for month in preview["months"]) > 0
    assert preview["firstDeletionAt"] is not None
    [row] = await unkept.audit(answer.request_id)
    assert (row["action"], row["reason"]) == ("retention.preview", f"policy_{policy_id}")


@pytest.mark.parametrize("document", [PREVIEW, APPROVE_POLICY, REJECT_POLICY])
async def test_unknown_and_settled_policies_are_refused(
    unkept: ApiHarness, officer: Person, document: str
) -> None:
    assert await officer.refused(document, policyId=0) == ("NOT_FOUND", "retention_policy_not_found")
    for bad in ("", "-1", "01", "1.0", " 1", "\u0661", "12345678901", str(uuid4())):
        assert await officer.refused(document, policyId=bad) == ("INVALID_INPUT", "bad_id")
    policy_id = await propose_policy(unkept)
    assert (await officer.ask(REJECT_POLICY, policyId=policy_id))["status"] == "REJECTED"
    assert await officer.refused(document, policyId=policy_id) == ("CONFLICT", "retention_policy_settled")


async def test_storage_report_adds_up_and_names_no_person(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    recording = await harness.recording(case)
    answer = await officer.send(STORAGE_REPORT)
    report = answer.data["storageReport"]
    assert report["sizeBytes"] == sum(each["sizeBytes"] for each in report["storedBytes"]) > 0
    assert report["storageUsdPerMonth"] == pytest.approx(report["sizeBytes"] / 10**9 * 0.015, abs=1e-4)
    assert report["prices"] == {
        "storageUsdPerGbMonth": 0.015,
        "classAUsdPerMillion": 4.5,
        "classBUsdPerMillion": 0.36,
        "asOf": "2026",
    }
    assert not any(str(known) in answer.body for known in (recording, case.id, case.patient_id))
    [row] = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("storage.report", "ALLOWED")


async def test_birth_date_is_set_once_and_never_returned(harness: ApiHarness, case: Case) -> None:
    doctor, patient = case.doctor, f"mrn-{uuid4()}"

    async def register(**given: object) -> object:
        return await doctor.ask(
            documents.REGISTER, consultation=consultation_input(patientExternalId=patient, **given)
        )

    await register()
    await register(patientBirthDate="2015-04-30")
    await register()
    refused = await doctor.refused(
        documents.REGISTER,
        consultation=consultation_input(patientExternalId=patient, patientBirthDate="2015-05-01"),
    )
    assert refused == ("CONFLICT", "patient_birth_date_differs")
    [row] = await harness.rows(
        "select birth_date::text from resguardo.patients where external_id = %s", patient
    )
    assert row["birth_date"] == "2015-04-30"


@pytest.mark.parametrize(
    ("birth_date", "expected"),
    [
        ("1899-12-31", ("INVALID_INPUT", "bad_birth_date")),
        ("2999-01-01", ("INVALID_INPUT", "bad_birth_date")),
        ("2199-01-01", ("CONFLICT", "patient_birth_date_ahead")),
    ],
)
async def test_impossible_birth_date_is_refused(
    case: Case, birth_date: str, expected: tuple[str, str]
) -> None:
    given = consultation_input(patientBirthDate=birth_date, patientExternalId=f"mrn-{uuid4()}")
    assert await case.doctor.refused(documents.REGISTER, consultation=given) == expected
