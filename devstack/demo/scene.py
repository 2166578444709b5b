"""The objects that all parts of the demo use: the running stack, the demo's people, and the media files of the
room.
"""

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
    """Receives the progress of the demo: each finished step, the number of transcribed chunks, and lines of text."""

    on_step: Callable[[Step], None]
    on_progress: Callable[[int, int], None]
    on_line: Callable[[str], None]


@dataclass(frozen=True)
class Scene:
    """The state of one run of the demo: the stack, its people and the report."""

    stack: Stack
    sources: Sources
    http: httpx.AsyncClient
    report: Report
    audience: Audience
    people: People

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        """Run the block as a step of the demo, and report the step whether it succeeds or fails."""
        began, ok = time.monotonic(), False
        try:
            yield
            ok = True
        finally:
            step = Step(name, ok, round((time.monotonic() - began) * 1000))
            self.report.steps.append(step)
            self.audience.on_step(step)

    async def sign_in(self, person: Person, *, with_totp: bool = True) -> ApiClient:
        """Sign the person in, and return an API client with the new session."""
        return self.client(await self.people.sign_in(person, with_totp=with_totp))

    def client(self, session: Session) -> ApiClient:
        """Return an API client that uses this session."""
        return ApiClient(self.http, self.stack.graphql_url, session.access_token)


async def expect(api: ApiClient, code: str, document: str, **variables: object) -> None:
    """Raise DemoFailed unless the API refuses the operation with the given code."""
    got = await api.refusal(document, **variables)
    require(got == code, f"expected {code}, got {got}")
