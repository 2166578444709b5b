"""Handles one request: checks the API key as the gateway does, reads the body, identifies the caller, and answers
refusals in GoTrue's form.
"""

import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool
from starlette.requests import Request
from starlette.responses import Response

from devstack.gotrue.config import GotrueConfig
from devstack.gotrue.outbox import Outbox
from devstack.gotrue.refusals import GatewayRefusal, Refusal, invalid
from devstack.gotrue.rows import Connection, Json, Session, User, find
from devstack.gotrue.signing import Signer

MAX_BODY_BYTES = 1 << 20
UNEXPECTED = "Unexpected failure, please check server logs for more information"

logger = logging.getLogger(__name__)

ApiRole = Literal["anon", "service_role"]

_EMAIL = re.compile(
    r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
)
"""The pattern of badoux/checkmail at d0a759655d62, `emailRegexp`."""


@dataclass(frozen=True)
class Service:
    """The parts of the stand-in that every call uses. `clock` returns aware UTC."""

    config: GotrueConfig
    signer: Signer
    pool: AsyncConnectionPool[Connection]
    clock: Callable[[], datetime]
    outbox: Outbox


@dataclass(frozen=True)
class Caller:
    """The caller of a request: the person to whom its token belongs, with the token's valid session."""

    user: User
    session: Session


@dataclass(frozen=True)
class Body:
    """The JSON object in a request's body, read as Go reads it. A missing or null field counts as empty, and a
    field of the wrong type causes 400 bad_json.
    """

    values: Mapping[str, Any]

    def text(self, name: str) -> str:
        """Return a field's string, or an empty string if the field is missing."""
        return str(self._typed(name, str, ""))

    def flag(self, name: str) -> bool:
        """Return a field's boolean, or false if the field is missing."""
        return bool(self._typed(name, bool, False))

    def document(self, name: str) -> Json | None:
        """Return a field's JSON object, or None if the field is missing."""
        value: Json | None = self._typed(name, dict, None)
        return value

    def _typed(self, name: str, kind: type, empty: object) -> Any:
        value = self.values.get(name)
        if value is not None and not isinstance(value, kind):
            raise Refusal(400, "bad_json", f"Could not parse request body as JSON: field {name}")
        return empty if value is None else value


@dataclass(frozen=True)
class Call:
    """A request whose API key the gateway has checked. `bearer` is the person's token or, if the request has only
    an API key, the key's role.
    """

    request: Request
    service: Service
    bearer: ApiRole | str

    @property
    def now(self) -> datetime:
        """Return the stand-in's time."""
        return self.service.clock()

    @property
    def ip_address(self) -> str:
        """Return the IP address of the client that sent the request. Proxy headers are ignored."""
        return self.request.client.host if self.request.client else "127.0.0.1"

    @property
    def user_agent(self) -> str | None:
        """Return the request's User-Agent header."""
        return self.request.headers.get("user-agent")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Open a transaction that commits unless the block raises."""
        async with self.service.pool.connection() as connection, connection.transaction():
            yield connection

    def path_id(self, name: str) -> UUID:
        """Return the UUID in this parameter of the URL's path. Raises Refusal 404 validation_failed."""
        try:
            return UUID(self.request.path_params[name])
        except ValueError:
            raise Refusal(404, "validation_failed", f"{name} must be an UUID") from None

    async def body(self) -> Body:
        """Return the JSON body. Raises Refusal 413 if the body is too large, and 400 bad_json if the body is no
        JSON object.
        """
        received = bytearray()
        async for chunk in self.request.stream():
            received += chunk
            if len(received) > MAX_BODY_BYTES:
                message = f"Request body too large (max {MAX_BODY_BYTES} bytes)"
                raise Refusal(413, "request_entity_too_large", message)
        try:
            values = json.loads(received)
        except (ValueError, RecursionError):
            raise Refusal(400, "bad_json", "Could not parse request body as JSON") from None
        if not isinstance(values, dict):
            raise Refusal(400, "bad_json", "Could not parse request body as JSON: not an object")
        return Body(values)

    async def caller(self, connection: Connection) -> Caller:
        """Return the person to whom the request's token belongs. Raises Refusal if the token's user or session does
        not exist, or if the user is banned.
        """
        if self.bearer in ("anon", "service_role"):
            raise Refusal(403, "bad_jwt", "invalid claim: missing sub claim")
        claims = self.service.signer.verify(self.bearer, self.now)
        user = await find(connection, User, "id = %s", claims["sub"])
        if user is None:
            raise Refusal(403, "user_not_found", "User from sub claim in JWT does not exist")
        session = await find(connection, Session, "id = %s", claims["session_id"])
        if session is None:
            message = "Session from session_id claim in JWT does not exist"
            raise Refusal(403, "session_not_found", message)
        if user.is_banned(self.now):
            raise Refusal(403, "user_banned", "User is banned")
        return Caller(user, session)

    async def require_service_role(self) -> None:
        """Raise Refusal unless the caller uses the secret API key."""
        if self.bearer == "service_role":
            return
        if self.bearer != "anon":
            async with self.transaction() as connection:
                await self.caller(connection)
        raise Refusal(403, "not_admin", "User not allowed")


Handler = Callable[[Call], Awaitable[Response]]


def endpoint(service: Service, handle: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Return a Starlette endpoint behind the gateway's check of `apikey`."""

    async def answer(request: Request) -> Response:
        try:
            return await handle(Call(request, service, _pass_gateway(request, service.config)))
        except Refusal as refusal:
            return refusal.response(request)
        except psycopg.Error as error:
            logger.error("database refused with %s", error.sqlstate)  # noqa: TRY400 - details name people
            return Refusal(500, "unexpected_failure", UNEXPECTED).response(request)

    return answer


def _pass_gateway(request: Request, config: GotrueConfig) -> ApiRole | str:
    """Replace an API key with a JWT of the key's role, as the gateway does, but keep a person's token unchanged."""
    api_key = request.headers.get("apikey", "")
    if not api_key:
        hint = "No `apikey` request header or url param was found."
        raise GatewayRefusal("No API key found in request", hint)
    role = _role_of(api_key, config)
    if role is None:
        hint = "Double check your Supabase `anon` or `service_role` API key."
        raise GatewayRefusal("Invalid API key", hint)
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not bearer or bearer.startswith("sb_") or bearer == api_key:
        return role
    return bearer


def _role_of(api_key: str, config: GotrueConfig) -> ApiRole | None:
    if compare_digest(api_key.encode(), config.secret_key.encode()):
        return "service_role"
    if compare_digest(api_key.encode(), config.publishable_key.encode()):
        return "anon"
    return None


def email_of(body: Body) -> str:
    """Return the email address in the body, in lower case. Refuses 400 validation_failed."""
    email = body.text("email")
    if not email:
        raise invalid("An email address is required")
    if len(email) > 255:
        raise invalid("An email address is too long")
    if not _EMAIL.fullmatch(email):
        raise invalid("Unable to validate email address: invalid format")
    return email.lower()
