"""Tests of the events of Supabase Auth in the audit log: the stand-in writes the entries and calls the hooks, and the
worker copies the entries.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from psycopg.types.json import Json

from app.alerts.service import Alerts
from app.errors import AppError
from app.postgres.database import Database as Connected
from app.sign_ins.service import AT_MOST, SignInReader
from devstack.sign_in import sign_in
from devstack.stack import PASSWORD_HOOK, SECOND_FACTOR_HOOK
from devstack.totp import totp_code
from tests.alerts import open_alerts
from tests.databases import Database
from tests.integration.test_gotrue import (
    EMAIL,
    PASSWORD,
    PUBLISHABLE_KEY,
    SECRET_KEY,
    URL,
    Project,
    api_refusal,
)
from tests.token_clock import token_clock

pytestmark = pytest.mark.anyio

HOOKS = {"password_hook": PASSWORD_HOOK, "second_factor_hook": SECOND_FACTOR_HOOK}
NOBODY = UUID(int=0)
OTHER_OWNER = "alter function private.auth_entries_problem() owner to anon"

ENTRIES = {
    ("user_signedup", ("provider", "user_email", "user_id", "user_phone"), False),
    ("login", ("provider",), False),
    ("factor_in_progress", ("factor_id",), True),
    ("challenge_created", ("factor_id", "factor_status"), True),
    ("verification_attempted", ("challenge_id", "factor_id", "factor_type"), True),
    ("token_revoked", (), False),
    ("token_refreshed", (), False),
    ("user_updated_password", (), False),
    ("user_modified", (), False),
    ("factor_unenrolled", ("factor_id", "factor_status", "session_id"), True),
    ("logout", (), False),
    ("user_recovery_requested", (), False),
    ("user_modified", ("user_email", "user_id", "user_phone"), False),
}
"""The entries of one login's life: the action, the traits, and whether there is an address. The live tests compare the
same list with the real server.
"""


def entries_in(connection: psycopg.Connection) -> set[tuple[str, tuple[str, ...], bool]]:
    """Return the entries in the form of `ENTRIES`."""
    rows = connection.execute("select payload, ip_address from auth.audit_log_entries").fetchall()
    known = {"action", "actor_id", "actor_username", "actor_via_sso", "log_type"}
    assert all(set(payload) - {"traits"} == known for payload, _ in rows)
    return {
        (payload["action"], tuple(sorted(payload.get("traits", ()))), address == "127.0.0.1")
        for payload, address in rows
    }


class Practice:
    """A stand-in for Supabase Auth and the worker's periodic task, on one database."""

    def __init__(self, project: Project, connected: Connected) -> None:
        self.project = project
        self.pool = connected
        self.reader = SignInReader(connected)

    def events(self) -> list[dict[str, Any]]:
        """Return the events of Supabase Auth in the audit log, in the order of their insertion."""
        with psycopg.connect(self.project.database.superuser_url) as superuser:
            rows = superuser.execute(
                "select to_jsonb(e) from audit.events as e where e.basis = 'supabase_auth' order by e.recorded_at"
            )
            return [row[0] for row in rows.fetchall()]

    def told(self) -> list[tuple[str, str]]:
        """Return the action and the outcome of each event."""
        return [(event["action"], event["outcome"]) for event in self.events()]

    def problems(self) -> list[str]:
        """Return what `resguardo check` would report."""
        with psycopg.connect(self.project.database.worker_url) as worker:
            row = worker.execute("select private.find_sign_in_problems()").fetchone()
        assert row is not None
        return list(row[0])

    def write(self, payload: object, *, created_at: datetime | None = None, address: str = "") -> UUID:
        """Insert an entry as Supabase Auth, and return its id."""
        entry_id = uuid4()
        with psycopg.connect(self.project.database.auth_admin_url) as auth:
            auth.execute(
                "insert into auth.audit_log_entries (instance_id, id, payload, created_at, ip_address)"
                " values (%s, %s, %s, %s, %s)",
                (NOBODY, entry_id, Json(payload), created_at or datetime.now(UTC), address),
            )
        return entry_id

    def login(self, user: UUID | None = None, **others: Any) -> UUID:
        """Insert the entry of a sign-in, and return its id."""
        return self.write(
            {"action": "login", "actor_id": str(user or uuid4()), "actor_username": EMAIL}, **others
        )


