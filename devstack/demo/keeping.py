"""Shows how a recording is protected and destroyed, and how its certificate proves the destruction."""

import asyncio
import tempfile
import time
from pathlib import Path

import psycopg

from app.certificates.signing import CertificateSigner, check
from devstack import documents
from devstack.api_client import ApiClient
from devstack.children import child
from devstack.demo.report import DemoFailed, require
from devstack.demo.scene import Scene, expect

PATIENCE_SECONDS = 60
_POLL_SECONDS = 0.1


class Keeping:
    """What the doctor and two compliance officers do with one READY recording: hold, delete and destroy it."""

    def __init__(self, scene: Scene, doctor: ApiClient, recording_id: str) -> None:
        self._scene = scene
        self._doctor = doctor
        self._recording_id = recording_id

    async def hold(self, consultation_id: str, officer: ApiClient, second: ApiClient) -> None:
        """Check that the doctor cannot delete the recording during a legal hold, and that only a second officer can
        release the hold.
        """
        scope = {"consultation": {"id": consultation_id}}
        order = {"scope": scope, "matter": "demo 1", "custodian": "the practice"}
        placed = (await officer.ask(documents.PLACE_HOLD, hold=order))["placeLegalHold"]
        require(placed["coveredRecordingCount"] > 0, "the hold covers nothing")
        require(
            placed["legalHold"]["consultation"] == {"id": consultation_id}, "the hold shows no consultation"
        )
        await expect(self._doctor, "CONFLICT", documents.DELETE, id=self._recording_id)
        await expect(officer, "CONFLICT", documents.RELEASE_HOLD, id=placed["legalHold"]["id"])
        await second.ask(documents.RELEASE_HOLD, id=placed["legalHold"]["id"])

    async def delete_and_undo(self) -> None:
        """Check that nobody can download the recording during the grace period of its deletion, and that the doctor
        can undo the deletion.
        """
        asked = (await self._doctor.ask(documents.DELETE, id=self._recording_id))["deleteRecording"][
            "deletion"
        ]
        require(asked["status"] == "REQUESTED", f"the deletion is {asked['status']}")
        await expect(self._doctor, "CONFLICT", documents.ISSUE_URL, recordingId=self._recording_id)
        await self._doctor.ask(documents.UNDO_DELETION, id=self._recording_id)
        await self._doctor.ask(documents.ISSUE_URL, recordingId=self._recording_id)

    async def destroy(self, officer: ApiClient) -> None:
        """Check that the recording is destroyed after its grace period, and that its certificate verifies."""
        await self._doctor.ask(documents.DELETE, id=self._recording_id)
        stack = self._scene.stack
        async with await psycopg.AsyncConnection.connect(stack.project.superuser_url) as connection:
            await connection.execute(
                "update resguardo.deletions set undo_until = now() - interval '1 minute'"
                " where recording_id = %s and status = 'REQUESTED'",
                (self._recording_id,),
            )
        await _reconcile(stack.environment)
        await self._wait_until_deleted()
        await expect(self._doctor, "CONFLICT", documents.ISSUE_URL, recordingId=self._recording_id)
        listed = (await officer.ask(documents.CERTIFICATES, id=self._recording_id))["deletionCertificates"]
        (found,) = (edge["node"] for edge in listed["edges"])
        signer = CertificateSigner.from_seed(stack.environment["CERTIFICATE_SIGNING_KEY"])
        certificate = check(found["json"].encode(), signer.public_key)
        require(
            str(certificate.recording_id) == self._recording_id, "the certificate is of another recording"
        )
        require(
            len(certificate.objects) == 1 and len(certificate.keys) == 1, "the certificate lacks something"
        )

    async def _wait_until_deleted(self) -> None:
        """Wait until the recording is DELETED. The running worker may have begun the deletion before the demo's
        `resguardo reconcile`.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            found = (await self._doctor.ask(documents.RECORDING_STATUS, id=self._recording_id))["recording"]
            if found["status"] == "DELETED":
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise DemoFailed(f"the recording was not destroyed within {PATIENCE_SECONDS} s")


async def _reconcile(environment: dict[str, str]) -> None:
    """Run `resguardo reconcile` while the worker runs."""
    with (
        tempfile.TemporaryDirectory() as directory,
        child(
            "app.cli",
            ["reconcile"],
            log=Path(directory) / "reconcile.log",
            environment=environment,
            ready_url=None,
        ) as process,
    ):
        status = await asyncio.to_thread(process.wait, PATIENCE_SECONDS)
    require(status == 0, f"`resguardo reconcile` ended with {status}")
