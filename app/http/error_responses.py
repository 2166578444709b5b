"""Answers to requests that the HTTP layer refuses before GraphQL runs. An answer from this module has the shape of
a GraphQL error with a code, and its headers forbid caching.
"""

from collections.abc import Iterable, Mapping

from graphql import GraphQLFormattedError
from starlette.responses import JSONResponse
from starlette.types import Scope

from app.concurrency import SERVER_BUSY
from app.errors import AppError
from app.http.language import pick_language
from app.public_errors import build_extensions, public_extensions
from app.texts import Language, error_message

_STATUS_BY_CODE = {
    "INVALID_INPUT": 400,
    "UNAUTHENTICATED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "CONFLICT": 409,
    "RATE_LIMITED": 429,
    "UPSTREAM_FAILED": 502,
    "TIMEOUT": 504,
}


class RefusedError(Exception):
    """Raised if the HTTP layer refuses a request before GraphQL runs. `message` is a public English text that
    contains nothing from the request.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


def request_id(scope: Scope) -> str | None:
    """Return the id of this request, or None if the middleware RequestId is not in use."""
    found = scope.get("state", {}).get("request_id")
    return found if isinstance(found, str) else None


def build_error_payload(error: AppError, language: Language, request_id: str | None) -> GraphQLFormattedError:
    """Return the error of an operation that did not start, as an entry of `errors`."""
    message = error_message(error.code, error.reason, language, error.detail)
    return {"message": message, "extensions": public_extensions(error, request_id)}


def render_refusal(scope: Scope, refused: RefusedError) -> JSONResponse:
    """Return the HTTP answer for a request that the HTTP layer refuses."""
    extensions = build_extensions(refused.code, request_id=request_id(scope))
    return _answer(scope, refused.status, refused.message, extensions, refused.headers)


def render_app_error(scope: Scope, error: AppError) -> JSONResponse:
    """Return the answer for an AppError that was raised outside of a GraphQL operation, with the HTTP status of its
    code.
    """
    message = error_message(error.code, error.reason, _language(scope), error.detail)
    extensions = public_extensions(error, request_id(scope))
    headers = {"WWW-Authenticate": "Bearer"} if error.code == "UNAUTHENTICATED" else {}
    headers |= build_retry_after([extensions])
    status = 503 if error.reason == SERVER_BUSY else _STATUS_BY_CODE.get(error.code, 500)
    return _answer(scope, status, message, extensions, headers)


def build_retry_after(extensions: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """Return the `Retry-After` header of an answer, according to the `extensions` of the answer's errors. The
    function returns no `Retry-After` header if no error says when the client may retry.
    """
    details = [each.get("details") for each in extensions]
    seconds = [
        one["retryAfterSeconds"] for one in details if isinstance(one, dict) and "retryAfterSeconds" in one
    ]
    return {"Retry-After": str(max(seconds))} if seconds else {}


def render_internal_error(scope: Scope) -> JSONResponse:
    """Return the masked answer for an unexpected exception. The masked answer contains only the request id, and
    nothing about the exception.
    """
    message = error_message("INTERNAL", None, _language(scope), {})
    return _answer(scope, 500, message, build_extensions("INTERNAL", request_id=request_id(scope)), {})


def _answer(
    scope: Scope, status: int, message: str, extensions: Mapping[str, object], headers: Mapping[str, str]
) -> JSONResponse:
    error = {"message": message, "extensions": extensions}
    return JSONResponse(
        {"errors": [error]}, status_code=status, headers={"Cache-Control": "no-store", **headers}
    )


def _language(scope: Scope) -> Language:
    header = next((value for name, value in scope.get("headers", []) if name == b"accept-language"), b"")
    return pick_language(header.decode("latin-1"))
