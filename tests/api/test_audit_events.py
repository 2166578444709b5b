"""Tests of the audit log in the API of compliance officers."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.api import documents
from tests.api.harness import ADDRESS, ApiHarness, Case, Person

pytestmark = pytest.mark.anyio


async def _nodes(officer: Person, **wanted: object) -> list[Any]:
    page = await officer.ask(documents.AUDIT_EVENTS, first=100, filter=wanted)
    return [edge["node"] for edge in page["edges"]]


async def test_event_names_the_actor_action_patient_and_address(case: Case, officer: Person) -> None:
    asked = await case.doctor.send(documents.CONSULTATION, id=case.id)
    (event,) = await _nodes(officer, consultation={"id": case.id}, action="consultation.read")
    assert event["actor"] == {"id": str(case.doctor.user_id)}
    assert event["sessionFingerprint"] == case.doctor.fingerprint
    assert (event["actorRole"], event["assuranceLevel"]) == ("CLINICIAN", "AAL2")
    assert (event["operation"], event["outcome"]) == ("READ", "ALLOWED")
    assert (event["purpose"], event["basis"]) == ("TREATMENT", "treating_clinician")
    assert (event["patientIds"], event["consultationIds"]) == ([case.patient_id], [case.id])
    assert event["entities"][0]["ids"] == [case.id]
    assert (event["requestId"], event["address"]) == (asked.request_id, ADDRESS)
    assert abs(datetime.fromisoformat(event["recordedAt"]) - datetime.now(UTC)) < timedelta(seconds=30)


async def test_events_are_filtered(
    harness: ApiHarness, case: Case, officer: Person, other_doctor: Person
) -> None:
    await other_doctor.refused(documents.CONSULTATION, id=case.id)
    absent = str(uuid4())
    await other_doctor.refused(documents.CONSULTATION, id=absent)
    by_actor = await _nodes(officer, actorId=str(other_doctor.user_id))
    assert [event["outcome"] for event in by_actor] == ["ABSENT", "DENIED"]
    assert [event["entities"][0]["ids"] for event in by_actor] == [[absent], [case.id]]
    for outcome in ("DENIED", "ABSENT"):
        found = await _nodes(officer, actorId=str(other_doctor.user_id), outcomes=[outcome])
        assert [event["outcome"] for event in found] == [outcome]
    for outcomes in (
        ["DENIED", "ABSENT"],
        ["ABSENT", "DENIED", "DENIED", "FAILED"],
        ["ALLOWED", "ABSENT", "DENIED"],
    ):
        assert await _nodes(officer, actorId=str(other_doctor.user_id), outcomes=outcomes) == by_actor
    assert [event["outcome"] for event in await _nodes(officer, outcomes=["DENIED", "ABSENT"])][:2] == [
        "ABSENT",
        "DENIED",
    ]
    assert await _nodes(officer, actorId=str(other_doctor.user_id), outcomes=["FAILED"]) == []
    by_patient = await _nodes(officer, patient={"id": case.patient_id})
    assert {event["action"] for event in by_patient} >= {"consultation.register", "consultation.read"}
    assert all(case.patient_id in event["patientIds"] for event in by_patient)
    assert await _nodes(officer, action="no.such_action") == []


async def test_events_are_filtered_by_time(case: Case, officer: Person) -> None:
    (event,) = await _nodes(officer, consultation={"id": case.id})
    at = datetime.fromisoformat(event["recordedAt"])
    after = (at + timedelta(microseconds=1)).isoformat()
    for since, until, count in ((at.isoformat(), after, 1), (after, None, 0), (None, at.isoformat(), 0)):
        found = await _nodes(
            officer,
            actorId=str(case.doctor.user_id),
            action="consultation.register",
            recordedDuring={"from": since, "until": until},
        )
        assert len(found) == count


async def test_events_are_filtered_by_recording_purpose_address_and_session(
    harness: ApiHarness, case: Case, officer: Person, other_doctor: Person
) -> None:
    absent = str(uuid4())
    await case.doctor.ask(documents.CONSULTATION, id=case.id)
    await other_doctor.refused(documents.RECORDING, id=absent)
    (of_recording,) = await _nodes(officer, recording={"id": absent})
    assert (of_recording["outcome"], of_recording["entities"][0]["ids"]) == ("ABSENT", [absent])
    assert await _nodes(officer, recording={"egressId": "EG_nobody"}) == []
    of_session = await _nodes(officer, sessionFingerprint=other_doctor.fingerprint)
    assert {event["actor"]["id"] for event in of_session} == {str(other_doctor.user_id)}
    both = {"address": ADDRESS, "purposes": ["TREATMENT"], "actorId": str(case.doctor.user_id)}
    assert {event["purpose"] for event in await _nodes(officer, **both)} == {"TREATMENT"}
    assert await _nodes(officer, **{**both, "address": "2001:db8::7"}) == []
    assert await _nodes(officer, **{**both, "purposes": ["LEGAL"]}) == []
    assert await _nodes(officer, **{**both, "purposes": []}) == []


async def test_summary_counts_events_by_interval_and_value(
    harness: ApiHarness, case: Case, officer: Person, other_doctor: Person
) -> None:
    for _ in range(3):
        await other_doctor.ask(documents.VIEWER)
    await other_doctor.refused(documents.CONSULTATION, id=case.id)
    now = datetime.now(UTC)
    during = {
        "from": (now - timedelta(hours=30)).isoformat(),
        "until": (now + timedelta(hours=2)).isoformat(),
    }
    wanted = {"actorId": str(other_doctor.user_id), "recordedDuring": during}
    answer = await officer.send(documents.AUDIT_SUMMARY, filter=wanted, interval="HOUR", groupBy="ACTION")
    summary = answer.data["auditSummary"]
    assert len(summary["startsAt"]) == len(summary["eventCounts"]) in (32, 33)
    assert sum(summary["eventCounts"]) == 4
    assert [(one["value"], sum(one["eventCounts"])) for one in summary["series"]] == [
        ("viewer.read", 3),
        ("consultation.read", 1),
    ]
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["purpose"]) == ("audit.summarize", "ALLOWED", "OPERATIONS")
    assert {"startsAt", "eventCounts", "series.value"} <= set(row["fields"])
    for grouping, value in (("OUTCOME", "ALLOWED"), ("ACTOR", str(other_doctor.user_id))):
        summary = await officer.ask(documents.AUDIT_SUMMARY, filter=wanted, interval="DAY", groupBy=grouping)
        assert summary["series"][0]["value"] == value


@pytest.mark.parametrize(
    ("during", "interval"),
    [
        (None, "DAY"),
        ({"from": "2026-01-01T00:00:00Z"}, "DAY"),
        ({"until": "2026-01-01T00:00:00Z"}, "DAY"),
        ({"from": "2026-01-02T00:00:00Z", "until": "2026-01-02T00:00:00Z"}, "DAY"),
        ({"from": "2026-01-01T00:00:00Z", "until": "2026-02-11T16:00:01Z"}, "HOUR"),
        ({"from": "0001-01-01T00:00:00+05:00", "until": "0001-01-02T00:00:00Z"}, "DAY"),
        ({"from": "9999-12-31T00:00:00Z", "until": "9999-12-31T23:59:59Z"}, "HOUR"),
        ({"from": "9999-12-01T00:00:00Z", "until": "9999-12-31T23:59:59Z"}, "MONTH"),
    ],
)
async def test_summary_without_bounds_or_of_too_many_intervals_is_refused(
    officer: Person, during: object, interval: str
) -> None:
    refused = await officer.refused(
        documents.AUDIT_SUMMARY, filter={"recordedDuring": during}, interval=interval
    )
    assert refused == ("INVALID_INPUT", "bad_summary_range")


async def test_events_are_listed_newest_first_in_pages(officer: Person, other_doctor: Person) -> None:
    for _ in range(5):
        await other_doctor.ask(documents.VIEWER)
    seen: list[Any] = []
    after, has_next = None, True
    wanted = {"actorId": str(other_doctor.user_id)}
    while has_next:
        page = await officer.ask(documents.AUDIT_EVENTS, first=2, after=after, filter=wanted)
        seen += [edge["node"] for edge in page["edges"]]
        after, has_next = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    assert len({event["id"] for event in seen}) == len(seen) == 5
    assert seen == sorted(seen, key=lambda event: event["recordedAt"], reverse=True)


async def test_reading_the_audit_log_writes_an_audit_row(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    answer = await officer.send(documents.AUDIT_EVENTS, filter={"consultation": {"id": case.id}})
    shown = len(answer.data["auditEvents"]["edges"])
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["actor_role"]) == ("audit.list", "ALLOWED", "compliance")
    assert (row["actor_id"], row["row_count"]) == (officer.user_id, shown)
    assert row["basis"] == "compliance_review"
    assert {"actor.id", "entities.ids", "entities.type", "fields"} <= set(row["fields"])
    (seen,) = await _nodes(officer, actorId=str(officer.user_id), action="audit.list")
    assert seen["requestId"] == answer.request_id


async def test_audit_row_of_a_full_page_counts_the_returned_events(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    await case.doctor.ask(documents.CONSULTATION, id=case.id)
    answer = await officer.send(documents.AUDIT_EVENTS, first=1, filter={"consultation": {"id": case.id}})
    assert len(answer.data["auditEvents"]["edges"]) == 1
    (row,) = await harness.audit(answer.request_id)
    assert row["row_count"] in (1, 2), "the one more that tells whether there is a next page was read, too"


@pytest.mark.parametrize(
    ("variables", "refusal"),
    [
        ({"first": 0}, ("INVALID_INPUT", "bad_page_size")),
        ({"first": 101}, ("INVALID_INPUT", "bad_page_size")),
        ({"after": "x"}, ("INVALID_INPUT", "bad_cursor")),
        ({"filter": {"recordedDuring": {"from": "2026-11-21T09:00:00"}}}, ("INVALID_INPUT", "bad_variable")),
        ({"filter": {"recordedDuring": {"until": "2026-11-21T09:00:00"}}}, ("INVALID_INPUT", "bad_variable")),
        ({"filter": {"actorId": "7"}}, ("INVALID_INPUT", "bad_id")),
        ({"filter": {"patient": {"id": "7"}}}, ("INVALID_INPUT", "bad_id")),
        ({"filter": {"consultation": {"id": ""}}}, ("INVALID_INPUT", "bad_id")),
        ({"filter": {"action": "nul\0"}}, ("INVALID_INPUT", "bad_text")),
        ({"filter": {"outcomes": ["SHRUGGED"]}}, ("INVALID_INPUT", "bad_variable")),
        ({"filter": {"purposes": ["CURIOSITY"]}}, ("INVALID_INPUT", "bad_variable")),
        ({"filter": {"address": "192.0.2.256"}}, ("INVALID_INPUT", "bad_address")),
        ({"filter": {"address": "192.0.2.0/24"}}, ("INVALID_INPUT", "bad_address")),
        ({"filter": {"address": "fe80::1%eth0"}}, ("INVALID_INPUT", "bad_address")),
        ({"filter": {"recording": {"id": "7"}}}, ("INVALID_INPUT", "bad_id")),
        ({"filter": {"sessionFingerprint": "nul\0"}}, ("INVALID_INPUT", "bad_text")),
    ],
)
async def test_bad_arguments_of_events_are_refused(
    officer: Person, variables: dict[str, Any], refusal: tuple[str, str]
) -> None:
    assert await officer.refused(documents.AUDIT_EVENTS, **variables) == refusal


async def test_only_compliance_reads_the_audit_log_and_refused_attempts_are_audited(
    case: Case, officer: Person
) -> None:
    for person in (case.doctor, case.patient):
        assert await person.refused(documents.AUDIT_EVENTS) == ("FORBIDDEN", "wrong_role")
        (event,) = await _nodes(officer, actorId=str(person.user_id), action="audit.list")
        assert (event["outcome"], event["reason"]) == ("DENIED", "wrong_role")
