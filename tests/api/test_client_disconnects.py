"""Tests that a client may close its connection to any route at any time, and that the server then logs no error."""

import asyncio
import base64
import json
import logging
import socket
import struct
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.harness import ADDRESS, ApiHarness

HEAD = b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LARGE = json.dumps({"query": '{ hello(name: "0123456789", times: 900000) }'}).encode()
HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: graphql-transport-ws\r\nSec-WebSocket-Key: %s\r\n" % base64.b64encode(bytes(16))
)


def _frame(payload: bytes, *, opcode: int = 1) -> bytes:
    """Return a complete WebSocket frame as a client sends it, masked with zeros."""
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


INIT = _frame(b'{"type":"connection_init"}')
SUBSCRIBE = _frame(b'{"id":"1","type":"subscribe","payload":{"query":"subscription { ticks }"}}')


def _connected(base: str) -> socket.socket:
    parts = urlsplit(base)
    return socket.create_connection((parts.hostname, parts.port or 0), timeout=10)


def _reset(connection: socket.socket) -> None:
    """Reset the TCP connection, as the operating system does for a killed client."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def _let_it_notice(base: str) -> None:
    """Send requests until the server has processed everything that it received earlier."""
    for _ in range(3):
        assert httpx.post(f"{base}/graphql", json={"query": "{ hello }"}).status_code == 200


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize(
    "said",
    [
        HEAD[:30],
        HEAD + b"Content-Length: 100\r\n\r\n",
        HEAD + b"Content-Length: 100\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n10\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\nZZ\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
        HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        HEAD + b"Content-Length: 500000\r\n\r\n" + b" " * 20_000,
        HEAD + b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE,
        HANDSHAKE,
        HANDSHAKE + b"\r\n",
        HANDSHAKE + b"Origin: https://evil.example\r\n\r\n",
        HANDSHAKE + b"\r\n" + INIT[:9],
        HANDSHAKE + b"\r\n" + INIT,
        HANDSHAKE + b"\r\n" + INIT + SUBSCRIBE,
        HANDSHAKE + b"\r\n" + INIT + SUBSCRIBE[:40],
        HANDSHAKE.replace(b"graphql-transport-ws", b"graphql-ws") + b"\r\n",
        HANDSHAKE + b"\r\n" + _frame(b"\xff\xfe"),
        HANDSHAKE + b"\r\n" + _frame(b"\xff\xfe", opcode=2),
        HANDSHAKE + b"\r\n" + _frame(b"", opcode=8),
        HANDSHAKE + b"\r\n" + b"\x83\x00\xff",
    ],
)
def test_client_disconnect_logs_no_error(
    base: str, said: bytes, is_reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    connection = _connected(base)
    connection.sendall(said)
    _let_it_notice(base)
    _reset(connection) if is_reset else connection.close()
    _let_it_notice(base)
    assert _errors(caplog) == []


def test_client_disconnect_during_a_long_answer_logs_no_error(
    base: str, caplog: pytest.LogCaptureFixture
) -> None:
    connection = _connected(base)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE)
    assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    _reset(connection)
    _let_it_notice(base)
    assert _errors(caplog) == []


ROUTES = [
    ("POST", "/graphql"),
    ("POST", "/webhooks/livekit"),
    ("GET", f"/subtitles/{'0' * 64}.vtt"),
    ("GET", f"/thumbnails/{'0' * 64}.jpg"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("POST", "/nowhere"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("parts", [[], [b"{"]])
async def test_client_disconnect_during_a_request_logs_no_error_on_any_route(
    harness: ApiHarness, method: str, path: str, parts: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    arriving: list[dict[str, Any]] = [
        *({"type": "http.request", "body": part, "more_body": True} for part in parts),
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return arriving.pop(0) if len(arriving) > 1 else arriving[0]

    async def send(message: Any) -> None:
        """Discard the ASGI message, as the server does after a client has disconnected."""

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"x"), (b"content-type", b"application/json"), (b"content-length", b"100")],
        "client": (ADDRESS, 40000),
        "server": ("x", 80),
    }
    async with asyncio.timeout(20):
        await harness.app(scope, receive, send)
    assert _errors(caplog) == []


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "/graphql/",
        "/graphql//",
        "/webhooks/livekit/",
        f"/subtitles/{'0' * 64}.vtt/",
        "/health/live/",
        "/health/ready/",
        "/",
        "//example.org/graphql/",
    ],
)
async def test_path_with_a_trailing_slash_is_404_without_a_redirect(
    harness: ApiHarness, method: str, path: str
) -> None:
    answer = await harness.http.request(method, f"http://api.test{path}", follow_redirects=False)
    assert answer.status_code == 404
    assert "location" not in answer.headers
    if method != "HEAD":
        (error,) = answer.json()["errors"]
        assert error["extensions"] == {
            "code": "NOT_FOUND",
            "reason": None,
            "retryable": False,
            "requestId": answer.headers["x-request-id"],
            "details": None,
        }
        assert "slash" in error["message"]
