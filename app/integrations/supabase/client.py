"""Administration of Supabase Auth: the only module that imports the `supabase` package.

This client bans, creates and invites users, and removes their second factors. The client never signs in as a user,
because all later calls of the shared client would then act as this user. The client reads no data, because the
application reads rows with SQL.

The `supabase` package sets no timeout and reports a timeout as a broken connection (supabase_auth 2.34.1,
`handle_exception`; checked 2026-11-21). Each call to Supabase has two time limits: one in the HTTP client, and one
for the whole call.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal
from uuid import UUID

import httpx
from pydantic import ValidationError
from supabase_auth.errors import AuthError

from app.errors import AppError, NotFound, Timeout, UpstreamFailed
from app.integrations.supabase.refusals import MAIL_ATTEMPTS, invitation_refusal_of, refusal_of
from supabase import AsyncClient, AsyncClientOptions

Reachability = Literal["ok", "key_refused", "unreachable"]

BAN_DURATION = "876000h"
"""A hundred years. GoTrue parses it with Go's `time.ParseDuration`, which supports hours but no days, and at most
292 years. `none` lifts the ban (supabase/auth, internal/api/admin.go; checked 2026-11-21).
"""

NOBODY = UUID(int=0)

INVITATION_MARK = "staff_invitation"
"""The key in a login's `user_metadata` that names the invitation. Supabase Auth stores the metadata of an
invitation only if it creates the login, and commits it only after it has sent the mail (supabase/auth,
internal/api/invite.go, mail.go; checked 2026-11-21). `private.staff_login` reads it.
"""

MAIL_SECONDS = 30.0
"""How long the client waits for an invitation. Auth ends its own request after 10 s
(`GOTRUE_API_MAX_REQUEST_DURATION`) and then answers 504. A client with a shorter limit would not receive that
answer (supabase/auth, internal/api/middleware.go, `timeoutMiddleware`; checked 2026-11-29).
"""


class SupabaseAdmin:
    """The administration client of one Supabase project, with the project's URL (`https://<ref>.supabase.co`) and
    secret key.

    Methods raise Timeout("supabase_auth") if Supabase did not answer in time, so that it is unknown whether
    Supabase carried out the request. If Supabase answers with an error, methods raise an AppError with a reason
    from `supabase_refusals`, such as NotFound("user_unknown") or UpstreamFailed("supabase_key_refused"). If none of
    our reasons matches an error of Supabase, methods raise UpstreamFailed("supabase_auth") with the HTTP status and
    Supabase's error code. `aclose` does not close an `http` client that the caller passed in.
    """

    def __init__(
        self,
        url: str,
        secret_key: str,
        *,
        http: httpx.AsyncClient | None = None,
        timeout_seconds: float = 10,
        mail_timeout_seconds: float = MAIL_SECONDS,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._mail_timeout_seconds = mail_timeout_seconds
        longest = max(timeout_seconds, mail_timeout_seconds)
        self._own_http = (
            httpx.AsyncClient(timeout=httpx.Timeout(longest, connect=timeout_seconds))
            if http is None
            else None
        )
        options = AsyncClientOptions(
            auto_refresh_token=False, persist_session=False, httpx_client=http or self._own_http
        )
        self._admin = AsyncClient(url, secret_key, options).auth.admin

    async def ban(self, user_id: UUID) -> None:
        """Make Supabase refuse the user's sign-ins and token refreshes from now on. The user's sessions still
        exist, and issued tokens stay valid for services that check only the token.
        """
        async with self._asking():
            await self._admin.update_user_by_id(str(user_id), {"ban_duration": BAN_DURATION})

    async def lift_ban(self, user_id: UUID) -> None:
        """Let the user sign in again. Safe to repeat. Raises NotFound("user_unknown")."""
        async with self._asking():
            await self._admin.update_user_by_id(str(user_id), {"ban_duration": "none"})

    async def list_second_factors(self, user_id: UUID) -> list[UUID]:
        """Return the ids of all second factors of the user, verified or not. Raises NotFound("user_unknown")."""
        async with self._asking():
            factors = await self._admin.mfa.list_factors({"user_id": str(user_id)})
        return [UUID(factor.id) for factor in factors]

    async def remove_second_factor(self, user_id: UUID, factor_id: UUID) -> None:
        """Remove a second factor of the user. The user's sessions still exist. Raises
        NotFound("user_unknown", "second_factor_unknown").
        """
        async with self._asking():
            await self._admin.mfa.delete_factor({"user_id": str(user_id), "id": str(factor_id)})

    async def create_user(self, email: str, password: str, *, confirmed: bool = True) -> UUID:
        """Create a user. If `confirmed` is true, Supabase sends no confirmation mail. Raises
        Conflict("email_exists").
        """
        async with self._asking():
            created = await self._admin.create_user(
                {"email": email, "password": password, "email_confirm": confirmed}
            )
        return UUID(created.user.id)

    async def invite(self, email: str, invitation_id: UUID) -> UUID:
        """Create a login without a password, store the invitation's id in it, and let Supabase mail the link with
        which the person accepts the invitation. Return the id of the login.

        If an unconfirmed login with this address exists, Supabase mails a new link, and the login keeps the
        invitation id that it has. Raises Conflict("email_exists") if the login is confirmed,
        InvalidInput("email_refused", "email_not_authorized", "email_sign_in_disabled"), and
        UpstreamFailed("supabase_mail_limit"). Raises UpstreamFailed("mail_refused") or Timeout("mail_slow") if
        Supabase may have sent a mail with a link that does not work. The detail `most_attempts` of `mail_refused`
        and `mail_slow` limits how often the call may be repeated.
        """
        async with self._asking(self._mail_timeout_seconds, invitation_refusal_of, "mail_slow"):
            invited = await self._admin.invite_user_by_email(
                email, {"data": {INVITATION_MARK: str(invitation_id)}}
            )
        return UUID(invited.user.id)

    async def reachable(self) -> Reachability:
        """Return whether Supabase Auth answers and accepts the key as a secret key. To check the key, the method
        reads no user's data. Raises UpstreamFailed if Supabase Auth gives an unexpected answer to the check.
        """
        try:
            async with self._asking():
                await self._admin.get_user_by_id(str(NOBODY))
        except NotFound:
            return "ok"
        except Timeout:
            return "unreachable"
        except UpstreamFailed as failure:
            if failure.reason == "supabase_key_refused":
                return "key_refused"
            if failure.reason == "supabase_unreachable":
                return "unreachable"
            raise
        raise UpstreamFailed("supabase_auth", status=200)

    async def aclose(self) -> None:
        """Close the connections that this object opened."""
        if self._own_http is not None:
            await self._own_http.aclose()

    @asynccontextmanager
    async def _asking(
        self,
        seconds: float | None = None,
        translate: Callable[[AuthError], AppError] = refusal_of,
        late: str = "supabase_auth",
    ) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds or self._timeout_seconds):
                yield
        except TimeoutError as error:
            attempts = {"most_attempts": MAIL_ATTEMPTS} if late == "mail_slow" else {}
            raise Timeout(late, **attempts) from error
        except AuthError as error:
            raise translate(error) from error
        except ValidationError as error:
            raise UpstreamFailed("supabase_auth", status=200, answer="unreadable") from error
