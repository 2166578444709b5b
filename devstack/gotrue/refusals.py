"""GoTrue's errors in their two JSON shapes (internal/api/errors.go; checked 2026-11-21)."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

API_VERSION_HEADER = "x-supabase-api-version"
API_VERSION = "2024-01-01"


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """An error answer of GoTrue, with its status, `error_code` and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message

    def response(self, request: Request) -> Response:
        """Return the refusal as an answer in the JSON shape of the client's API version."""
        headers = {"x-sb-error-code": self.code}
        if request.headers.get(API_VERSION_HEADER, "") >= API_VERSION:
            body = self._dated_body()
            headers[API_VERSION_HEADER] = API_VERSION
        else:
            body = self._first_body()
        return JSONResponse(body, self.status, headers)

    def _dated_body(self) -> dict[str, object]:
        return {"code": self.code, "message": self.message}

    def _first_body(self) -> dict[str, object]:
        return {"code": self.status, "error_code": self.code, "msg": self.message}


class WeakPassword(Refusal):
    """The refusal of a password that is too short. As in GoTrue, the answer contains the reasons for which the
    password is weak.
    """

    def __init__(self, message: str, reasons: list[str]) -> None:
        super().__init__(422, "weak_password", message)
        self.reasons = reasons

    def _dated_body(self) -> dict[str, object]:
        return {**super()._dated_body(), "weak_password": {"reasons": self.reasons}}

    def _first_body(self) -> dict[str, object]:
        return {**super()._first_body(), "weak_password": {"reasons": self.reasons}}


class GatewayRefusal(Refusal):
    """A refusal by the API gateway, which does not forward the request to GoTrue (supabase/supabase,
    docker/volumes/api/kong.yml).
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(401, "", message)
        self.hint = hint

    def response(self, request: Request) -> Response:
        """Return the answer. The gateway has no API versions."""
        return JSONResponse({"message": self.message, "hint": self.hint}, self.status)


def invalid(message: str) -> Refusal:
    """Return 400 validation_failed."""
    return Refusal(400, "validation_failed", message)
