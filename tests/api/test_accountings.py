"""Tests of requests for an accounting of disclosures, and of the accountings (45 CFR 164.528) through the API."""

import asyncio
import base64
import csv
import hashlib
import io
import json
from datetime import date, timedelta
from uuid import UUID, uuid4

import pypdf
import pytest

from app.texts import disclosure_words
from tests.api.accounting import (
    ACCOUNTING_REQUESTS,
    EXTEND_ACCOUNTING,
    ISSUE_ACCOUNTING,
    RECORD_ACCOUNTING,
    REQUEST_ACCOUNTING,
    WITHDRAW_ACCOUNTING,
    insert_accounting_request,
)
from tests.api.disclosing import (
    LIFT_SUSPENSION,
    RECORD_DISCLOSURE,
    SUSPEND_DISCLOSURES,
    disclosure_input,
    suspension_input,
)
from tests.api.harness import ApiHarness, Case, Person
from tests.api.shown import named_in

pytestmark = pytest.mark.anyio


async def _today(harness: ApiHarness) -> date:
    (row,) = await harness.rows("select private.today() as today")
    today: date = row["today"]
    return today


async def _record(officer: Person, case: Case, day: date, **other: object) -> None:
    given = disclosure_input(case.patient_id, disclosedOn=day.isoformat(), **other)
    await officer.ask(RECORD_DISCLOSURE, disclosure=given)


async def _age(harness: ApiHarness, request: str, days: int) -> None:
    await harness.rows(
        "update resguardo.accounting_requests as a set received_on = a.received_on - %s, due_on = a.due_on - %s,"
        " earliest_date = a.earliest_date - %s, latest_date = a.latest_date - %s where a.id = %s returning id",
        *(days, days, days, days),
        UUID(request),
    )


async def test_patient_asks_for_an_accounting_and_the_clock_is_sixty_days(
    harness: ApiHarness, case: Case
) -> None:
    today = await _today(harness)
    asked = await case.patient.ask(REQUEST_ACCOUNTING, wish={})
    assert (asked["status"], asked["receivedOn"], asked["isFree"]) == ("OPEN", today.isoformat(), True)
    assert asked["dueOn"] == (today + timedelta(days=60)).isoformat()
    assert asked["latestDate"] == today.isoformat()
    assert date.fromisoformat(asked["earliestDate"]).year == today.year - 6
    assert (await case.patient.ask(REQUEST_ACCOUNTING, wish={}))["id"] == asked["id"]
    page = await case.patient.ask(ACCOUNTING_REQUESTS)
    assert [edge["node"]["id"] for edge in page["edges"]] == [asked["id"]]
    other = (await harness.case()).patient
    assert (await other.ask(ACCOUNTING_REQUESTS))["edges"] == []
    refused = await other.refused(WITHDRAW_ACCOUNTING, accountingId=asked["id"])
    assert refused == ("NOT_FOUND", "accounting_request_not_found")
    assert (await case.patient.ask(WITHDRAW_ACCOUNTING, accountingId=asked["id"]))["status"] == "WITHDRAWN"


