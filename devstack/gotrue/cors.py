"""CORS as Supabase Auth answers it, and the gateway before it, which lets pages send `apikey` besides.

Any origin may ask; who it is, the API key and the token say. Auth hands this to rs/cors 1.11 with the methods, headers
and exposed headers below (supabase/auth at bc32168e, internal/api/api.go; read 2026-11-29). A preflight that asks for
more is answered 204 without a word, and the browser refuses it. Browsers write the names of headers sorted and in
lower case; rs/cors wants them so, here their order does not matter.
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
    """ASGI middleware, outermost: refusals of the gateway are told to pages as well."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
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
