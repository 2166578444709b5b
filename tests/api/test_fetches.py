"""Tests of the report of fetches, which compliance reads."""

from datetime import timedelta
from uuid import uuid4

import pytest

from tests.api.documents import FETCH_REPORT
from tests.api.harness import ApiHarness, Person

pytestmark = pytest.mark.anyio


async def test_period_without_an_access_log_is_not_evaluated(officer: Person) -> None:
    report = await officer.ask(FETCH_REPORT, since="2020-01-01T00:00:00Z", until="2020-02-01T00:00:00Z")
    assert (report["evaluation"], report["firstEventAt"], report["lastEventAt"]) == (
        "NOT_EVALUATED",
        None,
        None,
    )
    assert (report["fetchedCount"], report["findingCount"], report["findings"]) == (0, 0, [])


async def test_officer_reads_the_findings_of_a_period(harness: ApiHarness, officer: Person) -> None:
    start = harness.practice.now().replace(year=2021, second=0, microsecond=0)
    recording, read = uuid4(), uuid4()
    harness.practice.insert(
        "private.fetch_logs",
        sha256="cd" * 32,
        first_at=start,
        last_at=start + timedelta(hours=1),
        line_count=9,
    )
    for entity, minute, is_issued in ((recording, 1, False), (read, 2, True)):
        harness.practice.insert(
            "private.fetches",
            entity_type="recording",
            entity_id=entity,
            fetched_at=start + timedelta(minutes=minute),
            address="192.0.2.7",
            interface="S3",
            is_issued=is_issued,
        )
    since, until = start.isoformat(), (start + timedelta(days=1)).isoformat()
    answer = await officer.send(FETCH_REPORT, since=since, until=until)
    report = answer.value
    assert (report["evaluation"], report["fetchedCount"], report["findingCount"]) == ("EVALUATED", 2, 1)
    (finding,) = report["findings"]
    assert (finding["entityId"], finding["address"], finding["interface"]) == (
        str(recording),
        "192.0.2.7",
        "S3",
    )
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["row_count"]) == ("fetch.report", "ALLOWED", 1)
    assert row["entities"] == [{"type": "recording", "ids": [str(recording)]}]


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
    ],
)
async def test_period_that_is_empty_or_too_long_is_refused(officer: Person, since: str, until: str) -> None:
    assert await officer.refused(FETCH_REPORT, since=since, until=until) == ("INVALID_INPUT", "fetch_period")


async def test_doctor_reads_no_fetches(doctor: Person) -> None:
    assert await doctor.refused(FETCH_REPORT) == ("FORBIDDEN", "wrong_role")
