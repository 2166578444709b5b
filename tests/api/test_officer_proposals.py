"""Tests of the changes that need a second officer: the reset of a second factor, and a reinstatement."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from supabase_auth.errors import AuthApiError

from app.integrations.supabase.client import SupabaseAdmin
from devstack.sign_in import sign_in
from tests.api import documents
from tests.api.harness import PUBLISHABLE_KEY, SECRET_KEY, ApiHarness, Person

pytestmark = pytest.mark.anyio
PASSWORD = "correct horse battery"


@asynccontextmanager
async def _administration(harness: ApiHarness) -> AsyncIterator[SupabaseAdmin]:
    admin = SupabaseAdmin(harness.supabase_url, SECRET_KEY)
    try:
        yield admin
    finally:
        await admin.aclose()


async def _member(harness: ApiHarness, role: str = "clinician") -> tuple[UUID, str]:
    """Return a member of staff with a login at the stand-in of Supabase Auth, and the login's address."""
    email = f"{uuid4().hex}@example.org"
    async with _administration(harness) as admin:
        user_id = await admin.create_user(email, PASSWORD)
    harness.practice.member(user_id, role)
    return user_id, email


async def _sign_in(harness: ApiHarness, email: str) -> Any:
    return await sign_in(harness.supabase_url, PUBLISHABLE_KEY, email, PASSWORD)


async def _proposal(officer: Person, proposal_id: str) -> Any:
    page = await officer.ask(documents.OFFICER_PROPOSALS, first=100)
    (found,) = [edge["node"] for edge in page["edges"] if edge["node"]["id"] == proposal_id]
    return found


async def _factor(harness: ApiHarness, user_id: UUID) -> UUID:
    factor = uuid4()
    await harness.rows(
        "insert into auth.mfa_factors (id, user_id, friendly_name, factor_type, status, secret, created_at, updated_at)"
        " values (%s, %s, %s, 'totp', 'verified', 'AAAA', now(), now()) returning id",
        factor,
        user_id,
        str(factor),
    )
    return factor


async def _factors(harness: ApiHarness, user_id: UUID) -> list[UUID]:
    return [
        row["id"] for row in await harness.rows("select id from auth.mfa_factors where user_id = %s", user_id)
    ]


async def test_suspended_member_works_again_after_two_officers_decided(
    harness: ApiHarness, officer: Person
) -> None:
    second = await harness.staff("compliance")
    user_id, email = await _member(harness)
    await officer.ask(documents.SUSPEND, userId=str(user_id))
    await harness.work()
    proposed = await officer.ask(documents.REINSTATE_STAFF, userId=str(user_id))
    assert (proposed["kind"], proposed["status"], proposed["reason"]) == (
        "REINSTATE",
        "PROPOSED",
        "SUSPENDED_BY_MISTAKE",
    )
    with pytest.raises(AuthApiError):
        await _sign_in(harness, email)
    approved = await second.send(documents.APPROVE_PROPOSAL, id=proposed["id"])
    assert (approved.value["status"], approved.value["decidedBy"]["id"]) == ("APPROVED", str(second.user_id))
    events = await harness.audit(approved.request_id)
    assert {(e["action"], e["outcome"]) for e in events} == {
        ("proposal.approve", "ALLOWED"),
        ("staff.reinstate", "ALLOWED"),
    }
    await harness.work()
    await _sign_in(harness, email)
    done = await _proposal(officer, proposed["id"])
    assert (done["status"], done["problem"]) == ("DONE", None)
    (row,) = await harness.rows("select * from resguardo.staff where user_id = %s", user_id)
    assert (row["status"], row["suspended_at"], row["suspended_by"]) == ("active", None, None)
    assert row["role_given_at"] > row["created_at"]


async def test_second_factors_are_removed_and_sessions_end_after_two_officers_decided(
    harness: ApiHarness, officer: Person
) -> None:
    second = await harness.staff("compliance")
    user_id, email = await _member(harness)
    await _factor(harness, user_id)
    harness.practice.session(user_id)
    proposed = await officer.ask(documents.RESET_SECOND_FACTOR, userId=str(user_id))
    assert len(await _factors(harness, user_id)) == 1
    assert await harness.rows("select id from auth.sessions where user_id = %s", user_id)
    await second.ask(documents.APPROVE_PROPOSAL, id=proposed["id"])
    assert not await harness.rows("select id from auth.sessions where user_id = %s", user_id)
    harness.practice.session(user_id)  # opened with the old factor before the worker has removed it
    await harness.work()
    assert await _factors(harness, user_id) == []
    assert not await harness.rows("select id from auth.sessions where user_id = %s", user_id)
    assert (await _proposal(second, proposed["id"]))["status"] == "DONE"
    (row,) = await harness.rows(
        "select * from audit.events where action = 'staff.reset_second_factor' and entities -> 0 -> 'ids' ? %s",
        str(user_id),
    )
    assert (row["outcome"], row["row_count"], row["actor_role"]) == ("ALLOWED", 1, "resguardo_worker")
    await _sign_in(harness, email)