@asynccontextmanager
async def _practice(database: Database, directory: Path, **config: Any) -> AsyncIterator[Practice]:
    project = Project(database, directory, **{**HOOKS, **config})
    connected = Connected(database.worker_url, application="test", max_size=2)
    await connected.open()
    try:
        async with project.app.router.lifespan_context(project.app):
            with token_clock(project.seconds):
                yield Practice(project, connected)
            await project.verifier.aclose()
            await project.http.aclose()
    finally:
        await connected.close()


@pytest.fixture
async def practice(database: Database, tmp_path: Path) -> AsyncIterator[Practice]:
    async with _practice(database, tmp_path) as practice:
        yield practice


async def _wrong_password(project: Project, email: str = EMAIL) -> None:
    call = project.client().auth.sign_in_with_password({"email": email, "password": "wrong"})
    assert await api_refusal(call) == (400, "invalid_credentials")


async def test_every_event_of_a_login_is_recorded_once(practice: Practice) -> None:
    project = practice.project
    user = await project.admin.create_user(EMAIL, PASSWORD)
    await _wrong_password(project)
    secret = await project.enrolled()
    client = await project.signed_in()
    factor = (await client.auth.mfa.list_factors()).totp[0]
    asked = await client.auth.mfa.challenge({"factor_id": factor.id})
    wrong = {"factor_id": factor.id, "challenge_id": asked.id, "code": "000000"}
    assert await api_refusal(client.auth.mfa.verify(wrong)) == (422, "mfa_verification_failed")  # type: ignore[arg-type]
    right = {**wrong, "code": totp_code(secret, project.seconds())}
    await client.auth.mfa.verify(right)  # type: ignore[arg-type]
    await client.auth.refresh_session()
    await client.auth.update_user({"password": "another good password"})
    await client.auth.mfa.unenroll({"factor_id": factor.id})
    await client.auth.sign_out()
    await project.client().auth.reset_password_for_email(EMAIL)
    await project.admin.ban(user)
    for _ in range(3):
        await practice.reader.read()
    assert sorted(practice.told()) == sorted(
        [
            ("sign_in.create_user", "ALLOWED"),
            ("sign_in.attempt", "DENIED"),
            ("sign_in.attempt", "ALLOWED"),  # to enrol
            ("second_factor.enrol", "ALLOWED"),
            ("second_factor.verify", "ALLOWED"),
            ("sign_in.attempt", "ALLOWED"),
            ("second_factor.verify", "DENIED"),
            ("second_factor.verify", "ALLOWED"),
            ("password.change", "ALLOWED"),
            ("sign_in.change_user", "ALLOWED"),
            ("second_factor.remove", "ALLOWED"),
            ("sign_in.end", "ALLOWED"),
            ("password.request_reset", "ALLOWED"),
            ("sign_in.change_user", "ALLOWED"),  # the ban
        ]
    )
    assert practice.problems() == []
    assert EMAIL not in str(practice.events())
    with psycopg.connect(project.database.superuser_url) as superuser:
        assert entries_in(superuser) == ENTRIES


