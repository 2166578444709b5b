"""What every part of the demo plays with: the running stack, its people, and what the room shows and sounds like."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from devstack.api_client import ApiClient
from devstack.demo.report import Report, Step, require
from devstack.demo.sources import Sources
from devstack.people import People, Person
from devstack.sign_in import Session
from devstack.stack import Stack


@dataclass(frozen=True)
class Audience:
    """Who is shown the demo while it goes on: each step when it has ended, pieces done of all, and a line of text."""

    on_step: Callable[[Step], None]
    on_progress: Callable[[int, int], None]
    on_line: Callable[[str], None]


@dataclass(frozen=True)
class Scene:
    """One run."""

    stack: Stack
    sources: Sources
    http: httpx.AsyncClient
    report: Report
    audience: Audience
    people: People

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        """Reports the block as a step, whatever becomes of it."""
        began, ok = time.monotonic(), False
        try:
            yield
            ok = True
        finally:
            step = Step(name, ok, round((time.monotonic() - began) * 1000))
            self.report.steps.append(step)
            self.audience.on_step(step)

    async def sign_in(self, person: Person, *, with_totp: bool = True) -> ApiClient:
        """A new session's client."""
        return self.client(await self.people.sign_in(person, with_totp=with_totp))

    def client(self, session: Session) -> ApiClient:
        """The requests of a session."""
        return ApiClient(self.http, self.stack.graphql_url, session.access_token)


async def expect(api: ApiClient, code: str, document: str, **variables: object) -> None:
    """Raises DemoFailed unless it is refused with that code."""
    got = await api.refusal(document, **variables)
    require(got == code, f"expected {code}, got {got}")
