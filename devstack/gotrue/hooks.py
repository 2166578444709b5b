"""The hooks: the Custom Access Token hook, a Postgres function that changes the claims of every access token before
it is signed, and the hooks that GoTrue calls after it has checked a password or a code.

Source: internal/hooks/hookspgfunc/hookspgfunc.go and internal/tokens/service.go of supabase/auth at bc32168e
(checked 2026-11-29). The hook's function runs in the transaction of the sign-in, as `supabase_auth_admin`, for at
most two seconds. If the hook's function fails, or returns claims that cannot be signed, the sign-in fails with 500.
The hooks of attempts run in a transaction of their own, which commits although the attempt fails.
"""

import json
from collections.abc import Mapping
from typing import LiteralString
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from devstack.gotrue.calls import Call
from devstack.gotrue.refusals import Refusal
from devstack.gotrue.rows import Connection, Json

TIMEOUT_MILLISECONDS = 2000
REQUIRED_CLAIMS = (
    "aud",
    "exp",
    "iat",
    "sub",
    "email",
    "phone",
    "role",
    "aal",
    "session_id",
    "is_anonymous",
)
_TEXT = (str,)
_CLAIM_TYPES: Mapping[str, tuple[type, ...]] = {
    "aud": (str, list),
    "exp": (int,),
    "jti": _TEXT,
    "iat": (int,),
    "iss": _TEXT,
    "nbf": (int,),
    "sub": _TEXT,
    "email": _TEXT,
    "phone": _TEXT,
    "app_metadata": (dict,),
    "user_metadata": (dict,),
    "role": _TEXT,
    "aal": _TEXT,
    "amr": (list,),
    "session_id": _TEXT,
    "client_id": _TEXT,
}
_SET_TIMEOUT: LiteralString = "select set_config('statement_timeout', %s, true)"
_RESET_TIMEOUT: LiteralString = "set local statement_timeout to default"


async def run_access_token_hook(
    call: Call, connection: Connection, user_id: UUID, claims: Json, method: str
) -> Json:
    """Return the claims to sign: those that the configured function returns, or the given claims if there is no
    hook.

    `method` is the way in which the user obtained the token: `password`, `totp`, `otp` or `token_refresh`. Refuses
    500.
    """
    uri = call.service.config.access_token_hook
    if uri is None:
        return claims
    event = {
        "metadata": _metadata(call, "customize-access-token"),
        "user_id": str(user_id),
        "claims": claims,
        "authentication_method": method,
    }
    return _claims_of(await _call(connection, uri, event))


async def run_password_hook(call: Call, user_id: UUID, *, is_right: bool) -> None:
    """Call the Password Verification Attempt hook, if there is one. Refuses 400 if the hook rejects the attempt."""
    uri = call.service.config.password_hook
    if uri is None:
        return
    event = {
        "metadata": _metadata(call, "password-verification"),
        "user_id": str(user_id),
        "valid": is_right,
    }
    message = "Further password verification attempts will be rejected."
    await _run_attempt_hook(call, uri, event, 400, "invalid_credentials", message)


async def run_second_factor_hook(call: Call, user_id: UUID, factor_id: UUID, *, is_right: bool) -> None:
    """Call the MFA Verification Attempt hook, if there is one. Refuses 403 if the hook rejects the attempt."""
    uri = call.service.config.second_factor_hook
    if uri is None:
        return
    event = {
        "metadata": _metadata(call, "mfa-verification"),
        "user_id": str(user_id),
        "factor_id": str(factor_id),
        "factor_type": "totp",
        "valid": is_right,
    }
    message = "Further MFA verification attempts will be rejected."
    await _run_attempt_hook(call, uri, event, 403, "mfa_verification_rejected", message)


async def _run_attempt_hook(call: Call, uri: str, event: Json, status: int, code: str, message: str) -> None:
    async with call.transaction() as connection:
        answer = await _call(connection, uri, event)
    values = answer if isinstance(answer, dict) else {}
    failure = values.get("error")
    if isinstance(failure, dict) and failure.get("message"):
        raise Refusal(int(failure.get("http_code") or 500), "unexpected_failure", str(failure["message"]))
    if values.get("decision") != "reject":
        return
    if status == 403 or values.get("should_logout_user"):
        async with call.transaction() as connection:
            await connection.execute("delete from auth.sessions where user_id = %s", (event["user_id"],))
    raise Refusal(status, code, str(values.get("message") or message))


def _metadata(call: Call, name: str) -> Json:
    return {
        "uuid": str(uuid4()),
        "time": call.now.isoformat(),
        "name": name,
        "ip_address": call.ip_address,
    }


async def _call(connection: Connection, uri: str, event: Json) -> object:
    _, schema, function = urlsplit(uri).path.split("/")[:3]
    statement = sql.SQL("select {}(%s)").format(sql.Identifier(schema, function))
    try:
        await connection.execute(_SET_TIMEOUT, (str(TIMEOUT_MILLISECONDS),))
        row = await (await connection.execute(statement, (Jsonb(event),))).fetchone()
        await connection.execute(_RESET_TIMEOUT)
    except psycopg.Error as error:
        raise Refusal(500, "unexpected_failure", f"Error running hook URI: {uri}") from error
    return row[0] if row else None


def _claims_of(answer: object) -> Json:
    """Return the claims in the answer of the hook's Postgres function."""
    values = answer if isinstance(answer, dict) else {}
    failure = values.get("error")
    if isinstance(failure, dict) and failure.get("message"):
        raise Refusal(int(failure.get("http_code") or 500), "unexpected_failure", str(failure["message"]))
    if "claims" not in values:
        raise Refusal(500, "unexpected_failure", "output claims field is missing")
    claims = values["claims"]
    if not isinstance(claims, dict):
        raise Refusal(500, "unexpected_failure", "Error unmarshaling JSON output.")
    problems = [*_missing(claims), *_mistyped(claims)]
    if problems:
        told = "".join(f"- {problem}\n" for problem in problems)
        message = f"output claims do not conform to the expected schema: \n{told}"
        raise Refusal(500, "unexpected_failure", message)
    signable: Json = json.loads(json.dumps(claims))
    return signable


def _missing(claims: Json) -> list[str]:
    return [f"(root): {name} is required" for name in REQUIRED_CLAIMS if name not in claims]


def _mistyped(claims: Json) -> list[str]:
    problems = [
        f"{name}: Invalid type"
        for name, kinds in _CLAIM_TYPES.items()
        if name in claims and (not isinstance(claims[name], kinds) or isinstance(claims[name], bool))
    ]
    amr = claims.get("amr")
    if isinstance(amr, list) and not all(isinstance(entry, str | dict) for entry in amr):
        problems.append("amr: Must validate at least one schema (anyOf)")
    return problems
