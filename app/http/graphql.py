"""GraphQL over HTTP: a thin, strict layer around Strawberry's ASGI application.

The API accepts only POST requests whose body is JSON in UTF-8, with one GraphQL operation in each request. The API
does not execute GraphQL operations that are sent by GET, because foreign websites could forge them, and caches and
logs would store their queries. The API also refuses batches of operations and uploads of files.
`websocket_sessions.py` serves subscriptions. The status codes are those of the GraphQL over HTTP draft (checked
2026-11-21). If no field was answered because the token is missing or invalid, the status is 401. A request by POST
or GET that sends only the hash of its query gets the answer of Apollo Server (4.x), and the client then sends the
whole query.
"""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from cross_web import AsyncHTTPRequestAdapter, HTTPException
from graphql import GraphQLError
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.http.base import BaseRequestProtocol
from strawberry.http.ides import GraphQL_IDE
from strawberry.schema import BaseSchema
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from app.errors import AppError, InvalidInput, Unauthenticated
from app.http import persisted_queries
from app.http.error_responses import RefusedError, build_error_payload, build_retry_after, request_id
from app.http.language import pick_language
from app.http.media_types import GRAPHQL_RESPONSE, JSON, is_json_in_utf8, response_media_type
from app.http.persisted_queries import is_hash_alone
from app.http.strict_json import decode_json

GRAPHIQL_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' https://unpkg.com; style-src 'unsafe-inline' https://unpkg.com; "
    "img-src data:; font-src data: https://unpkg.com; connect-src 'self' ws: wss: https://unpkg.com; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The sources that Strawberry's page of GraphiQL 3.8.3 loads (strawberry/static/graphiql.html, 0.341.2)."""

BuildContext = Callable[[Request], Awaitable[object]]


class GraphQLEndpoint(GraphQL[object, None]):
    """The ASGI application of one GraphQL route.

    `build_context` makes the context of the resolvers. If `build_context` raises an AppError, the answer has the
    HTTP status of the error's code. `graphql_ide` serves GraphiQL to browsers by GET, in development.
    """

    def __init__(
        self,
        schema: BaseSchema,
        *,
        build_context: BuildContext,
        graphql_ide: GraphQL_IDE | None = None,
    ) -> None:
        super().__init__(
            schema,
            graphql_ide=graphql_ide,
            allow_queries_via_get=False,
            subscription_protocols=(),
            multipart_uploads_enabled=False,
        )
        self._build_context = build_context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        if self._is_for_browser(request):
            return HTMLResponse(
                self.graphql_ide_html, headers={"Content-Security-Policy": GRAPHIQL_CONTENT_SECURITY_POLICY}
            )
        if request.method == "GET" and is_hash_alone(_by_get(request)):
            raise _refuse_persisted_query(response_media_type(request.headers.get("accept")))
        _require_acceptable(request, "GET, POST" if self.graphql_ide else "POST")
        try:
            return await self.run(request)
        except HTTPException as error:
            raise RefusedError(
                error.status_code, "BAD_REQUEST", "The request is not valid GraphQL."
            ) from error

    def _is_for_browser(self, request: Request) -> bool:
        return (
            self.graphql_ide is not None
            and request.method == "GET"
            and "query" not in request.query_params
            and "text/html" in request.headers.get("accept", "")
        )

    def should_render_graphql_ide(self, request: BaseRequestProtocol) -> bool:
        """Return False, so that Strawberry does not serve GraphiQL, because `__call__` already serves its page."""
        return False

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> object:
        """Return the context that the resolvers of one request receive."""
        assert isinstance(request, Request), "no route brings a WebSocket here"  # noqa: S101 - narrows the type
        return await self._build_context(request)

    async def get_sub_response(self, request: Request | WebSocket) -> Response:
        """Return a response with the media type that the client accepts. Later, `create_response` reads the media
        type from the response that this method returns.
        """
        response = await super().get_sub_response(request)
        response.media_type = response_media_type(request.headers.get("accept"))
        return response

    async def parse_http_body(self, request: AsyncHTTPRequestAdapter) -> GraphQLRequestData:
        """Return the one GraphQL operation in the request body. Raises RefusedError if the request body is not
        valid JSON of the expected shape.
        """
        parameters = _decode(await request.get_body())
        if not isinstance(parameters, dict):
            raise _bad_request("The body must be a JSON object; batches are not accepted.")
        if is_hash_alone(parameters):
            raise _refuse_persisted_query(response_media_type(request.headers.get("accept")))
        query = parameters.get("query")
        if not isinstance(query, str) or not query:
            raise _bad_request("The parameter 'query' must be a string that is not empty.")
        return GraphQLRequestData(
            query=query,
            variables=_optional(parameters, "variables", dict),
            operation_name=_optional(parameters, "operationName", str),
            extensions=_optional(parameters, "extensions", dict),
        )

    async def execute_single(
        self,
        request: Request,
        request_adapter: AsyncHTTPRequestAdapter,
        sub_response: Response,
        context: object,
        root_value: None,
        request_data: GraphQLRequestData,
    ) -> ExecutionResult:
        """Execute the operation. If the document contains no operation to execute, the answer is a GraphQL error,
        not an HTTP error.

        Strawberry's own `execute_single` would execute a subscription like a query (0.341.2,
        http/async_base_view.py).
        """
        try:
            return await self.schema.execute(
                request_data.query,
                root_value=root_value,
                variable_values=request_data.variables,
                context_value=context,
                operation_name=request_data.operation_name,
                allowed_operation_types=(OperationType.QUERY, OperationType.MUTATION),
                operation_extensions=request_data.extensions,
            )
        except CannotGetOperationTypeError:
            return _refuse(request, InvalidInput("operation_not_found"))
        except InvalidOperationTypeError:
            return _refuse(request, InvalidInput("subscription_by_post"))

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        """Return the content of the response. If no field was executed, the response content has no `data`."""
        response = await super().process_result(request, result)
        if result.data is None and result.errors and all(error.path is None for error in result.errors):
            del response["data"]
        return response

    def create_response(
        self, response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse], sub_response: Response
    ) -> Response:
        """Return the HTTP answer in the media type that the client accepts."""
        assert isinstance(response_data, dict), "batches were refused"  # noqa: S101 - narrows the type
        media_type = sub_response.media_type or JSON
        status = _status(response_data) if media_type == GRAPHQL_RESPONSE else 200
        is_unauthenticated = _is_unauthenticated(response_data)
        return Response(
            self.encode_json(response_data),
            status_code=401 if is_unauthenticated else status,
            headers=({"WWW-Authenticate": "Bearer"} if is_unauthenticated else {})
            | build_retry_after(error.get("extensions", {}) for error in _errors(response_data)),
            media_type=f"{media_type}; charset=utf-8",
        )