async def test_later_attempt_removes_no_factor_that_was_enrolled_since(
    harness: ApiHarness, officer: Person
) -> None:
    """The first attempt died after it had removed the factors, and the person enrolled a new factor at once."""
    second = await harness.staff("compliance")
    user_id, _ = await _member(harness)
    old = await _factor(harness, user_id)
    proposed = await officer.ask(documents.RESET_SECOND_FACTOR, userId=str(user_id))
    await second.ask(documents.APPROVE_PROPOSAL, id=proposed["id"])
    await harness.rows("select private.keep_factors_to_remove(%s, %s)", UUID(proposed["id"]), [old])
    await harness.rows("delete from auth.mfa_factors where id = %s", old)
    new = await _factor(harness, user_id)
    await harness.work()
    assert await _factors(harness, user_id) == [new]
    assert (await _proposal(officer, proposed["id"]))["status"] == "DONE"


@pytest.mark.parametrize("document", [documents.RESET_SECOND_FACTOR, documents.REINSTATE_STAFF])
async def test_officer_cannot_approve_their_own_proposal(
    harness: ApiHarness, officer: Person, document: str
) -> None:
    user_id, _ = await _member(harness)
    if document == documents.REINSTATE_STAFF:
        await officer.ask(documents.SUSPEND, userId=str(user_id))
    proposed = await officer.ask(document, userId=str(user_id))
    refusal = await officer.refused(documents.APPROVE_PROPOSAL, id=proposed["id"])
    assert refusal == ("CONFLICT", "proposal_same_officer")
    again = await harness.with_session(officer)
    refusal = await again.refused(documents.APPROVE_PROPOSAL, id=proposed["id"])
    assert refusal == ("CONFLICT", "proposal_same_officer")
    rejected = await officer.ask(documents.REJECT_PROPOSAL, id=proposed["id"])
    assert rejected["status"] == "REJECTED"
    await harness.work()


async def test_member_whom_a_proposal_concerns_neither_makes_nor_decides_it(
    harness: ApiHarness, officer: Person
) -> None:
    target = await harness.staff("compliance")
    own = await target.refused(documents.RESET_SECOND_FACTOR, userId=str(target.user_id))
    assert own == ("CONFLICT", "proposal_about_you")
    proposed = await officer.ask(documents.RESET_SECOND_FACTOR, userId=str(target.user_id))
    for document in (documents.APPROVE_PROPOSAL, documents.REJECT_PROPOSAL):
        assert await target.refused(document, id=proposed["id"]) == ("CONFLICT", "proposal_about_you")


async def test_proposal_of_an_officer_who_was_suspended_is_withdrawn(
    harness: ApiHarness, officer: Person
) -> None:
    first, second = await harness.staff("compliance"), await harness.staff("compliance")
    user_id, _ = await _member(harness)
    proposed = await first.ask(documents.RESET_SECOND_FACTOR, userId=str(user_id))
    await officer.ask(documents.SUSPEND, userId=str(first.user_id))
    refusal = await second.refused(documents.APPROVE_PROPOSAL, id=proposed["id"])
    assert refusal == ("CONFLICT", "proposal_decided")
    found = await _proposal(second, proposed["id"])
    assert (found["status"], found["problem"]["code"]) == ("WITHDRAWN", "OFFICER_LOST_ACCESS")
    await second.ask(documents.RESET_SECOND_FACTOR, userId=str(user_id))
    await harness.work()


@pytest.mark.parametrize(
    "change",
    [
        "update resguardo.staff set role = 'clinician' where user_id = %s returning 1",
        "update auth.users set banned_until = now() + interval '1 hour' where id = %s returning 1",
    ],
)
async def test_proposal_of_an_officer_who_lost_access_cannot_be_approved(
    harness: ApiHarness, officer: Person, change: Any
) -> None:
    first = await harness.staff("compliance")
    user_id, _ = await _member(harness)
    proposed = await first.ask(documents.RESET_SECOND_FACTOR, userId=str(user_id))
    await harness.rows(change, first.user_id)
    refusal = await officer.refused(documents.APPROVE_PROPOSAL, id=proposed["id"])
    assert refusal == ("CONFLICT", "proposal_officer_gone")


