"""Tests of the events of Supabase Auth in the audit log with the real server."""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.postgres.database import Database
from app.sign_ins.service import SignInReader
from devstack.stack import PASSWORD_HOOK, SECOND_FACTOR_HOOK
from devstack.totp import totp_code
from tests.databases import Cluster
from tests.integration.test_sign_ins import ENTRIES, entries_in
from tests.live import auth_server
from tests.live.auth_server import AuthServer

pytestmark = pytest.mark.anyio

HOOKS = {
    "GOTRUE_HOOK_PASSWORD_VERIFICATION_ATTEMPT_ENABLED": "true",
    "GOTRUE_HOOK_PASSWORD_VERIFICATION_ATTEMPT_URI": PASSWORD_HOOK,
    "GOTRUE_HOOK_MFA_VERIFICATION_ATTEMPT_ENABLED": "true",
    "GOTRUE_HOOK_MFA_VERIFICATION_ATTEMPT_URI": SECOND_FACTOR_HOOK,
}
EMAIL, PASSWORD = "doctor@example.test", "correct horse battery"
OTHER_PASSWORD = "another good password"


@pytest.fixture(scope="module")
def auth(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthServer]:
    """Yield a running server with both hooks."""
    _require_server()
    with auth_server.running(cluster, tmp_path_factory.mktemp("auth"), **HOOKS) as running:
        yield running


def _require_server() -> None:
    if not auth_server.binary().exists():
        pytest.skip("there is no Supabase Auth: `make live` builds it where it can fetch its source")


