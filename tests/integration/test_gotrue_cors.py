"""A web page can sign in at the stand-in for Supabase Auth with the requests that supabase-js sends from a browser."""

import json
import time
from typing import Any
from uuid import UUID

import pytest

from devstack.totp import totp_code
from tests.browsers import Answer, Blocked, Page
from tests.integration.test_gotrue import EMAIL, PASSWORD, PUBLISHABLE_KEY, URL, Project, doctor, project

__all__ = ["doctor", "project"]

pytestmark = pytest.mark.anyio

AUTH = f"{URL}/auth/v1"
ORIGIN = "http://localhost:5173"
SUPABASE_JS = {
    "apikey": PUBLISHABLE_KEY,
    "Authorization": f"Bearer {PUBLISHABLE_KEY}",
    "X-Client-Info": "supabase-js-web/2.87.1",
    "X-Supabase-Api-Version": "2024-01-01",
    "Content-Type": "application/json;charset=UTF-8",
}
"""The headers that @supabase/supabase-js 2 sends with each call to Supabase Auth from a browser."""


async def _post(page: Page, path: str, body: dict[str, Any], token: str | None = None) -> Answer:
    headers = SUPABASE_JS | ({"Authorization": f"Bearer {token}"} if token else {})
    return await page.fetch("POST", f"{AUTH}{path}", headers, json.dumps(body).encode())


@pytest.fixture
def page(project: Project) -> Page:
    return Page(project.http, ORIGIN)


async def test_page_signs_in_with_password_and_second_factor(
    project: Project, doctor: UUID, page: Page
) -> None:
    secret = await project.enrolled()
    signed_in = await _post(page, "/token?grant_type=password", {"email": EMAIL, "password": PASSWORD})
    assert signed_in.status == 200
    token = json.loads(signed_in.content)["access_token"]
    user = await page.fetch("GET", f"{AUTH}/user", SUPABASE_JS | {"Authorization": f"Bearer {token}"})
    (factor,) = json.loads(user.content)["factors"]
    challenge = await _post(page, f"/factors/{factor['id']}/challenge", {}, token)
    code = {"challenge_id": json.loads(challenge.content)["id"], "code": totp_code(secret, time.time())}
    verified = await _post(page, f"/factors/{factor['id']}/verify", code, token)
    assert verified.status == 200
    session = json.loads(verified.content)
    refreshed = await _post(
        page, "/token?grant_type=refresh_token", {"refresh_token": session["refresh_token"]}
    )
    assert refreshed.status == 200
    token = json.loads(refreshed.content)["access_token"]
    assert (await _post(page, "/logout?scope=local", {}, token)).status == 204


async def test_page_can_read_the_reason_of_a_refusal(project: Project, doctor: UUID, page: Page) -> None:
    wrong = await _post(page, "/token?grant_type=password", {"email": EMAIL, "password": "wrong"})
    assert (wrong.status, json.loads(wrong.content)["code"]) == (400, "invalid_credentials")
    without_key = await page.fetch("POST", f"{AUTH}/token?grant_type=password", content=b"{}")
    assert without_key.status == 401, "the gateway refuses a request without an API key"
    assert (await page.fetch("POST", f"{AUTH}/nowhere", SUPABASE_JS, b"{}")).status == 404
    jwks = await page.fetch("GET", f"{AUTH}/.well-known/jwks.json")
    assert json.loads(jwks.content)["keys"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_preflight_repeats_what_was_asked_for_as_auth_does(project: Project, method: str) -> None:
    names = "apikey,authorization,content-type,x-client-info,x-supabase-api-version"
    answer = await project.http.options(
        f"{AUTH}/user",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": names,
        },
    )
    assert (answer.status_code, answer.content) == (204, b"")
    told = {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}
    assert told == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": method,
        "access-control-allow-headers": names,
        "access-control-allow-credentials": "true",
    }
    assert answer.headers["vary"] == "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


@pytest.mark.parametrize(
    ("method", "names"), [("POST", "content-type,x-forwarded-for"), ("TRACE", ""), ("HEAD", "apikey")]
)
async def test_preflight_for_more_than_auth_allows_has_no_cors_headers(
    project: Project, method: str, names: str
) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": method}
    answer = await project.http.options(
        f"{AUTH}/token", headers=asked | ({"Access-Control-Request-Headers": names} if names else {})
    )
    assert answer.status_code == 204
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_answers_expose_the_headers_that_pages_may_read(project: Project, doctor: UUID) -> None:
    answer = await project.http.get(f"{AUTH}/health", headers={"apikey": PUBLISHABLE_KEY, "Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-expose-headers"] == "X-Total-Count, Link, X-Supabase-Api-Version"
    no_page = await project.http.get(f"{AUTH}/health", headers={"apikey": PUBLISHABLE_KEY})
    assert not [name for name in no_page.headers if name.startswith("access-control-")]
    assert no_page.headers["vary"] == "Origin"


async def test_browser_does_not_send_a_header_that_auth_does_not_know(page: Page) -> None:
    with pytest.raises(Blocked):
        await page.fetch("GET", f"{AUTH}/user", SUPABASE_JS | {"X-Made-Up": "1"})
