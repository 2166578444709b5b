"""Puts the participants of a consultation into its room in a running dev stack, for `resguardo demo join`.

People whom the demo created sign in and join as a web app would do. For a person whose password the module does not
know, it calls the LiveKit stand-in with the server's secret and the identity that a join token would contain.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import httpx
import psycopg
from psycopg.rows import class_row
from supabase_auth.errors import AuthError, AuthRetryableError

from app.errors import AppError
from app.integrations.livekit.client import LiveKit
from devstack import coordinates, documents, people
from devstack.api_client import ApiClient, Refused
from devstack.coordinates import Coordinates
from devstack.people import Person
from devstack.sign_in import Session, sign_in, sign_out

_FIND = """
    select c.id, c.room_name, c.doctor_id, p.user_id as patient_user_id
    from resguardo.consultations as c
    join resguardo.patients as p on p.id = c.patient_id
    where c.id::text = lower(%(asked)s) or c.external_id = %(asked)s
    order by c.id::text = lower(%(asked)s) desc
    limit 1
"""
_PARTICIPANTS = """
    select s.participant_id as id, s.kind, s.is_given as consents, exists (
        select from resguardo.consents as n
        where n.participant_id = s.participant_id and n.decision = 'WITHDRAWN'
    ) as has_withdrawn
    from resguardo.standing_consents as s
    where s.consultation_id = %s and s.is_required
    order by s.kind, s.participant_id
"""
CHANNELS: Final[Mapping[str, int]] = {"DOCTOR": 0, "PATIENT": 1}
"""For each kind of participant, the channel of the demo's sound file that is their voice. Guests are silent."""

_MARK_JOINED = "update resguardo.participants set joined_at = clock_timestamp() where id = %s"


class JoinFailed(Exception):  # noqa: N818 - it reads as what happened
    """`resguardo demo join` could not put one of the participants into the room. The exception's message names the
    reason and the remedy.
    """


@dataclass(frozen=True)
class Consultation:
    """The consultation. The patient may have no login."""

    id: UUID
    room_name: str
    doctor_id: UUID
    patient_user_id: UUID | None


@dataclass(frozen=True)
class Participant:
    """A participant whose consent a recording needs. The id of a participant is also their identity in the LiveKit
    room.
    """

    id: UUID
    kind: str
    consents: bool
    has_withdrawn: bool


@dataclass(frozen=True)
class Entered:
    """A person in the room, with how they came into the room and whether they consent."""

    kind: str
    presence: str
    consent: str

    def __str__(self) -> str:
        return f"{self.kind.lower():<8} {self.presence}; {self.consent}"


async def join(data_dir: Path, asked: str, *, with_consents: bool) -> list[Entered]:
    """Put the doctor, the patient and every guest who has joined the consultation before into the room. Return the
    participants who are then in the room.

    `asked` is the consultation's id or external id. If `with_consents` is true, the function first records the
    missing consents, either as the participants or as the doctor who attests them. Raises JoinFailed.
    """
    here = coordinates.read(data_dir)
    if here is None:
        raise _no_demo(data_dir)
    try:
        consultation, participants = await asyncio.to_thread(_find, here, asked)
    except psycopg.OperationalError as error:
        raise _no_demo(data_dir) from error
    try:
        async with _signed_in(here, consultation, people.known(data_dir)) as room:
            inside = await room.identities()
            return [await room.bring(one, inside, with_consents=with_consents) for one in participants]
    except Refused as refused:
        raise JoinFailed(f"the API refused: {refused}") from refused
    except AuthRetryableError as error:
        raise _no_demo(data_dir) from error
    except AuthError as error:
        raise JoinFailed(f"one of them cannot sign in: {error.code or error.message}") from error
    except (httpx.HTTPError, AppError) as error:
        raise _no_demo(data_dir) from error


