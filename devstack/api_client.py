"""A client of the GraphQL API, for the demo and for tests."""

from dataclasses import dataclass
from typing import Any

import httpx


class Refused(Exception):  # noqa: N818 - it reads as what happened
    """The API answered with an error. `code` and `reason` come from the extensions of the GraphQL error. `reason` is
    in lower case, as in the registry of reasons."""

    def __init__(self, code: str, reason: str | None, message: str) -> None:
        super().__init__(f"{code} ({reason}): {message}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class ApiClient:
    """Sends one person's requests. If `token` is None, the client sends no token."""

    http: httpx.AsyncClient
    url: str
    token: str | None

    async def ask(self, document: str, **variables: object) -> Any:
        """Send one GraphQL operation and return the `data` of the answer. Raises Refused with the first GraphQL
        error of the answer.
        """
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        response = await self.http.post(
            self.url, json={"query": document, "variables": variables}, headers=headers
        )
        answer = response.json()
        for error in answer.get("errors", ()):
            extensions = error.get("extensions", {})
            reason = extensions.get("reason")
            raise Refused(extensions.get("code", "NONE"), reason and reason.lower(), error["message"])
        return answer["data"]

    async def refusal(self, document: str, **variables: object) -> str | None:
        """Run an operation and return the code of the API's error, or None if the operation succeeds."""
        try:
            await self.ask(document, **variables)
        except Refused as refused:
            return refused.code
        return None
