"""Tests of what the worker does when a staff member is suspended: it bans the login at Supabase Auth, and ends
every session that opens before the ban takes effect.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.errors import UpstreamFailed
from app.integrations.supabase.client import SupabaseAdmin
from app.staff.bans import StaffBans
from tests.databases import Database
from tests.integration.test_staff_invitations import SECRET_KEY, URL, House, _house

pytestmark = pytest.mark.anyio

EMAIL, PASSWORD = "bruno@example.test", "correct horse battery"
NOBODY = UUID(int=0)


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    async with _house(database, database.worker_url, tmp_path) as house:
        yield house


async def _member(house: House, *, suspended_by: UUID | None = None, email: str = EMAIL) -> UUID:
    login = await house.admin.create_user(email, PASSWORD)
    status = "active" if suspended_by is None else "suspended"
    house.rows(
        "insert into resguardo.staff (user_id, role, status, suspended_at, suspended_by)"
        " values (%s, 'clinician', %s, case when %s = 'suspended' then now() end, %s)",
        login,
        status,
        status,
        suspended_by,
    )
    return login


async def _sign_in(house: House, email: str = EMAIL) -> None:
    await house.client().auth.sign_in_with_password({"email": email, "password": PASSWORD})


def _sessions(house: House, login: UUID) -> int:
    ((count,),) = house.rows("select count(*) from auth.sessions where user_id = %s", login)
    return int(count)


def _audited(house: House) -> list[tuple[Any, ...]]:
    return house.rows(
        "select outcome, reason, "
        "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
        " as entity_ids from audit.events where action = 'staff.ban'"
    )


async def test_session_opened_between_suspension_and_ban_is_ended_with_the_ban(house: House) -> None:
    login = await _member(house, suspended_by=uuid4())
    await _sign_in(house)
    await StaffBans(house.pool, house.admin).apply(login)
    assert _sessions(house, login) == 0
    assert _audited(house) == [("ALLOWED", None, [login])]


async def test_session_that_a_sign_in_commits_after_the_ban_is_ended_by_the_round(house: House) -> None:
    """Supabase Auth checks whether a user is banned when the sign-in begins, and may commit the new session up to
    10 s later.
    """
    login = await _member(house, suspended_by=uuid4())
    bans = StaffBans(house.pool, house.admin)
    await bans.apply(login)
    house.rows("insert into auth.sessions (id, user_id) values (%s, %s)", uuid4(), login)
    assert await bans.end_sessions() == 1
    assert _sessions(house, login) == 0
    assert await bans.end_sessions() == 0


async def test_sessions_of_others_stay(house: House) -> None:
    """The worker does not end the sessions of active staff members. If the adopter's app removes a person from its
    role table, the worker does not end the person's sessions, because the person may still use the adopter's app.
    """
    active = await _member(house, email="ana@example.test")
    mapped = await _member(house, suspended_by=NOBODY, email="mia@example.test")
    stranger = await house.admin.create_user("eve@example.test", PASSWORD)
    for email in ("ana@example.test", "mia@example.test", "eve@example.test"):
        await _sign_in(house, email)
    assert await StaffBans(house.pool, house.admin).end_sessions() == 0
    assert [_sessions(house, login) for login in (active, mapped, stranger)] == [1, 1, 1]


async def test_project_that_lets_nobody_end_sessions_does_not_stop_the_ban(house: House) -> None:
    login = await _member(house, suspended_by=uuid4())
    ((owner,),) = house.rows(
        "select pg_get_userbyid(datdba) from pg_database where datname = current_database()"
    )
    house.rows(f"revoke delete on auth.sessions from {owner}")
    await _sign_in(house)
    bans = StaffBans(house.pool, house.admin)
    await bans.apply(login)
    assert await bans.end_sessions() == 0
    assert _audited(house) == [("ALLOWED", None, [login])]


async def test_ban_of_a_login_that_is_gone_is_done(house: House) -> None:
    login = await _member(house, suspended_by=uuid4())
    house.rows("delete from auth.users where id = %s", login)
    await StaffBans(house.pool, house.admin).apply(login)
    assert _audited(house) == [("ABSENT", "user_unknown", [login])]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"code": "validation_failed", "message": "x"}),
        (422, {"code": "user_sso_managed", "message": "x"}),
        (409, {"code": "conflict", "message": "x"}),
    ],
)
async def test_final_refusal_of_a_ban_is_recorded_and_not_tried_again(
    house: House, status: int, body: dict[str, str]
) -> None:
    login = await _member(house, suspended_by=uuid4())
    await _sign_in(house)
    async with _answering(status, body) as http:
        await StaffBans(house.pool, SupabaseAdmin(URL, SECRET_KEY, http=http)).apply(login)
    assert _audited(house) == [("FAILED", "supabase_refused", [login])]
    assert _sessions(house, login) == 0


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, {"message": "Invalid API key"}, "supabase_key_refused"),
        (429, {"code": "over_request_rate_limit", "message": "x"}, "supabase_busy"),
        (503, {"message": "x"}, "supabase_unreachable"),
        (540, {"message": "x"}, "supabase_project_paused"),
    ],
)
async def test_refusal_that_may_pass_is_raised_to_be_tried_again(
    house: House, status: int, body: dict[str, str], reason: str
) -> None:
    login = await _member(house, suspended_by=uuid4())
    async with _answering(status, body) as http:
        with pytest.raises(UpstreamFailed) as refused:
            await StaffBans(house.pool, SupabaseAdmin(URL, SECRET_KEY, http=http)).apply(login)
    assert refused.value.reason == reason
    assert _audited(house) == []


async def test_ban_that_is_given_up_is_in_the_audit_log(house: House) -> None:
    login = await _member(house, suspended_by=uuid4())
    await StaffBans(house.pool, house.admin).give_up(login, "supabase_key_refused")
    assert _audited(house) == [("FAILED", "supabase_key_refused", [login])]


def _answering(status: int, body: dict[str, str]) -> httpx.AsyncClient:
    headers = {"x-supabase-api-version": "2024-01-01"}
    return httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(status, json=body, headers=headers))
    )
