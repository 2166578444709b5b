"""Shows how the worker makes a transcript from a recording's sound, and how the doctor reads it, searches it, and
displays it as subtitles.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from devstack import documents
from devstack.demo.report import SpokenTurn, require
from devstack.demo.scene import Scene
from devstack.demo.visit import Visit, problem_of

PATIENCE_SECONDS: Final = 120
"""The longest wait for the next piece, or for the plan. The whole transcription may take longer."""
TRANSCRIPT_ACTIONS: Final = {"transcript.read": 2, "transcript.search": 1, "transcript.issue_url": 1}
"""The actions of the steps below by the audit log's names. A player that fetches subtitles reads the transcript."""
_POLL_SECONDS = 0.25
_PHRASE_WORDS = 3


async def show_transcript(visit: Visit, recording_id: str) -> Mapping[str, int]:
    """Run the demo's steps with the transcript. Return how often each action read the transcript, or an empty
    mapping if nobody speaks in the recording. Raises DemoFailed.
    """
    scene, transcript = visit.scene, DemoTranscript(visit, recording_id)
    recogniser = scene.report.heard_with = await _recogniser(scene)
    async with scene.step(f"the worker transcribes the recording with {recogniser}, in the background"):
        is_spoken = await transcript.wait()
    if not is_spoken:
        scene.audience.on_line("nobody says a word in it")
        return {}
    async with scene.step("the doctor reads the transcript, with the speaker and the time of each turn"):
        turns = scene.report.turns = await transcript.read()
    for turn in turns:
        scene.audience.on_line(_line(turn.start, turn.speaker, turn.text))
    async with scene.step(
        "the doctor finds the recording by a phrase, although the database stores its text only in encrypted form"
    ):
        found = await transcript.search(_phrase(turns))
    scene.audience.on_line(found)
    async with scene.step(
        "a player loads the transcript as subtitles from a URL that expires within minutes"
    ):
        cue = await transcript.subtitles(len(turns))
    scene.audience.on_line(cue)
    return TRANSCRIPT_ACTIONS


class DemoTranscript:
    """Waits for, reads and searches the transcript of one READY recording."""

    def __init__(self, visit: Visit, recording_id: str) -> None:
        self._visit = visit
        self._recording_id = recording_id

    async def wait(self) -> bool:
        """Wait for the transcript. Return False if nobody speaks in the recording. Raises DemoFailed if the
        transcription fails or makes no progress.
        """
        seen, moved_at = None, time.monotonic()
        while True:
            found = await self._visit.transcription(self._recording_id)
            pieces = (found["chunksDone"], found["chunkCount"])
            if pieces != seen:
                seen, moved_at = pieces, time.monotonic()
                self._tell(*pieces)
            if found["status"] in ("READY", "NO_SPEECH"):
                return bool(found["status"] == "READY")
            require(
                found["status"] in ("PENDING", "RUNNING"),
                f"the recording was not transcribed: {found['status']}, {problem_of(found)}",
            )
            require(
                time.monotonic() < moved_at + PATIENCE_SECONDS,
                f"the recording was not transcribed: {found['status']} for {PATIENCE_SECONDS} s",
            )
            await asyncio.sleep(_POLL_SECONDS)

    async def read(self) -> list[SpokenTurn]:
        """Read the transcript through GraphQL, as the doctor."""
        read = (await self._visit.api.ask(documents.TRANSCRIPT, id=self._recording_id))["transcript"]
        turns = [
            SpokenTurn(
                turn["number"],
                turn["startSeconds"],
                turn["endSeconds"],
                turn["speaker"].lower(),
                turn["text"],
            )
            for turn in read["turns"]
        ]
        require(bool(turns), "the transcript has no turn")
        return turns

    async def search(self, phrase: str) -> str:
        """Search for the phrase, and return the place of the hit in the transcript as one line. Raises DemoFailed
        if the search does not find the phrase in this recording.
        """
        asked: dict[str, Any] = {"query": f'"{phrase}"', "filter": {"consultation": {"id": self._visit.id}}}
        hits = (await self._visit.api.ask(documents.SEARCH, **asked))["transcriptSearch"]["hits"]
        require(
            {hit["recording"]["id"] for hit in hits} == {self._recording_id},
            "the search does not find its words",
        )
        hit = hits[0]
        require(any(part["isMatch"] for part in hit["snippet"]), "the search does not show where it was said")
        excerpt = "".join(part["text"] for part in hit["snippet"])
        return f'"{phrase}": ' + _line(hit["startSeconds"], hit["speaker"].lower(), excerpt).lstrip()

    async def subtitles(self, turns: int) -> str:
        """Fetch the subtitles without a token, as a player does, and return the first cue as one line. Raises
        DemoFailed.
        """
        issued = await self._visit.api.ask(documents.ISSUE_SUBTITLES, id=self._recording_id)
        stack, http = self._visit.scene.stack, self._visit.scene.http
        answer = await http.get(stack.api_url + issued["issueSubtitleUrls"]["subtitleUrls"]["webvtt"])
        require(answer.status_code == 200, f"the subtitles were answered {answer.status_code}")
        head, *cues = answer.text.rstrip("\n").split("\n\n")
        require(head == "WEBVTT" and len(cues) >= turns, "the subtitles are not all of it in WebVTT")
        return " ".join(cues[0].splitlines())

    def _tell(self, done: int, total: int | None) -> None:
        if total:
            self._visit.scene.audience.on_progress(done, total)


async def _recogniser(scene: Scene) -> str:
    """The name of the speech recogniser in the stand-in for OpenAI."""
    environment = scene.stack.environment
    url = environment["OPENAI_BASE_URL"].removesuffix("/v1")
    headers = {"Authorization": f"Bearer {environment['OPENAI_API_KEY']}"}
    answer = await scene.http.get(f"{url}/stand-in/recogniser", headers=headers)
    require(answer.status_code == 200, f"the stand-in for OpenAI answered {answer.status_code}")
    return str(answer.json()["name"])


def _line(start: float, speaker: str, text: str) -> str:
    return f"{start:7.1f}  {speaker:<7}  {text}"


def _phrase(turns: list[SpokenTurn]) -> str:
    """Return some consecutive words from the middle of the longest turn."""
    words = max(turns, key=lambda turn: len(turn.text)).text.split()
    middle = max(0, len(words) // 2 - 1)
    return " ".join(words[middle : middle + _PHRASE_WORDS])
