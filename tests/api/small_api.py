"""A small schema behind the real HTTP edge, and a server for it: what the tests of the edge talk to."""

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

from app.errors import AppError, Conflict, Forbidden, RateLimited, Unauthenticated
from app.http.edge import edge_middleware
from app.http.graphql import GraphQLEndpoint
from app.http.language import pick_language
from app.http.refusals import request_id
from app.http.subscriptions import Connected, SubscriptionEndpoint
from app.texts import Language
from graphql_schema.errors import MaskedSchema
from graphql_schema.limits import Limits, limit_extensions

ORIGIN = "https://app.example.org"
BODY_LIMIT_BYTES = 16_384
SECRET = "Ana Torres has asthma"


@dataclass
class Context:
    """What the masking reads of a context."""

    language: Language
    request_id: str | None


@strawberry.type
class Item:
    """Something in a connection."""

    id: strawberry.ID
    name: str | None = None

    @strawberry.field
    def items(self, first: int | None = None) -> "list[Item]":
        """Nested connections, so that cost multiplies."""
        return []


@strawberry.type
class Query:
    """One field for each thing that can happen."""

    @strawberry.field
    def hello(self, name: str = "world", times: int = 1) -> str:
        """Fine."""
        return f"hello {name}" * times

    @strawberry.field
    def items(self, first: int | None = None) -> list[Item]:
        """A connection, for the cost."""
        return [Item(id=strawberry.ID("1"))]

    @strawberry.field
    def by_id(self, id: UUID) -> str:  # noqa: A002 - the argument's name in GraphQL
        """Takes a scalar that can fail to parse."""
        return str(id)

    @strawberry.field
    def broken(self) -> str:
        """A bug whose message carries PHI."""
        raise ValueError(SECRET)

    @strawberry.field
    def unserialisable(self) -> int:
        """A value that graphql-core quotes in its message."""
        return SECRET  # type: ignore[return-value]

    @strawberry.field
    def kinds(self, kind: str) -> str:
        """Refusals."""
        refusals: dict[str, AppError] = {
            "consent": Forbidden("consent_missing", missing="patient, doctor"),
            "live": Conflict("live_recording_exists", recordingId="0f8f"),
            "quota": RateLimited("quota_urls", retry_after_seconds=1234),
        }
        raise refusals[kind]


@strawberry.type
class Mutation:
    """One mutation."""

    @strawberry.mutation
    def touch(self) -> bool:
        """Fine."""
        return True


@strawberry.type
class Subscription:
    """One subscription."""

    @strawberry.subscription
    async def ticks(self) -> AsyncIterator[int]:
        """Two events."""
        yield 1
        yield 2

    @strawberry.subscription
    async def broken(self) -> AsyncIterator[int]:
        """A bug whose message carries PHI, after one event."""
        yield 1
        raise ValueError(SECRET)


async def connect(websocket: WebSocket, payload: Mapping[str, object]) -> Connected:
    """Anybody, as somebody new."""
    told_as = request_id(websocket.scope)
    return Connected(Context("en", told_as), told_as, time.time() + 3600, "en", recheck=_stands)


async def _stands() -> None:
    """Every session does."""


async def build_context(request: Request) -> object:
    """A context, or a refusal for the tokens `bad` and `bug`."""
    authorization = request.headers.get("authorization")
    if authorization == "Bearer bad":
        raise Unauthenticated("token_expired")
    if authorization == "Bearer bug":
        raise KeyError(SECRET)
    return Context(pick_language(request.headers.get("accept-language")), request_id(request.scope))


def small_schema(*, is_production: bool = False, limits: Limits | None = None) -> MaskedSchema:
    """The schema with masking and limits, as the application composes them."""
    return MaskedSchema(
        Query,
        Mutation,
        Subscription,
        extensions=limit_extensions(limits or Limits(), allow_introspection=not is_production),
        config=StrawberryConfig(disable_field_suggestions=is_production),
    )


def small_app(*, is_production: bool = False, graphql_ide: GraphQL_IDE | None = None) -> ASGIApp:
    """The schema's endpoint at /graphql, inside the whole edge; /broken fails outside of GraphQL."""

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
    )


@contextmanager
def serve(app: ASGIApp) -> Iterator[str]:
    """Serves an application by uvicorn on a free port of the loopback; gives its base URL."""
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
