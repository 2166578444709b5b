"""Shows how the doctor cuts a clip out of a recording."""

import asyncio
import hashlib
import time
from typing import Final

from devstack import documents
from devstack.demo.report import require
from devstack.demo.visit import Visit, problem_of

PATIENCE_SECONDS: Final = 180
CLIP_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.25


async def make_clip(visit: Visit, recording_id: str) -> None:
    """Cut a clip of one second, wait until it is READY, and download it. Raises DemoFailed."""
    scene = visit.scene
    async with scene.step("the doctor makes a clip of one second, which the worker encodes anew"):
        asked = {
            "recordingId": recording_id,
            "startSeconds": 0.5,
            "endSeconds": 0.5 + CLIP_SECONDS,
            "purposeOfUse": "TREATMENT",
        }
        clip = (await visit.api.ask(documents.CREATE_CLIP, asked=asked))["createClip"]["clip"]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while clip["status"] in ("PENDING", "RUNNING"):
            require(time.monotonic() < deadline, f"the clip was not made within {PATIENCE_SECONDS} s")
            await asyncio.sleep(_POLL_SECONDS)
            found = (await visit.api.ask(documents.CLIPS, id=recording_id))["recording"]["clips"]
            clip = next(one for one in found if one["id"] == clip["id"])
        require(clip["status"] == "READY", f"the clip ended {clip['status']}: {problem_of(clip)}")
        issued = await visit.api.ask(documents.ISSUE_URL, recordingId=recording_id, file=clip["id"])
        answer = await scene.http.get(issued["issueDownloadUrl"]["downloadUrl"]["url"])
        require(hashlib.sha256(answer.content).hexdigest() == clip["sha256"], "the clip has other bytes")
    scene.report.clip = {
        "id": clip["id"],
        "start": clip["startSeconds"],
        "end": clip["endSeconds"],
        "size": clip["sizeBytes"],
        "sha256": clip["sha256"],
    }