def _refuse(request: Request, refusal: AppError) -> ExecutionResult:
    """Return the result of an operation that was not executed, with its error."""
    payload = build_error_payload(
        refusal, pick_language(request.headers.get("accept-language")), request_id(request.scope)
    )
    return PreExecutionError(
        data=None, errors=[GraphQLError(payload["message"], extensions=payload["extensions"])]
    )


def _require_acceptable(request: Request, allowed_methods: str) -> None:
    if request.method != "POST":
        message = "Send GraphQL by POST: addresses are logged on their way. With urql, set `preferGetMethod: false`."
        raise RefusedError(405, "METHOD_NOT_ALLOWED", message, {"Allow": allowed_methods})
    if response_media_type(request.headers.get("accept")) is None:
        raise RefusedError(406, "NOT_ACCEPTABLE", f"The answer can be {JSON} or {GRAPHQL_RESPONSE}.")
    if not is_json_in_utf8(request.headers.get("content-type")):
        raise RefusedError(415, "UNSUPPORTED_MEDIA_TYPE", f"The content type must be {JSON}, in UTF-8.")


def _by_get(request: Request) -> dict[str, object]:
    """Return the GET parameters of a request. The decoded `extensions` show whether the request contains only the
    hash of its query.
    """
    parameters: dict[str, object] = dict(request.query_params)
    with suppress(ValueError):
        parameters["extensions"] = decode_json(request.query_params.get("extensions", "").encode())
    return parameters


def _refuse_persisted_query(media_type: str | None) -> RefusedError:
    """Return the refusal of a request that sends only the hash of its query. The refusal of a request with only a
    hash has status 200, as in Apollo Server, because versions of Apollo Client before 4 read errors only from
    answers with status 200.
    """
    content_type = {"Content-Type": f"{media_type or JSON}; charset=utf-8"}
    return RefusedError(200, persisted_queries.CODE, persisted_queries.MESSAGE, content_type)


def _errors(response: GraphQLHTTPResponse) -> Iterable[Any]:
    return response.get("errors") or ()


def _status(response: GraphQLHTTPResponse) -> int:
    if "data" in response:
        return 200
    codes = {error.get("extensions", {}).get("code") for error in _errors(response)}
    return 500 if "INTERNAL" in codes else 400


def _is_unauthenticated(response: GraphQLHTTPResponse) -> bool:
    """Return whether no field was answered because the token is missing or refused, or the session of the token has
    ended.

    If no field was answered because the token is missing or refused, the answer has status 401 in both media types,
    because some clients renew their token after a 401.
    """
    errors: Iterable[Any] = response.get("errors") or ()
    codes = {error.get("extensions", {}).get("code") for error in errors}
    values: Iterable[object] = (response.get("data") or {}).values()
    return codes == {Unauthenticated.code} and all(value is None for value in values)


def _decode(body: bytes) -> object:
    try:
        return decode_json(body)
    except ValueError as error:
        raise _bad_request(
            "The body must be JSON in UTF-8, without NaN, a byte order mark or half of a surrogate pair."
        ) from error


def _optional(parameters: dict[str, Any], name: str, kind: type) -> Any:
    value = parameters.get(name)
    if value is None or isinstance(value, kind):
        return value
    raise _bad_request(
        f"The parameter '{name}' must be {'a string' if kind is str else 'an object'} or null."
    )


def _bad_request(message: str) -> RefusedError:
    return RefusedError(400, "BAD_REQUEST", message)
