"""Tests of breach assessments, notices and sanctions through the API."""

import asyncio
import hashlib
import json
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api import documents
from tests.api.assessing import (
    BREACH_ASSESSMENTS,
    DECIDE_BREACH,
    DELAY_NOTICES,
    FACTORS,
    OPEN_BREACH,
    RECORD_FACTOR,
    RECORD_NOTICE,
    RECORD_SANCTION,
    RECOUNT_BREACH,
    SANCTIONS,
    breach_input,
    insert_breach,
    today,
)
from tests.api.harness import ApiHarness, Case, Person
from tests.api.reviewing import RECORD_DISPOSITION
from tests.api.shown import named_in, shown_in

pytestmark = pytest.mark.anyio


async def _read(officer: Person, breach: UUID | str) -> dict[str, Any] | None:
    page = await officer.ask(BREACH_ASSESSMENTS, first=100)
    found = [edge["node"] for edge in page["edges"] if edge["node"]["id"] == str(breach)]
    return found[0] if found else None


async def _decide(officer: Person, breach: UUID, decision: str, **given: Any) -> dict[str, Any]:
    decided = await officer.ask(
        DECIDE_BREACH, breach={"breachAssessmentId": str(breach), "decision": decision, **given}
    )
    made: dict[str, Any] = decided
    return made


async def _refused(officer: Person, document: str, breach: UUID, **given: Any) -> tuple[str, str | None]:
    return await officer.refused(document, breach={"breachAssessmentId": str(breach), **given})


async def test_affected_patients_and_recordings_come_from_the_audit_log(
    harness: ApiHarness, case: Case, officer: Person, recording: UUID
) -> None:
    await case.doctor.ask(documents.RECORDING, id=str(recording))
    other = await harness.case()
    await case.doctor.send(documents.CONSULTATION, id=other.id)
    answer = await officer.send(OPEN_BREACH, breach=await breach_input(harness, case.doctor))
    opened = answer.value
    day = await today(harness)
    assert (opened["status"], opened["countStatus"], opened["decision"]) == ("OPEN", "COUNTING", None)
    assert (opened["discoveredOn"], opened["dueOn"]) == (str(day), str(day + timedelta(days=60)))
    assert opened["subject"] == {"id": str(case.doctor.user_id)}
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("breach.open", "ALLOWED")
    assert named_in(row) == shown_in(answer)
    await harness.work()
    counted = await _read(officer, opened["id"])
    assert counted is not None
    assert (counted["countStatus"], counted["patientCount"], counted["recordingCount"]) == ("COUNTED", 1, 1)
    assert [edge["node"]["id"] for edge in counted["patients"]["edges"]] == [case.patient_id]
    assert [edge["node"]["recording"]["id"] for edge in counted["recordings"]["edges"]] == [str(recording)]


