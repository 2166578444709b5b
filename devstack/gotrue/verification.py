"""The routes `/verify` and `/recover`: links in mails, as people click them and as a web app exchanges them.

Source: internal/api/verify.go and recover.go of supabase/auth at bc32168e (checked 2026-11-29). The stand-in
supports links of invitations (`invite`, or its synonym `signup`) and of forgotten passwords (`recovery`, or
`magiclink`).
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from urllib.parse import urlencode, urlsplit

from psycopg.types.json import Jsonb
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from devstack.gotrue.audit_entries import write_entry
from devstack.gotrue.calls import Body, Call, Service, email_of
from devstack.gotrue.grants import find_by_email
from devstack.gotrue.passwords import hash_password
from devstack.gotrue.refusals import Refusal, invalid
from devstack.gotrue.rows import Connection, Json, User, find
from devstack.gotrue.sessions import open_session
from devstack.gotrue.users import merge_metadata, reload, set_columns

CODE_DIGITS = 6
EXPIRED = "Email link is invalid or has expired"
INVITATIONS = frozenset({"invite", "signup"})
RECOVERIES = frozenset({"recovery", "magiclink"})
_OAUTH_ERRORS = {
    400: "invalid_request",
    401: "unauthorized_client",
    403: "access_denied",
    500: "server_error",
    503: "temporarily_unavailable",
}


async def verify(call: Call) -> Response:
    """`POST /verify`: exchange the link's token, or the address and the code, for a session."""
    body = await call.body()
    kind = body.text("type")
    if not kind:
        raise invalid("Verify requires a verification type")
    return JSONResponse(await _exchange(call, kind, _token_hash(body)))


async def follow_link(service: Service, request: Request) -> Response:
    """`GET /verify`: serve a link that a person clicked in a mail. The route needs no API key. The answer is a
    redirect (303) to the web app, with the session in the fragment.
    """
    call = Call(request, service, "anon")
    token, kind = request.query_params.get("token", ""), request.query_params.get("type", "")
    if not kind:
        return invalid("Verify requires a verification type").response(request)
    if not token:
        return invalid("Verify requires a token or a token hash").response(request)
    page = _page(service, request.query_params.get("redirect_to", ""))
    try:
        session = await _exchange(call, kind, token)
    except Refusal as refusal:
        told = {
            "error": _OAUTH_ERRORS.get(refusal.status, ""),
            "error_code": refusal.code,
            "error_description": refusal.message,
            "sb": "",
        }
        return _redirect(page, {name: value for name, value in told.items() if value or name == "sb"})
    names = ("access_token", "expires_at", "expires_in", "refresh_token", "token_type")
    return _redirect(page, {**{name: str(session[name]) for name in names}, "sb": "", "type": kind})


async def recover(call: Call) -> Response:
    """`POST /recover`: mail a link to the owner of this address. The answer is the same whether the email address
    exists or not.
    """
    body = await call.body()
    if not body.text("email"):
        raise invalid("Password recovery requires an email")
    email = email_of(body)
    async with call.transaction() as connection:
        user = await find_by_email(connection, email)
        if user is None:
            return JSONResponse({})
        require_pause(call, user.recovery_sent_at)
        call.service.outbox.check()
        await write_entry(call, connection, "user_recovery_requested", user)
        code, token_hash = new_code(email)
        await set_columns(connection, user, {"recovery_sent_at": call.now, "recovery_token": token_hash})
        await send(call, email, "recovery", code, token_hash)
    return JSONResponse({})


def require_pause(call: Call, sent_at: datetime | None) -> None:
    """Raise Refusal 429 if the last mail to this person was sent too short a time ago (`SMTP.MaxFrequency`)."""
    pause = timedelta(seconds=call.service.config.mail_pause_seconds)
    if sent_at is not None and call.now - sent_at < pause:
        left = int((pause - (call.now - sent_at)).total_seconds())
        message = f"For security purposes, you can only request this after {left} seconds."
        raise Refusal(429, "over_email_send_rate_limit", message)


