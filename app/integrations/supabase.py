"""Supabase Auth's administration: the only module that knows the `supabase` package.

It bans users, makes them and invites them. It signs nobody in, since a client
that signs in turns into that person for everybody who shares it, and it reads no data: rows are asked for by
SQL.

The package sets no timeout of its own and reports a timeout as any broken connection (supabase_auth 2.34.1,
`handle_exception`; checked 2026-11-21), so each call here is bounded twice: by the HTTP client and by the
clock.
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
from app.integrations.supabase_refusals import MAIL_ATTEMPTS, invitation_refusal_of, refusal_of
from supabase import AsyncClient, AsyncClientOptions

Reachability = Literal["ok", "key_refused", "unreachable"]

BAN_DURATION = "876000h"
"""A hundred years. GoTrue parses it with Go's `time.ParseDuration`, which knows hours but no days and ends at
292 years; `none` lifts the ban (supabase/auth, internal/api/admin.go; checked 2026-11-21).
"""

NOBODY = UUID(int=0)

INVITATION_MARK = "staff_invitation"
"""Where a login's `user_metadata` names the invitation that made it. Supabase Auth keeps the metadata of an
invitation only where it makes the login, and commits that only once the mail is sent (supabase/auth,
internal/api/invite.go, mail.go; checked 2026-11-21). `private.staff_login` reads it.
"""

MAIL_SECONDS = 30.0
"""How long an invitation is waited for. Auth ends its own request after 10 s (`GOTRUE_API_MAX_REQUEST_DURATION`) and
answers 504, mail server or not: whoever waits less does not learn it (supabase/auth, internal/api/middleware.go,
`timeoutMiddleware`; checked 2026-11-29).
"""


class SupabaseAdmin:
    """One project, by its URL (`https://<ref>.supabase.co`) and secret key.

    Methods raise Timeout("supabase_auth") if it is not known whether Supabase acted, else an AppError with a reason of
    `supabase_refusals`: NotFound("user_unknown"), UpstreamFailed("supabase_key_refused") and others, and
    UpstreamFailed("supabase_auth") with Supabase's status and code for what has no name there. An `http` client given
    is used and left open.
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
        """Refuse the user's sign-ins and refreshes from now on.

        The sessions stay, and tokens already issued stay good for those who look at nothing but the token.
        """
        async with self._asking():
            await self._admin.update_user_by_id(str(user_id), {"ban_duration": BAN_DURATION})

    async def create_user(self, email: str, password: str, *, confirmed: bool = True) -> UUID:
        """Make a user; `confirmed` spares the mail. Raises Conflict("email_exists")."""
        async with self._asking():
            created = await self._admin.create_user(
                {"email": email, "password": password, "email_confirm": confirmed}
            )
        return UUID(created.user.id)

    async def invite(self, email: str, invitation_id: UUID) -> UUID:
        """Make a login without a password, marked with the invitation, and mail its link; the login's id.

        The address of a login that nobody confirmed gets a new link, whoever made that login, and the mark
        stays as it was. Raises Conflict("email_exists") where it is confirmed, InvalidInput("email_refused",
        "email_not_authorized", "email_sign_in_disabled"), UpstreamFailed("supabase_mail_limit"), and, if the mail may
        have gone with a link that does not work, UpstreamFailed("mail_refused") and Timeout("mail_slow") with the
        detail `most_attempts`.
        """
        async with self._asking(self._mail_timeout_seconds, invitation_refusal_of, "mail_slow"):
            invited = await self._admin.invite_user_by_email(
                email, {"data": {INVITATION_MARK: str(invitation_id)}}
            )
        return UUID(invited.user.id)

    async def reachable(self) -> Reachability:
        """Whether Supabase Auth answers, and takes the key for a secret one; reads no user to find out.

        Raises UpstreamFailed when it answers something else.
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
