"""One consultation of a fault test, with its people. People whose request gets no answer repeat it until the API
answers.

The tests read the result directly, without a proxy: the rows, the bucket, and what the stand-in really records.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from livekit.protocol.models import TrackSource

from devstack import documents
from devstack.api_client import ApiClient, Refused
from devstack.livekit import LiveKitStandIn
from devstack.livekit.rows import Recording
from devstack.livekit.twirp import grants_of_token
from tests.faults.harness import FaultHarness
from tests.faults.watches import Watch

_PASSING = {"UPSTREAM_FAILED", "TIMEOUT", "INTERNAL"}
_PATIENCE_SECONDS = 120
_LOOK_SECONDS = 0.1
_INVITE = """
mutation ($consultationId: ID!, $role: GuestRole!) {
  inviteGuest(input: {consultationId: $consultationId, role: $role}) { participant { id } }
}
"""
_ROWS = """
select r.id, r.status, r.truncated, r.error, r.medium, s.object_key, r.size_bytes,
    exists (
        select from audit.events as e
        where e.action = 'recording.transition'
        and e.entities -> 0 -> 'ids' = to_jsonb(array[r.id]) and e.reason like '%%>LOST%%'
    ), r.interrupted, r.participant_id, r.track_sid, r.video_id
from resguardo.recordings as r join private.recording_secrets as s on s.recording_id = r.id
where r.consultation_id = %s order by r.created_at, r.medium desc
"""
_TIME_PASSES = """
with passed as (select %s::interval as t)
update resguardo.recordings as r
set status_at = status_at - t, updated_at = updated_at - t, created_at = created_at - t
from passed where r.consultation_id = %s
"""


@dataclass(frozen=True)
class Row:
    """A recording in the database. `was_lost` says whether the recording has been LOST at any time."""

    id: UUID
    status: str
    truncated: bool
    error: str | None
    medium: str
    object_key: str
    size_bytes: int | None
    was_lost: bool
    interrupted: bool = False
    participant_id: UUID | None = None
    track_sid: str | None = None
    video_id: UUID | None = None

    @property
    def outcome(self) -> str:
        """Return the recording's outcome as the table of faults shows it."""
        way = "LOST then " if self.was_lost and self.status != "LOST" else ""
        truncated = " truncated" if self.truncated else " interrupted" if self.interrupted else ""
        return f"{way}{self.status}{truncated}" + (f" {self.error}" if self.error else "")


