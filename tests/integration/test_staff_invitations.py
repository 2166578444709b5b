"""Tests of staff invitations with a real database and the stand-in for Supabase Auth. Some tests simulate a crash
of the worker before or after its request to Supabase Auth.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, LiteralString, cast
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from app.errors import AppError, Conflict, InvalidInput, Timeout, UpstreamFailed
from app.integrations.supabase.client import MAIL_SECONDS, SupabaseAdmin
from app.jobs.queue import _runner
from app.jobs.retries import GrowingPauses, JobFailed
from app.postgres.database import Database as Pool
from app.staff.bans import StaffBans
from app.staff.invitations import StaffInvitations
from app.staff.model import NewMember, StaffRole
from app.staff.tasks import define_tasks
from app.texts import LANGUAGES, operator_message, reason_text
from app.texts.reasons import load_reasons
from devstack.gotrue import GotrueConfig, create_gotrue_app
from devstack.sign_in import enrol_totp, sign_in
from supabase import AsyncClient, AsyncClientOptions
from tests.databases import Database

pytestmark = pytest.mark.anyio

URL, PUBLISHABLE_KEY, SECRET_KEY = "http://supabase.test", "sb_publishable_test", "sb_secret_test"
EMAIL = "nora@example.test"
PASSWORD = "correct horse battery"
PENDING = ("PENDING", None, None)


class Crash(Exception):  # noqa: N818 - stands for a crash, not for an error
    """An exception with which a test simulates a crash of the worker."""


class House:
    """A database, the stand-in for Supabase Auth, and the worker's service that uses both."""

    def __init__(self, database: Database, pool: Pool, http: httpx.AsyncClient) -> None:
        self.database, self.pool, self.http = database, pool, http
        self.admin = SupabaseAdmin(URL, SECRET_KEY, http=http)
        self.service = StaffInvitations(pool, self.admin, basis="invite_staff")

    def rows(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.superuser_url, autocommit=True) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def invitation(self, role: str = "clinician", email: str = EMAIL) -> UUID:
        """Insert a pending invitation. Return its id."""
        ((found,),) = self.rows(
            "insert into private.staff_invitations (email, role, invited_by) values (%s, %s, %s) returning id",
            email,
            role,
            uuid4(),
        )
        return UUID(str(found))

    def state(self, invitation: UUID) -> tuple[Any, ...]:
        """Return the status, the error and the login's id of an invitation."""
        (row,) = self.rows(
            "select status, error, user_id from private.staff_invitations where id = %s", invitation
        )
        return row

    def staff(self) -> list[tuple[Any, ...]]:
        return self.rows("select user_id, role, status, origin from resguardo.staff")

    def logins(self) -> list[UUID]:
        return [user_id for (user_id,) in self.rows("select id from auth.users")]

    async def mails(self) -> list[dict[str, str]]:
        answer = await self.http.get(f"{URL}/stand-in/outbox", headers={"apikey": SECRET_KEY})
        found: list[dict[str, str]] = answer.raise_for_status().json()["mails"]
        return found

    def client(self) -> AsyncClient:
        return AsyncClient(
            URL, PUBLISHABLE_KEY, AsyncClientOptions(auto_refresh_token=False, httpx_client=self.http)
        )

    async def accept(self, mail: dict[str, str]) -> None:
        """Follow the link in this invitation mail, and set a password."""
        client = self.client()
        await client.auth.verify_otp({"token_hash": mail["token_hash"], "type": "invite"})
        await client.auth.update_user({"password": PASSWORD})


@asynccontextmanager
async def _house(database: Database, login_url: str, data_dir: Path, **config: Any) -> AsyncIterator[House]:
    made = GotrueConfig(URL, database.auth_admin_url, PUBLISHABLE_KEY, SECRET_KEY, data_dir, **config)
    app = create_gotrue_app(made)
    pool = Pool(login_url, application="test", max_size=2)
    await pool.open()
    try:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http,
        ):
            yield House(database, pool, http)
    finally:
        await pool.close()


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    async with _house(database, database.worker_url, tmp_path) as house:
        yield house


