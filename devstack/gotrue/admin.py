"""The routes `/admin/users`, for callers with the secret key (internal/api/admin.go)."""

import base64
import hashlib
import secrets
from datetime import datetime
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb
from starlette.responses import JSONResponse, Response

from devstack.gotrue.audit_entries import name_user, write_entry
from devstack.gotrue.calls import UNEXPECTED, Body, Call, email_of
from devstack.gotrue.durations import parse_duration
from devstack.gotrue.factors import delete_factor, find_factor
from devstack.gotrue.grants import find_by_email
from devstack.gotrue.passwords import MAX_LENGTH, check_strength, hash_password
from devstack.gotrue.refusals import Refusal, invalid
from devstack.gotrue.rows import (
    NO_INSTANCE,
    Connection,
    Factor,
    User,
    factor_json,
    find,
    find_all,
    user_json,
)
from devstack.gotrue.users import merge_metadata, reload, set_columns

EMAIL_TAKEN = "A user with this email address has already been registered"

_ADD_USER = """
    insert into auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at,
    invited_at, banned_until, raw_app_meta_data, raw_user_meta_data, created_at, updated_at,
    confirmation_token, recovery_token, email_change_token_new, email_change) values (%(instance)s, %(id)s,
    'authenticated', %(role)s, %(email)s, %(password)s, %(confirmed)s, %(invited)s, %(banned)s, %(app)s,
    %(data)s, %(now)s, %(now)s, '', '', '', '')
"""
_ADD_IDENTITY = """
    insert into auth.identities
        (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
    values (%(id)s::text, %(id)s::uuid, %(data)s, 'email', %(now)s, %(now)s, %(now)s)
"""
_PAGE = "aud = 'authenticated' order by created_at desc limit %s offset %s"


async def create_user(call: Call) -> Response:
    """`POST /admin/users`."""
    await call.require_service_role()
    body = await call.body()
    if body.text("phone") or not body.text("email"):
        raise invalid("Cannot create a user without either an email or phone")
    if body.text("password_hash"):
        raise invalid("Only a password or a password hash should be provided")
    email = email_of(body)
    if (
        len(body.text("password").encode()) > MAX_LENGTH
    ):  # bcrypt refuses this value, which GoTrue does not expect at this point
        raise Refusal(500, "unexpected_failure", UNEXPECTED)
    password = await hash_password(body.text("password") or secrets.token_urlsafe(48))
    async with call.transaction() as connection:
        if await find_by_email(connection, email) is not None:
            raise Refusal(422, "email_exists", EMAIL_TAKEN)
        user_id = await insert_user(call, connection, body, email, password=password)
        user = await find_user(connection, user_id)
        await write_entry(call, connection, "user_signedup", None, {**name_user(user), "provider": "email"})
        made = await user_json(connection, user)
        made.pop("confirmed_at", None)  # a generated column, which GoTrue does not read again
        return JSONResponse(made)


