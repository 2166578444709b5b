"""Tests of the stand-in for Supabase Auth with the vendor's own client, on a real database."""

import asyncio
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from supabase_auth.errors import AuthApiError, AuthRetryableError, AuthWeakPasswordError

from app.errors import Conflict, InvalidInput, NotFound, Timeout, Unauthenticated, UpstreamFailed
from app.identity.tokens import Principal, TokenVerifier
from app.integrations.supabase.client import SupabaseAdmin
from devstack.gotrue import GotrueConfig, create_gotrue_app
from devstack.gotrue.config import save_config
from devstack.gotrue.signing import KEY_FILE
from devstack.sign_in import enrol_totp, sign_in
from devstack.totp import totp_code
from supabase import AsyncClient, AsyncClientOptions
from tests.databases import Database
from tests.token_clock import token_clock

pytestmark = pytest.mark.anyio

URL = "http://supabase.test"
PUBLISHABLE_KEY = "sb_publishable_test"
SECRET_KEY = "sb_secret_test"
EMAIL = "doctor@example.test"
PASSWORD = "correct horse battery"


class Project:
    """A stand-in for Supabase Auth that runs in the test's process, with a clock that the test can move, and with
    clients of the stand-in.
    """

    def __init__(self, database: Database, data_dir: Path, **config: Any) -> None:
        self.database = database
        self.ahead = timedelta(0)
        self.config = GotrueConfig(
            url=URL,
            database_url=database.auth_admin_url,
            publishable_key=PUBLISHABLE_KEY,
            secret_key=SECRET_KEY,
            data_dir=data_dir,
            **config,
        )
        self.app = create_gotrue_app(self.config, clock=lambda: datetime.now(UTC) + self.ahead)
        self.http = self.http_from("127.0.0.1")
        self.admin = SupabaseAdmin(URL, SECRET_KEY, http=self.http)
        self.verifier = TokenVerifier(
            issuer=self.config.issuer,
            jwks_url=f"{self.config.issuer}/.well-known/jwks.json",
            http=self.http,
        )

    def seconds(self) -> float:
        return (datetime.now(UTC) + self.ahead).timestamp()

    def http_from(self, address: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app, client=(address, 1)))

    def client(self, key: str = PUBLISHABLE_KEY, http: httpx.AsyncClient | None = None) -> AsyncClient:
        return AsyncClient(
            URL, key, AsyncClientOptions(auto_refresh_token=False, httpx_client=http or self.http)
        )

    async def signed_in(self) -> AsyncClient:
        client = self.client()
        await client.auth.sign_in_with_password({"email": EMAIL, "password": PASSWORD})
        return client

    async def enrolled(self) -> str:
        return await enrol_totp(URL, PUBLISHABLE_KEY, EMAIL, PASSWORD, http=self.http, clock=self.seconds)

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.auth_admin_url) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def change(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.database.superuser_url) as connection:
            connection.execute(statement.encode(), values)

    async def mails(self) -> list[dict[str, str]]:
        answer = await self.http.get(f"{URL}/stand-in/outbox", headers={"apikey": SECRET_KEY})
        found: list[dict[str, str]] = answer.raise_for_status().json()["mails"]
        return found

    async def principal(self, client: AsyncClient) -> Principal:
        return await self.verifier.verify(await access_token(client))


@pytest.fixture
async def project(database: Database, tmp_path: Path) -> AsyncIterator[Project]:
    project = Project(database, tmp_path)
    async with project.app.router.lifespan_context(project.app):
        with token_clock(project.seconds):
            yield project
        await project.verifier.aclose()
        await project.http.aclose()


@pytest.fixture
async def doctor(project: Project) -> UUID:
    return await project.admin.create_user(EMAIL, PASSWORD)


async def access_token(client: AsyncClient) -> str:
    session = await client.auth.get_session()
    assert session is not None
    return session.access_token


async def refresh_token(client: AsyncClient) -> str:
    session = await client.auth.get_session()
    assert session is not None
    return session.refresh_token


async def api_refusal(call: Any) -> tuple[int, str | None]:
    with pytest.raises(AuthApiError) as caught:
        await call
    return caught.value.status, caught.value.code


async def test_sign_in_gives_an_aal1_session_our_verifier_accepts(project: Project, doctor: UUID) -> None:
    client = await project.signed_in()
    principal = await project.principal(client)
    assert principal.user_id == doctor
    assert principal.aal == "aal1"
    assert [entry.method for entry in principal.amr] == ["password"]
    assert abs(principal.expires_at.timestamp() - time.time() - 3600) < 60
    assert project.rows("select id, user_id, aal::text, host(ip) from auth.sessions") == [
        (principal.session_id, doctor, "aal1", "127.0.0.1")
    ]
    vendors = await client.auth.get_claims()
    assert vendors is not None
    assert vendors["claims"]["sub"] == str(doctor)