@pytest.fixture
async def owner(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    """Yield the invitation service with a connection pool that uses the database owner's login."""
    async with _house(database, database.owner_url, tmp_path) as house:
        yield house


async def test_invited_person_accepts_and_works_here_after_the_second_factor(house: House) -> None:
    invitation = house.invitation("compliance")
    await house.service.send(invitation)
    (login,) = house.logins()
    assert house.state(invitation) == ("SENT", None, login)
    assert house.staff() == [(login, "compliance", "active", "OWN")]
    (mail,) = await house.mails()
    assert (mail["to"], mail["type"]) == (EMAIL, "invite")
    await house.accept(mail)
    secret = await enrol_totp(URL, PUBLISHABLE_KEY, EMAIL, PASSWORD, http=house.http)
    session = await sign_in(URL, PUBLISHABLE_KEY, EMAIL, PASSWORD, secret, http=house.http)
    assert session.user_id == login


async def test_new_member_is_in_the_audit_log_without_the_address(house: House) -> None:
    await house.service.send(house.invitation())
    (login,) = house.logins()
    (row,) = house.rows(
        "select actor_role, basis, outcome, reason, entities -> 0 ->> 'type', "
        "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
        " as entity_ids, to_jsonb(e)::text from audit.events as e"
        " where action = 'staff.add'"
    )
    assert row[:6] == ("resguardo_worker", "invite_staff", "ALLOWED", None, "staff", [login])
    assert EMAIL not in row[6]


async def test_settled_invitation_sent_again_does_nothing(house: House) -> None:
    invitation = house.invitation()
    await house.service.send(invitation)
    before = house.state(invitation), house.staff()
    await house.service.send(invitation)
    await house.service.give_up(invitation, "supabase_auth")
    await house.service.send(uuid4())
    assert (house.state(invitation), house.staff()) == before
    assert len(await house.mails()) == 1


Invite = Callable[[str, UUID], Awaitable[UUID]]


def _before(_: Invite) -> Invite:
    async def invite(email: str, invitation_id: UUID) -> UUID:
        raise Crash

    return invite


def _after(real: Invite) -> Invite:
    async def invite(email: str, invitation_id: UUID) -> UUID:
        await real(email, invitation_id)
        raise Crash

    return invite


def _unanswered(real: Invite) -> Invite:
    async def invite(email: str, invitation_id: UUID) -> UUID:
        await real(email, invitation_id)
        raise Timeout("supabase_auth")

    return invite


@pytest.mark.parametrize("kill", [_before, _after, _unanswered])
async def test_invitation_cut_short_is_sent_once_and_finds_its_own_login_again(
    house: House, monkeypatch: pytest.MonkeyPatch, kill: Callable[[Invite], Invite]
) -> None:
    invitation = house.invitation()
    with monkeypatch.context() as patch:
        patch.setattr(house.admin, "invite", kill(house.admin.invite))
        with pytest.raises((Crash, Timeout)):
            await house.service.send(invitation)
    assert house.state(invitation) == PENDING
    assert house.staff() == []
    await house.service.send(invitation)
    (login,) = house.logins()
    assert house.state(invitation) == ("SENT", None, login)
    assert [user_id for user_id, *_ in house.staff()] == [login]
    assert len(await house.mails()) == 1


async def test_login_of_an_invitation_that_failed_is_taken_up_by_the_next_with_a_new_mail(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = house.invitation()
    with monkeypatch.context() as patch:
        patch.setattr(house.admin, "invite", _after(house.admin.invite))
        with pytest.raises(Crash):
            await house.service.send(first)
    await house.service.give_up(first, "supabase_auth")
    second = house.invitation("compliance")
    await house.service.send(second)
    (login,) = house.logins()
    assert house.state(first) == ("FAILED", "supabase_auth", None)
    assert house.state(second) == ("SENT", None, login)
    _, newest = await house.mails()
    await house.accept(newest)


async def test_confirmed_login_becomes_staff_without_a_mail(house: House) -> None:
    login = await house.admin.create_user(EMAIL.upper(), PASSWORD)
    invitation = house.invitation()
    await house.service.send(invitation)
    assert house.state(invitation) == ("SENT", None, login)
    assert [user_id for user_id, *_ in house.staff()] == [login]
    assert await house.mails() == []


async def test_login_that_nobody_confirmed_never_becomes_staff(house: House) -> None:
    """Before the invitation, a stranger has signed up with the invited person's address and a password. At the time
    of the invitation, the stranger's login is not confirmed.
    """
    await house.admin.create_user(EMAIL, PASSWORD, confirmed=False)
    invitation = house.invitation("compliance")
    await house.service.send(invitation)
    assert house.state(invitation) == ("FAILED", "login_unconfirmed", None)
    assert house.staff() == []
    assert await house.mails() == []


@pytest.mark.parametrize("with_mark", [True, False])
async def test_login_made_by_another_while_we_invite_never_becomes_staff(
    house: House, monkeypatch: pytest.MonkeyPatch, with_mark: bool
) -> None:
    """If a stranger has created a login with the invited address, Supabase Auth sends the link for that login and
    returns that login. Resguardo refuses a login that a stranger created with the invited address, even if the
    login's metadata names the invitation.
    """
    invitation = house.invitation("compliance")
    real = house.admin.invite

    async def invite(email: str, invitation_id: UUID) -> UUID:
        await house.admin.create_user(EMAIL, PASSWORD, confirmed=False)
        if with_mark:
            house.rows(
                "update auth.users set invited_at = now(),"
                " raw_user_meta_data = jsonb_build_object('staff_invitation', %s::text)",
                str(invitation),
            )
        return await real(email, invitation_id)

    monkeypatch.setattr(house.admin, "invite", invite)
    await house.service.send(invitation)
    assert house.state(invitation) == ("FAILED", "login_unconfirmed", None)
    assert house.staff() == []


async def test_login_confirmed_while_we_invite_is_linked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    invitation = house.invitation()
    real = house.admin.invite

    async def invite(email: str, invitation_id: UUID) -> UUID:
        await house.admin.create_user(EMAIL, PASSWORD)
        return await real(email, invitation_id)

    monkeypatch.setattr(house.admin, "invite", invite)
    await house.service.send(invitation)
    assert house.state(invitation) == ("SENT", None, house.logins()[0])


STANDING = {
    "already_staff": "insert into resguardo.staff (user_id, role) values (%s, 'clinician')",
    "staff_member_suspended": "insert into resguardo.staff (user_id, role, status, suspended_at)"
    " values (%s, 'clinician', 'suspended', now())",
    "login_is_patient": "insert into resguardo.patients (external_id, user_id) values ('mrn-1', %s)",
    "login_banned": "update auth.users set banned_until = now() + interval '1 day' where id = %s",
}


@pytest.mark.parametrize("reason", STANDING)
async def test_login_that_may_not_become_staff_fails_with_the_reason(house: House, reason: str) -> None:
    login = await house.admin.create_user(EMAIL, PASSWORD)
    invitation = house.invitation("compliance")
    house.rows(STANDING[reason], login)
    before = house.staff()
    await house.service.send(invitation)
    assert house.state(invitation) == ("FAILED", reason, None)
    assert house.staff() == before


@pytest.mark.parametrize("reason", [*STANDING, "login_unconfirmed", "invitation_differs", "email_refused"])
def test_every_reason_of_the_database_has_a_sentence(reason: str) -> None:
    assert "invitation" in load_reasons()[reason].readers


@pytest.mark.parametrize("staff_first", [True, False])
def test_login_cannot_become_both_a_members_and_a_patients(database: Database, staff_first: bool) -> None:
    login = uuid4()
    statements: list[LiteralString] = [
        "insert into resguardo.staff (user_id, role) values (%s, 'clinician')",
        "insert into resguardo.patients (external_id, user_id) values ('mrn-1', %s)",
    ]
    with psycopg.connect(database.owner_url) as connection:
        first, second = statements if staff_first else reversed(statements)
        connection.execute(first, [login])
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(second, [login])
    assert caught.value.sqlstate == "RG409"


async def test_address_that_supabase_refuses_fails_at_once(house: House) -> None:
    invitation = house.invitation(email="nora@-example.test")
    await house.service.send(invitation)
    assert house.state(invitation) == ("FAILED", "email_refused", None)


async def test_mail_limit_leaves_it_pending_and_makes_no_login(database: Database, tmp_path: Path) -> None:
    async with _house(database, database.worker_url, tmp_path, mails_per_hour=0) as house:
        invitation = house.invitation()
        with pytest.raises(UpstreamFailed, match="supabase_mail_limit"):
            await house.service.send(invitation)
        assert (house.state(invitation), house.logins()) == (PENDING, [])
        await house.service.give_up(invitation, "supabase_mail_limit")
        assert house.state(invitation) == ("FAILED", "supabase_mail_limit", None)
        (row,) = house.rows(
            "select outcome, reason, "
            "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
            " as entity_ids from audit.events where action = 'staff.add'"
        )
        assert row == ("FAILED", "supabase_mail_limit", [invitation])


async def test_owner_adds_the_first_officer(owner: House) -> None:
    added = await owner.service.add("Nora@Example.test", StaffRole.COMPLIANCE)
    (login,) = owner.logins()
    assert added == NewMember(login, has_login=False)
    assert owner.staff() == [(login, "compliance", "active", "OWN")]
    (row,) = owner.rows(
        "select actor_id, basis, outcome, "
        "array(select jsonb_array_elements_text(entities -> 0 -> 'ids')::uuid)"
        " as entity_ids from audit.events where action = 'staff.add'"
    )
    assert row == (None, "invite_staff", "ALLOWED", [login])
    with pytest.raises(Conflict, match="already_staff"):
        await owner.service.add(EMAIL, StaffRole.CLINICIAN)
    assert len(await owner.mails()) == 1


async def test_owner_adds_a_login_that_exists(owner: House) -> None:
    login = await owner.admin.create_user(EMAIL, PASSWORD)
    assert await owner.service.add(EMAIL, StaffRole.CLINICIAN) == NewMember(login, has_login=True)


async def test_owners_addition_cut_short_goes_on_in_the_role_asked_last(
    owner: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(owner.admin, "invite", _after(owner.admin.invite))
        with pytest.raises(Crash):
            await owner.service.add(EMAIL, StaffRole.CLINICIAN)
    await owner.service.add(EMAIL, StaffRole.COMPLIANCE)
    assert [role for _, role, *_ in owner.staff()] == ["compliance"]
    assert len(owner.logins()) == 1


@pytest.mark.parametrize(
    ("email", "error"), [("not an address", InvalidInput), (EMAIL, UpstreamFailed), ("a@b", InvalidInput)]
)
async def test_owners_addition_that_fails_leaves_nothing_pending(
    database: Database, tmp_path: Path, email: str, error: type[AppError]
) -> None:
    async with _house(database, database.owner_url, tmp_path, mails_per_hour=0) as house:
        with pytest.raises(error):
            await house.service.add(email, StaffRole.COMPLIANCE)
        assert house.rows("select 1 from private.staff_invitations where status = 'PENDING'") == []
        assert house.staff() == []


async def _work(house: House, invitation: UUID, *, earlier: int = 0) -> int:
    """Run the invitation's job and its retries, as the queue does. Return how many attempts the job made until it
    succeeded or was given up.
    """
    task = next(
        task for task in define_tasks(object.__new__(StaffBans), house.service) if task.name == "invite_staff"
    )
    for attempts in range(earlier, 20):
        job = cast("Any", SimpleNamespace(attempts=attempts))
        try:
            await _runner(task)(cast("Any", SimpleNamespace(job=job)), str(invitation))
        except JobFailed as error:
            if GrowingPauses(task.attempts).get_retry_decision(exception=error, job=job) is None:
                return attempts + 1 - earlier
        else:
            return attempts + 1 - earlier
    raise AssertionError("the job needed more than the allowed attempts")


async def _order(house: House, **order: Any) -> None:
    answer = await house.http.post(f"{URL}/stand-in/mailboxes", json=order, headers={"apikey": SECRET_KEY})
    assert answer.status_code == 204


@pytest.mark.parametrize("earlier", [0, 5])
async def test_mail_server_slower_than_auths_limit_ends_it_after_two_mails(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture, earlier: int
) -> None:
    async with _house(database, database.worker_url, tmp_path, request_seconds=0.02) as house:
        await _order(house, order="slow", seconds=60, count=20)
        invitation = house.invitation()
        assert await _work(house, invitation, earlier=earlier) <= 2
        assert house.state(invitation) == ("FAILED", "mail_slow", None)
        assert len(await house.mails()) <= 2
        assert house.logins() == []
    assert EMAIL not in caplog.text


async def test_client_waits_longer_than_supabase_auth(database: Database, tmp_path: Path) -> None:
    """Supabase Auth ends a request that takes longer than 10 s with the HTTP status 504. If the client of Supabase
    Auth waited only 10 s, it could miss the status 504 and repeat the request.
    """
    assert GotrueConfig(URL, "", "", "", tmp_path).request_seconds + 5 < MAIL_SECONDS
    admin = SupabaseAdmin(URL, SECRET_KEY)
    assert admin._own_http is not None
    assert admin._own_http.timeout.read == MAIL_SECONDS
    await admin.aclose()


@pytest.mark.parametrize("order", ["refuse", "refuse_late"])
async def test_mailbox_that_is_refused_names_the_mail_and_not_the_projects_address(
    house: House, caplog: pytest.LogCaptureFixture, order: str
) -> None:
    await _order(house, order=order, address=EMAIL, count=20)
    invitation = house.invitation()
    assert await _work(house, invitation) == 2
    assert house.state(invitation) == ("FAILED", "mail_refused", None)
    told = [operator_message("mail_refused"), *(reason_text("mail_refused", one) for one in LANGUAGES)]
    for text in told:
        assert "SMTP" in text
        assert "SUPABASE_URL" not in text
    assert EMAIL not in caplog.text
    await house.service.send(house.invitation(email="other@example.test"))


async def test_mail_server_that_refuses_once_is_tried_again(house: House) -> None:
    await _order(house, order="refuse")
    invitation = house.invitation()
    assert await _work(house, invitation) == 2
    assert house.state(invitation)[:2] == ("SENT", None)
    assert len(await house.mails()) == 1


async def test_owner_is_told_of_a_refused_mailbox_at_once(owner: House) -> None:
    await _order(owner, order="refuse")
    with pytest.raises(UpstreamFailed, match="mail_refused"):
        await owner.service.add(EMAIL, StaffRole.COMPLIANCE)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, "email_address_invalid", "email_refused"),
        (400, "email_address_not_authorized", "email_not_authorized"),
        (422, "email_provider_disabled", "email_sign_in_disabled"),
    ],
)
async def test_refusal_of_an_address_fails_at_once_with_its_own_reason(
    house: House, status: int, code: str, reason: str
) -> None:
    invitation = house.invitation()
    answer = httpx.Response(
        status, json={"code": code, "message": EMAIL}, headers={"x-supabase-api-version": "2024-01-01"}
    )
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer)) as http:
        refused = StaffInvitations(
            house.pool, SupabaseAdmin(URL, SECRET_KEY, http=http), basis="invite_staff"
        )
        await refused.send(invitation)
    assert house.state(invitation) == ("FAILED", reason, None)
    assert operator_message(reason) != operator_message("no such reason")


@pytest.mark.parametrize(
    "raised", [httpx.ReadTimeout("x"), httpx.ReadError("x"), httpx.RemoteProtocolError("x")]
)
async def test_answer_that_is_lost_counts_as_a_mail_that_went(house: House, raised: Exception) -> None:
    def lose(_: httpx.Request) -> httpx.Response:
        raise raised

    async with httpx.AsyncClient(transport=httpx.MockTransport(lose)) as http:
        with pytest.raises(Timeout, match="mail_slow") as lost:
            await SupabaseAdmin(URL, SECRET_KEY, http=http).invite(EMAIL, uuid4())
    assert lost.value.detail == {"most_attempts": 2}


async def test_invitation_that_was_never_sent_counts_as_none(house: House) -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("x")

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as http:
        with pytest.raises(UpstreamFailed, match="supabase_unreachable") as failed:
            await SupabaseAdmin(URL, SECRET_KEY, http=http).invite(EMAIL, uuid4())
    assert "most_attempts" not in failed.value.detail
