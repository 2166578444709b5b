"""Tests of access requests: permissions, due dates, encrypted copies, and the access requests that a caller must
not see.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from app.access_requests.model import DenialGround
from app.errors import Conflict
from app.postgres.quotas import load_quotas
from tests.api import documents
from tests.api.harness import Answer, ApiHarness, Case, Person, ids_of
from tests.api.requesting import (
    ACCESS_REQUESTS,
    APPROVE_REQUEST,
    ASK_REVIEW,
    DENY_REQUEST,
    EXTEND_REQUEST,
    ISSUE_EXPORT_URL,
    RECORD_REQUEST,
    RECORD_REVIEW,
    REQUEST_ACCESS,
    REVEAL_SECRET,
    WITHDRAW_REQUEST,
    insert_access_request,
)
from tests.api.shown import named_in, shown_in
from tests.integration.winzip import read_archive

pytestmark = pytest.mark.anyio

MOTHER = {"relationship": "PARENT", "name": "Rosa Quispe"}
REVIEWABLE = sorted(ground for ground in DenialGround if ground.is_reviewable)


async def _file(person: Person, **request: object) -> Any:
    return await person.ask(REQUEST_ACCESS, request=request)


async def _today(harness: ApiHarness) -> date:
    today: date = (await harness.rows("select private.today() as today"))[0]["today"]
    return today


async def _of(harness: ApiHarness, request: object, column: str) -> Any:
    (row,) = await harness.rows("select * from resguardo.access_requests where id = %s", UUID(str(request)))
    return row[column]


async def _days_pass(harness: ApiHarness, request: str, days: int) -> None:
    """Change the access request's day of receipt to `days` days earlier."""
    await harness.rows(
        "update resguardo.access_requests set received_on = received_on - %s, due_on = due_on - %s where id = %s",
        days,
        days,
        UUID(request),
    )


async def _audited(harness: ApiHarness, answer: Answer) -> list[tuple[Any, ...]]:
    return [(row["action"], row["outcome"], row["reason"]) for row in await harness.audit(answer.request_id)]


async def test_patient_requests_all_recordings_and_the_deadline_is_thirty_days(
    harness: ApiHarness, case: Case
) -> None:
    answer = await case.patient.send(REQUEST_ACCESS, request={})
    filed, today = answer.value, await _today(harness)
    assert (filed["patient"]["id"], filed["consultation"], filed["status"], filed["channel"]) == (
        case.patient_id,
        None,
        "OPEN",
        "LOGIN",
    )
    assert (filed["receivedOn"], filed["dueOn"]) == (str(today), str(today + timedelta(days=30)))
    assert (filed["isOverdue"], filed["representative"], filed["denial"], filed["export"]) == (
        False,
        None,
        None,
        None,
    )
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["operation"], row["outcome"], row["purpose"], row["actor_role"]) == (
        "access_request.file",
        "C",
        "ALLOWED",
        "PATIENT_REQUEST",
        "patient",
    )
    assert (
        named_in(row) == shown_in(answer) == {"access_request": {filed["id"]}, "patient": {case.patient_id}}
    )
    assert row["patient_ids"] == [UUID(case.patient_id)]


async def test_repeated_request_with_the_same_scope_returns_the_open_request(
    harness: ApiHarness, case: Case
) -> None:
    everything = await _file(case.patient)
    one = await _file(case.patient, consultation={"id": case.id}, representative=MOTHER)
    assert one["consultation"]["id"] == case.id
    assert one["representative"] == MOTHER
    assert (await _file(case.patient))["id"] == everything["id"] != one["id"]
    assert (await _file(case.patient, consultation={"id": case.id}))["id"] == one["id"]
    await case.patient.ask(WITHDRAW_REQUEST, requestId=everything["id"])
    assert (await _file(case.patient))["id"] not in (everything["id"], one["id"])


async def test_two_concurrent_filings_create_one_request(harness: ApiHarness, case: Case) -> None:
    filed = await asyncio.gather(*(_file(case.patient) for _ in range(5)))
    assert len({one["id"] for one in filed}) == 1


async def test_request_for_another_patients_consultation_is_not_found(
    harness: ApiHarness, case: Case
) -> None:
    other = await harness.case()
    hidden = await case.patient.send(REQUEST_ACCESS, request={"consultation": {"id": other.id}})
    absent = await case.patient.send(REQUEST_ACCESS, request={"consultation": {"id": str(uuid4())}})
    assert (hidden.error.code, hidden.error.reason) == ("NOT_FOUND", "consultation_not_found")
    assert hidden.error.message == absent.error.message
    assert (absent.error.code, absent.error.reason) == (hidden.error.code, hidden.error.reason)
    assert await _audited(harness, hidden) == [("access_request.file", "DENIED", "not_found")]
    assert await _audited(harness, absent) == [("access_request.file", "ABSENT", "not_found")]
    assert not await harness.rows(
        "select id from resguardo.access_requests where patient_id in (%s, %s)",
        case.patient_id,
        other.patient_id,
    )