@pytest.mark.parametrize(
    ("email", "password"), [(EMAIL, "wrong"), ("nobody@example.test", PASSWORD), (EMAIL, " " + PASSWORD)]
)
async def test_sign_in_refused_when_credentials_are_wrong(
    project: Project, doctor: UUID, email: str, password: str
) -> None:
    call = project.client().auth.sign_in_with_password({"email": email, "password": password})
    assert await api_refusal(call) == (400, "invalid_credentials")
    assert project.rows("select count(*) from auth.sessions") == [(0,)]


async def test_sign_in_works_in_any_case_of_the_address(project: Project, doctor: UUID) -> None:
    await project.client().auth.sign_in_with_password({"email": EMAIL.upper(), "password": PASSWORD})


async def test_sign_in_refused_when_address_is_unconfirmed(project: Project) -> None:
    await project.admin.create_user(EMAIL, PASSWORD, confirmed=False)
    assert await api_refusal(project.signed_in()) == (400, "email_not_confirmed")


@pytest.mark.parametrize(
    ("headers", "message"),
    [({}, "No API key found in request"), ({"apikey": "sb_secret_guess"}, "Invalid API key")],
)
async def test_gateway_refuses_without_a_known_key(
    project: Project, headers: dict[str, str], message: str
) -> None:
    for path in ("/user", "/admin/users", "/health"):
        response = await project.http.get(f"{URL}/auth/v1{path}", headers=headers)
        assert (response.status_code, response.json()["message"]) == (401, message)


async def test_jwks_is_open_and_holds_no_private_part(project: Project) -> None:
    response = await project.http.get(f"{URL}/auth/v1/.well-known/jwks.json")
    (key,) = response.json()["keys"]
    assert "d" not in key
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")


async def test_signing_key_survives_a_restart_and_is_private(project: Project, doctor: UUID) -> None:
    token = await access_token(await project.signed_in())
    restarted = create_gotrue_app(project.config)
    async with restarted.router.lifespan_context(restarted):
        http = httpx.AsyncClient(transport=httpx.ASGITransport(restarted))
        headers = {"apikey": PUBLISHABLE_KEY, "authorization": f"Bearer {token}"}
        assert (await http.get(f"{URL}/auth/v1/user", headers=headers)).status_code == 200
        await http.aclose()
    assert stat.S_IMODE((project.config.data_dir / KEY_FILE).stat().st_mode) == 0o600


async def test_totp_makes_the_session_aal2_when_verified(project: Project, doctor: UUID) -> None:
    secret = await project.enrolled()
    session = await sign_in(
        URL, PUBLISHABLE_KEY, EMAIL, PASSWORD, secret, http=project.http, clock=project.seconds
    )
    principal = await project.verifier.verify(session.access_token)
    assert session.user_id == principal.user_id == doctor
    assert principal.aal == "aal2"
    assert {entry.method for entry in principal.amr} == {"password", "totp"}
    assert all(abs(entry.at.timestamp() - time.time()) < 30 for entry in principal.amr)
    found = project.rows(
        "select aal::text, factor_id is not null from auth.sessions where id = %s", principal.session_id
    )
    assert found == [("aal2", True)]


async def test_amr_orders_the_latest_proof_first(project: Project, doctor: UUID) -> None:
    secret = await project.enrolled()
    client = await project.signed_in()
    project.ahead = timedelta(seconds=90)
    await verify(project, client, secret)
    principal = await project.principal(client)
    assert [entry.method for entry in principal.amr] == ["totp", "password"]
    assert principal.amr[0].at - principal.amr[1].at >= timedelta(seconds=89)


async def test_aal2_ends_the_users_aal1_sessions(project: Project, doctor: UUID) -> None:
    secret = await project.enrolled()
    left_behind = await project.signed_in()
    await verify(project, await project.signed_in(), secret)
    assert await api_refusal(left_behind.auth.get_user()) == (403, "session_not_found")
    assert set(project.rows("select aal::text from auth.sessions")) == {("aal2",)}


async def verify(project: Project, client: AsyncClient, secret: str, *, late: float = 0) -> str:
    """Request a challenge of the second factor, and answer the challenge with the TOTP code that was valid `late`
    seconds ago. Return the challenge's id.
    """
    factors = await client.auth.mfa.list_factors()
    challenge = await client.auth.mfa.challenge({"factor_id": factors.totp[0].id})
    code = totp_code(secret, project.seconds() - late)
    await client.auth.mfa.verify(
        {"factor_id": factors.totp[0].id, "challenge_id": challenge.id, "code": code}
    )
    return challenge.id


async def test_totp_refused_when_code_is_wrong(project: Project, doctor: UUID) -> None:
    secret = await project.enrolled()
    client = await project.signed_in()
    for late in (90, -90):
        refused = await api_refusal(verify(project, client, secret, late=late))
        assert refused == (422, "mfa_verification_failed")
    assert (await project.principal(client)).aal == "aal1"
    await verify(project, client, secret, late=30)
    assert (await project.principal(client)).aal == "aal2"


