"""OpenAI's refusals: `{"error": {"message", "type", "param", "code"}}`.

Codes and messages are those that users quote in public issues, and otherwise those of openai 3.52's types; checked
2026-11-21.
"""

from collections.abc import Mapping

from starlette.responses import JSONResponse


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """An error answer of OpenAI's API."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": kind, "param": param, "code": code}
        self.headers = headers

    def response(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse({"error": self.error}, self.status, headers=self.headers)


def invalid(message: str, param: str, code: str = "invalid_value") -> Refusal:
    """Return the refusal 400 for one wrong parameter of a request."""
    return Refusal(400, message, param=param, code=code)
