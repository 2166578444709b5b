"""The routes `/factors`: enrol, challenge, verify and remove TOTP factors (internal/api/mfa.go).

As in GoTrue, a challenge accepts one right code, within five minutes, from the IP address that requested the
challenge. A code that passed one challenge also passes a second challenge while the code is valid. A right code
ends all other aal1 sessions of the same user.
"""

import base64
import secrets
from datetime import timedelta
from hmac import compare_digest
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from starlette.responses import JSONResponse, Response

from devstack.gotrue.audit_entries import write_entry
from devstack.gotrue.calls import Body, Call, Caller
from devstack.gotrue.hooks import run_second_factor_hook
from devstack.gotrue.refusals import Refusal, invalid
from devstack.gotrue.rows import Challenge, Connection, Factor, Json, User, factor_json, find, find_all
from devstack.gotrue.sessions import raise_to_aal2
from devstack.totp import STEP_SECONDS, totp_code, totp_uri

MAX_FACTORS = 10
EMPTY_QR_CODE = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'

_ADD_FACTOR = """
    insert into auth.mfa_factors
        (id, user_id, friendly_name, factor_type, status, secret, created_at, updated_at)
    values (%(id)s, %(user)s, %(name)s, 'totp', 'unverified', %(secret)s, %(now)s, %(now)s)
"""
_DROP_ABANDONED = """
    delete from auth.mfa_factors
    where status <> 'verified'
        and created_at < %s
        and not exists (select from auth.mfa_challenges where factor_id = mfa_factors.id)
"""
_DROP_PROOFS = """
    delete from auth.mfa_amr_claims
    using auth.sessions
    where sessions.id = mfa_amr_claims.session_id
        and sessions.factor_id = %s
        and mfa_amr_claims.authentication_method = 'totp'
"""


async def enrol(call: Call) -> Response:
    """`POST /factors`: create a factor, which stays unverified until the user enters a right code."""
    async with call.transaction() as connection:
        caller = await call.caller(connection)
        body = await call.body()
        _check_factor_type(body.text("factor_type"))
        name = body.text("friendly_name")
        await _check_may_enrol(call, connection, caller, name)
        factor_id, secret = uuid4(), base64.b32encode(secrets.token_bytes(20)).decode()
        new = {"id": factor_id, "user": caller.user.id, "name": name, "secret": secret, "now": call.now}
        await connection.execute(_ADD_FACTOR, new)
        traits = {"factor_id": factor_id}
        await write_entry(call, connection, "factor_in_progress", caller.user, traits, has_address=True)
    issuer = body.text("issuer") or urlsplit(call.service.config.url).netloc
    totp = {
        "qr_code": EMPTY_QR_CODE,
        "secret": secret,
        "uri": totp_uri(secret, issuer, caller.user.email or ""),
    }
    return JSONResponse({"id": str(factor_id), "type": "totp", "friendly_name": name, "totp": totp})


async def challenge(call: Call) -> Response:
    """`POST /factors/{factor_id}/challenge`: create the challenge that the next code answers."""
    async with call.transaction() as connection:
        caller = await call.caller(connection)
        factor = await find_factor(call, connection, caller.user)
        challenge_id, now = uuid4(), call.now
        await connection.execute(
            "insert into auth.mfa_challenges (id, factor_id, created_at, ip_address) values (%s, %s, %s, %s)",
            (challenge_id, factor.id, now, call.ip_address),
        )
        await connection.execute(
            "update auth.mfa_factors set last_challenged_at = %s where id = %s", (now, factor.id)
        )
        traits = {"factor_id": factor.id, "factor_status": factor.status}
        await write_entry(call, connection, "challenge_created", caller.user, traits, has_address=True)
    expires_at = now + timedelta(seconds=call.service.config.challenge_seconds)
    return JSONResponse({"id": str(challenge_id), "type": "totp", "expires_at": int(expires_at.timestamp())})


async def verify(call: Call) -> Response:
    """`POST /factors/{factor_id}/verify`: a right code raises the session to aal2."""
    body = await call.body()
    if call.service.config.second_factor_hook is not None:
        await _report_attempt(call, body)
    async with call.transaction() as connection:
        caller = await call.caller(connection)
        factor = await find_factor(call, connection, caller.user)
        outcome = await _verify(call, connection, caller, factor, body)
    if isinstance(outcome, Refusal):
        raise outcome
    return JSONResponse(outcome)


async def unenrol(call: Call) -> Response:
    """`DELETE /factors/{factor_id}`: remove the factor. Sessions that reached aal2 with this factor fall back to
    aal1.
    """
    async with call.transaction() as connection:
        caller = await call.caller(connection)
        factor = await find_factor(call, connection, caller.user)
        if factor.is_verified and caller.session.aal != "aal2":
            raise Refusal(422, "insufficient_aal", "AAL2 required to unenroll verified factor")
        await delete_factor(connection, factor)
        traits = {
            "factor_id": factor.id,
            "factor_status": factor.status,
            "session_id": caller.session.id,
        }
        await write_entry(call, connection, "factor_unenrolled", caller.user, traits, has_address=True)
    return JSONResponse({"id": str(factor.id)})


async def find_factor(call: Call, connection: Connection, user: User) -> Factor:
    """Return the factor that the URL's path names, if it belongs to the user. Refuses 404."""
    where = "id = %s and user_id = %s"
    factor = await find(connection, Factor, where, call.path_id("factor_id"), user.id)
    if factor is None:
        raise Refusal(404, "mfa_factor_not_found", "Factor not found")
    return factor