async def test_officer_who_was_invited_lately_takes_no_part(harness: ApiHarness, officer: Person) -> None:
    second = await harness.staff("compliance")
    user_id, _ = await _member(harness)
    await harness.rows(
        "insert into private.staff_invitations (email, role, invited_by, status, user_id, settled_at)"
        " values (%s, 'compliance', %s, 'SENT', %s, now() - interval '29 days') returning id",
        f"{uuid4().hex}@example.org",
        officer.user_id,
        second.user_id,
    )
    refusal = ("CONFLICT", "officer_too_new")
    assert await second.refused(documents.RESET_SECOND_FACTOR, userId=str(user_id)) == refusal
    proposed = await officer.ask(documents.RESET_SECOND_FACTOR, userId=str(user_id))
    assert await second.refused(documents.APPROVE_PROPOSAL, id=proposed["id"]) == refusal
    await harness.rows(
        "update private.staff_invitations set settled_at = now() - interval '31 days' where user_id = %s returning id",
        second.user_id,
    )
    assert (await second.ask(documents.APPROVE_PROPOSAL, id=proposed["id"]))["status"] == "APPROVED"
    await harness.work()


async def test_two_officers_who_decide_at_once_decide_once(harness: ApiHarness, officer: Person) -> None:
    second, third = await harness.staff("compliance"), await harness.staff("compliance")
    user_id, _ = await _member(harness)
    proposed = await officer.ask(documents.RESET_SECOND_FACTOR, userId=str(user_id))
    answers = await asyncio.gather(
        second.send(documents.APPROVE_PROPOSAL, id=proposed["id"]),
        third.send(documents.REJECT_PROPOSAL, id=proposed["id"]),
        second.send(documents.APPROVE_PROPOSAL, id=proposed["id"]),
    )
    refused = [answer.error.reason for answer in answers if "errors" in answer.body]
    assert refused in (["proposal_decided"], ["proposal_decided", "proposal_decided"])
    jobs = "select count(*) from jobs.procrastinate_jobs where task_name = 'reset_second_factor' and args ->> 'id' = %s"
    (row,) = await harness.rows(jobs, proposed["id"])
    status = (await _proposal(officer, proposed["id"]))["status"]
    assert (status, row["count"]) in (("APPROVED", 1), ("REJECTED", 0))
    await harness.work()


async def test_replayed_approval_changes_nothing(harness: ApiHarness, officer: Person) -> None:
    second = await harness.staff("compliance")
    user_id, _ = await _member(harness)
    proposed = await officer.ask(documents.RESET_SECOND_FACTOR, userId=str(user_id))
    await second.ask(documents.APPROVE_PROPOSAL, id=proposed["id"])
    await harness.work()
    new = await _factor(harness, user_id)
    session = harness.practice.session(user_id)
    assert (await second.ask(documents.APPROVE_PROPOSAL, id=proposed["id"]))["status"] == "DONE"
    await harness.work()
    assert await _factors(harness, user_id) == [new]
    assert await harness.rows("select id from auth.sessions where id = %s", session)
    refusal = await second.refused(documents.REJECT_PROPOSAL, id=proposed["id"])
    assert refusal == ("CONFLICT", "proposal_decided")


async def test_suspension_ends_a_reinstatement_and_the_ban_stays(
    harness: ApiHarness, officer: Person
) -> None:
    second = await harness.staff("compliance")
    user_id, email = await _member(harness)
    await officer.ask(documents.SUSPEND, userId=str(user_id))
    await harness.work()
    proposed = await officer.ask(documents.REINSTATE_STAFF, userId=str(user_id))
    await second.ask(documents.APPROVE_PROPOSAL, id=proposed["id"])
    await second.ask(documents.SUSPEND, userId=str(user_id))
    await harness.work()
    with pytest.raises(AuthApiError) as refused:
        await _sign_in(harness, email)
    assert refused.value.code == "user_banned"
    found = await _proposal(officer, proposed["id"])
    assert (found["status"], found["problem"]["code"]) == ("WITHDRAWN", "SUSPENDED_AGAIN")


async def test_member_whom_the_role_table_suspended_is_not_reinstated(
    harness: ApiHarness, officer: Person
) -> None:
    user_id, _ = await _member(harness)
    await harness.rows("delete from resguardo.staff where user_id = %s returning 1", user_id)
    await harness.rows("select private.map_staff(%s, 'clinician')", user_id)
    await harness.rows("select private.map_staff(%s, null)", user_id)
    refusal = ("CONFLICT", "not_in_role_table")
    assert await officer.refused(documents.REINSTATE_STAFF, userId=str(user_id)) == refusal
    await officer.ask(documents.SUSPEND, userId=str(user_id))
    assert await officer.refused(documents.REINSTATE_STAFF, userId=str(user_id)) == refusal
    await harness.rows("select private.map_staff(%s, 'compliance')", user_id)
    proposed = await officer.ask(documents.REINSTATE_STAFF, userId=str(user_id))
    second = await harness.staff("compliance")
    await second.ask(documents.APPROVE_PROPOSAL, id=proposed["id"])
    (row,) = await harness.rows("select role, status from resguardo.staff where user_id = %s", user_id)
    assert (row["role"], row["status"]) == ("compliance", "active")
    await harness.work()


