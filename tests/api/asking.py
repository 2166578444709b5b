"""A language service whose answers a test orders, and an API that asks it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from app import main
from app.integrations.language.port import LanguageAnswer, LanguageRequest, LanguageUsage
from tests.api.harness import ApiHarness, Person

VENDOR, MODEL = "language.test", "gpt-test"
USAGE = LanguageUsage(VENDOR, MODEL, 1000, 200, 30)


def line(text: str, *citations: tuple[int, str]) -> dict[str, object]:
    """Return a line of an answer in the schema of the requests. A citation is the number of a turn and a quote."""
    return {"text": text, "citations": [{"turn": f"t{turn}", "quote": quote} for turn, quote in citations]}


def answer_of(*lines: dict[str, object]) -> str:
    """Return the text of an answer with these lines."""
    return json.dumps({"answer": list(lines)})


@dataclass
class LanguageOfTest:
    """A language service that gives the ordered answers one after the other, and the last one again and again. An
    exception is raised in place of an answer.
    """

    answers: Sequence[str | Exception]
    vendor: str = VENDOR
    model: str = MODEL
    requests: list[LanguageRequest] = field(default_factory=list)
    meanwhile: Callable[[], object] | None = None
    """What happens before the answer, such as a wait."""

    async def write(self, request: LanguageRequest) -> LanguageAnswer:
        self.requests.append(request)
        if self.meanwhile is not None:
            happens = self.meanwhile()
            if asyncio.iscoroutine(happens):
                await happens
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return LanguageAnswer(answer, USAGE)

    async def aclose(self) -> None:
        """Close nothing."""


@asynccontextmanager
async def asking_api(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch, language: LanguageOfTest, person: Person
) -> AsyncIterator[Person]:
    """Yield the same person as a client of an API that asks this language service."""
    monkeypatch.setattr(main, "make_language", lambda _: language)
    async with harness.another_api() as http:
        yield replace(person, http=http)
