"""Services for consultations: register one, read it, join its room, and invite a guest."""

import asyncio
import base64
import binascii
import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, LiteralString, TypeVar
from uuid import UUID, uuid4

from app.consents import service as consents
from app.consultations import store
from app.consultations.labels import check_label
from app.consultations.model import (
    Consultation,
    ConsultationFilter,
    GuestRole,
    ParticipantKind,
    Registration,
    require_consent_to_enter,
    room_name,
)
from app.errors import Conflict, Forbidden, InvalidInput, NotFound, Timeout, UpstreamFailed
from app.idempotency.service import RepeatableCall
from app.identity import permissions
from app.integrations.livekit.client import JOIN_TTL_SECONDS, LiveKit, RoomSnapshot
from app.keys.keyring import Keyring
from app.postgres.composer import Row
from app.postgres.database import Asker, Database, Transaction
from app.postgres.paging import Page, PageRequest
from app.postgres.references import ConsultationBy
from app.postgres.selection import Selection

INVITATION_LIFETIME = timedelta(hours=24)
FIELDS_FOR_GUESTS: Final = frozenset({"id", "kind", "guestRole"})
"""The fields of a participant that a guest may read of themselves."""
_SECRET_BYTES = 32
_PLAIN = Selection()
Found = TypeVar("Found")


@dataclass(frozen=True)
class JoinPass:
    """The data with which a client enters a LiveKit room. The join token is a secret."""

    url: str
    token: str
    room_name: str
    expires_at: datetime
    expires_in_seconds: int = JOIN_TTL_SECONDS


@dataclass(frozen=True)
class Invitation:
    """A guest's invitation, which is valid once. The method's result is the only place with the invitation's
    secret; the database stores only the secret's hash.
    """

    secret: str
    expires_at: datetime
    expires_in_seconds: int = int(INVITATION_LIFETIME.total_seconds())


