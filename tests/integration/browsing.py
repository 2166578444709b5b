"""Runs the TypeScript example in a page of a headless Chromium. The test page's origin differs from those of the
demo's services, so all requests from the page to these services are cross-origin requests.
"""

import json
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from devstack.children import dying_with_parent
from tests.browsers import authenticator_code

PAGE = Path(__file__).with_name("browser_page.html")
SECONDS = 180
STEPS = (
    "sign in",
    "list",
    "refresh",
    "play",
    "crossorigin",
    "renew",
    "transcript",
    "subtitles by blob",
    "track",
    "renew no fresh URL, whatever the clock says",
    "subscribe",
    "import",
    "no second factor, no subscription",
    "sign out",
)
"""The steps that the page runs, in this order."""


def find_chromium() -> str | None:
    """Return the path of an installed Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


def browse(
    chromium: str, example: Path, project: Mapping[str, Any], port: int, profile: Path
) -> dict[str, str]:
    """Open the test page in Chromium, and return the result of each step of the TypeScript example. The TypeScript
    example must be installed and compiled.
    """
    site = _Site(example, project)
    with _served(site, port), _chromium(chromium, f"http://127.0.0.1:{port}/", profile):
        return site.results.get(timeout=SECONDS)


class _Site:
    """The HTTP server of the browser page. This HTTP server delivers a test page, the modules of the TypeScript
    example, and the demo's report.
    """

    def __init__(self, example: Path, project: Mapping[str, Any]) -> None:
        self._example = example
        self._project = project
        self.results: queue.Queue[dict[str, str]] = queue.Queue()

    def find(self, path: str) -> tuple[bytes, str] | None:
        """Return the content that the page's server has at this URL path, and the content's media type, or None if
        the path is unknown.
        """
        if path == "/":
            return PAGE.read_bytes(), "text/html"
        if path == "/project.json":
            return json.dumps(self._project).encode(), "application/json"
        if path == "/code":
            return authenticator_code(self._project["logins"]["doctor"]["otpauth"]).encode(), "text/plain"
        file = self._example / path[1:]
        if not path.startswith(("/dist/", "/node_modules/")) or not file.is_file():
            return None
        is_script = file.suffix in (".js", ".mjs")
        return file.read_bytes(), "text/javascript" if is_script else "application/octet-stream"


class _Handler(BaseHTTPRequestHandler):
    site: _Site

    def do_GET(self) -> None:
        found = self.site.find(self.path.partition("?")[0])
        if found is None:
            self.send_error(404)
        else:
            self._answer(*found)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"", "text/plain")
        self.site.results.put(json.loads(body))

    def log_message(self, *_: object) -> None:
        """Do not log the page's requests, because pytest shows the page's results."""

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def _served(site: _Site, port: int) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"site": site}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _chromium(command: str, url: str, profile: Path) -> Iterator[None]:
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
    process = subprocess.Popen(
        [command, *flags, f"--user-data-dir={profile}", url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=dying_with_parent(signal.SIGKILL),
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
