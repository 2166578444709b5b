"""The routes `/user` and `/logout`, with which people manage their own account."""

from collections.abc import Mapping

from psycopg import sql
from psycopg.types.json import Jsonb
from starlette.responses import JSONResponse, Response

from devstack.gotrue.audit_entries import write_entry
from devstack.gotrue.calls import Call, Caller
from devstack.gotrue.passwords import check_strength, hash_password, password_matches
from devstack.gotrue.refusals import Refusal, invalid
from devstack.gotrue.rows import Connection, Factor, Json, User, find, user_json

_LOG_OUT = {
    "global": "delete from auth.sessions where user_id = %(user)s",
    "local": "delete from auth.sessions where id = %(session)s",
    "others": "delete from auth.sessions where user_id = %(user)s and id <> %(session)s",
}


async def get_user(call: Call) -> Response:
    """`GET /user`."""
    async with call.transaction() as connection:
        return JSONResponse(await user_json(connection, (await call.caller(connection)).user))


async def put_user(call: Call) -> Response:
    """`PUT /user`: change password and metadata. The stand-in refuses a new address, because a change of address
    would need a mail.
    """
    async with call.transaction() as connection:
        caller = await call.caller(connection)
        body = await call.body()
        if body.document("app_metadata") is not None:
            raise Refusal(403, "not_admin", "Updating app_metadata requires admin privileges")
        if body.text("email") or body.text("phone"):
            raise Refusal(422, "email_provider_disabled", "The stand-in sends no mail")
        if password := body.text("password"):
            await _change_password(connection, caller, password)
            await write_entry(call, connection, "user_updated_password", caller.user)
        await merge_metadata(connection, caller.user, "raw_user_meta_data", body.document("data"))
        await write_entry(call, connection, "user_modified", caller.user)
        return JSONResponse(await user_json(connection, await reload(connection, caller.user)))


async def log_out(call: Call) -> Response:
    """`POST /logout`: delete the sessions in the requested scope, with their refresh tokens and authentication
    methods.
    """
    scope = call.request.query_params.get("scope") or "global"
    async with call.transaction() as connection:
        caller = await call.caller(connection)
        if scope not in _LOG_OUT:
            raise invalid(f'Unsupported logout scope "{scope}"')
        await write_entry(call, connection, "logout", caller.user)
        values = {"user": caller.user.id, "session": caller.session.id}
        await connection.execute(_LOG_OUT[scope].encode(), values)
    return Response(status_code=204)


async def reload(connection: Connection, user: User) -> User:
    """Read the user's row from the database again and return it."""
    current = await find(connection, User, "id = %s", user.id)
    if current is None:
        raise Refusal(404, "user_not_found", "User not found")
    return current


async def merge_metadata(connection: Connection, user: User, column: str, changes: Json | None) -> None:
    """Set the given entries in a metadata column, and remove each entry whose given value is null. Other entries
    stay.
    """
    if changes is None:
        return
    kept: Json = dict(getattr(user, column) or {}) | changes
    merged = {name: value for name, value in kept.items() if value is not None}
    await set_columns(connection, user, {column: Jsonb(merged)})


async def set_columns(connection: Connection, user: User, values: Mapping[str, object]) -> None:
    """Update columns of the user's row."""
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values
    )
    statement = sql.SQL("update auth.users set {}, updated_at = now() where id = {}")
    await connection.execute(
        statement.format(assignments, sql.Placeholder("user_id")), {**values, "user_id": user.id}
    )


async def _change_password(connection: Connection, caller: Caller, password: str) -> None:
    """Change the password by GoTrue's rules. The session must have aal2 if the user has a verified factor, the new
    password must differ from the old one, and the user's other sessions end.
    """
    check_strength(password)
    factor = await find(connection, Factor, "user_id = %s and status = 'verified'", caller.user.id)
    if factor is not None and caller.session.aal != "aal2":
        message = "AAL2 session is required to update email or password when MFA is enabled."
        raise Refusal(401, "insufficient_aal", message)
    if await password_matches(password, caller.user.encrypted_password):
        raise Refusal(422, "same_password", "New password should be different from the old password.")
    await set_columns(connection, caller.user, {"encrypted_password": await hash_password(password)})
    values = {"user": caller.user.id, "session": caller.session.id}
    await connection.execute(_LOG_OUT["others"].encode(), values)
