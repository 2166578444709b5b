"""CORS headers of Supabase Auth and of its gateway, which also allows the header `apikey`.

Every origin is allowed, because the API key and the token identify the caller. Auth uses rs/cors 1.11 with the
methods, headers and exposed headers below (supabase/auth at bc32168e, internal/api/api.go; read 2026-11-29). If a
preflight asks for a method or header that is not among them, the answer is 204 without CORS headers, and the
browser refuses the request. Browsers send header names sorted and in lower case. rs/cors requires that order; this
module ignores the order.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
HEADERS = frozenset(
    {
        "accept",
        "apikey",
        "authorization",
        "content-type",
        "x-client-info",
        "x-client-ip",
        "x-jwt-aud",
        "x-supabase-api-version",
        "x-use-cookie",
    }
)
EXPOSED_HEADERS = "X-Total-Count, Link, X-Supabase-Api-Version"
_PREFLIGHT_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


class Pages:
    """The outermost ASGI middleware, which adds CORS headers to every answer, so that web pages can also read the
    gateway's refusals.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        if scope["method"] == "OPTIONS" and asked.get("access-control-request-method"):
            await Response(status_code=204, headers=_preflight(asked))(scope, receive, send)
            return
        may_read = "origin" in asked and scope["method"] in METHODS

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Origin")
                if may_read:
                    headers["Access-Control-Allow-Origin"] = "*"
                    headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
                    headers["Access-Control-Allow-Credentials"] = "true"
            await send(message)

        await self._app(scope, receive, told)


def _preflight(asked: Headers) -> dict[str, str]:
    method, names = asked["access-control-request-method"], asked.get("access-control-request-headers", "")
    wanted = {name.strip().lower() for name in names.split(",") if name.strip()}
    if "origin" not in asked or method not in METHODS or not wanted <= HEADERS:
        return {"Vary": _PREFLIGHT_VARY}
    allowed = {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": method,
        "Access-Control-Allow-Credentials": "true",
        "Vary": _PREFLIGHT_VARY,
    }
    return allowed | ({"Access-Control-Allow-Headers": names} if wanted else {})