async def list_users(call: Call) -> Response:
    """`GET /admin/users`: list the users, newest first, 50 on a page by default."""
    await call.require_service_role()
    query = call.request.query_params
    try:
        page, per_page = int(query.get("page") or 1), int(query.get("per_page") or 50)
    except ValueError:
        raise invalid("Bad Pagination Parameters") from None
    if page < 0 or per_page < 1:
        raise invalid("Bad Pagination Parameters")
    async with call.transaction() as connection:
        total = await _count_users(connection)
        users = await find_all(connection, User, _PAGE, per_page, max(page - 1, 0) * per_page)
        shown = [{**await user_json(connection, user), "identities": None} for user in users]
    headers = {"x-total-count": str(total), "link": _link(call, page, -(-total // per_page))}
    return JSONResponse({"users": shown, "aud": "authenticated"}, headers=headers)


async def get_user(call: Call) -> Response:
    """`GET /admin/users/{user_id}`."""
    await call.require_service_role()
    async with call.transaction() as connection:
        return JSONResponse(await user_json(connection, await _user_of_path(call, connection)))


async def update_user(call: Call) -> Response:
    """`PUT /admin/users/{user_id}`: change the user. A new password ends all sessions of the user, but a ban ends
    no session.
    """
    await call.require_service_role()
    async with call.transaction() as connection:
        user = await _user_of_path(call, connection)
        body = await call.body()
        changes = await _changes(call, user, body)
        if changes:
            await set_columns(connection, user, changes)
        if "encrypted_password" in changes:
            await connection.execute("delete from auth.sessions where user_id = %s", (user.id,))
        if "email" in changes:
            await connection.execute(
                "update auth.identities set identity_data = identity_data || %s where user_id = %s",
                (Jsonb({"email": changes["email"]}), user.id),
            )
        await merge_metadata(connection, user, "raw_app_meta_data", body.document("app_metadata"))
        await merge_metadata(connection, user, "raw_user_meta_data", body.document("user_metadata"))
        changed = await reload(connection, user)
        await write_entry(call, connection, "user_modified", None, name_user(changed))
        return JSONResponse(await user_json(connection, changed))


async def delete_user(call: Call) -> Response:
    """`DELETE /admin/users/{user_id}`: a soft deletion keeps the row without address, password and metadata."""
    await call.require_service_role()
    body = await call.body() if call.request.headers.get("content-length", "0") != "0" else Body({})
    async with call.transaction() as connection:
        user = await _user_of_path(call, connection)
        await write_entry(call, connection, "user_deleted", None, name_user(user))
        if body.flag("should_soft_delete"):
            await _delete_softly(call, connection, user)
        else:
            await connection.execute("delete from auth.users where id = %s", (user.id,))
    return JSONResponse({})


async def list_factors(call: Call) -> Response:
    """`GET /admin/users/{user_id}/factors`."""
    await call.require_service_role()
    async with call.transaction() as connection:
        user = await _user_of_path(call, connection)
        factors = await find_all(connection, Factor, "user_id = %s order by created_at", user.id)
    return JSONResponse([factor_json(factor) for factor in factors])


async def remove_factor(call: Call) -> Response:
    """`DELETE /admin/users/{user_id}/factors/{factor_id}`."""
    await call.require_service_role()
    async with call.transaction() as connection:
        user = await _user_of_path(call, connection)
        factor = await find_factor(call, connection, user)
        traits = {"user_id": user.id, "factor_id": factor.id}
        await write_entry(call, connection, "factor_deleted", user, traits, has_address=True)
        await delete_factor(connection, factor)
    return JSONResponse(factor_json(factor))


async def _user_of_path(call: Call, connection: Connection) -> User:
    return await find_user(connection, call.path_id("user_id"))


async def find_user(connection: Connection, user_id: UUID) -> User:
    """Return the user. Refuses 404 user_not_found."""
    user = await find(connection, User, "id = %s", user_id)
    if user is None:
        raise Refusal(404, "user_not_found", "User not found")
    return user


async def insert_user(call: Call, connection: Connection, body: Body, email: str, *, password: str) -> UUID:
    """Insert a new user with an identity. `password` is the password's hash, or empty if the user has no password."""
    user_id = _chosen_id(body)
    app_metadata = {"provider": "email", "providers": ["email"]} | (body.document("app_metadata") or {})
    verified = {"email_verified": True} if body.flag("email_confirm") else {}
    new = {
        "instance": NO_INSTANCE,
        "id": user_id,
        "role": body.text("role") or "authenticated",
        "email": email,
        "password": password,
        "confirmed": call.now if body.flag("email_confirm") else None,
        "invited": None,
        "banned": _banned_until(call, body),
        "app": Jsonb(app_metadata),
        "data": Jsonb((body.document("user_metadata") or body.document("data") or {}) | verified),
        "now": call.now,
    }
    await connection.execute(_ADD_USER, new)
    data = {
        "sub": str(user_id),
        "email": email,
        "email_verified": body.flag("email_confirm"),
        "phone_verified": False,
    }
    await connection.execute(_ADD_IDENTITY, {"id": str(user_id), "data": Jsonb(data), "now": call.now})
    return user_id


def _chosen_id(body: Body) -> UUID:
    if not body.text("id"):
        return uuid4()
    try:
        chosen = UUID(body.text("id"))
    except ValueError:
        raise invalid("ID must conform to the uuid v4 format") from None
    if chosen == UUID(int=0):
        raise invalid("ID cannot be a nil uuid")
    return chosen


async def _changes(call: Call, user: User, body: Body) -> dict[str, object]:
    changes: dict[str, object] = {}
    if body.text("email"):
        changes["email"] = email_of(body)
    if password := body.text("password"):
        check_strength(password)
        changes["encrypted_password"] = await hash_password(password)
    if body.text("role"):
        changes["role"] = body.text("role").strip()
    if body.flag("email_confirm") and user.email_confirmed_at is None:
        changes["email_confirmed_at"] = call.now
    if body.text("ban_duration"):
        changes["banned_until"] = _banned_until(call, body)
    return changes


def _banned_until(call: Call, body: Body) -> datetime | None:
    duration = body.text("ban_duration")
    if not duration or duration == "none":
        return None
    length = parse_duration(duration)
    return call.now + length if length else None


async def _delete_softly(call: Call, connection: Connection, user: User) -> None:
    obfuscated = hashlib.sha256(f"{user.id}{user.email or ''}".encode()).digest()
    emptied = {
        "email": base64.urlsafe_b64encode(obfuscated).rstrip(b"=").decode(),
        "encrypted_password": None,
        "raw_app_meta_data": Jsonb({}),
        "raw_user_meta_data": Jsonb({}),
        "deleted_at": user.deleted_at or call.now,
    }
    await set_columns(connection, user, emptied)
    await connection.execute(
        "update auth.identities set identity_data = '{}', provider_id = id::text where user_id = %s",
        (user.id,),
    )
    await connection.execute("delete from auth.mfa_factors where user_id = %s", (user.id,))
    await connection.execute("delete from auth.sessions where user_id = %s", (user.id,))


async def _count_users(connection: Connection) -> int:
    cursor = await connection.execute("select count(*) from auth.users where aud = 'authenticated'")
    row = await cursor.fetchone()
    return row[0] if row else 0


def _link(call: Call, page: int, last: int) -> str:
    links = [(page + 1, "next")] if last > page else []
    return ", ".join(
        f'<{call.request.url.include_query_params(page=number)}>; rel="{name}"'
        for number, name in [*links, (last, "last")]
    )
