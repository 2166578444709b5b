"""The stand-in as an ASGI application: the locks and the public addresses of one bucket of one account."""

import hmac
import json
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from devstack.cloudflare.bucket import Bucket
from devstack.cloudflare.config import CloudflareConfig
from devstack.cloudflare.refusals import Refusal, success

PATH = "/client/v4/accounts/{account_id}/r2/buckets/{bucket}"
JURISDICTIONS = ("default", "eu", "fedramp")


def create_cloudflare_app(config: CloudflareConfig, bucket: Bucket) -> Starlette:
    """Return the ASGI application of the stand-in, which reads and changes the configuration of this bucket.
    `API_URL` is the stand-in's address followed by `/client/v4`.
    """

    async def read_locks(_: Request) -> Response:
        return success({"rules": bucket.rules})

    async def put_locks(request: Request) -> Response:
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            raise Refusal(415, 10040, "Unsupported media type.")
        try:
            body = json.loads(await request.body())
        except ValueError as error:
            raise Refusal(400, 10040, "The JSON you provided was not well formed.") from error
        bucket.put_locks(body)
        return success({})

    async def managed(_: Request) -> Response:
        return success(bucket.managed)

    async def custom(_: Request) -> Response:
        return success({"domains": bucket.custom})

    routes = (
        ("GET", "/lock", read_locks),
        ("PUT", "/lock", put_locks),
        ("GET", "/domains/managed", managed),
        ("GET", "/domains/custom", custom),
    )
    return Starlette(
        routes=[
            *(
                Route(PATH + path, _guarded(config, handle), methods=[method])
                for method, path, handle in routes
            ),
            Route("/{rest:path}", _unrouted, methods=["GET", "PUT", "POST", "PATCH", "DELETE"]),
        ]
    )


def _guarded(
    config: CloudflareConfig, handle: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def guard(request: Request) -> Response:
        try:
            _authenticate(config, request)
            _require_bucket(config, request)
            return await handle(request)
        except Refusal as refusal:
            return refusal.response()

    return guard


def _authenticate(config: CloudflareConfig, request: Request) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not given.strip():
        raise Refusal(400, 6003, "Invalid request headers")
    may_write = hmac.compare_digest(given, config.token)
    may_read = config.reading_token is not None and hmac.compare_digest(given, config.reading_token)
    is_ours = request.path_params["account_id"] == config.account_id
    if not is_ours or not (may_write or (may_read and request.method == "GET")):
        raise Refusal(403, 10000, "Authentication error")


def _require_bucket(config: CloudflareConfig, request: Request) -> None:
    """Refuse a request that has query parameters, or that names another bucket or jurisdiction than the configured
    one.
    """
    if request.query_params:
        raise Refusal(400, 10040, "Unknown parameter.")
    jurisdiction = request.headers.get("cf-r2-jurisdiction", "default")
    if jurisdiction not in JURISDICTIONS:
        raise Refusal(400, 10040, "Unknown jurisdiction.")
    if (request.path_params["bucket"], jurisdiction) != (config.bucket, config.jurisdiction):
        raise Refusal(404, 10006, "The specified bucket does not exist.")


async def _unrouted(request: Request) -> JSONResponse:
    return Refusal(400, 7003, f"Could not route to {request.url.path}").response()