async def test_totp_refused_when_challenge_was_used(project: Project, doctor: UUID) -> None:
    secret = await project.enrolled()
    client = await project.signed_in()
    used = await verify(project, client, secret)
    factor_id = (await client.auth.mfa.list_factors()).totp[0].id
    replayed = client.auth.mfa.verify(
        {"factor_id": factor_id, "challenge_id": used, "code": totp_code(secret, project.seconds())}
    )
    assert await api_refusal(replayed) == (422, "mfa_ip_address_mismatch")


async def test_totp_refused_when_challenge_expired_unknown_or_from_elsewhere(
    project: Project, doctor: UUID
) -> None:
    secret = await project.enrolled()
    client = await project.signed_in()
    factor_id = (await client.auth.mfa.list_factors()).totp[0].id
    challenge = await client.auth.mfa.challenge({"factor_id": factor_id})

    async def answer(challenge_id: str, **more: Any) -> None:
        code = totp_code(secret, project.seconds())
        body = {"factor_id": factor_id, "challenge_id": challenge_id, "code": code}
        await client.auth._request(
            "POST", f"factors/{factor_id}/verify", body=body, jwt=await access_token(client), **more
        )

    assert await api_refusal(answer(str(uuid4()))) == (422, "mfa_factor_not_found")
    assert await api_refusal(answer("not a uuid")) == (400, "bad_json")
    elsewhere = project.http_from("127.0.0.2")
    client.auth._http_client, home = elsewhere, client.auth._http_client
    assert await api_refusal(answer(challenge.id)) == (422, "mfa_ip_address_mismatch")
    client.auth._http_client = home
    await elsewhere.aclose()
    project.ahead = timedelta(seconds=301)
    assert await api_refusal(answer(challenge.id)) == (422, "mfa_challenge_expired")
    assert await api_refusal(answer(challenge.id)) == (422, "mfa_factor_not_found")


async def test_enrolment_refused_when_aal1_and_a_factor_is_verified(project: Project, doctor: UUID) -> None:
    await project.enrolled()
    client = await project.signed_in()
    second = client.auth.mfa.enroll({"factor_type": "totp", "friendly_name": "second"})
    assert await api_refusal(second) == (403, "insufficient_aal")
    same = client.auth.mfa.enroll({"factor_type": "totp", "friendly_name": "authenticator"})
    assert await api_refusal(same) == (422, "mfa_factor_name_conflict")


async def test_unenrolment_takes_aal2_away(project: Project, doctor: UUID) -> None:
    secret = await project.enrolled()
    client = await project.signed_in()
    factor_id = (await client.auth.mfa.list_factors()).totp[0].id
    assert await api_refusal(client.auth.mfa.unenroll({"factor_id": factor_id})) == (422, "insufficient_aal")
    await verify(project, client, secret)
    await client.auth.mfa.unenroll({"factor_id": factor_id})
    await client.auth.refresh_session()
    assert (await project.principal(client)).aal == "aal1"
    assert set(project.rows("select aal::text from auth.sessions")) == {("aal1",)}


async def test_factor_of_another_user_is_not_found(project: Project, doctor: UUID) -> None:
    await project.enrolled()
    factor_id = (await (await project.signed_in()).auth.mfa.list_factors()).totp[0].id
    await project.admin.create_user("other@example.test", PASSWORD)
    other = project.client()
    await other.auth.sign_in_with_password({"email": "other@example.test", "password": PASSWORD})
    challenge = other.auth.mfa.challenge({"factor_id": factor_id})
    assert await api_refusal(challenge) == (404, "mfa_factor_not_found")


async def test_refresh_rotates_the_token_and_keeps_the_session(project: Project, doctor: UUID) -> None:
    client = await project.signed_in()
    before, old = await project.principal(client), await refresh_token(client)
    await client.auth.refresh_session()
    assert (await project.principal(client)).session_id == before.session_id
    assert await refresh_token(client) != old
    assert project.rows("select count(*) from auth.refresh_tokens where not revoked") == [(1,)]


async def test_refresh_gives_the_same_successor_when_answer_was_lost(project: Project, doctor: UUID) -> None:
    client = await project.signed_in()
    old = await refresh_token(client)
    await client.auth.refresh_session(old)
    successor = await refresh_token(client)
    project.ahead = timedelta(hours=1)
    await client.auth.refresh_session(old)
    assert await refresh_token(client) == successor


async def test_refresh_token_reuse_ends_the_family_when_late(project: Project, doctor: UUID) -> None:
    client = await project.signed_in()
    stolen = await refresh_token(client)
    await client.auth.refresh_session()
    await client.auth.refresh_session()
    newest = await refresh_token(client)
    project.ahead = timedelta(seconds=11)
    thief = project.client()
    assert await api_refusal(thief.auth.refresh_session(stolen)) == (400, "refresh_token_already_used")
    assert project.rows("select count(*) from auth.refresh_tokens where not revoked") == [(0,)]
    project.ahead = timedelta(seconds=22)
    assert await api_refusal(client.auth.refresh_session(newest)) == (400, "refresh_token_already_used")


