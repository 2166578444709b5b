"""Downloads recordings as their doctor, and checks that the files are correct and that altered or expired URLs
fail.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.integrations.storage.client import Storage
from devstack import documents
from devstack.api_client import ApiClient
from devstack.demo.report import require
from devstack.demo.scene import Scene
from devstack.demo.sources import digest_of

_EXPIRED_SECONDS = 2.1
"""How long to wait for the expiry of a URL of one second, because the store compares whole seconds."""


@dataclass(frozen=True)
class BriefUrl:
    """A URL that is valid for one second, and the monotonic time at which it was signed."""

    url: str
    signed_at: float


class Downloads:
    """Downloads the media of one READY recording as its doctor."""

    def __init__(self, scene: Scene, api: ApiClient, recording: Any) -> None:
        self._scene = scene
        self._api = api
        self._recording = recording

    async def take_video(self) -> str:
        """Download the video, check that it equals the source, and return its URL."""
        recording = self._recording
        listed = (await self._api.ask(documents.RECORDINGS))["recordings"]["edges"]
        require(
            [edge["node"]["id"] for edge in listed] == [recording["id"]], "the list is not this recording"
        )
        stored = (await self._api.ask(documents.RECORDING_STORAGE, id=recording["id"]))["storedObject"]
        require(stored["sizeBytes"] == recording["sizeBytes"], "the bucket's size differs")
        url = await self._take(recording, self._scene.sources.media)
        self._scene.report.recording |= _told(recording)
        return url

    async def take_speakers(self) -> None:
        """Download the sound of each microphone that was recorded beside the video."""
        sounds = self._recording["mediaFiles"]
        for sound in sounds:
            await self._take(sound, None)
        self._scene.report.recording["speakers"] = [
            _told(sound) | {"participant": sound["participant"] and sound["participant"]["kind"]}
            for sound in sounds
        ]

    async def refuse_altered(self, url: str) -> None:
        """Check that the URL fails if one byte of its path or of any of its parameters is changed."""
        for altered in _altered(url):
            answer = await self._scene.http.get(altered)
            require(answer.status_code in (400, 403), "an altered URL was not refused")

    def sign_briefly(self, url: str) -> BriefUrl:
        """Sign a second URL of the object that `url` addresses, valid for one second."""
        environment = self._scene.stack.environment
        reader = Storage(
            endpoint_url=environment["R2_ENDPOINT_URL"],
            bucket=environment["R2_BUCKET_NAME"],
            credentials=self._scene.stack.store.reader,
        )
        key = urlsplit(url).path.removeprefix(f"/{environment['R2_BUCKET_NAME']}/")
        with closing(reader):
            brief = reader.presign_get(key, expires_in_seconds=1, filename="late.mp4")
        return BriefUrl(brief, time.monotonic())

    async def refuse_expired(self, brief: BriefUrl) -> None:
        """Wait until the URL has expired, and check that it fails."""
        await asyncio.sleep(max(0, brief.signed_at + _EXPIRED_SECONDS - time.monotonic()))
        answer = await self._scene.http.get(brief.url)
        require(answer.status_code == 403, "an expired URL was served")

    async def _take(self, medium: Any, source: Path | None) -> str:
        """Download a media file, check that it equals `source` if one is given, and return its URL."""
        issued = await self._api.ask(
            documents.ISSUE_URL, recordingId=self._recording["id"], file=medium["id"]
        )
        url = str(issued["issueDownloadUrl"]["downloadUrl"]["url"])
        downloaded, size = hashlib.sha256(), 0
        async with self._scene.http.stream("GET", url) as answer:
            require(answer.status_code == 200, "the download failed")
            async for piece in answer.aiter_bytes():
                downloaded.update(piece)
                size += len(piece)
        require(downloaded.hexdigest() == medium["sha256"], "the SHA-256 differs")
        require(medium["sizeBytes"] == size, "the size differs")
        if source is not None:
            require(downloaded.hexdigest() == (await digest_of(source)).sha256, "it is not the source")
        return url


def _told(medium: Any) -> dict[str, object]:
    """Return the demo report's entry about this media file."""
    return {
        "id": medium["id"],
        "size": medium["sizeBytes"],
        "sha256": medium["sha256"],
        "duration": medium["durationSeconds"],
    }


def _altered(url: str) -> Iterator[str]:
    """Yield altered copies of the URL: one with one byte of the path changed, and for each parameter one with one
    byte of its value changed.
    """
    head, query = url.split("?", 1)
    yield f"{head[:-5]}{_other(head[-5])}{head[-4:]}?{query}"
    parameters = query.split("&")
    for index, parameter in enumerate(parameters):
        changed = parameter[:-1] + _other(parameter[-1])
        yield head + "?" + "&".join([*parameters[:index], changed, *parameters[index + 1 :]])


def _other(character: str) -> str:
    return "0" if character != "0" else "1"