async def send(call: Call, email: str, kind: str, code: str, token_hash: str) -> None:
    """Send a mail that contains a link with this token. Callers call this function inside the request's
    transaction.
    """
    config = call.service.config
    query = urlencode({"token": token_hash, "type": kind, "redirect_to": config.site_url})
    link = f"{config.url.rstrip('/')}/auth/v1/verify?{query}"
    await call.service.outbox.send(email, kind, code, token_hash, link)


def new_code(email: str) -> tuple[str, str]:
    """Create the code and the link's token for a new mail, and return both."""
    code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"
    return code, _hash(email, code)


async def _exchange(call: Call, kind: str, token_hash: str) -> Json:
    """Exchange the token of a mailed link for a session. The token then becomes invalid. Refuses like GoTrue."""
    if kind not in INVITATIONS | RECOVERIES:
        raise invalid("Invalid email verification type")
    is_recovery = kind in RECOVERIES
    async with call.transaction() as connection:
        column = "recovery_token = %s" if is_recovery else "confirmation_token = %s"
        user = await find(connection, User, column, token_hash)
        if user is None:
            raise Refusal(403, "otp_expired", EXPIRED)
        if user.is_banned(call.now):
            raise Refusal(403, "user_banned", "User is banned")
        sent_at = user.recovery_sent_at if is_recovery else user.confirmation_sent_at
        lifetime = timedelta(seconds=call.service.config.mail_link_seconds)
        if sent_at is None or call.now > sent_at + lifetime:
            raise Refusal(403, "otp_expired", EXPIRED)
        if is_recovery:
            await set_columns(connection, user, {"recovery_token": ""})
        if is_recovery and user.email_confirmed_at is not None:
            await write_entry(call, connection, "login", user)
        else:
            await write_entry(call, connection, "user_signedup", user, {"provider": "email"})
            await _confirm(call, connection, user, has_new_password=not is_recovery)
        return await open_session(call, connection, await reload(connection, user), "otp")


async def _confirm(call: Call, connection: Connection, user: User, *, has_new_password: bool) -> None:
    """Confirm the login. If the login has no password, set a random password, which is valid until the owner
    chooses one.
    """
    values: dict[str, object] = {"email_confirmed_at": call.now, "confirmation_token": ""}
    if has_new_password and not user.encrypted_password and user.invited_at is not None:
        values["encrypted_password"] = await hash_password(secrets.token_urlsafe(48))
    await set_columns(connection, user, values)
    await merge_metadata(connection, user, "raw_user_meta_data", {"email_verified": True})
    await connection.execute(
        "update auth.identities set identity_data = identity_data || %s where user_id = %s",
        (Jsonb({"email_verified": True}), user.id),
    )


def _token_hash(body: Body) -> str:
    token, token_hash = body.text("token"), body.text("token_hash")
    if bool(token) == bool(token_hash):
        raise invalid("Verify requires either a token or a token hash")
    if token_hash:
        if body.text("email") or body.text("phone") or body.text("redirect_to"):
            raise invalid("Only the token_hash and type should be provided")
        return token_hash
    if not body.text("email"):
        raise invalid("Only an email address or phone number should be provided on verify")
    return _hash(email_of(body), token)


def _hash(email: str, code: str) -> str:
    """Return the hash of GoTrue's internal/crypto/crypto.go, `GenerateTokenHash`."""
    return hashlib.sha224(f"{email}{code}".encode()).hexdigest()


def _page(service: Service, wanted: str) -> str:
    """Return the page to which the web app asked to redirect people, if the page belongs to the configured site.
    Otherwise return the site's URL.
    """
    site, page = urlsplit(service.config.site_url), urlsplit(wanted)
    return wanted if (page.scheme, page.netloc) == (site.scheme, site.netloc) else service.config.site_url


def _redirect(page: str, fragment: dict[str, str]) -> Response:
    return RedirectResponse(f"{page}#{urlencode(sorted(fragment.items()))}", status_code=303)