async def test_refresh_happens_once_when_two_race(project: Project, doctor: UUID) -> None:
    token = await refresh_token(await project.signed_in())
    racers = [project.client() for _ in range(2)]
    await asyncio.gather(*(racer.auth.refresh_session(token) for racer in racers))
    assert len({await refresh_token(racer) for racer in racers}) == 1


async def test_refresh_refused_when_token_unknown_or_empty(project: Project) -> None:
    assert await api_refusal(project.client().auth.refresh_session("guess0guess0")) == (
        400,
        "refresh_token_not_found",
    )
    response = await project.http.post(
        f"{URL}/auth/v1/token?grant_type=refresh_token", json={}, headers={"apikey": PUBLISHABLE_KEY}
    )
    assert (response.status_code, response.json()["error_code"]) == (400, "validation_failed")


@pytest.mark.parametrize(("scope", "left"), [("local", 2), ("others", 1), ("global", 0)])
async def test_logout_removes_session_rows(project: Project, doctor: UUID, scope: Any, left: int) -> None:
    clients = [await project.signed_in() for _ in range(3)]
    token, refresh = await access_token(clients[0]), await refresh_token(clients[0])
    await clients[0].auth.sign_out({"scope": scope})
    assert project.rows("select count(*) from auth.sessions") == [(left,)]
    if scope != "others":
        assert await api_refusal(clients[0].auth.get_user(token)) == (403, "session_not_found")
        again = project.client().auth.refresh_session(refresh)
        assert await api_refusal(again) == (400, "refresh_token_not_found")


async def test_user_refused_when_token_expired_or_forged(project: Project, doctor: UUID) -> None:
    client = await project.signed_in()
    token = await access_token(client)
    head, body, signature = token.split(".")
    forged = f"{head}.{body}.{signature[::-1]}"
    assert await api_refusal(project.client().auth.get_user(forged)) == (403, "bad_jwt")
    assert await api_refusal(project.client().auth.get_user(PUBLISHABLE_KEY)) == (403, "bad_jwt")
    project.ahead = timedelta(seconds=3601)
    assert await api_refusal(client.auth.get_user(token)) == (403, "bad_jwt")
    project.ahead = timedelta(seconds=3610)
    with pytest.raises(Unauthenticated) as caught:
        await project.verifier.verify(token)
    assert caught.value.reason == "token_expired"


async def test_ban_refuses_sign_in_refresh_and_user(project: Project, doctor: UUID) -> None:
    client = await project.signed_in()
    await project.admin.ban(doctor)
    (banned_until,) = project.rows("select banned_until from auth.users where id = %s", doctor)[0]
    assert banned_until > datetime.now(UTC) + timedelta(days=36_000)
    assert await api_refusal(client.auth.get_user()) == (403, "user_banned")
    assert await api_refusal(client.auth.refresh_session()) == (400, "user_banned")
    assert await api_refusal(project.signed_in()) == (400, "user_banned")
    assert project.rows("select count(*) from auth.sessions") == [(1,)]


async def test_admin_says_what_failed(project: Project, doctor: UUID) -> None:
    with pytest.raises(NotFound):
        await project.admin.ban(uuid4())
    with pytest.raises(Conflict) as conflict:
        await project.admin.create_user(EMAIL.upper(), PASSWORD)
    assert conflict.value.reason == "email_exists"
    with pytest.raises(UpstreamFailed) as failed:
        await SupabaseAdmin(URL, PUBLISHABLE_KEY, http=project.http).ban(doctor)
    assert (failed.value.reason, failed.value.detail) == ("supabase_key_refused", {"status": 403})


async def test_reachable_tells_ok_from_a_refused_key_and_silence(project: Project) -> None:
    assert await project.admin.reachable() == "ok"
    for key in (PUBLISHABLE_KEY, "sb_secret_guess"):
        assert await SupabaseAdmin(URL, key, http=project.http).reachable() == "key_refused"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        silent = SupabaseAdmin(f"http://127.0.0.1:{port}", SECRET_KEY, timeout_seconds=0.2)
        assert await silent.reachable() == "unreachable"
        with pytest.raises(Timeout):
            await silent.ban(uuid4())
        await silent.aclose()
    gone = SupabaseAdmin(f"http://127.0.0.1:{port}", SECRET_KEY)
    assert await gone.reachable() == "unreachable"
    await gone.aclose()


@pytest.mark.parametrize("status", [502, 520])
async def test_admin_fails_when_gateway_answers_in_html(status: int) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, text="<html>bad gateway</html>"))
    async with httpx.AsyncClient(transport=transport) as http:
        with pytest.raises(UpstreamFailed) as failed:
            await SupabaseAdmin(URL, SECRET_KEY, http=http).ban(uuid4())
    assert failed.value.detail["status"] == status


