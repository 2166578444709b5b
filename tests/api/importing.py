"""Test helpers that import recordings like a client, and the GraphQL operations that they send."""

import asyncio
from typing import Any

import httpx

from tests.api.documents import RECORDING
from tests.api.harness import MEDIA, Answer, ApiHarness, Case

_RECORDING = RECORDING.split("{ recording(by: {id: $id}) ")[1].rsplit("}", 1)[0]

IMPORT = """
mutation ($import: ImportRecordingInput!) {
  importRecording(input: $import) {
    recordingImport {
      id consultation { id externalId } status uploadUrl uploadHeaders { name value } recordedAt expiresAt
      expiresInSeconds
    }
  }
}
"""
COMPLETE_IMPORT_WHOLE = """
mutation ($importId: ID!) {
  completeImport(input: { importId: $importId }) {
    recordingImport {
      id consultation { id externalId } status uploadUrl uploadHeaders { name value } recordedAt expiresAt
      expiresInSeconds
    }
    recording { id status consultation { id } }
  }
}
"""
COMPLETE_IMPORT = f"""
mutation ($importId: ID!) {{ completeImport(input: {{importId: $importId}}) {{ recording {_RECORDING} }} }}
"""

CONTENT = MEDIA.read_bytes()


def import_input(case: Case, content: bytes = CONTENT, **given: object) -> dict[str, object]:
    """Return the input with which a client declares a recording to import."""
    return {"consultationId": case.id, "contentType": "video/mp4", "sizeBytes": len(content)} | given


async def send_import(harness: ApiHarness, case: Case, content: bytes = CONTENT, **given: object) -> Answer:
    """Send the mutation `importRecording` while the worker runs, and return the API's answer."""
    asking = asyncio.create_task(case.doctor.send(IMPORT, **{"import": import_input(case, content, **given)}))
    while not asking.done():
        await harness.work()
        await asyncio.sleep(0.005)
    return await asking


async def prepare_import(
    harness: ApiHarness, case: Case, content: bytes = CONTENT, **given: object
) -> dict[str, Any]:
    """Return a new import whose upload URL the worker has already signed."""
    found: dict[str, Any] = (await send_import(harness, case, content, **given)).value
    return found


async def upload(found: dict[str, Any], content: bytes = CONTENT) -> int:
    """Upload the content to the upload URL of the import. Return the HTTP status of the object store's answer to
    the upload.
    """
    headers = {header["name"]: header["value"] for header in found["uploadHeaders"]}
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.put(found["uploadUrl"], content=content, headers=headers)).status_code


async def import_recording(
    harness: ApiHarness, case: Case, content: bytes = CONTENT, **given: object
) -> dict[str, Any]:
    """Import a recording, wait until the worker has verified it, and return the recording."""
    found = await prepare_import(harness, case, content, **given)
    assert await upload(found, content) == 200
    recording = await case.doctor.ask(COMPLETE_IMPORT, importId=found["id"])
    assert recording["status"] == "VERIFYING"
    await harness.work()
    after: dict[str, Any] = await case.doctor.ask(RECORDING, id=recording["id"])
    return after


async def arrange_import(harness: ApiHarness, case: Case) -> str:
    """Return the id of an import whose upload URL is ready, as if the worker had already signed it."""
    (row,) = await harness.rows(
        "insert into resguardo.recording_imports"
        " (consultation_id, doctor_id, patient_id, content_type, size_bytes)"
        " select c.id, c.doctor_id, c.patient_id, 'video/mp4', %s"
        " from resguardo.consultations as c where c.id = %s returning id",
        len(CONTENT),
        case.id,
    )
    await harness.rows("select private.store_upload_url(%s, 'https://store.test/upload')", row["id"])
    return str(row["id"])