def _told(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def _sign_in(auth: AuthServer, password: str = PASSWORD, status: int = 200) -> Any:
    body = {"email": EMAIL, "password": password}
    return _told(auth.call("POST", "/token?grant_type=password", json=body), status)


def _events(auth: AuthServer) -> list[dict[str, Any]]:
    with psycopg.connect(auth.superuser_url) as superuser:
        rows = superuser.execute(
            "select to_jsonb(e) from audit.events as e where e.basis = 'supabase_auth'"
            " order by e.occurred_at, e.action"
        )
        return [row[0] for row in rows.fetchall()]


async def _read(auth: AuthServer, times: int = 1) -> list[str]:
    """Run the worker's periodic task, and return what `resguardo check` would report."""
    database = Database(auth.worker_url, application="live", max_size=1)
    async with AsyncExitStack() as stack:
        await database.open()
        stack.push_async_callback(database.close)
        for _ in range(times):
            await SignInReader(database).read()
    with psycopg.connect(auth.worker_url) as worker:
        row = worker.execute("select private.find_sign_in_problems()").fetchone()
    assert row is not None
    return list(row[0])


async def test_every_event_of_a_login_is_recorded_once(auth: AuthServer) -> None:
    admin = auth.administrator()
    made = {"email": EMAIL, "password": PASSWORD, "email_confirm": True}
    user = _told(auth.call("POST", "/admin/users", admin, json=made))["id"]
    _sign_in(auth, "wrong", 400)
    token = _sign_in(auth)["access_token"]
    factor = _told(auth.call("POST", "/factors", token, json={"factor_type": "totp"}))
    path = f"/factors/{factor['id']}"
    for code, status in (("000000", 422), (None, 200)):
        asked = _told(auth.call("POST", f"{path}/challenge", token))["id"]
        answer = {"challenge_id": asked, "code": code or totp_code(factor["totp"]["secret"], _seconds(auth))}
        session = _told(auth.call("POST", f"{path}/verify", token, json=answer), status)
    token = session["access_token"]
    renewed = {"refresh_token": session["refresh_token"]}
    _told(auth.call("POST", "/token?grant_type=refresh_token", json=renewed))
    _told(auth.call("PUT", "/user", token, json={"password": OTHER_PASSWORD}))
    _told(auth.call("DELETE", path, token))
    _told(auth.call("POST", "/logout", token), 204)
    _told(auth.call("POST", "/recover", json={"email": EMAIL}))
    _told(auth.call("PUT", f"/admin/users/{user}", admin, json={"ban_duration": "24h"}))
    assert await _read(auth, times=3) == []
    events = _events(auth)
    assert [(event["action"], event["outcome"]) for event in events] == [
        ("sign_in.create_user", "ALLOWED"),
        ("sign_in.attempt", "DENIED"),
        ("sign_in.attempt", "ALLOWED"),
        ("second_factor.enrol", "ALLOWED"),
        ("second_factor.verify", "DENIED"),
        ("second_factor.verify", "ALLOWED"),
        ("password.change", "ALLOWED"),
        ("sign_in.change_user", "ALLOWED"),
        ("second_factor.remove", "ALLOWED"),
        ("sign_in.end", "ALLOWED"),
        ("password.request_reset", "ALLOWED"),
        ("sign_in.change_user", "ALLOWED"),
    ]
    assert {event["actor_id"] for event in events[1:-1]} == {user}
    assert (events[0]["actor_role"], events[-1]["actor_role"]) == ("service_role", "service_role")
    assert [event["reason"] for event in events if event["reason"]] == [
        "wrong_password",
        "wrong_code",
        "login_banned",
    ]
    assert {event["address"] for event in events[3:6]} == {"127.0.0.1"}
    assert EMAIL not in str(events)
    with psycopg.connect(auth.superuser_url) as superuser:
        assert entries_in(superuser) == ENTRIES


def _seconds(auth: AuthServer) -> float:
    with psycopg.connect(auth.superuser_url) as superuser:
        row = superuser.execute("select extract(epoch from clock_timestamp())").fetchone()
    assert row is not None
    return float(row[0])


async def test_sign_in_names_its_session_and_address(auth: AuthServer) -> None:
    admin, email = auth.administrator(), "second@example.test"
    made = {"email": email, "password": PASSWORD, "email_confirm": True}
    _told(auth.call("POST", "/admin/users", admin, json=made))
    body = {"email": email, "password": PASSWORD}
    for _ in range(3):
        _told(auth.call("POST", "/token?grant_type=password", json=body))
    await _read(auth)
    with psycopg.connect(auth.superuser_url) as superuser:
        (count,) = superuser.execute(
            "select count(*) from audit.events as e join auth.sessions as s"
            " on s.user_id = e.actor_id and private.session_fingerprint(s.id) = e.session_fingerprint"
            " and s.ip = e.address and s.created_at between e.occurred_at and e.occurred_at + interval '1 second'"
            " where e.action = 'sign_in.attempt' and e.recorded_at > now() - interval '10 seconds'"
        ).fetchone() or (0,)
    assert count == 3


async def test_sign_in_succeeds_while_the_hooks_cannot_write(auth: AuthServer) -> None:
    admin, email = auth.administrator(), "third@example.test"
    made = {"email": email, "password": PASSWORD, "email_confirm": True}
    _told(auth.call("POST", "/admin/users", admin, json=made))
    with psycopg.connect(auth.superuser_url) as superuser:
        superuser.execute("lock table audit.events in access exclusive mode")
        for password, status in ((PASSWORD, 200), ("wrong", 400)):
            body = {"email": email, "password": password}
            _told(auth.call("POST", "/token?grant_type=password", json=body), status)


async def test_entries_switched_off_are_a_problem(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _require_server()
    directory: Path = tmp_path_factory.mktemp("silent")
    with auth_server.running(cluster, directory, GOTRUE_AUDIT_LOG_DISABLE_POSTGRES="true") as silent:
        made = {"email": EMAIL, "password": PASSWORD, "email_confirm": True}
        _told(silent.call("POST", "/admin/users", silent.administrator(), json=made))
        await _read(silent)
        _sign_in(silent)
        assert await _read(silent) == []
        assert _events(silent) == []
        with psycopg.connect(silent.superuser_url) as superuser:
            superuser.execute("update private.auth_reading set began_at = began_at - interval '1 hour'")
            superuser.execute("update auth.sessions set created_at = created_at - interval '10 minutes'")
        assert await _read(silent) == ["auth_entries_not_written"]