@pytest.mark.parametrize("name", ["", "  ", "x" * 201])
async def test_representative_without_a_name_is_refused(case: Case, name: str) -> None:
    refused = await case.patient.refused(
        REQUEST_ACCESS, request={"representative": {"relationship": "OTHER", "name": name}}
    )
    assert refused == ("INVALID_INPUT", "bad_representative")


async def test_deadline_of_a_written_request_counts_from_its_receipt(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    today = await _today(harness)
    written = {"patient": {"id": case.patient_id}, "receivedOn": str(today - timedelta(days=10))}
    filed = await officer.ask(RECORD_REQUEST, written=written | {"representative": MOTHER})
    assert (filed["channel"], filed["dueOn"]) == ("WRITTEN", str(today + timedelta(days=20)))
    assert filed["representative"] == MOTHER
    assert (await officer.ask(RECORD_REQUEST, written=written))["id"] == filed["id"]
    assert (await _file(case.patient))["id"] == filed["id"]


async def test_written_request_moves_the_deadline_of_an_open_request_back(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    today, filed = await _today(harness), await _file(case.patient)
    await officer.ask(EXTEND_REQUEST, requestId=filed["id"], extension="VOLUME", days=10)
    for days, received, due in ((25, 25, 15), (5, 25, 15), (45, 45, -5)):
        written = {"patient": {"id": case.patient_id}, "receivedOn": str(today - timedelta(days=days))}
        joined = await officer.ask(RECORD_REQUEST, written=written)
        assert (joined["id"], joined["channel"]) == (filed["id"], "LOGIN")
        assert joined["receivedOn"] == str(today - timedelta(days=received))
        assert (joined["dueOn"], joined["isOverdue"]) == (str(today + timedelta(days=due)), due < 0)


async def test_written_request_during_a_review_keeps_the_day_of_the_review(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    request = str(await insert_access_request(harness, case, "IN REVIEW"))
    due_on, received_on = (
        await _of(harness, request, "due_on"),
        str(await _today(harness) - timedelta(days=20)),
    )
    written = {"patient": {"id": case.patient_id}, "receivedOn": received_on}
    joined = await officer.ask(RECORD_REQUEST, written=written)
    assert (joined["id"], joined["receivedOn"], joined["dueOn"]) == (request, received_on, str(due_on))


async def test_later_representative_is_stored_or_refused(case: Case, officer: Person) -> None:
    filed = await _file(case.patient)
    for _ in range(2):
        joined = await _file(case.patient, representative=MOTHER)
        assert (joined["id"], joined["representative"]) == (filed["id"], MOTHER)
    assert (await _file(case.patient))["representative"] == MOTHER
    father = {"relationship": "PARENT", "name": "Juan Quispe"}
    refused = await case.patient.refused(REQUEST_ACCESS, request={"representative": father})
    assert refused == ("CONFLICT", "representative_differs")
    one = await _file(case.patient, consultation={"id": case.id})
    await officer.ask(APPROVE_REQUEST, requestId=one["id"])
    refused = await case.patient.refused(
        REQUEST_ACCESS, request={"consultation": {"id": case.id}, "representative": MOTHER}
    )
    assert refused == ("CONFLICT", "representative_differs"), "who decided did not know of her"


async def test_compliance_withdraws_only_written_requests(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    written = {"patient": {"id": case.patient_id}, "receivedOn": str(await _today(harness))}
    filed = await officer.ask(RECORD_REQUEST, written=written)
    answer = await officer.send(WITHDRAW_REQUEST, requestId=filed["id"])
    assert answer.value["status"] == "WITHDRAWN"
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["outcome"], row["actor_role"], row["actor_id"]) == (
        "access_request.withdraw",
        "ALLOWED",
        "compliance",
        officer.user_id,
    )
    by_login = await _file(case.patient)
    refused = await officer.refused(WITHDRAW_REQUEST, requestId=by_login["id"])
    assert refused == ("CONFLICT", "request_not_written")
    assert await _of(harness, by_login["id"], "status") == "OPEN"


async def test_compliance_asks_for_the_review_of_a_written_request(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    request = str(await insert_access_request(harness, case, "DENIED", "WRITTEN"))
    answer = await officer.send(ASK_REVIEW, requestId=request)
    assert answer.value["status"] == "OPEN"
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["actor_role"]) == ("access_request.ask_review", "compliance")
    by_login = str(await insert_access_request(harness, await harness.case(), "DENIED"))
    assert await officer.refused(ASK_REVIEW, requestId=by_login) == ("CONFLICT", "request_not_written")


async def test_many_written_requests_are_accepted(harness: ApiHarness, officer: Person) -> None:
    today = str(await _today(harness))
    for _ in range(8):  # From the sixth execution on, a connection uses a generic plan
        case = await harness.case()
        await officer.ask(RECORD_REQUEST, written={"patient": {"id": case.patient_id}, "receivedOn": today})


@pytest.mark.parametrize(("days", "is_taken"), [(-1, False), (0, True), (60, True), (61, False)])
async def test_written_request_with_a_future_or_old_day_of_receipt_is_refused(
    harness: ApiHarness, case: Case, officer: Person, days: int, is_taken: bool
) -> None:
    received_on = str(await _today(harness) - timedelta(days=days))
    answer = await officer.send(
        RECORD_REQUEST, written={"patient": {"id": case.patient_id}, "receivedOn": received_on}
    )
    if is_taken:
        assert answer.value["isOverdue"] is (days > 30)
    else:
        assert (answer.error.code, answer.error.reason) == ("CONFLICT", "bad_received_on")
        assert await _audited(harness, answer) == [("access_request.file", "FAILED", "bad_received_on")]


async def test_refused_written_request_names_the_patient_of_its_external_id_in_the_audit_log(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    written = {
        "patient": {"externalId": case.registration["patientExternalId"]},
        "receivedOn": str(await _today(harness) + timedelta(days=2)),
    }
    answer = await officer.send(RECORD_REQUEST, written=written)
    assert (answer.error.code, answer.error.reason) == ("CONFLICT", "bad_received_on")
    (row,) = await harness.audit(answer.request_id)
    assert (row["outcome"], row["patient_ids"]) == ("FAILED", [UUID(case.patient_id)])


async def test_written_request_for_an_unknown_patient_or_another_patients_consultation_is_not_found(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    today, other = str(await _today(harness)), await harness.case()
    unknown = {"patient": {"id": str(uuid4())}, "receivedOn": today}
    assert await officer.refused(RECORD_REQUEST, written=unknown) == ("NOT_FOUND", "patient_not_found")
    mixed = {"patient": {"id": case.patient_id}, "consultation": {"id": other.id}, "receivedOn": today}
    assert await officer.refused(RECORD_REQUEST, written=mixed) == ("NOT_FOUND", "consultation_not_found")


async def test_patient_lists_their_own_requests_and_compliance_lists_all(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    other = await harness.case()
    mine, theirs = await _file(case.patient, representative=MOTHER), await _file(other.patient)
    page = await case.patient.ask(ACCESS_REQUESTS)
    assert [edge["node"] for edge in page["edges"]] == [mine]
    seen = [edge["node"] for edge in (await officer.ask(ACCESS_REQUESTS, first=2))["edges"]]
    assert seen == [theirs, mine]


async def test_list_of_requests_writes_one_audit_row_that_names_each_patient(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    other = await harness.case()
    requests = [await _file(case.patient, consultation={"id": case.id}), await _file(other.patient)]
    answer = await officer.send(ACCESS_REQUESTS, first=2)
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["operation"], row["row_count"]) == ("access_request.list", "R", 2)
    assert named_in(row)["access_request"] == {one["id"] for one in requests}
    assert named_in(row) == shown_in(answer)
    assert set(row["patient_ids"]) == {UUID(case.patient_id), UUID(other.patient_id)}
    assert row["consultation_ids"] == [UUID(case.id)]
    assert {"representative.name", "denial.ground", "export.status"} <= set(row["fields"])


async def test_pages_of_requests_are_consecutive_and_filtered_by_status(
    harness: ApiHarness, case: Case
) -> None:
    for _ in range(3):
        filed = await _file(case.patient)
        await case.patient.ask(WITHDRAW_REQUEST, requestId=filed["id"])
    await _file(case.patient)
    seen, after = [], None
    for _ in range(2):
        page = await case.patient.ask(
            ACCESS_REQUESTS, first=2, after=after, filter={"statuses": ["WITHDRAWN", "DENIED"]}
        )
        seen += [edge["node"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
    assert len({one["id"] for one in seen}) == 3
    assert {one["status"] for one in seen} == {"WITHDRAWN"}
    assert [one["createdAt"] for one in seen] == sorted((one["createdAt"] for one in seen), reverse=True)
    assert page["pageInfo"]["hasNextPage"] is False


async def test_cursor_of_another_patient_shows_none_of_their_requests(
    harness: ApiHarness, case: Case
) -> None:
    other = await harness.case()
    await _file(other.patient)
    await _file(other.patient, consultation={"id": other.id})
    cursor = (await other.patient.ask(ACCESS_REQUESTS))["edges"][0]["cursor"]
    assert (await case.patient.ask(ACCESS_REQUESTS, after=cursor))["edges"] == []


@pytest.mark.parametrize("document", [WITHDRAW_REQUEST, ASK_REVIEW, ISSUE_EXPORT_URL])
async def test_request_of_another_patient_is_not_found(
    harness: ApiHarness, case: Case, document: str
) -> None:
    other = await harness.case()
    request = await insert_access_request(harness, other, "FULFILLED")
    hidden = await case.patient.send(document, requestId=str(request))
    absent = await case.patient.send(document, requestId=str(uuid4()))
    assert (hidden.error.code, hidden.error.reason) == ("NOT_FOUND", "access_request_not_found")
    assert hidden.error.message == absent.error.message
    assert (absent.error.code, absent.error.reason) == (hidden.error.code, hidden.error.reason)
    (denied,), (missing,) = await harness.audit(hidden.request_id), await harness.audit(absent.request_id)
    assert (denied["outcome"], denied["patient_ids"]) == ("DENIED", [UUID(other.patient_id)])
    assert (missing["outcome"], missing["patient_ids"]) == ("ABSENT", [])


async def test_withdrawn_request_cannot_be_changed(harness: ApiHarness, case: Case, officer: Person) -> None:
    filed = await _file(case.patient)
    for _ in range(2):
        assert (await case.patient.ask(WITHDRAW_REQUEST, requestId=filed["id"]))["status"] == "WITHDRAWN"
    for document, given in (
        (APPROVE_REQUEST, {}),
        (DENY_REQUEST, {"ground": "EXCEPTED"}),
        (EXTEND_REQUEST, {"extension": "VOLUME"}),
    ):
        refused = await officer.refused(document, requestId=filed["id"], **given)
        assert refused == ("CONFLICT", "access_request_closed")
    fulfilled = await insert_access_request(harness, case, "FULFILLED")
    refused = await case.patient.refused(WITHDRAW_REQUEST, requestId=str(fulfilled))
    assert refused == ("CONFLICT", "access_request_closed")


async def test_extension_moves_the_deadline_once_by_at_most_thirty_days(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    filed = await _file(case.patient)
    wanted = {"requestId": filed["id"], "extension": "VOLUME"}
    for days in (0, 31, -1):
        refused = await officer.refused(EXTEND_REQUEST, **wanted, days=days)
        assert refused == ("INVALID_INPUT", "bad_extension")
    await _days_pass(harness, filed["id"], 30)
    extended = await officer.ask(EXTEND_REQUEST, **wanted, days=30)
    today = await _today(harness)
    assert (extended["dueOn"], extended["extension"]["reason"]) == (str(today + timedelta(days=30)), "VOLUME")
    assert await officer.refused(EXTEND_REQUEST, **wanted) == ("CONFLICT", "extended_already")


async def test_extension_after_the_deadline_is_refused_and_the_request_is_overdue(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    filed = await _file(case.patient)
    await _days_pass(harness, filed["id"], 30)
    assert (await _file(case.patient))["isOverdue"] is False
    await _days_pass(harness, filed["id"], 1)
    refused = await officer.refused(EXTEND_REQUEST, requestId=filed["id"], extension="STAFF_ABSENCE")
    assert refused == ("CONFLICT", "past_due")
    (edge,) = (await case.patient.ask(ACCESS_REQUESTS))["edges"]
    assert edge["node"]["isOverdue"] is True
    await case.patient.ask(WITHDRAW_REQUEST, requestId=filed["id"])
    (edge,) = (await case.patient.ask(ACCESS_REQUESTS))["edges"]
    assert edge["node"]["isOverdue"] is False


@pytest.mark.parametrize("ground", [ground for ground in DenialGround if not ground.is_reviewable])
async def test_denial_without_a_review_names_no_professional_and_says_so(
    harness: ApiHarness, case: Case, officer: Person, ground: str
) -> None:
    filed = await _file(case.patient)
    wanted = {"requestId": filed["id"], "ground": ground}
    refused = await officer.refused(DENY_REQUEST, **wanted, determinedBy=str(case.doctor.user_id))
    assert refused == ("INVALID_INPUT", "bad_determination")
    denied = await officer.ask(DENY_REQUEST, **wanted)
    assert (denied["status"], denied["denial"]["isReviewable"]) == ("DENIED", False)
    assert "(a)(2)(i" in denied["denial"]["message"] or "(a)(2)(v)" in denied["denial"]["message"]
    assert "no right to a review" in denied["denial"]["message"]
    refused = await case.patient.refused(ASK_REVIEW, requestId=filed["id"])
    assert refused == ("CONFLICT", "not_reviewable")


@pytest.mark.parametrize("ground", REVIEWABLE)
async def test_denial_for_harm_needs_a_professional_and_mentions_the_review(
    harness: ApiHarness, case: Case, officer: Person, ground: str
) -> None:
    filed = await _file(case.patient, representative=MOTHER)
    wanted = {"requestId": filed["id"], "ground": ground}
    assert await officer.refused(DENY_REQUEST, **wanted) == ("INVALID_INPUT", "bad_determination")
    former = await harness.clinician()
    await harness.rows(
        "update resguardo.staff set status = 'suspended', suspended_at = now() where user_id = %s",
        former.user_id,
    )
    for nobody in (former.user_id, officer.user_id, case.patient.user_id, uuid4()):
        refused = await officer.refused(DENY_REQUEST, **wanted, determinedBy=str(nobody))
        assert refused == ("CONFLICT", "clinician_unknown")
    denied = await officer.ask(DENY_REQUEST, **wanted, determinedBy=str(case.doctor.user_id))
    assert (denied["status"], denied["denial"]["isReviewable"]) == ("DENIED", True)
    for language, words in (
        ("en", "right to a review of this decision"),
        ("es", "derecho a que otro profesional"),
    ):
        seen = (await case.patient.send(ACCESS_REQUESTS, in_language=language)).data["accessRequests"]
        text = seen["edges"][0]["node"]["denial"]["message"]
        assert words in text
        assert "164.524(a)(3)" in text


async def test_denial_for_harm_by_a_representative_needs_a_representative(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    filed = await _file(case.patient)
    refused = await officer.refused(
        DENY_REQUEST,
        requestId=filed["id"],
        ground="REPRESENTATIVE_HARMS",
        determinedBy=str(case.doctor.user_id),
    )
    assert refused == ("CONFLICT", "request_has_no_representative")


async def test_review_reopens_the_request_until_its_outcome_is_recorded(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    request = str(await insert_access_request(harness, case, "DENIED"))
    for _ in range(2):
        asked = await case.patient.ask(ASK_REVIEW, requestId=request)
        assert (asked["status"], asked["denial"]["ground"]) == ("OPEN", "ENDANGERS_LIFE")
    for document, given in (
        (APPROVE_REQUEST, {}),
        (DENY_REQUEST, {"ground": "EXCEPTED"}),
        (EXTEND_REQUEST, {"extension": "VOLUME"}),
    ):
        assert await officer.refused(document, requestId=request, **given) == ("CONFLICT", "review_pending")
    wanted = {"requestId": request, "outcome": "UPHELD"}
    refused = await officer.refused(RECORD_REVIEW, **wanted, reviewerId=str(case.doctor.user_id))
    assert refused == ("CONFLICT", "reviewer_took_part")
    refused = await officer.refused(RECORD_REVIEW, **wanted, reviewerId=str(officer.user_id))
    assert refused == ("CONFLICT", "clinician_unknown")
    reviewer = str((await harness.clinician()).user_id)
    upheld = await officer.ask(RECORD_REVIEW, **wanted, reviewerId=reviewer)
    assert (upheld["status"], upheld["denial"]["reviewOutcome"]) == ("DENIED", "UPHELD")
    assert "reviewed this decision and upheld it" in upheld["denial"]["message"]
    assert "right to a review of this decision" not in upheld["denial"]["message"]
    assert await case.patient.refused(ASK_REVIEW, requestId=request) == ("CONFLICT", "reviewed_already")
    refused = await officer.refused(RECORD_REVIEW, **wanted, reviewerId=reviewer)
    assert refused == ("CONFLICT", "no_review_asked")


async def test_reversed_denial_is_fulfilled(harness: ApiHarness, case: Case, officer: Person) -> None:
    await harness.recording(case)
    request = str(await insert_access_request(harness, case, "IN REVIEW"))
    reviewer = str((await harness.clinician()).user_id)
    reversed_ = await officer.ask(RECORD_REVIEW, requestId=request, reviewerId=reviewer, outcome="REVERSED")
    assert (reversed_["status"], reversed_["export"]["status"]) == ("APPROVED", "PREPARING")
    assert "reversed it" in reversed_["denial"]["message"]
    assert "was denied" not in reversed_["denial"]["message"]
    assert "complain" not in reversed_["denial"]["message"]
    due_on = date.fromisoformat(reversed_["dueOn"])
    extended = await officer.ask(EXTEND_REQUEST, requestId=request, extension="TECHNICAL_FAILURE", days=5)
    assert extended["dueOn"] == str(due_on + timedelta(days=5))
    await harness.work()
    assert await _of(harness, request, "status") == "FULFILLED"


async def test_review_beside_a_new_request_with_the_same_scope_is_a_conflict(
    harness: ApiHarness, case: Case
) -> None:
    request = str(await insert_access_request(harness, case, "DENIED"))
    await _file(case.patient)
    refused = await case.patient.refused(ASK_REVIEW, requestId=request)
    assert refused == ("CONFLICT", "access_request_open_already")


@dataclass(frozen=True)
class Fulfilled:
    """A fulfilled access request with its encrypted copy, and the recordings of the patient."""

    id: str
    content: bytes


@pytest.fixture
async def fulfilled(harness: ApiHarness, case: Case, officer: Person) -> Fulfilled:
    """Return an access request that the patient filed, compliance approved, and the worker fulfilled."""
    content = uuid4().bytes * 100
    await harness.recording(case, content=content)
    filed = await _file(case.patient)
    approved = await officer.ask(APPROVE_REQUEST, requestId=filed["id"])
    assert (approved["status"], approved["export"]["status"]) == ("APPROVED", "PREPARING")
    await harness.work()
    return Fulfilled(filed["id"], content)


async def test_only_the_patient_gets_the_copy_and_only_compliance_the_secret(
    harness: ApiHarness, case: Case, officer: Person, fulfilled: Fulfilled, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "app")
    (edge,) = (await case.patient.ask(ACCESS_REQUESTS))["edges"]
    export = edge["node"]["export"]
    assert (edge["node"]["status"], export["status"], export["fileCount"]) == ("FULFILLED", "READY", 1)
    issued = await case.patient.ask(ISSUE_EXPORT_URL, requestId=fulfilled.id)
    assert "7-Zip" in issued["instructions"]
    assert (
        parse_qs(urlsplit(issued["url"]).query)["X-Amz-Expires"]
        == [str(issued["expiresInSeconds"])]
        == ["300"]
    )
    async with httpx.AsyncClient(trust_env=False) as browser:
        downloaded = await browser.get(issued["url"])
    assert (downloaded.status_code, len(downloaded.content)) == (200, export["sizeBytes"])
    assert 'filename="recordings.zip"' in downloaded.headers["content-disposition"]
    secret = (await officer.ask(REVEAL_SECRET, requestId=fulfilled.id))["secret"]
    files = read_archive(downloaded.content, secret)
    assert [one for name, one in files.items() if name.endswith(".mp4")] == [fulfilled.content]
    assert await case.patient.refused(REVEAL_SECRET, requestId=fulfilled.id) == ("FORBIDDEN", "wrong_role")
    assert await officer.refused(ISSUE_EXPORT_URL, requestId=fulfilled.id) == ("FORBIDDEN", "wrong_role")
    written = str(await harness.rows("select * from audit.events"))
    written += str(await harness.rows("select * from jobs.procrastinate_jobs")) + caplog.text
    assert secret not in written
    assert issued["url"] not in written


async def test_url_of_a_copy_is_recorded_as_a_disclosure(
    harness: ApiHarness, case: Case, fulfilled: Fulfilled
) -> None:
    answer = await case.patient.send(ISSUE_EXPORT_URL, requestId=fulfilled.id)
    (row,) = await harness.audit(answer.request_id)
    assert (row["action"], row["operation"], row["outcome"], row["purpose"]) == (
        "access_request.issue_url",
        "E",
        "ALLOWED",
        "PATIENT_REQUEST",
    )
    assert (row["actor_id"], row["patient_ids"], row["consultation_ids"]) == (
        case.patient.user_id,
        [UUID(case.patient_id)],
        [UUID(case.id)],
    )
    assert row["byte_count"] == await _of(harness, fulfilled.id, "export_size_bytes")


async def test_secret_is_revealed_once(harness: ApiHarness, officer: Person, fulfilled: Fulfilled) -> None:
    answers = await asyncio.gather(*(officer.send(REVEAL_SECRET, requestId=fulfilled.id) for _ in range(4)))
    assert sorted("errors" in answer.body for answer in answers) == [False, True, True, True]
    again = await officer.send(REVEAL_SECRET, requestId=fulfilled.id)
    assert (again.error.code, again.error.reason) == ("CONFLICT", "export_secret_gone")
    assert await _audited(harness, again) == [
        ("access_request.reveal_secret", "FAILED", "export_secret_gone")
    ]
    (row,) = await harness.rows(
        "select secret from private.access_exports where request_id = %s", UUID(fulfilled.id)
    )
    assert row["secret"] is None
    assert await _of(harness, fulfilled.id, "secret_revealed_at") is not None


async def test_request_without_a_copy_has_no_url_and_no_secret(
    harness: ApiHarness, case: Case, officer: Person, fulfilled: Fulfilled
) -> None:
    open_one = await _file(case.patient)
    await harness.rows(
        "update private.access_exports set ready_at = now(), expires_at = now() where request_id = %s",
        UUID(fulfilled.id),
    )
    for request in (fulfilled.id, open_one["id"]):
        answer = await case.patient.send(ISSUE_EXPORT_URL, requestId=request)
        assert (answer.error.code, answer.error.reason) == ("CONFLICT", "export_not_there")
        assert await _audited(harness, answer) == [("access_request.issue_url", "FAILED", "export_not_there")]
        refused = await officer.refused(REVEAL_SECRET, requestId=request)
        assert refused == ("CONFLICT", "export_secret_gone")


async def test_failed_copy_reports_its_error_and_is_made_again_after_another_approval(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    recording = await harness.recording(case, "VERIFYING")
    filed = await _file(case.patient)
    await officer.ask(APPROVE_REQUEST, requestId=filed["id"])
    with pytest.raises(Conflict, match="recording_not_finished") as refused:
        await harness.services.exports.export(UUID(filed["id"]))
    await harness.services.exports.give_up(UUID(filed["id"]), refused.value.reason)
    (edge,) = (await case.patient.ask(ACCESS_REQUESTS))["edges"]
    assert (edge["node"]["status"], edge["node"]["export"]["problem"]["code"]) == (
        "APPROVED",
        "RECORDING_NOT_FINISHED",
    )
    await harness.rows("update resguardo.recordings set status = 'FAILED' where id = %s", recording)
    whole = await harness.recording(case, content=b"film")
    await officer.ask(APPROVE_REQUEST, requestId=filed["id"])
    await harness.work()
    (edge,) = (await case.patient.ask(ACCESS_REQUESTS))["edges"]
    export = edge["node"]["export"]
    assert (export["status"], export["fileCount"], export["missingFileCount"]) == ("READY", 1, 0), whole


async def test_copy_counts_its_missing_files(harness: ApiHarness, case: Case, officer: Person) -> None:
    for content in (b"stays", b"gone"):
        recording = await harness.recording(case, content=content)
    (kept,) = await harness.rows(
        "select object_key from private.recording_secrets where recording_id = %s", recording
    )
    await harness.bucket.delete(kept["object_key"])
    filed = await _file(case.patient)
    await officer.ask(APPROVE_REQUEST, requestId=filed["id"])
    await harness.work()
    (edge,) = (await officer.ask(ACCESS_REQUESTS, first=1))["edges"]
    export = edge["node"]["export"]
    assert (export["status"], export["fileCount"], export["missingFileCount"]) == ("READY", 1, 1)


async def test_approval_while_the_copy_is_made_queues_no_second_copy(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    filed = await _file(case.patient)
    for _ in range(3):
        await officer.ask(APPROVE_REQUEST, requestId=filed["id"])
    jobs = await harness.rows(
        "select id from jobs.procrastinate_jobs where lock = %s", f"export_access_request:{filed['id']}"
    )
    assert len(jobs) == 1


async def test_law_7_open_request_protects_its_recordings_and_an_ended_request_does_not(
    harness: ApiHarness, case: Case
) -> None:
    recording = await harness.recording(case)
    other = await harness.recording(await harness.case())

    async def holding(of: UUID) -> list[UUID]:
        ids: list[UUID] = (await harness.rows("select private.holds_on(%s) as ids", of))[0]["ids"]
        return ids

    filed = await _file(case.patient, consultation={"id": case.id})
    assert (await holding(recording), await holding(other)) == ([UUID(filed["id"])], [])
    await case.patient.ask(WITHDRAW_REQUEST, requestId=filed["id"])
    assert await holding(recording) == []
    final = await insert_access_request(harness, case, "DENIED")
    await harness.rows(
        "update resguardo.access_requests set denial_ground = 'EXCEPTED', determined_by = null where id = %s",
        final,
    )
    assert await holding(recording) == []


async def test_law_7_reviewable_denial_protects_recordings_until_the_review_or_for_sixty_days(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    recording = await harness.recording(case)
    denied = await insert_access_request(harness, case, "DENIED")

    async def is_held() -> bool:
        (row,) = await harness.rows("select private.holds_on(%s) = array[%s] as alone", recording, denied)
        together = await harness.rows(
            "select h.id from private.held_videos() as h (id) where h.id = %s", recording
        )
        assert bool(row["alone"]) == bool(together), "said alike of one and of all"
        return bool(together)

    async def decided(ago: str) -> None:
        await harness.rows(
            "update resguardo.access_requests set decided_at = private.now() - %s::interval where id = %s",
            ago,
            denied,
        )

    assert await is_held()
    await decided("59 days 23 hours")
    assert await is_held()
    await decided("60 days 1 second")
    assert not await is_held()
    await case.patient.ask(ASK_REVIEW, requestId=str(denied))
    assert await is_held()
    await decided("0 days")
    reviewer = str((await harness.clinician()).user_id)
    await officer.ask(RECORD_REVIEW, requestId=str(denied), reviewerId=reviewer, outcome="UPHELD")
    assert not await is_held()


@pytest.mark.parametrize("document", [REQUEST_ACCESS, ASK_REVIEW])
async def test_law_7_new_request_or_review_waits_for_a_destruction_that_begins(
    harness: ApiHarness, case: Case, document: str
) -> None:
    denied = await insert_access_request(harness, case, "DENIED")
    given: dict[str, object] = {"request": {}} if document == REQUEST_ACCESS else {"requestId": str(denied)}
    async with await psycopg.AsyncConnection.connect(harness.database.superuser_url) as destroying:
        await destroying.execute("select private.lock_keeping(false)")
        asking = asyncio.create_task(case.patient.send(document, **given))
        await asyncio.sleep(0.3)
        assert not asking.done()
        await destroying.commit()
        assert (await asking).data


async def test_quotas_apply_to_patients(
    harness: ApiHarness, case: Case, officer: Person, fulfilled: Fulfilled
) -> None:
    await harness.spend(case.patient, "urls", load_quotas().urls)
    refused = await case.patient.refused(ISSUE_EXPORT_URL, requestId=fulfilled.id)
    assert refused == ("RATE_LIMITED", "quota_urls")
    await harness.spend(case.patient, "pages", load_quotas().pages)
    assert await case.patient.refused(REQUEST_ACCESS, request={}) == ("RATE_LIMITED", "quota_pages")
    assert await case.patient.refused(ACCESS_REQUESTS) == ("RATE_LIMITED", "quota_pages")
    for document in (ASK_REVIEW, WITHDRAW_REQUEST):
        refused = await case.patient.refused(document, requestId=fulfilled.id)
        assert refused == ("RATE_LIMITED", "quota_pages")
    await harness.spend(officer, "pages", load_quotas().pages)
    refused = await officer.refused(APPROVE_REQUEST, requestId=fulfilled.id)
    assert refused == ("RATE_LIMITED", "quota_pages")


async def test_external_ids_file_the_same_request_as_ids(
    harness: ApiHarness, case: Case, officer: Person
) -> None:
    visit = {"externalId": case.registration["externalId"]}
    filed = await case.patient.ask(REQUEST_ACCESS, request={"consultation": visit})
    assert filed["consultation"]["id"] == case.id
    written = {
        "patient": {"externalId": case.registration["patientExternalId"]},
        "consultation": visit,
        "receivedOn": str(await _today(harness)),
    }
    assert (await officer.ask(RECORD_REQUEST, written=written))["id"] == filed["id"]


async def test_external_id_of_another_patients_consultation_looks_like_an_unknown_one(
    harness: ApiHarness, case: Case
) -> None:
    other = await harness.case()
    answers = [
        await case.patient.send(REQUEST_ACCESS, request={"consultation": {"externalId": name}})
        for name in (other.registration["externalId"], "no-such-visit")
    ]
    hidden, absent = (answer.error for answer in answers)
    assert (hidden.code, hidden.reason) == ("NOT_FOUND", "consultation_not_found")
    assert (hidden.code, hidden.reason, hidden.message) == (absent.code, absent.reason, absent.message)
    outcomes = [await _audited(harness, answer) for answer in answers]
    assert outcomes == [
        [("access_request.file", "DENIED", "not_found")],
        [("access_request.file", "ABSENT", "not_found")],
    ]
    (row,) = await harness.audit(answers[0].request_id)
    assert ids_of(row) == [UUID(other.id)]


async def test_written_request_for_an_unknown_external_id_is_not_found(
    harness: ApiHarness, officer: Person
) -> None:
    written = {"patient": {"externalId": "no-such-mrn"}, "receivedOn": str(await _today(harness))}
    answer = await officer.send(RECORD_REQUEST, written=written)
    assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "patient_not_found")
    assert await _audited(harness, answer) == [("access_request.file", "ABSENT", "not_found")]


async def test_operation_without_a_change_waits_for_no_destruction(harness: ApiHarness, case: Case) -> None:
    review, other = await insert_access_request(harness, case, "IN REVIEW"), await harness.case()
    async with await psycopg.AsyncConnection.connect(harness.database.superuser_url) as destroying:
        await destroying.execute("select private.lock_keeping(false)")
        async with asyncio.timeout(5):
            assert (await _file(case.patient))["id"] == str(review)
            await case.patient.ask(ASK_REVIEW, requestId=str(review))
            await case.patient.refused(REQUEST_ACCESS, request={"consultation": {"id": other.id}})
            await case.patient.refused(ASK_REVIEW, requestId=str(uuid4()))


async def test_doctor_cannot_use_access_requests(case: Case) -> None:
    await _file(case.patient)
    assert await case.doctor.refused(ACCESS_REQUESTS) == ("FORBIDDEN", "wrong_role")
    assert await case.doctor.ask(documents.VIEWER)
