"""OpenAI's refusals: `{"error": {"message", "type", "param", "code"}}`.

Codes and messages are those that its users quote in public issues, and of openai 3.52's types where nobody does;
checked 2026-11-21.
"""

from collections.abc import Mapping

from starlette.responses import JSONResponse


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """An answer other than success."""

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
        """The answer."""
        return JSONResponse({"error": self.error}, self.status, headers=self.headers)


def invalid(message: str, param: str, code: str = "invalid_value") -> Refusal:
    """One parameter is wrong: 400."""
    return Refusal(400, message, param=param, code=code)