async def test_event_names_the_actor_the_session_and_the_address(practice: Practice) -> None:
    project = practice.project
    user = await project.admin.create_user(EMAIL, PASSWORD)
    await _wrong_password(project)
    client = await project.signed_in()
    principal = await project.principal(client)
    await practice.reader.read()
    failed, made, signed_in = practice.events()
    ((fingerprint,),) = project.rows("select encode(sha256(uuid_send(%s)), 'hex')", principal.session_id)
    assert (made["actor_id"], made["actor_role"]) == (None, "service_role")
    assert made["entities"] == [{"type": "user", "ids": [str(user)]}]
    assert (signed_in["actor_id"], signed_in["actor_role"]) == (str(user), "unregistered")
    assert (signed_in["session_fingerprint"], signed_in["address"]) == (fingerprint, "127.0.0.1")
    assert (failed["actor_id"], failed["reason"], failed["address"]) == (
        str(user),
        "wrong_password",
        "127.0.0.1",
    )
    entries = {
        str(row[0]): row[1] for row in project.rows("select id, created_at from auth.audit_log_entries")
    }
    assert datetime.fromisoformat(signed_in["occurred_at"]) == entries[signed_in["id"]]


async def test_ban_and_administrators_removal_of_a_factor_are_told_apart(practice: Practice) -> None:
    project = practice.project
    user = await project.admin.create_user(EMAIL, PASSWORD)
    await project.enrolled()
    ((factor,),) = project.rows("select id from auth.mfa_factors")
    path = f"{URL}/auth/v1/admin/users/{user}/factors/{factor}"
    answer = await project.http.delete(path, headers={"apikey": SECRET_KEY})
    answer.raise_for_status()
    await project.admin.ban(user)
    await practice.reader.read()
    removed, banned = practice.events()[-2:]
    assert (removed["action"], removed["actor_id"], removed["actor_role"]) == (
        "second_factor.remove",
        None,
        "service_role",
    )
    assert removed["entities"] == [
        {"type": "user", "ids": [str(user)]},
        {"type": "second_factor", "ids": [str(factor)]},
    ]
    assert (banned["action"], banned["reason"]) == ("sign_in.change_user", "login_banned")


async def test_invited_person_confirms_the_login(practice: Practice) -> None:
    await practice.project.admin.invite("new@example.test", uuid4())
    (mail,) = await practice.project.mails()
    await practice.project.client().auth.verify_otp({"token_hash": mail["token_hash"], "type": "invite"})
    await practice.reader.read()
    invited, confirmed = practice.events()
    assert (invited["action"], confirmed["action"]) == ("sign_in.invite_user", "sign_in.confirm_user")
    assert confirmed["session_fingerprint"] is not None


async def test_unknown_address_leaves_no_event(practice: Practice) -> None:
    await _wrong_password(practice.project, "nobody@example.test")
    await practice.reader.read()
    assert practice.told() == []


async def test_entries_are_copied_once_when_two_workers_read(practice: Practice) -> None:
    ids = {str(practice.login()) for _ in range(30)}
    await asyncio.gather(*(practice.reader.read() for _ in range(4)), return_exceptions=True)
    await practice.reader.read()
    found = [event["id"] for event in practice.events()]
    assert (len(found), set(found)) == (30, ids)


async def test_entry_whose_transaction_commits_late_is_copied(practice: Practice) -> None:
    late = uuid4()
    with psycopg.connect(practice.project.database.auth_admin_url) as slow:
        slow.execute(
            "insert into auth.audit_log_entries (id, payload, created_at) values (%s, %s, now())",
            (late, Json({"action": "login", "actor_id": str(uuid4())})),
        )
        early = practice.login()
        await practice.reader.read()
        assert [event["id"] for event in practice.events()] == [str(early)]
    await practice.reader.read()
    assert [event["id"] for event in practice.events()] == [str(early), str(late)]


