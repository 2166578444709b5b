"""The entries that GoTrue writes into `auth.audit_log_entries`, each in the transaction of its event.

Source: internal/models/audit_log_entry.go and its callers in supabase/auth at bc32168e (checked 2026-11-30). Only some
callers pass the address of the client. An administrator, who has the secret key, is a user with a nil id whose address
is the name of its role. A failed attempt gets no entry.
"""

from collections.abc import Mapping
from uuid import UUID, uuid4

from psycopg.types.json import Json as JsonText

from devstack.gotrue.calls import Call
from devstack.gotrue.rows import NO_INSTANCE, Connection, Json, User

_LOG_TYPES = {
    "login": "account",
    "logout": "account",
    "user_signedup": "team",
    "user_invited": "team",
    "user_deleted": "team",
    "token_revoked": "token",
    "token_refreshed": "token",
    "user_modified": "user",
    "user_recovery_requested": "user",
    "user_updated_password": "user",
    "factor_in_progress": "factor",
    "factor_unenrolled": "factor",
    "factor_deleted": "factor",
    "challenge_created": "factor",
    "verification_attempted": "factor",
}
_ADD = """
    insert into auth.audit_log_entries (instance_id, id, payload, created_at, ip_address)
    values (%s, %s, %s, %s, %s)
"""


async def write_entry(
    call: Call,
    connection: Connection,
    action: str,
    actor: User | None,
    traits: Mapping[str, object] | None = None,
    *,
    has_address: bool = False,
) -> None:
    """Write an entry, unless the configuration switches entries off. The actor None is the administrator."""
    if not call.service.config.audit_entries:
        return
    payload: Json = {
        "action": action,
        "actor_id": str(UUID(int=0) if actor is None else actor.id),
        "actor_username": "service_role" if actor is None else actor.email or "",
        "actor_via_sso": False,
        "log_type": _LOG_TYPES[action],
    }
    name = None if actor is None else (actor.raw_user_meta_data or {}).get("full_name")
    if name is not None:
        payload["actor_name"] = name
    if traits is not None:
        payload["traits"] = {key: str(value) for key, value in traits.items()}
    address = call.ip_address if has_address else ""
    values = (NO_INSTANCE, uuid4(), JsonText(dict(sorted(payload.items()))), call.now, address)
    await connection.execute(_ADD, values)


def name_user(user: User) -> dict[str, object]:
    """Return the traits of an administrator's event about a user."""
    return {"user_id": user.id, "user_email": user.email or "", "user_phone": user.phone or ""}