@dataclass
class Visit:
    """A consultation. `started` contains the recordings whose start the API has confirmed."""

    harness: FaultHarness
    watches: tuple[Watch, ...] = ()
    external_id: str = field(default_factory=lambda: f"visit-{uuid4().hex}")
    id: str = ""
    room: str = ""
    participants: dict[str, str] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)

    @property
    def livekit(self) -> LiveKitStandIn:
        """Return the stand-in of this consultation's room."""
        return self.harness.livekit.room(self.room)

    def order(self, kind: str, **changes: Any) -> None:
        """Order the stand-in of the room to cause a fault."""
        self.harness.livekit.order(self.room, kind, **changes)

    async def open(self, **wished: bool) -> "Visit":
        """Register the consultation, record all consents, and let the doctor and the patient join the room."""
        await self.register(**wished)
        for api in (self.harness.patient, self.harness.doctor):
            answer = await self._ask(api, documents.JOIN, consultationId=self.id)
            keys = self.livekit.keys
            self.livekit.rooms.join(grants_of_token(answer["joinConsultation"]["joinToken"]["token"], keys))
        return self

    async def register(self, **wished: bool) -> None:
        """Register the consultation, and record the consents of the doctor and the patient."""
        self._know(self.external_id)
        registered = await self._ask(
            self.harness.doctor,
            documents.REGISTER,
            consultation={
                "externalId": self.external_id,
                "patientExternalId": "patient",
                "patientUserId": str(self.harness.patient_login.user_id),
                "scheduledAt": datetime(2026, 11, 21, 12, tzinfo=UTC).isoformat(),
                **wished,
            },
        )
        consultation = registered["registerConsultation"]["consultation"]
        self.id = consultation["id"]
        self._know(self.id)
        self.participants = {one["kind"]: one["id"] for one in consultation["participants"]}
        ((self.room,),) = await self.harness.postgres.rows(
            "select room_name from resguardo.consultations where id = %s", self.id
        )
        await self._consent({"PATIENT": self.harness.patient, "DOCTOR": self.harness.doctor})

    async def invite(self) -> None:
        """Let the doctor invite a guest and attest the guest's consent."""
        invited = await self._ask(self.harness.doctor, _INVITE, consultationId=self.id, role="INTERPRETER")
        self.participants["GUEST"] = invited["inviteGuest"]["participant"]["id"]
        await self._consent({"GUEST": self.harness.doctor})

    def enter(self) -> None:
        """Let everybody enter the room without publishing anything."""
        for identity in self.participants.values():
            self.livekit.rooms.admit(self.room, identity, publishes=False)

    def microphone(self, kind: str) -> str:
        """Return the track SID of this participant's microphone."""
        person = self.livekit.rooms.participant(self.room, self.participants[kind])
        return next(track.sid for track in person.tracks if track.source == TrackSource.MICROPHONE)

    async def start(self) -> None:
        """The doctor starts the recording. If a recording has already begun, the API returns that recording."""
        try:
            answer = await self._ask(self.harness.doctor, documents.START_RECORDING, consultationId=self.id)
            self.started.append(answer["startRecording"]["recording"]["id"])
        except Refused as refused:
            if refused.reason != "live_recording_exists":
                raise
            self.started.append(str((await self.rows())[-1].id))
        self._know(self.started[-1])

    async def stop(self) -> None:
        """The doctor stops the recording."""
        await self._ask(self.harness.doctor, documents.STOP_RECORDING, recordingId=self.started[-1])

    def come_again(self) -> None:
        """Let the doctor and the patient join the room again, as people do after a crash of the LiveKit server."""
        for kind in ("DOCTOR", "PATIENT"):
            self.livekit.rooms.admit(self.room, self.participants[kind])

    def leave(self) -> None:
        """The doctor and the patient leave the room."""
        for kind in ("DOCTOR", "PATIENT"):
            self.livekit.rooms.leave(self.room, self.participants[kind])

    def close(self) -> None:
        """Close the room if it is still open."""
        for room in self.livekit.rooms.find([]):
            self.livekit.rooms.delete(room.name)

    async def until(self, status: str, seconds: float = 60) -> None:
        """Wait until the newest video has reached this status or a later one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            videos = [row for row in await self.rows() if row.medium == "VIDEO"]
            if videos and (
                videos[-1].status == status or videos[-1].status in ("READY", "FAILED", "ABORTED")
            ):
                return
            await asyncio.sleep(0.2)

    async def until_recorded(self, status: int = 1, seconds: float = 60) -> Recording | None:
        """Wait until the egress really records or has ended. Return the newest egress."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.egresses()
            if found and found[-1].info.status >= status:
                return found[-1]
            await asyncio.sleep(0.05)
        return None

    async def until_true(self, holds: Callable[[], bool], seconds: float = 100) -> None:
        """Wait until the condition holds, at most `seconds`."""
        deadline = time.monotonic() + seconds
        while not holds() and time.monotonic() < deadline:  # noqa: ASYNC110 - what it asks has no event
            await asyncio.sleep(_LOOK_SECONDS)

    def egresses(self) -> list[Recording]:
        """Return every egress of the room, whether LiveKit lists it or not."""
        return list(self.livekit.recorder.rows.of_room(self.room))

    async def time_passes(self, by: timedelta) -> None:
        """Set all timestamps of the consultation back by this time."""
        await self.harness.postgres.rows(_TIME_PASSES, by, self.id, without_triggers=True)

    async def sounds(self) -> list[Row]:
        """Return the consultation's sound recordings, oldest first."""
        return [row for row in await self.rows() if row.medium != "VIDEO"]

    async def until_heard(self, count: int, seconds: float = 100) -> None:
        """Wait until LiveKit records, or has recorded, `count` sounds."""
        await self.until_true(lambda: self._heard() >= count, seconds)
        assert self._heard() == count, f"{self._heard()} sounds are recorded, not {count}"

    async def until_over(self, seconds: float = 100) -> None:
        """Wait until every recording has a final status."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if all(row.status in ("READY", "FAILED", "ABORTED", "LOST") for row in await self.rows()):
                return
            await asyncio.sleep(0.2)

    async def rows(self) -> list[Row]:
        """Return the recordings of the consultation, oldest first."""
        return [Row(*row) for row in await self.harness.postgres.rows(_ROWS, self.id)]

    async def stored(self) -> dict[str, int]:
        """Return the sizes in bytes of the consultation's objects, by key."""
        pages = self.harness.storage.list_objects(f"keep/{self.id}/")
        return {one.key: one.size_bytes async for page in pages for one in page.objects}

    def live(self) -> list[str]:
        """Return the sources that LiveKit really records now, named as in `LiveKitProject.live`."""
        return self.harness.livekit.live(self.room)

    async def _consent(self, askers: Mapping[str, ApiClient]) -> None:
        text = (await self._ask(self.harness.doctor, documents.CONSENT_TEXT))["consentText"]
        for kind, api in askers.items():
            consent = {
                "participantId": self.participants[kind],
                "textVersion": text["version"],
                "language": "EN",
                "textSha256": text["sha256"],
            }
            await self._ask(api, documents.RECORD_CONSENT, consent=consent)

    def _heard(self) -> int:
        return sum(one.sound is not None and one.info.status >= 1 for one in self.egresses())

    async def _ask(self, api: ApiClient, document: str, **variables: Any) -> Any:
        """Repeat the request until the API answers it. Raises Refused if the API refuses the request for good."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return await api.ask(document, **variables)
            except (httpx.TransportError, ValueError):
                if time.monotonic() > deadline:
                    raise
            except Refused as refused:
                is_passing = refused.code in _PASSING or refused.reason == "concurrent_change"
                if not is_passing or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.3)

    def _know(self, *texts: str) -> None:
        for watch in self.watches:
            watch.know(*texts)
