"""Tests of what a web developer does first with the running demo: sign in with its logins, send requests from a web
page, and join people to the room of a new consultation.
"""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import av
import httpx
import pytest

from devstack import documents, showing
from devstack.children import free_port
from devstack.stack import DEFAULT_ORIGINS
from tests.browsers import Answer, Blocked, Page, authenticator_code
from tests.integration import browsing
from tests.integration.spoken import FIXTURES
from tests.integration.test_demo import _demo, _environment, _make_mp4, _read_until

ROOT = Path(__file__).parent.parent.parent
ORIGIN = "http://localhost:5173"
ROLES = {"doctor": "clinician", "officer": "compliance", "patient": "patient"}
PATIENCE_SECONDS = 60
LATEST = """
query ($id: ID!) {
  recordings(first: 1, filter: { consultation: { id: $id } }) { edges { node { id status problem { code } } } }
}
"""


class App:
    """A web app with one page, on which one person signs in. The web app takes all its settings from the demo's
    report.
    """

    def __init__(self, page: Page, project: Mapping[str, Any]) -> None:
        self._page = page
        self._project = project
        self._key = {"apikey": project["publishable_key"], "X-Client-Info": "supabase-js-web/2"}
        self._token = ""

    async def sign_in(self, login: Mapping[str, str]) -> None:
        """Sign in with a password and a second factor, with the same requests as supabase-js."""
        credentials = {"email": login["email"], "password": login["password"]}
        session = await self._auth("POST", "/token?grant_type=password", credentials)
        self._token = session["access_token"]
        (factor,) = (await self._auth("GET", "/user"))["factors"]
        challenge = await self._auth("POST", f"/factors/{factor['id']}/challenge", {})
        code = {"challenge_id": challenge["id"], "code": authenticator_code(login["otpauth"])}
        self._token = (await self._auth("POST", f"/factors/{factor['id']}/verify", code))["access_token"]

    async def ask(self, document: str, **variables: object) -> Any:
        """Return the whole answer to a GraphQL operation, including its errors."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        body = json.dumps({"query": document, "variables": variables}).encode()
        return json.loads(
            (await self._page.fetch("POST", self._project["graphql_url"], headers, body)).content
        )

    async def data(self, document: str, **variables: object) -> Any:
        """Return the data of a GraphQL operation, and fail if the answer contains errors."""
        answer = await self.ask(document, **variables)
        assert "errors" not in answer, answer
        return answer["data"]

    async def send(self, method: str, url: str, headers: Mapping[str, str], content: bytes = b"") -> Answer:
        """Send an HTTP request from the web page to the bucket."""
        return await self._page.fetch(method, url, headers, content)

    async def _auth(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        headers = self._key | {"Content-Type": "application/json;charset=UTF-8"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        content = None if body is None else json.dumps(body).encode()
        url = f"{self._project['supabase_url']}/auth/v1{path}"
        answer = await self._page.fetch(method, url, headers, content)
        assert answer.status == 200, answer
        return json.loads(answer.content)


def _join(directory: Path, consultation: str, *options: str) -> tuple[int, str]:
    program = "import sys\nfrom app.cli import main\nsys.argv = ['resguardo', *sys.argv[1:]]\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, "demo", "--data", "data", "join", consultation, *options],
        cwd=directory,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


async def _everybody_signs_in(http: httpx.AsyncClient, project: Mapping[str, Any]) -> App:
    """Sign in with each of the demo's logins, and check the role that the API reports. Return the doctor's app."""
    apps = {name: App(Page(http, ORIGIN), project) for name in ROLES}
    for name, role in ROLES.items():
        await apps[name].sign_in(project["logins"][name])
        viewer = (await apps[name].data("{ viewer { role assuranceLevel } }"))["viewer"]
        assert viewer == {"role": role.upper(), "assuranceLevel": "AAL2"}
    return apps["doctor"]


async def _records_a_consultation_of_his_own(doctor: App, directory: Path) -> str:
    external_id = "mine 1' or true"
    asked = {
        "externalId": external_id,
        "patientExternalId": "P-1",
        "scheduledAt": datetime.now(UTC).isoformat(),
    }
    consultation = (await doctor.data(documents.REGISTER, consultation=asked))["registerConsultation"][
        "consultation"
    ]["id"]
    refused = await doctor.ask(documents.START_RECORDING, consultationId=consultation)
    assert refused["errors"][0]["extensions"]["reason"] == "CONSENT_MISSING"
    status, output = await anyio.to_thread.run_sync(_join, directory, consultation, "--no-consents")
    assert (status, output.count("is in the room; has not consented")) == (0, 2), output
    status, output = await anyio.to_thread.run_sync(_join, directory, external_id)
    assert (status, output.count("was in the room; consents now")) == (0, 2), output
    started = await doctor.data(documents.START_RECORDING, consultationId=consultation)
    recording = started["startRecording"]["recording"]["id"]
    await _wait_for(doctor, consultation, "RECORDING")
    await doctor.data(documents.STOP_RECORDING, recordingId=recording)
    await _wait_for(doctor, consultation, "READY")
    return str(recording)


async def _wait_for(doctor: App, consultation: str, status: str) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            (edge,) = (await doctor.data(LATEST, id=consultation))["recordings"]["edges"]
            if edge["node"]["status"] == status:
                return
            assert edge["node"]["problem"] is None
            await anyio.sleep(0.1)


async def _plays_and_uploads(doctor: App, project: Mapping[str, Any], recording: str, film: bytes) -> None:
    url = (await doctor.data(documents.ISSUE_URL, recordingId=recording))["issueDownloadUrl"]["downloadUrl"][
        "url"
    ]
    assert url.startswith(project["bucket_url"] + "/")
    part = await doctor.send("GET", url, {"Range": "bytes=0-99"})
    assert (part.status, part.content, "content-range" in part.headers) == (206, film[:100], True)
    declared = {"consultationId": project["consultation"]["id"], "sizeBytes": len(film)}
    wanted = (await doctor.data(documents.IMPORT, wanted=declared))["importRecording"]["recordingImport"]
    headers = {header["name"]: header["value"] for header in wanted["uploadHeaders"]}
    headers.pop("Content-Length")  # A page may not set this header: its browser does
    assert (await doctor.send("PUT", wanted["uploadUrl"], headers, film)).status == 200
    completed = (await doctor.data(documents.COMPLETE_IMPORT, id=wanted["id"]))["completeImport"]["recording"]
    assert completed["status"] in ("VERIFYING", "READY")


async def _other_origins_get_nothing(http: httpx.AsyncClient, project: Mapping[str, Any]) -> None:
    page = Page(http, "http://localhost:5174")
    with pytest.raises(Blocked):
        await page.fetch(
            "POST",
            project["graphql_url"],
            {"Content-Type": "application/json"},
            b'{"query": "{ __typename }"}',
        )
    with pytest.raises(Blocked):
        await page.fetch("GET", project["bucket_url"] + "/any")


async def _spend_the_hour(directory: Path, project: Mapping[str, Any], film: bytes) -> None:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        doctor = await _everybody_signs_in(http, project)
        recording = await _records_a_consultation_of_his_own(doctor, directory)
        await _plays_and_uploads(doctor, project, recording, film)
        await _other_origins_get_nothing(http, project)
    status, output = await anyio.to_thread.run_sync(_join, directory, "nobody's")
    assert (status, output) == (
        1,
        "there is no consultation nobody's: give its id or its external id\n",
    )


def _make_speech(path: Path, seconds: float = 6) -> Path:
    """Write the first `seconds` of a spoken consultation to a file, without encoding the sound again."""
    with av.open(str(FIXTURES / "headache.dual.ogg")) as whole, av.open(str(path), "w", format="ogg") as part:
        spoken = whole.streams.audio[0]
        stream = part.add_stream_from_template(spoken)
        for packet in whole.demux(spoken):
            if (
                packet.pts is not None
                and packet.time_base is not None
                and packet.pts * packet.time_base < seconds
            ):
                packet.stream = stream
                part.mux(packet)
    return path


def test_web_developer_uses_the_demo_by_what_it_prints_and_writes(tmp_path: Path) -> None:
    media, audio = _make_mp4(tmp_path / "room.mp4"), _make_speech(tmp_path / "voices.ogg")
    *ports, page_port = [free_port() for _ in range(5)]
    origins = (ORIGIN, f"http://127.0.0.1:{page_port}")
    options = ("--port", "--auth-port", "--store-port", "--livekit-port")
    asked = [text for option, port in zip(options, ports, strict=True) for text in (option, str(port))]
    written = tmp_path / "out.json"
    files = ("--media", str(media), "--audio", str(audio), "--json", str(written))
    with _demo(tmp_path, *files, *asked, ALLOWED_ORIGINS=",".join(origins)) as process:
        printed = _read_until(process, "Bearer ")
        project = json.loads(written.read_text())
        _check_coordinates(project, printed, ports, origins)
        anyio.run(_spend_the_hour, tmp_path, project, media.read_bytes())
        _run_the_example(tmp_path, written, page_port)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert _join(tmp_path, project["consultation"]["id"]) == (
        1,
        "no demo runs in data: start one with `resguardo demo`, and leave it running\n",
    )


def _run_the_example(directory: Path, report: Path, page_port: int) -> None:
    """Run the TypeScript example against the running demo, in Node and in Chromium if they are installed."""
    npm = shutil.which("npm")
    if npm is None:
        return
    copy = directory / "resguardo" / "examples" / "typescript"
    shutil.copytree(
        ROOT / "examples" / "typescript",
        copy,
        ignore=shutil.ignore_patterns("node_modules", "dist", "graphql"),
    )
    shutil.copytree(ROOT / "graphql_schema", directory / "resguardo" / "graphql_schema")
    for command in (
        ("ci", "--ignore-scripts", "--loglevel=error"),
        ("run", "generate"),
        ("run", "smoke", "--", str(report)),
    ):
        done = subprocess.run(
            [npm, *command], cwd=copy, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "example: ok" in done.stdout
    chromium = browsing.find_chromium()
    if chromium is not None:
        project = json.loads(report.read_text())
        found = browsing.browse(chromium, copy, project, page_port, directory / "profile")
        assert found == dict.fromkeys(browsing.STEPS, "ok")


def _check_coordinates(
    project: Mapping[str, Any], printed: str, ports: list[int], origins: tuple[str, ...]
) -> None:
    api, auth, store, livekit = ports
    assert project["graphql_url"] == f"http://127.0.0.1:{api}/graphql"
    assert project["subscriptions_url"] == f"ws://127.0.0.1:{api}/graphql"
    assert project["supabase_url"] == f"http://127.0.0.1:{auth}"
    assert project["bucket_url"] == f"http://127.0.0.1:{store}/resguardo"
    assert project["livekit_url"] == f"http://127.0.0.1:{livekit}"
    assert tuple(project["allowed_origins"]) == origins
    assert ",".join(origins) in printed
    assert set(project["logins"]) == set(ROLES)
    shown = [project[name] for name in ("graphql_url", "supabase_url", "publishable_key", "bucket_url")]
    shown += [value for login in project["logins"].values() for value in login.values()]
    assert [value for value in shown if value not in printed] == []


def test_origins_that_are_none_are_refused_before_anything_starts(tmp_path: Path) -> None:
    with _demo(tmp_path, "--once", ALLOWED_ORIGINS="http://localhost:3000/") as process:
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    why = "must name origins (https://app.example.org), without path or wildcard"
    assert (process.returncode, output) == (2, f"ALLOWED_ORIGINS {why}\n")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("setting", ["*", "https://*.example.org", "localhost:3000", "https://a.example, b"])
def test_origins_are_refused_as_the_api_refuses_them(setting: str) -> None:
    with pytest.raises(showing.BadOrigins, match=r"^ALLOWED_ORIGINS must name origins"):
        showing._origins(setting)


def test_origins_may_be_named_or_none_at_all() -> None:
    assert showing._origins(" http://a.example ,http://b.example:1") == (
        "http://a.example",
        "http://b.example:1",
    )
    assert (
        showing._origins(None)
        == DEFAULT_ORIGINS
        == (
            "http://localhost:3000",
            "http://localhost:5173",
            "http://127.0.0.1:3000",
            "http://127.0.0.1:5173",
        )
    )
    assert showing._origins("") == ()