async def test_admin_lists_gets_updates_and_deletes_users(project: Project, doctor: UUID) -> None:
    admin = project.client(SECRET_KEY).auth.admin
    second = (await admin.create_user({"email": "b@example.test", "app_metadata": {"team": "a"}})).user
    assert second.app_metadata == {"provider": "email", "providers": ["email"], "team": "a"}
    assert second.email_confirmed_at is None
    assert [user.id for user in await admin.list_users()] == [second.id, str(doctor)]
    assert [user.id for user in await admin.list_users(page=2, per_page=1)] == [str(doctor)]
    updated = await admin.update_user_by_id(
        second.id, {"email": "C@example.test", "user_metadata": {"tone": "x"}, "app_metadata": {"team": None}}
    )
    assert (updated.user.email, updated.user.user_metadata) == ("c@example.test", {"tone": "x"})
    assert "team" not in updated.user.app_metadata
    identities = (await admin.get_user_by_id(second.id)).user.identities or []
    assert [identity.identity_data["email"] for identity in identities] == ["c@example.test"]
    await admin.delete_user(second.id, should_soft_delete=True)
    assert (await admin.get_user_by_id(second.id)).user.email != "c@example.test"
    await admin.delete_user(second.id)
    assert await api_refusal(admin.get_user_by_id(second.id)) == (404, "user_not_found")


async def test_invitation_makes_a_user_who_cannot_sign_in_yet(project: Project) -> None:
    admin = project.client(SECRET_KEY).auth.admin
    invited = (await admin.invite_user_by_email(EMAIL, {"data": {"tone": "x"}})).user
    assert invited.invited_at is not None
    assert invited.user_metadata == {"tone": "x"}
    assert await api_refusal(project.signed_in()) == (400, "invalid_credentials")
    await admin.update_user_by_id(invited.id, {"password": PASSWORD, "email_confirm": True})
    await project.signed_in()
    assert await api_refusal(admin.invite_user_by_email(EMAIL)) == (422, "email_exists")


async def test_invitation_is_taken_up_by_who_has_the_mail_once(project: Project) -> None:
    invited = (await project.client(SECRET_KEY).auth.admin.invite_user_by_email(EMAIL)).user
    (mail,) = await project.mails()
    assert (mail["to"], mail["type"]) == (EMAIL, "invite")
    client = project.client()
    await client.auth.verify_otp({"token_hash": mail["token_hash"], "type": "invite"})
    principal = await project.principal(client)
    assert (str(principal.user_id), principal.aal) == (invited.id, "aal1")
    assert [entry.method for entry in principal.amr] == ["otp"]
    await client.auth.update_user({"password": PASSWORD})
    confirmed = (await (await project.signed_in()).auth.get_user()).user  # type: ignore[union-attr]
    assert confirmed.email_confirmed_at is not None
    assert confirmed.user_metadata["email_verified"] is True
    again = project.client().auth.verify_otp({"token_hash": mail["token_hash"], "type": "invite"})
    assert await api_refusal(again) == (403, "otp_expired")


async def test_invitations_code_works_as_its_link_does_and_no_other_code(project: Project) -> None:
    await project.client(SECRET_KEY).auth.admin.invite_user_by_email(EMAIL)
    (mail,) = await project.mails()
    wrong = project.client().auth.verify_otp({"email": EMAIL, "token": "no code", "type": "invite"})
    assert await api_refusal(wrong) == (403, "otp_expired")
    await project.client().auth.verify_otp({"email": EMAIL, "token": mail["token"], "type": "invite"})


async def test_invitations_link_expires_after_a_day_and_a_newer_one_replaces_it(project: Project) -> None:
    admin = project.client(SECRET_KEY).auth.admin
    first = (await admin.invite_user_by_email(EMAIL, {"data": {"tone": "x"}})).user
    second = (await admin.invite_user_by_email(EMAIL, {"data": {"tone": "y"}})).user
    assert (second.id, second.user_metadata) == (first.id, {"tone": "x"})
    old, new = await project.mails()
    project.ahead = timedelta(days=1, seconds=1)
    for mail in (old, new):
        call = project.client().auth.verify_otp({"token_hash": mail["token_hash"], "type": "invite"})
        assert await api_refusal(call) == (403, "otp_expired")
    project.ahead = timedelta(hours=23)
    call = project.client().auth.verify_otp({"token_hash": old["token_hash"], "type": "invite"})
    assert await api_refusal(call) == (403, "otp_expired")
    await project.client().auth.verify_otp({"token_hash": new["token_hash"], "type": "invite"})


