"""A stand-in for an OpenAI-compatible service. The stand-in has only the endpoint that `resguardo check` calls: the
list of models, which requires an API key as a bearer token.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-the-right-key"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer `GET /v1/models` in the format that OpenAI's API reference shows (platform.openai.com, read
        2026-11-21).
        """
        if self.path != "/v1/models":
            self._answer(404, {"error": {"message": "unknown url", "type": "invalid_request_error"}})
        elif self.headers["Authorization"] == "Bearer sk-busy":
            self._answer(503, {"error": {"message": "overloaded", "type": "server_error"}})
        elif self.headers["Authorization"] == "Bearer sk-poor":
            self._answer(429, {"error": {"message": "no credit", "type": "insufficient_quota", "code": None}})
        elif self.headers["Authorization"] == "Bearer sk-over":
            self._answer(401, {"error": {"message": "over", "code": "account_deactivated"}})
        elif self.headers["Authorization"] != f"Bearer {KEY}":
            given = self.headers["Authorization"]
            error = {"message": f"Incorrect API key provided: {given}", "code": "invalid_api_key"}
            self._answer(401, {"error": error})
        else:
            model = {"id": "model-1", "object": "model", "created": 1, "owned_by": "x"}
            self._answer(200, {"object": "list", "data": [model]})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Log nothing."""


@contextmanager
def running() -> Iterator[str]:
    """Run the server. Yield its base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
