"""Imports a recording that was made elsewhere, as its doctor."""

from typing import Any

from devstack import documents
from devstack.demo.report import require
from devstack.demo.sources import digest_of, pieces_of
from devstack.demo.visit import Visit


async def import_video(visit: Visit) -> Any:
    """Declare and upload the MP4 of the room, complete the import, and return the READY recording."""
    source = visit.scene.sources.media
    digest = await digest_of(source)
    declared = {
        "consultationId": visit.id,
        "contentType": "video/mp4",
        "sizeBytes": digest.size_bytes,
        "sha256": digest.sha256,
    }
    found = (await visit.api.ask(documents.IMPORT, wanted=declared))["importRecording"]["recordingImport"]
    headers = {header["name"]: header["value"] for header in found["uploadHeaders"]}
    stored = await visit.scene.http.put(found["uploadUrl"], content=pieces_of(source), headers=headers)
    require(stored.status_code == 200, f"the store answered {stored.status_code} to the upload")
    completed = (await visit.api.ask(documents.COMPLETE_IMPORT, id=found["id"]))["completeImport"][
        "recording"
    ]
    recording = await visit.wait_for(completed["id"], "READY")
    require(recording["sha256"] == digest.sha256, "the SHA-256 of the import differs")
    return recording