async def test_second_count_adds_what_happened_since(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    opened = await officer.ask(OPEN_BREACH, breach=await breach_input(harness, case.doctor))
    breach = opened["id"]
    await harness.work()
    recording = await harness.recording(case)
    await case.doctor.ask(documents.RECORDING, id=str(recording))
    await officer.ask(RECOUNT_BREACH, breach={"breachAssessmentId": breach})
    await harness.work()
    counted = await _read(officer, breach)
    assert counted is not None
    assert (counted["countStatus"], counted["recordingCount"]) == ("COUNTED", 1)


@pytest.mark.parametrize("missing", ["recordedDuring", "from"])
async def test_assessment_needs_a_range_of_time(harness: ApiHarness, officer: Person, missing: str) -> None:
    given = await breach_input(harness, await harness.clinician())
    if missing == "from":
        del given["filter"]["recordedDuring"]["from"]
    else:
        del given["filter"]["recordedDuring"]
    assert await officer.refused(OPEN_BREACH, breach=given) == ("INVALID_INPUT", "breach_range")


@pytest.mark.parametrize("days", [1, -2193])
async def test_discovery_in_the_future_or_before_six_years_is_refused(
    harness: ApiHarness, officer: Person, days: int
) -> None:
    day = await today(harness) + timedelta(days=days)
    given = await breach_input(harness, await harness.clinician(), discoveredOn=str(day))
    assert await officer.refused(OPEN_BREACH, breach=given) == ("CONFLICT", "bad_discovered_on")


@pytest.mark.parametrize("as_subject", [True, False])
async def test_nobody_assesses_their_own_access(
    harness: ApiHarness, officer: Person, *, as_subject: bool
) -> None:
    given = await breach_input(harness, await harness.clinician() if as_subject else officer)
    if as_subject:
        given["subjectId"] = str(officer.user_id)
    assert await officer.refused(OPEN_BREACH, breach=given) == ("CONFLICT", "own_breach_assessment")


async def test_unknown_subject_is_not_found(harness: ApiHarness, officer: Person) -> None:
    given = await breach_input(harness, await harness.clinician(), subjectId=str(uuid4()))
    assert await officer.refused(OPEN_BREACH, breach=given) == ("NOT_FOUND", "staff_not_found")


async def test_subject_neither_sees_nor_changes_the_assessment(harness: ApiHarness, officer: Person) -> None:
    subject = await harness.staff("compliance")
    breach = await insert_breach(harness, officer, subject=subject.user_id)
    assert await _read(officer, breach) is not None
    assert await _read(subject, breach) is None
    for document, given in (
        (RECOUNT_BREACH, {}),
        (RECORD_FACTOR, {"factor": "MITIGATION", "risk": "LOW", "rationale": "None."}),
        (DELAY_NOTICES, {"statement": "ORAL", "delayEndsOn": str(await today(harness) + timedelta(days=9))}),
        (DECIDE_BREACH, {"decision": "SECURED"}),
        (RECORD_NOTICE, {"kind": "MEDIA", "method": "PRESS", "sentOn": str(await today(harness))}),
    ):
        answer = await subject.send(document, breach={"breachAssessmentId": str(breach), **given})
        assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "breach_assessment_not_found")
        (row,) = await harness.audit(answer.request_id)
        assert (row["outcome"], row["actor_id"]) == ("DENIED", subject.user_id)


async def test_low_probability_needs_all_four_factors(harness: ApiHarness, officer: Person) -> None:
    breach = await insert_breach(harness, officer)
    for number, factor in enumerate(FACTORS):
        assert await _refused(officer, DECIDE_BREACH, breach, decision="LOW_PROBABILITY") == (
            "CONFLICT",
            "breach_factors_missing",
        )
        given = {"factor": factor, "risk": "LOW", "rationale": f"Reason {number}."}
        await officer.ask(RECORD_FACTOR, breach={"breachAssessmentId": str(breach), **given})
    decided = await _decide(officer, breach, "LOW_PROBABILITY")
    assert (decided["status"], decided["nextDueOn"], decided["neededNotices"]) == ("CLOSED", None, [])
    assert {one["factor"] for one in decided["factors"]} == set(FACTORS)


async def test_decision_is_sealed_without_the_text_of_a_rationale(
    harness: ApiHarness, officer: Person
) -> None:
    breach = await insert_breach(harness, officer)
    text = "Copied by Mrs Jones."
    given = {"factor": "MITIGATION", "risk": "HIGH", "rationale": text}
    await officer.ask(RECORD_FACTOR, breach={"breachAssessmentId": str(breach), **given})
    decided = await _decide(officer, breach, "SECURED")
    assert hashlib.sha256(decided["document"].encode()).hexdigest() == decided["sha256"]
    document = json.loads(decided["document"])
    assert (document["breach_assessment"], document["decision"]) == (str(breach), "SECURED")
    assert "Jones" not in decided["document"]
    (event,) = await harness.rows(
        "select e.action, e.digest from audit.events as e where e.id = %s", UUID(decided["auditEventId"])
    )
    assert (event["action"], event["digest"]) == ("breach.seal", decided["sha256"])
    assert await _refused(officer, RECORD_FACTOR, breach, **given) == ("CONFLICT", "breach_decided")


@pytest.mark.parametrize("count_status", ["COUNTING", "FAILED"])
async def test_decision_waits_for_the_count(harness: ApiHarness, officer: Person, count_status: str) -> None:
    breach = await insert_breach(harness, officer, count_status=count_status)
    assert await _refused(officer, DECIDE_BREACH, breach, decision="BREACH") == (
        "CONFLICT",
        "breach_not_counted",
    )