async def test_member_who_is_active_cannot_be_reinstated_unless_supabase_bans_them(
    harness: ApiHarness, officer: Person
) -> None:
    user_id, email = await _member(harness)
    refusal = await officer.refused(documents.REINSTATE_STAFF, userId=str(user_id))
    assert refusal == ("CONFLICT", "staff_not_suspended")
    async with _administration(harness) as admin:
        await admin.ban(user_id)
    proposed = await officer.ask(documents.REINSTATE_STAFF, userId=str(user_id))
    second = await harness.staff("compliance")
    await second.ask(documents.APPROVE_PROPOSAL, id=proposed["id"])
    await harness.work()
    await _sign_in(harness, email)


async def test_proposals_need_a_recent_code_and_a_reason_of_their_kind(
    harness: ApiHarness, officer: Person
) -> None:
    user_id, _ = await _member(harness)
    stale = await harness.staff("compliance", totp_at=1.0)
    refusal = ("FORBIDDEN", "totp_stale")
    assert await stale.refused(documents.RESET_SECOND_FACTOR, userId=str(user_id)) == refusal
    wrong = await officer.refused(documents.RESET_SECOND_FACTOR, userId=str(user_id), why="RETURNED_TO_WORK")
    assert wrong == ("INVALID_INPUT", "bad_proposal_reason")
    proposed = await officer.ask(documents.RESET_SECOND_FACTOR, userId=str(user_id))
    assert await stale.refused(documents.APPROVE_PROPOSAL, id=proposed["id"]) == refusal
    another = await (await harness.staff("compliance")).refused(
        documents.RESET_SECOND_FACTOR, userId=str(user_id)
    )
    assert another == ("CONFLICT", "proposal_open_already")
    assert (await stale.ask(documents.REJECT_PROPOSAL, id=proposed["id"]))["status"] == "REJECTED"


async def test_proposal_about_nobody_is_not_found_and_audited(harness: ApiHarness, officer: Person) -> None:
    answer = await officer.send(documents.RESET_SECOND_FACTOR, userId=str(uuid4()))
    assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "staff_not_found")
    assert (await harness.audit(answer.request_id))[0]["outcome"] == "ABSENT"
    answer = await officer.send(documents.APPROVE_PROPOSAL, id=str(uuid4()))
    assert (answer.error.code, answer.error.reason) == ("NOT_FOUND", "officer_proposal_not_found")
    assert (await harness.audit(answer.request_id))[0]["outcome"] == "ABSENT"


async def test_reset_of_a_login_that_is_gone_fails_visibly(harness: ApiHarness, officer: Person) -> None:
    second = await harness.staff("compliance")
    user_id, _ = await _member(harness)
    proposed = await officer.ask(documents.RESET_SECOND_FACTOR, userId=str(user_id))
    await second.ask(documents.APPROVE_PROPOSAL, id=proposed["id"])
    await harness.rows("delete from auth.users where id = %s returning 1", user_id)
    await harness.work()
    found = await _proposal(officer, proposed["id"])
    assert (found["status"], found["problem"]["code"]) == ("FAILED", "USER_UNKNOWN")


async def test_proposals_are_listed_in_pages_with_filters(harness: ApiHarness, officer: Person) -> None:
    made = []
    for _ in range(3):
        user_id, _email = await _member(harness)
        made.append((await officer.ask(documents.RESET_SECOND_FACTOR, userId=str(user_id)))["id"])
    page = await officer.ask(documents.OFFICER_PROPOSALS, first=2)
    assert [edge["node"]["id"] for edge in page["edges"]] == made[:0:-1]
    rest = await officer.ask(documents.OFFICER_PROPOSALS, first=1, after=page["pageInfo"]["endCursor"])
    assert [edge["node"]["id"] for edge in rest["edges"]] == made[:1]
    await officer.ask(documents.REJECT_PROPOSAL, id=made[0])
    wanted = {"statuses": ["REJECTED"], "kinds": ["RESET_SECOND_FACTOR"]}
    page = await officer.ask(documents.OFFICER_PROPOSALS, first=1, filter=wanted)
    assert page["edges"][0]["node"]["id"] == made[0]
    none = await officer.ask(documents.OFFICER_PROPOSALS, filter={"kinds": []})
    assert none["edges"] == []
