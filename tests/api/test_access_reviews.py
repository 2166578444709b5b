"""Tests of the quarterly review of the access of staff."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api import documents
from tests.api.harness import ApiHarness, Person

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def _no_review_is_open(harness: ApiHarness) -> AsyncIterator[None]:
    close = (
        "update resguardo.access_reviews set status = 'REJECTED', decided_by = started_by, decided_at = now()"
        " where status = 'OPEN' returning id"
    )
    await harness.rows(close)
    yield
    await harness.rows(close)


async def _old_member(harness: ApiHarness, days: int = 200) -> Person:
    """Return a member who got the role long ago."""
    member = await harness.clinician()
    await harness.rows(
        "update resguardo.staff set role_given_at = now() - make_interval(days => %s) where user_id = %s returning 1",
        days,
        member.user_id,
    )
    return member


async def _entry(officer: Person, review: str, member: Person) -> Any:
    after = None
    while True:
        page = await officer.ask(documents.STAFF_ACCESS_ENTRIES, reviewId=review, after=after)
        for edge in page["edges"]:
            if edge["node"]["member"]["id"] == str(member.user_id):
                return edge["node"]
        assert page["pageInfo"]["hasNextPage"], "the review does not list the member"
        after = page["pageInfo"]["endCursor"]


async def _keep_everyone_else(harness: ApiHarness, review: str, *removed: Person) -> None:
    """Decide to keep the members that other tests created."""
    await harness.rows(
        "update resguardo.access_review_entries set decision = 'KEEP' where review_id = %s and member_id <> all(%s)"
        " returning id",
        UUID(review),
        [one.user_id for one in removed],
    )


async def _status(harness: ApiHarness, member: Person) -> str:
    (row,) = await harness.rows("select status from resguardo.staff where user_id = %s", member.user_id)
    return str(row["status"])


async def test_unused_access_is_removed_after_a_second_officer_approved(
    harness: ApiHarness, officer: Person
) -> None:
    unused, used, new = await _old_member(harness), await _old_member(harness), await harness.clinician()
    await used.ask(documents.VIEWER)
    started = await officer.send(documents.START_ACCESS_REVIEW)
    review = started.value["id"]
    (event,) = await harness.audit(started.request_id)
    assert (event["action"], event["outcome"]) == ("access_review.start", "ALLOWED")
    entries = [await _entry(officer, review, one) for one in (unused, used, new)]
    assert [(e["isUnused"], e["decision"], e["lastUsedAt"] is None) for e in entries] == [
        (True, "REMOVE", True),
        (False, "KEEP", False),
        (False, "KEEP", True),
    ]
    await _keep_everyone_else(harness, review, unused)
    own = await officer.refused(documents.APPROVE_ACCESS_REVIEW, reviewId=review)
    assert own == ("CONFLICT", "access_review_same_officer")
    second = await harness.staff("compliance")
    approved = await second.send(documents.APPROVE_ACCESS_REVIEW, reviewId=review)
    assert approved.value["status"] == "APPROVED"
    (event,) = await harness.audit(approved.request_id)
    assert (event["action"], event["digest"]) == ("access_review.approve", approved.value["sha256"])
    assert await _status(harness, unused) == "active"
    await harness.work()
    assert [await _status(harness, one) for one in (unused, used, new)] == ["suspended", "active", "active"]
    assert (await _entry(officer, review, unused))["outcome"] == "REMOVED"
    assert (await _entry(officer, review, used))["outcome"] == "KEPT"
    (row,) = await harness.rows(
        "select status, private.digest_access_review(id) as sha256 from resguardo.access_reviews where id = %s",
        UUID(review),
    )
    assert (row["status"], row["sha256"]) == ("DONE", approved.value["sha256"])
    (row,) = await harness.rows("select suspended_by from resguardo.staff where user_id = %s", unused.user_id)
    assert row["suspended_by"] == second.user_id
    page = await officer.ask(documents.STAFF_ACCESS_REVIEWS, first=1)
    assert page["edges"][0]["node"]["status"] == "DONE"


async def test_member_who_used_the_access_since_keeps_it(harness: ApiHarness, officer: Person) -> None:
    idle = await _old_member(harness)
    review = (await officer.ask(documents.START_ACCESS_REVIEW))["id"]
    await idle.ask(documents.VIEWER)
    await _keep_everyone_else(harness, review, idle)
    await (await harness.staff("compliance")).ask(documents.APPROVE_ACCESS_REVIEW, reviewId=review)
    await harness.work()
    assert await _status(harness, idle) == "active"
    assert (await _entry(officer, review, idle))["outcome"] == "USED_SINCE"


async def test_officer_decides_about_others_and_then_a_third_person_approves(
    harness: ApiHarness, officer: Person
) -> None:
    member, second, third = (
        await harness.clinician(),
        await harness.staff("compliance"),
        await harness.staff("compliance"),
    )
    await member.ask(documents.VIEWER)
    review = (await officer.ask(documents.START_ACCESS_REVIEW))["id"]
    changed = await second.ask(
        documents.DECIDE_STAFF_ACCESS, reviewId=review, userId=str(member.user_id), access="REMOVE"
    )
    assert (changed["decision"], changed["decidedBy"]["id"]) == ("REMOVE", str(second.user_id))
    await _keep_everyone_else(harness, review, member)
    about_self = await second.refused(
        documents.DECIDE_STAFF_ACCESS, reviewId=review, userId=str(second.user_id), access="KEEP"
    )
    assert about_self == ("CONFLICT", "access_review_about_you")
    refusal = await second.refused(documents.APPROVE_ACCESS_REVIEW, reviewId=review)
    assert refusal == ("CONFLICT", "access_review_same_officer")
    await officer.ask(
        documents.DECIDE_STAFF_ACCESS, reviewId=review, userId=str(third.user_id), access="REMOVE"
    )
    refusal = await third.refused(documents.APPROVE_ACCESS_REVIEW, reviewId=review)
    assert refusal == ("CONFLICT", "access_review_about_you")
    await officer.ask(documents.DECIDE_STAFF_ACCESS, reviewId=review, userId=str(third.user_id))
    await member.ask(documents.VIEWER)
    await third.ask(documents.APPROVE_ACCESS_REVIEW, reviewId=review)
    await harness.work()
    assert await _status(harness, member) == "suspended"
    again = await officer.refused(documents.REJECT_ACCESS_REVIEW, reviewId=review)
    assert again == ("CONFLICT", "access_review_settled")


async def test_open_review_is_returned_and_an_old_one_must_be_rejected(
    harness: ApiHarness, officer: Person
) -> None:
    second = await harness.staff("compliance")
    review = (await officer.ask(documents.START_ACCESS_REVIEW))["id"]
    assert (await second.ask(documents.START_ACCESS_REVIEW))["id"] == review
    await harness.rows(
        "update resguardo.access_reviews set started_at = now() - interval '31 days' where id = %s returning id",
        UUID(review),
    )
    refusal = await second.refused(documents.APPROVE_ACCESS_REVIEW, reviewId=review)
    assert refusal == ("CONFLICT", "access_review_too_old")
    assert (await second.ask(documents.REJECT_ACCESS_REVIEW, reviewId=review))["status"] == "REJECTED"
    assert (await second.ask(documents.START_ACCESS_REVIEW))["id"] != review
    missing = await officer.send(documents.APPROVE_ACCESS_REVIEW, reviewId=str(uuid4()))
    assert (missing.error.code, missing.error.reason) == ("NOT_FOUND", "access_review_not_found")
    assert (await harness.audit(missing.request_id))[0]["outcome"] == "ABSENT"


async def test_alert_is_open_while_no_review_was_approved_for_a_quarter(harness: ApiHarness) -> None:
    is_open = "select 1 from resguardo.alerts where kind = 'ACCESS_REVIEW_DUE' and closed_at is null"
    member = await harness.clinician()
    await harness.rows(
        "update resguardo.access_reviews set decided_at = decided_at - interval '1 year' returning 1"
    )
    await harness.services.access_removal.watch()
    assert not await harness.rows(is_open)
    await harness.rows(
        "update resguardo.staff set created_at = now() - interval '93 days' where user_id = %s returning 1",
        member.user_id,
    )
    await harness.services.access_removal.watch()
    assert await harness.rows(is_open)
    await harness.rows(
        "update resguardo.staff set created_at = now() where user_id = %s returning 1", member.user_id
    )
    await harness.services.access_removal.watch()
    assert not await harness.rows(is_open)
