"""Tests of the cost report, the estimate, and the lifting of a doctor's budget."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api.documents import COST_ESTIMATE, COST_REPORT, LIFT_BUDGET
from tests.api.harness import ApiHarness, Case, Person
from tests.policies.acting import acting

pytestmark = pytest.mark.anyio

SEED_PRICES = {
    "egressUsdPerMinute": 0.01,
    "speechUsdPerMinute": 0.006,
    "storageUsdPerGbMonth": 0.015,
    "inputUsdPerMillion": 10,
    "cachedUsdPerMillion": 10,
    "outputUsdPerMillion": 10,
    "asOf": "2025",
    "storageAsOf": "2026",
}
COUNTS = (
    "select private.count_tokens(%s, 'api.example.org', 'a-model', 1000000, 500000, 100000)",
    "select private.count_usage(%s, 'EGRESS', 'livekit', '', 'MILLISECONDS', 90000)",
    "select private.count_usage(%s, 'SPEECH', 'speech.example.org', 'a-model', 'MILLISECONDS', 60000)",
    "select private.count_usage(%s, 'STORAGE', 'bucket', '', 'BYTES', 3000000000)",
)


async def _use(harness: ApiHarness, case: Case) -> UUID:
    """Store a recording that used each vendor today, and return its id."""
    recording = await harness.recording(case)
    with acting(harness.database, "resguardo_worker") as worker:
        for statement in COUNTS:
            worker.execute(statement.encode(), [recording])
    return recording


def _period() -> dict[str, str]:
    today = datetime.now(UTC).date()
    return {"since": str(today - timedelta(1)), "until": str(today + timedelta(2))}


async def _groups(officer: Person, grouping: str) -> list[dict[str, Any]]:
    report = await officer.ask(COST_REPORT, groupBy=grouping, **_period())
    assert report["prices"] == SEED_PRICES
    assert not report["isCut"]
    assert report["totalUsd"] == pytest.approx(sum(group["totalUsd"] for group in report["groups"]))
    return list(report["groups"])


async def test_report_by_doctor_has_what_the_doctors_recordings_used(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    await _use(harness, case)
    groups = await _groups(officer, "DOCTOR")
    [own] = [group for group in groups if group["doctor"]["id"] == str(case.doctor.user_id)]
    assert (own["inputTokenCount"], own["cachedTokenCount"], own["outputTokenCount"]) == (
        1_000_000,
        500_000,
        100_000,
    )
    assert own["languageUsd"] == pytest.approx(11)
    assert (own["egressMinutes"], own["transcribedMinutes"]) == (1.5, 1)
    assert (own["egressUsd"], own["speechUsd"]) == (0.015, 0.006)
    assert own["storedGbMonths"] == pytest.approx(0.1)
    assert own["storageUsd"] == pytest.approx(0.0015)
    assert (own["startsOn"], own["vendor"], own["modelName"]) == (None, None, None)


async def test_report_by_vendor_and_month_names_no_person(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    recording = await _use(harness, case)
    vendors = {(group["vendor"], group["modelName"]): group for group in await _groups(officer, "VENDOR")}
    assert vendors["api.example.org", "a-model"]["languageUsd"] > 0
    assert vendors["livekit", None]["egressUsd"] > 0
    [month, *_] = await _groups(officer, "MONTH")
    assert month["startsOn"].endswith("-01")
    answer = await officer.send(COST_REPORT, **_period())
    assert not any(
        str(known) in answer.body for known in (recording, case.id, case.patient_id, case.doctor.user_id)
    )
    [row] = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["patient_ids"]) == ("cost.report", "ALLOWED", [])


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("2026-01-02", "2026-01-02"),
        ("2026-01-02", "2026-01-01"),
        ("2020-01-01", "2026-01-01"),
        ("0001-01-01", "0001-01-01"),
    ],
)
async def test_report_of_an_impossible_period_is_refused(officer: Person, since: str, until: str) -> None:
    assert await officer.refused(COST_REPORT, since=since, until=until) == ("INVALID_INPUT", "cost_period")


async def test_report_of_a_period_without_use_is_empty(officer: Person) -> None:
    report = await officer.ask(COST_REPORT, since="2020-01-01", until="2020-02-01")
    assert (report["groups"], report["totalUsd"]) == ([], 0)


async def test_estimate_is_for_doctors_and_compliance(case: Case, officer: Person) -> None:
    for person in (case.doctor, officer):
        made = await person.ask(COST_ESTIMATE, minutes=60, sessionsPerMonth=100)
        assert made["prices"] == SEED_PRICES
        assert made["egressUsd"] == pytest.approx(0.6)
        assert made["speechUsd"] == pytest.approx(0.36)
        assert 0.96 <= made["sessionUsd"] <= 1.5
        assert made["monthUsd"] == pytest.approx(100 * made["sessionUsd"])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"minutes": -1}, "cost_minutes"),
        ({"minutes": 1441}, "cost_minutes"),
        ({"sessionsPerMonth": -1}, "cost_sessions"),
        ({"sessionsPerMonth": 1_000_001}, "cost_sessions"),
    ],
)
async def test_impossible_estimate_is_refused(officer: Person, given: dict[str, int], reason: str) -> None:
    assert await officer.refused(COST_ESTIMATE, **given) == ("INVALID_INPUT", reason)


async def test_officer_lifts_the_budget_of_a_doctor(harness: ApiHarness, case: Case, officer: Person) -> None:
    await _use(harness, case)
    answer = await officer.send(LIFT_BUDGET, userId=str(case.doctor.user_id))
    budget = answer.data["liftLanguageBudget"]["languageBudget"]
    assert budget["doctor"]["id"] == str(case.doctor.user_id)
    assert budget["usedTokenCount"] == 1_100_000
    assert budget["dailyTokenCount"] > 0
    [row] = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"]) == ("language_budget.lift", "ALLOWED")
    again = await officer.ask(LIFT_BUDGET, userId=str(case.doctor.user_id))
    assert again["liftedOn"] == budget["liftedOn"]


async def test_budget_of_nobody_is_not_found(harness: ApiHarness, officer: Person) -> None:
    for unknown in (uuid4(), officer.user_id):
        assert await officer.refused(LIFT_BUDGET, userId=str(unknown)) == ("NOT_FOUND", "staff_not_found")
    assert await officer.refused(LIFT_BUDGET, userId="7") == ("INVALID_INPUT", "bad_id")