@dataclass(frozen=True)
class _Room:
    """The room of a consultation. `apis` contains an API client for each kind of participant whose person could
    sign in.
    """

    here: Coordinates
    consultation: Consultation
    http: httpx.AsyncClient
    livekit: LiveKit
    apis: dict[str, ApiClient]

    async def identities(self) -> frozenset[str]:
        """Return the identities in the room."""
        found = await self.livekit.participants(self.consultation.room_name)
        return frozenset(one.identity for one in found)

    async def bring(self, one: Participant, inside: Collection[str], *, with_consents: bool) -> Entered:
        """Let a participant join the room unless the participant is in the room already. Raises Refused,
        JoinFailed.
        """
        consent = await self._consent(one, with_consents=with_consents)
        if str(one.id) in inside:
            return Entered(one.kind, "was in the room", consent)
        api = self.apis.get(one.kind)
        if api is None:
            await self._enter(
                {"room": self.consultation.room_name, "identity": str(one.id), **_voice(one.kind)},
                {"Authorization": f"Bearer {self.here.livekit_api_secret}"},
            )
            await asyncio.to_thread(_mark_joined, self.here, one.id)
        else:
            issued = await api.ask(documents.JOIN, consultationId=str(self.consultation.id))
            await self._enter(
                {"token": issued["joinConsultation"]["joinToken"]["token"], **_voice(one.kind)}, {}
            )
        return Entered(one.kind, "is in the room", consent)

    async def _consent(self, one: Participant, *, with_consents: bool) -> str:
        if one.consents:
            return "had consented"
        if one.has_withdrawn:
            return "has withdrawn the consent: nothing is recorded"
        by = self.apis.get(one.kind) or self.apis.get("DOCTOR")
        if not with_consents or by is None:
            return "has not consented: record it by recordConsent before startRecording"
        text = (await by.ask(documents.CONSENT_TEXT))["consentText"]
        consent = {
            "participantId": str(one.id),
            "textVersion": text["version"],
            "language": "EN",
            "textSha256": text["sha256"],
        }
        await by.ask(documents.RECORD_CONSENT, consent=consent)
        return "consents now"

    async def _enter(self, body: Mapping[str, str | int], headers: dict[str, str]) -> None:
        url = f"{self.here.livekit_url}/stand-in/join"
        answer = await self.http.post(url, json=body, headers=headers)
        if not answer.is_success:
            raise JoinFailed(f"the LiveKit stand-in answered {answer.status_code}")


def _voice(kind: str) -> dict[str, int]:
    """Return which channel of the demo's sound file is the voice of this kind of participant."""
    return {"channel": CHANNELS[kind]} if kind in CHANNELS else {}


@asynccontextmanager
async def _signed_in(
    here: Coordinates, consultation: Consultation, known: dict[UUID, Person]
) -> AsyncIterator[_Room]:
    """Open sessions of the doctor and the patient, if their logins are known. The sessions end when the block ends."""
    users = {"DOCTOR": consultation.doctor_id, "PATIENT": consultation.patient_user_id}
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=30, trust_env=False))
        livekit = await stack.enter_async_context(
            LiveKit(here.livekit_url, here.livekit_api_key, here.livekit_api_secret)
        )
        apis = {}
        for kind, user_id in users.items():
            person = known.get(user_id) if user_id else None
            if person is not None:
                session = await _session(here, person)
                stack.push_async_callback(sign_out, here.supabase_url, here.publishable_key, session)
                apis[kind] = ApiClient(http, here.graphql_url, session.access_token)
        yield _Room(here, consultation, http, livekit, apis)


async def _session(here: Coordinates, person: Person) -> Session:
    return await sign_in(
        here.supabase_url, here.publishable_key, person.email, person.password, person.totp_secret
    )


def _find(here: Coordinates, asked: str) -> tuple[Consultation, list[Participant]]:
    with psycopg.connect(here.superuser_url, connect_timeout=5) as connection:
        with connection.cursor(row_factory=class_row(Consultation)) as cursor:
            found = cursor.execute(_FIND, {"asked": asked}).fetchone()
        if found is None:
            raise JoinFailed(f"there is no consultation {asked}: give its id or its external id")
        with connection.cursor(row_factory=class_row(Participant)) as cursor:
            return found, cursor.execute(_PARTICIPANTS, (found.id,)).fetchall()


def _mark_joined(here: Coordinates, participant_id: UUID) -> None:
    """Mark the participant as joined, as `joinConsultation` does, because `activeRooms` lists only rooms that a
    participant joined.
    """
    with psycopg.connect(here.superuser_url) as connection:
        connection.execute(_MARK_JOINED, (participant_id,))


def _no_demo(data_dir: Path) -> JoinFailed:
    return JoinFailed(f"no demo runs in {data_dir}: start one with `resguardo demo`, and leave it running")
