"""The stand-in as an ASGI application, with its routes under `/auth/v1`, its outbox, its connection pool and its
key.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from devstack.gotrue import admin, factors, grants, invitations, users, verification
from devstack.gotrue.calls import Call, Handler, Service, endpoint
from devstack.gotrue.config import GotrueConfig
from devstack.gotrue.cors import Pages
from devstack.gotrue.outbox import Outbox
from devstack.gotrue.refusals import Refusal
from devstack.gotrue.rows import Connection
from devstack.gotrue.signing import load_signer

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/token", grants.token),
    ("GET", "/user", users.get_user),
    ("PUT", "/user", users.put_user),
    ("POST", "/logout", users.log_out),
    ("POST", "/factors", factors.enrol),
    ("POST", "/factors/{factor_id}/challenge", factors.challenge),
    ("POST", "/factors/{factor_id}/verify", factors.verify),
    ("DELETE", "/factors/{factor_id}", factors.unenrol),
    ("POST", "/invite", invitations.invite),
    ("POST", "/verify", verification.verify),
    ("POST", "/recover", verification.recover),
    ("POST", "/admin/users", admin.create_user),
    ("GET", "/admin/users", admin.list_users),
    ("GET", "/admin/users/{user_id}", admin.get_user),
    ("PUT", "/admin/users/{user_id}", admin.update_user),
    ("DELETE", "/admin/users/{user_id}", admin.delete_user),
    ("GET", "/admin/users/{user_id}/factors", admin.list_factors),
    ("DELETE", "/admin/users/{user_id}/factors/{factor_id}", admin.remove_factor),
)


def create_gotrue_app(
    config: GotrueConfig, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Starlette:
    """Return the application. The application's ASGI lifespan opens and closes the database connections. `clock`
    returns aware UTC.
    """
    pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
        config.database_url, min_size=1, max_size=4, open=False, name="gotrue"
    )
    outbox = Outbox(config.mails_per_hour, clock, config.request_seconds)
    service = Service(config, load_signer(config.data_dir, config.issuer), pool, clock, outbox)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with pool:
            yield

    own = (
        Route("/stand-in/outbox", endpoint(service, invitations.read_outbox)),
        Route("/stand-in/mailboxes", endpoint(service, invitations.order_mailbox), methods=["POST"]),
    )
    return Starlette(
        routes=[Mount("/auth/v1", routes=_routes(service)), *own],
        lifespan=lifespan,
        middleware=[Middleware(Pages)],
    )


def _routes(service: Service) -> list[Route]:
    async def jwks(_: Request) -> Response:
        """Return the JWKS. The gateway requires no API key for the JWKS."""
        return JSONResponse(service.signer.jwks(), headers={"cache-control": "public, max-age=600"})

    async def follow_link(request: Request) -> Response:
        """Serve the link that a person clicked in a mail. The gateway requires no API key for this route."""
        return await verification.follow_link(service, request)

    guarded = [
        *ROUTES,
        ("GET", "/health", _health),
        ("POST", "/signup", _refuse_sign_up),
    ]
    return [
        Route("/.well-known/jwks.json", jwks),
        Route("/verify", follow_link, methods=["GET"]),
        *(Route(path, endpoint(service, handle), methods=[method]) for method, path, handle in guarded),
    ]


async def _health(_: Call) -> Response:
    description = "GoTrue is a user registration and authentication API"
    return JSONResponse({"version": "resguardo-stand-in", "name": "GoTrue", "description": description})


async def _refuse_sign_up(_: Call) -> Response:
    raise Refusal(422, "signup_disabled", "Signups not allowed for this instance")