@pytest.mark.parametrize("leap", [timedelta(days=-400), timedelta(days=400)])
async def test_event_of_a_leaping_clock_is_recorded_now(practice: Practice, leap: timedelta) -> None:
    at = datetime.now(UTC) + leap
    practice.login(created_at=at)
    await practice.reader.read()
    practice.login()
    await practice.reader.read()
    first, _ = practice.events()
    assert datetime.fromisoformat(first["occurred_at"]) == at
    assert abs(datetime.fromisoformat(first["recorded_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert practice.problems() == []


async def test_many_entries_are_copied_in_turns(practice: Practice) -> None:
    with psycopg.connect(practice.project.database.auth_admin_url) as auth:
        auth.execute(
            "insert into auth.audit_log_entries (id, payload, created_at)"
            " select gen_random_uuid(), json_build_object('action', case when g.n %% 2 = 0 then 'login'"
            " else 'token_refreshed' end, 'actor_id', gen_random_uuid(), 'filler', repeat('x', 200)), now()"
            " from generate_series(1, %s) as g (n)",
            (AT_MOST * 5,),
        )
    copied = [await practice.reader.read() for _ in range(4)]
    assert copied == [AT_MOST, AT_MOST, AT_MOST // 2, 0]
    practice.login()
    assert await practice.reader.read() == 1


async def test_entries_in_gaps_of_deleted_ones_are_copied(practice: Practice) -> None:
    await test_many_entries_are_copied_in_turns(practice)
    with psycopg.connect(practice.project.database.superuser_url, autocommit=True) as superuser:
        superuser.execute("delete from auth.audit_log_entries where ctid < '(40,0)'")
        superuser.execute("vacuum (truncate off) auth.audit_log_entries")
    gap = practice.login()
    assert practice.project.rows("select ctid < '(40,0)' from auth.audit_log_entries where id = %s", gap) == [
        (True,)
    ]
    assert await practice.reader.read() == 0
    practice.project.change("update private.auth_reading set pass_began_at = now() - interval '1 hour'")
    assert await practice.reader.read() == 1
    assert practice.events()[-1]["id"] == str(gap)


async def test_truncated_table_is_read_from_the_start(practice: Practice) -> None:
    await test_many_entries_are_copied_in_turns(practice)
    with psycopg.connect(practice.project.database.superuser_url, autocommit=True) as superuser:
        superuser.execute("truncate auth.audit_log_entries")
    new = practice.login()
    assert await practice.reader.read() == 1
    assert practice.events()[-1]["id"] == str(new)


@pytest.mark.parametrize(
    "payload",
    [
        {"action": "invented", "actor_id": str(uuid4())},
        {"action": "login", "actor_id": "Mrs Jones"},
        {"action": "login", "actor_id": str(uuid4()), "traits": {"user_id": "Mrs Jones"}},
        {"actor_username": "Mrs Jones"},
        ["Mrs Jones"],
        "Mrs Jones",
        None,
        {"action": "login", "actor_id": str(uuid4()), "actor_name": secrets.token_hex(20_000)},
    ],
)
async def test_unreadable_entry_is_reported_and_stops_nothing(practice: Practice, payload: object) -> None:
    practice.write(payload, address="not an address")
    practice.login()
    await practice.reader.read()
    unknown, known = practice.events()
    assert (unknown["action"], unknown["outcome"], unknown["reason"]) == (
        "sign_in.report_unknown",
        "FAILED",
        "auth_entry_unknown",
    )
    assert known["action"] == "sign_in.attempt"
    assert "Jones" not in json.dumps(practice.events())
    assert practice.problems() == ["auth_entry_unknown"]


async def test_entry_with_a_name_that_is_no_text_is_recorded(practice: Practice) -> None:
    with psycopg.connect(practice.project.database.auth_admin_url) as auth:
        for name in ("\\u0000", "\\ud800"):
            auth.execute(
                "insert into auth.audit_log_entries (id, payload, created_at) values (gen_random_uuid(), %s, now())",
                [f'{{"action": "login", "actor_id": "{uuid4()}", "actor_name": "{name}"}}'],
            )
    assert await practice.reader.read() == 2


async def test_entry_nested_too_deep_for_postgres_stops_nothing(practice: Practice) -> None:
    """A user of Supabase Auth can choose any JSON as the name, and the name is part of each entry."""
    name = "[" * 20_000 + "]" * 20_000
    with psycopg.connect(practice.project.database.superuser_url) as superuser:
        superuser.execute("set max_stack_depth = '6MB'")
        superuser.execute(
            "insert into auth.audit_log_entries (id, payload, created_at) values (gen_random_uuid(), %s, now())",
            [f'{{"action": "login", "actor_id": "{uuid4()}", "actor_name": {name}}}'],
        )
    practice.login()
    assert await practice.reader.read() == 2
    assert [event["action"] for event in practice.events()] == ["sign_in.report_unknown", "sign_in.attempt"]


@pytest.mark.parametrize("time", ["infinity", "-infinity", "200000-01-01", "0001-01-01 BC"])
async def test_time_that_no_client_can_represent_is_not_stored(practice: Practice, time: str) -> None:
    entry = practice.login()
    practice.project.change(
        "update auth.audit_log_entries set created_at = %s::timestamptz where id = %s", time, entry
    )
    await practice.reader.read()
    ((found),) = practice.events()
    assert (found["id"], found["occurred_at"]) == (str(entry), None)
    assert practice.problems() == []


async def test_entries_that_auth_does_not_write_are_missed(database: Database, tmp_path: Path) -> None:
    async with _practice(database, tmp_path, audit_entries=False) as practice:
        await practice.project.admin.create_user(EMAIL, PASSWORD)
        await practice.reader.read()
        await practice.project.signed_in()
        await practice.reader.read()
        assert practice.problems() == [], "the session is too young"
        practice.project.change("update private.auth_reading set began_at = began_at - interval '1 hour'")
        practice.project.change("update auth.sessions set created_at = created_at - interval '10 minutes'")
        assert practice.problems() == ["auth_entries_not_written"]


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("alter table auth.audit_log_entries rename to entries", "auth_entries_missing"),
        (OTHER_OWNER, "auth_entries_forbidden"),
        (f"grant select on auth.audit_log_entries to anon; {OTHER_OWNER}", "auth_entries_forbidden"),
        ("update private.auth_reading set read_at = now() - interval '6 minutes'", "auth_entries_not_read"),
        (
            "update private.auth_reading set read_at = null, began_at = now() - interval '6 minutes'",
            "auth_entries_not_read",
        ),
    ],
)
async def test_entries_that_cannot_be_read_are_an_error(
    practice: Practice, statement: str, problem: str
) -> None:
    practice.login()
    await practice.reader.read()
    practice.project.change(statement)
    assert practice.problems() == [problem]
    for _ in range(3):
        await Alerts(practice.pool).evaluate()
    assert open_alerts(practice.project.database) == [("SIGN_INS_MISSING", problem)]
    practice.project.change("update private.auth_reading set read_at = now(), began_at = now()")


async def test_sign_in_without_hooks_is_a_problem(database: Database, tmp_path: Path) -> None:
    nothing = {"password_hook": None, "second_factor_hook": None}
    async with _practice(database, tmp_path, **nothing) as practice:
        await practice.project.admin.create_user(EMAIL, PASSWORD)
        await practice.reader.read()
        await practice.project.enrolled()
        await practice.reader.read()
        assert practice.problems() == [], "the hooks may have been set up since the first reading"
        practice.project.change("update private.auth_reading set began_at = began_at - interval '2 minutes'")
        assert practice.problems() == ["auth_password_hook_missing", "auth_second_factor_hook_missing"]


async def test_hooks_that_cannot_write_stop_no_sign_in(practice: Practice) -> None:
    await practice.project.admin.create_user(EMAIL, PASSWORD)
    with psycopg.connect(practice.project.database.superuser_url) as superuser:
        superuser.execute("lock table audit.events in access exclusive mode")
        await _wrong_password(practice.project)
        await practice.project.signed_in()
    await practice.reader.read()
    assert practice.told() == [("sign_in.create_user", "ALLOWED"), ("sign_in.attempt", "ALLOWED")]


async def test_reading_waits_for_nothing_and_continues_after_a_failure(practice: Practice) -> None:
    practice.login()
    with psycopg.connect(practice.project.database.superuser_url) as superuser:
        superuser.execute("lock table auth.audit_log_entries in access exclusive mode")
        with pytest.raises(AppError):
            await practice.reader.read()
    await practice.reader.read()
    assert practice.told() == [("sign_in.attempt", "ALLOWED")]


async def test_reading_that_dies_midway_leaves_nothing_and_is_repeated(practice: Practice) -> None:
    ids = {str(practice.login()) for _ in range(5)}
    url = practice.project.database.superuser_url
    with psycopg.connect(url, autocommit=True) as watcher, psycopg.connect(url) as locker:
        locker.execute("lock table audit.unsealed in exclusive mode")
        reading = asyncio.create_task(practice.reader.read())
        while not watcher.execute(  # noqa: ASYNC110 - the database tells nobody
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'resguardo_worker'"
            " and datname = current_database() and wait_event_type = 'Lock'"
        ).fetchall():
            await asyncio.sleep(0.01)
        with pytest.raises(AppError):
            await reading
    assert practice.events() == []
    assert await practice.reader.read() == 5
    assert {event["id"] for event in practice.events()} == ids


async def test_twenty_wrong_passwords_at_once_are_twenty_events(practice: Practice) -> None:
    await practice.project.admin.create_user(EMAIL, PASSWORD)
    await asyncio.gather(*(_wrong_password(practice.project) for _ in range(20)))
    denied = [event for event in practice.events() if event["outcome"] == "DENIED"]
    assert len(denied) == len({event["id"] for event in denied}) == 20


async def test_hook_that_hears_of_an_attempt_twice_writes_one_event(practice: Practice) -> None:
    event = {
        "metadata": {"uuid": str(uuid4()), "time": "2026-01-01T00:00:00Z"},
        "user_id": str(uuid4()),
        "valid": False,
    }
    with psycopg.connect(practice.project.database.auth_admin_url) as auth:
        for _ in range(2):
            auth.execute("select private.password_attempt_hook(%s)", [json.dumps(event)])
    assert practice.told() == [("sign_in.attempt", "DENIED")]


@pytest.mark.parametrize(
    "event",
    [
        "null",
        "{}",
        "[]",
        '"text"',
        '{"valid": false}',
        '{"valid": false, "user_id": "Mrs Jones", "metadata": {"uuid": "x", "time": "x", "ip_address": "x"}}',
        '{"valid": false, "user_id": null, "metadata": null}',
    ],
)
async def test_hooks_accept_every_input(practice: Practice, event: str) -> None:
    with psycopg.connect(practice.project.database.auth_admin_url, autocommit=True) as auth:
        for hook in ("password_attempt_hook", "second_factor_attempt_hook"):
            answer = auth.execute(f"select private.{hook}(%s)".encode(), [event]).fetchone()
            assert answer == ({"decision": "continue"},)
    assert "Jones" not in json.dumps(practice.events())


async def test_sign_in_with_a_second_factor_shows_both_steps_in_one_session(practice: Practice) -> None:
    project = practice.project
    await project.admin.create_user(EMAIL, PASSWORD)
    secret = await project.enrolled()
    await practice.reader.read()
    project.ahead = timedelta(seconds=31)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(project.app)) as http:
        await sign_in(URL, PUBLISHABLE_KEY, EMAIL, PASSWORD, secret, http=http, clock=project.seconds)
    await practice.reader.read()
    begun, verified = practice.events()[-2:]
    assert (begun["action"], verified["action"]) == ("sign_in.attempt", "second_factor.verify")
    assert begun["session_fingerprint"] == verified["session_fingerprint"] is not None
