"""Sessions, their authentication methods (AMR) and their tokens, issued, renewed and ended like GoTrue's.

Source: internal/tokens/service.go and internal/models/{sessions,amr,refresh_token}.go.
"""

import secrets
import string
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

from devstack.gotrue.audit_entries import write_entry
from devstack.gotrue.calls import Call
from devstack.gotrue.hooks import run_access_token_hook
from devstack.gotrue.refusals import Refusal
from devstack.gotrue.rows import (
    NO_INSTANCE,
    Connection,
    Json,
    RefreshToken,
    Session,
    User,
    find,
    user_json,
)

AAL2_METHODS = frozenset({"totp", "mfa/phone", "mfa/webauthn"})

_ADD_PROOF = """
    insert into auth.mfa_amr_claims (id, session_id, created_at, updated_at, authentication_method)
    values (%(id)s, %(session)s, %(now)s, %(now)s, %(method)s)
    on conflict on constraint mfa_amr_claims_session_id_authentication_method_pkey
    do update set updated_at = %(now)s
"""
_ADD_SESSION = """
    insert into auth.sessions (id, user_id, created_at, updated_at, aal, user_agent, ip)
    values (%(id)s, %(user)s, %(now)s, %(now)s, 'aal1', %(agent)s, %(ip)s)
"""
_ADD_REFRESH = """
    insert into auth.refresh_tokens
        (instance_id, token, user_id, parent, session_id, revoked, created_at, updated_at)
    values (%(instance)s, %(token)s, %(user)s, %(parent)s, %(session)s, false, %(now)s, %(now)s)
"""
_PROOFS = """
    select authentication_method, extract(epoch from updated_at)::bigint
    from auth.mfa_amr_claims
    where session_id = %s
    order by date_trunc('second', updated_at) desc, authentication_method
"""


async def open_session(call: Call, connection: Connection, user: User, method: str) -> Json:
    """Create a session that used one authentication method, and return the response body for the sign-in."""
    session_id = uuid4()
    new = {"id": session_id, "user": user.id, "agent": call.user_agent, "ip": call.ip_address}
    await connection.execute(_ADD_SESSION, {**new, "now": call.now})
    token = await _add_refresh_token(call, connection, user, session_id, parent=None)
    await add_proof(call, connection, session_id, method)
    return await _answer(call, connection, user, session_id, token, method=method)


async def add_proof(call: Call, connection: Connection, session_id: UUID, method: str) -> None:
    """Record that the session used this authentication method."""
    proof = {"id": uuid4(), "session": session_id, "now": call.now, "method": method}
    await connection.execute(_ADD_PROOF, proof)


async def raise_to_aal2(
    call: Call, connection: Connection, user: User, session: Session, factor_id: UUID
) -> Json:
    """Raise the session to aal2 with TOTP, end the user's other aal1 sessions, and return the answer to `verify`."""
    await add_proof(call, connection, session.id, "totp")
    current = await find(
        connection, RefreshToken, "session_id = %s and not revoked order by created_at", session.id
    )
    if current is None:
        raise Refusal(500, "unexpected_failure", "Refresh Token Not Found")
    token = await _swap(call, connection, user, current)
    await connection.execute(
        "update auth.sessions set aal = 'aal2', factor_id = %s, updated_at = %s where id = %s",
        (factor_id, call.now, session.id),
    )
    await connection.execute("delete from auth.sessions where user_id = %s and aal < 'aal2'", (user.id,))
    return await _answer(call, connection, user, session.id, token, method="totp")


async def renew(call: Call, connection: Connection, token_text: str) -> Json | Refusal:
    """Return a new pair of tokens for a refresh token.

    Raises Refusal if the transaction must be rolled back. Returns the Refusal if the token family was revoked,
    because the transaction with the revocation must be committed.
    """
    where = "instance_id = %s and token = %s for update"
    token = await find(connection, RefreshToken, where, NO_INSTANCE, token_text)
    if token is None:
        message = "Invalid Refresh Token: Refresh Token Not Found"
        raise Refusal(400, "refresh_token_not_found", message)
    user = await _user_to_renew(call, connection, token)
    await write_entry(call, connection, "token_refreshed", user)
    successor = await _successor(call, connection, user, token)
    if isinstance(successor, Refusal):
        return successor
    await connection.execute(
        "update auth.sessions set refreshed_at = %s at time zone 'UTC', user_agent = %s, ip = %s "
        "where id = %s",
        (call.now, call.user_agent, call.ip_address, token.session_id),
    )
    return await _answer(call, connection, user, token.session_id, successor, method="token_refresh")