class Consultations:
    """The service. `livekit_url` is the address to which clients connect."""

    def __init__(
        self, database: Database, livekit: LiveKit, keyring: Keyring, *, livekit_url: str, deployment: str
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._livekit = livekit
        self._livekit_url = livekit_url
        self._deployment = deployment

    async def register(self, asker: Asker, registration: Registration, selection: Selection = _PLAIN) -> Row:
        """Register a consultation of the calling doctor. If the same consultation was registered before, return
        that consultation as it is now.

        Raises Conflict (external_id_taken, patient_user_differs, patient_birth_date_differs, root_key_unknown).
        """
        access = permissions.REGISTER_CONSULTATION.on(external_id=registration.external_id)
        async with self._database.as_user(asker, access) as tx:
            patient_id = await store.register_patient(
                tx,
                registration.patient_external_id,
                registration.patient_user_id,
                registration.patient_birth_date,
            )
            new_id = uuid4()
            if await store.insert(tx, new_id, registration, patient_id, room_name(self._deployment, new_id)):
                for kind in (ParticipantKind.DOCTOR, ParticipantKind.PATIENT):
                    await store.insert_participant(tx, new_id, kind)
                if registration.label is not None:
                    await store.set_label(tx, self._keyring, new_id, registration.label)
            stored = await store.find(tx, registration.external_id)
            if stored is None or not registration.matches(stored, patient_id):
                raise Conflict("external_id_taken")
            shown = await store.show(tx, consultation_id=stored.id, selection=selection, action=access.action)
            return _require_found(shown)

    async def set_label(
        self, asker: Asker, consultation_id: UUID, label: str | None, selection: Selection = _PLAIN
    ) -> Row:
        """Set the label of a consultation of the calling doctor, or remove it (None), and return the consultation.

        Raises InvalidInput (bad_label), NotFound (consultation_not_found), Conflict (recording_deleted,
        root_key_unknown), RateLimited (quota_pages).
        """
        checked = None if label is None else check_label(label)
        access = permissions.SET_CONSULTATION_LABEL.on(consultation_id)
        async with self._database.as_user(asker, access) as tx:
            if not await store.set_label(tx, self._keyring, consultation_id, checked):
                raise NotFound("consultation_not_found")
            return await show_consultation(
                tx, consultation_id, selection, access.action, counts_as_page=False
            )

    async def get(
        self,
        asker: Asker,
        by: ConsultationBy,
        selection: Selection,
    ) -> Row:
        """Return the consultation with this id or external id. Raises NotFound."""
        access = permissions.READ_CONSULTATION.on(by.id, external_id=by.external_id)
        async with self._database.as_user(asker, access) as tx:
            return _require_found(
                await store.show(tx, consultation_id=by.id, external_id=by.external_id, selection=selection)
            )

    async def page(
        self,
        asker: Asker,
        request: PageRequest,
        wanted: ConsultationFilter,
        selection: Selection,
    ) -> Page[Row]:
        """Return a page of the caller's consultations, newest appointment first. Raises InvalidInput (bad_date)."""
        if wanted.scheduled and any(
            time is not None and time.tzinfo is None
            for time in (wanted.scheduled.since, wanted.scheduled.until)
        ):
            raise InvalidInput("bad_date")
        access = permissions.LIST_CONSULTATIONS.on()
        async with self._database.as_user(asker, access) as tx:
            return await store.list_page(tx, request, wanted, selection)

    async def join(
        self,
        asker: Asker,
        consultation_id: UUID,
        selection: Selection = _PLAIN,
        besides: Collection[str] = (),
    ) -> tuple[Row, JoinPass]:
        """Return the calling doctor or patient as a participant, and their LiveKit token. `besides` has the paths of
        the token's shown fields, for the audit row.

        Raises NotFound, and Conflict (consent_missing_to_join) if the room is being recorded and the caller has
        not consented.
        """
        access = permissions.JOIN_CONSULTATION.on(consultation_id)
        async with self._database.as_user(asker, access) as tx:
            await consents.lock_consultation(tx, consultation_id)
            consultation = await _read(tx, consultation_id, access.action)
            kind = ParticipantKind.PATIENT if tx.role == "patient" else ParticipantKind.DOCTOR
            participant_id, has_consented = _require_found(
                await store.find_participant(tx, consultation_id, kind)
            )
            require_consent_to_enter(has_consented, await store.has_live_recording(tx, consultation_id))
            await store.mark_joined(tx, participant_id)
            shown = await store.show_participant(
                tx, participant_id, selection, access.action, counts_as_page=True, besides=besides
            )
        join = self._issue_pass(participant_id, consultation.id, consultation.room_name)
        return _require_found(shown), join

    async def invite_guest(
        self,
        asker: Asker,
        consultation_id: UUID,
        role: GuestRole,
        selection: Selection = _PLAIN,
        besides: Collection[str] = (),
        *,
        idempotency_key: str | None = None,
    ) -> tuple[Row, Invitation]:
        """Add a guest. Return the guest, with the consultation if it is selected, and the one-time secret of their
        invitation. `besides` has the paths of the invitation's shown fields, for the audit row.

        A repeated call with the same `idempotency_key` returns the same guest with a new secret, which replaces the
        secret of the first call, because the database stores only the hash of a secret.

        Raises NotFound, InvalidInput (bad_idempotency_key), Conflict (idempotency_key_reused, invitation_redeemed).
        """
        call = RepeatableCall("inviteGuest", idempotency_key, consultation_id, role)
        secret = secrets.token_bytes(_SECRET_BYTES)
        access = permissions.INVITE_GUEST.on(consultation_id)
        async with self._database.as_user(asker, access) as tx:
            consultation = await _read(tx, consultation_id, access.action)
            guest_id = await call.claim(tx) or await store.insert_participant(
                tx, consultation.id, ParticipantKind.GUEST, role
            )
            expires_at = await store.store_invitation(tx, guest_id, secret, INVITATION_LIFETIME)
            await call.settle(tx, guest_id)
            shown = await store.show_participant(
                tx, guest_id, selection, access.action, counts_as_page=False, besides=besides
            )
        return _require_found(shown), Invitation(base64.urlsafe_b64encode(secret).decode(), expires_at)

    async def join_as_guest(
        self, asker: Asker, invitation: str, selection: Selection = _PLAIN, besides: Collection[str] = ()
    ) -> tuple[Row, JoinPass]:
        """Return the guest as a participant, and a LiveKit token for the holder of an unused invitation.

        Raises NotFound (invitation_unknown), Forbidden (field_not_for_guests) if other fields of the participant are
        selected than a guest may read, and Conflict (consent_missing_to_join) if the room is being recorded and no
        consent of the guest is recorded. If the method raises Forbidden or Conflict, the invitation stays valid.
        """
        secret = _decode_secret(invitation)
        access = permissions.JOIN_AS_GUEST.on()
        async with self._database.as_guest(asker, access) as tx:
            guest = await store.redeem_invitation(tx, secret, sorted({*selection.paths, *besides}))
            if guest is None:
                raise NotFound("invitation_unknown")
            if not selection.names() <= FIELDS_FOR_GUESTS:
                raise Forbidden("field_not_for_guests")
        return guest, self._issue_pass(guest["id"], guest["consultation_id"], guest["room_name"])

    async def list_active_rooms(self, asker: Asker, selection: Selection) -> list[Row]:
        """Return the rooms of the calling doctor that LiveKit lists as open, newest appointment first.

        The audit row names the rooms that are returned, or says that LiveKit failed. Raises RateLimited,
        UpstreamFailed, Timeout.
        """
        access = permissions.LIST_ROOMS.on()
        async with self._database.as_user(asker, access) as tx:
            await store.count_page(tx)
            joined = await store.list_joined_rooms(tx)
        try:
            listed = await self._list_open_rooms(joined)
        except (UpstreamFailed, Timeout) as error:
            await self._database.refuse(asker, access, error)
            raise
        async with self._database.as_user(asker, access) as tx:
            rows = await store.show_rooms(tx, list(listed), selection)
        return [row | _describe_room(listed[UUID(row["id"])]) for row in rows]

    async def _list_open_rooms(self, joined: Mapping[str, UUID]) -> dict[UUID, RoomSnapshot]:
        """Return those of these rooms that LiveKit lists as open, by the id of their consultation.

        After a crash, LiveKit still lists rooms that everyone has left. The result omits a room if LiveKit lists
        people in the room and none of these people is connected.
        """
        listed = await self._livekit.rooms(list(joined)) if joined else []
        ours = [room for room in listed if room.name in joined]
        seen = await asyncio.gather(*(self._count_connected(room) for room in ours))
        return {joined[room.name]: room for room in seen if room is not None}

    async def _count_connected(self, room: RoomSnapshot) -> RoomSnapshot | None:
        """Return the room with the number of people connected to it, or None if everyone whom LiveKit lists in it
        has left.
        """
        listed = await self._livekit.participants(room.name)
        there = await self._livekit.connected_of(room.name, listed)
        if listed and not there:
            return None
        return replace(room, num_participants=sum(one.is_person for one in there))

    def _issue_pass(self, participant_id: UUID, consultation_id: UUID, room: str) -> JoinPass:
        token = self._livekit.join_token(
            identity=str(participant_id),
            room=room,
            metadata=json.dumps({"consultationId": str(consultation_id)}),
        )
        expires_at = datetime.now(UTC) + timedelta(seconds=JOIN_TTL_SECONDS)
        return JoinPass(self._livekit_url, token, room, expires_at, JOIN_TTL_SECONDS)


async def show_consultation(
    tx: Transaction,
    consultation_id: UUID,
    selection: Selection,
    action: LiteralString,
    *,
    counts_as_page: bool = True,
) -> Row:
    """Write the audit row of another service's action, and return a consultation. Raises NotFound."""
    return _require_found(
        await store.show(
            tx,
            consultation_id=consultation_id,
            selection=selection,
            action=action,
            counts_as_page=counts_as_page,
        )
    )


async def lock(tx: Transaction, consultation_id: UUID, action: LiteralString) -> Consultation:
    """Lock a consultation in the transaction of another service, and return the consultation. The other service writes
    the audit row of its action, unless this function raises NotFound, after it has written the audit row.
    """
    await consents.lock_consultation(tx, consultation_id)
    return await _read(tx, consultation_id, action)


async def _read(tx: Transaction, consultation_id: UUID, action: LiteralString) -> Consultation:
    """Return a consultation for an action, and write no audit row. If the consultation does not exist or is hidden from
    the caller, write the audit row of the action, and raise NotFound.
    """
    found = await store.read(tx, consultation_id)
    if found is None:
        await store.show(
            tx, consultation_id=consultation_id, selection=_PLAIN, action=action, counts_as_page=False
        )
    return _require_found(found)


def _require_found(consultation: Found | None) -> Found:
    if consultation is None:
        raise NotFound("consultation_not_found")
    return consultation


def _describe_room(room: RoomSnapshot) -> Row:
    """Return what LiveKit knows about a room."""
    return {
        "sid": room.sid,
        "participant_count": room.num_participants,
        "created_at": room.created_at.isoformat(),
    }


def _decode_secret(invitation: str) -> bytes:
    try:
        secret = base64.b64decode(invitation.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        secret = b""
    if len(secret) != _SECRET_BYTES:
        raise NotFound("invitation_unknown")
    return secret