async def test_only_the_first_request_in_twelve_months_is_free(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    first = await case.patient.ask(REQUEST_ACCOUNTING, wish={})
    await officer.ask(ISSUE_ACCOUNTING, accountingId=first["id"])
    second = await case.patient.ask(REQUEST_ACCOUNTING, wish={})
    assert (first["isFree"], second["isFree"]) == (True, False)
    await case.patient.ask(WITHDRAW_ACCOUNTING, accountingId=second["id"])
    await _age(harness, first["id"], 370)
    assert (await case.patient.ask(REQUEST_ACCOUNTING, wish={}))["isFree"]


async def test_deadline_is_extended_once_and_only_before_it_has_passed(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    request = str(await insert_accounting_request(harness, case))
    assert await officer.refused(EXTEND_ACCOUNTING, accountingId=request, days=31) == (
        "INVALID_INPUT",
        "bad_extension",
    )
    extended = await officer.ask(EXTEND_ACCOUNTING, accountingId=request)
    today = await _today(harness)
    assert extended["dueOn"] == (today + timedelta(days=90)).isoformat()
    assert extended["extension"]["reason"] == "VOLUME"
    assert await officer.refused(EXTEND_ACCOUNTING, accountingId=request) == ("CONFLICT", "extended_already")
    other = await harness.case()
    late = str(await insert_accounting_request(harness, other))
    await _age(harness, late, 61)
    assert await officer.refused(EXTEND_ACCOUNTING, accountingId=late) == ("CONFLICT", "past_due")
    page = await other.patient.ask(ACCOUNTING_REQUESTS)
    assert page["edges"][0]["node"]["isOverdue"]
    (overdue,) = await harness.rows("select private.overdue_accounting_requests() as ids")
    assert UUID(late) in overdue["ids"]
    assert UUID(request) not in overdue["ids"]


@pytest.mark.parametrize(
    "days", [{"receivedOn": 1}, {"receivedOn": -91}, {"earliestDate": -2300}, {"latestDate": 1}]
)
async def test_written_request_with_impossible_days_is_refused(
    harness: ApiHarness, case: Case, officer: Person, days: dict[str, int]
) -> None:
    today = await _today(harness)
    given = {"receivedOn": today.isoformat()} | {
        name: (today + timedelta(days=number)).isoformat() for name, number in days.items()
    }
    written = {"patient": {"id": case.patient_id}, **given}
    assert await officer.refused(RECORD_ACCOUNTING, written=written) == ("CONFLICT", "bad_accounting_dates")
    nobody = {"patient": {"id": str(uuid4())}, "receivedOn": today.isoformat()}
    assert await officer.refused(RECORD_ACCOUNTING, written=nobody) == ("NOT_FOUND", "patient_not_found")


async def test_accounting_has_the_statutory_entries_of_its_days_and_never_changes(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    today = await _today(harness)
    await _record(
        officer,
        case,
        today - timedelta(days=3),
        recipient={"name": "=HYPERLINK(1)", "address": "1 Main Street"},
    )
    await _record(officer, case, today - timedelta(days=2), purpose="TREATMENT")
    await _record(officer, case, today - timedelta(days=400))
    request = str(await insert_accounting_request(harness, case))
    answer = await officer.send(ISSUE_ACCOUNTING, accountingId=request)
    payload = answer.body["data"]["fulfillAccountingRequest"]
    made, issued = payload["accountingRequest"], payload["accounting"]
    assert (made["status"], made["entryCount"]) == ("FULFILLED", 1)
    assert made["sha256"] == hashlib.sha256(issued["json"].encode()).hexdigest()
    (row,) = [one for one in await harness.audit(answer.request_id) if one["action"] == "accounting.issue"]
    assert (row["operation"], row["digest"]) == ("E", made["sha256"])
    assert named_in(row)["accounting_request"] == {request}
    names, *rows = csv.reader(io.StringIO(issued["csv"]))
    assert names[:3] == ["Date", "Last date", "Number of disclosures"]
    assert rows == [
        [
            (today - timedelta(days=3)).isoformat(),
            "",
            "1",
            "'=HYPERLINK(1)",
            "1 Main Street",
            "Report of one case",
            disclosure_words("en")["purpose_PUBLIC_HEALTH"],
        ]
    ]
    pages = pypdf.PdfReader(io.BytesIO(base64.b64decode(issued["pdfBase64"]))).pages
    text = " ".join(page.extract_text() for page in pages)
    assert "=HYPERLINK(1)" in text
    assert "1 Main Street" in text
    await _record(officer, case, today - timedelta(days=1))
    again = await officer.send(ISSUE_ACCOUNTING, accountingId=request)
    assert again.body["data"]["fulfillAccountingRequest"] == payload
    assert await officer.refused(WITHDRAW_ACCOUNTING, accountingId=request) == (
        "CONFLICT",
        "accounting_request_closed",
    )


async def test_accounting_leaves_out_what_a_suspension_hides(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    today = await _today(harness)
    await _record(officer, case, today, purpose="LAW_ENFORCEMENT", recipient={"name": "The sheriff"})
    placed = await officer.ask(SUSPEND_DISCLOSURES, suspension=suspension_input(harness, case.patient_id))
    for is_hidden in (True, False):
        request = str(await insert_accounting_request(harness, case))
        answer = await officer.send(ISSUE_ACCOUNTING, accountingId=request)
        issued = answer.body["data"]["fulfillAccountingRequest"]["accounting"]
        assert ("sheriff" not in issued["json"] + issued["csv"]) is is_hidden
        assert len(json.loads(issued["json"])["entries"]) == (0 if is_hidden else 1)
        await officer.ask(LIFT_SUSPENSION, suspensionId=placed["id"])


async def test_accounting_about_substance_use_carries_the_notice(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    await harness.rows(
        "update resguardo.consultations set sensitivity = 'SUBSTANCE_USE' where id = %s returning id",
        UUID(case.id),
    )
    await _record(officer, case, await _today(harness), consultation={"id": case.id})
    request = str(await insert_accounting_request(harness, case))
    answer = await officer.send(ISSUE_ACCOUNTING, accountingId=request)
    issued = answer.body["data"]["fulfillAccountingRequest"]["accounting"]
    assert disclosure_words("en")["redisclosure_notice"] in issued["csv"].replace('""', '"')
    pages = pypdf.PdfReader(io.BytesIO(base64.b64decode(issued["pdfBase64"]))).pages
    assert "42 CFR part 2" in " ".join(page.extract_text() for page in pages)


async def test_concurrent_calls_issue_one_accounting(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    request = str(await insert_accounting_request(harness, case))
    other = await harness.staff("compliance")
    answers = await asyncio.gather(
        *(person.send(ISSUE_ACCOUNTING, accountingId=request) for person in (officer, other))
    )
    assert answers[0].body == answers[1].body


async def test_character_that_the_font_lacks_refuses_only_the_pdf(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    await _record(officer, case, await _today(harness), recipient={"name": "保健所"})
    request = str(await insert_accounting_request(harness, case))
    refused = await officer.refused(ISSUE_ACCOUNTING, accountingId=request)
    assert refused == ("CONFLICT", "accounting_unprintable")
    without_pdf = ISSUE_ACCOUNTING.replace(" pdfBase64", "")
    answer = await officer.send(without_pdf, accountingId=request)
    assert "保健所" in answer.body["data"]["fulfillAccountingRequest"]["accounting"]["csv"]