async def _user_to_renew(call: Call, connection: Connection, token: RefreshToken) -> User:
    user = await find(connection, User, "id = %s", token.user_id)
    session = await find(connection, Session, "id = %s for update", token.session_id)
    if user is None or session is None:
        raise Refusal(400, "session_not_found", "Invalid Refresh Token: No Valid Session Found")
    if user.is_banned(call.now):
        raise Refusal(400, "user_banned", "Invalid Refresh Token: User Banned")
    if session.not_after is not None and call.now > session.not_after:
        raise Refusal(400, "session_expired", "Invalid Refresh Token: Session Expired")
    return user


async def _successor(call: Call, connection: Connection, user: User, token: RefreshToken) -> str | Refusal:
    """Return the next refresh token. If the refresh token was already used, the function returns its direct
    successor again, or revokes the token family if the token was used too long ago.
    """
    if token.revoked:
        active = await find(
            connection, RefreshToken, "session_id = %s and not revoked order by id desc", token.session_id
        )
        if active is not None and active.parent == token.token:
            return active.token
        if call.now > token.updated_at + timedelta(seconds=call.service.config.reuse_interval_seconds):
            await connection.execute(
                "update auth.refresh_tokens set revoked = true, updated_at = %s "
                "where session_id = %s and not revoked",
                (call.now, token.session_id),
            )
            return Refusal(400, "refresh_token_already_used", "Invalid Refresh Token: Already Used")
    return await _swap(call, connection, user, token)


async def _swap(call: Call, connection: Connection, user: User, old: RefreshToken) -> str:
    await write_entry(call, connection, "token_revoked", user)
    await connection.execute(
        "update auth.refresh_tokens set revoked = true, updated_at = %s where id = %s", (call.now, old.id)
    )
    return await _add_refresh_token(call, connection, user, old.session_id, parent=old.token)


async def _add_refresh_token(
    call: Call, connection: Connection, user: User, session_id: UUID, *, parent: str | None
) -> str:
    token = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(12))
    new = {
        "instance": NO_INSTANCE,
        "token": token,
        "user": str(user.id),
        "parent": parent,
        "session": session_id,
        "now": call.now,
    }
    await connection.execute(_ADD_REFRESH, new)
    await connection.execute(
        "update auth.users set last_sign_in_at = %(now)s, updated_at = %(now)s where id = %(id)s",
        {"now": call.now, "id": user.id},
    )
    return token


async def _answer(
    call: Call, connection: Connection, user: User, session_id: UUID, refresh_token: str, *, method: str
) -> Json:
    user = replace(user, last_sign_in_at=call.now, updated_at=call.now)
    issued_at = int(call.now.timestamp())
    expires_at = issued_at + call.service.config.token_seconds
    signer = call.service.signer
    times = {"iss": signer.issuer, "iat": issued_at, "exp": expires_at}
    claims = times | await _claims(connection, user, session_id)
    claims = await run_access_token_hook(call, connection, user.id, claims, method)
    return {
        "access_token": signer.sign_exactly(claims),
        "token_type": "bearer",
        "expires_in": call.service.config.token_seconds,
        "expires_at": expires_at,
        "refresh_token": refresh_token,
        "user": await user_json(connection, user),
    }


async def _claims(connection: Connection, user: User, session_id: UUID) -> Json:
    proofs = await (await connection.execute(_PROOFS, (session_id,))).fetchall()
    return {
        "aud": user.aud,
        "sub": str(user.id),
        "email": user.email or "",
        "phone": user.phone or "",
        "app_metadata": user.raw_app_meta_data or {},
        "user_metadata": user.raw_user_meta_data or {},
        "role": user.role,
        "aal": "aal2" if any(method in AAL2_METHODS for method, _ in proofs) else "aal1",
        "amr": [{"method": method, "timestamp": timestamp} for method, timestamp in proofs],
        "session_id": str(session_id),
        "is_anonymous": user.is_anonymous,
    }
