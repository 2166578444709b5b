"""`POST /token`: sign-in with a password, and renewal with a refresh token."""

import re

from starlette.responses import JSONResponse, Response

from devstack.gotrue.audit_entries import write_entry
from devstack.gotrue.calls import Call
from devstack.gotrue.hooks import run_password_hook
from devstack.gotrue.passwords import password_matches
from devstack.gotrue.refusals import Refusal, invalid
from devstack.gotrue.rows import NO_INSTANCE, Connection, User, find
from devstack.gotrue.sessions import open_session, renew

_REFRESH_TOKEN = re.compile(r"[a-z0-9]{12}")
"""The pattern of GoTrue's version 1 (internal/api/token_refresh.go, `legacyRefreshTokenPattern`)."""

_BY_EMAIL = "instance_id = %s and lower(email) = %s and aud = 'authenticated' and not is_sso_user"


async def token(call: Call) -> Response:
    """Serve the grant type that the query parameter `grant_type` names."""
    grant_type = call.request.query_params.get("grant_type")
    if grant_type == "password":
        return await _password_grant(call)
    if grant_type == "refresh_token":
        return await _refresh_grant(call)
    raise Refusal(400, "invalid_credentials", "unsupported_grant_type")


async def find_by_email(connection: Connection, email: str) -> User | None:
    """Return the user with this email address."""
    return await find(connection, User, _BY_EMAIL, NO_INSTANCE, email.lower())


async def _password_grant(call: Call) -> Response:
    body = await call.body()
    email, phone = body.text("email"), body.text("phone")
    if email and phone:
        raise invalid("Only an email address or phone number should be provided on login.")
    if phone:
        raise Refusal(422, "phone_provider_disabled", "Phone logins are disabled")
    if not email:
        raise invalid("missing email or phone")
    async with call.transaction() as connection:
        user = await find_by_email(connection, email)
    if user is None or not user.encrypted_password:
        raise Refusal(400, "invalid_credentials", "Invalid login credentials")
    await _check_may_sign_in(call, user, body.text("password"))
    async with call.transaction() as connection:
        await write_entry(call, connection, "login", user, {"provider": "email"})
        return JSONResponse({**await open_session(call, connection, user, "password"), "weak_password": None})


async def _check_may_sign_in(call: Call, user: User, password: str) -> None:
    """Check a sign-in in GoTrue's order: first whether the user is banned, then the password, of which the hook
    learns, and last whether the address is confirmed.
    """
    if user.is_banned(call.now):
        raise Refusal(400, "user_banned", "User is banned")
    is_right = await password_matches(password, user.encrypted_password)
    await run_password_hook(call, user.id, is_right=is_right)
    if not is_right:
        raise Refusal(400, "invalid_credentials", "Invalid login credentials")
    if user.email_confirmed_at is None:
        raise Refusal(400, "email_not_confirmed", "Email not confirmed")


async def _refresh_grant(call: Call) -> Response:
    body = await call.body()
    refresh_token = body.text("refresh_token")
    if _REFRESH_TOKEN.fullmatch(refresh_token) is None:
        raise invalid("Refresh token is not valid")
    async with call.transaction() as connection:
        outcome = await renew(call, connection, refresh_token)
    if isinstance(outcome, Refusal):
        raise outcome
    return JSONResponse(outcome)
