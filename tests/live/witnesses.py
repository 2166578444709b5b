"""A second receiver of the real server's webhooks, which stores them unchanged."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass(frozen=True)
class Webhook:
    """A webhook: its bytes and its signature."""

    body: bytes = field(repr=False)
    authorization: str = field(repr=False)
    content_type: str


@dataclass
class Witness:
    """The webhooks that arrived at `url`, oldest first."""

    url: str = ""
    webhooks: list[Webhook] = field(default_factory=list)

    def of(self, event: str, room_name: str) -> list[Webhook]:
        """Return the received webhooks with this event type and room, which the method finds in the webhooks' text."""
        marks = (f'"event":"{event}"', f'"name":"{room_name}"')
        return [one for one in self.webhooks if all(mark.encode() in one.body for mark in marks)]


@contextmanager
def listening() -> Iterator[Witness]:
    """Run an HTTP server that receives webhooks on a free port until the end of the block."""
    witness = Witness()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = self.headers
            witness.webhooks.append(Webhook(body, headers["authorization"], headers["content-type"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        witness.url = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield witness
        finally:
            server.shutdown()
            thread.join()