async def test_invitation_keeps_the_password_of_who_made_the_login(project: Project) -> None:
    """If a stranger has created an unconfirmed login and the invited person confirms it, the stranger can still
    sign in with the stranger's password. Resguardo never makes an unconfirmed login a staff member, because the
    stranger who created the login would keep access to it.
    """
    await project.admin.create_user(EMAIL, PASSWORD, confirmed=False)
    await project.client(SECRET_KEY).auth.admin.invite_user_by_email(EMAIL)
    (mail,) = await project.mails()
    await project.client().auth.verify_otp({"token_hash": mail["token_hash"], "type": "invite"})
    await project.signed_in()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"type": "invite"}, "validation_failed"),
        ({"type": "invite", "token": "1", "token_hash": "2"}, "validation_failed"),
        ({"type": "invite", "token_hash": "2", "email": EMAIL}, "validation_failed"),
        ({"type": "invite", "token": "1"}, "validation_failed"),
        ({"type": "phone_change", "token_hash": "2"}, "validation_failed"),
        ({"token_hash": "2"}, "validation_failed"),
    ],
)
async def test_verification_that_is_not_an_invitations_is_refused(
    project: Project, body: dict[str, str], code: str
) -> None:
    assert await api_refusal(project.client().auth._request("POST", "verify", body=body)) == (400, code)


@pytest.mark.parametrize(
    "email", ["", "nobody", "a@-b.test", "a b@c.test", "a@b@c.test", "é@example.test", f"{'a' * 250}@b.test"]
)
async def test_address_that_is_none_is_refused_and_told_apart(project: Project, email: str) -> None:
    admin = project.client(SECRET_KEY).auth.admin
    assert await api_refusal(admin.invite_user_by_email(email)) == (400, "validation_failed")
    with pytest.raises(InvalidInput, match="email_refused"):
        await project.admin.invite(email, uuid4())


async def test_invitation_sets_the_mark_and_reports_why_it_is_refused(project: Project) -> None:
    invitation = uuid4()
    user_id = await project.admin.invite(EMAIL, invitation)
    assert project.rows("select id, raw_user_meta_data, encrypted_password from auth.users") == [
        (user_id, {"staff_invitation": str(invitation)}, "")
    ]
    await project.admin.create_user("other@example.test", PASSWORD)
    with pytest.raises(Conflict, match="email_exists"):
        await project.admin.invite("Other@example.test", uuid4())


async def test_outbox_opens_to_the_secret_key_alone(project: Project, doctor: UUID) -> None:
    for headers in ({}, {"apikey": PUBLISHABLE_KEY}, {"apikey": "sb_secret_other"}):
        answer = await project.http.get(f"{URL}/stand-in/outbox", headers=headers)
        assert answer.status_code in (401, 403)


async def test_admin_refused_without_the_secret_key(project: Project, doctor: UUID) -> None:
    person = await project.signed_in()
    for client, jwt in ((project.client(), None), (person, await access_token(person))):
        admin = client.auth.admin
        calls = [
            admin._request("GET", "admin/users", jwt=jwt),
            admin._request("DELETE", f"admin/users/{doctor}", jwt=jwt),
            admin._request("POST", "invite", body={"email": EMAIL}, jwt=jwt),
        ]
        for call in calls:
            assert await api_refusal(call) == (403, "not_admin")
    assert project.rows("select count(*) from auth.users") == [(1,)]


@pytest.mark.parametrize("duration", ["forever", "1d", "3000000h", "h", "10"])
async def test_ban_refused_when_duration_is_not_gos(project: Project, doctor: UUID, duration: str) -> None:
    admin = project.client(SECRET_KEY).auth.admin
    call = admin.update_user_by_id(str(doctor), {"ban_duration": duration})
    assert await api_refusal(call) == (400, "validation_failed")


async def test_password_change_ends_the_other_sessions(project: Project, doctor: UUID) -> None:
    other, client = await project.signed_in(), await project.signed_in()
    assert await api_refusal(client.auth.update_user({"password": PASSWORD})) == (422, "same_password")
    with pytest.raises(AuthWeakPasswordError):
        await client.auth.update_user({"password": "short"})
    await client.auth.update_user({"password": "another horse", "data": {"tone": "x"}})
    await client.auth.get_user()
    assert await api_refusal(other.auth.get_user()) == (403, "session_not_found")


async def test_password_change_refused_when_aal1_and_a_factor_is_verified(
    project: Project, doctor: UUID
) -> None:
    await project.enrolled()
    client = await project.signed_in()
    assert await api_refusal(client.auth.update_user({"password": "another horse"})) == (
        401,
        "insufficient_aal",
    )
    app_metadata = client.auth._request(
        "PUT", "user", body={"app_metadata": {"role": "admin"}}, jwt=await access_token(client)
    )
    assert await api_refusal(app_metadata) == (403, "not_admin")


