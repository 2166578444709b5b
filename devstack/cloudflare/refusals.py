"""Cloudflare's response envelope: each answer has `success`, `errors`, `messages` and `result`.

The codes 10000 ("Authentication error"), 6003 ("Invalid request headers") and 7003 ("Could not route to") are used
by every Cloudflare API, as public reports quote them. 10006 is R2's NoSuchBucket and 10040 its InvalidJSON
(developers.cloudflare.com/r2/api/error-codes); checked 2026-11-21.
"""

from starlette.responses import JSONResponse


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """An error answer of Cloudflare's API, with its status, code and message."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def response(self) -> JSONResponse:
        """Return Cloudflare's response envelope for a failed request."""
        errors = [{"code": self.code, "message": self.message}]
        return JSONResponse({"success": False, "errors": errors, "messages": [], "result": None}, self.status)


def success(result: object) -> JSONResponse:
    """Return Cloudflare's response envelope for a successful request."""
    return JSONResponse({"success": True, "errors": [], "messages": [], "result": result})
