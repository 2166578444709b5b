"""The rows of the schema `auth`: their types, queries and JSON."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, LiteralString, TypeVar
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

NO_INSTANCE = UUID(int=0)

Json = dict[str, Any]
"""A JSON document of a request or an answer."""

Connection = AsyncConnection[tuple[Any, ...]]


@dataclass(frozen=True)
class User:
    """A row of `auth.users`."""

    id: UUID
    aud: str
    role: str
    email: str | None
    encrypted_password: str | None
    email_confirmed_at: datetime | None
    invited_at: datetime | None
    confirmation_sent_at: datetime | None
    recovery_sent_at: datetime | None
    phone: str | None
    last_sign_in_at: datetime | None
    raw_app_meta_data: Json | None
    raw_user_meta_data: Json | None
    created_at: datetime
    updated_at: datetime
    banned_until: datetime | None
    deleted_at: datetime | None
    is_anonymous: bool

    def is_banned(self, now: datetime) -> bool:
        """Return whether the user has a ban that has not ended."""
        return self.banned_until is not None and now < self.banned_until


@dataclass(frozen=True)
class Session:
    """A row of `auth.sessions`."""

    id: UUID
    user_id: UUID
    aal: str
    not_after: datetime | None


@dataclass(frozen=True)
class Factor:
    """A row of `auth.mfa_factors`."""

    id: UUID
    user_id: UUID
    friendly_name: str | None
    factor_type: str
    status: str
    secret: str
    created_at: datetime
    updated_at: datetime
    last_challenged_at: datetime | None

    @property
    def is_verified(self) -> bool:
        """Return whether the factor has been verified with a right code."""
        return self.status == "verified"


@dataclass(frozen=True)
class Identity:
    """A row of `auth.identities`."""

    id: UUID
    provider_id: str
    user_id: UUID
    identity_data: Json
    provider: str
    last_sign_in_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class RefreshToken:
    """A row of `auth.refresh_tokens`. `parent` is the refresh token that this token replaced."""

    id: int
    token: str
    user_id: str
    parent: str | None
    session_id: UUID
    revoked: bool
    updated_at: datetime


@dataclass(frozen=True)
class Challenge:
    """A row of `auth.mfa_challenges`."""

    id: UUID
    created_at: datetime
    verified_at: datetime | None
    ip_address: str


Row = TypeVar("Row", User, Session, Factor, Identity, RefreshToken, Challenge)

_TABLES: dict[type, LiteralString] = {
    User: "auth.users",
    Session: "auth.sessions",
    Factor: "auth.mfa_factors",
    Identity: "auth.identities",
    RefreshToken: "auth.refresh_tokens",
    Challenge: "auth.mfa_challenges",
}
_CASTS = {"ip_address": "host(ip_address) as ip_address", "aal": "aal::text as aal"}


async def find_all(
    connection: Connection, kind: type[Row], where: LiteralString, *values: object
) -> list[Row]:
    """Return all rows of a table that meet an SQL condition, which may end in `order by`, `limit` and `for update`."""
    columns = ", ".join(_CASTS.get(field.name, field.name) for field in fields(kind))
    query = sql.SQL("select {} from {} where {}")
    query_parts = (sql.SQL(columns), sql.SQL(_TABLES[kind]), sql.SQL(where))
    async with connection.cursor(row_factory=class_row(kind)) as cursor:
        await cursor.execute(query.format(*query_parts), values)
        return await cursor.fetchall()


async def find(connection: Connection, kind: type[Row], where: LiteralString, *values: object) -> Row | None:
    """Return the first row of a table that meets the SQL condition, or None."""
    rows = await find_all(connection, kind, where, *values)
    return rows[0] if rows else None


def factor_json(factor: Factor) -> Json:
    """Return a factor in GoTrue's JSON, without its secret."""
    return {"last_challenged_at": _time(factor.last_challenged_at)} | _without_none(
        {
            "id": str(factor.id),
            "created_at": _time(factor.created_at),
            "updated_at": _time(factor.updated_at),
            "status": factor.status,
            "friendly_name": factor.friendly_name or None,
            "factor_type": factor.factor_type,
            "phone": "",
        }
    )


async def user_json(connection: Connection, user: User) -> Json:
    """Return a user in GoTrue's JSON, with the user's identities, and with the user's factors if there are any."""
    factors = await find_all(connection, Factor, "user_id = %s order by created_at", user.id)
    identities = await find_all(connection, Identity, "user_id = %s order by created_at", user.id)
    return _without_none(
        {
            "id": str(user.id),
            "aud": user.aud,
            "role": user.role,
            "email": user.email or "",
            "email_confirmed_at": _time(user.email_confirmed_at),
            "invited_at": _time(user.invited_at),
            "confirmation_sent_at": _time(user.confirmation_sent_at)
            if user.email_confirmed_at is None
            else None,
            "recovery_sent_at": _time(user.recovery_sent_at),
            "phone": user.phone or "",
            "confirmed_at": _time(user.email_confirmed_at),
            "last_sign_in_at": _time(user.last_sign_in_at),
            "app_metadata": user.raw_app_meta_data or {},
            "user_metadata": user.raw_user_meta_data or {},
            "factors": [factor_json(factor) for factor in factors] or None,
            "identities": [_identity_json(identity) for identity in identities],
            "created_at": _time(user.created_at),
            "updated_at": _time(user.updated_at),
            "banned_until": _time(user.banned_until),
            "deleted_at": _time(user.deleted_at),
            "is_anonymous": user.is_anonymous,
        }
    )


def _identity_json(identity: Identity) -> Json:
    return _without_none(
        {
            "identity_id": str(identity.id),
            "id": identity.provider_id,
            "user_id": str(identity.user_id),
            "identity_data": identity.identity_data,
            "provider": identity.provider,
            "last_sign_in_at": _time(identity.last_sign_in_at),
            "created_at": _time(identity.created_at),
            "updated_at": _time(identity.updated_at),
            "email": identity.identity_data.get("email"),
        }
    )


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _without_none(document: Json) -> Json:
    return {name: value for name, value in document.items() if value is not None}
