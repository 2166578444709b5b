"""A small GraphQL schema behind the real HTTP middleware, and a server for it. The tests of the HTTP layer use this
small GraphQL schema instead of the real one.
"""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import strawberry
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from strawberry.http.ides import GraphQL_IDE
from strawberry.schema.config import StrawberryConfig

from app.errors import AppError, Conflict, MissingConsent, RateLimited, Unauthenticated
from app.http.error_responses import request_id
from app.http.graphql import GraphQLEndpoint
from app.http.language import pick_language
from app.http.middleware import EXCEPTION_HANDLERS, edge_middleware
from app.http.websocket_connections import SubscriptionEndpoint
from app.http.websocket_sessions import Connected
from app.texts import Language
from graphql_schema.document_limits import Limits, limit_extensions
from graphql_schema.error_masking import MaskedSchema

ORIGIN = "https://app.example.org"
BODY_LIMIT_BYTES = 16_384
SECRET = "Ana Torres has asthma"
MISSING = (MissingConsent(UUID(int=1), "PATIENT"), MissingConsent(UUID(int=2), "DOCTOR"))


@dataclass
class Context:
    """A context with only the fields that the error masking reads."""

    language: Language
    request_id: str | None


@strawberry.type
class Item:
    """An item of a list in the small schema."""

    id: strawberry.ID
    name: str | None = None

    @strawberry.field
    def items(self, first: int | None = None) -> "list[Item]":
        """Return an empty list of items."""
        return []


@strawberry.type
class Query:
    """The query type of the small schema, with one field for each kind of result."""

    @strawberry.field
    def hello(self, name: str = "world", times: int = 1) -> str:
        """Return a greeting."""
        return f"hello {name}" * times

    @strawberry.field
    def items(self, first: int | None = None) -> list[Item]:
        """Return one item."""
        return [Item(id=strawberry.ID("1"))]

    @strawberry.field
    def by_id(self, id: UUID) -> str:  # noqa: A002 - the argument's name in GraphQL
        """Return the id. The argument `id` has a scalar type, whose parser can raise an error."""
        return str(id)

    @strawberry.field
    def broken(self) -> str:
        """Raise an unexpected exception whose message contains PHI."""
        raise ValueError(SECRET)

    @strawberry.field
    def unserialisable(self) -> int:
        """Return a value that graphql-core quotes in its error message."""
        return SECRET  # type: ignore[return-value]

    @strawberry.field
    def kinds(self, kind: str) -> str:
        """Raise the named AppError."""
        refusals: dict[str, AppError] = {
            "consent": Conflict("consent_missing", missing=MISSING),
            "live": Conflict("live_recording_exists", recording_id="0f8f"),
            "quota": RateLimited("quota_urls", retry_after_seconds=1234),
        }
        raise refusals[kind]


@strawberry.type
class Mutation:
    """The mutation type of the small schema, with one field."""

    @strawberry.mutation
    def touch(self) -> bool:
        """Return True."""
        return True


@strawberry.type
class Subscription:
    """The subscription type of the small schema."""

    @strawberry.subscription
    async def ticks(self) -> AsyncIterator[int]:
        """Yield two events."""
        yield 1
        yield 2

    @strawberry.subscription
    async def broken(self) -> AsyncIterator[int]:
        """Yield one event, then raise an unexpected exception whose message contains PHI."""
        yield 1
        raise ValueError(SECRET)


async def connect(websocket: WebSocket, payload: Mapping[str, object]) -> Connected:
    """Accept every connection."""
    told_as = request_id(websocket.scope)
    return Connected(Context("en", told_as), told_as, time.time() + 3600, "en", recheck=_stands)


async def _stands() -> None:
    """Accept every session."""


async def build_context(request: Request) -> object:
    """Return the context that the resolvers of the small schema receive. Raise an error if the request's token is
    `bad` or `bug`.
    """
    authorization = request.headers.get("authorization")
    if authorization == "Bearer bad":
        raise Unauthenticated("token_expired")
    if authorization == "Bearer bug":
        raise KeyError(SECRET)
    return Context(pick_language(request.headers.get("accept-language")), request_id(request.scope))


def small_schema(*, is_production: bool = False, limits: Limits | None = None) -> MaskedSchema:
    """Return the small schema with the error masking and the limits of the real API."""
    return MaskedSchema(
        Query,
        Mutation,
        Subscription,
        extensions=limit_extensions(limits or Limits(), allow_introspection=not is_production),
        config=StrawberryConfig(disable_field_suggestions=is_production),
    )


def small_app(*, is_production: bool = False, graphql_ide: GraphQL_IDE | None = None) -> ASGIApp:
    """Return an application that serves the small schema at /graphql behind all HTTP middleware. A request to the
    path /broken raises an exception outside of GraphQL.
    """

    def broken(request: Request) -> PlainTextResponse:
        raise RuntimeError(SECRET)

    schema = small_schema(is_production=is_production)
    endpoint = GraphQLEndpoint(schema, build_context=build_context, graphql_ide=graphql_ide)
    subscriptions = SubscriptionEndpoint(schema, connect=connect, allowed_origins=(ORIGIN,))
    return Starlette(
        routes=[
            Route("/graphql", endpoint),
            WebSocketRoute("/graphql", subscriptions),
            Route("/broken", broken),
            Mount("/other", PlainTextResponse("ok")),
        ],
        middleware=edge_middleware(
            allowed_origins=(ORIGIN,), body_limit_bytes=BODY_LIMIT_BYTES, is_production=is_production
        ),
        exception_handlers=EXCEPTION_HANDLERS,
    )


@contextmanager
def serve(app: ASGIApp) -> Iterator[str]:
    """Serve an application with uvicorn on a free port of the loopback interface. Yield its base URL."""
    config = uvicorn.Config(
        app, log_config=None, proxy_headers=False, server_header=False, ws="websockets-sansio", lifespan="off"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