async def test_password_is_not_kept_in_clear(project: Project, doctor: UUID) -> None:
    ((kept,),) = project.rows("select encrypted_password from auth.users")
    assert re.fullmatch(r"\$scrypt\$ln=14,r=8,p=1\$[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+", kept)
    assert PASSWORD not in kept


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "bad_json"),
        (b"[]", 400, "bad_json"),
        (b'{"email": 7}', 400, "bad_json"),
        (b"{}", 400, "validation_failed"),
        (b'{"email": "a@b.test", "phone": "1"}', 400, "validation_failed"),
        (b" " * (1 << 20) + b"{}", 413, "request_entity_too_large"),
    ],
)
async def test_bad_bodies_are_refused(project: Project, content: bytes, status: int, code: str) -> None:
    address = f"{URL}/auth/v1/token?grant_type=password"
    headers = {"apikey": PUBLISHABLE_KEY, "x-supabase-api-version": "2024-01-01"}
    response = await project.http.post(address, content=content, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    del headers["x-supabase-api-version"]
    first = (await project.http.post(address, content=content, headers=headers)).json()
    assert (first["code"], first["error_code"]) == (status, code)


async def test_sign_up_is_refused(project: Project) -> None:
    call = project.client().auth.sign_up({"email": EMAIL, "password": PASSWORD})
    assert await api_refusal(call) == (422, "signup_disabled")


async def test_stand_in_serves_as_a_child_process(database: Database, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    config = GotrueConfig(url, database.auth_admin_url, PUBLISHABLE_KEY, SECRET_KEY, tmp_path, port=port)
    save_config(config, tmp_path / "gotrue.json")
    assert stat.S_IMODE((tmp_path / "gotrue.json").stat().st_mode) == 0o600
    child = subprocess.Popen(  # noqa: ASYNC220 - returns at once
        [sys.executable, "-m", "devstack.gotrue", "--config", str(tmp_path / "gotrue.json")],
        env={**os.environ, "PYTHONWARNINGS": "error::ResourceWarning"},
    )
    admin = SupabaseAdmin(url, SECRET_KEY)
    try:
        async with asyncio.timeout(30):
            while await admin.reachable() != "ok":  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        user_id = await admin.create_user(EMAIL, PASSWORD)
        secret = await enrol_totp(url, PUBLISHABLE_KEY, EMAIL, PASSWORD)
        session = await sign_in(url, PUBLISHABLE_KEY, EMAIL, PASSWORD, secret)
        assert session.user_id == user_id
        assert session.access_token not in repr(session)
    finally:
        await admin.aclose()
        child.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(10)
        child.kill()
        child.wait()
    assert child.returncode in (0, -signal.SIGTERM)


async def test_client_reports_a_stopped_project_as_retryable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(AuthRetryableError):
        await sign_in(f"http://127.0.0.1:{port}", PUBLISHABLE_KEY, EMAIL, PASSWORD)


async def _order(project: Project, **order: Any) -> None:
    answer = await project.http.post(f"{URL}/stand-in/mailboxes", json=order, headers={"apikey": SECRET_KEY})
    assert answer.status_code == 204


@pytest.mark.parametrize(("order", "mails"), [("refuse", 0), ("refuse_late", 1)])
async def test_mail_server_that_refuses_rolls_the_invitation_back(
    project: Project, order: str, mails: int
) -> None:
    await _order(project, order=order, address=EMAIL)
    admin = project.client(SECRET_KEY).auth.admin
    assert await api_refusal(admin.invite_user_by_email(EMAIL)) == (500, "unexpected_failure")
    assert project.rows("select count(*) from auth.users") == [(0,)]
    assert len(await project.mails()) == mails
    await admin.invite_user_by_email(EMAIL)


async def test_mail_server_slower_than_the_limit_sends_a_link_that_does_not_work(
    database: Database, tmp_path: Path
) -> None:
    project = Project(database, tmp_path, request_seconds=0.05)
    async with project.app.router.lifespan_context(project.app):
        await _order(project, order="slow", seconds=9)
        admin = project.client(SECRET_KEY).auth.admin
        with pytest.raises(AuthRetryableError) as refused:
            await admin.invite_user_by_email(EMAIL)
        assert refused.value.status == 504
        assert project.rows("select count(*) from auth.users") == [(0,)]
        (mail,) = await project.mails()
        call = project.client().auth.verify_otp({"token_hash": mail["token_hash"], "type": "invite"})
        assert await api_refusal(call) == (403, "otp_expired")
        await _order(project, order="slow", seconds=0.01)
        await admin.invite_user_by_email(EMAIL)
        await project.http.aclose()


async def test_clicked_link_leads_to_the_web_app_with_a_session_in_the_fragment(project: Project) -> None:
    await project.admin.invite(EMAIL, uuid4())
    (mail,) = await project.mails()
    answer = await project.http.get(mail["link"], follow_redirects=False)
    page, _, fragment = answer.headers["location"].partition("#")
    told = dict(parse_qsl(fragment, keep_blank_values=True))
    assert (answer.status_code, page) == (303, project.config.site_url)
    assert (told["type"], told["token_type"], told["expires_in"]) == ("invite", "bearer", "3600")
    assert (await project.client().auth.get_user(told["access_token"])) is not None
    again = await project.http.get(mail["link"], follow_redirects=False)
    told = dict(parse_qsl(again.headers["location"].partition("#")[2], keep_blank_values=True))
    assert again.status_code == 303
    assert (told["error"], told["error_code"]) == ("access_denied", "otp_expired")


@pytest.mark.parametrize("page", ["https://evil.test/", "//evil.test", "http://127.0.0.1:3000.evil.test/"])
async def test_clicked_link_leads_nowhere_but_to_the_site(project: Project, page: str) -> None:
    await project.admin.invite(EMAIL, uuid4())
    (mail,) = await project.mails()
    query = {"token": mail["token_hash"], "type": "invite", "redirect_to": page}
    answer = await project.http.get(f"{URL}/auth/v1/verify", params=query, follow_redirects=False)
    assert answer.headers["location"].startswith(project.config.site_url + "#")


async def test_forgotten_password_confirms_an_invited_address_and_is_mailed_once_a_minute(
    project: Project,
) -> None:
    await project.admin.invite(EMAIL, uuid4())
    project.ahead = timedelta(days=2)  # The invitation's link has expired
    client = project.client()
    await client.auth.reset_password_for_email(EMAIL)
    assert await api_refusal(client.auth.reset_password_for_email(EMAIL)) == (
        429,
        "over_email_send_rate_limit",
    )
    await client.auth.reset_password_for_email("nobody@example.test")
    _, mail = await project.mails()
    assert mail["type"] == "recovery"
    await client.auth.verify_otp({"token_hash": mail["token_hash"], "type": "recovery"})
    user = await client.auth.get_user()
    assert user is not None
    assert user.user.email_confirmed_at is not None
    assert user.user.confirmation_sent_at is None


@pytest.mark.parametrize("kind", ["recovery", "magiclink"])
async def test_invitations_hash_is_none_of_a_recovery(project: Project, kind: str) -> None:
    await project.admin.invite(EMAIL, uuid4())
    (mail,) = await project.mails()
    body = {"type": kind, "token_hash": mail["token_hash"]}
    assert await api_refusal(project.client().auth._request("POST", "verify", body=body)) == (
        403,
        "otp_expired",
    )


async def test_user_of_the_administration_has_the_fields_that_the_real_one_has(project: Project) -> None:
    admin = project.client(SECRET_KEY).auth.admin
    made = await admin._request("POST", "admin/users", body={"email": EMAIL, "email_confirm": True})
    assert made.json()["user_metadata"] == {"email_verified": True}
    assert "confirmed_at" not in made.json()
    listed = await admin._request("GET", "admin/users", query=httpx.QueryParams(page=0))
    assert [user["identities"] for user in listed.json()["users"]] == [None]
    call = admin._request("POST", "admin/users", body={"email": "b@example.test", "password": "x" * 80})
    assert await api_refusal(call) == (500, "unexpected_failure")


async def test_sign_in_and_second_factor_answer_as_the_real_one_does(project: Project, doctor: UUID) -> None:
    client = project.client()
    body = {"email": EMAIL, "password": PASSWORD}
    signed_in = await client.auth._request(
        "POST", "token", query=httpx.QueryParams(grant_type="password"), body=body
    )
    assert signed_in.json()["weak_password"] is None
    empty = client.auth._request(
        "POST", "token", query=httpx.QueryParams(grant_type="refresh_token"), body={}
    )
    assert await api_refusal(empty) == (400, "validation_failed")
    client = await project.signed_in()
    used = await client.auth.mfa.enroll({"factor_type": "totp", "friendly_name": "used"})
    left = await client.auth.mfa.enroll({"factor_type": "totp", "friendly_name": "left"})
    assert used.totp is not None
    jwt = await access_token(client)
    verify = f"factors/{used.id}/verify"
    call = client.auth._request("POST", verify, jwt=jwt, body={"code": "123456"})
    assert await api_refusal(call) == (422, "mfa_factor_not_found")
    asked = await client.auth.mfa.challenge({"factor_id": used.id})
    code = totp_code(used.totp.secret, project.seconds())
    answer = await client.auth._request(
        "POST", verify, jwt=jwt, body={"code": code, "challenge_id": asked.id}
    )
    factors = {one["id"]: one for one in answer.json()["user"]["factors"]}
    assert set(factors) == {used.id, left.id}
    assert factors[used.id]["last_challenged_at"] is not None


async def test_methods_of_one_second_come_in_no_order_that_anybody_may_rely_on(
    project: Project, doctor: UUID
) -> None:
    secret = await project.enrolled()
    session = await sign_in(
        URL, PUBLISHABLE_KEY, EMAIL, PASSWORD, secret, http=project.http, clock=project.seconds
    )
    project.change("update auth.mfa_amr_claims set updated_at = date_trunc('second', updated_at)")
    client = project.client()
    await client.auth.set_session(session.access_token, session.refresh_token)
    await client.auth.refresh_session()
    principal = await project.principal(client)
    assert principal.aal == "aal2"
    assert {one.method for one in principal.amr} == {"password", "totp"}
