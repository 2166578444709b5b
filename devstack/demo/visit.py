"""Lets the doctor and the patient of one consultation do everything that concerns its recordings."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from uuid import uuid4

from app.recordings.transitions import UNKNOWN_PARTICIPANT
from devstack import documents
from devstack.api_client import ApiClient
from devstack.demo.report import DemoFailed, require
from devstack.demo.scene import Scene
from devstack.joining import CHANNELS
from devstack.people import Person

PATIENCE_SECONDS = 120
RECORDING_SECONDS = 0.5
_POLL_SECONDS = 0.1
_STOPPED = ("STOPPING", "VERIFYING", "READY")
_UNFORTUNATE = ("FAILED", "ABORTED", "LOST")


@dataclass(frozen=True)
class Visit:
    """A registered consultation. `api` is the API client with which the consultation's doctor acts."""

    scene: Scene
    api: ApiClient
    id: str
    external_id: str
    patient_external_id: str
    room_name: str
    participants: dict[str, str]

    @classmethod
    async def register(cls, scene: Scene, api: ApiClient, patient: Person) -> Self:
        """Register a consultation that records each speaker's microphone in a file of its own. `participants` are
        by kind.
        """
        asked = {
            "externalId": f"demo-{uuid4().hex[:12]}",
            "patientExternalId": f"patient-{uuid4().hex[:12]}",
            "patientUserId": str(patient.user_id),
            "scheduledAt": datetime.now(UTC).isoformat(),
            "recordsSpeakersSeparately": True,
        }
        made = (await api.ask(documents.REGISTER, consultation=asked))["registerConsultation"]["consultation"]
        participants = {one["kind"]: one["id"] for one in made["participants"]}
        names = (made["externalId"], made["patientExternalId"], made["roomName"])
        return cls(scene, api, made["id"], *names, participants)

    async def consent(self, patient: ApiClient) -> None:
        """Record that the patient and the doctor each consent to the consent text that the API shows them."""
        text = (await self.api.ask(documents.CONSENT_TEXT))["consentText"]
        for kind, by in (("PATIENT", patient), ("DOCTOR", self.api)):
            consent = {
                "participantId": self.participants[kind],
                "textVersion": text["version"],
                "language": "EN",
                "textSha256": text["sha256"],
            }
            await by.ask(documents.RECORD_CONSENT, consent=consent)

    async def join(self, patient: ApiClient) -> None:
        """Let the patient and the doctor enter the room, each with their own join token and their own channel of
        the sound file.
        """
        for kind, api in (("PATIENT", patient), ("DOCTOR", self.api)):
            token = (await api.ask(documents.JOIN, consultationId=self.id))["joinConsultation"]["joinToken"][
                "token"
            ]
            await self._of_livekit("join", {"token": token, "channel": CHANNELS[kind]})
        rooms = (await self.api.ask(documents.ACTIVE_ROOMS))["activeRooms"]
        require(any(room["consultation"]["id"] == self.id for room in rooms), "the room is not active")

    async def start(self) -> str:
        """Start a recording, and return its id once LiveKit records the room and each microphone."""
        started = await self.api.ask(documents.START_RECORDING, consultationId=self.id)
        recording_id = str(started["startRecording"]["recording"]["id"])
        await self.wait_for(recording_id, "RECORDING")
        await self._wait_for_microphones(recording_id, "RECORDING")
        return recording_id

    async def stop(self, recording_id: str) -> None:
        """Stop the recording after a short time, and wait until it is READY."""
        await asyncio.sleep(RECORDING_SECONDS)
        await self.api.ask(documents.STOP_RECORDING, recordingId=recording_id)
        await self.wait_for(recording_id, "READY")

    async def end_by_stranger(self) -> str:
        """Start a second recording, and let a stranger enter the room. Return the recording's id once the recording
        stops.

        Raises DemoFailed if the recording stopped for another reason than the stranger.
        """
        recording_id = await self.start()
        stranger = {"room": self.room_name, "identity": f"stranger-{uuid4().hex[:8]}"}
        await self._of_livekit("join", stranger)
        stopped = await self._wait(recording_id, _STOPPED, lambda one: [one])
        by = problem_of(stopped)
        require(by == UNKNOWN_PARTICIPANT.upper(), f"it was stopped by {by or 'nobody'}")
        await self._of_livekit("leave", stranger)
        return recording_id

    async def switch_words_off(self) -> None:
        """Switch transcription off, so that later recordings are not sent to the speech service."""
        await self.api.ask(documents.SWITCH_TRANSCRIPTION, consultationId=self.id, isTranscribed=False)

    async def require_wordless(self, recording_id: str) -> None:
        """Check that a READY recording has no transcript, because transcription was switched off. Raises
        DemoFailed.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (words := await self.transcription(recording_id))["status"] == "PENDING":
            require(time.monotonic() < deadline, "it still waits to be turned into words")
            await asyncio.sleep(_POLL_SECONDS)
        told = (words["status"], problem_of(words))
        require(told == ("OFF", "SWITCHED_OFF"), f"its words are {' '.join(filter(None, told))}")

    async def transcription(self, recording_id: str) -> Any:
        """Read the state of the transcription of a READY recording through the API."""
        found = await self.api.ask(documents.TRANSCRIPTION, id=recording_id)
        return found["recording"]["transcription"]

    async def wait_for_speakers(self, recording_id: str) -> Any:
        """Wait until the sound recording of each microphone is READY, and return the recording. Raises DemoFailed
        like `wait_for`.
        """
        recording = await self._wait_for_microphones(recording_id, "READY")
        kinds = sorted(one["participant"]["kind"] for one in recording["mediaFiles"])
        require(kinds == sorted(CHANNELS), f"microphones were recorded of {', '.join(kinds)}")
        return recording

    async def wait_for(self, recording_id: str, status: str) -> Any:
        """Wait until the recording has the given status, and return it. Raises DemoFailed if the recording ends in
        another status or takes too long.
        """
        return await self._wait(recording_id, (status,), lambda one: [one])

    async def _wait_for_microphones(self, recording_id: str, status: str) -> Any:
        """Wait until the microphone recordings of the doctor and the patient have the given status, and return the
        recording.
        """
        return await self._wait(recording_id, (status,), lambda one: one["mediaFiles"], count=len(CHANNELS))

    async def _wait(
        self,
        recording_id: str,
        statuses: tuple[str, ...],
        media: Callable[[Any], list[Any]],
        *,
        count: int = 1,
    ) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            recording = (await self.api.ask(documents.RECORDING_MEDIA, id=recording_id))["recording"]
            waited_for = media(recording)
            if len(waited_for) >= count and all(one["status"] in statuses for one in waited_for):
                return recording
            for one in waited_for:
                require(
                    one["status"] in statuses or one["status"] not in _UNFORTUNATE,
                    f"the recording ended {one['status']}: {problem_of(one)}",
                )
            await asyncio.sleep(_POLL_SECONDS)
        raise DemoFailed(f"the recording did not become {statuses[-1]} within {PATIENCE_SECONDS} s")

    async def _of_livekit(self, what: str, body: Mapping[str, str | int]) -> None:
        """Send a request about the room to a control route of the LiveKit stand-in, with the server's API secret."""
        secret = {} if "token" in body else {"Authorization": f"Bearer {self.scene.stack.livekit_api_secret}"}
        url = f"{self.scene.stack.livekit_url}/stand-in/{what}"
        answer = await self.scene.http.post(url, json=body, headers=secret)
        require(answer.status_code < 300, f"LiveKit answered {answer.status_code} to {what}")


def problem_of(of: Any) -> str | None:
    """Return the code of the problem of a recording, a media file or a transcription."""
    return of["problem"]["code"] if of["problem"] else None