async def delete_factor(connection: Connection, factor: Factor) -> None:
    """Remove the factor, and remove the record of its use from all sessions."""
    await connection.execute("delete from auth.mfa_factors where id = %s", (factor.id,))
    await connection.execute(_DROP_PROOFS, (factor.id,))
    await connection.execute(
        "update auth.sessions set aal = 'aal1', factor_id = null where factor_id = %s", (factor.id,)
    )


def _check_factor_type(factor_type: str) -> None:
    if factor_type == "phone":
        raise Refusal(422, "mfa_phone_enroll_not_enabled", "MFA enroll is disabled for Phone")
    if factor_type == "webauthn":
        raise Refusal(422, "mfa_webauthn_enroll_not_enabled", "MFA enroll is disabled for WebAuthn")
    if factor_type != "totp":
        raise invalid("factor_type needs to be totp, phone, or webauthn")


async def _check_may_enrol(call: Call, connection: Connection, caller: Caller, name: str) -> None:
    abandoned_before = call.now - timedelta(seconds=call.service.config.factor_seconds)
    await connection.execute(_DROP_ABANDONED, (abandoned_before,))
    factors = await find_all(connection, Factor, "user_id = %s", caller.user.id)
    if any((factor.friendly_name or "") == name for factor in factors):
        message = f'A factor with the friendly name "{name}" for this user already exists'
        raise Refusal(422, "mfa_factor_name_conflict", message)
    if len(factors) >= MAX_FACTORS:
        message = "Maximum number of verified factors reached, unenroll to continue"
        raise Refusal(422, "too_many_enrolled_mfa_factors", message)
    if any(factor.is_verified for factor in factors) and caller.session.aal != "aal2":
        raise Refusal(403, "insufficient_aal", "AAL2 required to enroll a new factor")


async def _report_attempt(call: Call, body: Body) -> None:
    """Check the code once in advance, and let the hook learn whether it is right."""
    async with call.transaction() as connection:
        caller = await call.caller(connection)
        factor = await find_factor(call, connection, caller.user)
        asked = await _find_challenge(call, connection, factor, body.text("challenge_id"))
    code = body.text("code")
    if code and not isinstance(asked, Refusal):
        is_right = _code_is_right(factor.secret, code, call.now.timestamp())
        await run_second_factor_hook(call, caller.user.id, factor.id, is_right=is_right)
    elif isinstance(asked, Refusal):
        raise asked


async def _verify(
    call: Call, connection: Connection, caller: Caller, factor: Factor, body: Body
) -> Json | Refusal:
    """Return the new tokens. The function returns a Refusal, instead of raising it, if the transaction must commit."""
    code = body.text("code")
    if not code:
        raise invalid("Code needs to be non-empty")
    asked = await _find_challenge(call, connection, factor, body.text("challenge_id"))
    if isinstance(asked, Refusal):
        return asked
    if not _code_is_right(factor.secret, code, call.now.timestamp()):
        raise Refusal(422, "mfa_verification_failed", "Invalid TOTP code entered")
    traits = {"factor_id": factor.id, "challenge_id": asked.id, "factor_type": factor.factor_type}
    await write_entry(call, connection, "verification_attempted", caller.user, traits, has_address=True)
    await connection.execute(
        "update auth.mfa_challenges set verified_at = %s where id = %s", (call.now, asked.id)
    )
    await connection.execute(
        "update auth.mfa_factors set status = 'verified', updated_at = %s "
        "where id = %s and status <> 'verified'",
        (call.now, factor.id),
    )
    unverified = "user_id = %s and status = 'unverified' and factor_type = 'totp'"
    dropped = await find_all(connection, Factor, unverified, caller.user.id)
    await connection.execute(
        "delete from auth.mfa_factors where user_id = %s and status = 'unverified' and factor_type = 'totp'",
        (caller.user.id,),
    )
    answer = await raise_to_aal2(call, connection, caller.user, caller.session, factor.id)
    # GoTrue answers with the factors that it read before it deleted these
    answer["user"]["factors"] = [*answer["user"].get("factors", ()), *map(factor_json, dropped)]
    return answer


async def _find_challenge(
    call: Call, connection: Connection, factor: Factor, challenge_id: str
) -> Challenge | Refusal:
    try:
        wanted = UUID(challenge_id)
    except ValueError:
        if challenge_id:
            raise Refusal(400, "bad_json", "Could not parse request body as JSON: challenge_id") from None
        wanted = UUID(int=0)
    asked = await find(connection, Challenge, "id = %s and factor_id = %s for update", wanted, factor.id)
    if asked is None:
        message = "MFA factor with the provided challenge ID not found"
        raise Refusal(422, "mfa_factor_not_found", message)
    if asked.verified_at is not None or asked.ip_address != call.ip_address:
        message = "Challenge and verify IP addresses mismatch."
        raise Refusal(422, "mfa_ip_address_mismatch", message)
    if call.now > asked.created_at + timedelta(seconds=call.service.config.challenge_seconds):
        await connection.execute("delete from auth.mfa_challenges where id = %s", (asked.id,))
        advice = "verify against another challenge or create a new challenge."
        return Refusal(422, "mfa_challenge_expired", f"MFA challenge {asked.id} has expired, {advice}")
    return asked


def _code_is_right(secret: str, code: str, now_seconds: float) -> bool:
    """Return whether the TOTP code is right for the current 30-second step, the step before it, or the step after
    it.
    """
    steps = (now_seconds - STEP_SECONDS, now_seconds, now_seconds + STEP_SECONDS)
    return any(compare_digest(totp_code(secret, step).encode(), code.strip().encode()) for step in steps)
