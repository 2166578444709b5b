"""`/invite` and `/verify`: a login is made without a password, and whoever has the mail takes it over.

After internal/api/invite.go, mail.go and verify.go of supabase/auth at bc32168e (checked 2026-11-21). The mail
goes to the outbox, read with the secret key at `/stand-in/outbox`. Of the verifications only an invitation's
(`invite`, or `signup`, which is the same) is there.
"""

import hashlib
import secrets
from datetime import timedelta

from psycopg.types.json import Jsonb
from starlette.responses import JSONResponse, Response

from app.devstack.gotrue.admin import EMAIL_TAKEN, find_user, insert_user
from app.devstack.gotrue.calls import Body, Call, email_of
from app.devstack.gotrue.grants import find_by_email
from app.devstack.gotrue.passwords import hash_password
from app.devstack.gotrue.refusals import Refusal, invalid
from app.devstack.gotrue.rows import Connection, User, find, user_json
from app.devstack.gotrue.sessions import open_session
from app.devstack.gotrue.users import merge_metadata, reload, set_columns

CODE_DIGITS = 6
EXPIRED = "Email link is invalid or has expired"


async def invite(call: Call) -> Response:
    """`POST /invite`: a new login, or a new link for one that nobody confirmed, whose metadata stays."""
    await call.require_service_role()
    body = await call.body()
    email, data = email_of(body), body.document("data")
    async with call.transaction() as connection:
        user = await find_by_email(connection, email)
        if user is not None and user.email_confirmed_at is not None:
            raise Refusal(422, "email_exists", EMAIL_TAKEN)
        call.service.outbox.check()
        if user is None:
            new = Body({"data": data})
            user = await find_user(connection, await insert_user(call, connection, new, email, password=""))
        code, token_hash = _code(email)
        await set_columns(
            connection,
            user,
            {"invited_at": call.now, "confirmation_sent_at": call.now, "confirmation_token": token_hash},
        )
        answer = await user_json(connection, await reload(connection, user))
    call.service.outbox.send(email, "invite", code, token_hash)
    return JSONResponse(answer)


async def verify(call: Call) -> Response:
    """`POST /verify`: the link's token, or the address and the code, for a session."""
    body = await call.body()
    token_hash = _token_hash(body)
    if body.text("type") not in ("invite", "signup"):
        raise invalid("Invalid email verification type")
    async with call.transaction() as connection:
        user = await find(connection, User, "confirmation_token = %s", token_hash)
        if user is None:
            raise Refusal(403, "otp_expired", EXPIRED)
        if user.is_banned(call.now):
            raise Refusal(403, "user_banned", "User is banned")
        lifetime = timedelta(seconds=call.service.config.mail_link_seconds)
        if user.confirmation_sent_at is None or call.now > user.confirmation_sent_at + lifetime:
            raise Refusal(403, "otp_expired", EXPIRED)
        await _confirm(call, connection, user)
        return JSONResponse(await open_session(call, connection, await reload(connection, user), "otp"))


async def read_outbox(call: Call) -> Response:
    """`GET /stand-in/outbox`: the stand-in's own, with the secret key."""
    await call.require_service_role()
    return JSONResponse({"mails": call.service.outbox.mails()})


async def _confirm(call: Call, connection: Connection, user: User) -> None:
    """A login without a password gets one that nobody knows, until its owner sets another."""
    values: dict[str, object] = {"email_confirmed_at": call.now, "confirmation_token": ""}
    if not user.encrypted_password and user.invited_at is not None:
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


def _code(email: str) -> tuple[str, str]:
    code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"
    return code, _hash(email, code)


def _hash(email: str, code: str) -> str:
    """internal/crypto/crypto.go, `GenerateTokenHash`."""
    return hashlib.sha224(f"{email}{code}".encode()).hexdigest()
