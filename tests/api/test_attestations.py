"""Tests of the attestations of the monthly review through the API."""

import hashlib
import json
from typing import Any
from uuid import UUID

import pytest

from tests.api.assessing import ATTEST_REVIEW, ATTESTATIONS, last_month, today
from tests.api.harness import ApiHarness, Person
from tests.api.shown import named_in, shown_in

pytestmark = pytest.mark.anyio


async def test_attestation_is_sealed_with_the_counts_of_the_month(
    harness: ApiHarness, officer: Person
) -> None:
    month = await last_month(harness)
    note = "Mrs Jones was right."
    answer = await officer.send(
        ATTEST_REVIEW, breach={"month": month, "findings": ["POSSIBLE_BREACH", "UNUSED_ACCESS"], "note": note}
    )
    made = answer.value
    assert (made["month"], made["attestedBy"]["id"], made["note"]) == (month, str(officer.user_id), note)
    assert hashlib.sha256(made["document"].encode()).hexdigest() == made["sha256"]
    document = json.loads(made["document"])
    assert (document["month"], document["findings"]) == (month, ["POSSIBLE_BREACH", "UNUSED_ACCESS"])
    assert set(document["counts"]) == {
        "events_by_outcome",
        "alerts_opened",
        "cases_opened",
        "cases_of_month_open_now",
        "breach_assessments_opened",
        "breach_assessments_open_now",
        "sanctions_recorded",
    }
    assert "Jones" not in made["document"]
    (event,) = await harness.rows(
        "select e.action, e.digest, e.actor_id from audit.events as e where e.id = %s",
        UUID(made["auditEventId"]),
    )
    assert (event["action"], event["digest"], event["actor_id"]) == (
        "attestation.seal",
        made["sha256"],
        officer.user_id,
    )
    rows = await harness.audit(answer.request_id)
    assert [row["action"] for row in rows if row["action"] == "attestation.sign"] == ["attestation.sign"]
    (signed,) = [row for row in rows if row["action"] == "attestation.sign"]
    assert named_in(signed) == shown_in(answer)
    page = await officer.ask(ATTESTATIONS, first=100)
    assert made["id"] in [edge["node"]["id"] for edge in page["edges"]]


async def test_attestation_needs_a_fresh_code(harness: ApiHarness) -> None:
    stale = await harness.staff("compliance", totp_at=1)
    given = {"month": await last_month(harness), "findings": ["NOTHING"]}
    assert await stale.refused(ATTEST_REVIEW, breach=given) == ("FORBIDDEN", "totp_stale")


async def test_second_attestation_of_a_month_must_be_the_same(harness: ApiHarness, officer: Person) -> None:
    given = {"month": await last_month(harness), "findings": ["NOTHING"]}
    first = await officer.ask(ATTEST_REVIEW, breach=given)
    assert await officer.ask(ATTEST_REVIEW, breach=given) == first
    for changed in ({"findings": ["TECHNICAL_FAULT"]}, {"note": "All quiet."}):
        assert await officer.refused(ATTEST_REVIEW, breach=given | changed) == (
            "CONFLICT",
            "attested_already",
        )
    other = await harness.staff("compliance")
    assert (await other.ask(ATTEST_REVIEW, breach=given))["id"] != first["id"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"findings": []}, ("INVALID_INPUT", "bad_findings")),
        ({"findings": ["NOTHING", "TECHNICAL_FAULT"]}, ("INVALID_INPUT", "bad_findings")),
        ({"findings": ["TECHNICAL_FAULT", "TECHNICAL_FAULT"]}, ("INVALID_INPUT", "bad_findings")),
        ({"note": " "}, ("INVALID_INPUT", "bad_rationale")),
        ({"note": "x" * 2001}, ("INVALID_INPUT", "bad_rationale")),
        ({"month": "2026-13"}, ("INVALID_INPUT", "bad_date")),
        ({"month": "2025-12"}, ("CONFLICT", "bad_month")),
        ({"month": "2099-01"}, ("CONFLICT", "bad_month")),
    ],
)
async def test_wrong_attestation_is_refused(
    harness: ApiHarness, officer: Person, given: dict[str, Any], expected: tuple[str, str]
) -> None:
    whole = {"month": await last_month(harness), "findings": ["NOTHING"], **given}
    assert await officer.refused(ATTEST_REVIEW, breach=whole) == expected


async def test_month_that_is_not_over_cannot_be_attested(harness: ApiHarness, officer: Person) -> None:
    month = (await today(harness)).strftime("%Y-%m")
    given = {"month": month, "findings": ["NOTHING"]}
    assert await officer.refused(ATTEST_REVIEW, breach=given) == ("CONFLICT", "bad_month")