async def test_of_two_officers_who_decide_at_once_one_is_refused(
    harness: ApiHarness, officer: Person
) -> None:
    other = await harness.staff("compliance")
    breach = await insert_breach(harness, officer)
    answers = await asyncio.gather(
        *(
            person.send(DECIDE_BREACH, breach={"breachAssessmentId": str(breach), "decision": decision})
            for person, decision in ((officer, "SECURED"), (other, "BREACH"), (other, "NOT_RETAINED"))
        )
    )
    refused = [one.error.reason for one in answers if "errors" in one.body]
    assert refused == ["breach_decided", "breach_decided"]
    events = await harness.rows(
        "select e.id from audit.events as e where e.action = 'breach.seal' and e.entities::text like %s",
        f"%{breach}%",
    )
    assert len(events) == 1


async def test_clock_that_has_run_out_needs_a_reason_and_stops_nothing(
    harness: ApiHarness, officer: Person
) -> None:
    breach = await insert_breach(harness, officer, discovered_days_ago=61)
    shown = await _read(officer, breach)
    assert shown is not None
    assert shown["isOverdue"]
    assert await _refused(officer, DECIDE_BREACH, breach, decision="BREACH") == (
        "CONFLICT",
        "breach_clock_run_out",
    )
    until = str(await today(harness) + timedelta(days=10))
    assert await _refused(officer, DELAY_NOTICES, breach, statement="WRITTEN", delayEndsOn=until) == (
        "CONFLICT",
        "breach_delay_late",
    )
    decided = await _decide(officer, breach, "BREACH", lateReason="OVERSIGHT")
    assert (decided["status"], decided["lateReason"], decided["isOverdue"]) == (
        "NOTIFYING",
        "OVERSIGHT",
        True,
    )
    sent = {"kind": "INDIVIDUALS", "method": "FIRST_CLASS_MAIL", "sentOn": str(await today(harness))}
    assert await _refused(officer, RECORD_NOTICE, breach, **sent) == ("CONFLICT", "breach_clock_run_out")
    noted = await officer.ask(
        RECORD_NOTICE,
        breach={"breachAssessmentId": str(breach), **sent, "lateReason": "SCOPE_UNKNOWN"},
    )
    (notice,) = noted["notices"]
    assert notice["lateReason"] == "SCOPE_UNKNOWN"


async def test_last_day_is_not_late(harness: ApiHarness, officer: Person) -> None:
    breach = await insert_breach(harness, officer, discovered_days_ago=60)
    decided = await _decide(officer, breach, "BREACH", lateReason="OVERSIGHT")
    assert (decided["lateReason"], decided["isOverdue"]) == (None, False)


def _due(decided: dict[str, Any]) -> dict[tuple[str, str | None], str]:
    return {(one["kind"], one["jurisdiction"]): one["dueOn"] for one in decided["neededNotices"]}


@pytest.mark.parametrize(
    ("patients", "residents", "media"),
    [
        (499, None, []),
        (500, None, []),
        (501, None, [None]),
        (501, {"CA": 500, "NV": 1}, []),
        (1100, {"CA": 501, "NV": 500, "OR": 99}, ["CA"]),
        (1100, {"CA": 501, "NV": 599}, ["CA", "NV"]),
    ],
)
async def test_needed_notices_follow_from_the_number_of_affected_patients(
    harness: ApiHarness,
    officer: Person,
    patients: int,
    residents: dict[str, int] | None,
    media: list[str | None],
) -> None:
    breach = await insert_breach(harness, officer, patient_count=patients)
    given = (
        {}
        if residents is None
        else {"residents": [{"jurisdiction": k, "count": n} for k, n in residents.items()]}
    )
    decided = await _decide(officer, breach, "BREACH", **given)
    sixty = decided["dueOn"]
    year_end = date.fromisoformat(decided["discoveredOn"]).replace(month=12, day=31) + timedelta(days=60)
    secretary = sixty if patients >= 500 else str(year_end)
    assert _due(decided) == {
        ("INDIVIDUALS", None): sixty,
        ("SECRETARY", None): secretary,
        **{("MEDIA", one): sixty for one in media},
    }
    assert decided["nextDueOn"] == min(sixty, secretary)


