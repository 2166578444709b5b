"""Tests of the HTTP layer over real sockets: which requests are accepted, and which headers the answers have."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
import websockets

from app.http.body_limit import BodyLimit
from tests.api.small_api import BODY_LIMIT_BYTES, ORIGIN, SECRET, serve, small_app

GRAPHQL_JSON = "application/graphql-response+json"


@pytest.fixture(scope="module")
def development() -> Iterator[str]:
    """Yield the URL of a server with development settings and GraphiQL."""
    with serve(small_app(graphql_ide="graphiql")) as url:
        yield url


@pytest.fixture
def client(base: str) -> Iterator[httpx.Client]:
    """Yield a client of the server with production settings."""
    with httpx.Client(base_url=base, timeout=10) as http:
        yield http


def _error(answer: httpx.Response) -> Any:
    (error,) = answer.json()["errors"]
    assert answer.headers["cache-control"] == "no-store"
    assert error["extensions"]["requestId"] == answer.headers["x-request-id"]
    return error


def _code(answer: httpx.Response) -> Any:
    return _error(answer)["extensions"]["code"]


def test_answer_has_security_headers_and_is_not_cached(client: httpx.Client) -> None:
    answer = client.post("/graphql", json={"query": "{ hello }"})
    assert answer.json() == {"data": {"hello": "hello world"}}
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    assert "server" not in answer.headers


def test_development_sends_no_strict_transport_security(development: str) -> None:
    answer = httpx.post(f"{development}/graphql", json={"query": "{ hello }"})
    assert answer.status_code == 200
    assert "strict-transport-security" not in answer.headers


def test_request_id_of_the_client_is_ignored(client: httpx.Client) -> None:
    ids = {
        client.post("/graphql", json={"query": "{ hello }"}, headers={"X-Request-Id": "mine"}).headers[
            "x-request-id"
        ]
        for _ in range(2)
    }
    assert len({UUID(value).version for value in ids}) == 1
    assert len(ids) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"])
def test_other_methods_than_post_are_405_with_allow(client: httpx.Client, method: str) -> None:
    answer = client.request(method, "/graphql", params={"query": "{ hello }"})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    if method != "HEAD":
        assert _code(answer) == "METHOD_NOT_ALLOWED"


def test_only_development_serves_graphiql_to_browsers(development: str, client: httpx.Client) -> None:
    page = httpx.get(f"{development}/graphql", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "unpkg.com" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    assert client.get("/graphql", headers={"Accept": "text/html"}).status_code == 405
    by_get = httpx.get(
        f"{development}/graphql", params={"query": "{ hello }"}, headers={"Accept": "text/html"}
    )
    assert by_get.status_code == 405
    assert by_get.headers["allow"] == "GET, POST"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/graphql",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; x=application/json",
        "application/json; charset=utf-16",
        "application/json, text/plain",
        ";",
    ],
)
def test_other_content_type_is_415(client: httpx.Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = client.post("/graphql", content=b'{"query":"{ hello }"}', headers=headers)
    assert answer.status_code == 415
    assert _code(answer) == "UNSUPPORTED_MEDIA_TYPE"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b'"query"',
        b'[{"query":"{ hello }"}]',
        b"[]",
        b"{}",
        b'{"query":""}',
        b'{"query":1}',
        b'{"query":"{ hello }","variables":[]}',
        b'{"query":"{ hello }","operationName":{}}',
        b'{"query":"{ hello }","extensions":"x"}',
        b'{"query":"{ hello }","variables":{"n":NaN}}',
        b'{"query":"{ hello }","variables":{"n":"\\ud800"}}',
        b'{"query":"{ hello(name: \\"\xff\xfe\\") }"}',
        '{"query":"{ hello }"}'.encode("utf-16"),
        b"\xef\xbb\xbf" + b'{"query":"{ hello }"}',
        b"[" * 8000 + b"]" * 8000,
    ],
)
def test_body_without_exactly_one_request_is_400(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/graphql", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert _code(answer) == "BAD_REQUEST"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        (GRAPHQL_JSON, GRAPHQL_JSON),
        (f"{GRAPHQL_JSON}, application/json;q=0.9", GRAPHQL_JSON),
        (f"application/json, {GRAPHQL_JSON};q=0.5", "application/json"),
        (f"application/json;q=0, {GRAPHQL_JSON};charset=utf-8;q=0.1", GRAPHQL_JSON),
        ("text/html, */*;q=0.1", "application/json"),
    ],
)
def test_media_type_is_negotiated(client: httpx.Client, accept: str, content_type: str) -> None:
    answer = client.post("/graphql", json={"query": "{ hello }"}, headers={"Accept": accept})
    assert answer.headers["content-type"] == f"{content_type}; charset=utf-8"


@pytest.mark.parametrize(
    "accept", ["text/html", "application/json;q=0", "application/json;charset=latin1", "garbage"]
)
def test_accept_header_without_a_supported_type_is_406(client: httpx.Client, accept: str) -> None:
    answer = client.post("/graphql", json={"query": "{ hello }"}, headers={"Accept": accept})
    assert answer.status_code == 406
    assert _code(answer) == "NOT_ACCEPTABLE"


@pytest.mark.parametrize(
    ("request_body", "code"),
    [
        ({"query": "{"}, "GRAPHQL_PARSE_FAILED"),
        ({"query": "{ nothing }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query A { hello }", "operationName": "B"}, "INVALID_INPUT"),
        ({"query": "fragment A on Query { hello }"}, "INVALID_INPUT"),
        ({"query": "query ($n: Int!) { hello(times: $n) }"}, "INVALID_INPUT"),
        ({"query": "query A { hello } query B { hello }", "operationName": "A"}, "TOO_COMPLEX"),
    ],
)
def test_request_error_has_no_data_and_is_400_only_for_graphql_json(
    client: httpx.Client, request_body: dict[str, str], code: str
) -> None:
    for accept, status in ((GRAPHQL_JSON, 400), ("application/json", 200)):
        answer = client.post("/graphql", json=request_body, headers={"Accept": accept})
        assert answer.status_code == status
        assert "data" not in answer.json()
        assert answer.json()["errors"][0]["extensions"]["code"] == code


def test_field_error_is_200_with_data(client: httpx.Client) -> None:
    answer = client.post("/graphql", json={"query": "{ broken }"}, headers={"Accept": GRAPHQL_JSON})
    assert answer.status_code == 200
    assert answer.json()["data"] is None
    assert _code(answer) == "INTERNAL"


def test_only_production_refuses_introspection(client: httpx.Client, development: str) -> None:
    query = {"query": "{ __schema { queryType { name } } }"}
    assert "errors" in client.post("/graphql", json=query).json()
    assert "data" in httpx.post(f"{development}/graphql", json=query).json()
    mistyped = {"query": "{ hell }"}
    assert "hello" not in client.post("/graphql", json=mistyped).text
    assert "hello" in httpx.post(f"{development}/graphql", json=mistyped).text


def test_app_error_while_building_the_context_is_answered_with_its_status(client: httpx.Client) -> None:
    answer = client.post(
        "/graphql",
        json={"query": "{ hello }"},
        headers={"Authorization": "Bearer bad", "Accept-Language": "es-MX, en;q=0.5"},
    )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert _error(answer)["message"] == "Su inicio de sesión ha caducado. Inicie sesión de nuevo."
    assert _code(answer) == "UNAUTHENTICATED"


@pytest.mark.parametrize("request_line", [("GET", "/broken", None), ("POST", "/graphql", "Bearer bug")])
def test_bug_is_a_masked_500_and_is_logged_without_its_message(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, request_line: tuple[str, str, str | None]
) -> None:
    method, path, authorization = request_line
    headers = {"Origin": ORIGIN} | ({"Authorization": authorization} if authorization else {})
    with caplog.at_level(logging.DEBUG):
        answer = client.request(method, path, headers=headers, json={"query": "{ hello }"})
    assert answer.status_code == 500
    assert _code(answer) == "INTERNAL"
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["x-request-id"] in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in answer.text


def test_body_of_10_megabytes_is_413(client: httpx.Client) -> None:
    answer = client.post(
        "/graphql", content=b" " * 10_000_000, headers={"Content-Type": "application/json", "Origin": ORIGIN}
    )
    assert answer.status_code == 413
    assert _code(answer) == "PAYLOAD_TOO_LARGE"
    assert answer.headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize(("size_bytes", "status"), [(BODY_LIMIT_BYTES, 200), (BODY_LIMIT_BYTES + 1, 413)])
def test_body_limit_is_exact(client: httpx.Client, size_bytes: int, status: int) -> None:
    body = b'{"query":"{ hello }"}'.ljust(size_bytes)
    headers = {"Content-Type": "application/json"}
    assert client.post("/graphql", content=body, headers=headers).status_code == status
    assert (
        client.post("/graphql", content=iter([body[:100], body[100:]]), headers=headers).status_code == status
    )


def test_endless_chunked_body_is_413_before_its_end(base: str) -> None:
    parts = urlsplit(base)
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=10) as connection:
        connection.sendall(
            b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"%x\r\n%s\r\n" % (4096, b" " * 4096)
        for _ in range(BODY_LIMIT_BYTES // 4096 + 1):
            connection.sendall(chunk)
        answer = b""
        while b"PAYLOAD_TOO_LARGE" not in answer:
            received = connection.recv(65_536)
            assert received, answer
            answer += received
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


@pytest.mark.anyio
async def test_application_never_receives_more_than_the_limit() -> None:
    given: list[int] = []

    async def greedy(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            given.append(len(message["body"]))

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 60

    transport = httpx.ASGITransport(app=BodyLimit(greedy, limit_bytes=100))
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as http:
        answer = await http.post("/", content=endless())
    assert answer.status_code == 413
    assert given == [60]


@pytest.mark.anyio
async def test_declared_length_above_the_limit_is_413_before_the_body_is_read() -> None:
    happened: list[Any] = []

    async def unreachable(*_: Any) -> Any:
        pytest.fail("the application may not be asked")

    async def receive() -> Any:
        happened.append("read")
        return {"type": "http.request", "body": b"x" * 60, "more_body": happened.count("read") < 2}

    async def send(message: Any) -> None:
        happened.append(message.get("status", message.get("more_body")))

    scope = {"type": "http", "headers": [(b"content-length", b"101")]}
    await BodyLimit(unreachable, limit_bytes=100)(scope, receive, send)
    assert happened == [413, True, "read", "read", False]


def _preflight(client: httpx.Client, origin: str, **headers: str) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return client.options("/graphql", headers={**asked, **headers})


def test_preflight_is_allowed_for_a_listed_origin(client: httpx.Client) -> None:
    answer = _preflight(client, ORIGIN, **{"Access-Control-Request-Headers": "authorization,content-type"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-methods"] == "GET, POST"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("sent_by", "headers"),
    [
        ("supabase-js", "authorization,x-client-info,apikey,content-type,x-retry-count"),
        ("supabase-js with traces", "apikey,authorization,baggage,traceparent,tracestate,x-client-info"),
        (
            "Apollo Client",
            "authorization,content-type,apollographql-client-name,apollographql-client-version",
        ),
        ("Apollo Client by GET", "apollo-require-preflight,authorization"),
        ("urql and graphql-request", "accept,authorization,content-type"),
        ("a page in Spanish", "accept-language,authorization,content-type"),
    ],
)
def test_preflight_allows_the_headers_of_common_clients(
    client: httpx.Client, sent_by: str, headers: str
) -> None:
    for method in ("POST", "GET"):
        answer = _preflight(
            client,
            ORIGIN,
            **{"Access-Control-Request-Headers": headers, "Access-Control-Request-Method": method},
        )
        assert answer.status_code == 200, (sent_by, answer.text)


def test_cors_exposes_the_request_id_and_retry_after(client: httpx.Client) -> None:
    answer = client.post("/graphql", json={"query": "{ hello }"}, headers={"Origin": ORIGIN})
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"X-Request-Id", "Retry-After"} <= set(exposed)


def test_rate_limited_answer_has_retry_after(client: httpx.Client) -> None:
    for accept in ("application/json", GRAPHQL_JSON):
        answer = client.post(
            "/graphql", json={"query": '{ kinds(kind: "quota") }'}, headers={"Accept": accept}
        )
        (error,) = answer.json()["errors"]
        assert error["extensions"]["code"] == "RATE_LIMITED"
        assert (
            error["extensions"]["details"]["retryAfterSeconds"] == int(answer.headers["retry-after"]) == 1234
        )
    assert "retry-after" not in client.post("/graphql", json={"query": "{ hello }"}).headers


HASH_ALONE = {
    "persistedQuery": {"version": 1, "sha256Hash": "ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5"}
}


@pytest.mark.parametrize("accept", ["*/*", "application/json", f"{GRAPHQL_JSON},application/json;q=0.9"])
@pytest.mark.parametrize("query", [{}, {"query": None}, {"query": ""}])
def test_hash_without_a_query_gets_the_answer_of_apollo_server(
    client: httpx.Client, accept: str, query: dict[str, object]
) -> None:
    body = {"operationName": "A", "variables": {"name": SECRET}, "extensions": HASH_ALONE} | query
    answer = client.post("/graphql", json=body, headers={"Accept": accept, "Origin": ORIGIN})
    by_get = client.get(
        "/graphql",
        params={
            "operationName": "A",
            "variables": json.dumps(body["variables"]),
            "extensions": json.dumps(HASH_ALONE),
        },
        headers={"Accept": accept, "Content-Type": "application/json", "Origin": ORIGIN},
    )
    for each in (answer, by_get):
        assert each.status_code == 200
        assert _error(each)["message"] == "PersistedQueryNotSupported"
        assert _code(each) == "PERSISTED_QUERY_NOT_SUPPORTED"
        assert each.headers["content-type"].split(";")[0] == (
            GRAPHQL_JSON if GRAPHQL_JSON in accept else "application/json"
        )
        assert each.headers["access-control-allow-origin"] == ORIGIN
        assert SECRET not in each.text


def test_query_with_its_hash_is_executed(client: httpx.Client) -> None:
    body = {"query": "{ hello }", "extensions": HASH_ALONE}
    assert client.post("/graphql", json=body).json() == {"data": {"hello": "hello world"}}


@pytest.mark.parametrize("extensions", [{}, {"persistedQuery": None}, {"persistedQuery": {}}, {"other": 1}])
def test_request_without_a_query_or_a_hash_is_400(
    client: httpx.Client, extensions: dict[str, object]
) -> None:
    answer = client.post("/graphql", json={"extensions": extensions})
    assert (answer.status_code, _code(answer)) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("query", ["{ hello }", "mutation { touch }", "query { hello }"])
def test_operation_by_get_is_refused_with_a_remedy_and_not_executed(client: httpx.Client, query: str) -> None:
    parameters = {"query": query, "extensions": json.dumps(HASH_ALONE)}
    answer = client.get("/graphql", params=parameters, headers={"Origin": ORIGIN})
    assert (answer.status_code, _code(answer)) == (405, "METHOD_NOT_ALLOWED")
    assert "preferGetMethod: false" in _error(answer)["message"]
    assert answer.headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize("extensions", ["", "{", "[]", "1", '{"persistedQuery":NaN}', "[" * 3000])
def test_get_with_unreadable_extensions_is_405(client: httpx.Client, extensions: str) -> None:
    assert client.get("/graphql", params={"extensions": extensions}).status_code == 405


@pytest.mark.anyio
async def test_stalled_body_is_408_and_closes_the_connection() -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    async def receive() -> Any:
        if sent.count("part") < 2:
            sent.append("part")
            return {"type": "http.request", "body": b"{", "more_body": True}
        if "start" not in sent:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append("start" if message["type"] == "http.response.start" else message["body"])
        if message["type"] == "http.response.start":
            assert message["status"] == 408
            assert (b"connection", b"close") in message["headers"]

    await BodyLimit(app, limit_bytes=100, seconds=0.01)({"type": "http", "headers": []}, receive, send)
    assert sent[:3] == ["part", "part", "start"]
    assert b"REQUEST_TIMEOUT" in b"".join(part for part in sent if isinstance(part, bytes))


@pytest.mark.anyio
async def test_time_limit_of_the_body_ends_with_the_body() -> None:
    messages = iter([{"type": "http.request", "body": b"{}", "more_body": False}])
    is_over = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.05)
        is_over.set()

    async def receive() -> Any:
        message = next(messages, None)
        if message is None:
            await asyncio.Event().wait()
        return message

    async def send(message: Any) -> None:
        pytest.fail("nothing is refused")

    await BodyLimit(app, limit_bytes=100, seconds=0.01)({"type": "http", "headers": []}, receive, send)
    assert is_over.is_set()


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        f"{ORIGIN}.evil.example",
        "http://app.example.org",
        f"{ORIGIN}:8443",
        "*",
    ],
)
def test_preflight_is_refused_for_any_other_origin(client: httpx.Client, origin: str) -> None:
    answer = _preflight(client, origin)
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    assert (
        "access-control-allow-origin"
        not in client.post("/graphql", json={"query": "{ hello }"}, headers={"Origin": origin}).headers
    )


def test_preflight_is_refused_for_other_methods_and_headers(client: httpx.Client) -> None:
    assert _preflight(client, ORIGIN, **{"Access-Control-Request-Method": "DELETE"}).status_code == 400
    assert (
        _preflight(client, ORIGIN, **{"Access-Control-Request-Headers": "x-forwarded-for"}).status_code == 400
    )


async def _subscribe(base: str, query: str, *, protocol: str, origin: str | None = ORIGIN) -> list[Any]:
    url = base.replace("http://", "ws://") + "/graphql"
    subprotocols = [websockets.Subprotocol(protocol)]
    received = []
    async with websockets.connect(
        url, subprotocols=subprotocols, origin=websockets.Origin(origin or "")
    ) as connection:
        assert UUID(connection.response.headers["x-request-id"] if connection.response else "")
        await connection.send(json.dumps({"type": "connection_init"}))
        await connection.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": query}}))
        async with asyncio.timeout(30):
            async for message in connection:
                received.append(json.loads(message))
                if received[-1]["type"] in ("complete", "error"):
                    break
    return received


@pytest.mark.anyio
async def test_subscription_runs_over_graphql_transport_ws(base: str) -> None:
    messages = await _subscribe(base, "subscription { ticks }", protocol="graphql-transport-ws")
    assert [message["type"] for message in messages] == ["connection_ack", "next", "next", "complete"]


@pytest.mark.anyio
async def test_limits_and_masking_apply_to_websockets(base: str) -> None:
    document = "subscription { " + "".join(f"a{n}: ticks " for n in range(11)) + "}"
    refused = await _subscribe(base, document, protocol="graphql-transport-ws")
    assert refused[-1]["payload"][0]["extensions"]["code"] == "TOO_COMPLEX"
    masked = await _subscribe(base, "subscription { broken }", protocol="graphql-transport-ws")
    assert SECRET not in json.dumps(masked)
    assert [message["type"] for message in masked] == ["connection_ack", "next", "error"]
    assert masked[-1]["payload"][0]["extensions"]["code"] == "INTERNAL"


def test_subscription_by_post_is_refused_even_as_a_stream(client: httpx.Client) -> None:
    accept = f'{GRAPHQL_JSON}, multipart/mixed;boundary="graphql";subscriptionSpec=1.0, text/event-stream'
    answer = client.post("/graphql", json={"query": "subscription { ticks }"}, headers={"Accept": accept})
    assert (answer.status_code, _code(answer)) == (400, "INVALID_INPUT")
    assert answer.json()["errors"][0]["extensions"]["reason"] == "SUBSCRIPTION_BY_POST"


@pytest.mark.anyio
async def test_older_websocket_protocol_and_other_origins_are_refused(base: str) -> None:
    with pytest.raises(websockets.ConnectionClosedError) as closed:
        await _subscribe(base, "{ hello }", protocol="graphql-ws")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4406
    with pytest.raises(websockets.InvalidStatus):
        await _subscribe(base, "{ hello }", protocol="graphql-transport-ws", origin="https://evil.example")
