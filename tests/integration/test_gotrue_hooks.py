"""Tests of the Custom Access Token hook: the stand-in calls the hook as Supabase Auth does, and Resguardo's hook
adds claims to the token.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import jwt
import psycopg
import pytest
from psycopg.types.json import Jsonb
from supabase_auth.errors import AuthApiError, AuthRetryableError

from app.identity.session_macs import set_session_macs
from devstack.sign_in import sign_in
from tests.databases import Database
from tests.integration.test_gotrue import (
    EMAIL,
    PASSWORD,
    PUBLISHABLE_KEY,
    URL,
    Project,
    access_token,
)

pytestmark = pytest.mark.anyio

OURS = "pg-functions://postgres/private/access_token_hook"
ADOPTERS = "pg-functions://postgres/public/adopters_hook"
Open = Callable[..., AbstractAsyncContextManager[Project]]


@pytest.fixture
def opened(database: Database, tmp_path: Path) -> Open:
    """Return a function that starts a stand-in for Supabase Auth with an access token hook and one user, whose
    address is `EMAIL`. If `body` is given, the function first creates the adopter's access token hook with this SQL
    as its body.
    """

    @asynccontextmanager
    async def run(
        hook: str, body: LiteralString | None = None, *, security: LiteralString = ""
    ) -> AsyncIterator[Project]:
        if body is not None:
            with psycopg.connect(database.owner_url, autocommit=True) as owner:
                owner.execute(
                    "create function public.adopters_hook(event jsonb) returns jsonb language plpgsql "
                    + security
                    + " as $$ begin "
                    + body
                    + " end $$"
                )
                owner.execute("grant usage on schema public to supabase_auth_admin")
                owner.execute("grant execute on function public.adopters_hook(jsonb) to supabase_auth_admin")
        project = Project(database, tmp_path, access_token_hook=hook)
        async with project.app.router.lifespan_context(project.app):
            await project.admin.create_user(EMAIL, PASSWORD)
            yield project
            await project.verifier.aclose()
            await project.http.aclose()

    return run


def claims_in(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def _is_live(project: Project, claims: dict[str, object]) -> bool:
    """Pass the token claims to the database in the same way as the API, and return whether the database accepts the
    session as valid.
    """
    with psycopg.connect(project.database.superuser_url) as superuser:
        superuser.execute(
            "select private.describe_request(%s, gen_random_uuid(), null, null, 5000)",
            [Jsonb(claims)],
        )
        try:
            return superuser.execute("select private.live_session()").fetchone() is not None
        except psycopg.Error as error:
            if error.diag.message_primary != "session_over":
                raise
            return False


async def test_token_of_every_grant_bears_a_mac_that_the_database_requires(opened: Open) -> None:
    async with opened(OURS) as project:
        set_session_macs(project.database.owner_url, is_required=True)
        secret = await project.enrolled()
        with_code = await sign_in(
            URL, PUBLISHABLE_KEY, EMAIL, PASSWORD, secret, http=project.http, clock=project.seconds
        )
        password_alone = await project.signed_in()
        refreshed = (await password_alone.auth.refresh_session()).session
        assert refreshed is not None
        for token in (with_code.access_token, refreshed.access_token):
            assert claims_in(token)["resguardo_mac"]
            assert _is_live(project, (await project.verifier.verify(token)).claims())


async def test_invited_login_bears_a_mac_from_the_first_token_on(opened: Open) -> None:
    async with opened(OURS) as project:
        set_session_macs(project.database.owner_url, is_required=True)
        await project.admin.invite("new@example.test", uuid4())
        (mail,) = await project.mails()
        client = project.client()
        await client.auth.verify_otp({"token_hash": mail["token_hash"], "type": "invite"})
        assert _is_live(project, (await project.principal(client)).claims())


async def test_token_without_the_hook_is_over_where_a_mac_is_required(opened: Open) -> None:
    async with opened(ADOPTERS, "return event;") as project:
        client = await project.signed_in()
        claims = (await project.principal(client)).claims()
        assert _is_live(project, claims)
        set_session_macs(project.database.owner_url, is_required=True)
        assert not _is_live(project, claims)


@pytest.mark.parametrize("security", ["", "security definer"])
async def test_adopters_own_hook_adds_the_mac_to_its_claims(opened: Open, security: LiteralString) -> None:
    body: LiteralString = (
        "return jsonb_build_object('claims', private.add_session_mac("
        "event -> 'claims' || jsonb_build_object('practice', 'x', 'exp', (event -> 'claims' ->> 'exp')::bigint - 60)));"
    )
    async with opened(ADOPTERS, body, security=security) as project:
        set_session_macs(project.database.owner_url, is_required=True)
        client = await project.signed_in()
        token = await access_token(client)
        assert claims_in(token)["practice"] == "x"
        assert _is_live(project, (await project.verifier.verify(token)).claims())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise exception 'no';", f"Error running hook URI: {ADOPTERS}"),
        ("perform pg_sleep(3); return event;", f"Error running hook URI: {ADOPTERS}"),
        ("return '{}'::jsonb;", "output claims field is missing"),
        ("return null;", "output claims field is missing"),
        ("return '[]'::jsonb;", "output claims field is missing"),
        ("return event #- '{claims,session_id}';", "session_id is required"),
        ("return jsonb_set(event, '{claims,exp}', '\"x\"');", "exp: Invalid type"),
        ("return jsonb_build_object('error', jsonb_build_object('message', 'not today'));", "not today"),
    ],
)
async def test_sign_in_fails_with_500_when_the_hook_does(
    opened: Open, body: LiteralString, message: str
) -> None:
    async with opened(ADOPTERS, body) as project:
        with pytest.raises((AuthApiError, AuthRetryableError)) as caught:
            await project.signed_in()
        assert message in caught.value.message
        assert getattr(caught.value, "status", 500) == 500
        assert project.rows("select count(*) from auth.sessions") == [(0,)]


async def test_hook_receives_the_input_of_supabase_auth(opened: Open, database: Database) -> None:
    body: LiteralString = "insert into public.heard values (event); return event;"
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute("create table public.heard (event jsonb)")
        owner.execute("grant insert, select on public.heard to supabase_auth_admin")
    async with opened(ADOPTERS, body) as project:
        client = await project.signed_in()
        await client.auth.refresh_session()
        heard = [row[0] for row in project.rows("select event from public.heard")]
        user = (await project.principal(client)).user_id
    assert [event["authentication_method"] for event in heard] == ["password", "token_refresh"]
    for event in heard:
        assert UUID(event["user_id"]) == user
        assert event["metadata"]["name"] == "customize-access-token"
        claims = event["claims"]
        assert (claims["sub"], claims["aal"], claims["iss"]) == (str(user), "aal1", project.config.issuer)
        assert isinstance(claims["exp"], int)
        assert [sorted(entry) for entry in claims["amr"]] == [["method", "timestamp"]]