@pytest.mark.parametrize(
    ("residents", "expected"),
    [
        ([{"jurisdiction": "CA", "count": 2}], ("CONFLICT", "breach_residents_differ")),
        ([{"jurisdiction": "Ca", "count": 1}], ("INVALID_INPUT", "bad_residents")),
        ([{"jurisdiction": "CA", "count": 0}], ("INVALID_INPUT", "bad_residents")),
        ([], ("INVALID_INPUT", "bad_residents")),
    ],
)
async def test_wrong_residents_are_refused(
    harness: ApiHarness, officer: Person, residents: list[dict[str, Any]], expected: tuple[str, str]
) -> None:
    breach = await insert_breach(harness, officer)
    assert await _refused(officer, DECIDE_BREACH, breach, decision="BREACH", residents=residents) == expected


async def test_last_needed_notice_closes_the_assessment(harness: ApiHarness, officer: Person) -> None:
    breach = await insert_breach(harness, officer, patient_count=900)
    await _decide(officer, breach, "BREACH")
    day = str(await today(harness))
    for kind, method in (
        ("URGENT", "TELEPHONE"),
        ("SUBSTITUTE", "WEB_SITE"),
        ("INDIVIDUALS", "EMAIL"),
        ("SECRETARY", "HHS_PORTAL"),
        ("MEDIA", "PRESS"),
    ):
        noted = await officer.ask(
            RECORD_NOTICE,
            breach={"breachAssessmentId": str(breach), "kind": kind, "method": method, "sentOn": day},
        )
        is_last = kind == "MEDIA"
        assert (noted["status"] == "CLOSED") == is_last
    assert (noted["nextDueOn"], noted["isOverdue"]) == (None, False)
    assert all(one["sentOn"] == day for one in noted["neededNotices"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"kind": "MEDIA", "method": "EMAIL"}, ("INVALID_INPUT", "bad_notice_method")),
        ({"kind": "MEDIA", "method": "PRESS", "jurisdiction": "cal"}, ("INVALID_INPUT", "bad_notice_method")),
        ({"kind": "URGENT", "method": "EMAIL", "jurisdiction": "CA"}, ("INVALID_INPUT", "bad_notice_method")),
        ({"kind": "MEDIA", "method": "PRESS", "sentOn": "2999-01-01"}, ("CONFLICT", "bad_sent_on")),
        ({"kind": "MEDIA", "method": "PRESS", "sentOn": "2020-01-01"}, ("CONFLICT", "bad_sent_on")),
    ],
)
async def test_wrong_notice_is_refused(
    harness: ApiHarness, officer: Person, given: dict[str, Any], expected: tuple[str, str]
) -> None:
    breach = await insert_breach(harness, officer, decided="BREACH")
    given = {"sentOn": str(await today(harness)), **given}
    assert await _refused(officer, RECORD_NOTICE, breach, **given) == expected


async def test_notice_before_the_decision_is_refused(harness: ApiHarness, officer: Person) -> None:
    breach = await insert_breach(harness, officer)
    given = {"kind": "SECRETARY", "method": "HHS_PORTAL", "sentOn": str(await today(harness))}
    assert await _refused(officer, RECORD_NOTICE, breach, **given) == ("CONFLICT", "breach_undecided")


async def test_law_enforcement_moves_the_deadlines(harness: ApiHarness, officer: Person) -> None:
    breach = await insert_breach(harness, officer, discovered_days_ago=50)
    day = await today(harness)
    for days in (0, 31):
        until = str(day + timedelta(days=days))
        assert await _refused(officer, DELAY_NOTICES, breach, statement="ORAL", delayEndsOn=until) == (
            "CONFLICT",
            "bad_delay",
        )
    until = str(day + timedelta(days=90))
    delayed = await officer.ask(
        DELAY_NOTICES,
        breach={"breachAssessmentId": str(breach), "statement": "WRITTEN", "delayEndsOn": until},
    )
    assert delayed["nextDueOn"] == until
    assert await _refused(
        officer, DELAY_NOTICES, breach, statement="ORAL", delayEndsOn=str(day + timedelta(days=30))
    ) == ("CONFLICT", "bad_delay")
    decided = await _decide(officer, breach, "BREACH")
    assert _due(decided)["INDIVIDUALS", None] == until


