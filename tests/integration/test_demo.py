"""Tests of `resguardo demo` as a user runs it: its output, its files, its exit code, and that no process stays
running.
"""

import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import av
import httpx
import pytest
from av.video.stream import VideoStream

from devstack import postgres
from devstack.api_client import ApiClient
from devstack.demo import Audience, DemoFailed, Report, transcript
from devstack.demo.scene import Scene
from devstack.demo.visit import Visit
from devstack.stack import DEFAULT_ORIGINS
from tests.integration.small_stack import processes_of
from tests.integration.spoken import turns as spoken_turns
from tests.integration.spoken import word_error_rate

DEBIAN = Path("/usr/lib/postgresql/15/bin")
SECONDS = 300
STRAY_SETTINGS = "R2_PUBLIC_URL=https://public.example\nENVIRONMENT=production\nDEPLOYMENT=another\n"
TITLE, TITLE_IN_LATIN_1 = b"Visita de control", b"Visita de ni\xf1os x"


def _make_mp4(path: Path, codec: str = "libx264") -> Path:
    """Write a video file with two seconds of random pixels and a title in its metadata. Each call of the function
    writes a different video.
    """
    with av.open(str(path), mode="w", format="mp4") as container:
        container.metadata["title"] = TITLE.decode()
        stream = container.add_stream(codec, rate=10)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(20):
            frame = av.VideoFrame(64, 64, "yuv420p")
            for plane in frame.planes:
                plane.update(secrets.token_bytes(plane.buffer_size))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _make_ogg(path: Path, layout: str = "stereo") -> Path:
    """Write an Ogg file with three seconds of noise. Each call of the function writes a file with different noise."""
    with av.open(str(path), mode="w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=48_000, layout=layout)
        for number in range(150):
            frame = av.AudioFrame(format="s16", layout=layout, samples=960)
            frame.planes[0].update(secrets.token_bytes(frame.planes[0].buffer_size))
            frame.sample_rate, frame.pts = 48_000, number * 960
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _environment(**changes: str) -> dict[str, str]:
    ours = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
    return {**ours, "PYTHONUNBUFFERED": "1", **changes}


@contextmanager
def _demo(
    directory: Path, *arguments: str, before: str = "", **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Run `resguardo demo` in this directory, and kill the process if the test fails. `before` is Python code that
    the process runs before the command.
    """
    program = (
        f"{before}\nimport sys\nfrom app.cli import main\nsys.argv = ['resguardo', *sys.argv[1:]]\nmain()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "demo", "--data", str(directory / "data"), *arguments],
        cwd=directory,
        env=_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _run(directory: Path, *arguments: str, before: str = "") -> tuple[int, str]:
    with _demo(directory, *arguments, before=before) as process:
        output, _ = process.communicate(timeout=SECONDS)
    return process.returncode, output


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    pytest.fail(f"the demo ended before it printed {text!r}:\n" + "".join(lines))


def _wait_until_nothing_runs(directory: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := processes_of(directory):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_demo_with_any_mp4_and_ogg_passes_reports_and_serves_again_until_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(STRAY_SETTINGS)
    media = _make_mp4(tmp_path / "a room's [bold]pic ture ñ.mp4", "mpeg4")
    media.write_bytes(media.read_bytes().replace(TITLE, TITLE_IN_LATIN_1))
    audio = _make_ogg(tmp_path / "their [bold]voi ces ñ.ogg")
    report_path = tmp_path / "out.json"
    files = ("--media", str(media), "--audio", str(audio), "--json", str(report_path))
    status, output = _run(tmp_path, "--once", *files)
    assert status == 0, output
    assert output.splitlines()[-1] == "demo: ok"
    assert not processes_of(tmp_path)
    _check_report(report_path, media)

    first = json.loads(report_path.read_text())
    assert tuple(first["allowed_origins"]) == DEFAULT_ORIGINS

    media, audio = _make_mp4(tmp_path / "x264.mp4"), _make_ogg(tmp_path / "mono.ogg", "mono")
    arguments = ("--media", str(media), "--audio", str(audio))
    with _demo(
        tmp_path, *arguments, ALLOWED_ORIGINS="https://app.example.org, http://localhost:4000"
    ) as process:
        began = _read_until(process, "Bearer ")
        assert processes_of(tmp_path / "data")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
    assert (process.returncode, rest.splitlines()[-1]) == (0, "stopped")
    assert began.splitlines()[0] == f"{audio} has one channel: it does not tell the speakers apart"
    assert "✗" not in began
    assert "https://app.example.org,http://localhost:4000\n" in began
    for name in ("graphql_url", "supabase_url", "bucket_url", "livekit_url", "publishable_key"):
        assert f" {first[name]}\n" in began, f"the second demo has another {name}"
    assert not processes_of(tmp_path)


def _check_report(path: Path, media: Path) -> None:
    report = json.loads(path.read_text())
    _check_recording(report["recording"], media.read_bytes())
    assert {"steps", "consultation", "recording", "transcript", "audit"} <= set(report)
    assert set(report["logins"]) == {"doctor", "officer", "patient"}
    assert all(set(step) == {"name", "ok", "milliseconds"} for step in report["steps"])
    assert all(step["ok"] is True and step["milliseconds"] >= 0 for step in report["steps"])
    assert len(report["steps"]) > 20
    assert report["audit"]["recording.issue_url"]["ALLOWED"] == 5
    assert report["audit"]["recording.issue_url"]["DENIED"] >= 1
    assert report["audit"]["recording.import"]["ALLOWED"] >= 1
    assert report["audit"]["recording.complete_import"]["ALLOWED"] == 1
    assert report["audit"]["recording.watch"]["ALLOWED"] > 3
    outcomes = {outcome for counts in report["audit"].values() for outcome in counts}
    assert outcomes <= {"ALLOWED", "DENIED", "ABSENT", "FAILED"}
    assert "Bearer" not in path.read_text()


def _check_recording(recording: dict[str, Any], video: bytes) -> None:
    microphones = recording.pop("speakers")
    assert sorted(one.pop("participant") for one in microphones) == ["DOCTOR", "PATIENT"]
    assert len({one["id"] for one in (recording, *microphones)}) == 3
    for medium, seconds in ((recording, 2), *((one, 3.2) for one in microphones)):
        assert set(medium) == {"id", "size", "sha256", "duration"}
        assert medium["duration"] == pytest.approx(seconds, abs=0.4)
    assert (recording["sha256"], recording["size"]) == (hashlib.sha256(video).hexdigest(), len(video))


@contextmanager
def _plain_postgres(directory: Path) -> Iterator[dict[str, str]]:
    """If Debian's package of Postgres 15 is installed, run this Postgres and yield the setting with its URL. If
    Debian's Postgres 15 is not installed, yield no settings, so that the demo starts its embedded Postgres.
    """
    with ExitStack() as stack:
        if not (DEBIAN / "initdb").exists():
            yield {}
            return
        url = stack.enter_context(postgres.running(directory, binaries=DEBIAN, durable=False))
        yield {"DATABASE_URL": url}


def test_demo_transcribes_every_turn_and_leaves_no_process_after_a_kill(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    report_path = tmp_path / "out.json"
    with (
        _plain_postgres(tmp_path_factory.mktemp("plain")) as environment,
        _demo(tmp_path, "--json", str(report_path), **environment) as process,
    ):
        began = _read_until(process, "Bearer ")
        process.kill()
        process.wait(10)
        _wait_until_nothing_runs(tmp_path, 30)
    assert "✗" not in began
    assert (tmp_path / "data" / "postgres").exists() == (not environment)
    report = json.loads(report_path.read_text())
    _check_words(report)
    _check_insights(report, began)
    pieces = len(spoken_turns())
    assert f"\n  {pieces} of {pieces} pieces of speech\n" in began
    for turn in report["transcript"]["turns"]:
        assert f"{turn['start']:7.1f}  {turn['speaker']:<7}  {turn['text']}\n" in began


def _check_words(report: dict[str, Any]) -> None:
    """Compare each turn of the transcript with the text that was spoken in the fixture. Fail if the audit log does
    not contain exactly one row for each access to the transcript.
    """
    heard, said = report["transcript"]["turns"], spoken_turns()
    assert all(set(turn) == {"number", "start", "end", "speaker", "text"} for turn in heard)
    assert [turn["speaker"] for turn in heard] == [turn.speaker for turn in said]
    pairs = list(zip(said, heard, strict=True))
    assert word_error_rate([(one.text, other["text"]) for one, other in pairs]) <= 0.2
    assert median(abs(other["start"] - one.start) for one, other in pairs) <= 0.15
    assert all(turn["start"] < turn["end"] for turn in heard)
    looks = {
        name: counts["ALLOWED"]
        for name, counts in report["audit"].items()
        if name in transcript.TRANSCRIPT_ACTIONS
    }
    assert looks == {"transcript.read": 2, "transcript.search": 1, "transcript.issue_url": 1}
    assert report["audit"]["transcript.read"]["DENIED"] >= 1


def _check_insights(report: dict[str, Any], printed: str) -> None:
    """Compare each quote with its turn. Fail unless the first question has an answer and the second has none."""
    turns = {turn["number"]: turn for turn in report["transcript"]["turns"]}
    insights, answers = report["insights"], report["answers"]
    lists = ("summary", "key_points", "action_items", "topics", "chapters", "highlights", "note_lines")
    lines = [line for name in lists for line in insights[name]]
    assert all(insights[name] for name in ("summary", "key_points", "note_lines"))
    assert insights["writer"] == {"vendor": "resguardo", "model": "resguardo-extract"}
    assert [answer["status"] for answer in answers] == ["ANSWERED", "NOT_FOUND_IN_TRANSCRIPT"]
    assert "penicillin" in answers[0]["lines"][0]["text"]
    assert not answers[1]["lines"]
    for line in (*lines, *answers[0]["lines"]):
        assert {"text", "flags", "citations"} <= set(line)
        assert line["citations"]
        for citation in line["citations"]:
            turn = turns[citation["turn"]]
            assert set(citation) == {"turn", "start", "end", "quote"}
            assert citation["quote"] in turn["text"]
            assert turn["start"] <= citation["start"] < citation["end"] <= turn["end"]
    assert set(report["note"]) == {"version", "sha256", "signed_at", "sections"}
    assert list(report["note"]["sections"]) == ["S", "O", "A", "P"]
    assert report["audit"]["note.sign"] == {"ALLOWED": 1}
    assert set(report["clip"]) == {"id", "start", "end", "size", "sha256"}
    assert (report["clip"]["start"], report["clip"]["end"]) == (0.5, 1.5)
    cost = report["cost"]
    assert {"livekit", "bucket"} <= {group["vendor"] for group in cost["groups"]}
    assert all(group["total_usd"] >= 0 for group in cost["groups"])
    for line in (*insights["summary"], *insights["key_points"]):
        assert f"{line['citations'][0]['start']:7.1f}  {line['text']}\n" in printed


def _demo_transcript(
    *states: dict[str, Any], progress: list[tuple[int, int]] | None = None
) -> transcript.DemoTranscript:
    """Return the demo step that waits for a transcript. Requests of this demo step to the API return the given
    states of the transcription, one after the other.
    """
    told = iter(states)
    http = httpx.AsyncClient(
        transport=httpx.MockTransport(
            lambda _: httpx.Response(200, json={"data": {"recording": {"transcription": next(told)}}})
        )
    )
    heard_of: list[tuple[int, int]] = [] if progress is None else progress
    audience = Audience(
        on_step=lambda _: None, on_progress=lambda *done: heard_of.append(done), on_line=lambda _: None
    )
    none: Any = None
    scene = Scene(none, none, http, Report(), audience, none)
    return transcript.DemoTranscript(
        Visit(scene, ApiClient(http, "http://api", None), "v", "visit", "patient", "room", {}), "r"
    )


def _state(status: str, done: int = 0, total: int | None = None, error: str | None = None) -> dict[str, Any]:
    problem = error and {"code": error, "message": f"the text of {error}"}
    return {"status": status, "chunksDone": done, "chunkCount": total, "problem": problem}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "reason"), [("FAILED", "SPEECH_KEY_REFUSED"), ("OFF", "SPEECH_NOT_CONFIGURED")]
)
async def test_demo_reports_why_a_transcription_failed(
    monkeypatch: pytest.MonkeyPatch, status: str, reason: str
) -> None:
    monkeypatch.setattr(transcript, "_POLL_SECONDS", 0)
    ends = (_state("PENDING"), _state("RUNNING", 1, 3), _state(status, 1, 3, reason))
    with pytest.raises(DemoFailed, match=f"^the recording was not transcribed: {status}, {reason}$"):
        await _demo_transcript(*ends).wait()


@pytest.mark.anyio
async def test_demo_ends_if_the_transcription_makes_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript, "PATIENCE_SECONDS", -1)
    with pytest.raises(DemoFailed, match="RUNNING for -1 s"):
        await _demo_transcript(_state("RUNNING", 1, 3)).wait()


@pytest.mark.anyio
async def test_demo_reports_each_chunk_once_and_accepts_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transcript, "_POLL_SECONDS", 0)
    counts = (0, None), (0, 2), (1, 2), (1, 2), (2, 2)
    running = [_state("RUNNING", *count) for count in counts]
    progress: list[tuple[int, int]] = []
    assert await _demo_transcript(*running, _state("NO_SPEECH", 2, 2), progress=progress).wait() is False
    assert progress == [(0, 2), (1, 2), (2, 2)]


_FAILING = textwrap.dedent(
    """
    from devstack.demo import DemoFailed
    from devstack.demo.visit import Visit

    async def fail(self, *whoever):
        raise DemoFailed("the consent [/] did not hold")

    Visit.consent = fail
    """
)


def test_demo_that_fails_midway_says_where_and_leaves_nothing(tmp_path: Path) -> None:
    status, output = _run(tmp_path, "--once", "--json", str(tmp_path / "out.json"), before=_FAILING)
    assert status == 1, output
    assert output.splitlines()[-1] == "demo: failed: the consent [/] did not hold"
    assert "✗ the patient and the doctor consent" in output
    assert not processes_of(tmp_path)
    steps = json.loads((tmp_path / "out.json").read_text())["steps"]
    assert [step["ok"] for step in steps][-1] is False


@pytest.mark.parametrize("content", [b"", b"not a film\n" * 1000, b"\0\0\0\x20ftypisom" + b"\0" * 5000, None])
def test_file_that_is_no_mp4_is_refused_before_anything_starts(tmp_path: Path, content: bytes | None) -> None:
    media = tmp_path / "notes [bold] of a visit.mp4"
    if content is not None:
        media.write_bytes(content)
    status, output = _run(tmp_path, "--once", "--media", str(media))
    assert status == 2
    assert output.splitlines() == [f"{media} is not an MP4 file that can be read"]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [b"", b"not a sound\n" * 1000, b"OggS" + b"\0" * 5000, None])
def test_file_that_is_no_ogg_is_refused_before_anything_starts(tmp_path: Path, content: bytes | None) -> None:
    audio = tmp_path / "notes [bold] of a visit.ogg"
    if content is not None:
        audio.write_bytes(content)
    status, output = _run(tmp_path, "--once", "--audio", str(audio))
    assert status == 2
    assert output.splitlines() == [f"{audio} is not an Ogg file that can be read"]
    assert not (tmp_path / "data").exists()


def test_report_that_cannot_be_written_is_refused_before_anything_starts(tmp_path: Path) -> None:
    report = tmp_path / "no [bold] directory" / "out.json"
    status, output = _run(tmp_path, "--once", "--json", str(report))
    assert status == 2, output
    assert output.splitlines() == [f"{report} cannot be written: No such file or directory"]
    assert not (tmp_path / "data").exists()


def test_video_given_as_sound_is_refused(tmp_path: Path) -> None:
    film = _make_mp4(tmp_path / "film.ogg")
    status, output = _run(tmp_path, "--once", "--audio", str(film))
    assert status == 2, output
    assert output.splitlines() == [f"{film} is not an Ogg file that can be read"]


def test_directory_and_sound_of_another_format_are_refused(tmp_path: Path) -> None:
    matroska = tmp_path / "film.mp4"
    with av.open(str(matroska), mode="w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 64
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode())
    for media in (tmp_path, matroska):
        status, output = _run(tmp_path, "--once", "--media", str(media))
        assert status == 2, output
        assert output.splitlines() == [f"{media} is not an MP4 file that can be read"]