async def test_second_oral_statement_prolongs_no_delay(harness: ApiHarness, officer: Person) -> None:
    breach = await insert_breach(harness, officer)
    day = await today(harness)
    first, second = (str(day + timedelta(days=days)) for days in (20, 30))
    for _ in range(2):
        delayed = await officer.ask(
            DELAY_NOTICES,
            breach={"breachAssessmentId": str(breach), "statement": "ORAL", "delayEndsOn": first},
        )
        assert delayed["delayEndsOn"] == first
    assert await _refused(officer, DELAY_NOTICES, breach, statement="ORAL", delayEndsOn=second) == (
        "CONFLICT",
        "bad_delay",
    )


async def test_sanction_must_be_one_of_its_category(harness: ApiHarness, officer: Person) -> None:
    member = await harness.clinician()
    breach = await insert_breach(harness, officer, subject=member.user_id)
    given = {
        "memberId": str(member.user_id),
        "category": "MALICIOUS",
        "measure": "TRAINING",
        "imposedOn": str(await today(harness)),
        "breachAssessmentId": str(breach),
    }
    assert await officer.refused(RECORD_SANCTION, breach=given) == ("CONFLICT", "sanction_not_of_category")
    made = await officer.ask(RECORD_SANCTION, breach=given | {"measure": "TERMINATION"})
    shown = await _read(officer, breach)
    assert shown is not None
    assert [one["id"] for one in shown["sanctions"]] == [made["id"]]
    assert await officer.refused(
        RECORD_SANCTION, breach=given | {"measure": "TERMINATION", "imposedOn": "2999-01-01"}
    ) == ("CONFLICT", "bad_imposed_on")
    assert await officer.refused(RECORD_SANCTION, breach=given | {"memberId": str(uuid4())}) == (
        "NOT_FOUND",
        "breach_assessment_not_found",
    )


async def test_officer_neither_records_nor_sees_a_sanction_against_themselves(
    harness: ApiHarness, officer: Person
) -> None:
    other = await harness.staff("compliance")
    given = {
        "memberId": str(officer.user_id),
        "category": "CURIOUS",
        "measure": "WRITTEN_WARNING",
        "imposedOn": str(await today(harness)),
    }
    assert await officer.refused(RECORD_SANCTION, breach=given) == ("CONFLICT", "own_sanction")
    made = await other.ask(RECORD_SANCTION, breach=given)
    for person, sees in ((other, True), (officer, False)):
        page = await person.ask(SANCTIONS, first=100)
        ids = [edge["node"]["id"] for edge in page["edges"]]
        assert (made["id"] in ids) == sees


async def test_possible_breach_opens_one_assessment_of_the_events_of_the_case(
    harness: ApiHarness, case: Case, officer: Person, recording: UUID
) -> None:
    read = await case.doctor.send(documents.RECORDING, id=str(recording))
    await case.doctor.ask(
        documents.RECORDING, id=str(await harness.recording(await harness.case(case.doctor)))
    )
    (event,) = await harness.audit(read.request_id)
    (opened,) = await harness.rows(
        "select private.open_case('self', %s, '{}', '{}', array[%s], %s) as id",
        case.doctor.user_id,
        event["id"],
        str(recording),
    )
    given = {"caseId": str(opened["id"]), "disposition": "POSSIBLE_BREACH", "text": "Not her patient."}
    for _ in range(2):
        await officer.ask(RECORD_DISPOSITION, **given)
    (row,) = await harness.rows(
        "select a.id, a.subject_id, a.discovered_on, a.opened_by from resguardo.breach_assessments as a"
        " where a.case_id = %s",
        opened["id"],
    )
    assert (row["subject_id"], row["discovered_on"], row["opened_by"]) == (
        case.doctor.user_id,
        await today(harness),
        officer.user_id,
    )
    await harness.work()
    counted = await _read(officer, row["id"])
    assert counted is not None
    assert (counted["countStatus"], counted["patientCount"], counted["recordingCount"]) == ("COUNTED", 1, 1)
    assert [edge["node"]["id"] for edge in counted["recordings"]["edges"]] == [str(recording)]
